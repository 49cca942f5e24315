//! A reviewer's private keys, and the file that holds them under a passphrase.
//!
//! The file is text of four lines:
//!
//! ```text
//! sekisho reviewer private key v1
//! reviewer <name> <wrapping key> <verifier key>
//! derivation pbkdf2-hmac-sha256 <rounds> <base64 of 16 bytes of salt>
//! sealed <base64>
//! ```
//!
//! `sealed` is AES-256-GCM, under the key that PBKDF2 (RFC 8018, 5.2) derives from the passphrase, with a nonce of
//! zeros, which that key sees once since the salt is random; authenticated beside it are the three lines before, and
//! inside are the scalar of the wrapping key and the seed of the signing key, 32 bytes each.

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::{Zeroize as _, Zeroizing};

use super::{Reviewer, ReviewerError};
use crate::checkpoint::decimal;
use crate::note::{KeyKind, Signer, SignerError};
use crate::seal::{SealError, Secret};
use crate::wrap::{PrivateKey, WrapError};

/// What a passphrase must at least have, bytes.
pub const MIN_PASSPHRASE: usize = 12;
/// Rounds of PBKDF2 for a person's passphrase.
pub const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(599_999);
/// A file may not make its reader work for longer than some seconds.
pub const MAX_ROUNDS: u32 = 10_000_000;
/// The longest file that is read, bytes.
pub const MAX_FILE: usize = 4096;

const TITLE: &str = "sekisho reviewer private key v1";
const DERIVATION: &str = "pbkdf2-hmac-sha256";

/// Why a reviewer's private keys are not made, protected or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrivateError {
    /// The public part cannot be made, or read.
    #[error(transparent)]
    Reviewer(#[from] ReviewerError),
    /// The wrapping key cannot be made: 32 random bytes are no key with a probability of 2^-32.
    #[error(transparent)]
    Wrapping(#[from] WrapError),
    /// The signing key cannot be made.
    #[error(transparent)]
    Signing(#[from] SignerError),
    /// The passphrase protects nothing.
    #[error("the passphrase has {0} bytes; it needs at least {MIN_PASSPHRASE}")]
    Short(usize),
    /// The file is longer than [`MAX_FILE`], or this line of it is not what belongs there.
    #[error("line {0} of the reviewer's private key file is not what belongs there")]
    Line(usize),
    /// The passphrase is another one, or the file was changed.
    #[error("the passphrase does not open the reviewer's private key")]
    Passphrase,
    /// The keys inside are not those of the public line.
    #[error("the reviewer's private key file holds other keys than its public line")]
    Pair,
}

/// A reviewer with its private keys.
pub struct ReviewerKey {
    wrapping: PrivateKey,
    signing: Signer,
    seed: Zeroizing<[u8; 32]>,
    public: Reviewer,
}

impl fmt::Debug for ReviewerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReviewerKey").field(&self.public.name()).finish()
    }
}

impl ReviewerKey {
    /// A reviewer from random bytes: the scalar of its wrapping key and the seed of its signing key.
    ///
    /// # Errors
    /// [`PrivateError`] if the name is not a reviewer's, or the bytes are no keys.
    pub fn new(name: &str, scalar: [u8; 32], seed: [u8; 32]) -> Result<Self, PrivateError> {
        let seed = Zeroizing::new(seed);
        let wrapping = PrivateKey::new(scalar)?;
        if !super::is_name(name) {
            return Err(ReviewerError::Name(name.escape_debug().to_string()).into());
        }
        let signing = Signer::new(name, KeyKind::Log, &seed)?;
        let public = Reviewer::new(*wrapping.public(), signing.verifier().clone())?;
        Ok(Self { wrapping, signing, seed, public })
    }

    /// The public part.
    #[must_use]
    pub const fn public(&self) -> &Reviewer {
        &self.public
    }

    /// The key that unwraps data keys.
    #[must_use]
    pub const fn wrapping(&self) -> &PrivateKey {
        &self.wrapping
    }

    /// A secret that nobody else can compute, for what this reviewer keeps for itself: HKDF-SHA256 (RFC 5869) over the
    /// scalar of the wrapping key, with `info` of `label`. `salt` is random, and tells secrets of one label apart.
    ///
    /// # Errors
    /// [`SealError::Library`] if the library refuses.
    pub fn derive(&self, label: &str, salt: &[u8; 32]) -> Result<Secret, SealError> {
        let key = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(self.wrapping.bytes());
        let mut secret = Zeroizing::new([0; 32]);
        let info = [label.as_bytes()];
        let expanded = key.expand(&info, hkdf::HKDF_SHA256).and_then(|expanded| expanded.fill(&mut *secret));
        expanded.map_err(|_| SealError::Library)?;
        Ok(Secret::new(*secret))
    }

