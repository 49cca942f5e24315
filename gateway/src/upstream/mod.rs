//! Forwarding: the way from a permit to a backend's answer.
//!
//! Everything here lives on one worker: pools, counters and connections are neither shared nor locked. A request is
//! cleaned ([`headers`]), framed anew, sent over a pooled connection, and its answer's head checked; the answer's body
//! drives the connection from there. `gateway/decisions/` says what is taken from a backend and what is refused.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST, HeaderValue, TE};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri, Version};
use http_body::Body;
use tokio::time::Instant;

use policy::{Permit, ServiceName};

use crate::body::BodyError;
use crate::config::Service;

mod answer;
mod backend;
mod body;
mod connect;
mod deadline;
mod error;
mod framing;
mod h1;
mod h2;
pub mod headers;
pub mod identity;
pub(crate) mod probe;
mod relay;
mod watch;

pub use answer::{Answer, Timings, UpstreamBody};
pub use backend::{BackendCounters, InvalidService, Sight};
pub use error::{Failure, UpstreamError};

use backend::BackendState;
use body::{OutgoingBody, Progress};
use framing::Length;
use h1::Unanswered;

/// A request over a reused connection that died is sent again this often, each time only if that can do no harm.
const MAX_RETRIES: u8 = 2;

/// The services' backends, as one worker reaches them. Cheap to clone.
#[derive(Clone)]
pub struct Upstreams(Rc<RefCell<Vec<Rc<ServiceState>>>>);

struct ServiceState {
    service: Rc<Service>,
    tls: Option<Arc<rustls::ClientConfig>>,
    backends: Vec<Rc<BackendState>>,
    next: Cell<usize>,
}

impl Upstreams {
    /// Pools for these services, all empty. The TLS configuration stands beside each service whose backends use it.
    ///
    /// # Errors
    /// [`InvalidService`] if a backend's name cannot be sent or proved, or TLS is asked for and missing.
    pub fn new<'a>(
        services: impl IntoIterator<Item = (&'a Service, Option<Arc<rustls::ClientConfig>>)>,
    ) -> Result<Self, InvalidService> {
        let upstreams = Self(Rc::default());
        upstreams.replace(services)?;
        Ok(upstreams)
    }

    /// Takes another set of services. Pools of services that are unchanged stay; requests under way end as they would.
    ///
    /// # Errors
    /// As [`Upstreams::new`]; then nothing has changed.
    pub fn replace<'a>(
        &self,
        services: impl IntoIterator<Item = (&'a Service, Option<Arc<rustls::ClientConfig>>)>,
    ) -> Result<(), InvalidService> {
        let old = self.0.borrow().clone();
        let same_tls = |a: &Option<Arc<_>>, b: &Option<Arc<_>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let new = services
            .into_iter()
            .map(|(service, tls)| {
                let kept = old.iter().find(|state| *state.service == *service && same_tls(&state.tls, &tls));
                kept.map_or_else(|| ServiceState::new(service, tls).map(Rc::new), |state| Ok(Rc::clone(state)))
            })
            .collect::<Result<Vec<_>, _>>()?;
        for state in old.iter().filter(|state| !new.iter().any(|other| Rc::ptr_eq(other, state))) {
            state.backends.iter().for_each(|backend| backend.retire());
        }
        self.0.replace(new);
        Ok(())
    }

    /// Counters of every backend, to be shown as metrics from any thread.
    #[must_use]
    pub fn counters(&self) -> Vec<Arc<BackendCounters>> {
        let services = self.0.borrow();
        services.iter().flat_map(|state| &state.backends).map(|backend| Arc::clone(&backend.counters)).collect()
    }

    /// Drops idle connections that are too old or have ended. To be called every few seconds, see
    /// [`Upstreams::maintain`].
    pub fn sweep(&self) {
        let now = Instant::now();
        let services = self.0.borrow().clone();
        services.iter().flat_map(|state| &state.backends).for_each(|backend| backend.sweep(now));
    }

