//! The tree from the entries alone, where tiles of hashes are damaged.

use super::trust::Trust;
use super::{Bad, Fault, VerifyError, bundle, classify};
use crate::checkpoint::Checkpoint;
use crate::merkle::{Hash, leaf_hash};
use crate::tiles::entry::{Bundle, Entry, Joiner, OutOfOrder};
use crate::tiles::source::{self, ReadError};
use crate::tiles::{CHECKPOINT, Files, HASH_BYTES, HashTiles, Kind, Tile, WIDTH};

/// What the entries tell.
struct Pass {
    hashes: HashTiles,
    joiner: Joiner,
    /// The first tile of hashes that is not the one computed, and the first of its entries.
    tile: Option<(String, u64)>,
    /// The first entry that its tile does not name, with its bundle's bytes and the record that belongs there.
    entry: Option<(Tile, u64, Vec<u8>, u64)>,
    /// The first entry that does not follow the one before it.
    numbering: Option<(Tile, u64, Option<OutOfOrder>)>,
    /// Whether the tree begins with the older checkpoint's.
    continues: bool,
}

/// Names the first bad entry of a log of which some tile of hashes is bad.
pub(super) fn name<F: Files>(files: &mut F, size: u64, root: &Hash, older: Option<&Checkpoint>) -> VerifyError {
    match bad(files, size, root, older) {
        Ok(bad) => bad.into(),
        Err(error) => error,
    }
}

fn bad<F: Files>(files: &mut F, size: u64, root: &Hash, older: Option<&Checkpoint>) -> Result<Bad, VerifyError> {
    let mut pass = Pass {
        hashes: HashTiles::new(),
        joiner: Joiner::new(1, 0),
        tile: None,
        entry: None,
        numbering: None,
        continues: false,
    };
    for number in 0..size.div_ceil(WIDTH) {
        let Some(tile) = Tile::in_tree(Kind::Entries, number, size) else { break };
        if let Some(missing) = pass.bundle(files, tile, size, older)? {
            return pass.first(files, size, missing);
        }
    }
    let mut edge = Vec::new();
    pass.hashes.partial(&mut |tile, bytes| edge.push((tile, bytes.to_vec())));
    for (tile, bytes) in edge {
        pass.compare(files, tile, &bytes)?;
    }
    let whole = 0..size;
    if pass.hashes.root() == *root {
        let (path, first) = pass.tile.unwrap_or_else(|| (CHECKPOINT.to_owned(), 0));
        return Ok(Bad { path, entries: first..first.saturating_add(1), sequence: None, fault: Fault::Tile });
    }
    let start = older.filter(|_| pass.continues).map_or(whole.start, |older| older.size);
    let forked = Bad { path: CHECKPOINT.to_owned(), entries: start..size, sequence: None, fault: Fault::Forked };
    pass.first(files, size, forked)
}

impl Pass {
    /// Takes a bundle's entries. Says so if it is missing or has another number of entries: then nothing behind it can
    /// be told.
    fn bundle<F: Files>(
        &mut self,
        files: &mut F,
        tile: Tile,
        size: u64,
        older: Option<&Checkpoint>,
    ) -> Result<Option<Bad>, VerifyError> {
        let first = tile.index * WIDTH;
        let sequence = Some(self.joiner.sequence()).filter(|_| self.numbering.is_none());
        let Some(read) = bundle(files, tile)? else {
            let fault = classify::missing(files, tile.index, size)?;
            return Ok(Some(Bad { path: tile.path(), entries: first..size, sequence, fault }));
        };
        let named = Tile::in_tree(Kind::Hashes(0), tile.index, size);
        let named = named.and_then(|named| source::read_hashes(files, named).ok()).unwrap_or_default();
        let named = named.as_chunks::<HASH_BYTES>().0;
        let mut entries = Bundle::new(&read.bytes);
        let mut full = Vec::new();
        let mut index = first;
        for (place, bytes) in entries.by_ref().take(usize::from(tile.width)).enumerate() {
            let hash = leaf_hash(bytes);
            if self.entry.is_none() && named.get(place).is_some_and(|named| *named != hash) {
                self.entry = Some((tile, index, read.bytes.clone(), self.joiner.sequence()));
            }
            if self.numbering.is_none() {
                let followed = Entry::decode(bytes).map_err(|_| None);
                if let Err(error) = followed.and_then(|entry| self.joiner.push(&entry, |_, _| {}).map_err(Some)) {
                    self.numbering = Some((tile, index, error));
                }
            }
            self.hashes.push(hash, &mut |tile, bytes| full.push((tile, bytes.to_vec())));
            index += 1;
            if let Some(older) = older.filter(|older| older.size == index) {
                self.continues = older.root == self.hashes.root();
            }
        }
        for (tile, bytes) in full {
            self.compare(files, tile, &bytes)?;
        }
        let sequence = Some(self.joiner.sequence()).filter(|_| self.numbering.is_none());
        let bad = |fault| Bad { path: tile.path(), entries: index..index.saturating_add(1), sequence, fault };
        if index < first + u64::from(tile.width) {
            let fault = classify::ended(files, tile, size, &entries)?;
            return Ok(Some(bad(fault)));
        }
        Ok((!entries.is_whole() && !read.full).then(|| bad(Fault::Inserted)))
    }

    /// Compares a tile of hashes with the one in the log.
    fn compare<F: Files>(&mut self, files: &mut F, tile: Tile, bytes: &[u8]) -> Result<(), VerifyError> {
        let Kind::Hashes(level) = tile.kind else { return Ok(()) };
        let same = match source::read_hashes(files, tile) {
            Ok(found) => found == bytes,
            Err(error @ ReadError::Unreadable { .. }) => return Err(VerifyError::Read(error)),
            Err(ReadError::Missing { .. } | ReadError::Length { .. }) => false,
        };
        if !same && self.tile.is_none() {
            let first = tile.index.checked_shl(8 * u32::from(level) + 8).unwrap_or(0);
            self.tile = Some((tile.path(), first));
        }
        Ok(())
    }

    /// The first of what was found; `last` if nothing comes before it.
    fn first<F: Files>(self, files: &mut F, size: u64, last: Bad) -> Result<Bad, VerifyError> {
        let limit = if last.fault == Fault::Forked { u64::MAX } else { last.entries.start };
        let entry = self.entry.filter(|(_, index, ..)| *index < limit);
        let numbering = self.numbering.filter(|(_, index, _)| *index < limit);
        if let Some((tile, index, bytes, sequence)) = entry
            && numbering.as_ref().is_none_or(|(_, before, _)| index <= *before)
        {
            let fault = classify::mismatch(&mut Trust::blindly(files, size), tile, index, &bytes, sequence)?;
            return Ok(Bad {
                path: tile.path(),
                entries: index..index.saturating_add(1),
                sequence: Some(sequence),
                fault,
            });
        }
        let Some((tile, index, error)) = numbering else { return Ok(last) };
        let fault = match error {
            None => Fault::Altered,
            Some(error) => classify::misnumbered(files, size, index, &error)?,
        };
        let sequence = error.map(|error| error.expected_sequence);
        Ok(Bad { path: tile.path(), entries: index..index.saturating_add(1), sequence, fault })
    }
}
