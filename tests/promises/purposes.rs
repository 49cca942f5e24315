//! One purpose for each door (R1, R2, R18): devices, users by HPKI and patients, all certified by the very same CA, and no
//! certificate opens another's door. What a card says becomes roles in policy and log; suspension, the end of a binding
//! and revocation end live connections and resumed sessions.
//!
//! The certificates are made by OpenSSL in the shape of real HPKI ones; the clients are curl and `openssl s_client`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway_tests::audit::{is, text};
use gateway_tests::openssl::Ca;
use gateway_tests::{Clinic, DOCTOR, Identity, Prepared, sekisho, until};
use serde_json::{Value, json};

const AUTHENTICATION: &str = "1.2.392.100495.1.5.1.2.3.1";
const AUTHENTICATION_TEST: &str = "1.2.392.100495.1.5.1.2.0.1";
const SIGNATURE: &str = "1.2.392.100495.1.5.1.1.3.1";
const PATIENTS: &str = "1.2.392.200149.8.5.1.3.30";

const USER: &str = "sakura-clinic/dr-yamada";
const NUMBER: &str = "117120";

const POLICIES: &str = r#"
// Every device, with whatever user: all of it. Nobody else.
@id("terminals") permit(principal, action, resource);
@id("staff-reads") @device("none") permit(
  principal in Sekisho::Role::"medical-doctor",
  action == Sekisho::Action::"read",
  resource in Sekisho::InformationClass::"clinical"
) when { context.authentication_level >= 2 };
@id("own-appointments") @principal("patient") permit(
  principal is Sekisho::Patient,
  action in [Sekisho::Action::"read", Sekisho::Action::"search"],
  resource in Sekisho::InformationClass::"administrative"
);
@id("nobodys") forbid(principal, action, resource in Sekisho::InformationClass::"nobodys");
"#;

const ROLES_FILE: &str = "[[role]]\ntext = \"Director of Clinic\"\nrole = \"head\"\njapanese = \"院長\"\n";

/// Root and issuing CA. The issuing one certifies for every purpose there is.
struct Authorities {
    root: Ca,
    issuing: Ca,
}

impl Authorities {
    fn new() -> Self {
        let root = Ca::root("MHLW HPKI Root CA of the tests");
        let more = format!(
            "certificatePolicies = critical,@p0,{AUTHENTICATION_TEST},{SIGNATURE},{PATIENTS}\n\
             [p0]\npolicyIdentifier = {AUTHENTICATION}\nCPS.1 = http://hpki.mhlw.example/repository/\n"
        );
        Self { issuing: root.below_with("HPKI-01-TestAuthCA-forIndividual", &[], &more), root }
    }

    /// A card as MEDIS makes them: critical policies, hcRole in two sets, the Japanese name in the SAN, no EKU.
    fn card(&self, policy: &str, usage: &str, roles: &[&str]) -> Identity {
        let mut extensions = format!(
            "basicConstraints = critical,CA:FALSE\nkeyUsage = critical,{usage}\nauthorityKeyIdentifier = keyid\n\
             subjectAltName = ASN1:SEQUENCE:san\ncertificatePolicies = critical,@pol\n2.5.29.9 = ASN1:SEQUENCE:sda\n\
             [pol]\npolicyIdentifier = {policy}\nCPS.1 = http://www.medis.example/8_hpki/\n\
             [san]\nd = EXPLICIT:4,SEQUENCE:japanese\n[japanese]\na = SET:o\nb = SET:cn\n\
             [o]\na = SEQUENCE:o_a\n[cn]\na = SEQUENCE:cn_a\n\
             [o_a]\nt = OID:2.5.4.10\nv = FORMAT:UTF8,UTF8String:さくら診療所\n\
             [cn_a]\nt = OID:2.5.4.3\nv = FORMAT:UTF8,UTF8String:山田太郎\n\
             [sda]\na = SEQUENCE:attr\n[attr]\ntype = OID:1.0.17090.0.1\nvals = SET:vals\n[vals]\nv = SET:actors\n[actors]\n"
        );
        for index in 0..roles.len() {
            extensions.push_str(&format!("a{index} = SEQUENCE:actor{index}\n"));
        }
        for (index, role) in roles.iter().enumerate() {
            extensions.push_str(&format!(
                "[actor{index}]\nc = EXPLICIT:0,SET:code{index}\n[code{index}]\n\
                 s = EXPLICIT:0,OID:1.2.392.100495.1.6.1.1\nt = EXPLICIT:2,UTF8String:{role}\n"
            ));
        }
        let subject = format!("/C=JP/O=Sakura Clinic/CN=TARO YAMADA/serialNumber={NUMBER}");
        self.issuing.card(&subject, &extensions)
    }

