//! Whom a CRL names is out within a second and does not come back; a bad CRL clears nobody (R3, C7, C8, C9).

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::openssl::{Ca, CrlOptions};
use gateway_tests::{Clinic, DOCTOR, Ended, Identity, Prepared, Wire, until, within};
use toml::{Table, Value};

const PROMISED: Duration = Duration::from_secs(1);
const FILE: &str = "tls/devices.crl";

/// A clinic whose devices are of an authority that OpenSSL keeps.
fn prepare(ca: &Ca, revocation: &str) -> Prepared {
    let revocation: Table = revocation.parse().expect("TOML");
    let prepared = Clinic::builder()
        .device("sakura-clinic/ward-1", "ns-tanaka", "nurse")
        .config(|config| config.set_tls("revocation", Value::Table(revocation)))
        .prepare();
    prepared.write("tls/devices-ca.crt", ca.certificate_pem());
    prepared
}

/// Puts a file in place of another whole, as a careful operator does.
fn replace(prepared: &Prepared, name: &str, content: impl AsRef<[u8]>) {
    let unfinished = format!("{name}.new");
    prepared.write(&unfinished, content);
    std::fs::rename(prepared.path(&unfinished), prepared.path(name)).expect("renamed");
}

fn files(mode: &str) -> String {
    format!("mode = \"{mode}\"\ncrl_files = [\"{FILE}\"]")
}

fn open(clinic: &Clinic, identity: &Identity) -> Wire {
    let mut wire = clinic.door.with(identity).open();
    assert_eq!(wire.get("/fhir/Patient/1").status, 200);
    wire
}

/// Expects the connection to end in time.
fn ends_in_time(wire: &mut Wire, since: Instant) {
    wire.set_patience(Duration::from_secs(5));
    match wire.try_answer() {
        Err(Ended::Silent) => panic!("still open after {:?}", since.elapsed()),
        Err(_) => {}
        Ok(answer) => panic!("answered {}", answer.status),
    }
    let took = since.elapsed();
    println!("ended {took:?} after the change");
    assert!(took < PROMISED, "ended only after {took:?}");
}

fn closed(clinic: &Clinic, wire: &Wire, cause: &str) {
    let closed = clinic.wait_for_record("the end", |record| {
        is(record, "connection-closed") && text(record, "connection.source") == wire.local().to_string()
    });
    assert_eq!(text(&closed, "cause"), cause, "{closed:#}");
}

fn is_refused(clinic: &Clinic, identity: &Identity, reason: &str) {
    let counted = || clinic.metric("sekisho_handshakes_total", &[("outcome", reason)]);
    let before = counted();
    let _ = clinic.door.with(identity).refused();
    until("the count", || (counted() > before).then_some(()));
    clinic.wait_for_record("the refusal", |record| is(record, "refusal") && text(record, "reason") == reason);
}

#[test]
fn a_new_crl_ends_the_live_connection_and_keeps_the_device_out() {
    for mode in ["prefer", "must"] {
        let ca = Ca::root("Clinics of the tests");
        let (bad, good) = (ca.device(DOCTOR, &[]), ca.device("sakura-clinic/ward-1", &[]));
        let prepared = prepare(&ca, &files(mode));
        prepared.write(FILE, ca.crl());
        let clinic = prepared.start();
        let (mut cut, mut kept) = (open(&clinic, &bad), open(&clinic, &good));
        ca.revoke(&bad.certificate_pem, "keyCompromise");
        let crl = ca.crl();
        let since = Instant::now();
        replace(&clinic.prepared, FILE, crl);
        ends_in_time(&mut cut, since);
        closed(&clinic, &cut, "certificate-revoked");
        let cuts = clinic.metric("sekisho_connections_cut_total", &[("reason", "certificate-revoked")]);
        assert!((cuts - 1.0).abs() < f64::EPSILON, "{cuts}");
        is_refused(&clinic, &bad, "certificate-revoked");
        let refusal = clinic.wait_for_record("why", |record| text(record, "reason") == "certificate-revoked");
        assert!(text(&refusal, "detail").contains("keyCompromise"), "when and why: {refusal:#}");
        assert_eq!(kept.get("/fhir/Patient/2").status, 200);
        let _ = open(&clinic, &good);
    }
}

#[test]
fn a_revoked_issuing_authority_takes_all_its_devices_along() {
    let root = Ca::root("Root of the tests");
    let (east, west) = (root.below("East", &[]), root.below("West", &[]));
    let (bad, good) = (east.device(DOCTOR, &[]), west.device("sakura-clinic/ward-1", &[]));
    // All lists in one PEM file, as some authorities hand them out.
    let all = || root.crl() + &east.crl() + &west.crl();
    let prepared = prepare(&root, &files("must"));
    prepared.write(FILE, all());
    let clinic = prepared.start();
    let (mut cut, mut kept) = (open(&clinic, &bad), open(&clinic, &good));
    root.revoke(&east.certificate_pem(), "CACompromise");
    let crls = all();
    let since = Instant::now();
    replace(&clinic.prepared, FILE, crls);
    ends_in_time(&mut cut, since);
    closed(&clinic, &cut, "certificate-revoked");
    is_refused(&clinic, &bad, "certificate-revoked");
    assert_eq!(kept.get("/fhir/Patient/2").status, 200);
}
