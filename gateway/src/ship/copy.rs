//! `kind = "copy"`: the log's tiles and checkpoints, what they are verified with, and the reviewers' statements, in a
//! directory or an S3-compatible store. Nothing else is ever read: no key file, no segment.
//!
//! A copy is a log for whoever verifies it, at every moment: tiles come before the checkpoint that covers them, and what
//! is there is never written over, but for the checkpoint. A copy remembers: what is to be copied must continue the
//! checkpoint that the copy has, otherwise the log or the copy was rolled back, forked or altered, and that is an alarm.
//! The copy's checkpoint is where copying is taken up again.

mod connector;
mod credentials;
mod portion;
mod settings;
mod store;

use std::path::{Path, PathBuf};

use gateway_audit::checkpoint::Checkpoint;
use gateway_audit::note::MAX_NOTE;
use gateway_audit::tiles::CHECKPOINT;

pub use settings::{CopySettings, S3Settings};

use super::config::ShipConfig;
use super::cursor::of;
use super::witness::cosigned_path;
use super::{Destination, Fault, Lane};
use crate::audit::VERIFIER_KEYS;
use portion::Portion;
use store::Store;

/// The name of a cosigned checkpoint in a lane of a copy.
const COSIGNED: &str = "checkpoint.cosigned";
/// The folder of statements in a copy.
const STATEMENTS: &str = "reviewers";

/// A copy elsewhere.
#[derive(Debug)]
pub struct Copy {
    store: Store,
    keys: PathBuf,
    statements: Option<PathBuf>,
    /// State directory and name of the destination whose cosigned checkpoints are copied.
    cosigned: Option<(PathBuf, String)>,
    /// Cosigned checkpoints that the copy has.
    given: Vec<(String, Vec<u8>)>,
}

impl Copy {
    /// The copy that the settings describe.
    ///
    /// # Errors
    /// [`Fault`] if the directory cannot be made, or credentials or authorities cannot be read.
    pub fn open(settings: &CopySettings, config: &ShipConfig) -> Result<Self, Fault> {
        let audit = &config.audit;
        Ok(Self {
            store: Store::open(settings)?,
            keys: audit.verifier_keys.clone().unwrap_or_else(|| audit.directory.join(VERIFIER_KEYS)),
            statements: settings.reviewers.clone(),
            cosigned: settings.cosigned_by.clone().map(|name| (config.state.directory.clone(), name)),
            given: Vec::new(),
        })
    }

    /// The checkpoint that the copy of a lane has.
    async fn copied(&self, lane: &Lane) -> Result<Option<Checkpoint>, Fault> {
        let name = path(lane, CHECKPOINT);
        let Some(note) = self.store.read(&name).await? else { return Ok(None) };
        let alarm = |error: &dyn std::fmt::Display| Fault::Alarm(format!("`{name}` of the copy: {error}"));
        if note.len() > MAX_NOTE {
            return Err(alarm(&"it is too long"));
        }
        let signed = Checkpoint::open(&note, &lane.key, &[]).map_err(|error| alarm(&error))?;
        Ok(Some(signed.checkpoint))
    }

    /// From which of its checkpoints the copy goes on, if that is one of this log and not behind what was copied.
    fn base(lane: &Lane, from: u64, copied: Option<Checkpoint>) -> Result<Option<Checkpoint>, Fault> {
        let name = &lane.name;
        let (size, root) = (lane.checkpoint.size, lane.checkpoint.root);
        let found = copied.as_ref().map_or(0, |copied| copied.size);
        if found < from {
            return Err(Fault::Alarm(format!(
                "the copy of `{name}` has {found} entries, and {from} were copied: it was put back or emptied"
            )));
        }
        if found > size {
            return Err(Fault::Alarm(format!(
                "the copy of `{name}` has {found} entries, and the log has {size}: the log was rolled back, or another \
                 one is copied there"
            )));
        }
        if let Some(copied) = copied.as_ref().filter(|copied| copied.size == size)
            && copied.root != root
        {
            return Err(Fault::Alarm(format!(
                "the copy of `{name}` has {size} entries of another history: the log was forked, or rolled back and \
                 continued"
            )));
        }
        Ok(copied.filter(|copied| copied.size > 0))
    }

