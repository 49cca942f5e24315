//! C8: a resumed session is a new connection. Whoever was revoked, re-rolled, untrusted or has expired since the ticket
//! was given is judged as if it had come for the first time; and no request travels as early data.
//!
//! The client is OpenSSL, which keeps tickets in files as any client may.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gateway_tests::audit::{is, text};
use gateway_tests::ocsp::Responder;
use gateway_tests::openssl::Ca;
use gateway_tests::{Clinic, DOCTOR, Identity, Pki, Prepared, until, within};
use serde_json::Value;

const USER: &str = "sakura-clinic/dr-sato";
const TLS_1_2: &str = "-tls1_2";
const TLS_1_3: &str = "-tls1_3";

/// An OpenSSL client with files in the clinic's folder.
struct OpenSsl<'a> {
    clinic: &'a Clinic,
    version: &'static str,
}

impl<'a> OpenSsl<'a> {
    fn new(clinic: &'a Clinic, version: &'static str, identity: &Identity) -> Self {
        clinic.prepared.write("client.crt", &identity.certificate_pem);
        clinic.prepared.write("client.key", &identity.key_pem);
        Self { clinic, version }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.clinic.prepared.path(name)
    }

    /// Connects, sends a GET and returns everything that OpenSSL says.
    fn get(&self, target: &str, options: &[&str]) -> String {
        self.get_from("localhost", target, options)
    }

