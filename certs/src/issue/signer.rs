//! An authority's key: a key pair in memory, or one that a token keeps and only signs with (PKCS#11).
//!
//! What a token signs is checked against the authority's certificate before anybody sees it: a token that holds another
//! key of the same name, or errs, issues nothing.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::{digest, signature};
use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm};

use super::{IssueError, KeyKind, PrivatePem, der};

/// Why a token did not sign.
pub type RemoteFault = Box<dyn std::error::Error + Send + Sync>;

/// Whoever signs with a private key that it does not give away.
pub trait RemoteSigner: Send + Sync {
    /// Signs a digest with ECDSA: `r` and `s`, big-endian, each as long as the curve's order (PKCS#11 3.1 6.3.1).
    ///
    /// # Errors
    /// The signer's own, which names it.
    fn sign_digest(&self, digest: &[u8]) -> Result<Vec<u8>, RemoteFault>;
}

/// A key that a token keeps.
#[derive(Clone)]
pub struct RemoteKey {
    kind: KeyKind,
    public: Vec<u8>,
    signer: Arc<dyn RemoteSigner>,
}

impl RemoteKey {
    /// A key by its public half, an uncompressed point (SEC 1 2.3.3).
    ///
    /// # Errors
    /// [`IssueError::Foreign`] if the point is none of that curve's form.
    pub fn new(kind: KeyKind, point: &[u8], signer: Arc<dyn RemoteSigner>) -> Result<Self, IssueError> {
        if point.len() != 1 + 2 * kind.order_bytes() || point.first() != Some(&4) {
            return Err(IssueError::Foreign { reason: "the key's public half is no uncompressed point of its curve" });
        }
        Ok(Self { kind, public: point.to_vec(), signer })
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, RemoteFault> {
        let (hash, verification): (_, &dyn signature::VerificationAlgorithm) = match self.kind {
            KeyKind::P256 => (&digest::SHA256, &signature::ECDSA_P256_SHA256_ASN1),
            KeyKind::P384 => (&digest::SHA384, &signature::ECDSA_P384_SHA384_ASN1),
        };
        let raw = self.signer.sign_digest(digest::digest(hash, message).as_ref())?;
        let signed =
            der_of(&raw, self.kind).ok_or("the token's signature is no pair of numbers of the key's length")?;
        let public = signature::UnparsedPublicKey::new(verification, &self.public);
        public.verify(message, &signed).map_err(|_| "the token's key is not the one in the authority's certificate")?;
        Ok(signed)
    }
}

impl fmt::Debug for RemoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKey").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// `Ecdsa-Sig-Value` (RFC 3279 2.2.3) of two numbers of the same length.
fn der_of(raw: &[u8], kind: KeyKind) -> Option<Vec<u8>> {
    if raw.len() != 2 * kind.order_bytes() {
        return None;
    }
    let (r, s) = raw.split_at_checked(kind.order_bytes())?;
    Some(der::sequence(&[&der::unsigned(r), &der::unsigned(s)]))
}

/// The key of an authority to be made.
#[derive(Debug, Clone, Copy)]
pub enum CaKey<'a> {
    /// Drawn by aws-lc-rs.
    New(KeyKind),
    /// Kept by a token.
    Remote(&'a RemoteKey),
}

impl From<KeyKind> for CaKey<'_> {
    fn from(kind: KeyKind) -> Self {
        Self::New(kind)
    }
}

/// The key that signs.
pub(super) enum Signer {
    File(KeyPair, PrivatePem),
    Remote {
        key: RemoteKey,
        /// What the token said last: the generator's error has no room for it.
        fault: Mutex<Option<RemoteFault>>,
    },
}

impl Signer {
    pub(super) fn from_pem(pem: &str) -> Result<Self, IssueError> {
        Ok(Self::File(KeyPair::from_pem(pem)?, PrivatePem(pem.to_owned())))
    }

    pub(super) fn of(key: CaKey<'_>) -> Result<Self, IssueError> {
        match key {
            CaKey::New(kind) => {
                let pair = KeyPair::generate_for(kind.algorithm())?;
                let pem = PrivatePem(pair.serialize_pem());
                Ok(Self::File(pair, pem))
            }
            CaKey::Remote(key) => Ok(Self::Remote { key: key.clone(), fault: Mutex::new(None) }),
        }
    }

    pub(super) const fn pem(&self) -> Option<&PrivatePem> {
        match self {
            Self::File(_, pem) => Some(pem),
            Self::Remote { .. } => None,
        }
    }

    /// The generator's error, or what is behind it.
    pub(super) fn explain(&self, error: rcgen::Error) -> IssueError {
        let fault = match self {
            Self::File(..) => None,
            Self::Remote { fault, .. } => fault.lock().unwrap_or_else(PoisonError::into_inner).take(),
        };
        fault.map_or_else(|| error.into(), IssueError::Remote)
    }
}

impl PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        match self {
            Self::File(pair, _) => pair.der_bytes(),
            Self::Remote { key, .. } => &key.public,
        }
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self {
            Self::File(pair, _) => pair.algorithm(),
            Self::Remote { key, .. } => key.kind.algorithm(),
        }
    }
}

