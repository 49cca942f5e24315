//! R26, A11: `sekisho audit shred` destroys what may be, never what is still kept, and a crash at any step leaves keys
//! that are there, or gone and recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use gateway_audit::destroyed::Destroyed;
use gateway_audit::keyfile::{NANOS_PER_DAY, period};
use gateway_tests::audit::text;
use gateway_tests::chrony::Chronyd;
use gateway_tests::{DOCTOR, Prepared, binary, until};

use crate::audit_retention::{
    SITE, age, audit, copy, destroyed, in_segments, keeping, key_directory, key_files, live, told, unix_ns, verified,
};

/// A day so many days from now.
fn day(days: i64) -> String {
    period(unix_ns() + days * NANOS_PER_DAY, std::num::NonZeroU32::MIN)
}

fn shred(prepared: &Prepared, before: &str) -> gateway_tests::Output {
    audit(prepared, &["shred", SITE, "--before", before])
}

#[test]
fn r26_what_is_kept_is_refused_with_the_key_and_the_day() {
    let home = tempfile::tempdir().expect("a folder");
    let server = Chronyd::server(home.path(), None);
    let clinic = keeping(&server, 30, false).start();
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    let keys = key_directory(&clinic.prepared);
    age(&keys, 30);
    let refused = shred(&clinic.prepared, &day(2));
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    let (said, until) = (&refused.stderr, day(31));
    assert!(said.contains("`audit.retention.days`") && said.contains("30 days") && said.contains(&until), "{said}");
    assert!(destroyed(&keys).is_empty());
    // Of other sites and periods there is nothing.
    let nothing = audit(&clinic.prepared, &["shred", "other-clinic", "--before", &day(2)]);
    assert!(nothing.code == Some(1) && nothing.stderr.contains("no data key of the site `other-clinic`"));
    let nothing = shred(&clinic.prepared, &day(0));
    assert!(nothing.code == Some(1) && nothing.stderr.contains("no data key"), "{}", nothing.stderr);
    drop(clinic.stop());
}

#[test]
fn r26_a_site_is_shredded_beside_a_gateway_that_runs() {
    let home = tempfile::tempdir().expect("a folder");
    let server = Chronyd::server(home.path(), None);
    let clinic = keeping(&server, 1, false).start();
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    let prepared = clinic.stop();
    let keys = key_directory(&prepared);
    let clinic = prepared.start();
    let own: BTreeSet<_> =
        live(&keys).into_iter().filter(|file| file.site.as_deref() == Some(SITE)).map(|file| file.key).collect();
    assert!(!own.is_empty());
    age(&keys, 3);
    let done = shred(&clinic.prepared, &day(2));
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert_eq!(destroyed(&keys).into_iter().map(|key| key.key).collect::<BTreeSet<_>>(), own);
    let records = told(&clinic.prepared, "shred");
    assert!(!records.is_empty());
    for record in &records {
        assert_eq!((text(record, "why"), text(record, "site")), ("shred", SITE), "{record}");
        assert!(!text(record, "by").is_empty() && text(record, "by") != "gateway", "{record}");
    }
    // Another key takes its place where it was in use, and the gateway goes on.
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    let prepared = clinic.stop();
    for lane in ["audit/lane-1", "audit/lane-2"] {
        let (good, said) = verified(&prepared.path(lane), &prepared.path("audit/verifier-keys"));
        assert!(good, "{said}");
    }
}

/// What a crash may leave: every key is there, or gone and recorded.
fn is_whole(folder: &Path, keys: &Path, before: &BTreeMap<std::path::PathBuf, Vec<u8>>, step: &str) {
    let records: Vec<_> = [1, 2]
        .iter()
        .flat_map(|lane| in_segments(&folder.join(format!("audit/lane-{lane}/wal")), keys))
        .filter(|(kind, ..)| kind == "shred")
        .map(|(_, operation, _)| operation)
        .collect();
    let now = key_files(keys);
    for (path, was) in before {
        let bytes = now.get(path).unwrap_or_else(|| panic!("{step}: `{}` is gone", path.display()));
        if bytes == was {
            continue;
        }
        let operation = Destroyed::parse(bytes).map(|destroyed| destroyed.operation);
        match operation {
            Ok(operation) => assert!(records.contains(&operation), "{step}: destroyed and not recorded"),
            // In the middle of being overwritten.
            Err(_) => assert!(!records.is_empty(), "{step}: overwritten and not recorded"),
        }
    }
}

