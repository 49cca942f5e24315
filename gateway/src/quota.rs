//! Quotas of sites and devices (R11): requests in a time, bytes in a time, and requests under way, over all workers.
//!
//! Each use is one atomic number that all workers share, so that a quota is exact and nothing is locked for a request: a connection
//! looks its meters up once. A rate is kept as the time at which nothing is owed any more (the generic cell rate algorithm); bytes
//! are counted as they pass and may run into debt, since a study that has begun is never cut: what is refused is the next request.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use policy::{Party, Refusal, SiteName};

/// Most sites, and most devices, that are kept apart; those beyond share one meter.
const MAX_METERS: usize = 65_536;

/// What somebody may have; none is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Requests in a second.
    pub requests_per_second: Option<u64>,
    /// Bytes of bodies in a second, those that come and those that go.
    pub bytes_per_second: Option<u64>,
    /// Requests under way at once.
    pub concurrent_requests: Option<u64>,
}

/// `[quota]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotas {
    /// So many seconds' worth may be taken at once.
    pub burst: Duration,
    /// What a site may have, all its devices together.
    pub site: Quota,
    /// What one device, user without a device or patient may have.
    pub device: Quota,
    /// Sites with a quota of their own instead.
    pub sites: BTreeMap<SiteName, Quota>,
}

impl Quota {
    const fn is_off(self) -> bool {
        self.requests_per_second.is_none() && self.bytes_per_second.is_none() && self.concurrent_requests.is_none()
    }
}

impl Quotas {
    /// Nobody has one.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.site.is_off() && self.device.is_off() && self.sites.values().all(|quota| quota.is_off())
    }

    fn of_site(&self, site: &SiteName) -> Quota {
        self.sites.get(site).copied().unwrap_or(self.site)
    }
}

/// What somebody has used.
#[derive(Debug, Default)]
pub struct Meter {
    /// When all requests are paid for, monotonic nanoseconds.
    requests_until: AtomicU64,
    /// The same of bytes.
    bytes_until: AtomicU64,
    under_way: AtomicU64,
}

