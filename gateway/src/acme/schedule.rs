//! When a certificate is asked for: at once where there is none, when two thirds of its life are over, and again after a
//! failure, later each time.

use std::time::Duration;

/// The wait after the first failure. Public CAs take five failures for one name in an hour; this makes as many.
const FIRST_RETRY: Duration = Duration::from_secs(120);
/// The longest wait.
const LAST_RETRY: Duration = Duration::from_secs(6 * 3_600);

/// When a certificate of this validity (seconds since 1970) is due: after two thirds of its life, less up to a
/// twentieth of it, so that gateways that began together do not come together. `chance` is drawn from 0 to 1.
pub(super) fn due(not_before: u64, not_after: u64, chance: f64) -> u64 {
    let life = not_after.saturating_sub(not_before);
    let early = Duration::from_secs(life / 20).mul_f64(chance.clamp(0.0, 1.0)).as_secs();
    not_before.saturating_add(life / 3 * 2).saturating_sub(early)
}

/// How long to wait after so many failures in a row, a tenth more or less. A certificate with little life left is asked
/// for more often: a tenth of `left` at most, and once a second at most.
pub(super) fn retry(failures: u32, left: Option<Duration>, chance: f64) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
    let wait = FIRST_RETRY.saturating_mul(doubled).min(LAST_RETRY);
    let wait = wait.mul_f64(0.9 + 0.2 * chance.clamp(0.0, 1.0));
    let wait = left.filter(|left| !left.is_zero()).map_or(wait, |left| wait.min(left / 10));
    wait.max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: u64 = 86_400;

    #[test]
    fn two_thirds_of_a_life_and_then_patience() {
        assert_eq!(due(0, 90 * DAY, 0.0), 60 * DAY);
        assert_eq!(due(0, 90 * DAY, 1.0), 60 * DAY - 90 * DAY / 20);
        assert_eq!(due(10, 10, 0.5), 10);
        let waits: Vec<u64> = (1..=9).map(|failures| retry(failures, None, 0.5).as_secs()).collect();
        assert_eq!(waits, [120, 240, 480, 960, 1_920, 3_840, 7_680, 15_360, 21_600]);
        // A day is left: not only once in six hours.
        assert_eq!(retry(9, Some(Duration::from_secs(DAY)), 0.5).as_secs(), 8_640);
        assert_eq!(retry(1, Some(Duration::from_secs(3)), 0.5).as_secs(), 1);
        // It has ended: as if there were none.
        assert_eq!(retry(1, Some(Duration::ZERO), 0.5).as_secs(), 120);
    }

    proptest! {
        #[test]
        fn a_renewal_lies_within_the_life(begin in 0..1_u64 << 40, life in 0..1_u64 << 40, chance in 0.0..=1.0) {
            let due = due(begin, begin + life, chance);
            prop_assert!(begin <= due && due <= begin + life);
        }

        #[test]
        fn retries_are_bounded(failures in any::<u32>(), left in any::<Option<u32>>(), chance in 0.0..=1.0) {
            let wait = retry(failures, left.map(|left| Duration::from_secs(left.into())), chance);
            prop_assert!(Duration::from_secs(1) <= wait && wait <= LAST_RETRY.mul_f64(1.11));
        }
    }
}
