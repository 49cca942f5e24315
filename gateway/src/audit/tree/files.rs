//! Where tiles and checkpoints live: the lane's folder, behind a trait narrow enough that tests can break every call.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use gateway_audit::tiles::Files;
use gateway_verify::Directory;

use super::spares::Spares;
use crate::audit::storage::DirectoryError;

/// Where files are written until they are whole, and wait to be written anew.
const SPARES: &str = "spare";

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
///
/// Many files of a growing tree live for one checkpoint. A file system that finds inodes slowly where others were just
/// freed (ext4 passes over those of the last five seconds, one by one) would cost more than all hashes: what is not
/// needed any more becomes, later, one of the next files.
#[derive(Debug)]
pub struct TreeDirectory {
    path: PathBuf,
    handle: File,
    spares: Mutex<Spares>,
}

impl TreeDirectory {
    /// The lane's folder, which exists.
    ///
    /// # Errors
    /// [`DirectoryError::Io`].
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let failed = |error| DirectoryError::Io { path: path.display().to_string(), error };
        let handle = File::open(path).map_err(failed)?;
        let spares = Mutex::new(Spares::open(path.join(SPARES)).map_err(failed)?);
        Ok(Self { path: path.to_owned(), handle, spares })
    }

    fn replace(&self, path: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        let (mut file, name) = self.spares().file()?;
        let written = file.write_all(bytes).and_then(|()| if durable { sync(&file) } else { Ok(()) });
        if let Err(error) = written.and_then(|()| self.place(&name, &self.path.join(path))) {
            // On a full disk its blocks are wanted; the error is the one to tell.
            let _ = fs::remove_file(&name);
            return Err(error);
        }
        if durable { rustix::fs::fsync(&self.handle).map_err(Into::into) } else { Ok(()) }
    }

    /// Gives a file its name; one that has it becomes a spare.
    fn place(&self, name: &Path, path: &Path) -> io::Result<()> {
        if renameat_with(CWD, name, CWD, path, RenameFlags::EXCHANGE).is_ok() {
            return self.spares().retire(name);
        }
        // There is none of that name, or the file system cannot exchange names.
        match fs::rename(name, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap_or(&self.path))?;
                fs::rename(name, path)
            }
            renamed => renamed,
        }
    }

    fn spares(&self) -> MutexGuard<'_, Spares> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sync(file: &File) -> io::Result<()> {
    rustix::fs::fdatasync(file).map_err(Into::into)
}

impl TreeStorage for TreeDirectory {
    fn read(&self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        Directory(self.path.clone()).read(path, limit)
    }

    fn put(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace(path, bytes, false)
    }

    fn put_durable(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace(path, bytes, true)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.spares().retire(&self.path.join(path))
    }

    fn sync_all(&self) -> io::Result<()> {
        rustix::fs::syncfs(&self.handle).map_err(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_its_folders_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let files = TreeDirectory::open(folder.path()).unwrap();
        assert_eq!(files.read("checkpoint", 99).unwrap(), None);
        for turn in 0..3 {
            files.put("checkpoint", format!("turn {turn}").as_bytes()).unwrap();
            files.put_durable("tile/0/x001/000.p/7", &[turn]).unwrap();
            assert_eq!(files.read("checkpoint", 99).unwrap().unwrap(), format!("turn {turn}").as_bytes());
            assert_eq!(files.read("tile/0/x001/000.p/7", 99).unwrap().unwrap(), [turn]);
        }
        files.remove("checkpoint").unwrap();
        assert_eq!(files.read("checkpoint", 99).unwrap(), None);
        assert!(files.remove("checkpoint").is_err());
        // Where a folder cannot be, nothing unfinished stays.
        let waiting = fs::read_dir(folder.path().join(SPARES)).unwrap().count();
        assert!(files.put("tile/0/x001/000.p/7/no", b"x").is_err());
        assert_eq!(fs::read_dir(folder.path().join(SPARES)).unwrap().count(), waiting);
    }
}
