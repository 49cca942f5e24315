//! Verifies audit logs as they lie in directories: a lane, a node with its lanes, or a folder of nodes.
//!
//! The checks themselves are `gateway_audit`'s; here files are found and read, and what was found is said. Nothing is
//! written, and the log may grow meanwhile. Of a lane's write-ahead log, where it is there, what no checkpoint covers
//! yet is checked as well, as far as its chain of hashes goes.
//!
//! `gateway/audit/FORMAT.md` tells how to do the same without this program.
#![forbid(unsafe_code)]

pub mod arguments;
mod directory;
mod inputs;
mod lane;
mod report;
mod wal;
mod witness;

use std::path::{Path, PathBuf};

use gateway_audit::note::VerifierKey;
use gateway_audit::verify::Part;

pub use directory::{Directory, DirectoryError, find};
pub use inputs::{InputError, Older, Witnesses, older, verifier_keys, witnesses};
pub use lane::{Lane, Outcome};
pub use report::write;
pub use wal::{Tail, WalError};
pub use witness::{COSIGNED, Witnessed};

/// What was found in a directory.
#[derive(Debug)]
pub struct Report {
    /// Each lane, by its path.
    pub lanes: Vec<Lane>,
    /// Logs with a key for which no lane is there, and whether an older checkpoint shows that there was one.
    pub absent: Vec<(String, bool)>,
}

/// How it went, by the exit codes of `sekisho-verify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is good: 0.
    Good,
    /// Something is bad: 1.
    Bad,
    /// Something could not be read, and nothing else is bad: 2, as for a command that cannot be understood.
    Unreadable,
}

impl Verdict {
    /// The exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Bad => 1,
            Self::Unreadable => 2,
        }
    }
}

impl Report {
    /// How it went.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let bad = |lane: &Lane| matches!(lane.outcome, Outcome::Bad(_));
        if self.lanes.iter().any(bad) || self.absent.iter().any(|(_, known)| *known) {
            Verdict::Bad
        } else if self.lanes.iter().all(|lane| lane.outcome.is_good()) {
            Verdict::Good
        } else {
            Verdict::Unreadable
        }
    }
}

/// Verifies every lane in a directory. With witnesses, enough of them must have signed each lane.
///
/// # Errors
/// [`DirectoryError`] if there is none, though no older checkpoint says so, or the directory cannot be listed.
pub fn verify(
    directory: &Path,
    keys: &[VerifierKey],
    older: &[Older],
    witnesses: Option<&Witnesses>,
) -> Result<Report, DirectoryError> {
    verify_part(directory, keys, older, witnesses, None)
}

/// Verifies a part of every lane in a directory, or all of it. Of a part, the write-ahead log is not looked at.
///
/// # Errors
/// As [`verify`].
pub fn verify_part(
    directory: &Path,
    keys: &[VerifierKey],
    older: &[Older],
    witnesses: Option<&Witnesses>,
    part: Option<Part>,
) -> Result<Report, DirectoryError> {
    let lanes: Vec<PathBuf> = match find(directory) {
        Err(DirectoryError::NoLog(_)) if !older.is_empty() => Vec::new(),
        lanes => lanes?,
    };
    let with = lane::With { keys, older, witnesses, part };
    let lanes: Vec<Lane> = lanes.into_iter().map(|path| lane::verify(path, with)).collect();
    let found = |name: &str| lanes.iter().any(|lane| lane.origin.as_deref() == Some(name));
    let mut absent = Vec::new();
    for name in keys.iter().map(VerifierKey::name) {
        if !found(name) && !absent.iter().any(|(other, _)| other == name) {
            absent.push((name.to_owned(), older.iter().any(|older| older.origin() == name)));
        }
    }
    Ok(Report { lanes, absent })
}

#[cfg(test)]
mod tests;
