//! One backend as one worker knows it: whether it can be reached, its idle connections, its counters.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;
use http::uri::{Authority, Scheme};
use rustls::pki_types::ServerName;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use super::client::Client;
use super::connect::{Introduced, Stream, Tls};
use super::error::Failure;
use super::fleet::{Seat, Servers};
use super::h1::H1;
use super::h2;
use crate::config::{Backend, Service};
use policy::ServiceName;

/// After the first failure to connect, other backends are preferred for this long; doubled with each failure more.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(15);

/// Gives what the workers see of backends one order.
static SIGHTS: AtomicU64 = AtomicU64::new(0);

/// What a worker saw of a backend: that it took a connection or answered, or that it could not be reached. The greatest
/// of several is the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sight {
    order: u64,
    /// It could be reached.
    pub up: bool,
}

/// What one worker counts about one backend. Written by that worker alone, read by whoever shows metrics.
#[derive(Debug)]
pub struct BackendCounters {
    /// The service.
    pub service: ServiceName,
    /// Host and port.
    pub backend: Arc<str>,
    seen: AtomicU64,
    opened: AtomicU64,
    reused: AtomicU64,
    retried: AtomicU64,
    idle: AtomicU64,
    in_flight: AtomicU64,
    errors: Vec<AtomicU64>,
}

