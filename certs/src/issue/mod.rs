//! Issuing: a certificate authority for development and for clinics that have none.
//!
//! [`Authority::new`] makes the small one of tests; `ca` the one that clinics use: a root kept offline and an issuing CA
//! below it. `request` reads what devices ask for, `secret` and `bundle` write the files that keys and certificates
//! travel in.
//!
//! Keys are drawn by aws-lc-rs from the system's random source. Validity begins five minutes before `now`, for clients
//! whose clocks are behind.

mod acme;
mod bundle;
mod ca;
pub(crate) mod der;
mod file;
mod request;
mod secret;
mod signer;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use policy::DeviceId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::UnixTime;
use x509_cert::der::asn1::{ObjectIdentifier, Utf8StringRef};

use crate::leaf::Leaf;
use crate::{Anchors, AnchorsError, ServerIdentity, ServerIdentityError, TrustDomain};
use signer::Signer;

pub use acme::{ACME_TLS, ChallengeError, challenge_config, server_request};
pub use bundle::{PKCS12_ROUNDS, Pkcs12Salts, certificates_only, pkcs12};
pub use ca::{Certified, DeviceTerms, KeyKind, NewAuthority, NewKey, Revoked, Serial};
pub use file::{WriteError, write_private_file};
pub use request::{MAX_REQUEST_BYTES, RequestError, RequestedKey};
pub use secret::{MIN_PASSPHRASE, ROUNDS, Salts, SecretError, is_protected, open, pkcs8_pem, protect};
pub use signer::{CaKey, RemoteFault, RemoteKey, RemoteSigner};

/// How long before `now` validity begins.
const BACKDATE: Duration = Duration::from_secs(300);

/// The last second that an X.509 time can say: the end of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

/// The longest common name (RFC 5280 appendix A.1, `ub-common-name`).
const MAX_COMMON_NAME: usize = 64;

const EC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// A certificate authority with its key.
pub struct Authority {
    issuer: Issuer<'static, Signer>,
    name: String,
    certificate_pem: String,
    key_id: Vec<u8>,
    not_after: UnixTime,
}

/// A certificate with its new key.
#[derive(Debug)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key, PKCS#8 PEM.
    pub key_pem: PrivatePem,
}

