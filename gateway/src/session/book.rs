//! What is known of all sessions together: for whoever begins or ends one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use policy::login::Origin;
use policy::session::surplus;

use super::Begin;
use super::entry::Session;
use super::follow::Ends;
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
    /// Live ones by place, oldest first.
    by_place: HashMap<Origin, VecDeque<Arc<Session>>>,
    /// How many live at each site.
    by_site: HashMap<Arc<str>, usize>,
    /// Those that are over, and since when, oldest first.
    over: VecDeque<(u64, Arc<str>)>,
    /// Secrets that sessions went on without, oldest first.
    superseded: VecDeque<Hash>,
    /// Secrets of people who have not logged in, by place, oldest first.
    given: HashMap<Origin, VecDeque<Hash>>,
    /// How many these are together.
    given_len: usize,
    pub(super) ends: Ends,
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

    /// Whether a session is remembered, live or over.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.sessions.contains_key(name)
    }

    /// Live ones of a place, oldest first.
    pub(super) fn at(&self, place: &Origin) -> impl DoubleEndedIterator<Item = &Arc<Session>> {
        self.by_place.get(place).into_iter().flatten()
    }

    /// Whether a place has its share of `most`, a sixteenth, or its site has, a quarter: so that a flood there leaves room for
    /// the others.
    pub(super) fn is_crowded(&self, place: &Origin, most: usize) -> bool {
        let of_place = self.by_place.get(place).map_or(0, VecDeque::len);
        let of_site = self.by_site.get(&place.site).copied().unwrap_or_default();
        of_place >= (most / 16).max(1) || of_site >= (most / 4).max(1)
    }

    pub(super) fn put(&mut self, session: Arc<Session>, at_ns: u64) {
        if session.ended().is_some() {
            self.over.push_back((at_ns, Arc::clone(&session.name)));
        } else {
            self.live += 1;
            *self.by_site.entry(Arc::clone(&session.place.site)).or_default() += 1;
            self.by_place.entry(session.place.clone()).or_default().push_back(Arc::clone(&session));
        }
        let name = Arc::clone(&session.name);
        self.sessions.insert(name, Held { session, secrets: VecDeque::new() });
    }

    /// Gives a session one more secret. Returns those that it goes on without, and those that are to be forgotten.
    pub(super) fn tie(&mut self, name: &str, hash: Hash, most: usize, remembered: usize) -> (Vec<Hash>, Vec<Hash>) {
        let Some(held) = self.sessions.get_mut(name) else { return (Vec::new(), Vec::new()) };
        held.secrets.retain(|known| *known != hash);
        held.secrets.push_back(hash);
        let too_many = held.secrets.len().saturating_sub(most);
        let superseded: Vec<Hash> = held.secrets.drain(..too_many).collect();
        let forgotten = superseded.iter().flat_map(|hash| self.supersede(*hash, remembered)).collect();
        (superseded, forgotten)
    }

    pub(super) fn supersede(&mut self, hash: Hash, remembered: usize) -> Vec<Hash> {
        self.superseded.push_back(hash);
        let too_many = self.superseded.len().saturating_sub(remembered);
        self.superseded.drain(..too_many).collect()
    }

    /// Whether there is no room for another secret of a place that was given; one that has `most` goes on without its oldest.
    pub(super) fn is_given_full(&self, place: &Origin, most: usize, most_of_all: usize) -> bool {
        self.given_len >= most_of_all && self.given.get(place).is_none_or(|given| given.len() < most)
    }

    pub(super) fn give(&mut self, place: Origin, hash: Hash, most: usize) -> Option<Hash> {
        let given = self.given.entry(place).or_default();
        given.push_back(hash);
        if given.len() > most {
            return given.pop_front();
        }
        self.given_len += 1;
        None
    }

    /// Notes that a session is over. Returns its secrets but the `last`, and the secrets of those that are forgotten for it.
    pub(super) fn end(
        &mut self,
        session: &Arc<Session>,
        at_ns: u64,
        last: usize,
        remembered: usize,
    ) -> (Vec<Hash>, Vec<Hash>) {
        self.live = self.live.saturating_sub(1);
        if let Some(of_place) = self.by_place.get_mut(&session.place) {
            of_place.retain(|known| !Arc::ptr_eq(known, session));
            if of_place.is_empty() {
                self.by_place.remove(&session.place);
            }
        }
        if let Some(of_site) = self.by_site.get_mut(&session.place.site) {
            *of_site = of_site.saturating_sub(1);
            if *of_site == 0 {
                self.by_site.remove(&session.place.site);
            }
        }
        let own = self.sessions.get_mut(&session.name).map(|held| {
            let surplus = held.secrets.len().saturating_sub(last);
            held.secrets.drain(..surplus).collect()
        });
        self.over.push_back((at_ns, Arc::clone(&session.name)));
        let too_many = self.over.len().saturating_sub(remembered);
        let names: Vec<_> = self.over.drain(..too_many).collect();
        (own.unwrap_or_default(), self.drop_all(names))
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