    /// Sweeps for ever; a task of each worker.
    pub async fn maintain(self) {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            self.sweep();
        }
    }

    /// Sends a permitted request to a backend of `service` and waits for the answer's head.
    ///
    /// The request's fields are cleaned and `ours` added here, its framing is written anew, and its target is sent as
    /// it is. It is sent a second time only if that can do no harm: over a *reused* connection that ended before a byte
    /// of the answer, and either not a byte of the request was sent, or its method is idempotent (RFC 9110 9.2.2) and
    /// it has no body.
    ///
    /// # Errors
    /// [`UpstreamError`] says which backend failed and how; [`UpstreamError::refusal`] what to tell the client.
    pub async fn send<B>(
        &self,
        permit: Permit,
        service: &ServiceName,
        request: Request<B>,
        ours: headers::Ours,
    ) -> Result<Answer, UpstreamError>
    where
        B: Body<Data = Bytes, Error = BodyError> + 'static,
    {
        // One permit, one request.
        drop(permit);
        let state = self.0.borrow().iter().find(|state| state.service.name == *service).map(Rc::clone);
        let Some(state) = state else {
            return Err(UpstreamError { backend: None, failure: Failure::ServiceUnknown, sent: false });
        };
        let prepared = Prepared::new(&state.service, request, ours).map_err(|failure| UpstreamError {
            backend: None,
            failure,
            sent: false,
        })?;
        state.send(prepared).await
    }
}

/// A request that is ready to be sent to any backend of its service.
struct Prepared {
    request: Request<OutgoingBody>,
    progress: Option<Rc<Progress>>,
    /// The body waits until the backend asks for it.
    expects_continue: bool,
    /// It may be sent again even though it was sent.
    repeatable: bool,
}

impl Prepared {
    fn new<B>(service: &Service, request: Request<B>, ours: headers::Ours) -> Result<Self, Failure>
    where
        B: Body<Data = Bytes, Error = BodyError> + 'static,
    {
        let (mut parts, body) = request.into_parts();
        if parts.method == Method::CONNECT {
            return Err(Failure::RequestFraming("CONNECT asks for a tunnel"));
        }
        let cleaned = headers::clean_request(&mut parts.headers);
        let http1 = !service.http2;
        let exact = body.size_hint().exact();
        let length = framing::frame_request(&mut parts.headers, &parts.method, body.is_end_stream(), exact, http1)?;
        headers::add_ours(&mut parts.headers, ours);
        if cleaned.trailers && http1 {
            // RFC 9110 10.1.4.
            parts.headers.insert(CONNECTION, HeaderValue::from_name(TE));
        }
        let empty = length == Length::Empty;
        let expects_continue = cleaned.expects_continue && http1 && !empty;
        if expects_continue {
            parts.headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
        }
        parts.extensions.clear();
        parts.version = if http1 { Version::HTTP_11 } else { Version::HTTP_2 };
        let repeatable = empty && parts.method.is_idempotent();
        let (body, progress) = if empty {
            (OutgoingBody::empty(), None)
        } else {
            let (body, progress) = OutgoingBody::streaming(Box::pin(body), length);
            (body, Some(progress))
        };
        Ok(Self { request: Request::from_parts(parts, body), progress, expects_continue, repeatable })
    }
}

impl ServiceState {
    fn new(service: &Service, tls: Option<Arc<rustls::ClientConfig>>) -> Result<Self, InvalidService> {
        let service = Rc::new(service.clone());
        let idle = Rc::new(Cell::new(0));
        let backends = service
            .backends
            .iter()
            .map(|backend| BackendState::new(backend, &service, tls.clone(), Rc::clone(&idle)).map(Rc::new))
            .collect::<Result<_, _>>()?;
        Ok(Self { service, tls, backends, next: Cell::new(0) })
    }