/// A private key as PEM. Does not print itself.
pub struct PrivatePem(String);

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The certificate's validity would begin before 1970, end after the year 9999 or outlive its authority.
    #[error("a lifetime of {} s from {} is not possible under this authority", lifetime.as_secs(), crate::rfc3339(*now))]
    Lifetime {
        /// The beginning.
        now: UnixTime,
        /// The lifetime asked for.
        lifetime: Duration,
    },
    /// The name is empty, too long for a common name, or not a host name.
    #[error("`{name}` cannot stand in a certificate")]
    Name {
        /// The name, escaped for a terminal.
        name: String,
    },
    /// The authority's certificate cannot be used.
    #[error("the authority's certificate: {0}")]
    Certificate(#[from] AnchorsError),
    /// The authority's file does not hold one certificate of the form that [`Authority::new`] makes.
    #[error("the authority's certificate: {reason}")]
    Foreign {
        /// What is different.
        reason: &'static str,
    },
    /// The authority's certificate and key do not fit together.
    #[error(transparent)]
    Key(#[from] ServerIdentityError),
    /// The generator's fault.
    #[error("no certificate could be made: {0}")]
    Generator(#[from] rcgen::Error),
    /// The token that keeps the key did not sign.
    #[error(transparent)]
    Remote(RemoteFault),
    /// What was made cannot be written as text.
    #[error("what was made cannot be written as PEM")]
    Encoding,
    /// The system has no random bytes.
    #[error("the system has no random bytes")]
    Random,
}

impl Authority {
    /// Makes a self-signed authority that may issue end-entity certificates only.
    ///
    /// # Errors
    /// [`IssueError`] if the name or the lifetime cannot be, or the generator fails.
    pub fn new(name: &str, lifetime: Duration, now: UnixTime) -> Result<Self, IssueError> {
        let mut params = params(now, lifetime, UnixTime::since_unix_epoch(Duration::from_secs(LAST_SECOND)))?;
        params.distinguished_name.push(DnType::CommonName, checked_name(name)?);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = Signer::of(CaKey::New(KeyKind::P256))?;
        Self::assemble(&params.self_signed(&key)?.pem(), key)
    }

    /// Reads an authority that was made here.
    ///
    /// # Errors
    /// [`IssueError`] if certificate or key cannot be read, do not fit together, or if the certificate's subject is
    /// not one common name in UTF-8: what is issued would not name its issuer byte by byte.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, IssueError> {
        only(certificate_pem)?;
        ServerIdentity::from_pem(certificate_pem.as_bytes(), key_pem.as_bytes())?;
        Self::assemble(certificate_pem, Signer::from_pem(key_pem)?)
    }

    /// Reads an authority whose key a token keeps. The token is not asked: [`Authority::prove`] does.
    ///
    /// # Errors
    /// As for [`Authority::from_pem`]; [`IssueError::Foreign`] if the certificate's key is no ECDSA key of P-256 or
    /// P-384.
    pub fn from_remote(certificate_pem: &str, signer: Arc<dyn RemoteSigner>) -> Result<Self, IssueError> {
        let read = only(certificate_pem)?;
        let key = read.certificate().tbs_certificate().subject_public_key_info();
        let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok());
        let kind = match curve {
            Some(curve) if key.algorithm.oid == EC_KEY && curve == P256 => KeyKind::P256,
            Some(curve) if key.algorithm.oid == EC_KEY && curve == P384 => KeyKind::P384,
            Some(_) | None => return Err(IssueError::Foreign { reason: "its key is not one of P-256 or P-384" }),
        };
        let key = RemoteKey::new(kind, key.subject_public_key.raw_bytes(), signer)?;
        Self::assemble(certificate_pem, Signer::of(CaKey::Remote(&key))?)
    }

    /// The certificate and the key go together: the caller knows it, or every signature shows it.
    fn assemble(certificate_pem: &str, key: Signer) -> Result<Self, IssueError> {
        let read = only(certificate_pem)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let name = common_name(&read)?;
        params.distinguished_name.push(DnType::CommonName, DnValue::Utf8String(name.clone()));
        let key_id = read.key_id().map_err(|source| AnchorsError::Certificate { line: 1, source })?;
        let key_id = key_id.ok_or(IssueError::Foreign { reason: "it has no key identifier" })?;
        params.key_identifier_method = KeyIdMethod::PreSpecified(key_id.clone());
        Ok(Self {
            issuer: Issuer::new(params, key),
            name,
            certificate_pem: certificate_pem.to_owned(),
            key_id,
            not_after: read.not_after(),
        })
    }

    /// The authority's own certificate, PEM: the trust anchor.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's private key; none where a token keeps it.
    #[must_use]
    pub fn key_pem(&self) -> Option<&PrivatePem> {
        self.issuer.key().pem()
    }

    /// The end of the authority's validity; nothing it issues lasts longer.
    #[must_use]
    pub const fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// Issues a certificate for a server of these names: DNS names, or IP addresses in text.
    ///
    /// # Errors
    /// [`IssueError`] if there is no name, or one that is no host name, or the lifetime cannot be.
    pub fn issue_server(&self, names: &[&str], lifetime: Duration, now: UnixTime) -> Result<Issued, IssueError> {
        let mut params = params(now, lifetime, self.not_after)?;
        let Some(first) = names.first() else { return Err(IssueError::Name { name: String::new() }) };
        for name in names {
            params.subject_alt_names.push(host(name)?);
        }
        push_common_name(&mut params, first);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    /// Issues a certificate for a device: an X509-SVID whose one URI is the device's SPIFFE ID.
    ///
    /// # Errors
    /// [`IssueError`] if the lifetime cannot be, or the generator fails.
    pub fn issue_device(
        &self,
        domain: &TrustDomain,
        device: &DeviceId,
        lifetime: Duration,
        now: UnixTime,
    ) -> Result<Issued, IssueError> {
        let mut params = params(now, lifetime, self.not_after)?;
        let id = domain.id_of(device);
        params.subject_alt_names.push(SanType::URI(id.try_into()?));
        push_common_name(&mut params, device.device.as_str());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    fn issue(&self, mut params: CertificateParams) -> Result<Issued, IssueError> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        self.sign(&params)
    }

    /// Signs whatever it is given; tests make odd certificates by it.
    pub(crate) fn sign(&self, params: &CertificateParams) -> Result<Issued, IssueError> {
        let key = KeyPair::generate()?;
        let signed = params.signed_by(&key, &self.issuer).map_err(|error| self.issuer.key().explain(error))?;
        let certificate_pem = signed.pem();
        Ok(Issued { certificate_pem, key_pem: PrivatePem(key.serialize_pem()) })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl PrivatePem {
    /// The PEM text. Write it by [`write_private_file`].
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivatePem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivatePem(…)")
    }
}

pub(crate) fn params(now: UnixTime, lifetime: Duration, limit: UnixTime) -> Result<CertificateParams, IssueError> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| IssueError::Random)?;
    params_with(Serial::from_random(serial), now, lifetime, limit)
}

