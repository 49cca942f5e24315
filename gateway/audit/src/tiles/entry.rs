//! Entries and bundles.
//!
//! An entry is a record or one part of a record, behind [`HEADER`] bytes (integers are big-endian, as in tlog-tiles):
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 1 | [`VERSION`] |
//! | 1 | 8 | the record's sequence number, from 1, without gap |
//! | 9 | 2 | number of this part, from 0 |
//! | 11 | 2 | number of parts, at least 1 |
//! | 13 | n | the part, not empty; all but the last part are [`MAX_PART`] bytes long |
//!
//! A bundle is a row of entries, each behind its length in two bytes.

use sha2::{Digest as _, Sha256};

use crate::merkle::{Hash, at_once};

/// The longest entry, bytes: what its length prefix can say.
pub const MAX_ENTRY: usize = 65_535;
/// Bytes of an entry before the record's.
pub const HEADER: usize = 13;
/// The most bytes of a record in one entry.
pub const MAX_PART: usize = MAX_ENTRY - HEADER;
/// First byte of every entry.
pub const VERSION: u8 = 1;
/// The longest record, bytes: that many parts can be numbered.
pub const MAX_RECORD: usize = MAX_PART * 65_535;

/// A record that is empty or longer than [`MAX_RECORD`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record of {0} bytes does not fit the tree's entries")]
pub struct RecordLength(pub usize);

/// Why bytes are not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Shorter than a header and one byte.
    #[error("the entry is cut off")]
    Short,
    /// Written by a program that knows more.
    #[error("the entry has version {0}, this program knows {VERSION}")]
    Version(u8),
    /// Sequence number zero, a part beyond the number of parts, or a part of a length that it cannot have.
    #[error("the entry's header is impossible")]
    Header,
}

/// One entry, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The record's sequence number.
    pub sequence: u64,
    /// Which part of the record this is, from 0.
    pub part: u16,
    /// Number of the record's parts.
    pub parts: u16,
    /// The part's bytes.
    pub bytes: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Reads an entry strictly.
    ///
    /// # Errors
    /// [`EntryError`] if it is none.
    pub fn decode(entry: &'a [u8]) -> Result<Self, EntryError> {
        let (version, rest) = entry.split_first_chunk::<1>().ok_or(EntryError::Short)?;
        let (sequence, rest) = rest.split_first_chunk::<8>().ok_or(EntryError::Short)?;
        let (part, rest) = rest.split_first_chunk::<2>().ok_or(EntryError::Short)?;
        let (parts, bytes) = rest.split_first_chunk::<2>().ok_or(EntryError::Short)?;
        if *version != [VERSION] {
            return Err(EntryError::Version(u8::from_be_bytes(*version)));
        }
        if bytes.is_empty() {
            return Err(EntryError::Short);
        }
        let (sequence, part, parts) =
            (u64::from_be_bytes(*sequence), u16::from_be_bytes(*part), u16::from_be_bytes(*parts));
        let last = part.checked_add(1) == Some(parts);
        if sequence == 0 || part >= parts || (!last && bytes.len() != MAX_PART) || bytes.len() > MAX_PART {
            return Err(EntryError::Header);
        }
        Ok(Self { sequence, part, parts, bytes })
    }

    /// Appends the entry's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header());
        out.extend_from_slice(self.bytes);
    }

    /// The bytes before the part's.
    fn header(&self) -> [u8; HEADER] {
        let fields = [VERSION].into_iter().chain(self.sequence.to_be_bytes());
        let fields = fields.chain(self.part.to_be_bytes()).chain(self.parts.to_be_bytes());
        let mut header = [0; HEADER];
        for (place, byte) in header.iter_mut().zip(fields) {
            *place = byte;
        }
        header
    }

    /// The entry's hash in the tree, without a copy of its bytes.
    #[must_use]
    pub fn leaf_hash(&self) -> Hash {
        Sha256::new().chain_update([0]).chain_update(self.header()).chain_update(self.bytes).finalize().into()
    }
}

/// A record's entries, in order.
///
/// # Errors
/// [`RecordLength`] if the record is empty or too long.
pub fn split(sequence: u64, record: &[u8]) -> Result<impl ExactSizeIterator<Item = Entry<'_>>, RecordLength> {
    let parts = u16::try_from(record.len().div_ceil(MAX_PART)).map_err(|_| RecordLength(record.len()))?;
    if parts == 0 {
        return Err(RecordLength(0));
    }
    Ok(record.chunks(MAX_PART).enumerate().map(move |(part, bytes)| Entry {
        sequence,
        part: u16::try_from(part).unwrap_or(u16::MAX),
        parts,
        bytes,
    }))
}

/// An entry that does not follow the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("part {part} of record {sequence} stands where part {expected_part} of record {expected_sequence} belongs")]
pub struct OutOfOrder {
    /// The record that stands there.
    pub sequence: u64,
    /// Its part.
    pub part: u16,
    /// The record that belongs there.
    pub expected_sequence: u64,
    /// Its part.
    pub expected_part: u16,
}

