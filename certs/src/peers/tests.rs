//! One CA that issues for devices, users and patients, and every certificate at every door.

use std::sync::Arc;

use policy::Refusal;
use rcgen::{CustomExtension, DnType, KeyUsagePurpose, SanType};
use rustls::pki_types::CertificateDer;

use super::*;
use crate::testing::{NOW, authority, der, device, device_certificate, domain, odd, uri};
use crate::verifier::Admit;
use crate::{Anchors, ChainCache, PeerVerifier, Profile};

const PATIENT_POLICY: &str = "1.2.392.200149.8.5.1.3.30";

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
}

fn oid(text: &str) -> Vec<u8> {
    tlv(6, ObjectIdentifier::new(text).unwrap().as_bytes())
}

fn policies(all: &[&str]) -> CustomExtension {
    let all: Vec<u8> = all.iter().flat_map(|policy| tlv(0x30, &oid(policy))).collect();
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 32], tlv(0x30, &all));
    extension.set_criticality(true);
    extension
}

fn hc_role(text: &str) -> CustomExtension {
    let coded = [tlv(0xa0, &oid("1.2.392.100495.1.6.1.1")), tlv(0xa2, &tlv(0x0c, text.as_bytes()))].concat();
    let actors = tlv(0x31, &tlv(0x30, &tlv(0xa0, &tlv(0x31, &coded))));
    let attribute = tlv(0x30, &[oid("1.0.17090.0.1"), tlv(0x31, &actors)].concat());
    CustomExtension::from_oid_content(&[2, 5, 29, 9], tlv(0x30, &attribute))
}

/// SPIFFE ID, policies, role, serialNumber; nobody's unless it says so.
fn made(uris: &[&str], of: &[&str], role: Option<&str>, number: Option<&str>) -> CertificateDer<'static> {
    made_for(uris, of, role, number, KeyUsagePurpose::DigitalSignature)
}

fn made_for(
    uris: &[&str],
    of: &[&str],
    role: Option<&str>,
    number: Option<&str>,
    usage: KeyUsagePurpose,
) -> CertificateDer<'static> {
    let issued = odd(|params| {
        params.subject_alt_names = uris.iter().map(|text| uri(text)).collect();
        params.key_usages = vec![usage];
        if !of.is_empty() {
            params.custom_extensions.push(policies(of));
        }
        params.custom_extensions.extend(role.map(hc_role));
        if let Some(number) = number {
            params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), number);
        }
    });
    der(&issued.certificate_pem)
}

fn patients() -> Peers {
    let policies = vec![PolicyOid::parse(PATIENT_POLICY).unwrap()];
    Peers::Patients { id: PatientField::SubjectSerialNumber, policies }
}

fn any_patients(id: PatientField) -> Peers {
    Peers::Patients { id, policies: Vec::new() }
}

fn verifier(peers: impl Into<Peers>, cache: &Arc<ChainCache>) -> PeerVerifier {
    let anchors = Anchors::from_pem(authority().certificate_pem().as_bytes()).unwrap();
    let admit: Admit = Arc::new(|_| Ok(()));
    PeerVerifier::new(&anchors, Profile::CryptrecHigh, peers, admit).with_cache(Arc::clone(cache))
}

fn ask(peers: impl Into<Peers>, leaf: &CertificateDer<'static>) -> Result<PeerIdentity, Refusal> {
    let verifier = verifier(peers, &Arc::default());
    let peer = verifier.recheck(std::slice::from_ref(leaf), NOW).map_err(|refused| refused.refusal)?;
    Ok(peer.identity().clone())
}

/// A certificate, and what the doors say: devices', users', patients' with a policy and without one.
type Row = (&'static str, CertificateDer<'static>, [Result<(), Refusal>; 4]);

#[test]
fn one_purposes_certificate_opens_no_other_door() {
    use Refusal::{CertificateIdentity as Identity, CertificatePolicy as Policy, CertificatePurpose as Another};
    const AUTHENTICATION: &str = "1.2.392.100495.1.5.1.2.3.1";
    const SIGNATURE: &str = "1.2.392.100495.1.5.1.1.3.1";
    let spiffe = "spiffe://sekisho.example/site/sakura-clinic/device/ward-1";
    let role = Some("Medical Doctor");
    let a_device = der(&device_certificate("sakura-clinic", "ward-1").certificate_pem);
    let table: [Row; 8] = [
        ("device", a_device, [Ok(()), Err(Policy), Err(Policy), Err(Another)]),
        (
            "card",
            made(&[], &[AUTHENTICATION], role, Some("117120")),
            [Err(Identity), Ok(()), Err(Policy), Err(Another)],
        ),
        ("patient", made(&[], &[PATIENT_POLICY], None, Some("1")), [Err(Identity), Err(Policy), Ok(()), Ok(())]),
        // What a CA that mixes everything might issue.
        (
            "card with a SPIFFE ID",
            made(&[spiffe], &[AUTHENTICATION], role, Some("1")),
            [Err(Another), Err(Another), Err(Policy), Err(Another)],
        ),
        (
            "device with a role",
            made(&[spiffe], &[], role, None),
            [Err(Another), Err(Policy), Err(Policy), Err(Another)],
        ),
        (
            "all at once",
            made(&["SPIFFE://elsewhere/x"], &[AUTHENTICATION, PATIENT_POLICY], role, Some("1")),
            [Err(Identity), Err(Another), Err(Another), Err(Another)],
        ),
        (
            "signature card",
            made(&[], &[AUTHENTICATION, SIGNATURE], role, Some("1")),
            [Err(Identity), Err(Policy), Err(Policy), Err(Another)],
        ),
        (
            "card without role",
            made(&[], &[AUTHENTICATION], None, Some("1")),
            [Err(Identity), Err(Identity), Err(Policy), Err(Another)],
        ),
    ];
    let doors: [Peers; 4] = [
        domain().into(),
        Peers::Users { test_cards: false },
        patients(),
        any_patients(PatientField::SubjectSerialNumber),
    ];
    for (name, leaf, expected) in &table {
        for (door, expected) in doors.iter().zip(expected) {
            assert_eq!(ask(door.clone(), leaf).map(drop), *expected, "{name} at {door:?}");
        }
    }
}

