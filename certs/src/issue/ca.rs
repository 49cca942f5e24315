//! The clinic's own authority: a root that is kept offline, an issuing CA below it that can only certify devices of one
//! trust domain, and what the issuing CA signs.
//!
//! Serial numbers and times are arguments; keys are drawn by aws-lc-rs.

use std::time::Duration;

use policy::DeviceId;
use rcgen::{
    BasicConstraints, CertificateRevocationListParams, CrlDistributionPoint, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams, SanType,
    SerialNumber, SignatureAlgorithm,
};
use rustls::pki_types::UnixTime;

use super::signer::{CaKey, Signer};
use super::{Authority, IssueError, LAST_SECOND, PrivatePem, checked_name, der, params_with, pem_text};
use crate::TrustDomain;
use crate::path::RevocationReason;

/// The kind of an authority's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// ECDSA with P-256 and SHA-256.
    #[default]
    P256,
    /// ECDSA with P-384 and SHA-384.
    P384,
}

impl KeyKind {
    pub(super) const fn algorithm(self) -> &'static SignatureAlgorithm {
        match self {
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        }
    }

    /// The length of a number below the curve's order, in bytes.
    #[must_use]
    pub const fn order_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

/// A serial number: positive, and with 126 random bits (RFC 5280 4.1.2.2; the CA/Browser Forum asks for 64).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serial([u8; 16]);

impl Serial {
    /// Makes one of random bytes, which nobody else may see before.
    #[must_use]
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        // Positive, and never so short that somebody has to pad it.
        let [first, ..] = &mut bytes;
        *first = (*first & 0x7f) | 0x40;
        Self(bytes)
    }

    /// The number, big-endian.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub(super) fn to_number(self) -> SerialNumber {
        SerialNumber::from_slice(&self.0)
    }
}

/// An issuing CA to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewAuthority<'a> {
    /// Its common name.
    pub name: &'a str,
    /// The trust domain whose devices it may certify, and nothing else.
    pub domain: &'a TrustDomain,
    /// Its key.
    pub key: CaKey<'a>,
    /// How long it lasts.
    pub lifetime: Duration,
    /// Where its issuer's CRL is, `http` for software that fetches it.
    pub crl_url: Option<&'a str>,
}

/// What a device's certificate says.
#[derive(Debug, Clone, Copy)]
pub struct DeviceTerms<'a> {
    /// The trust domain.
    pub domain: &'a TrustDomain,
    /// The device.
    pub device: &'a DeviceId,
    /// How long it lasts; shortened to the authority's own end.
    pub lifetime: Duration,
    /// Where the authority's CRL is.
    pub crl_url: Option<&'a str>,
}

/// A certificate of somebody else's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// Its serial number.
    pub serial: Serial,
    /// The beginning of its validity.
    pub not_before: UnixTime,
    /// The end of its validity.
    pub not_after: UnixTime,
}

impl Certified {
    /// The certificate, PEM.
    ///
    /// # Errors
    /// [`IssueError::Encoding`], which no certificate gives.
    pub fn pem(&self) -> Result<String, IssueError> {
        pem_text("CERTIFICATE", &self.der)
    }
}

/// A certificate that is on a CRL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Its serial number, big-endian.
    pub serial: Vec<u8>,
    /// Since when.
    pub at: UnixTime,
    /// Why.
    pub reason: RevocationReason,
}

/// A key made on the spot.
pub struct NewKey(KeyPair);

impl NewKey {
    /// Draws a P-256 key, which every client's software takes.
    ///
    /// # Errors
    /// [`IssueError::Generator`].
    pub fn generate() -> Result<Self, IssueError> {
        Ok(Self(KeyPair::generate_for(KeyKind::P256.algorithm())?))
    }

    /// The private key, PKCS#8 PEM.
    #[must_use]
    pub fn pem(&self) -> PrivatePem {
        PrivatePem(self.0.serialize_pem())
    }

    /// The private key, PKCS#8 DER.
    #[must_use]
    pub fn pkcs8(&self) -> Vec<u8> {
        self.0.serialize_der()
    }

    /// The public half, to be certified.
    #[must_use]
    pub const fn public(&self) -> &impl PublicKeyData {
        &self.0
    }
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewKey(…)")
    }
}

