//! The PROXY header, by which a load balancer says whose connection it passes on (HAProxy's "The PROXY protocol",
//! versions 1 and 2): before TLS, from listed networks alone.

use std::net::SocketAddr;

use certs::PeerRefused;
use policy::Refusal;
use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

use super::accept::Carrier;
use super::arrival::Arrival;
use crate::config::{ProxyProtocol, is_among};

/// What version 2 begins with (section 2.2).
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version, command, family, protocol and length behind it.
const AFTER_SIGNATURE: usize = 4;
/// The longest header of version 2 that is read, what it adds in type-length-values included. Nothing needs as much.
const LONGEST_V2: usize = 4096;
/// The longest header of version 1 (section 2.1).
const LONGEST_V1: usize = 107;

/// What a header said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The connection is a client's (`PROXY`).
    Client {
        /// The client.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
    /// The connection is the load balancer's own (`LOCAL`): it looks whether anybody is there.
    Own,
    /// A connection of which the header names nobody (UNKNOWN, UNSPEC or a Unix socket): of use for a look alone.
    Nobody,
}

/// What came before TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// What follows is to be served.
    Client,
    /// The load balancer looked whether somebody is there, and is content.
    Check,
}

/// Takes the header of a connection from a listed network, by which the arrival becomes the client's. From elsewhere there must be
/// none.
///
/// # Errors
/// [`Refusal::ProxyHeader`].
pub(super) async fn receive<S: Carrier>(
    proxies: &ProxyProtocol,
    arrival: &mut Arrival,
    stream: &mut S,
) -> Result<Before, PeerRefused> {
    if !is_among(&proxies.from, arrival.source.ip()) {
        // Whoever breaks off instead is told so by the handshake.
        return match stream.begins_with_tls().await {
            Ok(false) => Err(refused("no TLS handshake, from a network that is not listed in `proxy_protocol.from`")),
            Ok(true) | Err(_) => Ok(Before::Client),
        };
    }
    let said = timeout(proxies.timeout, read(stream)).await;
    match said.unwrap_or(Err("the header did not come in time")).map_err(refused)? {
        Said::Client { source, destination } => {
            arrival.proxy = Some(arrival.source);
            arrival.source = source;
            // The client's URL names the port that it connected to.
            arrival.port = destination.port();
            arrival.local = Some(destination.ip());
            Ok(Before::Client)
        }
        said => match (stream.begins_with_tls().await, said) {
            (Err(_), _) => Ok(Before::Check),
            (Ok(_), Said::Nobody) => {
                Err(refused("the header names no address of a client, and the connection goes on"))
            }
            (Ok(_), _) => Ok(Before::Client),
        },
    }
}

fn refused(detail: &str) -> PeerRefused {
    PeerRefused { refusal: Refusal::ProxyHeader, detail: detail.to_owned(), device: None }
}

/// Reads a header and not a byte more.
async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Said, &'static str> {
    const CUT: &str = "the connection ended within the header";
    let mut header = vec![0; SIGNATURE.len()];
    // Version 1 has at least 15 bytes.
    stream.read_exact(&mut header).await.map_err(|_| "the connection ended before a header")?;
    if header == SIGNATURE {
        let mut rest = [0; AFTER_SIGNATURE];
        stream.read_exact(&mut rest).await.map_err(|_| CUT)?;
        header.extend_from_slice(&rest);
        let [_, _, high, low] = rest;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let start = header.len();
        if start + length > LONGEST_V2 {
            return Err("the header is longer than 4096 bytes");
        }
        header.resize(start + length, 0);
        let body = header.get_mut(start..).unwrap_or_default();
        stream.read_exact(body).await.map_err(|_| CUT)?;
        return parse(&header);
    }
    if !header.starts_with(b"PROXY ") {
        return Err("it does not begin with a header");
    }
    // What follows the line is TLS's, and nobody says how long the line is.
    while !header.ends_with(b"\n") {
        if header.len() == LONGEST_V1 {
            return Err("the header of version 1 is longer than 107 bytes");
        }
        header.push(stream.read_u8().await.map_err(|_| CUT)?);
    }
    parse(&header)
}

/// What a whole header says, strictly: a client has a TCP connection between two addresses of one family.
///
/// # Errors
/// Why it says nothing that can be used.
pub fn parse(header: &[u8]) -> Result<Said, &'static str> {
    const MALFORMED: &str = "the header is malformed";
    let is_v1 = header.starts_with(b"PROXY ");
    // The library's numbers may have a sign.
    if is_v1 && (header.contains(&b'+') || !header.ends_with(b"\r\n") || header.len() > LONGEST_V1) {
        return Err(MALFORMED);
    }
    let config = ParseConfig { include_tlvs: false, allow_v1: is_v1, allow_v2: !is_v1 };
    let (parsed, length) = ProxyHeader::parse(header, config).map_err(|_| MALFORMED)?;
    if length != header.len() {
        return Err(MALFORMED);
    }
    const LOCAL: u8 = 0x20;
    if !is_v1 && header.get(SIGNATURE.len()) == Some(&LOCAL) {
        return Ok(Said::Own);
    }
    match parsed.proxied_address() {
        Some(address) if address.protocol == Protocol::Stream => {
            let (source, destination) = (address.source, address.destination);
            if source.ip().is_unspecified() || source.ip().is_multicast() {
                return Err("the header names an address that no client has");
            }
            Ok(Said::Client { source, destination })
        }
        Some(_) => Err("the header is about datagrams"),
        // What that means the specification leaves to the receiver.
        None => Ok(Said::Nobody),
    }
}

#[cfg(test)]
#[path = "proxied_tests.rs"]
mod tests;
