//! The gate before any handshake: how many connections, from whom, and how many handshakes at once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

use policy::Refusal;

use crate::config::Limits;

/// Counts of one listener on one worker.
#[derive(Debug, Default, Clone)]
pub(crate) struct Gate {
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
    pub(crate) fn enter(&self, source: Source, limits: &Limits) -> Result<Pass, Refusal> {
        let mut pass = self.enter_through_proxy(limits)?;
        pass.comes_from(source, limits)?;
        Ok(pass)
    }

    /// The same for one that a load balancer passes on, of which nobody knows yet whose it is: it counts among all.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub(crate) fn enter_through_proxy(&self, limits: &Limits) -> Result<Pass, Refusal> {
        let mut counts = self.counts.borrow_mut();
        if counts.all.connections >= limits.connections {
            return Err(Refusal::TooManyConnections);
        }
        // A handshake costs its sender nothing and proves nothing: whoever holds all of them shuts everybody out (R11).
        if counts.all.handshakes >= limits.handshakes {
            return Err(Refusal::TooManyHandshakes);
        }
        counts.all.connections += 1;
        counts.all.handshakes += 1;
        Ok(Pass { counts: Rc::clone(&self.counts), source: None, handshaking: true })
    }

    /// So many handshakes are under way that an address has to be proved before another is begun.
    pub(super) fn is_pressed(&self, source: Source, limits: &Limits) -> bool {
        let counts = self.counts.borrow();
        let from_here = counts.sources.get(&source.0).copied().unwrap_or_default();
        counts.all.handshakes >= limits.h3_retry_handshakes.min(limits.handshakes)
            || from_here.handshakes >= limits.handshakes_per_address / 2
            || from_here.connections >= limits.connections_per_address
    }
}

impl Counts {
    /// Changes what one source holds, and forgets a source that holds nothing.
    fn change(&mut self, source: IpAddr, change: impl Fn(&mut Held)) {
        let held = self.sources.entry(source).or_default();
        change(held);
        if held.connections == 0 {
            self.sources.remove(&source);
        }
    }
}

/// What connections are counted by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source(IpAddr);

impl Source {
    /// Out of a network where anybody may have a whole IPv6 /64.
    pub(crate) fn of(address: IpAddr) -> Self {
        Self(network_of(address))
    }

    /// Out of a tunnel, where each address is a device's by its key: devices of one site, which share a /64, have a share each.
    pub(crate) fn inside(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }
}

/// A connection's place inside; given back when dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    counts: Rc<RefCell<Counts>>,
    /// None while nobody knows it.
    source: Option<IpAddr>,
    handshaking: bool,
}

impl Pass {
    /// It is known now where it comes from, before the end of its handshake.
    ///
    /// # Errors
    /// As [`Gate::enter`], where that source holds as much as it may.
    pub(crate) fn comes_from(&mut self, source: Source, limits: &Limits) -> Result<(), Refusal> {
        let Source(source) = source;
        let mut counts = self.counts.borrow_mut();
        let from_here = counts.sources.get(&source).copied().unwrap_or_default();
        if from_here.connections >= limits.connections_per_address {
            return Err(Refusal::TooManyConnections);
        }
        if from_here.handshakes >= limits.handshakes_per_address {
            return Err(Refusal::TooManyHandshakes);
        }
        counts.change(source, |held| {
            held.connections += 1;
            held.handshakes += 1;
        });
        self.source = Some(source);
        Ok(())
    }

    /// Whether it is known where it comes from.
    pub(super) const fn is_known(&self) -> bool {
        self.source.is_some()
    }

