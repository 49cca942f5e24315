//! DNS for the gateway's own names and for nothing else (RFC 1035), so that a site's devices find the gateway inside their
//! tunnel by the name that is in its certificate. Other names are refused: this is no resolver.

use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpAddress, IpProtocol, IpRepr, UdpPacket, UdpRepr};

/// The port of DNS.
pub(crate) const PORT: u16 = 53;
const TTL: u32 = 60;
const NOT_IMPLEMENTED: u16 = 4;
const REFUSED: u16 = 5;
const A: u16 = 1;
const AAAA: u16 = 28;
const INTERNET: u16 = 1;

/// Answers a query in a UDP datagram with a whole packet. `None` where it is no query.
pub(crate) fn answer(
    (source, destination): (IpAddr, IpAddr),
    datagram: &[u8],
    names: &[String],
    addresses: &[IpAddr],
) -> Option<Vec<u8>> {
    let (from, to) = (IpAddress::from(source), IpAddress::from(destination));
    let udp = UdpPacket::new_checked(datagram).ok()?;
    let query = UdpRepr::parse(&udp, &from, &to, &ChecksumCapabilities::default()).ok()?;
    let reply = reply(udp.payload(), names, addresses)?;
    let udp = UdpRepr { src_port: query.dst_port, dst_port: query.src_port };
    let ip = IpRepr::new(to, from, IpProtocol::Udp, reply.len().checked_add(8)?, 64);
    let checksums = ChecksumCapabilities::default();
    let mut packet = vec![0; ip.buffer_len()];
    ip.emit(&mut packet[..], &checksums);
    let mut inside = UdpPacket::new_unchecked(packet.get_mut(ip.header_len()..)?);
    udp.emit(&mut inside, &to, &from, reply.len(), |buffer| buffer.copy_from_slice(&reply), &checksums);
    Some(packet)
}

fn reply(query: &[u8], names: &[String], addresses: &[IpAddr]) -> Option<Vec<u8>> {
    let header: &[u8; 12] = query.first_chunk()?;
    let [id_high, id_low, flags, _, q_high, q_low, ..] = *header;
    // A response, or not exactly one question.
    if flags & 0x80 != 0 || (q_high, q_low) != (0, 1) {
        return None;
    }
    let (name, length) = name(query.get(12..)?)?;
    let end = length.checked_add(16)?;
    let question = query.get(12..end)?;
    let [.., t_high, t_low, c_high, c_low] = *question else { return None };
    let (kind, class) = (u16::from_be_bytes([t_high, t_low]), u16::from_be_bytes([c_high, c_low]));
    let ours = class == INTERNET && names.iter().any(|own| own.trim_end_matches('.').eq_ignore_ascii_case(&name));
    let code = match (flags >> 3 & 15, ours) {
        (0, true) => 0,
        (0, false) => REFUSED,
        _ => NOT_IMPLEMENTED,
    };
    let wanted = |address: &&IpAddr| kind == if address.is_ipv4() { A } else { AAAA };
    let found: Vec<&IpAddr> = if code == 0 { addresses.iter().filter(wanted).collect() } else { Vec::new() };
    // QR and AA, and RD as it was asked.
    let reply_flags = 0x8400 | u16::from(flags & 1) << 8 | code;
    let mut reply = vec![id_high, id_low];
    for number in [reply_flags, 1, u16::try_from(found.len()).ok()?, 0, 0] {
        reply.extend_from_slice(&number.to_be_bytes());
    }
    reply.extend_from_slice(question);
    for address in found {
        // The name is the question's.
        reply.extend_from_slice(&[0xc0, 12]);
        reply.extend_from_slice(&kind.to_be_bytes());
        reply.extend_from_slice(&INTERNET.to_be_bytes());
        reply.extend_from_slice(&TTL.to_be_bytes());
        match address {
            IpAddr::V4(address) => {
                reply.extend_from_slice(&[0, 4]);
                reply.extend_from_slice(&address.octets());
            }
            IpAddr::V6(address) => {
                reply.extend_from_slice(&[0, 16]);
                reply.extend_from_slice(&address.octets());
            }
        }
    }
    Some(reply)
}

/// A name without compression, with dots between its labels, and how long it is on the wire.
fn name(bytes: &[u8]) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = 0_usize;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at = at.checked_add(1)?;
        if length == 0 {
            return (at <= 255).then_some((name, at));
        }
        if length > 63 || at > 255 {
            return None;
        }
        let end = at.checked_add(length)?;
        if !name.is_empty() {
            name.push('.');
        }
        // Bytes beyond ASCII, and dots within a label, make it a name that is nobody's.
        name.extend(bytes.get(at..end)?.iter().map(|byte| if *byte == b'.' { '\0' } else { char::from(*byte) }));
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn query(name: &str, kind: u16, flags: u8) -> Vec<u8> {
        let mut query = vec![0x12, 0x34, flags, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(label.len() as u8);
            query.extend_from_slice(label.as_bytes());
        }
        query.push(0);
        query.extend_from_slice(&kind.to_be_bytes());
        query.extend_from_slice(&[0, 1]);
        query
    }

    fn ask(query: &[u8]) -> Option<Vec<u8>> {
        let addresses = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        reply(query, &["gw.sekisho.example".to_owned()], &addresses)
    }

    #[test]
    fn own_names_have_addresses_and_others_are_refused() {
        let v4 = ask(&query("GW.sekisho.example", A, 1)).unwrap();
        assert_eq!(v4[..8], [0x12, 0x34, 0x85, 0, 0, 1, 0, 1]);
        assert_eq!(v4[v4.len() - 4..], [10, 0, 0, 1]);
        let v6 = ask(&query("gw.sekisho.example", AAAA, 0)).unwrap();
        assert_eq!((v6[2], v6[v6.len() - 16]), (0x84, 0xfd));
        let text = ask(&query("gw.sekisho.example", 16, 0)).unwrap();
        assert_eq!((text[3], text[7]), (0, 0), "no such record, but such a name");
        for other in ["sekisho.example", "a.gw.sekisho.example", "example", "gw\0sekisho.example"] {
            let refused = ask(&query(other, A, 1)).unwrap();
            assert_eq!((refused[3], refused[7]), (5, 0), "{other}");
        }
        assert_eq!(ask(&query("gw.sekisho.example", A, 0x10)).unwrap()[3], 4, "another operation");
        assert_eq!(ask(&query("gw.sekisho.example", A, 0x80)), None, "a response");
        let mut compressed = query("gw.sekisho.example", A, 0);
        compressed[12] = 0xc0;
        assert_eq!(ask(&compressed), None);
    }

    proptest! {
        /// Any bytes have an answer or none, and no answer is longer than DNS over UDP allows (RFC 1035 2.3.4).
        #[test]
        fn any_bytes(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(flags) = bytes.get_mut(2) {
                *flags &= 0x7f;
            }
            for (byte, value) in bytes.iter_mut().skip(4).zip([0, 1]) {
                *byte = value;
            }
            if let Some(reply) = ask(&bytes) {
                prop_assert!(reply.len() <= 512);
            }
        }
    }
}
