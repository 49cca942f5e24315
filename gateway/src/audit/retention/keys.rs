//! The key directory, as it is read and changed by whoever destroys keys or adds to them: one process at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use gateway_audit::destroyed::Destroyed;
use gateway_audit::header::Pseudonym;
use gateway_audit::keyfile::{KeyFile, MAX_FILE, is_period};
use gateway_audit::retention::{MAX_MEMORY, MEMORY, Memory};
use rustix::fs::{FlockOperation, flock};

use super::RetentionError;
use crate::replace::replace;

/// Locked by whoever changes what lies in the directory.
const LOCK: &str = "lock";

fn failed(path: &Path) -> impl FnOnce(io::Error) -> RetentionError {
    let path = path.to_owned();
    move |source| RetentionError::Io { path, source }
}

/// What lies in a key directory.
#[derive(Debug, Default)]
pub struct Keys {
    /// Wrapped data keys.
    pub live: Vec<KeyFile>,
    /// What stands for those that were destroyed.
    pub destroyed: Vec<Destroyed>,
    /// Files that are neither, and why.
    pub odd: Vec<(PathBuf, String)>,
}

impl Keys {
    /// Reads all of them.
    ///
    /// # Errors
    /// [`RetentionError::Io`] if a folder cannot be listed, or a file not be read.
    pub fn read(directory: &Path) -> Result<Self, RetentionError> {
        let mut keys = Self::default();
        for (site, name) in folders(directory)? {
            if Pseudonym::parse(&name).is_none() {
                continue;
            }
            for (period, _) in folders(&site)?.into_iter().filter(|(_, name)| is_period(name)) {
                for entry in fs::read_dir(&period).map_err(failed(&period))? {
                    let path = entry.map_err(failed(&period))?.path();
                    // What was not finished begins with a dot.
                    if path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')) {
                        keys.take(path)?;
                    }
                }
            }
        }
        Ok(keys)
    }

    fn take(&mut self, path: PathBuf) -> Result<(), RetentionError> {
        let bytes = match fs::metadata(&path).map(|metadata| metadata.len()) {
            Ok(length) if length > MAX_FILE as u64 => Vec::new(),
            _ => match fs::read(&path) {
                // Another process may have just replaced its folder.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                bytes => bytes.map_err(failed(&path))?,
            },
        };
        let fits = |own: String| path.ends_with(own);
        if Destroyed::is(&bytes) {
            match Destroyed::parse(&bytes) {
                Ok(destroyed) if fits(place(&destroyed)) => self.destroyed.push(destroyed),
                Ok(_) => self.odd.push((path, "it is of another place".to_owned())),
                Err(error) => self.odd.push((path, error.to_string())),
            }
        } else {
            match KeyFile::parse(&bytes) {
                Ok(file) if fits(file.path()) => self.live.push(file),
                Ok(_) => self.odd.push((path, "it is of another place".to_owned())),
                Err(error) => self.odd.push((path, error.to_string())),
            }
        }
        Ok(())
    }
}

/// Where what stands for a key lies in the key directory.
pub(super) fn place(destroyed: &Destroyed) -> String {
    format!("{}/{}/{}", destroyed.pseudonym, destroyed.period, destroyed.key)
}

fn folders(directory: &Path) -> Result<Vec<(PathBuf, String)>, RetentionError> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let entry = entry.map_err(failed(directory))?;
        if entry.file_type().map_err(failed(directory))?.is_dir() {
            folders.push((entry.path(), entry.file_name().to_string_lossy().into_owned()));
        }
    }
    folders.sort();
    Ok(folders)
}

/// A key directory that this process alone changes, but for new files of data keys.
#[derive(Debug)]
pub struct Locked {
    directory: PathBuf,
    _lock: File,
}

impl Locked {
    /// Locks a key directory.
    ///
    /// # Errors
    /// [`RetentionError::Held`] if another process changes it, [`RetentionError::Io`].
    pub fn take(directory: &Path) -> Result<Self, RetentionError> {
        let path = directory.join(LOCK);
        let mut options = OpenOptions::new();
        let lock = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(failed(&path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { directory: directory.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(RetentionError::Held(directory.to_owned())),
            Err(error) => Err(failed(&path)(error.into())),
        }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes what was known at the last look.
    ///
    /// # Errors
    /// [`RetentionError::Io`].
    pub fn remember(&self, memory: &Memory) -> Result<(), RetentionError> {
        let path = self.directory.join(MEMORY);
        replace(&path, memory.to_string().as_bytes(), 0o600).map_err(failed(&path))
    }

    /// Replaces a key's file by one that holds more.
    ///
    /// # Errors
    /// [`RetentionError::Io`].
    pub fn extend(&self, file: &KeyFile) -> Result<(), RetentionError> {
        let path = self.directory.join(file.path());
        let text = file.encode().map_err(|error| failed(&path)(io::Error::other(error.to_string())))?;
        replace(&path, text.as_bytes(), 0o600).map_err(failed(&path))
    }

    /// Overwrites a key's file, and puts in its place what stands for it. A second time does no harm.
    ///
    /// # Errors
    /// [`RetentionError::Io`].
    pub fn destroy(&self, destroyed: &Destroyed) -> Result<(), RetentionError> {
        let path = self.directory.join(place(destroyed));
        match OpenOptions::new().write(true).open(&path) {
            Ok(mut file) => {
                let length = file.metadata().map_err(failed(&path))?.len();
                let zeros = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(MAX_FILE)];
                file.write_all(&zeros).and_then(|()| file.sync_all()).map_err(failed(&path))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&path)(error)),
        }
        replace(&path, destroyed.to_string().as_bytes(), 0o600).map_err(failed(&path))
    }
}

/// What was known when keys were last looked at; none if they never were.
///
/// # Errors
/// [`RetentionError::Io`], [`RetentionError::Memory`].
pub fn memory(directory: &Path) -> Result<Option<Memory>, RetentionError> {
    let path = directory.join(MEMORY);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(failed(&path))?,
    };
    let wrong = |source| RetentionError::Memory { path: path.clone(), source };
    if bytes.len() > MAX_MEMORY {
        return Err(wrong(gateway_audit::retention::MemoryError(1)));
    }
    Memory::parse(&bytes).map(Some).map_err(wrong)
}
