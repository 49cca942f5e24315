//! Verifies one lane.

use std::path::PathBuf;

use gateway_audit::header::Envelope;
use gateway_audit::note::{MAX_NOTE, VerifierKey};
use gateway_audit::tiles::entry::Entry;
use gateway_audit::tiles::{CHECKPOINT, Files as _};
use gateway_audit::verify::{Against, Part, Verified, VerifiedPart, VerifyError};

use crate::directory::Directory;
use crate::inputs::{Older, Witnesses, origin};
use crate::wal::{self, Held, Tail, WalError};
use crate::witness::{self, Witnessed};

/// How often a log that its writer changes meanwhile is looked at: partial tiles make way for others.
const LOOKS: u32 = 5;

/// One lane.
#[derive(Debug)]
pub struct Lane {
    /// Its folder.
    pub path: PathBuf,
    /// The log that its checkpoint says it is.
    pub origin: Option<String>,
    /// What was found.
    pub outcome: Outcome,
}

/// What was found in a lane.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing bad.
    Good(Box<Good>),
    /// Nothing bad in the part that was asked for.
    GoodPart(Box<GoodPart>),
    /// Something bad, in words.
    Bad(String),
    /// A file is there and cannot be read, which says nothing about the log.
    Unreadable(String),
}

impl Outcome {
    /// Whether nothing bad was found, in all of the lane or the part that was asked for.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        matches!(self, Self::Good(_) | Self::GoodPart(_))
    }
}

/// Part of a lane, that holds nothing bad.
#[derive(Debug)]
pub struct GoodPart {
    /// What was verified.
    pub verified: VerifiedPart,
    /// Times of the first and last record that was asked for, by their clear headers, nanoseconds since the Unix epoch.
    pub times: Option<(i64, i64)>,
    /// What enough witnesses signed, where that was asked for.
    pub witnessed: Option<Witnessed>,
}

/// A lane that holds nothing bad.
#[derive(Debug)]
pub struct Good {
    /// What the checkpoint covers.
    pub verified: Verified,
    /// Times of its first and last record by their clear headers, nanoseconds since the Unix epoch.
    pub times: Option<(i64, i64)>,
    /// What witnesses signed, where they must have.
    pub witnessed: Option<Witnessed>,
    /// What the write-ahead log has behind that, where it is there.
    pub tail: Option<Tail>,
}

/// What a lane is verified with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct With<'a> {
    pub(crate) keys: &'a [VerifierKey],
    pub(crate) older: &'a [Older],
    pub(crate) witnesses: Option<&'a Witnesses>,
    pub(crate) part: Option<Part>,
}

/// Verifies a lane with the key of its name.
pub(crate) fn verify(path: PathBuf, with: With<'_>) -> Lane {
    let mut files = Directory(path);
    let mut look = 1;
    loop {
        let before = files.read(CHECKPOINT, MAX_NOTE);
        let name = before.as_ref().ok().and_then(Option::as_ref).and_then(|note| origin(note));
        let outcome = match &before {
            Err(error) => Outcome::Unreadable(format!("`{CHECKPOINT}` cannot be read: {error}")),
            Ok(_) => look_once(&mut files, name.as_deref(), with),
        };
        // A checkpoint that is still the same when the look ends is the one that was looked at.
        let same = match (&before, files.read(CHECKPOINT, MAX_NOTE)) {
            (Ok(before), Ok(after)) => *before == after,
            (Ok(_) | Err(_), Ok(_) | Err(_)) => true,
        };
        if outcome.is_good() || same || look == LOOKS {
            return Lane { path: files.0, origin: name, outcome };
        }
        look += 1;
    }
}

fn look_once(files: &mut Directory, name: Option<&str>, with: With<'_>) -> Outcome {
    let keys = with.keys;
    let candidates: Vec<&VerifierKey> = match name {
        Some(name) => keys.iter().filter(|key| key.name() == name).collect(),
        // Its checkpoint is missing or none: any key tells which.
        None => keys.iter().take(1).collect(),
    };
    let Some(name) = name.filter(|_| candidates.is_empty()) else {
        return with_keys(files, &candidates, with);
    };
    Outcome::Bad(format!("`{CHECKPOINT}` is of the log `{}`, and no key is for that", name.escape_debug()))
}

/// Tries the keys of one name; more than one is there only where a log's key was changed.
fn with_keys(files: &mut Directory, keys: &[&VerifierKey], with: With<'_>) -> Outcome {
    let mut outcome = Outcome::Bad("no key is given".to_owned());
    for key in keys {
        outcome = with_key(files, key, with);
        if outcome.is_good() {
            break;
        }
    }
    outcome
}

fn with_key(files: &mut Directory, key: &VerifierKey, with: With<'_>) -> Outcome {
    let older = with.older.iter().find(|older| older.origin() == key.name());
    let signed = match with.witnesses.map(|witnesses| witness::newest(files, key, older, witnesses)).transpose() {
        Ok(signed) => signed,
        Err(outcome) => return *outcome,
    };
    let against = Against { cosigners: &[], older: older.map(|older| older.note.as_slice()) };
    if let Some(part) = with.part {
        return with_part(files, key, against, part, signed);
    }
    let mut held = match wal::first(&files.0) {
        Ok(first) => Held::new(first),
        Err(error) => return told(&error),
    };
    let mut times = None;
    let verified = gateway_audit::verify::verify(files, key, against, |_, entry| {
        held.take(entry);
        note_time(&mut times, entry);
    });
    let verified = match verified {
        Ok(verified) => verified,
        Err(VerifyError::Read(error)) => return Outcome::Unreadable(error.to_string()),
        Err(error) => return Outcome::Bad(error.to_string()),
    };
    let witnessed = match signed.map(|signed| witness::check(files, &verified.signed.checkpoint, signed)).transpose() {
        Ok(witnessed) => witnessed,
        Err(why) => return Outcome::Bad(why),
    };
    match wal::check(&files.0, verified.records, &held) {
        Ok(tail) => Outcome::Good(Box::new(Good { verified, times, witnessed, tail })),
        Err(error) => told(&error),
    }
}

fn with_part(
    files: &mut Directory,
    key: &VerifierKey,
    against: Against<'_>,
    part: Part,
    signed: Option<witness::Signed>,
) -> Outcome {
    let mut times = None;
    let verified =
        gateway_audit::verify::verify_part(files, key, against, part, |_, entry| note_time(&mut times, entry));
    let verified = match verified {
        Ok(verified) => verified,
        Err(VerifyError::Read(error)) => return Outcome::Unreadable(error.to_string()),
        Err(error) => return Outcome::Bad(error.to_string()),
    };
    match signed.map(|signed| witness::check(files, &verified.signed.checkpoint, signed)).transpose() {
        Ok(witnessed) => Outcome::GoodPart(Box::new(GoodPart { verified, times, witnessed })),
        Err(why) => Outcome::Bad(why),
    }
}

/// Keeps the times of the first and the last record.
fn note_time(times: &mut Option<(i64, i64)>, entry: &Entry<'_>) {
    if entry.part == 0
        && let Ok(envelope) = Envelope::decode(entry.bytes)
    {
        let first = times.map_or(envelope.header.unix_ns, |(first, _)| first);
        *times = Some((first, envelope.header.unix_ns));
    }
}

fn told(error: &WalError) -> Outcome {
    match error {
        WalError::Unreadable { .. } => Outcome::Unreadable(error.to_string()),
        WalError::Bad(_) | WalError::Differs { .. } | WalError::Hole { .. } => Outcome::Bad(error.to_string()),
    }
}
