//! Files that go together, such as a certificate and its key: whether they have become others, without reading them.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What tells one state of a file from another; none where there is no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(Option<(u64, u64, u64, i64, i64)>);

impl Stamp {
    fn of(path: &Path) -> Self {
        let metadata = std::fs::metadata(path).ok();
        Self(metadata.map(|m| (m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec())))
    }
}

/// The files and their state.
#[derive(Debug)]
pub(crate) struct Watched {
    paths: Vec<PathBuf>,
    /// As they were when somebody read them last.
    seen: Vec<Stamp>,
    /// As they were at the last look, where that was something else: they are to be read once they stay the same.
    moving: Option<Vec<Stamp>>,
}

impl Watched {
    /// Make it before the files are read, so that what changes meanwhile is seen.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        let seen = paths.iter().map(|path| Stamp::of(path)).collect();
        Self { paths, seen, moving: None }
    }

    /// Whether the files have become others and have stayed so since the last look: they are several, and whoever
    /// replaces them does so one after the other.
    pub(crate) fn settled(&mut self) -> bool {
        let found: Vec<_> = self.paths.iter().map(|path| Stamp::of(path)).collect();
        if found == self.seen {
            self.moving = None;
            return false;
        }
        let is_settled = self.moving.as_ref() == Some(&found);
        if is_settled {
            self.seen.clone_from(&found);
        }
        self.moving = (!is_settled).then_some(found);
        is_settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_still_moves_has_not_settled() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&one, "1").unwrap();
        let mut watched = Watched::new(vec![one.clone(), two.clone()]);
        assert!(!watched.settled());
        std::fs::write(&one, "12").unwrap();
        assert!(!watched.settled());
        std::fs::write(&two, "1").unwrap();
        assert!(!watched.settled(), "the second came after the look");
        assert!(watched.settled());
        assert!(!watched.settled(), "told once");
        std::fs::remove_file(&two).unwrap();
        assert!(!watched.settled());
        assert!(watched.settled());
    }
}
