//! Files that are not needed any more and become others.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Whoever opened a file by its old name has read it by then.
const READ: Duration = Duration::from_secs(2);
/// How many are kept, and how long they may be: full bundles take their blocks with them.
const MOST: usize = 1_024;
const MOST_BYTES: u64 = 64 << 10;

/// A folder of files without a use, oldest first.
#[derive(Debug)]
pub(super) struct Spares {
    folder: PathBuf,
    waiting: VecDeque<(Instant, PathBuf)>,
    next: u64,
}

impl Spares {
    /// Opens the folder, or makes it. What an earlier run left there goes.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::DirBuilder::new().mode(0o700).create(&folder)?,
        }
        Ok(Self { folder, waiting: VecDeque::new(), next: 0 })
    }

    /// An empty file to be written, and its path.
    pub(super) fn file(&mut self) -> io::Result<(File, PathBuf)> {
        let old = self.waiting.pop_front_if(|(since, _)| since.elapsed() >= READ);
        let path = old.map_or_else(|| self.name(), |(_, path)| path);
        // Cut to nothing, not written over: a power cut leaves a torn file then, and none with another's old bytes.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        Ok((file, path))
    }

    fn name(&mut self) -> PathBuf {
        self.next += 1;
        self.folder.join(self.next.to_string())
    }

    /// Takes a file's name away.
    pub(super) fn retire(&mut self, path: &Path) -> io::Result<()> {
        if self.waiting.len() >= MOST || fs::symlink_metadata(path)?.len() > MOST_BYTES {
            return fs::remove_file(path);
        }
        let spare = self.name();
        fs::rename(path, &spare)?;
        self.waiting.push_back((Instant::now(), spare));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn spares() -> (tempfile::TempDir, Spares) {
        let folder = tempfile::tempdir().unwrap();
        let spares = Spares::open(folder.path().join("spare")).unwrap();
        (folder, spares)
    }

    fn inode(path: &Path) -> u64 {
        fs::metadata(path).unwrap().ino()
    }

    #[test]
    fn a_file_is_written_anew_once_nobody_reads_it_by_its_old_name() {
        let (folder, mut spares) = spares();
        let old = folder.path().join("old");
        fs::write(&old, "old bytes").unwrap();
        let was = inode(&old);
        spares.retire(&old).unwrap();
        assert!(!old.exists());
        let (_, fresh) = spares.file().unwrap();
        assert_ne!(inode(&fresh), was, "it may still be read");
        spares.waiting.iter_mut().for_each(|(since, _)| *since -= READ);
        let (file, again) = spares.file().unwrap();
        assert_eq!((inode(&again), file.metadata().unwrap().len()), (was, 0));
        assert!(spares.waiting.is_empty());
    }

    #[test]
    fn large_ones_and_those_beyond_the_bound_go() {
        let (folder, mut spares) = spares();
        let path = folder.path().join("tile");
        fs::write(&path, vec![1; 65 << 10]).unwrap();
        spares.retire(&path).unwrap();
        assert!(!path.exists() && spares.waiting.is_empty());
        for _ in 0..=MOST {
            fs::write(&path, "x").unwrap();
            spares.retire(&path).unwrap();
        }
        assert_eq!((spares.waiting.len(), fs::read_dir(&spares.folder).unwrap().count()), (MOST, MOST));
        assert!(spares.retire(&path).is_err(), "there is none");
        let again = Spares::open(spares.folder.clone()).unwrap();
        assert_eq!((again.waiting.len(), fs::read_dir(&again.folder).unwrap().count()), (0, 0));
    }
}
