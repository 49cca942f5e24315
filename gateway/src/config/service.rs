//! Services: where requests go once they are judged.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use policy::ServiceName;

use super::knob;

/// One clinical service and the backends that answer for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// The name that routes and policies use.
    pub name: ServiceName,
    /// At least one server.
    pub backends: Vec<Backend>,
    /// TLS towards the backends; required exactly when their scheme is `https`.
    pub tls: Option<BackendTls>,
    /// Speak HTTP/2 to the backends: by prior knowledge where plain, by ALPN over TLS.
    pub http2: bool,
    /// Tell backends by a PROXY header (version 2) whose connection a request came over. Never with `http2`.
    pub proxy_protocol: bool,
    /// Most idle connections kept per worker.
    pub idle_connections: usize,
    /// How long a TCP connect and, where used, the TLS handshake may take together.
    pub connect_timeout: Duration,
    /// How long a backend may take from the request's last byte to the answer's head.
    pub response_timeout: Duration,
    /// How long either side of a streaming body may stay silent.
    pub idle_timeout: Duration,
    /// How long an unused pooled connection is kept.
    pub keepalive: Duration,
    /// The `aud` of the identity token; the service's name unless set.
    pub identity_audience: String,
    /// How it lives with servers that are slow, sick or gone.
    pub resilience: Resilience,
}

/// How a service lives with servers that are slow, sick or gone (R19, R20).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resilience {
    /// How a server is chosen.
    pub balance: Balance,
    /// For how long a server that comes back gets a rising share of the requests; zero for none.
    pub slow_start: Duration,
    /// Most requests in flight at one server, over all workers; 0 for no bound.
    pub max_in_flight: usize,
    /// Most requests that wait for a place at a server, over all workers.
    pub max_pending: usize,
    /// How long one waits.
    pub pending_timeout: Duration,
    /// How often a request is sent to yet another server after one did not answer it.
    pub retries: u32,
    /// Retries of a hundred requests, beyond the reserve.
    pub retry_percent: u64,
    /// Retries that a quiet service has; per worker, full again after 10 s.
    pub retry_reserve: u64,
    /// The longest pause before the first retry; doubled with each that follows.
    pub retry_backoff: Duration,
    /// Failures in a row after which a server is ejected; 0 for never.
    pub eject_after: u32,
    /// How long the first ejection lasts.
    pub eject: Duration,
    /// Of a hundred servers, how many may be ejected at once. One never is.
    pub max_ejected_percent: u32,
    /// How often the names of servers are resolved again.
    pub resolve_interval: Duration,
    /// After how long a client is told to come again when no server takes its request.
    pub retry_after: Duration,
    /// Authorities of servers that take no new requests.
    pub drained: Vec<String>,
    /// How its servers are checked.
    pub health: Option<HealthCheck>,
}

/// How a server is chosen for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// The one of two, drawn at random, that has fewer requests outstanding.
    LeastRequests,
    /// The same for all requests of a site.
    Site,
    /// The same for all requests that name a patient in path or query; others as [`Balance::LeastRequests`].
    Patient,
}

/// A request that each server gets regularly, and what it must answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub kind: HealthKind,
    /// The pause between two checks.
    pub interval: Duration,
    /// How long a check may take, connecting included.
    pub timeout: Duration,
    /// Checks in a row that fail before the server takes no more requests.
    pub unhealthy_after: u32,
    /// Checks in a row that pass before it takes them again.
    pub healthy_after: u32,
}

/// What a health check asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthKind {
    /// A GET over the service's own protocol.
    Http {
        /// The target, from `/` on.
        path: String,
        /// The statuses that pass.
        status: Vec<u16>,
        /// What the body must contain within its first 64 KiB.
        body: Option<String>,
    },
    /// A connection, with its TLS handshake where the service uses TLS.
    Tcp,
    /// The gRPC health checking protocol, `grpc.health.v1.Health/Check`.
    Grpc {
        /// The name that is asked about; empty for the whole server.
        service: String,
    },
}

impl Default for Resilience {
    fn default() -> Self {
        let ms = |knob: &knob::Knob| Duration::from_millis(knob.default);
        let count = |knob: &knob::Knob| u32::try_from(knob.default).unwrap_or(u32::MAX);
        Self {
            balance: Balance::LeastRequests,
            slow_start: ms(&knob::SLOW_START_MS),
            max_in_flight: knob::size(knob::MAX_IN_FLIGHT.default),
            max_pending: knob::size(knob::MAX_PENDING.default),
            pending_timeout: ms(&knob::PENDING_TIMEOUT_MS),
            retries: count(&knob::RETRIES),
            retry_percent: knob::RETRY_PERCENT.default,
            retry_reserve: knob::RETRY_RESERVE.default,
            retry_backoff: ms(&knob::RETRY_BACKOFF_MS),
            eject_after: count(&knob::EJECT_AFTER),
            eject: ms(&knob::EJECT_MS),
            max_ejected_percent: count(&knob::MAX_EJECTED_PERCENT),
            resolve_interval: ms(&knob::RESOLVE_INTERVAL_MS),
            retry_after: Duration::from_secs(knob::RETRY_AFTER_S.default),
            drained: Vec::new(),
            health: None,
        }
    }
}

/// One server of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Host and port as written, for the `Host` a backend expects and for records: `127.0.0.1:8080`.
    pub authority: String,
    /// The host alone, for name resolution and the server's certificate.
    pub host: String,
    /// The address, where the host is an IP address and needs no name resolution.
    pub address: Option<SocketAddr>,
    /// The port.
    pub port: u16,
}

/// How a backend proves itself, and what the gateway shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendTls {
    /// The only authorities that may vouch for the backend.
    pub ca_file: PathBuf,
    /// CRLs of these authorities. A backend that one of them names is refused; one that none speaks of is not.
    pub crl_files: Vec<PathBuf>,
    /// The gateway's own certificate and key, where the backend asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name the backend's certificate must carry, where it is not the host.
    pub server_name: Option<String>,
}
