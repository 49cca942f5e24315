//! NTP as a client that only looks (RFC 5905, RFC 4330): one question, one answer, and what the answer says of our
//! clock.
//!
//! The codec is our own: it is 48 bytes, and clients' libraries keep to themselves what a bound of the error is made of
//! (root delay, root dispersion), or cannot prove who answered (RFC 8573).

use aws_lc_rs::cmac;

/// Bytes of a packet without a code.
pub(super) const PACKET: usize = 48;
/// Bytes of a key's number and code behind it (RFC 8573: AES-CMAC).
const CODE: usize = 4 + 16;
/// From 1900, where NTP counts from, to 1970, in seconds.
const EPOCH: i128 = 2_208_988_800;
/// An era of NTP: its seconds have 32 bits.
const ERA_NS: i128 = (1 << 32) * SECOND;
const SECOND: i128 = 1_000_000_000;
/// Farther from its reference than this a server is no use (RFC 5905, MAXDISP).
const MAX_DISTANCE_NS: u64 = 16_000_000_000;

/// A leap second at the end of the month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leap {
    /// The last minute has 61 seconds.
    Insert,
    /// The last minute has 59 seconds.
    Delete,
}

impl Leap {
    /// How far wall time jumps against monotonic time.
    #[must_use]
    pub const fn change_ns(self) -> i64 {
        match self {
            Self::Insert => -1_000_000_000,
            Self::Delete => 1_000_000_000,
        }
    }
}

/// A key that a server shares with us: AES-CMAC (RFC 8573).
#[derive(Debug, Clone)]
pub(super) struct Key {
    id: u32,
    key: cmac::Key,
}

/// Why a line is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not number, type and `HEX:` digits.
    #[error("it is not one line of the form `<number> AES128 HEX:<32 digits>` or `<number> AES256 HEX:<64 digits>`")]
    Form,
    /// MD5 and the like, which no list takes any more, or a name that nobody knows.
    #[error("the key's type is neither `AES128` nor `AES256`")]
    Type,
    /// Too few or too many digits for its type.
    #[error("the key is not as long as its type wants")]
    Length,
}

impl Key {
    /// Reads a line of chrony's key file.
    ///
    /// # Errors
    /// [`KeyError`] if it is none.
    pub(super) fn parse(line: &str) -> Result<Self, KeyError> {
        let mut words = line.split_ascii_whitespace();
        let (Some(id), Some(kind), Some(digits), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(KeyError::Form);
        };
        let id = id.parse().map_err(|_| KeyError::Form)?;
        let (algorithm, length) = match kind {
            "AES128" => (cmac::AES_128, 16),
            "AES256" => (cmac::AES_256, 32),
            _ => return Err(KeyError::Type),
        };
        let digits = digits.strip_prefix("HEX:").ok_or(KeyError::Form)?;
        let secret = certs::unhex(digits).ok_or(KeyError::Form)?;
        if secret.len() != length {
            return Err(KeyError::Length);
        }
        let key = cmac::Key::new(algorithm, &secret).map_err(|_| KeyError::Length)?;
        Ok(Self { id, key })
    }
}

/// A question. `cookie` is random: only who saw the question can answer it.
#[must_use]
pub(super) fn request(cookie: u64, key: Option<&Key>) -> Vec<u8> {
    let mut packet = vec![0; PACKET - 8];
    if let Some(first) = packet.first_mut() {
        // Version 4, mode 3: client.
        *first = 0x23;
    }
    // The transmit timestamp comes back as the origin; that it is no time tells a listener nothing of our clock
    // (draft-ietf-ntp-data-minimization).
    packet.extend_from_slice(&cookie.to_be_bytes());
    if let Some(Key { id, key }) = key
        && let Ok(code) = cmac::sign(key, &packet)
    {
        packet.extend_from_slice(&id.to_be_bytes());
        packet.extend_from_slice(code.as_ref());
    }
    packet
}