/// Joins entries to records again, and checks that they follow each other. Holds one record at most, and of that no
/// more than `keep` bytes.
#[derive(Debug, Clone)]
pub struct Joiner {
    sequence: u64,
    part: u16,
    parts: u16,
    record: Vec<u8>,
    keep: usize,
}

impl Joiner {
    /// A joiner that begins with part 0 of record `first`. Parts of records longer than `keep` bytes are checked and
    /// not kept; they come out as none.
    #[must_use]
    pub const fn new(first: u64, keep: usize) -> Self {
        Self { sequence: first, part: 0, parts: 0, record: Vec::new(), keep }
    }

    /// A joiner that begins with this entry, perhaps in the middle of a record. Nothing is kept: records come out as none.
    #[must_use]
    pub const fn from_entry(entry: &Entry<'_>) -> Self {
        Self { sequence: entry.sequence, part: entry.part, parts: entry.parts, record: Vec::new(), keep: 0 }
    }

    /// Sequence number of the record that the next entry belongs to.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Whether the next entry begins a record.
    #[must_use]
    pub const fn is_between_records(&self) -> bool {
        self.part == 0
    }

    /// Takes the next entry. `whole` gets the record's sequence number and bytes if this was its last part.
    ///
    /// # Errors
    /// [`OutOfOrder`] if it is not the next one; then nothing is changed.
    pub fn push(&mut self, entry: &Entry<'_>, whole: impl FnOnce(u64, Option<&[u8]>)) -> Result<(), OutOfOrder> {
        let fits = self.part == 0 || entry.parts == self.parts;
        if entry.sequence != self.sequence || entry.part != self.part || !fits {
            return Err(OutOfOrder {
                sequence: entry.sequence,
                part: entry.part,
                expected_sequence: self.sequence,
                expected_part: self.part,
            });
        }
        if entry.parts == 1 {
            whole(entry.sequence, (entry.bytes.len() <= self.keep).then_some(entry.bytes));
            self.sequence = self.sequence.saturating_add(1);
            return Ok(());
        }
        self.parts = entry.parts;
        let fits = MAX_PART.saturating_mul(usize::from(entry.parts) - 1) < self.keep;
        if fits {
            self.record.extend_from_slice(entry.bytes);
        }
        self.part += 1;
        if self.part == self.parts {
            whole(entry.sequence, (fits && self.record.len() <= self.keep).then_some(self.record.as_slice()));
            self.record.clear();
            self.part = 0;
            self.sequence = self.sequence.saturating_add(1);
        }
        Ok(())
    }
}

/// The entries of a bundle, front to back. Ends early, with [`Bundle::is_whole`] false, where the bytes do.
#[derive(Debug, Clone, Copy)]
pub struct Bundle<'a> {
    rest: &'a [u8],
}

impl<'a> Bundle<'a> {
    /// The entries in these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether nothing is left behind the entries taken so far.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.rest.is_empty()
    }

    /// Number of bytes behind the entries taken so far.
    #[must_use]
    pub const fn rest_len(&self) -> usize {
        self.rest.len()
    }

    /// Appends an entry with its length. An entry longer than [`MAX_ENTRY`] is refused.
    ///
    /// # Errors
    /// [`RecordLength`] if the entry is too long; nothing is appended.
    pub fn append(out: &mut Vec<u8>, entry: &[u8]) -> Result<(), RecordLength> {
        let length = u16::try_from(entry.len()).map_err(|_| RecordLength(entry.len()))?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(entry);
        Ok(())
    }
}

impl Bundle<'_> {
    /// As [`append`](Self::append), of an entry that was not encoded.
    ///
    /// # Errors
    /// [`RecordLength`] if the part is too long; nothing is appended.
    pub fn append_entry(out: &mut Vec<u8>, entry: &Entry<'_>) -> Result<(), RecordLength> {
        let length = HEADER + entry.bytes.len();
        out.extend_from_slice(&u16::try_from(length).map_err(|_| RecordLength(length))?.to_be_bytes());
        entry.encode(out);
        Ok(())
    }
}

/// The hashes in the tree of a bundle's first `most` entries, as many as there are whole, in place of those in `leaves`.
/// While an entry is hashed, the zero that is hashed before it stands in the last byte of its length.
pub(crate) fn leaf_hashes(bundle: &mut [u8], most: usize, leaves: &mut Vec<Hash>) {
    leaves.clear();
    let mut rest = bundle;
    while leaves.len() < most
        && let Some((length, _)) = rest.split_first_chunk::<2>()
        && let Some((entry, behind)) = rest.split_at_mut_checked(2 + usize::from(u16::from_be_bytes(*length)))
        && let Some((_, prefixed)) = entry.split_first_mut()
    {
        let low = prefixed.first_mut().map(|low| std::mem::replace(low, 0));
        leaves.push(at_once(prefixed));
        prefixed.first_mut().zip(low).into_iter().for_each(|(place, low)| *place = low);
        rest = behind;
    }
}

impl<'a> Iterator for Bundle<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        self.rest = rest;
        Some(entry)
    }
}
