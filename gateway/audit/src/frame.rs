//! Segments and frames: how records lie on disk.
//!
//! A log is a row of segment files. A segment is a header and then frames without a gap; behind the last frame
//! come zeros or nothing (files are filled with zeros ahead of use). All integers are little-endian.
//!
//! Segment header, [`SEGMENT_HEADER`] bytes:
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | `SEKISHO1` |
//! | 8 | 4 | format version, 2 |
//! | 12 | 4 | length of the node's name |
//! | 16 | 16 | log id, random |
//! | 32 | 8 | sequence number of the first record |
//! | 40 | 32 | link of the record before it; in a log's first segment its [`genesis`] |
//! | 72 | 128 | node's name, then zeros |
//! | 200 | 52 | zeros |
//! | 252 | 4 | CRC-32C of all before |
//!
//! Frame: [`FRAME_HEADER`] bytes and the record.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 4 | length of the record, 1 to [`MAX_RECORD`] |
//! | 4 | 4 | CRC-32C of everything else in the frame |
//! | 8 | 8 | sequence number |
//! | 16 | 8 | *durable*: every record up to this one was on stable storage when this frame was written |
//! | 24 | 32 | link: SHA-256(link of the record before ‖ length ‖ sequence ‖ durable ‖ leaf hashes) |
//! | 56 | n | the record |
//!
//! The leaf hashes are those of the record's entries in the log's tree ([`crate::tiles::entry::split`]), in order: the
//! record's bytes are hashed once, for the chain and for the tree.
//!
//! The checksum finds a failing disk, the link finds a changed, missing, added or moved record, and `durable` tells
//! a torn tail from a lost record: a bad record that a later frame calls durable cannot be the trace of a crash.

use sha2::{Digest, Sha256};

use crate::merkle::Hash;
use crate::tiles::entry;

/// Bytes of a segment's header.
pub const SEGMENT_HEADER: usize = 256;
/// Bytes of a frame before its record.
pub const FRAME_HEADER: usize = 56;
/// The longest record, bytes.
pub const MAX_RECORD: usize = 1 << 20;
/// The longest name of a node, bytes.
pub const MAX_NODE: usize = 128;
/// Version of this layout.
pub const FORMAT_VERSION: u32 = 2;

const MAGIC: &[u8; 8] = b"SEKISHO1";
const GENESIS: &[u8] = b"sekisho audit log, version 2\n";

/// A link of the hash chain.
pub type Link = [u8; 32];

/// A segment's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The log's random id.
    pub log: [u8; 16],
    /// Name of the gateway that writes it.
    pub node: String,
    /// Sequence number of the segment's first record.
    pub first_sequence: u64,
    /// Link of the record before that one.
    pub previous: Link,
}

/// Why bytes are not a segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer bytes than a header has.
    #[error("the segment ends within its header")]
    Short,
    /// Not a segment at all.
    #[error("the file is not a segment of an audit log")]
    Magic,
    /// Checksum, padding or name do not fit.
    #[error("the segment's header is damaged")]
    Damaged,
    /// Of another version of the format.
    #[error("the segment has format version {0}, this program knows {FORMAT_VERSION}")]
    Version(u32),
}

/// The link before a log's first record: SHA-256 of a fixed text, the log id and the node's name.
#[must_use]
pub fn genesis(log: &[u8; 16], node: &str) -> Link {
    Sha256::new().chain_update(GENESIS).chain_update(log).chain_update(node).finalize().into()
}

impl SegmentHeader {
    /// The header's bytes. A name longer than [`MAX_NODE`] bytes is cut.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let node = self.node.as_bytes();
        let node = node.get(..MAX_NODE).unwrap_or(node);
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(node.len()).unwrap_or_default().to_le_bytes());
        bytes.extend_from_slice(&self.log);
        bytes.extend_from_slice(&self.first_sequence.to_le_bytes());
        bytes.extend_from_slice(&self.previous);
        bytes.extend_from_slice(node);
        bytes.resize(SEGMENT_HEADER - 4, 0);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        let mut header = [0; SEGMENT_HEADER];
        for (place, byte) in header.iter_mut().zip(bytes) {
            *place = byte;
        }
        header
    }

    /// Reads a header from a segment's first bytes.
    ///
    /// # Errors
    /// [`HeaderError`] if they are not one, whole and undamaged.
    pub fn decode(segment: &[u8]) -> Result<Self, HeaderError> {
        let (header, _) = segment.split_at_checked(SEGMENT_HEADER).ok_or(HeaderError::Short)?;
        let mut cursor = Cursor(header);
        if &cursor.take::<8>().ok_or(HeaderError::Short)? != MAGIC {
            return Err(HeaderError::Magic);
        }
        let (body, sum) = header.split_at(SEGMENT_HEADER - 4);
        if crc32c::crc32c(body).to_le_bytes() != *sum {
            return Err(HeaderError::Damaged);
        }
        let version = u32::from_le_bytes(cursor.take().ok_or(HeaderError::Short)?);
        let length = u32::from_le_bytes(cursor.take().ok_or(HeaderError::Short)?);
        let log = cursor.take().ok_or(HeaderError::Short)?;
        let first_sequence = u64::from_le_bytes(cursor.take().ok_or(HeaderError::Short)?);
        let previous = cursor.take().ok_or(HeaderError::Short)?;
        let name: [u8; MAX_NODE] = cursor.take().ok_or(HeaderError::Short)?;
        let length = usize::try_from(length).map_err(|_| HeaderError::Damaged)?;
        if version != FORMAT_VERSION {
            return Err(HeaderError::Version(version));
        }
        let (node, padding) = name.split_at_checked(length).ok_or(HeaderError::Damaged)?;
        let rest = body.get(72 + MAX_NODE..).unwrap_or_default();
        if padding.iter().chain(rest).any(|byte| *byte != 0) {
            return Err(HeaderError::Damaged);
        }
        let node = std::str::from_utf8(node).map_err(|_| HeaderError::Damaged)?.to_owned();
        Ok(Self { log, node, first_sequence, previous })
    }
}

