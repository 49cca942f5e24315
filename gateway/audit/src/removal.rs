//! Entries that were removed, and what stands for them (A11).
//!
//! When all data keys of a log's first entries are destroyed, nobody can read them, and their bundles may go; tiles of
//! hashes stay, so that the tree is what it was. Before they go, a record of kind `removal` stands in the log under its
//! checkpoint: a [`Tombstone`], in the clear header's reference, where a verifier without keys finds it. A file beside
//! the checkpoint ([`FILE`]) says where the newest such record stands; it is a [`Pointer`] and vouches for nothing.

use std::fmt;

use crate::checkpoint::decimal;
use crate::header::{Envelope, Kind};
use crate::merkle::Hash;
use crate::tiles::WIDTH;
use crate::tiles::entry::Entry;

/// Path of the pointer, relative to the log's directory.
pub const FILE: &str = "removed";
/// The longest pointer, bytes.
pub const MAX_FILE: usize = 256;

/// What was removed: the first `entries` entries of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    /// How many; whole bundles.
    pub entries: u64,
    /// Sequence number of the record that begins with the first entry that stays.
    pub next: u64,
    /// The root over them (RFC 6962 section 2.1).
    pub root: Hash,
}

/// `<entries>-<next>-<root>`, the root in hexadecimal digits.
impl fmt::Display for Tombstone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-", self.entries, self.next)?;
        self.root.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Tombstone {
    /// Reads what is written, strictly; anything else is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split('-');
        let (entries, next, digits) = (decimal(words.next()?)?, decimal(words.next()?)?, words.next()?);
        let mut root = [0; 32];
        for (place, byte) in root.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * place..2 * place + 2)?, 16).ok()?;
        }
        let read = Self { entries, next, root };
        let fits = entries > 0 && entries.is_multiple_of(WIDTH) && next > 0;
        (fits && words.next().is_none() && read.to_string() == text).then_some(read)
    }

    /// The tombstone in an entry, if it is one.
    #[must_use]
    pub fn of(entry: &Entry<'_>) -> Option<Self> {
        if (entry.part, entry.parts) != (0, 1) {
            return None;
        }
        let header = Envelope::decode(entry.bytes).ok()?.header;
        Self::parse(header.reference).filter(|_| header.kind == Kind::Removal)
    }
}

/// Where the newest tombstone stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    /// The entry, by its place in the log from 0.
    pub entry: u64,
    /// Sequence number of its record.
    pub record: u64,
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sekisho audit removal v1\nentry {}\nrecord {}\n", self.entry, self.record)
    }
}

impl Pointer {
    /// Reads the file, strictly; anything else is none.
    #[must_use]
    pub fn parse(file: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(file).ok()?;
        let mut lines = text.lines().skip(1);
        let entry = decimal(lines.next()?.strip_prefix("entry ")?)?;
        let record = decimal(lines.next()?.strip_prefix("record ")?)?;
        let read = Self { entry, record };
        (read.to_string() == text).then_some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tombstone_and_its_pointer_are_strict() {
        let tombstone = Tombstone { entries: 512, next: 500, root: [0xab; 32] };
        let text = tombstone.to_string();
        assert_eq!(text, format!("512-500-{}", "ab".repeat(32)));
        assert_eq!(Tombstone::parse(&text), Some(tombstone));
        for bad in [
            text.to_uppercase(),
            text.replacen("512", "513", 1),
            text.replacen("512", "0", 1),
            text.replacen("500", "0", 1),
            text.replacen("500", "0500", 1),
            format!("{text}00"),
            format!("{text}-"),
            text.trim_end_matches("b").to_owned(),
            String::new(),
        ] {
            assert_eq!(Tombstone::parse(&bad), None, "{bad}");
        }
        let pointer = Pointer { entry: 700, record: 650 };
        assert_eq!(Pointer::parse(pointer.to_string().as_bytes()), Some(pointer));
        assert_eq!(Pointer::parse(b"sekisho audit removal v1\nentry 1\n"), None);
        assert_eq!(Pointer::parse(b"sekisho audit removal v2\nentry 1\nrecord 1\n"), None);
        assert_eq!(Pointer::parse(&[0xff]), None);
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "[0-9]{0,4}-[0-9]{0,3}-[0-9a-fA-F]{62,66}", file: Vec<u8>) {
            if let Some(tombstone) = Tombstone::parse(&text) {
                prop_assert_eq!(tombstone.to_string(), text);
            }
            prop_assert_eq!(Pointer::parse(&file), None);
        }
    }
}
