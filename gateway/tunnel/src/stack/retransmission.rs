//! Which segments are sent again (RFC 9293 3.8.1): smoltcp does not tell, so that they are read off what it makes.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket, TcpSeqNumber};

use super::{Flow, Stack};

/// A segment that takes numbers: the gateway's data, SYN or FIN.
struct Segment {
    flow: Flow,
    begins: TcpSeqNumber,
    /// The number after its last.
    ends: TcpSeqNumber,
}

impl Segment {
    /// `None` for a packet that takes no numbers: an acknowledgement, a reset, an echo.
    fn of(packet: &[u8]) -> Option<Self> {
        let (source, destination, payload): (IpAddr, IpAddr, &[u8]) = if packet.first()? >> 4 == 4 {
            let packet = Ipv4Packet::new_checked(packet).ok()?;
            let is_tcp = packet.next_header() == IpProtocol::Tcp;
            is_tcp.then(|| (packet.src_addr().into(), packet.dst_addr().into(), packet.payload()))?
        } else {
            let packet = Ipv6Packet::new_checked(packet).ok()?;
            let is_tcp = packet.next_header() == IpProtocol::Tcp;
            is_tcp.then(|| (packet.src_addr().into(), packet.dst_addr().into(), packet.payload()))?
        };
        let segment = TcpPacket::new_checked(payload).ok()?;
        let length = segment.segment_len();
        if length == 0 || segment.rst() {
            return None;
        }
        let flow = (SocketAddr::new(destination, segment.dst_port()), SocketAddr::new(source, segment.src_port()));
        let begins = segment.seq_number();
        Some(Self { flow, begins, ends: begins + length })
    }
}

impl Stack {
    /// How many of these packets carry what was sent before.
    pub(super) fn retransmissions<'p>(&mut self, made: impl Iterator<Item = &'p Vec<u8>>) -> u64 {
        let mut again = 0_u64;
        for segment in made.filter_map(|packet| Segment::of(packet)) {
            let number = self.flows.get(&segment.flow);
            let Some(stream) = number.and_then(|number| self.streams.get_mut(number)) else { continue };
            let sent = stream.sent.get_or_insert(segment.begins);
            again = again.saturating_add(u64::from(segment.begins < *sent));
            if segment.ends > *sent {
                *sent = segment.ends;
            }
        }
        again
    }
}
