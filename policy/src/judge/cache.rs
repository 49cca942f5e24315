//! Decisions already made, for one worker.
//!
//! An entry is found by everything its decision rests on: the policy set's version, who asks (identity, roles and
//! the versions of the registry's entries), action, service, class and route, the authentication level, and those
//! attributes of the context that the slice of policies reads. The hash only says where to look; every part is
//! compared. Nothing is kept whose policies read time, the age of an authentication or the request's own content.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::reads::Reads;
use super::verdict::Verdict;
use super::{Request, TlsVersion, Transport};
use crate::{
    ActingFor, Action, AuthenticationLevel, EntityVersions, InformationClass, Party, RoleName, RouteName, ServiceName,
    Subject,
};

/// Entries that share one place. A subject at several source addresses fills several of them.
const WAYS: usize = 8;

/// Bounded, for one worker: no lock, no sharing. Set-associative, the least recently used entry of a set makes room.
#[derive(Debug)]
pub struct DecisionCache {
    hasher: RandomState,
    sets: Box<[[Option<Box<Entry>>; WAYS]]>,
    clock: u64,
    length: usize,
    hits: u64,
    misses: u64,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    used: u64,
    policy_version: u64,
    versions: EntityVersions,
    action: Action,
    level: AuthenticationLevel,
    reads: Reads,
    transport: Transport,
    tls_version: Option<TlsVersion>,
    source: IpAddr,
    party: Party,
    roles: SmallVec<[RoleName; 4]>,
    acting_for: Option<Arc<ActingFor>>,
    service: ServiceName,
    class: InformationClass,
    route: RouteName,
    verdict: Verdict,
}

/// The place of a decision in the cache of the worker that computed it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(u64);

impl DecisionCache {
    /// A cache for at least `decisions` decisions, rounded up to a power of two and to at least 8. About 400 bytes
    /// each. The hasher's keys are the caller's randomness: names in the registry may come from clinics, and must
    /// not be choosable so that they collide.
    #[must_use]
    pub fn new(decisions: usize, hasher: RandomState) -> Self {
        let sets = decisions.div_ceil(WAYS).next_power_of_two();
        let sets = (0..sets).map(|_| std::array::from_fn(|_| None)).collect();
        Self { hasher, sets, clock: 0, length: 0, hits: 0, misses: 0 }
    }

    /// Decisions kept, those of replaced policy sets included until their room is needed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The most decisions ever kept.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// Decisions found.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Decisions not found, those that are never kept included.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.misses
    }

    pub(super) fn place(&self, policy_version: u64, subject: &Subject, request: &Request<'_>) -> Place {
        let mut state = self.hasher.build_hasher();
        state.write_u64(policy_version);
        subject.versions.hash(&mut state);
        // Enough to spread subjects and routes; the comparison sees everything.
        subject.party.hash(&mut state);
        request.route.hash(&mut state);
        request.class.hash(&mut state);
        state.write_u8(request.action as u8);
        state.write_u8(subject.authentication_level as u8);
        Place(state.finish())
    }

    pub(super) fn find(
        &mut self,
        place: Place,
        policy_version: u64,
        subject: &Subject,
        request: &Request<'_>,
    ) -> Option<&Verdict> {
        self.clock += 1;
        let clock = self.clock;
        let set = set_of(&mut self.sets, place)?;
        let found = set.iter_mut().flatten().find(|entry| {
            entry.hash == place.0 && entry.policy_version == policy_version && entry.answers(subject, request)
        });
        match found {
            Some(entry) => {
                self.hits += 1;
                entry.used = clock;
                Some(&entry.verdict)
            }
            None => {
                self.misses += 1;
                None
            }
        }
    }

    /// Keeps a decision that rests on nothing but its key; refuses any other.
    pub(super) fn keep(
        &mut self,
        place: Place,
        policy_version: u64,
        subject: &Subject,
        request: &Request<'_>,
        reads: Reads,
        verdict: &Verdict,
    ) {
        if !reads.cacheable() {
            return;
        }
        let used = self.clock;
        let Some(set) = set_of(&mut self.sets, place) else { return };
        let Some(room) = set.iter_mut().min_by_key(|room| room.as_ref().map_or(0, |entry| entry.used)) else { return };
        if room.is_none() {
            self.length += 1;
        }
        *room = Some(Box::new(Entry {
            hash: place.0,
            used,
            policy_version,
            versions: subject.versions,
            action: request.action,
            level: subject.authentication_level,
            reads,
            transport: request.context.transport,
            tls_version: request.context.tls_version,
            source: request.context.source.to_canonical(),
            party: subject.party.clone(),
            roles: subject.roles.clone(),
            acting_for: subject.acting_for.clone(),
            service: request.service.clone(),
            class: request.class.clone(),
            route: request.route.clone(),
            verdict: verdict.clone(),
        }));
    }
}

impl Entry {
    fn answers(&self, subject: &Subject, request: &Request<'_>) -> bool {
        let context = &request.context;
        self.versions == subject.versions
            && self.action == request.action
            && self.level == subject.authentication_level
            && self.party == subject.party
            && self.roles == subject.roles
            && self.acting_for == subject.acting_for
            && self.route == *request.route
            && self.class == *request.class
            && self.service == *request.service
            && (!self.reads.has(Reads::TRANSPORT) || self.transport == context.transport)
            && (!self.reads.has(Reads::TLS_VERSION) || self.tls_version == context.tls_version)
            && (!self.reads.has(Reads::SOURCE) || self.source == context.source.to_canonical())
    }
}

/// The number of sets is a power of two.
fn set_of(sets: &mut [[Option<Box<Entry>>; WAYS]], place: Place) -> Option<&mut [Option<Box<Entry>>; WAYS]> {
    let mask = sets.len().wrapping_sub(1);
    let index = usize::try_from(place.0 & u64::try_from(mask).ok()?).ok()?;
    sets.get_mut(index)
}
