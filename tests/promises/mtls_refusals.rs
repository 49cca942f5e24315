//! Nobody gets in without a certificate that names a registered, active device (R1, R3). Each refusal is a TLS alert
//! or a closed connection, one record that says why, and one count.

use gateway_tests::audit::{is, text};
use gateway_tests::{Clinic, DOCTOR, Handshake, Identity, Oddity, Pki, Refusal, until};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::AlertDescription;

/// Makes the handshake, and expects it to be refused for this reason and to leave the trace that it should.
fn refuses(clinic: &Clinic, handshake: &Handshake, reason: &str) -> Refusal {
    let refusal = handshake.refused();
    let labels = [("listener", "clinics"), ("outcome", reason)];
    until(&format!("the count of {reason}"), || {
        (clinic.metric("sekisho_handshakes_total", &labels) >= 1.0).then_some(())
    });
    clinic.wait_for_record(reason, |record| is(record, "refusal"));
    let refusals: Vec<_> = clinic.records().into_iter().filter(|record| is(record, "refusal")).collect();
    let [refused] = &refusals[..] else { panic!("one refusal, one record: {refusals:#?}") };
    assert_eq!(text(refused, "reason"), reason, "{refused:#}");
    assert_eq!(text(refused, "listener"), "clinics", "{refused:#}");
    assert!(text(refused, "source").starts_with("127.0.0.1:"), "{refused:#}");
    let counted = clinic.metrics();
    assert!((counted.sum("sekisho_handshakes_total", &labels) - 1.0).abs() < f64::EPSILON, "{}", counted.page());
    assert!(counted.sum("sekisho_handshakes_total", &[("outcome", "ok")]).abs() < f64::EPSILON, "{}", counted.page());
    assert_eq!(clinic.backend().connections(), 0, "a stranger's bytes reached the backend");
    refusal
}

/// As [`refuses`], for a certificate that a clinic of its own makes.
fn refuses_certificate(make: impl FnOnce(&Pki) -> Identity, reason: &str) -> Refusal {
    let clinic = Clinic::builder().start();
    let identity = make(clinic.pki());
    refuses(&clinic, &clinic.door.with(&identity), reason)
}

fn refuses_oddity(change: impl FnOnce(&mut Oddity), reason: &str) {
    let mut oddity = Oddity::of(DOCTOR);
    change(&mut oddity);
    refuses_certificate(|pki| pki.odd(&oddity), reason);
}

#[test]
fn a_registered_device_is_let_in() {
    let clinic = Clinic::builder().start();
    // The control of every other test here: made by the same generator, with nothing odd about it.
    let plain = clinic.pki().odd(&Oddity::of(DOCTOR));
    for handshake in [clinic.handshake(DOCTOR), clinic.door.with(&plain)] {
        let mut wire = handshake.open();
        assert_eq!(wire.get("/fhir/Patient/1").status, 200);
        let asked = clinic.asked_by(&wire);
        assert_eq!(asked.len(), 1, "{asked:#?}");
        assert_eq!(text(&asked[0], "connection.site"), "sakura-clinic");
        assert_eq!(text(&asked[0], "connection.device"), "exam-1");
        assert_eq!(text(&asked[0], "user"), "dr-sato");
    }
    assert!(!clinic.records().iter().any(|record| is(record, "refusal")));
}

#[test]
fn no_certificate() {
    let clinic = Clinic::builder().start();
    let refusal = refuses(&clinic, &clinic.door.without_certificate(), "certificate-missing");
    assert_eq!(refusal, Refusal::Alert(AlertDescription::CertificateRequired));
}

#[test]
fn no_certificate_over_http2() {
    let clinic = Clinic::builder().start();
    refuses(&clinic, &clinic.door.without_certificate().alpn("h2"), "certificate-missing");
}

#[test]
fn no_certificate_over_tls_1_2() {
    let clinic = Clinic::builder().config(|config| config.set_tls("profile", "cryptrec-high-tls12")).start();
    assert_eq!(clinic.handshake(DOCTOR).tls12().open().get("/fhir/Patient/1").status, 200);
    let refusal = clinic.door.without_certificate().tls12().refused();
    assert!(matches!(refusal, Refusal::Alert(_) | Refusal::Closed));
    clinic.wait_for_record("the refusal", |record| text(record, "reason") == "certificate-missing");
}

#[test]
fn tls_1_2_where_the_listener_wants_1_3() {
    let clinic = Clinic::builder().start();
    let refusal = refuses(&clinic, &clinic.handshake(DOCTOR).tls12(), "handshake-failed");
    assert_eq!(refusal, Refusal::Alert(AlertDescription::ProtocolVersion));
}

#[test]
fn a_certificate_of_another_authority() {
    // The same name, from an authority with the same name but another key.
    let refusal = refuses_certificate(|_| Pki::new().device(DOCTOR), "certificate-untrusted");
    assert!(matches!(refusal, Refusal::Alert(_)), "{refusal:?}");
}

