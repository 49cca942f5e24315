//! A field section, line by line, before the library makes a map of it (RFC 9114 4.2 and 4.3, RFC 9204 4.5).
//!
//! What the library loses is looked at here: which pseudo-header fields there are, how often, and where. Names that are no
//! pseudo-header field's, and all values, are the library's to decode and to refuse. No dynamic table is offered, so that a
//! line that refers to one cannot be decoded by anybody.

use super::fault::{Fault, code};

const UNDECODABLE: Fault = Fault::connection(code::DECOMPRESSION_FAILED, "a field section cannot be decoded");
const PSEUDO_TWICE: Fault = Fault::stream(code::MESSAGE_ERROR, "a pseudo-header field is there twice");
const PSEUDO_LATE: Fault = Fault::stream(code::MESSAGE_ERROR, "a pseudo-header field comes after another field");
const PSEUDO_UNKNOWN: Fault = Fault::stream(code::MESSAGE_ERROR, "a pseudo-header field is not one of a request");
const PSEUDO_IN_TRAILERS: Fault = Fault::stream(code::MESSAGE_ERROR, "a trailer section has a pseudo-header field");

/// What a section is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// A request.
    Head,
    /// Its end.
    Trailers,
}

/// A pseudo-header field of requests, as bits.
const METHOD: u8 = 1;
const SCHEME: u8 = 2;
const AUTHORITY: u8 = 4;
const PATH: u8 = 8;

/// Those, by name as it is and by name in Huffman's code, which is the same each time (RFC 7541 5.2).
const NAMES: [(u8, &[u8], &[u8]); 4] = [
    (METHOD, b":method", b"\xb9\x49\x53\x39\xe4"),
    (PATH, b":path", b"\xb9\x58\xd3\x3f"),
    (SCHEME, b":scheme", b"\xb8\x82\x4e\x5a\x4b"),
    (AUTHORITY, b":authority", b"\xb8\x3b\x53\x39\xec\x32\x7d\x7f"),
];
/// The first seven bits of a coded name that begins with a colon.
const COLON: u8 = 0b1011_1000;
const COLON_BITS: u8 = 0b1111_1110;

/// A line's name, as far as it matters here.
enum Name {
    Pseudo(u8),
    Unknown,
    Other,
}

/// Entries of the static table (RFC 9204 appendix A).
const STATIC: u64 = 99;

fn of_static(index: u64) -> Result<Name, Fault> {
    Ok(match index {
        0 => Name::Pseudo(AUTHORITY),
        1 => Name::Pseudo(PATH),
        15..=21 => Name::Pseudo(METHOD),
        22 | 23 => Name::Pseudo(SCHEME),
        24..=28 | 63..=71 => Name::Unknown,
        STATIC.. => return Err(UNDECODABLE),
        _ => Name::Other,
    })
}

fn of_literal(name: &[u8], is_coded: bool) -> Name {
    let first = name.first().copied().unwrap_or_default();
    if !(is_coded && first & COLON_BITS == COLON || !is_coded && first == b':') {
        return Name::Other;
    }
    let known = NAMES.iter().find(|(_, plain, coded)| name == if is_coded { *coded } else { *plain });
    known.map_or(Name::Unknown, |(bit, _, _)| Name::Pseudo(*bit))
}

/// Bytes of a section that are still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn byte(&mut self) -> Result<u8, Fault> {
        let (first, rest) = self.0.split_first().ok_or(UNDECODABLE)?;
        self.0 = rest;
        Ok(*first)
    }

    /// An integer whose first byte has `bits` of it (RFC 9204 4.1.1).
    fn integer(&mut self, first: u8, bits: u8) -> Result<u64, Fault> {
        let most = u64::from(u8::MAX >> (8 - bits.min(8)));
        let mut value = u64::from(first) & most;
        if value < most {
            return Ok(value);
        }
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value = value.checked_add(u64::from(byte & 0x7f) << shift).ok_or(UNDECODABLE)?;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(UNDECODABLE)
    }

    /// A string whose length begins in `first` (RFC 9204 4.1.2).
    fn string(&mut self, first: u8, bits: u8) -> Result<&'a [u8], Fault> {
        let length = usize::try_from(self.integer(first, bits)?).map_err(|_| UNDECODABLE)?;
        let (string, rest) = self.0.split_at_checked(length).ok_or(UNDECODABLE)?;
        self.0 = rest;
        Ok(string)
    }

    fn value(&mut self) -> Result<(), Fault> {
        let first = self.byte()?;
        self.string(first, 7).map(drop)
    }

    /// The next line, its value skipped.
    fn line(&mut self) -> Result<Name, Fault> {
        let first = self.byte()?;
        match first {
            0xc0.. => of_static(self.integer(first, 6)?),
            0x50..=0x5f | 0x70..=0x7f => {
                let name = of_static(self.integer(first, 4)?)?;
                self.value().map(|()| name)
            }
            0x20..=0x3f => {
                let name = of_literal(self.string(first, 3)?, first & 0x08 != 0);
                self.value().map(|()| name)
            }
            // The dynamic table, which is empty.
            0x80..=0xbf | 0x40..=0x4f | 0x60..=0x6f | 0x00..=0x1f => Err(UNDECODABLE),
        }
    }
}

