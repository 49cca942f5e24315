use super::*;
use crate::testing::{der, device, device_certificate, domain, odd, uri};
use proptest::prelude::*;
use rcgen::{BasicConstraints, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};

const GOOD: &str = "spiffe://sekisho.example/site/sakura-clinic/device/ward-1";

fn of(change: impl FnOnce(&mut rcgen::CertificateParams)) -> Result<DeviceId, IdentityError> {
    device_of(&der(&odd(change).certificate_pem), &domain())
}

/// A subjectAltName extension of the caller's own bytes.
fn names(content: &[u8]) -> CustomExtension {
    assert!(content.len() < 120);
    let mut value = vec![0x30, u8::try_from(content.len()).unwrap()];
    value.extend_from_slice(content);
    CustomExtension::from_oid_content(&[2, 5, 29, 17], value)
}

fn name(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut name = vec![tag, u8::try_from(content.len()).unwrap()];
    name.extend_from_slice(content);
    name
}

#[test]
fn an_issued_device_is_read_back() {
    let issued = device_certificate("sakura-clinic", "ward-1");
    let read = device_of(&der(&issued.certificate_pem), &domain()).unwrap();
    assert_eq!(read, device("sakura-clinic", "ward-1"));
}

#[test]
fn names_of_other_kinds_change_nothing() {
    let read = of(|p| {
        p.subject_alt_names.push(SanType::DnsName("evil.example".try_into().unwrap()));
        p.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        p.distinguished_name.push(DnType::CommonName, "momiji-hospital/desk-9");
    });
    assert_eq!(read, Ok(device("sakura-clinic", "ward-1")));
    // An x400Address, which nobody decodes.
    let mut odd_kind = name(0xa3, &[0x05, 0x00]);
    odd_kind.extend(name(0x86, GOOD.as_bytes()));
    let read = of(|p| {
        p.subject_alt_names.clear();
        p.custom_extensions.push(names(&odd_kind));
    });
    assert_eq!(read, Ok(device("sakura-clinic", "ward-1")));
}

#[test]
fn exactly_one_uri_is_wanted() {
    assert_eq!(of(|p| p.subject_alt_names.push(uri(GOOD))), Err(IdentityError::UriCount { count: 2 }));
    let second = uri("spiffe://sekisho.example/site/sakura-clinic/device/ward-2");
    assert_eq!(of(|p| p.subject_alt_names.push(second)), Err(IdentityError::UriCount { count: 2 }));
    assert_eq!(of(|p| p.subject_alt_names.push(uri("https://a/"))), Err(IdentityError::UriCount { count: 2 }));
    let none = of(|p| {
        p.subject_alt_names.clear();
        p.distinguished_name.push(DnType::CommonName, GOOD);
    });
    assert_eq!(none, Err(IdentityError::UriCount { count: 0 }));
    let dns = of(|p| p.subject_alt_names = vec![SanType::DnsName("ward-1.sakura-clinic".try_into().unwrap())]);
    assert_eq!(dns, Err(IdentityError::UriCount { count: 0 }));
}

#[test]
fn the_uri_is_taken_byte_by_byte() {
    for bad in [
        "spiffe://sekisho.example/site/sakura-clinic/device/dev1\0.evil",
        "spiffe://sekisho.example/site/sakura-clinic/device/*",
        "spiffe://sekisho.example/site/*/device/ward-1",
        "spiffe://sekisho.example/site/sakura-clinic/device/ward%2d1",
        "spiffe://other.example/site/sakura-clinic/device/ward-1",
        "spiffe://sekisho.example/site/sakura-clinic/device/ward-1/",
        "",
    ] {
        let refused = of(|p| {
            p.subject_alt_names.clear();
            p.custom_extensions.push(names(&name(0x86, bad.as_bytes())));
        });
        assert_eq!(refused.as_ref().map_err(IdentityError::refusal), Err(Refusal::CertificateIdentity), "{bad:?}");
    }
}

#[test]
fn broken_or_doubled_extensions_are_malformed() {
    let cases: [Vec<CustomExtension>; 4] = [
        vec![names(&name(0x86, GOOD.as_bytes())), names(&name(0x86, GOOD.as_bytes()))],
        vec![names(&[0x86, 0x7f, b's'])],
        vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], name(0x31, &name(0x86, GOOD.as_bytes())))],
        vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], vec![0x30, 0x00, 0x00])],
    ];
    for extensions in cases {
        let refused = of(|p| {
            p.subject_alt_names.clear();
            p.custom_extensions = extensions.clone();
        });
        assert_eq!(refused.map_err(|e| e.refusal()), Err(Refusal::CertificateMalformed), "{extensions:?}");
    }
    assert_eq!(device_of(b"", &domain()).map_err(|e| e.refusal()), Err(Refusal::CertificateMalformed));
    let mut trailing = der(&odd(|_| ()).certificate_pem).to_vec();
    trailing.push(0);
    assert_eq!(device_of(&trailing, &domain()).map_err(|e| e.refusal()), Err(Refusal::CertificateMalformed));
}

#[test]
fn a_leaf_is_for_a_client_and_no_authority() {
    let ca = of(|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(ca, Err(IdentityError::Authority));
    let server = of(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(server, Err(IdentityError::ExtendedKeyUsage));
    let any = of(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]);
    assert_eq!(any, Err(IdentityError::ExtendedKeyUsage));
    let agreement = of(|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    assert_eq!(agreement.map_err(|e| e.refusal()), Err(Refusal::CertificatePurpose));
    for also in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
        let signer = of(|p| p.key_usages.push(also));
        assert_eq!(signer.map_err(|e| e.refusal()), Err(Refusal::CertificatePurpose));
    }
    let both = of(|p| p.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth));
    assert!(both.is_ok());
    let silent = of(|p| {
        p.key_usages.clear();
        p.extended_key_usages.clear();
        p.is_ca = IsCa::NoCa;
    });
    assert!(silent.is_ok());
}

proptest! {
    /// A certificate of which one byte was changed never names another device, nor panics.
    #[test]
    fn changed_bytes_never_panic(index in 0usize..400, value in any::<u8>()) {
        let mut bytes = LEAF.to_vec();
        let index = index % bytes.len();
        bytes[index] = value;
        let _: Result<DeviceId, IdentityError> = device_of(&bytes, &domain());
        let _: Result<DeviceId, IdentityError> = device_of(&bytes[..index], &domain());
    }
}

static LEAF: std::sync::LazyLock<Vec<u8>> =
    std::sync::LazyLock::new(|| der(&device_certificate("sakura-clinic", "ward-1").certificate_pem).to_vec());
