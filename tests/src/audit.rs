//! Reading the audit log while the gateway writes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use gateway_audit::frame::SegmentHeader;
use gateway_audit::header::{Envelope, KeyId};
use gateway_audit::keyfile::KeyFile;
use gateway_audit::reader::{Bad, Verifier};
use gateway_audit::reviewer::private::ReviewerKey;
use gateway_audit::seal::DataKey;
use gateway_audit::tiles::entry::{Bundle, Entry, Joiner};
use gateway_audit::tiles::{Kind, Tile};
use serde_json::Value;

/// The folder of the first lane, which a gateway takes that runs alone.
#[must_use]
pub fn lane(directory: &Path) -> PathBuf {
    directory.join("lane-1")
}

/// The folder of its segments.
#[must_use]
pub fn wal(directory: &Path) -> PathBuf {
    lane(directory).join("wal")
}

/// Every record of the log in `directory`, in order: its bytes as they were written.
///
/// # Errors
/// [`Bad`] names the first record that breaks the chain.
pub fn read_raw(directory: &Path) -> Result<Vec<Vec<u8>>, Bad> {
    let mut segments = BTreeMap::new();
    for entry in std::fs::read_dir(wal(directory)).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut bytes = std::fs::read(entry.path()).unwrap_or_default();
        bytes.truncate(length_without_zeros(&bytes));
        // A segment that is just being made has no header yet.
        if name.starts_with("segment-") && SegmentHeader::decode(&bytes).is_ok() {
            segments.insert(name, bytes);
        }
    }
    let headers: Vec<_> = segments.values().map(|bytes| SegmentHeader::decode(bytes).ok()).collect();
    let first = headers.first().and_then(Option::as_ref).map_or(1, |header| header.first_sequence);
    let mut verifier = Verifier::new();
    let mut records = from_tiles(directory, first);
    for (place, (name, bytes)) in segments.iter().enumerate() {
        let next = headers.get(place + 1).and_then(Option::as_ref);
        verifier.segment(name, bytes, next, |_, frame| records.push((frame.sequence, frame.record.to_vec())))?;
    }
    Ok(records.into_iter().map(|(sequence, record)| plain(directory, sequence, &record)).collect())
}

/// The records before `end`, which are in no segment any more, from tiles.
///
/// # Panics
/// If they are not there.
#[must_use]
pub fn from_tiles(directory: &Path, end: u64) -> Vec<(u64, Vec<u8>)> {
    let mut records = Vec::new();
    if end <= 1 {
        return records;
    }
    let checkpoint = std::fs::read_to_string(lane(directory).join("checkpoint")).expect("a checkpoint");
    let size = checkpoint.lines().nth(1).and_then(|size| size.parse().ok()).expect("a size");
    let mut joiner = Joiner::new(1, usize::MAX);
    for index in 0.. {
        let tile = Tile::in_tree(Kind::Entries, index, size).expect("a tile that holds what no segment does");
        let read = |tile: Tile| std::fs::read(lane(directory).join(tile.path()));
        let bundle = read(tile).or_else(|_| read(tile.full())).expect("a bundle");
        for entry in Bundle::new(&bundle) {
            let entry = Entry::decode(entry).expect("an entry");
            if entry.sequence == end {
                return records;
            }
            let whole = |sequence, record: Option<&[u8]>| records.push((sequence, record.expect("kept").to_vec()));
            joiner.push(&entry, whole).expect("entries in order");
        }
    }
    records
}

/// The key of the reviewer of every clinic's log.
///
/// # Panics
/// Never.
#[must_use]
pub fn reviewer() -> ReviewerKey {
    ReviewerKey::new("auditor", [5; 32], [6; 32]).expect("a reviewer")
}

/// The folder of wrapped data keys of the clinic whose log this is.
fn keys(directory: &Path) -> PathBuf {
    directory.join("../state/audit-keys")
}

/// A record as it was written, from what lies in the log: opened with the reviewer's key.
///
/// # Panics
/// If it does not open.
#[must_use]
pub fn plain(directory: &Path, sequence: u64, envelope: &[u8]) -> Vec<u8> {
    plain_with(&keys(directory), sequence, envelope)
}

/// As [`plain`], with the folder of wrapped data keys.
///
/// # Panics
/// If it does not open.
#[must_use]
pub fn plain_with(keys: &Path, sequence: u64, envelope: &[u8]) -> Vec<u8> {
    static KNOWN: Mutex<BTreeMap<KeyId, (String, Arc<DataKey>)>> = Mutex::new(BTreeMap::new());
    let envelope = Envelope::decode(envelope).expect("an envelope");
    let (site, id) = (envelope.header.site, envelope.header.key);
    let mut known = KNOWN.lock().expect("nobody panicked");
    let (origin, key) = known.entry(id).or_insert_with(|| {
        let periods = std::fs::read_dir(keys.join(site.to_string())).into_iter().flatten().flatten();
        let mut files = periods.filter_map(|period| std::fs::read(period.path().join(id.to_string())).ok());
        let file = files.next().unwrap_or_else(|| panic!("no data key {id} in `{}`", keys.display()));
        let file = KeyFile::parse(&file).expect("a data key's file");
        let key = DataKey::new(&file.open(&reviewer()).expect("wrapped to the reviewer")).expect("a key");
        (file.origin, Arc::new(key))
    });
    key.open(origin, sequence, &envelope).expect("a record that opens at its place")
}

/// Files are filled with zeros ahead of use; looking at them one by one takes the longest by far.
fn length_without_zeros(bytes: &[u8]) -> usize {
    const BLOCK: [u8; 4_096] = [0; 4_096];
    let mut length = bytes.len();
    while length >= BLOCK.len() && bytes[length - BLOCK.len()..length] == BLOCK {
        length -= BLOCK.len();
    }
    // A sealed record may end with zeros.
    (length + BLOCK.len()).min(bytes.len())
}

/// Adds to `known` what the log holds beyond it.
///
/// # Errors
/// As [`read_raw`].
///
/// # Panics
/// If a record is not JSON.
pub fn read_on(directory: &Path, known: &mut Vec<Value>) -> Result<(), Bad> {
    let raw = read_raw(directory)?;
    for bytes in raw.iter().skip(known.len()) {
        known.push(serde_json::from_slice(bytes).expect("every record is JSON"));
    }
    Ok(())
}

/// The value at `path`, such as `connection.source`, as text; empty if there is none.
#[must_use]
pub fn text<'a>(record: &'a Value, path: &str) -> &'a str {
    path.split('.').fold(record, |value, key| &value[key]).as_str().unwrap_or_default()
}

/// The record is of this kind.
#[must_use]
pub fn is(record: &Value, kind: &str) -> bool {
    text(record, "kind") == kind
}
