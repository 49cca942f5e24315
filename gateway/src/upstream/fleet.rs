//! The servers of all services as all workers see them: who takes part, and what is known of each.
//!
//! Workers read one atomic number for each server; a success writes nothing in calm weather. Failures, checks and
//! operators go through one lock for each service, behind which [`choice::Pool`](super::choice) decides.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use policy::ServiceName;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::choice::{Bounds, Checked, NEVER, Pool, State, affinity_of};
use crate::config::Service;

/// Why no server took a request, for the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// None takes part.
    NoServer,
    /// All have as many requests as they may.
    Overloaded,
    /// It could have been sent once more, and the budget for that was used up.
    Budget,
}

impl Refused {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::NoServer, Self::Overloaded, Self::Budget];

    /// The label `reason` of `backend_refused_total`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoServer => "no-server",
            Self::Overloaded => "overloaded",
            Self::Budget => "retry-budget",
        }
    }
}

/// A server that an operator drained by command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// The service.
    pub service: String,
    /// Host and port.
    pub server: String,
    /// Who did it.
    pub actor: String,
    /// Why, in the operator's words.
    pub reason: Option<String>,
}

/// The servers of every service. Shared by all threads; asked by name at start and reload alone.
#[derive(Debug)]
pub struct Fleet {
    epoch: Instant,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    services: Vec<Arc<Servers>>,
    drained: Arc<[Drained]>,
}

/// What is shown of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The service.
    pub service: ServiceName,
    /// Host and port.
    pub server: Arc<str>,
    /// What it is.
    pub state: State,
    /// How long it has been that; none from the beginning.
    pub for_ms: Option<u64>,
    /// In how long that ends, where it does by itself.
    pub ends_in_ms: Option<u64>,
    /// Why it is not simply in.
    pub reason: Option<String>,
    /// The last failure of a request or a check, and how long ago.
    pub last_failure: Option<(String, u64)>,
    /// Times that it was ejected.
    pub ejections: u64,
    /// Health checks that passed and that failed.
    pub checks: (u64, u64),
    /// The addresses that its name has.
    pub addresses: Vec<SocketAddr>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self { epoch: Instant::now(), known: Mutex::default() }
    }
}

impl Fleet {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The servers of a service as it is configured. Those that another configuration of it had keep what is known of them.
    pub(crate) fn servers(&self, service: &Service) -> Arc<Servers> {
        let mut known = self.lock();
        let place = known.services.iter().position(|servers| servers.service.name == service.name);
        let old = place.and_then(|place| known.services.get(place));
        if let Some(same) = old.filter(|servers| servers.service == *service) {
            return Arc::clone(same);
        }
        let new = Arc::new(Servers::new(service, self.epoch, old.map(|old| &**old)));
        new.follow_drains(&known.drained);
        match place.and_then(|place| known.services.get_mut(place)) {
            Some(old) => *old = Arc::clone(&new),
            None => known.services.push(Arc::clone(&new)),
        }
        new
    }

    /// Forgets services that the configuration no longer has.
    pub(crate) fn keep_only(&self, services: &[Service]) {
        self.lock().services.retain(|servers| services.iter().any(|service| service.name == servers.service.name));
    }

    /// What operators drained by command, all of it.
    pub(crate) fn set_drained(&self, drained: Vec<Drained>) {
        let mut known = self.lock();
        if *known.drained != drained[..] {
            known.drained = drained.into();
            known.services.iter().for_each(|servers| servers.follow_drains(&known.drained));
        }
    }

    /// Every server.
    pub fn report(&self) -> Vec<Report> {
        let services = self.lock().services.clone();
        services.iter().flat_map(|servers| servers.report()).collect()
    }

    /// Requests that no server took, by service and reason; and those that wait for a place.
    pub fn refused(&self) -> Vec<(ServiceName, [u64; 3], usize)> {
        let services = self.lock().services.clone();
        let count = |servers: &Arc<Servers>| {
            let refused = [0, 1, 2].map(|at: usize| servers.refused.get(at).map_or(0, |n| n.load(Ordering::Relaxed)));
            (servers.service.name.clone(), refused, servers.pending.load(Ordering::Relaxed))
        };
        services.iter().map(count).collect()
    }
}

