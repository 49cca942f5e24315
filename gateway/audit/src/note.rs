//! Signed notes (C2SP signed-note) with Ed25519 signatures and timestamped cosignatures (C2SP tlog-cosignature).
//!
//! A note is a text that ends in a newline, an empty line, and lines `— <name> <base64(key id ‖ signature)>`.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};

/// The longest note that is read, bytes.
pub const MAX_NOTE: usize = 256 * 1024;
/// The most signatures of a note that is read.
pub const MAX_SIGNATURES: usize = 64;

/// What a key's signatures mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Type 0x01: Ed25519 over the note's text.
    Log,
    /// Type 0x04: Ed25519 over `cosignature/v1`, a time and the text of a checkpoint.
    Cosigner,
}

impl KeyKind {
    const fn byte(self) -> u8 {
        match self {
            Self::Log => 1,
            Self::Cosigner => 4,
        }
    }
}

/// Why a text is not a verifier key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not `<name>+<key id>+<base64>`.
    #[error("`{0}` is not a verifier key")]
    Form(String),
    /// A name that is empty or has white space, control characters or `+`.
    #[error("`{0}` cannot be the name of a key")]
    Name(String),
    /// A type of key that is not known here.
    #[error("the verifier key `{name}` has type {kind:#04x}, known are 0x01 and 0x04")]
    Kind {
        /// The key's name.
        name: String,
        /// Its type.
        kind: u8,
    },
    /// The key id is not that of name, type and key.
    #[error("the verifier key `{0}` has another key id than its name and key lead to")]
    Id(String),
}

/// A public key under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    public: [u8; 32],
}

/// Whether a text may name a key.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

impl VerifierKey {
    /// A key from its 32 bytes (RFC 8032).
    ///
    /// # Errors
    /// [`KeyError::Name`] if the name cannot stand in a note.
    pub fn new(name: &str, kind: KeyKind, public: [u8; 32]) -> Result<Self, KeyError> {
        if is_name(name) {
            Ok(Self { name: name.to_owned(), kind, public })
        } else {
            Err(KeyError::Name(name.to_owned()))
        }
    }

    /// Reads `<name>+<key id, 8 hexadecimal digits>+<base64(type ‖ key)>`.
    ///
    /// # Errors
    /// [`KeyError`] if the text is anything else.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let form = || KeyError::Form(text.to_owned());
        let (name, rest) = text.split_once('+').ok_or_else(form)?;
        let (id, key) = rest.split_once('+').ok_or_else(form)?;
        let key = BASE64.decode(key).map_err(|_| form())?;
        let (kind, public) = key.split_first().ok_or_else(form)?;
        let kind = match kind {
            1 => KeyKind::Log,
            4 => KeyKind::Cosigner,
            kind => return Err(KeyError::Kind { name: name.to_owned(), kind: *kind }),
        };
        let key = Self::new(name, kind, public.try_into().map_err(|_| form())?)?;
        if id == format!("{:08x}", key.id()) { Ok(key) } else { Err(KeyError::Id(name.to_owned())) }
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its signatures mean.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The first four bytes of SHA-256(name ‖ 0x0A ‖ type ‖ key).
    #[must_use]
    pub fn id(&self) -> u32 {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', self.kind.byte()])
            .chain_update(self.public)
            .finalize()
            .into();
        hash.first_chunk().map_or(0, |id| u32::from_be_bytes(*id))
    }

    /// Whether `signature`, as it stands behind the key id, is this key's over `text`: the time of a cosignature.
    fn verify(&self, text: &str, signature: &[u8]) -> Option<Option<u64>> {
        let key = UnparsedPublicKey::new(&ED25519, &self.public);
        match self.kind {
            KeyKind::Log => key.verify(text.as_bytes(), signature).ok().map(|()| None),
            KeyKind::Cosigner => {
                let (time, signature) = signature.split_first_chunk::<8>()?;
                let time = u64::from_be_bytes(*time);
                i64::try_from(time).ok()?;
                key.verify(cosigned(time, text).as_bytes(), signature).ok().map(|()| Some(time))
            }
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![self.kind.byte()];
        key.extend_from_slice(&self.public);
        write!(f, "{}+{:08x}+{}", self.name, self.id(), BASE64.encode(key))
    }
}

/// What a cosigner signs.
fn cosigned(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// A private key under a name.
pub struct Signer {
    verifier: VerifierKey,
    key: Ed25519KeyPair,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signer").field(&self.verifier.name).finish()
    }
}

/// Why a key cannot sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// The name cannot stand in a note.
    #[error(transparent)]
    Name(#[from] KeyError),
    /// The cryptographic library takes no such seed.
    #[error("the seed of the signing key `{0}` is not taken")]
    Seed(String),
}

impl Signer {
    /// A key from its seed, the private key of RFC 8032.
    ///
    /// # Errors
    /// [`SignerError`] if name or seed are not usable.
    pub fn new(name: &str, kind: KeyKind, seed: &[u8; 32]) -> Result<Self, SignerError> {
        let key = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| SignerError::Seed(name.to_owned()))?;
        let public = key.public_key().as_ref().try_into().map_err(|_| SignerError::Seed(name.to_owned()))?;
        Ok(Self { verifier: VerifierKey::new(name, kind, public)?, key })
    }

