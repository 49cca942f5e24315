//! Finding lanes, and reading a lane's files.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use gateway_audit::tiles::{CHECKPOINT, Files};

/// How deep lanes lie at most: a folder of nodes, a node, its lanes.
const DEPTH: u32 = 2;

/// Why lanes are not found.
#[derive(Debug)]
pub enum DirectoryError {
    /// A folder cannot be listed.
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// There is no log in it.
    NoLog(PathBuf),
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => write!(f, "`{}` cannot be read: {error}", path.display()),
            Self::NoLog(path) => write!(f, "`{}` holds no audit log", path.display()),
        }
    }
}

impl std::error::Error for DirectoryError {}

/// The lanes in a directory: itself, or what lies below it, by name.
///
/// # Errors
/// [`DirectoryError`] if there is none, or a folder cannot be listed.
pub fn find(directory: &Path) -> Result<Vec<PathBuf>, DirectoryError> {
    let mut lanes = Vec::new();
    search(directory, DEPTH, &mut lanes)?;
    if lanes.is_empty() { Err(DirectoryError::NoLog(directory.to_owned())) } else { Ok(lanes) }
}

fn search(directory: &Path, depth: u32, lanes: &mut Vec<PathBuf>) -> Result<(), DirectoryError> {
    // What is left of a log whose checkpoint was removed is still a lane.
    if [CHECKPOINT, "tile", "wal"].iter().any(|name| directory.join(name).symlink_metadata().is_ok()) {
        lanes.push(directory.to_owned());
        return Ok(());
    }
    let unreadable = |error| DirectoryError::Unreadable { path: directory.to_owned(), error };
    let mut folders = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if depth > 0 && path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort_unstable();
    folders.iter().try_for_each(|folder| search(folder, depth - 1, lanes))
}

/// A lane's folder.
#[derive(Debug)]
pub struct Directory(pub PathBuf);

impl Files for Directory {
    type Error = io::Error;

    fn read(&mut self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, io::Error> {
        read(&self.0.join(path), limit)
    }

    fn read_into(&mut self, path: &str, limit: usize, buffer: &mut Vec<u8>) -> Result<bool, io::Error> {
        read_into(&self.0.join(path), limit, buffer)
    }
}

/// A file's bytes, at most one more than `limit`; none if there is no such file.
pub(crate) fn read(path: &Path, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    Ok(read_into(path, limit, &mut bytes)?.then_some(bytes))
}

/// As [`read`], in place of a buffer's bytes.
fn read_into(path: &Path, limit: usize, buffer: &mut Vec<u8>) -> io::Result<bool> {
    buffer.clear();
    // Asked first, since opening something else than a file may block.
    let length = match fs::metadata(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(false);
        }
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.is_file() => return Err(io::Error::other("it is not a file")),
        Ok(metadata) => usize::try_from(metadata.len()).unwrap_or(usize::MAX),
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    // One byte more, so that the end is seen without growing.
    buffer.reserve(length.min(limit).saturating_add(1));
    file.take(u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(buffer)?;
    Ok(true)
}
