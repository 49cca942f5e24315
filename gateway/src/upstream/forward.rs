//! The way of one request: which server, over which connection, and what if it does not answer. What is decided is
//! decided in [`choice`](super::choice).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri};
use tokio::time::{Instant, timeout};

use super::answer::{Answer, Timings, UpstreamBody};
use super::backend::{BackendState, InvalidService, Visit};
use super::body::{OutgoingBody, Progress};
use super::choice::{Budget, NEVER, Set, backoff_ms, by_hash, least_of_two, mix, weight};
use super::client::Client;
use super::error::{Failure, UpstreamError};
use super::fleet::{Fleet, Refused, Seat, Servers};
use super::h1::{self, Unanswered};
use super::{Asked, Prepared, h2, headers};
use crate::config::{Balance, Service};

/// A request over a reused connection that died is sent again this often, each time only if that can do no harm.
const MAX_RETRIES: u8 = 2;

/// One service's backends, as one worker reaches them.
pub(super) struct ServiceState {
    pub(super) service: Rc<Service>,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    pub(super) backends: Vec<Rc<BackendState>>,
    servers: Arc<Servers>,
    budget: RefCell<Budget>,
    /// Where the worker's random bits come from: a count from a random start, mixed.
    random: Cell<u64>,
}

/// Where a request went last; read when its deadline passes in the middle of something.
pub(super) struct Last {
    backend: RefCell<Option<Rc<BackendState>>>,
    sent: Cell<bool>,
    progress: Option<Rc<Progress>>,
}

impl Last {
    pub(super) fn of(prepared: &Prepared) -> Self {
        Self { backend: RefCell::default(), sent: Cell::new(false), progress: prepared.progress.clone() }
    }

    /// The route's deadline has passed. Whose fault it is depends on who kept whom waiting.
    pub(super) fn is_late(&self) -> UpstreamError {
        let is_starved = |progress: &Rc<Progress>| !progress.ended.get() && progress.starved.get();
        let failure =
            if self.progress.as_ref().is_some_and(is_starved) { Failure::RequestStalled } else { Failure::Deadline };
        let backend = self.backend.borrow();
        if let Some(backend) = backend.as_ref().filter(|_| failure.blames_backend()) {
            backend.counters.count(&failure);
            backend.servers.failed(backend.place, failure.label());
        }
        let name = backend.as_ref().map(|backend| Arc::clone(&backend.name));
        UpstreamError { backend: name, failure, sent: self.sent.get(), retry_after: None }
    }
}

impl ServiceState {
    pub(super) fn new(
        service: &Service,
        tls: Option<Arc<rustls::ClientConfig>>,
        fleet: &Fleet,
    ) -> Result<Self, InvalidService> {
        let service = Rc::new(service.clone());
        let servers = fleet.servers(&service);
        let idle = Rc::new(Cell::new(0));
        let backend = |(place, backend)| {
            BackendState::new(backend, &service, (&servers, place), tls.clone(), Rc::clone(&idle)).map(Rc::new)
        };
        let backends = service.backends.iter().enumerate().map(backend).collect::<Result<_, _>>()?;
        let settings = &service.resilience;
        let budget = Budget::new(settings.retry_percent, settings.retry_reserve);
        let mut random = [0; 8];
        // Workers that draw alike meet at the same server more often, and nothing worse.
        let _ = aws_lc_rs::rand::fill(&mut random);
        let random = Cell::new(u64::from_ne_bytes(random));
        Ok(Self { service, tls, backends, servers, budget: RefCell::new(budget), random })
    }

    /// How its servers are chosen; a single one is not.
    pub(super) fn balance(&self) -> Balance {
        if self.backends.len() < 2 { Balance::LeastRequests } else { self.service.resilience.balance }
    }

    fn random(&self) -> u64 {
        let next = self.random.get().wrapping_add(1);
        self.random.set(next);
        mix(next)
    }

    /// The server for a request, none of `but`: of those that take part and could be reached lately, or else of those
    /// that take part, or else of those that are ejected, which is but a guess.
    fn choose(&self, now: Instant, but: Set, key: Option<u64>) -> Option<&Rc<BackendState>> {
        let from = |backend: &BackendState| backend.seat().map_or(NEVER, Seat::takes_part_from);
        if let [only] = &self.backends[..] {
            return (but == 0 && from(only) != NEVER).then_some(only);
        }
        let now_ms = self.servers.at(now);
        let (mut good, mut avoided, mut ejected): (Set, Set, Set) = (0, 0, 0);
        for (place, backend) in self.backends.iter().enumerate() {
            let (bit, from) = (1 << place, from(backend));
            if but & bit != 0 || from == NEVER {
                continue;
            }
            let set = match (from > now_ms, backend.is_avoided(now)) {
                (true, _) => &mut ejected,
                (false, true) => &mut avoided,
                (false, false) => &mut good,
            };
            *set |= bit;
        }
        let set = [good, avoided, ejected].into_iter().find(|set| *set != 0)?;
        let slow_start = u64::try_from(self.service.resilience.slow_start.as_millis()).unwrap_or(u64::MAX);
        let of = |place: usize| self.backends.get(place);
        let weigh = |place: usize| of(place).map_or(0, |backend| weight(from(backend), now_ms, slow_start));
        let chosen = match key {
            Some(key) => by_hash(set, key, |place| of(place).and_then(|b| b.seat()).map_or(0, |seat| seat.id), weigh),
            None => least_of_two(set, self.random(), weigh, |place| of(place).map_or(0, |b| b.counters.in_flight())),
        };
        chosen.and_then(of)
    }