    /// What a verifier needs beside the log. It never changes but by growing.
    async fn give_statics(&self) -> Result<(), Fault> {
        let keys = std::fs::read(&self.keys).map_err(of(&self.keys))?;
        self.store.give(VERIFIER_KEYS, keys).await?;
        let Some(folder) = &self.statements else { return Ok(()) };
        for (site, number) in statements(folder).map_err(of(folder))? {
            let path = folder.join(&site).join(&number);
            let note = std::fs::read(&path).map_err(of(&path))?;
            self.store.give(&format!("{STATEMENTS}/{site}/{number}"), note).await?;
        }
        Ok(())
    }

    /// The cosigned checkpoint of a lane, once the copy covers it.
    async fn give_cosigned(&mut self, lane: &Lane) -> Result<(), Fault> {
        let Some((state, name)) = &self.cosigned else { return Ok(()) };
        let path = cosigned_path(state, name, &lane.name);
        let Ok(note) = std::fs::read(&path) else { return Ok(()) };
        if self.given.iter().any(|(given, held)| *given == lane.name && *held == note) {
            return Ok(());
        }
        let signed = Checkpoint::open(&note, &lane.key, &[]);
        let state =
            |cause: &dyn std::fmt::Display| Fault::State { file: path.display().to_string(), cause: cause.to_string() };
        if signed.map_err(|error| state(&error))?.checkpoint.size > lane.checkpoint.size {
            return Ok(());
        }
        self.store.replace(&self::path(lane, COSIGNED), note.clone()).await?;
        self.given.retain(|(given, _)| *given != lane.name);
        self.given.push((lane.name.clone(), note));
        Ok(())
    }
}

impl Destination for Copy {
    async fn take(&mut self, lane: &Lane, from: u64) -> Result<u64, Fault> {
        let copied = self.copied(lane).await?;
        let base = Self::base(lane, from, copied)?;
        let size = lane.checkpoint.size;
        if base.as_ref().is_none_or(|base| base.size < size) {
            let portion = match Portion::checked(lane, base.as_ref()) {
                // A file may have become another between its opening and its end, on a machine that stood still.
                Err(Fault::Alarm(_)) => Portion::checked(lane, base.as_ref())?,
                portion => portion?,
            };
            self.give_statics().await?;
            let completed = portion.give(&self.store).await?;
            // Readers of older checkpoints find the full ones. Whoever ends here does it again, as the checkpoint tells.
            for tile in completed {
                self.store.remove_below(&path(lane, &format!("{tile}.p"))).await?;
            }
            self.store.replace(&path(lane, CHECKPOINT), lane.note.clone()).await?;
        }
        self.give_cosigned(lane).await?;
        Ok(size)
    }

    async fn keep(&mut self, lane: &Lane) -> Result<(), Fault> {
        if lane.checkpoint.size == 0 && self.store.read(&path(lane, CHECKPOINT)).await?.is_none() {
            self.give_statics().await?;
            self.store.replace(&path(lane, CHECKPOINT), lane.note.clone()).await?;
        }
        self.give_cosigned(lane).await
    }
}

/// A file of a lane in a copy.
fn path(lane: &Lane, name: &str) -> String {
    format!("{}/{name}", lane.name)
}

/// The statements in a folder: site and number of each.
fn statements(folder: &Path) -> std::io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let plain = |name: &std::ffi::OsStr| name.to_str().filter(|name| !name.starts_with('.')).map(str::to_owned);
    for site in std::fs::read_dir(folder)? {
        let site = site?;
        let Some(name) = plain(&site.file_name()).filter(|_| site.path().is_dir()) else { continue };
        for statement in std::fs::read_dir(site.path())? {
            let Some(number) = plain(&statement?.file_name()) else { continue };
            if number.bytes().all(|byte| byte.is_ascii_digit()) {
                found.push((name.clone(), number));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests;
