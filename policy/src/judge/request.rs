//! The question put to the judge.

use std::fmt;
use std::net::IpAddr;

use crate::{Action, InformationClass, RouteName, ServiceName};

/// How the request reached the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TLS over TCP.
    Tls,
    /// QUIC.
    Quic,
    /// A WireGuard tunnel.
    WireGuard,
}

impl Transport {
    /// Every transport.
    pub const ALL: [Self; 3] = [Self::Tls, Self::Quic, Self::WireGuard];

    /// The name in policies and records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Quic => "quic",
            Self::WireGuard => "wireguard",
        }
    }
}

/// Version of TLS, of the inner TLS where there is a tunnel around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

impl TlsVersion {
    /// The number in policies and records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        }
    }
}

/// The patients a request names, in whatever shape the caller keeps them. Read only where a policy reads
/// `context.patients`.
pub trait Patients {
    /// Calls `take` once for each patient, in any order.
    fn each(&self, take: &mut dyn FnMut(&str));
}

impl<T: AsRef<str>> Patients for [T] {
    fn each(&self, take: &mut dyn FnMut(&str)) {
        self.iter().for_each(|patient| take(patient.as_ref()));
    }
}

impl<T: AsRef<str>> Patients for Vec<T> {
    fn each(&self, take: &mut dyn FnMut(&str)) {
        self.as_slice().each(take);
    }
}

impl<T: AsRef<str>, const N: usize> Patients for [T; N] {
    fn each(&self, take: &mut dyn FnMut(&str)) {
        self.as_slice().each(take);
    }
}

/// Nobody.
impl Patients for () {
    fn each(&self, _: &mut dyn FnMut(&str)) {}
}

/// What surrounds a request, and what of its content policies may read. Borrowed: building one copies nothing.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// How the request came.
    pub transport: Transport,
    /// The TLS version, where there is TLS.
    pub tls_version: Option<TlsVersion>,
    /// The peer's address. An IPv4 address mapped into IPv6 counts as the IPv4 address.
    pub source: IpAddr,
    /// When the request's head was complete: nanoseconds since 1970 in UTC.
    pub time: i64,
    /// How long ago the user proved what the subject's authentication level says, nanoseconds of a clock that does not jump; none
    /// where nobody can say.
    pub authentication_age_ns: Option<u64>,
    /// The HTTP method.
    pub method: Option<&'a str>,
    /// The FHIR operation with its dollar sign.
    pub operation: Option<&'a str>,
    /// The FHIR resource type or DICOM level.
    pub resource_type: Option<&'a str>,
    /// The patients named by path and query.
    pub patients: &'a dyn Patients,
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Patients stay out of debug output.
        f.debug_struct("Context")
            .field("transport", &self.transport)
            .field("tls_version", &self.tls_version)
            .field("source", &self.source)
            .field("time", &self.time)
            .field("authentication_age_ns", &self.authentication_age_ns)
            .field("method", &self.method)
            .field("operation", &self.operation)
            .field("resource_type", &self.resource_type)
            .finish_non_exhaustive()
    }
}

/// One request, as its route reads it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What it wants to do.
    pub action: Action,
    /// The service it wants to reach.
    pub service: &'a ServiceName,
    /// The class of information it touches.
    pub class: &'a InformationClass,
    /// The route that took it.
    pub route: &'a RouteName,
    /// What surrounds it.
    pub context: Context<'a>,
}

/// The patients that path and query name.
impl Patients for crate::patients::Patients {
    fn each(&self, take: &mut dyn FnMut(&str)) {
        self.ids.iter().for_each(|patient| take(&patient.value));
    }
}
