//! R28, A12: whoever runs the machine cannot read from Sekisho's files who saw which patient. Records open with a reviewer's
//! key alone.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use gateway_audit::note::VerifierKey;
use gateway_audit::reviewer::statement::{Statement, digest};
use gateway_audit::tiles::Files;
use gateway_audit::verify::{Against, verify};
use gateway_tests::audit::{is, lane, reviewer, text};
use gateway_tests::{Clinic, DOCTOR, Prepared, until};
use rustix::process::Signal;

use crate::audit_tools::{Load, Log, ask, small_log};

const USER: &str = "dr-planted-yamada";
const PATIENT: &str = "planted-patient-4711";

/// Every file below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

#[test]
fn no_file_but_the_registry_names_a_user_or_a_patient() {
    let mut prepared = small_log().device("sakura-clinic/planted-9", USER, "doctor").prepare();
    prepared.reconfigure(|config| config.set("log", "level", "debug"));
    let clinic = prepared.start();
    let mut wire = clinic.wire("sakura-clinic/planted-9");
    assert_eq!(wire.get(&format!("/fhir/Patient/{PATIENT}")).status, 200);
    assert_eq!(wire.get(&format!("/fhir/Observation?patient=Patient/{PATIENT}")).status, 200);
    wire.request("POST", &format!("/fhir/Patient/{PATIENT}/x"), &[], b"{}");
    // Denied, ambiguous, no route, and a change of the registry while the gateway runs.
    wire.get(&format!("/admin/{PATIENT}"));
    wire.get(&format!("/nowhere/{PATIENT}"));
    clinic.wire("sakura-clinic/planted-9").get(&format!("/fhir//Patient/{PATIENT}"));
    clinic.prepared.registry(&["user", "suspend", &format!("sakura-clinic/{USER}")]);
    clinic
        .wait_for_record("the suspension", |record| is(record, "registry-change") && record.to_string().contains(USER));
    let records = clinic.records();
    assert!(records.iter().any(|record| text(record, "user") == USER && record.to_string().contains(PATIENT)));
    let prepared = clinic.stop();
    let mut found = Vec::new();
    files(&prepared.path(""), &mut found);
    let mut looked_into = 0;
    for file in found {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        if name.starts_with("sekisho.db") {
            continue;
        }
        let bytes = std::fs::read(&file).expect("a file");
        looked_into += 1;
        for planted in [USER, PATIENT] {
            let holds = bytes.windows(planted.len()).any(|window| window == planted.as_bytes());
            assert!(!holds, "`{}` holds {planted}", file.display());
        }
    }
    assert!(looked_into > 20, "{looked_into}");
}

#[test]
fn a_gateway_without_reviewers_does_not_start_and_names_the_command() {
    let prepared = Clinic::builder().prepare();
    let statements = prepared.path("state/audit-reviewers");
    let first = statements.join("@default/1");
    let good = std::fs::read(&first).expect("a statement");
    let refused = |prepared: Prepared| {
        let Err((failure, prepared)) = prepared.try_start() else { panic!("it started") };
        assert_eq!(failure.code, Some(1), "{failure:?}");
        (failure.message, *prepared)
    };
    std::fs::remove_file(&first).expect("removed");
    let (said, prepared) = refused(prepared);
    assert!(said.contains("sekisho audit init"), "{said}");
    // One that an operator wrote.
    let mut forged = good.clone();
    let place = forged.windows(7).position(|window| window == b"auditor").expect("a name");
    forged[place] ^= 1;
    std::fs::write(&first, forged).expect("written");
    let (said, prepared) = refused(prepared);
    assert!(said.contains("@default/1"), "{said}");
    std::fs::write(&first, good).expect("written");
    std::fs::remove_file(prepared.path("state/audit-keys/pseudonym.key")).expect("removed");
    let (said, _) = refused(prepared);
    assert!(said.contains("pseudonym.key") && said.contains("sekisho audit init"), "{said}");
}

