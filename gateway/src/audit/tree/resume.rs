//! Where a start finds the tree, and whether segments, tiles and checkpoints tell one story.
//!
//! The tree is taken up at the newest checkpoint whose tiles were synced. Everything behind it comes from the segments,
//! and must lead to the root of the newest checkpoint: a crash can have torn any tile since then, but no record that a
//! checkpoint covers.

use gateway_audit::checkpoint::{Checkpoint, CheckpointError};
use gateway_audit::frame::Frame;
use gateway_audit::merkle::{self, Hash, HashSource as _};
use gateway_audit::note::{MAX_NOTE, NoteError, Signer, VerifierKey};
use gateway_audit::tiles::entry::{self, Bundle, Entry};
use gateway_audit::tiles::{Builder, CHECKPOINT, Files as _, HashTiles, Kind, MAX_BUNDLE, Tile, TileHashes, WIDTH};

use super::SYNCED;
use super::begin::sign_empty;
use super::files::{Tiles, TreeStorage};

/// Why the tree cannot be continued. Nothing is touched: what happened is for a person to find out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A checkpoint is of another log, or not signed by this one's key.
    #[error("`{file}`: {error}")]
    Checkpoint {
        /// The file.
        file: &'static str,
        /// What is wrong.
        error: CheckpointError,
    },
    /// A file cannot be read.
    #[error("`{file}` of the audit log cannot be read: {cause}")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system said.
        cause: String,
    },
    /// A tile that was on stable storage is gone or another, and cannot be built again.
    #[error("the audit log's tiles are damaged, and no crash does that: {0}; keep the directory as evidence")]
    Tiles(String),
    /// Segments or checkpoints are older than what was signed.
    #[error(
        "the audit log was rolled back: {covered} entries were signed, and its records and tiles hold {held}; keep the \
         directory as evidence, see `audit-rolled-back` in the runbook"
    )]
    RolledBack {
        /// Entries that the newest checkpoint covers.
        covered: u64,
        /// Entries that are there.
        held: u64,
    },
    /// Records between those in tiles and those in segments.
    #[error("records {from} to {to} of the audit log are neither in a tile nor in a segment")]
    Missing {
        /// The first one.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// Segments and signed tree tell two stories.
    #[error(
        "the audit log's segments are not those that its checkpoint signed: they differ by record {0} at the latest; \
         keep the directory as evidence, see `audit-rolled-back` in the runbook"
    )]
    Forked(u64),
}

/// The tree as it stands in files.
#[derive(Debug, Default)]
pub(in crate::audit) struct Standing {
    /// Taken up at the newest checkpoint that was synced.
    pub(super) builder: Builder,
    /// Size of that checkpoint, and the last record that it covers.
    pub(super) synced: (u64, u64),
    /// The newest checkpoint's size and root.
    pub(super) newest: Option<(u64, Hash)>,
    /// Why the tiles of the synced checkpoint cannot be continued: only a log whose segments are all there goes on.
    damage: Option<String>,
}

impl Standing {
    /// Signs the checkpoint of a log that begins: `entries` is what it holds. Whoever looks at it before its first
    /// entries are covered finds a log, and not one whose checkpoint was taken away.
    pub(in crate::audit) fn begin(&mut self, files: &dyn TreeStorage, signer: &Signer, entries: u64) {
        if entries > 0 || self.newest.is_some() {
            return;
        }
        match sign_empty(files, signer) {
            Ok(newest) => self.newest = Some(newest),
            // As with later ones: no answer waits for tiles.
            Err(trouble) => tracing::warn!(%trouble, "the first checkpoint of the audit log is not written"),
        }
    }

    /// The last record that is on stable storage in tiles.
    pub(in crate::audit) const fn synced_record(&self) -> u64 {
        self.synced.1
    }
}

/// Reads the checkpoints and takes up the tree at the synced one.
///
/// # Errors
/// [`TreeError`].
pub(in crate::audit) fn stand(files: &dyn TreeStorage, log: &VerifierKey) -> Result<Standing, TreeError> {
    let synced = checkpoint(files, SYNCED, log)?;
    let newest = checkpoint(files, CHECKPOINT, log)?;
    if let (Some(synced), Some(newest)) = (&synced, &newest)
        && newest.size < synced.size
    {
        return Err(TreeError::RolledBack { covered: synced.size, held: newest.size });
    }
    let newest = newest.or_else(|| synced.clone()).map(|newest| (newest.size, newest.root));
    let Some(synced) = synced.filter(|synced| synced.size > 0) else {
        return Ok(Standing { newest, ..Standing::default() });
    };
    let tiles = Tiles(files);
    let builder = Builder::resume(&mut Tiles(files), synced.size, &synced.root)
        .or_else(|error| edge(files, &synced).ok_or(error))
        .map_err(|error| error.to_string());
    match builder.and_then(|builder| Ok((last_record(tiles, &synced)?, builder))) {
        Ok((sequence, builder)) => Ok(Standing { builder, synced: (synced.size, sequence), newest, damage: None }),
        Err(damage) => Ok(Standing { newest, damage: Some(damage), ..Standing::default() }),
    }
}

