//! Sessions of the running gateway: one mechanism for all kinds, one state for all workers (R10, R13, C14).
//!
//! `policy::session` decides how long a session lasts. This holds them: readers find one by a keyed hash of its secret in maps
//! that nobody locks (`shards`); whoever begins or ends one takes the one lock, which requests never do. The [`Keeper`] puts
//! what must not be forgotten into the store and the log. Under the lock things are put into its queue in the order in which
//! they were decided.

mod acting;
mod begin;
mod book;
mod entry;
mod follow;
mod keeper;
mod key;
mod of;
mod secrets;
mod shards;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use policy::session::{Factors, Kind, Limits, Reason};
use policy::{AuthenticationLevel, Party, Refusal, RoleName, SiteName};
use tokio::sync::{mpsc, oneshot, watch};

pub use begin::{Begin, Found, Secret};
pub use entry::{Acting, Proof, Session};
pub(crate) use keeper::note;
pub use keeper::{Keeper, Kept};
pub use key::{Hash, SessionKey, SessionKeyError};
pub use of::{Of, vouched};

use crate::clock::{Clock as _, KernelClock};
use crate::config;
use crate::login::origin_of;
use crate::registry::Directory;
use crate::store::SessionChange;
use book::Book;
use keeper::Order;
use secrets::{Aside, LAST_SECRETS, SECRETS};
use shards::{Shards, Slot};

/// Secrets of people who have not logged in that one device may have been given.
const GIVEN: usize = 32;

/// How long anybody waits for the store.
const STORED_WITHIN: Duration = Duration::from_secs(10);
/// Most changes that may wait for the store; beyond it no session begins.
const MOST_WAITING: usize = 16_384;

/// Ready when the store has it.
#[must_use]
pub struct Stored(Option<oneshot::Receiver<bool>>);

impl Stored {
    /// Waits; `false` if the store could not take it, and a restart would not know of it.
    pub async fn wait(self) -> bool {
        match self.0 {
            Some(stored) => matches!(tokio::time::timeout(STORED_WITHIN, stored).await, Ok(Ok(true))),
            None => true,
        }
    }
}

/// How sessions fare; for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Live sessions.
    pub live: usize,
    /// Most that can be.
    pub most: usize,
    /// The last change could be stored.
    pub is_stored: bool,
}

/// All sessions.
pub struct Sessions {
    key: SessionKey,
    shards: Shards,
    book: Mutex<Book>,
    config: ArcSwap<config::Session>,
    orders: mpsc::UnboundedSender<Order>,
    /// Sessions that have other secrets than the store was told.
    unsaved: Mutex<Vec<Arc<Session>>>,
    /// Changes that the store does not have yet.
    waiting: AtomicUsize,
    /// The last change could be stored.
    is_stored: AtomicBool,
    /// That there was no room for what a backend gave has been said.
    said_full: AtomicBool,
    changed: watch::Sender<u64>,
    clock: Arc<KernelClock>,
}

/// Makes what holds the sessions, and what its keeper is made of. None is remembered until [`Keeper::open`] has read the store.
#[must_use]
pub fn prepare(config: &config::Session, key: SessionKey, clock: Arc<KernelClock>) -> (Arc<Sessions>, Kept) {
    let (orders, kept) = mpsc::unbounded_channel();
    let sessions = Arc::new(Sessions {
        key,
        shards: Shards::default(),
        book: Mutex::default(),
        config: ArcSwap::from_pointee(config.clone()),
        orders,
        unsaved: Mutex::default(),
        waiting: AtomicUsize::new(0),
        is_stored: AtomicBool::new(true),
        said_full: AtomicBool::new(false),
        changed: watch::Sender::new(0),
        clock,
    });
    (sessions, Kept(kept))
}

