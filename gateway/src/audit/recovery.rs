//! What a start finds in the directory, and how it is put in order (A3).

use std::collections::BTreeSet;

use gateway_audit::frame::{Chain, Frame, SEGMENT_HEADER, SegmentHeader, genesis};
use gateway_audit::header::{ClearHeader, Envelope, Kind};
use gateway_audit::reader::{Bad, Tail, Verifier};
use gateway_audit::record::TornTail;
use sha2::{Digest as _, Sha256};

use super::segments::{Failure, is_torn_at, segment_first, torn_name};
use super::storage::{Storage, write_all};
use super::tree::{Replay, Standing, TreeError, TreeStorage};

/// Request ids of unresolved intents that one record names; the rest is counted.
const NAMED_UNRESOLVED: usize = 1_000;

/// Why the log cannot be continued.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A call failed.
    #[error("the audit log cannot be read: {0}")]
    Failure(#[from] Failure),
    /// An acknowledged record is damaged. Nothing is touched: what happened is for a person to find out.
    #[error(
        "the audit log is damaged, and no crash does that: {0}; keep the directory as evidence and start on another"
    )]
    Damaged(#[from] Bad),
    /// The log is another gateway's.
    #[error("the audit directory holds the log of node `{found}`, not of `{expected}`")]
    Node {
        /// This gateway's name.
        expected: String,
        /// The log's.
        found: String,
    },
    /// Tiles, checkpoints and segments do not tell one story.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    /// The log's id.
    pub(super) log: [u8; 16],
    /// Where it goes on.
    pub(super) chain: Chain,
    /// Evidence kept aside, this time or by a start that did not come to record it.
    pub(super) torn: Vec<TornTail>,
    /// Request ids of intents without outcome, sorted; cut to a bound.
    pub(super) unresolved: Vec<String>,
    /// How many there are.
    pub(super) unresolved_count: u64,
    /// Whether the last record is `stop`, or there is no log yet.
    pub(super) clean: bool,
    /// Time of the last record.
    pub(super) last_unix_ns: Option<i64>,
    /// The last change of the registry among the records that were looked at.
    pub(super) registry: Option<RegistryMark>,
    /// Entries of the log.
    pub(super) entries: u64,
}

/// A change of the registry, as the clear header of its record tells it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RegistryMark {
    /// Its number in the registry.
    pub registry_sequence: u64,
    /// What tells it from another of that number: see `Sealing::fingerprint`.
    pub fingerprint: String,
}

impl RegistryMark {
    fn of(header: &ClearHeader<'_>) -> Option<Self> {
        let (number, fingerprint) = header.reference.split_once('-')?;
        Some(Self { registry_sequence: number.parse().ok()?, fingerprint: fingerprint.to_owned() })
    }
}

impl Found {
    /// Whether the start is worth a `recovery` record.
    pub(super) fn is_worth_a_record(&self) -> bool {
        !self.clean || !self.torn.is_empty() || self.unresolved_count > 0
    }
}

/// Reads the end of the log, keeps a torn tail aside and cuts it off. Looks at the last two segments, all that a
/// crash can have touched, and at those before that the tree's synced tiles do not cover. `fresh_log` is the id of a log
/// that begins here.
///
/// # Errors
/// [`RecoveryError`]; nothing was changed unless it is a failed call.
pub(super) fn recover(
    storage: &dyn Storage,
    files: &dyn TreeStorage,
    standing: &Standing,
    node: &str,
    fresh_log: [u8; 16],
) -> Result<Found, RecoveryError> {
    let names = storage.list().map_err(Failure::of("list", "."))?;
    let mut segments: Vec<&String> = names.iter().filter(|name| segment_first(name).is_some()).collect();
    segments.sort_unstable();
    let mut replay = Replay::new(standing);
    let Some((last, before)) = segments.split_last() else {
        let entries = replay.finish(standing, files, None)?;
        return Ok(Found {
            log: fresh_log,
            chain: Chain { link: genesis(&fresh_log, node), next: 1 },
            torn: Vec::new(),
            unresolved: Vec::new(),
            unresolved_count: 0,
            clean: true,
            last_unix_ns: None,
            registry: None,
            entries,
        });
    };
    let bytes = storage.read(last).map_err(Failure::of("read", last))?;
    let mut story = Story::default();
    let mut verifier = Verifier::new();
    let mut visit = |frame: &Frame<'_>| {
        story.tell(frame);
        replay.take(frame);
    };
    let first_read = needed(&segments, standing.synced_record() + 1);
    let mut earlier = before.iter().skip(first_read).peekable();
    while let Some(name) = earlier.next() {
        let earlier_bytes = storage.read(name).map_err(Failure::of("read", name))?;
        // A segment whose header is damaged is found by its own check.
        let next = match earlier.peek() {
            Some(next) => SegmentHeader::decode(&storage.read(next).map_err(Failure::of("read", next))?).ok(),
            None => SegmentHeader::decode(&bytes).ok(),
        };
        verifier.segment(name, &earlier_bytes, next.as_ref(), |_, frame| visit(frame))?;
    }
    let checked = verifier.segment(last, &bytes, None, |_, frame| visit(frame))?;
    if checked.header.node != node {
        return Err(RecoveryError::Node { expected: node.to_owned(), found: checked.header.node });
    }
    let first = segments.get(first_read).and_then(|name| segment_first(name));
    let entries = replay.finish(standing, files, first)?;
    if let Tail::Torn { offset, bytes: length } = checked.tail {
        keep_aside(storage, &names, last, tail(&bytes, offset, length), checked.chain.next)?;
    }
    if !story.stopped || checked.tail != Tail::Clean {
        // INVARIANT: what the next segment's header stands on is on disk. A killed process may have written records
        // and not synced them: they were read from memory here, and a power cut could still take them.
        let mut file = storage.open(last).map_err(Failure::of("open", last))?;
        file.set_len(checked.end).map_err(Failure::of("ftruncate", last))?;
        file.sync().map_err(Failure::of("fdatasync", last))?;
    }
    if checked.records == 0 {
        // It holds nothing, and the next segment takes its name.
        storage.remove(last).map_err(Failure::of("unlink", last))?;
        storage.sync_directory().map_err(Failure::of("fsync", last))?;
    }
    let torn = evidence(storage, checked.chain.next)?;
    let unresolved_count = u64::try_from(story.intents.len()).unwrap_or(u64::MAX);
    let unresolved = story.intents.into_iter().take(NAMED_UNRESOLVED).collect();
    Ok(Found {
        log: checked.header.log,
        chain: checked.chain,
        torn,
        unresolved,
        unresolved_count,
        clean: story.stopped,
        last_unix_ns: story.last_unix_ns,
        registry: story.registry,
        entries,
    })
}

