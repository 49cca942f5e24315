//! Authenticators' secrets at rest: AES-256-GCM under a key in a file of its own, so that a copy of the store alone has no second
//! factor in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use policy::SiteName;
use policy::account::totp::{Algorithm, Secret};
use policy::login::AccountName;
use zeroize::Zeroizing;

use super::AccountError;
use crate::store::{SealedTotp, UserId};

const NONCE_BYTES: usize = 12;

/// The key, and one that is made of it for names.
pub struct SealingKey {
    secrets: RandomizedNonceKey,
    names: hmac::Key,
}

impl SealingKey {
    /// Reads the key; makes it where there is none.
    ///
    /// # Errors
    /// [`AccountError::Key`] names the file.
    pub fn load_or_make(path: &Path) -> Result<Self, AccountError> {
        let failed = |why: &dyn ToString| AccountError::Key { path: path.to_owned(), why: why.to_string() };
        let text = match read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path).or_else(|error| {
                // Or another process was first.
                if error.kind() == io::ErrorKind::AlreadyExists { read(path) } else { Err(error) }
            }),
            read => read,
        };
        let text = text.map_err(|error| failed(&error))?;
        let bytes = certs::unhex(text.trim_end()).map(Zeroizing::new).filter(|bytes| bytes.len() == 32);
        let bytes = bytes.ok_or_else(|| failed(&"it does not hold 64 hexadecimal digits"))?;
        let secrets = RandomizedNonceKey::new(&AES_256_GCM, &bytes).map_err(|error| failed(&error))?;
        let of_names = hmac::sign(&hmac::Key::new(HMAC_SHA256, &bytes), b"sekisho names of accounts");
        Ok(Self { secrets, names: hmac::Key::new(HMAC_SHA256, of_names.as_ref()) })
    }

    /// A number for a name at a site that says nothing to whoever has not the key, and is the same after a restart.
    #[must_use]
    pub fn mark(&self, site: &SiteName, account: &AccountName) -> u64 {
        // No site's name has a blank.
        let tag = hmac::sign(&self.names, format!("{site} {}", account.as_str()).as_bytes());
        tag.as_ref().first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
    }

    /// Seals a user's secret. It can be opened as that user's alone.
    ///
    /// # Errors
    /// [`AccountError::Sealing`].
    pub fn seal(&self, id: &UserId, secret: &Secret, last: Option<u64>) -> Result<SealedTotp, AccountError> {
        let mut bytes = secret.expose().to_vec();
        let aad = aad(id, secret.algorithm());
        let nonce =
            self.secrets.seal_in_place_append_tag(Aad::from(aad), &mut bytes).map_err(|_| AccountError::Sealing)?;
        let sealed = STANDARD_NO_PAD.encode([nonce.as_ref().as_slice(), &bytes].concat());
        Ok(SealedTotp { sealed, algorithm: secret.algorithm().label().to_owned(), last })
    }

    /// Opens what was sealed for this user.
    ///
    /// # Errors
    /// [`AccountError::Sealing`] if it was sealed under another key or for another user, or was changed.
    pub fn open(&self, id: &UserId, sealed: &SealedTotp) -> Result<Secret, AccountError> {
        let algorithm: Algorithm = sealed.algorithm.parse().map_err(|_| AccountError::Sealing)?;
        let mut bytes = Zeroizing::new(STANDARD_NO_PAD.decode(&sealed.sealed).map_err(|_| AccountError::Sealing)?);
        let nonce = bytes.first_chunk::<NONCE_BYTES>().copied().ok_or(AccountError::Sealing)?;
        let body = bytes.get_mut(NONCE_BYTES..).ok_or(AccountError::Sealing)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.secrets.open_in_place(nonce, Aad::from(aad(id, algorithm)), body);
        opened.map(|secret| Secret::new(secret, algorithm)).map_err(|_| AccountError::Sealing)
    }
}

/// No name of site or user has a blank.
fn aad(id: &UserId, algorithm: Algorithm) -> String {
    format!("sekisho totp {id} {}", algorithm.label())
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    if fs::metadata(path)?.mode() & 0o077 != 0 {
        return Err(io::Error::other("its mode lets others read it; run `chmod 600` on it"));
    }
    fs::read_to_string(path).map(Zeroizing::new)
}

/// Writes a key that nobody else can read at any moment, and that is on disk when this returns.
fn make(path: &Path) -> io::Result<Zeroizing<String>> {
    let bytes = super::random::<32>().map_err(io::Error::other)?;
    let text = Zeroizing::new(certs::hex(&bytes));
    // Whoever reads it sees no key or the whole: it gets its name when it is whole.
    let next = path.with_extension(format!("{}.new", certs::hex(&super::random::<8>().map_err(io::Error::other)?)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut write = || {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if rustix::process::geteuid().is_root() {
            let owner = fs::metadata(folder)?;
            std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        fs::hard_link(&next, path)
    };
    let written = write();
    fs::remove_file(&next)?;
    written?;
    File::open(folder)?.sync_all()?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_secret_is_opened_by_its_key_for_its_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("account.key");
        let key = SealingKey::load_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let id = |user: &str| UserId { site: "s".parse().unwrap(), user: user.parse().unwrap() };
        let secret = Secret::new(&[7; 32], Algorithm::Sha256);
        let sealed = key.seal(&id("a"), &secret, Some(3)).unwrap();
        assert!(!sealed.sealed.contains(&STANDARD_NO_PAD.encode([7; 30])));
        let again = SealingKey::load_or_make(&path).unwrap();
        assert_eq!(again.open(&id("a"), &sealed).unwrap(), secret);
        let mark = |key: &SealingKey, site: &str, name: &str| {
            key.mark(&site.parse().unwrap(), &AccountName::new(name, policy::login::Spelling::default()).unwrap())
        };
        assert_eq!(mark(&key, "s", "a"), mark(&again, "s", "a"));
        assert_ne!(mark(&key, "s", "a"), mark(&key, "t", "a"));
        assert!(again.open(&id("b"), &sealed).is_err());
        assert!(again.open(&id("a"), &SealedTotp { algorithm: "SHA1".to_owned(), ..sealed.clone() }).is_err());
        assert!(again.open(&id("a"), &SealedTotp { sealed: "AAAA".to_owned(), ..sealed.clone() }).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(SealingKey::load_or_make(&path).is_err(), "others can read it");
        let other = SealingKey::load_or_make(&folder.path().join("other.key")).unwrap();
        assert!(other.open(&id("a"), &sealed).is_err());
        assert_ne!(mark(&key, "s", "a"), mark(&other, "s", "a"));
    }
}