/// The growing end of a log: what the next record is linked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Link of the last record.
    pub link: Link,
    /// Sequence number of the next record.
    pub next: u64,
}

/// A record is longer than [`MAX_RECORD`] or empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record of {0} bytes does not fit a frame of 1 to {MAX_RECORD}")]
pub struct RecordLength(pub usize);

impl Chain {
    /// Appends one frame to `out`: `write` appends the record, whose sequence number it is told, and the frame links
    /// it. `leaves` gets the hashes of the record's entries. `durable` is the last sequence number known to be on
    /// stable storage.
    ///
    /// # Errors
    /// [`RecordLength`] or what `write` says; nothing is changed then.
    pub fn append<E: From<RecordLength>>(
        &mut self,
        durable: u64,
        out: &mut Vec<u8>,
        leaves: &mut Vec<Hash>,
        write: impl FnOnce(u64, &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let (start, first_leaf) = (out.len(), leaves.len());
        out.extend_from_slice(&[0; FRAME_HEADER]);
        let written = write(self.next, out);
        let link = written.and_then(|()| self.finish(durable, out.get_mut(start..).unwrap_or_default(), leaves));
        match link {
            Ok(link) => {
                let sequence = self.next;
                self.link = link;
                self.next += 1;
                Ok(sequence)
            }
            Err(error) => {
                out.truncate(start);
                leaves.truncate(first_leaf);
                Err(error)
            }
        }
    }

    /// Fills in the header of a frame that holds its record. Says its link.
    fn finish<E: From<RecordLength>>(&self, durable: u64, frame: &mut [u8], leaves: &mut Vec<Hash>) -> Result<Link, E> {
        let Some((header, record)) = frame.split_first_chunk_mut::<FRAME_HEADER>() else {
            return Err(RecordLength(0).into());
        };
        if !(1..=MAX_RECORD).contains(&record.len()) {
            return Err(RecordLength(record.len()).into());
        }
        let length = u32::try_from(record.len()).unwrap_or_default().to_le_bytes();
        let first_leaf = leaves.len();
        leaf_hashes(self.next, record, |leaf| leaves.push(leaf));
        let link = link(&self.link, &length, self.next, durable, leaves.get(first_leaf..).unwrap_or_default());
        let parts =
            length.into_iter().chain([0; 4]).chain(self.next.to_le_bytes()).chain(durable.to_le_bytes()).chain(link);
        for (place, byte) in header.iter_mut().zip(parts) {
            *place = byte;
        }
        let sum = checksum(header, record).to_le_bytes();
        for (place, byte) in header.iter_mut().skip(4).zip(sum) {
            *place = byte;
        }
        Ok(link)
    }
}

/// One frame as it lies in a segment; length and checksum are right, link and sequence are as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The record's place in the log.
    pub sequence: u64,
    /// Every record up to this one was durable when the frame was written.
    pub durable: u64,
    /// The chain's link after this record.
    pub link: Link,
    /// The record.
    pub record: &'a [u8],
}

/// Why the bytes at a place are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes end before the frame does.
    #[error("the frame is cut off")]
    Short,
    /// Its length is zero or beyond [`MAX_RECORD`].
    #[error("the frame's length is impossible")]
    Length,
    /// Its checksum is wrong.
    #[error("the frame's checksum is wrong")]
    Checksum,
}

