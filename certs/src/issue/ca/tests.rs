use super::*;
use crate::path::{
    Crl, CrlSet, PathRefusal, Purpose, RevocationMode, RevocationSettings, Settings, TrustAnchor, ValidPath, validate,
};
use crate::testing::{NOW, YEAR, der, device, domain, later};
use crate::{Anchors, device_of};

const DAY: Duration = Duration::from_secs(86_400);
const URL: &str = "http://pki.example/crl/issuing.crl";

fn serial(byte: u8) -> Serial {
    Serial::from_random([byte; 16])
}

fn family(kind: KeyKind) -> (Authority, Authority) {
    let root = Authority::new_root("Sekisho root", kind.into(), YEAR * 20, serial(1), NOW).unwrap();
    let trust = domain();
    let new =
        NewAuthority { name: "Sekisho devices", domain: &trust, key: kind.into(), lifetime: YEAR * 5, crl_url: None };
    let issuing = root.issue_authority(new, serial(2), NOW).unwrap();
    (root, issuing)
}

fn certify(issuing: &Authority, at: UnixTime) -> Certified {
    let (domain, device) = (domain(), device("sakura", "exam-1"));
    let terms = DeviceTerms { domain: &domain, device: &device, lifetime: DAY * 90, crl_url: Some(URL) };
    issuing.certify_device(NewKey::generate().unwrap().public(), terms, serial(3), at).unwrap()
}

fn judge(
    leaf: &[u8],
    root: &Authority,
    issuing: &Authority,
    crls: &CrlSet,
    purpose: Purpose,
) -> Result<ValidPath, PathRefusal> {
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let mut settings = Settings::new(purpose, algorithms.all);
    settings.revocation = RevocationSettings {
        mode: if crls.iter().next().is_some() { RevocationMode::Require } else { RevocationMode::Off },
        ..RevocationSettings::default()
    };
    let anchor = TrustAnchor::from_der(&der(root.certificate_pem())).unwrap();
    let now = i64::try_from(NOW.as_secs()).unwrap();
    let other = der(issuing.certificate_pem());
    validate(leaf, &[&other], &[anchor], crls, &settings, None, now).map_err(|refused| refused.refusal)
}

#[test]
fn a_device_is_certified_below_a_root_that_stays_offline() {
    for kind in [KeyKind::P256, KeyKind::P384] {
        let (root, issuing) = family(kind);
        let certified = certify(&issuing, NOW);
        assert_eq!(device_of(&certified.der, &domain()).unwrap(), device("sakura", "exam-1"));
        assert_eq!(certified.not_after, later(DAY * 90));
        assert!(certified.not_before < NOW);
        judge(&certified.der, &root, &issuing, &CrlSet::default(), Purpose::ClientAuth).unwrap();
        // The issuing CA itself serves as an anchor, too.
        Anchors::from_pem(issuing.certificate_pem().as_bytes()).unwrap();
    }
}

#[test]
fn serial_numbers_are_positive_and_long() {
    for bytes in [[0; 16], [0xff; 16], [0x80; 16]] {
        let serial = Serial::from_random(bytes);
        let [first, ..] = serial.as_bytes();
        assert!((0x40..0x80).contains(first));
    }
}

