//! Removing the bundles of entries that nobody can open any more, behind a tombstone in the log (A11).

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_audit::header::{Envelope, KeyId};
use gateway_audit::merkle;
use gateway_audit::record::Removal;
use gateway_audit::removal::{FILE, Pointer, Tombstone};
use gateway_audit::tiles::entry::{Bundle, Entry};
use gateway_audit::tiles::{CHECKPOINT, Files, Kind, MAX_BUNDLE, Tile, TileHashes, WIDTH};
use gateway_verify::Directory;

use super::RetentionError;
use crate::audit::lane::ControlLane;
use crate::replace::replace;

/// A tombstone comes under a checkpoint within a second; where it takes longer than this, the next look tries again.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// A lane's folder, of which this process has the lane. Its tree has a thread of its own that writes tiles; what is read
/// here is under a checkpoint and changes no more.
struct Lane {
    path: PathBuf,
}

impl Files for &Lane {
    type Error = io::Error;

    fn read(&mut self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        Lane::read(self, path, limit)
    }
}

impl Lane {
    fn read(&self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        Directory(self.path.clone()).read(path, limit)
    }

    fn failed(&self, file: &str) -> impl FnOnce(io::Error) -> RetentionError {
        let path = self.path.join(file);
        move |source| RetentionError::Io { path, source }
    }

    /// Entries under the newest checkpoint, which this process has signed.
    fn size(&self) -> Result<u64, RetentionError> {
        let note = self.read(CHECKPOINT, 1 << 18).map_err(self.failed(CHECKPOINT))?.unwrap_or_default();
        let note = String::from_utf8_lossy(&note).into_owned();
        Ok(note.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0))
    }

    /// How many of the first entries a tombstone stands for already.
    fn removed(&self) -> Result<u64, RetentionError> {
        let file = self.read(FILE, 256).map_err(self.failed(FILE))?;
        let Some(pointer) = file.and_then(|file| Pointer::parse(&file)) else { return Ok(0) };
        let bundle = self.bundle(pointer.entry / WIDTH, self.size()?)?.unwrap_or_default();
        let place = usize::try_from(pointer.entry % WIDTH).unwrap_or(usize::MAX);
        let entry = Bundle::new(&bundle).nth(place).and_then(|entry| Entry::decode(entry).ok());
        Ok(entry.and_then(|entry| Tombstone::of(&entry)).map_or(0, |tombstone| tombstone.entries))
    }

    fn bundle(&self, index: u64, size: u64) -> Result<Option<Vec<u8>>, RetentionError> {
        let Some(tile) = Tile::in_tree(Kind::Entries, index, size) else { return Ok(None) };
        let read = |tile: Tile| self.read(&tile.path(), MAX_BUNDLE).map_err(self.failed(&tile.path()));
        match read(tile)? {
            None if !tile.is_full() => read(tile.full()),
            bundle => Ok(bundle),
        }
    }

    /// What may go: whole bundles from `from` on, whose records were all sealed under keys that are destroyed, and which
    /// end where a record does. The last bundle stays.
    fn expired(&self, from: u64, most: u64, destroyed: &HashSet<KeyId>) -> Result<Option<Tombstone>, RetentionError> {
        let size = self.size()?;
        let last = size.saturating_sub(1) / WIDTH;
        let mut found = None;
        'bundles: for index in from / WIDTH..=last {
            let Some(bundle) = self.bundle(index, size)? else { break };
            for (place, bytes) in (index * WIDTH..).zip(Bundle::new(&bundle)) {
                let Ok(entry) = Entry::decode(bytes) else { break 'bundles };
                if place.is_multiple_of(WIDTH) && entry.part == 0 && from < place && place <= most {
                    found = Some((place, entry.sequence));
                }
                let Some(envelope) = (entry.part == 0).then(|| Envelope::decode(entry.bytes)) else { continue };
                if envelope.map_or(true, |envelope| !destroyed.contains(&envelope.header.key)) {
                    break 'bundles;
                }
            }
        }
        let Some((entries, next)) = found else { return Ok(None) };
        let root = merkle::root(&mut TileHashes::new(&mut &*self, size), entries);
        let root = root.map_err(|error| self.failed("tile")(io::Error::other(error.to_string())))?;
        Ok(Some(Tombstone { entries, next, root }))
    }

    /// The entry of a tombstone that was written behind entry `from`, once a checkpoint covers it.
    fn find(&self, tombstone: &Tombstone, from: u64) -> Result<Option<Pointer>, RetentionError> {
        let size = self.size()?;
        for index in from / WIDTH..size.div_ceil(WIDTH) {
            let bundle = self.bundle(index, size)?.unwrap_or_default();
            for (place, bytes) in (index * WIDTH..size).zip(Bundle::new(&bundle)) {
                let Ok(entry) = Entry::decode(bytes) else { continue };
                if place >= from && Tombstone::of(&entry).as_ref() == Some(tombstone) {
                    return Ok(Some(Pointer { entry: place, record: entry.sequence }));
                }
            }
        }
        Ok(None)
    }

    /// Removes the bundles of the first entries, first to last; says how many there were. What a crash left of an earlier
    /// removal stands at the end.
    fn remove(&self, from: u64, entries: u64) -> Result<u64, RetentionError> {
        let mut removed = 0;
        let mut folder: Option<PathBuf> = None;
        for index in from / WIDTH..entries / WIDTH {
            let name = Tile { kind: Kind::Entries, index, width: 256 }.path();
            let path = self.path.join(&name);
            let partial = path.with_extension("p");
            if partial.is_dir() {
                fs::remove_dir_all(&partial).map_err(self.failed(&name))?;
            }
            match fs::remove_file(&path) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(self.failed(&name)(error)),
            }
            let own = path.parent().map(Path::to_owned);
            if own != folder {
                self.sync(folder.as_deref())?;
                folder = own;
            }
        }
        self.sync(folder.as_deref())?;
        Ok(removed)
    }

    /// The first bundle that an unfinished removal of so many entries left.
    fn left_of(&self, entries: u64) -> u64 {
        let there =
            |index: &u64| self.path.join(Tile { kind: Kind::Entries, index: *index, width: 256 }.path()).exists();
        let last = (0..entries / WIDTH).rev().take_while(there).last();
        last.map_or(entries, |first| first * WIDTH)
    }

    fn sync(&self, folder: Option<&Path>) -> Result<(), RetentionError> {
        let Some(folder) = folder else { return Ok(()) };
        let synced = File::open(folder).and_then(|folder| folder.sync_all());
        synced.map_err(|source| RetentionError::Io { path: folder.to_owned(), source })
    }
}

