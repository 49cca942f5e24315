//! The index's keys. All come from one that only the reviewer's private key gives, so that nobody else reads an index or
//! makes one: an encrypted index that anyone could have made would be one that leaves out what he likes.
//!
//! Each file has a random id of its own and a key derived from it, and its blocks are numbered: no key and nonce seal twice.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use gateway_audit::reviewer::private::ReviewerKey;
use gateway_audit::seal::Secret;
use zeroize::Zeroizing;

use super::IndexError;

/// What the key of all keys is derived for.
const LABEL: &str = "sekisho audit index v1";
/// Bytes of a file's id.
pub(super) const ID: usize = 32;
/// Bytes that sealing adds to a block.
pub(super) const TAG: usize = 16;

/// The key of all keys of one index.
pub(super) struct IndexKey(Secret);

impl IndexKey {
    /// That of this reviewer for the index with this salt.
    pub(super) fn derive(reviewer: &ReviewerKey, salt: &[u8; 32]) -> Result<Self, IndexError> {
        reviewer.derive(LABEL, salt).map(Self).map_err(|_| IndexError::Library)
    }

    fn expand(&self, info: &[&[u8]]) -> Result<Zeroizing<[u8; 32]>, IndexError> {
        let mut key = Zeroizing::new([0; 32]);
        let from = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, self.0.bytes());
        let expanded = from.expand(info, hkdf::HKDF_SHA256).and_then(|expanded| expanded.fill(&mut *key));
        expanded.map(|()| key).map_err(|_| IndexError::Library)
    }

    /// What a lane's folder is called: nothing is to be learnt from it.
    pub(super) fn lane(&self, origin: &str) -> Result<[u8; 32], IndexError> {
        Ok(*self.expand(&[b"lane", origin.as_bytes()])?)
    }

    /// The key of one file. `kind` is one word; lane and id have fixed lengths.
    pub(super) fn file(&self, kind: &str, lane: &[u8; 32], id: &[u8; ID]) -> Result<FileKey, IndexError> {
        let key = self.expand(&[b"file", kind.as_bytes(), lane, id])?;
        let key = UnboundKey::new(&AES_256_GCM, &*key).map_err(|_| IndexError::Library)?;
        Ok(FileKey(LessSafeKey::new(key)))
    }
}

/// The key of one file.
pub(super) struct FileKey(LessSafeKey);

impl FileKey {
    /// Seals block `number`, in place. Each number is sealed once.
    pub(super) fn seal(&self, number: u64, block: &mut Vec<u8>) -> Result<(), IndexError> {
        self.0.seal_in_place_append_tag(nonce(number), Aad::empty(), block).map_err(|_| IndexError::Library)
    }

    /// Opens block `number`; none if it is anything else than what was sealed.
    pub(super) fn open(&self, number: u64, mut block: Vec<u8>) -> Option<Vec<u8>> {
        let length = self.0.open_in_place(nonce(number), Aad::empty(), &mut block).ok()?.len();
        block.truncate(length);
        Some(block)
    }
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce.iter_mut().skip(4).zip(number.to_be_bytes()).for_each(|(place, byte)| *place = byte);
    Nonce::assume_unique_for_key(nonce)
}

/// Random bytes.
pub(super) fn random<const N: usize>() -> Result<[u8; N], IndexError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| IndexError::Library)?;
    Ok(bytes)
}
