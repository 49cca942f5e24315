//! What is known of all sessions together: for whoever begins or ends one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use policy::login::Origin;
use policy::session::surplus;

use super::Begin;
use super::entry::Session;
use super::key::Hash;

/// How long a session that is over is remembered, so that whoever presents its secret is known for what they are.
pub(super) const REMEMBERED: Duration = Duration::from_secs(30 * 86_400);

struct Held {
    session: Arc<Session>,
    /// Oldest first.
    secrets: VecDeque<Hash>,
}

#[derive(Default)]
pub(super) struct Book {
    /// Live ones and those that are over, by name.
    sessions: HashMap<Arc<str>, Held>,
    live: usize,
    /// Those that are over, and since when, oldest first.
    over: VecDeque<(u64, Arc<str>)>,
    /// Secrets that sessions went on without, oldest first.
    superseded: VecDeque<Hash>,
    /// Secrets of people who have not logged in, by place, oldest first.
    given: HashMap<Origin, VecDeque<Hash>>,
}

impl Book {
    pub(super) const fn live(&self) -> usize {
        self.live
    }

    pub(super) fn living(&self, takes: impl Fn(&Session) -> bool) -> Vec<Arc<Session>> {
        let all = self.sessions.values().map(|held| &held.session);
        all.filter(|session| session.ended().is_none() && takes(session)).cloned().collect()
    }

    /// Whose end makes room for one that begins.
    pub(super) fn surplus(&self, begin: &Begin<'_>) -> Vec<Arc<Session>> {
        let Some(user) = begin.user.as_ref().filter(|_| begin.limits.concurrent > 0) else { return Vec::new() };
        let site = begin.party.site().map_or("", |site| site.as_str());
        let own = self.living(|session| session.user.as_ref() == Some(user) && *session.place.site == *site);
        surplus(begin.limits.concurrent, own.into_iter().map(|session| (Arc::clone(&session), session.begun_ns)))
    }

    pub(super) fn put(&mut self, session: Arc<Session>, at_ns: u64) {
        if session.ended().is_some() {
            self.over.push_back((at_ns, Arc::clone(&session.name)));
        } else {
            self.live += 1;
        }
        let name = Arc::clone(&session.name);
        self.sessions.insert(name, Held { session, secrets: VecDeque::new() });
    }

    /// Gives a session one more secret. Returns the one that it goes on without, and those that are to be forgotten.
    pub(super) fn tie(&mut self, name: &str, hash: Hash, most: usize, remembered: usize) -> (Option<Hash>, Vec<Hash>) {
        let Some(held) = self.sessions.get_mut(name) else { return (None, Vec::new()) };
        held.secrets.retain(|known| *known != hash);
        held.secrets.push_back(hash);
        let superseded = if held.secrets.len() > most { held.secrets.pop_front() } else { None };
        let mut forgotten = Vec::new();
        if let Some(hash) = superseded {
            forgotten = self.supersede(hash, remembered);
        }
        (superseded, forgotten)
    }

    pub(super) fn supersede(&mut self, hash: Hash, remembered: usize) -> Vec<Hash> {
        self.superseded.push_back(hash);
        let too_many = self.superseded.len().saturating_sub(remembered);
        self.superseded.drain(..too_many).collect()
    }

    pub(super) fn give(&mut self, place: Origin, hash: Hash, most: usize) -> Option<Hash> {
        let given = self.given.entry(place).or_default();
        given.push_back(hash);
        if given.len() > most { given.pop_front() } else { None }
    }

    /// Notes that a session is over. Returns the secrets of those that are forgotten for it.
    pub(super) fn end(&mut self, session: &Session, at_ns: u64, remembered: usize) -> Vec<Hash> {
        self.live = self.live.saturating_sub(1);
        self.over.push_back((at_ns, Arc::clone(&session.name)));
        let too_many = self.over.len().saturating_sub(remembered);
        let names: Vec<_> = self.over.drain(..too_many).collect();
        self.drop_all(names)
    }

    /// Forgets what has been over for long. Returns the secrets.
    pub(super) fn forget(&mut self, now_ns: u64) -> Vec<Hash> {
        let remembered = u64::try_from(REMEMBERED.as_nanos()).unwrap_or(u64::MAX);
        let is_old = |at_ns: u64| now_ns.saturating_sub(at_ns) > remembered;
        let count = self.over.iter().take_while(|(at_ns, _)| is_old(*at_ns)).count();
        let names: Vec<_> = self.over.drain(..count).collect();
        self.drop_all(names)
    }

    fn drop_all(&mut self, names: Vec<(u64, Arc<str>)>) -> Vec<Hash> {
        let held = names.iter().filter_map(|(_, name)| self.sessions.remove(name));
        held.flat_map(|held| held.secrets).collect()
    }
}
