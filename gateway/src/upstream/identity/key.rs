//! The key that signs identities, and its public half as a JWK set.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};

/// The longest key file, in bytes: a P-256 key takes 250.
const MAX_FILE: u64 = 16 * 1024;

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("identity key `{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Someone besides the owner can read or write the file.
    #[error("identity key `{}` can be used by others: its mode is {mode:03o} and must be 600", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds no PKCS#8 P-256 key in PEM.
    #[error("identity key `{}` is not a PKCS#8 P-256 key in PEM", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// An ES256 key.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    key_id: String,
    /// The token's first part, which is the same for all tokens: base64url.
    header: String,
    x: String,
    y: String,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Reads the key of `path` (PKCS#8, PEM); if there is no such file, makes a key and writes it with mode 600.
    ///
    /// # Errors
    /// [`KeyError`] if the file can be neither read nor made, can be used by others, or holds something else.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        match File::open(path) {
            Ok(file) => Self::read(path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (key, pem) = Self::generate().ok_or_else(|| KeyError::Malformed { path: path.to_owned() })?;
                write_new(path, &pem).map_err(failed)?;
                Ok(key)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Reads the key of `path` (PKCS#8, PEM).
    ///
    /// # Errors
    /// [`KeyError`] if the file cannot be read, can be used by others, or holds something else.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let file = File::open(path).map_err(|source| KeyError::File { path: path.to_owned(), source })?;
        Self::read(path, file)
    }

    fn read(path: &Path, file: File) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        // Of the open file, not of the path: nobody can exchange it in between.
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.to_owned(), mode });
        }
        let mut pem = Vec::new();
        file.take(MAX_FILE).read_to_end(&mut pem).map_err(failed)?;
        let malformed = || KeyError::Malformed { path: path.to_owned() };
        let PrivateKeyDer::Pkcs8(der) = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| malformed())? else {
            return Err(malformed());
        };
        Self::from_pkcs8(der.secret_pkcs8_der()).ok_or_else(malformed)
    }

    /// A new key, and its PEM.
    fn generate() -> Option<(Self, String)> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).ok()?;
        let pem = certs::issue::pem_text("PRIVATE KEY", document.as_ref()).ok()?;
        Some((Self::from_pkcs8(document.as_ref())?, pem))
    }

    fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok()?;
        // SEC 1 2.3.3: `04 || x || y`.
        let point = pair.public_key().as_ref().strip_prefix(&[4])?;
        if point.len() != 64 {
            return None;
        }
        let (x, y) = point.split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        // RFC 7638 3.2: exactly these members, in this order, without spaces.
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let key_id = URL_SAFE_NO_PAD.encode(Sha256::digest(canonical));
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"ES256","typ":"JWT","kid":"{key_id}"}}"#));
        Some(Self { pair, key_id, header, x, y })
    }

    /// The key's name: its RFC 7638 thumbprint.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The public key as a JWK set (RFC 7517), for `/.well-known/sekisho/jwks.json`.
    #[must_use]
    pub fn jwks_json(&self) -> String {
        let Self { key_id, x, y, .. } = self;
        format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}","use":"sig","alg":"ES256","kid":"{key_id}"}}]}}"#
        )
    }

    pub(crate) fn header(&self) -> &str {
        &self.header
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Option<aws_lc_rs::signature::Signature> {
        self.pair.sign(&SystemRandom::new(), message).ok()
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
