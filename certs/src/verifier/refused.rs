//! Refused peers: from what rustls and this crate say to the closed list of refusals, and back to the alert.

use std::cell::RefCell;
use std::sync::Arc;

use policy::{DeviceId, Refusal};
use rustls::{CertificateError, Error, OtherError};

use crate::path::{PathRefusal, PathRefused};
use crate::peers::PeerIdentity;

thread_local! {
    static NOTED: RefCell<Option<PeerRefused>> = const { RefCell::new(None) };
}

/// Runs a step of a handshake, and tells what the verifier refused in it, in full.
///
/// rustls's errors choose the alert, and those with the right alert have no room for the reason: that a certificate was
/// revoked, but not when and why. So the verifier notes its reason on the thread, and who drives the handshake picks it
/// up: rustls calls the verifier within the step.
pub fn noting<R>(step: impl FnOnce() -> R) -> (R, Option<PeerRefused>) {
    NOTED.take();
    let outcome = step();
    (outcome, NOTED.take())
}

/// Notes a refusal of the handshake that runs on this thread, for [`noting`]: of who refuses without being a verifier,
/// such as a resolver that knows no certificate for a server name. `detail` is safe for a terminal.
pub fn note(refusal: Refusal, detail: impl Into<String>) {
    NOTED.set(Some(PeerRefused::new(refusal, detail)));
}

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
    pub(crate) fn new(refusal: Refusal, detail: impl Into<String>) -> Self {
        Self { refusal, detail: detail.into(), device: None }
    }

    pub(super) fn registry(refusal: Refusal, identity: &PeerIdentity) -> Self {
        let device = match identity {
            PeerIdentity::Device(device) => Some(device.clone()),
            PeerIdentity::User { .. } | PeerIdentity::Patient(_) => None,
        };
        Self { refusal, detail: identity.to_string(), device }
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
            Refusal::RevocationUnknown
        } else {
            Refusal::HandshakeFailed
        };
        // Alerts and messages of the peer are enums, names in a certificate are escaped by their types.
        Self::new(refusal, error.to_string().escape_debug().to_string())
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

impl From<PathRefused> for PeerRefused {
    fn from(refused: PathRefused) -> Self {
        Self::new(refusal_of_path(&refused.refusal), refused.to_string())
    }
}

/// The refusal that stands for what is wrong with a path.
const fn refusal_of_path(refusal: &PathRefusal) -> Refusal {
    match refusal {
        PathRefusal::Malformed(_) | PathRefusal::UnknownCriticalExtension(_) => Refusal::CertificateMalformed,
        PathRefusal::TooLarge | PathRefusal::TooMany | PathRefusal::TooDeep | PathRefusal::TooMuchWork => {
            Refusal::CertificateTooLarge
        }
        PathRefusal::UnknownIssuer | PathRefusal::NotAuthority(_) | PathRefusal::PathLength => {
            Refusal::CertificateUntrusted
        }
        PathRefusal::Expired { .. } => Refusal::CertificateExpired,
        PathRefusal::NotYetValid { .. } => Refusal::CertificateNotYetValid,
        PathRefusal::WrongPurpose(_) => Refusal::CertificatePurpose,
        PathRefusal::NameNotPermitted(_) => Refusal::CertificateName,
        PathRefusal::WrongName => Refusal::CertificateIdentity,
        PathRefusal::PolicyNotAccepted(_) => Refusal::CertificatePolicy,
        PathRefusal::WeakKey(_) | PathRefusal::Algorithm => Refusal::CertificateWeak,
        PathRefusal::Revoked { .. } => Refusal::CertificateRevoked,
        PathRefusal::RevocationUnknown(_) => Refusal::RevocationUnknown,
    }
}

impl From<PeerRefused> for Error {
    /// Chooses the alert (RFC 8446 6.2). access_denied would fit a registry's refusal better than certificate_unknown,
    /// but rustls gives it only for a variant that carries no reason.
    #[expect(clippy::wildcard_enum_match_arm, reason = "no alert fits any other refusal better")]
    fn from(refused: PeerRefused) -> Self {
        NOTED.set(Some(refused.clone()));
        Self::InvalidCertificate(match refused.refusal {
            Refusal::CertificateMalformed => CertificateError::BadEncoding,
            Refusal::CertificateUntrusted => CertificateError::UnknownIssuer,
            Refusal::CertificateExpired => CertificateError::Expired,
            Refusal::CertificateNotYetValid => CertificateError::NotValidYet,
            Refusal::CertificateRevoked => CertificateError::Revoked,
            Refusal::RevocationUnknown => CertificateError::UnknownRevocationStatus,
            Refusal::CertificatePurpose => CertificateError::InvalidPurpose,
            _ => CertificateError::Other(OtherError(Arc::new(refused))),
        })
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all else is about form, and the enum is non-exhaustive")]
fn of_certificate(error: &CertificateError) -> Refusal {
    use CertificateError as E;
    match error {
        E::Expired | E::ExpiredContext { .. } => Refusal::CertificateExpired,
        E::NotValidYet | E::NotValidYetContext { .. } => Refusal::CertificateNotYetValid,
        E::Revoked => Refusal::CertificateRevoked,
        E::UnknownIssuer => Refusal::CertificateUntrusted,
        E::UnknownRevocationStatus | E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } => {
            Refusal::RevocationUnknown
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => Refusal::CertificatePurpose,
        // Of the handshake's own signature: path validation has no such error.
        E::BadSignature => Refusal::HandshakeFailed,
        _ => Refusal::CertificateMalformed,
    }
}
