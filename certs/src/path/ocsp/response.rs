//! A BasicOCSPResponse (RFC 6960 4.2.1): who signed it, and what it says of one certificate.

use aws_lc_rs::digest;
use rustls::pki_types::SignatureVerificationAlgorithm;

use super::super::Malformed;
use super::super::certificate::{Certificate, PublicKey, Signed};
use super::super::der::{self, ENUMERATED, INTEGER, OCTET_STRING, Reader, SEQUENCE, constructed};
use super::super::extensions::extension;
use super::super::name::Name;
use super::super::refused::RevocationReason;
use super::{MAX_OCSP_BYTES, OcspError, OcspStatus, SHA1};

/// `id-pkix-ocsp-basic`.
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 48, 1, 1];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];

/// `id-kp-OCSPSigning` (RFC 6960 4.2.2.2).
pub(crate) const OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];

/// Responders' certificates that are looked at in one response.
const MAX_RESPONDERS: usize = 4;

/// Who signed a response.
#[derive(Clone, Copy)]
enum ResponderId<'a> {
    Name(Name<'a>),
    /// SHA-1 of the key.
    Key(&'a [u8]),
}

/// A response, read. Nothing in it is proved before [`Basic::signer`] has said so.
pub(crate) struct Basic<'a> {
    signed: Signed<'a>,
    responder: ResponderId<'a>,
    answers: Reader<'a>,
    certificates: Option<&'a [u8]>,
}

/// Whom the question was about.
pub(crate) struct Asked<'a> {
    /// The issuer's name, as the certificate has it.
    pub(crate) issuer_name: &'a [u8],
    /// The content of the issuer's key, where it is known.
    pub(crate) issuer_key: Option<&'a [u8]>,
    pub(crate) serial: &'a [u8],
}

/// What a response says of it. Seconds since 1970.
#[derive(Clone, Copy)]
pub(crate) struct Said {
    pub(crate) status: OcspStatus,
    pub(crate) this_update: i64,
    pub(crate) next_update: Option<i64>,
}

/// Who signed, and from when until when he might.
pub(crate) struct Signer<'a> {
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    /// The serial number of a responder whose certificate does not say that nobody need look at its revocation.
    pub(crate) to_check: Option<&'a [u8]>,
}

impl<'a> Basic<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, OcspError> {
        if bytes.len() > MAX_OCSP_BYTES {
            return Err(OcspError::TooLarge);
        }
        let mut response = der::only(bytes, SEQUENCE)?;
        match response.value(ENUMERATED)? {
            [0] => {}
            [status] => return Err(OcspError::Unsuccessful(*status)),
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
        let mut outer = der::only(basic, SEQUENCE)?;
        let message = outer.element(SEQUENCE)?;
        let signed = Signed {
            message: message.whole,
            content: message.value,
            algorithm: outer.value(SEQUENCE)?,
            signature: der::octets(outer.value(der::BIT_STRING)?)?,
        };
        let certificates = outer.optional(constructed(0))?;
        outer.end()?;
        let mut data = Reader::new(signed.content);
        // Version 1 is the default; some write it down.
        if data.optional(constructed(0))?.is_some_and(|version| version != [INTEGER, 1, 0]) {
            return Err(Malformed("the response is not of version 1").into());
        }
        let responder = data.any()?;
        let responder = match responder.tag {
            0xa1 => ResponderId::Name(Name::read(responder.value)?),
            0xa2 => {
                let mut key = Reader::new(responder.value);
                let hash = key.value(OCTET_STRING)?;
                key.end()?;
                ResponderId::Key(hash)
            }
            _ => return Err(Malformed("the responder has neither a name nor a key").into()),
        };
        // producedAt: when it was signed, and not what is known since when.
        der::time(data.any()?)?;
        let answers = data.inside(SEQUENCE)?;
        extensions(data.optional(constructed(1))?)?;
        data.end()?;
        Ok(Self { signed, responder, answers, certificates })
    }

    /// Checks the signature: the issuer's, or that of a responder that the issuer itself certified for it (RFC 6960
    /// 4.2.2.2).
    pub(crate) fn signer(
        &self,
        issuer: &Certificate<'_>,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> Result<Signer<'a>, OcspError> {
        if self.is_by(issuer) && holds(&self.signed, issuer.key, algorithms) {
            return Ok(Signer { not_before: i64::MIN, not_after: i64::MAX, to_check: None });
        }
        let Some(all) = self.certificates else { return Err(OcspError::Signature) };
        let mut all = der::only(all, SEQUENCE)?;
        for _ in 0..MAX_RESPONDERS {
            if all.is_empty() {
                break;
            }
            let der = all.element(SEQUENCE)?.whole;
            let responder = Certificate::read_any(der)?;
            let extensions = &responder.extensions;
            let is_delegated = extensions.extended_key_usage.as_ref().is_some_and(|all| all.contains(&OCSP_SIGNING))
                && extensions.key_usage.is_none_or(|usage| usage.signs_data())
                && extensions.unknown_critical.is_none()
                && responder.issuer.same(issuer.subject);
            if is_delegated
                && self.is_by(&responder)
                && holds(&responder.signed, issuer.key, algorithms)
                && holds(&self.signed, responder.key, algorithms)
            {
                return Ok(Signer {
                    not_before: responder.not_before,
                    not_after: responder.not_after,
                    to_check: (!responder.extensions.no_check).then_some(responder.serial),
                });
            }
        }
        Err(OcspError::Signature)
    }

    fn is_by(&self, certificate: &Certificate<'_>) -> bool {
        match self.responder {
            ResponderId::Name(name) => name.same(certificate.subject),
            ResponderId::Key(hash) => sha1(certificate.key.key).as_ref() == hash,
        }
    }

    /// What it says of the certificate; of several answers the worst.
    pub(crate) fn about(&self, asked: &Asked<'_>) -> Result<Said, OcspError> {
        let mut answers = self.answers;
        let mut worst: Option<Said> = None;
        while !answers.is_empty() {
            let Some(said) = single(answers.inside(SEQUENCE)?, asked)? else { continue };
            let rank = |said: &Said| match said.status {
                OcspStatus::Good => 0,
                OcspStatus::Unknown => 1,
                OcspStatus::Revoked { .. } => 2,
            };
            if worst.as_ref().is_none_or(|known| rank(known) <= rank(&said)) {
                worst = Some(said);
            }
        }
        worst.ok_or(OcspError::OtherCertificate)
    }
}

