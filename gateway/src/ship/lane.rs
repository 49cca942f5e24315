//! The lanes of a log as a shipper reads them: signed checkpoints, and the records that they cover, from tiles.

use std::path::{Path, PathBuf};

use gateway_audit::checkpoint::Checkpoint;
use gateway_audit::frame::MAX_RECORD;
use gateway_audit::merkle::{self, Frontier};
use gateway_audit::note::{MAX_NOTE, VerifierKey};
use gateway_audit::tiles::entry::{Bundle, Entry, Joiner};
use gateway_audit::tiles::{CHECKPOINT, Files as _, Kind, MAX_BUNDLE, Tile, TileHashes, WIDTH};
use gateway_verify::{Directory, verifier_keys};

use super::Fault;
pub use crate::audit::LANES;
use crate::audit::{VERIFIER_KEYS, lane_directory};

/// Where the log lies, and the keys that sign it.
#[derive(Debug, Clone)]
pub struct Log {
    directory: PathBuf,
    keys: PathBuf,
}

impl Log {
    /// The log in a directory. The file of verifier keys is the log's own list unless given.
    #[must_use]
    pub fn new(directory: &Path, keys: Option<&Path>) -> Self {
        let keys = keys.map_or_else(|| directory.join(VERIFIER_KEYS), Path::to_owned);
        Self { directory: directory.to_owned(), keys }
    }

    /// A lane as it is at this moment; none if it has no checkpoint. Lanes are numbered from 1 to [`LANES`].
    ///
    /// # Errors
    /// [`Fault::Log`] if its checkpoint cannot be read, or is not one that the log's key signed.
    pub fn lane(&self, number: u8) -> Result<Option<Lane>, Fault> {
        let (directory, name) = (lane_directory(&self.directory, number), format!("lane-{number}"));
        let note = Directory(directory.clone()).read(CHECKPOINT, MAX_NOTE);
        let Some(note) = note.map_err(|error| Fault::Log(format!("`{name}/{CHECKPOINT}`: {error}")))? else {
            return Ok(None);
        };
        let keys = verifier_keys(&self.keys.display().to_string()).map_err(|error| Fault::Log(error.to_string()))?;
        Lane::open(name, directory, note, &keys).map(Some)
    }
}

/// A lane at one of its checkpoints.
#[derive(Debug, Clone)]
pub struct Lane {
    /// Its folder's name, `lane-1`.
    pub name: String,
    /// Its folder.
    pub directory: PathBuf,
    /// The signed checkpoint as it lies on disk.
    pub note: Vec<u8>,
    /// What it says; its signature was verified.
    pub checkpoint: Checkpoint,
    /// The key that it was verified with.
    pub key: VerifierKey,
}

/// A record as it lies in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its number.
    pub sequence: u64,
    /// Its envelope.
    pub envelope: Vec<u8>,
    /// How many entries the lane has up to and with this record.
    pub end: u64,
}

impl Lane {
    fn open(name: String, directory: PathBuf, note: Vec<u8>, keys: &[VerifierKey]) -> Result<Self, Fault> {
        let fault = |error: &dyn std::fmt::Display| Fault::Log(format!("`{name}/{CHECKPOINT}`: {error}"));
        let text = String::from_utf8_lossy(&note).into_owned();
        let origin = text.lines().next().unwrap_or_default();
        let key = keys.iter().find(|key| key.name() == origin);
        let key = key.ok_or_else(|| fault(&format!("no key is for the log `{}`", origin.escape_debug())))?.clone();
        let signed = Checkpoint::open(&note, &key, &[]).map_err(|error| fault(&error))?;
        Ok(Self { name, directory, note, checkpoint: signed.checkpoint, key })
    }

    /// The records behind the first `from` entries, at least one and otherwise no more than `records` records or `bytes`
    /// bytes; none if there is none. `from` is the end of a record.
    ///
    /// # Errors
    /// [`Fault::Log`] names what is missing or is not an entry that belongs there.
    pub fn records(&self, from: u64, records: usize, bytes: usize) -> Result<Vec<Sealed>, Fault> {
        let mut found = Vec::new();
        let (mut index, mut taken) = (from, 0);
        let mut files = Directory(self.directory.clone());
        let mut hashes = TileHashes::new(&mut files, self.checkpoint.size);
        let mut joiner: Option<Joiner> = None;
        while index < self.checkpoint.size {
            let bundle = self.bundle(index / WIDTH, &mut hashes)?;
            let skip = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
            let room = usize::try_from(self.checkpoint.size - index / WIDTH * WIDTH).unwrap_or(usize::MAX);
            for entry in Bundle::new(&bundle).take(room).skip(skip) {
                let entry = Entry::decode(entry).map_err(|error| self.fault(index, &error))?;
                let joiner = joiner.get_or_insert_with(|| Joiner::new(entry.sequence, MAX_RECORD));
                index += 1;
                let whole = |sequence, envelope: Option<&[u8]>| {
                    let envelope = envelope.unwrap_or_default().to_vec();
                    taken += envelope.len();
                    found.push(Sealed { sequence, envelope, end: index });
                };
                joiner.push(&entry, whole).map_err(|error| self.fault(index - 1, &error))?;
                if joiner.is_between_records() && (found.len() >= records || taken >= bytes) {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// A bundle of which the signed root has vouched for every entry: a file that is removed or replaced while it is read
    /// is noticed, as is one that was changed.
    fn bundle(&self, number: u64, hashes: &mut TileHashes<'_, Directory>) -> Result<Vec<u8>, Fault> {
        let (size, start) = (self.checkpoint.size, number * WIDTH);
        let fault = |error: &dyn std::fmt::Display| self.fault(start, error);
        let tile = Tile::in_tree(Kind::Entries, number, size).ok_or_else(|| fault(&"there is none"))?;
        let mut read = |tile: Tile| hashes.files().read(&tile.path(), MAX_BUNDLE).map_err(|error| fault(&error));
        let bytes = match read(tile)? {
            Some(bytes) => bytes,
            None => read(tile.full())?.ok_or_else(|| fault(&format!("`{tile}` is not there")))?,
        };
        let mut root = Frontier::new();
        let (mut entries, mut count) = (Bundle::new(&bytes), 0);
        for entry in entries.by_ref().take(usize::from(tile.width)) {
            root.push(merkle::leaf_hash(entry));
            count += 1;
        }
        let end = start + u64::from(tile.width);
        let signed = merkle::root_with(hashes, start, end, size, root.root()).map_err(|error| fault(&error))?;
        if count != tile.width || signed != self.checkpoint.root {
            return Err(fault(&format!("`{tile}` does not hold the entries that were signed")));
        }
        Ok(bytes)
    }

    fn fault(&self, index: u64, error: &dyn std::fmt::Display) -> Fault {
        Fault::Log(format!("`{}`, entry {index}: {error}", self.name))
    }
}

#[cfg(test)]
mod tests;
