//! Certification requests (PKCS#10, RFC 2986): a public key and the proof that whoever asks has the private one.
//!
//! Nothing else of a request is believed: names, extensions and validity are the registry's to say.

use rcgen::{PublicKeyData, SignatureAlgorithm};
use rustls::pki_types::pem::SectionKind;

use crate::path::Malformed;
use crate::path::certificate::{KeyFault, PublicKey, Signed};
use crate::path::der::{self, Reader};
use crate::pem;

/// The largest request, in bytes of DER: an RSA key of 8192 bits and some attributes fit.
pub const MAX_REQUEST_BYTES: usize = 16 * 1024;

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Larger than [`MAX_REQUEST_BYTES`].
    #[error("the certification request is larger than {MAX_REQUEST_BYTES} bytes")]
    TooLarge,
    /// The file is not one certification request in PEM.
    #[error("it is not one certification request in PEM or DER")]
    Form,
    /// The content is none of PKCS#10.
    #[error("the certification request cannot be read: {0}")]
    Malformed(#[from] Malformed),
    /// The key is not one to certify.
    #[error("the certification request's key is {0}")]
    Key(&'static str),
    /// The signature is by an algorithm that nobody here believes in.
    #[error("the certification request is signed with an algorithm that is not supported")]
    Algorithm,
    /// The signature does not fit the key: whoever asks may not have the private one.
    #[error("the certification request's signature is not by its key")]
    Proof,
}

/// A public key whose holder proved to have the private one.
#[derive(Debug, Clone)]
pub struct RequestedKey {
    algorithm: &'static SignatureAlgorithm,
    key: Vec<u8>,
}

impl RequestedKey {
    /// Reads a request in DER and checks its proof of possession.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn from_der(bytes: &[u8]) -> Result<Self, RequestError> {
        if bytes.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLarge);
        }
        let signed = Signed::read(bytes)?;
        let mut info = Reader::new(signed.content);
        if info.value(der::INTEGER)? != [0] {
            return Err(Malformed("the request is not of version 1").into());
        }
        info.element(der::SEQUENCE)?;
        let key = PublicKey::read(info.element(der::SEQUENCE)?.whole)?;
        // Attributes are bounded by the whole, and nobody reads them.
        info.value(der::constructed(0))?;
        info.end()?;
        key.check().map_err(|fault| match fault {
            KeyFault::Weak(what) => RequestError::Key(what),
            KeyFault::Malformed(malformed) => malformed.into(),
        })?;
        let known = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        let verify = known.all.iter().find(|algorithm| {
            algorithm.signature_alg_id().as_ref() == signed.algorithm
                && algorithm.public_key_alg_id().as_ref() == key.algorithm
        });
        let verify = verify.ok_or(RequestError::Algorithm)?;
        verify.verify_signature(key.key, signed.message, signed.signature).map_err(|_| RequestError::Proof)?;
        let algorithm = algorithm_of(key.algorithm)?;
        Ok(Self { algorithm, key: key.key.to_vec() })
    }

    /// SHA-256 of the SubjectPublicKeyInfo: what the key is known by.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        crate::fingerprint(&self.subject_public_key_info())
    }

    /// Reads a request in DER, or one in PEM.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn read(bytes: &[u8]) -> Result<Self, RequestError> {
        if bytes.first() == Some(&der::SEQUENCE) {
            return Self::from_der(bytes);
        }
        let sections = pem::sections(bytes).map_err(|_| RequestError::Form)?;
        match sections.as_slice() {
            [one] if one.kind == Some(SectionKind::Csr) || one.label == "NEW CERTIFICATE REQUEST" => {
                Self::from_der(&one.der)
            }
            _ => Err(RequestError::Form),
        }
    }
}

/// What the key of a certificate is called when it is written again: the identifier stays the same bytes.
fn algorithm_of(identifier: &[u8]) -> Result<&'static SignatureAlgorithm, RequestError> {
    let mut reader = Reader::new(identifier);
    match (reader.oid()?, reader.rest()) {
        (RSA, _) => Ok(&rcgen::PKCS_RSA_SHA256),
        (ED25519, _) => Ok(&rcgen::PKCS_ED25519),
        (EC, rest) => match Reader::new(rest).oid()? {
            P256 => Ok(&rcgen::PKCS_ECDSA_P256_SHA256),
            P384 => Ok(&rcgen::PKCS_ECDSA_P384_SHA384),
            P521 => Ok(&rcgen::PKCS_ECDSA_P521_SHA512),
            _ => Err(RequestError::Algorithm),
        },
        _ => Err(RequestError::Algorithm),
    }
}

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];

impl PublicKeyData for RequestedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.key
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};

    fn request(algorithm: &'static SignatureAlgorithm) -> (Vec<u8>, Vec<u8>) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = CertificateParams::new(vec!["admin.example".to_owned()]).unwrap();
        (params.serialize_request(&key).unwrap().der().to_vec(), key.subject_public_key_info())
    }

    #[test]
    fn a_request_gives_its_key_and_nothing_else() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ECDSA_P521_SHA512,
            &rcgen::PKCS_ED25519,
        ] {
            let (der, key) = request(algorithm);
            assert_eq!(RequestedKey::read(&der).unwrap().subject_public_key_info(), key);
            for label in ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"] {
                let pem = super::super::pem_text(label, &der).unwrap();
                assert_eq!(RequestedKey::read(pem.as_bytes()).unwrap().subject_public_key_info(), key);
            }
            let pem = super::super::pem_text("CERTIFICATE", &der).unwrap();
            assert_eq!(RequestedKey::read(pem.as_bytes()).unwrap_err(), RequestError::Form);
        }
    }

    #[test]
    fn somebody_elses_key_is_not_certified() {
        let (mine, _) = request(&rcgen::PKCS_ECDSA_P256_SHA256);
        let (theirs, _) = request(&rcgen::PKCS_ECDSA_P256_SHA256);
        // My signature under their request.
        let signed = Signed::read(&mine).unwrap();
        let algorithm = super::super::der::sequence(&[signed.algorithm]);
        let mut bits = vec![0];
        bits.extend_from_slice(signed.signature);
        let message = Signed::read(&theirs).unwrap().message;
        let forged =
            super::super::der::sequence(&[message, &algorithm, &super::super::der::tlv(der::BIT_STRING, &[&bits])]);
        assert_eq!(RequestedKey::read(&forged).unwrap_err(), RequestError::Proof);
    }

    #[test]
    fn absurd_sizes_are_refused_unread() {
        assert_eq!(RequestedKey::from_der(&vec![0x30; MAX_REQUEST_BYTES + 1]).unwrap_err(), RequestError::TooLarge);
    }

    proptest! {
        #[test]
        fn no_change_survives(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let (mut der, _) = request(&rcgen::PKCS_ECDSA_P256_SHA256);
            let at = at.index(der.len());
            der[at] ^= 1 << bit;
            prop_assert!(RequestedKey::read(&der).is_err());
        }
    }
}