    /// The key that signs statements.
    #[must_use]
    pub const fn signing(&self) -> &Signer {
        &self.signing
    }

    /// The private file. `salt` is random and never used twice.
    ///
    /// # Errors
    /// [`PrivateError::Short`] if the passphrase is.
    pub fn protect(&self, passphrase: &str, rounds: NonZeroU32, salt: [u8; 16]) -> Result<String, PrivateError> {
        if passphrase.len() < MIN_PASSPHRASE {
            return Err(PrivateError::Short(passphrase.len()));
        }
        let salted = BASE64.encode(salt);
        let head = format!("{TITLE}\n{}\nderivation {DERIVATION} {rounds} {salted}\n", self.public);
        let mut secret = Zeroizing::new(Vec::with_capacity(64 + AES_256_GCM.tag_len()));
        secret.extend_from_slice(self.wrapping.bytes());
        secret.extend_from_slice(&*self.seed);
        let key = derive(passphrase, rounds, &salt)?;
        let sealed = key.seal_in_place_append_tag(nonce(), Aad::from(head.as_bytes()), &mut *secret);
        sealed.map_err(|_| PrivateError::Passphrase)?;
        Ok(format!("{head}sealed {}\n", BASE64.encode(&*secret)))
    }

    /// Opens a private file.
    ///
    /// # Errors
    /// [`PrivateError`] if the file is none, or the passphrase another one.
    pub fn open(file: &[u8], passphrase: &str) -> Result<Self, PrivateError> {
        let locked = Locked::parse(file)?;
        let key = derive(passphrase, locked.rounds, &locked.salt)?;
        let mut sealed = Zeroizing::new(locked.sealed);
        let secret = key.open_in_place(nonce(), Aad::from(locked.head.as_bytes()), &mut sealed);
        let (scalar, rest) =
            secret.map_err(|_| PrivateError::Passphrase)?.split_first_chunk_mut::<32>().ok_or(PrivateError::Pair)?;
        let seed: &mut [u8; 32] = rest.try_into().map_err(|_| PrivateError::Pair)?;
        let opened = Self::new(locked.public.name(), *scalar, *seed);
        scalar.zeroize();
        seed.zeroize();
        let opened = opened?;
        if opened.public == locked.public { Ok(opened) } else { Err(PrivateError::Pair) }
    }
}

/// The public part in a private file; no passphrase is needed, and nothing vouches for it.
///
/// # Errors
/// [`PrivateError`] if the file is none.
pub fn public_part(file: &[u8]) -> Result<Reviewer, PrivateError> {
    Ok(Locked::parse(file)?.public)
}

struct Locked<'a> {
    head: &'a str,
    public: Reviewer,
    rounds: NonZeroU32,
    salt: [u8; 16],
    sealed: Vec<u8>,
}

impl<'a> Locked<'a> {
    fn parse(file: &'a [u8]) -> Result<Self, PrivateError> {
        let text = std::str::from_utf8(file).ok().filter(|text| text.len() <= MAX_FILE).ok_or(PrivateError::Line(1))?;
        let mut lines = text.split('\n');
        if lines.next() != Some(TITLE) {
            return Err(PrivateError::Line(1));
        }
        let public = Reviewer::parse(lines.next().ok_or(PrivateError::Line(2))?)?;
        let (rounds, salt) = lines.next().and_then(derivation).ok_or(PrivateError::Line(3))?;
        let line = lines.next().ok_or(PrivateError::Line(4))?;
        let sealed = line.strip_prefix("sealed ").and_then(|text| BASE64.decode(text).ok());
        let sealed = sealed.ok_or(PrivateError::Line(4))?;
        if (lines.next(), lines.next()) != (Some(""), None) {
            return Err(PrivateError::Line(5));
        }
        let head = text.get(..text.len() - line.len() - 1).ok_or(PrivateError::Line(4))?;
        Ok(Self { head, public, rounds, salt, sealed })
    }
}

fn derivation(line: &str) -> Option<(NonZeroU32, [u8; 16])> {
    let rest = line.strip_prefix("derivation ")?.strip_prefix(DERIVATION)?.strip_prefix(' ')?;
    let (rounds, salt) = rest.split_once(' ')?;
    let rounds = u32::try_from(decimal(rounds)?).ok().filter(|rounds| *rounds <= MAX_ROUNDS)?;
    Some((NonZeroU32::new(rounds)?, BASE64.decode(salt).ok()?.try_into().ok()?))
}

