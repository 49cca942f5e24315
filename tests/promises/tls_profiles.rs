//! What a listener offers, as scanners see it: nothing outside its profile (R15).

use std::collections::BTreeSet;
use std::process::Command;

use gateway_tests::{Clinic, DOCTOR};
use serde_json::Value;

/// Suites of TLS 1.3 and, by their OpenSSL names, of TLS 1.2.
const TLS13: [&str; 3] = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
/// The tests' certificates have ECDSA keys, so that RSA's suites cannot be agreed on.
const TLS12: [&str; 3] =
    ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"];
const GROUPS: [&str; 3] = ["secp256r1 (NIST P-256)", "secp384r1 (NIST P-384)", "x25519"];

const PROFILES: [&str; 3] = ["cryptrec-high", "cryptrec-high-tls12", "compatible"];

fn clinic(profile: &str) -> Clinic {
    Clinic::builder().config(|config| config.set_tls("profile", profile)).start()
}

/// A clinic with a device's certificate and key in files.
fn with_client(profile: &str) -> Clinic {
    let clinic = clinic(profile);
    let identity = clinic.identity(DOCTOR);
    clinic.prepared.write("client.crt", &identity.certificate_pem);
    clinic.prepared.write("client.key", &identity.key_pem);
    clinic
}

fn has_tls12(profile: &str) -> bool {
    profile != "cryptrec-high"
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("`{program}`, which tests/run.sh installs: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The values of an attribute in the elements of this name that have `with` in them.
fn attributes<'x>(xml: &'x str, element: &str, with: &str, attribute: &str) -> BTreeSet<&'x str> {
    let start = format!("<{element} ");
    let of = |line: &'x str| line.split(&format!("{attribute}=\"")).nth(1)?.split('"').next();
    xml.lines().filter(|line| line.trim().starts_with(&start) && line.contains(with)).filter_map(of).collect()
}

#[test]
fn sslscan_finds_nothing_outside_the_profile() {
    for profile in PROFILES {
        let clinic = with_client(profile);
        let target = clinic.door.address.to_string();
        // With a certificate: without one it sees no handshake of TLS 1.2 end, and counts none.
        let certificate = format!("--certs={}", clinic.prepared.path("client.crt").display());
        let key = format!("--pk={}", clinic.prepared.path("client.key").display());
        let xml = run("sslscan", &["--no-colour", "--xml=-", "--sni-name=localhost", &certificate, &key, &target]);
        let versions = attributes(&xml, "protocol", "enabled=\"1\"", "version");
        // It does not offer the extended master secret, so that only `compatible` speaks TLS 1.2 with it.
        let seen = profile == "compatible";
        let expected: &[&str] = if seen { &["1.2", "1.3"] } else { &["1.3"] };
        assert_eq!(versions, expected.iter().copied().collect(), "{profile}: {xml}");
        assert_eq!(attributes(&xml, "cipher", "sslversion=\"TLSv1.3\"", "cipher"), TLS13.into(), "{profile}: {xml}");
        let tls12: BTreeSet<_> = if seen { TLS12.into() } else { BTreeSet::new() };
        assert_eq!(attributes(&xml, "cipher", "sslversion=\"TLSv1.2\"", "cipher"), tls12, "{profile}: {xml}");
        let groups = attributes(&xml, "group", "sslversion=\"TLSv1.3\"", "name");
        assert_eq!(groups, GROUPS.into(), "{profile}: {xml}");
        for weak in ["1.0", "1.1", "SSLv2", "SSLv3"] {
            assert!(
                !xml.contains(&format!("sslversion=\"{weak}")) && !xml.contains(&format!("\"TLSv{weak}\"")),
                "{xml}"
            );
        }
        assert!(xml.contains("<renegotiation supported=\"0\"") || xml.contains("secure=\"1\""), "{profile}: {xml}");
        assert!(!xml.contains("<heartbleed ") || !xml.contains("vulnerable=\"1\""), "{profile}: {xml}");
        // The scanner was only a stranger to it.
        assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200, "{profile}");
    }
}

