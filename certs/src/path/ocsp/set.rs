//! The answers that paths are judged by.

use std::collections::HashMap;
use std::sync::Arc;

use super::{OcspAnswer, OcspId, OcspStatus};

/// What responders have said, by certificate. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct OcspSet {
    by_id: Arc<HashMap<OcspId, Arc<OcspAnswer>>>,
    version: [u8; 32],
}

impl OcspSet {
    /// A set of these answers; of two about one certificate the last. `round` is part of the version: whoever counts it
    /// up has every remembered chain judged anew.
    #[must_use]
    pub fn new(answers: impl IntoIterator<Item = Arc<OcspAnswer>>, round: u64) -> Self {
        let by_id: HashMap<_, _> = answers.into_iter().map(|answer| (*answer.id(), answer)).collect();
        let mut bad: Vec<_> = by_id.values().filter(|answer| answer.status() != OcspStatus::Good).collect();
        if bad.is_empty() && round == 0 {
            return Self { by_id: Arc::new(by_id), version: [0; 32] };
        }
        bad.sort_by_key(|answer| *answer.id());
        let mut text = round.to_be_bytes().to_vec();
        for answer in bad {
            text.extend_from_slice(answer.id());
            text.push(u8::from(answer.status() == OcspStatus::Unknown));
        }
        Self { by_id: Arc::new(by_id), version: crate::fingerprint(&text) }
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

    /// Differs between sets that refuse other certificates. A further `good` makes no difference: a chain that held
    /// without it still holds, and one that rested on an earlier one was remembered no longer than that.
    #[must_use]
    pub const fn version(&self) -> &[u8; 32] {
        &self.version
    }
}
