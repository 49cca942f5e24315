//! Asking witnesses for cosignatures (C2SP tlog-witness), and how many of them stand under a checkpoint.
//!
//! A witness remembers the newest checkpoint of each log that it signed. It signs another one only if a consistency proof
//! shows that the log goes on from there: a log that was put back, or that goes on in two ways, finds none that signs.
//! Here are the bytes of question and answer, and their judgement; who carries them is the caller's matter.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::checkpoint::{self, Checkpoint, CheckpointError};
use crate::merkle::{self, Hash, ProveError};
use crate::note::{MAX_NOTE, VerifierKey};
use crate::tiles::{Files, ReadError, TileHashes};

/// The most hashes of a consistency proof that a request may have.
pub const MAX_LINES: usize = 63;
/// The longest answer that is read, bytes.
pub const MAX_ANSWER: usize = 64 * 1024;
/// The media type of an answer that names the witness's size.
pub const SIZE_TYPE: &str = "text/x.tlog.size";

/// The body of a request `add-checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the checkpoint that the witness signed last, 0 if none.
    pub old: u64,
    /// The consistency proof from there.
    pub proof: Vec<Hash>,
    /// The signed checkpoint, verbatim.
    pub checkpoint: String,
}

/// Why a request cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The checkpoint is not the log's.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The witness has signed more entries than the log has.
    #[error("the witness has signed {witnessed} entries, and the log has {size}: the log was rolled back or forked")]
    Behind {
        /// Entries that the witness has signed.
        witnessed: u64,
        /// Entries of the log.
        size: u64,
    },
    /// A tile cannot be read.
    #[error(transparent)]
    Tile(#[from] ReadError),
}

impl AddCheckpoint {
    /// Makes the request for a signed checkpoint, its proof from the log's tiles.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn create<F: Files>(files: &mut F, checkpoint: &str, log: &VerifierKey, old: u64) -> Result<Self, AskError> {
        let size = Checkpoint::open(checkpoint.as_bytes(), log, &[])?.checkpoint.size;
        let proof = match merkle::prove_consistency(&mut TileHashes::new(files, size), old, size) {
            Ok(proof) => proof,
            Err(ProveError::Outside { .. }) => return Err(AskError::Behind { witnessed: old, size }),
            Err(ProveError::Source(error)) => return Err(error.into()),
        };
        Ok(Self { old, proof, checkpoint: checkpoint.to_owned() })
    }

    /// Reads a body strictly; none if it is not one.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= 2 * MAX_NOTE)?;
        let (head, checkpoint) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        let old = lines.next()?.strip_prefix("old ").and_then(checkpoint::decimal)?;
        let proof = lines.map(checkpoint::hash).collect::<Option<Vec<_>>>()?;
        (proof.len() <= MAX_LINES).then(|| Self { old, proof, checkpoint: checkpoint.to_owned() })
    }
}

/// The body's text.
impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", BASE64.encode(hash)))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// What a witness answered, and what that means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Signature lines, not verified: see [`accept`].
    Lines(String),
    /// The checkpoint that it signed last has another size.
    Size(u64),
}

/// A witness's refusal, or an answer that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// 403: it does not take the log's signature.
    #[error("the witness does not take the log's signature (403): it knows another key under this log's name")]
    Forbidden,
    /// 404: it does not know the log.
    #[error("the witness does not know this log (404): its operator has to add it")]
    UnknownLog,
    /// 422: the checkpoint does not continue what it signed.
    #[error(
        "the witness has signed another history of this log (422): the log was forked, or rolled back and continued"
    )]
    Inconsistent,
    /// 409 with something else than a size.
    #[error("the witness answers 409 without a size")]
    NoSize,
    /// The answer is too long or not text.
    #[error("the witness's answer is not text of a sensible length")]
    Garbage,
    /// Another status.
    #[error("the witness answers {0}")]
    Status(u16),
}

impl AnswerError {
    /// Whether it says that the log is not what the witness knows.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Inconsistent)
    }
}

/// Reads the answer to `add-checkpoint`.
///
/// # Errors
/// [`AnswerError`] if the witness signs nothing.
pub fn read_answer(status: u16, content_type: Option<&str>, body: &[u8]) -> Result<Answer, AnswerError> {
    let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= MAX_ANSWER);
    match status {
        200 => text.map(|text| Answer::Lines(text.to_owned())).ok_or(AnswerError::Garbage),
        403 => Err(AnswerError::Forbidden),
        404 => Err(AnswerError::UnknownLog),
        409 => {
            let kind = content_type.and_then(|kind| kind.split(';').next()).map(str::trim);
            let size = text.and_then(|text| text.strip_suffix('\n')).and_then(checkpoint::decimal);
            size.filter(|_| kind == Some(SIZE_TYPE)).map(Answer::Size).ok_or(AnswerError::NoSize)
        }
        422 => Err(AnswerError::Inconsistent),
        status => Err(AnswerError::Status(status)),
    }
}

/// Why an answer's signature lines are not taken, or a checkpoint has too few of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CosignatureError {
    /// They are no signature lines, or a known witness's is not of this checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// None is of a known witness.
    #[error("the witness's answer has no signature of a key that is known")]
    Unknown,
    /// A witness's time is zero, or too far from this machine's.
    #[error("`{name}` states the time {time}, and it is {now} by this machine's clock (seconds since 1970)")]
    Time {
        /// The witness.
        name: String,
        /// Its time.
        time: u64,
        /// The caller's.
        now: u64,
    },
}

