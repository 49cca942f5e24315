//! Authenticators' secrets at rest: AES-256-GCM under a key in a file of its own, so that a copy of the store alone has no second
//! factor in it.

use std::path::Path;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use policy::SiteName;
use policy::account::totp::{Algorithm, Secret};
use policy::login::AccountName;

use super::AccountError;
use crate::sealing::{Sealer, SealingError, bytes_of, key_of};
use crate::store::{SealedTotp, UserId};

/// The key, and one that is made of it for names.
pub struct SealingKey {
    secrets: Sealer,
    names: hmac::Key,
}

impl SealingKey {
    /// Reads the key; makes it where there is none.
    ///
    /// # Errors
    /// [`AccountError::Key`] names the file.
    pub fn load_or_make(path: &Path) -> Result<Self, AccountError> {
        let bytes = bytes_of(path, &key_of(path)?)?;
        let secrets = Sealer::load(path)?;
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
        let sealed = self.secrets.seal(&aad(id, secret.algorithm()), secret.expose())?;
        Ok(SealedTotp { sealed, algorithm: secret.algorithm().label().to_owned(), last })
    }

    /// Opens what was sealed for this user.
    ///
    /// # Errors
    /// [`AccountError::Sealing`] if it was sealed under another key or for another user, or was changed.
    pub fn open(&self, id: &UserId, sealed: &SealedTotp) -> Result<Secret, AccountError> {
        let algorithm: Algorithm = sealed.algorithm.parse().map_err(|_| AccountError::Sealing)?;
        let secret = self.secrets.open(&aad(id, algorithm), &sealed.sealed)?;
        Ok(Secret::new(&secret, algorithm))
    }
}

/// No name of site or user has a blank.
fn aad(id: &UserId, algorithm: Algorithm) -> String {
    format!("sekisho totp {id} {}", algorithm.label())
}

impl From<SealingError> for AccountError {
    fn from(error: SealingError) -> Self {
        match error {
            SealingError::Key { path, why } => Self::Key { path, why },
            SealingError::Sealing => Self::Sealing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use std::fs;
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
