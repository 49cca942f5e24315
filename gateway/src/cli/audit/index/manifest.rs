//! A lane's manifest: what its index covers, of which segments it consists, and how its data keys were found.
//!
//! It is one sealed block behind its random id, and replaced as a whole: a crash leaves the old one or the new one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gateway_audit::header::Pseudonym;
use gateway_audit::note::MAX_NOTE;

use super::IndexError;
use super::runs::{put, take, take_bytes};
use super::seal::{ID, IndexKey, TAG, random};
use super::segment::SegmentAt;

const FILE: &str = "manifest";
const KIND: &str = "manifest";
const VERSION: u64 = 1;

/// How a data key was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It opens for this reviewer: what is under it is in the index.
    Opened,
    /// It is not there, so that nothing under it is.
    Gone,
    /// It is there, and does not open for this reviewer.
    Closed,
}

/// What tells that a key's file was changed: length, time of change in nanoseconds, inode.
pub(super) type Stamp = (u64, u64, u64);

/// A data key of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KnownKey {
    pub(super) site: Pseudonym,
    /// Records under it.
    pub(super) records: u64,
    pub(super) state: State,
    pub(super) stamp: Stamp,
}

/// What the index of a lane is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Manifest {
    /// The signed checkpoint that covers all that is in the index; empty if nothing is.
    pub(super) note: Vec<u8>,
    /// Place of the first entry that is not in it.
    pub(super) entry: u64,
    /// Sequence number of the first record that is not in it.
    pub(super) sequence: u64,
    /// In order, each beginning where the one before ends, but where records were removed.
    pub(super) segments: Vec<SegmentAt>,
    pub(super) keys: BTreeMap<[u8; 16], KnownKey>,
    /// Records that do not open though their key does.
    pub(super) unreadable: u64,
}

impl Manifest {
    pub(super) fn new() -> Self {
        Self { sequence: 1, ..Self::default() }
    }

