//! R6, R23: what a reviewer asks of the log of a real gateway, and what whoever is none gets.

use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use gateway_audit::reviewer::private::ReviewerKey;
use gateway_tests::audit::reviewer;
use gateway_tests::{DOCTOR, Output, Prepared, sekisho};
use serde_json::Value;

use crate::audit_tools::small_log;

/// A log in which a doctor saw patient 1 twice and patient 2 once, in two logins, and was refused once.
fn asked() -> (Prepared, tempfile::TempDir) {
    let clinic = small_log().start();
    let mut first = clinic.wire(DOCTOR);
    for target in ["/fhir/Patient/1", "/fhir/Patient/2", "/admin"] {
        first.get(target);
    }
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    let prepared = clinic.stop();
    let folder = tempfile::tempdir().expect("a folder");
    private(&folder, "auditor", &reviewer());
    (prepared, folder)
}

fn private(folder: &tempfile::TempDir, name: &str, key: &ReviewerKey) {
    let file = key.protect("correct horse battery", NonZeroU32::MIN, [7; 16]).expect("a private file");
    for (name, text) in [(name, file.as_str()), ("passphrase", "correct horse battery\n")] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    }
}

fn run(prepared: &Prepared, folder: &tempfile::TempDir, key: &str, words: &[&str]) -> Output {
    let at = |path: PathBuf| path.display().to_string();
    let (audit, keys) = (at(prepared.path("audit")), at(prepared.path("state/audit-keys")));
    let (key, passphrase) = (at(folder.path().join(key)), at(folder.path().join("passphrase")));
    let mut arguments = vec!["audit"];
    arguments.extend(words);
    arguments.extend(["--dir", &audit, "--keys", &keys, "--key", &key, "--passphrase-file", &passphrase]);
    sekisho(&arguments)
}

fn json(output: &Output) -> Vec<Value> {
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    output.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_reviewer_asks_by_patient_user_and_decision() {
    let (prepared, folder) = asked();
    let ask =
        |words: &[&str]| json(&run(&prepared, &folder, "auditor", &[&["query", "--format", "json"], words].concat()));
    let of_one = ask(&["--patient", "1"]);
    assert_eq!(of_one.len(), 2, "{of_one:?}");
    assert!(of_one.iter().all(|record| record["patients"] == serde_json::json!(["1"])));
    let user = of_one[0]["user"].as_str().expect("a user").to_owned();
    let denied = ask(&["--user", &user, "--decision", "deny"]);
    assert_eq!((denied.len(), &denied[0]["target"]), (1, &Value::from("/admin")), "{denied:?}");
    assert_eq!(ask(&["--patient", "3"]), Vec::<Value>::new());
    assert_eq!(ask(&["--patient", "1", "--to", "2020-01-01"]), Vec::<Value>::new());
    assert_eq!(ask(&["--patient", "1", "--from", "2020-01-01", "--site", "sakura-clinic"]).len(), 2);
    let times: Vec<_> = ask(&[]).iter().map(|record| record["time"].as_str().expect("a time").to_owned()).collect();
    assert!(times.is_sorted() && times.len() > 6, "{times:?}");
    let csv = run(&prepared, &folder, "auditor", &["query", "--format", "csv", "--patient", "2"]);
    assert!(
        csv.stdout.starts_with("time,lane,sequence,kind,") && csv.stdout.contains(",2,/fhir/Patient/2\r\n"),
        "{}",
        csv.stdout
    );
}

#[test]
fn the_report_counts_patients_by_user_and_login() {
    let (prepared, folder) = asked();
    let rows = json(&run(&prepared, &folder, "auditor", &["report", "patients", "--format", "json"]));
    let count = |patient: &str| rows.iter().find(|row| row["patient"] == patient).map(|row| row["accesses"].clone());
    assert_eq!((count("1"), count("2"), count("3")), (Some(2.into()), Some(1.into()), None), "{rows:?}");
    let mut logins: Vec<_> =
        rows.iter().filter(|row| !row["login"].is_null()).map(|row| row["patients"].to_string()).collect();
    logins.sort_unstable();
    assert_eq!(logins, [r#"["1","2"]"#, r#"["1"]"#]);
}

#[test]
fn who_is_no_reviewer_reads_nothing_and_a_changed_log_is_told() {
    let (prepared, folder) = asked();
    private(&folder, "other", &ReviewerKey::new("other", [8; 32], [8; 32]).expect("keys"));
    let output = run(&prepared, &folder, "other", &["query", "--format", "json"]);
    assert_eq!((output.code, output.stdout.as_str()), (Some(0), ""));
    assert!(output.stderr.contains("records do not open with this key"), "{}", output.stderr);
    let bundle = std::fs::read_dir(prepared.path("audit/lane-1/tile/entries/000.p")).expect("a folder").flatten();
    let bundle = bundle.map(|entry| entry.path()).max_by_key(|path| path.metadata().expect("a file").len());
    let bundle = bundle.expect("a bundle");
    let mut bytes = std::fs::read(&bundle).expect("a file");
    bytes[200] ^= 1;
    std::fs::write(&bundle, bytes).expect("written");
    let output = run(&prepared, &folder, "auditor", &["query", "--format", "json"]);
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("BAD: lane-1") && output.stderr.contains("entry 0 (record 1)"), "{}", output.stderr);
}
