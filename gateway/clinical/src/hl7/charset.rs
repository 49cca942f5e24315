//! Which bytes of a message are characters of its own alphabet, so that separators are found where every reader finds them (MSH-18,
//! HL7 table 0211).
//!
//! ISO 2022 writes kanji in bytes that elsewhere are separators: between `ESC $ B` and `ESC ( B` a `|` is half a character. Such
//! escapes count where MSH-18 declares them, and are refused elsewhere. Alphabets whose second bytes may be separators, and which
//! nothing brackets (Shift_JIS, GB 18030, Big5, CNS 11643), are refused.

/// What a message may be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Alphabet {
    /// Bytes from 80 on stand for one character each (ISO 8859, JIS X 0201).
    single: bool,
    /// ISO 2022 escapes to JIS X 0208 and back (ISO IR 87, and IR 14 for its Latin part).
    kanji: bool,
    /// To JIS X 0212 (ISO IR 159).
    supplement: bool,
}

/// The message cannot be read in exactly one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

impl Alphabet {
    /// Reads MSH-18, the declared alphabets parted by the repetition separator. None where one of them is not taken.
    pub(crate) fn declared<'b>(sets: impl Iterator<Item = &'b [u8]>) -> Option<Self> {
        let mut alphabet = Self::default();
        for set in sets {
            match set {
                b"" | b"ASCII" | b"ISO IR6" | b"UNICODE" | b"UNICODE UTF-8" => {}
                b"ISO IR13" | b"ISO IR14" => alphabet.single = true,
                b"ISO IR87" => alphabet.kanji = true,
                b"ISO IR159" => alphabet.supplement = true,
                _ => {
                    let part: u8 = std::str::from_utf8(set.strip_prefix(b"8859/")?).ok()?.parse().ok()?;
                    if !matches!(part, 1..=9 | 15) {
                        return None;
                    }
                    alphabet.single = true;
                }
            }
        }
        Some(alphabet)
    }

    /// Appends a mark for each byte of a segment: true for one that is part of a character of more than seven bits, and so no separator.
    pub(crate) fn mark(self, segment: &[u8], marks: &mut Vec<bool>) -> Result<(), Unreadable> {
        let mut rest = segment;
        let mut double = false;
        while let Some((byte, behind)) = rest.split_first() {
            if *byte == 0x1b {
                let (width, to) = self.escape(behind).ok_or(Unreadable)?;
                double = to;
                marks.extend(std::iter::repeat_n(true, width + 1));
                rest = behind.get(width..).ok_or(Unreadable)?;
            } else if double {
                // Pairs of 21 to 7E (JIS X 0208); a segment goes back to ASCII before it ends.
                let [0x21..=0x7e, 0x21..=0x7e, ..] = rest else { return Err(Unreadable) };
                marks.extend([true, true]);
                rest = rest.get(2..).ok_or(Unreadable)?;
            } else if *byte < 0x80 {
                if (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f {
                    return Err(Unreadable);
                }
                marks.push(false);
                rest = behind;
            } else if self.single {
                marks.push(true);
                rest = behind;
            } else {
                let width = utf8(rest).ok_or(Unreadable)?;
                marks.extend(std::iter::repeat_n(true, width));
                rest = rest.get(width..).ok_or(Unreadable)?;
            }
        }
        if double { Err(Unreadable) } else { Ok(()) }
    }

    /// The bytes behind an ESC that belong to it, and whether two bytes make a character from there on.
    fn escape(self, behind: &[u8]) -> Option<(usize, bool)> {
        match behind {
            // Half-width katakana in seven bits (`ESC ( I`) is not let through: its bytes are separators and nothing pairs them.
            [b'(', b'B' | b'J', ..] if self.kanji || self.supplement => Some((2, false)),
            [b'$', b'B' | b'@', ..] if self.kanji => Some((2, true)),
            [b'$', b'(', b'D', ..] if self.supplement => Some((3, true)),
            _ => None,
        }
    }
}

/// The length of the character of UTF-8 at the front.
fn utf8(bytes: &[u8]) -> Option<usize> {
    let width = match bytes.first()? {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    std::str::from_utf8(bytes.get(..width)?).is_ok().then_some(width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn marks(sets: &[&[u8]], segment: &[u8]) -> Result<Vec<bool>, Unreadable> {
        let mut marks = Vec::new();
        Alphabet::declared(sets.iter().copied()).unwrap().mark(segment, &mut marks)?;
        Ok(marks)
    }

    #[test]
    fn half_a_kanji_is_no_separator() {
        let japanese: &[&[u8]] = &[b"", b"ISO IR87"];
        // Two bytes of JIS X 0208 that are `^` and `|` elsewhere.
        let segment = b"a|\x1b$B^|\x1b(B|";
        let plain: Vec<bool> = marks(japanese, segment).unwrap();
        assert_eq!(plain.iter().filter(|mark| !**mark).count(), 3);
        assert_eq!(marks(&[b""], segment), Err(Unreadable), "an escape that nothing declares");
        assert_eq!(marks(japanese, b"\x1b$B^|"), Err(Unreadable), "it does not come back");
        assert_eq!(marks(japanese, b"\x1b$B^\x1b(B"), Err(Unreadable), "half a character");
        assert_eq!(marks(japanese, b"\x1b(I^\x1b(B"), Err(Unreadable), "katakana in seven bits");
        assert_eq!(marks(japanese, b"\x1b$(D!!\x1b(B"), Err(Unreadable), "JIS X 0212 is not declared");
        assert!(marks(&[b"ASCII", b"ISO IR159"], b"\x1b$(D!!\x1b(B").is_ok());
    }

    #[test]
    fn bytes_that_two_readers_would_read_in_two_ways_are_refused() {
        assert!(marks(&[], "山田^太郎".as_bytes()).is_ok());
        // 0x83 0x7C is one katakana in Shift_JIS.
        assert_eq!(marks(&[], b"\x83|"), Err(Unreadable));
        for refused in [&b"GB 18030-2000"[..], b"BIG-5", b"CNS 11643-1992", b"KS X 1001", b"8859/99", b"Shift_JIS"] {
            assert!(Alphabet::declared([refused].into_iter()).is_none());
        }
        for control in [b"\0", b"\n", b"\x0b", b"\x1c", b"\x7f"] {
            assert_eq!(marks(&[], control), Err(Unreadable));
        }
        assert!(marks(&[b"8859/1"], b"\xe9\t").is_ok());
    }

    proptest! {
        #[test]
        fn every_byte_is_marked(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            for sets in [&[][..], &[&b"ISO IR87"[..]], &[b"8859/1"], &[b"ISO IR87", b"ISO IR159", b"ISO IR13"]] {
                if let Ok(marks) = marks(sets, &bytes) {
                    prop_assert_eq!(marks.len(), bytes.len());
                    for (byte, mark) in bytes.iter().zip(marks) {
                        prop_assert!(mark || byte.is_ascii());
                    }
                }
            }
        }
    }
}