    /// The public key.
    #[must_use]
    pub const fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The signature line for a note's text, newline included. `unix_seconds` is the time that a cosigner states;
    /// signatures of logs have none.
    #[must_use]
    pub fn sign(&self, text: &str, unix_seconds: u64) -> String {
        let mut bytes = self.verifier.id().to_be_bytes().to_vec();
        match self.verifier.kind {
            KeyKind::Log => bytes.extend_from_slice(self.key.sign(text.as_bytes()).as_ref()),
            KeyKind::Cosigner => {
                bytes.extend_from_slice(&unix_seconds.to_be_bytes());
                bytes.extend_from_slice(self.key.sign(cosigned(unix_seconds, text).as_bytes()).as_ref());
            }
        }
        format!("\u{2014} {} {}\n", self.verifier.name, BASE64.encode(bytes))
    }
}

/// Why a note is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than [`MAX_NOTE`].
    #[error("the note is longer than {MAX_NOTE} bytes")]
    Long,
    /// Not UTF-8, or with control characters.
    #[error("the note is not plain text")]
    Text,
    /// No empty line and signatures behind a text.
    #[error("the note has no signatures")]
    Unsigned,
    /// More than [`MAX_SIGNATURES`] signatures.
    #[error("the note has more than {MAX_SIGNATURES} signatures")]
    Many,
    /// A line behind the empty one is not a signature.
    #[error("line {0} of the note's signatures is not a signature")]
    Line(usize),
    /// A known key's signature is not that of this text.
    #[error("the signature of `{0}` is not that of this note")]
    Signature(String),
    /// No known key has signed.
    #[error("no known key has signed the note")]
    Unknown,
}

/// One signature of a note, not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature<'a> {
    /// The key's name.
    pub name: &'a str,
    /// The key's id.
    pub id: u32,
    bytes: Vec<u8>,
}

/// A signature that has been verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified<'a> {
    /// By which key.
    pub key: &'a VerifierKey,
    /// When, by the cosigner's clock, seconds since the Unix epoch; none for logs.
    pub time: Option<u64>,
}

/// A note, read; nothing in it is to be believed before [`Note::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note<'a> {
    text: &'a str,
    signatures: Vec<Signature<'a>>,
}

impl<'a> Note<'a> {
    /// Reads a note strictly.
    ///
    /// # Errors
    /// [`NoteError`] if the bytes are none.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE {
            return Err(NoteError::Long);
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::Text)?;
        if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(NoteError::Text);
        }
        let end = note.rfind("\n\n").ok_or(NoteError::Unsigned)?;
        let (text, lines) = note.split_at_checked(end + 1).ok_or(NoteError::Unsigned)?;
        let lines = lines.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n')).ok_or(NoteError::Unsigned)?;
        let mut signatures = Vec::new();
        for (place, line) in lines.split('\n').enumerate() {
            if place == MAX_SIGNATURES {
                return Err(NoteError::Many);
            }
            signatures.push(Signature::parse(line).ok_or(NoteError::Line(place + 1))?);
        }
        Ok(Self { text, signatures })
    }

    /// The text, with the newline that ends it.
    #[must_use]
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// The signatures, not verified.
    #[must_use]
    pub fn signatures(&self) -> &[Signature<'a>] {
        &self.signatures
    }

    /// Verifies the signatures of known keys; those of others are passed over.
    ///
    /// # Errors
    /// [`NoteError::Signature`] if a known key's signature is wrong, [`NoteError::Unknown`] if no known key has signed.
    pub fn verify<'k>(&self, keys: &'k [VerifierKey]) -> Result<Vec<Verified<'k>>, NoteError> {
        let mut verified = Vec::new();
        for signature in &self.signatures {
            for key in keys.iter().filter(|key| key.name == signature.name && key.id() == signature.id) {
                let time = key
                    .verify(self.text, &signature.bytes)
                    .ok_or_else(|| NoteError::Signature(signature.name.to_owned()))?;
                verified.push(Verified { key, time });
            }
        }
        if verified.is_empty() { Err(NoteError::Unknown) } else { Ok(verified) }
    }
}

impl<'a> Signature<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let signature = BASE64.decode(signature).ok()?;
        let (id, bytes) = signature.split_first_chunk::<4>()?;
        (is_name(name) && !bytes.is_empty()).then(|| Self { name, id: u32::from_be_bytes(*id), bytes: bytes.to_vec() })
    }
}

#[cfg(test)]
mod tests;