impl Sessions {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, order: Order) {
        match &order {
            // Of an end the store must hear, and there are no more of them than sessions. Without the rest a restart knows
            // fewer secrets than were given out.
            Order::Write(change) if !matches!(change, SessionChange::Begun(_)) && self.is_behind() => return,
            Order::Write(_) | Order::End { .. } | Order::ActNoMore { .. } => {
                self.waiting.fetch_add(1, Ordering::Relaxed);
            }
            Order::Flush(_) => {}
        }
        // Without a keeper nothing is stored, and whoever waits for that hears that it is not.
        let _ = self.orders.send(order);
    }

    fn is_behind(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= MOST_WAITING
    }

    /// The bounds of a user with these roles at this site.
    #[must_use]
    pub fn limits(&self, site: Option<&SiteName>, roles: &[RoleName]) -> Limits {
        self.config.load().rules.limits(site, roles)
    }

    /// Puts other bounds in force, for those that live as well.
    pub fn configure(&self, config: &config::Session, directory: &Directory) {
        self.config.store(Arc::new(config.clone()));
        self.review(directory);
    }

    /// What a presented secret stands for: one keyed hash, and no lock. It is not touched by that.
    #[must_use]
    pub fn find(&self, kind: Kind, realm: &str, secret: &[u8], party: &Party) -> Found {
        let Some(Slot { session, superseded }) = self.shards.get(&self.key.hash(kind, realm, secret)) else {
            return Found::Unknown;
        };
        if !session.is_of(party) {
            return if session.is_given { Found::Unknown } else { Found::Stolen(session) };
        }
        if session.is_given {
            return Found::Given;
        }
        if let Some(reason) = session.ended() {
            return Found::Over(reason);
        }
        if superseded {
            return Found::Over(Reason::Replaced);
        }
        match session.is_over(self.clock.monotonic_ns()) {
            Some(reason) => {
                drop(self.end(&session, reason));
                Found::Over(reason)
            }
            None => Found::Live(session),
        }
    }

    /// Begins a session under a secret of the gateway's own making.
    ///
    /// # Errors
    /// [`Refusal::SessionUnavailable`] if there is no room, no random bytes, or a store that takes nothing.
    pub fn begin(&self, begin: &Begin<'_>) -> Result<(Secret, Arc<Session>), Refusal> {
        let secret = Secret::make()?;
        let session = self.learn(secret.as_str().as_bytes(), begin)?;
        Ok((secret, session))
    }

    /// Begins a session under a secret that somebody else made. What was tied to that secret ends, and the oldest of its place
    /// where that, or its site, has its share of the room.
    ///
    /// # Errors
    /// [`Refusal::SessionUnavailable`] if there is no room, no random bytes, or a store that takes nothing.
    pub fn learn(&self, secret: &[u8], begin: &Begin<'_>) -> Result<Arc<Session>, Refusal> {
        let hash = self.key.hash(begin.kind, begin.realm, secret);
        self.learn_in(&mut self.book(), hash, begin)
    }

    /// As [`learn`](Self::learn), unless this place has a live session of that account already: then the secret is tied to that
    /// one. For programs that log in with every request. Returns whether it begins.
    ///
    /// # Errors
    /// Those of [`learn`](Self::learn).
    pub fn go_on(&self, secret: &[u8], begin: &Begin<'_>) -> Result<(Arc<Session>, bool), Refusal> {
        let hash = self.key.hash(begin.kind, begin.realm, secret);
        let mut book = self.book();
        let now_ns = self.clock.monotonic_ns();
        let place = origin_of(begin.party);
        let goes_on = |session: &&Arc<Session>| begin.is_of(session) && session.is_over(now_ns).is_none();
        let known = book.at(&place).rev().find(goes_on).cloned();
        if let Some(session) = known {
            drop(book);
            session.touch(now_ns);
            self.go_on_with(&session, hash);
            return Ok((session, false));
        }
        Ok((self.learn_in(&mut book, hash, begin)?, true))
    }

    /// Whether the store takes sessions that begin. Ask before one ends for another.
    ///
    /// # Errors
    /// [`Refusal::SessionUnavailable`].
    pub fn can_begin(&self) -> Result<(), Refusal> {
        let can = !self.is_behind() && self.is_stored.load(Ordering::Relaxed);
        can.then_some(()).ok_or(Refusal::SessionUnavailable)
    }

    fn learn_in(&self, book: &mut Book, hash: Hash, begin: &Begin<'_>) -> Result<Arc<Session>, Refusal> {
        let name = name()?;
        self.can_begin()?;
        let now_ns = self.clock.monotonic_ns();
        let place = origin_of(begin.party);
        let session = Arc::new(Session {
            name,
            kind: begin.kind,
            realm: begin.realm.into(),
            account: begin.account.into(),
            place: place.clone(),
            user: begin.user.clone(),
            acting_for: ArcSwapOption::from_pointee(
                begin.acting_for.clone().map(|user| Acting { user, until_s: None }),
            ),
            tag: begin.tag.map(Arc::from),
            as_of: begin.as_of,
            begun_ns: now_ns,
            since: format!("{:.0}", jiff::Timestamp::now()).into(),
            is_given: false,
            proof: ArcSwap::from_pointee(Proof {
                level: begin.level,
                factors: begin.factors,
                authenticated_ns: begin.authenticated_ns,
            }),
            used_ns: AtomicU64::new(now_ns),
            stored_ns: AtomicU64::new(now_ns),
            idle_ns: AtomicU64::new(begin.limits.idle_ns),
            absolute_ns: AtomicU64::new(begin.limits.absolute_ns),
            ended: AtomicU8::new(0),
            secrets: Mutex::default(),
        });
        book.ends.allow(&session, begin.asked_ns)?;
        if let Some(slot) = self.shards.get(&hash) {
            self.finish(book, &slot.session, Reason::Replaced, None);
        }
        for surplus in book.surplus(begin) {
            self.finish(book, &surplus, Reason::Surplus, None);
        }
        let most = self.config.load().most;
        if book.is_crowded(&place, most) {
            let oldest = book.at(&place).next().cloned().ok_or(Refusal::SessionUnavailable)?;
            self.finish(book, &oldest, Reason::Surplus, None);
        }
        if book.live() >= most {
            return Err(Refusal::SessionUnavailable);
        }
        book.put(Arc::clone(&session), now_ns);
        self.order(Order::Write(SessionChange::Begun(Box::new(keeper::row(&session)))));
        if let Some(other) = self.tie(&session, hash, SECRETS) {
            self.finish(book, &other, Reason::Replaced, None);
        }
        self.tell(&session);
        Ok(session)
    }

    /// Ties one more secret to a session that lives, which goes on with so many: the oldest of more no longer stand for it. Returns
    /// whose it was.
    fn tie(&self, session: &Arc<Session>, hash: Hash, secrets: usize) -> Option<Arc<Session>> {
        let mut held = session.secrets();
        // Whoever ends it takes out what it has then.
        if session.ended().is_some() {
            return None;
        }
        let before = self.shards.put(hash, &Slot { session: Arc::clone(session), superseded: false });
        self.lay(held.tie(hash, secrets), session);
        let is_other = |slot: &Slot| !Arc::ptr_eq(&slot.session, session) && !slot.session.is_given;
        before.filter(is_other).map(|slot| slot.session)
    }

    /// Secrets that a session goes on without.
    fn lay(&self, aside: Aside, session: &Arc<Session>) {
        aside.superseded.iter().for_each(|hash| self.shards.supersede(hash, session));
        aside.forgotten.iter().for_each(|hash| self.shards.remove(hash, session));
    }

    /// Has the store told of a session's secrets, now.
    fn tell(&self, session: &Session) {
        let mut secrets = session.secrets();
        secrets.is_queued = false;
        for change in secrets.changes(&session.name) {
            self.order(Order::Write(change));
        }
    }

    /// Has it told of those whose secrets were re-issued since it last was.
    fn save(&self) {
        if self.is_behind() {
            return;
        }
        let unsaved = std::mem::take(&mut *self.unsaved.lock().unwrap_or_else(PoisonError::into_inner));
        unsaved.iter().for_each(|session| self.tell(session));
    }

    /// Ties another secret, which somebody else made, to the same session: its backend re-issued it. The older ones go on for a
    /// while, since requests with them may be under way. The store hears of it in the background.
    pub fn reissue(&self, session: &Arc<Session>, secret: &[u8]) {
        self.go_on_with(session, self.key.hash(session.kind, &session.realm, secret));
    }

    fn go_on_with(&self, session: &Arc<Session>, hash: Hash) {
        let same = |slot: &Slot| Arc::ptr_eq(&slot.session, session) && !slot.superseded;
        // Mostly it is the one that was presented.
        if self.shards.get(&hash).as_ref().is_some_and(same) {
            return;
        }
        if let Some(other) = self.tie(session, hash, SECRETS) {
            self.finish(&mut self.book(), &other, Reason::Replaced, None);
        }
        if !std::mem::replace(&mut session.secrets().is_queued, true) {
            self.unsaved.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(session));
        }
    }

    /// Gives a session another secret of the gateway's own making. Those before stand for it no longer: who knows one has not
    /// proved what comes with this one.
    ///
    /// # Errors
    /// [`Refusal::SessionUnavailable`] if there are no random bytes.
    pub fn rotate(&self, session: &Arc<Session>) -> Result<Secret, Refusal> {
        let secret = Secret::make()?;
        let hash = self.key.hash(session.kind, &session.realm, secret.as_str().as_bytes());
        // Nobody else has a secret of ours.
        let _nobody = self.tie(session, hash, 1);
        self.tell(session);
        Ok(secret)
    }

    /// Notes that a backend gave a secret to this peer, who has not logged in. Only in memory.
    pub fn give(&self, realm: &str, secret: &[u8], party: &Party) {
        let hash = self.key.hash(Kind::Learnt, realm, secret);
        let known = |slot: &Slot| slot.session.is_of(party) || !slot.session.is_given;
        if self.shards.get(&hash).as_ref().is_some_and(known) {
            return;
        }
        let mut book = self.book();
        if self.shards.get(&hash).as_ref().is_some_and(known) {
            return;
        }
        let place = origin_of(party);
        if book.is_given_full(&place, GIVEN, self.config.load().most.saturating_mul(4)) {
            if !self.said_full.swap(true, Ordering::Relaxed) {
                tracing::warn!("there is no room for what backends give to whoever has not logged in (`session.most`)");
            }
            return;
        }
        let none: Arc<str> = "".into();
        let session = Arc::new(Session {
            name: Arc::clone(&none),
            kind: Kind::Learnt,
            realm: realm.into(),
            account: Arc::clone(&none),
            place: place.clone(),
            user: None,
            acting_for: ArcSwapOption::empty(),
            tag: None,
            as_of: 0,
            begun_ns: 0,
            since: none,
            is_given: true,
            proof: ArcSwap::from_pointee(Proof {
                level: AuthenticationLevel::Device,
                factors: Factors::default(),
                authenticated_ns: 0,
            }),
            used_ns: AtomicU64::new(0),
            stored_ns: AtomicU64::new(0),
            idle_ns: AtomicU64::new(0),
            absolute_ns: AtomicU64::new(0),
            ended: AtomicU8::new(0),
            secrets: Mutex::default(),
        });
        // Somebody may have logged in with it meanwhile.
        self.shards.put_unless(hash, &Slot { session, superseded: false }, known);
        if let Some(oldest) = book.give(place, hash, GIVEN)
            && let Some(slot) = self.shards.get(&oldest).filter(|slot| slot.session.is_given)
        {
            self.shards.remove(&oldest, &slot.session);
        }
    }

    /// Raises a live session: its user proved more. Give it another secret as well ([`rotate`](Self::rotate)).
    pub fn raise(&self, session: &Arc<Session>, level: AuthenticationLevel, factors: Factors, authenticated_ns: u64) {
        let _one_at_a_time = self.book();
        session.proof.store(Arc::new(Proof { level, factors, authenticated_ns }));
        let name = session.name.to_string();
        self.order(Order::Write(SessionChange::Raised { name, level, factors, authenticated_ns }));
    }

    /// Ends a session: at once for all workers, which cut what it is used for within a second where the reason says so, and
    /// then in the store and the log.
    pub fn end(&self, session: &Arc<Session>, why: Reason) -> Stored {
        let (answer, stored) = oneshot::channel();
        // While the store takes nothing, whoever waits hears that at once.
        let answer = self.is_stored.load(Ordering::Relaxed).then_some(answer);
        let ended = self.finish(&mut self.book(), session, why, answer);
        Stored(ended.then_some(stored))
    }

    fn finish(
        &self,
        book: &mut Book,
        session: &Arc<Session>,
        why: Reason,
        answer: Option<oneshot::Sender<bool>>,
    ) -> bool {
        if session.is_given {
            return false;
        }
        let place = Reason::ALL.iter().position(|known| *known == why).and_then(|place| u8::try_from(place + 1).ok());
        let mark = place.unwrap_or(1);
        if session.ended.compare_exchange(0, mark, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return false;
        }
        let at_ns = self.clock.monotonic_ns();
        for forgotten in book.end(session, at_ns, self.config.load().most) {
            self.forget(&forgotten);
        }
        session.secrets().end(LAST_SECRETS).iter().for_each(|hash| self.shards.remove(hash, session));
        self.tell(session);
        let change = SessionChange::Ended { name: session.name.to_string(), why, at_ns };
        self.order(Order::End { change, session: Arc::clone(session), why, answer });
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
        true
    }

    /// Ends the sessions whose user, device or site the registry takes no more (R27), and gives the others the bounds of their
    /// users' roles.
    pub fn review(&self, directory: &Directory) {
        let config = self.config.load_full();
        let unix_ns = self.clock.now().unix_ns;
        let mut book = self.book();
        for session in book.living(|_| true) {
            self.review_acting(&session, directory, unix_ns);
            match directory.roles_at(&session.place, session.user.as_ref()) {
                Ok(roles) => {
                    let site = SiteName::new(&session.place.site).ok();
                    session.set_limits(&config.rules.limits(site.as_ref(), &roles));
                }
                Err(_) => drop(self.finish(&mut book, &session, Reason::Revoked, None)),
            }
        }
    }

    /// Ends what is over by now, and forgets the oldest that are. Returns those that were used since the store was told.
    fn sweep(&self) -> Vec<SessionChange> {
        let now_ns = self.clock.monotonic_ns();
        let unix_s = self.clock.now().unix_ns / 1_000_000_000;
        let mut book = self.book();
        let mut used = Vec::new();
        for session in book.living(|_| true) {
            let acting = session.acting_for().filter(|acting| acting.until_s.is_some_and(|until_s| unix_s >= until_s));
            if let Some(acting) = acting {
                self.act_no_more(&session, &acting);
            }
            if let Some(reason) = session.is_over(now_ns) {
                self.finish(&mut book, &session, reason, None);
                continue;
            }
            let at_ns = session.used_ns.load(Ordering::Relaxed);
            if session.stored_ns.swap(at_ns, Ordering::Relaxed) != at_ns {
                used.push(SessionChange::Used { name: session.name.to_string(), at_ns });
            }
        }
        for forgotten in book.forget(now_ns) {
            self.forget(&forgotten);
        }
        used
    }

    fn forget(&self, session: &Arc<Session>) {
        session.secrets().end(0).iter().for_each(|hash| self.shards.remove(hash, session));
    }

    /// Tells of every end.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// How sessions fare.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            live: self.book().live(),
            most: self.config.load().most,
            is_stored: self.is_stored.load(Ordering::Relaxed),
        }
    }

    /// Returns once all that was decided so far is in the store, or `patience` is over; whether it is there.
    pub async fn flush(&self, patience: Duration) -> bool {
        let (answer, flushed) = oneshot::channel();
        self.save();
        self.order(Order::Flush(answer));
        let is_stored = matches!(tokio::time::timeout(patience, flushed).await, Ok(Ok(())));
        if !is_stored {
            tracing::warn!("what became of the last sessions is not stored");
        }
        is_stored
    }
}

/// 16 hexadecimal digits that no other session has.
fn name() -> Result<Arc<str>, Refusal> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Refusal::SessionUnavailable)?;
    Ok(format!("{:016x}", u64::from_be_bytes(random)).into())
}
