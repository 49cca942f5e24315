//! OCSP responses that the gateway staples to its own certificate (RFC 6066 8, RFC 6960).
//!
//! A client checks what is stapled; the gateway only sees to it that it is worth showing: about this certificate, good,
//! in time, and signed by its issuer or by whom the issuer delegated.

use std::path::{Path, PathBuf};

use rustls::pki_types::UnixTime;

use crate::path::{Asked, Basic, Malformed, OcspError, OcspStatus, OcspTarget, Said, leaf_and_issuer, ocsp_urls};
use crate::{Profile, ServerIdentity, pem};

/// The longest response that is stapled, in bytes: every handshake carries it.
pub const MAX_STAPLE_BYTES: usize = 16 * 1024;

/// A response that says `good` of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staple {
    der: Vec<u8>,
    this_update: UnixTime,
    next_update: UnixTime,
}

/// Why a response is not stapled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StapleError {
    /// Not an OCSP response as RFC 6960 and DER have it.
    #[error("it is not an OCSP response in DER: {0}")]
    Malformed(#[from] Malformed),
    /// Longer than [`MAX_STAPLE_BYTES`].
    #[error("it is longer than {MAX_STAPLE_BYTES} bytes")]
    TooLarge,
    /// The responder's own error (RFC 6960 4.2.1).
    #[error("the responder could not answer: status {0}")]
    Unsuccessful(u8),
    /// It says nothing about the certificate.
    #[error("it is about another certificate")]
    OtherCertificate,
    /// The certificate was revoked.
    #[error("it says that the certificate was revoked")]
    Revoked,
    /// The responder does not know the certificate.
    #[error("its responder does not know the certificate")]
    Unknown,
    /// It does not say until when it holds.
    #[error("it does not say when the next one comes")]
    NoNextUpdate,
    /// Neither the issuer nor whom it delegated signed it.
    #[error("it is not signed by the certificate's issuer, nor by a responder of its")]
    Signature,
    /// It cannot be an answer for another reason.
    #[error(transparent)]
    Response(OcspError),
    /// It is not valid yet.
    #[error("it is not valid before {}", crate::rfc3339(*this_update))]
    NotYetValid {
        /// When it will be.
        this_update: UnixTime,
    },
    /// It is out of date.
    #[error("it ended at {}", crate::rfc3339(*next_update))]
    Old {
        /// When it ended.
        next_update: UnixTime,
    },
}

/// Why a file is not stapled.
#[derive(Debug, thiserror::Error)]
pub enum StapleFileError {
    /// The file cannot be read.
    #[error("OCSP response `{path}` cannot be read: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Its content is not to be shown.
    #[error("OCSP response `{path}`: {source}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        source: StapleError,
    },
}

impl Staple {
    /// Reads a response, and judges all but its time: see [`Staple::check_time`].
    ///
    /// The signature, and that the response names the issuer's key, are checked where the identity's chain holds the
    /// issuer's certificate; where it does not, issuer's name and serial number must do.
    ///
    /// # Errors
    /// [`StapleError`].
    pub fn from_der(bytes: &[u8], identity: &ServerIdentity) -> Result<Self, StapleError> {
        if bytes.len() > MAX_STAPLE_BYTES {
            return Err(StapleError::TooLarge);
        }
        let basic = Basic::read(bytes)?;
        let mut chain = identity.chain().iter();
        let leaf = chain.next().ok_or(StapleError::OtherCertificate)?;
        let (leaf, issuer) = leaf_and_issuer(leaf, chain.next().map(AsRef::as_ref))?;
        let algorithms = Profile::CryptrecHigh.provider().signature_verification_algorithms.all;
        let signer = issuer.as_ref().map(|issuer| basic.signer(issuer, algorithms)).transpose()?;
        let Said { status, this_update, next_update } = basic.about(&Asked {
            issuer_name: leaf.issuer.der(),
            issuer_key: issuer.as_ref().map(|issuer| issuer.key.key),
            serial: leaf.serial,
        })?;
        match status {
            OcspStatus::Good => {}
            OcspStatus::Revoked { .. } => return Err(StapleError::Revoked),
            OcspStatus::Unknown => return Err(StapleError::Unknown),
        }
        let next_update = next_update.ok_or(StapleError::NoNextUpdate)?;
        let (since, until) = signer.map_or((this_update, next_update), |signer| {
            (this_update.max(signer.not_before), next_update.min(signer.not_after))
        });
        Ok(Self { der: bytes.to_vec(), this_update: unix_time(since)?, next_update: unix_time(until)? })
    }

    /// Reads a DER file; otherwise as [`Staple::from_der`].
    ///
    /// # Errors
    /// [`StapleFileError`] names the file.
    pub fn load_file(path: &Path, identity: &ServerIdentity) -> Result<Self, StapleFileError> {
        let unreadable = |source| StapleFileError::Unreadable { path: path.to_owned(), source };
        let bytes = pem::read_file(std::fs::File::open(path).map_err(unreadable)?).map_err(unreadable)?;
        Self::from_der(&bytes, identity).map_err(|source| StapleFileError::Content { path: path.to_owned(), source })
    }

    /// May it be shown at `now`?
    ///
    /// # Errors
    /// [`StapleError::NotYetValid`] and [`StapleError::Old`].
    pub fn check_time(&self, now: UnixTime) -> Result<(), StapleError> {
        if now < self.this_update {
            Err(StapleError::NotYetValid { this_update: self.this_update })
        } else if now >= self.next_update {
            Err(StapleError::Old { next_update: self.next_update })
        } else {
            Ok(())
        }
    }

    /// When it ends.
    #[must_use]
    pub const fn next_update(&self) -> UnixTime {
        self.next_update
    }

    /// The response.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}

/// What is asked about an identity's certificate, and where: `None` if its chain lacks its issuer's certificate, or the
/// certificate names no responder (RFC 5280 4.2.2.1).
#[must_use]
pub fn staple_question(identity: &ServerIdentity) -> Option<(OcspTarget, Vec<String>)> {
    let [leaf, issuer, ..] = identity.chain() else { return None };
    let target = OcspTarget::new(leaf, issuer.as_ref().into()).ok()?;
    let urls = ocsp_urls(leaf).ok().filter(|urls| !urls.is_empty())?;
    Some((target, urls))
}

impl From<OcspError> for StapleError {
    fn from(error: OcspError) -> Self {
        match error {
            OcspError::Malformed(malformed) => Self::Malformed(malformed),
            OcspError::TooLarge => Self::TooLarge,
            OcspError::Unsuccessful(status) => Self::Unsuccessful(status),
            OcspError::OtherCertificate => Self::OtherCertificate,
            OcspError::NoNextUpdate => Self::NoNextUpdate,
            OcspError::Signature => Self::Signature,
            OcspError::Backwards
            | OcspError::UnknownCriticalExtension
            | OcspError::Older
            | OcspError::Early(_)
            | OcspError::Late(_) => Self::Response(error),
        }
    }
}

fn unix_time(seconds: i64) -> Result<UnixTime, Malformed> {
    let seconds = u64::try_from(seconds).map_err(|_| Malformed("a time is before 1970"))?;
    Ok(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
}