/// Removes what may go of a lane that this process writes; says how many bundles. `most`: so many entries every required
/// copy holds.
pub(super) async fn remove(
    lane: &Path,
    log: &ControlLane,
    most: u64,
    destroyed: &HashSet<KeyId>,
) -> Result<u64, RetentionError> {
    let lane = Lane { path: lane.to_owned() };
    let before = lane.removed()?;
    // What a crash left of the last removal goes first.
    let mut removed = lane.remove(lane.left_of(before), before)?;
    let Some(tombstone) = lane.expired(before, most, destroyed)? else { return Ok(removed) };
    let from = lane.size()?;
    let text = tombstone.to_string();
    log.record(&Removal { tombstone: &tombstone, text: &text }).await.map_err(RetentionError::Unrecorded)?;
    let mut waited = Duration::ZERO;
    let pointer = loop {
        match lane.find(&tombstone, from)? {
            Some(pointer) => break pointer,
            None if waited >= PATIENCE => return Err(RetentionError::Uncovered),
            None => tokio::time::sleep(LOOK).await,
        }
        waited += LOOK;
    };
    // The checkpoint over the tombstone is on disk before what it stands for goes.
    let synced = File::open(&lane.path).and_then(|folder| Ok(rustix::fs::syncfs(&folder)?));
    synced.map_err(lane.failed(CHECKPOINT))?;
    replace(&lane.path.join(FILE), pointer.to_string().as_bytes(), 0o644).map_err(lane.failed(FILE))?;
    tracing::info!(
        entries = tombstone.entries,
        record = pointer.record,
        "removing entries whose data keys are destroyed"
    );
    removed += lane.remove(before, tombstone.entries)?;
    Ok(removed)
}
