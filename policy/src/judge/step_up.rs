//! What a denied request lacks, where that is nothing but a stronger or more recent authentication (R9, RFC 9470).
//!
//! The policies say it themselves: those that decided are asked again, as if the user had proved more. It is done for denials
//! alone, and for those whose policies read the level or the age. It says nothing about permits: what comes after a step-up is
//! judged like any other request.

use cedar_policy::Policy;

use super::reads::{Reads, numbers};
use super::{Judge, Request, Rule};
use crate::{AuthenticationLevel, Party, Refusal, Subject};

/// An age, in seconds, that no policy bounds: ten years.
const UNBOUNDED_S: u64 = 315_360_000;
/// The least age that a request can have, in seconds: what was proved was proved before it, and ages are rounded up. Whoever is asked
/// for less would be asked for ever.
const LEAST_S: u64 = 1;
/// Most ages that are tried.
const MOST_AGES: usize = 8;

/// What would have to be proved for a denied request to be permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepUp {
    /// How strongly the user must be known.
    pub level: AuthenticationLevel,
    /// How long ago that may have been proved, seconds; none: however long.
    pub max_age_s: Option<u64>,
}

/// Ages about which a policy may change its mind: the numbers that it names, and those below.
pub(super) fn ages(policy: &Policy) -> Box<[u64]> {
    if !Reads::of(policy).has(Reads::AUTHENTICATION_AGE) {
        return Box::default();
    }
    let named = numbers(policy).into_iter().filter_map(|number| u64::try_from(number).ok());
    let mut ages: Vec<u64> = named.flat_map(|number| [Some(number), number.checked_sub(1)]).flatten().collect();
    ages.sort_unstable();
    ages.dedup();
    ages.into()
}

impl Judge {
    /// The least that would have to be proved, the level before the age.
    pub(super) fn step_up(
        &self,
        slice: &[&Rule],
        subject: &Subject,
        request: &Request<'_>,
        reads: Reads,
        refusal: Option<Refusal>,
    ) -> Option<StepUp> {
        let is_denial = matches!(refusal, Some(Refusal::PolicyNoPermit | Refusal::PolicyForbid));
        if !is_denial || matches!(subject.party, Party::Patient(_)) {
            return None;
        }
        if reads.has(Reads::AUTHENTICATION_LEVEL.with(Reads::AUTHENTICATION_AGE)) {
            let levels = [AuthenticationLevel::User, AuthenticationLevel::TwoFactor].into_iter();
            let found = levels
                .filter(|level| {
                    *level > subject.authentication_level
                        || (*level == subject.authentication_level && reads.has(Reads::AUTHENTICATION_AGE))
                })
                .find_map(|level| self.at_level(slice, subject, request, reads, level));
            if found.is_some() {
                return found;
            }
        }
        let is_waited_for = refusal == Some(Refusal::PolicyNoPermit) && self.waits_for_a_user(subject, request);
        is_waited_for.then_some(StepUp { level: AuthenticationLevel::User, max_age_s: None })
    }

    /// Whether it would be permitted at that level, and up to which age.
    fn at_level(
        &self,
        slice: &[&Rule],
        subject: &Subject,
        request: &Request<'_>,
        reads: Reads,
        level: AuthenticationLevel,
    ) -> Option<StepUp> {
        let stronger = Subject { authentication_level: level, ..subject.clone() };
        let permits = |age_s: u64| {
            let mut fresher = *request;
            fresher.context.authentication_age_ns = Some(age_s.saturating_mul(1_000_000_000));
            let votes = self.poll(slice, &stronger, &fresher, reads);
            votes.is_ok_and(|votes| votes.count().refusal.is_none())
        };
        if !permits(LEAST_S) {
            return None;
        }
        if !reads.has(Reads::AUTHENTICATION_AGE) || permits(UNBOUNDED_S) {
            return Some(StepUp { level, max_age_s: None });
        }
        let mut ages: Vec<u64> = slice.iter().flat_map(|rule| rule.ages.iter().copied()).collect();
        ages.sort_unstable_by(|a, b| b.cmp(a));
        ages.dedup();
        let longest = ages
            .into_iter()
            .filter(|age| (LEAST_S..UNBOUNDED_S).contains(age))
            .take(MOST_AGES)
            .find(|age| permits(*age));
        Some(StepUp { level, max_age_s: Some(longest.unwrap_or(LEAST_S)) })
    }

    /// A device that stands for nobody asks for what policies permit to users: whoever sits there may be one. Nobody knows who, so
    /// that only scopes are looked at.
    fn waits_for_a_user(&self, subject: &Subject, request: &Request<'_>) -> bool {
        let Party::Device { device, user: None } = &subject.party else { return false };
        let candidates = self.by_action.get(request.action as usize).map_or(&[][..], |rules| rules);
        candidates.iter().filter_map(|index| self.rules.get(*index)).any(|rule| {
            let scope = rule.scope.matching(subject, request);
            let is_for_others = scope.resource && !scope.principal && rule.scope.is_for_users(&device.site);
            !rule.forbids && rule.audience.takes(subject) && is_for_others
        })
    }
}
