//! Writing DER (X.690 10): the few forms that containers of keys and certificates need.

pub(super) use crate::path::der::{INTEGER, OCTET_STRING, OID, SEQUENCE, SET, constructed, context};

const NULL: u8 = 0x05;
const BMP_STRING: u8 = 0x1e;

/// An element of these parts, one after another.
pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    if length < 0x80 {
        // INVARIANT: below 0x80.
        out.push(u8::try_from(length).unwrap_or_default());
    } else {
        let digits = length.to_be_bytes();
        let digits: Vec<u8> = digits.into_iter().skip_while(|digit| *digit == 0).collect();
        // INVARIANT: at most eight digits.
        out.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
        out.extend(digits);
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(SEQUENCE, parts)
}

pub(super) fn oid(content: &[u8]) -> Vec<u8> {
    tlv(OID, &[content])
}

pub(crate) fn octets(content: &[u8]) -> Vec<u8> {
    tlv(OCTET_STRING, &[content])
}

/// A number that is not negative.
pub(super) fn integer(number: u32) -> Vec<u8> {
    unsigned(&number.to_be_bytes())
}

/// A number that is not negative, of big-endian bytes.
pub(super) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let mut digits: Vec<u8> = bytes.iter().copied().skip_while(|digit| *digit == 0).collect();
    if digits.first().is_none_or(|first| first & 0x80 != 0) {
        digits.insert(0, 0);
    }
    tlv(INTEGER, &[&digits])
}

pub(super) fn null() -> Vec<u8> {
    tlv(NULL, &[])
}

/// An algorithm whose parameters are NULL.
pub(crate) fn algorithm(content: &[u8]) -> Vec<u8> {
    sequence(&[&oid(content), &null()])
}

/// An explicit context tag around an element.
pub(super) fn explicit(number: u8, element: &[u8]) -> Vec<u8> {
    tlv(constructed(number), &[element])
}

/// UTF-16 in big-endian order, without a terminator.
pub(super) fn bmp(text: &str) -> Vec<u8> {
    let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    tlv(BMP_STRING, &[&units])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::der::{Reader, check_integer};

    #[test]
    fn what_is_written_is_read_by_the_strict_reader() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let written = octets(&vec![7; length]);
            let mut reader = Reader::new(&written);
            assert_eq!(reader.value(OCTET_STRING).unwrap().len(), length);
            reader.end().unwrap();
        }
        for number in [0, 1, 127, 128, 255, 256, 600_000, u32::MAX] {
            let written = integer(number);
            let mut reader = Reader::new(&written);
            let content = reader.value(INTEGER).unwrap();
            check_integer(content).unwrap();
            let read = content.iter().fold(0_u64, |sum, digit| (sum << 8) | u64::from(*digit));
            assert_eq!(read, u64::from(number));
        }
    }
}
