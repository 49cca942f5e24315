//! What one peer may have of a worker: bytes of log for its refused requests, and requests.
//!
//! A peer that was proved is no stranger, and still it must not fill the log (R6, R11): a refused request costs its sender
//! nothing and the log up to the length of its target. What was permitted is always recorded in full; what was refused
//! is, within a budget, and beyond it is counted and told as a summary.
//!
//! Each worker has its own, so that nothing is locked. A connection looks its peer's up once.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use gateway_audit::record::RefusedSummary;
use policy::{Party, Refusal, SiteName, UserName};

use crate::clock::Reading;

/// Most peers that are kept apart; those beyond it share one allowance.
const MAX_PEERS: usize = 65_536;

/// A rate with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Units that may be taken at once.
    pub burst: u64,
    /// Units that come back; at least one.
    pub per_second: u64,
}

/// A token bucket, kept as the monotonic time at which it is full again, so that one number is its whole state (as in
/// the generic cell rate algorithm). The rate is an argument: it may change with the configuration.
#[derive(Debug, Default)]
struct Bucket {
    full_at_ns: Cell<u64>,
}

impl Bucket {
    /// Takes `amount`, or nothing if there is not so much.
    fn take(&self, now_ns: u64, amount: u64, rate: Rate) -> bool {
        let time = |units: u64| {
            let ns = u128::from(units) * 1_000_000_000 / u128::from(rate.per_second.max(1));
            u64::try_from(ns).unwrap_or(u64::MAX)
        };
        let full_at = self.full_at_ns.get().max(now_ns).saturating_add(time(amount));
        if full_at - now_ns > time(rate.burst) {
            return false;
        }
        self.full_at_ns.set(full_at);
        true
    }

    fn is_full(&self, now_ns: u64) -> bool {
        self.full_at_ns.get() <= now_ns
    }
}

/// What one peer may still have.
#[derive(Debug, Default)]
pub struct Allowance {
    log: Bucket,
    requests: Bucket,
    /// Refusals that were counted instead of recorded since the last summary, and when the first was.
    counted: Cell<u64>,
    since_unix_ns: Cell<i64>,
}

impl Allowance {
    /// Whether the record of a refused request, of so many bytes, may be written in full.
    #[must_use]
    pub fn may_record(&self, now: &Reading, bytes: u64, rate: Rate) -> bool {
        self.log.take(now.monotonic_ns, bytes, rate)
    }

    /// Whether another request is taken.
    #[must_use]
    pub fn may_ask(&self, now: &Reading, rate: Rate) -> bool {
        self.requests.take(now.monotonic_ns, 1, rate)
    }

    /// Counts a refusal that is not recorded by itself.
    pub fn count(&self, now: &Reading) {
        if self.counted.get() == 0 {
            self.since_unix_ns.set(now.unix_ns);
        }
        self.counted.set(self.counted.get() + 1);
    }

    fn summary(&self, party: Option<&Party>, now: &Reading) -> Option<Summary> {
        let count = self.counted.take();
        let (from_unix_ns, until_unix_ns) = (self.since_unix_ns.get(), now.unix_ns);
        (count > 0).then(|| Summary { party: party.cloned(), count, from_unix_ns, until_unix_ns })
    }

    /// Nothing would be lost with it: a new one is the same.
    fn is_fresh(&self, now_ns: u64) -> bool {
        self.counted.get() == 0 && self.log.is_full(now_ns) && self.requests.is_full(now_ns)
    }
}

/// Refusals of one peer that were counted, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The peer; none where the peers were too many to keep apart.
    party: Option<Party>,
    count: u64,
    from_unix_ns: i64,
    until_unix_ns: i64,
}

impl Summary {
    /// Hands the summary over as a record.
    pub fn with_record<T>(&self, take: impl FnOnce(&RefusedSummary<'_>) -> T) -> T {
        let party = self.party.as_ref();
        let patient = party.and_then(Party::patient).map(ToString::to_string);
        take(&RefusedSummary {
            reason: Refusal::RateLimited.label(),
            network: None,
            site: party.and_then(Party::site).map(SiteName::as_str),
            device: party.and_then(Party::device).map(|device| device.device.as_str()),
            user: party.and_then(Party::user).map(UserName::as_str),
            patient: patient.as_deref(),
            count: self.count,
            from_unix_ns: self.from_unix_ns,
            until_unix_ns: self.until_unix_ns,
        })
    }
}

/// The allowances of the peers that a worker has seen lately.
#[derive(Debug, Default)]
pub struct Allowances {
    known: RefCell<HashMap<Party, Rc<Allowance>>>,
    others: Rc<Allowance>,
    told_ns: Cell<u64>,
}

impl Allowances {
    /// A peer's allowance: what it has used stays used when it comes on another connection. Without one, that of all who
    /// cannot be kept apart.
    pub fn of(&self, party: Option<&Party>, now: &Reading) -> Rc<Allowance> {
        let Some(party) = party else { return Rc::clone(&self.others) };
        let mut known = self.known.borrow_mut();
        if let Some(allowance) = known.get(party) {
            return Rc::clone(allowance);
        }
        if known.len() >= MAX_PEERS {
            forget(&mut known, now.monotonic_ns);
        }
        if known.len() >= MAX_PEERS {
            return Rc::clone(&self.others);
        }
        Rc::clone(known.entry(party.clone()).or_default())
    }

