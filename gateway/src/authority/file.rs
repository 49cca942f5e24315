//! Files of the authority: private ones are read only from private files, and nothing is overwritten by accident.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{CaError, random};

/// The largest private file that is read.
const MAX_BYTES: u64 = 64 * 1024;

/// Reads a text that only its owner may read. The mode is that of the bytes that are read.
///
/// # Errors
/// [`CaError::File`]; [`CaError::Mode`].
pub fn read_private(path: &Path) -> Result<String, CaError> {
    let file = File::open(path).map_err(CaError::file(path))?;
    let mode = file.metadata().map_err(CaError::file(path))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(CaError::Mode { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(CaError::file(path))?;
    Ok(text)
}

/// Replaces a public file as a whole; whoever reads it sees the old one or the new one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    crate::replace::replace(path, bytes, 0o644)
}

/// A new file that is on disk under another name, and gets its own once all that belongs to it is done. Dropped before,
/// it leaves nothing.
#[derive(Debug)]
pub struct Staged {
    path: PathBuf,
    staged: PathBuf,
}

impl Staged {
    /// Writes a file that its owner alone may read.
    ///
    /// # Errors
    /// [`CaError::Exists`] if the name is taken; [`CaError::File`].
    pub fn write(path: &Path, bytes: &[u8]) -> Result<Self, CaError> {
        if path.symlink_metadata().is_ok() {
            return Err(CaError::Exists(path.to_owned()));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let staged = path.with_file_name(format!(".{name}.{}", certs::hex(&random::<8>()?)));
        let this = Self { path: path.to_owned(), staged };
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&this.staged)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(CaError::file(path))?;
        Ok(this)
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// [`CaError::Exists`] if the name was taken meanwhile; [`CaError::File`].
    pub fn commit(self) -> Result<(), CaError> {
        // A link, unlike a rename, never takes the place of what is there.
        fs::hard_link(&self.staged, &self.path).map_err(|source| {
            if source.kind() == io::ErrorKind::AlreadyExists {
                CaError::Exists(self.path.clone())
            } else {
                CaError::File { path: self.path.clone(), source }
            }
        })?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(CaError::file(&self.path))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.staged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_staged_file_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        let entries = || fs::read_dir(folder.path()).unwrap().count();
        drop(Staged::write(&path, b"secret").unwrap());
        assert_eq!(entries(), 0);
        let (first, second) = (Staged::write(&path, b"one").unwrap(), Staged::write(&path, b"two").unwrap());
        first.commit().unwrap();
        assert!(matches!(second.commit(), Err(CaError::Exists(_))));
        assert_eq!((fs::read(&path).unwrap(), entries()), (b"one".to_vec(), 1));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Staged::write(&path, b"three"), Err(CaError::Exists(_))));
    }

    #[test]
    fn a_secret_that_others_can_read_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_private(&path), Err(CaError::Mode { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_private(&path).unwrap(), "x");
    }
}
