//! Answers of our own: negative acknowledgements (HL7 v2.5.1 chapter 2.9).

use super::message::{Message, Text};
use super::question::Refusal;

/// An acknowledgement that says no, as a payload: the message's own separators and character set, its sender as receiver.
///
/// `time_ns`: nanoseconds since 1970 in UTC. `count` tells answers of one connection apart.
pub(crate) fn refusal(message: &Message<'_>, refused: Refusal, time_ns: i64, count: u32) -> Vec<u8> {
    let s = message.separators;
    let raw = |number: usize| message.header(number).unwrap_or_default();
    let version = raw(12).split(s.component).next().unwrap_or_default();
    let trigger = raw(9).split(s.component).nth(1).unwrap_or_default();
    let enhanced = raw(15).bytes == b"AL";
    let code: &[u8] = match (refused.is_error(), enhanced) {
        (true, false) => b"AE",
        (false, false) => b"AR",
        (true, true) => b"CE",
        (false, true) => b"CR",
    };
    let mut out = b"MSH".to_vec();
    out.extend_from_slice(&[s.field, s.component, s.repetition, s.escape, s.subcomponent]);
    let mut put = |parts: &[&[u8]]| {
        out.push(s.field);
        parts.iter().for_each(|part| out.extend_from_slice(part));
    };
    for number in [5, 6, 3, 4] {
        put(&[raw(number).bytes]);
    }
    put(&[stamp(time_ns).as_bytes()]);
    put(&[]);
    // The structure came with v2.3.1; to v2.3 it is one component too many, which is ignored.
    let structure: &[&[u8]] = if before(version, 3) { &[] } else { &[&[s.component], b"ACK"] };
    put(&[&[b"ACK", &[s.component][..], trigger.bytes], structure].concat());
    put(&[format!("{}-{count}", time_ns.div_euclid(1_000_000)).as_bytes()]);
    put(&[raw(11).bytes]);
    put(&[raw(12).bytes]);
    if !raw(18).bytes.is_empty() {
        (13..18).for_each(|_| put(&[]));
        put(&[raw(18).bytes]);
    }
    out.extend_from_slice(b"\rMSA");
    for part in [code, raw(10).bytes, refused.text().as_bytes()] {
        out.push(s.field);
        out.extend_from_slice(part);
    }
    if !before(version, 5) {
        // ERR-3 code of table 0357, ERR-4 severity, ERR-8 what the user is told.
        let (number, name) = refused.code();
        out.extend_from_slice(b"\rERR");
        let code = [number.as_bytes(), &[s.component], name.as_bytes(), &[s.component], b"HL70357"].concat();
        for part in [&b""[..], b"", &code, b"E", b"", b"", b"", refused.text().as_bytes()] {
            out.push(s.field);
            out.extend_from_slice(part);
        }
    }
    out.push(b'\r');
    out
}

/// Whether the version is before `2.minor`; none at all counts as such.
fn before(version: Text<'_>, minor: u8) -> bool {
    let minor_of = |bytes: &[u8]| match bytes {
        [b'2', b'.', digit, ..] if digit.is_ascii_digit() => Some(digit - b'0'),
        _ => None,
    };
    minor_of(version.bytes).is_none_or(|found| found < minor)
}

impl Refusal {
    const fn is_error(self) -> bool {
        matches!(self, Self::Malformed(_))
    }

    const fn text(self) -> &'static str {
        match self {
            Self::NotAuthorized => "not authorized",
            Self::Facility => "sending facility not recognized",
            Self::UnknownType => "message type not supported",
            Self::Acknowledgement => "acknowledgement mode not supported",
            Self::Unavailable => "temporarily not available",
            Self::Malformed(_) => "message cannot be read",
        }
    }

    const fn code(self) -> (&'static str, &'static str) {
        match self {
            Self::UnknownType => ("200", "Unsupported message type"),
            Self::Malformed(_) => ("102", "Data type error"),
            Self::Facility => ("103", "Table value not found"),
            Self::NotAuthorized | Self::Acknowledgement | Self::Unavailable => ("207", "Application internal error"),
        }
    }
}

/// A time as HL7 writes it, in UTC.
fn stamp(time_ns: i64) -> String {
    let seconds = time_ns.div_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Howard Hinnant's civil_from_days: years begin in March, eras have 400 of them.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let part = (5 * of_year + 2) / 153;
    let date = of_year - (153 * part + 2) / 5 + 1;
    let month = if part < 10 { part + 3 } else { part - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{date:02}{hour:02}{minute:02}{second:02}+0000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_echoes_the_header_and_speaks_the_version() {
        let payload = b"MSH|^~\\&|LIS|SAKURA|EHR|DC|20261123||ADT^A08^ADT_A01|42|P|2.5.1||||||UNICODE UTF-8\rPID|||1";
        let message = Message::read(payload, false).unwrap();
        let answer = refusal(&message, Refusal::NotAuthorized, 1_775_005_200_000_000_000, 7);
        assert_eq!(
            String::from_utf8(answer.clone()).unwrap(),
            "MSH|^~\\&|EHR|DC|LIS|SAKURA|20260401010000+0000||ACK^A08^ACK|1775005200000-7|P|2.5.1||||||UNICODE UTF-8\r\
             MSA|AR|42|not authorized\rERR|||207^Application internal error^HL70357|E||||not authorized\r"
        );
        assert!(Message::read(&answer, false).is_ok());
        let old = b"MSH|^~\\&|LIS|SAKURA|EHR|DC|20261123||ORU^R01|42|P|2.3|||AL|NE";
        let message = Message::read(old, false).unwrap();
        let answer = refusal(&message, Refusal::UnknownType, 0, 1);
        assert_eq!(
            String::from_utf8(answer).unwrap(),
            "MSH|^~\\&|EHR|DC|LIS|SAKURA|19700101000000+0000||ACK^R01^ACK|0-1|P|2.3\rMSA|CR|42|message type not supported\r"
        );
    }

    #[test]
    fn times_are_civil() {
        assert_eq!(stamp(951_782_400_000_000_000), "20000229000000+0000");
        assert_eq!(stamp(4_102_444_799_000_000_000), "20991231235959+0000");
    }
}
