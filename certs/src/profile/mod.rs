//! TLS profiles after the CRYPTREC list and the guideline of IPA and CRYPTREC on TLS (R15).
//!
//! The two `cryptrec-high` profiles are of the guideline's high-security type (高セキュリティ型): AEAD suites with forward
//! secrecy only. `compatible` has no other suites, for rustls has none that are worse; it gives up what stops old
//! clients for another reason, and says what that is ([`Profile::gives_away`]).
//!
//! The suites' order is the gateway's. The key exchange group is the client's first choice among the profile's, which
//! is how rustls chooses; a client that puts a hybrid group first gets it.

mod client;
mod enrolment;
mod optional;
mod public;
mod server;

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs::{self, cipher_suite as suite, kx_group as group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::SignatureVerificationAlgorithm;
use rustls::version::{TLS12, TLS13};
use rustls::{SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion};

pub use client::{ClientSettings, client_config};
pub use enrolment::enrolment_config;
pub use public::public_config;
pub use server::{ClientCertificates, Resumption, ServerSettings, operators_config, server_config};

/// A named set of protocol versions, suites, groups and signature algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `cryptrec-high`: TLS 1.3 only.
    CryptrecHigh,
    /// `cryptrec-high-tls12`: also TLS 1.2 with ECDHE and AEAD, for devices that cannot do 1.3.
    CryptrecHighTls12,
    /// `compatible`: as `cryptrec-high-tls12`, also for TLS 1.2 clients without the extended master secret (RFC 7627).
    Compatible,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 3] = [Self::CryptrecHigh, Self::CryptrecHighTls12, Self::Compatible];

    /// The name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CryptrecHigh => "cryptrec-high",
            Self::CryptrecHighTls12 => "cryptrec-high-tls12",
            Self::Compatible => "compatible",
        }
    }

    /// What the profile gives away against `cryptrec-high`, in words for the start-up log.
    #[must_use]
    pub const fn gives_away(self) -> &'static [&'static str] {
        const TLS12: &str = "TLS 1.2 is taken: certificates cross the network in the clear, and no hybrid key exchange \
                             protects recorded traffic against quantum computers";
        match self {
            Self::CryptrecHigh => &[],
            Self::CryptrecHighTls12 => &[TLS12],
            Self::Compatible => &[
                TLS12,
                "TLS 1.2 without the extended master secret is taken (RFC 7627): keys do not depend on the whole handshake",
                "sessions are not resumed, since such a session could be spliced into another: every connection costs a \
                 full handshake",
            ],
        }
    }

    /// Must a TLS 1.2 client support the extended master secret (RFC 7627)?
    pub(crate) const fn requires_extended_master_secret(self) -> bool {
        !matches!(self, Self::Compatible)
    }

    /// May sessions be resumed?
    pub(crate) const fn resumes(self) -> bool {
        !matches!(self, Self::Compatible)
    }

    /// The protocol versions.
    #[must_use]
    pub fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static HIGH: &[&SupportedProtocolVersion] = &[&TLS13];
        static HIGH_TLS12: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
        match self {
            Self::CryptrecHigh => HIGH,
            Self::CryptrecHighTls12 | Self::Compatible => HIGH_TLS12,
        }
    }

    /// The cryptography of the profile, made once.
    #[must_use]
    pub fn provider(self) -> Arc<CryptoProvider> {
        static HIGH: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(provider(TLS13_SUITES.to_vec())));
        static HIGH_TLS12: LazyLock<Arc<CryptoProvider>> =
            LazyLock::new(|| Arc::new(provider([TLS13_SUITES, TLS12_SUITES].concat())));
        Arc::clone(match self {
            Self::CryptrecHigh => &HIGH,
            Self::CryptrecHighTls12 | Self::Compatible => &HIGH_TLS12,
        })
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = UnknownProfile;
    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        Self::ALL
            .into_iter()
            .find(|profile| profile.name() == name)
            .ok_or_else(|| UnknownProfile { name: name.escape_debug().to_string() })
    }
}

/// A profile's name that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a TLS profile; there are `cryptrec-high`, `cryptrec-high-tls12` and `compatible`")]
pub struct UnknownProfile {
    /// The name, escaped for a terminal.
    pub name: String,
}

/// Why rustls takes no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// What rustls says.
    #[error("TLS configuration: {0}")]
    Rustls(#[from] rustls::Error),
}

