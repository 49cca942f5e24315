//! An issuer's public keys: a JWK set (RFC 7517, RFC 7518 6, RFC 8037 2).

use std::fmt;

use aws_lc_rs::signature::{ParsedPublicKey, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::{Algorithm, Family};
use super::json;

/// The longest JWK set that is read, in bytes.
pub const MAX_SET_BYTES: usize = 256 * 1024;
/// Keys of a set that are kept.
const MAX_KEYS: usize = 128;
/// The longest name of a key, in bytes.
const MAX_KEY_ID: usize = 512;
/// The longest modulus, in bytes: 8,192 bits.
const MAX_MODULUS: usize = 1024;
/// The shortest: 2,048 bits.
const MIN_MODULUS: usize = 256;

/// Why a text is no set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    /// Too long.
    #[error("it is longer than {MAX_SET_BYTES} bytes")]
    TooLong,
    /// No JWK set, or one that can be read in two ways.
    #[error("it is not a JWK set (RFC 7517), or has a name twice")]
    Malformed,
    /// More keys than anybody needs.
    #[error("it has more than {MAX_KEYS} keys")]
    TooMany,
    /// Nothing in it can verify a signature.
    #[error("none of its keys has a `kid` and can verify signatures")]
    NoKey,
}

/// The keys of one issuer that have a name and can verify signatures. Symmetric keys are never among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySet(Vec<Key>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    id: String,
    /// The only algorithm, where the key or its curve says one.
    algorithm: Option<Algorithm>,
    public: Public,
}

#[derive(Clone, PartialEq, Eq)]
enum Public {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// As the library takes them: an uncompressed point, or 32 bytes.
    Curve(Vec<u8>),
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa { .. } => "Rsa",
            Self::Curve(_) => "Curve",
        })
    }
}

impl KeySet {
    /// Reads a set. Keys without a name, for encryption, symmetric, private or of a kind that is not known are left out; of
    /// keys with one name that could be taken for each other, all are.
    ///
    /// # Errors
    /// [`InvalidKeys`].
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidKeys> {
        if bytes.len() > MAX_SET_BYTES {
            return Err(InvalidKeys::TooLong);
        }
        let set = json::object(bytes).ok_or(InvalidKeys::Malformed)?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or(InvalidKeys::Malformed)?;
        if keys.len() > MAX_KEYS {
            return Err(InvalidKeys::TooMany);
        }
        let all: Vec<Key> = keys.iter().filter_map(|key| Key::read(key.as_object()?)).collect();
        let alone = |(index, key): &(usize, &Key)| {
            let twin = |(other, found): (usize, &Key)| other != *index && found.id == key.id && found.overlaps(key);
            !all.iter().enumerate().any(twin)
        };
        let kept: Vec<Key> = all.iter().enumerate().filter(alone).map(|(_, key)| key.clone()).collect();
        if kept.is_empty() { Err(InvalidKeys::NoKey) } else { Ok(Self(kept)) }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none; a set that was parsed has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key has that name, for whatever algorithm.
    pub(super) fn knows(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id == id)
    }

    /// Whether the key of that name made the signature by that algorithm.
    pub(super) fn verify(&self, id: &str, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.0.iter().find(|key| key.id == id && key.is_for(algorithm)).is_some_and(|key| match &key.public {
            Public::Rsa { n, e } => algorithm.rsa().is_some_and(|parameters| {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }),
            Public::Curve(point) => algorithm.curve().is_some_and(|curve| {
                ParsedPublicKey::new(curve, point).is_ok_and(|key| key.verify_sig(message, signature).is_ok())
            }),
        })
    }
}

impl Key {
    fn read(key: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
        let id = text("kid").filter(|id| (1..=MAX_KEY_ID).contains(&id.len()))?;
        if key.get("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        if let Some(operations) = key.get("key_ops")
            && !operations.as_array()?.iter().any(|operation| operation == "verify")
        {
            return None;
        }
        // Whoever published a private key has no key any more.
        if key.contains_key("d") || key.contains_key("k") {
            return None;
        }
        let declared = match key.get("alg") {
            None => None,
            Some(name) => Some(name.as_str()?.parse::<Algorithm>().ok()?),
        };
        let (public, algorithm) = match (text("kty")?, text("crv")) {
            ("RSA", _) => (rsa(bytes("n")?, bytes("e")?)?, declared),
            ("EC", Some(curve)) => {
                let (algorithm, length) = match curve {
                    "P-256" => (Algorithm::Es256, 32),
                    "P-384" => (Algorithm::Es384, 48),
                    "P-521" => (Algorithm::Es512, 66),
                    _ => return None,
                };
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() != length || y.len() != length {
                    return None;
                }
                (Public::Curve([&[4][..], &x, &y].concat()), Some(algorithm))
            }
            ("OKP", Some("Ed25519")) => (Public::Curve(bytes("x").filter(|x| x.len() == 32)?), Some(Algorithm::EdDsa)),
            _ => return None,
        };
        let found = Self { id: id.to_owned(), algorithm, public };
        // What the key declares and what it is agree, and a point lies on its curve.
        if declared.is_some_and(|declared| !found.is_for(declared)) {
            return None;
        }
        if let (Public::Curve(point), Some(curve)) = (&found.public, algorithm.and_then(Algorithm::curve)) {
            ParsedPublicKey::new(curve, point).ok()?;
        }
        Some(found)
    }

    fn family(&self) -> Family {
        match self.public {
            Public::Rsa { .. } => Family::Rsa,
            Public::Curve(_) => Family::Curve,
        }
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        self.family() == algorithm.family() && self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// Whether a token could name both.
    fn overlaps(&self, other: &Self) -> bool {
        Algorithm::ALL.into_iter().any(|algorithm| self.is_for(algorithm) && other.is_for(algorithm))
    }
}

/// A modulus of 2,048 to 8,192 bits and an odd exponent above 2^16 (FIPS 186-5 A.1.1).
fn rsa(n: Vec<u8>, e: Vec<u8>) -> Option<Public> {
    let significant = |bytes: &[u8]| -> Vec<u8> { bytes.iter().copied().skip_while(|byte| *byte == 0).collect() };
    let (n, e) = (significant(&n), significant(&e));
    let exponent = e.iter().try_fold(0_u64, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)))?;
    let is_good = (MIN_MODULUS..=MAX_MODULUS).contains(&n.len())
        && n.first().is_some_and(|first| n.len() > MIN_MODULUS || *first >= 0x80)
        && exponent > 1 << 16
        && exponent < 1 << 33
        && exponent % 2 == 1;
    is_good.then_some(Public::Rsa { n, e })
}
