//! Whose connection a request came over, as a backend is told by a PROXY header, version 2.

use std::net::{IpAddr, SocketAddr};

use proxy_header::{ProxiedAddress, ProxyHeader};

use super::error::Failure;

/// A client's connection to the gateway. A connection to a backend that began with one carries no other's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The client.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
}

impl Client {
    /// The header about it, in one address family.
    ///
    /// # Errors
    /// [`Failure::Connect`] if the header cannot be written.
    pub fn header(self) -> Result<Vec<u8>, Failure> {
        let (source, destination) = match (canonical(self.source), canonical(self.destination)) {
            (source @ SocketAddr::V4(_), destination @ SocketAddr::V4(_))
            | (source @ SocketAddr::V6(_), destination @ SocketAddr::V6(_)) => (source, destination),
            (source, destination) => (mapped(source), mapped(destination)),
        };
        written(&ProxyHeader::with_address(ProxiedAddress::stream(source, destination)))
    }
}

/// The header of a connection of the gateway's own, such as a health check.
///
/// # Errors
/// As [`Client::header`].
pub(super) fn local() -> Result<Vec<u8>, Failure> {
    written(&ProxyHeader::with_local())
}

fn written(header: &ProxyHeader<'_>) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::with_capacity(52);
    header.encode_v2(&mut bytes).map_err(|error| Failure::Connect(format!("PROXY header: {error}")))?;
    Ok(bytes)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_never_mix() {
        let client =
            Client { source: "192.0.2.7:1".parse().unwrap(), destination: "[2001:db8::1]:443".parse().unwrap() };
        let header = client.header().unwrap();
        assert_eq!(header.len(), 16 + 36);
        assert_eq!(header.get(16..32), Some(&std::net::Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().octets()[..]));
        let same = Client { destination: "[::ffff:198.51.100.1]:443".parse().unwrap(), ..client };
        assert_eq!(same.header().unwrap().len(), 16 + 12);
        assert_eq!(local().unwrap().get(12..), Some(&[0x20, 0, 0, 0][..]));
    }
}