    /// The backend whose turn it is among those that can be reached; if none can, the one whose turn it is.
    fn choose(&self, now: Instant) -> Option<Rc<BackendState>> {
        let count = self.backends.len();
        let turn = self.next.get().checked_rem(count)?;
        let mut order = (turn..count).chain(0..turn);
        let chosen = order
            .find(|index| self.backends.get(*index).is_some_and(|backend| !backend.is_avoided(now)))
            .unwrap_or(turn);
        self.next.set(chosen + 1);
        self.backends.get(chosen).map(Rc::clone)
    }

    async fn send(&self, prepared: Prepared) -> Result<Answer, UpstreamError> {
        let start = Instant::now();
        let Prepared { mut request, progress, expects_continue, repeatable } = prepared;
        let mut connect = Duration::ZERO;
        let mut attempts: u8 = 0;
        let mut unreached = 0;
        loop {
            let Some(backend) = self.choose(start) else {
                return Err(UpstreamError { backend: None, failure: Failure::ServiceUnknown, sent: attempts > 0 });
            };
            let fail = |failure: Failure, sent: bool| {
                if failure.blames_backend() {
                    backend.counters.count(&failure);
                }
                UpstreamError { backend: Some(Arc::clone(&backend.name)), failure, sent }
            };
            let fresh = attempts >= MAX_RETRIES;
            let connection = match Connection::take(&backend, start, fresh, &mut connect).await {
                Ok(connection) => connection,
                Err(failure) => {
                    // Nothing was sent: the next backend may be asked, each once.
                    unreached += 1;
                    let error = fail(failure, attempts > 0);
                    if unreached < self.backends.len() {
                        continue;
                    }
                    return Err(error);
                }
            };
            let reused = connection.is_reused();
            attempts += 1;
            if reused {
                backend.counters.count_reuse();
            }
            address(&mut request, &backend, self.service.http2);
            let sent = if attempts == 1 { start } else { Instant::now() };
            let exchange = connection.exchange(request, expects_continue, progress.as_ref(), &backend, sent);
            let unanswered = match exchange.await {
                Ok(response) => {
                    backend.counters.see_answer();
                    let timings = Timings { head: start.elapsed(), connect, attempts, reused };
                    return Ok(Answer { response, backend: Arc::clone(&backend.name), timings });
                }
                Err(unanswered) => unanswered,
            };
            let Unanswered { failure, unsent, silent } = unanswered;
            let again = unsent.or(silent.filter(|_| repeatable)).filter(|_| reused && !fresh);
            match again {
                Some(again) => {
                    backend.counters.count_retry();
                    request = *again;
                }
                None => return Err(fail(failure, true)),
            }
        }
    }
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
    async fn take(backend: &BackendState, now: Instant, fresh: bool, connect: &mut Duration) -> Result<Self, Failure> {
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
        if !fresh && let Some(connection) = backend.take_idle(now) {
            return Ok(Self::H1(connection));
        }
        let began = Instant::now();
        // Boxed, as it is rare and its future is large.
        let opened = Box::pin(backend.open()).await;
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
        progress: Option<&Rc<Progress>>,
        backend: &Rc<BackendState>,
        start: Instant,
    ) -> Result<Response<UpstreamBody>, Unanswered> {
        let service = &backend.service;
        let watched = progress.map(|progress| &**progress);
        match self {
            Self::H1(mut connection) => {
                let mut response = connection.exchange(request, expects_continue, watched, service, start).await?;
                headers::clean_response(response.headers_mut());
                Ok(response.map(|()| UpstreamBody::over_h1(connection, backend, progress.cloned())))
            }
            Self::H2(sender, _) => {
                let mut response = Box::pin(h2::exchange(sender, request, watched, service, start)).await?;
                headers::clean_response(response.headers_mut());
                Ok(response.map(|incoming| UpstreamBody::over_h2(incoming, service.idle_timeout, progress.cloned())))
            }
        }
    }
}

#[cfg(test)]
mod tests;
