use super::*;
use crate::issue::Revoked;
use crate::path::{Crl, RevocationMode, RevocationReason};
use crate::profile::{ClientSettings, client_config};
use crate::testing::{NOW, YEAR, authority, der, later, odd, other_authority, server_certificate, shake_hands};
use crate::{ServerIdentity, issue::Issued};
use policy::Refusal;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use rustls::{ClientConnection, ServerConfig, ServerConnection};
use std::time::Duration;

fn anchors() -> Anchors {
    Anchors::from_pem(authority().certificate_pem().as_bytes()).unwrap()
}

/// A backend's certificate, changed.
fn backend(change: impl FnOnce(&mut rcgen::CertificateParams)) -> Issued {
    odd(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names =
            vec![SanType::DnsName("fhir.internal".try_into().unwrap()), SanType::IpAddress([192, 0, 2, 1].into())];
        change(params);
    })
}

fn judge(verifier: &BackendVerifier, issued: &Issued, name: &'static str, now: UnixTime) -> Result<(), PeerRefused> {
    let name = ServerName::try_from(name).unwrap();
    verifier.check(&der(&issued.certificate_pem), &[], &name, now).map(drop)
}

#[test]
fn each_fault_has_its_refusal_and_says_what_is_wrong() {
    let verifier = BackendVerifier::new(&anchors(), Profile::CryptrecHighTls12);
    let good = backend(|_| ());
    for name in ["fhir.internal", "FHIR.internal", "fhir.internal.", "192.0.2.1"] {
        assert_eq!(judge(&verifier, &good, name, NOW), Ok(()), "{name}");
    }
    // As every HPKI certificate has it, an organisation's included.
    let critical = backend(|p| p.custom_extensions.push(crate::verifier::tests::critical_policies()));
    assert_eq!(judge(&verifier, &critical, "fhir.internal", NOW), Ok(()));

    let stranger = other_authority().issue_server(&["fhir.internal"], YEAR, NOW).unwrap();
    let device = backend(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let unknown = backend(|p| {
        let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(true);
        p.custom_extensions.push(extension);
    });
    for (issued, name, now, refusal, says) in [
        (&good, "other.internal", NOW, Refusal::CertificateIdentity, "it names `fhir.internal`, `192.0.2.1`"),
        (&good, "192.0.2.2", NOW, Refusal::CertificateIdentity, "`192.0.2.2` was asked for"),
        (&good, "fhir.internal", later(YEAR * 2), Refusal::CertificateExpired, "expired after 2027-01-01"),
        (&good, "fhir.internal", UnixTime::since_unix_epoch(Duration::ZERO), Refusal::CertificateNotYetValid, "before"),
        (&stranger, "fhir.internal", NOW, Refusal::CertificateUntrusted, "trust anchor"),
        (&device, "fhir.internal", NOW, Refusal::CertificatePurpose, "may not be used for this"),
        (&unknown, "fhir.internal", NOW, Refusal::CertificateMalformed, "1.2.3.4"),
    ] {
        let refused = judge(&verifier, issued, name, now).unwrap_err();
        assert_eq!(refused.refusal, refusal, "{refused}");
        assert!(refused.detail.contains(says), "{refused}");
    }
}

#[test]
fn a_name_that_was_made_up_for_a_terminal_is_escaped() {
    let issued = backend(|p| p.subject_alt_names = vec![SanType::DnsName("a\u{1b}[2J".try_into().unwrap())]);
    let verifier = BackendVerifier::new(&anchors(), Profile::CryptrecHigh);
    let refused = judge(&verifier, &issued, "fhir.internal", NOW).unwrap_err();
    assert!(!refused.to_string().contains('\u{1b}'), "{refused:?}");
}

/// A CRL of the test authority that names one serial number, or none.
fn list(serial: Option<&[u8]>) -> Crl {
    let revoked = |serial: &[u8]| Revoked { serial: serial.to_vec(), at: NOW, reason: RevocationReason::KeyCompromise };
    let revoked: Vec<_> = serial.map(revoked).into_iter().collect();
    Crl::from_der(&authority().crl(&revoked, 1, YEAR, NOW).unwrap()).unwrap()
}

#[test]
fn a_revoked_backend_is_refused_where_lists_are_configured() {
    let issued = backend(|p| p.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x4d, 1])));
    let with = |serial: Option<&[u8]>| {
        let crls = CrlSet::default().with("a", list(serial)).unwrap();
        let settings = RevocationSettings { mode: RevocationMode::Prefer, ..RevocationSettings::default() };
        BackendVerifier::new(&anchors(), Profile::CryptrecHigh).with_revocation(crls, settings)
    };
    assert_eq!(judge(&with(None), &issued, "fhir.internal", NOW), Ok(()));
    let refused = judge(&with(Some(&[0x4d, 1])), &issued, "fhir.internal", NOW).unwrap_err();
    assert_eq!(refused.refusal, Refusal::CertificateRevoked);
    assert!(refused.detail.contains("keyCompromise"), "{refused}");
}

#[derive(Debug)]
struct Fixed;

impl rustls::time_provider::TimeProvider for Fixed {
    fn current_time(&self) -> Option<UnixTime> {
        Some(NOW)
    }
}

/// A handshake in memory between our client and a backend with this certificate.
fn shake(profile: Profile, backend: &ServerIdentity, name: &'static str) -> (Result<(), Error>, Option<PeerRefused>) {
    let alpn: &[&[u8]] = &[];
    let client = client_config(ClientSettings {
        profile,
        verifier: Arc::new(BackendVerifier::new(&anchors(), profile)),
        identity: None,
        alpn,
        clock: Arc::new(Fixed),
    })
    .unwrap();
    let server = ServerConfig::builder_with_details(profile.provider(), Arc::new(Fixed))
        .with_protocol_versions(&[profile.versions().last().copied().unwrap()])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(backend.resolver());
    let mut client = ClientConnection::new(Arc::new(client), name.try_into().unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    crate::verifier::noting(|| shake_hands(&mut client, &mut server).map_err(|(_, error)| error))
}

#[test]
fn a_handshake_of_either_version_proves_the_key_and_names_the_fault() {
    let identity = |issued: &Issued| {
        ServerIdentity::from_pem(issued.certificate_pem.as_bytes(), issued.key_pem.expose().as_bytes()).unwrap()
    };
    let critical = backend(|p| p.custom_extensions.push(crate::verifier::tests::critical_policies()));
    for profile in [Profile::CryptrecHigh, Profile::CryptrecHighTls12] {
        assert_eq!(shake(profile, &identity(&critical), "fhir.internal"), (Ok(()), None));
        let (outcome, noted) = shake(profile, &identity(&server_certificate()), "fhir.internal");
        assert!(outcome.is_err());
        assert!(noted.unwrap().detail.contains("it names `localhost`"));
    }
}
