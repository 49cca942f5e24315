//! Who has how much of the hash threads: a device and a site have their share, so that one account, tried again and again, leaves
//! the others their turn.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use policy::login::Origin;

/// Most that one device has under way. A change of password, which hashes once for each password before, takes all of it.
pub const OF_DEVICE: usize = 2;

/// What is under way.
pub struct Shares {
    of_site: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    devices: HashMap<Origin, usize>,
    sites: HashMap<Arc<str>, usize>,
}

/// A part of the threads' time and of the queue; given back when dropped.
#[must_use]
pub struct Share {
    of: Arc<Shares>,
    origin: Origin,
    size: usize,
}

impl Shares {
    /// Of so many places, those in the queue and those on threads, a site has three quarters.
    #[must_use]
    pub fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { of_site: (places.saturating_mul(3) / 4).max(OF_DEVICE), taken: Mutex::default() })
    }

    /// A share of that size, if the device has so much left and its site as well.
    pub fn take(self: &Arc<Self>, origin: &Origin, size: usize) -> Option<Share> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_device = taken.devices.get(origin).copied().unwrap_or_default() + size;
        let of_site = taken.sites.get(&origin.site).copied().unwrap_or_default() + size;
        if of_device > OF_DEVICE || of_site > self.of_site {
            return None;
        }
        taken.devices.insert(origin.clone(), of_device);
        taken.sites.insert(Arc::clone(&origin.site), of_site);
        Some(Share { of: Arc::clone(self), origin: origin.clone(), size })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        give_back(taken.devices.entry(self.origin.clone()), self.size);
        give_back(taken.sites.entry(Arc::clone(&self.origin.site)), self.size);
    }
}

fn give_back<K: Hash + Eq>(entry: Entry<'_, K, usize>, size: usize) {
    if let Entry::Occupied(mut of) = entry {
        let left = of.get().saturating_sub(size);
        if left == 0 {
            of.remove();
        } else {
            *of.get_mut() = left;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(site: &str, device: &str) -> Origin {
        Origin { site: site.into(), device: device.into() }
    }

    #[test]
    fn a_device_and_a_site_have_their_share_and_leave_the_rest() {
        let shares = Shares::new(8);
        let first: Vec<_> = (0..9).filter_map(|_| shares.take(&at("s", "a"), 1)).collect();
        assert_eq!(first.len(), OF_DEVICE);
        assert!(shares.take(&at("s", "a"), 1).is_none() && shares.take(&at("s", "a"), 2).is_none());
        let others: Vec<_> = ["b", "c", "d"].map(|device| shares.take(&at("s", device), 2)).into();
        assert_eq!(others.iter().flatten().count(), 2, "six of eight places are the site's");
        assert!(shares.take(&at("t", "a"), 2).is_some(), "another site has its own");
        drop(first);
        assert!(shares.take(&at("s", "a"), 1).is_some());
        drop(others);
        let taken = shares.taken.lock().unwrap();
        assert!(taken.devices.is_empty() && taken.sites.is_empty(), "what is over takes no room");
    }

    #[test]
    fn the_smallest_queue_serves_one_device() {
        assert!(Shares::new(2).take(&at("s", "a"), 2).is_some());
    }
}
