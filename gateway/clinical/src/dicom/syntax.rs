//! Transfer syntaxes: which data sets can be read on their way.

use super::names::Uid;

/// How a data set's elements are written; little endian, both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Implicit,
    Explicit,
}

const IMPLICIT: &str = "1.2.840.10008.1.2";
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const FRAGMENTED: &str = "1.2.840.10008.1.2.1.98";
const RLE: &str = "1.2.840.10008.1.2.5";
const DEFLATED_FRAMES: &str = "1.2.840.10008.1.2.8.1";
/// JPEG, JPEG-LS, JPEG 2000, MPEG, HEVC, JPEG XL: only the frames are compressed (PS3.5 annex A.4).
const IMAGES: &str = "1.2.840.10008.1.2.4.";
/// JPIP with the whole data set deflated (PS3.5 annexes A.7 and A.8).
const DEFLATED_JPIP: [&str; 2] = ["1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"];

/// The encoding, where it is one that is read. Not read, and so not let through: deflated data sets, whose patient is behind a
/// decompressor; big endian, which the standard retired in 2006; and private syntaxes, of which nobody knows.
pub(crate) fn encoding(syntax: &Uid) -> Option<Encoding> {
    match syntax.as_str() {
        IMPLICIT => Some(Encoding::Implicit),
        EXPLICIT | FRAGMENTED | RLE | DEFLATED_FRAMES => Some(Encoding::Explicit),
        text if DEFLATED_JPIP.contains(&text) => None,
        text => text.strip_prefix(IMAGES).filter(|rest| !rest.contains('.')).map(|_| Encoding::Explicit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_read_is_let_through() {
        let of = |text| encoding(&Uid::new(text).unwrap());
        assert_eq!(of("1.2.840.10008.1.2"), Some(Encoding::Implicit));
        for explicit in
            ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"]
        {
            assert_eq!(of(explicit), Some(Encoding::Explicit));
        }
        for not in ["1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.95", "1.2.840.113619.5.2"] {
            assert_eq!(of(not), None);
        }
    }
}
