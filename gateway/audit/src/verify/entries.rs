//! Single entries of a log, each checked against the root.

use super::trust::{Trust, Untrusted};
use super::{Against, Bad, Fault, Removed, Stop, VerifyError, begin, bundle_into, classify, follows, removed};
use crate::checkpoint::{Checkpoint, Signed};
use crate::merkle::{Hash, leaf_hash};
use crate::note::VerifierKey;
use crate::tiles::entry::{Bundle, Entry};
use crate::tiles::{CHECKPOINT, Files, Kind, Tile, WIDTH};

/// A log whose entries are taken one by one. Holds one bundle, and one tile of hashes for each level: entries that are
/// taken in order cost the least.
#[derive(Debug)]
pub struct Entries<'a, F> {
    trust: Trust<'a, F>,
    number: Option<u64>,
    bytes: Vec<u8>,
    root: Hash,
}

impl<'a, F: Files> Entries<'a, F> {
    /// Opens a log: checks its checkpoint, the unfinished tiles against that, and that it continues an older checkpoint.
    ///
    /// # Errors
    /// [`VerifyError`], as [`verify`](super::verify).
    pub fn open(files: &'a mut F, log: &VerifierKey, against: Against<'_>) -> Result<(Self, Signed), VerifyError> {
        let (signed, older) = begin(files, log, against)?;
        let Checkpoint { size, root, .. } = signed.checkpoint;
        follows(files, size, &root, older.as_ref())?;
        let trust = Trust::new(files, size, &root).map_err(|untrusted| damaged(untrusted, 0, size))?;
        Ok((Self { trust, number: None, bytes: Vec::new(), root }, signed))
    }

    /// What was removed by retention, if the log says that anything was: those entries need not be there.
    ///
    /// # Errors
    /// [`VerifyError::Bad`] if a tile of hashes is damaged, [`VerifyError::Read`] if a file cannot be read.
    pub fn removed(&mut self) -> Result<Option<Removed>, VerifyError> {
        let size = self.trust.size();
        removed::find(&mut self.trust, &self.root).map_err(|stop| match stop {
            Stop::Error(error) => *error,
            Stop::Tiles => damaged(Untrusted::Damaged, 0, size),
        })
    }

    /// The entry at this place, from 0, after it has been checked against the root; none behind the last.
    ///
    /// # Errors
    /// [`VerifyError::Bad`] if something else stands there, or a tile of hashes over it is damaged, and
    /// [`VerifyError::Read`] if a file cannot be read.
    pub fn get(&mut self, index: u64) -> Result<Option<Entry<'_>>, VerifyError> {
        let size = self.trust.size();
        let number = index / WIDTH;
        let Some(tile) = Tile::in_tree(Kind::Entries, number, size).filter(|_| index < size) else { return Ok(None) };
        let expected = self.trust.leaf(index).map_err(|untrusted| damaged(untrusted, index, size))?;
        let bad = |entries, fault| VerifyError::from(Bad { path: tile.path(), entries, sequence: None, fault });
        if self.number != Some(number) {
            self.number = None;
            match bundle_into(self.trust.files(), tile, std::mem::take(&mut self.bytes))? {
                Some(read) => self.bytes = read.bytes,
                None => {
                    let fault = classify::missing(self.trust.files(), number, size)?;
                    return Err(bad(number * WIDTH..size, fault));
                }
            }
            self.number = Some(number);
        }
        let place = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
        let Some(entry) = Bundle::new(&self.bytes).nth(place).filter(|entry| leaf_hash(entry) == expected) else {
            // Without the record's number, no entry is taken for one that moved far.
            let fault = classify::mismatch(&mut self.trust, tile, index, &self.bytes, u64::MAX)?;
            return Err(bad(index..index + 1, fault));
        };
        Entry::decode(entry).map(Some).map_err(|error| bad(index..index + 1, Fault::Entry(error)))
    }
}

fn damaged(untrusted: Untrusted, index: u64, size: u64) -> VerifyError {
    match untrusted {
        Untrusted::Unreadable(error) => VerifyError::Read(error),
        Untrusted::Damaged => {
            let tile = Tile::in_tree(Kind::Hashes(0), index / WIDTH, size);
            let path = tile.map_or_else(|| CHECKPOINT.to_owned(), |tile| tile.path());
            Bad { path, entries: index..index.saturating_add(1), sequence: None, fault: Fault::Tile }.into()
        }
    }
}
