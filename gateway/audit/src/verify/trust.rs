//! Tiles of hashes that are checked against the root before anything is taken from them.

use crate::merkle::{Frontier, Hash};
use crate::tiles::source::{self, ReadError};
use crate::tiles::{Files, HASH_BYTES, HashTiles, Kind, LEVELS, Tile, WIDTH};

/// Why a tile cannot be trusted.
pub(super) enum Untrusted {
    /// It is there and cannot be read.
    Unreadable(ReadError),
    /// It is missing, has another length, or is not under the root.
    Damaged,
}

impl From<ReadError> for Untrusted {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unreadable { .. } => Self::Unreadable(error),
            ReadError::Missing { .. } | ReadError::Length { .. } => Self::Damaged,
        }
    }
}

/// The tiles of a tree whose root is known. Holds the unfinished and one full tile for each level.
#[derive(Debug)]
pub(super) struct Trust<'a, F> {
    files: &'a mut F,
    size: u64,
    /// The unfinished tiles; none where tiles are taken as they are, without being checked.
    edge: Option<HashTiles>,
    held: Vec<(u8, u64, Vec<u8>)>,
}

impl<'a, F: Files> Trust<'a, F> {
    /// Reads the unfinished tiles and compares the root that they lead to.
    pub(super) fn new(files: &'a mut F, size: u64, root: &Hash) -> Result<Self, Untrusted> {
        let edge = HashTiles::resume(files, size)?;
        if edge.root() != *root {
            return Err(Untrusted::Damaged);
        }
        Ok(Self { files, size, edge: Some(edge), held: Vec::new() })
    }

    /// Takes tiles as they are: what they lead to is a guess.
    pub(super) const fn blindly(files: &'a mut F, size: u64) -> Self {
        Self { files, size, edge: None, held: Vec::new() }
    }

    pub(super) const fn files(&mut self) -> &mut F {
        self.files
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// The hash of entry `index`.
    pub(super) fn leaf(&mut self, index: u64) -> Result<Hash, Untrusted> {
        self.hash(0, index)
    }

    fn hash(&mut self, level: u8, index: u64) -> Result<Hash, Untrusted> {
        let place = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
        let hashes = self.tile(level, index / WIDTH)?.as_chunks::<HASH_BYTES>().0;
        hashes.get(place).copied().ok_or(Untrusted::Damaged)
    }

    /// The bytes of a tile.
    pub(super) fn tile(&mut self, level: u8, index: u64) -> Result<&[u8], Untrusted> {
        let tile = Tile::in_tree(Kind::Hashes(level), index, self.size).ok_or(Untrusted::Damaged)?;
        if !self.held.iter().any(|(held, number, _)| (*held, *number) == (level, index)) {
            let bytes = match &self.edge {
                Some(edge) if !tile.is_full() => edge.unfinished(level).unwrap_or_default().to_vec(),
                _ => source::read_hashes(self.files, tile)?,
            };
            if self.edge.is_some() && tile.is_full() {
                let above = level.checked_add(1).filter(|above| *above < LEVELS).ok_or(Untrusted::Damaged)?;
                let mut frontier = Frontier::new();
                bytes.as_chunks::<HASH_BYTES>().0.iter().for_each(|hash| frontier.push(*hash));
                if frontier.root() != self.hash(above, index)? {
                    return Err(Untrusted::Damaged);
                }
            }
            self.held.retain(|(held, ..)| *held != level);
            self.held.push((level, index, bytes));
        }
        let held = self.held.iter().find(|(held, number, _)| (*held, *number) == (level, index));
        Ok(held.map_or(&[], |(_, _, bytes)| bytes.as_slice()))
    }
}
