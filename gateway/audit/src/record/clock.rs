//! What happened to the clock (R7, A8).

use super::lifecycle::write_instant;
use super::{Header, Record, Splice, VERSION, write_clock, write_sequence, write_time};
use crate::header::Kind;
use crate::json::{self, Object, key};
/// What happened to the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockEvent {
    /// Wall time jumped against monotonic time.
    Step,
    /// After a start, wall time lies before the last record's.
    Regression,
    /// The error bound was exceeded, or nobody vouches for the clock.
    Alarm,
    /// The error is beyond the bound for a warning.
    Warning,
    /// The error is within its bounds again.
    Cleared,
    /// A source of time began to agree or to disagree with the others, or fell silent.
    Source,
    /// A leap second is to come at the end of the month.
    LeapAnnounced,
    /// An announced leap second came.
    LeapSecond,
}

impl ClockEvent {
    /// The name in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Regression => "regression",
            Self::Alarm => "alarm",
            Self::Warning => "warning",
            Self::Cleared => "cleared",
            Self::Source => "source",
            Self::LeapAnnounced => "leap-announced",
            Self::LeapSecond => "leap-second",
        }
    }
}

/// Kind `clock` (R7, A8). Keys: `change_ns` (how far wall time moved: a number, or its digits as text where it is beyond
/// what a double holds exactly), `event`, `previous` (the time that was expected or last recorded), `source` (its name),
/// `standing` (where the source stands).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockChange<'a> {
    /// What happened.
    pub event: ClockEvent,
    /// Wall time as expected from monotonic time, or the last record's, nanoseconds since the epoch.
    pub previous_unix_ns: Option<i64>,
    /// Difference between the wall time read and the one expected.
    pub change_ns: Option<i64>,
    /// The source of time that it is about, and where that stands: `agrees`, `disagrees`, `unsynchronised`, `silent` or
    /// `unused`.
    pub source: Option<(&'a str, &'static str)>,
}

impl Record for ClockChange<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::Clock
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        if let Some(change) = self.change_ns {
            let out = object.key(key!("change_ns"));
            if change.unsigned_abs() < 1 << 53 {
                out.extend_from_slice(itoa::Buffer::new().format(change).as_bytes());
            } else {
                json::string(out, itoa::Buffer::new().format(change));
            }
        }
        write_clock(&mut object, header);
        object.label(key!("event"), self.event.label());
        object.label(key!("kind"), "clock");
        object.text(key!("node"), header.node);
        if let Some(previous) = self.previous_unix_ns {
            write_instant(&mut object, key!("previous"), previous);
        }
        let splice = write_sequence(&mut object, start);
        if let Some((source, standing)) = self.source {
            object.text(key!("source"), source);
            object.label(key!("standing"), standing);
        }
        write_time(&mut object, header);
        object.number(key!("version"), VERSION);
        object.end();
        splice
    }
}
