//! Watches the clock, and puts into the log what happens to it (A8).

use std::collections::BTreeMap;
use std::time::Duration;

use gateway_audit::record::{ClockChange, ClockEvent};

use super::Reading;
use super::estimate::{Estimate, SourceReport, Standing};
use super::ntp::Leap;

/// A level is left only when the error is this much below its bound, in percent.
const HYSTERESIS: u128 = 80;
/// A source must stand somewhere for so many looks before anybody is told.
const LOOKS: u32 = 20;
/// A leap second comes at midnight UTC; what is this near is one.
const LEAP_SLACK_NS: i64 = 3_000_000_000;
const DAY_NS: i64 = 86_400_000_000_000;

/// When the clock is worth a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Wall time may move this far against monotonic time between two looks, beyond the 500 ppm of slewing.
    pub(super) step: Duration,
    /// The error bound that is worth a warning (`clock.warn_error_ms`).
    pub(super) warn_error: Duration,
    /// The error bound above which the clock alarms (`clock.max_error_ms`).
    pub(super) max_error: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Good,
    Warning,
    Alarm,
}

/// Where a source stands, as it was told, and as it seems since so many looks.
#[derive(Debug, Clone, Copy)]
struct Seen {
    told: Standing,
    now: Standing,
    looks: u32,
}

/// Something that happened, with what a record of it borrows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Happened {
    event: ClockEvent,
    previous_unix_ns: Option<i64>,
    change_ns: Option<i64>,
    source: Option<(String, &'static str)>,
}

impl Happened {
    const fn plain(event: ClockEvent) -> Self {
        Self { event, previous_unix_ns: None, change_ns: None, source: None }
    }

    /// How far the clock was moved.
    pub(super) const fn change_ns(&self) -> Option<i64> {
        self.change_ns
    }

    /// The record.
    #[must_use]
    pub(super) fn record(&self) -> ClockChange<'_> {
        ClockChange {
            event: self.event,
            previous_unix_ns: self.previous_unix_ns,
            change_ns: self.change_ns,
            source: self.source.as_ref().map(|(name, standing)| (name.as_str(), *standing)),
        }
    }
}

/// Compares each reading and estimate with those before.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    bounds: Bounds,
    last: Option<Reading>,
    level: Level,
    leap: Option<Leap>,
    sources: BTreeMap<String, Seen>,
}

impl Watch {
    /// A watch that has seen nothing.
    #[must_use]
    pub(super) const fn new(bounds: Bounds) -> Self {
        Self { bounds, last: None, level: Level::Good, leap: None, sources: BTreeMap::new() }
    }

    /// Other bounds, from here on.
    pub(super) const fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Takes a reading; says whether the clock was moved since the one before, and how far.
    pub(super) fn moved(&mut self, reading: &Reading) -> Option<Happened> {
        let last = self.last.replace(*reading)?;
        let elapsed = i128::from(reading.monotonic_ns) - i128::from(last.monotonic_ns);
        let expected = i128::from(last.unix_ns) + elapsed;
        let change = i128::from(reading.unix_ns) - expected;
        let allowed = self.bounds.step.as_nanos().saturating_add(elapsed.unsigned_abs() / 2_000);
        (change.unsigned_abs() > allowed).then(|| {
            let is_leap = self.leap.is_some_and(|leap| {
                (change - i128::from(leap.change_ns())).unsigned_abs() <= allowed && is_midnight(reading.unix_ns)
            });
            Happened {
                event: if is_leap { ClockEvent::LeapSecond } else { ClockEvent::Step },
                previous_unix_ns: i64::try_from(expected).ok(),
                change_ns: i64::try_from(change).ok(),
                source: None,
            }
        })
    }

