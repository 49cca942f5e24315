//! Verifies a whole log: its checkpoint, its tiles, its entries, and that it continues an older checkpoint.
//!
//! The hashes are checked from the root down: the unfinished tiles against the checkpoint's root, each full tile against
//! its hash in the tile above, each entry against its hash in the tile of leaves. So the first entry that does not fit
//! is the first bad one. Where tiles of hashes themselves do not fit, the tree is computed from the entries alone: either
//! it has the signed root, and only a derived tile is damaged, or it has not, and the damaged tiles are followed as far
//! as they lead.
//!
//! Where the log's first bundles are gone and a signed record says that they were removed ([`crate::removal`]), the rest is
//! verified from there on: tiles of hashes show that it is the same tree.
//!
//! Nothing is written, and memory is bounded: one bundle and a look at the next, and one tile for each level.

mod classify;
mod entries;
mod locate;
mod part;
mod rebuild;
mod removed;
mod trust;
mod walk;

pub use entries::Entries;
pub use locate::{Located, locate};
pub use part::{Edge, Part, VerifiedPart, verify_part};
pub use removed::Removed;

use std::fmt;
use std::ops::Range;

use crate::checkpoint::{Checkpoint, CheckpointError, Signed};
use crate::merkle::{self, Hash};
use crate::note::{MAX_NOTE, VerifierKey};
use crate::tiles::entry::{Entry, EntryError, Joiner, OutOfOrder};
use crate::tiles::source::{self, Read};
use crate::tiles::{CHECKPOINT, Files, MAX_BUNDLE, ReadError, Tile, TileHashes, WIDTH};
use trust::{Trust, Untrusted};

/// What a log is verified against, beside its key.
#[derive(Debug, Clone, Copy, Default)]
pub struct Against<'a> {
    /// Keys of cosigners whose signatures are verified where they stand.
    pub cosigners: &'a [VerifierKey],
    /// An older checkpoint of the same log, kept elsewhere, as a signed note.
    pub older: Option<&'a [u8]>,
}

/// A log that holds nothing bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its checkpoint and those who vouch for it.
    pub signed: Signed,
    /// Number of whole records; the checkpoint's size is the number of entries.
    pub records: u64,
    /// Whether the checkpoint covers only some parts of the record behind those.
    pub unfinished: bool,
    /// Size of the older checkpoint that the log continues.
    pub continues: Option<u64>,
    /// What was removed by retention, where anything of it is gone.
    pub removed: Option<Removed>,
}

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its bytes are not those that were signed.
    Altered,
    /// It is gone, and later ones stand in its place or nothing does.
    Removed,
    /// Something that was never logged, or a second copy, stands before it.
    Inserted,
    /// Another genuine entry stands in its place, and it in that one's.
    Reordered,
    /// It and all behind it is gone.
    Truncated,
    /// The log is another than the one that was signed, or the key has signed two: a whole history was replaced.
    Forked,
    /// The entries are right, but a tile of hashes derived from them is damaged.
    Tile,
    /// The log's own key has signed an entry that does not follow the one before it.
    Numbering(OutOfOrder),
    /// The log's own key has signed bytes that are not an entry.
    Entry(EntryError),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Altered => f.write_str("altered"),
            Self::Removed => f.write_str("removed"),
            Self::Inserted => f.write_str("displaced by something inserted"),
            Self::Reordered => f.write_str("reordered"),
            Self::Truncated => f.write_str("cut off with all that follows"),
            Self::Forked => f.write_str("of another history than the one that was signed"),
            Self::Tile => f.write_str("right, but a tile of hashes over it is damaged"),
            Self::Numbering(error) => write!(f, "signed out of order: {error}"),
            Self::Entry(error) => write!(f, "signed and unreadable: {error}"),
        }
    }
}

