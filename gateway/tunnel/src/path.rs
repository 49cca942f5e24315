//! Where datagrams come from and go to.

use std::net::{IpAddr, SocketAddr};

/// The two outer ends of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// Address and port of the other end.
    pub remote: SocketAddr,
    /// The gateway's own address that the datagram was sent to, where the socket tells: answers leave from it.
    pub local: Option<IpAddr>,
}

/// Datagrams to send, all to one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub path: Path,
    /// How many bytes of the buffer, in all.
    pub size: usize,
    /// Where there are several datagrams: the length of each, in bytes; the last may be shorter (UDP GSO).
    pub segment_size: Option<usize>,
}