#[test]
fn an_expired_certificate() {
    refuses_oddity(|odd| odd.years = (2020, 2021), "certificate-expired");
}

#[test]
fn a_certificate_that_is_not_yet_valid() {
    refuses_oddity(|odd| odd.years = (2090, 2091), "certificate-not-yet-valid");
}

#[test]
fn a_certificate_for_servers_only() {
    refuses_oddity(|odd| odd.usages = vec![ExtendedKeyUsagePurpose::ServerAuth], "certificate-purpose");
}

#[test]
fn a_certificate_without_a_name() {
    refuses_oddity(|odd| odd.uris.clear(), "certificate-identity");
}

#[test]
fn a_certificate_with_the_name_in_its_common_name_only() {
    let change = |odd: &mut Oddity| {
        odd.common_name = odd.uris.remove(0);
        odd.dns = vec!["exam-1.sakura-clinic.example".to_owned()];
    };
    refuses_oddity(change, "certificate-identity");
}

#[test]
fn a_certificate_with_two_names() {
    let second = "spiffe://sekisho.example/site/momiji-hospital/device/ward-3".to_owned();
    refuses_oddity(|odd| odd.uris.push(second), "certificate-identity");
}

#[test]
fn a_certificate_of_another_trust_domain() {
    let other = "spiffe://other.example/site/sakura-clinic/device/exam-1".to_owned();
    refuses_oddity(|odd| odd.uris = vec![other], "certificate-identity");
}

#[test]
fn a_certificate_with_a_uri_that_is_no_name() {
    for uri in [
        "https://sekisho.example/site/sakura-clinic/device/exam-1",
        "spiffe://sekisho.example/site/sakura-clinic/device/exam-1/",
        "spiffe://sekisho.example/site/sakura-clinic/device/x/../exam-1",
        "spiffe://sekisho.example/site/sakura-clinic/device/exam%2d1",
        "spiffe://sekisho.example/device/exam-1",
    ] {
        refuses_oddity(|odd| odd.uris = vec![uri.to_owned()], "certificate-identity");
    }
}

#[test]
fn a_device_that_nobody_registered() {
    refuses_certificate(|pki| pki.device("sakura-clinic/exam-2"), "device-unregistered");
}

#[test]
fn a_device_of_a_site_that_nobody_registered() {
    refuses_certificate(|pki| pki.device("other-clinic/exam-1"), "site-unregistered");
}

#[test]
fn the_name_is_compared_byte_by_byte() {
    refuses_certificate(|pki| pki.device("sakura-clinic/Exam-1"), "device-unregistered");
}

#[test]
fn a_suspended_device_until_it_is_resumed() {
    let prepared = Clinic::builder().prepare();
    prepared.registry(&["device", "suspend", DOCTOR]);
    let clinic = prepared.start();
    refuses(&clinic, &clinic.handshake(DOCTOR), "device-suspended");
    clinic.registry(&["device", "resume", DOCTOR]);
    until("the device to be let in", || {
        let mut wire = clinic.handshake(DOCTOR).try_open().ok()?;
        wire.send_request("GET", "/fhir/Patient/1", &[], b"");
        (wire.try_answer().ok()?.status == 200).then_some(())
    });
}

#[test]
fn a_suspended_site() {
    let prepared = Clinic::builder().prepare();
    prepared.registry(&["site", "suspend", "sakura-clinic"]);
    let clinic = prepared.start();
    refuses(&clinic, &clinic.handshake(DOCTOR), "site-suspended");
}

#[test]
fn a_device_of_a_suspended_user() {
    let prepared = Clinic::builder().prepare();
    prepared.registry(&["user", "suspend", "sakura-clinic/dr-sato"]);
    let clinic = prepared.start();
    refuses(&clinic, &clinic.handshake(DOCTOR), "user-suspended");
}

#[test]
fn strangers_are_counted_after_the_first() {
    let clinic = Clinic::builder().start();
    for _ in 0..20 {
        let _ = clinic.door.without_certificate().refused();
    }
    let labels = [("outcome", "certificate-missing")];
    until("20 counts", || (clinic.metric("sekisho_handshakes_total", &labels) >= 20.0).then_some(()));
    // Nobody waits for it, so it is written with the next commit.
    clinic.wait_for_record("the first refusal", |record| is(record, "refusal"));
    assert_eq!(clinic.records().iter().filter(|record| is(record, "refusal")).count(), 1);
    // The rest is told when the interval ends, or the gateway.
    clinic.terminate();
    let summary = clinic.wait_for_record("the summary", |record| is(record, "refusal-summary"));
    assert_eq!((text(&summary, "reason"), &summary["count"]), ("certificate-missing", &19.into()), "{summary:#}");
    assert_eq!(text(&summary, "network"), "127.0.0.0/24", "{summary:#}");
}