impl Authority {
    /// Makes a self-signed root that certifies issuing CAs, which certify no further CA.
    ///
    /// # Errors
    /// [`IssueError`] if the name or the lifetime cannot be, or the generator fails.
    pub fn new_root(
        name: &str,
        key: CaKey<'_>,
        lifetime: Duration,
        serial: Serial,
        now: UnixTime,
    ) -> Result<Self, IssueError> {
        let limit = UnixTime::since_unix_epoch(Duration::from_secs(LAST_SECOND));
        let mut params = params_with(serial, now, lifetime, limit)?;
        params.distinguished_name.push(DnType::CommonName, checked_name(name)?);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = Signer::of(key)?;
        let certificate = params.self_signed(&key).map_err(|error| key.explain(error))?;
        Self::assemble(&certificate.pem(), key)
    }

    /// Makes an issuing CA below this one: it certifies no CA (path length 0), clients only, and only names of its trust
    /// domain (RFC 5280 4.2.1.9, 4.2.1.10, 4.2.1.12). Host names and addresses are excluded, so that whoever gets hold
    /// of its key is nobody's server (R22).
    ///
    /// # Errors
    /// [`IssueError`] if a name or the lifetime cannot be, or the generator fails; [`IssueError::Name`] also for a trust
    /// domain that is not a host name, since name constraints know no other (RFC 5280 4.2.1.10).
    pub fn issue_authority(&self, new: NewAuthority<'_>, serial: Serial, now: UnixTime) -> Result<Self, IssueError> {
        let key = Signer::of(new.key)?;
        Self::assemble(&self.certify_authority(&key, new, serial, now)?, key)
    }

    /// Certifies an issuing CA's key anew, under the same name and with the same key identifier, so that what it has
    /// issued and its CRLs stand as they did. Name and key of `new` count for nothing.
    ///
    /// # Errors
    /// As for [`Authority::issue_authority`].
    pub fn renew_authority(
        &self,
        issuing: &Self,
        new: NewAuthority<'_>,
        serial: Serial,
        now: UnixTime,
    ) -> Result<String, IssueError> {
        self.certify_authority(issuing.issuer.key(), NewAuthority { name: &issuing.name, ..new }, serial, now)
    }

    fn certify_authority(
        &self,
        key: &Signer,
        new: NewAuthority<'_>,
        serial: Serial,
        now: UnixTime,
    ) -> Result<String, IssueError> {
        let mut params = params_with(serial, now, new.lifetime, self.not_after())?;
        params.distinguished_name.push(DnType::CommonName, checked_name(new.name)?);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.crl_distribution_points = points(new.crl_url);
        params.custom_extensions.push(name_constraints(new.domain)?);
        let certificate = params.signed_by(key, &self.issuer).map_err(|error| self.issuer.key().explain(error))?;
        Ok(certificate.pem())
    }

    /// Signs something that is neither certificate nor list, and so shows that the key is there and is the
    /// certificate's.
    ///
    /// # Errors
    /// [`IssueError::Remote`] if the token does not sign.
    pub fn prove(&self) -> Result<(), IssueError> {
        let key = self.issuer.key();
        rcgen::SigningKey::sign(key, b"sekisho: is the key there?").map(drop).map_err(|error| key.explain(error))
    }

    /// Certifies a key for a device: an X509-SVID whose one URI is the device's SPIFFE ID. The caller knows that the
    /// device has the private key.
    ///
    /// # Errors
    /// [`IssueError`] if the lifetime cannot be, or the generator fails.
    pub fn certify_device(
        &self,
        key: &impl PublicKeyData,
        terms: DeviceTerms<'_>,
        serial: Serial,
        now: UnixTime,
    ) -> Result<Certified, IssueError> {
        let left = self.not_after().as_secs().saturating_sub(now.as_secs());
        let lifetime = terms.lifetime.min(Duration::from_secs(left));
        let mut params = params_with(serial, now, lifetime, self.not_after())?;
        let id = terms.domain.id_of(terms.device);
        params.subject_alt_names.push(SanType::URI(id.try_into()?));
        // With a slash, no reader takes it for a host name, which the authority may not certify.
        super::push_common_name(&mut params, &terms.device.to_string());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.crl_distribution_points = points(terms.crl_url);
        let signed = params.signed_by(key, &self.issuer).map_err(|error| self.issuer.key().explain(error))?;
        let der = signed.der().to_vec();
        let second =
            |seconds: i64| UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
        let (begin, end) = (params.not_before.unix_timestamp(), params.not_after.unix_timestamp());
        Ok(Certified { der, serial, not_before: second(begin), not_after: second(end) })
    }