/// The first bad entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}`: {} {fault}", Name(.entries, *.sequence))]
pub struct Bad {
    /// The file where it shows.
    pub path: String,
    /// The entry, by its place in the log from 0. More than one, where nothing that is left tells which of them it is.
    pub entries: Range<u64>,
    /// Sequence number of the record that belongs there, where the entries before it tell.
    pub sequence: Option<u64>,
    /// What happened to it.
    pub fault: Fault,
}

struct Name<'a>(&'a Range<u64>, Option<u64>);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.end.saturating_sub(self.0.start) > 1 {
            return write!(f, "an entry from {} to {} is", self.0.start, self.0.end - 1);
        }
        write!(f, "entry {}", self.0.start)?;
        if let Some(sequence) = self.1 {
            write!(f, " (record {sequence})")?;
        }
        f.write_str(" is")
    }
}

/// Why a log is not verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// There is no checkpoint.
    #[error("`checkpoint` is missing: this is not a log, or nothing of it was signed")]
    Missing,
    /// The checkpoint is none, or of another log, or not signed by the log's key.
    #[error("`checkpoint`: {0}")]
    Checkpoint(CheckpointError),
    /// The older checkpoint is none, or of another log, or not signed by the log's key.
    #[error("the older checkpoint: {0}")]
    Older(CheckpointError),
    /// A file is there and cannot be read. This says nothing about the log.
    #[error(transparent)]
    Read(ReadError),
    /// An entry is bad.
    #[error(transparent)]
    Bad(Box<Bad>),
}

impl From<Bad> for VerifyError {
    fn from(bad: Bad) -> Self {
        Self::Bad(Box::new(bad))
    }
}

