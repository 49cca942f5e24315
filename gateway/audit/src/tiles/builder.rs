//! Tiles from appended entries, in bounded memory.

use std::fmt;

use super::entry::{Bundle, Entry, RecordLength};
use super::{Files, HASH_BYTES, Kind, MAX_BUNDLE, ReadError, Tile, WIDTH, source};
use crate::merkle::{Frontier, Hash, empty_root, leaf_hash};

/// One level's unfinished tile.
#[derive(Debug, Clone, Default)]
struct Level {
    bytes: Vec<u8>,
    frontier: Frontier,
}

/// The tiles of hashes of a growing tree. Holds one unfinished tile for each level, 64 KiB at most.
#[derive(Debug, Clone, Default)]
pub struct HashTiles {
    size: u64,
    levels: Vec<Level>,
}

impl HashTiles {
    /// The tree without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of entries.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The tree's root.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.levels.iter().fold(None, |right, level| level.frontier.fold(right)).unwrap_or_else(empty_root)
    }

    /// Appends an entry's hash; `full` gets each tile that it completes, lowest level first.
    pub fn push(&mut self, leaf: Hash, full: &mut impl FnMut(Tile, &[u8])) {
        let mut hash = leaf;
        self.size = self.size.saturating_add(1);
        for level in 0..super::LEVELS {
            let place = usize::from(level);
            if self.levels.len() <= place {
                self.levels.push(Level::default());
            }
            let Some(unfinished) = self.levels.get_mut(place) else { return };
            unfinished.bytes.extend_from_slice(&hash);
            unfinished.frontier.push(hash);
            if unfinished.frontier.size() < WIDTH {
                return;
            }
            hash = unfinished.frontier.root();
            let index = self.size.checked_shr(8 * u32::from(level) + 8).unwrap_or(0).saturating_sub(1);
            full(Tile { kind: Kind::Hashes(level), index, width: 256 }, &unfinished.bytes);
            unfinished.bytes.clear();
            unfinished.frontier.clear();
        }
    }

    /// The unfinished tiles, as a checkpoint of this size needs them, lowest level first.
    pub fn partial(&self, tile: &mut impl FnMut(Tile, &[u8])) {
        for (level, unfinished) in (0..super::LEVELS).zip(&self.levels) {
            let index = self.size.checked_shr(8 * u32::from(level) + 8).unwrap_or(0);
            if let Some(place) = Tile::in_tree(Kind::Hashes(level), index, self.size) {
                tile(place, &unfinished.bytes);
            }
        }
    }

    /// The bytes of a level's unfinished tile.
    pub(crate) fn unfinished(&self, level: u8) -> Option<&[u8]> {
        self.levels.get(usize::from(level)).map(|level| level.bytes.as_slice())
    }

    /// Takes up a tree of `size` entries from its unfinished tiles. Whoever calls compares the root.
    ///
    /// # Errors
    /// [`ReadError`] if a tile is missing or has another length.
    pub fn resume<F: Files>(files: &mut F, size: u64) -> Result<Self, ReadError> {
        let mut tiles = Self { size, levels: Vec::new() };
        for level in 0..super::LEVELS {
            let below = size >> (8 * u32::from(level));
            if below == 0 {
                break;
            }
            let mut unfinished = Level::default();
            if let Some(tile) = Tile::in_tree(Kind::Hashes(level), below / WIDTH, size) {
                unfinished.bytes = source::read_hashes(files, tile)?;
                for hash in unfinished.bytes.as_chunks::<HASH_BYTES>().0 {
                    unfinished.frontier.push(*hash);
                }
            }
            tiles.levels.push(unfinished);
        }
        Ok(tiles)
    }
}

