//! Where tiles and checkpoints live: the lane's folder, behind a trait narrow enough that tests can break every call.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use gateway_audit::tiles::Files;

use crate::audit::storage::DirectoryError;

/// What a file is called until it is whole.
const UNFINISHED: &str = "next";

/// A lane's tiles and checkpoints, by path. Errors are those of the system calls.
#[expect(clippy::missing_errors_doc, reason = "said once for all: the error is the system call's")]
pub trait TreeStorage: Send + Sync + 'static {
    /// Reads a file; none if there is none. Of one longer than `limit` bytes, `limit + 1` bytes are enough.
    fn read(&self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>>;
    /// Makes a file, or replaces it as a whole: a reader sees all of it or what was there before. A power cut may leave
    /// anything.
    fn put(&self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// As [`put`](Self::put), and durable when it returns.
    fn put_durable(&self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes all that was put durable. After an error nothing since the last success may be taken for durable (A5).
    fn sync_all(&self) -> io::Result<()>;
}

/// Tiles as [`gateway_audit`] reads them.
pub(super) struct Tiles<'a>(pub(super) &'a dyn TreeStorage);

impl Files for Tiles<'_> {
    type Error = io::Error;

    fn read(&mut self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        self.0.read(path, limit)
    }
}

/// A folder on a file system.
#[derive(Debug)]
pub struct TreeDirectory {
    path: PathBuf,
    handle: File,
}

impl TreeDirectory {
    /// The lane's folder, which exists.
    ///
    /// # Errors
    /// [`DirectoryError::Io`].
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let handle =
            File::open(path).map_err(|error| DirectoryError::Io { path: path.display().to_string(), error })?;
        Ok(Self { path: path.to_owned(), handle })
    }

    fn replace(&self, path: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        let path = self.path.join(path);
        let mut name = path.clone().into_os_string();
        name.push(".");
        name.push(UNFINISHED);
        let create = || OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&name);
        let mut file = match create() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = path.parent().unwrap_or(&self.path);
                fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
                create()?
            }
            created => created?,
        };
        let written = file.write_all(bytes).and_then(|()| if durable { sync(&file) } else { Ok(()) });
        if let Err(error) = written.and_then(|()| fs::rename(&name, &path)) {
            // On a full disk its blocks are wanted; the error is the one to tell.
            let _ = fs::remove_file(&name);
            return Err(error);
        }
        if durable { rustix::fs::fsync(&self.handle).map_err(Into::into) } else { Ok(()) }
    }
}

fn sync(file: &File) -> io::Result<()> {
    rustix::fs::fdatasync(file).map_err(Into::into)
}

impl TreeStorage for TreeDirectory {
    fn read(&self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.path.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        file.take(u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn put(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace(path, bytes, false)
    }

    fn put_durable(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace(path, bytes, true)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(path))
    }

    fn sync_all(&self) -> io::Result<()> {
        rustix::fs::syncfs(&self.handle).map_err(Into::into)
    }
}
