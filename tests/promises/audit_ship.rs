//! R28, R30, R31: `sekisho audit ship` gives a real log to real receivers: Debian's rsyslog over TLS (RFC 5425, IHE
//! ATNA), and a FHIR server whose judge is `fhir.resources`. Nothing is lost, whoever is killed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gateway_tests::audit::{read_raw, text};
use gateway_tests::rsyslog::Rsyslog;
use gateway_tests::ship::{Ship, configure};
use gateway_tests::{Clinic, DOCTOR, Pki, Prepared, repository, within};
use serde_json::Value;
use tempfile::TempDir;

use crate::audit_tools::{Load, small_log};

/// Shippers and receivers share two cores with everything else.
const LONG: Duration = Duration::from_secs(90);
const ORIGIN: &str = "sekisho.example/";

pub(crate) fn python() -> Command {
    Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()))
}

/// A clinic of which somebody asks for patients, some of them by hostile means.
fn clinic() -> Clinic {
    let clinic = small_log().start();
    let mut wire = clinic.wire(DOCTOR);
    for target in
        ["/fhir/Patient/1", "/fhir/Patient?identifier=urn:oid:1.2.3%7C0001", "/fhir/Observation?patient=2", "/admin"]
    {
        wire.get(target);
    }
    wire.get("/fhir/Patient/1?_x=%3C!--'\"&amp;%00%1b[2J");
    wire.send_request(
        "POST",
        "/fhir/Observation",
        &[],
        br#"{"resourceType":"Observation","subject":{"reference":"Patient/3"}}"#,
    );
    assert!(wire.try_answer().is_ok());
    clinic
}

/// Every record of the log as it was written, by number.
fn log(prepared: &Prepared) -> BTreeMap<u64, Value> {
    let raw = read_raw(&prepared.path("audit")).expect("a whole log");
    let records = raw.iter().map(|record| serde_json::from_slice::<Value>(record).expect("JSON"));
    records.map(|record| (record["sequence"].as_u64().expect("a number"), record)).collect()
}

fn ship_config(prepared: &Prepared, folder: &Path, destinations: &str) -> PathBuf {
    configure(folder, &prepared.path("audit"), &prepared.path("state/audit-keys"), destinations)
}

fn receiver(folder: &Path, pki: &Pki, driver: &str, mode: &str) -> Rsyslog {
    let server = pki.server(&["syslog.example", "127.0.0.1"]);
    std::fs::write(folder.join("servers-ca.crt"), pki.servers_ca_pem()).expect("a file");
    let rsyslog =
        Rsyslog::prepare(folder, driver, mode, &server.certificate_pem, &server.key_pem, pki.devices_ca_pem());
    let client = pki.device("sakura-clinic/ship");
    gateway_tests::ship::private(&folder.join("ship.crt"), &client.certificate_pem);
    gateway_tests::ship::private(&folder.join("ship-tls.key"), &client.key_pem);
    rsyslog
}

fn atna(rsyslog: &Rsyslog, more: &str) -> String {
    format!(
        "[[destination]]\nkind = \"atna\"\nname = \"siem\"\naddress = \"{}\"\nsettle_ms = 200\n\
         tls = {{ ca_file = \"servers-ca.crt\", server_name = \"syslog.example\"{more} }}\n",
        rsyslog.address
    )
}

/// The whole messages among what was written down: a kill may cut one, and the next stands behind it on its line.
fn whole(received: &[String]) -> Vec<&str> {
    received
        .iter()
        .filter_map(|line| line.rfind("<85>1 ").and_then(|start| line.get(start..)))
        .filter(|message| message.ends_with("</AuditMessage>"))
        .collect()
}

/// The number of a message's record.
fn sequence(message: &str) -> u64 {
    let (_, id) = message.rsplit_once(&format!("ParticipantObjectID=\"{ORIGIN}")).expect("a record's id");
    let (id, _) = id.split_once('"').expect("its end");
    id.split_once('#').expect("a number").1.parse().expect("a number")
}

fn wait_until_all_are_there(rsyslog: &Rsyslog, ship: &Ship, last: u64) {
    let all = || {
        let received = rsyslog.received();
        let mut found: Vec<_> = whole(&received).into_iter().map(sequence).collect();
        found.sort_unstable();
        found.dedup();
        (found.len() as u64 == last).then_some(())
    };
    within(LONG, all).unwrap_or_else(|| {
        let received = rsyslog.received();
        let found: Vec<_> = whole(&received).into_iter().map(sequence).collect();
        panic!("of {last} records there are {found:?}; rsyslog: {}; ship: {}", rsyslog.said(), ship.said())
    });
}

