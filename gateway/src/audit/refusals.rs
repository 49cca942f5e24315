//! Keeps strangers from filling the log.
//!
//! A refusal is recorded in full once for each reason and source network (/24, or /56 for IPv6) and interval; the
//! rest is counted, and the counts are told as summaries when the interval ends. Records and summaries together stay
//! within a budget of bytes per interval, and the table within a bound of entries: what finds no room in it is
//! counted per reason.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use gateway_audit::record::RefusedSummary;
use policy::Refusal;

/// Most pairs of reason and network that are kept apart.
const MAX_ENTRIES: usize = 4_096;

/// A source network: /24 or /56.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// The network of an address; an IPv4 address mapped into IPv6 is an IPv4 address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & 0xffff_ff00)),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !0_u128 << 72)),
        })
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}/24"),
            IpAddr::V6(address) => write!(f, "{address}/56"),
        }
    }
}

/// What to do with a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// Record it in full.
    Record,
    /// It is counted; record nothing.
    Counted,
}

/// A count to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Why they were refused.
    pub reason: Refusal,
    /// Whence, where the networks could be kept apart.
    pub network: Option<Network>,
    /// How many, without the one recorded in full.
    pub count: u64,
    /// The interval's start, nanoseconds since the Unix epoch.
    pub from_unix_ns: i64,
    /// Its end.
    pub until_unix_ns: i64,
}

impl Summary {
    /// Hands the summary over as a record.
    pub fn with_record<T>(&self, take: impl FnOnce(&RefusedSummary<'_>) -> T) -> T {
        let network = self.network.map(|network| network.to_string());
        take(&RefusedSummary {
            reason: self.reason.label(),
            network: network.as_deref(),
            site: None,
            device: None,
            user: None,
            patient: None,
            count: self.count,
            from_unix_ns: self.from_unix_ns,
            until_unix_ns: self.until_unix_ns,
        })
    }
}

/// Bytes that a summary is reckoned at in the budget.
pub const SUMMARY_BYTES: u64 = 512;

/// Decides which refusals are recorded. Time is an argument.
#[derive(Debug)]
pub struct Limiter {
    interval: Duration,
    budget: u64,
    /// Monotonic start of the interval, and the wall time then.
    since: Option<(u64, i64)>,
    spent: u64,
    counts: BTreeMap<(Refusal, Network), u64>,
    /// Refusals whose network is not kept.
    others: BTreeMap<Refusal, u64>,
}

impl Limiter {
    /// A limiter with an interval and its budget of bytes (`audit.refusal_interval_s`, `audit.refusal_bytes`).
    #[must_use]
    pub const fn new(interval: Duration, budget: u64) -> Self {
        Self { interval, budget, since: None, spent: 0, counts: BTreeMap::new(), others: BTreeMap::new() }
    }

    /// Takes a refusal whose full record has `bytes` bytes. Call [`due`](Self::due) first.
    pub fn refuse(
        &mut self,
        monotonic_ns: u64,
        unix_ns: i64,
        reason: Refusal,
        source: IpAddr,
        bytes: u64,
    ) -> Treatment {
        self.since.get_or_insert((monotonic_ns, unix_ns));
        let key = (reason, Network::of(source));
        if let Some(count) = self.counts.get_mut(&key) {
            *count += 1;
            return Treatment::Counted;
        }
        // A pair that is kept apart has its summary paid at once; one summary a reason stays in reserve.
        let price = bytes.saturating_add(SUMMARY_BYTES);
        let reserved = SUMMARY_BYTES * u64::try_from(Refusal::ALL.len()).unwrap_or(0);
        if self.counts.len() >= MAX_ENTRIES || self.spent.saturating_add(price).saturating_add(reserved) > self.budget {
            *self.others.entry(reason).or_default() += 1;
            return Treatment::Counted;
        }
        self.spent += price;
        self.counts.insert(key, 0);
        Treatment::Record
    }

