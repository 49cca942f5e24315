//! What a worker remembers of tokens: what they said, never the tokens.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use policy::Refusal;
use policy::token::Said;

use super::ask::Questions;
use super::issuer::Issuer;
use crate::clock::Reading;

/// Tokens that a worker remembers; as many that are none. Apart, so that what anybody can send takes no place of a good one.
const MOST: usize = 8 * 1024;

/// SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        // INVARIANT: SHA-256 has 32 bytes.
        bytes.iter_mut().zip(digest(&SHA256, token.as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }
}

/// What is known of a token.
#[derive(Clone)]
pub(super) enum Known {
    Good(Rc<Said>),
    /// Its issuer says that it is none, or what it says of it is not taken.
    Bad(Refusal),
}

/// How long it is known.
#[derive(Clone, Copy)]
pub(super) enum Proof {
    /// As long as keys of this number are in force.
    Keys(u64),
    /// Until then, monotonic nanoseconds: its issuer was asked.
    Asked(u64),
}

struct Entry {
    issuer: Arc<Issuer>,
    proof: Proof,
    known: Known,
}

impl Entry {
    fn counts(&self, reading: &Reading) -> bool {
        match self.proof {
            Proof::Keys(number) => self.issuer.is_in_force(number),
            Proof::Asked(until_ns) => reading.monotonic_ns < until_ns,
        }
    }

    fn is_over(&self, reading: &Reading) -> bool {
        !self.counts(reading) || matches!(&self.known, Known::Good(said) if said.expires_ns <= reading.unix_ns)
    }
}

/// One worker's memory of tokens. Bounded; when it is full, those that are over go first, then all.
#[derive(Default)]
pub struct Tokens {
    good: RefCell<HashMap<Digest, Entry>>,
    bad: RefCell<HashMap<Digest, Entry>>,
    pub(super) questions: Questions,
}

impl Tokens {
    /// What is known of the token, by one of these issuers as they are configured and with the keys in force.
    pub(super) fn recall(&self, digest: &Digest, issuers: &[&Arc<Issuer>], reading: &Reading) -> Option<Known> {
        let of = |entries: &RefCell<HashMap<Digest, Entry>>| {
            let entries = entries.borrow();
            let entry = entries.get(digest)?;
            let is_taken = issuers.iter().any(|issuer| Arc::ptr_eq(issuer, &entry.issuer));
            (is_taken && entry.counts(reading)).then(|| entry.known.clone())
        };
        of(&self.bad).or_else(|| of(&self.good))
    }

    pub(super) fn remember(&self, digest: Digest, issuer: &Arc<Issuer>, proof: Proof, known: Known, reading: &Reading) {
        let (entries, others) = match known {
            Known::Good(_) => (&self.good, &self.bad),
            Known::Bad(_) => (&self.bad, &self.good),
        };
        others.borrow_mut().remove(&digest);
        let mut entries = entries.borrow_mut();
        if entries.len() >= MOST && !entries.contains_key(&digest) {
            entries.retain(|_, entry| !entry.is_over(reading));
            if entries.len() >= MOST {
                entries.clear();
            }
        }
        entries.insert(digest, Entry { issuer: Arc::clone(issuer), proof, known });
    }
}

#[cfg(test)]
mod tests {
    use super::super::issuer::tests::fetched;
    use super::*;

    /// What anybody can send takes no place of what is good, and the other way round.
    #[test]
    fn a_flood_of_tokens_that_are_none_forgets_no_good_one() {
        let folder = tempfile::tempdir().unwrap();
        let issuer = Arc::new(fetched(&folder, 3_600).unwrap());
        let reading = Reading { unix_ns: 1, monotonic_ns: 1, error_ns: None, source: "test", synchronised: true };
        let tokens = Tokens::default();
        let said = Said {
            issuer: "idp".into(),
            user: "tanaka".parse().unwrap(),
            actor: None,
            sites: None,
            roles: policy::token::Roles::Registry,
            level: policy::AuthenticationLevel::User,
            authenticated_ns: None,
            begins_ns: 0,
            expires_ns: i64::MAX,
            thumbprint: None,
        };
        let good = Digest::of("good");
        tokens.remember(good, &issuer, Proof::Asked(9), Known::Good(Rc::new(said)), &reading);
        for number in 0..2 * MOST + 1 {
            let bad = Digest::of(&number.to_string());
            tokens.remember(bad, &issuer, Proof::Asked(9), Known::Bad(Refusal::TokenInvalid), &reading);
        }
        assert!(tokens.bad.borrow().len() <= MOST);
        assert!(matches!(tokens.recall(&good, &[&issuer], &reading), Some(Known::Good(_))));
        let late = Reading { monotonic_ns: 9, ..reading };
        assert!(tokens.recall(&good, &[&issuer], &late).is_none(), "its issuer is asked again");
    }
}
