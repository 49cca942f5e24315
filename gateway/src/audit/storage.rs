//! Where segments live: a directory, behind a trait narrow enough that tests can break every call of it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a write that would block is tried again before it counts as failed.
const WOULD_BLOCK_RETRIES: u32 = 100;

/// A file of the log.
pub trait LogFile: Send {
    /// Writes some of the bytes at an offset; may write fewer.
    ///
    /// # Errors
    /// As `pwrite(2)`.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes the file's content durable.
    ///
    /// # Errors
    /// As `fdatasync(2)`. After an error the file is finished: its unwritten pages are gone (A5).
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file.
    ///
    /// # Errors
    /// As `ftruncate(2)`.
    fn set_len(&mut self, length: u64) -> io::Result<()>;
}

/// The log's directory. Errors are those of the system calls.
#[expect(clippy::missing_errors_doc, reason = "said once for all: the error is the system call's")]
pub trait Storage: Send + Sync + 'static {
    /// Makes a file, or empties it.
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>>;
    /// Opens an existing file for writing.
    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>>;
    /// Reads a whole file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Renames a file, replacing `to`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names durable.
    fn sync_directory(&self) -> io::Result<()>;
}

/// Writes everything: short writes are continued, `EINTR` is repeated at once and `EAGAIN` a bounded time (A7).
pub(super) fn write_all(file: &mut dyn LogFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    let mut blocked = 0;
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                offset += u64::try_from(count).unwrap_or_default();
                blocked = 0;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && blocked < WOULD_BLOCK_RETRIES => {
                blocked += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Why the log's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be made or opened.
    #[error("the audit directory `{path}`: {error}")]
    Io {
        /// The file or folder.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// Other processes write both lanes of the log (A10).
    #[error("other processes ({holders}) hold both lanes of `{path}` and write the audit log; a third cannot")]
    Held {
        /// The directory.
        path: String,
        /// Their process ids, as far as they can be read.
        holders: String,
    },
    /// What lies there is a log as earlier versions of the program wrote it.
    #[error(
        "`{path}` holds segments of format version 1 (`{segment}`), which this program cannot continue; keep it for as \
         long as its records are needed and start on another directory"
    )]
    Version1 {
        /// The directory.
        path: String,
        /// One of its segments.
        segment: String,
    },
}

/// A directory on a file system.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    handle: File,
}

impl Directory {
    /// Makes the directory (mode 0700) if it is absent.
    ///
    /// # Errors
    /// [`DirectoryError::Io`].
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        make(path)?;
        let handle = File::open(path).map_err(io_error(path))?;
        Ok(Self { path: path.to_owned(), handle })
    }
}

/// Makes a folder that only its owner can enter.
pub(super) fn make(path: &Path) -> Result<(), DirectoryError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error(path))
}

pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.display().to_string();
    move |error| DirectoryError::Io { path, error }
}

impl LogFile for File {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        // Not `File::sync_data`, which repeats the call after `EINTR`: a repeated call may report success for pages
        // that are lost.
        rustix::fs::fdatasync(&*self).map_err(Into::into)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        Self::set_len(self, length)
    }
}

impl Storage for Directory {
    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.path.join(name))?;
        Ok(Box::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(OpenOptions::new().write(true).open(self.path.join(name))?))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        rustix::fs::fsync(&self.handle).map_err(Into::into)
    }
}
