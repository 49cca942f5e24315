//! The path check of a listener: anchors, CRLs and settings, and the memory of chains that held.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{self, SHA256};
use rustls::pki_types::{CertificateDer, UnixTime};

use super::{Notice, seconds};
use crate::path::{self, CrlSet, PathRefusal, PathRefused, RevocationSettings, Settings, TrustAnchor, ValidPath};
use crate::peers::Peers;

const SHARDS: usize = 16;

/// Chains in one half of a shard; two halves of all shards hold 32768 chains in about 3 MB.
const HALF: usize = 1024;

/// Remembers chains that held, so that a device that comes back costs one signature check instead of a path validation.
///
/// A chain is known by the hash of all presented bytes and of everything it was judged by: anchors, CRLs, purpose and
/// settings. So a change of trust forgets without anybody telling it to, and one memory serves all listeners and
/// survives reloads. What was refused is not remembered. The half that was filled last is kept when the other is full.
#[derive(Debug)]
pub struct ChainCache {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    young: HashMap<[u8; 32], (i64, i64)>,
    old: HashMap<[u8; 32], (i64, i64)>,
}

impl Default for ChainCache {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl ChainCache {
    fn shard(&self, key: &[u8; 32]) -> Option<&Mutex<Shard>> {
        let [first, ..] = key;
        self.shards.get(usize::from(*first) % SHARDS)
    }

    /// Did the chain hold, and does it still at `now`?
    fn holds(&self, key: &[u8; 32], now: i64) -> bool {
        let Some(shard) = self.shard(key) else { return false };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(&(since, until)) = shard.young.get(key).or_else(|| shard.old.get(key)) else { return false };
        let holds = (since..=until).contains(&now);
        if !holds {
            shard.young.remove(key);
            shard.old.remove(key);
        } else if !shard.young.contains_key(key) {
            shard.insert(*key, (since, until));
        }
        holds
    }

    fn insert(&self, key: [u8; 32], validity: (i64, i64)) {
        if let Some(shard) = self.shard(&key) {
            shard.lock().unwrap_or_else(PoisonError::into_inner).insert(key, validity);
        }
    }

    /// How many chains it remembers.
    #[must_use]
    pub fn len(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.young.len() + shard.old.keys().filter(|key| !shard.young.contains_key(*key)).count()
        };
        self.shards.iter().map(count).sum()
    }

    /// Does it remember none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shard {
    fn insert(&mut self, key: [u8; 32], validity: (i64, i64)) {
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, validity);
    }
}

/// What chains are judged by.
#[derive(Clone)]
pub(super) struct Chains {
    anchors: Arc<[TrustAnchor]>,
    pub(super) crls: CrlSet,
    pub(super) settings: Settings,
    /// Not asked here; a chain that held for one purpose is not remembered for another.
    peers: Peers,
    pub(super) cache: Arc<ChainCache>,
    pub(super) notice: Option<Notice>,
    /// Of all of the above but the cache.
    version: [u8; 32],
}

impl Chains {
    pub(super) fn new(
        anchors: Arc<[TrustAnchor]>,
        crls: CrlSet,
        settings: Settings,
        peers: Peers,
        cache: Arc<ChainCache>,
    ) -> Self {
        let mut context = digest::Context::new(&SHA256);
        for anchor in anchors.iter() {
            update(&mut context, anchor.der());
        }
        update(&mut context, crls.version());
        update(&mut context, format!("{peers:?}").as_bytes());
        let Settings { purpose, algorithms, policies, revocation, authority_as_leaf, limits } = &settings;
        update(
            &mut context,
            format!("{purpose:?} {policies:?} {revocation:?} {authority_as_leaf} {limits:?}").as_bytes(),
        );
        for algorithm in *algorithms {
            update(&mut context, algorithm.signature_alg_id().as_ref());
            update(&mut context, algorithm.public_key_alg_id().as_ref());
        }
        Self { anchors, crls, peers, cache, notice: None, version: finish(context), settings }
    }

    /// The same, with the version that follows from its parts.
    pub(super) fn renewed(self) -> Self {
        let Self { anchors, crls, settings, peers, cache, notice, .. } = self;
        Self { notice, ..Self::new(anchors, crls, settings, peers, cache) }
    }

    pub(super) fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), PathRefused> {
        let now = seconds(now);
        let key = self.key(leaf, intermediates);
        if self.cache.holds(&key, now) {
            return Ok(());
        }
        let others: Vec<&[u8]> = intermediates.iter().map(AsRef::as_ref).collect();
        let judged = path::validate(leaf, &others, &self.anchors, &self.crls, &self.settings, None, now);
        if let Some(notice) = &self.notice {
            match &judged {
                Ok(found) => self.tell(notice, leaf, found),
                Err(PathRefused { refusal: PathRefusal::RevocationUnknown(_), .. }) => {
                    // Which of the presented certificates are on the path, nobody has said yet.
                    let mut settings = self.settings.clone();
                    settings.revocation = RevocationSettings::default();
                    if let Ok(found) = path::validate(leaf, &others, &self.anchors, &self.crls, &settings, None, now) {
                        self.tell(notice, leaf, &found);
                    }
                }
                Err(_) => {}
            }
        }
        self.cache.insert(key, judged?.validity());
        Ok(())
    }

    fn tell(&self, notice: &Notice, leaf: &CertificateDer<'_>, found: &ValidPath) {
        let Some(anchor) = self.anchors.get(found.anchor()) else { return };
        let issuers = found.issuers().iter().map(AsRef::as_ref);
        let below = std::iter::once(leaf.as_ref()).chain(issuers.clone());
        for (certificate, issuer) in below.zip(issuers.chain([anchor.der()])) {
            notice(certificate, issuer);
        }
    }

    fn key(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> [u8; 32] {
        let mut context = digest::Context::new(&SHA256);
        context.update(&self.version);
        for certificate in std::iter::once(leaf).chain(intermediates) {
            update(&mut context, certificate);
        }
        finish(context)
    }
}

/// The length goes first, so that no two lists of parts are one text.
fn update(context: &mut digest::Context, bytes: &[u8]) {
    context.update(&(bytes.len() as u64).to_be_bytes());
    context.update(bytes);
}

fn finish(context: digest::Context) -> [u8; 32] {
    let mut key = [0; 32];
    // INVARIANT: a SHA-256 digest is 32 bytes long.
    key.copy_from_slice(context.finish().as_ref());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> [u8; 32] {
        crate::fingerprint(&number.to_be_bytes())
    }

    #[test]
    fn a_chain_is_known_as_long_as_it_holds() {
        let cache = ChainCache::default();
        cache.insert(key(1), (10, 20));
        assert!(cache.holds(&key(1), 10) && cache.holds(&key(1), 20) && !cache.holds(&key(2), 15));
        assert!(!cache.holds(&key(1), 21) && cache.is_empty());
        cache.insert(key(1), (10, 20));
        assert!(!cache.holds(&key(1), 9));
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_what_is_used() {
        let cache = ChainCache::default();
        for number in 0..200_000 {
            cache.insert(key(number), (0, 10));
            assert!(cache.holds(&key(0), 5), "{number}");
        }
        assert!(cache.len() <= 2 * SHARDS * HALF);
        assert!(cache.holds(&key(199_999), 5) && !cache.holds(&key(1), 5));
    }
}
