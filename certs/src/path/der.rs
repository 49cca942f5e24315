//! Strict DER (X.690 10): definite lengths in their shortest form, and nothing left over. Slices of the input are
//! handed out, so that what was signed is what is read.

use super::Malformed;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const ENUMERATED: u8 = 0x0a;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// A context-specific primitive tag.
pub(crate) const fn context(number: u8) -> u8 {
    0x80 | number
}

/// A context-specific constructed tag.
pub(crate) const fn constructed(number: u8) -> u8 {
    0xa0 | number
}

/// One element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tlv<'a> {
    pub(crate) tag: u8,
    pub(crate) value: &'a [u8],
    /// Tag, length and value.
    pub(crate) whole: &'a [u8],
}

/// Reads one element after another. It never looks into a value, so depth costs the caller's calls, not its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element, whatever it is.
    pub(crate) fn any(&mut self) -> Result<Tlv<'a>, Malformed> {
        let start = self.rest;
        let (&tag, rest) = start.split_first().ok_or(Malformed("an element is missing"))?;
        if tag & 0x1f == 0x1f {
            return Err(Malformed("a tag number is above 30"));
        }
        let (&first, mut rest) = rest.split_first().ok_or(Malformed("a length is missing"))?;
        let length = if first < 0x80 {
            usize::from(first)
        } else {
            let count = usize::from(first & 0x7f);
            if !(1..=4).contains(&count) {
                return Err(Malformed("a length is indefinite or absurd"));
            }
            let (digits, after) = rest.split_at_checked(count).ok_or(Malformed("a length is cut off"))?;
            rest = after;
            let length = digits.iter().fold(0_usize, |sum, digit| (sum << 8) | usize::from(*digit));
            if length < 0x80 || digits.first() == Some(&0) {
                return Err(Malformed("a length is not in its shortest form"));
            }
            length
        };
        let (value, after) = rest.split_at_checked(length).ok_or(Malformed("an element is cut off"))?;
        let (whole, _) = start.split_at_checked(start.len() - after.len()).unwrap_or((start, &[]));
        self.rest = after;
        Ok(Tlv { tag, value, whole })
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element with this tag.
    pub(crate) fn element(&mut self, tag: u8) -> Result<Tlv<'a>, Malformed> {
        match self.any()? {
            found if found.tag == tag => Ok(found),
            _ => Err(Malformed("an element has another type than it must")),
        }
    }

    /// The value of the next element.
    pub(crate) fn value(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        Ok(self.element(tag)?.value)
    }

    /// The value of the next element, if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Malformed> {
        if self.peek() == Some(tag) { self.value(tag).map(Some) } else { Ok(None) }
    }

    /// A reader inside the next element.
    pub(crate) fn inside(&mut self, tag: u8) -> Result<Self, Malformed> {
        self.value(tag).map(Self::new)
    }

    /// `BOOLEAN DEFAULT FALSE`: absent, or TRUE. DER does not write a default.
    pub(crate) fn default_false(&mut self, tag: u8) -> Result<bool, Malformed> {
        match self.optional(tag)? {
            None => Ok(false),
            Some([0xff]) => Ok(true),
            Some(_) => Err(Malformed("a boolean is not DER's TRUE")),
        }
    }

    /// An OBJECT IDENTIFIER's content.
    pub(crate) fn oid(&mut self) -> Result<&'a [u8], Malformed> {
        let oid = self.value(OID)?;
        check_oid(oid)?;
        Ok(oid)
    }

    /// Nothing may be left.
    pub(crate) const fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed("bytes are left over")) }
    }
}

/// The one element that `bytes` are.
pub(crate) fn only(bytes: &[u8], tag: u8) -> Result<Reader<'_>, Malformed> {
    let mut reader = Reader::new(bytes);
    let inside = reader.inside(tag)?;
    reader.end()?;
    Ok(inside)
}

/// An OID's content: arcs in base 128 without leading zeros (X.690 8.19).
pub(crate) fn check_oid(oid: &[u8]) -> Result<(), Malformed> {
    let mut start = true;
    for &byte in oid {
        if start && byte == 0x80 {
            return Err(Malformed("an object identifier has a leading zero"));
        }
        start = byte & 0x80 == 0;
    }
    if oid.is_empty() || !start { Err(Malformed("an object identifier is cut off")) } else { Ok(()) }
}

/// An INTEGER's content: not empty, and in its shortest form.
pub(crate) fn check_integer(value: &[u8]) -> Result<(), Malformed> {
    match value {
        [] => Err(Malformed("an integer is empty")),
        [0, next, ..] if next & 0x80 == 0 => Err(Malformed("an integer is not in its shortest form")),
        [0xff, next, ..] if next & 0x80 != 0 => Err(Malformed("an integer is not in its shortest form")),
        _ => Ok(()),
    }
}

/// A small non-negative INTEGER's content. One too large to matter saturates.
pub(crate) fn small(value: &[u8]) -> Result<u32, Malformed> {
    check_integer(value)?;
    if value.first().is_some_and(|first| first & 0x80 != 0) {
        return Err(Malformed("an integer is negative"));
    }
    if value.len() > 5 {
        return Ok(u32::MAX);
    }
    let wide = value.iter().fold(0_u64, |sum, digit| (sum << 8) | u64::from(*digit));
    Ok(u32::try_from(wide).unwrap_or(u32::MAX))
}

