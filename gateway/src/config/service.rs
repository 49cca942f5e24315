//! Services: where requests go once they are judged.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use policy::ServiceName;

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
