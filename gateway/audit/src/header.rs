//! Envelopes: a record as it enters the log. In front stands what anyone may read, behind it the sealed record.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 1 | [`VERSION`] |
//! | 1 | 1 | the kind of record ([`Kind`]) |
//! | 2 | 8 | time of the record, nanoseconds since the Unix epoch, signed |
//! | 10 | 8 | the site's pseudonym; zeros: no site |
//! | 18 | 16 | id of the data key |
//! | 34 | 1 | length n of the reference |
//! | 35 | n | reference: what the record is about, and nothing personal (visible ASCII) |
//! | 35 + n | m | the sealed record, at least [`TAG`] bytes |
//!
//! Integers are big-endian. The sequence number stands in front of each entry, the log's name in its checkpoint.

use std::fmt;

/// First byte of every envelope.
pub const VERSION: u8 = 1;
/// Bytes of a clear header before its reference.
pub const FIXED: usize = 35;
/// The longest reference, bytes.
pub const MAX_REFERENCE: usize = 255;
/// The longest clear header, bytes.
pub const MAX_HEADER: usize = FIXED + MAX_REFERENCE;
/// Bytes that sealing adds to a record.
pub const TAG: usize = 16;

/// What an envelope cannot be made or read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Fewer bytes than a header with its reference and a tag.
    #[error("the envelope is cut off")]
    Short,
    /// Written by a program that knows more.
    #[error("the envelope has version {0}, this program knows {VERSION}")]
    Version(u8),
    /// A kind of record that is not known here.
    #[error("the envelope has a record of kind {0}, which is not known here")]
    Kind(u8),
    /// A reference that is longer than [`MAX_REFERENCE`] bytes, or not visible ASCII.
    #[error("the envelope's reference is not up to {MAX_REFERENCE} visible ASCII characters")]
    Reference,
}

