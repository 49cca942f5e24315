//! What an end-entity certificate says: whose it is, what for and until when.
//!
//! Nothing here proves anything. A leaf is worth believing only after its path was validated and its key was used in
//! the handshake; [`verifier`](crate::verifier) does that.

use policy::{DeviceId, Refusal};
use rustls::pki_types::UnixTime;
use x509_cert::Certificate;
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier};
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{Decode, Reader, SliceReader, Tag, TagNumber};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName, SubjectKeyIdentifier};

use crate::TrustDomain;
use crate::spiffe::SpiffeError;

/// `id-kp-clientAuth` (RFC 5280 4.2.1.12).
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

/// `anyExtendedKeyUsage` (RFC 5280 4.2.1.12) is deliberately not taken for `clientAuth`.
const URI: Tag = Tag::ContextSpecific { constructed: false, number: TagNumber(6) };
const DNS: Tag = Tag::ContextSpecific { constructed: false, number: TagNumber(2) };
const IP: Tag = Tag::ContextSpecific { constructed: false, number: TagNumber(7) };

/// The device that a leaf certificate names (X509-SVID 2 and 4): the one URI in its subjectAltName, byte by byte. The
/// common name and names of other kinds mean nothing.
///
/// # Errors
/// [`IdentityError`] if the bytes are not a certificate, if it is a CA's or not for clients, or if it names no device
/// of the trust domain.
pub fn device_of(leaf: &[u8], domain: &TrustDomain) -> Result<DeviceId, IdentityError> {
    Leaf::read(leaf)?.device(domain)
}

/// Why a leaf certificate stands for no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not DER, not a certificate, or an extension that cannot be read or comes twice.
    #[error("the certificate cannot be read: {reason}")]
    Malformed {
        /// What the parser says.
        reason: String,
    },
    /// The basic constraints say CA.
    #[error("the certificate is a CA's, not a device's")]
    Authority,
    /// The key usage lacks digitalSignature, or has keyCertSign or cRLSign (X509-SVID 4.3).
    #[error("the key usage does not fit a device: {reason}")]
    KeyUsage {
        /// What is missing or too much.
        reason: &'static str,
    },
    /// The extended key usage lacks clientAuth.
    #[error("the extended key usage does not include `clientAuth`")]
    ExtendedKeyUsage,
    /// The subjectAltName does not have exactly one URI.
    #[error("the certificate has {count} URI names, not one")]
    UriCount {
        /// How many it has.
        count: usize,
    },
    /// The one URI names no device of the trust domain.
    #[error(transparent)]
    Spiffe(#[from] SpiffeError),
}

impl IdentityError {
    /// The refusal that a peer gets for it.
    #[must_use]
    pub const fn refusal(&self) -> Refusal {
        match self {
            Self::Malformed { .. } => Refusal::CertificateMalformed,
            Self::Authority | Self::KeyUsage { .. } | Self::ExtendedKeyUsage => Refusal::CertificatePurpose,
            Self::UriCount { .. } | Self::Spiffe(_) => Refusal::CertificateIdentity,
        }
    }
}

impl From<x509_cert::der::Error> for IdentityError {
    fn from(error: x509_cert::der::Error) -> Self {
        Self::Malformed { reason: error.to_string() }
    }
}

/// A certificate that was read once.
#[derive(Debug)]
pub(crate) struct Leaf(Certificate);

impl Leaf {
    pub(crate) fn read(der: &[u8]) -> Result<Self, IdentityError> {
        Ok(Self(Certificate::from_der(der)?))
    }

    /// The device, after the checks of purpose.
    pub(crate) fn device(&self, domain: &TrustDomain) -> Result<DeviceId, IdentityError> {
        self.check_purpose()?;
        let mut uri = None;
        let mut count = 0;
        self.each_name(|tag, value| {
            if tag == URI {
                count += 1;
                uri = Some(value);
            }
        })?;
        match (uri, count) {
            (Some(uri), 1) => Ok(domain.device(uri)?),
            _ => Err(IdentityError::UriCount { count }),
        }
    }

