//! What chronyd says of the clock that it keeps: the `tracking` report of its monitoring protocol, version 6.
//!
//! The client is our own: it asks one question, and the library that there is has a licence that this program cannot
//! take.

use super::ntp::Leap;

/// Bytes of the question, which is padded to its answer's length so that nobody is flooded through chronyd.
pub(super) const REQUEST: usize = 104;
const VERSION: u8 = 6;
const TRACKING: u16 = 33;
const TRACKING_REPLY: u16 = 5;
/// Bytes of an answer before its report.
const HEADER: usize = 28;
/// What chronyd calls itself when it serves its own clock: `127.127.1.1`.
const LOCAL: u32 = 0x7f7f_0101;
/// Longer than this nobody need believe chronyd's own bound.
const LIMIT_NS: u64 = 16_000_000_000;

/// What chronyd says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tracking {
    /// UTC is within so many nanoseconds of the kernel's clock.
    Synchronised { error_ns: u64, leap: Option<Leap> },
    /// It follows nobody, or its own clock.
    Unsynchronised,
}

/// Why a datagram is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChronyError {
    /// Too short, or of another version or kind.
    #[error("it is no `tracking` report of chronyd, version 6")]
    Form,
    /// It answers another question.
    #[error("it does not answer our question")]
    Sequence,
    /// chronyd does not let us ask.
    #[error("chronyd refuses: status {0}")]
    Refused(u16),
}

/// The question; `sequence` is random.
#[must_use]
pub(super) fn request(sequence: u32) -> Vec<u8> {
    let mut packet = vec![VERSION, 1, 0, 0];
    packet.extend_from_slice(&TRACKING.to_be_bytes());
    packet.extend_from_slice(&0_u16.to_be_bytes());
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.resize(REQUEST, 0);
    packet
}

impl Tracking {
    /// Reads the datagram that came in answer to [`request`]`(sequence)`.
    pub(super) fn read(datagram: &[u8], sequence: u32) -> Result<Self, ChronyError> {
        let (header, report) = datagram.split_at_checked(HEADER).ok_or(ChronyError::Form)?;
        let short = |bytes: &[u8], at: usize| -> Result<u16, ChronyError> {
            let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(ChronyError::Form)?;
            Ok(u16::from_be_bytes(*bytes))
        };
        let word = |bytes: &[u8], at: usize| -> Result<u32, ChronyError> {
            let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(ChronyError::Form)?;
            Ok(u32::from_be_bytes(*bytes))
        };
        if !header.starts_with(&[VERSION, 2]) || short(header, 4)? != TRACKING {
            return Err(ChronyError::Form);
        }
        if word(header, 16)? != sequence {
            return Err(ChronyError::Sequence);
        }
        let status = short(header, 8)?;
        if status != 0 {
            return Err(ChronyError::Refused(status));
        }
        if short(header, 6)? != TRACKING_REPLY {
            return Err(ChronyError::Form);
        }
        // reference (4), address (20), stratum (2), leap (2), time (12), then nine numbers of 4 bytes.
        let reference = word(report, 0)?;
        let leap = match short(report, 26)? {
            0 => None,
            1 => Some(Leap::Insert),
            2 => Some(Leap::Delete),
            _ => return Ok(Self::Unsynchronised),
        };
        let correction = float(word(report, 40)?).abs();
        let root_delay = float(word(report, 64)?);
        let root_dispersion = float(word(report, 68)?);
        if reference == LOCAL || reference == 0 || root_delay < 0.0 || root_dispersion < 0.0 {
            return Ok(Self::Unsynchronised);
        }
        // chronyc(1): clock_error <= |system_time_offset| + root_dispersion + 0.5 * root_delay.
        let seconds = correction + root_dispersion + root_delay / 2.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within the limit, and not negative"
        )]
        let error_ns = (seconds * 1e9).min(1e18) as u64;
        if error_ns >= LIMIT_NS { Ok(Self::Unsynchronised) } else { Ok(Self::Synchronised { error_ns, leap }) }
    }
}

