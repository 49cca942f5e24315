//! Tiles: how a tree and its entries lie in files (C2SP tlog-tiles).
//!
//! Level `L` of the tiles holds the hashes of complete subtrees of 256^L entries, 256 in a full tile. The rightmost
//! tile of a level may be partial; its path ends in `.p/<width>`. Beside them stand bundles of entries
//! ([`entry`]), one for each tile of level 0. Everything a [`Builder`] gives out is derived from the entries alone.

mod builder;
pub mod entry;
pub(crate) mod source;

pub use builder::{Builder, HashTiles, ResumeError};
pub use source::{ReadError, TileHashes};

use std::fmt::{self, Write as _};

/// Hashes in a full tile, entries in a full bundle.
pub const WIDTH: u64 = 256;
/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;
/// Levels that a tree of less than 2^64 entries can have.
pub const LEVELS: u8 = 8;
/// The longest bundle, bytes: 256 entries with their length prefixes.
pub const MAX_BUNDLE: usize = 256 * (2 + entry::MAX_ENTRY);
/// Path of the newest checkpoint.
pub const CHECKPOINT: &str = "checkpoint";

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Hashes of subtrees of 256^level entries; the level is below [`LEVELS`].
    Hashes(u8),
    /// The entries themselves.
    Entries,
}

/// One tile's place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    /// What it holds.
    pub kind: Kind,
    /// Its place in its level.
    pub index: u64,
    /// Number of hashes or entries, 1 to 256.
    pub width: u16,
}

impl Tile {
    /// Tile `index` of its kind in a tree of `size` entries, full or partial; none if it would be empty.
    #[must_use]
    pub fn in_tree(kind: Kind, index: u64, size: u64) -> Option<Self> {
        let level = match kind {
            Kind::Hashes(level) if level < LEVELS => level,
            Kind::Hashes(_) => return None,
            Kind::Entries => 0,
        };
        let hashes = size >> (8 * u32::from(level));
        let width = hashes.checked_sub(index.checked_mul(WIDTH)?)?.min(WIDTH);
        (width > 0).then(|| Self { kind, index, width: u16::try_from(width).unwrap_or(u16::MAX) })
    }

    /// Whether it has all of its 256 hashes or entries.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.width as u64 == WIDTH
    }

    /// The full tile at the same place.
    #[must_use]
    pub const fn full(self) -> Self {
        Self { width: 256, ..self }
    }

    /// Its path, relative to the log's directory.
    #[must_use]
    pub fn path(&self) -> String {
        self.to_string()
    }

    /// Reads a path strictly; anything but what [`Tile::path`] writes is none.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let kind = match kind {
            "entries" => Kind::Entries,
            level => Kind::Hashes(level.parse().ok().filter(|level| *level < LEVELS)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok().filter(|width| (1..256).contains(width))?),
            None => (rest, 256),
        };
        let mut index = 0_u64;
        for part in number.split('/') {
            let digits = part.strip_prefix('x').unwrap_or(part);
            if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            index = index.checked_mul(1_000)?.checked_add(digits.parse().ok()?)?;
        }
        let tile = Self { kind, index, width };
        (tile.path() == path).then_some(tile)
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Hashes(level) => write!(f, "tile/{level}/")?,
            Kind::Entries => f.write_str("tile/entries/")?,
        }
        let mut unit = 1_u64;
        while self.index / unit >= 1_000 {
            unit *= 1_000;
        }
        while unit > 1 {
            write!(f, "x{:03}/", self.index / unit % 1_000)?;
            unit /= 1_000;
        }
        write!(f, "{:03}", self.index % 1_000)?;
        if self.is_full() {
            return Ok(());
        }
        f.write_str(".p")?;
        f.write_char('/')?;
        write!(f, "{}", self.width)
    }
}

/// A log's directory, or a copy of it, as something that maps paths to bytes.
pub trait Files {
    /// Why a file cannot be read.
    type Error: fmt::Display;

    /// The file's bytes; none if there is no such file. Of a file longer than `limit` bytes at most `limit + 1` need
    /// be given: it is refused by its length, so that memory stays bounded whatever lies in the directory.
    ///
    /// # Errors
    /// If the file is there and cannot be read.
    fn read(&mut self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, Self::Error>;

    /// As [`read`](Self::read), into a buffer whose bytes are replaced: whoever reads file after file allocates once.
    /// False if there is no such file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_into(&mut self, path: &str, limit: usize, buffer: &mut Vec<u8>) -> Result<bool, Self::Error> {
        let read = self.read(path, limit)?;
        let found = read.is_some();
        *buffer = read.unwrap_or_default();
        Ok(found)
    }
}

/// A log in memory, by path.
impl Files for std::collections::BTreeMap<String, Vec<u8>> {
    type Error = std::convert::Infallible;

    fn read(&mut self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, Self::Error> {
        Ok(self.get(path).map(|bytes| bytes.get(..=limit).unwrap_or(bytes).to_vec()))
    }

    fn read_into(&mut self, path: &str, limit: usize, buffer: &mut Vec<u8>) -> Result<bool, Self::Error> {
        buffer.clear();
        let bytes = self.get(path).map(|bytes| bytes.get(..=limit).unwrap_or(bytes));
        bytes.inspect(|bytes| buffer.extend_from_slice(bytes));
        Ok(bytes.is_some())
    }
}

#[cfg(test)]
pub(crate) mod tests;
