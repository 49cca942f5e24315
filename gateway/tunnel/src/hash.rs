//! The hashes of WireGuard: BLAKE2s, plain, keyed and as HMAC (white paper, 5.4).

use blake2_10::digest::{FixedOutput as _, Mac as _, consts::U16};
use blake2_10::{Blake2s256, Blake2sMac, Digest as _};
use subtle::ConstantTimeEq as _;

/// HASH: BLAKE2s with 32 bytes of output over all parts.
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Blake2s256::new();
    for part in parts {
        state.update(part);
    }
    state.finalize().into()
}

/// MAC: keyed BLAKE2s with 16 bytes of output. Keys are at most 32 bytes long; of longer ones the hash counts.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let hashed;
    let key = if key.len() <= 32 {
        key
    } else {
        hashed = hash(&[key]);
        &hashed
    };
    let Ok(mut state) = Blake2sMac::<U16>::new_from_slice(key) else { return [0; 16] };
    for part in parts {
        state.update(part);
    }
    state.finalize_fixed().into()
}

/// HMAC over BLAKE2s (RFC 2104), with a block of 64 bytes.
pub(crate) fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut inner = [0x36_u8; 64];
    let mut outer = [0x5c_u8; 64];
    for ((inner, outer), key) in inner.iter_mut().zip(&mut outer).zip(key) {
        *inner ^= key;
        *outer ^= key;
    }
    let mut state = Blake2s256::new();
    state.update(inner);
    for part in parts {
        state.update(part);
    }
    let inside: [u8; 32] = state.finalize().into();
    hash(&[&outer, &inside])
}

/// Whether both are equal, in a time that does not depend on where they differ.
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_blake2s() {
        // RFC 7693, appendix B.
        let abc = hash(&[b"a", b"bc"]);
        assert_eq!(&abc[..4], &[0x50, 0x8c, 0x5e, 0x8c]);
        assert_eq!(&abc[28..], &[0x86, 0x67, 0x59, 0x82]);
    }

    #[test]
    fn keyed_and_hmac_agree_with_another_implementation() {
        // Python's hashlib and hmac.
        assert_eq!(mac(&[b'k'; 32], &[b"x", b"yz"])[..8], [0x98, 0xdb, 0xba, 0x47, 0xa1, 0x07, 0x3c, 0xda]);
        assert_eq!(hmac(&[b'k'; 32], &[b"x", b"yz"])[..8], [0x8f, 0x37, 0xef, 0x90, 0x25, 0xe2, 0xba, 0x08]);
    }

    #[test]
    fn equality_sees_length_and_content() {
        assert!(equal(b"ab", b"ab"));
        assert!(!equal(b"ab", b"ac"));
        assert!(!equal(b"ab", b"abc"));
    }
}
