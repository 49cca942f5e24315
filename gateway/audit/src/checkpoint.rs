//! Checkpoints (C2SP tlog-checkpoint): a log's name, size and root, signed by the log.
//!
//! A log's origin is the name of its key: whoever has the verifier key knows which log it is for.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::merkle::Hash;
use crate::note::{KeyKind, Note, NoteError, Signer, VerifierKey};

/// What a log says of itself at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// The tree's root.
    pub root: Hash,
    /// Further lines, opaque. Sekisho writes none.
    pub extensions: Vec<String>,
}

/// Why a checkpoint is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not a signed note.
    #[error("the checkpoint is refused: {0}")]
    Note(#[from] NoteError),
    /// The note's text is not a checkpoint.
    #[error("line {0} of the checkpoint is not what belongs there")]
    Line(usize),
    /// It is of a log that the key is not for.
    #[error("the checkpoint is of the log `{found}`, the key is for `{expected}`")]
    Origin {
        /// The key's name.
        expected: String,
        /// The checkpoint's origin.
        found: String,
    },
    /// A key of a cosigner stands where the log's belongs.
    #[error("the key `{0}` is a cosigner's, not a log's")]
    Kind(String),
}

/// A checkpoint whose signatures have been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What the log says.
    pub checkpoint: Checkpoint,
    /// The cosigners that vouch for it, each with its time, seconds since the Unix epoch.
    pub cosigners: Vec<(VerifierKey, u64)>,
}

impl Checkpoint {
    /// Reads a note's text strictly.
    ///
    /// # Errors
    /// [`CheckpointError::Line`] names the first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let text = text.strip_suffix('\n').ok_or(CheckpointError::Line(1))?;
        let mut lines = text.split('\n');
        let origin = lines.next().filter(|line| !line.is_empty()).ok_or(CheckpointError::Line(1))?;
        let size = lines.next().and_then(decimal).ok_or(CheckpointError::Line(2))?;
        let root = lines.next().and_then(hash).ok_or(CheckpointError::Line(3))?;
        let mut extensions = Vec::new();
        for (place, line) in lines.enumerate() {
            if line.is_empty() {
                return Err(CheckpointError::Line(place + 4));
            }
            extensions.push(line.to_owned());
        }
        Ok(Self { origin: origin.to_owned(), size, root, extensions })
    }

    /// Reads a signed checkpoint and verifies it: the log's signature must be there, and that of every cosigner whose
    /// key is known and who has signed.
    ///
    /// # Errors
    /// [`CheckpointError`] if the note is no checkpoint, is of another log, or a known key's signature is missing
    /// (the log's) or wrong.
    pub fn open(note: &[u8], log: &VerifierKey, cosigners: &[VerifierKey]) -> Result<Signed, CheckpointError> {
        if log.kind() != KeyKind::Log {
            return Err(CheckpointError::Kind(log.name().to_owned()));
        }
        let note = Note::parse(note)?;
        let checkpoint = Self::parse(note.text())?;
        if checkpoint.origin != log.name() {
            return Err(CheckpointError::Origin { expected: log.name().to_owned(), found: checkpoint.origin });
        }
        note.verify(std::slice::from_ref(log))?;
        let cosigners = match note.verify(cosigners) {
            Ok(verified) => verified.iter().filter_map(|one| Some((one.key.clone(), one.time?))).collect(),
            Err(NoteError::Unknown) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(Signed { checkpoint, cosigners })
    }

    /// The checkpoint as a note with the log's signature. Cosigners' lines are appended to it as they are.
    ///
    /// # Errors
    /// [`CheckpointError`] if the key is not the log's, or origin or extensions cannot stand in a checkpoint.
    pub fn sign(&self, log: &Signer) -> Result<String, CheckpointError> {
        if log.verifier().kind() != KeyKind::Log {
            return Err(CheckpointError::Kind(log.verifier().name().to_owned()));
        }
        let text = self.to_string();
        let note = format!("{text}\n{}", log.sign(&text, 0));
        let signed = Self::open(note.as_bytes(), log.verifier(), &[])?.checkpoint;
        if signed == *self { Ok(note) } else { Err(CheckpointError::Line(4)) }
    }
}