/// The first segment to read, by its place: one of the last two, or the one that holds record `from`.
fn needed(segments: &[&String], from: u64) -> usize {
    let holds = segments.iter().rposition(|name| segment_first(name).is_some_and(|first| first <= from)).unwrap_or(0);
    holds.min(segments.len().saturating_sub(2))
}

fn tail(bytes: &[u8], offset: u64, length: u64) -> &[u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    bytes.get(start..).and_then(|rest| rest.get(..length)).unwrap_or_default()
}

fn keep_aside(
    storage: &dyn Storage,
    names: &[String],
    segment: &str,
    bytes: &[u8],
    sequence: u64,
) -> Result<(), Failure> {
    let name = torn_name(names, sequence);
    tracing::warn!(segment, evidence = name, bytes = bytes.len(), "the audit log has a torn tail");
    let mut file = storage.create(&name).map_err(Failure::of("create", &name))?;
    write_all(&mut *file, bytes, 0).map_err(Failure::of("write", &name))?;
    file.sync().map_err(Failure::of("fdatasync", &name))?;
    storage.sync_directory().map_err(Failure::of("fsync", &name))
}

/// The files kept aside at the place of the next record: those that no `recovery` record names yet.
fn evidence(storage: &dyn Storage, sequence: u64) -> Result<Vec<TornTail>, Failure> {
    let names = storage.list().map_err(Failure::of("list", "."))?;
    let mut torn = Vec::new();
    for name in names.into_iter().filter(|name| is_torn_at(name, sequence)) {
        let bytes = storage.read(&name).map_err(Failure::of("read", &name))?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        torn.push(TornTail { file: name, bytes: length, sha256: Sha256::digest(&bytes).into() });
    }
    Ok(torn)
}

/// What the records tell: who asked for a change whose outcome nobody wrote down.
#[derive(Debug, Default)]
struct Story {
    /// Request ids of intents without outcome. An exchange stays on one lane, so that its intent comes first.
    intents: BTreeSet<String>,
    stopped: bool,
    last_unix_ns: Option<i64>,
    registry: Option<RegistryMark>,
}

impl Story {
    /// Clear headers tell all that a start needs.
    fn tell(&mut self, frame: &Frame<'_>) {
        // A record of a later version may not read as this; its frame is good, so it stays.
        let Ok(Envelope { header, .. }) = Envelope::decode(frame.record) else {
            self.stopped = false;
            return;
        };
        self.stopped = header.kind == Kind::Stop;
        self.last_unix_ns = Some(header.unix_ns);
        if header.kind == Kind::RegistryChange {
            self.registry = RegistryMark::of(&header).or(self.registry.take());
        } else if header.kind == Kind::Intent {
            self.intents.insert(header.reference.to_owned());
        } else if header.kind == Kind::Outcome {
            self.intents.remove(header.reference);
        } else if header.kind == Kind::Recovery {
            self.intents.clear();
        }
    }
}

/// The last change of the registry in the last two segments of a lane that another process may be writing.
pub(super) fn glance(storage: &dyn Storage) -> Option<RegistryMark> {
    let names = storage.list().ok()?;
    let mut segments: Vec<_> = names.iter().filter(|name| segment_first(name).is_some()).collect();
    segments.sort_unstable();
    let mut story = Story::default();
    for name in segments.iter().rev().take(2).rev() {
        let bytes = storage.read(name).ok()?;
        let mut rest = bytes.get(SEGMENT_HEADER..).unwrap_or_default();
        while let Ok(frame) = Frame::decode(rest) {
            story.tell(&frame);
            rest = rest.get(frame.size()..).unwrap_or_default();
        }
    }
    story.registry
}
