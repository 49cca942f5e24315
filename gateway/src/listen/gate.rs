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
    connections: usize,
    handshakes: usize,
    sources: HashMap<IpAddr, usize>,
}

impl Gate {
    /// Lets a connection in, or says why not. Nothing was read from it yet.
    ///
    /// # Errors
    /// [`Refusal::TooManyConnections`] or [`Refusal::TooManyHandshakes`].
    pub(super) fn enter(&self, source: IpAddr, limits: &Limits) -> Result<Pass, Refusal> {
        let source = network_of(source);
        let mut counts = self.counts.borrow_mut();
        if counts.connections >= limits.connections {
            return Err(Refusal::TooManyConnections);
        }
        if counts.handshakes >= limits.handshakes {
            return Err(Refusal::TooManyHandshakes);
        }
        let from_here = counts.sources.entry(source).or_default();
        if *from_here >= limits.connections_per_address {
            return Err(Refusal::TooManyConnections);
        }
        *from_here += 1;
        counts.connections += 1;
        counts.handshakes += 1;
        Ok(Pass { counts: Rc::clone(&self.counts), source, handshaking: true })
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
            self.counts.borrow_mut().handshakes -= 1;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.end_handshake();
        let mut counts = self.counts.borrow_mut();
        counts.connections -= 1;
        if let Some(count) = counts.sources.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.sources.remove(&self.source);
            }
        }
    }
}

/// One peer can use every address of its IPv6 /64.
fn network_of(source: IpAddr) -> IpAddr {
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
        assert_eq!(gate.counts.borrow().connections, 0);
        assert!(gate.counts.borrow().sources.is_empty(), "no source is remembered once it has gone");
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
