//! An inner packet as far as it has to be read to know where it belongs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::drops::DropReason;

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload {
    /// A TCP segment.
    Tcp {
        /// Source port.
        from: u16,
        /// Destination port.
        to: u16,
        /// SYN without ACK, RST or FIN: the wish for a connection.
        opens: bool,
        /// RST.
        resets: bool,
    },
    /// An ICMP or ICMPv6 echo request.
    Echo,
    /// A UDP datagram to the port of DNS.
    Dns {
        /// Where the datagram begins in the packet.
        at: usize,
    },
}

/// A packet that may be handed to a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Source address.
    pub(crate) source: IpAddr,
    /// Destination address.
    pub(crate) destination: IpAddr,
    /// What it carries.
    pub(crate) payload: Payload,
}

/// Addresses of a packet, which are judged before its content is.
pub(crate) fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match packet.first()? >> 4 {
        4 => {
            let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            let destination: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            Some((Ipv4Addr::from(source).into(), Ipv4Addr::from(destination).into()))
        }
        6 => {
            let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
            let destination: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            Some((Ipv6Addr::from(source).into(), Ipv6Addr::from(destination).into()))
        }
        _ => None,
    }
}

/// Whether a packet can come from an address at all.
pub(crate) fn is_one_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_broadcast() && !v4.is_unspecified() && !v4.is_loopback(),
        IpAddr::V6(v6) => {
            !v6.is_multicast() && !v6.is_unspecified() && !v6.is_loopback() && v6.to_ipv4_mapped().is_none()
        }
    }
}

/// Reads a packet.
///
/// # Errors
/// `Malformed`, `Fragment` or `Protocol`.
pub(crate) fn parse(packet: &[u8]) -> Result<Packet, DropReason> {
    let (source, destination) = addresses(packet).ok_or(DropReason::Malformed)?;
    let (protocol, payload) = if source.is_ipv4() { v4(packet)? } else { v6(packet)? };
    let payload = match (protocol, source.is_ipv4()) {
        (6, _) => tcp(payload).ok_or(DropReason::Malformed)?,
        (17, _) if payload.get(2..4) == Some(&crate::dns::PORT.to_be_bytes()) => {
            Payload::Dns { at: packet.len().saturating_sub(payload.len()) }
        }
        (1, true) if payload.len() >= 8 && payload.first() == Some(&8) => Payload::Echo,
        (58, false) if payload.len() >= 8 && payload.first() == Some(&128) => Payload::Echo,
        _ => return Err(DropReason::Protocol),
    };
    Ok(Packet { source, destination, payload })
}

/// RFC 791 3.1. Options are allowed, and skipped by the stack.
fn v4(packet: &[u8]) -> Result<(u8, &[u8]), DropReason> {
    let read = || {
        let header = usize::from(packet.first()? & 15).checked_mul(4)?;
        let total = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
        let fragment = u16::from_be_bytes(packet.get(6..8)?.try_into().ok()?);
        if header < 20 || total < header || total != packet.len() {
            return None;
        }
        Some((fragment, *packet.get(9)?, packet.get(header..)?))
    };
    let (fragment, protocol, payload) = read().ok_or(DropReason::Malformed)?;
    // MF, or an offset.
    if fragment & 0x3fff != 0 { Err(DropReason::Fragment) } else { Ok((protocol, payload)) }
}

/// RFC 8200 3. Of extension headers only the fragment's is told apart; none is taken.
fn v6(packet: &[u8]) -> Result<(u8, &[u8]), DropReason> {
    let read = || {
        let length = usize::from(u16::from_be_bytes(packet.get(4..6)?.try_into().ok()?));
        let payload = packet.get(40..)?;
        (payload.len() == length).then_some((*packet.get(6)?, payload))
    };
    let (next, payload) = read().ok_or(DropReason::Malformed)?;
    if next == 44 { Err(DropReason::Fragment) } else { Ok((next, payload)) }
}

/// RFC 9293 3.1.
fn tcp(segment: &[u8]) -> Option<Payload> {
    let header = usize::from(segment.get(12)? >> 4).checked_mul(4)?;
    if header < 20 || header > segment.len() {
        return None;
    }
    let from = u16::from_be_bytes(segment.get(0..2)?.try_into().ok()?);
    let to = u16::from_be_bytes(segment.get(2..4)?.try_into().ok()?);
    let flags = *segment.get(13)?;
    if from == 0 || to == 0 {
        return None;
    }
    Some(Payload::Tcp { from, to, opens: flags & 0x17 == 0x02, resets: flags & 0x04 != 0 })
}

impl Packet {
    /// Both ends, of a TCP segment: the peer's, and the gateway's.
    pub(crate) fn flow(&self) -> Option<(SocketAddr, SocketAddr)> {
        match self.payload {
            Payload::Tcp { from, to, .. } => {
                Some((SocketAddr::new(self.source, from), SocketAddr::new(self.destination, to)))
            }
            Payload::Echo | Payload::Dns { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v4_packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet =
            vec![0x45, 0, 0, 20 + payload.len() as u8, 0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1];
        packet.extend_from_slice(payload);
        packet
    }

    fn syn() -> Vec<u8> {
        let mut segment = vec![0; 20];
        segment[0..4].copy_from_slice(&[0x12, 0x34, 1, 187]);
        segment[12] = 0x50;
        segment[13] = 2;
        segment
    }

    #[test]
    fn a_syn_is_read() {
        let packet = parse(&v4_packet(6, &syn())).unwrap();
        assert_eq!(packet.payload, Payload::Tcp { from: 0x1234, to: 443, opens: true, resets: false });
        assert_eq!(packet.flow(), Some(("10.0.0.2:4660".parse().unwrap(), "10.0.0.1:443".parse().unwrap())));
    }

    #[test]
    fn what_is_not_taken_has_its_reason() {
        let mut more = v4_packet(6, &syn());
        more[6] = 0x20;
        assert_eq!(parse(&more), Err(DropReason::Fragment));
        let mut last = v4_packet(6, &syn());
        last[7] = 1;
        assert_eq!(parse(&last), Err(DropReason::Fragment));
        assert_eq!(parse(&v4_packet(17, &[0; 8])), Err(DropReason::Protocol));
        assert_eq!(parse(&v4_packet(41, &[0x60; 60])), Err(DropReason::Protocol), "IPv6 in IPv4");
        assert_eq!(parse(&v4_packet(6, &[0; 20])), Err(DropReason::Malformed));
        assert_eq!(parse(&v4_packet(1, &[0, 0, 0, 0, 0, 0, 0, 0])), Err(DropReason::Protocol), "an echo reply");
        assert_eq!(parse(&[0x50; 60]), Err(DropReason::Malformed));
        let mut long = v4_packet(6, &syn());
        long[3] = 19;
        assert_eq!(parse(&long), Err(DropReason::Malformed));
        let mut v6 = vec![0; 60];
        v6[0] = 0x60;
        v6[5] = 20;
        v6[6] = 44;
        assert_eq!(parse(&v6), Err(DropReason::Fragment));
        v6[6] = 0;
        assert_eq!(parse(&v6), Err(DropReason::Protocol), "hop-by-hop options");
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
