//! What the verifier is given beside the log: keys, and checkpoints that were kept elsewhere.

use std::fmt;
use std::path::{Path, PathBuf};

use gateway_audit::note::{KeyError, KeyKind, MAX_NOTE, Note, VerifierKey};
use gateway_audit::witness::Quorum;

use crate::directory::read;

/// The longest file of keys that is read, bytes.
const MAX_KEYS: usize = 1 << 20;

/// Why a key or a checkpoint that was given cannot be used.
#[derive(Debug)]
pub enum InputError {
    /// The file is not there or cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: String,
    },
    /// A line is no verifier key.
    Key {
        /// The file and line; none for a key on the command line.
        place: Option<(PathBuf, usize)>,
        /// Why.
        error: KeyError,
    },
    /// A cosigner's key in place of a log's.
    Cosigner(String),
    /// A log's key in place of a witness's.
    Log(String),
    /// More witnesses are required than known, or none.
    Require {
        /// How many must have signed.
        require: usize,
        /// How many are known.
        known: usize,
    },
    /// A file of keys has none.
    NoKeys(PathBuf),
    /// A file is no checkpoint at all.
    NoCheckpoint(PathBuf),
    /// Two older checkpoints of one log.
    Twice(String),
    /// An older checkpoint of a log that no key is for.
    NoKey {
        /// The checkpoint's file.
        path: PathBuf,
        /// Its log.
        origin: String,
    },
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => write!(f, "`{}` cannot be read: {error}", path.display()),
            Self::Key { place: None, error } => error.fmt(f),
            Self::Key { place: Some((path, line)), error } => write!(f, "`{}`, line {line}: {error}", path.display()),
            Self::Cosigner(name) => write!(f, "the key `{name}` is a cosigner's, not a log's"),
            Self::Log(name) => write!(f, "the key `{name}` is a log's, not a witness's"),
            Self::Require { require, known } => {
                write!(f, "`--require` is {require}, and {known} witnesses are known by `--witness`")
            }
            Self::NoKeys(path) => write!(f, "`{}` has no verifier keys", path.display()),
            Self::NoCheckpoint(path) => write!(f, "`{}` is no checkpoint", path.display()),
            Self::Twice(origin) => write!(f, "two older checkpoints of `{origin}` are given: the newer one tells more"),
            Self::NoKey { path, origin } => {
                write!(f, "`{}` is a checkpoint of `{}`, and no key is for that", path.display(), origin.escape_debug())
            }
        }
    }
}

impl std::error::Error for InputError {}

/// The keys in a `--key`: a verifier key, or a file with one on each line. Empty lines and those that begin with `#`
/// are passed over.
///
/// # Errors
/// [`InputError`] if there is something else, or nothing.
pub fn verifier_keys(text: &str) -> Result<Vec<VerifierKey>, InputError> {
    keys(text, KeyKind::Log)
}

fn keys(text: &str, kind: KeyKind) -> Result<Vec<VerifierKey>, InputError> {
    let path = Path::new(text);
    // A key holds no path separator but in its name, which a file's path may look like; the file is asked for first.
    let file = read(path, MAX_KEYS)
        .map_err(|error| InputError::Unreadable { path: path.to_owned(), error: error.to_string() });
    let Some(file) = file? else {
        if text.matches('+').count() < 2 {
            return Err(InputError::Unreadable { path: path.to_owned(), error: "there is no such file".to_owned() });
        }
        return Ok(vec![key(text, kind, None)?]);
    };
    let file = String::from_utf8(file).map_err(|_| InputError::NoKeys(path.to_owned()))?;
    let mut keys = Vec::new();
    for (line, number) in file.lines().zip(1..) {
        if !line.is_empty() && !line.starts_with('#') {
            keys.push(key(line, kind, Some((path.to_owned(), number)))?);
        }
    }
    if keys.is_empty() { Err(InputError::NoKeys(path.to_owned())) } else { Ok(keys) }
}

fn key(line: &str, kind: KeyKind, place: Option<(PathBuf, usize)>) -> Result<VerifierKey, InputError> {
    let key = VerifierKey::parse(line).map_err(|error| InputError::Key { place, error })?;
    match key.kind() {
        found if found == kind => Ok(key),
        KeyKind::Cosigner => Err(InputError::Cosigner(key.name().to_owned())),
        KeyKind::Log => Err(InputError::Log(key.name().to_owned())),
    }
}

/// Witnesses that must have signed.
#[derive(Debug, Clone)]
pub struct Witnesses {
    /// Their keys.
    pub keys: Vec<VerifierKey>,
    /// How many must have signed.
    pub require: usize,
    /// The time, seconds since the Unix epoch: a cosignature from later is refused.
    pub now: u64,
}

/// The witnesses of `--witness` and `--require`; none if neither was given.
///
/// # Errors
/// [`InputError`] if a key is none or a log's, or more are required than known.
pub fn witnesses(texts: &[String], require: Option<usize>, now: u64) -> Result<Option<Witnesses>, InputError> {
    let mut all = Vec::new();
    for text in texts {
        all.extend(keys(text, KeyKind::Cosigner)?);
    }
    let known = Quorum { keys: &all, ..Quorum::default() }.known();
    if texts.is_empty() && require.is_none() {
        return Ok(None);
    }
    let require = require.unwrap_or(known);
    if require == 0 || require > known {
        return Err(InputError::Require { require, known });
    }
    Ok(Some(Witnesses { keys: all, require, now }))
}

/// A checkpoint that was kept elsewhere.
#[derive(Debug, Clone)]
pub struct Older {
    /// Its file.
    pub path: PathBuf,
    /// The signed note.
    pub note: Vec<u8>,
    origin: String,
}

impl Older {
    /// The log that it says it is of; its signature is verified with that log.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

/// Reads older checkpoints.
///
/// # Errors
/// [`InputError`] if a file is no note, two are of one log, or none of the keys is for one.
pub fn older(paths: &[PathBuf], keys: &[VerifierKey]) -> Result<Vec<Older>, InputError> {
    let mut all: Vec<Older> = Vec::new();
    for path in paths {
        let unreadable = |error: String| InputError::Unreadable { path: path.clone(), error };
        let note = read(path, MAX_NOTE).map_err(|error| unreadable(error.to_string()))?;
        let note = note.ok_or_else(|| unreadable("there is no such file".to_owned()))?;
        let origin = origin(&note).ok_or_else(|| InputError::NoCheckpoint(path.clone()))?;
        if all.iter().any(|other| other.origin == origin) {
            return Err(InputError::Twice(origin));
        }
        if !keys.iter().any(|key| key.name() == origin) {
            return Err(InputError::NoKey { path: path.clone(), origin });
        }
        all.push(Older { path: path.clone(), note, origin });
    }
    Ok(all)
}

/// The first line of a note.
pub(crate) fn origin(note: &[u8]) -> Option<String> {
    Some(Note::parse(note).ok()?.text().lines().next()?.to_owned())
}
