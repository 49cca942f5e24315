//! A clinic needs no second product for its devices' certificates: an authority with an offline root, enrolment by an
//! operator or by EST (RFC 7030) with plain `curl` and `openssl`, renewal, revocation (R1, R3, R12, R27).

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use gateway_tests::{Clinic, DOCTOR, Output, Prepared, audit::text, connect_from, sekisho, until};
use serde_json::Value;

/// As the harness has it.
const TRUST_DOMAIN: &str = "sekisho.example";
const PASSPHRASE: &str = "correct horse battery staple";

/// A clinic whose devices come from its own authority.
struct Own {
    clinic: Clinic,
    est: SocketAddr,
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// The authority in the clinic's folder.
fn make_authority(prepared: &Prepared, more: &[&str]) {
    prepared.write("passphrase", format!("{PASSPHRASE}\n"));
    let (folder, file) = (path(prepared, "ca"), path(prepared, "passphrase"));
    let arguments = ["ca", "init", "--dir", &folder, "--domain", TRUST_DOMAIN, "--passphrase-file", &file];
    let made = sekisho(&[&arguments, more].concat());
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(!made.stdout.contains(PASSPHRASE) && !made.stderr.contains(PASSPHRASE));
}

impl Own {
    fn start() -> Self {
        let mut prepared = Clinic::builder().prepare();
        make_authority(&prepared, &[]);
        let est = free_port();
        prepared.reconfigure(|config| config.enrol_at(est));
        Self { clinic: prepared.start(), est }
    }

    fn path(&self, name: &str) -> String {
        path(&self.clinic.prepared, name)
    }

    /// A command on the registry that needs the authority.
    fn device(&self, arguments: &[&str]) -> Output {
        let ca = self.path("ca");
        self.clinic.prepared.try_registry(&[&["device"], arguments, &["--ca", &ca]].concat())
    }

    fn good(&self, arguments: &[&str]) -> String {
        let output = self.device(arguments);
        assert_eq!(output.code, Some(0), "{arguments:?}: {}", output.stderr);
        output.stdout
    }

    fn new_code(&self, device: &str) -> String {
        let output = self.clinic.prepared.try_registry(&["device", "code", device, "--json"]);
        let answer: Value = serde_json::from_str(&output.stdout).expect("JSON");
        text(&answer, "code").to_owned()
    }

    /// A request made by openssl: the names of its key's file and of the body that EST wants.
    fn request(&self, name: &str) -> (String, String) {
        let (key, csr, body) =
            (self.path(&format!("{name}.key")), self.path(&format!("{name}.csr")), self.path(&format!("{name}.b64")));
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=administrator"];
        tool("openssl", &[&["req", "-outform", "DER", "-keyout", &key, "-out", &csr], &curve[..]].concat());
        tool("openssl", &["base64", "-in", &csr, "-out", &body]);
        (key, body)
    }

    /// A client of the EST listener.
    fn curl(&self) -> Curl {
        Curl { port: self.est.port(), ca: self.path("tls/servers-ca.crt") }
    }

    fn est(&self, operation: &str, more: &[&str]) -> (u16, Vec<u8>) {
        self.curl().est(operation, more)
    }

    fn enrol(&self, user: &str, body: &str, operation: &str, more: &[&str]) -> (u16, Vec<u8>) {
        self.curl().enrol(user, body, operation, more)
    }

    /// The certificate that EST answered with, as a file.
    fn keep(&self, answer: &[u8], name: &str) -> String {
        let der = tool_with("openssl", &["base64", "-d", "-A"], answer);
        let pem = tool_with("openssl", &["pkcs7", "-inform", "DER", "-print_certs"], &der);
        let file = self.path(name);
        std::fs::write(&file, pem).expect("a file");
        file
    }

