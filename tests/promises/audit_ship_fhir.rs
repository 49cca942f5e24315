//! R28: AuditEvents reach a FHIR server. The receiver is a small one of Python whose judge is `fhir.resources` (R4B),
//! since no whole FHIR server is in a package registry: an event that is not valid ends it.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use gateway_tests::audit::{read_raw, text};
use gateway_tests::ship::{Ship, configure};
use gateway_tests::{Clinic, DOCTOR, Prepared, repository, within};
use serde_json::Value;
use tempfile::TempDir;

use crate::audit_ship::python;
use crate::audit_tools::small_log;

const LONG: Duration = Duration::from_secs(90);

struct Server {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let folder = folder.join("fhir");
        std::fs::create_dir(&folder).expect("a folder");
        let mut command = python();
        command.arg(repository().join("tests/offline/fhir_server.py")).arg(&folder).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a port");
        Self { child, folder, port: line.trim().parse().expect("a port") }
    }

    fn obey(&self, flag: &str, text: &str) {
        std::fs::write(self.folder.join(flag), text).expect("a file");
    }

    fn forget(&self, flag: &str) {
        std::fs::remove_file(self.folder.join(flag)).expect("a file");
    }

    fn taken(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join("taken")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn destination(&self, name: &str, more: &str) -> String {
        format!(
            "[[destination]]\nkind = \"fhir\"\nname = \"{name}\"\nurl = \"http://127.0.0.1:{}/fhir\"\n{more}\n",
            self.port
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn asked() -> Clinic {
    let clinic = small_log().start();
    let mut wire = clinic.wire(DOCTOR);
    for target in ["/fhir/Patient/1", "/fhir/Observation?patient=2", "/admin", "/fhir/Patient/1?_x=%3C'\"&%00%1b[2J"] {
        wire.get(target);
    }
    clinic
}

fn records(prepared: &Prepared) -> Vec<Value> {
    let raw = read_raw(&prepared.path("audit")).expect("a whole log");
    raw.iter().map(|record| serde_json::from_slice(record).expect("JSON")).collect()
}

/// The number of an event's record.
fn sequence(event: &Value) -> u64 {
    let id = event["meta"]["tag"][0]["code"].as_str().expect("a tag");
    id.rsplit_once('#').expect("a number").1.parse().expect("a number")
}

fn sequences(server: &Server) -> BTreeSet<u64> {
    server.taken().iter().map(sequence).collect()
}

fn config(prepared: &Prepared, folder: &Path, destinations: &str) -> PathBuf {
    configure(folder, &prepared.path("audit"), &prepared.path("state/audit-keys"), destinations)
}

fn wait_for(server: &Server, ship: &Ship, wanted: &BTreeSet<u64>) {
    let all = || (sequences(server) == *wanted).then_some(());
    within(LONG, all).unwrap_or_else(|| {
        let invalid = std::fs::read_to_string(server.folder.join("invalid")).unwrap_or_default();
        panic!("{:?} of {wanted:?}; {invalid}; {}", sequences(server), ship.said())
    });
}

#[test]
fn every_record_is_a_valid_audit_event_and_comes_through_failures() {
    let folder = TempDir::new().expect("a folder");
    let prepared = asked().stop();
    let records = records(&prepared);
    let all: BTreeSet<u64> = (1..=records.len() as u64).collect();
    for (name, more) in [("batch", "batch_events = 4"), ("single", "batch_events = 1")] {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).expect("a folder");
        let server = Server::start(&folder);
        server.obey("down", "");
        let ship = Ship::start(&config(&prepared, &folder, &server.destination(name, more)));
        ship.wait_for("it answered 503");
        assert!(server.taken().is_empty());
        server.obey("half", "");
        server.forget("down");
        wait_for(&server, &ship, &all);
        server.forget("half");
        assert_eq!(ship.end().code(), Some(0));
        // This process remembered what had been taken of a batch: nothing came twice, but for one event a patient.
        let events = server.taken();
        assert_eq!(events.len(), all.len(), "{name}");
        for event in &events {
            let record = &records[usize::try_from(sequence(event)).expect("small") - 1];
            assert_eq!(event["recorded"], record["time"]);
            let entities = event["entity"].as_array().expect("entities");
            let patients: Vec<_> = entities.iter().filter(|entity| entity["role"]["code"] == "1").collect();
            let of_record = record["patients"].as_array().map_or(0, Vec::len);
            assert_eq!(patients.len(), of_record.min(1), "{record}");
            if text(record, "decision") == "permit" && text(record, "action") == "search" {
                let profile = event["meta"]["profile"][0].as_str().expect("a profile");
                assert!(profile.ends_with("IHE.BasicAudit.PatientQuery"), "{profile}");
            }
        }
    }
}

#[test]
fn an_event_that_the_server_refuses_is_parked_by_name_and_holds_up_nobody() {
    let folder = TempDir::new().expect("a folder");
    let prepared = asked().stop();
    let records = records(&prepared);
    let server = Server::start(folder.path());
    server.obey("refuse", "\"Query\"");
    let refused: BTreeSet<u64> = records
        .iter()
        .filter(|record| text(record, "action") == "search")
        .map(|record| record["sequence"].as_u64().expect("a number"))
        .collect();
    assert!(!refused.is_empty());
    // A receiver that is not there stands beside it.
    let nobody = "[[destination]]\nkind = \"fhir\"\nname = \"nobody\"\nurl = \"http://127.0.0.1:1/fhir\"\n";
    let destinations = format!("{nobody}{}", server.destination("good", ""));
    let ship = Ship::start(&config(&prepared, folder.path(), &destinations));
    let wanted: BTreeSet<u64> = (1..=records.len() as u64).filter(|number| !refused.contains(number)).collect();
    wait_for(&server, &ship, &wanted);
    ship.wait_for("it is parked");
    ship.wait_for("\"destination\":\"nobody\",\"failures\"");
    let parked = || std::fs::read_to_string(folder.path().join("ship-state/good/parked")).unwrap_or_default();
    let named: String = refused.iter().map(|number| format!("lane-1 {number} part 0 status 422\n")).collect();
    within(LONG, || (parked() == named).then_some(())).unwrap_or_else(|| panic!("{} is not {named}", parked()));
    for name in ["dr-sato", "Observation"] {
        assert!(!ship.said().contains(name), "{}", ship.said());
    }
    assert_eq!(ship.end().code(), Some(0));
}

#[test]
fn what_a_server_has_does_not_come_again_after_a_start() {
    let folder = TempDir::new().expect("a folder");
    let prepared = asked().stop();
    let count = records(&prepared).len();
    let server = Server::start(folder.path());
    let config = config(&prepared, folder.path(), &server.destination("again", ""));
    for _ in 0..2 {
        let _ = std::fs::remove_file(config.with_extension("said"));
        let ship = Ship::start(&config);
        wait_for(&server, &ship, &(1..=count as u64).collect());
        // Once more at the end, so that a repetition would have been seen.
        ship.wait_for("\"lag_entries\":0");
        assert_eq!(ship.end().code(), Some(0));
    }
    assert_eq!(server.taken().len(), count);
    // A record that does not open is told as well.
    let keys = prepared.path("state/audit-keys");
    for site in std::fs::read_dir(&keys).expect("a folder").flatten().filter(|entry| entry.path().is_dir()) {
        std::fs::remove_dir_all(site.path()).expect("gone");
    }
    std::fs::remove_dir_all(folder.path().join("ship-state")).expect("gone");
    let ship = Ship::start(&config);
    within(LONG, || (server.taken().len() == 2 * count).then_some(())).unwrap_or_else(|| panic!("{}", ship.said()));
    assert!(ship.said().contains("a record does not open"), "{}", ship.said());
    let sealed = server.taken().split_off(count);
    assert!(sealed.iter().all(|event| text(event, "outcomeDesc").contains("sealed")), "{sealed:?}");
}
