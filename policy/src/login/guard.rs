//! The guard: which attempt may reach whoever knows the password.
//!
//! An attempt is *reserved* before it is forwarded and *settled* once its outcome is known. What is reserved counts as
//! failed until then, so that attempts in parallel, by whatever worker and protocol, count like attempts in a row. Failures
//! are kept with their times, and every question is answered by counting those within a window: nothing decays, rounds or
//! races. See the drawing in `policy/README.md`.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::{AccountName, Bound, Limits, LockScope};

/// Where an attempt comes from: what was proved, never what it says. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// The clinic; empty where the peer has none.
    pub site: Arc<str>,
    /// The terminal; for peers without one, whatever tells them apart.
    pub device: Arc<str>,
}

/// One attempt to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Which accounts these are: those of one user directory.
    pub realm: Arc<str>,
    /// The account.
    pub account: AccountName,
    /// Site and device.
    pub origin: Origin,
    /// The network address; of IPv6 the /64.
    pub address: IpAddr,
}

/// What a lockout is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Locked {
    /// An account, everywhere or at a site or a device alone.
    Account {
        /// Its realm.
        realm: Arc<str>,
        /// The account.
        account: AccountName,
        /// The site; none: everywhere.
        site: Option<Arc<str>>,
        /// The device of the site; none: all of them.
        device: Option<Arc<str>>,
    },
    /// A device.
    Device(Origin),
    /// A site.
    Site(Arc<str>),
    /// An address.
    Address(IpAddr),
}

/// A lockout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// Of what.
    pub of: Locked,
    /// Its end, monotonic nanoseconds.
    pub until_ns: u64,
}

/// Why an attempt is not taken. Whoever guesses is told the same for all but the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The account failed at this device a moment ago, or is being tried there now.
    Paused,
    /// A lockout is in force, or would be if what is in flight fails.
    Locked,
    /// There is no room for another account's failures.
    Full,
}

/// An attempt that is not taken, and when to come back: the length of the pause, whatever the reason, which tells nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// Nanoseconds.
    pub retry_after_ns: u64,
}

/// An attempt in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The password was right.
    Succeeded,
    /// It was wrong, or nobody knows.
    Failed,
    /// Nobody was asked: not a byte of it left the gateway.
    Withdrawn,
}

#[derive(Debug, Clone)]
struct Failure {
    at_ns: u64,
    origin: Origin,
}

/// Site, device and end of an account's lockout.
type AccountLock = (Option<Arc<str>>, Option<Arc<str>>, u64);

#[derive(Debug, Default)]
struct Account {
    failures: Vec<Failure>,
    in_flight: Vec<Origin>,
    locks: Vec<AccountLock>,
    /// Whose share of the room it takes.
    of_site: Arc<str>,
}

impl Account {
    fn is_locked(&self, now_ns: u64, origin: &Origin) -> bool {
        let is_of = |of: &Option<Arc<str>>, one: &Arc<str>| of.as_ref().is_none_or(|of| of == one);
        let mut locks = self.locks.iter().filter(|(_, _, until_ns)| *until_ns > now_ns);
        locks.any(|(site, device, _)| is_of(site, &origin.site) && is_of(device, &origin.device))
    }

    /// Failures within a window, and attempts in flight, of those origins that count.
    fn failures(&self, now_ns: u64, window_ns: u64, counts: impl Fn(&Origin) -> bool) -> usize {
        let recent = self.failures.iter().filter(|failure| is_within(failure.at_ns, now_ns, window_ns));
        recent.filter(|failure| counts(&failure.origin)).count()
    }

    fn in_flight(&self, counts: impl Fn(&Origin) -> bool) -> usize {
        self.in_flight.iter().filter(|origin| counts(origin)).count()
    }

    fn forget(&mut self, now_ns: u64, memory_ns: u64) {
        self.failures.retain(|failure| is_within(failure.at_ns, now_ns, memory_ns));
        self.locks.retain(|(_, _, until_ns)| *until_ns > now_ns);
    }

    fn is_dead(&self) -> bool {
        self.failures.is_empty() && self.in_flight.is_empty() && self.locks.is_empty()
    }
}

/// Failures of a device, a site or an address.
#[derive(Debug, Default)]
struct Tally {
    failures: VecDeque<u64>,
    in_flight: usize,
    until_ns: u64,
}

impl Tally {
    fn refuses(&self, now_ns: u64, bound: &Bound) -> bool {
        self.until_ns > now_ns || self.count(now_ns, bound) + self.in_flight >= count(bound.failures)
    }

    fn count(&self, now_ns: u64, bound: &Bound) -> usize {
        self.failures.iter().filter(|at_ns| is_within(**at_ns, now_ns, bound.window_ns)).count()
    }