fn derive(passphrase: &str, rounds: NonZeroU32, salt: &[u8]) -> Result<LessSafeKey, PrivateError> {
    let mut key = Zeroizing::new([0; 32]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, passphrase.as_bytes(), &mut *key);
    let key = UnboundKey::new(&AES_256_GCM, &*key).map_err(|_| PrivateError::Passphrase)?;
    Ok(LessSafeKey::new(key))
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSPHRASE: &str = "correct horse battery";

    fn file() -> String {
        let key = ReviewerKey::new("auditor", [1; 32], [2; 32]).unwrap();
        key.protect(PASSPHRASE, NonZeroU32::MIN, [3; 16]).unwrap()
    }

    #[test]
    fn keys_come_back_under_their_passphrase_only() {
        let opened = ReviewerKey::open(file().as_bytes(), PASSPHRASE).unwrap();
        assert_eq!((opened.wrapping().bytes(), &*opened.seed), (&[1; 32], &[2; 32]));
        assert_eq!(public_part(file().as_bytes()).as_ref(), Ok(opened.public()));
        let wrong = ReviewerKey::open(file().as_bytes(), "correct horse batterz").unwrap_err();
        assert_eq!(wrong, PrivateError::Passphrase);
        let short = opened.protect("elevenbytes", ROUNDS, [3; 16]).unwrap_err();
        assert_eq!(short, PrivateError::Short(11));
        assert_eq!(format!("{opened:?}"), "ReviewerKey(\"auditor\")");
        assert!(ReviewerKey::new("*", [1; 32], [2; 32]).is_err());
        assert_eq!(ReviewerKey::new("a", [0; 32], [2; 32]).unwrap_err(), PrivateError::Wrapping(WrapError::Private));
    }

    #[test]
    fn a_reviewer_derives_what_nobody_else_does() {
        let key = |byte| ReviewerKey::new("auditor", [byte; 32], [2; 32]).unwrap();
        let derived = key(1).derive("a label", &[7; 32]).unwrap();
        // By Python's `cryptography`: HKDF(SHA256(), 32, bytes([7] * 32), b"a label").derive(bytes([1] * 32)).
        let hex: String = derived.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "c4abdcfc374630feee5dc241234179e09631aed73f9db837f7e8d249301c93f9");
        for other in
            [key(1).derive("b", &[7; 32]), key(1).derive("a label", &[8; 32]), key(3).derive("a label", &[7; 32])]
        {
            assert_ne!(other.unwrap().bytes(), derived.bytes());
        }
    }

    #[test]
    fn changed_files_do_not_open() {
        let file = file();
        for place in 0..file.len() {
            let mut changed = file.clone().into_bytes();
            changed[place] ^= 1;
            assert!(ReviewerKey::open(&changed, PASSPHRASE).is_err(), "{place}");
            assert!(ReviewerKey::open(&file.as_bytes()[..place], PASSPHRASE).is_err(), "{place}");
        }
        let lines: Vec<_> = file.split_inclusive('\n').collect();
        let line = |number: usize, text: &str| {
            let mut lines = lines.clone();
            lines[number - 1] = text;
            ReviewerKey::open(lines.concat().as_bytes(), PASSPHRASE).unwrap_err()
        };
        assert_eq!(line(1, "sekisho reviewer private key v2\n"), PrivateError::Line(1));
        assert_eq!(line(2, "reviewer\n"), PrivateError::Reviewer(ReviewerError::Form));
        for bad in ["0", "01", "10000001", "4294967296", ""] {
            let text = format!("derivation {DERIVATION} {bad} {}\n", BASE64.encode([3; 16]));
            assert_eq!(line(3, &text), PrivateError::Line(3));
        }
        assert_eq!(line(4, "sealed !\n"), PrivateError::Line(4));
        assert_eq!(line(4, "sealed \n"), PrivateError::Passphrase);
        assert_eq!(ReviewerKey::open(format!("{file}\n").as_bytes(), PASSPHRASE).unwrap_err(), PrivateError::Line(5));
        // Another's public line in front.
        let other = ReviewerKey::new("auditor", [4; 32], [2; 32]).unwrap();
        assert_eq!(line(2, &format!("{}\n", other.public())), PrivateError::Passphrase);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(ReviewerKey::open(&bytes, PASSPHRASE).is_err());
        }
    }
}