    /// The handshake is over, either way.
    pub(super) fn end_handshake(&mut self) {
        if std::mem::take(&mut self.handshaking) {
            let mut counts = self.counts.borrow_mut();
            counts.all.handshakes -= 1;
            if let Some(source) = self.source {
                counts.change(source, |held| held.handshakes -= 1);
            }
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.end_handshake();
        let mut counts = self.counts.borrow_mut();
        counts.all.connections -= 1;
        if let Some(source) = self.source {
            counts.change(source, |held| held.connections -= 1);
        }
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
        let mut first = gate.enter(Source::of(a), &limits()).unwrap();
        let second = gate.enter(Source::of(a), &limits()).unwrap();
        assert_eq!(gate.enter(Source::of(a), &limits()).unwrap_err(), Refusal::TooManyConnections);
        let third = gate.enter(Source::of(b), &limits()).unwrap();
        assert_eq!(gate.enter(Source::of(b), &limits()).unwrap_err(), Refusal::TooManyHandshakes);
        first.end_handshake();
        first.end_handshake();
        let fourth = gate.enter(Source::of(b), &limits()).unwrap();
        assert_eq!(
            gate.enter(Source::of(IpAddr::from([127, 0, 0, 3])), &limits()).unwrap_err(),
            Refusal::TooManyConnections
        );
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
        let mut silent: Vec<_> = (0..2).map(|_| gate.enter(Source::of(a), &limits).unwrap()).collect();
        assert_eq!(gate.enter(Source::of(a), &limits).unwrap_err(), Refusal::TooManyHandshakes);
        let other = gate.enter(Source::of(b), &limits).unwrap();
        silent[0].end_handshake();
        silent.push(gate.enter(Source::of(a), &limits).unwrap());
        assert_eq!(gate.enter(Source::of(a), &limits).unwrap_err(), Refusal::TooManyHandshakes);
        drop((silent, other));
        assert!(gate.counts.borrow().sources.is_empty(), "no source is remembered once it has gone");
        assert_eq!(gate.counts.borrow().all.handshakes, 0);
    }

    #[test]
    fn whoever_comes_through_a_load_balancer_counts_by_itself_once_it_is_known() {
        let gate = Gate::default();
        let limits = Limits { connections_per_address: 1, ..limits() };
        let client = |last| Source::of(IpAddr::from([192, 0, 2, last]));
        let mut passes: Vec<_> = (0..3).map(|_| gate.enter_through_proxy(&limits).unwrap()).collect();
        assert_eq!(gate.enter_through_proxy(&limits).unwrap_err(), Refusal::TooManyHandshakes, "they count among all");
        passes[0].comes_from(client(1), &limits).unwrap();
        assert_eq!(passes[1].comes_from(client(1), &limits), Err(Refusal::TooManyConnections));
        passes[2].comes_from(client(2), &limits).unwrap();
        passes[2].end_handshake();
        drop(passes);
        let counts = gate.counts.borrow();
        assert_eq!((counts.all.connections, counts.all.handshakes, counts.sources.len()), (0, 0, 0));
    }

    #[test]
    fn an_ipv6_network_counts_as_one_source() {
        let gate = Gate::default();
        let _first = gate.enter(Source::of("2001:db8::1".parse().unwrap()), &limits()).unwrap();
        let _second = gate.enter(Source::of("2001:db8::2".parse().unwrap()), &limits()).unwrap();
        assert!(gate.enter(Source::of("2001:db8::3".parse().unwrap()), &limits()).is_err());
        assert!(gate.enter(Source::of("2001:db8:0:1::3".parse().unwrap()), &limits()).is_ok());
    }

    #[test]
    fn devices_inside_tunnels_count_each_by_itself() {
        let gate = Gate::default();
        let limits = Limits { connections_per_address: 1, ..limits() };
        let inside = |address: &str| Source::inside(address.parse().unwrap());
        let _first = gate.enter(inside("fd64::1:2"), &limits).unwrap();
        let _second = gate.enter(inside("fd64::1:3"), &limits).unwrap();
        assert_eq!(gate.enter(inside("fd64::1:2"), &limits).unwrap_err(), Refusal::TooManyConnections);
    }
}
