//! Where the log of one node lies: its two lanes, each with a writer of its own, and the node's signing key.
//!
//! A process takes the first lane that is free, so that a new one can write while the old one drains (A10).

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::segments::segment_first;
use super::storage::{DirectoryError, io_error, make};

/// Number of lanes.
pub const LANES: u8 = 2;
/// Holds the id of the process that writes the lane, and the file's own number.
const LOCK: &str = "lock";

/// A lane's folder in the log's directory. Lanes are numbered from 1.
#[must_use]
pub fn lane_directory(audit: &Path, lane: u8) -> PathBuf {
    audit.join(format!("lane-{lane}"))
}

/// The folder of a lane's segments.
#[must_use]
pub fn segments_directory(audit: &Path, lane: u8) -> PathBuf {
    lane_directory(audit, lane).join("wal")
}

/// A lane that this process alone writes, as long as the value lives.
#[derive(Debug)]
pub struct Place {
    /// Its number.
    pub lane: u8,
    /// Its folder.
    pub path: PathBuf,
    /// The folder was copied, or put back from a copy: another process may go on with the original.
    pub copied: bool,
    _lock: File,
}

/// Takes the first lane that is free.
///
/// # Errors
/// [`DirectoryError::Held`] if other processes have both, [`DirectoryError::Version1`] for a log of old, otherwise
/// [`DirectoryError::Io`].
pub fn take_lane(audit: &Path) -> Result<Place, DirectoryError> {
    make(audit)?;
    for entry in std::fs::read_dir(audit).map_err(io_error(audit))? {
        let name = entry.map_err(io_error(audit))?.file_name();
        if let Some(segment) = name.to_str().filter(|name| segment_first(name).is_some()) {
            let (path, segment) = (audit.display().to_string(), segment.to_owned());
            return Err(DirectoryError::Version1 { path, segment });
        }
    }
    let mut holders = Vec::new();
    for lane in 1..=LANES {
        let path = lane_directory(audit, lane);
        make(&path)?;
        match lock(&path.join(LOCK))? {
            Ok((lock, copied)) => return Ok(Place { lane, path, copied, _lock: lock }),
            Err(holder) => holders.push(holder),
        }
    }
    Err(DirectoryError::Held { path: audit.display().to_string(), holders: holders.join(", ") })
}

/// A lane, if no process writes it.
///
/// # Errors
/// [`DirectoryError::Io`].
pub(super) fn free_lane(audit: &Path, lane: u8) -> Result<Option<Place>, DirectoryError> {
    let path = lane_directory(audit, lane);
    make(&path)?;
    let locked = lock(&path.join(LOCK))?.ok();
    Ok(locked.map(|(lock, copied)| Place { lane, path, copied, _lock: lock }))
}

/// Locks a file; says whether it is a copy, or who else holds it.
fn lock(path: &Path) -> Result<Result<(File, bool), String>, DirectoryError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut lock = options.open(path).map_err(io_error(path))?;
    let locked = flock(&lock, FlockOperation::NonBlockingLockExclusive);
    let mut content = String::new();
    let read = lock.read_to_string(&mut content);
    let mut lines = content.lines();
    let process = lines.next().filter(|process| read.is_ok() && !process.is_empty());
    match locked {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Ok(Err(process.map_or_else(|| "of unknown id".to_owned(), |process| format!("process {process}"))));
        }
        Err(error) => return Err(io_error(path)(error.into())),
    }
    let number = lock.metadata().map_err(io_error(path))?.ino();
    let copied = lines.next().is_some_and(|written| written != number.to_string());
    // For the message above and the next start alone: a full disk does not stop the start here.
    if let Err(error) = note(&lock, number) {
        tracing::warn!(%error, "the audit directory's lock file cannot be written");
    }
    Ok(Ok((lock, copied)))
}

fn note(mut lock: &File, number: u64) -> io::Result<()> {
    use std::io::Seek as _;
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}\n{number}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a10_one_writer_a_lane_and_a_third_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = take_lane(folder.path()).unwrap();
        let second = take_lane(folder.path()).unwrap();
        assert_eq!((first.lane, second.lane), (1, 2));
        let error = take_lane(folder.path()).unwrap_err().to_string();
        let held = format!("process {0}, process {0}", std::process::id());
        assert!(error.contains(&held) && error.contains(&folder.path().display().to_string()), "{error}");
        drop(first);
        assert_eq!(take_lane(folder.path()).unwrap().lane, 1);
    }

    #[test]
    fn a10_a_copied_directory_is_noticed_once() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            assert!(!take_lane(folder.path()).unwrap().copied);
        }
        let lock = folder.path().join("lane-1/lock");
        let moved = folder.path().join("moved");
        std::fs::copy(&lock, &moved).unwrap();
        std::fs::rename(&moved, &lock).unwrap();
        assert!(take_lane(folder.path()).unwrap().copied);
        assert!(!take_lane(folder.path()).unwrap().copied);
    }

    #[test]
    fn a_log_of_version_1_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let name = super::super::segments::segment_name(1);
        std::fs::write(folder.path().join(&name), "").unwrap();
        let error = take_lane(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&name) && error.contains("format version 1"), "{error}");
        assert!(!folder.path().join("lane-1").exists());
    }
}
