//! What a certificate says, for readers who prove nothing by it: a person at a terminal, and stapling.

use rustls::pki_types::SignatureVerificationAlgorithm;

use super::anchor::display_oid;
use super::certificate::{Certificate, PublicKey, Signed};
use super::der::{self, Reader};
use super::name::Name;
use super::{Malformed, names};

/// `id-kp-OCSPSigning` (RFC 6960 4.2.2.2).
const OCSP_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 9];

/// Responders' certificates that are looked at in one response.
const MAX_RESPONDERS: usize = 4;

/// A certificate's content, as text that is not escaped unless it says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The subject, escaped.
    pub subject: String,
    /// The issuer, escaped.
    pub issuer: String,
    /// The serial number, hexadecimal.
    pub serial: String,
    /// The first moment of its validity, seconds since 1970.
    pub not_before: i64,
    /// The last one.
    pub not_after: i64,
    /// The kind of key.
    pub key: String,
    /// The basic constraints say CA.
    pub is_authority: bool,
    /// The names in the subjectAltName, as kind and text; bytes that are no text are escaped.
    pub names: Vec<(&'static str, String)>,
    /// What the key usage allows; none where the certificate does not say.
    pub key_usage: Option<Vec<&'static str>>,
    /// The extended key usages by name or OID; none where the certificate does not say.
    pub extended_key_usage: Option<Vec<String>>,
    /// The certificate policies, OIDs.
    pub policies: Vec<String>,
    /// Says something of a qualification (subjectDirectoryAttributes).
    pub has_attributes: bool,
}

impl Description {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are none as RFC 5280 and DER have it.
    pub fn of(certificate: &[u8]) -> Result<Self, Malformed> {
        let read = Certificate::read_any(certificate)?;
        let extensions = &read.extensions;
        let alternative = extensions.alternative_names.map(names::each).into_iter().flatten();
        Ok(Self {
            subject: read.subject.display(),
            issuer: read.issuer.display(),
            serial: read.serial.iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before: read.not_before,
            not_after: read.not_after,
            key: describe_key(read.key),
            is_authority: read.is_authority(),
            names: alternative.map(|(tag, value)| describe_name(tag, value)).collect(),
            key_usage: extensions.key_usage.map(|usage| usage.names()),
            extended_key_usage: extensions
                .extended_key_usage
                .as_ref()
                .map(|all| all.iter().map(|oid| describe_usage(oid)).collect()),
            policies: extensions.policies.iter().flatten().map(|oid| display_oid(oid)).collect(),
            has_attributes: extensions.directory_attributes.is_some(),
        })
    }
}

fn describe_key(key: PublicKey<'_>) -> String {
    let mut identifier = Reader::new(key.algorithm);
    let kind = identifier.oid().unwrap_or_default();
    let name = match (kind, identifier.oid().unwrap_or_default()) {
        ([0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1], _) => "RSA".to_owned(),
        ([0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1], [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]) => "ECDSA P-256".to_owned(),
        ([0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1], [0x2b, 0x81, 4, 0, 34]) => "ECDSA P-384".to_owned(),
        ([0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1], [0x2b, 0x81, 4, 0, 35]) => "ECDSA P-521".to_owned(),
        ([0x2b, 0x65, 0x70], _) => "Ed25519".to_owned(),
        (other, _) => display_oid(other),
    };
    match key.check() {
        Ok(()) => name,
        Err(_) => format!("{name}, which is not accepted"),
    }
}

fn describe_name(tag: u8, value: &[u8]) -> (&'static str, String) {
    let text = || std::str::from_utf8(value).map_or_else(|_| value.escape_ascii().to_string(), |text| text.to_owned());
    match tag {
        names::EMAIL => ("email", text()),
        names::DNS => ("DNS", text()),
        names::URI => ("URI", text()),
        names::DIRECTORY => ("directory", Name::read(value).map(Name::display).unwrap_or_default()),
        names::IP => {
            let v4 = <[u8; 4]>::try_from(value).map(|v4| std::net::IpAddr::from(v4).to_string());
            let v6 = || <[u8; 16]>::try_from(value).map(|v6| std::net::IpAddr::from(v6).to_string());
            ("IP", v4.or_else(|_| v6()).unwrap_or_else(|_| value.escape_ascii().to_string()))
        }
        _ => ("other", value.escape_ascii().take(256).map(char::from).collect()),
    }
}