/// The servers of one service.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) service: Service,
    pub(crate) seats: Box<[Seat]>,
    epoch: Instant,
    inner: Mutex<Inner>,
    pending: AtomicUsize,
    refused: [AtomicU64; 3],
}

#[derive(Debug)]
struct Inner {
    pool: Pool,
    notes: Vec<Note>,
}

/// What is told of a server beside its state.
#[derive(Debug, Clone, Default)]
struct Note {
    drained: Option<String>,
    failure: Option<(String, u64)>,
    check: Option<String>,
    ejections: u64,
    checks: (u64, u64),
}

/// A server's place, as workers read it.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) name: Arc<str>,
    /// A hash of its name, the same on every node.
    pub(super) id: u64,
    from: AtomicU64,
    troubled: AtomicBool,
    /// Places for requests, where they are bounded.
    pub(super) places: Option<Arc<Semaphore>>,
    /// The addresses that its name had when it was last resolved.
    pub(crate) addresses: ArcSwapOption<Box<[SocketAddr]>>,
    /// Its name could not be resolved when that was last tried.
    unresolved: AtomicBool,
}

impl Seat {
    /// From when it takes part; see [`Pool::takes_part_from`].
    pub(super) fn takes_part_from(&self) -> u64 {
        self.from.load(Ordering::Relaxed)
    }

    /// Nobody is to ask it.
    pub(super) fn is_out(&self) -> bool {
        self.takes_part_from() == NEVER
    }
}

/// A request that waits for a place; counted until dropped.
#[derive(Debug)]
pub(super) struct Pending<'a>(&'a AtomicUsize);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Servers {
    fn new(service: &Service, epoch: Instant, old: Option<&Self>) -> Self {
        let settings = &service.resilience;
        let health = settings.health.as_ref();
        let bounds = Bounds {
            eject_after: settings.eject_after,
            eject_ms: millis(settings.eject),
            max_ejected_percent: settings.max_ejected_percent,
            unhealthy_after: health.map_or(1, |health| health.unhealthy_after),
            healthy_after: health.map_or(1, |health| health.healthy_after),
        };
        let count = service.backends.len();
        let places: Vec<Option<usize>> = service
            .backends
            .iter()
            .map(|backend| old?.seats.iter().position(|seat| *seat.name == *backend.authority))
            .collect();
        let now = since(epoch);
        let mut inner = match old {
            None => Inner { pool: Pool::new(bounds, count), notes: vec![Note::default(); count] },
            Some(old) => {
                let inner = old.lock();
                let note = |place: &Option<usize>| place.and_then(|place| inner.notes.get(place)).cloned();
                Inner {
                    pool: inner.pool.carried(bounds, &places, now),
                    notes: places.iter().map(|place| note(place).unwrap_or_default()).collect(),
                }
            }
        };
        // What another kind of check found says nothing.
        if health != old.and_then(|old| old.service.resilience.health.as_ref()) {
            for (place, note) in inner.notes.iter_mut().enumerate() {
                inner.pool.unchecked(place, now);
                note.check = None;
            }
        }
        let bound = settings.max_in_flight;
        let seats = service.backends.iter().zip(&places).map(|(backend, place)| {
            let old_seat = old.zip(*place).and_then(|(old, place)| old.seats.get(place));
            let same_bound = old.is_some_and(|old| old.service.resilience.max_in_flight == bound);
            let places = old_seat.filter(|_| same_bound).and_then(|seat| seat.places.clone());
            Seat {
                name: Arc::from(backend.authority.as_str()),
                id: affinity_of(backend.authority.as_bytes()),
                from: AtomicU64::new(0),
                troubled: AtomicBool::new(false),
                places: places.or_else(|| (bound > 0).then(|| Arc::new(Semaphore::new(bound)))),
                addresses: ArcSwapOption::new(old_seat.and_then(|seat| seat.addresses.load_full())),
                unresolved: AtomicBool::new(false),
            }
        });
        let refused = [0, 1, 2].map(|at: usize| {
            AtomicU64::new(old.and_then(|old| old.refused.get(at)).map_or(0, |count| count.load(Ordering::Relaxed)))
        });
        let servers = Self {
            service: service.clone(),
            seats: seats.collect(),
            epoch,
            inner: Mutex::new(inner),
            pending: AtomicUsize::new(0),
            refused,
        };
        servers.publish(&servers.lock());
        servers
    }

