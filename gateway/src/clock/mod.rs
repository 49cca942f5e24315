//! What time it is, and how far that may be wrong (R7).
//!
//! The wall clock is only ever read. How far it may be off is estimated ([`estimate`]) from what the kernel knows, which
//! every time service (ntpd, systemd-timesyncd) keeps informed, from chronyd where it runs, and from servers that the
//! gateway asks by itself. Deadlines use monotonic time; wall time is for records.

mod chrony;
pub mod estimate;
mod keeper;
mod kernel;
mod ntp;
mod once;
mod probe;
mod servers;
mod timex;
mod watch;

use std::time::Duration;

use gateway_audit::Stamp;
use policy::Refusal;

pub use keeper::keep;
pub use kernel::{KernelClock, TlsTime, boot_id};
pub use ntp::Leap;
pub use once::{Asked, once};
pub use servers::{Asking, KeyFileError, Server};

/// One reading of the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Wall time, nanoseconds since the Unix epoch.
    pub unix_ns: i64,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub monotonic_ns: u64,
    /// Bound of the wall clock's error, nanoseconds.
    pub error_ns: Option<u64>,
    /// Who says so.
    pub source: &'static str,
    /// Whether the keeper of the clock says that it is synchronised.
    pub synchronised: bool,
}

impl Reading {
    /// The reading as records carry it.
    #[must_use]
    pub const fn stamp(&self) -> Stamp<'static> {
        Stamp {
            unix_ns: self.unix_ns,
            monotonic_ns: self.monotonic_ns,
            error_ns: self.error_ns,
            source: self.source,
            synchronised: self.synchronised,
        }
    }

    /// Whether the clock is so far off, or so unknown, that somebody must be told.
    #[must_use]
    pub fn alarms(&self, max_error: Duration) -> bool {
        !self.synchronised || self.error_ns.is_none_or(|error| u128::from(error) > max_error.as_nanos())
    }
}

/// A source of readings. Cheap: it is read for every record.
pub trait Clock: Send + Sync + 'static {
    /// The time.
    fn now(&self) -> Reading;

    /// Only [`Reading::monotonic_ns`], for durations.
    fn monotonic_ns(&self) -> u64 {
        self.now().monotonic_ns
    }
}

/// What an alarm does to requests (`clock.on_alarm`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnAlarm {
    /// Requests are refused until the clock is good again.
    Refuse,
    /// Requests are served; their records say what is known of the clock.
    Mark,
}

/// Whether the clock's state refuses a request.
#[must_use]
pub fn refusal(reading: &Reading, on_alarm: OnAlarm, max_error: Duration) -> Option<Refusal> {
    (on_alarm == OnAlarm::Refuse && reading.alarms(max_error)).then_some(Refusal::ClockUnsynchronised)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

    use super::*;

    /// A clock that stands still until it is moved.
    #[derive(Debug, Default)]
    pub(crate) struct TestClock {
        pub(crate) unix_ns: AtomicI64,
        pub(crate) monotonic_ns: AtomicU64,
    }

    impl Clock for TestClock {
        fn now(&self) -> Reading {
            Reading {
                unix_ns: self.unix_ns.load(Ordering::Relaxed),
                monotonic_ns: self.monotonic_ns.load(Ordering::Relaxed),
                error_ns: Some(1_000),
                source: "test",
                synchronised: true,
            }
        }
    }

    #[test]
    fn an_alarm_refuses_only_where_the_operator_says_so() {
        let good = TestClock::default().now();
        let late = Reading { error_ns: Some(1_000_000_001), ..good };
        let unknown = Reading { error_ns: None, ..good };
        let loose = Reading { synchronised: false, ..good };
        let second = Duration::from_secs(1);
        assert_eq!(refusal(&good, OnAlarm::Refuse, second), None);
        assert_eq!(refusal(&Reading { error_ns: Some(1_000_000_000), ..good }, OnAlarm::Refuse, second), None);
        for bad in [late, unknown, loose] {
            assert_eq!(refusal(&bad, OnAlarm::Refuse, second), Some(Refusal::ClockUnsynchronised));
            assert_eq!(refusal(&bad, OnAlarm::Mark, second), None);
        }
    }
}