/// First appearances are in the order of the log.
fn assert_in_order(messages: &[&str]) {
    let mut next = 1;
    for sequence in messages.iter().map(|message| sequence(message)) {
        assert!(sequence <= next, "record {sequence} came before record {next}");
        next = next.max(sequence + 1);
    }
}

/// What a validator reads of each message, after the schema has judged it.
fn judged(folder: &Path, messages: &[&str]) -> Vec<Value> {
    let file = folder.join("messages");
    std::fs::write(&file, messages.join("\n") + "\n").expect("a file");
    let schema = repository().join("gateway/export/schema/audit-message.xsd");
    let script = repository().join("tests/offline/atna_valid.py");
    let output = python().arg(script).arg(schema).arg(file).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn compare(folder: &Path, records: &BTreeMap<u64, Value>, messages: &[&str]) {
    let mut seen = std::collections::BTreeSet::new();
    for (message, judged) in messages.iter().zip(judged(folder, messages)) {
        let number = sequence(message);
        let record = &records[&number];
        seen.insert(number);
        assert!(text(&judged, "id").ends_with(&format!("/lane-1#{number}")), "{judged}");
        assert_eq!((&judged["kind"], &judged["time"]), (&record["kind"], &record["time"]));
        if let Some(user) = record["user"].as_str() {
            assert_eq!(judged["users"][0], user, "{record}");
        }
        let patients = record.get("patients").cloned().unwrap_or_else(|| Value::from(Vec::<Value>::new()));
        assert_eq!(judged["patients"], patients, "{record}");
        if let (Some(method), Some(target)) = (record["method"].as_str(), record["target"].as_str()) {
            assert_eq!(judged["queries"][0], format!("{method} {target}"));
        }
        if let Some(decision) = record["decision"].as_str() {
            let is_good = decision == "permit" && record["status"].as_u64().is_none_or(|status| status < 400);
            assert_eq!(judged["outcome"] == "0", is_good, "{record}");
            let details = judged["details"].as_array().expect("details");
            assert!(details.contains(&serde_json::json!(["decision", decision])), "{judged}");
        }
        // The header of RFC 5424, as IHE ITI-20 wants it.
        let node = text(record, "node");
        let head = format!(" {node} sekisho - IHE+RFC-3881 - <?xml");
        assert!(message.starts_with("<85>1 20") && message.contains(&head), "{message}");
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), records.keys().copied().collect::<Vec<_>>());
}

#[test]
fn a_syslog_servers_file_is_the_log_record_for_record() {
    for driver in ["gtls", "ossl"] {
        let clinic = clinic();
        let folder = TempDir::new().expect("a folder");
        let mut rsyslog = receiver(folder.path(), clinic.pki(), driver, "x509/certvalid");
        rsyslog.start();
        let identity = ", certificate_file = \"ship.crt\", key_file = \"ship-tls.key\"";
        let config = ship_config(&clinic.prepared, folder.path(), &atna(&rsyslog, identity));
        // Begun while the gateway writes.
        let ship = Ship::start(&config);
        clinic.wire(DOCTOR).get("/fhir/Patient/4");
        let prepared = clinic.stop();
        let records = log(&prepared);
        wait_until_all_are_there(&rsyslog, &ship, records.len() as u64);
        let received = rsyslog.received();
        let messages = whole(&received);
        assert_in_order(&messages);
        compare(folder.path(), &records, &messages);
        let said = ship.said();
        assert_eq!(ship.end().code(), Some(0));
        // Nothing more at the next start: the position was kept.
        let state = std::fs::read_to_string(folder.path().join("ship-state/siem/lane-1.cursor"));
        assert!(state.is_ok_and(|text| text.ends_with(&format!("entries {}\n", records.len()))), "{said}");
        assert_says_nobodys_name(&said, folder.path());
    }
}

/// Neither what the process says nor what it keeps names a user or a patient.
fn assert_says_nobodys_name(said: &str, folder: &Path) {
    let mut kept = said.to_owned();
    for file in std::fs::read_dir(folder.join("ship-state/siem")).expect("a folder").flatten() {
        kept.push_str(&std::fs::read_to_string(file.path()).expect("text"));
    }
    for name in ["dr-sato", "0001", "Patient"] {
        assert!(!kept.contains(name), "`{name}` stands in {kept}");
    }
}

