//! The judge: Cedar policies over the schema of [`SCHEMA`], and the only maker of a [`Permit`].
//!
//! Closed by default and on failure: without a policy that permits there is no permit, a policy that forbids
//! outweighs all that permit, and any policy that cannot be evaluated denies (R2, R4, R13).
//!
//! A decision takes four steps: the cache, the slice (policies whose scope matches), the conditions of the slice,
//! and the count of the votes.

mod audience;
mod bounds;
mod cache;
pub(crate) mod civil;
mod explain;
mod load;
mod parse;
mod problem;
mod reads;
mod request;
mod schema;
mod scope;
mod step_up;
mod verdict;
mod world;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use cedar_policy::{Authorizer, Effect, PolicySet};
use smallvec::SmallVec;

pub use bounds::{MAX_FILE_BYTES, MAX_FILES, MAX_POLICIES, MAX_TOTAL_BYTES};
pub use cache::DecisionCache;
pub use explain::{Explanation, Finding, Missing, Outcome};
pub use load::{JudgeOptions, UtcOffset};
pub use parse::PolicySource;
pub use problem::{LoadError, Problem};
pub use request::{Context, Patients, Request, TlsVersion, Transport};
pub use schema::SCHEMA;
pub use step_up::StepUp;
pub use verdict::{Denial, MAX_POLICY_NAME_LENGTH, Permit, PolicyName};

use crate::{Action, Refusal, Subject};
use audience::Audience;
use reads::Reads;
use schema::Vocabulary;
use scope::Scope;
use verdict::Verdict;
use world::{Unspeakable, World};

/// A loaded, validated policy set. Immutable; shared by all workers.
pub struct Judge {
    /// Different for every load in the process, so that no decision outlives its policies.
    version: u64,
    offset: UtcOffset,
    vocabulary: &'static Vocabulary,
    authorizer: Authorizer,
    /// In order of their names.
    rules: Box<[Rule]>,
    /// For each action, the rules whose scope takes it.
    by_action: [Box<[usize]>; Action::ALL.len()],
    warnings: Vec<Problem>,
}

/// One policy.
struct Rule {
    name: PolicyName,
    file: Arc<str>,
    line: usize,
    forbids: bool,
    /// Without conditions the scope alone decides.
    conditional: bool,
    audience: Audience,
    scope: Scope,
    reads: Reads,
    /// Ages of an authentication, in seconds, about which it may change its mind.
    ages: Box<[u64]>,
    /// The policy alone in a set: Cedar evaluates sets.
    alone: PolicySet,
}

/// What became of the policies of a slice.
#[derive(Default)]
struct Votes {
    permits: SmallVec<[PolicyName; 4]>,
    forbids: SmallVec<[PolicyName; 4]>,
    errors: SmallVec<[PolicyName; 4]>,
    /// Nothing could be evaluated at all.
    broken: bool,
}

impl Judge {
    /// The policy set's version: different for every load in the process.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many policies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no policy at all, so that everything is denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The names of the policies, in order.
    pub fn policies(&self) -> impl Iterator<Item = &PolicyName> {
        self.rules.iter().map(|rule| &rule.name)
    }

    /// What validation found odd but legal, such as a policy that can never apply.
    #[must_use]
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// Decides. A decision found in the cache costs a few comparisons and allocates nothing.
    ///
    /// # Errors
    /// [`Denial`] with [`Refusal::PolicyError`] if any policy of the slice could not be evaluated, otherwise with
    /// [`Refusal::PolicyForbid`] if any forbids, otherwise with [`Refusal::PolicyNoPermit`] if none permits.
    pub fn decide(
        &self,
        cache: &mut DecisionCache,
        subject: &Subject,
        request: &Request<'_>,
    ) -> Result<Permit, Denial> {
        let place = cache.place(self.version, subject, request);
        if let Some(verdict) = cache.find(place, self.version, subject, request) {
            return verdict.deliver(request.action, true);
        }
        let (verdict, reads) = self.evaluate(subject, request);
        cache.keep(place, self.version, subject, request, reads, &verdict);
        verdict.deliver(request.action, false)
    }

    /// The verdict, and all that it rests on besides subject, action and route.
    fn evaluate(&self, subject: &Subject, request: &Request<'_>) -> (Verdict, Reads) {
        let slice = self.slice(subject, request);
        let reads = slice.iter().fold(Reads::NONE, |reads, rule| reads.with(rule.reads));
        match self.poll(&slice, subject, request, reads) {
            Ok(votes) => {
                let mut verdict = votes.count();
                verdict.step_up = self.step_up(&slice, subject, request, reads, verdict.refusal);
                (verdict, reads)
            }
            Err(Unspeakable { .. }) => (Votes { broken: true, ..Votes::default() }.count(), Reads::ANYTHING),
        }
    }

    /// The policies that are for the subject and whose scope matches: no other can decide or err.
    fn slice(&self, subject: &Subject, request: &Request<'_>) -> SmallVec<[&Rule; 16]> {
        let candidates = self.by_action.get(request.action as usize).map_or(&[][..], |rules| rules);
        let rules = candidates.iter().filter_map(|index| self.rules.get(*index));
        rules.filter(|rule| rule.audience.takes(subject) && rule.scope.takes_parties(subject, request)).collect()
    }

    fn poll(
        &self,
        slice: &[&Rule],
        subject: &Subject,
        request: &Request<'_>,
        reads: Reads,
    ) -> Result<Votes, Unspeakable> {
        let mut votes = Votes::default();
        let mut world = None;
        for rule in slice {
            let satisfied = if rule.conditional {
                let world = match &mut world {
                    Some(world) => world,
                    none => none.insert(World::new(self.vocabulary, self.offset, subject, request, reads)?),
                };
                let response = self.authorizer.is_authorized(&world.request, &rule.alone, &world.entities);
                if response.diagnostics().errors().next().is_some() {
                    votes.errors.push(rule.name.clone());
                    continue;
                }
                response.diagnostics().reason().next().is_some()
            } else {
                true
            };
            if satisfied {
                let pile = if rule.forbids { &mut votes.forbids } else { &mut votes.permits };
                pile.push(rule.name.clone());
            }
        }
        Ok(votes)
    }
}

impl Votes {
    fn count(self) -> Verdict {
        let (refusal, policies) = if self.broken || !self.errors.is_empty() {
            (Some(Refusal::PolicyError), self.errors)
        } else if !self.forbids.is_empty() {
            (Some(Refusal::PolicyForbid), self.forbids)
        } else if self.permits.is_empty() {
            (Some(Refusal::PolicyNoPermit), self.permits)
        } else {
            (None, self.permits)
        };
        Verdict { refusal, policies: policies.into_iter().collect(), step_up: None }
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge")
            .field("version", &self.version)
            .field("policies", &self.rules.len())
            .finish_non_exhaustive()
    }
}

fn forbids(effect: Effect) -> bool {
    match effect {
        Effect::Permit => false,
        Effect::Forbid => true,
    }
}
