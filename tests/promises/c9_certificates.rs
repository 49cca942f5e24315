//! C9: who a device is stands in one field of the proved leaf, in exact bytes. No certificate crashes the gateway, and
//! none lends its name to another.

use gateway_tests::audit::text;
use gateway_tests::{Clinic, DOCTOR, Identity, Oddity};
use rcgen::ExtendedKeyUsagePurpose;

#[test]
fn c9_names_that_only_look_like_a_device() {
    let clinic = Clinic::builder().start();
    let id = "spiffe://sekisho.example/site/sakura-clinic/device/exam-1";
    for uri in [
        format!("{id}\0.evil"),
        format!("{id}\0"),
        format!("{id} "),
        format!("{id}?x"),
        format!("{id}#x"),
        format!("{id}/more"),
        id.replace("spiffe:", "SPIFFE:"),
        id.replace("sekisho.example", "sekisho.example:443"),
        id.replace("sekisho.example", "x@sekisho.example"),
        id.replace("sekisho.example", "SEKISHO.example"),
        id.replace("sekisho.example", "sekisho.example.evil.example"),
        id.replace("/site/", "//site/"),
        id.replace("/site/", "/SITE/"),
        id.replace("exam-1", "*"),
        id.replace("exam-1", ""),
        id.replace("exam-1", &"x".repeat(3_000)),
        id.replace("sakura-clinic", "."),
        String::new(),
    ] {
        let odd = clinic.pki().odd(&Oddity { uris: vec![uri.clone()], ..Oddity::of(DOCTOR) });
        let refused = std::panic::catch_unwind(|| clinic_refuses(&clinic.door, &odd));
        assert!(refused.is_ok(), "{uri:?} was let in");
    }
    clinic.wait_for_record("the refusal", |record| text(record, "reason") == "certificate-identity");
    let counted = clinic.metrics();
    assert!(counted.sum("sekisho_handshakes_total", &[("outcome", "ok")]).abs() < f64::EPSILON, "{}", counted.page());
    // Not one of them hurt: the device itself is let in.
    assert_eq!(clinic.wire(DOCTOR).get("/open/x").status, 200);
}

fn clinic_refuses(door: &gateway_tests::Door, identity: &Identity) {
    let _ = door.with(identity).refused();
}

#[test]
fn c9_the_leaf_alone_says_who_it_is() {
    let clinic = Clinic::builder().device("sakura-clinic/ward-1", "ns-tanaka", "nurse").start();
    // The nurse's leaf with the doctor's certificate behind it: a proof of the nurse's key alone.
    let nurse = clinic.identity("sakura-clinic/ward-1");
    let doctor = clinic.identity(DOCTOR);
    let both = Identity { certificate_pem: nurse.certificate_pem.clone() + &doctor.certificate_pem, ..nurse };
    let handshake = clinic.door.with(&both);
    if let Ok(mut wire) = handshake.try_open() {
        wire.send_request("GET", "/open/x", &[], b"");
        if wire.try_answer().is_ok() {
            assert_eq!(text(&clinic.asked_by(&wire)[0], "connection.device"), "ward-1");
            assert_eq!(text(&clinic.asked_by(&wire)[0], "user"), "ns-tanaka");
        }
    }
    // The doctor's leaf with the nurse's key proves nothing.
    let stolen = Identity { certificate_pem: doctor.certificate_pem, key_pem: both.key_pem };
    let refused = std::panic::catch_unwind(|| drop(clinic.door.with(&stolen).config()));
    assert!(refused.is_err(), "the client's own library refuses such a pair");
}

#[test]
fn c9_usages() {
    let clinic = Clinic::builder().start();
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    let both = clinic.pki().odd(&Oddity { usages: vec![client, server], ..Oddity::of(DOCTOR) });
    assert_eq!(clinic.door.with(&both).open().get("/open/x").status, 200);
    let other =
        clinic.pki().odd(&Oddity { usages: vec![ExtendedKeyUsagePurpose::EmailProtection], ..Oddity::of(DOCTOR) });
    let _ = clinic.door.with(&other).refused();
    clinic.wait_for_record("the refusal", |record| text(record, "reason") == "certificate-purpose");
}