    /// Reads a lane's manifest; none if there is none.
    ///
    /// # Errors
    /// [`IndexError::Torn`] if it is not what was written.
    pub(super) fn load(folder: &Path, key: &IndexKey, lane: &[u8; 32]) -> Result<Option<Self>, IndexError> {
        let path = folder.join(FILE);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(IndexError::io(&path))?,
        };
        let torn = || IndexError::Torn(PathBuf::from(&path));
        let (id, sealed) = bytes.split_first_chunk::<ID>().filter(|(_, rest)| rest.len() >= TAG).ok_or_else(torn)?;
        let block = key.file(KIND, lane, id)?.open(0, sealed.to_vec()).ok_or_else(torn)?;
        Self::decode(&block).map(Some).ok_or_else(torn)
    }

    /// Replaces a lane's manifest; durable when it returns.
    pub(super) fn store(&self, folder: &Path, key: &IndexKey, lane: &[u8; 32]) -> Result<(), IndexError> {
        let id = random()?;
        let mut block = self.encode();
        key.file(KIND, lane, &id)?.seal(0, &mut block)?;
        let bytes = [&id[..], &block].concat();
        let path = folder.join(FILE);
        crate::replace::replace(&path, &bytes, 0o600).map_err(IndexError::io(&path))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let number = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        put(&mut out, VERSION);
        put(&mut out, number(self.note.len()));
        out.extend_from_slice(&self.note);
        [self.entry, self.sequence, self.unreadable].iter().for_each(|number| put(&mut out, *number));
        put(&mut out, number(self.segments.len()));
        for at in &self.segments {
            out.extend_from_slice(&at.id);
            [at.length, at.directory, at.first, at.end, at.entry].iter().for_each(|number| put(&mut out, *number));
        }
        put(&mut out, number(self.keys.len()));
        for (id, known) in &self.keys {
            out.extend_from_slice(id);
            out.extend_from_slice(&known.site.0);
            let state = match known.state {
                State::Opened => 0,
                State::Gone => 1,
                State::Closed => 2,
            };
            let (length, changed, inode) = known.stamp;
            [state, known.records, length, changed, inode].iter().for_each(|number| put(&mut out, *number));
        }
        out
    }

    /// Whatever the bytes are, they are read or they are not.
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let bytes = &mut bytes;
        if take(bytes)? != VERSION {
            return None;
        }
        let length = take(bytes).filter(|length| *length <= u64::try_from(MAX_NOTE).unwrap_or(0))?;
        let note = take_bytes(bytes, length)?.to_vec();
        let (entry, sequence, unreadable) = (take(bytes)?, take(bytes)?, take(bytes)?);
        let mut segments: Vec<SegmentAt> = Vec::new();
        let mut next = 1;
        for _ in 0..take(bytes)? {
            let id = take_bytes(bytes, 32)?.try_into().ok()?;
            let (length, directory) = (take(bytes)?, take(bytes)?);
            let at = SegmentAt { id, length, directory, first: take(bytes)?, end: take(bytes)?, entry: take(bytes)? };
            // Records that were removed before the index came to them leave a gap.
            if at.first < next || at.end <= at.first {
                return None;
            }
            next = at.end;
            segments.push(at);
        }
        let mut keys = BTreeMap::new();
        for _ in 0..take(bytes)? {
            let id: [u8; 16] = take_bytes(bytes, 16)?.try_into().ok()?;
            let site = Pseudonym(take_bytes(bytes, 8)?.try_into().ok()?);
            let state = match take(bytes)? {
                0 => State::Opened,
                1 => State::Gone,
                2 => State::Closed,
                _ => return None,
            };
            let (records, stamp) = (take(bytes)?, (take(bytes)?, take(bytes)?, take(bytes)?));
            keys.insert(id, KnownKey { site, records, state, stamp });
        }
        (bytes.is_empty() && next <= sequence).then_some(Self { note, entry, sequence, segments, keys, unreadable })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest() -> Manifest {
        let at = |byte, first, end| SegmentAt { id: [byte; 32], length: 900, directory: 700, first, end, entry: first };
        let known = KnownKey { site: Pseudonym([1; 8]), records: 7, state: State::Closed, stamp: (5, u64::MAX, 9) };
        Manifest {
            note: b"a note".to_vec(),
            entry: 12,
            sequence: 10,
            segments: vec![at(1, 1, 4), at(2, 4, 10)],
            keys: BTreeMap::from([([3; 16], known), ([4; 16], KnownKey { state: State::Gone, ..known })]),
            unreadable: 1,
        }
    }

    #[test]
    fn a_manifest_comes_back_to_its_reviewer_at_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let reviewer = |byte| gateway_audit::reviewer::private::ReviewerKey::new("r", [byte; 32], [1; 32]).unwrap();
        let key = |byte| IndexKey::derive(&reviewer(byte), &[9; 32]).unwrap();
        assert_eq!(Manifest::load(folder.path(), &key(1), &[2; 32]).unwrap(), None);
        manifest().store(folder.path(), &key(1), &[2; 32]).unwrap();
        assert_eq!(Manifest::load(folder.path(), &key(1), &[2; 32]).unwrap(), Some(manifest()));
        for (byte, lane) in [(3, [2; 32]), (1, [1; 32])] {
            let torn = Manifest::load(folder.path(), &key(byte), &lane);
            assert!(matches!(torn, Err(IndexError::Torn(_))));
        }
        let path = folder.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 0x20;
            for bytes in [&changed, &whole[..place]] {
                fs::write(&path, bytes).unwrap();
                assert!(matches!(Manifest::load(folder.path(), &key(1), &[2; 32]), Err(IndexError::Torn(_))));
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_manifest_or_none(bytes: Vec<u8>, cut: prop::sample::Index, place: prop::sample::Index, byte: u8) {
            let _ = Manifest::decode(&bytes);
            let whole = manifest().encode();
            prop_assert_eq!(Manifest::decode(&whole), Some(manifest()));
            prop_assert_eq!(Manifest::decode(&whole[..cut.index(whole.len())]), None);
            let mut changed = whole;
            let place = place.index(changed.len());
            changed[place] = byte;
            // A smaller count can make a shorter manifest that is whole, so that nothing is asked of this but to end.
            let _ = Manifest::decode(&changed);
            let _ = Manifest::decode(&changed[..cut.index(changed.len())]);
        }
    }
}
