//! R30, A11: records can be opened for as long as the configuration states, and no longer; what is removed then is named by
//! the log itself, and the rest verifies. A clock that jumps destroys nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use gateway_audit::destroyed::Destroyed;
use gateway_audit::frame::SegmentHeader;
use gateway_audit::header::{Envelope, KeyId};
use gateway_audit::keyfile::KeyFile;
use gateway_audit::reader::Verifier;
use gateway_audit::seal::DataKey;
use gateway_tests::audit::{reviewer, text};
use gateway_tests::chrony::{Chronyd, FAKETIME};
use gateway_tests::{Builder, Clinic, DOCTOR, Output, Prepared, repository, sekisho, until};
use serde_json::Value;

use crate::audit_tools::small_log;

pub const SITE: &str = "sakura-clinic";
const DAY_NS: i64 = 86_400_000_000_000;

/// A clinic whose clock a server vouches for, and which keeps records for so many days.
pub fn keeping(server: &Chronyd, days: u32, automatic: bool) -> Builder {
    let server = format!("[[clock.server]]\naddress = \"{}\"\n", server.address);
    let retention = format!("[audit.retention]\ndays = {days}\nprovider_days = {days}\nautomatic = {automatic}\n");
    small_log().config(move |config| {
        config.set("clock", "chrony", "off");
        config.set("clock", "probe_interval_s", 4);
        config.append(&server);
        config.append(&retention);
    })
}

pub fn unix_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_nanos()).expect("before 2262")
}

pub fn key_directory(prepared: &Prepared) -> PathBuf {
    prepared.path("state/audit-keys")
}

/// The files of data keys, by path.
pub fn key_files(keys: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let folders = |path: &Path| {
        std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.path())
            .collect::<Vec<_>>()
    };
    let periods = folders(keys).iter().flat_map(|site| folders(site)).collect::<Vec<_>>();
    let files = periods.iter().flat_map(|period| std::fs::read_dir(period).into_iter().flatten().flatten());
    let files = files.filter(|file| !file.file_name().to_string_lossy().starts_with('.'));
    files.map(|file| (file.path(), std::fs::read(file.path()).expect("a file"))).collect()
}

pub fn live(keys: &Path) -> Vec<KeyFile> {
    key_files(keys).values().filter_map(|bytes| KeyFile::parse(bytes).ok()).collect()
}

pub fn destroyed(keys: &Path) -> Vec<Destroyed> {
    key_files(keys).values().filter_map(|bytes| Destroyed::parse(bytes).ok()).collect()
}

/// Lets so many days go by for the keys that are there: the memory of retention says that they were seen, then.
pub fn age(keys: &Path, days: i64) {
    let mut seen: BTreeMap<String, (u64, BTreeSet<String>)> = BTreeMap::new();
    for file in live(keys) {
        let highest = seen.entry(file.origin.clone()).or_default();
        if file.first > highest.0 {
            *highest = (file.first, BTreeSet::new());
        }
        if file.first == highest.0 {
            highest.1.insert(file.key.to_string());
        }
    }
    let mut memory =
        format!("sekisho audit retention v1\ntime {}\nboot then\nmonotonic 0\n", unix_ns() + days * DAY_NS);
    for (origin, (first, ids)) in seen {
        memory.push_str(&format!("seen {origin} {first}"));
        ids.iter().for_each(|id| memory.push_str(&format!(" {id}")));
        memory.push('\n');
    }
    std::fs::write(keys.join("retention.new"), memory).expect("written");
    std::fs::rename(keys.join("retention.new"), keys.join("retention")).expect("renamed");
}

/// The records in a lane's segments: header and, where the reviewer can open it, what is inside.
pub fn in_segments(wal: &Path, keys: &Path) -> Vec<(String, String, Option<Value>)> {
    let opened: BTreeMap<KeyId, KeyFile> = live(keys).into_iter().map(|file| (file.key, file)).collect();
    let mut names: Vec<_> = std::fs::read_dir(wal).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    names.sort();
    let mut records = Vec::new();
    let segments: Vec<_> = names
        .iter()
        .filter_map(|path| {
            let bytes = std::fs::read(path).ok()?;
            SegmentHeader::decode(&bytes).is_ok().then_some(bytes)
        })
        .collect();
    for (place, bytes) in segments.iter().enumerate() {
        let next = segments.get(place + 1).and_then(|next| SegmentHeader::decode(next).ok());
        let _ = Verifier::new().segment("segment", bytes, next.as_ref(), |_, frame| {
            let envelope = Envelope::decode(frame.record).expect("an envelope");
            let inside = opened.get(&envelope.header.key).map(|file| {
                let key = DataKey::new(&file.open(&reviewer()).expect("wrapped")).expect("a key");
                let record = key.open(&file.origin, frame.sequence, &envelope).expect("it opens at its place");
                serde_json::from_slice(&record).expect("JSON")
            });
            records.push((envelope.header.kind.label().to_owned(), envelope.header.reference.to_owned(), inside));
        });
    }
    records
}

