//! The four messages of WireGuard, as far as they are read before any key is used (white paper, 5.4).

/// Length of a handshake initiation, in bytes.
pub(crate) const INITIATION: usize = 148;
/// Length of a handshake response, in bytes.
pub(crate) const RESPONSE: usize = 92;
/// Length of a cookie reply, in bytes.
pub(crate) const COOKIE: usize = 64;
/// What a transport message adds to a packet: header and tag, in bytes.
pub(crate) const OVERHEAD: usize = 32;
/// From this counter on no message may be sent or taken: 2^64 - 2^13 - 1 (white paper, 6.1).
pub(crate) const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

/// A datagram by its outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// Somebody wants a session.
    Initiation {
        /// Their index for it.
        sender: u32,
    },
    /// The answer to an initiation of ours.
    Response {
        /// Our index, of the initiation.
        receiver: u32,
    },
    /// An initiation of ours came while they were under load.
    Cookie {
        /// Our index, of the initiation.
        receiver: u32,
    },
    /// A packet inside a session.
    Data {
        /// Our index of the session.
        receiver: u32,
        /// The number of the message in its session.
        counter: u64,
    },
}

impl Message {
    /// What a datagram claims to be, or `None`. Type and reserved bytes are one little-endian number.
    pub(crate) fn parse(datagram: &[u8]) -> Option<Self> {
        match (word(datagram, 0)?, datagram.len()) {
            (1, INITIATION) => Some(Self::Initiation { sender: word(datagram, 4)? }),
            (2, RESPONSE) => Some(Self::Response { receiver: word(datagram, 8)? }),
            (3, COOKIE) => Some(Self::Cookie { receiver: word(datagram, 4)? }),
            (4, OVERHEAD..) => {
                let counter = u64::from_le_bytes(datagram.get(8..16)?.try_into().ok()?);
                Some(Self::Data { receiver: word(datagram, 4)?, counter })
            }
            _ => None,
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_reserved_bytes_and_length_must_fit() {
        let mut bytes = [0_u8; INITIATION];
        bytes[0] = 1;
        bytes[4] = 9;
        assert_eq!(Message::parse(&bytes), Some(Message::Initiation { sender: 9 }));
        assert_eq!(Message::parse(&bytes[..INITIATION - 1]), None);
        bytes[2] = 1;
        assert_eq!(Message::parse(&bytes), None, "reserved bytes are zero");
        assert_eq!(Message::parse(&[]), None);
        assert_eq!(Message::parse(&[4, 0, 0, 0]), None);
        let mut data = [0_u8; OVERHEAD];
        data[0] = 4;
        data[8] = 3;
        assert_eq!(Message::parse(&data), Some(Message::Data { receiver: 0, counter: 3 }));
    }
}