// AES before ChaCha20: where the gateway runs, AES is the faster one, and the guideline wants the server to choose.
const TLS13_SUITES: &[SupportedCipherSuite] =
    &[suite::TLS13_AES_256_GCM_SHA384, suite::TLS13_AES_128_GCM_SHA256, suite::TLS13_CHACHA20_POLY1305_SHA256];

const TLS12_SUITES: &[SupportedCipherSuite] = &[
    suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

// The list names ECDSA, EdDSA, RSA-PSS and RSASSA-PKCS1-v1_5; whether it names ML-DSA could not be verified.
const SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

fn provider(cipher_suites: Vec<SupportedCipherSuite>) -> CryptoProvider {
    CryptoProvider {
        cipher_suites,
        kx_groups: vec![
            group::X25519MLKEM768,
            group::SECP256R1MLKEM768,
            group::SECP256R1,
            group::SECP384R1,
            group::X25519,
        ],
        signature_verification_algorithms: algorithms(),
        ..aws_lc_rs::default_provider()
    }
}

type Algorithm = &'static dyn SignatureVerificationAlgorithm;

fn algorithms() -> WebPkiSupportedAlgorithms {
    static MAPPING: LazyLock<Vec<(SignatureScheme, &'static [Algorithm])>> = LazyLock::new(|| {
        let known = aws_lc_rs::default_provider().signature_verification_algorithms.mapping;
        SCHEMES.iter().filter_map(|scheme| known.iter().find(|(other, _)| other == scheme).copied()).collect()
    });
    static ALL: LazyLock<Vec<Algorithm>> = LazyLock::new(|| {
        let mut all: Vec<Algorithm> = Vec::new();
        for algorithm in MAPPING.iter().flat_map(|(_, algorithms)| *algorithms) {
            let same = |other: &&Algorithm| {
                other.signature_alg_id() == algorithm.signature_alg_id()
                    && other.public_key_alg_id() == algorithm.public_key_alg_id()
            };
            if !all.iter().any(|other| same(&other)) {
                all.push(*algorithm);
            }
        }
        all
    });
    WebPkiSupportedAlgorithms { all: &ALL, mapping: &MAPPING }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_have_names_and_others_are_told_the_names() {
        for profile in Profile::ALL {
            assert_eq!(profile.name().parse::<Profile>(), Ok(profile));
        }
        let error = "modern\u{1b}".parse::<Profile>().unwrap_err().to_string();
        assert!(Profile::ALL.iter().all(|profile| error.contains(&format!("`{profile}`"))), "{error}");
        assert!(!error.contains('\u{1b}'));
    }

    #[test]
    fn what_a_profile_gives_away_is_said() {
        assert!(Profile::CryptrecHigh.gives_away().is_empty());
        assert!(Profile::Compatible.gives_away().len() > Profile::CryptrecHighTls12.gives_away().len());
        // What lacks the extended master secret must not be resumed.
        for profile in Profile::ALL {
            assert!(profile.requires_extended_master_secret() || !profile.resumes(), "{profile}");
        }
    }

    #[test]
    fn only_listed_suites_groups_and_schemes_are_offered() {
        let high = Profile::CryptrecHigh.provider();
        assert!(high.cipher_suites.iter().all(|suite| suite.tls13().is_some()));
        assert_eq!(high.cipher_suites.len(), 3);
        let both = Profile::CryptrecHighTls12.provider();
        let names: Vec<_> = both.cipher_suites.iter().map(|suite| format!("{:?}", suite.suite())).collect();
        assert!(names.iter().all(|name| name.contains("GCM") || name.contains("CHACHA20_POLY1305")), "{names:?}");
        assert!(names.iter().all(|name| name.starts_with("TLS13_") || name.contains("ECDHE")), "{names:?}");
        for provider in [&high, &both] {
            assert_eq!(provider.signature_verification_algorithms.mapping.len(), SCHEMES.len());
            assert_eq!(provider.kx_groups.len(), 5);
        }
        let schemes = high.signature_verification_algorithms.supported_schemes();
        assert_eq!(schemes, SCHEMES);
        // ECDSA: three curves with three hashes; EdDSA; RSA: PSS and PKCS1 with three hashes each.
        assert_eq!(high.signature_verification_algorithms.all.len(), 9 + 1 + 6);
    }
}