/// One SingleResponse; `None` if it is about another certificate.
fn single(mut answer: Reader<'_>, asked: &Asked<'_>) -> Result<Option<Said>, OcspError> {
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
    if serial != asked.serial || !is(name, asked.issuer_name) || !asked.issuer_key.is_none_or(|of| is(key, of)) {
        return Ok(None);
    }
    let status = answer.any()?;
    let status = match (status.tag, status.value) {
        (0x80, []) => OcspStatus::Good,
        (0x82, []) => OcspStatus::Unknown,
        (0xa1, revoked) => revoked_info(revoked)?,
        _ => return Err(Malformed("a status is none that there is").into()),
    };
    let this_update = der::time(answer.any()?)?;
    let next_update = match answer.optional(constructed(0))? {
        None => None,
        Some(explicit) => {
            let mut explicit = Reader::new(explicit);
            let time = der::time(explicit.any()?)?;
            explicit.end()?;
            Some(time)
        }
    };
    extensions(answer.optional(constructed(1))?)?;
    answer.end()?;
    if next_update.is_some_and(|next| next < this_update) {
        return Err(OcspError::Backwards);
    }
    Ok(Some(Said { status, this_update, next_update }))
}

fn revoked_info(content: &[u8]) -> Result<OcspStatus, Malformed> {
    let mut revoked = Reader::new(content);
    let when = der::time(revoked.any()?)?;
    let reason = match revoked.optional(constructed(0))? {
        None => RevocationReason::Unspecified,
        Some(explicit) => {
            let mut explicit = Reader::new(explicit);
            let code = explicit.value(ENUMERATED)?;
            explicit.end()?;
            // `removeFromCRL` is about lists: whoever is said to be revoked, is.
            if code == [8] {
                RevocationReason::Unspecified
            } else {
                RevocationReason::from_code(code).ok_or(Malformed("a reason is none that there is"))?
            }
        }
    };
    revoked.end()?;
    Ok(OcspStatus::Revoked { when, reason })
}

/// Extensions (RFC 6960 4.4) add nothing here; one that must be understood spoils the answer.
fn extensions(explicit: Option<&[u8]>) -> Result<(), OcspError> {
    let Some(explicit) = explicit else { return Ok(()) };
    let mut list = der::only(explicit, SEQUENCE)?;
    while !list.is_empty() {
        if let (_, true, _) = extension(&mut list)? {
            return Err(OcspError::UnknownCriticalExtension);
        }
    }
    Ok(())
}

fn sha1(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes)
}

fn holds(signed: &Signed<'_>, key: PublicKey<'_>, algorithms: &[&dyn SignatureVerificationAlgorithm]) -> bool {
    let algorithm = algorithms.iter().find(|algorithm| {
        algorithm.signature_alg_id().as_ref() == signed.algorithm
            && algorithm.public_key_alg_id().as_ref() == key.algorithm
    });
    key.check().is_ok()
        && algorithm
            .is_some_and(|algorithm| algorithm.verify_signature(key.key, signed.message, signed.signature).is_ok())
}