    /// Servers that nobody else sees, for a question outside the pipeline.
    pub(crate) fn alone(service: &Service) -> Arc<Self> {
        Arc::new(Self::new(service, Instant::now(), None))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since an epoch of the fleet's; never 0.
    pub(super) fn at(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.epoch)).saturating_add(1)
    }

    fn slow_start(&self) -> u64 {
        millis(self.service.resilience.slow_start)
    }

    fn publish(&self, inner: &Inner) {
        for (place, seat) in self.seats.iter().enumerate() {
            seat.from.store(inner.pool.takes_part_from(place), Ordering::Relaxed);
            seat.troubled.store(inner.pool.is_troubled(place), Ordering::Relaxed);
        }
    }

    fn seat(&self, place: usize) -> Option<&Seat> {
        self.seats.get(place)
    }

    fn name(&self, place: usize) -> &str {
        self.seat(place).map_or("", |seat| &seat.name)
    }

    /// A request was answered in full.
    pub(super) fn succeeded(&self, place: usize) {
        if self.seat(place).is_some_and(|seat| seat.troubled.load(Ordering::Relaxed)) {
            let mut inner = self.lock();
            inner.pool.succeeded(place);
            self.publish(&inner);
        }
    }

    /// A request failed by the server's fault.
    pub(super) fn failed(&self, place: usize, why: &str) {
        let now = since(self.epoch);
        let mut inner = self.lock();
        let is_ejected = inner.pool.failed(place, now);
        if let Some(note) = inner.notes.get_mut(place) {
            note.failure = Some((why.to_owned(), now));
            note.ejections += u64::from(is_ejected);
        }
        self.publish(&inner);
        drop(inner);
        if is_ejected {
            tracing::warn!(service = %self.service.name, backend = self.name(place), reason = why, "a backend is ejected");
        }
    }

    /// A health check ended; the error says why it failed.
    pub(crate) fn checked(&self, place: usize, outcome: Result<(), String>) {
        let now = since(self.epoch);
        let mut inner = self.lock();
        let was_out = inner.pool.takes_part_from(place) == NEVER;
        inner.pool.checked(place, if outcome.is_ok() { Checked::Passed } else { Checked::Failed }, now);
        let is_out = inner.pool.takes_part_from(place) == NEVER;
        let why = outcome.as_ref().err().cloned();
        if let Some(note) = inner.notes.get_mut(place) {
            match outcome {
                Ok(()) => note.checks.0 += 1,
                Err(why) => {
                    note.checks.1 += 1;
                    note.failure = Some((format!("check: {why}"), now));
                    note.check = Some(why);
                }
            }
        }
        self.publish(&inner);
        drop(inner);
        match (was_out, is_out, why) {
            (false, true, why) => {
                let why = why.unwrap_or_default();
                tracing::warn!(service = %self.service.name, backend = self.name(place), reason = why, "a backend fails its health checks");
            }
            (true, false, _) => {
                tracing::info!(service = %self.service.name, backend = self.name(place), "a backend passes its health checks again");
            }
            (true, true, _) | (false, false, _) => {}
        }
    }

    /// A name was resolved, or not: then what it had stays.
    pub(crate) fn resolved(&self, place: usize, outcome: Result<Vec<SocketAddr>, String>) {
        let Some(seat) = self.seat(place) else { return };
        match outcome {
            Ok(found) => {
                let is_same = seat.addresses.load().as_ref().is_some_and(|known| known[..] == found[..]);
                if !is_same {
                    tracing::info!(service = %self.service.name, backend = %seat.name, addresses = ?found, "a backend's name has other addresses");
                    seat.addresses.store(Some(Arc::new(found.into_boxed_slice())));
                }
                if seat.unresolved.swap(false, Ordering::Relaxed) {
                    tracing::info!(service = %self.service.name, backend = %seat.name, "a backend's name is resolved again");
                }
            }
            Err(error) => {
                if !seat.unresolved.swap(true, Ordering::Relaxed) {
                    tracing::warn!(service = %self.service.name, backend = %seat.name, error, "a backend's name cannot be resolved; its last addresses stay");
                }
                let now = since(self.epoch);
                if let Some(note) = self.lock().notes.get_mut(place) {
                    note.failure = Some((format!("name: {error}"), now));
                }
            }
        }
    }

    /// Brings drain up to date with configuration and commands.
    fn follow_drains(&self, drained: &[Drained]) {
        let now = since(self.epoch);
        let mut inner = self.lock();
        for (place, seat) in self.seats.iter().enumerate() {
            let commanded = drained
                .iter()
                .find(|drain| drain.service == self.service.name.as_str() && drain.server == *seat.name)
                .map(|drain| match &drain.reason {
                    Some(reason) => format!("{}: {reason}", drain.actor),
                    None => drain.actor.clone(),
                });
            let configured = self.service.resilience.drained.iter().any(|server| *server == *seat.name);
            let note = if configured { Some("configuration".to_owned()) } else { commanded };
            inner.pool.set_drained(place, note.is_some(), now);
            let Some(old) = inner.notes.get_mut(place) else { continue };
            if old.drained.is_some() != note.is_some() {
                let by = note.as_deref().or(old.drained.as_deref()).unwrap_or_default();
                let what = if note.is_some() { "a backend is drained" } else { "a backend takes requests again" };
                tracing::info!(service = %self.service.name, backend = %seat.name, by, "{what}");
            }
            old.drained = note;
        }
        self.publish(&inner);
    }

    /// The request was refused here.
    pub(super) fn count_refused(&self, why: Refused) {
        if let Some(count) = self.refused.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A place among those that wait; none if all are taken.
    pub(super) fn wait(&self) -> Option<Pending<'_>> {
        let most = self.service.resilience.max_pending;
        let waits = self.pending.fetch_add(1, Ordering::Relaxed);
        let pending = Pending(&self.pending);
        (waits < most).then_some(pending)
    }

    fn report(&self) -> Vec<Report> {
        let now = since(self.epoch);
        let inner = self.lock();
        let of = |(place, seat): (usize, &Seat)| {
            let standing = inner.pool.standing(place, now, self.slow_start());
            let note = inner.notes.get(place).cloned().unwrap_or_default();
            let reason = match standing.state {
                State::Drained => note.drained,
                State::Unhealthy => note.check,
                State::Ejected => note.failure.as_ref().map(|(why, _)| why.clone()),
                State::In | State::Starting => None,
            };
            Report {
                service: self.service.name.clone(),
                server: Arc::clone(&seat.name),
                state: standing.state,
                for_ms: (standing.since > 0).then(|| now.saturating_sub(standing.since)),
                ends_in_ms: standing.until.map(|until| until.saturating_sub(now)),
                reason,
                last_failure: note.failure.map(|(why, at)| (why, now.saturating_sub(at))),
                ejections: note.ejections,
                checks: note.checks,
                addresses: seat.addresses.load().as_ref().map(|all| all.to_vec()).unwrap_or_default(),
            }
        };
        self.seats.iter().enumerate().map(of).collect()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn since(epoch: Instant) -> u64 {
    millis(epoch.elapsed()).saturating_add(1)
}