fn add(counter: &AtomicU64) {
    // One writer: a plain store suffices and locks no bus.
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

impl BackendCounters {
    fn new(service: ServiceName, backend: Arc<str>) -> Self {
        let errors = Failure::LABELS.iter().map(|_| AtomicU64::new(0)).collect();
        let zero = || AtomicU64::new(0);
        Self {
            service,
            backend,
            seen: zero(),
            opened: zero(),
            reused: zero(),
            retried: zero(),
            idle: zero(),
            in_flight: zero(),
            errors,
        }
    }

    /// What this worker last saw of the backend; none before it tried.
    #[must_use]
    pub fn last_seen(&self) -> Option<Sight> {
        let seen = self.seen.load(Ordering::Relaxed);
        (seen != 0).then_some(Sight { order: seen >> 1, up: seen & 1 == 1 })
    }

    /// Connections opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Requests sent over a connection that had carried one before.
    #[must_use]
    pub fn reused(&self) -> u64 {
        self.reused.load(Ordering::Relaxed)
    }

    /// Requests sent a second time because a reused connection had died.
    #[must_use]
    pub fn retried(&self) -> u64 {
        self.retried.load(Ordering::Relaxed)
    }

    /// Connections kept for the next request.
    #[must_use]
    pub fn idle(&self) -> u64 {
        self.idle.load(Ordering::Relaxed)
    }

    /// Requests under way, from the choice of the backend to the answer's last byte.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Failures by reason, each of [`Failure::LABELS`].
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Failure::LABELS.iter().copied().zip(self.errors.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    fn see(&self, up: bool) {
        let order = SIGHTS.fetch_add(1, Ordering::Relaxed) + 1;
        self.seen.store(order << 1 | u64::from(up), Ordering::Relaxed);
    }

    /// An answer came. It counts as a sight of its own only if there has been another since this worker's last: in
    /// calm weather, when nobody connects, nothing is written that other workers read.
    pub(super) fn see_answer(&self) {
        let newest = SIGHTS.load(Ordering::Relaxed);
        if self.last_seen().is_none_or(|sight| !sight.up || sight.order < newest) {
            self.see(true);
        }
    }

    pub(super) fn count(&self, failure: &Failure) {
        if let Some(counter) = self.errors.get(failure.index()) {
            add(counter);
        }
    }

    pub(super) fn count_reuse(&self) {
        add(&self.reused);
    }

    pub(super) fn count_retry(&self) {
        add(&self.retried);
    }
}

/// A request at a backend, from the choice to the answer's end, or to whatever ends it before. Counted until dropped.
pub(super) struct Visit {
    pub(super) backend: Rc<BackendState>,
    /// One of the backend's places, where they are bounded.
    _place: Option<OwnedSemaphorePermit>,
}

impl Visit {
    pub(super) fn begin(backend: Rc<BackendState>, place: Option<OwnedSemaphorePermit>) -> Self {
        add(&backend.counters.in_flight);
        Self { backend, _place: place }
    }

    /// The answer came in full.
    pub(super) fn succeeded(&self) {
        self.backend.servers.succeeded(self.backend.place);
    }

    /// The backend failed.
    pub(super) fn failed(&self, why: &str) {
        self.backend.servers.failed(self.backend.place, why);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let counter = &self.backend.counters.in_flight;
        counter.store(counter.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
    }
}

struct Idle {
    connection: Box<H1>,
    since: Instant,
}

/// Idle connections of a service, over all its backends; bounded by `idle_connections`.
pub(super) type IdleCount = Rc<Cell<usize>>;

pub(super) struct BackendState {
    pub(super) config: Backend,
    pub(super) service: Rc<Service>,
    pub(super) name: Arc<str>,
    /// What a request's `Host` says.
    pub(super) host: HeaderValue,
    /// The same in the form that HTTP/2 wants.
    pub(super) authority: Authority,
    pub(super) scheme: Scheme,
    pub(super) counters: Arc<BackendCounters>,
    /// What all workers know of it, and its place there.
    pub(super) servers: Arc<Servers>,
    pub(super) place: usize,
    tls: Option<Tls>,
    idle: RefCell<Vec<Idle>>,
    idle_in_service: IdleCount,
    /// The shared HTTP/2 connection, when it was last asked for, and the address at its other end.
    h2: RefCell<Option<(h2::Sender, Instant, Option<SocketAddr>)>>,
    opening_h2: tokio::sync::Mutex<()>,
    failures: Cell<u32>,
    avoid_until: Cell<Option<Instant>>,
    /// The configuration has changed; connections in use are not kept.
    retired: Cell<bool>,
}

/// Why a service cannot be used as configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidService {
    /// The host and port are none.
    #[error("service `{service}`: `{backend}` is not a host and port")]
    Authority {
        /// The service.
        service: ServiceName,
        /// The backend as written.
        backend: String,
    },
    /// TLS is asked for, and the name that the certificate must carry is no DNS name and no address.
    #[error("service `{service}`: `{name}` is not a name that a certificate can carry")]
    ServerName {
        /// The service.
        service: ServiceName,
        /// The name as written.
        name: String,
    },
    /// `tls` is configured and no TLS configuration was given, or the other way round.
    #[error("service `{service}`: its TLS configuration is missing or not asked for")]
    Tls {
        /// The service.
        service: ServiceName,
    },
}

impl BackendState {
    pub(super) fn new(
        config: &Backend,
        service: &Rc<Service>,
        (servers, place): (&Arc<Servers>, usize),
        tls: Option<Arc<rustls::ClientConfig>>,
        idle_in_service: IdleCount,
    ) -> Result<Self, InvalidService> {
        let invalid = || InvalidService::Authority {
            service: service.name.clone(),
            backend: config.authority.escape_debug().to_string(),
        };
        let authority: Authority = config.authority.parse().map_err(|_| invalid())?;
        let host = HeaderValue::from_str(&config.authority).map_err(|_| invalid())?;
        let tls = match (&service.tls, tls) {
            (None, None) => None,
            (Some(wanted), Some(client)) => {
                let name = wanted.server_name.clone().unwrap_or_else(|| config.host.clone());
                let server_name = ServerName::try_from(name.clone()).map_err(|_| InvalidService::ServerName {
                    service: service.name.clone(),
                    name: name.escape_debug().to_string(),
                })?;
                Some(Tls { config: client, server_name })
            }
            (None, Some(_)) | (Some(_), None) => {
                return Err(InvalidService::Tls { service: service.name.clone() });
            }
        };
        let name: Arc<str> = Arc::from(config.authority.as_str());
        Ok(Self {
            config: config.clone(),
            service: Rc::clone(service),
            counters: Arc::new(BackendCounters::new(service.name.clone(), Arc::clone(&name))),
            name,
            host,
            authority,
            servers: Arc::clone(servers),
            place,
            scheme: if tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP },
            tls,
            idle: RefCell::default(),
            idle_in_service,
            h2: RefCell::default(),
            opening_h2: tokio::sync::Mutex::new(()),
            failures: Cell::new(0),
            avoid_until: Cell::new(None),
            retired: Cell::new(false),
        })
    }

    pub(super) fn seat(&self) -> Option<&Seat> {
        self.servers.seats.get(self.place)
    }

    /// A visit, unless the backend has as many as it may.
    pub(super) fn enter(self: &Rc<Self>) -> Option<Visit> {
        let place = match self.seat().and_then(|seat| seat.places.as_ref()) {
            None => None,
            Some(places) => Some(Arc::clone(places).try_acquire_owned().ok()?),
        };
        Some(Visit::begin(Rc::clone(self), place))
    }

    /// Whether connecting failed so recently that another backend should be asked first.
    pub(super) fn is_avoided(&self, now: Instant) -> bool {
        self.avoid_until.get().is_some_and(|until| now < until)
    }

    /// The idle connection used last, unless all have been idle for too long. One that the backend knows as one client's
    /// carries that client's requests alone.
    pub(super) fn take_idle(&self, now: Instant, client: Option<Client>) -> Option<Box<H1>> {
        let mut idle = self.idle.borrow_mut();
        let place = idle.iter().rposition(|idle| idle.connection.client() == client)?;
        let Idle { connection, since } = idle.remove(place);
        if now.saturating_duration_since(since) >= self.service.keepalive {
            // The last one in is the youngest.
            let gone = idle.drain(..place).count() + 1;
            self.count_idle(idle.len(), gone);
            return None;
        }
        self.count_idle(idle.len(), 1);
        Some(connection)
    }

    /// Keeps a connection whose exchange is over for the next request.
    pub(super) fn put_idle(&self, mut connection: Box<H1>) {
        if self.retired.get() || !connection.is_idle() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if self.idle_in_service.get() >= self.service.idle_connections {
            // Those of clients that have gone would keep out those that are there.
            if connection.client().is_none() || idle.is_empty() {
                return;
            }
            idle.remove(0);
            self.count_idle(idle.len(), 1);
        }
        connection.rest();
        idle.push(Idle { connection, since: Instant::now() });
        self.idle_in_service.set(self.idle_in_service.get() + 1);
        self.counters.idle.store(idle.len() as u64, Ordering::Relaxed);
    }

    fn count_idle(&self, left: usize, gone: usize) {
        self.idle_in_service.set(self.idle_in_service.get().saturating_sub(gone));
        self.counters.idle.store(left as u64, Ordering::Relaxed);
    }

    /// Drops idle connections that are too old, have ended or carry bytes that nobody asked for.
    pub(super) fn sweep(&self, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        let seat = self.seat();
        let known = seat.and_then(|seat| seat.addresses.load_full());
        // Of a backend that is out nothing is kept, nor a connection to an address that the name has no more.
        let is_out = seat.is_some_and(Seat::is_out);
        let is_good = |peer: Option<SocketAddr>| {
            !is_out && known.as_ref().is_none_or(|known| peer.is_none_or(|peer| known.contains(&peer)))
        };
        idle.retain_mut(|idle| {
            now.saturating_duration_since(idle.since) < self.service.keepalive
                && is_good(idle.connection.peer())
                && idle.connection.is_sound()
        });
        let left = idle.len();
        self.count_idle(left, before - left);
        let mut shared = self.h2.borrow_mut();
        if shared.as_ref().is_some_and(|(sender, used, peer)| {
            !h2::is_sound(sender) || !is_good(*peer) || now.saturating_duration_since(*used) >= self.service.keepalive
        }) {
            *shared = None;
        }
    }

    /// Lets go of everything that is kept, and keeps nothing more.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        let gone = self.idle.borrow_mut().drain(..).count();
        self.count_idle(0, gone);
        self.h2.borrow_mut().take();
    }

    /// Opens an HTTP/1.1 connection, for this client where the backend wants to know.
    pub(super) async fn open(&self, client: Option<Client>) -> Result<Box<H1>, Failure> {
        self.connected(async { Ok(Box::new(H1::over(self.stream_for(client).await?))) }).await
    }

    /// The shared HTTP/2 connection, opened if there is none; and whether it was there before.
    pub(super) async fn shared(&self, now: Instant) -> Result<(h2::Sender, bool), Failure> {
        if let Some(sender) = self.take_shared(now) {
            return Ok((sender, true));
        }
        let _one_opens = self.opening_h2.lock().await;
        if let Some(sender) = self.take_shared(now) {
            return Ok((sender, true));
        }
        let opening = async {
            let stream = self.stream().await?;
            let peer = stream.peer();
            Ok((h2::over(stream).await?, peer))
        };
        let (sender, peer) = self.connected(opening).await?;
        if !self.retired.get() {
            self.h2.replace(Some((sender.clone(), now, peer)));
        }
        Ok((sender, false))
    }

    fn take_shared(&self, now: Instant) -> Option<h2::Sender> {
        let mut shared = self.h2.borrow_mut();
        match shared.as_mut() {
            Some((sender, used, _)) if h2::is_sound(sender) => {
                *used = now;
                Some(sender.clone())
            }
            Some(_) | None => {
                *shared = None;
                None
            }
        }
    }

    /// The next request opens a new HTTP/2 connection.
    pub(super) fn forget_shared(&self) {
        self.h2.borrow_mut().take();
    }

    /// A byte stream of the gateway's own.
    pub(super) async fn stream(&self) -> Result<Stream, Failure> {
        self.stream_for(None).await
    }

    async fn stream_for(&self, client: Option<Client>) -> Result<Stream, Failure> {
        let introduced = self.service.proxy_protocol.then_some(Introduced { client });
        let known = self.seat().and_then(|seat| seat.addresses.load_full());
        let turn = usize::try_from(self.counters.opened()).unwrap_or_default();
        Stream::open(&self.config, known, turn, self.tls.as_ref(), self.service.http2, introduced).await
    }

    async fn connected<T>(&self, opening: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let opened = timeout(self.service.connect_timeout, opening).await.unwrap_or(Err(Failure::ConnectTimeout));
        if let Err(failure) = &opened
            && self.failures.get() == 0
        {
            // Once, until it can be reached again: another backend may answer, and then nobody else would say why.
            tracing::warn!(service = %self.counters.service, backend = %self.name, %failure, "a backend cannot be reached");
        }
        if opened.is_ok() {
            add(&self.counters.opened);
            self.failures.set(0);
            self.avoid_until.set(None);
        } else {
            let failures = self.failures.get();
            let backoff = FIRST_BACKOFF.saturating_mul(1 << failures.min(8)).min(LONGEST_BACKOFF);
            self.failures.set(failures.saturating_add(1));
            self.avoid_until.set(Some(Instant::now() + backoff));
        }
        self.counters.see(opened.is_ok());
        opened
    }
}
