//! The status of one certificate, asked of its issuer's responder (OCSP, RFC 6960).
//!
//! An [`OcspTarget`] says whom the question is about, and makes it. An [`OcspAnswer`] is only ever made from a response
//! whose signature was checked against the target's issuer; what it says, and for how long, is fixed then. The
//! [`OcspSet`] holds the answers that paths are judged by.
//!
//! A nonce is not sent: answers are fetched in the background and kept, so that one made beforehand is as good, and many
//! responders only have such (RFC 5019 4). What a replay could win is bounded by the answer's next update, and an older
//! answer never takes the place of a newer one.

mod response;
mod set;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::pki_types::SignatureVerificationAlgorithm;

use super::Malformed;
use super::certificate::Certificate;
use super::der::{self, INTEGER, Reader};
use super::points::http_urls;
use super::refused::RevocationReason;
use crate::issue::der as write;

pub(super) use response::OCSP_SIGNING;
pub(crate) use response::{Asked, Basic, Said};
pub use set::OcspSet;

/// The longest response, in bytes. One with a responder's chain of RSA certificates has 6 KiB.
pub const MAX_OCSP_BYTES: usize = 32 * 1024;

/// How far a responder's clock may be ahead of this node's, in seconds: it makes answers at the moment it is asked.
pub const OCSP_CLOCK_TOLERANCE: i64 = 60;

/// `id-sha1`. It only tells issuers apart, which both sides know: no signature rests on it, and the responders of RFC
/// 5019 know no other.
const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];

/// Why a response is not an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OcspError {
    /// Not an OCSP response as RFC 6960 and DER have it.
    #[error("it is not an OCSP response in DER: {0}")]
    Malformed(#[from] Malformed),
    /// Longer than [`MAX_OCSP_BYTES`].
    #[error("it is longer than {MAX_OCSP_BYTES} bytes")]
    TooLarge,
    /// The responder's own error (RFC 6960 4.2.1), which nobody signs.
    #[error("the responder could not answer: {}", status_name(*.0))]
    Unsuccessful(u8),
    /// It says nothing about the certificate.
    #[error("it is about another certificate")]
    OtherCertificate,
    /// It says `good`, and not until when.
    #[error("it does not say when the next one comes")]
    NoNextUpdate,
    /// Its updates contradict each other.
    #[error("its next update comes before it was made")]
    Backwards,
    /// A critical extension that nobody here knows.
    #[error("a critical extension of the response is unknown")]
    UnknownCriticalExtension,
    /// Neither the issuer nor whom it delegated signed it.
    #[error("it is not signed by the certificate's issuer, nor by a responder of its")]
    Signature,
    /// An older answer than the one in use.
    #[error("it is older than the one in use")]
    Older,
    /// From the future, by more than [`OCSP_CLOCK_TOLERANCE`].
    #[error("it is valid only {0} s from now; look at the clocks, the responder's and this node's")]
    Early(i64),
    /// Out of date.
    #[error("it was out of date {0} s ago")]
    Late(i64),
}

/// The names of RFC 6960 4.2.1.
fn status_name(status: u8) -> String {
    match status {
        1 => "malformedRequest".to_owned(),
        2 => "internalError".to_owned(),
        3 => "tryLater".to_owned(),
        5 => "sigRequired".to_owned(),
        6 => "unauthorized".to_owned(),
        other => format!("status {other}"),
    }
}

/// What an answer says of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OcspStatus {
    /// It is not revoked.
    Good,
    /// It is.
    Revoked {
        /// Since when, seconds since 1970.
        when: i64,
        /// Why.
        reason: RevocationReason,
    },
    /// The responder does not know it.
    Unknown,
}

/// Names a certificate by what its issuer signed: its issuer's name and key, and its serial number. Not by its bytes: a
/// holder may change those of an ECDSA signature, and be no other for it.
pub type OcspId = [u8; 32];

/// A certificate that a responder is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OcspTarget {
    id: OcspId,
    // INVARIANT: reads as a certificate.
    issuer: Arc<[u8]>,
    issuer_name: Box<[u8]>,
    serial: Box<[u8]>,
    not_after: i64,
}