#[test]
fn a11_a_crash_at_any_step_leaves_keys_or_their_record() {
    let home = tempfile::tempdir().expect("a folder");
    let server = Chronyd::server(home.path(), None);
    let clinic = keeping(&server, 1, false).start();
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    let prepared = clinic.stop();
    let keys = key_directory(&prepared);
    age(&keys, 3);
    let (state, log) = (home.path().join("state"), home.path().join("audit"));
    copy(&prepared.path("state"), &state);
    copy(&prepared.path("audit"), &log);
    let before = key_files(&keys);
    let own = live(&keys).into_iter().filter(|file| file.site.as_deref() == Some(SITE)).map(|file| file.key);
    let own: BTreeSet<_> = own.collect();
    let folder = prepared.path("");
    let config = prepared.path("sekisho.toml").display().to_string();
    let tomorrow = day(2);
    let mut steps = 0;
    for call in ["fsync", "rename"] {
        for when in 1.. {
            for (name, kept) in [("state", &state), ("audit", &log)] {
                std::fs::remove_dir_all(prepared.path(name)).expect("removed");
                copy(kept, &prepared.path(name));
            }
            let step = format!("{call} {when}");
            let inject = format!("inject={call}:signal=KILL:when={when}");
            let mut command = Command::new("strace");
            command.args(["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]).arg(binary());
            command.args(["audit", "shred", SITE, "--before", &tomorrow, "--config", &config]);
            let ended = command.output().expect("strace runs");
            is_whole(&folder, &keys, &before, &step);
            if ended.status.success() {
                break;
            }
            steps += 1;
            // The next command completes it, or finds that it is completed. (The key that sealed the record of it is of the
            // same period here, and aged with the others.)
            age(&keys, 3);
            let again = shred(&prepared, &tomorrow);
            let completed = again.stderr.contains("no data key of the site");
            assert!(again.code == Some(0) || completed, "{step}: {}", again.stderr);
            let gone: Vec<_> = destroyed(&keys).into_iter().filter(|key| own.contains(&key.key)).collect();
            assert_eq!(gone.len(), own.len(), "{step}");
            is_whole(&folder, &keys, &before, &step);
            let operations: BTreeSet<_> = gone.into_iter().map(|key| key.operation).collect();
            assert_eq!(operations.len(), 1, "{step}: one operation destroyed them");
            assert!(!keys.join("destroying").exists(), "{step}");
            assert!(when < 200, "{call} never ends");
        }
    }
    assert!(steps > 10, "{steps} steps");
    let (good, said) = verified(&prepared.path("audit/lane-1"), &prepared.path("audit/verifier-keys"));
    assert!(good, "{said}");
}

#[test]
fn a11_a_gateway_completes_what_a_crash_left() {
    let home = tempfile::tempdir().expect("a folder");
    let server = Chronyd::server(home.path(), None);
    let clinic = keeping(&server, 1, true).start();
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    let mut prepared = clinic.stop();
    let keys = key_directory(&prepared);
    age(&keys, 3);
    let before: BTreeSet<_> = live(&keys).into_iter().map(|file| file.key).collect();
    // The thread that destroys is killed with all others at one of its first renames: the plan's, or a key's.
    for when in [2, 3, 5] {
        let inject = format!("inject=rename:signal=KILL:when={when}");
        prepared.run_under(&["strace", "-f", "-o", "/dev/null", "-e", "trace=rename", "-e", &inject]);
        match prepared.try_start() {
            Ok(mut clinic) => {
                clinic.gateway.wait();
                prepared = clinic.stop();
            }
            Err((_, same)) => prepared = *same,
        }
    }
    prepared.run_under(&[]);
    let clinic = prepared.start();
    let gone = || destroyed(&keys).into_iter().map(|key| key.key).collect::<BTreeSet<_>>();
    until("all of them to go", || before.is_subset(&gone()).then_some(()));
    let prepared = clinic.stop();
    let (good, said) = verified(&prepared.path("audit/lane-1"), &prepared.path("audit/verifier-keys"));
    assert!(good, "{said}");
}