impl rcgen::SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        match self {
            Self::File(pair, _) => pair.sign(message),
            Self::Remote { key, fault } => key.sign(message).map_err(|error| {
                *fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                rcgen::Error::RemoteKeyError
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issue::{Authority, DeviceTerms, NewAuthority, NewKey, Serial};
    use crate::path::der::{Reader, SEQUENCE};
    use crate::testing::{NOW, YEAR, device, domain};
    use aws_lc_rs::signature::{EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _};
    use proptest::prelude::*;

    /// Signs as a token does, with a key in memory; `other` is a token that holds the wrong one.
    struct Soft {
        pair: EcdsaKeyPair,
        fails: bool,
    }

    impl RemoteSigner for Soft {
        fn sign_digest(&self, digest: &[u8]) -> Result<Vec<u8>, RemoteFault> {
            if self.fails {
                return Err("no token `clinic`".into());
            }
            let digest = digest::Digest::import_less_safe(
                digest,
                match digest.len() {
                    32 => &digest::SHA256,
                    _ => &digest::SHA384,
                },
            )?;
            Ok(self.pair.sign_digest(&digest)?.as_ref().to_vec())
        }
    }

    fn pair(kind: KeyKind) -> EcdsaKeyPair {
        let algorithm: &'static EcdsaSigningAlgorithm = match kind {
            KeyKind::P256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            KeyKind::P384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        };
        EcdsaKeyPair::generate(algorithm).unwrap()
    }

    fn remote(kind: KeyKind) -> RemoteKey {
        let pair = pair(kind);
        let point = pair.public_key().as_ref().to_vec();
        RemoteKey::new(kind, &point, Arc::new(Soft { pair, fails: false })).unwrap()
    }

    #[test]
    fn an_authority_signs_with_keys_that_it_does_not_have() {
        for kind in [KeyKind::P256, KeyKind::P384] {
            let (top, below) = (remote(kind), remote(kind));
            let root = Authority::new_root("r", CaKey::Remote(&top), YEAR, Serial::from_random([1; 16]), NOW).unwrap();
            let trust = domain();
            let new = NewAuthority {
                name: "i",
                domain: &trust,
                key: CaKey::Remote(&below),
                lifetime: YEAR / 2,
                crl_url: None,
            };
            let issuing = root.issue_authority(new, Serial::from_random([2; 16]), NOW).unwrap();
            assert!(issuing.key_pem().is_none());
            let signer = Arc::clone(&below.signer);
            let again = Authority::from_remote(issuing.certificate_pem(), signer).unwrap();
            again.prove().unwrap();
            assert_eq!(again.key_id(), issuing.key_id());
            let id = device("sakura", "exam-1");
            let terms = DeviceTerms { domain: &trust, device: &id, lifetime: YEAR / 4, crl_url: None };
            let key = NewKey::generate().unwrap();
            let certified = again.certify_device(key.public(), terms, Serial::from_random([3; 16]), NOW).unwrap();
            let read = crate::path::certificate::Signed::read(&certified.der).unwrap();
            let verification: &dyn signature::VerificationAlgorithm = match kind {
                KeyKind::P256 => &signature::ECDSA_P256_SHA256_ASN1,
                KeyKind::P384 => &signature::ECDSA_P384_SHA384_ASN1,
            };
            let public = signature::UnparsedPublicKey::new(verification, &below.public);
            public.verify(read.message, read.signature).unwrap();
            again.crl(&[], 1, YEAR, NOW).unwrap();
            // The same certificate, and a token with another key.
            let other = Authority::from_remote(issuing.certificate_pem(), remote(kind).signer).unwrap();
            let said = other.prove().unwrap_err();
            assert!(matches!(&said, IssueError::Remote(_)) && said.to_string().contains("not the one"), "{said}");
            assert!(other.crl(&[], 1, YEAR, NOW).is_err());
        }
    }

    #[test]
    fn what_the_token_says_is_what_is_told() {
        let good = remote(KeyKind::P256);
        let root = Authority::new_root("r", CaKey::Remote(&good), YEAR, Serial::from_random([1; 16]), NOW).unwrap();
        let failing: Arc<dyn RemoteSigner> = Arc::new(Soft { pair: pair(KeyKind::P256), fails: true });
        let gone = Authority::from_remote(root.certificate_pem(), failing).unwrap();
        assert_eq!(gone.crl(&[], 1, YEAR, NOW).unwrap_err().to_string(), "no token `clinic`");
        assert_eq!(gone.prove().unwrap_err().to_string(), "no token `clinic`");
        assert!(!format!("{gone:?}").contains("Soft"));
    }

    #[test]
    fn a_point_of_another_curve_is_no_key() {
        let soft = || -> Arc<dyn RemoteSigner> { Arc::new(Soft { pair: pair(KeyKind::P256), fails: false }) };
        for bad in [vec![], vec![4; 64], vec![2; 65], vec![4; 97]] {
            assert!(RemoteKey::new(KeyKind::P256, &bad, soft()).is_err());
        }
    }

    proptest! {
        /// Any two numbers become strict DER, with the same values.
        #[test]
        fn numbers_of_fixed_length_become_der(raw in proptest::collection::vec(any::<u8>(), 64), zeros in 0usize..33) {
            let mut raw = raw;
            raw[..zeros].fill(0);
            let written = der_of(&raw, KeyKind::P256).unwrap();
            let mut outer = Reader::new(&written);
            let mut inner = outer.inside(SEQUENCE).unwrap();
            for part in raw.chunks(32) {
                let value = inner.value(crate::path::der::INTEGER).unwrap();
                crate::path::der::check_integer(value).unwrap();
                prop_assert!(value.first().is_some_and(|first| first & 0x80 == 0));
                let skip = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
                prop_assert_eq!(skip(value), skip(part));
            }
            inner.end().unwrap();
            outer.end().unwrap();
            prop_assert!(der_of(&raw, KeyKind::P384).is_none());
        }
    }
}
