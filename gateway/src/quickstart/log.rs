//! What the audit log says about requests that were just made.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::Path;

use gateway_audit::frame::SegmentHeader;
use gateway_audit::reader::Verifier;
use policy::Refusal;
use serde_json::Value;

/// What must have left a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trace {
    /// A request, by its id.
    Request(String),
    /// A refused handshake, by its reason.
    Refusal(Refusal),
}

impl Display for Trace {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(id) => write!(f, "request {id}"),
            Self::Refusal(reason) => write!(f, "{reason}"),
        }
    }
}

/// The records of a log behind some place, as far as [`Trace`]s need them.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// By request id: the kinds of its records.
    requests: HashMap<String, HashSet<String>>,
    /// Reasons of refused handshakes, counted ones included.
    refusals: HashSet<String>,
    last: Option<u64>,
}

impl Records {
    /// Whether a trace's record is there. A request that may change something has an intent and an outcome (A1).
    pub(super) fn hold(&self, trace: &Trace) -> bool {
        match trace {
            Trace::Request(id) => self.requests.get(id).is_some_and(|kinds| {
                kinds.contains("request") || (kinds.contains("intent") && kinds.contains("outcome"))
            }),
            Trace::Refusal(reason) => self.refusals.contains(reason.label()),
        }
    }

    fn take(&mut self, sequence: u64, record: &[u8]) {
        self.last = Some(sequence);
        let Ok(record) = serde_json::from_slice::<Value>(record) else { return };
        let text = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        match text("kind").as_str() {
            "refusal" | "refusal-summary" => {
                self.refusals.insert(text("reason"));
            }
            kind => {
                self.requests.entry(text("request")).or_default().insert(kind.to_owned());
            }
        }
    }
}

/// The place of the log's last record; none where there is no log or it cannot be read.
pub(super) fn last_sequence(directory: &Path) -> Option<u64> {
    records(directory, None).ok()?.last
}

/// The records behind `after`, in a log whose chain is checked from its beginning. What is just being written counts
/// as a torn tail and is left out.
pub(super) fn records(directory: &Path, after: Option<u64>) -> Result<Records, String> {
    let say = |error: std::io::Error| format!("`{}`: {error}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(say)? {
        let path = entry.map_err(say)?.path();
        if path.extension().is_some_and(|extension| extension == SEGMENT) {
            names.push(path);
        }
    }
    names.sort();
    let mut segments = Vec::new();
    for path in names {
        let bytes = fs::read(&path).map_err(say)?;
        segments.push((path.display().to_string(), bytes));
    }
    let mut records = Records::default();
    let mut verifier = Verifier::new();
    for (place, (name, bytes)) in segments.iter().enumerate() {
        let next = segments.get(place + 1).map(|(_, next)| SegmentHeader::decode(next)).transpose();
        let next = next.map_err(|error| error.to_string())?;
        let visit = |_, frame: &gateway_audit::frame::Frame<'_>| {
            if after.is_none_or(|after| frame.sequence > after) {
                records.take(frame.sequence, frame.record);
            }
        };
        verifier.segment(name, bytes, next.as_ref(), visit).map_err(|bad| bad.to_string())?;
    }
    Ok(records)
}

/// How the names of segments end.
const SEGMENT: &str = "segment";
