//! Signature algorithms (RFC 7518 3.1, RFC 8037, RFC 9864). Only asymmetric ones exist here: what has no variant can be
//! neither configured nor accepted.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaParameters, VerificationAlgorithm,
};

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// Ed25519.
    EdDsa,
}

/// Why a text is no algorithm that can be configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAlgorithm {
    /// No signature at all.
    #[error("a token without a signature proves nothing")]
    None,
    /// A secret that whoever verifies has as well.
    #[error("it is symmetric: whoever can verify a token with it can also make one")]
    Symmetric,
    /// None that is known here.
    #[error("it must be RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA")]
    Unknown,
}

/// What keys an algorithm takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Of any modulus within the bounds.
    Rsa,
    /// On this algorithm's own curve.
    Curve,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// The name in `alg`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(super) const fn family(self) -> Family {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => Family::Rsa,
            Self::Es256 | Self::Es384 | Self::Es512 | Self::EdDsa => Family::Curve,
        }
    }

    pub(super) fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::Es512 | Self::EdDsa => None,
        }
    }

    /// Signatures on curves are `r || s` of fixed length (RFC 7518 3.4), never DER.
    pub(super) fn curve(self) -> Option<&'static dyn VerificationAlgorithm> {
        match self {
            Self::Es256 => Some(&ECDSA_P256_SHA256_FIXED),
            Self::Es384 => Some(&ECDSA_P384_SHA384_FIXED),
            Self::Es512 => Some(&ECDSA_P521_SHA512_FIXED),
            Self::EdDsa => Some(&ED25519),
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => None,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl FromStr for Algorithm {
    type Err = InvalidAlgorithm;

    fn from_str(text: &str) -> Result<Self, InvalidAlgorithm> {
        // RFC 9864 2.2: the name that says the curve as well.
        if text == "Ed25519" {
            return Ok(Self::EdDsa);
        }
        if let Some(algorithm) = Self::ALL.into_iter().find(|algorithm| algorithm.label() == text) {
            return Ok(algorithm);
        }
        let folded = text.to_ascii_uppercase();
        if folded == "NONE" {
            return Err(InvalidAlgorithm::None);
        }
        if folded.starts_with("HS") { Err(InvalidAlgorithm::Symmetric) } else { Err(InvalidAlgorithm::Unknown) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_asymmetric_algorithms_have_a_name() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.label().parse(), Ok(algorithm));
            assert_eq!(algorithm.rsa().is_some(), algorithm.family() == Family::Rsa);
            assert_eq!(algorithm.curve().is_some(), algorithm.family() == Family::Curve);
        }
        assert_eq!("Ed25519".parse(), Ok(Algorithm::EdDsa));
        for (text, why) in [
            ("none", InvalidAlgorithm::None),
            ("None", InvalidAlgorithm::None),
            ("HS256", InvalidAlgorithm::Symmetric),
            ("hs512", InvalidAlgorithm::Symmetric),
            ("rs256", InvalidAlgorithm::Unknown),
            ("ES256K", InvalidAlgorithm::Unknown),
            ("A128KW", InvalidAlgorithm::Unknown),
            ("", InvalidAlgorithm::Unknown),
        ] {
            assert_eq!(text.parse::<Algorithm>(), Err(why), "{text}");
        }
    }
}
