//! Sealing records under data keys, and the pseudonyms of sites.
//!
//! AES-256-GCM (NIST SP 800-38D). The nonce is the record's sequence number behind four zero bytes; the data that is
//! authenticated beside the record is the log's name behind its length in two bytes, the sequence number and the clear
//! header. So a sealed record opens at its place in its log with its header, and nowhere else.
//!
//! **A key may seal one record for each sequence number, ever.** A second one under the same number gives away both. A
//! writer that may have to write a number again, with other contents, must make new keys before it does.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::header::{ClearHeader, Envelope, EnvelopeError, MAX_HEADER, Pseudonym, TAG};

/// The longest name of a log, bytes.
pub const MAX_ORIGIN: usize = 512;
const MAX_AAD: usize = 2 + MAX_ORIGIN + 8 + MAX_HEADER;

/// Why a record is not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The header cannot be written.
    #[error(transparent)]
    Header(#[from] EnvelopeError),
    /// The log's name is longer than [`MAX_ORIGIN`] bytes.
    #[error("the log's name has {0} bytes, more than {MAX_ORIGIN}")]
    Origin(usize),
    /// The cryptographic library refuses.
    #[error("the record cannot be sealed")]
    Library,
    /// Another key, another place in the log, another log, or not the bytes that were sealed.
    #[error("the record does not open: another key or place, or not the bytes that were sealed")]
    Open,
}

/// The 32 secret bytes of a data key, zeroed when dropped. Whoever has them reads every record of the key.
#[derive(Clone)]
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// A data key from 32 random bytes.
    #[must_use]
    pub fn new(random: [u8; 32]) -> Self {
        Self(Zeroizing::new(random))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A data key, ready for use. The library zeroes it when it is dropped.
pub struct DataKey(LessSafeKey);

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey")
    }
}

impl DataKey {
    /// Prepares a key.
    ///
    /// # Errors
    /// [`SealError::Library`] if there is no memory for it.
    pub fn new(secret: &Secret) -> Result<Self, SealError> {
        let key = UnboundKey::new(&AES_256_GCM, secret.bytes()).map_err(|_| SealError::Library)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Appends the envelope of a record to `out`: the clear header, and `plaintext` sealed. Allocates only where `out`
    /// grows. See the [module](self) about sequence numbers.
    ///
    /// # Errors
    /// [`SealError`] if header or log's name cannot be written; then `out` is as it was.
    pub fn seal_into(
        &self,
        origin: &str,
        sequence: u64,
        header: &ClearHeader<'_>,
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let start = out.len();
        let sealed = self.seal_behind(start, origin, sequence, header, plaintext, out);
        if sealed.is_err() {
            out.truncate(start);
        }
        sealed
    }

    fn seal_behind(
        &self,
        start: usize,
        origin: &str,
        sequence: u64,
        header: &ClearHeader<'_>,
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        out.reserve(MAX_HEADER + plaintext.len() + TAG);
        header.encode(out)?;
        let mut aad = [0; MAX_AAD];
        let aad = associated(&mut aad, origin, sequence, out.get(start..).unwrap_or_default())?;
        let body = out.len();
        out.extend_from_slice(plaintext);
        let record = out.get_mut(body..).unwrap_or_default();
        let tag = self.0.seal_in_place_separate_tag(nonce(sequence), Aad::from(aad), record);
        out.extend_from_slice(tag.map_err(|_| SealError::Library)?.as_ref());
        Ok(())
    }

    /// The record in an envelope that stands at this place of this log.
    ///
    /// # Errors
    /// [`SealError::Open`] if anything at all is another than when it was sealed.
    pub fn open(&self, origin: &str, sequence: u64, envelope: &Envelope<'_>) -> Result<Vec<u8>, SealError> {
        let mut aad = [0; MAX_AAD];
        let aad = associated(&mut aad, origin, sequence, envelope.clear())?;
        let mut record = envelope.sealed.to_vec();
        let opened = self.0.open_in_place(nonce(sequence), Aad::from(aad), &mut record);
        let length = opened.map_err(|_| SealError::Open)?.len();
        record.truncate(length);
        Ok(record)
    }
}

fn nonce(sequence: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce.iter_mut().skip(4).zip(sequence.to_be_bytes()).for_each(|(place, byte)| *place = byte);
    Nonce::assume_unique_for_key(nonce)
}

/// What is authenticated beside the record, in `buffer`.
fn associated<'a>(
    buffer: &'a mut [u8; MAX_AAD],
    origin: &str,
    sequence: u64,
    clear: &[u8],
) -> Result<&'a [u8], SealError> {
    let long = || SealError::Origin(origin.len());
    if origin.len() > MAX_ORIGIN {
        return Err(long());
    }
    let length = u16::try_from(origin.len()).map_err(|_| long())?.to_be_bytes();
    let mut rest = buffer.as_mut_slice();
    for part in [&length[..], origin.as_bytes(), &sequence.to_be_bytes(), clear] {
        let (place, behind) = rest.split_at_mut_checked(part.len()).ok_or_else(long)?;
        place.copy_from_slice(part);
        rest = behind;
    }
    let left = rest.len();
    Ok(buffer.get(..MAX_AAD - left).unwrap_or_default())
}

/// What pseudonyms of sites are made with, zeroed when dropped. Whoever has it can try the names of sites.
#[derive(Clone)]
pub struct Pepper(Zeroizing<[u8; 32]>);

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper")
    }
}

impl Pepper {
    /// A pepper from 32 random bytes.
    #[must_use]
    pub fn new(random: [u8; 32]) -> Self {
        Self(Zeroizing::new(random))
    }