    fn forget(&mut self, now_ns: u64, window_ns: u64) {
        self.failures.retain(|at_ns| is_within(*at_ns, now_ns, window_ns));
    }
}

fn is_within(at_ns: u64, now_ns: u64, window_ns: u64) -> bool {
    now_ns.saturating_sub(at_ns) < window_ns
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Device(Origin),
    Site(Arc<str>),
    Address(IpAddr),
}

impl Place {
    fn all_of(attempt: &Attempt) -> [Self; 3] {
        [
            Self::Device(attempt.origin.clone()),
            Self::Site(Arc::clone(&attempt.origin.site)),
            Self::Address(attempt.address),
        ]
    }

    const fn bound<'a>(&self, limits: &'a Limits) -> Option<&'a Bound> {
        match self {
            Self::Device(_) => limits.device.as_ref(),
            Self::Site(_) => limits.site.as_ref(),
            Self::Address(_) => limits.address.as_ref(),
        }
    }

    fn locked(&self) -> Locked {
        match self {
            Self::Device(origin) => Locked::Device(origin.clone()),
            Self::Site(site) => Locked::Site(Arc::clone(site)),
            Self::Address(address) => Locked::Address(*address),
        }
    }
}

type Key = (Arc<str>, AccountName);

/// The guard's whole state. One for all workers of a gateway. Time is monotonic nanoseconds and never goes back.
#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    accounts: BTreeMap<Key, Account>,
    places: BTreeMap<Place, Tally>,
    attempts: BTreeMap<Ticket, Attempt>,
    by_site: BTreeMap<Arc<str>, usize>,
    next: u64,
    swept_ns: u64,
}

/// Looking for what can be forgotten takes time of everybody: not more often than this, nanoseconds.
const SWEEP_EVERY_NS: u64 = 1_000_000_000;

impl Guard {
    /// A guard that has seen nothing. `next` is the number of its first ticket: one that no store holds.
    #[must_use]
    pub const fn new(limits: Limits, next: u64) -> Self {
        Self {
            limits,
            accounts: BTreeMap::new(),
            places: BTreeMap::new(),
            attempts: BTreeMap::new(),
            by_site: BTreeMap::new(),
            next,
            swept_ns: 0,
        }
    }

    /// The bounds in force.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Puts other bounds in force. Lockouts stay as they are.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Accounts that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Takes an attempt, which counts as failed from here on. Settle every ticket by [`Guard::settle`].
    ///
    /// # Errors
    /// [`Refused`]; then nothing is remembered of it.
    pub fn reserve(&mut self, now_ns: u64, attempt: Attempt) -> Result<Ticket, Refused> {
        self.check(now_ns, &attempt, true)?;
        let key = (Arc::clone(&attempt.realm), attempt.account.clone());
        let full = Refused { reason: Reason::Full, retry_after_ns: self.limits.pause.most_ns.max(SWEEP_EVERY_NS) };
        if !self.accounts.contains_key(&key) {
            let share = self.limits.accounts_of_a_site();
            let of_site = |guard: &Self| guard.by_site.get(&attempt.origin.site).copied().unwrap_or(0);
            if self.accounts.len() >= self.limits.accounts || of_site(self) >= share {
                self.sweep(now_ns);
            }
            if self.accounts.len() >= self.limits.accounts || of_site(self) >= share {
                return Err(full);
            }
        }
        self.account(key, &attempt.origin).in_flight.push(attempt.origin.clone());
        for place in Place::all_of(&attempt) {
            if place.bound(&self.limits).is_some() {
                self.places.entry(place).or_default().in_flight += 1;
            }
        }
        let ticket = Ticket(self.next);
        self.next = self.next.saturating_add(1);
        self.attempts.insert(ticket, attempt);
        Ok(ticket)
    }

    /// Whether an attempt whose password is known to be right may pass without a ticket: neither pause nor lockout is in
    /// force. What is in flight at its device does not hold it up.
    ///
    /// # Errors
    /// [`Refused`], as an attempt with any other password would be.
    pub fn allows(&self, now_ns: u64, attempt: &Attempt) -> Result<(), Refused> {
        self.check(now_ns, attempt, false)
    }

