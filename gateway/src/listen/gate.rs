//! The gate before any handshake: how many connections, from whom, and how many handshakes at once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

use policy::Refusal;

use crate::config::Limits;

/// Counts of one listener on one worker.
#[derive(Debug, Default)]
pub(super) struct Gate {
    counts: Rc<RefCell<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    all: Held,
    sources: HashMap<IpAddr, Held>,
}

/// What is held at the moment: by all, or by one source.
#[derive(Debug, Default, Clone, Copy)]
struct Held {
    connections: usize,
    handshakes: usize,
}

impl Gate {
    /// Lets a connection in, or says why not. Nothing was read from it yet.
    ///
    /// # Errors
    /// [`Refusal::TooManyConnections`] or [`Refusal::TooManyHandshakes`].
    pub(super) fn enter(&self, source: IpAddr, limits: &Limits) -> Result<Pass, Refusal> {
        let source = network_of(source);
        let mut counts = self.counts.borrow_mut();
        let from_here = counts.sources.get(&source).copied().unwrap_or_default();
        if counts.all.connections >= limits.connections || from_here.connections >= limits.connections_per_address {
            return Err(Refusal::TooManyConnections);
        }
        // A handshake costs its sender nothing and proves nothing: whoever holds all of them shuts everybody out (R11).
        if counts.all.handshakes >= limits.handshakes || from_here.handshakes >= limits.handshakes_per_address {
            return Err(Refusal::TooManyHandshakes);
        }
        counts.change(source, |held| {
            held.connections += 1;
            held.handshakes += 1;
        });
        Ok(Pass { counts: Rc::clone(&self.counts), source, handshaking: true })
    }
}

impl Counts {
    /// Changes what all hold and what one source holds, and forgets a source that holds nothing.
    fn change(&mut self, source: IpAddr, change: impl Fn(&mut Held)) {
        change(&mut self.all);
        let held = self.sources.entry(source).or_default();
        change(held);
        if held.connections == 0 {
            self.sources.remove(&source);
        }
    }
}

/// A connection's place inside; given back when dropped.
#[derive(Debug)]
pub(super) struct Pass {
    counts: Rc<RefCell<Counts>>,
    source: IpAddr,
    handshaking: bool,
}

impl Pass {
    /// The handshake is over, either way.
    pub(super) fn end_handshake(&mut self) {
        if std::mem::take(&mut self.handshaking) {
            self.counts.borrow_mut().change(self.source, |held| held.handshakes -= 1);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.end_handshake();
        self.counts.borrow_mut().change(self.source, |held| held.connections -= 1);
    }
}

/// One peer can use every address of its IPv6 /64.
pub(crate) fn network_of(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    fn limits() -> Limits {
        Limits { connections: 4, connections_per_address: 2, handshakes: 3, ..Limits::default() }
    }

    #[test]
    fn each_bound_holds_and_is_given_back() {
        let gate = Gate::default();
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let mut first = gate.enter(a, &limits()).unwrap();
        let second = gate.enter(a, &limits()).unwrap();
        assert_eq!(gate.enter(a, &limits()).unwrap_err(), Refusal::TooManyConnections);
        let third = gate.enter(b, &limits()).unwrap();
        assert_eq!(gate.enter(b, &limits()).unwrap_err(), Refusal::TooManyHandshakes);
        first.end_handshake();
        first.end_handshake();
        let fourth = gate.enter(b, &limits()).unwrap();
        assert_eq!(gate.enter(IpAddr::from([127, 0, 0, 3]), &limits()).unwrap_err(), Refusal::TooManyConnections);
        drop((first, second, third, fourth));
        assert_eq!(gate.counts.borrow().all.connections, 0);
        assert!(gate.counts.borrow().sources.is_empty(), "no source is remembered once it has gone");
    }

    #[test]
    fn one_source_holds_its_share_of_the_handshakes_and_no_more() {
        let gate = Gate::default();
        let limits =
            Limits { connections: 9, connections_per_address: 9, handshakes: 4, handshakes_per_address: 2, ..limits() };
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let mut silent: Vec<_> = (0..2).map(|_| gate.enter(a, &limits).unwrap()).collect();
        assert_eq!(gate.enter(a, &limits).unwrap_err(), Refusal::TooManyHandshakes);
        let other = gate.enter(b, &limits).unwrap();
        silent[0].end_handshake();
        silent.push(gate.enter(a, &limits).unwrap());
        assert_eq!(gate.enter(a, &limits).unwrap_err(), Refusal::TooManyHandshakes);
        drop((silent, other));
        assert!(gate.counts.borrow().sources.is_empty(), "no source is remembered once it has gone");
        assert_eq!(gate.counts.borrow().all.handshakes, 0);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_source() {
        let gate = Gate::default();
        let _first = gate.enter("2001:db8::1".parse().unwrap(), &limits()).unwrap();
        let _second = gate.enter("2001:db8::2".parse().unwrap(), &limits()).unwrap();
        assert!(gate.enter("2001:db8::3".parse().unwrap(), &limits()).is_err());
        assert!(gate.enter("2001:db8:0:1::3".parse().unwrap(), &limits()).is_ok());
    }
}