    fn doctor(&self) -> Identity {
        self.card(AUTHENTICATION, "digitalSignature", &["Medical Doctor", "Director of Clinic", "Fortune Teller"])
    }

    fn patient(&self) -> Identity {
        let extensions = format!(
            "basicConstraints = critical,CA:FALSE\nkeyUsage = critical,digitalSignature\n\
             certificatePolicies = critical,{PATIENTS}\nauthorityKeyIdentifier = keyid\n"
        );
        self.issuing.card("/C=JP/CN=HANAKO SUZUKI/serialNumber=P-0042", &extensions)
    }
}

/// A listener beside the first, whose anchor is the same root.
fn listener(name: &str, more: &str) -> String {
    format!(
        "[[listener]]\nname = \"{name}\"\naddress = \"127.0.0.1:0\"\nserver_names = [\"localhost\"]\n\
         tls = {{ certificate_file = \"tls/server.crt\", key_file = \"tls/server.key\", client_ca_file = \
         \"tls/root.crt\", revocation = {{ crl_directory = \"crl\" }}, {more} }}\n"
    )
}

/// Three doors whose anchor is the same root.
fn prepare(authorities: &Authorities) -> Prepared {
    let prepared = Clinic::builder()
        .policy("all.cedar", POLICIES)
        .config(|config| {
            // One authority for all of them is what is tried here.
            config.set("trust", "patients_apart", false);
            config.set_tls("client_ca_file", "tls/root.crt");
            config.append(&listener(
                "staff",
                "peers = \"users\", profile = \"cryptrec-high-tls12\", users = { roles_file = \"roles.toml\" }",
            ));
            let patients = format!("peers = \"patients\", patients = {{ policies = [\"{PATIENTS}\"] }}");
            config.append(&listener("patients", &patients));
        })
        .prepare();
    std::fs::create_dir(prepared.path("crl")).expect("a folder");
    prepared.write("tls/root.crt", authorities.root.certificate_pem());
    prepared.write("roles.toml", ROLES_FILE);
    prepared.registry(&["user", "add", USER, "--role", "nurse"]);
    prepared
}

fn file(clinic: &Clinic, name: &str) -> String {
    clinic.prepared.path(name).to_str().expect("UTF-8").to_owned()
}

/// Writes certificate and key, and returns their paths.
fn kept(prepared: &Prepared, name: &str, identity: &Identity) -> (String, String) {
    let path = |suffix: &str| -> PathBuf { prepared.path(&format!("{name}.{suffix}")) };
    prepared.write(&format!("{name}.crt"), &identity.certificate_pem);
    prepared.write(&format!("{name}.key"), &identity.key_pem);
    (path("crt").to_str().expect("UTF-8").to_owned(), path("key").to_str().expect("UTF-8").to_owned())
}