    fn check(&self, now_ns: u64, attempt: &Attempt, guesses: bool) -> Result<(), Refused> {
        let limits = &self.limits;
        let account = self.accounts.get(&(Arc::clone(&attempt.realm), attempt.account.clone()));
        let origin = &attempt.origin;
        let flying = |account: &Account, counts: &dyn Fn(&Origin) -> bool| {
            if guesses { account.in_flight(counts) } else { 0 }
        };
        let failed_here =
            account.map_or(0, |account| account.failures(now_ns, limits.account.window_ns, |other| other == origin));
        let pause_ns = limits.pause.after(u32::try_from(failed_here.max(1)).unwrap_or(u32::MAX));
        let refused = |reason| Err(Refused { reason, retry_after_ns: pause_ns.max(1) });
        for place in Place::all_of(attempt) {
            if let (Some(bound), Some(tally)) = (place.bound(limits), self.places.get(&place))
                && tally.refuses(now_ns, bound)
            {
                return refused(Reason::Locked);
            }
        }
        let Some(account) = account else { return Ok(()) };
        let is_mine = |other: &Origin| match limits.scope {
            LockScope::Account => true,
            LockScope::AccountAtSite => other.site == origin.site,
            LockScope::AccountAtDevice => other == origin,
        };
        let mine = account.failures(now_ns, limits.account.window_ns, is_mine) + flying(account, &is_mine);
        if account.is_locked(now_ns, origin) || mine >= count(limits.account.failures) {
            return refused(Reason::Locked);
        }
        if let Some(global) = &limits.global {
            let counted = |counts: &dyn Fn(&Origin) -> bool| {
                account.failures(now_ns, global.window_ns, counts) + flying(account, counts)
            };
            let is_here = |other: &Origin| other.site == origin.site;
            if counted(&|_| true) >= count(global.failures) && counted(&is_here) >= count(global.spare) {
                return refused(Reason::Locked);
            }
        }
        let is_same = |other: &Origin| other == origin;
        let last =
            account.failures.iter().filter(|failure| failure.origin == *origin).map(|failure| failure.at_ns).max();
        let is_paused = failed_here > 0 && last.is_some_and(|at_ns| is_within(at_ns, now_ns, pause_ns));
        if is_paused || (limits.pause.first_ns > 0 && flying(account, &is_same) > 0) {
            return refused(Reason::Paused);
        }
        Ok(())
    }

