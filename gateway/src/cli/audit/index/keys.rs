//! Data keys for one reviewer, from the files in key directories, and what tells that a file was changed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use gateway_audit::header::{Envelope, KeyId, Pseudonym};
use gateway_audit::keyfile::{KeyFile, KeyFileError, MAX_FILE};
use gateway_audit::reviewer::private::ReviewerKey;
use gateway_audit::seal::DataKey;

use super::manifest::{Stamp, State};

/// Why there is no key.
#[derive(Debug, Clone)]
pub(super) struct NoKey {
    pub(super) state: State,
    pub(super) why: String,
}

/// What an envelope opens to.
pub(super) enum Opened {
    Record(Vec<u8>),
    /// Its data key is not there, or is not for this reviewer.
    NoKey(NoKey),
    /// Its data key is there, and it does not open.
    Bad(String),
}

/// Key directories, with a reviewer's eyes.
pub(super) struct Keys {
    directories: Vec<PathBuf>,
    reviewer: ReviewerKey,
    paths: HashMap<KeyId, PathBuf>,
    /// Each with the log that its file names.
    opened: HashMap<KeyId, Result<(DataKey, String), NoKey>>,
}

impl Keys {
    /// Lists key directories.
    ///
    /// # Errors
    /// If one cannot be listed.
    pub(super) fn new(directories: Vec<PathBuf>, reviewer: ReviewerKey) -> Result<Self, (PathBuf, io::Error)> {
        let mut keys = Self { directories, reviewer, paths: HashMap::new(), opened: HashMap::new() };
        for directory in &keys.directories {
            for site in fs::read_dir(directory).map_err(|error| (directory.clone(), error))?.flatten() {
                if site.file_name().to_str().and_then(Pseudonym::parse).is_some() {
                    list(&site.path(), &mut keys.paths);
                }
            }
        }
        Ok(keys)
    }

    /// Forgets what is known of a key's file, which may have been written since.
    fn look(&mut self, site: Pseudonym, id: KeyId) {
        for directory in &self.directories {
            list(&directory.join(site.to_string()), &mut self.paths);
            if self.paths.contains_key(&id) {
                return;
            }
        }
    }

    /// The stamp of a key's file; none if there is none.
    pub(super) fn stamp(&self, id: KeyId) -> Option<Stamp> {
        let metadata = fs::metadata(self.paths.get(&id)?).ok().filter(fs::Metadata::is_file)?;
        let nanos = metadata.ctime().wrapping_mul(1_000_000_000).wrapping_add(metadata.ctime_nsec());
        Some((metadata.len(), u64::from_ne_bytes(nanos.to_ne_bytes()), metadata.ino()))
    }

    /// How a key of this log is found.
    pub(super) fn state(&mut self, origin: &str, site: Pseudonym, id: KeyId) -> (State, Stamp) {
        let state = match self.key(site, id) {
            Ok((_, log)) if log == origin => State::Opened,
            Ok(_) => State::Closed,
            Err(none) => none.state,
        };
        (state, self.stamp(id).unwrap_or_default())
    }

    /// Opens a record of this log, or of the one that its key names.
    pub(super) fn open(&mut self, origin: Option<&str>, sequence: u64, envelope: &Envelope<'_>) -> Opened {
        match self.key(envelope.header.site, envelope.header.key) {
            Err(none) => Opened::NoKey(none.clone()),
            Ok((_, log)) if origin.is_some_and(|origin| origin != log) => {
                let why = format!("data key `{}` is one of the log `{log}`", envelope.header.key);
                Opened::NoKey(NoKey { state: State::Closed, why })
            }
            Ok((key, log)) => match key.open(log, sequence, envelope) {
                Ok(record) => Opened::Record(record),
                Err(error) => Opened::Bad(error.to_string()),
            },
        }
    }

    /// Why a key does not open.
    pub(super) fn why(&mut self, site: Pseudonym, id: KeyId) -> Option<String> {
        self.key(site, id).as_ref().err().map(|none| none.why.clone())
    }

    fn key(&mut self, site: Pseudonym, id: KeyId) -> &Result<(DataKey, String), NoKey> {
        if !self.opened.contains_key(&id) {
            if !self.paths.contains_key(&id) {
                self.look(site, id);
            }
            let key = self.unwrap(id);
            self.opened.insert(id, key);
        }
        self.opened.entry(id).or_insert_with(|| Err(gone(id)))
    }

    fn unwrap(&self, id: KeyId) -> Result<(DataKey, String), NoKey> {
        let path = self.paths.get(&id).ok_or_else(|| gone(id))?;
        let file = read(path).ok_or_else(|| gone(id))?;
        let closed =
            |error: &dyn std::fmt::Display| NoKey { state: State::Closed, why: format!("data key `{id}`: {error}") };
        let parsed: Result<KeyFile, KeyFileError> = KeyFile::parse(&file);
        let file = parsed.map_err(|error| closed(&error))?;
        let secret = file.open(&self.reviewer).map_err(|error| closed(&error))?;
        Ok((DataKey::new(&secret).map_err(|error| closed(&error))?, file.origin))
    }
}

fn gone(id: KeyId) -> NoKey {
    NoKey { state: State::Gone, why: format!("the data key `{id}` is not in the key directory") }
}

/// A file's bytes, unless it is longer than any key's; none if it cannot be read.
fn read(path: &Path) -> Option<Vec<u8>> {
    let long = fs::metadata(path).ok()?.len() > MAX_FILE as u64;
    if long { Some(Vec::new()) } else { fs::read(path).ok() }
}

/// Adds the key files of one site.
fn list(site: &Path, paths: &mut HashMap<KeyId, PathBuf>) {
    for period in fs::read_dir(site).into_iter().flatten().flatten() {
        for file in fs::read_dir(period.path()).into_iter().flatten().flatten() {
            if let Some(id) = file.file_name().to_str().and_then(KeyId::parse) {
                paths.insert(id, file.path());
            }
        }
    }
}
