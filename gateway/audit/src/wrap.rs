//! Wrapping data keys to reviewers: HPKE (RFC 9180) in base mode with DHKEM(P-256, HKDF-SHA256), HKDF-SHA256 and
//! AES-256-GCM.
//!
//! `info` is a list, each item behind its length in two bytes: [`LABEL`], the log's name, the site's name, the class,
//! the period, the reviewer's name and the data key's id; `aad` is empty, since not every library's one-shot HPKE takes
//! one. So a wrapped key opens for the log, site, class, period and reviewer that it was made for, and cannot be passed
//! off as another's.
//!
//! The scheme is that of `rustls`, which the gateway has anyway, over the same cryptographic library; it draws the
//! ephemeral key of each wrapping itself.

use std::fmt;

use aws_lc_rs::agreement;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_P256_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke as _, HpkePrivateKey, HpkePublicKey};
use zeroize::{Zeroize as _, Zeroizing};

use crate::header::KeyId;
use crate::seal::Secret;

/// First item of `info`.
pub const LABEL: &str = "sekisho audit data key v1";
/// Bytes of a public key and of an encapsulated one: an uncompressed point of P-256.
pub const POINT: usize = 65;
/// Bytes of a wrapped data key: the key and its tag.
pub const WRAPPED: usize = 48;

/// Why a data key is not wrapped or unwrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// Not an uncompressed point of P-256.
    #[error("the public key is not a point of P-256")]
    Public,
    /// Not a private key of P-256.
    #[error("the private key is not one of P-256")]
    Private,
    /// A log's name or another item of more than 65,535 bytes.
    #[error("what the wrapped key is bound to is too long")]
    Binding,
    /// The cryptographic library refuses.
    #[error("the data key cannot be wrapped")]
    Library,
    /// Another reviewer's, or wrapped for another log, site, class, period or key id, or changed.
    #[error("the data key does not unwrap: it is another reviewer's, of another place, or was changed")]
    Open,
}

/// What a wrapped key is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// Name of the log.
    pub origin: &'a str,
    /// Name of the site; empty where there is none.
    pub site: &'a str,
    /// The class of information; empty where there is none.
    pub class: &'a str,
    /// The period.
    pub period: &'a str,
    /// Name of the reviewer.
    pub reviewer: &'a str,
    /// The data key's id.
    pub key: KeyId,
}

impl Binding<'_> {
    /// HPKE's `info`.
    ///
    /// # Errors
    /// [`WrapError::Binding`] if an item's length cannot be written.
    pub fn info(&self) -> Result<Vec<u8>, WrapError> {
        let mut info = Vec::new();
        let texts = [LABEL, self.origin, self.site, self.class, self.period, self.reviewer].map(str::as_bytes);
        for item in texts.into_iter().chain([&self.key.0[..]]) {
            let length = u16::try_from(item.len()).map_err(|_| WrapError::Binding)?;
            info.extend_from_slice(&length.to_be_bytes());
            info.extend_from_slice(item);
        }
        Ok(info)
    }
}

/// A reviewer's public key for wrapping: a point of P-256.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; POINT]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PublicKey").field(&self.0.get(1..9)).finish()
    }
}

impl PublicKey {
    /// A key from the uncompressed point (SEC 1, 2.3.3), which is checked to be on the curve.
    ///
    /// # Errors
    /// [`WrapError::Public`] if it is not.
    pub fn new(point: [u8; POINT]) -> Result<Self, WrapError> {
        let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED;
        let parsed = aws_lc_rs::signature::ParsedPublicKey::new(algorithm, point).is_ok();
        if point.first() == Some(&4) && parsed { Ok(Self(point)) } else { Err(WrapError::Public) }
    }

    /// The uncompressed point.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; POINT] {
        &self.0
    }
}

/// A reviewer's private key for unwrapping, zeroed when dropped.
pub struct PrivateKey {
    secret: Zeroizing<[u8; 32]>,
    public: PublicKey,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PrivateKey").field(&self.public).finish()
    }
}