    /// Takes what is known of the time of a reading; says what is worth a record.
    pub(super) fn judge(&mut self, reading: &Reading, estimate: &Estimate) -> Vec<Happened> {
        let mut happened = Vec::new();
        let level = self.level_of(reading);
        if level != self.level {
            self.level = level;
            happened.push(Happened::plain(match level {
                Level::Good => ClockEvent::Cleared,
                Level::Warning => ClockEvent::Warning,
                Level::Alarm => ClockEvent::Alarm,
            }));
        }
        // An announcement ends without a word once its second is over.
        if estimate.leap != self.leap {
            self.leap = estimate.leap;
            happened.extend(self.leap.map(|_| Happened::plain(ClockEvent::LeapAnnounced)));
        }
        self.sources.retain(|name, _| estimate.sources.iter().any(|source| source.name == *name));
        happened.extend(estimate.sources.iter().filter_map(|source| self.stands(source)));
        happened
    }

    fn level_of(&self, reading: &Reading) -> Level {
        let bound = |bound: Duration, level: Level| {
            if self.level >= level { bound.as_nanos() * HYSTERESIS / 100 } else { bound.as_nanos() }
        };
        let error = reading.error_ns.map_or(u128::MAX, u128::from);
        if !reading.synchronised || error > bound(self.bounds.max_error, Level::Alarm) {
            Level::Alarm
        } else if error > bound(self.bounds.warn_error, Level::Warning) {
            Level::Warning
        } else {
            Level::Good
        }
    }

    fn stands(&mut self, source: &SourceReport) -> Option<Happened> {
        // What was never heard of is news once it is heard; that chronyd is not there, or that all is well at a start,
        // is none.
        let quiet = |standing| matches!(standing, Standing::Silent | Standing::Unused | Standing::Agrees);
        let seen = self.sources.entry(source.name.clone()).or_insert(Seen {
            told: if quiet(source.standing) { source.standing } else { Standing::Silent },
            now: source.standing,
            looks: 0,
        });
        if seen.now == source.standing {
            seen.looks = seen.looks.saturating_add(1);
        } else {
            (seen.now, seen.looks) = (source.standing, 1);
        }
        if seen.now == seen.told || seen.looks < LOOKS {
            return None;
        }
        seen.told = seen.now;
        Some(Happened {
            source: Some((source.name.clone(), source.standing.label())),
            ..Happened::plain(ClockEvent::Source)
        })
    }
}

/// Whether a time is about midnight UTC.
const fn is_midnight(unix_ns: i64) -> bool {
    let of_day = unix_ns.rem_euclid(DAY_NS);
    of_day < LEAP_SLACK_NS || of_day > DAY_NS - LEAP_SLACK_NS
}

#[cfg(test)]
mod tests {
    use super::super::estimate::{Interval, Vouching};
    use super::*;

    const BOUNDS: Bounds = Bounds {
        step: Duration::from_millis(100),
        warn_error: Duration::from_millis(100),
        max_error: Duration::from_secs(1),
    };
    const SECOND: i64 = 1_000_000_000;
    const MIDNIGHT: i64 = 20_000 * DAY_NS;

    fn reading(unix_ns: i64, monotonic_ns: i64) -> Reading {
        let monotonic_ns = u64::try_from(monotonic_ns).unwrap();
        Reading { unix_ns, monotonic_ns, error_ns: Some(1), source: "test", synchronised: true }
    }

    fn estimate(leap: Option<Leap>, sources: &[(&str, Standing)]) -> Estimate {
        let report = |(name, standing): &(&str, Standing)| SourceReport {
            name: (*name).to_owned(),
            standing: *standing,
            interval: Some(Interval { earliest_ns: 0, latest_ns: 0 }),
        };
        Estimate { interval: None, vouching: Vouching::Kernel, sources: sources.iter().map(report).collect(), leap }
    }