    /// The account's entry, made where there is none.
    fn account(&mut self, key: Key, origin: &Origin) -> &mut Account {
        match self.accounts.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                *self.by_site.entry(Arc::clone(&origin.site)).or_default() += 1;
                free.insert(Account { of_site: Arc::clone(&origin.site), ..Account::default() })
            }
        }
    }

    /// Says what became of an attempt. A ticket that was settled before changes nothing. Returns the lockouts that begin.
    ///
    /// A success takes back the failures of this account at this device, and no others: neither those of other devices, nor
    /// what device, site and address are counted for, nor a lockout.
    pub fn settle(&mut self, now_ns: u64, ticket: Ticket, ended: Ended) -> Vec<Lock> {
        let Some(attempt) = self.attempts.remove(&ticket) else { return Vec::new() };
        let limits = self.limits;
        for place in Place::all_of(&attempt) {
            if let Some(tally) = self.places.get_mut(&place) {
                tally.in_flight = tally.in_flight.saturating_sub(1);
            }
        }
        let key = (Arc::clone(&attempt.realm), attempt.account.clone());
        if let Some(account) = self.accounts.get_mut(&key) {
            if let Some(at) = account.in_flight.iter().position(|origin| *origin == attempt.origin) {
                account.in_flight.swap_remove(at);
            }
            if ended == Ended::Succeeded {
                account.failures.retain(|failure| failure.origin != attempt.origin);
            }
            account.forget(now_ns, limits.memory_ns());
        }
        let begun = if ended == Ended::Failed { self.fail(now_ns, &attempt, true) } else { Vec::new() };
        self.bury(&key);
        begun
    }

    /// Puts a failure of before a restart back. `counts_for_account` is false where a success took it back for its account.
    pub fn restore_failure(&mut self, at_ns: u64, attempt: &Attempt, counts_for_account: bool) {
        self.fail(at_ns, attempt, counts_for_account);
    }

    /// Puts a lockout of before a restart back.
    pub fn restore_lock(&mut self, lock: Lock) {
        let Lock { of, until_ns } = lock;
        let place = match of {
            Locked::Account { realm, account, site, device } => {
                let origin = Origin { site: site.clone().unwrap_or_default(), device: Arc::default() };
                let locks = &mut self.account((realm, account), &origin).locks;
                match locks.iter_mut().find(|(s, d, _)| *s == site && *d == device) {
                    Some((_, _, known_ns)) => *known_ns = until_ns.max(*known_ns),
                    None => locks.push((site, device, until_ns)),
                }
                return;
            }
            Locked::Device(origin) => Place::Device(origin),
            Locked::Site(site) => Place::Site(site),
            Locked::Address(address) => Place::Address(address),
        };
        let tally = self.places.entry(place).or_default();
        tally.until_ns = tally.until_ns.max(until_ns);
    }

    /// Counts a failure, and begins the lockouts that it fills the measure of.
    fn fail(&mut self, now_ns: u64, attempt: &Attempt, counts_for_account: bool) -> Vec<Lock> {
        let limits = self.limits;
        let mut begun = Vec::new();
        for place in Place::all_of(attempt) {
            let Some(bound) = place.bound(&limits) else { continue };
            let of = place.locked();
            let tally = self.places.entry(place).or_default();
            tally.forget(now_ns, bound.window_ns);
            tally.failures.push_back(now_ns);
            if tally.count(now_ns, bound) >= count(bound.failures) {
                tally.until_ns = now_ns.saturating_add(bound.lockout_ns);
                begun.push(Lock { of, until_ns: tally.until_ns });
            }
        }
        if !counts_for_account {
            return begun;
        }
        let key = (Arc::clone(&attempt.realm), attempt.account.clone());
        let origin = &attempt.origin;
        let account = self.account(key, origin);
        account.failures.push(Failure { at_ns: now_ns, origin: origin.clone() });
        let (site, device) = match limits.scope {
            LockScope::Account => (None, None),
            LockScope::AccountAtSite => (Some(&origin.site), None),
            LockScope::AccountAtDevice => (Some(&origin.site), Some(&origin.device)),
        };
        let is_mine = |other: &Origin| {
            site.is_none_or(|site| *site == other.site) && device.is_none_or(|device| *device == other.device)
        };
        if account.failures(now_ns, limits.account.window_ns, is_mine) >= count(limits.account.failures) {
            let until_ns = now_ns.saturating_add(limits.account.lockout_ns);
            let (site, device) = (site.cloned(), device.cloned());
            account.locks.retain(|(s, d, _)| (s, d) != (&site, &device));
            account.locks.push((site.clone(), device.clone(), until_ns));
            let (realm, account) = (Arc::clone(&attempt.realm), attempt.account.clone());
            begun.push(Lock { of: Locked::Account { realm, account, site, device }, until_ns });
        }
        begun
    }

    /// Forgets everything about an account but what is in flight: an operator's word.
    pub fn unlock(&mut self, realm: Option<&str>, account: &AccountName, site: Option<&str>) {
        for ((of_realm, name), state) in &mut self.accounts {
            if name != account || realm.is_some_and(|realm| *realm != **of_realm) {
                continue;
            }
            let is_there = |of: &str| site.is_none_or(|site| site == of);
            state.failures.retain(|failure| !is_there(&failure.origin.site));
            state.locks.retain(|(of, _, _)| !of.as_deref().map_or(site.is_none(), is_there));
        }
        self.swept_ns = 0;
    }

    /// Forgets what a device, a site or an address failed at; what is in flight stays.
    pub fn unlock_place(&mut self, place: &Locked) {
        for (known, tally) in &mut self.places {
            if known.locked() == *place {
                tally.failures.clear();
                tally.until_ns = 0;
            }
        }
    }

    /// Every lockout in force.
    pub fn locks(&self, now_ns: u64) -> impl Iterator<Item = Lock> {
        let of_accounts = self.accounts.iter().flat_map(|((realm, account), state)| {
            state.locks.iter().map(|(site, device, until_ns)| Lock {
                of: Locked::Account {
                    realm: Arc::clone(realm),
                    account: account.clone(),
                    site: site.clone(),
                    device: device.clone(),
                },
                until_ns: *until_ns,
            })
        });
        let of_places = self.places.iter().map(|(place, tally)| Lock { of: place.locked(), until_ns: tally.until_ns });
        of_accounts.chain(of_places).filter(move |lock| lock.until_ns > now_ns)
    }

    /// Forgets what cannot matter any more: nothing in flight, no lockout, no failure within a window. Not more than once
    /// a second.
    pub fn sweep(&mut self, now_ns: u64) {
        if self.swept_ns != 0 && is_within(self.swept_ns, now_ns, SWEEP_EVERY_NS) {
            return;
        }
        self.swept_ns = now_ns.max(1);
        let memory_ns = self.limits.memory_ns();
        let mut dead = Vec::new();
        for (key, account) in &mut self.accounts {
            account.forget(now_ns, memory_ns);
            if account.is_dead() {
                dead.push(key.clone());
            }
        }
        dead.iter().for_each(|key| self.bury(key));
        let limits = self.limits;
        self.places.retain(|place, tally| {
            tally.forget(now_ns, place.bound(&limits).map_or(0, |bound| bound.window_ns));
            tally.in_flight > 0 || tally.until_ns > now_ns || !tally.failures.is_empty()
        });
    }

    /// Gives the room of a dead account back.
    fn bury(&mut self, key: &Key) {
        if self.accounts.get(key).is_none_or(|account| !account.is_dead()) {
            return;
        }
        let Some(account) = self.accounts.remove(key) else { return };
        if let Entry::Occupied(mut known) = self.by_site.entry(account.of_site) {
            *known.get_mut() = known.get().saturating_sub(1);
            if *known.get() == 0 {
                known.remove();
            }
        }
    }
}
