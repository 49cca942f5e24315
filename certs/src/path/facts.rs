//! What a certificate says, for a reader who proves nothing by it: a person at a terminal.

use super::anchor::display_oid;
use super::certificate::{Certificate, PublicKey};
use super::der::Reader;
use super::name::Name;
use super::ocsp::OCSP_SIGNING;
use super::{Malformed, names};

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
            serial: crate::hex(read.serial),
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