    #[test]
    fn a8_steps_are_seen_and_slewing_is_not() {
        for step in [SECOND, -SECOND, 3_600 * SECOND, -3_600 * SECOND, 315_360_000 * SECOND, SECOND / 9] {
            let mut watch = Watch::new(BOUNDS);
            assert_eq!(watch.moved(&reading(1_800_000_000 * SECOND, 5 * SECOND)), None);
            assert_eq!(watch.moved(&reading(1_800_000_001 * SECOND + SECOND / 2_001, 6 * SECOND)), None);
            let at = 1_800_000_002 * SECOND + SECOND / 2_001;
            let seen = watch.moved(&reading(at + step, 7 * SECOND)).unwrap();
            assert_eq!(
                seen.record(),
                ClockChange {
                    event: ClockEvent::Step,
                    previous_unix_ns: Some(at),
                    change_ns: Some(step),
                    source: None
                }
            );
            assert_eq!(watch.moved(&reading(at + step + SECOND, 8 * SECOND)), None);
        }
    }

    #[test]
    fn levels_are_told_once_and_not_left_for_a_moment() {
        let mut watch = Watch::new(BOUNDS);
        let mut told = |error_ms: Option<u64>, synchronised| {
            let reading = Reading { error_ns: error_ms.map(|ms| ms * 1_000_000), synchronised, ..reading(0, 0) };
            let happened = watch.judge(&reading, &estimate(None, &[]));
            happened.into_iter().map(|happened| happened.event).collect::<Vec<_>>()
        };
        assert_eq!(told(Some(100), true), []);
        assert_eq!(told(Some(101), true), [ClockEvent::Warning]);
        assert_eq!(told(Some(90), true), []);
        assert_eq!(told(Some(1_001), true), [ClockEvent::Alarm]);
        assert_eq!(told(Some(900), true), []);
        assert_eq!(told(Some(800), true), [ClockEvent::Warning]);
        assert_eq!(told(Some(80), true), [ClockEvent::Cleared]);
        assert_eq!(told(Some(1), false), [ClockEvent::Alarm]);
        assert_eq!(told(None, true), []);
        assert_eq!(told(Some(1), true), [ClockEvent::Cleared]);
    }

    #[test]
    fn a_leap_second_is_no_step_where_it_was_announced() {
        for (leap, change) in [(Leap::Insert, -SECOND), (Leap::Delete, SECOND)] {
            let events = |announced: Option<Leap>, at: i64| {
                let mut watch = Watch::new(BOUNDS);
                let before = reading(at - SECOND / 2, SECOND);
                watch.moved(&before);
                let told: Vec<_> = watch.judge(&before, &estimate(announced, &[])).iter().map(|h| h.event).collect();
                (told, watch.moved(&reading(at + change, SECOND * 3 / 2)).unwrap().event)
            };
            let announced = vec![ClockEvent::LeapAnnounced];
            assert_eq!(events(Some(leap), MIDNIGHT), (announced.clone(), ClockEvent::LeapSecond));
            assert_eq!(events(Some(leap), MIDNIGHT + DAY_NS / 2), (announced, ClockEvent::Step));
            assert_eq!(events(None, MIDNIGHT), (Vec::new(), ClockEvent::Step));
        }
    }

    #[test]
    fn a_source_is_told_of_when_it_stands_elsewhere_for_a_while() {
        let mut watch = Watch::new(BOUNDS);
        let mut look = |standing, times: u32| {
            let mut told = Vec::new();
            for _ in 0..times {
                let sources = [("kernel", Standing::Agrees), ("ntp0", standing)];
                told.extend(watch.judge(&reading(0, 0), &estimate(None, &sources)));
            }
            told.into_iter().map(|happened| happened.source.unwrap()).collect::<Vec<_>>()
        };
        let ntp0 = |standing: Standing| vec![("ntp0".to_owned(), standing.label())];
        assert_eq!(look(Standing::Silent, 100), []);
        assert_eq!(look(Standing::Agrees, LOOKS), ntp0(Standing::Agrees));
        assert_eq!(look(Standing::Disagrees, LOOKS - 1), []);
        assert_eq!(look(Standing::Agrees, 100), []);
        assert_eq!(look(Standing::Disagrees, 100), ntp0(Standing::Disagrees));
        assert_eq!(look(Standing::Silent, 100), ntp0(Standing::Silent));
    }
}
