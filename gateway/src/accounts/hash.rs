//! Passwords by argon2id (RFC 9106), as PHC strings that carry their own parameters.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use policy::account::Password;

use super::AccountError;
use crate::config::Hashing;

/// Hashes and compares.
pub struct Hasher {
    argon2: Argon2<'static>,
    /// Of a password that nobody knows: what an account that is not there is checked against.
    nobody: String,
}

impl Hasher {
    /// With these parameters.
    ///
    /// # Errors
    /// [`AccountError::Hashing`] if argon2 does not take them; [`AccountError::Random`].
    pub fn new(hashing: Hashing) -> Result<Self, AccountError> {
        let params = Params::new(hashing.memory_kib, hashing.passes, hashing.lanes, None);
        let params = params.map_err(|error| AccountError::Hashing(error.to_string()))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let nobody = hash(&argon2, &super::random::<32>()?)?;
        Ok(Self { argon2, nobody })
    }

    /// The hash of a password, with a salt of its own.
    ///
    /// # Errors
    /// [`AccountError::Hashing`] if there is no memory for it; [`AccountError::Random`].
    pub fn hash(&self, password: &Password) -> Result<String, AccountError> {
        hash(&self.argon2, password.expose().as_bytes())
    }

    /// Whether `kept` is the hash of the password. Without one it takes as long, and is not.
    #[must_use]
    pub fn verify(&self, kept: Option<&str>, password: &Password) -> bool {
        let is_there = kept.is_some();
        let is_right = self.fits(kept.unwrap_or(&self.nobody), password);
        is_there & is_right
    }

    fn fits(&self, kept: &str, password: &Password) -> bool {
        let Ok(kept) = PasswordHash::new(kept) else { return false };
        self.argon2.verify_password(password.expose().as_bytes(), &kept).is_ok()
    }

    /// Whether a hash has the parameters in force.
    #[must_use]
    pub fn is_current(&self, kept: &str) -> bool {
        let params = |text: &str| PasswordHash::new(text).ok().and_then(|hash| Params::try_from(&hash).ok());
        let costs = |params: Params| (params.m_cost(), params.t_cost(), params.p_cost());
        params(kept).map(costs) == params(&self.nobody).map(costs)
    }
}

fn hash(argon2: &Argon2<'_>, password: &[u8]) -> Result<String, AccountError> {
    let salt = super::random::<16>()?;
    let hash = argon2.hash_password_with_salt(password, &salt);
    hash.map(|hash| hash.to_string()).map_err(|error| AccountError::Hashing(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_by_its_hash() {
        let hasher = Hasher::new(Hashing { memory_kib: 64, passes: 1, lanes: 1 }).unwrap();
        let (right, wrong) = (Password::new("correct horse").unwrap(), Password::new("battery staple").unwrap());
        let kept = hasher.hash(&right).unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{kept}");
        assert_ne!(kept, hasher.hash(&right).unwrap(), "each has a salt of its own");
        assert!(hasher.verify(Some(&kept), &right) && !hasher.verify(Some(&kept), &wrong));
        assert!(!hasher.verify(None, &right) && !hasher.verify(Some("$no$hash"), &right));
        assert!(hasher.is_current(&kept));
        let other = Hasher::new(Hashing { memory_kib: 128, passes: 1, lanes: 1 }).unwrap();
        assert!(!other.is_current(&kept) && other.verify(Some(&kept), &right));
    }

    /// The reference implementation's own vector (phc-winner-argon2, `test.c`): argon2id, t=2, m=2^16, p=1.
    #[test]
    fn a_hash_of_the_reference_implementation_is_taken() {
        let kept = "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";
        let hasher = Hasher::new(Hashing { memory_kib: 64, passes: 1, lanes: 1 }).unwrap();
        assert!(hasher.verify(Some(kept), &Password::new("password").unwrap()));
    }
}
