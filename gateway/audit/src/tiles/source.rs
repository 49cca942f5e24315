//! Reading tiles back.

use super::{Files, HASH_BYTES, Kind, LEVELS, Tile};
use crate::merkle::{Frontier, Hash, HashSource};

/// Why a tile is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such file, neither partial nor full.
    #[error("`{path}` is missing")]
    Missing {
        /// The tile's path.
        path: String,
    },
    /// The file is there and cannot be read.
    #[error("`{path}` cannot be read: {cause}")]
    Unreadable {
        /// The tile's path.
        path: String,
        /// What its reader said.
        cause: String,
    },
    /// The file is longer or shorter than such a tile.
    #[error("`{path}` has {bytes} bytes, which does not fit its place")]
    Length {
        /// The tile's path.
        path: String,
        /// Bytes found; at least that many, if too many.
        bytes: usize,
    },
}

/// A tile's bytes.
#[derive(Debug)]
pub(crate) struct Read {
    /// Whether the full tile was read in place of a partial one, which need not exist any more.
    pub(crate) full: bool,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
}

/// Reads a tile, or in place of a partial one the full one that has replaced it.
pub(crate) fn read<F: Files>(files: &mut F, tile: Tile, limit: usize) -> Result<Read, ReadError> {
    read_into(files, tile, limit, Vec::new())
}

/// As [`read`]; the bytes are put in `buffer`, which becomes the answer's.
pub(crate) fn read_into<F: Files>(
    files: &mut F,
    tile: Tile,
    limit: usize,
    mut buffer: Vec<u8>,
) -> Result<Read, ReadError> {
    let full = (!tile.is_full()).then(|| tile.full());
    for candidate in [Some(tile), full].into_iter().flatten() {
        let path = candidate.path();
        match files.read_into(&path, limit, &mut buffer) {
            Ok(false) => {}
            Ok(true) if buffer.len() > limit => return Err(ReadError::Length { path, bytes: buffer.len() }),
            Ok(true) => return Ok(Read { full: candidate != tile, bytes: buffer }),
            Err(error) => return Err(ReadError::Unreadable { path, cause: error.to_string() }),
        }
    }
    Err(ReadError::Missing { path: tile.path() })
}

/// Reads a tile of hashes of exactly its width.
pub(crate) fn read_hashes<F: Files>(files: &mut F, tile: Tile) -> Result<Vec<u8>, ReadError> {
    let Read { full, mut bytes } = read(files, tile, 256 * HASH_BYTES)?;
    let right = usize::from(tile.width) * HASH_BYTES;
    let found = if full { 256 * HASH_BYTES } else { right };
    if bytes.len() != found {
        return Err(ReadError::Length { path: tile.path(), bytes: bytes.len() });
    }
    bytes.truncate(right);
    Ok(bytes)
}

/// The hashes of a tree of a known size, taken from its tiles as they are asked for. Nothing is checked: what is
/// proved from them must be compared with a root that is trusted. Holds one tile for each level.
#[derive(Debug)]
pub struct TileHashes<'a, F> {
    files: &'a mut F,
    size: u64,
    held: Vec<(Tile, Vec<u8>)>,
}

impl<'a, F: Files> TileHashes<'a, F> {
    /// The tree of `size` entries in these files.
    #[must_use]
    pub const fn new(files: &'a mut F, size: u64) -> Self {
        Self { files, size, held: Vec::new() }
    }

    /// The files.
    pub const fn files(&mut self) -> &mut F {
        self.files
    }

    fn tile(&mut self, tile: Tile) -> Result<&[u8], ReadError> {
        if !self.held.iter().any(|(held, _)| *held == tile) {
            let bytes = read_hashes(self.files, tile)?;
            self.held.retain(|(held, _)| held.kind != tile.kind);
            self.held.push((tile, bytes));
        }
        let held = self.held.iter().find(|(held, _)| *held == tile);
        Ok(held.map_or(&[], |(_, bytes)| bytes.as_slice()))
    }
}

impl<F: Files> HashSource for TileHashes<'_, F> {
    type Error = ReadError;

    fn hash(&mut self, level: u32, index: u64) -> Result<Hash, ReadError> {
        let tile_level = u8::try_from(level / 8).unwrap_or(LEVELS);
        let within = level % 8;
        let number = index >> (8 - within);
        let kind = Kind::Hashes(tile_level);
        let missing = || ReadError::Missing { path: Tile { kind, index: number, width: 256 }.path() };
        let tile = Tile::in_tree(kind, number, self.size).ok_or_else(missing)?;
        let first = usize::try_from((index << within) & 255).unwrap_or(usize::MAX);
        let hashes = self.tile(tile)?.as_chunks::<HASH_BYTES>().0;
        let hashes = hashes.get(first..).and_then(|rest| rest.get(..1 << within)).ok_or_else(missing)?;
        let mut frontier = Frontier::new();
        hashes.iter().for_each(|hash| frontier.push(*hash));
        Ok(frontier.root())
    }
}