    /// As [`OpenSsl::get`], from a server of this name.
    fn get_from(&self, name: &str, target: &str, options: &[&str]) -> String {
        let port = self.clinic.door.address.port();
        let file = |name: &str| self.path(name).into_os_string();
        let mut client = Command::new("openssl")
            .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-ign_eof", self.version])
            .args(["-servername", name, "-verify_return_error", "-alpn", "http/1.1"])
            .arg("-CAfile")
            .arg(file("tls/servers-ca.crt"))
            .arg("-cert")
            .arg(file("client.crt"))
            .arg("-key")
            .arg(file("client.key"))
            .arg("-cert_chain")
            .arg(file("client.crt"))
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("OpenSSL is installed");
        let request = format!("GET {target} HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\r\n");
        // A client that was refused may be gone.
        let mut stdin = client.stdin.take().expect("a pipe");
        let _ = stdin.write_all(request.as_bytes());
        let output = client.wait_with_output().expect("OpenSSL ends");
        drop(stdin);
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// Takes a ticket.
    fn takes_ticket(&self) {
        let ticket = self.ticket();
        let said = self.get("/fhir/Patient/ticket", &["-sess_out", &ticket]);
        assert!(said.contains("HTTP/1.1 200"), "{said}");
        assert!(said.contains("New, TLSv1"), "{said}");
        let size = std::fs::metadata(&ticket).map_or(0, |file| file.len());
        assert!(size > 500, "no ticket was given: {said}");
    }

    fn ticket(&self) -> String {
        self.path("ticket.pem").to_str().expect("UTF-8").to_owned()
    }

    /// Comes back with the ticket.
    fn resumes(&self, target: &str) -> String {
        self.get(target, &["-sess_in", &self.ticket()])
    }
}

fn start(version: &str, prepare: impl FnOnce(&Prepared)) -> Clinic {
    let revocation = "mode = \"prefer\"\ncrl_directory = \"tls\"\nocsp = \"prefer\"\nfetch_interval_s = 1";
    let revocation = revocation.parse().expect("TOML");
    let builder = Clinic::builder().config(|config| config.set_tls("revocation", toml::Value::Table(revocation)));
    let prepared = if version == TLS_1_2 {
        builder.config(|config| config.set_tls("profile", "cryptrec-high-tls12")).prepare()
    } else {
        builder.prepare()
    };
    prepare(&prepared);
    prepared.start()
}

fn resumed(clinic: &Clinic) -> Vec<Value> {
    let is_resumed = |record: &Value| is(record, "connection-opened") && record["connection"]["tls"]["resumed"] == true;
    clinic.records().into_iter().filter(is_resumed).collect()
}

/// Takes a ticket, changes something, and expects the resumed connection's request to be denied for this reason.
fn is_judged_anew(
    version: &'static str,
    identity: impl FnOnce(&Prepared) -> Identity,
    change: impl FnOnce(&Clinic),
    reason: &str,
) {
    let mut made = None;
    let clinic = start(version, |prepared| made = Some(identity(prepared)));
    let client = OpenSsl::new(&clinic, version, &made.expect("an identity"));
    client.takes_ticket();
    // The control: while nothing changes the ticket is taken.
    let said = client.resumes("/fhir/Patient/control");
    assert!(said.contains("Reused, TLSv1"), "{version}, {reason}: {said}");
    assert!(said.contains("HTTP/1.1 200"), "{version}, {reason}: {said}");
    assert_eq!(resumed(&clinic).len(), 1, "the record says that it was resumed");
    change(&clinic);
    let said = client.resumes("/fhir/Patient/after");
    assert!(!said.contains("HTTP/1.1 200"), "{version}, {reason}: {said}");
    let found = within(Duration::from_secs(5), || {
        clinic.records().into_iter().find(|record| text(record, "reason") == reason || text(record, "cause") == reason)
    });
    assert!(found.is_some(), "{version}: no record of {reason}: {said}\n{:#?}", clinic.records());
    let seen = clinic.backend().seen();
    assert!(seen.iter().all(|seen| seen.target() != "/fhir/Patient/after"), "{version}, {reason}: {seen:#?}");
}

fn device(prepared: &Prepared) -> Identity {
    prepared.pki.device(DOCTOR)
}

/// Waits until the registry's change is in force, by the record of it.
fn registry(clinic: &Clinic, arguments: &[&str]) {
    let count = |clinic: &Clinic| clinic.records().iter().filter(|record| is(record, "registry-change")).count();
    let before = count(clinic);
    clinic.registry(arguments);
    until("the change", || (count(clinic) > before).then_some(()));
}

fn other_authority(clinic: &Clinic) {
    clinic.prepared.write("tls/devices-ca.crt", Pki::new().devices_ca_pem());
    assert!(clinic.reload());
}

const LIFETIME: Duration = Duration::from_secs(6);

fn short_lived(prepared: &Prepared) -> Identity {
    prepared.pki.device_for(DOCTOR, LIFETIME)
}

/// The device's own certificate, or the CA's above it, is on a list that came after the ticket.
#[test]
fn c8_a_revoked_certificate_resumes_nothing() {
    for version in [TLS_1_3, TLS_1_2] {
        for authority_too in [false, true] {
            let root = Ca::root("Root of the tests");
            let issuing = root.below("Issuing", &[]);
            let identity = issuing.device(DOCTOR, &[]);
            let prepare = |prepared: &Prepared| {
                prepared.write("tls/devices-ca.crt", root.certificate_pem());
                prepared.write("tls/issuing.crl", issuing.crl() + &root.crl());
                identity.clone()
            };
            let change = |clinic: &Clinic| {
                match authority_too {
                    true => root.revoke(&issuing.certificate_pem(), "CACompromise"),
                    false => issuing.revoke(&identity.certificate_pem, "keyCompromise"),
                }
                clinic.prepared.write("new.pem", issuing.crl() + &root.crl());
                let renamed = std::fs::rename(clinic.prepared.path("new.pem"), clinic.prepared.path("tls/issuing.crl"));
                renamed.expect("renamed");
                until("the list", || (clinic.metric("sekisho_crl_entries", &[]) > 0.5).then_some(()));
            };
            is_judged_anew(version, prepare, change, "certificate-revoked");
        }
    }
}

#[test]
fn c8_whom_his_responder_calls_revoked_resumes_nothing() {
    for version in [TLS_1_3, TLS_1_2] {
        let ca = Arc::new(Ca::root("Root of the tests"));
        let responder = Responder::of(&ca);
        let access = format!("authorityInfoAccess = OCSP;URI:{}", responder.url());
        let identity = ca.device_with(DOCTOR, &[], &access);
        let prepare = |prepared: &Prepared| {
            prepared.write("tls/devices-ca.crt", ca.certificate_pem());
            identity.clone()
        };
        let change = |clinic: &Clinic| {
            ca.revoke(&identity.certificate_pem, "keyCompromise");
            // Recorded once it is in force.
            clinic.wait_for_record("the answer", |record| text(record, "status") == "revoked");
        };
        is_judged_anew(version, prepare, change, "certificate-revoked");
    }
}

#[test]
fn c8_a_suspended_device_resumes_nothing() {
    for version in [TLS_1_3, TLS_1_2] {
        let change = |clinic: &Clinic| registry(clinic, &["device", "suspend", DOCTOR]);
        is_judged_anew(version, device, change, "device-suspended");
    }
}

#[test]
fn c8_a_removed_device_resumes_nothing() {
    for version in [TLS_1_3, TLS_1_2] {
        let change = |clinic: &Clinic| registry(clinic, &["device", "remove", DOCTOR]);
        is_judged_anew(version, device, change, "device-unregistered");
    }
}

#[test]
fn c8_a_suspended_user_resumes_nothing() {
    for version in [TLS_1_3, TLS_1_2] {
        let change = |clinic: &Clinic| registry(clinic, &["user", "suspend", USER]);
        is_judged_anew(version, device, change, "user-suspended");
    }
}

#[test]
fn c8_a_suspended_site_resumes_nothing() {
    for version in [TLS_1_3, TLS_1_2] {
        let change = |clinic: &Clinic| registry(clinic, &["site", "suspend", "sakura-clinic"]);
        is_judged_anew(version, device, change, "site-suspended");
    }
}

#[test]
fn c8_a_ticket_opens_no_other_name() {
    const OTHER: &str = "other.example";
    for version in [TLS_1_3, TLS_1_2] {
        let builder = Clinic::builder().config(|config| {
            config.add_server_name(OTHER);
            if version == TLS_1_2 {
                config.set_tls("profile", "cryptrec-high-tls12");
            }
        });
        let clinic = builder.start();
        let client = OpenSsl::new(&clinic, version, &clinic.identity(DOCTOR));
        client.takes_ticket();
        let ticket = client.ticket();
        // A good name of this listener, and yet not the one the ticket was given under: a full handshake.
        let said = client.get_from(OTHER, "/fhir/Patient/other", &["-sess_in", &ticket]);
        assert!(said.contains("New, TLSv1") && !said.contains("Reused"), "{version}: {said}");
        assert!(said.contains("HTTP/1.1 200"), "{version}: {said}");
        assert_eq!(resumed(&clinic).len(), 0, "{version}");
        // The control: under its own name it is good still.
        let said = client.resumes("/fhir/Patient/control");
        assert!(said.contains("Reused, TLSv1") && said.contains("HTTP/1.1 200"), "{version}: {said}");
        let resumed = resumed(&clinic);
        let names: Vec<_> = resumed.iter().map(|record| text(record, "connection.tls.sni")).collect();
        assert_eq!(names, ["localhost"], "{version}");
    }
}

#[test]
fn c8_a_removed_authority_ends_its_tickets() {
    for version in [TLS_1_3, TLS_1_2] {
        is_judged_anew(version, device, other_authority, "certificate-untrusted");
    }
}

#[test]
fn c8_a_changed_role_holds_for_the_resumed_connection() {
    for version in [TLS_1_3, TLS_1_2] {
        let change = |clinic: &Clinic| {
            registry(clinic, &["user", "set", USER, "--role", "clerk", "--no-role", "doctor"]);
        };
        is_judged_anew(version, device, change, "policy-no-permit");
    }
}

#[test]
fn c8_an_expired_certificate_resumes_nothing() {
    for version in [TLS_1_3, TLS_1_2] {
        let change = |_: &Clinic| std::thread::sleep(LIFETIME + Duration::from_secs(2));
        is_judged_anew(version, short_lived, change, "certificate-expired");
    }
}

#[test]
fn c8_a_live_connection_ends_with_its_certificate() {
    let clinic = Clinic::builder().start();
    let identity = clinic.pki().device_for(DOCTOR, LIFETIME);
    let mut wire = clinic.door.with(&identity).open();
    assert_eq!(wire.get("/fhir/Patient/1").status, 200);
    let mut h2 = gateway_tests::h2::Client::open(&clinic.door.with(&identity), clinic.door.address);
    assert_eq!(h2.get("/fhir/Patient/1").expect("an answer").status, 200);
    let _ = wire.closes();
    assert!(h2.closes_within(Duration::from_secs(2)), "HTTP/2 stays open");
    for source in [wire.local(), h2.local] {
        let closed = clinic.wait_for_record("the end", |record| {
            is(record, "connection-closed") && text(record, "connection.source") == source.to_string()
        });
        assert_eq!(text(&closed, "cause"), "certificate-expired", "{closed:#}");
        let duration = closed["duration_us"].as_u64().expect("a duration");
        assert!(duration < 9_000_000, "it lived on for {duration} µs");
    }
}

#[test]
fn c8_early_data_carries_no_request() {
    let clinic = start(TLS_1_3, |_| {});
    let client = OpenSsl::new(&clinic, TLS_1_3, &clinic.identity(DOCTOR));
    client.takes_ticket();
    let port = clinic.door.address.port();
    let early = format!("GET /fhir/Patient/early HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
    clinic.prepared.write("early.txt", early);
    let early = client.path("early.txt");
    let early = early.to_str().expect("UTF-8");
    allow_early_data(Path::new(&client.ticket()));
    let said = client.get("/fhir/Patient/late", &["-sess_in", &client.ticket(), "-early_data", early]);
    // It was sent, or the test would say nothing.
    assert!(said.contains("Early data was rejected"), "{said}");
    assert!(
        said.contains("Reused, TLSv1.3") && said.contains("HTTP/1.1 200"),
        "the request after it is served: {said}"
    );
    let seen = clinic.backend().seen();
    assert!(seen.iter().all(|seen| seen.target() != "/fhir/Patient/early"), "{seen:#?}");
    let records = clinic.records();
    assert!(records.iter().all(|record| text(record, "target") != "/fhir/Patient/early"), "{records:#?}");
}

/// Writes into a ticket that the server takes early data, which it never said: `max_early_data` (`[15]`) of OpenSSL's
/// `SSL_SESSION_ASN1` is absent where it is 0.
fn allow_early_data(ticket: &Path) {
    let der = |pem: &str| {
        let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).expect("base64")
    };
    let session = der(&std::fs::read_to_string(ticket).expect("a ticket"));
    let [0x30, 0x82, high, low, fields @ ..] = &session[..] else { panic!("a long SEQUENCE: {session:02x?}") };
    assert_eq!(usize::from(*high) * 256 + usize::from(*low), fields.len());
    // [15] EXPLICIT INTEGER 16384, in its place: after all lower tags, before all higher ones.
    let mut at = 0;
    while at < fields.len() {
        let (tag, length, header) = element(&fields[at..]);
        if tag & 0xe0 == 0xa0 && tag & 0x1f >= 15 {
            break;
        }
        at += header + length;
    }
    assert_ne!(fields.get(at), Some(&0xaf), "the gateway offers early data");
    let more = [0xaf, 0x04, 0x02, 0x02, 0x40, 0x00];
    let fields = [&fields[..at], &more[..], &fields[at..]].concat();
    let length = u16::try_from(fields.len()).expect("a short session").to_be_bytes();
    let session = [&[0x30, 0x82], &length[..], &fields[..]].concat();
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, session);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    let pem =
        format!("-----BEGIN SSL SESSION PARAMETERS-----\n{}\n-----END SSL SESSION PARAMETERS-----\n", lines.join("\n"));
    std::fs::write(ticket, pem).expect("written");
}

/// Tag, length and the size of both.
fn element(bytes: &[u8]) -> (u8, usize, usize) {
    match bytes {
        [tag, 0x82, high, low, ..] => (*tag, usize::from(*high) * 256 + usize::from(*low), 4),
        [tag, 0x81, length, ..] => (*tag, usize::from(*length), 3),
        [tag, length @ ..=0x7f, ..] => (*tag, usize::from(*length), 2),
        _ => panic!("not DER: {bytes:02x?}"),
    }
}
