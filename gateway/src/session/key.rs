//! The key that secrets of sessions are hashed under. Whoever reads the store without it can test no guess.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use policy::session::Kind;
use sha2::{Digest as _, Sha256};

/// The hash of a secret, with its kind and realm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hash(pub(crate) [u8; 32]);

impl std::hash::Hash for Hash {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // It is uniform already, and nobody without the key can choose it.
        state.write_u64(self.0.first_chunk().map_or(0, |first| u64::from_be_bytes(*first)));
    }
}

impl Hash {
    /// 64 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        use std::fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            // INVARIANT: writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The hash of these digits; none if they are not 64.
    #[must_use]
    pub fn of_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (place, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *place = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum SessionKeyError {
    /// The file cannot be read or made.
    #[error("session key `{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Someone besides the owner can read or write the file.
    #[error("session key `{}` can be used by others: its mode is {mode:03o} and must be 600", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds no key.
    #[error("session key `{}` is not 64 hexadecimal digits; without it all sessions end", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The system has no random bytes.
    #[error("no random bytes for a session key")]
    Random,
}

/// HMAC-SHA256 (RFC 2104) under the key: both paddings are hashed once.
#[derive(Clone)]
pub struct SessionKey {
    inner: Sha256,
    outer: Sha256,
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

impl SessionKey {
    /// Reads the key of `path`; if there is no such file, makes one and writes it with mode 600.
    ///
    /// # Errors
    /// [`SessionKeyError`] if the file can be neither read nor made, can be used by others, or holds something else.
    pub fn load_or_create(path: &Path) -> Result<Self, SessionKeyError> {
        let failed = |source| SessionKeyError::File { path: path.to_owned(), source };
        match File::open(path) {
            Ok(file) => {
                // Of the open file, not of the path: nobody can exchange it in between.
                let mode = file.metadata().map_err(failed)?.mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(SessionKeyError::Exposed { path: path.to_owned(), mode });
                }
                let mut text = String::new();
                file.take(256).read_to_string(&mut text).map_err(failed)?;
                let Some(Hash(key)) = Hash::of_hex(text.trim()) else {
                    return Err(SessionKeyError::Malformed { path: path.to_owned() });
                };
                Ok(Self::new(&key))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = [0; 32];
                aws_lc_rs::rand::fill(&mut key).map_err(|_| SessionKeyError::Random)?;
                write_new(path, &format!("{}\n", Hash(key).hex())).map_err(failed)?;
                Ok(Self::new(&key))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The key of these bytes.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        let pad = |with: u8| {
            let mut block = [with; 64];
            block.iter_mut().zip(key).for_each(|(place, byte)| *place ^= byte);
            Sha256::new_with_prefix(block)
        };
        Self { inner: pad(0x36), outer: pad(0x5c) }
    }

    /// The hash of a secret. Its kind and realm go into it, so that no secret is found as another's.
    #[must_use]
    pub fn hash(&self, kind: Kind, realm: &str, secret: &[u8]) -> Hash {
        let head = [kind as u8, u8::try_from(realm.len()).unwrap_or(u8::MAX)];
        let inner = self.inner.clone().chain_update(head).chain_update(realm).chain_update([0]).chain_update(secret);
        Hash(self.outer.clone().chain_update(inner.finalize()).finalize().into())
    }
}

/// Writes a file that nobody else can read at any moment, and that is on disk when this returns.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.key");
        let hash = |key: &SessionKey| key.hash(Kind::Learnt, "ehr", b"secret");
        let made = hash(&SessionKey::load_or_create(&path).unwrap());
        assert_eq!(made, hash(&SessionKey::load_or_create(&path).unwrap()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(SessionKey::load_or_create(&path), Err(SessionKeyError::Exposed { .. })));
        std::fs::remove_file(&path).unwrap();
        write_new(&path, "short").unwrap();
        assert!(matches!(SessionKey::load_or_create(&path), Err(SessionKeyError::Malformed { .. })));
    }

    #[test]
    fn a_secret_of_one_kind_or_realm_is_not_that_of_another() {
        let key = SessionKey::new(&[7; 32]);
        let hashes = [
            key.hash(Kind::Learnt, "ehr", b"s"),
            key.hash(Kind::Local, "ehr", b"s"),
            key.hash(Kind::Learnt, "ehrs", b""),
            key.hash(Kind::Learnt, "eh", b"rs"),
            SessionKey::new(&[8; 32]).hash(Kind::Learnt, "ehr", b"s"),
        ];
        for (at, hash) in hashes.iter().enumerate() {
            assert!(hashes.iter().skip(at + 1).all(|other| other != hash));
            assert_eq!(Hash::of_hex(&hash.hex()), Some(*hash));
        }
    }

    /// The second test case of RFC 4231 has the form of ours only as plain HMAC, so that the paddings are checked by it.
    #[test]
    fn it_is_hmac() {
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let key = SessionKey::new(&key);
        let inner = key.inner.clone().chain_update(b"what do ya want for nothing?").finalize();
        let mac = Hash(key.outer.clone().chain_update(inner).finalize().into());
        assert_eq!(mac.hex(), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
