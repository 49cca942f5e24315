//! Names of the upper layer: application entities and unique identifiers.

use std::fmt;

/// An AE title: 1 to 16 printable ASCII bytes without `\`, without spaces at its ends (PS3.5 section 6.2, VR AE).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AeTitle(Box<str>);

impl AeTitle {
    /// Reads a title: spaces at its ends do not count, a backslash, a control character or anything beyond ASCII makes it none.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        Self::read(text.as_bytes())
    }

    /// As it stands in a PDU or in a command: padded with spaces; a value of odd length may end in a NUL.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        let text = std::str::from_utf8(bytes).ok()?.trim_matches(' ');
        let fits = (1..=16).contains(&text.len()) && text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'\\');
        fits.then(|| Self(text.into()))
    }

    /// The title without padding.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A unique identifier: 1 to 64 digits and dots (PS3.5 section 9.1). Leading zeros of a component are let pass: they are common.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(Box<str>);

impl Uid {
    /// Reads an identifier without padding.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            && !text.starts_with('.')
            && !text.ends_with('.');
        fits.then(|| Self(text.into()))
    }

    /// As it stands in a PDU or a value: at most one NUL behind it.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        Self::new(std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()?)
    }

    /// The identifier.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! shown {
    ($($type:ident)*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    )*};
}
shown!(AeTitle Uid);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_and_identifiers_have_one_spelling() {
        assert_eq!(AeTitle::read(b"  MODALITY 1     ").unwrap().as_str(), "MODALITY 1");
        assert_eq!(AeTitle::read(b"PACS\0").unwrap().as_str(), "PACS");
        for bad in [&b"                "[..], b"", b"A\\B", b"A\n", b"\xc3\xa9", b"12345678901234567", b"A\0\0"] {
            assert!(AeTitle::read(bad).is_none(), "{bad:?}");
        }
        assert_eq!(Uid::read(b"1.2.840\0").unwrap().as_str(), "1.2.840");
        for bad in [&b""[..], b"1.2 ", b"1.2\0\0", b".1", b"1.", b"1.2.a", &[b'1'; 65]] {
            assert!(Uid::read(bad).is_none(), "{bad:?}");
        }
    }
}
