//! Chains that are remembered, and the revoked.

use super::*;
use crate::path::{Crl, CrlSet, RevocationMode, RevocationSettings};

#[test]
fn a_known_chain_still_needs_its_key_and_today() {
    let door = Door::new(Profile::CryptrecHigh);
    let issued = device_certificate("sakura-clinic", "ward-1");
    let cache = door.verifier.cache();
    door.knock(&issued).unwrap();
    door.knock(&issued).unwrap();
    assert_eq!(cache.len(), 1);

    let key = device_certificate("sakura-clinic", "ward-2").key_pem;
    let key = rustls::pki_types::pem::PemObject::from_pem_slice(key.expose().as_bytes()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let stolen = rustls::sign::CertifiedKey::new(vec![der(&issued.certificate_pem)], key);
    let mut client = (*door.client(Profile::CryptrecHigh, Some(&issued), "")).clone();
    client.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(stolen));
    assert_eq!(refusal_of(&door.meet(&Arc::new(client)).err().unwrap()).0, Refusal::HandshakeFailed);
    assert_eq!(LAST_ALERT.get(), Some(AlertDescription::DecryptError));

    // Another trust asks the same memory another question.
    let chain = [der(&issued.certificate_pem)];
    let stranger = Anchors::from_pem(other_authority().certificate_pem().as_bytes()).unwrap();
    let admit: Admit = Arc::new(|_| Ok(()));
    let stranger = PeerVerifier::new(&stranger, Profile::CryptrecHigh, domain(), admit).with_cache(cache);
    assert_eq!(stranger.recheck(&chain, NOW).unwrap_err().refusal, Refusal::CertificateUntrusted);
    // The registry is asked each time, and so is the clock.
    *door.registry.lock().unwrap() = Err(Refusal::DeviceSuspended);
    assert_eq!(door.refused(&issued).0, Refusal::DeviceSuspended);
    *door.registry.lock().unwrap() = Ok(());
    let late = later(YEAR + Duration::from_secs(1));
    assert_eq!(door.verifier.recheck(&chain, late).unwrap_err().refusal, Refusal::CertificateExpired);
    assert!(door.verifier.cache().is_empty());
}

/// The alert says that the certificate was revoked, and the record when and why.
#[test]
fn a_revoked_device_is_told_so_and_known_chains_are_forgotten() {
    let mut authority = crate::issue::params(NOW, YEAR, later(YEAR)).unwrap();
    authority.distinguished_name.push(rcgen::DnType::CommonName, "root");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    let authority = rcgen::CertifiedIssuer::self_signed(authority, rcgen::KeyPair::generate().unwrap()).unwrap();
    let mut leaf = crate::issue::params(NOW, YEAR, later(YEAR)).unwrap();
    leaf.serial_number = Some(rcgen::SerialNumber::from(4711_u64));
    leaf.subject_alt_names = vec![uri("spiffe://sekisho.example/site/sakura-clinic/device/ward-1")];
    leaf.distinguished_name.push(rcgen::DnType::CommonName, "ward-1");
    let chain: [CertificateDer<'static>; 1] =
        [leaf.signed_by(&rcgen::KeyPair::generate().unwrap(), &authority).unwrap().into()];
    let list = |number: u64, revoked: &[u64]| {
        let at = |seconds: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        let entry = |serial: &u64| rcgen::RevokedCertParams {
            serial_number: rcgen::SerialNumber::from(*serial),
            revocation_time: at(NOW.as_secs() - 86_400),
            reason_code: Some(rcgen::RevocationReason::CessationOfOperation),
            invalidity_date: None,
        };
        let params = rcgen::CertificateRevocationListParams {
            this_update: at(NOW.as_secs() - 60),
            next_update: at(NOW.as_secs() + 3_600),
            crl_number: rcgen::SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        Crl::from_der(params.signed_by(&authority).unwrap().der()).unwrap()
    };
    let settings = RevocationSettings { mode: RevocationMode::Require, ..RevocationSettings::default() };
    let crls = CrlSet::default().with("file", list(1, &[1])).unwrap();
    let verifier = || verifier(&authority.pem(), &Arc::new(Mutex::new(Ok(()))));
    let today = Arc::into_inner(verifier()).unwrap().with_revocation(crls.clone(), settings);
    assert!(today.recheck(&chain, NOW).is_ok());
    assert_eq!(today.cache().len(), 1);
    let late = later(Duration::from_secs(3_601));
    assert_eq!(today.recheck(&chain, late).unwrap_err().refusal, Refusal::RevocationUnknown);
    today.recheck(&chain, NOW).unwrap();

    let crls = crls.with("file", list(2, &[1, 4711])).unwrap();
    let cache = today.cache();
    let tomorrow = Arc::into_inner(verifier()).unwrap().with_revocation(crls, settings).with_cache(cache);
    let (outcome, noted) = noting(|| tomorrow.verify_client_cert(&chain[0], &[], NOW));
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::InvalidCertificate(CertificateError::Revoked)), "{error}");
    assert_eq!(refusal_of(&error).0, Refusal::CertificateRevoked);
    let noted = noted.unwrap();
    assert_eq!(noted.refusal, Refusal::CertificateRevoked);
    assert!(noted.detail.ends_with("it was revoked on 2025-12-31T00:00:00Z: cessationOfOperation"), "{}", noted.detail);
    assert_eq!(noting(|| ()).1, None);
}