/// Reads a checkpoint. The newest, which is not synced, is none where a power cut has torn it.
fn checkpoint(files: &dyn TreeStorage, file: &'static str, log: &VerifierKey) -> Result<Option<Checkpoint>, TreeError> {
    let bytes = files.read(file, MAX_NOTE);
    let bytes = bytes.map_err(|error| TreeError::Unreadable { file: file.to_owned(), cause: error.to_string() })?;
    let Some(bytes) = bytes else { return Ok(None) };
    let torn = |error: &CheckpointError| match error {
        CheckpointError::Note(NoteError::Signature(_) | NoteError::Unknown)
        | CheckpointError::Origin { .. }
        | CheckpointError::Kind(_) => false,
        CheckpointError::Note(_) | CheckpointError::Line(_) => file == CHECKPOINT,
    };
    match Checkpoint::open(&bytes, log, &[]) {
        Ok(signed) => Ok(Some(signed.checkpoint)),
        Err(error) if torn(&error) => {
            tracing::warn!(file, %error, "the newest checkpoint is torn, as a power cut leaves it; it is made again");
            Ok(None)
        }
        Err(error) => Err(TreeError::Checkpoint { file, error }),
    }
}

/// The tree at a checkpoint, its unfinished tiles of hashes made from full ones and from the last bundle.
fn edge(files: &dyn TreeStorage, at: &Checkpoint) -> Option<Builder> {
    let mut made = std::collections::BTreeMap::new();
    for level in 0..gateway_audit::tiles::LEVELS {
        let below = at.size >> (8 * u32::from(level));
        let Some(tile) = Tile::in_tree(Kind::Hashes(level), below / WIDTH, at.size) else { continue };
        let mut bytes = Vec::with_capacity(8_192);
        if level == 0 {
            let bundle = Tile { kind: Kind::Entries, ..tile };
            let entries = read(files, bundle)?;
            Bundle::new(&entries)
                .take(usize::from(tile.width))
                .for_each(|entry| bytes.extend_from_slice(&merkle::leaf_hash(entry)));
        } else {
            for child in 0..u64::from(tile.width) {
                let child = Tile { kind: Kind::Hashes(level - 1), index: tile.index * WIDTH + child, width: 256 };
                let hashes = read(files, child)?;
                let mut frontier = merkle::Frontier::new();
                hashes.as_chunks::<32>().0.iter().for_each(|hash| frontier.push(*hash));
                bytes.extend_from_slice(&frontier.root());
            }
        }
        made.insert(tile.path(), bytes);
    }
    let builder = Builder::resume(&mut Mended { made, files }, at.size, &at.root).ok()?;
    tracing::warn!(size = at.size, "tiles of the audit log were damaged and are made again");
    Some(builder)
}

fn read(files: &dyn TreeStorage, tile: Tile) -> Option<Vec<u8>> {
    let read = |tile: Tile| files.read(&tile.path(), MAX_BUNDLE).ok().flatten();
    read(tile).or_else(|| read(tile.full()))
}

/// Tiles, some of them made again.
struct Mended<'a> {
    made: std::collections::BTreeMap<String, Vec<u8>>,
    files: &'a dyn TreeStorage,
}

impl gateway_audit::tiles::Files for Mended<'_> {
    type Error = std::io::Error;

    fn read(&mut self, path: &str, limit: usize) -> std::io::Result<Option<Vec<u8>>> {
        match self.made.get(path) {
            Some(bytes) => Ok(Some(bytes.clone())),
            None => self.files.read(path, limit),
        }
    }
}