impl OcspTarget {
    /// Reads a certificate and its issuer's. Nothing is proved by it.
    ///
    /// # Errors
    /// [`Malformed`] if one of them is none, or the issuer has another name.
    pub fn new(certificate: &[u8], issuer: Arc<[u8]>) -> Result<Self, Malformed> {
        let read = Certificate::read_any(certificate)?;
        let by = Certificate::read_any(&issuer)?;
        if !by.subject.same(read.issuer) {
            return Err(Malformed("the issuer has another name than the certificate says"));
        }
        let (issuer_name, serial) = (read.issuer.der(), read.serial);
        Ok(Self {
            id: id_of(issuer_name, by.key.whole, serial),
            issuer_name: issuer_name.into(),
            serial: serial.into(),
            not_after: read.not_after,
            issuer,
        })
    }

    /// All of it in one element, to be kept. Read again by [`OcspTarget::from_der`].
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        let (serial, end) = (write::tlv(INTEGER, &[&self.serial]), write::octets(&self.not_after.to_be_bytes()));
        write::sequence(&[&self.issuer, &self.issuer_name, &serial, &end])
    }

    /// Reads [`OcspTarget::to_der`] from the front of `bytes`; what is behind it is the second result. Whatever stands
    /// there, an answer about it only ever counts for certificates of an issuer with the very key that signed it.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn from_der(bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let mut reader = Reader::new(bytes);
        let mut fields = reader.inside(der::SEQUENCE)?;
        let issuer = fields.element(der::SEQUENCE)?.whole;
        let issuer_name = fields.element(der::SEQUENCE)?.whole;
        let serial = fields.value(INTEGER)?;
        let end = fields.value(der::OCTET_STRING)?;
        fields.end()?;
        let not_after = i64::from_be_bytes(end.try_into().map_err(|_| Malformed("a time is not of eight bytes"))?);
        let key = Certificate::read_any(issuer)?.key.whole;
        let target = Self {
            id: id_of(issuer_name, key, serial),
            issuer_name: issuer_name.into(),
            serial: serial.into(),
            issuer: issuer.into(),
            not_after,
        };
        Ok((target, reader.rest()))
    }

    /// The last moment of the certificate's validity, seconds since 1970.
    #[must_use]
    pub const fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Its name.
    #[must_use]
    pub const fn id(&self) -> &OcspId {
        &self.id
    }

    /// The serial number, hexadecimal.
    #[must_use]
    pub fn serial_hex(&self) -> String {
        crate::hex(&self.serial)
    }

    /// The issuer's subject, safe for a terminal.
    #[must_use]
    pub fn issuer_display(&self) -> String {
        Certificate::read_any(&self.issuer).map(|issuer| issuer.subject.display()).unwrap_or_default()
    }

    /// The `OCSPRequest`, unsigned, without extensions (RFC 5019 2.1.1).
    #[must_use]
    pub fn request(&self) -> Vec<u8> {
        let key = Certificate::read_any(&self.issuer).map(|issuer| issuer.key.key).unwrap_or_default();
        request(&self.issuer_name, key, &self.serial)
    }

    /// Checks a response, and takes what it says of the certificate. Its time is judged by [`OcspAnswer::check_time`].
    ///
    /// # Errors
    /// [`OcspError`].
    pub fn answer(
        &self,
        bytes: &[u8],
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Result<OcspAnswer, OcspError> {
        let basic = Basic::read(bytes)?;
        let issuer = Certificate::read_any(&self.issuer)?;
        let signer = basic.signer(&issuer, algorithms)?;
        let asked = Asked { issuer_name: &self.issuer_name, issuer_key: Some(issuer.key.key), serial: &self.serial };
        let said = basic.about(&asked)?;
        if said.status == OcspStatus::Good && said.next_update.is_none() {
            return Err(OcspError::NoNextUpdate);
        }
        let next_update = said.next_update.unwrap_or(said.this_update);
        Ok(OcspAnswer {
            id: self.id,
            status: said.status,
            this_update: said.this_update,
            next_update,
            since: said.this_update.saturating_sub(OCSP_CLOCK_TOLERANCE).max(signer.not_before),
            until: next_update.min(signer.not_after),
            responder: signer.to_check.map(Into::into),
        })
    }
}