    /// A complete CRL of this authority (RFC 5280 5), DER. Numbers only grow.
    ///
    /// # Errors
    /// [`IssueError::Lifetime`] if the next update is not after `now`; [`IssueError::Generator`].
    pub fn crl(
        &self,
        revoked: &[Revoked],
        number: u64,
        next_update: Duration,
        now: UnixTime,
    ) -> Result<Vec<u8>, IssueError> {
        let impossible = || IssueError::Lifetime { now, lifetime: next_update };
        let next = now.as_secs().checked_add(next_update.as_secs()).filter(|next| *next <= LAST_SECOND);
        let next = next.filter(|next| *next > now.as_secs()).ok_or_else(impossible)?;
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        // The bound keeps the addition from overflowing.
        let time = |seconds: u64| epoch + Duration::from_secs(seconds.min(LAST_SECOND));
        let revoked = revoked.iter().map(|entry| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&entry.serial),
            revocation_time: time(entry.at.as_secs()),
            reason_code: reason_code(entry.reason),
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: time(now.as_secs()),
            next_update: time(next),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::PreSpecified(self.key_id.clone()),
        };
        let signed = params.signed_by(&self.issuer).map_err(|error| self.issuer.key().explain(error))?;
        Ok(signed.der().to_vec())
    }

    /// The authority's key identifier, which its certificates and CRLs name (RFC 5280 4.2.1.1).
    #[must_use]
    pub fn key_id(&self) -> &[u8] {
        &self.key_id
    }
}

fn points(url: Option<&str>) -> Vec<CrlDistributionPoint> {
    url.map(|url| CrlDistributionPoint { uris: vec![url.to_owned()] }).into_iter().collect()
}

/// RFC 5280 5.3.1: the code is left out where it would say nothing.
fn reason_code(reason: RevocationReason) -> Option<rcgen::RevocationReason> {
    use rcgen::RevocationReason as Code;
    match reason {
        RevocationReason::Unspecified => None,
        RevocationReason::KeyCompromise => Some(Code::KeyCompromise),
        RevocationReason::CaCompromise => Some(Code::CaCompromise),
        RevocationReason::AffiliationChanged => Some(Code::AffiliationChanged),
        RevocationReason::Superseded => Some(Code::Superseded),
        RevocationReason::CessationOfOperation => Some(Code::CessationOfOperation),
        RevocationReason::CertificateHold => Some(Code::CertificateHold),
        RevocationReason::PrivilegeWithdrawn => Some(Code::PrivilegeWithdrawn),
        RevocationReason::AaCompromise => Some(Code::AaCompromise),
    }
}

const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];
const DNS: u8 = 2;
const URI: u8 = 6;
const IP: u8 = 7;

fn name_constraints(domain: &TrustDomain) -> Result<CustomExtension, IssueError> {
    let host = domain.as_str().as_bytes();
    if !crate::path::names::is_host_name(host) {
        return Err(IssueError::Name { name: domain.to_string() });
    }
    let subtree = |tag, base: &[u8]| der::sequence(&[&der::tlv(der::context(tag), &[base])]);
    let permitted = der::tlv(der::constructed(0), &[&subtree(URI, host)]);
    let excluded = [subtree(DNS, b""), subtree(IP, &[0; 8]), subtree(IP, &[0; 32])].concat();
    let excluded = der::tlv(der::constructed(1), &[&excluded]);
    let mut extension = CustomExtension::from_oid_content(NAME_CONSTRAINTS, der::sequence(&[&permitted, &excluded]));
    extension.set_criticality(true);
    Ok(extension)
}

#[cfg(test)]
mod tests;
