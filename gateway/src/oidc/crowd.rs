//! Places for providers' connections. Whoever has not said anything whole yet makes room for whoever comes: of the address that has the
//! most such connections, the oldest. So silence from anywhere keeps no provider out, not even behind one address with it.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;

use tokio::sync::oneshot;

/// Connections at once.
const MOST: usize = 256;

/// The places that are taken.
#[derive(Default, Clone)]
pub(super) struct Crowd(Rc<RefCell<Taken>>);

#[derive(Default)]
struct Taken {
    next: u64,
    /// Oldest first.
    places: VecDeque<(u64, IpAddr, State)>,
}

enum State {
    /// Dropped, it tells the connection to end.
    Silent(oneshot::Sender<()>),
    Heard,
}

/// A taken place; given back when dropped.
pub(super) struct Place {
    crowd: Crowd,
    id: u64,
}

impl Crowd {
    /// A place for a connection from there, and what tells it to make room. None: all have said what they want, and wait for an answer.
    pub(super) fn enter(&self, network: IpAddr) -> Option<(Place, oneshot::Receiver<()>)> {
        let mut taken = self.0.borrow_mut();
        if taken.places.len() >= MOST {
            let mut counts = HashMap::new();
            for (_, network, _) in taken.silent() {
                *counts.entry(*network).or_insert(0_usize) += 1;
            }
            let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(network, _)| network);
            let oldest = taken.silent().find(|(_, network, _)| Some(*network) == most).map(|(id, ..)| *id);
            taken.leave(oldest?);
        }
        let (tells, told) = oneshot::channel();
        let id = taken.next;
        taken.next += 1;
        taken.places.push_back((id, network, State::Silent(tells)));
        Some((Place { crowd: self.clone(), id }, told))
    }
}

impl Taken {
    fn silent(&self) -> impl Iterator<Item = &(u64, IpAddr, State)> {
        self.places.iter().filter(|(.., state)| matches!(state, State::Silent(_)))
    }

    fn leave(&mut self, id: u64) {
        self.places.retain(|(known, ..)| *known != id);
    }
}

impl Place {
    /// It has said what it wants, whole, and makes room for nobody any more. Whoever was told to make room before has no place.
    pub(super) fn is_heard(&self) -> bool {
        let mut taken = self.crowd.0.borrow_mut();
        let own = taken.places.iter_mut().find(|(id, ..)| *id == self.id);
        let Some((.., state)) = own else { return false };
        if let State::Silent(tells) = std::mem::replace(state, State::Heard) {
            // Told nothing: whoever listens stops listening.
            let _ = tells.send(());
        }
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.0.borrow_mut().leave(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn silence_makes_room_and_first_where_there_is_most_of_it() {
        let crowd = Crowd::default();
        let (provider, mut keeps) = crowd.enter(address(1)).unwrap();
        let mut silent: Vec<_> = (1..MOST).map(|_| crowd.enter(address(2)).unwrap()).collect();
        let (late, _late) = crowd.enter(address(2)).unwrap();
        assert!(silent[0].1.try_recv().is_err_and(|why| why == oneshot::error::TryRecvError::Closed));
        assert!(keeps.try_recv().is_err_and(|why| why == oneshot::error::TryRecvError::Empty), "another's silence");
        assert!(!silent[0].0.is_heard() && provider.is_heard());
        assert_eq!(keeps.try_recv(), Ok(()));
        // Whoever is heard is not sent away, and neither does a place that was taken away count twice.
        silent.remove(0);
        assert_eq!(crowd.0.borrow().places.len(), MOST);
        assert!(silent.iter().all(|(place, _)| place.is_heard()) && late.is_heard());
        assert!(crowd.enter(address(3)).is_none());
        drop(late);
        assert!(crowd.enter(address(3)).is_some());
    }
}
