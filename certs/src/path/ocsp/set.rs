//! The answers that paths are judged by.

use std::collections::HashMap;
use std::sync::Arc;

use super::{OcspAnswer, OcspId, OcspStatus};

/// What responders have said, by certificate. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct OcspSet {
    by_id: Arc<HashMap<OcspId, Arc<OcspAnswer>>>,
    /// How often a remembered chain might have rested on what is not so any more.
    turns: u64,
    version: [u8; 32],
}

impl OcspSet {
    /// A set of these answers in place of this one's; of two about one certificate the last. With `judge_anew`, its
    /// version is another one in any case, so that every remembered chain is judged anew.
    #[must_use]
    pub fn with(&self, answers: impl IntoIterator<Item = Arc<OcspAnswer>>, judge_anew: bool) -> Self {
        let by_id: HashMap<_, _> = answers.into_iter().map(|answer| (*answer.id(), answer)).collect();
        let was_good = |id: &OcspId| self.by_id.get(id).is_some_and(|old| old.status() == OcspStatus::Good);
        let mut turned = judge_anew;
        let mut revoked = Vec::new();
        for (id, answer) in &by_id {
            match answer.status() {
                OcspStatus::Good => {}
                OcspStatus::Unknown => turned |= was_good(id),
                OcspStatus::Revoked { .. } => revoked.push(*id),
            }
        }
        let turns = self.turns.wrapping_add(u64::from(turned));
        let version = if revoked.is_empty() && turns == 0 {
            [0; 32]
        } else {
            revoked.sort_unstable();
            crate::fingerprint(&[&turns.to_be_bytes(), revoked.as_flattened()].concat())
        };
        Self { by_id: Arc::new(by_id), turns, version }
    }

    /// What was said of a certificate.
    #[must_use]
    pub fn get(&self, id: &OcspId) -> Option<&Arc<OcspAnswer>> {
        self.by_id.get(id)
    }

    /// How many answers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Another one than before where somebody is refused who was not, or where somebody is not known any more who was.
    ///
    /// A further `good` makes no difference: a chain that held without it still holds, and one that rested on an earlier
    /// one is remembered no longer than that. Nor does one who is unknown from the start: no chain rests on him. So a
    /// crowd of new devices has nobody else judged again.
    #[must_use]
    pub const fn version(&self) -> &[u8; 32] {
        &self.version
    }
}