/// Checks a whole section.
///
/// # Errors
/// The fault.
pub(super) fn check(section: &[u8], of: Section) -> Result<(), Fault> {
    let mut rest = Rest(section);
    let first = rest.byte()?;
    if rest.integer(first, 8)? != 0 {
        return Err(UNDECODABLE);
    }
    let first = rest.byte()?;
    rest.integer(first, 7)?;
    let mut seen = 0;
    let mut fields = false;
    while !rest.0.is_empty() {
        match rest.line()? {
            Name::Other => fields = true,
            Name::Pseudo(_) | Name::Unknown if of == Section::Trailers => return Err(PSEUDO_IN_TRAILERS),
            Name::Unknown => return Err(PSEUDO_UNKNOWN),
            Name::Pseudo(_) if fields => return Err(PSEUDO_LATE),
            Name::Pseudo(bit) if seen & bit != 0 => return Err(PSEUDO_TWICE),
            Name::Pseudo(bit) => seen |= bit,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn section(lines: &[&[u8]]) -> Vec<u8> {
        [&[0, 0], lines.concat().as_slice()].concat()
    }

    const GET: &[u8] = &[0xc0 | 17];
    const HTTPS: &[u8] = &[0xc0 | 23];
    const ROOT: &[u8] = &[0xc1];
    const HOST: &[u8] = b"\x50\x01h";
    const ACCEPT: &[u8] = &[0xc0 | 29];

    #[test]
    fn pseudo_header_fields_come_once_first_and_no_others() {
        let head = |lines: &[&[u8]]| check(&section(lines), Section::Head);
        assert_eq!(head(&[GET, HTTPS, ROOT, HOST, ACCEPT]), Ok(()));
        assert_eq!(head(&[GET, HTTPS, ROOT, HOST, ROOT]), Err(PSEUDO_TWICE));
        assert_eq!(head(&[GET, HTTPS, ACCEPT, ROOT]), Err(PSEUDO_LATE));
        assert_eq!(head(&[GET, &[0xc0 | 25]]), Err(PSEUDO_UNKNOWN), ":status");
        assert_eq!(head(&[GET, &[0xff, 4]]), Err(PSEUDO_UNKNOWN), ":status 425");
        assert_eq!(head(&[GET, b"\x27\x02:protocol\x01x"]), Err(PSEUDO_UNKNOWN));
        assert_eq!(head(&[ROOT, b"\x25:path\x01/"]), Err(PSEUDO_TWICE), "by its name");
        assert_eq!(head(&[ROOT, b"\x2c\xb9\x58\xd3\x3f\x01/"]), Err(PSEUDO_TWICE), "by its name, coded");
        assert_eq!(head(&[b"\x2b\xb9\x58\xd3\x01/"]), Err(PSEUDO_UNKNOWN), "coded, and cut");
        assert_eq!(check(&section(&[ACCEPT]), Section::Trailers), Ok(()));
        assert_eq!(check(&section(&[ACCEPT, ROOT]), Section::Trailers), Err(PSEUDO_IN_TRAILERS));
    }

    #[test]
    fn what_cannot_be_decoded_ends_the_connection() {
        for bad in [
            &[][..],
            &[0],
            &[1, 0, 0x80],
            &[0, 0, 0x80],
            &[0, 0, 0x10],
            &[0, 0, 0x40, 0],
            &[0, 0, 0x00, 0],
            &[0, 0, 0xff, 36],
            &[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            &[0, 0, 0x51],
            &[0, 0, 0x51, 5, b'/'],
        ] {
            assert_eq!(check(bad, Section::Head), Err(UNDECODABLE), "{bad:x?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = check(&bytes, Section::Head);
            let _ = check(&bytes, Section::Trailers);
        }
    }
}