#[test]
fn a_crl_refuses_whom_it_names_and_only_those() {
    let (root, issuing) = family(KeyKind::P256);
    let certified = certify(&issuing, NOW);
    let root_crl = Crl::from_der(&root.crl(&[], 1, YEAR, NOW).unwrap()).unwrap();
    let crls = CrlSet::default().with("root", root_crl).unwrap();
    let with = |revoked: &[Revoked], number| {
        let list = issuing.crl(revoked, number, DAY * 7, NOW).unwrap();
        crls.with("issuing", Crl::from_der(&list).unwrap()).unwrap()
    };
    judge(&certified.der, &root, &issuing, &with(&[], 1), Purpose::ClientAuth).unwrap();
    let entry = |bytes: &[u8]| Revoked { serial: bytes.to_vec(), at: NOW, reason: RevocationReason::KeyCompromise };
    let other = with(&[entry(serial(9).as_bytes())], 2);
    judge(&certified.der, &root, &issuing, &other, Purpose::ClientAuth).unwrap();
    let own = with(&[entry(certified.serial.as_bytes())], 3);
    let refused = judge(&certified.der, &root, &issuing, &own, Purpose::ClientAuth).unwrap_err();
    assert!(matches!(refused, PathRefusal::Revoked { reason: RevocationReason::KeyCompromise, .. }), "{refused:?}");
    assert!(issuing.crl(&[], 1, Duration::ZERO, NOW).is_err());
    // A list with a smaller number does not take the place of one with a greater.
    let older = Crl::from_der(&issuing.crl(&[], 2, DAY * 7, NOW).unwrap()).unwrap();
    assert!(own.with("issuing", older).is_err());
}

#[test]
fn the_issuing_ca_is_nobodys_server_and_of_one_domain() {
    let (root, issuing) = family(KeyKind::P256);
    let none = CrlSet::default();
    let server = issuing.issue_server(&["gateway.example"], DAY, NOW).unwrap();
    for purpose in [Purpose::ServerAuth, Purpose::ClientAuth] {
        assert!(judge(&der(&server.certificate_pem), &root, &issuing, &none, purpose).is_err());
    }
    let address = issuing.issue_server(&["::1"], DAY, NOW).unwrap();
    assert!(judge(&der(&address.certificate_pem), &root, &issuing, &none, Purpose::ServerAuth).is_err());
    let foreign = TrustDomain::new("elsewhere.example").unwrap();
    let foreign = issuing.issue_device(&foreign, &device("a", "b"), DAY, NOW).unwrap();
    let refused = judge(&der(&foreign.certificate_pem), &root, &issuing, &none, Purpose::ClientAuth).unwrap_err();
    assert!(matches!(refused, PathRefusal::NameNotPermitted(_)), "{refused:?}");
    // Nor may it make another CA.
    let trust = domain();
    let new = NewAuthority { name: "x", domain: &trust, key: KeyKind::P256.into(), lifetime: YEAR, crl_url: None };
    let third = issuing.issue_authority(new, serial(4), NOW).unwrap();
    let leaf = certify(&third, NOW);
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let settings = Settings::new(Purpose::ClientAuth, algorithms.all);
    let anchor = TrustAnchor::from_der(&der(root.certificate_pem())).unwrap();
    let (one, two) = (der(issuing.certificate_pem()), der(third.certificate_pem()));
    let now = i64::try_from(NOW.as_secs()).unwrap();
    assert!(validate(&leaf.der, &[&one, &two], &[anchor], &none, &settings, None, now).is_err());
}

#[test]
fn a_trust_domain_that_is_no_host_name_has_no_constraint() {
    let root = Authority::new_root("r", KeyKind::P256.into(), YEAR, serial(1), NOW).unwrap();
    let trust = TrustDomain::new("a_b.example").unwrap();
    let new = NewAuthority { name: "x", domain: &trust, key: KeyKind::P256.into(), lifetime: DAY, crl_url: None };
    assert!(matches!(root.issue_authority(new, serial(2), NOW), Err(IssueError::Name { .. })));
}

#[test]
fn nothing_outlives_the_issuing_ca() {
    let (root, issuing) = family(KeyKind::P256);
    assert_eq!(certify(&issuing, later(YEAR * 5 - DAY)).not_after, issuing.not_after());
    let trust = domain();
    let new = NewAuthority { name: "x", domain: &trust, key: KeyKind::P256.into(), lifetime: YEAR * 21, crl_url: None };
    assert!(matches!(root.issue_authority(new, serial(4), NOW), Err(IssueError::Lifetime { .. })));
}