/// Takes the signature lines that a witness answered with: gives the checkpoint with those of known keys added to its
/// signatures, and the time that the witness stated. `now` is the caller's time, seconds since the Unix epoch, and `skew`
/// how far the witness's may be from it.
///
/// # Errors
/// [`CosignatureError`]; nothing of the answer is to be kept.
pub fn accept(
    checkpoint: &str,
    log: &VerifierKey,
    witness: &[VerifierKey],
    lines: &str,
    now: u64,
    skew: Duration,
) -> Result<(String, u64), CosignatureError> {
    let note = format!("{checkpoint}{lines}");
    let signed = Checkpoint::open(note.as_bytes(), log, witness)?;
    let mut accepted = checkpoint.to_owned();
    let mut newest = None;
    for (key, time) in &signed.cosigners {
        if *time == 0 || now.abs_diff(*time) > skew.as_secs() {
            return Err(CosignatureError::Time { name: key.name().to_owned(), time: *time, now });
        }
        newest = newest.max(Some(*time));
    }
    for line in lines.lines() {
        let known = |key: &&VerifierKey| line_is_of(line, key);
        if witness.iter().any(|key| known(&key)) && !accepted.contains(line) {
            accepted.push_str(line);
            accepted.push('\n');
        }
    }
    newest.map(|time| (accepted, time)).ok_or(CosignatureError::Unknown)
}

/// Whether a signature line bears this key's name and id.
fn line_is_of(line: &str, key: &VerifierKey) -> bool {
    let Some((name, signature)) = line.strip_prefix("\u{2014} ").and_then(|line| line.split_once(' ')) else {
        return false;
    };
    let signature = BASE64.decode(signature).unwrap_or_default();
    name == key.name() && signature.first_chunk::<4>() == Some(&key.id().to_be_bytes())
}

/// Witnesses that are known, and how many must have signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quorum<'a> {
    /// Their keys. Two keys of one name are one witness.
    pub keys: &'a [VerifierKey],
    /// How many must have signed; 0 requires none.
    pub require: usize,
    /// The time, seconds since the Unix epoch: a cosignature from later does not count.
    pub now: u64,
    /// How far a witness's clock may be ahead of that.
    pub skew: Duration,
}

/// A checkpoint that enough witnesses vouch for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// What they signed.
    pub checkpoint: Checkpoint,
    /// Those whose signature counts, each once, with its newest time, seconds since the Unix epoch.
    pub witnesses: Vec<(String, u64)>,
}

impl Cosigned {
    /// The time at which so many witnesses had all seen it.
    #[must_use]
    pub fn time(&self, witnesses: usize) -> Option<u64> {
        let mut times: Vec<u64> = self.witnesses.iter().map(|(_, time)| *time).collect();
        times.sort_unstable();
        times.iter().rev().nth(witnesses.checked_sub(1)?).copied()
    }
}

/// Why a checkpoint has not enough cosignatures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// It is none, or a known key's signature is wrong.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Too few known witnesses have signed it.
    #[error("{found} of {known} known witnesses have signed the checkpoint of {size} entries, {require} are required")]
    Few {
        /// Witnesses whose signature counts.
        found: usize,
        /// Witnesses that are known.
        known: usize,
        /// How many must have signed.
        require: usize,
        /// The checkpoint's size.
        size: u64,
    },
    /// A known witness's time is in the future.
    #[error("`{name}` states the time {time}, which is in the future: it is {now} (seconds since 1970)")]
    Future {
        /// The witness.
        name: String,
        /// Its time.
        time: u64,
        /// The caller's.
        now: u64,
    },
}

impl Quorum<'_> {
    /// Number of witnesses.
    #[must_use]
    pub fn known(&self) -> usize {
        let names: std::collections::BTreeSet<_> = self.keys.iter().map(VerifierKey::name).collect();
        names.len()
    }

    /// Verifies a checkpoint of a log and counts who has signed it.
    ///
    /// # Errors
    /// [`QuorumError`].
    pub fn judge(&self, note: &[u8], log: &VerifierKey) -> Result<Cosigned, QuorumError> {
        let signed = Checkpoint::open(note, log, self.keys)?;
        let mut witnesses: Vec<(String, u64)> = Vec::new();
        for (key, time) in signed.cosigners {
            if time > self.now.saturating_add(self.skew.as_secs()) {
                return Err(QuorumError::Future { name: key.name().to_owned(), time, now: self.now });
            }
            // Without a time it does not say that this was the largest tree.
            match witnesses.iter_mut().find(|(name, _)| name == key.name()) {
                _ if time == 0 => {}
                Some((_, newest)) => *newest = time.max(*newest),
                None => witnesses.push((key.name().to_owned(), time)),
            }
        }
        if witnesses.len() < self.require {
            let (found, known) = (witnesses.len(), self.known());
            return Err(QuorumError::Few { found, known, require: self.require, size: signed.checkpoint.size });
        }
        Ok(Cosigned { checkpoint: signed.checkpoint, witnesses })
    }
}

#[cfg(test)]
mod tests;