impl PrivateKey {
    /// A key from its scalar, big-endian; 32 random bytes are one but with a probability of 2^-32.
    ///
    /// # Errors
    /// [`WrapError::Private`] if the scalar is zero, or not below the curve's order.
    pub fn new(secret: [u8; 32]) -> Result<Self, WrapError> {
        let secret = Zeroizing::new(secret);
        let key = agreement::PrivateKey::from_private_key(&agreement::ECDH_P256, &*secret);
        let public = key.map_err(|_| WrapError::Private)?.compute_public_key().map_err(|_| WrapError::Private)?;
        let point = public.as_ref().try_into().map_err(|_| WrapError::Private)?;
        Ok(Self { secret, public: PublicKey::new(point).map_err(|_| WrapError::Private)? })
    }

    /// The public key that belongs to it.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The scalar.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.secret
    }
}

/// A data key, wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrapped {
    /// HPKE's `enc`.
    pub encapsulated: [u8; POINT],
    /// HPKE's `ct`.
    pub ciphertext: [u8; WRAPPED],
}

/// Wraps a data key.
///
/// # Errors
/// [`WrapError`] if it cannot be done.
pub fn wrap(secret: &Secret, to: &PublicKey, binding: &Binding<'_>) -> Result<Wrapped, WrapError> {
    let info = binding.info()?;
    let sealed = SUITE.seal(&info, &[], secret.bytes(), &HpkePublicKey(to.0.to_vec()));
    let (encapsulated, ciphertext) = sealed.map_err(|_| WrapError::Library)?;
    Ok(Wrapped {
        encapsulated: encapsulated.0.try_into().map_err(|_| WrapError::Library)?,
        ciphertext: ciphertext.try_into().map_err(|_| WrapError::Library)?,
    })
}

