//! What stands between clients and a listener, and whose word counts for where a client is.

use std::net::IpAddr;
use std::time::Duration;

use gateway_tunnel::Network;

/// Load balancers that say by a PROXY header, version 1 or 2, whose connection they pass on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// The networks that they connect from. Each of their connections begins with a header; nobody else's does.
    pub from: Vec<Network>,
    /// From accept to the header's last byte.
    pub timeout: Duration,
}

/// Proxies that say by a header field of each request whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardedFrom {
    /// The networks that they connect from.
    pub from: Vec<Network>,
    /// The field that they write. Nothing else is read.
    pub field: ForwardedField,
}

/// The field that tells whom a proxy asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedField {
    /// `Forwarded` of RFC 7239.
    Forwarded,
    /// `X-Forwarded-For`, with `X-Forwarded-Proto` and `X-Forwarded-Host` beside it.
    XForwarded,
}

/// Whether an address is in one of the networks. One of IPv4 that is written as one of IPv6 is the former.
#[must_use]
pub fn is_among(networks: &[Network], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(address))
}
