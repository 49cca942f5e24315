//! C7: mutual TLS does not fail open. No server name, no split of the ClientHello and no broken file leads to a
//! listener that asks for less.

use std::io::Write as _;
use std::process::{Command, Stdio};

use gateway_tests::audit::{is, text};
use gateway_tests::{Clinic, DOCTOR, Oddity, Prepared};

#[test]
fn c7_no_server_name() {
    let clinic = Clinic::builder().start();
    // An IP address is not sent as SNI, so this is a client without any.
    let mut wire = clinic.handshake(DOCTOR).to("127.0.0.1").open();
    for host in ["localhost", "127.0.0.1"] {
        let host = format!("{host}:{}", clinic.door.address.port());
        wire.send(format!("GET /fhir/Patient/1 HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(wire.answer().status, 200, "{host}");
    }
    let _ = clinic.door.without_certificate().to("127.0.0.1").refused();
    clinic.wait_for_record("the refusal", |record| text(record, "reason") == "certificate-missing");
}

#[test]
fn c7_the_server_name_and_the_host_differ() {
    let clinic = Clinic::builder().start();
    let port = clinic.door.address.port();
    for host in [
        format!("127.0.0.1:{port}"),
        "127.0.0.1".to_owned(),
        format!("localhost.:{port}"),
        "localhost.".to_owned(),
        "evil.example".to_owned(),
        format!("localhost:{}", port ^ 1),
        "localhost.localdomain".to_owned(),
        "[::1]".to_owned(),
    ] {
        let mut wire = clinic.wire(DOCTOR);
        wire.send(format!("GET /fhir/Patient/1 HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let answer = wire.answer();
        assert_eq!((answer.status, &*answer.problem()), (421, "misdirected"), "{host}");
        assert_eq!(clinic.wait_for_reasons(wire.local()), ["misdirected"], "{host}");
    }
    assert_eq!(clinic.backend().connections(), 0);
    // A host's case means nothing.
    let mut wire = clinic.wire(DOCTOR);
    wire.send(format!("GET /fhir/Patient/1 HTTP/1.1\r\nHost: LocalHost:{port}\r\n\r\n"));
    assert_eq!(wire.answer().status, 200);
}

#[test]
fn c7_the_server_name_and_the_authority_differ_over_http2() {
    let clinic = Clinic::builder().start();
    for authority in ["evil.example", "localhost.", "127.0.0.1"] {
        let mut frames = clinic.frames(DOCTOR);
        let fields = frames.request("GET", "/fhir/Patient/1", authority);
        frames.headers(1, &fields, true);
        assert_eq!(frames.outcome(1), gateway_tests::h2::Outcome::Answered(421), "{authority}");
        assert_eq!(clinic.wait_for_reasons(frames.wire.local()), ["misdirected"], "{authority}");
    }
    assert_eq!(clinic.backend().connections(), 0);
}

/// `openssl s_client` sends server names that no library would. With a certificate or without one; standard output
/// and error of it.
fn s_client(clinic: &Clinic, server_name: &str, with_certificate: bool) -> String {
    let prepared = &clinic.prepared;
    let identity = clinic.identity(DOCTOR);
    prepared.write("client.crt", &identity.certificate_pem);
    prepared.write("client.key", &identity.key_pem);
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &clinic.door.address.to_string(), "-servername", server_name]);
    command.args(["-alpn", "http/1.1", "-ign_eof", "-CAfile"]).arg(prepared.path("tls/servers-ca.crt"));
    if with_certificate {
        command.arg("-cert").arg(prepared.path("client.crt")).arg("-key").arg(prepared.path("client.key"));
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("`openssl` is installed");
    let host = format!("localhost:{}", clinic.door.address.port());
    let request = format!("GET /fhir/Patient/1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    // A refused handshake closes the pipe early.
    let _ = child.stdin.take().expect("piped").write_all(request.as_bytes());
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn c7_the_case_of_the_server_name_means_nothing() {
    let clinic = Clinic::builder().start();
    let said = s_client(&clinic, "LOCALHOST", true);
    assert!(said.contains("HTTP/1.1 200"), "{said}");
    let said = s_client(&clinic, "LOCALHOST", false);
    assert!(!said.contains("HTTP/1.1"), "{said}");
    clinic.wait_for_record("the refusal", |record| text(record, "reason") == "certificate-missing");
}

#[test]
fn c7_odd_server_names_are_never_let_in_without_a_certificate() {
    let clinic = Clinic::builder().start();
    for name in ["*", "*.example", "evil.example", "[::1]", "a..b", "localhost\n", "%00", "é"] {
        let said = s_client(&clinic, name, false);
        assert!(!said.contains("HTTP/1.1"), "{name}: {said}");
        // With a certificate such a name is refused or misdirected; the request's own host does not outweigh it.
        let said = s_client(&clinic, name, true);
        assert!(!said.contains("HTTP/1.1 200"), "{name}: {said}");
    }
    assert_eq!(clinic.backend().connections(), 0);
    // With its final dot the name is the same, and an address counts as no name: as much is asked of the client.
    for name in ["localhost.", "127.0.0.1"] {
        let said = s_client(&clinic, name, false);
        assert!(!said.contains("HTTP/1.1"), "{name}: {said}");
    }
    let asked = clinic.records().into_iter().filter(|record| is(record, "request"));
    for record in asked {
        assert_eq!(text(&record, "reason"), "misdirected", "{record:#}");
    }
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
}

#[test]
fn c7_a_client_hello_in_small_pieces() {
    let clinic = Clinic::builder().start();
    let with = clinic.handshake(DOCTOR);
    let without = clinic.door.without_certificate();
    assert_eq!(with.clone().in_segments().open().get("/fhir/Patient/1").status, 200);
    assert_eq!(with.in_records().open().get("/fhir/Patient/1").status, 200);
    let _ = without.clone().in_segments().refused();
    let _ = without.in_records().refused();
    let labels = [("outcome", "certificate-missing")];
    gateway_tests::until("two refusals", || (clinic.metric("sekisho_handshakes_total", &labels) >= 2.0).then_some(()));
}

/// Files that are no anchors, each with what makes it one of them.
fn bad_anchors(prepared: &Prepared) -> Vec<(&'static str, Option<Vec<u8>>)> {
    let pem = prepared.pki.devices_ca_pem();
    let der = prepared.pki.odd(&Oddity::of(DOCTOR)).chain().remove(0).to_vec();
    let key = prepared.pki.device(DOCTOR).key_pem;
    vec![
        ("absent", None),
        ("empty", Some(Vec::new())),
        ("white space", Some(b"\n \n".to_vec())),
        ("truncated", Some(pem.as_bytes()[..pem.len() / 2].to_vec())),
        ("truncated after a good one", Some(format!("{pem}{}", &pem[..pem.len() / 2]).into_bytes())),
        ("DER", Some(der)),
        ("a comment alone", Some(b"# the authorities of our clinics\n".to_vec())),
        ("a key", Some(key.into_bytes())),
        ("not base64", Some(b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n".to_vec())),
    ]
}

#[test]
fn c7_broken_anchors_keep_the_gateway_from_starting() {
    let mut prepared = Clinic::builder().prepare();
    let file = prepared.path("tls/devices-ca.crt");
    for (name, content) in bad_anchors(&prepared) {
        match content {
            None => std::fs::remove_file(&file).expect("it was there"),
            Some(content) => std::fs::write(&file, content).expect("a file"),
        }
        prepared = match prepared.try_start() {
            Ok(_) => panic!("{name}: the gateway serves"),
            Err((failure, prepared)) => {
                assert_eq!(failure.code, Some(1), "{name}: {failure:?}");
                assert!(failure.message.contains("devices-ca.crt"), "{name}: {failure:?}");
                *prepared
            }
        };
    }
    prepared.write("tls/devices-ca.crt", prepared.pki.devices_ca_pem());
    assert_eq!(prepared.start().wire(DOCTOR).get("/fhir/Patient/1").status, 200);
}

#[test]
fn c7_broken_anchors_at_a_reload_change_nothing() {
    let clinic = Clinic::builder().start();
    let file = clinic.prepared.path("tls/devices-ca.crt");
    let mut kept = clinic.wire(DOCTOR);
    let mut failed = 0.0;
    for (name, content) in bad_anchors(&clinic.prepared) {
        match content {
            None => std::fs::remove_file(&file).expect("it was there"),
            Some(content) => std::fs::write(&file, content).expect("a file"),
        }
        assert!(!clinic.reload(), "{name}: taken");
        failed += 1.0;
        let counted = clinic.metric("sekisho_reloads_total", &[("outcome", "failed")]);
        assert!((counted - failed).abs() < f64::EPSILON, "{name}: {counted}");
        let mut reloads = clinic.records().into_iter().filter(|record| is(record, "reload"));
        let last = reloads.next_back().expect("a reload was recorded");
        assert!(text(&last, "error").contains("devices-ca.crt"), "{name}: {last:#}");
        assert_eq!(kept.get("/fhir/Patient/1").status, 200, "{name}");
        assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200, "{name}");
        let _ = clinic.door.without_certificate().refused();
    }
}

#[test]
fn c7_every_certificate_of_the_anchors_counts() {
    let prepared = Clinic::builder().prepare();
    let other = gateway_tests::Pki::new();
    let both =
        format!("# two authorities\n{}\n# the second\n{}", other.devices_ca_pem(), prepared.pki.devices_ca_pem());
    prepared.write("tls/devices-ca.crt", both);
    let clinic = prepared.start();
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    assert_eq!(clinic.door.with(&other.device(DOCTOR)).open().get("/fhir/Patient/1").status, 200);
}
