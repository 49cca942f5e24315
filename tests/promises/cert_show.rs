//! `sekisho cert show` says what the gateway does: its verdict and the handshake's are one (issue 3's closed list, C15).

use gateway_tests::{Clinic, DOCTOR, Oddity, Pki, sekisho};
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::Value;

/// Its exit code, its text and its JSON.
fn show(clinic: &Clinic, pem: &str) -> (i32, String, Value) {
    clinic.prepared.write("shown.crt", pem);
    let (file, config) = (clinic.prepared.path("shown.crt"), clinic.prepared.path("sekisho.toml"));
    let paths = [file.to_str().expect("UTF-8"), "--config", config.to_str().expect("UTF-8")];
    let text = sekisho(&[&["cert", "show"], &paths[..]].concat());
    let json = sekisho(&[&["cert", "show", "--json", "--listener", "clinics"], &paths[..]].concat());
    assert_eq!(text.code, json.code, "{text:?} {json:?}");
    let value = serde_json::from_str(&json.stdout).unwrap_or_else(|error| panic!("{error}: {json:?}"));
    (text.code.expect("a code"), text.stdout, value)
}

#[test]
fn it_says_what_the_handshake_does() {
    let clinic = Clinic::builder().start();
    let good = clinic.identity(DOCTOR);
    let (code, text, value) = show(&clinic, &good.certificate_pem);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("device     site `sakura-clinic`, device `exam-1`"), "{text}");
    assert!(text.contains("registry   active, user `dr-sato`, roles `doctor`"), "{text}");
    assert!(text.contains("verdict    taken for device `sakura-clinic/exam-1`"), "{text}");
    assert!(text.contains(" here, "), "the clock's own error is shown: {text}");
    assert_eq!(value["listeners"][0]["taken_for"], DOCTOR);

    let pki = clinic.pki();
    let odd = |change: fn(&mut Oddity)| {
        let mut oddity = Oddity::of(DOCTOR);
        change(&mut oddity);
        pki.odd(&oddity)
    };
    let cases = [
        ("certificate-expired", odd(|o| o.years = (2020, 2021)), "expired"),
        ("certificate-not-yet-valid", odd(|o| o.years = (2080, 2081)), "not-yet-valid"),
        ("certificate-purpose", odd(|o| o.usages = vec![ExtendedKeyUsagePurpose::ServerAuth]), "wrong-purpose"),
        ("certificate-untrusted", Pki::new().device(DOCTOR), "unknown-issuer"),
        ("certificate-identity", odd(|o| o.uris.clear()), ""),
        ("device-unregistered", pki.device("sakura-clinic/other-2"), ""),
        ("site-unregistered", pki.device("nowhere/exam-1"), ""),
    ];
    for (label, identity, path) in cases {
        let (code, text, value) = show(&clinic, &identity.certificate_pem);
        assert_eq!(code, 1, "{label}: {text}");
        assert!(text.contains(&format!("verdict    refused: {label}: ")), "{label}: {text}");
        let door = &value["listeners"][0];
        assert_eq!(door["refusal"], label, "{value:#}");
        assert_eq!(door["path_refused"]["refusal"].as_str().unwrap_or_default(), path, "{value:#}");
        let _ = clinic.door.with(&identity).refused();
        clinic.wait_for_record(label, |record| gateway_tests::audit::text(record, "reason") == label);
    }

    clinic.registry(&["device", "suspend", DOCTOR]);
    let (code, text, _) = show(&clinic, &good.certificate_pem);
    assert!(code == 1 && text.contains("registry   device-suspended"), "{text}");
    assert!(text.contains("refused: device-suspended"), "{text}");
}

#[test]
fn a_registry_that_cannot_be_read_is_said() {
    let clinic = Clinic::builder().start();
    let good = clinic.identity(DOCTOR);
    let prepared = clinic.stop();
    std::fs::rename(prepared.path("state/sekisho.db"), prepared.path("state/elsewhere.db")).expect("renamed");
    prepared.write("shown.crt", &good.certificate_pem);
    let (file, config) = (prepared.path("shown.crt"), prepared.path("sekisho.toml"));
    let output = sekisho(&["cert", "show", file.to_str().unwrap(), "--config", config.to_str().unwrap()]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.contains("the registry cannot be read: "), "{output:?}");
    assert!(output.stdout.contains("taken for device"), "{output:?}");
}
