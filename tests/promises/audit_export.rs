//! R5, R28: `sekisho audit export` writes the log of a real gateway in four forms, each judged by somebody else's reader.

use std::num::NonZeroU32;
use std::path::Path;

use gateway_audit::reviewer::private::ReviewerKey;
use gateway_tests::audit::{read_raw, reviewer, text};
use gateway_tests::ship::private;
use gateway_tests::{DOCTOR, Output, Prepared, repository, sekisho};
use serde_json::Value;
use tempfile::TempDir;

use crate::audit_ship::python;
use crate::audit_tools::small_log;

/// What strangers say that spreadsheets, terminals and parsers obey.
const HOSTILE: &str = "/fhir/Patient/1?name==cmd|'/c%20calc'!A1;=1+1,\"<x>&\\";

fn asked() -> Prepared {
    let clinic = small_log().start();
    let mut wire = clinic.wire(DOCTOR);
    for target in ["/fhir/Patient/1", "/fhir/Observation?patient=2", "/admin", HOSTILE] {
        wire.send_request("GET", target, &[], b"");
        if wire.try_answer().is_err() {
            wire = clinic.wire(DOCTOR);
        }
    }
    clinic.stop()
}

fn run(prepared: &Prepared, folder: &Path, key: &ReviewerKey, words: &[&str]) -> Output {
    private(
        &folder.join("key"),
        &key.protect("correct horse battery", NonZeroU32::MIN, [7; 16]).expect("a private file"),
    );
    private(&folder.join("passphrase"), "correct horse battery");
    let at = |path: &Path| path.display().to_string();
    let (audit, keys) = (at(&prepared.path("audit")), at(&prepared.path("state/audit-keys")));
    let (key, passphrase) = (at(&folder.join("key")), at(&folder.join("passphrase")));
    let mut arguments = vec!["audit", "export"];
    arguments.extend(words);
    arguments.extend(["--dir", &audit, "--keys", &keys, "--key", &key, "--passphrase-file", &passphrase]);
    sekisho(&arguments)
}

fn records(prepared: &Prepared) -> Vec<Value> {
    let raw = read_raw(&prepared.path("audit")).expect("a whole log");
    raw.iter().map(|record| serde_json::from_slice(record).expect("JSON")).collect()
}

/// Standard output of a Python program that reads a file.
fn judged(folder: &Path, program: &[&str], exported: &str) -> Vec<Value> {
    let file = folder.join("exported");
    std::fs::write(&file, exported).expect("a file");
    let output = python().args(program).arg(&file).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

const FHIR: &str = "
import json, sys
from fhir.resources.R4B.auditevent import AuditEvent
for line in open(sys.argv[1], encoding='utf-8'):
    print(AuditEvent.model_validate_json(line).model_dump_json())
";
const CSV: &str = "
import csv, json, sys
with open(sys.argv[1], encoding='utf-8', newline='') as file:
    for row in csv.DictReader(file, strict=True):
        print(json.dumps(row))
";

#[test]
fn each_form_has_every_record_and_its_own_reader_takes_it() {
    let (prepared, folder) = (asked(), TempDir::new().expect("a folder"));
    let records = records(&prepared);
    let export = |form: &str| {
        let output = run(&prepared, folder.path(), &reviewer(), &["--format", form]);
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
        assert!(!output.stdout.contains(['\u{1b}', '\0', '\t']));
        output.stdout
    };
    let schema = repository().join("gateway/export/schema/audit-message.xsd").display().to_string();
    let script = repository().join("tests/offline/atna_valid.py").display().to_string();
    let atna = judged(folder.path(), &[&script, &schema], &export("atna"));
    assert_eq!(atna.len(), records.len());
    let fhir = judged(folder.path(), &["-c", FHIR], &export("fhir"));
    assert_eq!(fhir.len(), records.len());
    let ecs: Vec<Value> = export("ecs").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let csv = judged(folder.path(), &["-c", CSV], &export("csv"));
    assert_eq!((ecs.len(), csv.len()), (records.len(), records.len()));
    for (place, record) in records.iter().enumerate() {
        assert_eq!((&atna[place]["kind"], &atna[place]["time"]), (&record["kind"], &record["time"]));
        assert_eq!(ecs[place]["@timestamp"], record["time"]);
        let ours = ecs[place]["sekisho"].as_object().expect("the record").clone();
        for (key, value) in record.as_object().expect("a record") {
            if key != "origin" {
                assert_eq!(&ours[key], value);
            }
        }
        assert_eq!(csv[place]["sequence"], record["sequence"].to_string());
        assert_eq!(csv[place]["user"], text(record, "user").to_owned() + text(record, "actor"));
        for cell in csv[place].as_object().expect("cells").values().filter_map(Value::as_str) {
            assert!(!cell.starts_with(['=', '+', '-', '@']) && !cell.contains(';'), "{cell}");
        }
    }
    let all = csv.iter().map(ToString::to_string).collect::<String>();
    assert!(all.contains("name==cmd|"), "the hostile request is there: {all}");
}

#[test]
fn filters_are_those_of_query() {
    let (prepared, folder) = (asked(), TempDir::new().expect("a folder"));
    let lines = |words: &[&str]| {
        let output = run(&prepared, folder.path(), &reviewer(), &[&["--format", "ecs"], words].concat());
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        output.stdout.lines().count()
    };
    assert_eq!(lines(&["--patient", "2", "--kind", "request"]), 1);
    assert_eq!(lines(&["--patient", "9"]), 0);
    assert!(lines(&["--decision", "deny"]) >= 1);
    assert_eq!(lines(&["--to", "2020-01-01"]), 0);
}

#[test]
fn what_does_not_open_is_told_and_leaves_no_gap() {
    let (prepared, folder) = (asked(), TempDir::new().expect("a folder"));
    let other = ReviewerKey::new("other", [8; 32], [8; 32]).expect("keys");
    let output = run(&prepared, folder.path(), &other, &["--format", "csv"]);
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("records do not open with this key"), "{}", output.stderr);
    let rows = judged(folder.path(), &["-c", CSV], &output.stdout);
    assert_eq!(rows.len(), records(&prepared).len());
    assert!(rows.iter().all(|row| text(row, "outcome_text").contains("sealed") && text(row, "user").is_empty()));
    assert!(!output.stdout.contains("dr-sato"));
}
