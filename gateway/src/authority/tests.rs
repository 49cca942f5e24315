use super::*;
use certs::issue::KeyKind;

fn made(folder: &Path) -> Ca {
    let new = NewCa {
        settings: Settings::new("sekisho.example"),
        name: "Sakura",
        key: KeyKind::P256,
        root_token: None,
        issuing_token: None,
        root_lifetime: DAY * 3650,
        issuing_lifetime: DAY * 365,
        root_passphrase: Some("correct horse battery"),
        issuing_passphrase: None,
    };
    make(folder, &new, UnixTime::now()).unwrap();
    Ca::load(folder).unwrap()
}

#[test]
fn an_authority_is_made_once_and_loaded() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("ca");
    let ca = made(&folder);
    assert_eq!(ca.domain().as_str(), "sekisho.example");
    let again = NewCa {
        settings: Settings::new("sekisho.example"),
        name: "x",
        key: KeyKind::P384,
        root_token: None,
        issuing_token: None,
        root_lifetime: DAY,
        issuing_lifetime: DAY,
        root_passphrase: Some("correct horse battery"),
        issuing_passphrase: None,
    };
    assert!(matches!(make(&folder, &again, UnixTime::now()), Err(CaError::Exists(_))));
    let short = NewCa { root_passphrase: Some("short"), ..again };
    assert!(matches!(make(&parent.path().join("b"), &short, UnixTime::now()), Err(CaError::Secret { .. })));
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "nothing is left of what failed");
    let key = |passphrase: &str| RootKey::File { path: None, passphrase: passphrase.to_owned() };
    renew_root_crl(&folder, &key("correct horse battery"), UnixTime::now()).unwrap();
    assert!(renew_root_crl(&folder, &key("another passphrase"), UnixTime::now()).is_err());
    let before = (ca.id(), ca.issuing_der.clone());
    let end = renew_issuing(&folder, &key("correct horse battery"), DAY * 700, UnixTime::now()).unwrap();
    let renewed = Ca::load(&folder).unwrap();
    assert!(renewed.not_after() == end && end > ca.not_after());
    assert!(renewed.id() == before.0 && renewed.issuing_der != before.1);
    assert!(renew_issuing(&folder, &key("correct horse battery"), DAY * 36_500, UnixTime::now()).is_err());
    assert_eq!(Ca::load(&folder).unwrap().not_after(), end);
}

#[test]
fn every_reason_has_its_name() {
    for reason in REASONS {
        assert_eq!(reason_named(reason.name()), Some(*reason));
    }
    assert_eq!(reason_named("certificateHold"), None);
}

#[test]
fn an_issuing_key_under_a_passphrase_is_opened_at_the_load() {
    let parent = tempfile::tempdir().unwrap();
    let (folder, file) = (parent.path().join("ca"), parent.path().join("passphrase"));
    certs::issue::write_private_file(&file, b"another long passphrase\n").unwrap();
    let settings = Settings { issuing_passphrase_file: Some(file.clone()), ..Settings::new("sekisho.example") };
    let new = NewCa {
        settings,
        name: "Sakura",
        key: KeyKind::P384,
        root_token: None,
        issuing_token: None,
        root_lifetime: DAY * 10,
        issuing_lifetime: DAY * 5,
        root_passphrase: Some("correct horse battery"),
        issuing_passphrase: Some("another long passphrase"),
    };
    make(&folder, &new, UnixTime::now()).unwrap();
    assert!(fs::read_to_string(folder.join(ISSUING_KEY)).unwrap().contains("ENCRYPTED PRIVATE KEY"));
    Ca::load(&folder).unwrap();
    fs::write(&file, "a wrong long passphrase").unwrap();
    assert!(matches!(Ca::load(&folder), Err(CaError::Secret { .. })));
}
