//! Certificates: good ones from `certs::issue`, odd ones straight from the generator.

use std::time::{Duration, SystemTime};

use certs::TrustDomain;
use certs::issue::Authority;
use policy::{DeviceId, DeviceName, SiteName};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

/// The trust domain of every clinic here.
pub const TRUST_DOMAIN: &str = "sekisho.example";
const DEVICES_CA: &str = "Devices of the tests";
const SERVERS_CA: &str = "Servers of the tests";
const LIFETIME: Duration = Duration::from_secs(86_400);

/// A certificate with its key, as PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The leaf, and the CAs above it where it needs them.
    pub certificate_pem: String,
    /// Its key, PKCS#8.
    pub key_pem: String,
}

impl Identity {
    /// The leaf first.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        let all = CertificateDer::pem_slice_iter(self.certificate_pem.as_bytes());
        all.collect::<Result<_, _>>().expect("certificates")
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).expect("a key")
    }
}

/// What is odd about a certificate that the devices' authority issued all the same.
#[derive(Debug, Clone)]
pub struct Oddity {
    /// URIs of the subject alternative name.
    pub uris: Vec<String>,
    /// DNS names beside them.
    pub dns: Vec<String>,
    /// The common name.
    pub common_name: String,
    /// What it may be used for.
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    /// Years in which validity begins and ends.
    pub years: (i32, i32),
}

impl Oddity {
    /// A certificate with nothing odd about it yet, for this device (`site/device`).
    #[must_use]
    pub fn of(device: &str) -> Self {
        Self {
            uris: vec![spiffe_id(device)],
            dns: Vec::new(),
            common_name: device.replace('/', "-"),
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
            years: (2020, 2090),
        }
    }
}

/// The SPIFFE ID of a device, `site/device`.
#[must_use]
pub fn spiffe_id(device: &str) -> String {
    let (site, device) = device.split_once('/').expect("site/device");
    format!("spiffe://{TRUST_DOMAIN}/site/{site}/device/{device}")
}

/// The authorities of a clinic's world.
pub struct Pki {
    devices: Authority,
    servers: Authority,
}

impl Pki {
    /// New authorities for devices and for servers.
    #[must_use]
    pub fn new() -> Self {
        // An authority that has ended opens nothing: these outlive what tests do to the clock.
        let authority = |name| Authority::new(name, LIFETIME * 365 * 70, now()).expect("an authority");
        Self { devices: authority(DEVICES_CA), servers: authority(SERVERS_CA) }
    }

    /// The anchor of device certificates.
    #[must_use]
    pub fn devices_ca_pem(&self) -> &str {
        self.devices.certificate_pem()
    }

    /// The anchor of the gateway's own certificate.
    #[must_use]
    pub fn servers_ca_pem(&self) -> &str {
        self.servers.certificate_pem()
    }

    /// The certificate of a device, `site/device`.
    #[must_use]
    pub fn device(&self, device: &str) -> Identity {
        self.device_for(device, LIFETIME)
    }

    /// As [`Pki::device`], valid for so long from this moment on.
    #[must_use]
    pub fn device_for(&self, device: &str, lifetime: Duration) -> Identity {
        let (site, name) = device.split_once('/').expect("site/device");
        let id =
            DeviceId { site: SiteName::new(site).expect("a site"), device: DeviceName::new(name).expect("a device") };
        let domain = TRUST_DOMAIN.parse::<TrustDomain>().expect("a trust domain");
        identity(self.devices.issue_device(&domain, &id, lifetime, now()).expect("a device certificate"))
    }

    /// The certificate of an operator, `site/device` for a name, of the authority that otherwise certifies devices.
    #[must_use]
    pub fn operator(&self, name: &str) -> Identity {
        let dns = vec![format!("{}.example", name.replace('/', "-"))];
        self.odd(&Oddity { uris: Vec::new(), dns, ..Oddity::of(name) })
    }

    /// A server's certificate.
    #[must_use]
    pub fn server(&self, names: &[&str]) -> Identity {
        identity(self.servers.issue_server(names, LIFETIME, now()).expect("a server certificate"))
    }

    /// As [`Pki::server`], with wildcards allowed and so many days to live.
    #[must_use]
    pub fn server_for(&self, names: &[&str], days: u32) -> Identity {
        self.server_between(names, 0, days)
    }

    /// As [`Pki::server_for`], from so many days from now on.
    #[must_use]
    pub fn server_between(&self, names: &[&str], begin: u32, end: u32) -> Identity {
        let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        let params = params.as_mut().expect("names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.not_before = (SystemTime::now() + LIFETIME * begin).into();
        params.not_after = (SystemTime::now() + LIFETIME * end).into();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &issuer(&self.servers, SERVERS_CA)).expect("a certificate");
        Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }

    /// The key of the servers' authority, PEM, for tools that sign in its name.
    #[must_use]
    pub fn servers_ca_key_pem(&self) -> &str {
        self.servers.key_pem().expect("a key").expose()
    }

    /// What the devices' authority should never have signed.
    #[must_use]
    pub fn odd(&self, oddity: &Oddity) -> Identity {
        let mut params = CertificateParams::default();
        let uri = |uri: &String| SanType::URI(uri.as_str().try_into().expect("ASCII"));
        let dns = |name: &String| SanType::DnsName(name.as_str().try_into().expect("ASCII"));
        params.subject_alt_names = oddity.uris.iter().map(uri).chain(oddity.dns.iter().map(dns)).collect();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, oddity.common_name.as_str());
        params.extended_key_usages.clone_from(&oddity.usages);
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_before = rcgen::date_time_ymd(oddity.years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(oddity.years.1, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &issuer(&self.devices, DEVICES_CA)).expect("a certificate");
        Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }
}

/// An authority as the generator knows it.
fn issuer(authority: &Authority, name: &str) -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Issuer::new(params, KeyPair::from_pem(authority.key_pem().expect("a key").expose()).expect("the authority's key"))
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

fn identity(issued: certs::issue::Issued) -> Identity {
    Identity { certificate_pem: issued.certificate_pem, key_pem: issued.key_pem.expose().to_owned() }
}

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970"))
}