/// What curl gets: the status, or none where the connection was refused.
fn curl(clinic: &Clinic, door: &str, identity: &Identity, target: &str) -> Option<u16> {
    let (certificate, key) = kept(&clinic.prepared, "curl", identity);
    let port = clinic.door_of(door).address.port();
    let output = Command::new("curl")
        .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "20", "--path-as-is"])
        .args(["--cacert", &file(clinic, "tls/servers-ca.crt"), "--cert", &certificate, "--key", &key])
        .args(["--resolve", &format!("localhost:{port}:127.0.0.1"), &format!("https://localhost:{port}{target}")])
        .output()
        .expect("curl is installed");
    let status: u16 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a status");
    (status != 0).then_some(status)
}

fn bind(clinic: &Clinic, card: &Identity) {
    let (certificate, _) = kept(&clinic.prepared, "bound", card);
    registry(clinic, &["user", "certificate", "add", USER, &certificate]);
}

/// Waits until the registry's change is in force, by the record of it.
fn registry(clinic: &Clinic, arguments: &[&str]) {
    let count = || clinic.records().iter().filter(|record| is(record, "registry-change")).count();
    let before = count();
    clinic.registry(arguments);
    until("the change", || (count() > before).then_some(()));
}

/// How often a listener refused a handshake for this reason.
fn refused(clinic: &Clinic, listener: &str, reason: &str) -> f64 {
    clinic.metric("sekisho_handshakes_total", &[("listener", listener), ("outcome", reason)])
}