fn params_with(
    serial: Serial,
    now: UnixTime,
    lifetime: Duration,
    limit: UnixTime,
) -> Result<CertificateParams, IssueError> {
    let impossible = IssueError::Lifetime { now, lifetime };
    let begin = now.as_secs().checked_sub(BACKDATE.as_secs());
    let end = now.as_secs().checked_add(lifetime.as_secs()).filter(|end| *end <= limit.as_secs().min(LAST_SECOND));
    let (Some(begin), Some(end)) = (begin, end) else { return Err(impossible) };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    // INVARIANT: at most LAST_SECOND, so the additions cannot overflow.
    params.not_before = epoch + Duration::from_secs(begin);
    params.not_after = epoch + Duration::from_secs(end);
    params.serial_number = Some(serial.to_number());
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn checked_name(name: &str) -> Result<&str, IssueError> {
    if name.is_empty() || name.len() > MAX_COMMON_NAME || name.chars().any(char::is_control) {
        return Err(IssueError::Name { name: name.escape_debug().to_string() });
    }
    Ok(name)
}

/// A certificate as PEM.
///
/// # Errors
/// [`IssueError::Encoding`], which no certificate gives.
pub fn certificate_pem(der: &[u8]) -> Result<String, IssueError> {
    pem_text("CERTIFICATE", der)
}

/// A PEM section (RFC 7468).
///
/// # Errors
/// [`IssueError::Encoding`] if the label is none.
pub fn pem_text(label: &str, der: &[u8]) -> Result<String, IssueError> {
    x509_cert::der::pem::encode_string(label, x509_cert::der::pem::LineEnding::LF, der)
        .map_err(|_| IssueError::Encoding)
}

/// For human eyes only; identities are read from the subjectAltName. Too long a name is left out.
fn push_common_name(params: &mut CertificateParams, name: &str) {
    if name.len() <= MAX_COMMON_NAME {
        params.distinguished_name.push(DnType::CommonName, name);
    }
}

fn host(name: &str) -> Result<SanType, IssueError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let invalid = || IssueError::Name { name: name.escape_debug().to_string() };
    rustls::pki_types::DnsName::try_from(name).map_err(|_| invalid())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| invalid())?))
}

/// The certificate of an authority's file, which holds no other.
fn only(certificate_pem: &str) -> Result<Leaf, IssueError> {
    let anchors = Anchors::from_pem(certificate_pem.as_bytes())?;
    let [certificate] = anchors.certificates() else {
        return Err(IssueError::Foreign { reason: "there are several" });
    };
    Ok(Leaf::read(certificate).map_err(|source| AnchorsError::Certificate { line: 1, source })?)
}

fn common_name(read: &Leaf) -> Result<String, IssueError> {
    let foreign = IssueError::Foreign { reason: "its subject is not one common name in UTF-8" };
    let subject = read.certificate().tbs_certificate().subject();
    let mut attributes = subject.iter();
    let (Some(only), None) = (attributes.next(), attributes.next()) else { return Err(foreign) };
    let text = only.value.decode_as::<Utf8StringRef<'_>>();
    match text {
        Ok(text) if only.oid == COMMON_NAME => Ok(text.as_str().to_owned()),
        Ok(_) | Err(_) => Err(foreign),
    }
}

#[cfg(test)]
mod tests;