/// Unwraps a data key.
///
/// # Errors
/// [`WrapError::Open`] if it is not this reviewer's, or bound to something else.
pub fn unwrap(wrapped: &Wrapped, key: &PrivateKey, binding: &Binding<'_>) -> Result<Secret, WrapError> {
    let info = binding.info()?;
    let encapsulated = EncapsulatedSecret(wrapped.encapsulated.to_vec());
    let private = HpkePrivateKey::from(key.secret.to_vec());
    let opened = SUITE.open(&encapsulated, &info, &[], &wrapped.ciphertext, &private);
    let mut opened = opened.map_err(|_| WrapError::Open)?;
    let secret = <[u8; 32]>::try_from(opened.as_slice());
    opened.zeroize();
    secret.map(Secret::new).map_err(|_| WrapError::Open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BINDING: Binding<'static> = Binding {
        origin: "sekisho.example/gw1/lane-1",
        site: "sakura-clinic",
        class: "clinical",
        period: "2026-11-23",
        reviewer: "auditor",
        key: KeyId([5; 16]),
    };

    fn key(byte: u8) -> PrivateKey {
        PrivateKey::new([byte; 32]).unwrap()
    }

    fn unhex(text: &str) -> Vec<u8> {
        let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        text.as_bytes().chunks(2).map(digits).collect()
    }

    /// The vector for mode 0, KEM 0x0010, KDF 0x0001, AEAD 0x0002 among those published with RFC 9180.
    #[test]
    fn the_vector_of_rfc_9180_opens() {
        let secret = unhex("317f915db7bc629c48fe765587897e01e282d3e8445f79f27f65d031a88082b2");
        let public = "04abc7e49a4c6b3566d77d0304addc6ed0e98512ffccf505e6a8e3eb25c685136f853148544876de76c0f2ef99cdc3a05c\
                      cf5ded7860c7c021238f9e2073d2356c";
        let enc = "04c06b4f6bebc7bb495cb797ab753f911aff80aefb86fd8b6fcc35525f3ab5f03e0b21bd31a86c6048af3cb2d98e0d3bf01da5\
                   cc4c39ff5370d331a4f1f7d5a4e0";
        let ct = unhex("58c61a45059d0c5704560e9d88b564a8b63f1364b8d1fcb3c4c6ddc1d291742465e902cd216f8908da49f8f96f");
        let key = PrivateKey::new(secret.try_into().unwrap()).unwrap();
        assert_eq!(key.public().bytes().to_vec(), unhex(public));
        let private = HpkePrivateKey::from(key.bytes().to_vec());
        let info = unhex("4f6465206f6e2061204772656369616e2055726e");
        let opened = SUITE.open(&EncapsulatedSecret(unhex(enc)), &info, b"Count-0", &ct, &private).unwrap();
        assert_eq!(opened, b"Beauty is truth, truth beauty");
    }

    /// Wrapped by Python's `cryptography` 48 (OpenSSL): `Suite(P256, HKDF_SHA256, AES_256_GCM).encrypt`, by the text
    /// of `FORMAT.md` alone.
    #[test]
    fn what_another_implementation_wrapped_unwraps() {
        let wrapped = unhex(PYTHON);
        let (encapsulated, ciphertext) = wrapped.split_at(POINT);
        let wrapped =
            Wrapped { encapsulated: encapsulated.try_into().unwrap(), ciphertext: ciphertext.try_into().unwrap() };
        assert_eq!(unwrap(&wrapped, &key(7), &BINDING).unwrap().bytes(), &[0x5e; 32]);
    }

    const PYTHON: &str = "\
        04cb3566981f391f1750537c95294ad5d65cf80c61a7339621837a520f78d19f7b1ef58af9d55a641b49233d6269e2db5941\
        ae74e4616a1e31703bbf72412b791224677bbfe406e66821e705b8999c9afa79855f38ea4834a0e8c525eeb3a1001bbb8bd1\
        71f63c36394e193ad7faf96dfc";

    #[test]
    fn only_the_binding_and_the_reviewer_that_it_is_for_unwrap() {
        let wrapped = wrap(&Secret::new([9; 32]), key(7).public(), &BINDING).unwrap();
        assert_eq!(unwrap(&wrapped, &key(7), &BINDING).unwrap().bytes(), &[9; 32]);
        assert_eq!(unwrap(&wrapped, &key(8), &BINDING).unwrap_err(), WrapError::Open);
        let others = [
            Binding { origin: "sekisho.example/gw1/lane-2", ..BINDING },
            Binding { site: "sakura-clini", class: "cclinical", ..BINDING },
            Binding { class: "", ..BINDING },
            Binding { period: "2026-11-24", ..BINDING },
            Binding { reviewer: "auditor2", ..BINDING },
            Binding { key: KeyId([6; 16]), ..BINDING },
        ];
        for other in others {
            assert_eq!(unwrap(&wrapped, &key(7), &other).unwrap_err(), WrapError::Open, "{other:?}");
        }
        let long = "x".repeat(65_536);
        let other = Binding { site: &long, ..BINDING };
        assert_eq!(unwrap(&wrapped, &key(7), &other).unwrap_err(), WrapError::Binding);
        // Two wrappings of one key are different.
        assert_ne!(wrapped, wrap(&Secret::new([9; 32]), key(7).public(), &BINDING).unwrap());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!(PrivateKey::new([0; 32]).unwrap_err(), WrapError::Private);
        assert_eq!(PrivateKey::new([0xff; 32]).unwrap_err(), WrapError::Private);
        assert_eq!(PublicKey::new([0; POINT]).unwrap_err(), WrapError::Public);
        let mut point = *key(7).public().bytes();
        point[64] ^= 1;
        assert_eq!(PublicKey::new(point).unwrap_err(), WrapError::Public);
        let mut hybrid = *key(7).public().bytes();
        hybrid[0] = 6 | (hybrid[64] & 1);
        assert_eq!(PublicKey::new(hybrid).unwrap_err(), WrapError::Public);
        assert!(!format!("{:?}", key(7)).contains("7, 7, 7"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_changed_bit_does_not_unwrap(place in 0_usize..POINT + WRAPPED, bit in 0_u8..8) {
            let mut wrapped = wrap(&Secret::new([9; 32]), key(7).public(), &BINDING).unwrap();
            match wrapped.encapsulated.get_mut(place) {
                Some(byte) => *byte ^= 1_u8 << bit,
                None => wrapped.ciphertext[place - POINT] ^= 1_u8 << bit,
            }
            prop_assert_eq!(unwrap(&wrapped, &key(7), &BINDING).unwrap_err(), WrapError::Open);
        }
    }
}