/// The records of a kind in both lanes that the reviewer can open.
pub fn told(prepared: &Prepared, kind: &str) -> Vec<Value> {
    let lanes = [1, 2].map(|lane| prepared.path(&format!("audit/lane-{lane}/wal")));
    let all = lanes.iter().flat_map(|wal| in_segments(wal, &key_directory(prepared)));
    all.filter(|(found, ..)| found == kind).filter_map(|(.., inside)| inside).collect()
}

/// `sekisho audit …` with the clinic's configuration.
pub fn audit(prepared: &Prepared, arguments: &[&str]) -> Output {
    let config = prepared.path("sekisho.toml").display().to_string();
    sekisho(&[&["audit"], arguments, &["--config", &config]].concat())
}

/// What both verifiers say of a folder of lanes, or of one lane.
pub fn verified(directory: &Path, keys: &Path) -> (bool, String) {
    let (lane, keys) = (directory.display().to_string(), keys.display().to_string());
    let ours = sekisho(&["audit", "verify", &lane, "--key", &keys]);
    let program = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let script = repository().join("tests/offline/auditlog.py");
    let theirs =
        Command::new(program).arg(script).args(["verify", &lane, "--key", &keys]).output().expect("Python runs");
    let said = String::from_utf8_lossy(&theirs.stdout).into_owned() + &String::from_utf8_lossy(&theirs.stderr);
    let both = format!("{}{}{said}", ours.stdout, ours.stderr);
    assert_eq!(ours.code == Some(0), theirs.status.code() == Some(0), "the verifiers do not agree: {both}");
    (ours.code == Some(0), both)
}

pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "--"]).args([from, to]).status().expect("cp runs");
    assert!(copied.success());
}

/// A log of more than two bundles, and then the gateway's end.
fn long_log(clinic: Clinic) -> Prepared {
    let mut wire = clinic.wire(DOCTOR);
    for _ in 0..400 {
        assert_eq!(wire.get("/fhir/Patient/1").status, 200);
    }
    clinic.stop()
}

#[test]
fn a11_r30_what_is_no_longer_kept_goes_and_the_log_says_so() {
    let home = tempfile::tempdir().expect("a folder");
    let server = Chronyd::server(home.path(), None);
    let prepared = long_log(keeping(&server, 1, true).start());
    let (keys, lane) = (key_directory(&prepared), prepared.path("audit/lane-1"));
    let own_keys = prepared.path("audit/verifier-keys");
    let before: BTreeSet<_> = live(&keys).into_iter().map(|file| file.key).collect();
    assert!(before.len() >= 2 && verified(&lane, &own_keys).0);
    let whole = home.path().join("whole");
    copy(&lane, &whole);
    age(&keys, 3);

    let clinic = prepared.start();
    let first = lane.join("tile/entries/000");
    until("entries to go", || (lane.join("removed").exists() && !first.exists()).then_some(()));
    let gone = destroyed(&keys);
    assert_eq!(
        gone.iter().map(|key| key.key).collect::<BTreeSet<_>>(),
        before,
        "all keys of the first run, and no other"
    );
    assert!(!live(&keys).is_empty());
    // The log said so before: site, class, period, keys, why and who.
    let records = told(&clinic.prepared, "shred");
    let ids = |record: &Value| {
        record["keys"]
            .as_array()
            .expect("keys")
            .iter()
            .map(|id| id.as_str().expect("an id").to_owned())
            .collect::<Vec<_>>()
    };
    let named: BTreeSet<String> = records.iter().flat_map(ids).collect();
    assert_eq!(named, before.iter().map(ToString::to_string).collect());
    assert_eq!(records.iter().map(|record| ids(record).len()).sum::<usize>(), named.len(), "each once");
    for key in &gone {
        let record = records.iter().find(|record| ids(record).contains(&key.key.to_string())).expect("a record");
        assert_eq!((text(record, "why"), text(record, "by")), ("retention", "gateway"));
        assert_eq!((text(record, "operation"), text(record, "period")), (key.operation.as_str(), key.period.as_str()));
        assert_eq!(record.get("class").and_then(Value::as_str), key.class.as_deref());
    }
    assert!(records.iter().any(|record| text(record, "site") == SITE));
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    until("the metric", || {
        (clinic.metric("sekisho_audit_keys_destroyed_total", &[]) >= before.len() as f64).then_some(())
    });

    // What is left verifies, with and without the gateway, also after another start.
    let mut prepared = clinic.stop();
    for _ in 0..2 {
        let (good, said) = verified(&lane, &own_keys);
        assert!(
            good && said.contains("removed by retention under record") && said.contains("\"removed\": {"),
            "{said}"
        );
        prepared = prepared.start().stop();
    }
    let status = audit(&prepared, &["status"]);
    assert!(status.stdout.contains("destroyed by retention"), "{}{}", status.stdout, status.stderr);
    assert!(status.stdout.contains("were removed by retention under record"), "{}", status.stdout);
    assert!(status.stdout.contains("opened by auditor"), "{}", status.stdout);

    // The same absence without its tombstone is a removal, and so is one bundle more.
    let copied = home.path().join("copy");
    copy(&lane, &copied);
    std::fs::remove_file(copied.join("removed")).expect("removed");
    let (good, said) = verified(&copied, &own_keys);
    assert!(!good && said.contains("removed"), "{said}");
    let stolen = home.path().join("stolen");
    copy(&whole, &stolen);
    std::fs::remove_file(stolen.join("tile/entries/000")).expect("removed");
    copy(&lane.join("removed"), &stolen.join("removed"));
    let (good, said) = verified(&stolen, &own_keys);
    assert!(!good && said.contains("removed"), "{said}");
}

