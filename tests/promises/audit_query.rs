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
    asked_of("gw1")
}

/// The same, of the node of this name.
fn asked_of(node: &str) -> (Prepared, tempfile::TempDir) {
    let clinic = small_log().config(|config| config.set("node", "name", node)).start();
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

/// R21: who still needs an old protocol, and since when nobody does.
#[test]
fn the_report_tells_who_still_uses_which_protocol() {
    let clinic = small_log()
        .device("aoi-clinic/old-xray", "dr-ito", "doctor")
        .config(|config| config.set_tls("profile", "cryptrec-high-tls12"))
        .start();
    for _ in 0..2 {
        assert_eq!(clinic.handshake("aoi-clinic/old-xray").tls12().open().get("/fhir/Patient/1").status, 200);
    }
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    assert_eq!(clinic.h2(DOCTOR).get("/fhir/Patient/1").expect("an answer").status, 200);
    let prepared = clinic.stop();
    let folder = tempfile::tempdir().expect("a folder");
    private(&folder, "auditor", &reviewer());
    let ask = |more: &[&str]| {
        let words = [&["report", "protocols", "--format", "json"], more].concat();
        json(&run(&prepared, &folder, "auditor", &words))
    };
    let short = |row: &Value| {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        (text("device"), text("tls"), text("application"), row["connections"].as_u64())
    };
    let old = |count| ("old-xray".to_owned(), "1.2".to_owned(), "http/1.1".to_owned(), Some(count));
    let new = |application: &str| ("exam-1".to_owned(), "1.3".to_owned(), application.to_owned(), Some(1));
    let rows = ask(&[]);
    let told: Vec<_> = rows.iter().map(short).collect();
    assert_eq!(told, [old(2), new("h2"), new("http/1.1")], "{rows:#?}");
    assert!(rows[0]["suite"].as_str().is_some_and(|suite| suite.starts_with("TLS_ECDHE_")), "{}", rows[0]);
    assert!(rows[0]["first"].as_str() < rows[0]["last"].as_str(), "{}", rows[0]);
    assert_eq!(ask(&["--old"]).iter().map(short).collect::<Vec<_>>(), [old(2)]);
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

fn file(prepared: &Prepared, name: &str) -> String {
    prepared.path(name).display().to_string()
}

/// Every file below a folder.
fn below(folder: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

#[test]
fn an_index_grows_with_a_live_log_and_answers_as_a_scan_does() {
    let clinic = small_log().start();
    let folder = tempfile::tempdir().expect("a folder");
    private(&folder, "auditor", &reviewer());
    let (audit, keys) = (file(&clinic.prepared, "audit"), file(&clinic.prepared, "state/audit-keys"));
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (key, passphrase) = (at("auditor"), at("passphrase"));
    let ask = |words: &[&str]| {
        let fixed = ["--dir", &audit, "--keys", &keys, "--key", &key, "--passphrase-file", &passphrase];
        json(&sekisho(&[&["audit", "query", "--format", "json"], words, &fixed].concat()))
    };
    let mut wire = clinic.wire(DOCTOR);
    for round in 1..=4_usize {
        for _ in 0..25 {
            for target in ["/fhir/Patient/1", "/fhir/Patient/2", "/fhir/Observation?patient=1"] {
                assert_eq!(wire.get(target).status, 200);
            }
        }
        // What was answered is in the log already, covered by a checkpoint or not.
        let of_one = ask(&["--patient", "1", "--kind", "request"]);
        assert_eq!(of_one.len(), round * 50);
        assert_eq!(of_one, ask(&["--patient", "1", "--kind", "request", "--no-index"]));
    }
    drop(wire);
    let prepared = clinic.stop();
    let ask =
        |words: &[&str]| json(&run(&prepared, &folder, "auditor", &[&["query", "--format", "json"], words].concat()));
    let user = ask(&["--patient", "2"])[0]["user"].as_str().expect("a user").to_owned();
    let first = ask(&[])[0]["time"].as_str().expect("a time").to_owned();
    for words in [
        &[][..],
        &["--patient", "1"],
        &["--patient", "2", "--user", &user],
        &["--site", "sakura-clinic"],
        &["--device", "exam-1"],
        &["--action", "read", "--decision", "permit"],
        &["--kind", "completion"],
        &["--from", &first],
        &["--to", &first],
        &["--user", ""],
    ] {
        assert_eq!(ask(words), ask(&[words, &["--no-index"]].concat()), "{words:?}");
    }
    // Nobody reads on the reviewer's disk who was where.
    let files = below(&folder.path().join("auditor.index"));
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let bytes = std::fs::read(&file).expect("a file");
        for word in [user.as_str(), "sakura-clinic", "Patient", "lane-1"] {
            let found = bytes.windows(word.len()).any(|window| window == word.as_bytes());
            assert!(!found && !file.display().to_string().contains(word), "{word} in {}", file.display());
        }
    }
}

#[test]
fn two_nodes_answer_together() {
    let (first, folder) = asked();
    let (second, _) = asked_of("gw2");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let logs = |prepared: &Prepared| [file(prepared, "audit"), file(prepared, "state/audit-keys")];
    let ([a, ka], [b, kb]) = (logs(&first), logs(&second));
    let (key, passphrase) = (at("auditor"), at("passphrase"));
    let ask = |words: &[&str]| {
        let fixed = ["audit", "query", "--format", "csv", "--patient", "1", "--kind", "request"];
        let keys = ["--key", &key, "--passphrase-file", &passphrase];
        let both = ["--dir", &a, "--dir", &b, "--keys", &ka, "--keys", &kb];
        sekisho(&[&fixed[..], &keys, &both, words].concat())
    };
    let found = ask(&[]);
    let of = |node: &str| found.stdout.matches(&format!("{node}/lane-1,")).count();
    assert_eq!((found.code, of("/gw1"), of("/gw2")), (Some(0), 2, 2), "{found:?}");
    assert_eq!(found.stdout, ask(&["--no-index"]).stdout);
}

#[test]
fn an_auditor_verifies_one_part_of_a_log() {
    let (prepared, folder) = asked();
    let (audit, keys) = (file(&prepared, "audit"), file(&prepared, "audit/verifier-keys"));
    let checkpoint = folder.path().join("checkpoint");
    std::fs::copy(prepared.path("audit/lane-1/checkpoint"), &checkpoint).expect("a copy");
    let checkpoint = checkpoint.display().to_string();
    let verify = |words: &[&str]| sekisho(&[&["audit", "verify", &audit, "--key", &keys], words].concat());
    let output = verify(&["--from", "2", "--to", "4", "--checkpoint", &checkpoint]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.contains("good: records 1 to") && output.stdout.contains("not looked at"), "{output:?}");
    assert!(output.stdout.contains("continues the older checkpoint"), "{output:?}");
    let output = verify(&["--to", "2020-01-01T00:00:00+09:00"]);
    assert!(output.code == Some(0) && output.stdout.contains("no record is in that part"), "{output:?}");
    let bundle = std::fs::read_dir(prepared.path("audit/lane-1/tile/entries/000.p")).expect("a folder").flatten();
    let bundle = bundle.map(|entry| entry.path()).max_by_key(|path| path.metadata().expect("a file").len());
    let bundle = bundle.expect("a bundle");
    let mut bytes = std::fs::read(&bundle).expect("a file");
    bytes[200] ^= 1;
    std::fs::write(&bundle, bytes).expect("written");
    let output = verify(&["--from", "2020-01-01"]);
    assert_eq!(output.code, Some(1));
    assert!(output.stdout.contains("BAD") && output.stdout.contains("entry 0"), "{output:?}");
    let output = verify(&["--from", "2020-01-01T00:00:00"]);
    assert_eq!(output.code, Some(2), "{output:?}");
}