/// About ten seconds of `testssl`: protocols, and what of forward secrecy is offered.
fn testssl(profile: &str) {
    let clinic = clinic(profile);
    let target = clinic.door.address.to_string();
    let file = clinic.prepared.path("testssl.json");
    let mut arguments = vec!["50", "testssl", "--quiet", "--color", "0", "--warnings", "off", "--ip", "one"];
    arguments.extend(["--protocols", "--pfs", "--jsonfile", file.to_str().expect("UTF-8"), &target]);
    let said = run("timeout", &arguments);
    let findings = std::fs::read_to_string(&file).unwrap_or_default();
    let findings: Value = serde_json::from_str(&findings).unwrap_or_else(|error| panic!("{error}: {said}"));
    let finding = |id: &str| {
        let all = findings.as_array().expect("a list");
        let found = all.iter().find(|one| one["id"] == id).unwrap_or_else(|| panic!("no {id}: {findings}"));
        found["finding"].as_str().unwrap_or_default().to_owned()
    };
    for id in ["SSLv2", "SSLv3", "TLS1", "TLS1_1"] {
        assert_eq!(finding(id), "not offered", "{id}: {findings}");
    }
    assert!(finding("TLS1_3").starts_with("offered"), "{findings}");
    // As sslscan, it asks for the version without the extended master secret, but not always.
    let tls12 = finding("TLS1_2").starts_with("offered");
    assert!(profile == "cryptrec-high-tls12" || tls12 == has_tls12(profile), "{findings}");
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
    let expected =
        TLS13.into_iter().chain(TLS12.into_iter().filter(|_| has_tls12(profile))).map(str::to_owned).collect();
    assert_eq!(words(finding("PFS_ciphers")), expected, "{findings}");
    assert_eq!(words(finding("PFS_ECDHE_curves")), words("prime256v1 secp384r1 X25519".to_owned()), "{findings}");
}

#[test]
fn testssl_finds_nothing_outside_cryptrec_high() {
    testssl("cryptrec-high");
}

#[test]
fn testssl_finds_nothing_outside_cryptrec_high_tls12() {
    testssl("cryptrec-high-tls12");
}

#[test]
fn testssl_finds_nothing_outside_compatible() {
    testssl("compatible");
}

/// One handshake of `openssl`, which offers exactly this: does the server agree?
fn agrees(clinic: &Clinic, arguments: &[&str]) -> bool {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &clinic.door.address.to_string(), "-servername", "localhost", "-brief"]);
    command.args(["-cipher", "ALL:@SECLEVEL=0"]).args(arguments).stdin(std::process::Stdio::null());
    command.arg("-cert").arg(clinic.prepared.path("client.crt")).arg("-key").arg(clinic.prepared.path("client.key"));
    let output = command.output().expect("`openssl` is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let agreed = said.contains("CONNECTION ESTABLISHED");
    assert!(agreed || said.contains("alert"), "neither an agreement nor an alert: {arguments:?}: {said}");
    agreed
}

#[test]
fn a_client_that_offers_one_thing_gets_it_or_nothing() {
    let high = with_client("cryptrec-high");
    for group in ["P-256", "P-384", "X25519"] {
        assert!(agrees(&high, &["-tls1_3", "-groups", group]), "{group}");
    }
    for group in ["P-521", "X448", "ffdhe2048", "ffdhe3072"] {
        assert!(!agrees(&high, &["-tls1_3", "-groups", group]), "{group}");
    }
    for suite in ["TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"] {
        assert!(!agrees(&high, &["-tls1_3", "-ciphersuites", suite]), "{suite}");
    }
    for suite in TLS13 {
        assert!(agrees(&high, &["-tls1_3", "-ciphersuites", suite]), "{suite}");
    }
    assert!(!agrees(&high, &["-tls1_2"]));
    for profile in ["cryptrec-high-tls12", "compatible"] {
        let clinic = with_client(profile);
        for suite in TLS12 {
            assert!(agrees(&clinic, &["-tls1_2", "-cipher", suite]), "{profile}: {suite}");
        }
        for suite in ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA", "ECDHE-ECDSA-AES256-CCM", "AES128-SHA"] {
            let suite = format!("{suite}:@SECLEVEL=0");
            assert!(!agrees(&clinic, &["-tls1_2", "-cipher", &suite]), "{profile}: {suite}");
        }
        for version in ["-tls1", "-tls1_1"] {
            assert!(!agrees(&clinic, &[version]), "{profile}: {version}");
        }
    }
}

