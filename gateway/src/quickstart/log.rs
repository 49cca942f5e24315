//! What the audit log says about requests that were just made.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::Path;

use gateway_audit::frame::SegmentHeader;
use gateway_audit::header::{Envelope, Kind};
use gateway_audit::reader::Verifier;
use policy::Refusal;
use serde_json::Value;

use crate::audit::segments_directory;

/// What must have left a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trace {
    /// A request, by its id.
    Request(String),
    /// A record of that kind beside a request's own.
    Beside(String, &'static str),
    /// A refused handshake, by its reason.
    Refusal(Refusal),
}

impl Display for Trace {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(id) => write!(f, "request {id}"),
            Self::Beside(id, kind) => write!(f, "{kind} of request {id}"),
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
            Trace::Beside(id, kind) => self.requests.get(id).is_some_and(|kinds| kinds.contains(*kind)),
            Trace::Refusal(reason) => self.refusals.contains(reason.label()),
        }
    }

    fn take(&mut self, sequence: u64, envelope: &[u8], open: &mut impl FnMut(u64, &[u8]) -> Option<Vec<u8>>) {
        self.last = Some(sequence);
        let Ok(Envelope { header, .. }) = Envelope::decode(envelope) else { return };
        if !matches!(header.kind, Kind::Refusal | Kind::RefusalSummary) {
            let kinds = self.requests.entry(header.reference.to_owned()).or_default();
            kinds.insert(header.kind.label().to_owned());
            return;
        }
        // Only who may open it learns why.
        let record = open(sequence, envelope).and_then(|record| serde_json::from_slice::<Value>(&record).ok());
        let reason = record.as_ref().and_then(|record| record.get("reason")).and_then(Value::as_str);
        self.refusals.extend(reason.map(str::to_owned));
    }
}

/// The place of the log's last record; none where there is no log or it cannot be read.
pub(super) fn last_sequence(directory: &Path) -> Option<u64> {
    records(directory, None, |_, _| None).ok()?.last
}

/// The records behind `after`, in the first lane of a log, whose chain is checked as far as segments go back. What is
/// just being written counts as a torn tail and is left out.
pub(super) fn records(
    audit: &Path,
    after: Option<u64>,
    mut open: impl FnMut(u64, &[u8]) -> Option<Vec<u8>>,
) -> Result<Records, String> {
    let directory = &segments_directory(audit, 1);
    let say = |error: std::io::Error| format!("`{}`: {error}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(say)? {
        let path = entry.map_err(say)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        if name.starts_with(SEGMENT_PREFIX) && name.ends_with(SEGMENT_SUFFIX) {
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
                records.take(frame.sequence, frame.record, &mut open);
            }
        };
        verifier.segment(name, bytes, next.as_ref(), visit).map_err(|bad| bad.to_string())?;
    }
    Ok(records)
}

/// How the names of segments begin and end; between is the place in the log, so that names sort like records.
const SEGMENT_PREFIX: &str = "segment-";
const SEGMENT_SUFFIX: &str = ".log";

#[cfg(test)]
mod tests {
    use super::*;
    use gateway_audit::frame::{Chain, RecordLength, genesis};
    use gateway_audit::header::{ClearHeader, KeyId, Pseudonym, TAG};

    const LOG: [u8; 16] = [7; 16];

    fn write(audit: &Path, name: &str, bytes: impl AsRef<[u8]>) {
        let directory = segments_directory(audit, 1);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(name), bytes).unwrap();
    }

    /// What is sealed, as if anyone could open it.
    fn open(_: u64, envelope: &[u8]) -> Option<Vec<u8>> {
        Some(Envelope::decode(envelope).ok()?.sealed.strip_suffix(&[0; TAG])?.to_vec())
    }

    /// Appends records of these kinds, about this request or with this reason.
    fn segment(chain: &mut Chain, records: &[(Kind, &str)]) -> Vec<u8> {
        let header =
            SegmentHeader { log: LOG, node: "demo".to_owned(), first_sequence: chain.next, previous: chain.link };
        let mut bytes = header.encode().to_vec();
        for (kind, about) in records {
            let write = |_, out: &mut Vec<u8>| {
                let refusal = matches!(kind, Kind::Refusal | Kind::RefusalSummary);
                let reference = if refusal { "" } else { about };
                let header =
                    ClearHeader { kind: *kind, unix_ns: 0, site: Pseudonym::NONE, key: KeyId([0; 16]), reference };
                header.encode(out).unwrap();
                out.extend_from_slice(format!("{{\"reason\":\"{about}\"}}").as_bytes());
                out.extend_from_slice(&[0; TAG]);
                Ok::<_, RecordLength>(())
            };
            chain.append(0, &mut bytes, &mut Vec::new(), write).unwrap();
        }
        bytes.resize(bytes.len() + 4096, 0);
        bytes
    }

    #[test]
    fn finds_what_came_after_a_place_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut chain = Chain { link: genesis(&LOG, "demo"), next: 1 };
        let first = [(Kind::Request, "old"), (Kind::Refusal, "certificate-missing"), (Kind::Request, "read")];
        let second = [
            (Kind::Intent, "create"),
            (Kind::Intent, "lost"),
            (Kind::Outcome, "create"),
            (Kind::RefusalSummary, "device-unregistered"),
        ];
        write(dir.path(), "segment-00000001.log", segment(&mut chain, &first));
        write(dir.path(), "segment-00000004.log", segment(&mut chain, &second));
        write(dir.path(), "spare.log", "not a segment");

        assert_eq!(last_sequence(dir.path()), Some(7));
        let records = records(dir.path(), Some(2), open).unwrap();
        let holds = |id: &str| records.hold(&Trace::Request(id.to_owned()));
        assert!(holds("read") && holds("create"));
        assert!(!holds("old") && !holds("lost") && !holds("never"));
        assert!(records.hold(&Trace::Refusal(Refusal::DeviceUnregistered)));
        assert!(!records.hold(&Trace::Refusal(Refusal::CertificateMissing)));
    }

    #[test]
    fn a_log_that_lies_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut chain = Chain { link: [0; 32], next: 1 };
        write(dir.path(), "segment-1.log", segment(&mut chain, &[(Kind::Start, "")]));
        assert!(records(dir.path(), None, open).is_err());
        assert_eq!(last_sequence(dir.path()), None);
        assert!(records(&dir.path().join("nowhere"), None, open).is_err());
    }
}