    /// The status of a request to the clinics' listener.
    fn asks(&self, more: &[&str]) -> Option<String> {
        let url = format!("https://localhost:{}/fhir/Patient/1", self.clinic.door.address.port());
        let to = format!("localhost:{}:127.0.0.1", self.clinic.door.address.port());
        let ca = self.path("tls/servers-ca.crt");
        let arguments = ["-sS", "--cacert", &ca, "--resolve", &to, "-o", "/dev/null", "-w", "%{http_code}", &url];
        let output = Command::new("curl").args(arguments).args(more).output().expect("curl is installed");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// curl, towards the EST listener.
struct Curl {
    port: u16,
    ca: String,
}

impl Curl {
    /// Status and body.
    fn est(&self, operation: &str, more: &[&str]) -> (u16, Vec<u8>) {
        let url = format!("https://localhost:{}/{operation}", self.port);
        let to = format!("localhost:{}:127.0.0.1", self.port);
        let arguments = ["-sS", "--cacert", &self.ca, "--resolve", &to, "-w", "\n%{http_code}", &url];
        let mut out = tool("curl", &[&arguments[..], more].concat());
        let at = out.iter().rposition(|byte| *byte == b'\n').expect("a status");
        let status = out.split_off(at);
        (String::from_utf8_lossy(&status).trim().parse().expect("a status"), out)
    }

    fn enrol(&self, user: &str, body: &str, operation: &str, more: &[&str]) -> (u16, Vec<u8>) {
        let data = format!("@{body}");
        let kind = ["-H", "Content-Type: application/pkcs10", "-H", "Content-Transfer-Encoding: base64"];
        let user: &[&str] = if user.is_empty() { &[] } else { &["-u", user] };
        self.est(&format!(".well-known/est/{operation}"), &[user, &kind, &["--data-binary", &data], more].concat())
    }
}

fn path(prepared: &Prepared, name: &str) -> String {
    prepared.path(name).to_str().expect("an UTF-8 path").to_owned()
}

fn tool(program: &str, arguments: &[&str]) -> Vec<u8> {
    tool_with(program, arguments, b"")
}

fn tool_with(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; tests/run.sh installs it"));
    child.stdin.take().expect("its input").write_all(input).expect("written");
    let output = child.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
    output.stdout
}

#[test]
fn a_device_enrols_and_renews_by_est_with_plain_curl() {
    let own = Own::start();
    let (status, answer) = own.est(".well-known/est/cacerts", &[]);
    assert_eq!(status, 200);
    let authorities = own.keep(&answer, "cacerts.pem");
    assert_eq!(std::fs::read_to_string(&authorities).expect("a file").matches("BEGIN CERTIFICATE").count(), 2);

    let (key, body) = own.request("exam-1");
    let code = own.new_code(DOCTOR);
    let user = format!("{DOCTOR}:{code}");
    assert_eq!(own.enrol("", &body, "simpleenroll", &[]).0, 401);
    assert_eq!(own.enrol(&format!("{DOCTOR}:AAAAA-AAAAA-AAAAA-AAAAA"), &body, "simpleenroll", &[]).0, 401);
    let (status, answer) = own.enrol(&user, &body, "simpleenroll", &[]);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    let certificate = own.keep(&answer, "exam-1.crt");
    assert_eq!(own.enrol(&user, &body, "simpleenroll", &[]).0, 401, "a code is used once");
    let root = own.path("ca/root.crt");
    tool("openssl", &["verify", "-purpose", "sslclient", "-CAfile", &root, "-untrusted", &authorities, &certificate]);
    let chain = own.path("exam-1.pem");
    let both =
        [std::fs::read(&certificate).expect("a file"), std::fs::read(own.path("ca/issuing.crt")).expect("a file")];
    std::fs::write(&chain, both.concat()).expect("a file");
    assert_eq!(own.asks(&["--cert", &chain, "--key", &key]).as_deref(), Some("200"));

    let issued = own.clinic.wait_for_record("the issuance", |record| {
        let change: Value = serde_json::from_str(text(record, "change")).unwrap_or(Value::Null);
        let change = if change.is_null() { record["change"].clone() } else { change };
        change["verb"] == "issue" && change["after"]["origin"] == "code"
    });
    assert!(text(&issued, "actor").starts_with(&format!("device {DOCTOR} from 127.0.0.1")), "{issued}");

    // Ninety days are left: too early.
    let identity = ["--cert", &chain, "--key", &key];
    assert_eq!(own.enrol("", &body, "simplereenroll", &identity).0, 403);
    assert_eq!(own.enrol("", &body, "simplereenroll", &[]).0, 403);
    let csr = own.path("exam-1.csr");
    let near = own.path("near.pem");
    own.good(&["enrol", DOCTOR, "--csr", &csr, "--out", &near, "--days", "20"]);
    let identity = ["--cert", &near, "--key", &key];
    let (next_key, next_body) = own.request("next");
    let (status, answer) = own.enrol("", &next_body, "simplereenroll", &identity);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    let next = own.keep(&answer, "next.crt");
    let both = [std::fs::read(&next).expect("a file"), std::fs::read(own.path("ca/issuing.crt")).expect("a file")];
    std::fs::write(&next, both.concat()).expect("a file");
    assert_eq!(own.asks(&["--cert", &next, "--key", &next_key]).as_deref(), Some("200"));

    // Once revoked, it comes in no more and renews nothing, and the list says so at once.
    own.good(&["revoke", DOCTOR, "--reason", "keyCompromise"]);
    until("a refusal", || own.asks(&["--cert", &next, "--key", &next_key]).is_none().then_some(()));
    // That one may have been cut while it asked; the next is refused at the door.
    assert_eq!(own.asks(&["--cert", &next, "--key", &next_key]), None);
    own.clinic.wait_for_record("the refusal", |record| text(record, "reason") == "certificate-revoked");
    assert_eq!(own.enrol("", &next_body, "simplereenroll", &identity).0, 403);
    let (status, list) = own.est("crl/issuing.crl", &[]);
    assert_eq!(status, 200);
    let shown = tool_with("openssl", &["crl", "-inform", "DER", "-noout", "-text"], &list);
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert_eq!(shown.matches("Serial Number").count(), 3, "{shown}");
    assert!(shown.contains("Key Compromise"), "{shown}");
    assert_eq!(own.est("crl/root.crl", &[]).0, 200);
    assert_eq!(own.est("ca/issuing.key", &[]).0, 404);
    assert_eq!(own.est("crl/../issuing.key", &["--path-as-is"]).0, 404);
    own.clinic.wait_for_record("the revocation", |record| record.to_string().contains("keyCompromise"));
}

#[test]
fn whatever_a_request_asks_for_the_registry_names_the_device() {
    let own = Own::start();
    let (csr, key) = (own.path("c.csr"), own.path("c.key"));
    let wishes = "subjectAltName=URI:spiffe://sekisho.example/site/other/device/root,DNS:gateway";
    let arguments = ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-out", &csr, "-subj", "/CN=x"];
    let wanted = ["-addext", wishes, "-addext", "basicConstraints=CA:TRUE"];
    tool("openssl", &[&arguments[..], &wanted].concat());
    let pem = own.good(&["enrol", DOCTOR, "--csr", &csr]);
    let shown = tool_with("openssl", &["x509", "-noout", "-text"], pem.as_bytes());
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(shown.contains(&format!("/site/{}", DOCTOR.replace('/', "/device/"))), "{shown}");
    assert!(!shown.contains("other") && !shown.contains("DNS:") && shown.contains("CA:FALSE"), "{shown}");
    // A request whose signature was changed, and a device that nobody registered.
    let mut der = tool("openssl", &["req", "-in", &csr, "-outform", "DER"]);
    *der.last_mut().expect("bytes") ^= 1;
    std::fs::write(&csr, der).expect("a file");
    let forged = own.device(&["enrol", DOCTOR, "--csr", &csr]);
    assert_eq!(forged.code, Some(1));
    assert!(forged.stderr.contains("signature"), "{}", forged.stderr);
    let nobody = own.device(&["enrol", "sakura-clinic/exam-99", "--pem", &own.path("p")]);
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.stderr.contains("no device"), "{}", nobody.stderr);
}

#[test]
fn wrong_codes_are_recorded_and_slow_and_shut_nobody_out() {
    let own = Own::start();
    let (_, body) = own.request("guess");
    let code = own.new_code(DOCTOR);
    let guess = |number: u32| {
        let begun = std::time::Instant::now();
        let user = format!("{DOCTOR}:AAAAA-AAAAA-AAAAA-AAA{number:02}");
        let (status, answer) = own.enrol(&user, &body, "simpleenroll", &[]);
        assert_eq!(status, 401);
        assert!(answer.starts_with(b"enrolment-code: "), "{}", String::from_utf8_lossy(&answer));
        begun.elapsed()
    };
    let free: Vec<_> = (0..10).map(guess).collect();
    assert!(free.iter().min().is_some_and(|took| took.as_millis() < 900), "{free:?}");
    let slow: Vec<_> = (10..12).map(guess).collect();
    assert!(slow.iter().all(|took| took.as_millis() >= 1_000), "{slow:?}");
    let (_, page) = own.clinic.admin_get("/metrics");
    let counted =
        |line: &&str| line.starts_with("sekisho_enrolments_total{") && line.contains("outcome=\"enrolment-code\"");
    let line = page.lines().find(counted).unwrap_or_else(|| panic!("not counted: {page}"));
    assert!(line.ends_with("} 12"), "{line}");
    // One of the strangers' records tells of them all until the interval ends.
    let refusal = |record: &Value| text(record, "kind") == "refusal" && text(record, "stage") == "enrolment";
    let record = own.clinic.wait_for_record("the refusal", refusal);
    assert_eq!(text(&record, "reason"), "enrolment-code", "{record}");
    assert_eq!(format!("{}/{}", text(&record, "site"), text(&record, "device")), DOCTOR);
    assert!(text(&record, "detail").contains("wrong") && text(&record, "source").starts_with("127.0.0.1:"), "{record}");
    assert_eq!(own.clinic.records().iter().filter(|record| refusal(record)).count(), 1);
    // Whoever has the right code gets in, though others at his address tried so often.
    let (status, answer) = own.enrol(&format!("{DOCTOR}:{code}"), &body, "simpleenroll", &[]);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn who_sits_on_every_connection_keeps_nobody_out() {
    let own = Own::start();
    let (_, body) = own.request("newcomer");
    let user = format!("{DOCTOR}:{}", own.new_code(DOCTOR));
    // From several networks, more than there is room for.
    let silent: Vec<_> =
        (0..320).map(|number: u16| connect_from([127, 0, 1 + (number % 8) as u8, 1], own.est)).collect();
    let begun = std::time::Instant::now();
    let (status, answer) = own.enrol(&user, &body, "simpleenroll", &[]);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    assert!(begun.elapsed().as_secs() < 5, "only after {:?}", begun.elapsed());
    let record = own.clinic.wait_for_record("the one who gave way", |record| {
        text(record, "listener") == "enrolment" && text(record, "reason") == "too-many-connections"
    });
    assert_eq!(text(&record, "stage"), "accept", "{record}");
    drop(silent);
}

#[test]
fn each_refusal_has_its_reason_in_answer_metric_and_record() {
    let own = Own::start();
    let (key, body) = own.request("renew");
    let chain = own.path("renew.pem");
    own.good(&["enrol", DOCTOR, "--csr", &own.path("renew.csr"), "--out", &chain]);
    let user = format!("{DOCTOR}:{}", own.new_code(DOCTOR));
    let garbage = own.path("garbage.b64");
    std::fs::write(&garbage, "bm90IGEgcmVxdWVzdA==\n").expect("a file");
    let identity = ["--cert", &chain, "--key", &key];
    for (reason, detail, (status, answer)) in [
        ("enrolment-request", "", own.enrol(&user, &garbage, "simpleenroll", &[])),
        ("enrolment-renewal", "too early", own.enrol("", &body, "simplereenroll", &identity)),
        ("enrolment-code", "no code", own.enrol("", &body, "simpleenroll", &[])),
    ] {
        assert!((400..404).contains(&status), "{reason}: {status}");
        assert!(answer.starts_with(format!("{reason}: ").as_bytes()), "{}", String::from_utf8_lossy(&answer));
        let of = |record: &Value| text(record, "kind") == "refusal" && text(record, "reason") == reason;
        let record = own.clinic.wait_for_record(reason, of);
        assert_eq!((text(&record, "listener"), text(&record, "stage")), ("enrolment", "enrolment"), "{record}");
        assert!(text(&record, "detail").contains(detail), "{record}");
        let (_, page) = own.clinic.admin_get("/metrics");
        let counted = format!("outcome=\"{reason}\"");
        assert!(page.lines().any(|line| line.starts_with("sekisho_enrolments_total{") && line.contains(&counted)));
    }
    // A certificate of another authority does not come so far; its refusal is the one of every listener.
    let stranger = own.clinic.pki().device(DOCTOR);
    let (file, key) = (own.path("stranger.crt"), own.path("stranger.key"));
    std::fs::write(&file, &stranger.certificate_pem).expect("a file");
    std::fs::write(&key, &stranger.key_pem).expect("a file");
    let url = format!("https://localhost:{}/.well-known/est/cacerts", own.est.port());
    let arguments = ["-sS", "--cacert", &own.path("tls/servers-ca.crt"), "--cert", &file, "--key", &key, &url];
    assert!(!Command::new("curl").args(arguments).output().expect("curl").status.success());
    let record = own.clinic.wait_for_record("the refusal", |record| {
        text(record, "listener") == "enrolment" && text(record, "reason") == "certificate-untrusted"
    });
    assert_eq!(text(&record, "stage"), "handshake", "{record}");
}

#[test]
fn a_certificate_is_renewed_once_and_a_lost_answer_is_given_again() {
    let own = Own::start();
    let (key, _) = own.request("old");
    let near = own.path("near.pem");
    own.good(&["enrol", DOCTOR, "--csr", &own.path("old.csr"), "--out", &near, "--days", "20"]);
    let identity = ["--cert", near.as_str(), "--key", key.as_str()];
    let (_, mine) = own.request("mine");
    let (_, other) = own.request("other");
    // Two keys at once: one is certified.
    let both: Vec<(u16, Vec<u8>)> = std::thread::scope(|scope| {
        let start = |body: &str| {
            let (curl, identity, body) = (own.curl(), identity.map(str::to_owned), body.to_owned());
            scope.spawn(move || curl.enrol("", &body, "simplereenroll", &identity.each_ref().map(String::as_str)))
        };
        let all = [start(&mine), start(&other)];
        all.map(|one| one.join().expect("its end")).into()
    });
    let statuses: Vec<u16> = both.iter().map(|(status, _)| *status).collect();
    assert!(statuses == [200, 403] || statuses == [403, 200], "{statuses:?}");
    let won = statuses.iter().position(|status| *status == 200).expect("one");
    let bodies = [mine, other];
    for _ in 0..3 {
        let again = own.enrol("", &bodies[won], "simplereenroll", &identity);
        assert_eq!(again, both[won], "the same certificate");
        let (status, answer) = own.enrol("", &bodies[1 - won], "simplereenroll", &identity);
        assert_eq!(status, 403);
        assert!(String::from_utf8_lossy(&answer).starts_with("enrolment-renewal: "));
    }
    let listed = own.clinic.prepared.try_registry(&["device", "certificates", DOCTOR, "--json"]);
    let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let all = listed.as_array().or_else(|| listed["certificates"].as_array()).expect("a list");
    assert_eq!(all.len(), 2, "{listed}");
}

#[test]
fn of_many_at_once_a_code_serves_one() {
    let own = Own::start();
    let (_, body) = own.request("race");
    let user = format!("{DOCTOR}:{}", own.new_code(DOCTOR));
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let est = own.est;
        let ca = own.path("tls/servers-ca.crt");
        let all: Vec<_> = (0..6)
            .map(|_| {
                let (user, body, ca) = (user.clone(), format!("@{body}"), ca.clone());
                scope.spawn(move || {
                    let url = format!("https://127.0.0.1:{}/.well-known/est/simpleenroll", est.port());
                    let kind = "Content-Type: application/pkcs10";
                    let arguments = ["-sS", "--cacert", &ca, "-u", &user, "-H", kind, "--data-binary", &body];
                    let out =
                        tool("curl", &[&arguments[..], &["-o", "/dev/null", "-w", "%{http_code}", &url]].concat());
                    String::from_utf8_lossy(&out).parse().expect("a status")
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().expect("its end")).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
}

#[test]
fn lists_are_served_in_the_clear_and_nothing_else_is() {
    let mut prepared = Clinic::builder().prepare();
    make_authority(&prepared, &[]);
    let crl = free_port();
    prepared.reconfigure(|config| {
        config.set("enrolment", "directory", "ca");
        config.set("enrolment", "crl_listen", crl.to_string());
    });
    let clinic = prepared.start();
    let get = |target: &str| {
        let url = format!("http://{crl}/{target}");
        let out = tool("curl", &["-sS", "--path-as-is", "-o", "/dev/null", "-w", "%{http_code} %{content_type}", &url]);
        String::from_utf8_lossy(&out).into_owned()
    };
    assert_eq!(get("crl/issuing.crl"), "200 application/pkix-crl");
    assert_eq!(get("crl/root.crl"), "200 application/pkix-crl");
    for nothing in ["", "crl/", "crl/../ca.toml", "crl/%2e%2e/ca.toml", ".well-known/est/cacerts", "issuing.key"] {
        assert!(get(nothing).starts_with("404 "), "{nothing}");
    }
    // A removed device's certificates are on the list without anybody's doing.
    let ca = path(&clinic.prepared, "ca");
    let pem = path(&clinic.prepared, "pem");
    let enrol = ["device", "enrol", DOCTOR, "--pem", &pem, "--ca", &ca];
    assert_eq!(clinic.prepared.try_registry(&enrol).code, Some(0));
    assert_eq!(clinic.prepared.try_registry(&["device", "remove", DOCTOR]).code, Some(0));
    until("the removed device's certificate on the list", || {
        let list = tool("curl", &["-sS", &format!("http://{crl}/crl/issuing.crl")]);
        let shown = tool_with("openssl", &["crl", "-inform", "DER", "-noout", "-text"], &list);
        String::from_utf8_lossy(&shown).contains("Cessation Of Operation").then_some(())
    });
}

#[test]
fn a_new_server_certificate_is_taken_where_devices_enrol() {
    let own = Own::start();
    let ends = || {
        let (_, page) = own.clinic.admin_get("/metrics");
        let line = page.lines().find(|line| line.contains("kind=\"enrolment\"")).unwrap_or_default().to_owned();
        assert!(page.contains("kind=\"issuing-ca\""), "{page}");
        line
    };
    let shown = || {
        let to = own.est.to_string();
        let out = tool_with("openssl", &["s_client", "-connect", &to, "-servername", "localhost"], b"");
        String::from_utf8_lossy(&out).split("-----END CERTIFICATE-----").next().unwrap_or_default().to_owned()
    };
    let (before, metric) = (shown(), ends());
    assert!(before.contains("BEGIN CERTIFICATE"), "{before}");
    std::thread::sleep(std::time::Duration::from_secs(1));
    let server = own.clinic.pki().server(&["localhost", "127.0.0.1"]);
    own.clinic.prepared.write("tls/server.crt", &server.certificate_pem);
    own.clinic.prepared.write("tls/server.key", &server.key_pem);
    own.clinic.gateway.signal(rustix::process::Signal::HUP);
    until("the new certificate", || (shown() != before && ends() != metric).then_some(()));
}

const PYTHON: &str = r"
import socket, ssl, sys
host, port, ca, cert, key = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.load_cert_chain(cert, key)
with context.wrap_socket(socket.create_connection((host, int(port))), server_hostname='localhost') as s:
    s.sendall(b'GET /fhir/Patient/1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
    print(s.recv(4096).split(b'\r\n')[0].decode())
";

#[test]
fn curl_openssl_python_and_gnutls_connect_with_what_was_enrolled() {
    let own = Own::start();
    own.good(&["enrol", DOCTOR, "--pem", &own.path("pem")]);
    let (certificate, key) = (own.path("pem/exam-1.crt"), own.path("pem/exam-1.key"));
    let p12 = own.path("exam-1.p12");
    let answer: Value = serde_json::from_str(&own.good(&["enrol", DOCTOR, "--p12", &p12, "--json"])).expect("JSON");
    let password = text(&answer, "password").to_owned();

    assert_eq!(own.asks(&["--cert", &certificate, "--key", &key]).as_deref(), Some("200"));
    let with_password = format!("{p12}:{password}");
    assert_eq!(own.asks(&["--cert-type", "P12", "--cert", &with_password]).as_deref(), Some("200"));

    // openssl opens it by its defaults: nothing of it is from the days of RC2.
    let pass = format!("pass:{password}");
    let opened = tool("openssl", &["pkcs12", "-in", &p12, "-passin", &pass, "-nodes"]);
    let opened = String::from_utf8_lossy(&opened).into_owned();
    assert_eq!((opened.matches("BEGIN CERTIFICATE").count(), opened.matches("BEGIN PRIVATE KEY").count()), (2, 1));
    tool("openssl", &["pkcs12", "-in", &p12, "-passin", &pass, "-noout"]);

    let port = own.clinic.door.address.port();
    let servers = own.path("tls/servers-ca.crt");
    let request = b"GET /fhir/Patient/1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let to = format!("127.0.0.1:{port}");
    let identity = ["-cert", &certificate, "-cert_chain", &certificate, "-key", &key];
    let arguments = ["s_client", "-quiet", "-ign_eof", "-verify_return_error", "-connect", &to];
    let names = ["-servername", "localhost", "-CAfile", &servers];
    let said = tool_with("openssl", &[&arguments[..], &names, &identity].concat(), request);
    assert!(String::from_utf8_lossy(&said).contains("HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));

    let python = tool("python3", &["-c", PYTHON, "127.0.0.1", &port.to_string(), &servers, &certificate, &key]);
    assert_eq!(String::from_utf8_lossy(&python).trim(), "HTTP/1.1 200 OK");

    let file = format!("--x509cafile={servers}");
    let with = [format!("--x509certfile={certificate}"), format!("--x509keyfile={key}")];
    let port = port.to_string();
    let arguments = ["--sni-hostname=localhost", "--verify-hostname=localhost", "--logfile=/dev/null", "-p", &port];
    let said = tool_with("gnutls-cli", &[&arguments[..], &[&file, &with[0], &with[1], "127.0.0.1"]].concat(), request);
    assert!(String::from_utf8_lossy(&said).contains("HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn other_validators_hold_the_issuing_ca_to_its_devices() {
    let own = Own::start();
    own.good(&["enrol", DOCTOR, "--pem", &own.path("pem")]);
    let (root, issuing) = (own.path("ca/root.crt"), own.path("ca/issuing.crt"));
    let certificate = own.path("pem/exam-1.crt");
    tool("openssl", &["verify", "-purpose", "sslclient", "-CAfile", &root, "-untrusted", &issuing, &certificate]);
    let gnutls = ["--verify", "--verify-profile", "medium", "--load-ca-certificate", &root, "--infile", &certificate];
    tool("certtool", &gnutls);

    // What somebody who got hold of the issuing CA's key would make.
    let (csr, key, evil, conf) = (own.path("e.csr"), own.path("e.key"), own.path("e.crt"), own.path("e.cnf"));
    tool("openssl", &["req", "-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-out", &csr, "-subj", "/O=x"]);
    let chain = own.path("e.pem");
    for (name, usage) in
        [("DNS:gateway.example", "serverAuth"), ("DNS:a", "clientAuth"), ("URI:spiffe://elsewhere/x", "clientAuth")]
    {
        std::fs::write(&conf, format!("subjectAltName={name}\nextendedKeyUsage={usage}\n")).expect("a file");
        let ca_key = own.path("ca/issuing.key");
        let sign = ["x509", "-req", "-in", &csr, "-CA", &issuing, "-CAkey", &ca_key, "-CAcreateserial"];
        tool("openssl", &[&sign[..], &["-extfile", &conf, "-out", &evil, "-days", "9"]].concat());
        let both = [std::fs::read(&evil).expect("a file"), std::fs::read(&issuing).expect("a file")];
        std::fs::write(&chain, both.concat()).expect("a file");
        let verify = ["verify", "-CAfile", &root, "-untrusted", &issuing, &evil];
        let status = Command::new("openssl").args(verify).output().expect("openssl").status;
        assert!(!status.success(), "openssl takes {name}");
        assert_eq!(own.asks(&["--cert", &chain, "--key", &key]), None, "we take {name}");
    }
}

#[test]
fn the_roots_key_is_under_its_passphrase_and_nothing_is_overwritten() {
    let prepared = Clinic::builder().prepare();
    make_authority(&prepared, &["--key", "p384", "--crl-url", "http://pki.example/crl"]);
    let key = path(&prepared, "ca/root.key");
    let good = format!("pass:{PASSPHRASE}");
    tool("openssl", &["pkey", "-in", &key, "-passin", &good, "-noout"]);
    let bad = Command::new("openssl").args(["pkey", "-in", &key, "-passin", "pass:other", "-noout"]).output();
    assert!(!bad.expect("openssl").status.success());
    let modes = |name: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(prepared.path(name)).expect("a file").permissions().mode() & 0o777
    };
    assert_eq!((modes("ca"), modes("ca/root.key"), modes("ca/issuing.key")), (0o700, 0o600, 0o600));
    let (folder, file) = (path(&prepared, "ca"), path(&prepared, "passphrase"));
    let before = std::fs::read(prepared.path("ca/issuing.crt")).expect("a file");
    let again = sekisho(&["ca", "init", "--dir", &folder, "--domain", "a.example", "--passphrase-file", &file]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("nothing is overwritten"), "{}", again.stderr);
    assert_eq!(std::fs::read(prepared.path("ca/issuing.crt")).expect("a file"), before);
    // The root comes back from its safe to say that the issuing CA still stands.
    std::fs::rename(&key, prepared.path("elsewhere.key")).expect("moved");
    let elsewhere = path(&prepared, "elsewhere.key");
    let list = ["ca", "crl", "--root", "--dir", &folder, "--root-key", &elsewhere, "--passphrase-file", &file];
    let renewed = sekisho(&list);
    assert_eq!(renewed.code, Some(0), "{}", renewed.stderr);
    let (root, crl) = (path(&prepared, "ca/root.crt"), path(&prepared, "ca/crl/root.crl"));
    tool("openssl", &["crl", "-inform", "DER", "-in", &crl, "-CAfile", &root, "-noout"]);
    // Others than the owner may read neither passphrase nor key.
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(prepared.path("passphrase"), std::fs::Permissions::from_mode(0o644)).expect("a mode");
    let open = sekisho(&list);
    assert_eq!(open.code, Some(1));
    assert!(open.stderr.contains("0644"), "{}", open.stderr);
}