/// Why a datagram is no answer, or one that says nothing of our clock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NtpError {
    /// Too short, or not a server's.
    #[error("it is no answer of an NTP server")]
    Form,
    /// It answers another question.
    #[error("it does not answer our question")]
    Origin,
    /// The code is missing or wrong.
    #[error("its code is missing or wrong: somebody else answered, or the key is another")]
    Code,
    /// The server wants to be left alone (kiss-o'-death).
    #[error("the server refuses: `{0}`")]
    Refused(String),
    /// The server itself does not know the time.
    #[error("the server is not synchronised")]
    Unsynchronised,
    /// It left before it came.
    #[error("its times contradict each other")]
    Times,
}

/// What a server answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) stratum: u8,
    pub(super) leap: Option<Leap>,
    /// How far the server itself may be off: half its root delay, and its root dispersion.
    distance_ns: u64,
    received: u64,
    transmitted: u64,
}

/// When a question went out and its answer came in, by our clock. The two differ by monotonic time, so that a step in
/// between does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) sent_unix_ns: i64,
    pub(super) took_ns: u64,
}

/// What a server says of our clock: UTC is `offset_ns` ahead of it, give or take `error_ns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measured {
    /// UTC less our clock.
    pub(super) offset_ns: i64,
    /// The bound of that.
    pub(super) error_ns: u64,
}

impl Answer {
    /// Reads a datagram that came in answer to [`request`]`(cookie, key)`.
    pub(super) fn read(datagram: &[u8], cookie: u64, key: Option<&Key>) -> Result<Self, NtpError> {
        let (packet, rest) = datagram.split_first_chunk::<PACKET>().ok_or(NtpError::Form)?;
        let field = |at: usize| u32::from_be_bytes(four(packet, at));
        let stamp = |at: usize| u64::from(field(at)) << 32 | u64::from(field(at + 4));
        let [first, stratum, ..] = *packet;
        if first & 0x07 != 4 || !(3..=4).contains(&(first >> 3 & 0x07)) {
            return Err(NtpError::Form);
        }
        if stamp(24) != cookie {
            return Err(NtpError::Origin);
        }
        if let Some(Key { id, key }) = key {
            let (number, code) = rest.split_first_chunk::<4>().ok_or(NtpError::Code)?;
            if rest.len() != CODE || u32::from_be_bytes(*number) != *id || cmac::verify(key, packet, code).is_err() {
                return Err(NtpError::Code);
            }
        }
        if stratum == 0 {
            let code: String = four(packet, 12).iter().map(|byte| char::from(*byte)).collect();
            return Err(NtpError::Refused(code.escape_default().to_string()));
        }
        let leap = match first >> 6 {
            0 => None,
            1 => Some(Leap::Insert),
            2 => Some(Leap::Delete),
            _ => return Err(NtpError::Unsynchronised),
        };
        // Signed in RFC 5905; a negative one would make the server better than its reference.
        let distance_ns = short_ns(field(4).min(i32::MAX.unsigned_abs())) / 2 + short_ns(field(8));
        if stratum > 15 || distance_ns >= MAX_DISTANCE_NS || stamp(40) == 0 {
            return Err(NtpError::Unsynchronised);
        }
        Ok(Self { stratum, leap, distance_ns, received: stamp(32), transmitted: stamp(40) })
    }

    /// What it says of the clock that read the flight's times: RFC 5905 section 8, with the round trip as the error, since
    /// nobody knows which way took longer.
    pub(super) fn measure(&self, flight: Flight) -> Result<Measured, NtpError> {
        let sent = i128::from(flight.sent_unix_ns);
        let arrived = sent + i128::from(flight.took_ns);
        let received = unix_ns(self.received, sent);
        let transmitted = unix_ns(self.transmitted, sent);
        let held = transmitted - received;
        let delay = i128::from(flight.took_ns) - held;
        // A server's clock may be slewed while it holds the question, and its stamps are rounded.
        if held < 0 || delay < -SECOND / 1_000 {
            return Err(NtpError::Times);
        }
        let offset = ((received - sent) + (transmitted - arrived)) / 2;
        let error = u64::try_from(delay.max(0)).unwrap_or(u64::MAX).div_ceil(2);
        Ok(Measured {
            offset_ns: i64::try_from(offset).map_err(|_| NtpError::Times)?,
            error_ns: error.saturating_add(self.distance_ns),
        })
    }
}