/// A BIT STRING's content of whole octets.
pub(crate) fn octets(value: &[u8]) -> Result<&[u8], Malformed> {
    match value.split_first() {
        Some((0, octets)) => Ok(octets),
        _ => Err(Malformed("a bit string does not end with an octet")),
    }
}

/// A BIT STRING's content with named bits: bit 0 is the highest of the result. DER leaves out trailing zeros.
pub(crate) fn named_bits(value: &[u8]) -> Result<u16, Malformed> {
    let (bits, unused) = match value {
        [0] => return Ok(0),
        [unused @ 0..8, high] => (u16::from(*high) << 8, *unused),
        [unused @ 0..8, high, low] => ((u16::from(*high) << 8) | u16::from(*low), *unused),
        _ => return Err(Malformed("named bits are too many or cut off")),
    };
    // INVARIANT: there is a last octet, since the value has at least two.
    let last = value.last().copied().unwrap_or_default();
    if u32::from(unused) == last.trailing_zeros() { Ok(bits) } else { Err(Malformed("named bits have trailing zeros")) }
}

/// A `Time`, in seconds since 1970 (RFC 5280 4.1.2.5): UTC, with seconds, without fractions.
pub(crate) fn time(tlv: Tlv<'_>) -> Result<i64, Malformed> {
    const BAD: Malformed = Malformed("a time cannot be read");
    let text = tlv.value.strip_suffix(b"Z").ok_or(BAD)?;
    let two = |at: usize| match text.get(at..at + 2) {
        Some([tens @ b'0'..=b'9', ones @ b'0'..=b'9']) => Ok(i64::from(tens - b'0') * 10 + i64::from(ones - b'0')),
        _ => Err(BAD),
    };
    let (year, rest) = match (tlv.tag, text.len()) {
        (UTC_TIME, 12) => match two(0)? {
            year @ 0..50 => (2000 + year, 2),
            year => (1900 + year, 2),
        },
        (GENERALIZED_TIME, 14) => (two(0)? * 100 + two(2)?, 4),
        _ => return Err(BAD),
    };
    let (month, day) = (two(rest)?, two(rest + 2)?);
    let (hour, minute, second) = (two(rest + 4)?, two(rest + 6)?, two(rest + 8)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return Err(BAD),
    };
    if !(1..=days).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return Err(BAD);
    }
    // Days from the civil calendar; years begin in March, so that the leap day comes last.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Ok(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tag: u8, text: &str) -> Result<i64, Malformed> {
        time(Tlv { tag, value: text.as_bytes(), whole: &[] })
    }

    #[test]
    fn lengths_have_one_form() {
        let read = |bytes: &'static [u8]| Reader::new(bytes).any().map(|tlv| tlv.value.len());
        assert_eq!(read(&[0x04, 0x01, 0x00]), Ok(1));
        for bad in [
            &[0x04][..],
            &[0x04, 0x80, 0, 0],
            &[0x04, 0x81, 0x01, 0],
            &[0x04, 0x82, 0x00, 0x80],
            &[0x04, 0x02, 0],
            &[0x1f, 0x01, 0],
            &[0x04, 0x85, 1, 1, 1, 1, 1],
            &[0x04, 0x84, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert!(Reader::new(bad).any().is_err(), "{bad:02x?}");
        }
    }

    #[test]
    fn times_are_utc_seconds() {
        assert_eq!(at(UTC_TIME, "700101000000Z"), Ok(0));
        assert_eq!(at(UTC_TIME, "491231235959Z"), Ok(2_524_607_999));
        assert_eq!(at(UTC_TIME, "500101000000Z"), Ok(-631_152_000));
        assert_eq!(at(GENERALIZED_TIME, "20260101000000Z"), Ok(1_767_225_600));
        assert_eq!(at(GENERALIZED_TIME, "20000229120000Z"), Ok(951_825_600));
        assert_eq!(at(GENERALIZED_TIME, "99991231235959Z"), Ok(253_402_300_799));
        for bad in ["20260229000000Z", "19000229000000Z", "20261301000000Z", "20260101240000Z", "20260101000060Z"] {
            assert!(at(GENERALIZED_TIME, bad).is_err(), "{bad}");
        }
        for bad in ["", "Z", "260101000000", "2601010000Z", "260101000000+0900", "26010100000aZ", "2601010000000Z"] {
            assert!(at(UTC_TIME, bad).is_err(), "{bad}");
        }
        assert!(at(GENERALIZED_TIME, "20260101000000.5Z").is_err());
    }

    #[test]
    fn small_things_have_one_form() {
        assert_eq!(small(&[0x00]), Ok(0));
        assert_eq!(small(&[0x00, 0x80]), Ok(128));
        assert_eq!(small(&[0x7f; 9]), Ok(u32::MAX));
        assert!(small(&[0x80]).is_err() && small(&[0, 1]).is_err() && small(&[]).is_err());
        assert_eq!(named_bits(&[7, 0x80]), Ok(0x8000));
        assert_eq!(named_bits(&[1, 0x06]), Ok(0x0600));
        assert!(named_bits(&[0, 0x06]).is_err() && named_bits(&[8, 0]).is_err() && named_bits(&[]).is_err());
        assert!(check_oid(&[0x55, 0x80, 0x01]).is_err() && check_oid(&[0x81]).is_err() && check_oid(&[]).is_err());
    }
}