/// How long so many units take at a rate, in nanoseconds.
fn cost(units: u64, per_second: u64) -> u64 {
    let ns = u128::from(units) * 1_000_000_000 / u128::from(per_second.max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Meter {
    /// Takes a request's place. What was taken of it before a bound said no is given back.
    ///
    /// # Errors
    /// The refusal, and after how many nanoseconds another attempt may do better, where that is known.
    fn enter(&self, quota: Quota, now_ns: u64, burst_ns: u64) -> Result<(), (Refusal, Option<u64>)> {
        if let Some(per_second) = quota.bytes_per_second {
            let owed = self.bytes_until.load(Ordering::Relaxed).saturating_sub(now_ns);
            // At least one byte's worth, or a small burst would let nothing through.
            if owed > burst_ns.max(cost(1, per_second)) {
                return Err((Refusal::QuotaBytes, Some(owed - burst_ns)));
            }
        }
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        if quota.concurrent_requests.is_some_and(|most| before >= most) {
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            return Err((Refusal::QuotaConcurrency, None));
        }
        if let Some(per_second) = quota.requests_per_second {
            let price = cost(1, per_second);
            let taken = self.requests_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |until| {
                let next = until.max(now_ns).saturating_add(price);
                (next - now_ns <= burst_ns.max(price)).then_some(next)
            });
            if let Err(until) = taken {
                self.under_way.fetch_sub(1, Ordering::Relaxed);
                let wait = until.saturating_add(price).saturating_sub(now_ns).saturating_sub(burst_ns.max(price));
                return Err((Refusal::QuotaRequests, Some(wait)));
            }
        }
        Ok(())
    }

    /// The request is over.
    fn leave(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// A request that was let in is not served: what it took of the rate is given back.
    fn give_back(&self, quota: Quota) {
        self.leave();
        if let Some(per_second) = quota.requests_per_second {
            let price = cost(1, per_second);
            let back = |until: u64| Some(until.saturating_sub(price));
            let _ = self.requests_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, back);
        }
    }

    fn owe(&self, quota: Quota, now_ns: u64, bytes: u64) {
        if let Some(per_second) = quota.bytes_per_second {
            let price = cost(bytes, per_second);
            let more = |until: u64| Some(until.max(now_ns).saturating_add(price));
            let _ = self.bytes_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        }
    }

    /// Nothing would be lost with it: a new one is the same.
    fn is_fresh(&self, now_ns: u64) -> bool {
        let is_paid = |until: &AtomicU64| until.load(Ordering::Relaxed) <= now_ns;
        self.under_way.load(Ordering::Relaxed) == 0 && is_paid(&self.requests_until) && is_paid(&self.bytes_until)
    }
}

/// The meters of those who were seen lately; shared by all workers, and asked once for each connection.
#[derive(Debug, Default)]
pub struct Meters {
    sites: Mutex<Known<SiteName>>,
    parties: Mutex<Known<Party>>,
}

#[derive(Debug)]
struct Known<K> {
    meters: HashMap<K, Arc<Meter>>,
    others: Arc<Meter>,
}

impl<K> Default for Known<K> {
    fn default() -> Self {
        Self { meters: HashMap::new(), others: Arc::default() }
    }
}

impl<K: Eq + Hash + Clone> Known<K> {
    fn of(&mut self, key: &K, now_ns: u64, most: usize) -> Arc<Meter> {
        if let Some(meter) = self.meters.get(key) {
            return Arc::clone(meter);
        }
        if self.meters.len() >= most {
            self.meters.retain(|_, meter| Arc::strong_count(meter) > 1 || !meter.is_fresh(now_ns));
        }
        if self.meters.len() >= most {
            return Arc::clone(&self.others);
        }
        Arc::clone(self.meters.entry(key.clone()).or_default())
    }
}

impl Meters {
    /// The meters of whoever opened a connection. Who comes again on another finds the same.
    pub fn of(&self, party: &Party, now_ns: u64) -> Metered {
        let site = party.site().map(|site| (site.clone(), of(&self.sites, site, now_ns)));
        let own = of(&self.parties, party, now_ns);
        Metered { site, own }
    }
}

fn of<K: Eq + Hash + Clone>(known: &Mutex<Known<K>>, key: &K, now_ns: u64) -> Arc<Meter> {
    known.lock().unwrap_or_else(PoisonError::into_inner).of(key, now_ns, MAX_METERS)
}

/// The meters that a connection's requests are counted by.
#[derive(Debug, Clone)]
pub struct Metered {
    site: Option<(SiteName, Arc<Meter>)>,
    own: Arc<Meter>,
}

impl Metered {
    /// Lets a request in, or says why not.
    ///
    /// # Errors
    /// [`Refusal::QuotaRequests`], [`Refusal::QuotaBytes`] or [`Refusal::QuotaConcurrency`], and after how many nanoseconds another
    /// attempt may do better, where that is known. The device is asked before its site, so that one that is over its own quota takes
    /// nothing of the others'.
    pub fn enter(&self, quotas: &Quotas, now_ns: u64) -> Result<Admitted, (Refusal, Option<u64>)> {
        let burst_ns = ns(quotas.burst);
        self.own.enter(quotas.device, now_ns, burst_ns)?;
        let site = match &self.site {
            None => None,
            Some((name, meter)) => {
                let quota = quotas.of_site(name);
                meter.enter(quota, now_ns, burst_ns).inspect_err(|_| self.own.give_back(quotas.device))?;
                Some((Arc::clone(meter), quota))
            }
        };
        Ok(Admitted { own: (Arc::clone(&self.own), quotas.device), site })
    }
}

/// A request that was let in; counted as under way until dropped.
#[derive(Debug)]
pub struct Admitted {
    own: (Arc<Meter>, Quota),
    site: Option<(Arc<Meter>, Quota)>,
}

impl Admitted {
    /// Counts bytes of its bodies that have passed.
    pub fn passes(&self, now_ns: u64, bytes: u64) {
        for (meter, quota) in std::iter::once(&self.own).chain(&self.site) {
            meter.owe(*quota, now_ns, bytes);
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        for (meter, _) in std::iter::once(&self.own).chain(&self.site) {
            meter.leave();
        }
    }
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
