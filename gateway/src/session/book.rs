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

#[derive(Default)]
pub(super) struct Book {
    /// Live ones and those that are over, by name.
    sessions: HashMap<Arc<str>, Arc<Session>>,
    live: usize,
    /// Live ones by place, oldest first.
    by_place: HashMap<Origin, VecDeque<Arc<Session>>>,
    /// How many live at each site.
    by_site: HashMap<Arc<str>, usize>,
    /// Those that are over, and since when, oldest first.
    over: VecDeque<(u64, Arc<str>)>,
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
        self.sessions.values().filter(|session| session.ended().is_none() && takes(session)).cloned().collect()
    }

    /// Whose end makes room for one that begins.
    pub(super) fn surplus(&self, begin: &Begin<'_>) -> Vec<Arc<Session>> {
        let Some(user) = begin.user.as_ref().filter(|_| begin.limits.concurrent > 0) else { return Vec::new() };
        let site = begin.party.site().map_or("", |site| site.as_str());
        let own = self.living(|session| session.user.as_ref() == Some(user) && *session.place.site == *site);
        surplus(begin.limits.concurrent, own.into_iter().map(|session| (Arc::clone(&session), session.begun_ns)))
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
        self.sessions.insert(Arc::clone(&session.name), session);
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

    /// Notes that a session is over. Returns those that are forgotten for it.
    pub(super) fn end(&mut self, session: &Arc<Session>, at_ns: u64, remembered: usize) -> Vec<Arc<Session>> {
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
        self.over.push_back((at_ns, Arc::clone(&session.name)));
        self.drop_oldest(self.over.len().saturating_sub(remembered))
    }

    /// Forgets what has been over for long. Returns those.
    pub(super) fn forget(&mut self, now_ns: u64) -> Vec<Arc<Session>> {
        let remembered = u64::try_from(REMEMBERED.as_nanos()).unwrap_or(u64::MAX);
        let is_old = |at_ns: u64| now_ns.saturating_sub(at_ns) > remembered;
        self.drop_oldest(self.over.iter().take_while(|(at_ns, _)| is_old(*at_ns)).count())
    }

    fn drop_oldest(&mut self, count: usize) -> Vec<Arc<Session>> {
        self.over.drain(..count).filter_map(|(_, name)| self.sessions.remove(&name)).collect()
    }
}