#[test]
fn nothing_is_lost_though_either_side_is_killed() {
    let clinic = clinic();
    let folder = TempDir::new().expect("a folder");
    let mut rsyslog = receiver(folder.path(), clinic.pki(), "gtls", "anon");
    rsyslog.start();
    let config = ship_config(&clinic.prepared, folder.path(), &atna(&rsyslog, ""));
    let mut ship = Ship::start(&config);
    let load = Load::start(&clinic.handshake(DOCTOR), 2);
    for turn in 0_u32..6 {
        // Something came since the last blow, so that each falls into work.
        let before = rsyslog.received().len();
        let more = within(LONG, || (rsyslog.received().len() > before).then_some(()));
        assert!(more.is_some(), "nothing comes in turn {turn}; rsyslog: {}; ship: {}", rsyslog.said(), ship.said());
        if turn % 3 != 1 {
            rsyslog.kill();
        }
        if turn % 3 != 0 {
            ship.kill();
            ship = Ship::start(&config);
        }
        if turn % 3 != 1 {
            // Down for a while, with the shipper at it.
            ship.wait_for("cannot ship");
            rsyslog.start();
        }
    }
    let acknowledged = load.stop();
    assert!(acknowledged.len() > 50, "{}", acknowledged.len());
    let prepared = clinic.stop();
    let records = log(&prepared);
    wait_until_all_are_there(&rsyslog, &ship, records.len() as u64);
    let received = rsyslog.received();
    let messages = whole(&received);
    assert_in_order(&messages);
    compare(folder.path(), &records, &messages);
    assert_eq!(ship.end().code(), Some(0));
}

#[test]
fn a_server_that_is_not_the_receiver_gets_nothing() {
    let clinic = clinic();
    let folder = TempDir::new().expect("a folder");
    let mut rsyslog = receiver(folder.path(), clinic.pki(), "gtls", "anon");
    rsyslog.start();
    let prepared = clinic.stop();
    // Another's authority; a name that is not in the certificate; no certificate of our own where one is wanted.
    std::fs::write(folder.path().join("servers-ca.crt"), Pki::new().servers_ca_pem()).expect("a file");
    let ship = Ship::start(&ship_config(&prepared, folder.path(), &atna(&rsyslog, "")));
    ship.wait_for("cannot ship");
    assert!(ship.said().contains("\"destination\":\"siem\"") && ship.said().contains("TLS: "), "{}", ship.said());
    drop(ship);
    std::fs::write(folder.path().join("servers-ca.crt"), prepared.pki.servers_ca_pem()).expect("a file");
    let other = atna(&rsyslog, "").replace("syslog.example", "other.example");
    std::fs::remove_file(folder.path().join("ship.said")).expect("a file");
    let ship = Ship::start(&ship_config(&prepared, folder.path(), &other));
    ship.wait_for("cannot ship");
    drop(ship);
    assert_eq!(rsyslog.received(), Vec::<String>::new());
    assert!(!folder.path().join("ship-state/siem/lane-1.cursor").exists());
}

#[test]
fn what_is_wrong_with_the_start_is_named() {
    let clinic = clinic();
    let folder = TempDir::new().expect("a folder");
    let rsyslog = receiver(folder.path(), clinic.pki(), "gtls", "anon");
    let prepared = clinic.stop();
    let destinations = atna(&rsyslog, "");
    let config = ship_config(&prepared, folder.path(), &destinations);
    let first = Ship::start(&config);
    first.wait_for("shipping");
    let mut second = Ship::start(&config);
    assert_eq!(second.wait().code(), Some(1));
    assert!(second.said().contains("ship-state` is another process's"), "{}", second.said());
    drop(first);
    for (from, to, why) in
        [("servers-ca.crt", "absent.crt", "absent.crt"), ("kind = \"atna\"", "kind = \"ftp\"", "unknown variant `ftp`")]
    {
        let config = ship_config(&prepared, folder.path(), &destinations.replace(from, to));
        let mut ship = Ship::start(&config);
        assert_eq!(ship.wait().code(), Some(1));
        assert!(ship.said().contains(why), "{}", ship.said());
    }
    let config = ship_config(&prepared, folder.path(), &destinations);
    gateway_tests::ship::private(&folder.path().join("passphrase"), "another");
    let mut ship = Ship::start(&config);
    assert_eq!(ship.wait().code(), Some(1));
    assert!(ship.said().contains("the passphrase does not open"), "{}", ship.said());
}
