//! What stands for one session: a few secrets that it goes on with, a few that it had, and what of them the store knows.
//!
//! An application may give another cookie with every answer. The newest counts at once, for all workers, and costs the lock of its own
//! session alone; the store is told of what is left of them about once a second.

use std::collections::VecDeque;
use std::sync::Arc;

use super::key::Hash;
use crate::store::SessionChange;

/// Secrets that one session goes on with at once: a browser has so many requests under way while its cookie is re-issued.
pub(super) const SECRETS: usize = 8;
/// Secrets that it went on without and is still known by.
const SUPERSEDED: usize = 8;
/// Secrets by which a session that is over is known.
pub(super) const LAST_SECRETS: usize = 2;
/// The newest of both that the store is told of: a restart knows no others.
const STORED: (usize, usize) = (4, 2);

/// See the [module](self). All lists are oldest first.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    live: VecDeque<Hash>,
    superseded: VecDeque<Hash>,
    /// What the store was told, and whether as superseded.
    stored: Vec<(Hash, bool)>,
    /// It is among those whose changes the store is going to be told.
    pub(super) is_queued: bool,
}

/// What became of others when a secret was added.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Aside {
    pub(super) superseded: Vec<Hash>,
    pub(super) forgotten: Vec<Hash>,
}

impl Secrets {
    /// One more, of which `most` stand for the session from here on.
    pub(super) fn tie(&mut self, hash: Hash, most: usize) -> Aside {
        self.live.retain(|known| *known != hash);
        self.superseded.retain(|known| *known != hash);
        self.live.push_back(hash);
        let superseded: Vec<Hash> = self.live.drain(..self.live.len().saturating_sub(most)).collect();
        self.superseded.extend(&superseded);
        let surplus = self.superseded.len().saturating_sub(SUPERSEDED);
        Aside { forgotten: self.superseded.drain(..surplus).collect(), superseded }
    }

    /// One that the store had, which returns them oldest first.
    pub(super) fn restore(&mut self, hash: Hash, superseded: bool) -> Aside {
        self.stored.push((hash, superseded));
        if !superseded {
            return self.tie(hash, SECRETS);
        }
        self.superseded.push_back(hash);
        let surplus = self.superseded.len().saturating_sub(SUPERSEDED);
        Aside { forgotten: self.superseded.drain(..surplus).collect(), superseded: Vec::new() }
    }

    /// All but the `last` are worth nothing any more. Returns those.
    pub(super) fn end(&mut self, last: usize) -> Vec<Hash> {
        let surplus = self.live.len().saturating_sub(last);
        self.superseded.drain(..).chain(self.live.drain(..surplus)).collect()
    }

    /// What the store is to be told, so that it knows the newest; from here on it was.
    pub(super) fn changes(&mut self, name: &Arc<str>) -> Vec<SessionChange> {
        let (live, superseded) = STORED;
        let newest = |of: &VecDeque<Hash>, most: usize| of.len().saturating_sub(most);
        let wanted: Vec<(Hash, bool)> = self
            .superseded
            .iter()
            .skip(newest(&self.superseded, superseded))
            .map(|hash| (*hash, true))
            .chain(self.live.iter().skip(newest(&self.live, live)).map(|hash| (*hash, false)))
            .collect();
        let was = std::mem::replace(&mut self.stored, wanted);
        let name = || name.to_string();
        let is_gone = |(hash, _): &&(Hash, bool)| self.stored.iter().all(|(known, _)| known != hash);
        let gone = was.iter().filter(is_gone).map(|(hash, _)| SessionChange::Forgotten { name: name(), hash: *hash });
        let new = self.stored.iter().filter(|entry| !was.contains(entry)).flat_map(|(hash, superseded)| {
            let is_known = was.iter().any(|(known, _)| known == hash);
            let secret = (!superseded || !is_known).then(|| SessionChange::Secret { name: name(), hash: *hash });
            let superseded = superseded.then(|| SessionChange::Superseded { name: name(), hash: *hash });
            secret.into_iter().chain(superseded)
        });
        gone.chain(new).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u8) -> Hash {
        Hash([number; 32])
    }

    /// What a store has that was told all this.
    fn carry_out(rows: &mut Vec<(Hash, bool)>, changes: Vec<SessionChange>) {
        for change in changes {
            match &change {
                SessionChange::Secret { hash, .. } => {
                    rows.retain(|(known, _)| known != hash);
                    rows.push((*hash, false));
                }
                SessionChange::Superseded { hash, .. } => {
                    rows.iter_mut().filter(|(known, _)| known == hash).for_each(|row| row.1 = true);
                }
                SessionChange::Forgotten { hash, .. } => rows.retain(|(known, _)| known != hash),
                SessionChange::Begun(_)
                | SessionChange::Used { .. }
                | SessionChange::Raised { .. }
                | SessionChange::Acts { .. }
                | SessionChange::Ended { .. }
                | SessionChange::Purge { .. } => panic!("{change:?}"),
            }
        }
    }

    #[test]
    fn the_store_has_the_newest_however_many_came_between() {
        let (mut secrets, mut rows, name) = (Secrets::default(), Vec::new(), Arc::from("n"));
        for number in 0..50 {
            secrets.tie(hash(number), SECRETS);
            if number % 7 == 0 {
                let changes = secrets.changes(&name);
                assert!(changes.len() <= 14, "{}", changes.len());
                carry_out(&mut rows, changes);
                assert!(secrets.changes(&name).is_empty(), "nothing is said twice");
            }
        }
        let mut known: Vec<_> = rows.iter().map(|(hash, superseded)| (hash.0[0], *superseded)).collect();
        known.sort_unstable();
        assert_eq!(known, [(40, true), (41, true), (46, false), (47, false), (48, false), (49, false)]);
        // After a restart it goes on from there.
        let mut again = Secrets::default();
        for (hash, superseded) in &rows {
            assert_eq!(again.restore(*hash, *superseded), Aside::default());
        }
        assert!(again.changes(&name).is_empty());
        let aside = again.tie(hash(50), 1);
        assert_eq!(aside.superseded, [46, 47, 48, 49].map(hash));
        carry_out(&mut rows, again.changes(&name));
        rows.sort_unstable();
        assert_eq!(rows, [(hash(48), true), (hash(49), true), (hash(50), false)]);
        assert_eq!(again.end(LAST_SECRETS).len(), 6);
        carry_out(&mut rows, again.changes(&name));
        assert_eq!(rows, [(hash(50), false)]);
    }
}