#[test]
fn a11_a_crash_while_entries_go_leaves_a_log_that_verifies() {
    let home = tempfile::tempdir().expect("a folder");
    let server = Chronyd::server(home.path(), None);
    let mut prepared = long_log(keeping(&server, 1, true).start());
    let (keys, lane) = (key_directory(&prepared), prepared.path("audit/lane-1"));
    let own_keys = prepared.path("audit/verifier-keys");
    age(&keys, 3);
    let (state, log) = (home.path().join("state"), home.path().join("audit"));
    copy(&prepared.path("state"), &state);
    copy(&prepared.path("audit"), &log);
    let gone = |lane: &Path| {
        let left = |bundle: &&str| lane.join("tile/entries").join(bundle).exists();
        lane.join("removed").exists() && !["000", "001"].iter().any(left)
    };
    // The first file that a thread removes, the second, and so on: the plan, then bundle after bundle.
    for when in 1..=4 {
        for (name, kept) in [("state", &state), ("audit", &log)] {
            std::fs::remove_dir_all(prepared.path(name)).expect("removed");
            copy(kept, &prepared.path(name));
        }
        let inject = format!("inject=unlink:signal=KILL:when={when}");
        prepared.run_under(&["strace", "-f", "-o", "/dev/null", "-e", "trace=unlink", "-e", &inject]);
        match prepared.try_start() {
            Ok(mut clinic) => {
                until("an end", || (clinic.gateway.ended().is_some() || gone(&lane)).then_some(()));
                prepared = clinic.stop();
            }
            Err((_, same)) => prepared = *same,
        }
        let (good, said) = verified(&lane, &own_keys);
        assert!(good, "unlink {when}: {said}");
        prepared.run_under(&[]);
        let clinic = prepared.start();
        until("entries to go", || gone(&lane).then_some(()));
        prepared = clinic.stop();
        let (good, said) = verified(&lane, &own_keys);
        assert!(good && said.contains("removed by retention under record"), "unlink {when}: {said}");
    }
}

#[test]
fn a11_a_clock_a_year_ahead_destroys_nothing() {
    let home = tempfile::tempdir().expect("a folder");
    let server = Chronyd::server(home.path(), None);
    let clinic = keeping(&server, 1, true).start();
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    let keys = key_directory(&clinic.prepared);
    until("the first look", || keys.join("retention").exists().then_some(()));
    let mut prepared = clinic.stop();
    let before = key_files(&keys);
    let preload = format!("LD_PRELOAD={FAKETIME}");
    prepared.run_under(&["env", &preload, "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME=+365d"]);
    let clinic = prepared.start();
    let refused = "audit-retention: the clock alarms";
    until("a refusal", || clinic.admin_get("/readyz?verbose").1.contains(refused).then_some(()));
    assert!(destroyed(&keys).is_empty() && told(&clinic.prepared, "shred").is_empty());
    let after = key_files(&keys);
    assert!(before.iter().all(|(path, bytes)| after.get(path) == Some(bytes)), "every key is as it was");
    assert!((clinic.metric("sekisho_audit_retention_failing", &[]) - 1.0).abs() < f64::EPSILON);
    drop(clinic.stop());
}

#[test]
fn a12_no_secret_of_a_request_reaches_a_file() {
    const PLANTED: &str = "planted-7c1f-token-and-password";
    let clinic = small_log().start();
    let mut wire = clinic.wire(DOCTOR);
    let bearer = format!("Bearer {PLANTED}");
    let fields = [("authorization", bearer.as_str()), ("cookie", PLANTED), ("content-type", "application/fhir+json")];
    let _ = wire.request("POST", "/fhir/Patient", &fields, format!("{{\"password\":\"{PLANTED}\"}}").as_bytes());
    clinic.wait_for_record("the request", |record| {
        text(record, "kind") == "outcome" || text(record, "kind") == "request"
    });
    // Opened, the records do not hold it either.
    assert!(clinic.raw_records().iter().all(|record| !String::from_utf8_lossy(record).contains(PLANTED)));
    let prepared = clinic.stop();
    let found = Command::new("grep").args(["-rlaF", PLANTED]).arg(prepared.path("")).output().expect("grep runs");
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "files that hold a secret");
}