fn claims(clinic: &Clinic) -> Value {
    let token = clinic.backend().last().values("sekisho-identity").remove(0);
    let part = token.split('.').nth(1).expect("a JWT");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

#[test]
fn no_certificate_opens_another_purposes_door() {
    let authorities = Authorities::new();
    let clinic = prepare(&authorities).start();
    let doctor = authorities.doctor();
    bind(&clinic, &doctor);
    let sign = authorities.card(SIGNATURE, "digitalSignature,nonRepudiation", &["Medical Doctor"]);
    let only_signs = authorities.card(AUTHENTICATION, "nonRepudiation", &["Medical Doctor"]);
    let test_card = authorities.card(AUTHENTICATION_TEST, "digitalSignature", &["Medical Doctor"]);
    let mixed =
        authorities.issuing.device_with(DOCTOR, &[], &format!("certificatePolicies = critical,{AUTHENTICATION}"));
    let (identity, policy, purpose) = ("certificate-identity", "certificate-policy", "certificate-purpose");
    let table = [
        ("device", authorities.issuing.device(DOCTOR, &[]), ["", policy, policy]),
        ("card", doctor, [identity, "", policy]),
        ("patient", authorities.patient(), [identity, policy, ""]),
        ("card for signatures", sign, [identity, policy, policy]),
        ("card whose key only signs", only_signs, [purpose, purpose, purpose]),
        ("test card", test_card, [identity, policy, policy]),
        ("device under HPKI's policy", mixed, [purpose, purpose, policy]),
    ];
    for (name, identity, expected) in &table {
        for (door, reason) in ["clinics", "staff", "patients"].iter().zip(expected) {
            let before = refused(&clinic, door, reason);
            let seen = curl(&clinic, door, identity, "/appointments/Appointment/1");
            if reason.is_empty() {
                assert!(seen.is_some(), "{name} at {door}: {:#?}", clinic.records().last());
            } else {
                assert_eq!(seen, None, "{name} at {door}");
                // Counted once the client has had time to read the alert.
                until(&format!("{reason} for the {name} at {door}"), || {
                    (refused(&clinic, door, reason) > before + 0.5).then_some(())
                });
            }
        }
    }
    let record = clinic.wait_for_record("a device's refusal at the users' door", |record| {
        text(record, "listener") == "staff" && text(record, "reason") == policy
    });
    assert!(!text(&record, "detail").is_empty(), "{record}");
}

#[test]
fn a_card_becomes_roles_in_policy_and_log() {
    let authorities = Authorities::new();
    let clinic = prepare(&authorities).start();
    let doctor = authorities.doctor();

    // A qualification is no place of work.
    assert_eq!(curl(&clinic, "staff", &doctor, "/fhir/Patient/1"), None);
    let record = clinic.wait_for_record("the refusal", |record| text(record, "reason") == "user-unregistered");
    assert!(text(&record, "detail").starts_with(&format!("number `{NUMBER}` of issuer `")), "{record}");

    bind(&clinic, &doctor);
    assert_eq!(curl(&clinic, "staff", &doctor, "/fhir/Patient/1"), Some(200));
    let record = clinic.wait_for_record("the request", |record| text(record, "target") == "/fhir/Patient/1");
    assert_eq!(record["decision"], "permit", "{record}");
    assert_eq!(record["policies"], json!(["staff-reads"]));
    assert_eq!(record["user"], "dr-yamada");
    // Of the registry, of the operator's table, and of the table that ships.
    assert_eq!(record["roles"], json!(["head", "medical-doctor", "nurse"]));
    assert_eq!(record["authentication"], "user");
    let connection = &record["connection"];
    assert_eq!((&connection["site"], &connection["user"]), (&json!("sakura-clinic"), &json!("dr-yamada")));
    let mut qualifications: Vec<_> = connection["qualifications"].as_array().expect("a list").clone();
    qualifications.sort_by_key(ToString::to_string);
    assert_eq!(qualifications, ["Director of Clinic", "Fortune Teller", "Medical Doctor"]);
    assert!(connection.get("device").is_none() && record.get("patient").is_none(), "{record}");
    assert_eq!(text(&record, "connection.certificate.sha256").len(), 64);
    let opened = clinic.wait_for_record("the connection", |record| is(record, "connection-opened"));
    assert_eq!(opened["connection"]["user"], "dr-yamada");

    let claims = claims(&clinic);
    assert_eq!((&claims["sub"], &claims["level"]), (&json!("user:sakura-clinic/dr-yamada"), &json!("user")));
    assert!(claims.get("device").is_none(), "{claims}");
    assert!(!clinic.backend().last().values("client-cert").is_empty());

    // What the policy for people without a device does not say is closed, whatever devices may do.
    assert_eq!(curl(&clinic, "staff", &doctor, "/appointments/Appointment/1"), Some(403));
    let denied = clinic.wait_for_record("the denial", |record| text(record, "reason") == "policy-no-permit");
    assert_eq!(denied["user"], "dr-yamada");

    // A role that the registry suspends counts for nobody, whatever the card says.
    registry(&clinic, &["role", "add", "medical-doctor"]);
    registry(&clinic, &["role", "suspend", "medical-doctor"]);
    assert_eq!(curl(&clinic, "staff", &doctor, "/fhir/Patient/2"), Some(403));
}

#[test]
fn a_patient_reaches_only_what_names_patients() {
    let authorities = Authorities::new();
    let clinic = prepare(&authorities).start();
    let patient = authorities.patient();
    assert_eq!(curl(&clinic, "patients", &patient, "/appointments/Appointment/1"), Some(200));
    let claims = claims(&clinic);
    let record = clinic.wait_for_record("the request", |record| text(record, "decision") == "permit");
    let name = text(&record, "patient").to_owned();
    let (issuer, id) = name.split_once('/').expect("issuer and id");
    assert_eq!((issuer.len(), id), (32, "P-0042"), "{record}");
    assert_eq!(record["connection"]["patient"], name.as_str());
    assert_eq!(record["policies"], json!(["own-appointments"]));
    assert!(record["connection"].get("site").is_none() && record.get("user").is_none(), "{record}");
    assert_eq!((&claims["patient"], &claims["sub"]), (&json!(name), &json!(format!("patient:{name}"))));
    assert!(claims.get("site").is_none() && claims.get("device").is_none(), "{claims}");

    // The policy `terminals` permits every device and every user everything.
    for target in ["/fhir/Patient/1", "/open/page", "/medication/MedicationRequest/1", "/admin/x"] {
        assert_eq!(curl(&clinic, "patients", &patient, target), Some(403), "{target}");
    }
    assert_eq!(curl(&clinic, "clinics", &authorities.issuing.device(DOCTOR, &[]), "/fhir/Patient/1"), Some(200));
    let paths: Vec<_> = clinic.backend().seen().iter().map(gateway_tests::Seen::target).collect();
    assert_eq!(paths, ["/appointments/Appointment/1", "/fhir/Patient/1"], "nothing else came through");
}

/// `openssl s_client` that stays.
struct Held {
    child: Child,
    port: u16,
}

impl Held {
    fn open(clinic: &Clinic, door: &str, identity: &Identity, target: &str) -> Self {
        let mut held = Self { child: s_client(clinic, door, identity, &[]), port: clinic.door_of(door).address.port() };
        held.ask(clinic, target);
        held
    }

    fn ask(&mut self, clinic: &Clinic, target: &str) {
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost:{}\r\n\r\n", self.port);
        self.child.stdin.as_mut().expect("a pipe").write_all(request.as_bytes()).expect("written");
        clinic.wait_for_record("the request of a held connection", |record| text(record, "target") == target);
    }

    /// Waits until the gateway has ended the connection for this reason.
    fn expect_cut(self, clinic: &Clinic, reason: &str) {
        clinic.wait_for_record(reason, |record| is(record, "connection-closed") && text(record, "cause") == reason);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn s_client(clinic: &Clinic, door: &str, identity: &Identity, options: &[&str]) -> Child {
    let (certificate, key) = kept(&clinic.prepared, "s_client", identity);
    let port = clinic.door_of(door).address.port();
    Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", "localhost", "-ign_eof"])
        .args(["-CAfile", &file(clinic, "tls/servers-ca.crt"), "-cert", &certificate, "-key", &key])
        .args(["-cert_chain", &certificate, "-alpn", "http/1.1"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("OpenSSL is installed")
}

/// A request on a connection of its own, and everything that OpenSSL says.
fn ask(clinic: &Clinic, door: &str, identity: &Identity, target: &str, options: &[&str]) -> String {
    let mut child = s_client(clinic, door, identity, options);
    let port = clinic.door_of(door).address.port();
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n");
    // A client that was refused may be gone.
    let mut stdin = child.stdin.take().expect("a pipe");
    let _ = stdin.write_all(request.as_bytes());
    let output = child.wait_with_output().expect("OpenSSL ends");
    drop(stdin);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn suspension_the_end_of_a_binding_and_revocation_cut() {
    let authorities = Authorities::new();
    let clinic = prepare(&authorities).start();
    let (doctor, patient) = (authorities.doctor(), authorities.patient());
    bind(&clinic, &doctor);
    let (card, _) = kept(&clinic.prepared, "bound", &doctor);
    let steps: [(&[&str], &[&str], &str); 3] = [
        (&["user", "suspend", USER], &["user", "resume", USER], "user-suspended"),
        (&["site", "suspend", "sakura-clinic"], &["site", "resume", "sakura-clinic"], "site-suspended"),
        (
            &["user", "certificate", "remove", USER, &card],
            &["user", "certificate", "add", USER, &card],
            "user-unregistered",
        ),
    ];
    for (index, (end, again, reason)) in steps.iter().enumerate() {
        let held = Held::open(&clinic, "staff", &doctor, &format!("/fhir/Patient/held-{index}"));
        registry(&clinic, end);
        held.expect_cut(&clinic, reason);
        assert_eq!(curl(&clinic, "staff", &doctor, "/fhir/Patient/after"), None, "{reason}");
        registry(&clinic, again);
    }
    let held = Held::open(&clinic, "staff", &doctor, "/fhir/Patient/held");
    let held_patient = Held::open(&clinic, "patients", &patient, "/appointments/Appointment/held");
    authorities.issuing.revoke(&doctor.certificate_pem, "keyCompromise");
    let publish = || {
        clinic.prepared.write("crl.next", authorities.issuing.crl());
        std::fs::rename(clinic.prepared.path("crl.next"), clinic.prepared.path("crl/issuing.crl")).expect("renamed");
    };
    publish();
    held.expect_cut(&clinic, "certificate-revoked");
    assert_eq!(curl(&clinic, "patients", &patient, "/appointments/Appointment/1"), Some(200), "the patient's is good");
    authorities.issuing.revoke(&patient.certificate_pem, "superseded");
    publish();
    until("the patient's connection to end", || {
        let cut = |record: &&Value| is(record, "connection-closed") && text(record, "cause") == "certificate-revoked";
        (clinic.records().iter().filter(cut).count() == 2).then_some(())
    });
    drop(held_patient);
}

#[test]
fn a_resumed_session_is_judged_by_todays_registry() {
    let authorities = Authorities::new();
    let clinic = prepare(&authorities).start();
    let doctor = authorities.doctor();
    let (card, _) = kept(&clinic.prepared, "bound", &doctor);
    let ticket = file(&clinic, "ticket.pem");
    // Old card readers sign with PKCS#1 v1.5 alone, which only TLS 1.2 takes.
    for (option, version) in [("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")] {
        bind(&clinic, &doctor);
        let refused_before = refused(&clinic, "staff", "user-unregistered");
        let said = ask(&clinic, "staff", &doctor, "/fhir/Patient/ticket", &[option, "-sess_out", &ticket]);
        assert!(said.contains("HTTP/1.1 200") && said.contains(&format!("New, {version}")), "{said}");
        let said = ask(&clinic, "staff", &doctor, "/fhir/Patient/control", &[option, "-sess_in", &ticket]);
        assert!(said.contains("HTTP/1.1 200") && said.contains(&format!("Reused, {version}")), "{said}");
        // A ticket of one door opens no other.
        for door in ["clinics", "patients"] {
            let said = ask(&clinic, door, &doctor, "/fhir/Patient/elsewhere", &[option, "-sess_in", &ticket]);
            assert!(!said.contains("HTTP/1.1"), "{door}: {said}");
        }
        registry(&clinic, &["user", "certificate", "remove", USER, &card]);
        let said = ask(&clinic, "staff", &doctor, "/fhir/Patient/after", &[option, "-sess_in", &ticket]);
        assert!(!said.contains("HTTP/1.1 200"), "{said}");
        until("the refusal", || (refused(&clinic, "staff", "user-unregistered") > refused_before + 0.5).then_some(()));
    }
    let seen = clinic.backend().seen();
    assert!(seen.iter().all(|seen| !["/fhir/Patient/after", "/fhir/Patient/elsewhere"].contains(&&*seen.target())));
}

#[test]
fn cert_show_says_what_each_door_does() {
    let authorities = Authorities::new();
    let clinic = prepare(&authorities).start();
    let show = |identity: &Identity, more: &[&str]| {
        let (certificate, _) = kept(&clinic.prepared, "shown", identity);
        let output =
            sekisho(&[&["cert", "show", &certificate, "--config", &file(&clinic, "sekisho.toml")], more].concat());
        (output.code, output.stdout)
    };
    let doctor = authorities.doctor();
    let (code, said) = show(&doctor, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("user-unregistered: `sekisho user certificate add SITE/USER FILE`"), "{said}");
    bind(&clinic, &doctor);
    let (code, said) = show(&doctor, &[]);
    assert_eq!(code, Some(0), "one door takes it: {said}");
    for expected in [
        "山田太郎",
        "`medical-doctor` 医師, from `Medical Doctor`",
        "`head` 院長, from `Director of Clinic`",
        "none from `Fortune Teller`",
        "users and nobody else",
        "active, user `sakura-clinic/dr-yamada`",
        "taken for user `sakura-clinic/dr-yamada`, roles `head` 院長, `medical-doctor` 医師, `nurse`",
        "refused: certificate-identity: ",
        "refused: certificate-policy: ",
    ] {
        assert!(said.contains(expected), "`{expected}` is not in\n{said}");
    }
    let (_, said) = show(&authorities.patient(), &["--listener", "patients"]);
    assert!(said.contains("taken for patient `") && said.contains("/P-0042`"), "{said}");
}

/// What a reload says of a door holds for those who are in.
#[test]
fn a_reload_changes_roles_and_purpose_for_live_connections() {
    let authorities = Authorities::new();
    let mut clinic = prepare(&authorities).start();
    let doctor = authorities.doctor();
    bind(&clinic, &doctor);
    let check = |clinic: &Clinic| sekisho(&["check", &file(clinic, "sekisho.toml")]);

    // A table that cannot be used leaves the old one in force, and `check` says which key names it.
    clinic.prepared.write("roles.toml", ROLES_FILE.repeat(2));
    let said = check(&clinic);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.stdout.contains("listener[1].tls.users.roles_file") && said.stdout.contains("is there twice"),
        "{said:?}"
    );
    assert!(!clinic.reload());
    assert_eq!(curl(&clinic, "staff", &doctor, "/fhir/Patient/1"), Some(200));

    // Another one counts for the connection that is open: what it took away is gone.
    let mut held = Held::open(&clinic, "staff", &doctor, "/fhir/Patient/held");
    clinic.prepared.write("roles.toml", ROLES_FILE.replace("Director of Clinic", "Medical Doctor"));
    assert!(clinic.reload(), "{:?}", check(&clinic));
    held.ask(&clinic, "/fhir/Patient/other-roles");
    let record = clinic.wait_for_record("a denial", |record| text(record, "target") == "/fhir/Patient/other-roles");
    assert_eq!((&record["decision"], &record["roles"][0]), (&json!("deny"), &json!("director-of-clinic")), "{record}");

    // The same listener for patients: whoever is in is no patient.
    clinic.reconfigure(|config| {
        config.clear_appended();
        config.append(&listener("staff", "peers = \"patients\""));
        config.append(&listener("patients", "peers = \"patients\""));
    });
    assert!(clinic.reload(), "{:?}", check(&clinic));
    held.expect_cut(&clinic, "certificate-purpose");
}

#[test]
fn policies_are_explained_for_people() {
    let authorities = Authorities::new();
    let clinic = prepare(&authorities).start();
    let explain = |more: &[&str]| {
        let config = file(&clinic, "sekisho.toml");
        let said = sekisho(&[&["policy", "explain", "--config", &config, "--path", "/fhir/Patient/1"], more].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        said.stdout
    };
    let user = ["--site", "sakura-clinic", "--user", "dr-yamada"];
    let said = explain(&[&user[..], &["--role", "medical-doctor"]].concat());
    assert!(said.contains("no device, user sakura-clinic/dr-yamada, roles [medical-doctor, nurse]"), "{said}");
    assert!(said.contains("permit, decided by staff-reads"), "{said}");
    let said = explain(&user);
    assert!(said.contains("deny (policy-no-permit)"), "{said}");
    assert!(said.contains("needs a device, or the annotation @device(\"none\")"), "{said}");
    // How the user was proved, and for whom they act.
    let said = explain(&["--site", "sakura-clinic", "--user", "dr-yamada", "--level", "two-factor", "--age", "7"]);
    assert!(said.contains(", level two-factor proved 7 s ago"), "{said}");
    let bad = ["policy", "explain", "--path", "/", "--site", "s", "--user", "u", "--level", "three"];
    assert_eq!(sekisho(&bad).code, Some(2));
    let said = explain(&["--patient", &format!("{}/P-0042", "ab".repeat(16))]);
    assert!(said.contains("deny (policy-no-permit)") && said.contains("annotation @principal(\"patient\")"), "{said}");
    let said =
        sekisho(&["policy", "explain", "--config", &file(&clinic, "sekisho.toml"), "--path", "/", "--user", "u"]);
    assert_eq!(said.code, Some(2), "a user is of a site: {said:?}");
}