fn describe_usage(oid: &[u8]) -> String {
    match oid {
        [0x2b, 6, 1, 5, 5, 7, 3, 1] => "TLS server (serverAuth)".to_owned(),
        [0x2b, 6, 1, 5, 5, 7, 3, 2] => "TLS client (clientAuth)".to_owned(),
        [0x2b, 6, 1, 5, 5, 7, 3, 3] => "code (codeSigning)".to_owned(),
        [0x2b, 6, 1, 5, 5, 7, 3, 4] => "mail (emailProtection)".to_owned(),
        [0x2b, 6, 1, 5, 5, 7, 3, 8] => "time stamps (timeStamping)".to_owned(),
        OCSP_SIGNING => "OCSP responses (OCSPSigning)".to_owned(),
        super::extensions::ANY_EXTENDED_KEY_USAGE => "anything (anyExtendedKeyUsage)".to_owned(),
        other => display_oid(other),
    }
}

/// What a stapled response has to fit.
pub(crate) struct StapleFacts<'a> {
    /// The content of the response's data.
    pub(crate) tbs: &'a [u8],
    pub(crate) serial: &'a [u8],
    /// The issuer's whole name.
    pub(crate) issuer_name: &'a [u8],
    /// The content of the issuer's key, where its certificate is known.
    pub(crate) issuer_key: Option<&'a [u8]>,
    /// The signature is the issuer's or a delegated responder's; none where the issuer is not known.
    pub(crate) signed: Option<bool>,
}

/// Reads a BasicOCSPResponse about `leaf`.
pub(crate) fn staple_facts<'a>(
    leaf: &'a [u8],
    next: Option<&'a [u8]>,
    basic: &'a [u8],
) -> Result<StapleFacts<'a>, Malformed> {
    let mut outer = der::only(basic, der::SEQUENCE)?;
    let message = outer.element(der::SEQUENCE)?;
    let signed = Signed {
        message: message.whole,
        content: message.value,
        algorithm: outer.value(der::SEQUENCE)?,
        signature: der::octets(outer.value(der::BIT_STRING)?)?,
    };
    let certificates = outer.optional(der::constructed(0))?;
    outer.end()?;
    let leaf = Certificate::read_any(leaf)?;
    let issuer = next.map(Certificate::read_any).transpose()?.filter(|next| next.subject.same(leaf.issuer));
    let is_signed = match &issuer {
        Some(issuer) => Some(holds(&signed, issuer.key) || is_delegated(&signed, issuer, certificates)?),
        None => None,
    };
    Ok(StapleFacts {
        tbs: signed.content,
        serial: leaf.serial,
        issuer_name: leaf.issuer.der(),
        issuer_key: issuer.map(|issuer| issuer.key.key),
        signed: is_signed,
    })
}

/// Did a responder sign it that the issuer delegated? (RFC 6960 4.2.2.2)
fn is_delegated(signed: &Signed<'_>, issuer: &Certificate<'_>, all: Option<&[u8]>) -> Result<bool, Malformed> {
    let Some(all) = all else { return Ok(false) };
    let mut all = der::only(all, der::SEQUENCE)?;
    for _ in 0..MAX_RESPONDERS {
        if all.is_empty() {
            break;
        }
        let responder = Certificate::read_any(all.element(der::SEQUENCE)?.whole)?;
        let usages = responder.extensions.extended_key_usage.as_ref();
        if usages.is_some_and(|usages| usages.contains(&OCSP_SIGNING))
            && responder.issuer.same(issuer.subject)
            && holds(&responder.signed, issuer.key)
            && holds(signed, responder.key)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn holds(signed: &Signed<'_>, key: PublicKey<'_>) -> bool {
    let provider = crate::Profile::CryptrecHigh.provider();
    let fits = |algorithm: &&&dyn SignatureVerificationAlgorithm| {
        algorithm.signature_alg_id().as_ref() == signed.algorithm
            && algorithm.public_key_alg_id().as_ref() == key.algorithm
    };
    let algorithm = provider.signature_verification_algorithms.all.iter().find(fits);
    key.check().is_ok()
        && algorithm
            .is_some_and(|algorithm| algorithm.verify_signature(key.key, signed.message, signed.signature).is_ok())
}
