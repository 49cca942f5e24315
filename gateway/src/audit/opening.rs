//! Opens sealed records with a reviewer's keys, through the files of wrapped data keys.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway_audit::destroyed::Destroyed;
use gateway_audit::header::{Envelope, EnvelopeError, KeyId, Pseudonym};
use gateway_audit::keyfile::{KeyFile, KeyFileError, MAX_FILE};
use gateway_audit::record::Why;
use gateway_audit::reviewer::private::ReviewerKey;
use gateway_audit::seal::{DataKey, SealError};

/// Why a record is not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// It is no envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The data key's file is not in the key directory: it is another directory's, or was taken away.
    #[error("the data key `{0}` is not in the key directory")]
    Gone(KeyId),
    /// The data key was destroyed, and the log has a record of it.
    #[error("the data key `{key}` was destroyed ({}, operation `{operation}`)", why.label())]
    Destroyed {
        /// The key.
        key: KeyId,
        /// Why.
        why: Why,
        /// What the record of it is found by.
        operation: String,
    },
    /// The data key's file cannot be read, or is not wrapped to this reviewer.
    #[error("data key `{key}`: {error}")]
    Key {
        /// The key.
        key: KeyId,
        /// Why.
        error: KeyFileError,
    },
    /// The data key was made for another log: its records do not belong here, or the key directory is another gateway's.
    #[error("data key `{key}` is one of the log `{found}`, not of `{log}`")]
    Log {
        /// The key.
        key: KeyId,
        /// The log that the record stands in.
        log: String,
        /// The log that the key's file names.
        found: String,
    },
    /// The record is not what was sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// A reviewer's view of key directories. Data keys are unwrapped once and kept.
pub struct Opener {
    directories: Vec<PathBuf>,
    reviewer: Arc<ReviewerKey>,
    keys: HashMap<KeyId, Result<(DataKey, KeyFile), OpeningError>>,
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("directories", &self.directories).finish_non_exhaustive()
    }
}

impl Opener {
    /// Opens what this reviewer may, by the key files in a directory.
    #[must_use]
    pub fn new(key_directory: &Path, reviewer: impl Into<Arc<ReviewerKey>>) -> Self {
        Self { directories: vec![key_directory.to_owned()], reviewer: reviewer.into(), keys: HashMap::new() }
    }

    /// Looks for key files in another directory as well, such as that of another node.
    #[must_use]
    pub fn also(mut self, key_directory: &Path) -> Self {
        self.directories.push(key_directory.to_owned());
        self
    }

    /// The record in an envelope that stands at a place of a log. `log` is that log's name; without, the name that the
    /// key's file gives is taken, and only the seal tells whether the record was made for it.
    ///
    /// # Errors
    /// [`OpeningError`].
    pub fn open(&mut self, log: Option<&str>, sequence: u64, envelope: &[u8]) -> Result<Vec<u8>, OpeningError> {
        let envelope = Envelope::decode(envelope)?;
        let (site, id) = (envelope.header.site, envelope.header.key);
        if !self.keys.contains_key(&id) {
            let key = self.unwrap(site, id);
            self.keys.insert(id, key);
        }
        match self.keys.get(&id) {
            Some(Ok((_, file))) if log.is_some_and(|log| log != file.origin) => {
                Err(OpeningError::Log { key: id, log: log.unwrap_or_default().to_owned(), found: file.origin.clone() })
            }
            Some(Ok((key, file))) => Ok(key.open(&file.origin, sequence, &envelope)?),
            Some(Err(error)) => Err(error.clone()),
            None => Err(OpeningError::Gone(id)),
        }
    }

    /// The key's file lies in the folder of one of its site's periods.
    fn unwrap(&self, site: Pseudonym, id: KeyId) -> Result<(DataKey, KeyFile), OpeningError> {
        let sites = self.directories.iter().map(|directory| directory.join(site.to_string()));
        let periods = sites.flat_map(fs::read_dir).flatten().flatten();
        let mut files = periods.map(|period| period.path().join(id.to_string()));
        let path = files.find(|path| path.exists()).ok_or(OpeningError::Gone(id))?;
        let failed = |error| OpeningError::Key { key: id, error };
        let long = fs::metadata(&path).is_ok_and(|metadata| metadata.len() > MAX_FILE as u64);
        let bytes = if long { Vec::new() } else { fs::read(&path).map_err(|_| OpeningError::Gone(id))? };
        if Destroyed::is(&bytes) {
            let Destroyed { why, operation, .. } = Destroyed::parse(&bytes).map_err(failed)?;
            return Err(OpeningError::Destroyed { key: id, why, operation });
        }
        let file = KeyFile::parse(&bytes).map_err(failed)?;
        let secret = file.open(&self.reviewer).map_err(failed)?;
        Ok((DataKey::new(&secret)?, file))
    }
}

#[cfg(test)]
mod tests {
    use gateway_audit::header::{ClearHeader, Kind};
    use gateway_audit::seal::Secret;

    use super::*;

    #[test]
    fn a_key_of_another_log_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let reviewer = ReviewerKey::new("auditor", [5; 32], [6; 32]).unwrap();
        let (secret, id) = (Secret::new([3; 32]), KeyId([4; 16]));
        let mut file = KeyFile {
            origin: "log.example/gw1/lane-1".into(),
            site: None,
            pseudonym: Pseudonym::NONE,
            class: None,
            period: "2026-11-23".into(),
            days: std::num::NonZeroU32::MIN,
            key: id,
            first: 1,
            wrapped: Vec::new(),
        };
        file.wrap_to(&secret, reviewer.public()).unwrap();
        let path = folder.path().join(file.path());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file.encode().unwrap()).unwrap();
        let header = ClearHeader { kind: Kind::Start, unix_ns: 0, site: Pseudonym::NONE, key: id, reference: "" };
        let mut envelope = Vec::new();
        let key = DataKey::new(&secret).unwrap();
        key.seal_into(&file.origin, 7, &header, b"{}", &mut envelope).unwrap();
        let mut opener = Opener::new(folder.path(), reviewer);
        assert_eq!(opener.open(Some("log.example/gw1/lane-1"), 7, &envelope).unwrap(), b"{}");
        assert_eq!(opener.open(None, 7, &envelope).unwrap(), b"{}");
        let error = opener.open(Some("log.example/gw1/lane-2"), 7, &envelope).unwrap_err().to_string();
        assert!(error.contains("gw1/lane-1`") && error.contains("gw1/lane-2`"), "{error}");
    }
}
