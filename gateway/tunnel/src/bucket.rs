//! Rate limits that take eight bytes each (generic cell rate algorithm, as of ITU-T I.371).

use std::time::Duration;

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How often in a second, on average. 0 is never.
    pub per_second: u32,
    /// How often at once.
    pub burst: u32,
}

/// What is left of a [`Rate`]. Time is since an origin of the caller's.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bucket {
    /// When it will be full again, in nanoseconds.
    full_at: u64,
}

impl Bucket {
    /// Takes one if there is one.
    pub(crate) fn take(&mut self, rate: Rate, now: Duration) -> bool {
        let Some(each) = 1_000_000_000_u64.checked_div(u64::from(rate.per_second)) else { return false };
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let next = self.full_at.max(now).saturating_add(each);
        if next.saturating_sub(now) > each.saturating_mul(u64::from(rate.burst)) {
            return false;
        }
        self.full_at = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let rate = Rate { per_second: 10, burst: 5 };
        let mut bucket = Bucket::default();
        let taken = |bucket: &mut Bucket, at| (0..100).filter(|_| bucket.take(rate, at)).count();
        assert_eq!(taken(&mut bucket, Duration::from_secs(1)), 5);
        assert_eq!(taken(&mut bucket, Duration::from_millis(1_100)), 1);
        assert_eq!(taken(&mut bucket, Duration::from_secs(100)), 5);
        assert!(!Bucket::default().take(Rate { per_second: 0, burst: 9 }, Duration::ZERO));
    }

    proptest! {
        /// Whenever it is asked, also by a clock that goes back, it never gives more than burst and rate.
        #[test]
        fn never_more_than_burst_and_rate(times in prop::collection::vec(0_u64..10_000, 1..500)) {
            let rate = Rate { per_second: 7, burst: 4 };
            let mut bucket = Bucket::default();
            let last = *times.iter().max().unwrap_or(&0);
            let taken = times.iter().filter(|at| bucket.take(rate, Duration::from_millis(**at))).count();
            prop_assert!(taken as u64 <= 4 + last * 7 / 1000 + 1);
        }
    }
}
