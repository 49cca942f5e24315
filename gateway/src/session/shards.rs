//! From a secret's hash to its session: read by all workers without a lock.
//!
//! Many small maps, each replaced as a whole. A reader takes the one in force; a writer copies a few hundred entries, and again where
//! another was quicker.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::entry::Session;
use super::key::Hash;

const SHARDS: usize = 256;

/// Hashes that are hashes already.
#[derive(Default)]
pub(super) struct Taken(u64);

impl Hasher for Taken {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |state, byte| state.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// What a secret stands for.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) session: Arc<Session>,
    /// The session has newer secrets, and goes on without this one.
    pub(super) superseded: bool,
}

type Map = HashMap<Hash, Slot, BuildHasherDefault<Taken>>;

pub(super) struct Shards(Box<[ArcSwap<Map>]>);

impl Default for Shards {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| ArcSwap::default()).collect())
    }
}

impl Shards {
    fn shard(&self, hash: &Hash) -> Option<&ArcSwap<Map>> {
        self.0.get(usize::from(*hash.0.last()?))
    }

    pub(super) fn get(&self, hash: &Hash) -> Option<Slot> {
        self.shard(hash)?.load().get(hash).cloned()
    }

    /// Changes a map; where another writer is quicker, again. Returns what the secret stood for before.
    fn change(&self, hash: &Hash, change: impl Fn(&mut Map)) -> Option<Slot> {
        let before = self.shard(hash)?.rcu(|map| {
            let mut map = Map::clone(map);
            change(&mut map);
            map
        });
        before.get(hash).cloned()
    }

    /// Returns what the secret stood for before.
    pub(super) fn put(&self, hash: Hash, slot: &Slot) -> Option<Slot> {
        self.change(&hash, |map| drop(map.insert(hash, slot.clone())))
    }

    /// As [`put`](Self::put), unless the secret stands for somebody whom `keeps` says to keep.
    pub(super) fn put_unless(&self, hash: Hash, slot: &Slot, keeps: impl Fn(&Slot) -> bool) {
        self.change(&hash, |map| {
            if !map.get(&hash).is_some_and(&keeps) {
                map.insert(hash, slot.clone());
            }
        });
    }

    /// The session goes on without the secret, if that still stands for it.
    pub(super) fn supersede(&self, hash: &Hash, session: &Arc<Session>) {
        self.change(hash, |map| {
            if let Some(slot) = map.get_mut(hash).filter(|slot| Arc::ptr_eq(&slot.session, session)) {
                slot.superseded = true;
            }
        });
    }

    /// Forgets the secret, if it still stands for that session.
    pub(super) fn remove(&self, hash: &Hash, session: &Arc<Session>) {
        self.change(hash, |map| {
            if map.get(hash).is_some_and(|slot| Arc::ptr_eq(&slot.session, session)) {
                map.remove(hash);
            }
        });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.load().len()).sum()
    }
}
