//! From bytes to a verified device.
//!
//! A listener's trust anchors ([`anchors`]), certification paths and revocation ([`path`]), the device that a certificate
//! names ([`spiffe`], [`leaf`]), the user that an HPKI certificate names ([`hpki`]), the one purpose that a listener reads
//! certificates for ([`peers`]), the verifier that joins them and is
//! the only maker of a [`VerifiedPeer`] ([`verifier`]), the TLS profiles ([`profile`]), the gateway's own certificates
//! ([`identity`], [`identities`], [`staple`]) and the issuing of clinics' certificates ([`issue`]). `README.md` tells the
//! whole in two pages.
//!
//! The crate has no sockets and no clock: the time comes in as an argument. Files are read and written only by
//! functions whose names say so. The cryptography is aws-lc-rs, always passed explicitly, never installed process-wide.
#![forbid(unsafe_code)]

pub mod anchors;
pub mod hpki;
pub mod identities;
pub mod identity;
pub mod issue;
pub mod leaf;
pub mod path;
pub mod peers;
pub mod pem;
pub mod profile;
pub mod spiffe;
pub mod staple;
pub mod verifier;

pub use anchors::{AnchorFileError, Anchors, AnchorsError};
pub use identities::ServerIdentities;
pub use identity::{ServerIdentity, ServerIdentityError};
pub use leaf::{IdentityError, device_of};
pub use peers::{PatientField, PeerIdentity, Peers};
pub use profile::Profile;
pub use spiffe::TrustDomain;
pub use staple::{Staple, StapleError, StapleFileError, staple_question};
pub use verifier::{ChainCache, PeerRefused, PeerVerifier, VerifiedPeer, refusal_of};

/// SHA-256 of a certificate's DER: the fingerprint that records and the registry show.
#[must_use]
pub fn fingerprint(certificate: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    let mut bytes = [0; 32];
    // INVARIANT: a SHA-256 digest is 32 bytes long.
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

/// Lower-case hexadecimal, as records and the registry have hashes and serial numbers.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of hexadecimal digits in either case; none if it is anything else.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// A time for messages. X.509 knows no time beyond the year 9999.
fn rfc3339(time: rustls::pki_types::UnixTime) -> String {
    let duration = std::time::Duration::from_secs(time.as_secs());
    x509_cert::der::DateTime::from_unix_duration(duration).map_or_else(|_| format!("{time:?}"), |date| date.to_string())
}

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_back() {
        for bytes in [&[][..], &[0], &[0x0f, 0xf0, 0xab]] {
            assert_eq!(unhex(&hex(bytes)).unwrap(), bytes);
        }
        assert!(unhex("0").is_none() && unhex("0g").is_none());
    }
}
