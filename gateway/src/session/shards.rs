//! From a secret's hash to its session: read by all workers without a lock.
//!
//! Many small maps, each replaced as a whole. A reader takes the one in force; a writer, of which there is one at a time, copies
//! a few hundred entries.

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

    /// For one writer at a time.
    fn change(&self, hash: &Hash, change: impl FnOnce(&mut Map)) {
        if let Some(shard) = self.shard(hash) {
            let mut map = Map::clone(&shard.load());
            change(&mut map);
            shard.store(Arc::new(map));
        }
    }

    /// For one writer at a time.
    pub(super) fn put(&self, hash: Hash, slot: Slot) {
        self.change(&hash, |map| drop(map.insert(hash, slot)));
    }

    /// For one writer at a time.
    pub(super) fn remove(&self, hash: &Hash) {
        self.change(hash, |map| drop(map.remove(hash)));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|shard| shard.load().len()).sum()
    }
}