    /// The site's pseudonym: the first eight bytes of HMAC-SHA-256(pepper, name), and [`Pseudonym::NONE`] for none.
    #[must_use]
    pub fn pseudonym(&self, site: Option<&str>) -> Pseudonym {
        let Some(site) = site else { return Pseudonym::NONE };
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*self.0), site.as_bytes());
        Pseudonym(tag.as_ref().first_chunk().copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::{KeyId, Kind};
    use proptest::prelude::*;

    const HEADER: ClearHeader<'static> = ClearHeader {
        kind: Kind::Intent,
        unix_ns: 1_795_380_602_123_456_789,
        site: Pseudonym([1, 2, 3, 4, 5, 6, 7, 8]),
        key: KeyId([0xc0; 16]),
        reference: "01j9",
    };
    const ORIGIN: &str = "sekisho.example/gw1/lane-1";

    fn key() -> DataKey {
        DataKey::new(&Secret::new(std::array::from_fn(|place| u8::try_from(place).unwrap()))).unwrap()
    }

    fn sealed(plaintext: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        key().seal_into(ORIGIN, 42, &HEADER, plaintext, &mut out).unwrap();
        out
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_known_answer() {
        // By Python's cryptography: AESGCM(bytes(range(32))).encrypt(nonce, b'{"a":1}', aad).
        let envelope = sealed(br#"{"a":1}"#);
        assert_eq!(hex(&envelope[FIXED_4..]), "43e7865577798b4d0e924adaa3724b5f59ad3685fda24b");
        assert_eq!(key().open(ORIGIN, 42, &Envelope::decode(&envelope).unwrap()).unwrap(), br#"{"a":1}"#);
    }

    const FIXED_4: usize = crate::header::FIXED + 4;

    #[test]
    fn nothing_is_written_where_something_cannot_be() {
        let mut out = b"before".to_vec();
        let long = "o".repeat(MAX_ORIGIN + 1);
        assert_eq!(key().seal_into(&long, 1, &HEADER, b"x", &mut out), Err(SealError::Origin(MAX_ORIGIN + 1)));
        let bad = ClearHeader { reference: "a b", ..HEADER };
        let error = SealError::Header(EnvelopeError::Reference);
        assert_eq!(key().seal_into(ORIGIN, 1, &bad, b"x", &mut out), Err(error));
        assert_eq!(out, b"before");
        let origin = "o".repeat(MAX_ORIGIN);
        let longest = ClearHeader { reference: &"r".repeat(255), ..HEADER };
        key().seal_into(&origin, 1, &longest, b"x", &mut out).unwrap();
        let envelope = Envelope::decode(&out[6..]).unwrap();
        assert_eq!(key().open(&origin, 1, &envelope).unwrap(), b"x");
        assert_eq!(key().open(&long, 1, &envelope), Err(SealError::Origin(MAX_ORIGIN + 1)));
    }

    #[test]
    fn a_flipped_bit_anywhere_and_another_place_do_not_open() {
        let envelope = sealed(b"{\"kind\":\"intent\"}");
        for bit in 0..envelope.len() * 8 {
            let mut changed = envelope.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = Envelope::decode(&changed) {
                assert_eq!(key().open(ORIGIN, 42, &read), Err(SealError::Open), "bit {bit}");
            }
        }
        let read = Envelope::decode(&envelope).unwrap();
        for bit in 0..64 {
            assert_eq!(key().open(ORIGIN, 42 ^ (1 << bit), &read), Err(SealError::Open));
        }
        for origin in ["", "sekisho.example/gw1/lane-2", "sekisho.example/gw1/lane-", "sekisho.example/gw1/lane-1 "] {
            assert_eq!(key().open(origin, 42, &read), Err(SealError::Open));
        }
        assert_eq!(DataKey::new(&Secret::new([0; 32])).unwrap().open(ORIGIN, 42, &read), Err(SealError::Open));
        assert_eq!(
            format!("{:?} {:?} {:?}", key(), Secret::new([7; 32]), Pepper::new([7; 32])),
            "DataKey Secret Pepper"
        );
    }

    #[test]
    fn pseudonyms_are_as_documented() {
        let pepper = Pepper::new([7; 32]);
        assert_eq!(pepper.pseudonym(None), Pseudonym::NONE);
        // By Python: hmac.new(bytes([7] * 32), b"sakura-clinic", "sha256").
        assert_eq!(pepper.pseudonym(Some("sakura-clinic")).to_string(), "545fa955c70926d6");
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_changed_it_does_not(
            plaintext in prop::collection::vec(any::<u8>(), 0..2_000),
            origin in "[a-z/]{1,40}",
            sequence: u64,
            reference in "[!-~]{0,30}",
            place: prop::sample::Index,
            bit in 0_u8..8,
        ) {
            let header = ClearHeader { reference: &reference, ..HEADER };
            let mut envelope = Vec::new();
            key().seal_into(&origin, sequence, &header, &plaintext, &mut envelope).unwrap();
            let read = Envelope::decode(&envelope).unwrap();
            prop_assert_eq!(read.header, header);
            prop_assert_eq!(key().open(&origin, sequence, &read).unwrap(), plaintext);
            prop_assert!(key().open(&origin, sequence.wrapping_add(1), &read).is_err());
            let other = origin.clone() + "x";
            prop_assert!(key().open(&other, sequence, &read).is_err());
            let place = place.index(envelope.len());
            envelope[place] ^= 1_u8 << bit;
            if let Ok(read) = Envelope::decode(&envelope) {
                prop_assert!(key().open(&origin, sequence, &read).is_err());
            }
        }
    }
}
