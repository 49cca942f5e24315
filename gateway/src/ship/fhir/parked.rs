//! Events that the server refuses, by name: a line each of `parked`, on stable storage before the position moves on.
//!
//! Nothing of a record's content stands there. `sekisho audit export --format fhir` writes the event again.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::ship::Fault;
use crate::ship::cursor::of;

/// The file.
#[derive(Debug)]
pub(super) struct Parked(PathBuf);

impl Parked {
    /// The file in a destination's folder.
    pub(super) fn new(folder: &Path) -> Self {
        Self(folder.join("parked"))
    }

    /// Adds an event: its record, its part, and what the server answered.
    ///
    /// # Errors
    /// [`Fault::State`].
    pub(super) fn add(&self, lane: &str, sequence: u64, part: usize, status: u16) -> Result<(), Fault> {
        let line = format!("{lane} {sequence} part {part} status {status}\n");
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(&self.0);
        let written = file.and_then(|mut file| {
            file.write_all(line.as_bytes())?;
            file.sync_all()
        });
        written.map_err(of(&self.0))
    }
}
