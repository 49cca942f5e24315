//! The gateway's own certificates: one for each server name, replaced on disk without a reload and without losing a
//! connection, with a stapled OCSP response; and no name for which less is asked of the client (C7, R12, R22).

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gateway_tests::audit::text;
use gateway_tests::h2::Client;
use gateway_tests::{Clinic, DOCTOR, Identity, Prepared, Refusal, Wire, until};
use rustls::AlertDescription;

/// A clinic with two certificates: `main` for `localhost` and an address, `wild` for all below `w.example`.
fn two_names() -> Prepared {
    let prepared = Clinic::builder()
        .config(|config| {
            config.set_server_names(&["localhost", "127.0.0.1", "a.w.example", "b.w.example"]);
            config.set_identities(&["main", "wild"]);
        })
        .prepare();
    write_pair(&prepared, "main", &prepared.pki.server_for(&["localhost", "127.0.0.1"], 100));
    write_pair(&prepared, "wild", &prepared.pki.server_for(&["*.w.example"], 200));
    prepared
}

/// Puts a pair in place as renewal tools do: each file by a rename.
fn write_pair(prepared: &Prepared, name: &str, identity: &Identity) {
    for (end, content) in [("crt", &identity.certificate_pem), ("key", &identity.key_pem)] {
        let (new, file) = (format!("tls/{name}.{end}.new"), format!("tls/{name}.{end}"));
        prepared.write(&new, content);
        std::fs::rename(prepared.path(&new), prepared.path(&file)).expect("renamed");
    }
}

fn shown(wire: &Wire) -> Vec<u8> {
    wire.tls().peer_certificates().expect("a certificate")[0].to_vec()
}

