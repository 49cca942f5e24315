//! Slots for connections where devices enrol: few, and nobody keeps newcomers out by sitting on them.
//!
//! Whoever has proved nothing yet gives way when there is no slot left: of the network that has the most, the one that
//! came first. So somebody without a code can make others hurry, at most; a flood of connections has to go round all
//! slots before it meets the same one again. Whoever has shown a certificate or the right code stays.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use tokio::sync::oneshot;

use crate::audit::refusals::Network;
use crate::listen::network_of;

/// Connections at once.
const SLOTS: usize = 256;
/// Of these from one source address (IPv6: one /64).
const SLOTS_PER_ADDRESS: usize = 64;

/// The slots of one listener.
#[derive(Debug, Default, Clone)]
pub(super) struct Slots(Rc<RefCell<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// By arrival.
    held: BTreeMap<u64, Held>,
}

#[derive(Debug)]
struct Held {
    address: IpAddr,
    network: Network,
    /// Asks it to leave; none where it stays.
    leave: Option<oneshot::Sender<()>>,
}

/// A taken slot; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    number: u64,
}

/// Resolves when the slot is wanted by another.
pub(super) type Leave = oneshot::Receiver<()>;

impl Slots {
    /// A slot for a connection from this address. None where all that could be had are held by those who stay.
    pub(super) fn take(&self, source: IpAddr) -> Option<(Slot, Leave)> {
        let (address, network) = (network_of(source), Network::of(source));
        let mut taken = self.0.borrow_mut();
        if taken.held.values().filter(|held| held.address == address).count() >= SLOTS_PER_ADDRESS {
            let own = taken.held.iter().find(|(_, held)| held.address == address && held.leave.is_some());
            let number = *own?.0;
            taken.send_away(number);
        } else if taken.held.len() >= SLOTS {
            let number = taken.of_largest()?;
            taken.send_away(number);
        }
        let number = taken.next;
        taken.next += 1;
        let (leave, left) = oneshot::channel();
        taken.held.insert(number, Held { address, network, leave: Some(leave) });
        Some((Slot { slots: self.clone(), number }, left))
    }
}

impl Taken {
    /// The first that may go of the network that has the most.
    fn of_largest(&self) -> Option<u64> {
        let mut networks: HashMap<Network, (usize, u64)> = HashMap::new();
        for (number, held) in self.held.iter().filter(|(_, held)| held.leave.is_some()) {
            networks.entry(held.network).or_insert((0, *number)).0 += 1;
        }
        networks.into_values().max_by_key(|(count, first)| (*count, u64::MAX - *first)).map(|(_, first)| first)
    }

    fn send_away(&mut self, number: u64) {
        if let Some(leave) = self.held.remove(&number).and_then(|held| held.leave) {
            // Whoever has gone by himself hears nothing.
            let _ = leave.send(());
        }
    }
}

impl Slot {
    /// Its holder has proved something, and stays.
    pub(super) fn keep(&self) {
        if let Some(held) = self.slots.0.borrow_mut().held.get_mut(&self.number) {
            // Dropped, not used: the other end must wait for ever, so it is told apart from a request to leave.
            held.leave = None;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.0.borrow_mut().held.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(network: u8, last: u8) -> IpAddr {
        IpAddr::from([10, 0, network, last])
    }

    fn is_asked_to_leave(leave: &mut Leave) -> bool {
        leave.try_recv().is_ok()
    }

    #[test]
    fn a_newcomer_gets_the_oldest_seat_of_the_largest_network() {
        let slots = Slots::default();
        let mut clinic = slots.take(address(9, 1)).unwrap();
        let mut crowd: Vec<_> =
            (1..SLOTS).map(|number| slots.take(address(1, u8::try_from(number % 250).unwrap())).unwrap()).collect();
        let _newcomer = slots.take(address(8, 1)).unwrap();
        assert!(is_asked_to_leave(&mut crowd[0].1));
        assert!(!crowd[1..].iter_mut().any(|(_, leave)| is_asked_to_leave(leave)));
        for _ in 0..1_000 {
            crowd.push(slots.take(address(1, 7)).unwrap());
        }
        assert!(!is_asked_to_leave(&mut clinic.1), "a crowd from elsewhere takes its own slots");
        assert!(slots.0.borrow().held.len() <= SLOTS);
        drop((clinic, crowd));
        assert_eq!(slots.0.borrow().held.len(), 1);
    }

    #[test]
    fn one_address_gives_way_to_itself_and_who_proved_something_stays() {
        let slots = Slots::default();
        let mut first = slots.take(address(1, 1)).unwrap();
        first.0.keep();
        let mut held: Vec<_> = (1..SLOTS_PER_ADDRESS).map(|_| slots.take(address(1, 1)).unwrap()).collect();
        let more = slots.take(address(1, 1)).unwrap();
        assert!(!is_asked_to_leave(&mut first.1) && is_asked_to_leave(&mut held[0].1));
        more.0.keep();
        held.iter().for_each(|(slot, _)| slot.keep());
        assert!(slots.take(address(1, 1)).is_none(), "all of them stay");
        assert!(slots.take(address(1, 2)).is_some());
    }

    /// What is kept is not taken for asked to leave.
    #[tokio::test(start_paused = true)]
    async fn a_kept_seat_waits_for_ever() {
        let slots = Slots::default();
        let (slot, leave) = slots.take(address(1, 1)).unwrap();
        slot.keep();
        assert!(leave.await.is_err(), "the caller has to tell the two apart");
    }
}
