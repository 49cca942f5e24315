//! Passwords that were right a while ago, for programs that send theirs with every request (RFC 7617): such a request is no
//! guess. Kept as keyed hashes, each for its account at its device alone.

use std::collections::HashMap;
use std::time::Duration;

use policy::login::Attempt;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Most that are kept. Beyond it nothing is learnt, and every request is guarded.
const MOST: usize = 65_536;

/// What was sent to prove an account.
#[derive(Clone)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// The bytes of `Authorization`.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }
}

pub(super) struct Verified {
    /// Makes the hashes worthless to whoever reads this memory's copy elsewhere; of this process alone.
    key: [u8; 32],
    lifetime_ns: u64,
    until_ns: HashMap<[u8; 32], u64>,
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Verified {
    pub(super) fn new(lifetime: Duration) -> Self {
        let mut key = [0; 32];
        // Without random bytes nothing is learnt.
        let lifetime_ns = if aws_lc_rs::rand::fill(&mut key).is_ok() { ns(lifetime) } else { 0 };
        Self { key, lifetime_ns, until_ns: HashMap::new() }
    }

    pub(super) fn set_lifetime(&mut self, lifetime: Duration) {
        if self.lifetime_ns != ns(lifetime) && self.key != [0; 32] {
            self.lifetime_ns = ns(lifetime);
            self.until_ns.clear();
        }
    }

    pub(super) fn knows(&self, now_ns: u64, attempt: &Attempt, password: &Password) -> bool {
        self.until_ns.get(&self.hash(attempt, password)).is_some_and(|until_ns| *until_ns > now_ns)
    }

    pub(super) fn learn(&mut self, now_ns: u64, attempt: &Attempt, password: &Password, is_right: bool) {
        let hash = self.hash(attempt, password);
        if !is_right || self.lifetime_ns == 0 {
            self.until_ns.remove(&hash);
            return;
        }
        if self.until_ns.len() >= MOST {
            self.until_ns.retain(|_, until_ns| *until_ns > now_ns);
        }
        if self.until_ns.len() < MOST || self.until_ns.contains_key(&hash) {
            self.until_ns.insert(hash, now_ns.saturating_add(self.lifetime_ns));
        }
    }

    /// HMAC (RFC 2104) over the parts, each with its length before it.
    fn hash(&self, attempt: &Attempt, password: &Password) -> [u8; 32] {
        let pad =
            |with: u8| self.key.iter().map(|byte| byte ^ with).chain(std::iter::repeat_n(with, 32)).collect::<Vec<_>>();
        let mut inner = Sha256::new_with_prefix(pad(0x36));
        let origin = &attempt.origin;
        let parts: [&[u8]; 5] = [
            attempt.realm.as_bytes(),
            attempt.account.as_str().as_bytes(),
            origin.site.as_bytes(),
            origin.device.as_bytes(),
            &password.0,
        ];
        for part in parts {
            inner.update((part.len() as u64).to_be_bytes());
            inner.update(part);
        }
        Sha256::new_with_prefix(pad(0x5c)).chain_update(inner.finalize()).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use policy::login::{AccountName, Origin, Spelling};

    use super::*;

    #[test]
    fn a_password_is_known_for_its_account_at_its_device_for_its_time() {
        let attempt = |account: &str, device: &str| Attempt {
            realm: "r".into(),
            account: AccountName::new(account, Spelling::default()).unwrap(),
            origin: Origin { site: "s".into(), device: device.into() },
            address: [127, 0, 0, 1].into(),
        };
        let (right, other) = (Password::new(b"right"), Password::new(b"other"));
        let mut verified = Verified::new(Duration::from_nanos(10));
        verified.learn(5, &attempt("a", "d"), &right, true);
        assert!(verified.knows(14, &attempt("A", "d"), &right));
        assert!(!verified.knows(15, &attempt("a", "d"), &right), "its time is over");
        assert!(!verified.knows(6, &attempt("a", "d"), &other));
        assert!(!verified.knows(6, &attempt("a", "e"), &right));
        assert!(!verified.knows(6, &attempt("b", "d"), &right));
        verified.learn(6, &attempt("a", "d"), &right, false);
        assert!(!verified.knows(6, &attempt("a", "d"), &right), "it is right no longer");
        verified.set_lifetime(Duration::ZERO);
        verified.learn(6, &attempt("a", "d"), &right, true);
        assert!(!verified.knows(6, &attempt("a", "d"), &right));
    }
}