/// What a responder said, its signature checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OcspAnswer {
    id: OcspId,
    status: OcspStatus,
    this_update: i64,
    next_update: i64,
    /// From when until when `good` counts: its updates, and the delegated responder's validity.
    since: i64,
    until: i64,
    /// The serial number of a delegated responder that may be revoked itself.
    responder: Option<Box<[u8]>>,
}

impl OcspAnswer {
    /// Whom it is about.
    #[must_use]
    pub const fn id(&self) -> &OcspId {
        &self.id
    }

    /// What it says.
    #[must_use]
    pub const fn status(&self) -> OcspStatus {
        self.status
    }

    /// When that was known to be so, seconds since 1970.
    #[must_use]
    pub const fn this_update(&self) -> i64 {
        self.this_update
    }

    /// Until when it counts, seconds since 1970: its next update, or the end of its responder's certificate. That
    /// somebody was revoked counts until a newer answer says otherwise.
    #[must_use]
    pub const fn until(&self) -> i64 {
        self.until
    }

    /// Is it of this moment? With so much grace, in seconds, after its next update.
    ///
    /// # Errors
    /// [`OcspError::Early`] and [`OcspError::Late`].
    pub fn check_time(&self, now: i64, grace: i64) -> Result<(), OcspError> {
        if now < self.since {
            return Err(OcspError::Early(self.since.saturating_sub(now)));
        }
        match self.status {
            OcspStatus::Good if now > self.until.saturating_add(grace) => {
                Err(OcspError::Late(now.saturating_sub(self.until)))
            }
            OcspStatus::Good | OcspStatus::Revoked { .. } | OcspStatus::Unknown => Ok(()),
        }
    }

    /// Takes it the place of `old`, an answer about the same certificate? False if it says nothing newer.
    ///
    /// That a responder does not know a certificate any more is no word that it is not revoked: only `good` clears.
    ///
    /// # Errors
    /// [`OcspError::Older`]: a replay must not bring a revoked certificate back.
    pub fn replaces(&self, old: &Self) -> Result<bool, OcspError> {
        let is_revoked = |answer: &Self| matches!(answer.status, OcspStatus::Revoked { .. });
        if self.this_update < old.this_update {
            return Err(OcspError::Older);
        }
        if is_revoked(old) && self.status == OcspStatus::Unknown {
            return Ok(false);
        }
        Ok(self.this_update > old.this_update || (is_revoked(self) && !is_revoked(old)))
    }

    pub(super) const fn window(&self) -> (i64, i64) {
        (self.since, self.until)
    }

    pub(super) fn responder(&self) -> Option<&[u8]> {
        self.responder.as_deref()
    }
}

/// Where a certificate says that its issuer's responders are: the URLs of scheme `http` in its authorityInfoAccess
/// (RFC 5280 4.2.2.1).
///
/// # Errors
/// [`Malformed`] if it is no certificate.
pub fn ocsp_urls(certificate: &[u8]) -> Result<Vec<String>, Malformed> {
    Ok(http_urls(Certificate::read_any(certificate)?.extensions.responders.iter().copied()))
}

/// `key` is the issuer's whole SubjectPublicKeyInfo.
pub(super) fn id_of(issuer_name: &[u8], key: &[u8], serial: &[u8]) -> OcspId {
    let parts = [issuer_name, key, serial].map(crate::fingerprint);
    crate::fingerprint(parts.as_flattened())
}

fn request(issuer_name: &[u8], issuer_key: &[u8], serial: &[u8]) -> Vec<u8> {
    let hash = |bytes| write::octets(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref());
    let id = write::sequence(&[
        &write::algorithm(SHA1),
        &hash(issuer_name),
        &hash(issuer_key),
        &write::tlv(INTEGER, &[serial]),
    ]);
    (0..4).fold(id, |inner, _| write::tlv(der::SEQUENCE, &[&inner]))
}
