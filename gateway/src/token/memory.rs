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
