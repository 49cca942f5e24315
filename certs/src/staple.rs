//! OCSP responses that the gateway staples to its own certificate (RFC 6066 8, RFC 6960).
//!
//! A client checks what is stapled; the gateway only sees to it that it is worth showing: about this certificate, good,
//! in time, and signed by its issuer or by whom the issuer delegated.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use rustls::pki_types::UnixTime;

use crate::ServerIdentity;
use crate::path::{Malformed, Reader, SEQUENCE, StapleFacts, constructed, only, staple_facts};
use crate::pem;

/// `id-pkix-ocsp-basic`.
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1];
const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;

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
        let mut response = only(bytes, SEQUENCE)?;
        match response.value(ENUMERATED)? {
            [0] => {}
            [status] => return Err(StapleError::Unsuccessful(*status)),
            _ => return Err(Malformed("the status is no small number").into()),
        }
        let mut explicit = response.inside(constructed(0))?;
        response.end()?;
        let mut typed = explicit.inside(SEQUENCE)?;
        explicit.end()?;
        if typed.oid()? != BASIC {
            return Err(Malformed("the response is not of the basic kind").into());
        }
        let basic = typed.value(OCTET_STRING)?;
        typed.end()?;
        let mut chain = identity.chain().iter();
        let leaf = chain.next().ok_or(StapleError::OtherCertificate)?;
        let facts = staple_facts(leaf, chain.next().map(AsRef::as_ref), basic)?;
        if facts.signed == Some(false) {
            return Err(StapleError::Signature);
        }
        let mut answers = responses(facts.tbs)?;
        while !answers.is_empty() {
            if let Some(found) = single(answers.inside(SEQUENCE)?, &facts)? {
                let (this_update, next_update) = found?;
                return Ok(Self { der: bytes.to_vec(), this_update, next_update });
            }
        }
        Err(StapleError::OtherCertificate)
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

/// The single responses of a ResponseData's content (RFC 6960 4.2.1).
fn responses(tbs: &[u8]) -> Result<Reader<'_>, Malformed> {
    let mut data = Reader::new(tbs);
    data.optional(constructed(0))?;
    let responder = data.any()?;
    if responder.tag != constructed(1) && responder.tag != constructed(2) {
        return Err(Malformed("the responder has neither a name nor a key"));
    }
    data.any()?;
    data.inside(SEQUENCE)
}

type Updates = (UnixTime, UnixTime);

/// What a SingleResponse says of the certificate; `None` if it is about another.
fn single(mut answer: Reader<'_>, facts: &StapleFacts<'_>) -> Result<Option<Result<Updates, StapleError>>, Malformed> {
    let mut id = answer.inside(SEQUENCE)?;
    let mut algorithm = id.inside(SEQUENCE)?;
    let algorithm = match algorithm.oid()? {
        SHA1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        SHA256 => &digest::SHA256,
        _ => return Ok(None),
    };
    let (name, key, serial) = (id.value(OCTET_STRING)?, id.value(OCTET_STRING)?, id.value(INTEGER)?);
    id.end()?;
    let is = |hash: &[u8], of: &[u8]| digest::digest(algorithm, of).as_ref() == hash;
    if serial != facts.serial
        || !is(name, facts.issuer_name)
        || !facts.issuer_key.is_none_or(|issuer_key| is(key, issuer_key))
    {
        return Ok(None);
    }
    let status = answer.any()?;
    match status.tag {
        0x80 => {}
        0xa1 => return Ok(Some(Err(StapleError::Revoked))),
        _ => return Ok(Some(Err(StapleError::Unknown))),
    }
    let this_update = time(&mut answer)?;
    let Some(next) = answer.optional(constructed(0))? else { return Ok(Some(Err(StapleError::NoNextUpdate))) };
    Ok(Some(Ok((this_update, time(&mut Reader::new(next))?))))
}

fn time(reader: &mut Reader<'_>) -> Result<UnixTime, Malformed> {
    let seconds = crate::path::time(reader.any()?)?;
    let seconds = u64::try_from(seconds).map_err(|_| Malformed("a time is before 1970"))?;
    Ok(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
}
