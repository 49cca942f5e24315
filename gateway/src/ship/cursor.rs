//! How far a destination has got in a lane, on disk: a file of three lines, replaced as a whole and synced.
//!
//! ```text
//! sekisho ship cursor v1
//! origin <name of the log>
//! entries <number>
//! ```

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::Fault;
use crate::replace::replace;

const FIRST_LINE: &str = "sekisho ship cursor v1";

/// The positions of one destination.
#[derive(Debug)]
pub struct Cursors {
    folder: PathBuf,
}

impl Cursors {
    /// Those in the destination's folder of the state directory, which is made.
    ///
    /// # Errors
    /// [`Fault::State`] names the folder.
    pub fn open(state: &Path, destination: &str) -> Result<Self, Fault> {
        let folder = state.join(destination);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(of(&folder))?;
        Ok(Self { folder })
    }

    /// The destination's folder, for what else it keeps.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How many entries of a lane are done; 0 where none ever was.
    ///
    /// # Errors
    /// [`Fault::State`] if the file is not as it was written, [`Fault::Log`] if it is another log's.
    pub fn read(&self, lane: &str, origin: &str) -> Result<u64, Fault> {
        let path = self.path(lane);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            read => read.map_err(of(&path))?,
        };
        let (written, entries) = parse(&text).ok_or_else(|| Fault::State {
            file: path.display().to_string(),
            cause: "it is no position; remove it to ship the lane from its beginning".to_owned(),
        })?;
        if written != origin {
            return Err(Fault::Log(format!(
                "`{lane}` is the log `{origin}`, and what was shipped of it so far was of the log `{written}`"
            )));
        }
        Ok(entries)
    }

    /// Keeps a position; it is on stable storage when this returns.
    ///
    /// # Errors
    /// [`Fault::State`].
    pub fn write(&self, lane: &str, origin: &str, entries: u64) -> Result<(), Fault> {
        let path = self.path(lane);
        let text = format!("{FIRST_LINE}\norigin {origin}\nentries {entries}\n");
        replace(&path, text.as_bytes(), 0o600).map_err(of(&path))
    }

    fn path(&self, lane: &str) -> PathBuf {
        self.folder.join(format!("{lane}.cursor"))
    }
}

fn parse(text: &str) -> Option<(&str, u64)> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let (first, origin, entries) = (lines.next()?, lines.next()?, lines.next()?);
    (first == FIRST_LINE && lines.next().is_none()).then_some(())?;
    Some((origin.strip_prefix("origin ")?, entries.strip_prefix("entries ")?.parse().ok()?))
}

pub(super) fn of(path: &Path) -> impl FnOnce(io::Error) -> Fault {
    let file = path.display().to_string();
    move |error| Fault::State { file, cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_kept_and_belongs_to_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let cursors = Cursors::open(folder.path(), "siem").unwrap();
        assert_eq!(cursors.read("lane-1", "log/1").unwrap(), 0);
        cursors.write("lane-1", "log/1", 7).unwrap();
        cursors.write("lane-2", "log/2", 9).unwrap();
        let again = Cursors::open(folder.path(), "siem").unwrap();
        assert_eq!((again.read("lane-1", "log/1").unwrap(), again.read("lane-2", "log/2").unwrap()), (7, 9));
        let error = again.read("lane-1", "log/3").unwrap_err().to_string();
        assert!(error.contains("`log/1`") && error.contains("`log/3`"), "{error}");
        for bad in
            ["", "7\n", "sekisho ship cursor v1\norigin a\nentries x\n", "sekisho ship cursor v1\norigin a\nentries 1"]
        {
            fs::write(folder.path().join("siem/lane-1.cursor"), bad).unwrap();
            assert!(matches!(again.read("lane-1", "log/1"), Err(Fault::State { .. })), "{bad:?}");
        }
    }
}
