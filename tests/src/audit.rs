//! Reading the audit log while the gateway writes it.

use std::collections::BTreeMap;
use std::path::Path;

use gateway_audit::frame::SegmentHeader;
use gateway_audit::reader::{Bad, Verifier};
use serde_json::Value;

/// Every record of the log in `directory`, in order: its bytes as they lie on disk.
///
/// # Errors
/// [`Bad`] names the first record that breaks the chain.
pub fn read_raw(directory: &Path) -> Result<Vec<Vec<u8>>, Bad> {
    let mut segments = BTreeMap::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut bytes = std::fs::read(entry.path()).unwrap_or_default();
        bytes.truncate(length_without_zeros(&bytes));
        // A segment that is just being made has no header yet.
        if name.starts_with("segment-") && SegmentHeader::decode(&bytes).is_ok() {
            segments.insert(name, bytes);
        }
    }
    let headers: Vec<_> = segments.values().map(|bytes| SegmentHeader::decode(bytes).ok()).collect();
    let mut verifier = Verifier::new();
    let mut records = Vec::new();
    for (place, (name, bytes)) in segments.iter().enumerate() {
        let next = headers.get(place + 1).and_then(Option::as_ref);
        verifier.segment(name, bytes, next, |_, frame| records.push(frame.record.to_vec()))?;
    }
    Ok(records)
}

/// Files are filled with zeros ahead of use; looking at them one by one takes the longest by far.
fn length_without_zeros(bytes: &[u8]) -> usize {
    const BLOCK: [u8; 4_096] = [0; 4_096];
    let mut length = bytes.len();
    while length >= BLOCK.len() && bytes[length - BLOCK.len()..length] == BLOCK {
        length -= BLOCK.len();
    }
    length
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
