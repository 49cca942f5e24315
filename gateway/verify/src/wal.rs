//! The write-ahead log beside the tree: what no checkpoint covers yet.
//!
//! Its records are linked by hashes and not signed: that shows a change in the middle, and not that the last ones were
//! taken away or all of them written anew. Those that the tree has as well must be the same there.

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gateway_audit::frame::{SEGMENT_HEADER, SegmentHeader};
use gateway_audit::merkle::{Hash, leaf_hash};
use gateway_audit::reader::{Bad, Tail as End, Verifier};
use gateway_audit::tiles::entry::{self, Entry};

use crate::directory::read;

/// The folder of segments in a lane.
const FOLDER: &str = "wal";
/// The most records whose place in both logs is compared: the last ones of the tree.
const MAX_HELD: usize = 1 << 20;
/// The longest segment that is read, bytes.
const MAX_SEGMENT: usize = 4 << 30;

/// What the write-ahead log has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Number of records that the checkpoint does not cover.
    pub uncovered: u64,
    /// Bytes that a crash, or a writer at work, left behind the last record, and in which segment.
    pub torn: Option<(String, u64)>,
    /// The last record, where the checkpoint covers later ones: a copy that was made while the log grew.
    pub behind: Option<u64>,
}

/// What is wrong with the write-ahead log.
#[derive(Debug)]
pub enum WalError {
    /// A file or the folder is there and cannot be read.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The first bad record of it.
    Bad(Bad),
    /// A record is another than the tree has.
    Differs {
        /// The segment.
        segment: String,
        /// The record.
        sequence: u64,
    },
    /// Records are in neither.
    Hole {
        /// The first of them.
        first: u64,
        /// The one behind the last.
        end: u64,
    },
}

impl fmt::Display for WalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => write!(f, "`{}` cannot be read: {error}", path.display()),
            Self::Bad(bad) => write!(f, "write-ahead log: {bad}"),
            Self::Differs { segment, sequence } => {
                write!(f, "write-ahead log: `{segment}`: record {sequence} is another than the one that was signed")
            }
            Self::Hole { first, end } => {
                write!(
                    f,
                    "the records {first} to {} are removed: neither the tree nor the write-ahead log has them",
                    end - 1
                )
            }
        }
    }
}

/// The hashes of the tree's last records, from the first one of the write-ahead log.
#[derive(Debug)]
pub(crate) struct Held {
    first: Option<u64>,
    hashes: VecDeque<Hash>,
    parts: Vec<u8>,
    bytes: Vec<u8>,
}

impl Held {
    pub(crate) const fn new(first: Option<u64>) -> Self {
        Self { first, hashes: VecDeque::new(), parts: Vec::new(), bytes: Vec::new() }
    }

    /// Takes the next entry of the tree.
    pub(crate) fn take(&mut self, entry: &Entry<'_>) {
        let Some(first) = &mut self.first else { return };
        if entry.sequence < *first {
            return;
        }
        if self.hashes.is_empty() && entry.part == 0 {
            // Where retention removed the tree's first records, the write-ahead log may still have them.
            *first = entry.sequence;
        }
        add(&mut self.parts, &mut self.bytes, entry);
        if entry.part + 1 == entry.parts {
            self.hashes.push_back(leaf_hash(&self.parts));
            self.parts.clear();
        }
        if self.hashes.len() > MAX_HELD {
            self.hashes.pop_front();
            *first += 1;
        }
    }

    /// Whether the tree has another record at this place.
    fn contradicts(&self, sequence: u64, record: &[u8]) -> bool {
        let place = self.first.and_then(|first| sequence.checked_sub(first));
        let known = place.and_then(|place| self.hashes.get(usize::try_from(place).ok()?));
        let Some(known) = known else { return false };
        let (mut parts, mut bytes) = (Vec::new(), Vec::new());
        if let Ok(entries) = entry::split(sequence, record) {
            entries.for_each(|entry| add(&mut parts, &mut bytes, &entry));
        }
        leaf_hash(&parts) != *known
    }
}