fn four(packet: &[u8; PACKET], at: usize) -> [u8; 4] {
    packet.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default()
}

/// NTP's short format: 16 bits of seconds and 16 of their fraction.
fn short_ns(value: u32) -> u64 {
    (u64::from(value) * 1_000_000_000) >> 16
}

/// A timestamp in the era that is nearest to `near`, nanoseconds since 1970 (RFC 5905 section 6).
fn unix_ns(stamp: u64, near: i128) -> i128 {
    let seconds = i128::from(stamp >> 32) - EPOCH;
    let fraction = (i128::from(stamp & u64::from(u32::MAX)) * SECOND) >> 32;
    let first = seconds * SECOND + fraction;
    let eras = (near - first + ERA_NS / 2).div_euclid(ERA_NS);
    first + eras * ERA_NS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "7 AES128 HEX:000102030405060708090a0b0c0d0e0f";
    const NOW: i64 = 1_795_000_000_000_000_000;

    fn stamp(unix_ns: i64) -> u64 {
        let since = i128::from(unix_ns) + EPOCH * SECOND;
        let (seconds, rest) = (since.div_euclid(SECOND), since.rem_euclid(SECOND));
        u64::try_from(seconds & 0xffff_ffff).unwrap() << 32 | u64::try_from((rest << 32) / SECOND).unwrap()
    }

    /// Stratum 2, root delay 10 ms, root dispersion 5 ms.
    fn answer(cookie: u64, received: i64, transmitted: i64) -> Vec<u8> {
        let mut packet = vec![0x24, 2, 6, 0xec];
        packet.extend_from_slice(&655_u32.to_be_bytes());
        packet.extend_from_slice(&328_u32.to_be_bytes());
        packet.extend_from_slice(b"\xc0\0\x02\x01");
        packet.extend_from_slice(&[0; 8]);
        packet.extend_from_slice(&cookie.to_be_bytes());
        packet.extend_from_slice(&stamp(received).to_be_bytes());
        packet.extend_from_slice(&stamp(transmitted).to_be_bytes());
        packet
    }

    #[test]
    fn a_request_is_a_client_packet_that_tells_nothing() {
        let packet = request(0x0102_0304_0506_0708, None);
        assert_eq!(packet.len(), PACKET);
        assert_eq!((packet[0], &packet[40..]), (0x23, &[1, 2, 3, 4, 5, 6, 7, 8][..]));
        assert!(packet[1..40].iter().all(|byte| *byte == 0));
        let key = Key::parse(KEY).unwrap();
        let keyed = request(9, Some(&key));
        assert_eq!((keyed.len(), &keyed[48..52]), (PACKET + CODE, &[0, 0, 0, 7][..]));
    }

    /// The server is 250 ms ahead; the way there takes 30 ms, the way back 10, so that the offset is wrong by 10, which
    /// is within half the round trip.
    #[test]
    fn an_answer_says_how_far_off_we_are() {
        let ms = 1_000_000;
        let packet = answer(5, NOW + 280 * ms, NOW + 281 * ms);
        let read = Answer::read(&packet, 5, None).unwrap();
        assert_eq!((read.stratum, read.leap), (2, None));
        let measured = read.measure(Flight { sent_unix_ns: NOW, took_ns: 41 * 1_000_000 }).unwrap();
        let near = |value: i64, wanted: i64| (value - wanted).abs() < 100_000;
        assert!(near(measured.offset_ns, 260 * ms), "{measured:?}");
        assert!(near(i64::try_from(measured.error_ns).unwrap(), (20 + 5 + 5) * ms), "{measured:?}");
    }

    #[test]
    fn what_is_no_answer_to_our_question_has_a_reason() {
        let good = answer(5, NOW, NOW + 1);
        let with = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] = byte;
            Answer::read(&bad, 5, None).unwrap_err()
        };
        assert!(Answer::read(&good, 5, None).is_ok());
        assert_eq!(Answer::read(&good[..47], 5, None), Err(NtpError::Form));
        assert_eq!(with(0, 0x23), NtpError::Form);
        assert_eq!(with(0, 0x0c), NtpError::Form);
        assert_eq!(with(0, 0xe4), NtpError::Unsynchronised);
        assert_eq!(with(1, 16), NtpError::Unsynchronised);
        assert_eq!(with(9, 16), NtpError::Unsynchronised);
        assert_eq!(with(31, 4), NtpError::Origin);
        let mut kiss = good.clone();
        kiss[1] = 0;
        kiss[12..16].copy_from_slice(b"RA\x1bE");
        assert_eq!(Answer::read(&kiss, 5, None), Err(NtpError::Refused("RA\\u{1b}E".into())));
        let backwards = Answer::read(&answer(5, NOW + 1_000, NOW), 5, None).unwrap();
        assert_eq!(backwards.measure(Flight { sent_unix_ns: NOW, took_ns: 10 }), Err(NtpError::Times));
        assert_eq!(Answer::read(&answer(5, NOW, NOW), 6, None), Err(NtpError::Origin));
    }

    #[test]
    fn with_a_key_only_who_has_it_is_believed() {
        let key = Key::parse(KEY).unwrap();
        let mut packet = answer(5, NOW, NOW);
        assert_eq!(Answer::read(&packet, 5, Some(&key)), Err(NtpError::Code));
        let code = cmac::sign(&key.key, &packet).unwrap();
        packet.extend_from_slice(&7_u32.to_be_bytes());
        packet.extend_from_slice(code.as_ref());
        assert!(Answer::read(&packet, 5, Some(&key)).is_ok());
        for at in 0..packet.len() {
            let mut bad = packet.clone();
            bad[at] ^= 1;
            assert!(Answer::read(&bad, 5, Some(&key)).is_err(), "{at}");
        }
        for (line, error) in [
            ("7 AES128", KeyError::Form),
            ("x AES128 HEX:00", KeyError::Form),
            ("7 MD5 HEX:00", KeyError::Type),
            ("7 AES128 HEX:0g", KeyError::Form),
            ("7 AES256 HEX:000102030405060708090a0b0c0d0e0f", KeyError::Length),
        ] {
            assert_eq!(Key::parse(line).unwrap_err(), error, "{line}");
        }
    }

    /// The first era ends on 7 February 2036.
    #[test]
    fn eras_follow_our_clock() {
        let end = 2_085_978_496_000_000_000_i64;
        for (near, at) in [(end - 5, end + 5), (end + 5, end - 5), (0, -5), (end + 9, end + 9)] {
            let near_second = |a: i128, b: i64| (a - i128::from(b)).abs() < 2;
            assert!(near_second(unix_ns(stamp(at), i128::from(near)), at), "{at}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_datagrams_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), took: u64, sent: i64) {
            if let Ok(answer) = Answer::read(&bytes, 0, None) {
                let _ = answer.measure(Flight { sent_unix_ns: sent, took_ns: took });
            }
        }

        /// Whatever the ways take, the true offset lies within the bound.
        #[test]
        fn the_truth_lies_within_the_bound(
            offset in -4_000_000_000_i64..4_000_000_000,
            there in 0_i64..2_000_000_000, held in 0_i64..50_000_000, back in 0_i64..2_000_000_000,
        ) {
            let received = NOW + there + offset;
            let packet = answer(5, received, received + held);
            let flight = Flight { sent_unix_ns: NOW, took_ns: u64::try_from(there + held + back).unwrap() };
            let measured = Answer::read(&packet, 5, None).unwrap().measure(flight).unwrap();
            prop_assert!((measured.offset_ns - offset).unsigned_abs() <= measured.error_ns);
        }
    }
}
