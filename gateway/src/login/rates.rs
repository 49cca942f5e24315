//! How many attempts may come at all, right or wrong: from one device, one site, one address. A flood ends here, before it
//! touches the guard, the store or a backend.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use policy::login::{Attempt, Origin};

use crate::config::Login;

type Keyed<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

/// Buckets for what comes in. A device's and a site's are as many as there are registered ones; an address's are as many as
/// those come from.
pub struct Rates {
    configured: [NonZeroU32; 3],
    devices: Keyed<Origin>,
    sites: Keyed<Arc<str>>,
    addresses: Keyed<IpAddr>,
}

fn keyed<K: Hash + Eq + Clone>(per_minute: NonZeroU32) -> Keyed<K> {
    let burst = NonZeroU32::new(per_minute.get() / 10).unwrap_or(NonZeroU32::MIN);
    RateLimiter::hashmap(Quota::per_minute(per_minute).allow_burst(burst))
}

const fn rates_of(config: &Login) -> [NonZeroU32; 3] {
    [config.device_attempts, config.site_attempts, config.address_attempts]
}

impl Rates {
    /// Full buckets.
    #[must_use]
    pub fn new(config: &Login) -> Self {
        let configured @ [device, site, address] = rates_of(config);
        Self { configured, devices: keyed(device), sites: keyed(site), addresses: keyed(address) }
    }

    pub(super) fn are_of(&self, config: &Login) -> bool {
        self.configured == rates_of(config)
    }

    /// The device's own bound comes first: what it has too much costs its site nothing.
    pub(super) fn admit(&self, attempt: &Attempt) -> bool {
        self.devices.check_key(&attempt.origin).is_ok()
            && self.sites.check_key(&attempt.origin.site).is_ok()
            && self.addresses.check_key(&attempt.address).is_ok()
    }

    /// Forgets buckets that are full again.
    pub(super) fn sweep(&self) {
        self.devices.retain_recent();
        self.sites.retain_recent();
        self.addresses.retain_recent();
    }
}
