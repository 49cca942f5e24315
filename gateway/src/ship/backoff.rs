//! How long to wait after failures: twice as long each time, with a random part so that many senders do not come at once.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);

/// The pause after so many failures in a row, at most `most`; `random` is 0 to 1.
pub(super) fn pause(failures: u32, most: Duration, random: f64) -> Duration {
    let whole = FIRST.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(most);
    whole.mul_f64(random.clamp(0.0, 1.0).mul_add(0.5, 0.5))
}

/// A random number from 0 to 1; 1 if the system has none.
pub(super) fn random() -> f64 {
    let mut bytes = [0; 4];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_differ() {
        let most = Duration::from_secs(60);
        assert_eq!(pause(1, most, 1.0), Duration::from_millis(500));
        assert_eq!(pause(1, most, 0.0), Duration::from_millis(250));
        assert_eq!(pause(4, most, 1.0), Duration::from_secs(4));
        for failures in [8, 31, 32, 33, 40, u32::MAX] {
            assert_eq!(pause(failures, most, 1.0), most);
        }
        assert!((0.0..=1.0).contains(&random()));
    }
}
