//! Secrets at rest: AES-256-GCM under a key in a file of its own, so that a copy of what holds them alone gives nothing away.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use crate::secret_file::write_new;

const NONCE_BYTES: usize = 12;

/// Why nothing can be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealingError {
    /// The key file.
    #[error("`{}`: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It was sealed under another key or as something else, or was changed.
    #[error("a secret cannot be sealed or opened: the key is another, or what holds it was changed")]
    Sealing,
}

/// The key.
pub struct Sealer(RandomizedNonceKey);

impl Sealer {
    /// Reads the key.
    ///
    /// # Errors
    /// [`SealingError::Key`] names the file.
    pub fn load(path: &Path) -> Result<Self, SealingError> {
        let bytes = read(path).map_err(|error| failed(path, &error))?;
        Self::new(path, &bytes)
    }

    /// Reads the key; makes it where there is none.
    ///
    /// # Errors
    /// [`SealingError::Key`] names the file.
    pub fn load_or_make(path: &Path) -> Result<Self, SealingError> {
        Self::new(path, &key_of(path)?)
    }

    fn new(path: &Path, text: &str) -> Result<Self, SealingError> {
        let bytes = bytes_of(path, text)?;
        RandomizedNonceKey::new(&AES_256_GCM, &bytes).map(Self).map_err(|error| failed(path, &error))
    }

    /// Seals a secret. `whose` says what it is and whose: it is opened as that alone.
    ///
    /// # Errors
    /// [`SealingError::Sealing`].
    pub fn seal(&self, whose: &str, secret: &[u8]) -> Result<String, SealingError> {
        let mut bytes = secret.to_vec();
        let sealed = self.0.seal_in_place_append_tag(Aad::from(whose), &mut bytes);
        let nonce = sealed.map_err(|_| SealingError::Sealing)?;
        Ok(STANDARD_NO_PAD.encode([nonce.as_ref().as_slice(), &bytes].concat()))
    }

    /// Opens what was sealed for `whose`.
    ///
    /// # Errors
    /// [`SealingError::Sealing`] if it was sealed under another key or for another, or was changed.
    pub fn open(&self, whose: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>, SealingError> {
        let mut bytes = Zeroizing::new(STANDARD_NO_PAD.decode(sealed).map_err(|_| SealingError::Sealing)?);
        let nonce = bytes.first_chunk::<NONCE_BYTES>().copied().ok_or(SealingError::Sealing)?;
        let body = bytes.get_mut(NONCE_BYTES..).ok_or(SealingError::Sealing)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.0.open_in_place(nonce, Aad::from(whose), body);
        opened.map(|secret| Zeroizing::new(secret.to_vec())).map_err(|_| SealingError::Sealing)
    }
}

fn failed(path: &Path, why: &dyn ToString) -> SealingError {
    SealingError::Key { path: path.to_owned(), why: why.to_string() }
}

/// The text of a key file, made where there is none.
pub(crate) fn key_of(path: &Path) -> Result<Zeroizing<String>, SealingError> {
    let text = match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path).or_else(|error| {
            // Or another process was first.
            if error.kind() == io::ErrorKind::AlreadyExists { read(path) } else { Err(error) }
        }),
        read => read,
    };
    text.map_err(|error| failed(path, &error))
}

/// The key that a key file's text holds.
pub(crate) fn bytes_of(path: &Path, text: &str) -> Result<Zeroizing<Vec<u8>>, SealingError> {
    let bytes = certs::unhex(text.trim_end()).map(Zeroizing::new).filter(|bytes| bytes.len() == 32);
    bytes.ok_or_else(|| failed(path, &"it does not hold 64 hexadecimal digits"))
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    if fs::metadata(path)?.mode() & 0o077 != 0 {
        return Err(io::Error::other("its mode lets others read it; run `chmod 600` on it"));
    }
    fs::read_to_string(path).map(Zeroizing::new)
}

/// A new key, in its file.
fn make(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut key = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(&mut *key).map_err(|_| io::Error::other("no random bytes"))?;
    let text = Zeroizing::new(certs::hex(&*key));
    write_new(path, &text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_opened_as_what_it_was_sealed_as_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        assert!(Sealer::load(&path).is_err(), "nothing is made by reading");
        let sealer = Sealer::load_or_make(&path).unwrap();
        let sealed = sealer.seal("this", &[7; 32]).unwrap();
        assert!(!sealed.contains(&STANDARD_NO_PAD.encode([7; 30])));
        assert_eq!(*Sealer::load(&path).unwrap().open("this", &sealed).unwrap(), [7; 32]);
        assert!(sealer.open("that", &sealed).is_err());
        assert!(sealer.open("this", "AAAA").is_err());
        let other = Sealer::load_or_make(&folder.path().join("b.key")).unwrap();
        assert!(other.open("this", &sealed).is_err());
    }
}