    /// At the interval's end, its summaries; before that, none. `last` ends the interval now, for a shutdown.
    pub fn due(&mut self, monotonic_ns: u64, unix_ns: i64, last: bool) -> impl Iterator<Item = Summary> + use<> {
        let ended = self
            .since
            .filter(|(start, _)| last || u128::from(monotonic_ns.saturating_sub(*start)) >= self.interval.as_nanos());
        let (counts, others, from_unix_ns) = match ended {
            None => (BTreeMap::new(), BTreeMap::new(), 0),
            Some((_, from)) => {
                self.since = None;
                self.spent = 0;
                (std::mem::take(&mut self.counts), std::mem::take(&mut self.others), from)
            }
        };
        let known = counts.into_iter().map(|((reason, network), count)| (reason, Some(network), count));
        let unknown = others.into_iter().map(|(reason, count)| (reason, None, count));
        known.chain(unknown).filter(|(.., count)| *count > 0).map(move |(reason, network, count)| Summary {
            reason,
            network,
            count,
            from_unix_ns,
            until_unix_ns: unix_ns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: u64 = 60_000_000_000;

    fn limiter(budget: u64) -> Limiter {
        Limiter::new(Duration::from_secs(60), budget)
    }

    #[test]
    fn one_full_record_per_reason_network_and_interval() {
        let mut limiter = limiter(1 << 20);
        let (a, b, far) = ("192.0.2.1", "192.0.2.254", "192.0.3.1");
        let mut refuse = |at: u64, source: &str, reason| {
            let due: Vec<_> = limiter.due(at, at as i64, false).collect();
            (due, limiter.refuse(at, at as i64, reason, source.parse().unwrap(), 700))
        };
        let missing = Refusal::CertificateMissing;
        assert_eq!(refuse(5, a, missing), (vec![], Treatment::Record));
        assert_eq!(refuse(6, b, missing), (vec![], Treatment::Counted));
        assert_eq!(refuse(7, far, missing), (vec![], Treatment::Record));
        assert_eq!(refuse(8, a, Refusal::CertificateExpired), (vec![], Treatment::Record));
        assert_eq!(refuse(9, "::ffff:192.0.2.9", missing), (vec![], Treatment::Counted));
        let (due, treatment) = refuse(5 + MINUTE, a, missing);
        assert_eq!(treatment, Treatment::Record);
        let network = Some(Network::of(a.parse().unwrap()));
        assert_eq!(
            due,
            [Summary { reason: missing, network, count: 2, from_unix_ns: 5, until_unix_ns: 60_000_000_005 }]
        );
        assert_eq!(limiter.due(6 + MINUTE, 0, true).count(), 0);
    }

    #[test]
    fn networks_are_a_24_and_a_56() {
        for (address, network) in [
            ("203.0.113.77", "203.0.113.0/24"),
            ("2001:db8:1:2ff:3::1", "2001:db8:1:200::/56"),
            ("::ffff:203.0.113.9", "203.0.113.0/24"),
        ] {
            assert_eq!(Network::of(address.parse().unwrap()).to_string(), network);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_budget_holds(
            refusals in proptest::collection::vec((0_usize..5, any::<u32>(), 1_u64..2_000), 0..400),
            budget in 0_u64..200_000,
        ) {
            let mut limiter = limiter(budget);
            let (mut recorded, mut spent) = (0, 0);
            let total = refusals.len() as u64;
            for (reason, source, bytes) in refusals {
                let source = IpAddr::V4(Ipv4Addr::from_bits(source & 0x3ff));
                if limiter.refuse(0, 0, Refusal::ALL[reason], source, bytes) == Treatment::Record {
                    recorded += 1;
                    spent += bytes;
                }
            }
            let summaries: Vec<_> = limiter.due(0, 0, true).collect();
            prop_assert_eq!(recorded + summaries.iter().map(|s| s.count).sum::<u64>(), total);
            // What cannot be kept apart costs one summary for each reason, whatever the budget.
            let least = SUMMARY_BYTES * Refusal::ALL.len() as u64;
            prop_assert!(spent + SUMMARY_BYTES * summaries.len() as u64 <= budget.max(least));
        }
    }
}