    /// A server with a place for the request, waited for if all are full. `but` gets those that were full.
    async fn admit(&self, now: Instant, tried: Set, key: Option<u64>) -> Result<Visit, Failure> {
        let mut but = tried;
        let mut first = None;
        while let Some(backend) = self.choose(now, but, key) {
            if let Some(visit) = backend.enter() {
                return Ok(visit);
            }
            but |= 1 << backend.place;
            first.get_or_insert(backend);
        }
        let Some(places) = first.and_then(|first| Some((first, first.seat()?.places.as_ref()?))) else {
            self.servers.count_refused(Refused::NoServer);
            return Err(Failure::NoServer);
        };
        let (backend, places) = places;
        let waited = match self.servers.wait() {
            None => None,
            Some(_waits) => {
                let place = Arc::clone(places).acquire_owned();
                timeout(self.service.resilience.pending_timeout, place).await.ok().and_then(Result::ok)
            }
        };
        match waited.map(|place| Visit::begin(Rc::clone(backend), Some(place))) {
            // It may have gone while this one waited.
            Some(visit) if !visit.backend.seat().is_some_and(Seat::is_out) => Ok(visit),
            Some(_) | None => {
                self.servers.count_refused(Refused::Overloaded);
                Err(Failure::Overloaded)
            }
        }
    }

    /// Whether the budget lets a request be sent once more.
    fn may_repeat(&self, now: Instant) -> bool {
        let may = self.budget.borrow_mut().takes(self.servers.at(now));
        if !may {
            self.servers.count_refused(Refused::Budget);
        }
        may
    }

    pub(super) async fn send(&self, prepared: Prepared, asked: Asked, last: &Last) -> Result<Answer, UpstreamError> {
        let start = Instant::now();
        let Prepared { mut request, progress, expects_continue, repeatable } = prepared;
        let mut connect = Duration::ZERO;
        let mut attempts: u8 = 0;
        let mut retries = 0;
        let mut now = start;
        // Servers that are not asked again, and what the last of them did.
        let mut tried: Set = 0;
        let mut unanswered_by: Option<UpstreamError> = None;
        self.budget.borrow_mut().asked();
        loop {
            let visit = match self.choose(now, tried, asked.affinity).and_then(BackendState::enter) {
                Some(visit) => visit,
                // Boxed, as it is rare and its future is large.
                None => match Box::pin(self.admit(now, tried, asked.affinity)).await {
                    Ok(visit) => visit,
                    Err(failure) => {
                        let none = UpstreamError { backend: None, failure, sent: attempts > 0, retry_after: None };
                        return Err(unanswered_by.unwrap_or(none));
                    }
                },
            };
            let backend = Rc::clone(&visit.backend);
            last.backend.replace(Some(Rc::clone(&backend)));
            let fail = |failure: Failure, sent: bool| UpstreamError {
                backend: Some(Arc::clone(&backend.name)),
                failure,
                sent,
                retry_after: None,
            };
            let fresh = attempts >= MAX_RETRIES;
            let client = asked.client.filter(|_| self.service.proxy_protocol);
            let connection = match Connection::take(&backend, now, (fresh, client), &mut connect).await {
                Ok(connection) => connection,
                Err(failure) => {
                    // Nothing was sent: the next backend may be asked, each once.
                    tried |= 1 << backend.place;
                    blame(&backend, &failure);
                    let error = fail(failure, attempts > 0);
                    if self.choose(now, tried, None).is_none() {
                        return Err(error);
                    }
                    unanswered_by = Some(error);
                    continue;
                }
            };
            let reused = connection.is_reused();
            attempts = attempts.saturating_add(1);
            if reused {
                backend.counters.count_reuse();
            }
            address(&mut request, &backend, self.service.http2);
            last.sent.set(true);
            let sent = if attempts == 1 { start } else { Instant::now() };
            let exchange =
                connection.exchange(request, expects_continue, (progress.as_ref(), asked.tunnel), visit, sent);
            let unanswered = match exchange.await {
                Ok(response) => {
                    backend.counters.see_answer();
                    let timings = Timings { head: start.elapsed(), connect, attempts, reused };
                    return Ok(Answer { response, backend: Arc::clone(&backend.name), timings });
                }
                Err(unanswered) => unanswered,
            };
            now = Instant::now();
            let Unanswered { failure, unsent, silent } = unanswered;
            let is_whole = progress.as_ref().is_none_or(|progress| !progress.touched.get());
            let again = match (unsent, silent) {
                (Some(unsent), _) => Some((unsent, false)),
                (None, Some(silent)) if repeatable && is_whole => Some((silent, true)),
                (None, _) => None,
            };
            let error = fail(failure, true);
            let Some((again, was_sent)) = again else {
                blame(&backend, &error.failure);
                return Err(error);
            };
            if reused && !fresh {
                // It may have ended before the request came, which says nothing against the backend.
                if was_sent && !self.may_repeat(now) {
                    return Err(error);
                }
            } else {
                blame(&backend, &error.failure);
                tried |= 1 << backend.place;
                let is_left = retries < self.service.resilience.retries && self.choose(now, tried, None).is_some();
                if !is_left || !self.may_repeat(now) {
                    return Err(error);
                }
                retries += 1;
                let base = u64::try_from(self.service.resilience.retry_backoff.as_millis()).unwrap_or(u64::MAX);
                tokio::time::sleep(Duration::from_millis(backoff_ms(base, retries, self.random()))).await;
                now = Instant::now();
            }
            backend.counters.count_retry();
            unanswered_by = Some(error);
            request = *again;
        }
    }
}

