//! Places for operators' connections: few in all, and fewer from one address, so that no peer of the admin network
//! holds them all and hides the gateway from its watchers (C16).

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use crate::listen::network_of;

/// Connections at once: operators and their scrapers, not the world.
const CONNECTIONS: usize = 256;
/// Of these from one source address (IPv6: one /64).
const CONNECTIONS_PER_ADDRESS: usize = 64;

/// Counts the places that are taken.
#[derive(Debug, Default, Clone)]
pub(crate) struct Places(Rc<RefCell<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    sources: HashMap<IpAddr, usize>,
}

/// A taken place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    source: IpAddr,
}

impl Places {
    /// A place for a connection from this address; none if it, or all together, have as many as they may.
    pub(crate) fn take(&self, source: IpAddr) -> Option<Place> {
        let source = network_of(source);
        let mut taken = self.0.borrow_mut();
        let from_here = taken.sources.get(&source).copied().unwrap_or_default();
        if taken.all >= CONNECTIONS || from_here >= CONNECTIONS_PER_ADDRESS {
            return None;
        }
        taken.all += 1;
        taken.sources.insert(source, from_here + 1);
        Some(Place { places: self.clone(), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.borrow_mut();
        taken.all -= 1;
        if let Some(held) = taken.sources.get_mut(&self.source) {
            *held -= 1;
            if *held == 0 {
                taken.sources.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_gives_it_back() {
        let places = Places::default();
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let mut held: Vec<_> = (0..CONNECTIONS_PER_ADDRESS).map(|_| places.take(address(1)).unwrap()).collect();
        assert!(places.take(address(1)).is_none());
        assert!(places.take("::ffff:192.0.2.1".parse().unwrap()).is_none(), "the same address");
        for other in 2..5 {
            held.extend((0..CONNECTIONS_PER_ADDRESS).map(|_| places.take(address(other)).unwrap()));
        }
        assert!(places.take(address(9)).is_none(), "all are taken");
        held.remove(0);
        held.push(places.take(address(1)).unwrap());
        drop(held);
        assert!(places.0.borrow().sources.is_empty(), "no address is remembered once it has gone");
        assert_eq!(places.0.borrow().all, 0);
    }
}