impl<'a> Frame<'a> {
    /// Reads the frame that starts at the first byte.
    ///
    /// # Errors
    /// [`FrameError`] if there is none.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let (header, rest) = bytes.split_first_chunk::<FRAME_HEADER>().ok_or(FrameError::Short)?;
        let mut cursor = Cursor(header);
        let length = u32::from_le_bytes(cursor.take().ok_or(FrameError::Short)?);
        let sum: [u8; 4] = cursor.take().ok_or(FrameError::Short)?;
        let sequence = u64::from_le_bytes(cursor.take().ok_or(FrameError::Short)?);
        let durable = u64::from_le_bytes(cursor.take().ok_or(FrameError::Short)?);
        let link = cursor.take().ok_or(FrameError::Short)?;
        let length = usize::try_from(length).map_err(|_| FrameError::Length)?;
        if !(1..=MAX_RECORD).contains(&length) {
            return Err(FrameError::Length);
        }
        let record = rest.get(..length).ok_or(FrameError::Short)?;
        if checksum(header, record).to_le_bytes() != sum {
            return Err(FrameError::Checksum);
        }
        Ok(Self { sequence, durable, link, record })
    }

    /// How many entries of the tree its record is.
    #[must_use]
    pub const fn entries(&self) -> usize {
        self.record.len().div_ceil(entry::MAX_PART)
    }

    /// The hashes of its record's entries.
    #[must_use]
    pub fn leaves(&self) -> Vec<Hash> {
        let mut leaves = Vec::with_capacity(1);
        leaf_hashes(self.sequence, self.record, |leaf| leaves.push(leaf));
        leaves
    }

    /// The link this frame must have behind `previous`, if these are its [`leaves`](Self::leaves).
    #[must_use]
    pub fn expected_link(&self, previous: &Link, leaves: &[Hash]) -> Link {
        let length = u32::try_from(self.record.len()).unwrap_or(u32::MAX).to_le_bytes();
        link(previous, &length, self.sequence, self.durable, leaves)
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub const fn size(&self) -> usize {
        FRAME_HEADER + self.record.len()
    }
}

/// The hashes of a record's entries.
fn leaf_hashes(sequence: u64, record: &[u8], leaf: impl FnMut(Hash)) {
    // A record that fits a frame fits the tree's entries; an empty one has none.
    if let Ok(entries) = entry::split(sequence, record) {
        entries.map(|entry| entry.leaf_hash()).for_each(leaf);
    }
}

fn link(previous: &Link, length: &[u8; 4], sequence: u64, durable: u64, leaves: &[Hash]) -> Link {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(length);
    hash.update(sequence.to_le_bytes());
    hash.update(durable.to_le_bytes());
    leaves.iter().for_each(|leaf| hash.update(leaf));
    hash.finalize().into()
}

/// CRC-32C over the frame without the checksum's own four bytes.
fn checksum(header: &[u8; FRAME_HEADER], record: &[u8]) -> u32 {
    let (length, rest) = header.split_at(4);
    let rest = rest.get(4..).unwrap_or_default();
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(length), rest), record)
}

/// Takes fixed numbers of bytes from the front.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn append(
        chain: &mut Chain,
        record: &[u8],
        durable: u64,
        out: &mut Vec<u8>,
        leaves: &mut Vec<Hash>,
    ) -> Result<u64, RecordLength> {
        chain.append(durable, out, leaves, |_, out| {
            out.extend_from_slice(record);
            Ok(())
        })
    }

    fn header() -> SegmentHeader {
        SegmentHeader { log: [9; 16], node: "gw1".into(), first_sequence: 5, previous: [1; 32] }
    }

    #[test]
    fn a_header_comes_back_and_every_flipped_bit_is_found() {
        let bytes = header().encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header()));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes;
                bad[at] ^= 1 << bit;
                assert!(SegmentHeader::decode(&bad).is_err(), "byte {at}");
            }
            assert_eq!(SegmentHeader::decode(&bytes[..at]), Err(HeaderError::Short));
        }
    }

    #[test]
    fn a_frame_comes_back_and_every_flipped_bit_is_found() {
        let mut chain = Chain { link: genesis(&[9; 16], "gw1"), next: 10 };
        let before = chain;
        let mut bytes = Vec::new();
        let mut leaves = Vec::new();
        assert_eq!(append(&mut chain, b"{\"sequence\":10}", 7, &mut bytes, &mut leaves), Ok(10));
        assert_eq!(leaves, [crate::merkle::leaf_hash(b"\x01\0\0\0\0\0\0\0\x0a\0\0\0\x01{\"sequence\":10}")]);
        let frame = Frame::decode(&bytes).unwrap();
        assert_eq!((frame.record, frame.sequence, frame.durable), (&b"{\"sequence\":10}"[..], 10, 7));
        assert_eq!(frame.link, chain.link);
        assert_eq!(frame.expected_link(&before.link, &frame.leaves()), chain.link);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                assert!(Frame::decode(&bad).is_err(), "byte {at}");
            }
            assert_eq!(Frame::decode(&bytes[..at]), Err(FrameError::Short));
        }
    }

    #[test]
    fn a_record_that_does_not_fit_changes_nothing() {
        let mut chain = Chain { link: [0; 32], next: 1 };
        let (mut out, mut leaves) = (b"x".to_vec(), vec![[7; 32]]);
        let long = vec![b' '; MAX_RECORD + 1];
        for bad in [&long[..], b""] {
            assert_eq!(append(&mut chain, bad, 0, &mut out, &mut leaves), Err(RecordLength(bad.len())));
            assert_eq!((chain.next, &out[..], leaves.len()), (1, &b"x"[..], 1));
        }
        assert_eq!(append(&mut chain, &long[1..], 0, &mut out, &mut leaves), Ok(1));
        assert_eq!(leaves.len(), 1 + MAX_RECORD.div_ceil(entry::MAX_PART));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = SegmentHeader::decode(&bytes);
            let _ = Frame::decode(&bytes);
        }
    }
}