/// Counts a failure by the backend's fault.
fn blame(backend: &BackendState, failure: &Failure) {
    if failure.blames_backend() {
        backend.counters.count(failure);
        backend.servers.failed(backend.place, failure.label());
    }
}

/// Whether the status says that the backend serves. One that stands before another, or is overloaded, says so by its
/// status, and is treated as if it had not answered well; the client gets the answer all the same.
fn judge(visit: &Visit, status: StatusCode) -> bool {
    let why = match status {
        StatusCode::BAD_GATEWAY => "status-502",
        StatusCode::SERVICE_UNAVAILABLE => "status-503",
        StatusCode::GATEWAY_TIMEOUT => "status-504",
        _ => return true,
    };
    visit.failed(why);
    false
}

/// Makes the request one to this backend: its `Host`, and on HTTP/2 its scheme and authority. Path and query are
/// those that were judged, byte for byte (C5).
fn address(request: &mut Request<OutgoingBody>, backend: &BackendState, http2: bool) {
    let uri = request.uri();
    if http2 {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(backend.scheme.clone());
        parts.authority = Some(backend.authority.clone());
        parts.path_and_query = Some(uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        request.headers_mut().remove(HOST);
        return;
    }
    if uri.scheme().is_some() || uri.authority().is_some() {
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = Some(uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request.headers_mut().insert(HOST, backend.host.clone());
}

enum Connection {
    H1(Box<h1::H1>),
    H2(h2::Sender, bool),
}

impl Connection {
    async fn take(
        backend: &BackendState,
        now: Instant,
        (fresh, client): (bool, Option<Client>),
        connect: &mut Duration,
    ) -> Result<Self, Failure> {
        if backend.service.http2 {
            if fresh {
                backend.forget_shared();
            }
            let (sender, reused) = Box::pin(backend.shared(now)).await?;
            if !reused {
                *connect += now.elapsed();
            }
            return Ok(Self::H2(sender, reused));
        }
        if !fresh && let Some(connection) = backend.take_idle(now, client) {
            return Ok(Self::H1(connection));
        }
        let began = Instant::now();
        // Boxed, as it is rare and its future is large.
        let opened = Box::pin(backend.open(client)).await;
        *connect += began.elapsed();
        opened.map(Self::H1)
    }

    fn is_reused(&self) -> bool {
        match self {
            Self::H1(connection) => connection.used,
            Self::H2(_, reused) => *reused,
        }
    }

    async fn exchange(
        self,
        request: Request<OutgoingBody>,
        expects_continue: bool,
        (progress, tunnel): (Option<&Rc<Progress>>, Option<Duration>),
        visit: Visit,
        start: Instant,
    ) -> Result<Response<UpstreamBody>, Unanswered> {
        let service = &*Rc::clone(&visit.backend.service);
        // What flows through a tunnel flows after the answer.
        let watched = progress.map(|progress| &**progress).filter(|_| tunnel.is_none());
        match self {
            Self::H1(mut connection) => {
                let mut response = connection.exchange(request, expects_continue, watched, service, start).await?;
                headers::clean_response(response.headers_mut());
                let good = judge(&visit, response.status());
                let idle = tunnel.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS);
                Ok(response.map(|()| UpstreamBody::over_h1(connection, visit, good, (progress.cloned(), idle))))
            }
            Self::H2(sender, _) => {
                let mut response = Box::pin(h2::exchange(sender, request, watched, service, start)).await?;
                headers::clean_response(response.headers_mut());
                let good = judge(&visit, response.status());
                Ok(response.map(|incoming| UpstreamBody::over_h2(incoming, visit, good, progress.cloned())))
            }
        }
    }
}