/// Verifies a log. `visit` gets each entry with its place, in order, after it has been checked against the root; where
/// tiles of hashes are damaged nothing more is visited.
///
/// # Errors
/// [`VerifyError`] says what is wrong, and names the first bad entry.
pub fn verify<F: Files>(
    files: &mut F,
    log: &VerifierKey,
    against: Against<'_>,
    mut visit: impl FnMut(u64, &Entry<'_>),
) -> Result<Verified, VerifyError> {
    let (signed, older) = begin(files, log, against)?;
    let (size, root) = (signed.checkpoint.size, signed.checkpoint.root);
    let mut joiner = Some(Joiner::new(1, 0));
    let walked = Trust::new(files, size, &root).map_err(Stop::from).and_then(|mut trust| {
        let bundles = 0..size.div_ceil(WIDTH);
        walk::walk(&mut trust, bundles, &mut joiner, |trust| removed::find(trust, &root), &mut visit)
    });
    let removed = match walked {
        Ok(removed) => removed,
        Err(Stop::Error(error)) => return Err(*error),
        Err(Stop::Tiles) => return Err(rebuild::name(files, size, &root, older.as_ref())),
    };
    follows(files, size, &root, older.as_ref())?;
    Ok(Verified {
        signed,
        records: joiner.as_ref().map_or(0, |joiner| joiner.sequence() - 1),
        unfinished: joiner.is_some_and(|joiner| !joiner.is_between_records()),
        continues: older.map(|older| older.size),
        removed,
    })
}

/// Opens the checkpoint and the older one, and compares them as far as that goes without the tree.
fn begin<F: Files>(
    files: &mut F,
    log: &VerifierKey,
    against: Against<'_>,
) -> Result<(Signed, Option<Checkpoint>), VerifyError> {
    let path = CHECKPOINT.to_owned();
    let bytes = match files.read(CHECKPOINT, MAX_NOTE) {
        Ok(bytes) => bytes.ok_or(VerifyError::Missing)?,
        Err(error) => return Err(VerifyError::Read(ReadError::Unreadable { path, cause: error.to_string() })),
    };
    let signed = Checkpoint::open(&bytes, log, against.cosigners).map_err(VerifyError::Checkpoint)?;
    let older = against.older.map(|older| Checkpoint::open(older, log, &[]).map_err(VerifyError::Older)).transpose()?;
    let older = older.map(|older| older.checkpoint);
    let (size, root) = (signed.checkpoint.size, signed.checkpoint.root);
    if let Some(older) = &older {
        if older.size > size {
            let fault = Fault::Truncated;
            return Err(Bad { path, entries: size..older.size, sequence: None, fault }.into());
        }
        if (older.size == size && older.root != root) || (older.size == 0 && older.root != merkle::empty_root()) {
            return Err(forked(size));
        }
    }
    Ok((signed, older))
}

/// Whether the tree begins with the older checkpoint's; a few tiles tell.
fn follows<F: Files>(files: &mut F, size: u64, root: &Hash, older: Option<&Checkpoint>) -> Result<(), VerifyError> {
    let Some(older) = older else { return Ok(()) };
    match merkle::prove_consistency(&mut TileHashes::new(files, size), older.size, size) {
        Err(merkle::ProveError::Source(error @ ReadError::Unreadable { .. })) => Err(VerifyError::Read(error)),
        Ok(proof) if merkle::consistent(older.size, &older.root, size, root, &proof) => Ok(()),
        Ok(_) | Err(_) => Err(forked(older.size)),
    }
}

fn forked(end: u64) -> VerifyError {
    Bad { path: CHECKPOINT.to_owned(), entries: 0..end, sequence: None, fault: Fault::Forked }.into()
}

/// Whether a log whose tiles were verified continues another checkpoint of it.
///
/// # Errors
/// [`Fault::Truncated`] if the log is shorter, [`Fault::Forked`] if it has another history.
pub fn continues<F: Files>(files: &mut F, log: &Checkpoint, other: &Checkpoint) -> Result<(), Fault> {
    if other.size > log.size {
        return Err(Fault::Truncated);
    }
    let proof = merkle::prove_consistency(&mut TileHashes::new(files, log.size), other.size, log.size);
    let good = proof.is_ok_and(|proof| merkle::consistent(other.size, &other.root, log.size, &log.root, &proof));
    if good { Ok(()) } else { Err(Fault::Forked) }
}

/// Why the walk from the root down ends early.
enum Stop {
    /// Something is bad, and it is known what.
    Error(Box<VerifyError>),
    /// Tiles of hashes are damaged: the entries alone must tell.
    Tiles,
}

impl From<VerifyError> for Stop {
    fn from(error: VerifyError) -> Self {
        Self::Error(Box::new(error))
    }
}

impl From<Bad> for Stop {
    fn from(bad: Bad) -> Self {
        VerifyError::from(bad).into()
    }
}

impl From<Untrusted> for Stop {
    fn from(untrusted: Untrusted) -> Self {
        match untrusted {
            Untrusted::Unreadable(error) => VerifyError::Read(error).into(),
            Untrusted::Damaged => Self::Tiles,
        }
    }
}

/// Reads a bundle; none if it is missing. One longer than any bundle holds something that was inserted.
fn bundle<F: Files>(files: &mut F, tile: Tile) -> Result<Option<Read>, VerifyError> {
    bundle_into(files, tile, Vec::new())
}

/// As [`bundle`], into a buffer.
fn bundle_into<F: Files>(files: &mut F, tile: Tile, buffer: Vec<u8>) -> Result<Option<Read>, VerifyError> {
    match source::read_into(files, tile, MAX_BUNDLE, buffer) {
        Ok(read) => Ok(Some(read)),
        Err(ReadError::Missing { .. }) => Ok(None),
        Err(ReadError::Length { path, .. }) => {
            let sequence = None;
            let first = tile.index * WIDTH;
            let entries = first..first + u64::from(tile.width);
            Err(Bad { path, entries, sequence, fault: Fault::Inserted }.into())
        }
        Err(error @ ReadError::Unreadable { .. }) => Err(VerifyError::Read(error)),
    }
}

#[cfg(test)]
mod tests;
