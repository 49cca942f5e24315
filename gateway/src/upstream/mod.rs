//! Forwarding: the way from a permit to a backend's answer.
//!
//! Everything here lives on one worker: pools, counters and connections are neither shared nor locked. A request is
//! cleaned ([`headers`]), framed anew, sent over a pooled connection, and its answer's head checked; the answer's body
//! drives the connection from there. `gateway/decisions/` says what is taken from a backend and what is refused.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HeaderValue, TE};
use http::{Method, Request, Version};
use http_body::Body;
use tokio::time::{Instant, timeout};

use policy::{Permit, ServiceName};

use crate::body::BodyError;
use crate::config::{Balance, Service};
use crate::websocket;

mod answer;
mod backend;
mod body;
mod choice;
mod client;
mod connect;
mod deadline;
mod error;
mod fleet;
mod forward;
mod framing;
mod h1;
mod h2;
pub mod headers;
pub(crate) mod health;
pub mod identity;
pub(crate) mod probe;
mod relay;
mod watch;

pub use answer::{Answer, Timings, UpstreamBody};
pub use backend::{BackendCounters, InvalidService, Sight};
pub use choice::{MAX_SERVERS, State, affinity_of};
pub use client::Client;
pub use error::{Failure, UpstreamError};
pub use fleet::{Drained, Fleet, Refused, Report};

use body::{OutgoingBody, Progress};
use forward::{Last, ServiceState};
use framing::Length;

/// The services' backends, as one worker reaches them. Cheap to clone.
#[derive(Clone)]
pub struct Upstreams {
    services: Rc<RefCell<Vec<Rc<ServiceState>>>>,
    fleet: Arc<Fleet>,
}

/// What is known of a request beside the request itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    /// Its route says that it changes nothing.
    pub reads: bool,
    /// How long the answer's head may take, over all attempts.
    pub deadline: Option<Duration>,
    /// What it is always sent to the same server by; see [`Upstreams::balance`].
    pub affinity: Option<u64>,
    /// Whose connection it came over; told to services that want to know.
    pub client: Option<Client>,
    /// It opens a WebSocket, through which nothing may pass for so long.
    pub tunnel: Option<Duration>,
}

impl Upstreams {
    /// Pools for these services, all empty. The TLS configuration stands beside each service whose backends use it.
    ///
    /// # Errors
    /// [`InvalidService`] if a backend's name cannot be sent or proved, or TLS is asked for and missing.
    pub fn new<'a>(
        services: impl IntoIterator<Item = (&'a Service, Option<Arc<rustls::ClientConfig>>)>,
        fleet: Arc<Fleet>,
    ) -> Result<Self, InvalidService> {
        let upstreams = Self { services: Rc::default(), fleet };
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
        let old = self.services.borrow().clone();
        let same_tls = |a: &Option<Arc<_>>, b: &Option<Arc<_>>| match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let new = services
            .into_iter()
            .map(|(service, tls)| {
                let kept = old.iter().find(|state| *state.service == *service && same_tls(&state.tls, &tls));
                let new = || ServiceState::new(service, tls, &self.fleet).map(Rc::new);
                kept.map_or_else(new, |state| Ok(Rc::clone(state)))
            })
            .collect::<Result<Vec<_>, _>>()?;
        for state in old.iter().filter(|state| !new.iter().any(|other| Rc::ptr_eq(other, state))) {
            state.backends.iter().for_each(|backend| backend.retire());
        }
        self.services.replace(new);
        Ok(())
    }

    /// Counters of every backend, to be shown as metrics from any thread.
    #[must_use]
    pub fn counters(&self) -> Vec<Arc<BackendCounters>> {
        let services = self.services.borrow();
        services.iter().flat_map(|state| &state.backends).map(|backend| Arc::clone(&backend.counters)).collect()
    }

