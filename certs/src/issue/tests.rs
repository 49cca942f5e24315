use super::*;
use crate::testing::{NOW, YEAR, authority, der, device, domain, later, server_certificate};
use crate::{Anchors, device_of};

#[test]
fn an_authority_is_read_back_and_issues_under_the_same_name() {
    let again = Authority::from_pem(authority().certificate_pem(), authority().key_pem().unwrap().expose()).unwrap();
    assert_eq!(again.not_after(), authority().not_after());
    let read = |authority: &Authority| {
        let issued = authority.issue_device(&domain(), &device("a", "b"), YEAR, NOW).unwrap();
        Leaf::read(&der(&issued.certificate_pem)).unwrap()
    };
    let (first, second) = (read(authority()), read(&again));
    assert_eq!(first.certificate().tbs_certificate().issuer(), second.certificate().tbs_certificate().issuer());
    let id = |leaf: &Leaf| {
        let extensions = leaf.certificate().tbs_certificate().extensions().unwrap();
        extensions.iter().find(|e| e.extn_id.to_string() == "2.5.29.35").unwrap().extn_value.clone()
    };
    assert_eq!(id(&first), id(&second));
    let serial = |leaf: &Leaf| leaf.certificate().tbs_certificate().serial_number().as_bytes().to_vec();
    assert_eq!(serial(&first).len(), 16);
    assert_ne!(serial(&first), serial(&second));
}

#[test]
fn what_is_not_our_authority_is_not_loaded() {
    let server = server_certificate();
    let other = crate::testing::other_authority();
    let of = |certificate: &str, key: &str| Authority::from_pem(certificate, key).unwrap_err();
    assert!(matches!(of(&server.certificate_pem, server.key_pem.expose()), IssueError::Certificate(_)));
    assert!(matches!(of(authority().certificate_pem(), other.key_pem().unwrap().expose()), IssueError::Key(_)));
    let two = format!("{}{}", authority().certificate_pem(), other.certificate_pem());
    assert!(matches!(of(&two, authority().key_pem().unwrap().expose()), IssueError::Foreign { .. }));
}

#[test]
fn nothing_outlives_its_authority() {
    let long = authority().issue_server(&["a"], YEAR * 11, NOW).unwrap_err();
    assert!(matches!(long, IssueError::Lifetime { .. }));
    assert!(authority().issue_server(&["a"], YEAR, later(YEAR * 9)).is_ok());
    assert!(authority().issue_server(&["a"], YEAR, later(YEAR * 10)).is_err());
    assert!(Authority::new("a", YEAR * 8_000, NOW).is_err());
    assert!(Authority::new("a", YEAR, UnixTime::since_unix_epoch(Duration::from_secs(1))).is_err());
    assert!(Authority::new("a", Duration::MAX, NOW).is_err());
}

#[test]
fn names_are_checked() {
    for bad in [&[][..], &[""], &["a b"], &["a", "*\0"], &["a/b"], &["さくら"]] {
        assert!(authority().issue_server(bad, YEAR, NOW).is_err(), "{bad:?}");
    }
    for bad in ["", "a\0", &"a".repeat(65)] {
        assert!(Authority::new(bad, YEAR, NOW).is_err(), "{bad:?}");
    }
    let long = device(&"s".repeat(128), &"d".repeat(128));
    let issued = authority().issue_device(&domain(), &long, YEAR, NOW).unwrap();
    assert_eq!(device_of(&der(&issued.certificate_pem), &domain()).unwrap(), long);
}

#[test]
fn an_authority_is_an_anchor_and_its_key_does_not_print() {
    assert!(Anchors::from_pem(authority().certificate_pem().as_bytes()).is_ok());
    let secret = authority().key_pem().unwrap().expose().lines().nth(1).unwrap().to_owned();
    let printed = format!("{:?} {:?}", authority(), server_certificate());
    assert!(!printed.contains(&secret) && !printed.contains("PRIVATE"), "{printed}");
}