macro_rules! kinds {
    ($($number:literal $variant:ident $label:literal $doc:literal;)*) => {
        /// The kinds of records: the labels are those of `kind` in the records themselves. Numbers are never reused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Kind {
            $(#[doc = $doc] $variant = $number,)*
        }

        impl Kind {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The label in records.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }

            /// The number in clear headers.
            #[must_use]
            pub const fn number(self) -> u8 {
                match self {
                    $(Self::$variant => $number,)*
                }
            }

            /// The kind with this number.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The kind with this label.
            #[must_use]
            pub fn from_label(label: &str) -> Option<Self> {
                match label {
                    $($label => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    1 Request "request" "A request that only reads, or was refused.";
    2 Intent "intent" "A request that may change something, before the backend sees it.";
    3 Outcome "outcome" "What came of an intent.";
    4 Completion "completion" "Bytes and end of an exchange.";
    5 StreamOpened "stream-opened" "A tunnel begins.";
    6 StreamPeriodic "stream-periodic" "A tunnel is still there.";
    7 StreamClosed "stream-closed" "A tunnel has ended.";
    8 Addendum "addendum" "What was found out about an exchange after its record.";
    9 Login "login" "An attempt to log in, and what came of it.";
    10 Session "session" "A user's session began, ended, or was presented by another device.";
    16 ConnectionOpened "connection-opened" "A device connected.";
    17 ConnectionClosed "connection-closed" "A device's connection ended.";
    18 Refusal "refusal" "A connection or handshake was refused.";
    19 RefusalSummary "refusal-summary" "Refusals that were counted instead of recorded one by one.";
    20 TunnelDrops "tunnel-drops" "Packets of tunnels were dropped.";
    21 Outage "outage" "A site fell silent, or is seen again.";
    22 ConnectionMoved "connection-moved" "A device's connection comes from another address.";
    32 RegistryChange "registry-change" "A site, device, user or role was changed.";
    33 RegistryRollback "registry-rollback" "The registry was older than the log.";
    34 Reviewers "reviewers" "A site's reviewers changed.";
    35 Shred "shred" "Wrapped keys were destroyed.";
    36 Opening "opening" "Records were opened through the gateway's key directory.";
    37 RevocationChange "revocation-change" "What is known of revoked certificates changed.";
    38 Rewrap "rewrap" "A reviewer wrapped data keys to another reviewer.";
    39 Removal "removal" "Entries whose data keys are all destroyed were removed.";
    48 Start "start" "The writer begins.";
    49 Stop "stop" "The writer ends.";
    50 Reload "reload" "Configuration and policies were read again.";
    51 Recovery "recovery" "The log was not ended by a stop.";
    52 Clock "clock" "The clock's state changed.";
    53 AuditFailure "audit-failure" "The log could not be written for a while.";
    54 Full "full" "No space is left.";
    55 Gap "gap" "Records that could not be kept.";
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

macro_rules! hexadecimal {
    ($type:ident, $bytes:literal) => {
        impl $type {
            /// Reads lower-case hexadecimal digits, all of them; anything else is none.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
                if text.len() != 2 * $bytes || !text.bytes().all(digits) {
                    return None;
                }
                let mut bytes = [0; $bytes];
                for (place, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    *place = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
                }
                Some(Self(bytes))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}

/// A site, to those who do not have the pepper: the same eight bytes in all its records, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pseudonym(pub [u8; 8]);

hexadecimal!(Pseudonym, 8);

impl Pseudonym {
    /// That of records without a site.
    pub const NONE: Self = Self([0; 8]);
}

/// Which data key a record is sealed under. Random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 16]);

hexadecimal!(KeyId, 16);

/// What anyone may read of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClearHeader<'a> {
    /// What kind of record it is.
    pub kind: Kind,
    /// Time of the record, nanoseconds since the Unix epoch.
    pub unix_ns: i64,
    /// The site that it belongs to.
    pub site: Pseudonym,
    /// The data key that it is sealed under.
    pub key: KeyId,
    /// What it is about: the request's id in records of an exchange, the registry's number in changes of the registry,
    /// empty in others.
    pub reference: &'a str,
}

impl<'a> ClearHeader<'a> {
    /// Appends the header's bytes to `out`.
    ///
    /// # Errors
    /// [`EnvelopeError::Reference`] if that cannot be written; then nothing is appended.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
        let length = u8::try_from(self.reference.len()).map_err(|_| EnvelopeError::Reference)?;
        if !is_reference(self.reference.as_bytes()) {
            return Err(EnvelopeError::Reference);
        }
        out.extend_from_slice(&[VERSION, self.kind.number()]);
        out.extend_from_slice(&self.unix_ns.to_be_bytes());
        out.extend_from_slice(&self.site.0);
        out.extend_from_slice(&self.key.0);
        out.push(length);
        out.extend_from_slice(self.reference.as_bytes());
        Ok(())
    }

    /// Reads a header; what is left is behind it.
    fn decode(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), EnvelopeError> {
        let (version, rest) = bytes.split_first_chunk::<1>().ok_or(EnvelopeError::Short)?;
        if *version != [VERSION] {
            return Err(EnvelopeError::Version(u8::from_be_bytes(*version)));
        }
        let (kind, rest) = rest.split_first_chunk::<1>().ok_or(EnvelopeError::Short)?;
        let number = u8::from_be_bytes(*kind);
        let kind = Kind::from_number(number).ok_or(EnvelopeError::Kind(number))?;
        let (unix_ns, rest) = rest.split_first_chunk().ok_or(EnvelopeError::Short)?;
        let (site, rest) = rest.split_first_chunk().ok_or(EnvelopeError::Short)?;
        let (key, rest) = rest.split_first_chunk().ok_or(EnvelopeError::Short)?;
        let (length, rest) = rest.split_first().ok_or(EnvelopeError::Short)?;
        let (reference, rest) = rest.split_at_checked(usize::from(*length)).ok_or(EnvelopeError::Short)?;
        let text = std::str::from_utf8(reference).ok().filter(|_| is_reference(reference));
        let reference = text.ok_or(EnvelopeError::Reference)?;
        let header =
            Self { kind, unix_ns: i64::from_be_bytes(*unix_ns), site: Pseudonym(*site), key: KeyId(*key), reference };
        Ok((header, rest))
    }
}

fn is_reference(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_graphic)
}

/// An envelope, read; nothing in it is to be believed before the tree or the data key has vouched for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// What anyone may read.
    pub header: ClearHeader<'a>,
    /// The sealed record and its tag.
    pub sealed: &'a [u8],
    clear: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Reads an envelope strictly.
    ///
    /// # Errors
    /// [`EnvelopeError`] if the bytes are none.
    pub fn decode(envelope: &'a [u8]) -> Result<Self, EnvelopeError> {
        let (header, sealed) = ClearHeader::decode(envelope)?;
        let (clear, _) = envelope.split_at_checked(envelope.len() - sealed.len()).ok_or(EnvelopeError::Short)?;
        if sealed.len() < TAG { Err(EnvelopeError::Short) } else { Ok(Self { header, sealed, clear }) }
    }

    /// The clear header's bytes.
    #[must_use]
    pub const fn clear(&self) -> &'a [u8] {
        self.clear
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: ClearHeader<'static> = ClearHeader {
        kind: Kind::Request,
        unix_ns: -1,
        site: Pseudonym([0xab; 8]),
        key: KeyId([7; 16]),
        reference: "r-1",
    };

    #[test]
    fn a_header_lies_as_documented() {
        let mut bytes = Vec::new();
        HEADER.encode(&mut bytes).unwrap();
        assert_eq!(bytes.len(), FIXED + 3);
        let expected = [&[1, 1][..], &[0xff; 8], &[0xab; 8], &[7; 16], &[3], b"r-1"].concat();
        assert_eq!(bytes, expected);
        assert_eq!(Envelope::decode(&bytes), Err(EnvelopeError::Short));
        bytes.extend([9; TAG]);
        let envelope = Envelope::decode(&bytes).unwrap();
        assert_eq!((envelope.header, envelope.sealed, envelope.clear()), (HEADER, &[9; TAG][..], &expected[..]));
    }

    #[test]
    fn each_wrong_part_has_its_error() {
        let mut good = Vec::new();
        HEADER.encode(&mut good).unwrap();
        good.extend([9; TAG]);
        let changed = |place: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[place] = byte;
            Envelope::decode(&bytes).map(|_| ())
        };
        assert_eq!(changed(0, 2), Err(EnvelopeError::Version(2)));
        assert_eq!(changed(1, 0), Err(EnvelopeError::Kind(0)));
        assert_eq!(changed(1, 255), Err(EnvelopeError::Kind(255)));
        assert_eq!(changed(34, 255), Err(EnvelopeError::Short));
        for bad in [b' ', b'\n', 0x7f, 0x80] {
            assert_eq!(changed(36, bad), Err(EnvelopeError::Reference), "{bad}");
        }
        for end in 0..good.len() {
            assert_eq!(Envelope::decode(&good[..end]), Err(EnvelopeError::Short), "{end}");
        }
        let mut out = vec![1];
        for reference in ["a b", "é", &"a".repeat(256)] {
            assert_eq!(ClearHeader { reference, ..HEADER }.encode(&mut out), Err(EnvelopeError::Reference));
        }
        assert_eq!(out, [1]);
    }

    #[test]
    fn kinds_are_told_apart_by_number_and_label() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind.number()), Some(*kind));
            assert_eq!(Kind::from_label(kind.label()), Some(*kind));
        }
        assert_eq!((0..=u8::MAX).filter_map(Kind::from_number).count(), Kind::ALL.len());
        // The page for strangers has the same table.
        let page = include_str!("../FORMAT.md");
        for kind in Kind::ALL {
            assert!(page.contains(&format!("| {} | `{}` |", kind.number(), kind.label())), "{kind}");
        }
    }

    #[test]
    fn ids_are_lower_case_hexadecimal() {
        assert_eq!(Pseudonym([0, 1, 2, 3, 4, 5, 0xfe, 0xff]).to_string(), "000102030405feff");
        assert_eq!(Pseudonym::parse("000102030405feff"), Some(Pseudonym([0, 1, 2, 3, 4, 5, 0xfe, 0xff])));
        for bad in ["000102030405feFF", "000102030405fef", "000102030405feff0", "+00102030405feff", ""] {
            assert_eq!(Pseudonym::parse(bad), None, "{bad}");
        }
        assert_eq!(KeyId::parse(&"0f".repeat(16)), Some(KeyId([15; 16])));
    }

    proptest! {
        #[test]
        fn headers_come_back(
            kind in prop::sample::select(Kind::ALL),
            unix_ns: i64,
            site: [u8; 8],
            key: [u8; 16],
            reference in "[!-~]{0,255}",
            sealed in prop::collection::vec(any::<u8>(), TAG..64),
        ) {
            let header =
                ClearHeader { kind, unix_ns, site: Pseudonym(site), key: KeyId(key), reference: &reference };
            let mut bytes = Vec::new();
            header.encode(&mut bytes).unwrap();
            let length = bytes.len();
            bytes.extend_from_slice(&sealed);
            let envelope = Envelope::decode(&bytes).unwrap();
            prop_assert_eq!((envelope.header, envelope.sealed, envelope.clear()), (header, &sealed[..], &bytes[..length]));
        }

        #[test]
        fn what_is_read_is_written_the_same(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(envelope) = Envelope::decode(&bytes) {
                let mut again = Vec::new();
                envelope.header.encode(&mut again).unwrap();
                prop_assert_eq!(&again, envelope.clear());
                again.extend_from_slice(envelope.sealed);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