    /// At the end of an interval its summaries, before it none; peers that are gone are forgotten then. `last` ends
    /// the interval now.
    pub fn due(&self, now: &Reading, interval: std::time::Duration, last: bool) -> Vec<Summary> {
        let elapsed = u128::from(now.monotonic_ns.saturating_sub(self.told_ns.get()));
        if !last && elapsed < interval.as_nanos() {
            return Vec::new();
        }
        self.told_ns.set(now.monotonic_ns);
        let mut known = self.known.borrow_mut();
        let peers = known.iter().map(|(party, allowance)| (Some(party), allowance));
        let all = peers.chain([(None, &self.others)]);
        let due = all.filter_map(|(party, allowance)| allowance.summary(party, now)).collect();
        forget(&mut known, now.monotonic_ns);
        due
    }
}

fn forget(known: &mut HashMap<Party, Rc<Allowance>>, now_ns: u64) {
    known.retain(|_, allowance| Rc::strong_count(allowance) > 1 || !allowance.is_fresh(now_ns));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const SECOND: u64 = 1_000_000_000;
    const RATE: Rate = Rate { burst: 1000, per_second: 100 };

    fn at(monotonic_ns: u64) -> Reading {
        let unix_ns = i64::try_from(monotonic_ns).unwrap();
        Reading { unix_ns, monotonic_ns, error_ns: None, source: "test", synchronised: true }
    }

    fn device(name: &str) -> Party {
        let device = policy::DeviceId { site: "s".parse().unwrap(), device: name.parse().unwrap() };
        Party::Device { device, user: None }
    }

    #[test]
    fn a_burst_and_what_comes_back_may_be_taken() {
        let bucket = Bucket::default();
        assert!(bucket.take(SECOND, 1000, RATE));
        assert!(!bucket.take(SECOND, 1, RATE), "the burst is spent");
        assert!(!bucket.take(2 * SECOND, 101, RATE));
        assert!(bucket.take(2 * SECOND, 100, RATE), "what was refused cost nothing");
        assert!(!bucket.take(2 * SECOND, 1, RATE));
        assert!(bucket.take(1000 * SECOND, 1000, RATE));
        assert!(!bucket.take(1000 * SECOND, 1, RATE), "no more than a burst gathers");
        assert!(!Bucket::default().take(SECOND, 1001, RATE));
        assert!(!bucket.take(0, u64::MAX, Rate { burst: 1, per_second: 0 }), "nothing overflows");
    }

    #[test]
    fn a_device_keeps_its_allowance_until_it_is_fresh_again() {
        let allowances = Allowances::default();
        let first = allowances.of(Some(&device("a")), &at(SECOND));
        assert!(first.may_record(&at(SECOND), 1000, RATE));
        drop(first);
        let minute = Duration::from_secs(60);
        assert_eq!(allowances.due(&at(2 * SECOND), minute, true), []);
        let again = allowances.of(Some(&device("a")), &at(2 * SECOND));
        assert!(!again.may_record(&at(2 * SECOND), 500, RATE), "another connection is no new budget");
        assert!(allowances.of(Some(&device("b")), &at(2 * SECOND)).may_record(&at(2 * SECOND), 500, RATE));
        again.count(&at(3 * SECOND));
        again.count(&at(4 * SECOND));
        assert_eq!(allowances.due(&at(5 * SECOND), minute, false), [], "the interval has not ended");
        let due = allowances.due(&at(63 * SECOND), minute, false);
        let expected =
            Summary { party: Some(device("a")), count: 2, from_unix_ns: 3_000_000_000, until_unix_ns: 63_000_000_000 };
        assert_eq!(due, [expected]);
        assert_eq!(allowances.known.borrow().len(), 1, "`a` has a connection, `b` is forgotten");
        drop(again);
        assert_eq!(allowances.due(&at(200 * SECOND), minute, false), []);
        assert!(allowances.known.borrow().is_empty());
    }

    #[test]
    fn devices_beyond_the_bound_share_one() {
        let allowances = Allowances::default();
        let now = at(SECOND);
        let held: Vec<_> = (0..MAX_PEERS).map(|n| allowances.of(Some(&device(&format!("d{n}"))), &now)).collect();
        let (a, b) = (allowances.of(Some(&device("a")), &now), allowances.of(Some(&device("b")), &now));
        assert!(Rc::ptr_eq(&a, &b));
        a.count(&now);
        assert_eq!(allowances.due(&now, Duration::ZERO, true)[0].party, None);
        drop(held);
        assert!(!Rc::ptr_eq(&allowances.of(Some(&device("a")), &now), &b), "there is room again");
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate(
            steps in prop::collection::vec((0_u64..2 * SECOND, 0_u64..700), 0..200),
        ) {
            let (bucket, mut now, mut taken) = (Bucket::default(), 0, 0);
            for (pause, amount) in steps {
                now += pause;
                if bucket.take(now, amount, RATE) {
                    taken += amount;
                }
                prop_assert!(taken <= RATE.burst + now * RATE.per_second / SECOND + 1);
            }
        }
    }
}