/// chrony's own floating-point format: a signed exponent of 7 bits, then a signed coefficient of 25.
fn float(bits: u32) -> f64 {
    let exponent = i32::from_ne_bytes(bits.to_ne_bytes()) >> 25;
    let coefficient = i32::from_ne_bytes((bits << 7).to_ne_bytes()) >> 7;
    f64::from(coefficient) * f64::from(exponent - 25).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits(value: f64) -> u32 {
        let mut exponent = 0;
        let mut coefficient = value;
        while coefficient.abs() >= f64::from(1 << 24) {
            coefficient /= 2.0;
            exponent += 1;
        }
        while coefficient != 0.0 && coefficient.abs() < f64::from(1 << 23) {
            coefficient *= 2.0;
            exponent -= 1;
        }
        #[expect(clippy::cast_possible_truncation)]
        let coefficient = coefficient as i32;
        let exponent: i32 = exponent + 25;
        (exponent << 25 | coefficient & 0x01ff_ffff).cast_unsigned()
    }

    fn reply(sequence: u32, reference: u32, leap: u16, numbers: [f64; 3]) -> Vec<u8> {
        let mut packet = vec![6, 2, 0, 0, 0, 33, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&[0; 8]);
        packet.extend_from_slice(&reference.to_be_bytes());
        packet.extend_from_slice(&[0; 20]);
        packet.extend_from_slice(&3_u16.to_be_bytes());
        packet.extend_from_slice(&leap.to_be_bytes());
        packet.extend_from_slice(&[0; 12]);
        let [correction, delay, dispersion] = numbers;
        for value in [correction, 0.0, 0.0, -20.5, 0.1, 0.2, delay, dispersion, 64.0] {
            packet.extend_from_slice(&bits(value).to_be_bytes());
        }
        packet
    }

    #[test]
    fn the_bound_is_chronys_own_formula() {
        let packet = reply(7, 0xc000_0201, 0, [-0.000_5, 0.020, 0.001]);
        let Ok(Tracking::Synchronised { error_ns, leap: None }) = Tracking::read(&packet, 7) else {
            panic!("{:?}", Tracking::read(&packet, 7))
        };
        assert!(error_ns.abs_diff(11_500_000) < 10, "{error_ns}");
        assert_eq!((packet.len(), request(7).len()), (REQUEST, REQUEST));
    }

    #[test]
    fn a_chronyd_that_follows_nobody_vouches_for_nothing() {
        let read = |reference, leap, numbers| Tracking::read(&reply(7, reference, leap, numbers), 7).unwrap();
        assert_eq!(read(LOCAL, 0, [0.0; 3]), Tracking::Unsynchronised);
        assert_eq!(read(0, 0, [0.0; 3]), Tracking::Unsynchronised);
        assert_eq!(read(9, 3, [0.0; 3]), Tracking::Unsynchronised);
        assert_eq!(read(9, 0, [0.0, 40.0, 0.0]), Tracking::Unsynchronised);
        let leaps = read(9, 1, [0.0; 3]);
        assert_eq!(leaps, Tracking::Synchronised { error_ns: 0, leap: Some(Leap::Insert) });
    }

    #[test]
    fn what_is_no_answer_has_a_reason() {
        let good = reply(7, 9, 0, [0.0; 3]);
        assert_eq!(Tracking::read(&good, 8), Err(ChronyError::Sequence));
        assert_eq!(Tracking::read(&good[..60], 7), Err(ChronyError::Form));
        let with = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] = byte;
            Tracking::read(&bad, 7).unwrap_err()
        };
        assert_eq!(with(0, 5), ChronyError::Form);
        assert_eq!(with(5, 34), ChronyError::Form);
        assert_eq!(with(7, 1), ChronyError::Form);
        assert_eq!(with(9, 2), ChronyError::Refused(2));
    }

    proptest! {
        #[test]
        fn numbers_come_back(value in -1e9_f64..1e9) {
            prop_assert!((float(bits(value)) - value).abs() <= value.abs() * 1e-6 + 1e-30);
        }

        #[test]
        fn arbitrary_datagrams_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..140)) {
            let _ = Tracking::read(&bytes, 0);
        }
    }
}
