//! Sources that completed a handshake lately, as all workers of a listener know them: which worker an initiation comes to is not
//! its sender's choice, and seldom the worker that has its site.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::hash::{hash, mac};

/// How many places there are: of 8 bytes each.
pub(crate) const PLACES: usize = 4096;
/// How long a source is known after a handshake.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// A table for the workers of one listener. Copies are the same table; nobody waits for anybody.
#[derive(Clone)]
pub struct KnownSources(Arc<Table>);

struct Table {
    origin: Instant,
    key: [u8; 32],
    /// Until when, in milliseconds since the origin.
    until: Box<[AtomicU64]>,
}

impl fmt::Debug for KnownSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownSources").finish_non_exhaustive()
    }
}

impl KnownSources {
    /// Nobody is known. `seed` must be 32 bytes of the system's random numbers: nobody may know whom a source shares its place with.
    #[must_use]
    pub fn new(now: Instant, seed: [u8; 32]) -> Self {
        let until = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Table { origin: now, key: hash(&[b"sekisho tunnel known", &seed]), until }))
    }

    pub(crate) fn completed(&self, now: Instant, from: IpAddr) {
        if let Some(until) = self.0.until.get(place_of(&self.0.key, from, None)) {
            until.fetch_max(self.millis(now.checked_add(KNOWN_FOR).unwrap_or(now)), Ordering::Relaxed);
        }
    }

    pub(crate) fn has(&self, now: Instant, from: IpAddr) -> bool {
        let until = self.0.until.get(place_of(&self.0.key, from, None));
        until.is_some_and(|until| until.load(Ordering::Relaxed) > self.millis(now))
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.0.origin).as_millis()).unwrap_or(u64::MAX)
    }
}

/// Where a source stands in a table of [`PLACES`].
pub(crate) fn place_of(key: &[u8; 32], address: IpAddr, port: Option<u16>) -> usize {
    let network = match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => u64::from(address.to_bits()),
            // The /64, which one machine has for itself, shifted so that it cannot equal an IPv4 address.
            None => (address.to_bits() >> 64) as u64 | 1 << 63,
        },
    };
    let port = port.map_or([0; 3], |port| {
        let [high, low] = port.to_be_bytes();
        [1, high, low]
    });
    let [a, b, ..] = mac(key, &[&network.to_be_bytes(), &port]);
    usize::from(u16::from_be_bytes([a, b])) % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_one_worker_met_all_know_for_ten_minutes() {
        let start = Instant::now();
        let one = KnownSources::new(start, [7; 32]);
        let other = one.clone();
        let (client, stranger) = (IpAddr::from([198, 51, 100, 1]), IpAddr::from([198, 51, 100, 2]));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!other.has(at(1), client));
        one.completed(at(1), client);
        assert!(other.has(at(600), client) && !other.has(at(602), client));
        assert!(!other.has(at(1), stranger));
        one.completed(at(0), client);
        assert!(other.has(at(600), client), "an earlier one takes nothing away");
    }
}
