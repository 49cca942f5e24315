//! Passwords by argon2id (RFC 9106), as PHC strings that carry their own parameters.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
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

    /// Whether a hash, or what one says of its costs, has the parameters in force.
    #[must_use]
    pub fn is_current(&self, kept: &str) -> bool {
        costs_of(kept).is_some() && costs_of(kept) == costs_of(&self.nobody)
    }

    /// Whether a hash that says so of its costs could be of a password.
    pub(super) fn can_stand_in(&self, costs: &str) -> bool {
        self.stand_in(Some(costs)).is_ok_and(|hash| costs_of(&hash).is_some())
    }

    /// A hash of a password that nobody knows, at these costs or at those in force.
    ///
    /// # Errors
    /// [`AccountError::Random`].
    pub(super) fn stand_in(&self, costs: Option<&str>) -> Result<String, AccountError> {
        let Some(costs) = costs else { return Ok(self.nobody.clone()) };
        let (salt, hash) =
            (STANDARD_NO_PAD.encode(super::random::<16>()?), STANDARD_NO_PAD.encode(super::random::<32>()?));
        Ok(format!("{costs}${salt}${hash}"))
    }
}

/// Memory, passes and lanes.
fn costs_of(kept: &str) -> Option<(u32, u32, u32)> {
    let kept = PasswordHash::new(kept).ok()?;
    let params = Params::try_from(&kept).ok()?;
    Algorithm::try_from(kept.algorithm.as_str()).ok()?;
    Some((params.m_cost(), params.t_cost(), params.p_cost()))
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

    /// What stands in for an account costs what it says: argon2 reads the same parameters from it.
    #[test]
    fn a_stand_in_costs_what_it_says_and_is_nobodys() {
        let hasher = Hasher::new(Hashing { memory_kib: 64, passes: 1, lanes: 1 }).unwrap();
        let password = Password::new("correct horse").unwrap();
        let costs = "$argon2id$v=19$m=128,t=2,p=1";
        let stand_in = hasher.stand_in(Some(costs)).unwrap();
        assert_eq!(costs_of(&stand_in), Some((128, 2, 1)));
        assert!(hasher.can_stand_in(costs) && !hasher.verify(Some(&stand_in), &password));
        assert_ne!(stand_in, hasher.stand_in(Some(costs)).unwrap());
        let real = hasher.hash(&password).unwrap();
        assert_eq!(stand_in.len() - costs.len(), real.len() - "$argon2id$v=19$m=64,t=1,p=1".len());
        assert_eq!(costs_of(&hasher.stand_in(None).unwrap()), Some((64, 1, 1)));
        for bad in ["", "$no", "$argon2id$v=19$m=1,t=0,p=1", "$scrypt$ln=1"] {
            assert!(!hasher.can_stand_in(bad), "{bad}");
        }
    }

    /// The reference implementation's own vector (phc-winner-argon2, `test.c`): argon2id, t=2, m=2^16, p=1.
    #[test]
    fn a_hash_of_the_reference_implementation_is_taken() {
        let kept = "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc";
        let hasher = Hasher::new(Hashing { memory_kib: 64, passes: 1, lanes: 1 }).unwrap();
        assert!(hasher.verify(Some(kept), &Password::new("password").unwrap()));
    }
}
