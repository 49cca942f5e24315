//! Trust anchors, as given by certificates. What a root says of itself is enforced (RFC 5937): dates, path length, name
//! constraints and extended key usage.

use super::Malformed;
use super::certificate::{Certificate, KeyFault, PublicKey};
use super::constraints::NameConstraints;
use super::name::Name;
use super::refused::{PathRefusal, PathRefused};

/// An anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustAnchor {
    // INVARIANT: read as a certificate with a subject and an acceptable key.
    der: Vec<u8>,
    subject: Vec<u8>,
    key: Vec<u8>,
    name_constraints: Option<Vec<u8>>,
    pub(super) path_length: Option<u32>,
    extended_key_usage: Option<Vec<Vec<u8>>>,
    pub(super) signs_crls: bool,
    pub(super) key_id: Option<Vec<u8>>,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl TrustAnchor {
    /// Takes a CA's certificate.
    ///
    /// # Errors
    /// [`PathRefused`] if it cannot be read, is no CA's, has an unknown critical extension or a weak key.
    pub fn from_der(der: &[u8]) -> Result<Self, PathRefused> {
        let bare = |refusal| PathRefused { refusal, subject: String::new() };
        let certificate = Certificate::read_any(der).map_err(|malformed| bare(PathRefusal::Malformed(malformed)))?;
        let refused = |refusal| PathRefused { refusal, subject: certificate.subject.display() };
        let extensions = &certificate.extensions;
        if certificate.subject.is_empty() {
            return Err(refused(PathRefusal::Malformed(Malformed("a CA has no name"))));
        }
        if let Some(oid) = extensions.unknown_critical {
            return Err(refused(PathRefusal::UnknownCriticalExtension(display_oid(oid))));
        }
        if !certificate.is_authority() {
            return Err(refused(PathRefusal::NotAuthority("its basic constraints do not say CA")));
        }
        if extensions.key_usage.is_some_and(|usage| !usage.signs_certificates()) {
            return Err(refused(PathRefusal::NotAuthority("its key usage lacks `keyCertSign`")));
        }
        certificate.key.check().map_err(|fault| refused(of_key(fault)))?;
        let usages = |usages: &Vec<&[u8]>| usages.iter().map(|usage| usage.to_vec()).collect();
        Ok(Self {
            der: der.to_vec(),
            subject: certificate.subject.der().to_vec(),
            key: certificate.key.whole.to_vec(),
            name_constraints: extensions.name_constraints_der.map(<[u8]>::to_vec),
            path_length: extensions.basic_constraints.and_then(|constraints| constraints.path_length),
            extended_key_usage: extensions.extended_key_usage.as_ref().map(usages),
            signs_crls: extensions.key_usage.is_none_or(|usage| usage.signs_crls()),
            key_id: extensions.subject_key_id.map(<[u8]>::to_vec),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
        })
    }

    /// The certificate.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The subject's `Name`, as DER.
    #[must_use]
    pub fn subject_der(&self) -> &[u8] {
        &self.subject
    }

    pub(super) fn subject(&self) -> Result<Name<'_>, Malformed> {
        Name::read(&self.subject)
    }

    pub(super) fn key(&self) -> Result<PublicKey<'_>, Malformed> {
        PublicKey::read(&self.key)
    }

    pub(super) fn name_constraints(&self) -> Result<Option<NameConstraints<'_>>, Malformed> {
        self.name_constraints.as_deref().map(NameConstraints::read).transpose()
    }

    pub(super) fn serves(&self, purpose: &[u8], any: &[u8]) -> bool {
        self.extended_key_usage
            .as_ref()
            .is_none_or(|usages| usages.iter().any(|usage| usage == purpose || usage == any))
    }
}

pub(super) fn of_key(fault: KeyFault) -> PathRefusal {
    match fault {
        KeyFault::Weak(what) => PathRefusal::WeakKey(what),
        KeyFault::Malformed(malformed) => PathRefusal::Malformed(malformed),
    }
}

pub(super) fn display_oid(oid: &[u8]) -> String {
    x509_cert::der::asn1::ObjectIdentifier::from_bytes(oid)
        .map_or_else(|_| oid.escape_ascii().to_string(), |oid| oid.to_string())
}
