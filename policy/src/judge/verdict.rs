//! What the judge says.

use std::fmt;
use std::sync::Arc;

use super::StepUp;
use crate::{Action, Refusal};

/// The longest name of a policy, in bytes.
pub const MAX_POLICY_NAME_LENGTH: usize = 128;

/// The name of a policy: its `@id("…")`, or its file and place in it (`clinic.cedar#3`). Unique within a policy set.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyName(Arc<str>);

impl PolicyName {
    /// Letters and digits of any script and `-_.:/#`, so that a name is safe in a log, a header and a terminal.
    pub(super) fn new(text: &str) -> Option<Self> {
        let fits = (1..=MAX_POLICY_NAME_LENGTH).contains(&text.len())
            && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/' | '#'));
        fits.then(|| Self(Arc::from(text)))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl AsRef<str> for PolicyName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for PolicyName {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

/// Leave to go ahead with one request. Only [`Judge::decide`](super::Judge::decide) makes one; it cannot be copied,
/// and forwarding takes it by value, so that nothing is forwarded that was not judged.
#[must_use = "a permit is spent by forwarding the request it was given for"]
#[derive(Debug)]
pub struct Permit {
    action: Action,
    policies: Arc<[PolicyName]>,
    cached: bool,
}

impl Permit {
    pub(super) fn new(action: Action, policies: Arc<[PolicyName]>, cached: bool) -> Self {
        Self { action, policies, cached }
    }

    /// The action that was permitted.
    #[must_use]
    pub fn action(&self) -> Action {
        self.action
    }

    /// The policies that permitted it: at least one, in order of their names.
    #[must_use]
    pub fn policies(&self) -> &Arc<[PolicyName]> {
        &self.policies
    }

    /// Whether the decision came from the cache.
    #[must_use]
    pub fn cached(&self) -> bool {
        self.cached
    }
}

/// The judge's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// [`Refusal::PolicyNoPermit`], [`Refusal::PolicyForbid`] or [`Refusal::PolicyError`].
    pub reason: Refusal,
    /// The policies that forbade it or that could not be evaluated, in order of their names; none where no policy
    /// permitted it.
    pub policies: Arc<[PolicyName]>,
    /// Whether the decision came from the cache.
    pub cached: bool,
    /// What would have to be proved for the same request to be permitted, where that is all that is missing.
    pub step_up: Option<StepUp>,
}

/// A decision without the power to forward anything: what the cache keeps and what explanations show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// `None` permits.
    pub(super) refusal: Option<Refusal>,
    pub(super) policies: Arc<[PolicyName]>,
    pub(super) step_up: Option<StepUp>,
}

impl Verdict {
    pub(super) fn deliver(&self, action: Action, cached: bool) -> Result<Permit, Denial> {
        let policies = Arc::clone(&self.policies);
        match self.refusal {
            None => Ok(Permit::new(action, policies, cached)),
            Some(reason) => Err(Denial { reason, policies, cached, step_up: self.step_up }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_to_print() {
        for good in ["doctor-read", "clinic.cedar#3", "医師:参照", "a/b"] {
            assert_eq!(PolicyName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a\n", "\u{1b}[2J", "a\u{202e}b", "\"", &"a".repeat(MAX_POLICY_NAME_LENGTH + 1)] {
            assert!(PolicyName::new(bad).is_none(), "{bad:?}");
        }
    }
}