#[test]
fn who_is_named() {
    let card = made(&[], &["1.2.392.100495.1.5.1.2.0.1"], Some("Fortune Teller"), Some("117120"));
    let found = ask(Peers::Users { test_cards: true }, &card).unwrap();
    let issuer = subject_hash(&der(authority().certificate_pem())).unwrap();
    let holder = Holder { issuer, number: "117120".to_owned() };
    assert_eq!(found, PeerIdentity::User { holder, qualifications: vec!["Fortune Teller".to_owned()] });
    assert_eq!(ask(Peers::Users { test_cards: false }, &card), Err(Refusal::CertificatePolicy));
    let leaf = der(&device_certificate("s", "d").certificate_pem);
    assert_eq!(ask(domain(), &leaf), Ok(PeerIdentity::Device(device("s", "d"))));
}

#[test]
fn a_patient_is_named_once_in_the_field_that_counts() {
    let email = |all: &[&str]| {
        let names: Vec<_> = all.iter().map(|name| SanType::Rfc822Name((*name).try_into().unwrap())).collect();
        der(&odd(|params| params.subject_alt_names = names).certificate_pem)
    };
    let named = |peers: Peers, leaf: &CertificateDer<'static>| {
        ask(peers, leaf).map(|found| match found {
            PeerIdentity::Patient(patient) => patient.id().to_owned(),
            other @ (PeerIdentity::Device(_) | PeerIdentity::User { .. }) => panic!("{other}"),
        })
    };
    let missing = Err(Refusal::CertificateIdentity);
    let by_email = || any_patients(PatientField::SanEmail);
    assert_eq!(named(by_email(), &email(&["taro@example.jp"])), Ok("taro@example.jp".to_owned()));
    assert_eq!(named(by_email(), &email(&["a@example.jp", "b@example.jp"])), missing);
    let by_uri = || any_patients(PatientField::SanUri);
    assert_eq!(named(by_uri(), &made(&["urn:oid:1.2.3"], &[], None, None)), Ok("urn:oid:1.2.3".to_owned()));
    assert_eq!(named(by_uri(), &made(&["urn:a", "urn:b"], &[], None, None)), missing);
    assert_eq!(named(by_email(), &made(&["urn:a"], &[], None, None)), missing);
    let by_number = || any_patients(PatientField::SubjectSerialNumber);
    assert_eq!(named(by_number(), &made(&["urn:a"], &[], None, Some("9"))), Ok("9".to_owned()));
    assert_eq!(named(by_number(), &made(&["urn:a"], &[], None, Some("9\u{7}"))), missing);
    let long = "x".repeat(300);
    assert_eq!(named(by_uri(), &made(&[&format!("urn:{long}")], &[], None, None)), missing);
    let agreement = made_for(&["urn:a"], &[], None, Some("9"), KeyUsagePurpose::KeyAgreement);
    assert_eq!(named(by_number(), &agreement), Err(Refusal::CertificatePurpose));
}

proptest::proptest! {
    /// Whatever the bytes, reading ends, and names what a certificate for that purpose may.
    #[test]
    fn mutated_leaves_never_panic(
        which in 0usize..3,
        changes in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), proptest::prelude::any::<u8>()), 1..4),
        cut in proptest::option::of(proptest::prelude::any::<proptest::sample::Index>()),
    ) {
        static LEAVES: std::sync::LazyLock<[CertificateDer<'static>; 3]> = std::sync::LazyLock::new(|| [
            der(&device_certificate("sakura-clinic", "ward-1").certificate_pem),
            made(&[], &["1.2.392.100495.1.5.1.2.3.1"], Some("Medical Doctor"), Some("117120")),
            made(&["urn:a"], &[PATIENT_POLICY], None, Some("1")),
        ]);
        let mut bytes = LEAVES[which].to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        for door in [domain().into(), Peers::Users { test_cards: true }, any_patients(PatientField::SubjectSerialNumber)] {
            if let Ok((identity, _)) = door.read(&bytes) {
                let fits = matches!(
                    (&door, &identity),
                    (Peers::Devices(_), PeerIdentity::Device(_))
                        | (Peers::Users { .. }, PeerIdentity::User { .. })
                        | (Peers::Patients { .. }, PeerIdentity::Patient(_))
                );
                proptest::prop_assert!(fits, "{door:?}: {identity}");
            }
        }
    }
}

/// The memory of chains is shared by all listeners, and says nothing from one purpose to another.
#[test]
fn a_chain_is_remembered_for_its_purpose_alone() {
    let leaf = made(&["urn:a"], &[], None, Some("1"));
    let cache = Arc::new(ChainCache::default());
    let doors: [Peers; 3] =
        [domain().into(), any_patients(PatientField::SanUri), any_patients(PatientField::SubjectSerialNumber)];
    for (index, door) in doors.into_iter().enumerate() {
        for _ in 0..2 {
            let _ = verifier(door.clone(), &cache).recheck(std::slice::from_ref(&leaf), NOW);
            assert_eq!(cache.len(), index + 1);
        }
    }
}
