//! Watches the clock for steps and alarms, and puts them into the log (A8).

use std::sync::Arc;
use std::time::Duration;

use gateway_audit::record::{ClockChange, ClockEvent};

use super::{Clock as _, KernelClock, Reading};
use crate::audit::ControlLane;

/// How often the kernel is asked.
const PERIOD: Duration = Duration::from_millis(500);

/// When the clock is worth a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Wall time may move this far against monotonic time between two looks, beyond the 500 ppm of slewing.
    pub step: Duration,
    /// The error bound above which the clock alarms (`clock.max_error_ms`).
    pub max_error: Duration,
}

/// Compares each reading with the one before.
#[derive(Debug, Clone)]
pub struct Watch {
    bounds: Bounds,
    last: Option<Reading>,
    alarmed: bool,
}

impl Watch {
    /// A watch that has seen nothing.
    #[must_use]
    pub const fn new(bounds: Bounds) -> Self {
        Self { bounds, last: None, alarmed: false }
    }

    /// Takes a reading; says what is worth a record.
    pub fn observe(&mut self, reading: Reading) -> impl Iterator<Item = ClockChange> + use<> {
        let step = self.last.and_then(|last| {
            let elapsed = i128::from(reading.monotonic_ns) - i128::from(last.monotonic_ns);
            let expected = i128::from(last.unix_ns) + elapsed;
            let change = i128::from(reading.unix_ns) - expected;
            let allowed = self.bounds.step.as_nanos().saturating_add(elapsed.unsigned_abs() / 2_000);
            (change.unsigned_abs() > allowed).then(|| ClockChange {
                event: ClockEvent::Step,
                previous_unix_ns: i64::try_from(expected).ok(),
                change_ns: i64::try_from(change).ok(),
            })
        });
        self.last = Some(reading);
        let alarmed = reading.alarms(self.bounds.max_error);
        let alarm = (alarmed != self.alarmed).then_some(ClockChange {
            event: if alarmed { ClockEvent::Alarm } else { ClockEvent::Cleared },
            previous_unix_ns: None,
            change_ns: None,
        });
        self.alarmed = alarmed;
        step.into_iter().chain(alarm)
    }
}

/// Refreshes the clock and records what happens to it, for ever. Runs on the control runtime.
pub async fn watch(clock: Arc<KernelClock>, lane: ControlLane, bounds: Bounds) {
    let mut watch = Watch::new(bounds);
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = clock.refresh() {
            tracing::warn!(%error, "the kernel does not tell its clock's error");
        }
        for change in watch.observe(clock.now()) {
            tracing::warn!(event = change.event.label(), change_ns = change.change_ns, "clock");
            lane.append_unwaited(&change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { step: Duration::from_millis(100), max_error: Duration::from_secs(1) };
    const SECOND: i64 = 1_000_000_000;

    fn reading(unix_ns: i64, monotonic_ns: i64) -> Reading {
        let monotonic_ns = u64::try_from(monotonic_ns).unwrap();
        Reading { unix_ns, monotonic_ns, error_ns: Some(1), source: "test", synchronised: true }
    }

    #[test]
    fn a8_steps_are_seen_and_slewing_is_not() {
        for step in [SECOND, -SECOND, 3_600 * SECOND, -3_600 * SECOND, 315_360_000 * SECOND, SECOND / 9] {
            let mut watch = Watch::new(BOUNDS);
            assert_eq!(watch.observe(reading(1_800_000_000 * SECOND, 5 * SECOND)).count(), 0);
            assert_eq!(watch.observe(reading(1_800_000_001 * SECOND + SECOND / 2_001, 6 * SECOND)).count(), 0);
            let at = 1_800_000_002 * SECOND + SECOND / 2_001;
            let seen: Vec<_> = watch.observe(reading(at + step, 7 * SECOND)).collect();
            assert_eq!(
                seen,
                [ClockChange { event: ClockEvent::Step, previous_unix_ns: Some(at), change_ns: Some(step) }]
            );
            assert_eq!(watch.observe(reading(at + step + SECOND, 8 * SECOND)).count(), 0);
        }
    }

    #[test]
    fn an_alarm_is_told_once_and_so_is_its_end() {
        let mut watch = Watch::new(BOUNDS);
        let bad = Reading { synchronised: false, ..reading(0, 0) };
        let events = |changes: Vec<ClockChange>| changes.into_iter().map(|c| c.event).collect::<Vec<_>>();
        assert_eq!(events(watch.observe(bad).collect()), [ClockEvent::Alarm]);
        assert_eq!(events(watch.observe(bad).collect()), []);
        assert_eq!(events(watch.observe(reading(0, 0)).collect()), [ClockEvent::Cleared]);
        assert_eq!(events(watch.observe(reading(i64::MIN, 0)).collect()), [ClockEvent::Step]);
    }
}