#[test]
fn other_reviewers_hold_from_the_reload_on_and_an_operators_do_not() {
    let clinic = Clinic::builder().start();
    let statements = clinic.prepared.path("state/audit-reviewers/@default");
    let first = std::fs::read(statements.join("1")).expect("a statement");
    let second = gateway_audit::reviewer::private::ReviewerKey::new("second", [8; 32], [8; 32]).expect("a reviewer");
    let next = Statement {
        domain: "sekisho.example".to_owned(),
        site: None,
        number: 2,
        previous: Some(digest(&first)),
        reviewers: vec![reviewer().public().clone(), second.public().clone()],
    };
    // Signed by the one who is to be added: nobody who is a reviewer said so.
    std::fs::write(statements.join("2"), next.sign(second.signing()).expect("a statement")).expect("written");
    assert!(!clinic.reload(), "an operator added a reviewer");
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    std::fs::write(statements.join("2"), next.sign(reviewer().signing()).expect("a statement")).expect("written");
    assert!(clinic.reload());
    let told = clinic.wait_for_record("the new reviewers", |record| is(record, "reviewers"));
    assert_eq!(told["number"], 2, "{told}");
    let keys = clinic.prepared.path("state/audit-keys");
    let wrapped_to_second = || {
        let mut found = Vec::new();
        files(&keys, &mut found);
        let has = |file: &PathBuf| {
            String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).contains("\nreviewer second ")
        };
        (found.iter().filter(|file| has(file)).count(), found.len())
    };
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    until("keys for both", || Some(wrapped_to_second()).filter(|(both, _)| *both > 0));
    let (both, all) = wrapped_to_second();
    assert!(both < all - 1, "what was sealed before stays as it was: {both} of {all}");
}

/// The lane's folder as a verifier reads it.
struct Folder(PathBuf);

impl Files for Folder {
    type Error = std::io::Error;

    fn read(&mut self, path: &str, _: usize) -> std::io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.0.join(path)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }
}

/// Verifies the first lane; says how many records its checkpoint covers.
fn verified(directory: &Path) -> u64 {
    let keys = std::fs::read_to_string(directory.join("verifier-keys")).expect("verifier keys");
    let key = VerifierKey::parse(keys.lines().next().expect("a line")).expect("a verifier key");
    let verified = verify(&mut Folder(lane(directory)), &key, Against::default(), |_, _| {});
    verified.unwrap_or_else(|error| panic!("{error}")).records
}

#[test]
fn a9_after_kills_the_tree_verifies_and_holds_every_record() {
    let mut prepared = small_log().prepare();
    let directory = prepared.path("audit");
    let mut log = Log::new(&directory);
    for round in 0..8_u64 {
        let mut clinic = prepared.start();
        log.follow().unwrap_or_else(|bad| panic!("{bad}"));
        let load = Load::start(&clinic.handshake(DOCTOR), 4);
        std::thread::sleep(std::time::Duration::from_millis(100 + 130 * round));
        clinic.kill();
        load.stop();
        prepared = clinic.stop();
        // What is signed is whole at any moment: tiles come before the checkpoint over them.
        if lane(&directory).join("checkpoint").exists() {
            verified(&directory);
        }
    }
    let clinic = prepared.start();
    let answer = ask(&clinic, true);
    let start = std::time::Instant::now();
    let sequence = Log::read(&directory).sequence;
    until("the checkpoint over it", || (verified(&directory) >= sequence).then_some(()));
    assert!(start.elapsed() < std::time::Duration::from_secs(2), "{:?}", start.elapsed());
    let prepared = clinic.stop();
    log.finish().unwrap_or_else(|bad| panic!("{bad}"));
    log.holds(&[answer]);
    assert_eq!(verified(&directory), log.sequence);
    drop(prepared);
}

/// Starts a command where a core would be kept, as far as the machine keeps any.
const WITH_CORES: [&str; 4] = ["sh", "-c", "ulimit -c \"$(ulimit -H -c)\"; cd \"$HOME\" || exit; exec \"$@\"", "sh"];

#[test]
fn a12_a_crash_leaves_no_core() {
    let mut prepared = small_log().prepare();
    let home = format!("HOME={}", prepared.path("").display());
    prepared.run_under(&[&["env", &home][..], &WITH_CORES].concat());
    let mut clinic = prepared.start();
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", clinic.gateway.pid())).expect("limits");
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"], "{limits}");
    let before = files_of(&clinic.prepared);
    clinic.gateway.signal(Signal::ABORT);
    let status = clinic.gateway.wait();
    assert_eq!((status.signal(), status.core_dumped()), (Some(Signal::ABORT.as_raw()), false));
    let grown: Vec<_> = files_of(&clinic.prepared).into_iter().filter(|file| !before.contains(file)).collect();
    assert!(
        grown.iter().all(|file| !file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core"))),
        "{grown:?}"
    );
}

fn files_of(prepared: &Prepared) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&prepared.path(""), &mut found);
    found
}
