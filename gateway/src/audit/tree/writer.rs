//! Tiles and checkpoints, written.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use gateway_audit::checkpoint::{Checkpoint, CheckpointError};
use gateway_audit::frame::Frame;
use gateway_audit::merkle::Hash;
use gateway_audit::note::Signer;
use gateway_audit::tiles::entry::{self, RecordLength};
use gateway_audit::tiles::{Builder, CHECKPOINT, Kind, LEVELS, Tile, WIDTH};

use super::SYNCED;
use super::files::TreeStorage;
use super::resume::{Standing, TreeError, stand};
use super::segments::ReadBackError;

/// Why the tree does not go on for now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// A tile or a checkpoint cannot be written.
    #[error("{operation} of `{file}`: {error}")]
    Write { operation: &'static str, file: String, error: io::Error },
    /// Records cannot be read back.
    #[error(transparent)]
    ReadBack(#[from] ReadBackError),
    /// The tree cannot be taken up again after a failed sync.
    #[error(transparent)]
    Resume(#[from] TreeError),
    /// The checkpoint cannot be signed.
    #[error("the checkpoint cannot be signed: {0}")]
    Sign(#[from] CheckpointError),
    /// A record does not fit the tree. No frame holds such a record.
    #[error(transparent)]
    Length(#[from] RecordLength),
}

impl Trouble {
    pub(super) fn write(operation: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Write { operation, file: file.to_owned(), error }
    }
}

/// The growing tree of one lane, and its files.
pub(super) struct TreeWriter {
    files: Arc<dyn TreeStorage>,
    signer: Signer,
    builder: Builder,
    /// The next record.
    next: u64,
    /// Files of the builder's state that are not written yet.
    pending: VecDeque<(String, Vec<u8>)>,
    /// Size of the newest checkpoint, and the last record it covers.
    signed: (u64, u64),
    newest: Option<(u64, Hash)>,
    /// The same of the newest one that is synced.
    synced: (u64, u64),
    /// Unfinished tiles that were written since, by the checkpoint they belong to: they may go once a newer checkpoint
    /// stands, and those of a synced one once a newer one is synced.
    partials: Vec<(u64, String)>,
    /// Up to this size tiles may be there already, whole or torn.
    known: u64,
    /// A sync failed: nothing since the one before is to be taken for written.
    distrusts: bool,
}

/// The unfinished tiles of a tree of this size.
fn unfinished(size: u64) -> impl Iterator<Item = (u64, String)> {
    let hashes = (0..LEVELS).map(move |level| (Kind::Hashes(level), size >> (8 * u32::from(level))));
    let kinds = std::iter::once((Kind::Entries, size)).chain(hashes);
    let tiles = kinds.filter_map(move |(kind, below)| Tile::in_tree(kind, below / WIDTH, size));
    tiles.map(move |tile| (size, tile.path()))
}

impl TreeWriter {
    pub(super) fn new(files: Arc<dyn TreeStorage>, signer: Signer, standing: Standing) -> Self {
        let known = standing.newest.map_or(0, |(size, _)| size);
        Self {
            files,
            signer,
            next: standing.synced.1 + 1,
            pending: VecDeque::new(),
            signed: standing.synced,
            newest: standing.newest,
            synced: standing.synced,
            partials: unfinished(standing.synced.0).collect(),
            builder: standing.builder,
            known,
            distrusts: false,
        }
    }

    /// Sequence number of the next record.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Entries that are taken and not covered.
    pub(super) const fn uncovered(&self) -> u64 {
        self.builder.size().saturating_sub(self.signed.0)
    }

    /// Whether the last entry that was taken has filled its tile and bundle.
    pub(super) const fn is_at_tiles_end(&self) -> bool {
        self.builder.size().is_multiple_of(WIDTH)
    }

    /// Whether the newest checkpoint of an earlier run is still ahead.
    pub(super) fn is_behind_newest(&self) -> bool {
        self.newest.is_some_and(|(size, _)| size > self.builder.size())
    }

    /// Whether it was just met.
    pub(super) fn is_at_newest(&self) -> bool {
        self.newest.is_some_and(|(size, _)| size == self.builder.size() && size > self.signed.0)
    }

    /// Entries that checkpoints cover: those of an earlier run until this one is as far.
    pub(super) fn covered(&self) -> u64 {
        self.signed.0.max(self.newest.map_or(0, |(size, _)| size))
    }

    /// The last record that is on stable storage in tiles.
    pub(super) const fn synced_record(&self) -> u64 {
        self.synced.1
    }

    /// The last record that the newest checkpoint covers.
    pub(super) const fn signed_record(&self) -> u64 {
        self.signed.1
    }

    /// Takes the next record, with the hashes of all its entries.
    pub(super) fn push(&mut self, frame: &Frame<'_>, leaves: &[Hash]) -> Result<(), Trouble> {
        let entries = entry::split(frame.sequence, frame.record)?;
        if entries.len() != leaves.len() {
            return Err(RecordLength(frame.record.len()).into());
        }
        for (entry, leaf) in entries.zip(leaves) {
            let pending = &mut self.pending;
            let mut full = |tile: Tile, bytes: &[u8]| pending.push_back((tile.path(), bytes.to_vec()));
            self.builder.push_hashed(&entry, *leaf, &mut full)?;
        }
        self.next = frame.sequence + 1;
        Ok(())
    }

    /// Writes full tiles that wait.
    pub(super) fn flush(&mut self) -> Result<(), Trouble> {
        while let Some((path, bytes)) = self.pending.front() {
            let there = self.builder.size() <= self.known
                && self.files.read(path, bytes.len()).is_ok_and(|there| there.as_deref() == Some(bytes));
            if !there {
                self.files.put(path, bytes).map_err(Trouble::write("write", path))?;
            }
            self.pending.pop_front();
        }
        Ok(())
    }

    /// Makes a checkpoint of all that was taken: first the tiles, then the signature over them.
    pub(super) fn sign(&mut self) -> Result<(), Trouble> {
        let size = self.builder.size();
        if size == self.signed.0 {
            return self.flush();
        }
        self.flush()?;
        let Self { pending, partials, .. } = self;
        self.builder.partial(&mut |tile, bytes| {
            let path = tile.path();
            // Of one width, an unfinished tile is always the same.
            if !partials.iter().any(|(_, written)| *written == path) {
                pending.push_back((path, bytes.to_vec()));
            }
        });
        self.flush()?;
        if self.newest.is_none_or(|(newest, _)| size > newest) {
            let root = self.builder.root();
            let origin = self.signer.verifier().name().to_owned();
            let note = Checkpoint { origin, size, root, extensions: Vec::new() }.sign(&self.signer)?;
            self.files.put(CHECKPOINT, note.as_bytes()).map_err(Trouble::write("write", CHECKPOINT))?;
            self.newest = Some((size, root));
        }
        self.signed = (size, self.next - 1);
        let synced = self.synced.0;
        self.partials.extend(unfinished(size));
        self.drop_partials(|of| of < size && of != synced);
        Ok(())
    }

    /// Makes the tiles of the newest checkpoint durable, and says so beside it: segments that they cover may go.
    /// After an error [`mend`](Self::mend) has what failed to reach the disk written again.
    pub(super) fn sync(&mut self) -> Result<(), Trouble> {
        let size = self.signed.0;
        if size == self.synced.0 || self.newest.is_none_or(|(newest, _)| newest != size) {
            return Ok(());
        }
        let note = self.files.read(CHECKPOINT, usize::MAX >> 1).map_err(Trouble::write("read", CHECKPOINT))?;
        let note = note.unwrap_or_default();
        if let Err(error) = self.files.sync_all() {
            self.distrusts = true;
            return Err(Trouble::Write { operation: "syncfs", file: ".".to_owned(), error });
        }
        self.files.put_durable(SYNCED, &note).map_err(Trouble::write("write", SYNCED))?;
        self.synced = self.signed;
        self.drop_partials(|of| of < size);
        Ok(())
    }

    /// After a failed sync: takes the tree up where it was last synced.
    pub(super) fn mend(&mut self) -> Result<(), Trouble> {
        if !self.distrusts {
            return Ok(());
        }
        let standing = stand(&*self.files, self.signer.verifier())?;
        self.pending.clear();
        self.partials = unfinished(standing.synced.0).collect();
        self.next = standing.synced.1 + 1;
        self.signed = standing.synced;
        self.synced = standing.synced;
        self.newest = standing.newest;
        self.builder = standing.builder;
        // What can be read may be on no disk.
        self.known = 0;
        self.distrusts = false;
        Ok(())
    }

    /// Removes unfinished tiles that no checkpoint needs any more. One that stays means nothing.
    fn drop_partials(&mut self, gone: impl Fn(u64) -> bool) {
        let partials = std::mem::take(&mut self.partials);
        let (gone, kept): (Vec<_>, Vec<_>) = partials.into_iter().partition(|(of, _)| gone(*of));
        // One tile may be that of two checkpoints.
        for (_, path) in gone.into_iter().filter(|(_, path)| !kept.iter().any(|(_, needed)| needed == path)) {
            if let Err(error) = self.files.remove(&path) {
                tracing::debug!(path, %error, "an unfinished tile that is not needed stays");
            }
        }
        self.partials = kept;
    }
}