/// Adds the hash of an entry to those of its record.
fn add(parts: &mut Vec<u8>, bytes: &mut Vec<u8>, entry: &Entry<'_>) {
    bytes.clear();
    entry.encode(bytes);
    parts.extend_from_slice(&leaf_hash(bytes));
}

/// The first record of the write-ahead log, by its first segment's name; none where there is none.
pub(crate) fn first(lane: &Path) -> Result<Option<u64>, WalError> {
    Ok(segments(lane)?.first().map(|(first, _)| *first))
}

/// Checks the write-ahead log of a lane whose checkpoint covers `covered` records; none where there is none.
pub(crate) fn check(lane: &Path, covered: u64, held: &Held) -> Result<Option<Tail>, WalError> {
    let mut segments = segments(lane)?;
    // The newest file may be a segment that is just being made.
    if let Some((_, name)) = segments.last()
        && header(lane, name).is_none()
        && load(lane, name)?.is_none_or(|bytes| bytes.iter().all(|byte| *byte == 0))
    {
        segments.pop();
    }
    let mut verifier = Verifier::new();
    let mut tail = Tail { uncovered: 0, torn: None, behind: None };
    let mut any = false;
    for at in 0..segments.len() {
        let next = segments.get(at + 1).and_then(|(_, name)| header(lane, name));
        let Some((_, name)) = segments.get(at) else { break };
        // The writer removes old segments, once the tree has all of them.
        let Some(bytes) = load(lane, name)? else { continue };
        let begins = verifier.chain().is_none();
        let mut differs = None;
        let checked = verifier.segment(name, &bytes, next.as_ref(), |_, frame| {
            if frame.sequence > covered {
                tail.uncovered += 1;
            } else if differs.is_none() && held.contradicts(frame.sequence, frame.record) {
                differs = Some(frame.sequence);
            }
        });
        if let Some(sequence) = differs {
            return Err(WalError::Differs { segment: name.clone(), sequence });
        }
        let checked = checked.map_err(WalError::Bad)?;
        any = true;
        if begins && checked.header.first_sequence > covered.saturating_add(1) {
            return Err(WalError::Hole { first: covered + 1, end: checked.header.first_sequence });
        }
        if let End::Torn { bytes, .. } = checked.tail {
            tail.torn = Some((name.clone(), bytes));
        }
    }
    let last = verifier.chain().map_or(0, |chain| chain.next - 1);
    tail.behind = (any && last < covered).then_some(last);
    Ok(any.then_some(tail))
}

/// A segment's header, if it is one. Where it is not, the segment itself is bad at its first byte.
fn header(lane: &Path, name: &str) -> Option<SegmentHeader> {
    SegmentHeader::decode(&read(&lane.join(FOLDER).join(name), SEGMENT_HEADER).ok()??).ok()
}

fn load(lane: &Path, name: &str) -> Result<Option<Vec<u8>>, WalError> {
    let path = lane.join(FOLDER).join(name);
    read(&path, MAX_SEGMENT).map_err(|error| WalError::Unreadable { path, error })
}

/// The segments, by their first record.
fn segments(lane: &Path) -> Result<Vec<(u64, String)>, WalError> {
    let path = lane.join(FOLDER);
    let unreadable = |error| WalError::Unreadable { path: path.clone(), error };
    let mut segments = Vec::new();
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(segments),
        entries => entries.map_err(unreadable)?,
    };
    for entry in entries {
        let Ok(name) = entry.map_err(unreadable)?.file_name().into_string() else { continue };
        let first = name.strip_prefix("segment-").and_then(|name| name.strip_suffix(".log"));
        if let Some(first) = first.filter(|first| first.len() == 20).and_then(|first| first.parse().ok()) {
            segments.push((first, name));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}