/// Why a log cannot be continued from its tiles. They are derived: build them again from the records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    /// A tile is missing or damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The unfinished tiles do not lead to the checkpoint's root.
    #[error("the tiles of {size} entries have another root than the checkpoint")]
    Root {
        /// The size at which they were to be taken up.
        size: u64,
    },
    /// The last bundle is not that of the last tile.
    #[error("`{path}` does not hold the entries that its tile names")]
    Bundle {
        /// The bundle's path.
        path: String,
    },
}

/// All tiles of a growing log, entries included. Holds one unfinished tile for each level and one unfinished bundle,
/// [`MAX_BUNDLE`] bytes at most.
#[derive(Clone, Default)]
pub struct Builder {
    hashes: HashTiles,
    bundle: Vec<u8>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("size", &self.size()).finish_non_exhaustive()
    }
}

impl Builder {
    /// A log without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of entries.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.hashes.size()
    }

    /// The tree's root.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.hashes.root()
    }

    /// The tiles of hashes alone.
    #[must_use]
    pub const fn hashes(&self) -> &HashTiles {
        &self.hashes
    }

    /// Appends an entry; `full` gets each bundle and tile that it completes, with the bytes of its file. Files of
    /// full tiles never change again.
    ///
    /// # Errors
    /// [`RecordLength`] if the entry does not fit; nothing is appended.
    pub fn push(&mut self, entry: &[u8], full: &mut impl FnMut(Tile, &[u8])) -> Result<(), RecordLength> {
        Bundle::append(&mut self.bundle, entry)?;
        self.take(leaf_hash(entry), full);
        Ok(())
    }

    /// As [`push`](Self::push), of an entry whose hash is known already.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_hashed(
        &mut self,
        entry: &Entry<'_>,
        leaf: Hash,
        full: &mut impl FnMut(Tile, &[u8]),
    ) -> Result<(), RecordLength> {
        Bundle::append_entry(&mut self.bundle, entry)?;
        self.take(leaf, full);
        Ok(())
    }

    /// Counts the entry that was just appended to the bundle.
    fn take(&mut self, leaf: Hash, full: &mut impl FnMut(Tile, &[u8])) {
        let index = self.hashes.size() / WIDTH;
        if self.hashes.size() % WIDTH == WIDTH - 1 {
            full(Tile { kind: Kind::Entries, index, width: 256 }, &self.bundle);
            self.bundle.clear();
        }
        self.hashes.push(leaf, full);
    }

    /// The unfinished bundle and tiles, as a checkpoint of this size needs them. They belong on stable storage before
    /// the checkpoint does.
    pub fn partial(&self, tile: &mut impl FnMut(Tile, &[u8])) {
        let size = self.hashes.size();
        if let Some(place) = Tile::in_tree(Kind::Entries, size / WIDTH, size) {
            tile(place, &self.bundle);
        }
        self.hashes.partial(tile);
    }

    /// Continues a log of `size` entries whose checkpoint says `root`, from its unfinished tiles and bundle.
    ///
    /// # Errors
    /// [`ResumeError`] if they are missing, damaged or others.
    pub fn resume<F: Files>(files: &mut F, size: u64, root: &Hash) -> Result<Self, ResumeError> {
        let hashes = HashTiles::resume(files, size)?;
        if hashes.root() != *root {
            return Err(ResumeError::Root { size });
        }
        let mut bundle = Vec::new();
        if let Some(tile) = Tile::in_tree(Kind::Entries, size / WIDTH, size) {
            let mut read = source::read(files, tile, MAX_BUNDLE)?.bytes;
            let mut entries = Bundle::new(&read);
            let mut leaves = Vec::with_capacity(8_192);
            entries
                .by_ref()
                .take(usize::from(tile.width))
                .for_each(|entry| leaves.extend_from_slice(&leaf_hash(entry)));
            let length = read.len() - entries.rest_len();
            if hashes.levels.first().is_none_or(|level| level.bytes != leaves) {
                return Err(ResumeError::Bundle { path: tile.path() });
            }
            read.truncate(length);
            bundle = read;
        }
        Ok(Self { hashes, bundle })
    }
}
