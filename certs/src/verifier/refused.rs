//! Refused peers: from what rustls, webpki and this crate say to the closed list of refusals.

use std::sync::Arc;

use policy::{DeviceId, Refusal};
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error, OtherError};

use crate::IdentityError;
use crate::leaf::Leaf;

/// Why a peer is not let in. The detail is for the record, never for the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{refusal}: {detail}")]
pub struct PeerRefused {
    /// The refusal.
    pub refusal: Refusal,
    /// What was wrong, safe for a terminal.
    pub detail: String,
    /// The device, where the chain was valid and the registry refused: its claim is then proved but for the key.
    pub device: Option<DeviceId>,
}

impl PeerRefused {
    pub(super) fn new(refusal: Refusal, detail: impl Into<String>) -> Self {
        Self { refusal, detail: detail.into(), device: None }
    }

    pub(super) fn registry(refusal: Refusal, device: DeviceId) -> Self {
        Self { refusal, detail: format!("device `{device}`"), device: Some(device) }
    }

    /// Reads any handshake error.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        if let Some(refused) = carried(error) {
            return refused.clone();
        }
        let refusal = if matches!(error, Error::NoCertificatesPresented) {
            Refusal::CertificateMissing
        } else if let Error::InvalidCertificate(error) = error {
            of_certificate(error)
        } else if matches!(error, Error::InvalidCertRevocationList(_)) {
            // A revocation list that cannot be used leaves the certificate unproved.
            Refusal::CertificateUntrusted
        } else {
            Refusal::HandshakeFailed
        };
        // Alerts and messages of the peer are enums, names in a certificate are escaped by their types.
        Self::new(refusal, error.to_string().escape_debug().to_string())
    }
}

impl From<IdentityError> for PeerRefused {
    fn from(error: IdentityError) -> Self {
        Self::new(error.refusal(), error.to_string())
    }
}

/// The refusal that a handshake error stands for, and what was wrong, for the record: no certificate is
/// [`Refusal::CertificateMissing`]; whatever is not about the certificate is [`Refusal::HandshakeFailed`].
#[must_use]
pub fn refusal_of(error: &Error) -> (Refusal, String) {
    let refused = PeerRefused::of(error);
    (refused.refusal, refused.detail)
}

/// [`refusal_of`] for the errors of a TLS stream, which wrap those of rustls. A lost connection is
/// [`Refusal::HandshakeFailed`].
#[must_use]
pub fn refusal_of_io(error: &std::io::Error) -> (Refusal, String) {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(inner) => refusal_of(inner),
        None => (Refusal::HandshakeFailed, error.to_string()),
    }
}

/// The device that the registry refused, where that was the reason.
#[must_use]
pub fn refused_device(error: &Error) -> Option<&DeviceId> {
    carried(error)?.device.as_ref()
}

fn carried(error: &Error) -> Option<&PeerRefused> {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) = error else { return None };
    inner.downcast_ref()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all else is about form, and the enum is non-exhaustive")]
fn of_certificate(error: &CertificateError) -> Refusal {
    use CertificateError as E;
    match error {
        E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. } => {
            Refusal::CertificateExpired
        }
        E::Revoked => Refusal::CertificateRevoked,
        E::UnknownIssuer
        | E::UnknownRevocationStatus
        | E::ExpiredRevocationList
        | E::ExpiredRevocationListContext { .. } => Refusal::CertificateUntrusted,
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => Refusal::CertificatePurpose,
        // Of the handshake's own signature: `path_error` renames those of the path.
        E::BadSignature => Refusal::HandshakeFailed,
        _ => Refusal::CertificateMalformed,
    }
}

/// Makes the errors of path validation say what was wrong with the certificate.
#[expect(clippy::wildcard_enum_match_arm, reason = "all else keeps its meaning and its alert")]
pub(super) fn path_error(error: Error, leaf: &CertificateDer<'_>) -> Error {
    match error {
        // A signature by another key than the issuer's: to the peer and in the record, the issuer is unknown.
        Error::InvalidCertificate(CertificateError::BadSignature) => {
            Error::InvalidCertificate(CertificateError::UnknownIssuer)
        }
        // webpki's errors that rustls has no name for, a CA as leaf among them.
        Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
            let refused = match Leaf::read(leaf).and_then(|read| read.check_purpose()) {
                Err(purpose) => PeerRefused::from(purpose),
                Ok(()) => PeerRefused::new(Refusal::CertificateMalformed, inner.to_string()),
            };
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
        }
        other => other,
    }
}
