//! `sekisho audit show` reads the log of a running gateway, or a copy, changes nothing and steers no terminal (R5, C15). A
//! reviewer's key opens records; without one their clear headers are shown (R28).

use std::path::Path;

use gateway_audit::frame::{Frame, SEGMENT_HEADER};
use gateway_tests::audit::{is, reviewer, wal};
use gateway_tests::{Clinic, DOCTOR, Output, Prepared, sekisho};

fn show(directory: &Path, more: &[&str]) -> Output {
    sekisho(&[&["audit", "show", "--dir", directory.to_str().expect("UTF-8")], more].concat())
}

/// The options of the reviewer.
fn as_reviewer(prepared: &Prepared) -> Vec<String> {
    let rounds = std::num::NonZeroU32::MIN;
    prepared.write("reviewer.key", reviewer().protect("a long passphrase", rounds, [1; 16]).expect("a file"));
    prepared.write("passphrase", "a long passphrase\n");
    let path = |name: &str| prepared.path(name).to_str().expect("UTF-8").to_owned();
    let options = ["--key", &path("reviewer.key"), "--passphrase-file", &path("passphrase")];
    let mut options: Vec<_> = options.map(str::to_owned).into();
    options.extend(["--keys".to_owned(), path("state/audit-keys")]);
    options
}

fn lines(output: &Output) -> Vec<&str> {
    assert_eq!(output.code, Some(0), "{output:?}");
    output.stdout.lines().collect()
}

#[test]
fn it_shows_a_reviewer_who_asked_for_what_and_what_came_of_it() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(wire.get("/fhir/Patient/1").status, 200);
    let target = "/open/x?a=\u{202e}\u{9b}2J";
    wire.request("GET", target, &[], b"");
    let audit = clinic.prepared.path("audit");
    let before = clinic.raw_records();
    let options = as_reviewer(&clinic.prepared);
    let with_key = |more: &[&str]| {
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        show(&audit, &[&options, more].concat())
    };
    let output = with_key(&["--last", "100"]);
    let shown = lines(&output);
    let read = shown.iter().find(|line| line.contains("target=/fhir/Patient/1")).expect("the request");
    for part in
        [" request ", "device=sakura-clinic/exam-1", "user=dr-sato", "method=GET", "decision=permit", "status=200"]
    {
        assert!(read.contains(part), "{part}: {read}");
    }
    assert!(!output.stdout.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{output:?}");
    assert_eq!(lines(&with_key(&["--last", "1"])).len(), 1);
    let output = with_key(&["--json", "--last", "100"]);
    let records: Vec<serde_json::Value> =
        lines(&output).iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(is(&records[0], "start") || records.iter().any(|record| is(record, "start")), "{records:#?}");
    assert_eq!(clinic.raw_records()[..before.len()], before[..], "it changed the log");
    assert!(sekisho(&["audit", "show", "--help"]).stdout.contains("Only reads"));
}

#[test]
fn without_a_key_it_shows_what_is_clear_and_no_name() {
    let clinic = Clinic::builder().start();
    let answer = clinic.wire(DOCTOR).get("/fhir/Patient/1");
    // The configuration knows where the log is.
    let config = clinic.prepared.path("sekisho.toml");
    let config = config.to_str().expect("UTF-8");
    let output = sekisho(&["audit", "show", "--config", config, "--follow", "no", "--last", "100"]);
    let shown = lines(&output);
    let id = answer.field("x-request-id");
    let read = shown.iter().find(|line| line.contains(id) && line.contains(" request ")).expect("the request");
    assert!(read.contains("pseudonym="), "{read}");
    for name in ["sakura", "exam-1", "dr-sato", "Patient"] {
        assert!(!output.stdout.contains(name), "{name}: {output:?}");
    }
}

#[test]
fn a_copy_a_damaged_copy_and_none() {
    let clinic = Clinic::builder().start();
    clinic.wire(DOCTOR).get("/fhir/Patient/1");
    let prepared = clinic.stop();
    let copy = prepared.path("copy");
    std::fs::create_dir(&copy).expect("a folder");
    for entry in std::fs::read_dir(wal(&prepared.path("audit"))).expect("a log").flatten() {
        std::fs::copy(entry.path(), copy.join(entry.file_name())).expect("a file");
    }
    let output = show(&copy, &[]);
    assert!(lines(&output).last().is_some_and(|line| line.ends_with(" stop")), "{output:?}");
    let segment = std::fs::read_dir(&copy).expect("a log").flatten().map(|entry| entry.path());
    let segment = segment.filter(|path| path.to_string_lossy().contains("segment-")).max().expect("a segment");
    let mut bytes = std::fs::read(&segment).expect("a segment");
    let first = Frame::decode(&bytes[SEGMENT_HEADER..]).expect("a record").size();
    bytes[SEGMENT_HEADER + first + 100] ^= 1;
    std::fs::write(&segment, bytes).expect("written");
    let output = show(&copy, &["--last", "100"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("BAD") && output.stderr.contains("segment-"), "{output:?}");
    assert!(output.stdout.contains(" 1 start\n") && !output.stdout.contains(" stop\n"), "{output:?}");
    for (directory, says) in [(prepared.path("policy"), "holds no audit log"), (prepared.path("absent"), "absent")] {
        let output = show(&directory, &[]);
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stderr.contains(says), "{output:?}");
    }
}