#[test]
fn the_hybrid_groups_are_agreed_on() {
    use rustls::crypto::aws_lc_rs::kx_group;
    for profile in PROFILES {
        let clinic = clinic(profile);
        for group in [kx_group::X25519MLKEM768, kx_group::SECP256R1MLKEM768, kx_group::SECP384R1] {
            let wire = clinic.handshake(DOCTOR).only_group(group).open();
            let agreed = wire.tls().negotiated_key_exchange_group().expect("a group").name();
            assert_eq!(agreed, group.name(), "{profile}");
        }
        for group in [kx_group::MLKEM768, kx_group::MLKEM1024] {
            let _ = clinic.handshake(DOCTOR).only_group(group).refused();
        }
    }
}

#[test]
fn tls12_without_the_extended_master_secret_is_only_compatible() {
    for (profile, taken) in [("cryptrec-high-tls12", false), ("compatible", true)] {
        let clinic = with_client(profile);
        let python = format!(
            "import ssl, socket\nc = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)\nc.check_hostname = False\n\
             c.verify_mode = ssl.CERT_NONE\nc.maximum_version = ssl.TLSVersion.TLSv1_2\n\
             c.load_cert_chain('{crt}', '{key}')\nc.options |= {NO_EMS:#x}\n\
             s = c.wrap_socket(socket.create_connection(('127.0.0.1', {port})), server_hostname='localhost')\n\
             s.sendall(b'GET /fhir/Patient/1 HTTP/1.1\\r\\nHost: localhost:{port}\\r\\nConnection: close\\r\\n\\r\\n')\n\
             print(s.version(), s.session.has_ticket, s.recv(4096))\n",
            crt = clinic.prepared.path("client.crt").display(),
            key = clinic.prepared.path("client.key").display(),
            port = clinic.door.address.port(),
        );
        let said = run("python3", &["-c", &python]);
        assert_eq!(said.contains("HTTP/1.1 200"), taken, "{profile}: {said}");
        // What could be spliced is not resumed.
        assert!(!taken || said.contains("TLSv1.2 False"), "{profile}: {said}");
        // With it, both are served.
        assert_eq!(clinic.handshake(DOCTOR).tls12().open().get("/fhir/Patient/1").status, 200, "{profile}");
    }
}

/// OpenSSL's `SSL_OP_NO_EXTENDED_MASTER_SECRET`.
const NO_EMS: u64 = 1;

#[test]
fn the_log_says_what_a_profile_gives_away() {
    for (profile, expected) in [
        ("cryptrec-high", &[][..]),
        ("cryptrec-high-tls12", &["TLS 1.2 is taken"]),
        ("compatible", &["TLS 1.2 is taken", "without the extended master secret", "sessions are not resumed"]),
    ] {
        let clinic = clinic(profile);
        gateway_tests::until("the start to be told", || clinic.gateway.said().contains("serving").then_some(()));
        let said = clinic.gateway.said();
        let told = said.lines().filter(|line| line.contains("weaker than `cryptrec-high`")).count();
        assert_eq!(told, expected.len(), "{profile}: {said}");
        assert!(expected.iter().all(|part| said.contains(part)), "{profile}: {said}");
    }
}