/// The record that the last entry belongs to, proved by the root.
fn last_record(mut tiles: Tiles<'_>, at: &Checkpoint) -> Result<u64, String> {
    let index = at.size - 1;
    let tile = Tile::in_tree(Kind::Entries, index / WIDTH, at.size).ok_or_else(|| "no last bundle".to_owned())?;
    let place = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
    let mut read = |tile: Tile| tiles.read(&tile.path(), MAX_BUNDLE).map_err(|error| error.to_string());
    let bundle = match read(tile)? {
        Some(bundle) => bundle,
        None => read(tile.full())?.ok_or_else(|| format!("`{tile}` is missing"))?,
    };
    let last = Bundle::new(&bundle).nth(place).ok_or_else(|| format!("`{tile}` is cut off"))?;
    let (leaf, hashes) = (merkle::leaf_hash(last), &mut TileHashes::new(&mut tiles, at.size));
    let proof = merkle::prove_inclusion(hashes, index, at.size).map_err(|error| error.to_string())?;
    if !merkle::included(index, at.size, &leaf, &proof, &at.root) {
        return Err(format!("`{tile}` does not hold the entries that were signed"));
    }
    let entry = Entry::decode(last).map_err(|error| error.to_string())?;
    if entry.part + 1 == entry.parts { Ok(entry.sequence) } else { Err("a record was signed in part".to_owned()) }
}

/// Follows the segments from the synced checkpoint to their end.
#[derive(Debug)]
pub(in crate::audit) struct Replay {
    hashes: HashTiles,
    /// The next record.
    next: u64,
    newest: Option<(u64, Hash)>,
    /// Hashes of the entries of covered records that are in segments, too.
    again: Vec<Hash>,
    last: u64,
    forked: Option<u64>,
}

impl Replay {
    /// Begins at the synced checkpoint.
    pub(in crate::audit) fn new(standing: &Standing) -> Self {
        Self {
            hashes: standing.builder.hashes().clone(),
            next: standing.synced.1 + 1,
            newest: standing.newest,
            again: Vec::new(),
            last: 0,
            forked: None,
        }
    }

    /// Takes the next record of the segments.
    pub(in crate::audit) fn take(&mut self, frame: &Frame<'_>) {
        self.last = frame.sequence;
        let Ok(entries) = entry::split(frame.sequence, frame.record) else { return };
        if frame.sequence < self.next {
            self.again.extend(entries.map(|entry| entry.leaf_hash()));
            return;
        }
        entries.for_each(|entry| self.hashes.push(entry.leaf_hash(), &mut |_, _| {}));
        self.next = frame.sequence + 1;
        if let Some((size, root)) = self.newest
            && self.hashes.size() == size
            && self.hashes.root() != root
        {
            self.forked.get_or_insert(frame.sequence);
        }
    }

    /// Whether tiles, segments and checkpoints tell one story. Says how many entries the log has. `first` is the first
    /// record of the segments, none if there are none.
    ///
    /// # Errors
    /// [`TreeError`].
    pub(in crate::audit) fn finish(
        &self,
        standing: &Standing,
        files: &dyn TreeStorage,
        first: Option<u64>,
    ) -> Result<u64, TreeError> {
        let covered = standing.newest.map_or(0, |(size, _)| size);
        let held = self.hashes.size();
        if let Some(damage) = &standing.damage
            && first != Some(1)
        {
            return Err(TreeError::Tiles(damage.clone()));
        }
        if let Some(first) = first
            && first > standing.synced.1 + 1
        {
            return Err(TreeError::Missing { from: standing.synced.1 + 1, to: first - 1 });
        }
        // A checkpoint ends with a whole record: one that was passed without its root being met is another log's.
        if let Some(forked) = self.forked {
            return Err(TreeError::Forked(forked));
        }
        if held < covered || self.last < standing.synced.1 || (first.is_none() && covered > 0) {
            return Err(TreeError::RolledBack { covered, held: if first.is_none() { 0 } else { held } });
        }
        self.compare(standing, files)?;
        Ok(held)
    }

    /// Whether the covered records in segments are those in tiles.
    fn compare(&self, standing: &Standing, files: &dyn TreeStorage) -> Result<(), TreeError> {
        let size = standing.synced.0;
        let count = u64::try_from(self.again.len()).unwrap_or(u64::MAX);
        let Some(start) = size.checked_sub(count) else { return Err(TreeError::Forked(standing.synced.1)) };
        let mut tiles = Tiles(files);
        let mut signed = TileHashes::new(&mut tiles, size);
        for (index, hash) in (start..).zip(&self.again) {
            let signed = signed.hash(0, index).map_err(|error| TreeError::Tiles(error.to_string()))?;
            if signed != *hash {
                return Err(TreeError::Forked(standing.synced.1));
            }
        }
        Ok(())
    }
}