    /// May a device present it? (RFC 5280 4.2.1.3, 4.2.1.9, 4.2.1.12; X509-SVID 4.)
    pub(crate) fn check_purpose(&self) -> Result<(), IdentityError> {
        if self.is_authority()? {
            return Err(IdentityError::Authority);
        }
        if let Some(usage) = self.extension::<KeyUsage>()? {
            if !usage.digital_signature() {
                return Err(IdentityError::KeyUsage { reason: "it lacks `digitalSignature`" });
            }
            if usage.key_cert_sign() || usage.crl_sign() {
                return Err(IdentityError::KeyUsage { reason: "it signs certificates or CRLs" });
            }
        }
        match self.extension::<ExtendedKeyUsage>()? {
            Some(usages) if !usages.0.contains(&CLIENT_AUTH) => Err(IdentityError::ExtendedKeyUsage),
            Some(_) | None => Ok(()),
        }
    }

    /// Do the basic constraints say CA?
    pub(crate) fn is_authority(&self) -> Result<bool, IdentityError> {
        Ok(self.extension::<BasicConstraints>()?.is_some_and(|constraints| constraints.ca))
    }

    /// May it sign certificates? A key usage that is absent allows everything (RFC 5280 4.2.1.3).
    pub(crate) fn signs_certificates(&self) -> Result<bool, IdentityError> {
        Ok(self.extension::<KeyUsage>()?.is_none_or(|usage| usage.key_cert_sign()))
    }

    pub(crate) fn not_before(&self) -> UnixTime {
        UnixTime::since_unix_epoch(self.0.tbs_certificate().validity().not_before.to_unix_duration())
    }

    pub(crate) fn not_after(&self) -> UnixTime {
        UnixTime::since_unix_epoch(self.0.tbs_certificate().validity().not_after.to_unix_duration())
    }

    pub(crate) fn certificate(&self) -> &Certificate {
        &self.0
    }

    /// The subject key identifier.
    pub(crate) fn key_id(&self) -> Result<Option<Vec<u8>>, IdentityError> {
        Ok(self.extension::<SubjectKeyIdentifier>()?.map(|id| id.0.as_bytes().to_vec()))
    }

    /// DNS names and IP addresses of the subjectAltName, as text; what cannot be read as text is left out.
    pub(crate) fn host_names(&self) -> Result<Vec<String>, IdentityError> {
        let mut names = Vec::new();
        self.each_name(|tag, value| {
            let name = if tag == DNS {
                std::str::from_utf8(value).ok().map(str::to_owned)
            } else if tag == IP {
                <[u8; 4]>::try_from(value)
                    .map(|v4| std::net::IpAddr::from(v4).to_string())
                    .or_else(|_| <[u8; 16]>::try_from(value).map(|v6| std::net::IpAddr::from(v6).to_string()))
                    .ok()
            } else {
                None
            };
            names.extend(name);
        })?;
        Ok(names)
    }

    /// Reads an extension; one that comes twice is an error (RFC 5280 4.2).
    fn extension<'a, T: Decode<'a, Error = x509_cert::der::Error> + AssociatedOid>(
        &'a self,
    ) -> Result<Option<T>, IdentityError> {
        self.value(T::OID)?.map(|value| Ok(T::from_der(value)?)).transpose()
    }

    fn value(&self, oid: ObjectIdentifier) -> Result<Option<&[u8]>, IdentityError> {
        let all = self.0.tbs_certificate().extensions().map_or(&[][..], Vec::as_slice);
        let mut found = all.iter().filter(|extension| extension.extn_id == oid);
        let first = found.next();
        if found.next().is_some() {
            return Err(IdentityError::Malformed { reason: format!("extension {oid} comes twice") });
        }
        Ok(first.map(|extension| extension.extn_value.as_bytes()))
    }

    /// Hands over every general name as tag and bytes. Names of kinds that nobody here reads may hold anything, so
    /// the sequence is walked without decoding them.
    fn each_name<'a>(&'a self, mut visit: impl FnMut(Tag, &'a [u8])) -> Result<(), IdentityError> {
        let Some(value) = self.value(SubjectAltName::OID)? else { return Ok(()) };
        let names = AnyRef::from_der(value)?;
        if x509_cert::der::Tagged::tag(&names) != Tag::Sequence {
            return Err(IdentityError::Malformed { reason: "the subjectAltName is not a sequence".to_owned() });
        }
        let mut reader = SliceReader::new(names.value())?;
        while !reader.is_finished() {
            let name = AnyRef::decode(&mut reader)?;
            visit(x509_cert::der::Tagged::tag(&name), name.value());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