/// The note's text.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root))?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// A number in decimal digits, without leading zeros.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let strict = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if strict { text.parse().ok() } else { None }
}

/// A hash in base64.
pub(crate) fn hash(text: &str) -> Option<Hash> {
    BASE64.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn signer() -> Signer {
        Signer::new("log.example/gw1", KeyKind::Log, &[1; 32]).unwrap()
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint { origin: "log.example/gw1".into(), size: 20_852_163, root: [9; 32], extensions: Vec::new() }
    }

    #[test]
    fn a_checkpoint_comes_back_with_its_cosigners() {
        let log = signer();
        let witness = Signer::new("witness.example", KeyKind::Cosigner, &[2; 32]).unwrap();
        let mut note = checkpoint().sign(&log).unwrap();
        note.push_str(&witness.sign(&checkpoint().to_string(), 42));
        let signed = Checkpoint::open(note.as_bytes(), log.verifier(), &[witness.verifier().clone()]).unwrap();
        assert_eq!(signed, Signed { checkpoint: checkpoint(), cosigners: vec![(witness.verifier().clone(), 42)] });
        let unknown = Checkpoint::open(note.as_bytes(), log.verifier(), &[]).unwrap();
        assert_eq!(unknown.cosigners, []);
        // A cosigner alone does not speak for the log.
        let text = checkpoint().to_string();
        let alone = format!("{text}\n{}", witness.sign(&text, 42));
        let judged = Checkpoint::open(alone.as_bytes(), log.verifier(), &[witness.verifier().clone()]);
        assert_eq!(judged, Err(CheckpointError::Note(NoteError::Unknown)));
        let judged = Checkpoint::open(note.as_bytes(), witness.verifier(), &[]);
        assert_eq!(judged, Err(CheckpointError::Kind("witness.example".into())));
    }

    #[test]
    fn another_logs_checkpoint_and_one_that_cannot_be_written_are_refused() {
        let log = signer();
        let other = Signer::new("log.example/gw2", KeyKind::Log, &[1; 32]).unwrap();
        let note = checkpoint().sign(&log).unwrap();
        let wrong = CheckpointError::Origin { expected: "log.example/gw2".into(), found: "log.example/gw1".into() };
        assert_eq!(Checkpoint::open(note.as_bytes(), other.verifier(), &[]), Err(wrong.clone()));
        assert_eq!(checkpoint().sign(&other), Err(wrong));
        for extension in ["", "two\nlines"] {
            let bad = Checkpoint { extensions: vec![extension.into()], ..checkpoint() };
            assert!(bad.sign(&log).is_err(), "{extension:?}");
        }
        let good = Checkpoint { extensions: vec!["opaque".into()], ..checkpoint() };
        let note = good.sign(&log).unwrap();
        assert_eq!(Checkpoint::open(note.as_bytes(), log.verifier(), &[]).unwrap().checkpoint, good);
    }

    #[test]
    fn texts_of_other_forms_are_refused() {
        let root = BASE64.encode([9; 32]);
        for (bad, line) in [
            (String::new(), 1),
            (format!("\n5\n{root}\n"), 1),
            ("log\n".into(), 2),
            (format!("log\n05\n{root}\n"), 2),
            (format!("log\n+5\n{root}\n"), 2),
            (format!("log\n\n{root}\n"), 2),
            (format!("log\n18446744073709551616\n{root}\n"), 2),
            ("log\n5\n".into(), 3),
            ("log\n5\nAAAA\n".into(), 3),
            (format!("log\n5\n{root}=\n"), 3),
            (format!("log\n5\n{root}\n\n"), 4),
            (format!("log\n5\n{root}\nx\n\ny\n"), 5),
        ] {
            assert_eq!(Checkpoint::parse(&bad), Err(CheckpointError::Line(line)), "{bad:?}");
        }
        assert_eq!(Checkpoint::parse(&format!("log\n0\n{root}\n")).unwrap().size, 0);
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "[a-z]{1,3}\n[0-9]{1,20}\n[A-Za-z0-9+/=]{43,44}\n([a-z]{0,2}\n){0,2}") {
            if let Ok(checkpoint) = Checkpoint::parse(&text) {
                prop_assert_eq!(checkpoint.to_string(), text);
            }
        }
    }
}