    /// Drops idle connections that are too old or have ended. To be called every few seconds, see
    /// [`Upstreams::maintain`].
    pub fn sweep(&self) {
        let now = Instant::now();
        let services = self.services.borrow().clone();
        services.iter().flat_map(|state| &state.backends).for_each(|backend| backend.sweep(now));
    }

    /// Sweeps for ever; a task of each worker.
    pub async fn maintain(self) {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            self.sweep();
        }
    }

    /// How the servers of a service are chosen, where there is a choice that takes more than their load.
    #[must_use]
    pub fn balance(&self, service: &ServiceName) -> Balance {
        self.find(service).map_or(Balance::LeastRequests, |state| state.balance())
    }

    fn find(&self, service: &ServiceName) -> Option<Rc<ServiceState>> {
        self.services.borrow().iter().find(|state| state.service.name == *service).map(Rc::clone)
    }

    /// Sends a permitted request to a backend of `service` and waits for the answer's head.
    ///
    /// The request's fields are cleaned and `ours` added here, its framing is written anew, and its target is sent as
    /// it is. It is sent once more only if that can do no harm: no byte of an answer came, and either not a byte of the
    /// request was sent, or not a byte of a body and it reads only, by its route or by its method (idempotent, RFC 9110
    /// 9.2.2). A server that left it unanswered over a fresh connection is not asked again.
    ///
    /// # Errors
    /// [`UpstreamError`] says which backend failed and how; [`UpstreamError::refusal`] what to tell the client.
    pub async fn send<B>(
        &self,
        permit: Permit,
        service: &ServiceName,
        request: Request<B>,
        ours: headers::Ours,
        asked: Asked,
    ) -> Result<Answer, UpstreamError>
    where
        B: Body<Data = Bytes, Error = BodyError> + 'static,
    {
        // One permit, one request.
        drop(permit);
        let error = |failure, retry_after| UpstreamError { backend: None, failure, sent: false, retry_after };
        let Some(state) = self.find(service) else {
            return Err(error(Failure::ServiceUnknown, None));
        };
        let prepared = Prepared::new(&state.service, request, ours, asked).map_err(|failure| error(failure, None))?;
        let last = Last::of(&prepared);
        let mut sending = pin!(state.send(prepared, asked, &last));
        let sent = match asked.deadline {
            None => sending.await,
            Some(limit) => Box::pin(timeout(limit, sending.as_mut())).await.unwrap_or_else(|_| Err(last.is_late())),
        };
        sent.map_err(|error| UpstreamError { retry_after: Some(state.service.resilience.retry_after), ..error })
    }
}

/// A request that is ready to be sent to any backend of its service.
struct Prepared {
    request: Request<OutgoingBody>,
    progress: Option<Rc<Progress>>,
    /// The body waits until the backend asks for it.
    expects_continue: bool,
    /// It may be sent again even though it was sent, as long as nothing of a body was.
    repeatable: bool,
}

impl Prepared {
    fn new<B>(service: &Service, request: Request<B>, ours: headers::Ours, asked: Asked) -> Result<Self, Failure>
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
        let tunnel = asked.tunnel.is_some();
        let ended = tunnel || body.is_end_stream();
        let mut length = framing::frame_request(&mut parts.headers, &parts.method, ended, exact, http1)?;
        headers::add_ours(&mut parts.headers, ours);
        if tunnel {
            if !http1 {
                return Err(Failure::UpgradeAnswer("the service speaks HTTP/2"));
            }
            websocket::ask(&mut parts.headers).map_err(|_| Failure::UpgradeAnswer("there is no key to ask with"))?;
            length = Length::Tunnel;
        } else if cleaned.trailers && http1 {
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
        let repeatable = asked.reads || parts.method.is_idempotent();
        let (body, progress) = if empty {
            (OutgoingBody::empty(), None)
        } else {
            let (body, progress) = OutgoingBody::streaming(Box::pin(body), length);
            (body, Some(progress))
        };
        Ok(Self { request: Request::from_parts(parts, body), progress, expects_continue, repeatable })
    }
}

#[cfg(test)]
mod tests;