fn ask(wire: &mut Wire, host: &str) -> u16 {
    wire.send(format!("GET /fhir/Patient/1 HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    wire.answer().status
}

#[test]
fn each_server_name_gets_its_certificate() {
    let clinic = two_names().start();
    let port = clinic.door.address.port();
    let main = shown(&clinic.handshake(DOCTOR).to("localhost").open());
    // Without a server name: the first.
    let mut unnamed = clinic.handshake(DOCTOR).to("127.0.0.1").open();
    assert_eq!(shown(&unnamed), main);
    assert_eq!(ask(&mut unnamed, &format!("127.0.0.1:{port}")), 200);
    let mut wild = clinic.handshake(DOCTOR).to("a.w.example").open();
    assert_ne!(shown(&wild), main);
    assert_eq!(ask(&mut wild, &format!("a.w.example:{port}")), 200);
    assert_eq!(shown(&clinic.handshake(DOCTOR).to("b.w.example").open()), shown(&wild));
    // The certificate is for `b` as well, and the connection was opened for `a`: no coalescing.
    for other in ["b.w.example", "localhost", "a.w.example.", "*.w.example"] {
        let mut wire = clinic.handshake(DOCTOR).to("a.w.example").open();
        assert_eq!(ask(&mut wire, &format!("{other}:{port}")), 421, "{other}");
    }
    let mut frames = gateway_tests::h2::Frames::open(&clinic.handshake(DOCTOR).to("a.w.example"));
    let fields = frames.request("GET", "/fhir/Patient/1", "b.w.example");
    frames.headers(1, &fields, true);
    assert_eq!(frames.outcome(1), gateway_tests::h2::Outcome::Answered(421));
    for (identity, days) in [("localhost", 100.0), ("*.w.example", 200.0)] {
        let labels = [("kind", "server"), ("name", "clinics"), ("identity", identity)];
        let end = clinic.metric("sekisho_certificate_expiry_timestamp_seconds", &labels);
        let left = (end - now()) / 86_400.0;
        assert!((left - days).abs() < 1.0, "{identity}: {left} days");
    }
}

#[allow(clippy::cast_precision_loss, reason = "seconds since 1970 fit a double exactly")]
fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs() as f64
}

#[test]
fn c7_an_unknown_server_name_is_refused_in_the_handshake() {
    let clinic = two_names().start();
    // The wildcard is for `c` too, but `c` is not the listener's.
    for name in ["c.w.example", "evil.example", "x.a.w.example", "w.example", "localhost.localdomain"] {
        let refused = clinic.handshake(DOCTOR).to(name).refused();
        assert_eq!(refused, Refusal::Alert(AlertDescription::AccessDenied), "{name}");
        assert_eq!(clinic.handshake(DOCTOR).to(name).in_records().refused(), refused, "{name}, in small records");
    }
    // One network is recorded in full once for each reason; the others are counted.
    let record = clinic.wait_for_record("the refusal", |record| text(record, "reason") == "server-name-unknown");
    assert_eq!(text(&record, "detail"), "server name `c.w.example`", "{record:#}");
    let labels = [("outcome", "server-name-unknown")];
    until("ten to be counted", || (clinic.metric("sekisho_handshakes_total", &labels) > 9.5).then_some(()));
    assert_eq!(clinic.backend().connections(), 0);
}

#[test]
fn c7_no_server_name_leads_past_the_verifier() {
    let clinic = two_names().start();
    for name in ["localhost", "127.0.0.1", "a.w.example", "b.w.example"] {
        let without = || clinic.door.without_certificate().to(name);
        for handshake in [without(), without().in_segments(), without().in_records(), without().alpn("h2")] {
            let refused = handshake.refused();
            assert!(matches!(refused, Refusal::Alert(AlertDescription::CertificateRequired)), "{name}: {refused:?}");
        }
        let with = || clinic.handshake(DOCTOR).to(name);
        let host = format!("{name}:{}", clinic.door.address.port());
        for handshake in [with().in_segments(), with().in_records()] {
            assert_eq!(ask(&mut handshake.open(), &host), 200, "{name}");
        }
    }
    // Names that only a tool made for it sends: other case, a final dot, a wildcard, an address.
    for (name, is_known) in [
        ("A.W.EXAMPLE", true),
        ("a.w.example.", false),
        ("*.w.example", false),
        ("127.0.0.1", true),
        ("192.0.2.7", true),
    ] {
        let host = if name == "A.W.EXAMPLE" { "a.w.example" } else { "localhost" };
        let said = s_client(&clinic, &["-servername", name], Some(host), false);
        assert!(!said.contains("HTTP/1.1"), "{name} without a certificate: {said}");
        let said = s_client(&clinic, &["-servername", name], Some(host), true);
        assert_eq!(said.contains("HTTP/1.1 200"), is_known, "{name}: {said}");
    }
}

/// `openssl s_client`, asking for a page of `host`, or nothing. Standard output and error of it.
fn s_client(clinic: &Clinic, arguments: &[&str], host: Option<&str>, with_certificate: bool) -> String {
    let prepared = &clinic.prepared;
    let identity = clinic.identity(DOCTOR);
    prepared.write("client.crt", &identity.certificate_pem);
    prepared.write("client.key", &identity.key_pem);
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &clinic.door.address.to_string(), "-CAfile"]);
    command.arg(prepared.path("tls/servers-ca.crt")).args(arguments);
    if with_certificate {
        command.arg("-cert").arg(prepared.path("client.crt")).arg("-key").arg(prepared.path("client.key"));
    }
    if host.is_some() {
        command.arg("-ign_eof");
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("`openssl` is installed");
    let mut stdin = child.stdin.take().expect("piped");
    if let Some(host) = host {
        let host = format!("{host}:{}", clinic.door.address.port());
        let request = format!("GET /fhir/Patient/1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        // A refused handshake closes the pipe early.
        let _ = stdin.write_all(request.as_bytes());
    }
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_new_pair_is_shown_within_a_second_and_no_connection_is_lost() {
    let clinic = two_names().start();
    let over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for number in 0..4 {
        let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
        let handshake = clinic.handshake(DOCTOR).to(if number < 2 { "localhost" } else { "a.w.example" });
        let host = format!("{}:{}", if number < 2 { "localhost" } else { "a.w.example" }, clinic.door.address.port());
        clients.push(std::thread::spawn(move || {
            // Live connections, and ever new ones beside them.
            let mut live = handshake.open();
            while !over.load(Ordering::Relaxed) {
                assert_eq!(ask(&mut live, &host), 200);
                assert_eq!(ask(&mut handshake.open(), &host), 200);
                answered.fetch_add(2, Ordering::Relaxed);
            }
        }));
    }
    let mut h2 = Client::open(&clinic.handshake(DOCTOR).to("localhost"), clinic.door.address);
    let snapshot = clinic.metric("sekisho_snapshot_version", &[]);
    for round in 0..3_u32 {
        for (name, names, days) in [("main", &["localhost", "127.0.0.1"][..], 300), ("wild", &["*.w.example"], 400)] {
            let new = clinic.pki().server_for(names, days + round);
            write_pair(&clinic.prepared, name, &new);
            let begun = Instant::now();
            let server_name = if name == "main" { "localhost" } else { "b.w.example" };
            until("the new certificate", || {
                let wire = clinic.handshake(DOCTOR).to(server_name).open();
                (shown(&wire) == new.chain()[0].to_vec()).then_some(())
            });
            assert!(begun.elapsed() < Duration::from_millis(1_500), "{name}, round {round}: {:?}", begun.elapsed());
            let labels = [("kind", "server"), ("identity", names[0])];
            let left = (clinic.metric("sekisho_certificate_expiry_timestamp_seconds", &labels) - now()) / 86_400.0;
            assert!((left - f64::from(days + round)).abs() < 1.0, "{name}, round {round}: {left} days");
        }
        assert_eq!(h2.get("/fhir/Patient/1").expect("an answer").status, 200);
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("every request was answered");
    }
    assert!(answered.load(Ordering::Relaxed) > 20);
    let labels = [("listener", "clinics"), ("outcome", "replaced")];
    let replaced = || clinic.metric("sekisho_server_certificate_changes_total", &labels);
    until("the last one to be counted", || (replaced() > 5.5).then_some(()));
    assert!(replaced() < 6.5, "one was counted twice");
    // No reload: the registry's and the policies' snapshot is the same, and nobody was judged anew.
    assert!((clinic.metric("sekisho_snapshot_version", &[]) - snapshot).abs() < f64::EPSILON);
}

#[test]
fn a_pair_that_does_not_fit_keeps_the_old_one_and_is_told() {
    let clinic = two_names().start();
    let old = shown(&clinic.wire(DOCTOR));
    let labels = [("listener", "clinics"), ("identity", "localhost")];
    let is_current = || clinic.metric("sekisho_server_certificate_current", &labels) > 0.5;
    assert!(is_current());
    let other = clinic.pki().server_for(&["localhost", "127.0.0.1"], 9);
    clinic.prepared.write("tls/main.key", &other.key_pem);
    until("the refused pair to be told", || (!is_current()).then_some(()));
    assert_eq!(shown(&clinic.wire(DOCTOR)), old);
    let (status, page) = clinic.admin_get("/readyz?verbose");
    assert!(status == 200 && page.contains("[!] listener `clinics`: private key"), "{page}");
    assert!(page.contains("main.key") && page.contains("does not belong") && page.contains("in use stays"), "{page}");
    assert_eq!(clinic.admin_get("/readyz").1, "ok\n");
    let said = clinic.gateway.said();
    assert!(said.contains("kept the old certificate") && said.contains("main.key"), "{said}");
    // A reload would take nothing half either.
    assert!(!clinic.reload());
    assert_eq!(shown(&clinic.wire(DOCTOR)), old);
    clinic.prepared.write("tls/main.crt", &other.certificate_pem);
    until("the mended pair", || (shown(&clinic.wire(DOCTOR)) == other.chain()[0].to_vec()).then_some(()));
    until("no warning but of the end", || is_current().then_some(()));
    let (_, page) = clinic.admin_get("/readyz?verbose");
    // Nine days are left.
    assert!(
        page.contains("[!] certificate-ends: the server certificate of `clinics` (`localhost`) ends in 8 d"),
        "{page}"
    );
    assert!(!page.contains("in use stays") && !page.contains("*.w.example"), "{page}");
}

/// An OCSP response about `tls/main.crt`, by its authority, that ends in three days; made in the past if so many days
/// are given.
fn respond(clinic: &Clinic, days_ago: u32) {
    let prepared = &clinic.prepared;
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(prepared.path("tls"));
        if days_ago > 0 {
            let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
            assert!(Path::new(library).exists(), "this test needs libfaketime");
            command.env("LD_PRELOAD", library).env("FAKETIME", format!("-{days_ago}d"));
        }
        let output = command.output().expect("`openssl` is installed");
        assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    prepared.write("tls/servers-ca.key", prepared.pki.servers_ca_key_pem());
    let serial = openssl(&["x509", "-in", "main.crt", "-noout", "-serial"]);
    let serial = serial.trim().trim_start_matches("serial=");
    prepared.write("tls/index.txt", format!("V\t491231235959Z\t\t{serial}\tunknown\t/CN=localhost\n"));
    let mut arguments = vec!["ocsp", "-index", "index.txt", "-CA", "servers-ca.crt", "-rsigner", "servers-ca.crt"];
    arguments.extend(["-rkey", "servers-ca.key", "-issuer", "servers-ca.crt", "-cert", "main.crt", "-noverify"]);
    arguments.extend(["-ndays", "3", "-respout", "main.ocsp.new"]);
    openssl(&arguments);
    std::fs::rename(prepared.path("tls/main.ocsp.new"), prepared.path("tls/main.ocsp")).expect("renamed");
}

#[test]
fn a_good_response_is_stapled_and_an_old_one_is_not() {
    let prepared = Clinic::builder()
        .config(|config| {
            config.set_tls("certificate_file", "tls/main.crt");
            config.set_tls("key_file", "tls/main.key");
            config.set_tls("ocsp_file", "tls/main.ocsp");
        })
        .prepare();
    let chained = |identity: Identity| Identity {
        certificate_pem: identity.certificate_pem + prepared.pki.servers_ca_pem(),
        ..identity
    };
    write_pair(&prepared, "main", &chained(prepared.pki.server(&["localhost", "127.0.0.1"])));
    // There is no response yet: the gateway serves, and says that it staples none.
    let clinic = prepared.start();
    let labels = [("listener", "clinics"), ("identity", "localhost")];
    let stapled = || clinic.metric("sekisho_ocsp_stapled", &labels) > 0.5;
    let status = || s_client(&clinic, &["-status", "-servername", "localhost"], None, true);
    assert!(!stapled() && status().contains("OCSP response: no response sent"), "{}", status());
    assert!(clinic.admin_get("/readyz?verbose").1.contains("main.ocsp` cannot be read"));

    respond(&clinic, 0);
    until("the response", || stapled().then_some(()));
    let said = status();
    assert!(said.contains("OCSP Response Status: successful") && said.contains("Cert Status: good"), "{said}");
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    assert!(!clinic.admin_get("/readyz?verbose").1.contains("OCSP"));

    respond(&clinic, 10);
    until("the old response to be noticed", || (!stapled()).then_some(()));
    assert!(status().contains("OCSP response: no response sent"), "{}", status());
    let page = clinic.admin_get("/readyz?verbose").1;
    assert!(page.contains("[!] listener `clinics`: OCSP response") && page.contains("it ended at"), "{page}");
    assert!(clinic.gateway.said().contains("an OCSP response cannot be stapled"));

    // A good response about the certificate that is replaced is none about the new one.
    respond(&clinic, 0);
    until("the response", || stapled().then_some(()));
    let renewed = clinic.pki().server(&["localhost", "127.0.0.1"]);
    let renewed = Identity { certificate_pem: renewed.certificate_pem + clinic.pki().servers_ca_pem(), ..renewed };
    write_pair(&clinic.prepared, "main", &renewed);
    until("the new certificate", || (shown(&clinic.wire(DOCTOR)) == renewed.chain()[0].to_vec()).then_some(()));
    until("the response to be dropped", || (!stapled()).then_some(()));
    assert!(clinic.admin_get("/readyz?verbose").1.contains("about another certificate"));
    respond(&clinic, 0);
    until("the response about the new certificate", || stapled().then_some(()));
    assert!(status().contains("Cert Status: good"), "{}", status());
}
