//! A clinic's certificates for tests, odd ones included.

use std::sync::LazyLock;
use std::time::Duration;

use policy::{DeviceId, DeviceName, SiteName};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};

use crate::TrustDomain;
use crate::issue::{self, Authority, Issued};

/// The time of every test: 2026-01-01.
pub(crate) const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600));

pub(crate) const YEAR: Duration = Duration::from_secs(365 * 86_400);

pub(crate) fn later(by: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(NOW.as_secs()) + by)
}

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::new("sekisho.example").unwrap()
}

pub(crate) fn device(site: &str, device: &str) -> DeviceId {
    DeviceId { site: SiteName::new(site).unwrap(), device: DeviceName::new(device).unwrap() }
}

/// The authority that listeners in tests trust.
pub(crate) fn authority() -> &'static Authority {
    static ONE: LazyLock<Authority> = LazyLock::new(|| Authority::new("Sekisho test devices", YEAR * 10, NOW).unwrap());
    &ONE
}

/// An authority that no listener trusts.
pub(crate) fn other_authority() -> &'static Authority {
    static ONE: LazyLock<Authority> = LazyLock::new(|| Authority::new("Somebody else", YEAR * 10, NOW).unwrap());
    &ONE
}

pub(crate) fn device_certificate(site: &str, name: &str) -> Issued {
    authority().issue_device(&domain(), &device(site, name), YEAR, NOW).unwrap()
}

pub(crate) fn server_certificate() -> Issued {
    authority().issue_server(&["localhost", "127.0.0.1", "::1"], YEAR, NOW).unwrap()
}

/// A good device's certificate, changed.
pub(crate) fn odd(change: impl FnOnce(&mut CertificateParams)) -> Issued {
    let mut params = issue::params(NOW, YEAR, later(YEAR)).unwrap();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.subject_alt_names = vec![uri("spiffe://sekisho.example/site/sakura-clinic/device/ward-1")];
    change(&mut params);
    authority().sign(&params).unwrap()
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(crate) fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// Carries a handshake in memory to its end.
///
/// # Errors
/// What an end refused with: the server's with true.
pub(crate) fn shake_hands(
    client: &mut rustls::ClientConnection,
    server: &mut rustls::ServerConnection,
) -> Result<(), (bool, rustls::Error)> {
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().map_err(|error| (true, error))?;
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().map_err(|error| (false, error))?;
        }
    }
    assert!(!server.is_handshaking() && !client.is_handshaking());
    Ok(())
}
