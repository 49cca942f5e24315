//! How much may be sent once more.

/// Retries that a service has left. Every request adds a part of one, so that retries stay a part of the load, and a
/// reserve that fills again within [`REFILL_MS`] lets a quiet service retry as well.
#[derive(Debug, Clone)]
pub(in crate::upstream) struct Budget {
    /// Thousandths of a retry.
    left: u64,
    per_request: u64,
    most: u64,
    filled_ms: u64,
}

/// An empty reserve is full again after this time.
const REFILL_MS: u64 = 10_000;
const ONE: u64 = 1_000;

impl Budget {
    /// A full one: `percent` of the requests, and `reserve` beyond.
    pub(in crate::upstream) const fn new(percent: u64, reserve: u64) -> Self {
        let most = reserve * ONE;
        Self { left: most, per_request: percent * ONE / 100, most, filled_ms: 0 }
    }

    /// A request came.
    pub(in crate::upstream) fn asked(&mut self) {
        self.left = (self.left + self.per_request).min(self.most);
    }

    /// Whether a request may be sent once more; it then has been.
    pub(in crate::upstream) fn takes(&mut self, now_ms: u64) -> bool {
        let since = now_ms.saturating_sub(self.filled_ms).min(REFILL_MS);
        let fill = self.most * since / REFILL_MS;
        if fill > 0 {
            self.filled_ms = now_ms;
            self.left = (self.left + fill).min(self.most);
        }
        let is_left = self.left >= ONE;
        if is_left {
            self.left -= ONE;
        }
        is_left
    }
}

/// The pause before the `retry`th retry, from 1: drawn evenly from up to `base` times two for each before.
pub(in crate::upstream) fn backoff_ms(base: u64, retry: u32, random: u64) -> u64 {
    let most = base.saturating_mul(1 << retry.saturating_sub(1).min(6));
    random % (most + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However failures come, retries within a stretch of time are at most the reserve, its refills and the percentage.
        #[test]
        fn retries_are_bounded(
            percent in 0u64..100, reserve in 0u64..50,
            events in prop::collection::vec((0u64..50, prop::bool::ANY), 1..2_000),
        ) {
            let mut budget = Budget::new(percent, reserve);
            let (mut now, mut asked, mut retried) = (0, 0, 0);
            for (pause, fails) in events {
                now += pause;
                asked += 1;
                budget.asked();
                if fails && budget.takes(now) {
                    retried += 1;
                }
                let most = reserve + reserve * now / REFILL_MS + asked * percent / 100 + 1;
                prop_assert!(retried <= most, "{retried} of {most} after {asked} in {now} ms");
            }
        }

        #[test]
        fn pauses_grow_and_are_bounded(base in 0u64..1_000, retry in 1u32..200, random: u64) {
            prop_assert!(backoff_ms(base, retry, random) <= base * 64);
            prop_assert!(backoff_ms(base, 1, random) <= base);
        }
    }

    #[test]
    fn a_quiet_service_can_retry_and_a_storm_is_cut() {
        let mut budget = Budget::new(20, 10);
        assert_eq!((0..1_000).filter(|_| budget.takes(1)).count(), 10, "the reserve");
        assert!(!budget.takes(900));
        assert!(budget.takes(1_001), "a tenth of the reserve after a second");
        let storm = (0..1_000)
            .filter(|_| {
                budget.asked();
                budget.takes(1_001)
            })
            .count();
        assert!((199..=201).contains(&storm), "{storm}");
    }
}
