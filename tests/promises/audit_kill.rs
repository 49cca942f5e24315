//! A3: prefix after any crash. Whenever the process is killed, the log that is left holds every acknowledged record,
//! without a gap or a repeat, and the next start goes on where it ends and says what happened.
//!
//! `SEKISHO_KILLS` sets how often the random test kills: 200 if it is not set, 1000 before a release.
//! `SEKISHO_SEED` repeats a run.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use gateway_audit::reader::Tail;
use gateway_tests::audit::{text, wal};
use gateway_tests::{DOCTOR, Seen};

use crate::audit_tools::{Acknowledged, Dice, Load, Log, segments, small_log, try_ask};

const KILLS: u64 = 200;

/// Every change that the backend saw has its intent; every intent without outcome is called unresolved. Says how many
/// there are.
pub fn told_to_the_end(log: &Log, seen: &[Seen]) -> usize {
    for request in seen.iter().filter(|request| request.method() == "POST") {
        let id = request.values("x-request-id").pop().expect("the backend is told the request's id");
        let kinds = log.requests.get(&id);
        assert!(kinds.is_some_and(|kinds| kinds.contains("intent")), "the backend saw {id}; the log has {kinds:?}");
    }
    let mut unresolved = BTreeSet::new();
    for recovery in log.events("recovery") {
        let named = recovery["unresolved"].as_array().expect("a list");
        assert_eq!(recovery["unresolved_count"], named.len(), "{recovery}");
        unresolved.extend(named.iter().map(|id| id.as_str().expect("an id").to_owned()));
    }
    let open = |kinds: &BTreeSet<String>| kinds.contains("intent") && !kinds.contains("outcome");
    let open: BTreeSet<_> = log.requests.iter().filter(|(_, kinds)| open(kinds)).map(|(id, _)| id.clone()).collect();
    assert_eq!(unresolved, open, "recovery names the intents without outcome, and no others");
    unresolved.len()
}

/// Every tail that a recovery speaks of is there, as it was found; and no other.
fn evidence_is_kept(log: &Log, directory: &Path) -> usize {
    let mut told = BTreeSet::new();
    for recovery in log.events("recovery") {
        for torn in recovery["torn"].as_array().expect("a list") {
            let bytes = std::fs::read(wal(directory).join(text(torn, "file"))).expect("the evidence");
            assert_eq!(torn["bytes"], bytes.len(), "{torn}");
            let sum: String = digest(&SHA256, &bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(text(torn, "sha256"), sum, "{torn}");
            told.insert(text(torn, "file").to_owned());
        }
    }
    let names = std::fs::read_dir(wal(directory)).expect("the log").flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let kept: BTreeSet<_> = names.filter(|name| name.starts_with("torn-")).collect();
    assert_eq!(told, kept);
    told.len()
}

#[test]
fn a3_killed_at_any_moment_under_load() {
    let kills = std::env::var("SEKISHO_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let mut dice = Dice::new();
    let mut prepared = small_log().prepare();
    let directory = prepared.path("audit");
    let mut log = Log::new(&directory);
    let (mut acknowledged, mut total) = (Vec::<Acknowledged>::new(), 0);
    for round in 0..kills {
        let mut clinic = prepared.start();
        // The run before is complete: its last segment is followed by this run's first.
        log.follow().unwrap_or_else(|bad| panic!("after {round} kills: {bad}"));
        log.holds(&acknowledged);
        total += acknowledged.len();
        let load = Load::start(&clinic.handshake(DOCTOR), 4);
        std::thread::sleep(Duration::from_millis(dice.between(5, 150)));
        clinic.kill();
        acknowledged = load.stop();
        prepared = clinic.stop();
    }
    let clinic = prepared.start();
    clinic.terminate();
    let prepared = clinic.stop();
    let end = log.finish().unwrap_or_else(|bad| panic!("{bad}")).expect("a log");
    assert_eq!(end.tail, Tail::Clean);
    log.holds(&acknowledged);
    println!("{kills} kills, {total} answers, {} records, {:?}", log.sequence, log.kinds);
    assert!(total > usize::try_from(kills).expect("few"), "there was no load");
    assert_eq!(log.count("recovery"), kills, "each kill is told");
    assert_eq!((log.count("stop"), log.count("start")), (1, kills + 1), "{:?}", log.kinds);
    told_to_the_end(&log, &prepared.backend.seen());
    evidence_is_kept(&log, &directory);
}

/// Kills at the n-th call of each thread, at the start or later; then starts again as always.
fn killed_at(call: &str, places: impl IntoIterator<Item = u32>) {
    let mut prepared = small_log().prepare();
    let directory = prepared.path("audit");
    let mut log = Log::new(&directory);
    let (mut at_start, mut later) = (0, 0);
    for place in places {
        let inject = format!("inject={call}:signal=KILL:when={place}");
        prepared.run_under(&["strace", "-D", "-f", "-o", "/dev/null", "-e", &inject]);
        let mut acknowledged = Vec::new();
        prepared = match prepared.try_start() {
            Err((failure, prepared)) => {
                assert_eq!(failure.code, None, "killed at the start, and nothing else: {failure:?}");
                at_start += 1;
                *prepared
            }
            Ok(mut clinic) => {
                for turn in 0..60 {
                    match try_ask(&clinic, turn % 2 == 1) {
                        Some(answer) => acknowledged.push(answer),
                        None => break,
                    }
                }
                assert!(clinic.gateway.wait_for(Duration::from_secs(2)).is_some(), "{call} {place} did not come");
                later += 1;
                clinic.stop()
            }
        };
        prepared.run_under(&[]);
        let clinic = prepared.start();
        log.follow().unwrap_or_else(|bad| panic!("{call} {place}: {bad}"));
        log.holds(&acknowledged);
        prepared = clinic.stop();
    }
    log.finish().unwrap_or_else(|bad| panic!("{call}: {bad}"));
    println!("{call}: {at_start} at the start, {later} later, {:?}", log.kinds);
    assert!(at_start > 0 && later > 0);
    told_to_the_end(&log, &prepared.backend.seen());
    evidence_is_kept(&log, &directory);
}

#[test]
fn a3_killed_at_every_sync() {
    killed_at("fdatasync", 1..=12);
}

#[test]
fn a3_killed_at_every_write() {
    // A segment's zeros are sixteen writes, the reserve's one.
    killed_at("pwrite64", [1, 2, 9].into_iter().chain(17..=30));
}

#[test]
fn a3_killed_at_every_rename_and_directory_sync() {
    killed_at_start("rename");
    killed_at_start("fsync");
}

/// For calls that are made once in a start.
fn killed_at_start(call: &str) {
    let mut prepared = small_log().prepare();
    let directory = prepared.path("audit");
    for _ in 0..3 {
        prepared.run_under(&[
            "strace",
            "-D",
            "-f",
            "-o",
            "/dev/null",
            "-e",
            &format!("inject={call}:signal=KILL:when=1"),
        ]);
        let Err((failure, again)) = prepared.try_start() else { panic!("no {call} at the start") };
        assert_eq!(failure.code, None, "{failure:?}");
        prepared = *again;
    }
    prepared.run_under(&[]);
    prepared = prepared.start().stop();
    let log = Log::read(&directory);
    assert_eq!((log.count("start"), log.count("stop")), (1, 1), "{:?}", log.kinds);
    evidence_is_kept(&log, &directory);
    drop(prepared);
}

#[test]
fn a3_a_torn_tail_is_kept_aside_and_told() {
    let mut prepared = small_log().prepare();
    let directory = prepared.path("audit");
    // Cuts of what might have been the next write: a length, half a header, a header, a record without its end.
    for length in [1, 4, 30, 56, 300] {
        let mut clinic = prepared.start();
        let answer = try_ask(&clinic, true).expect("an answer");
        clinic.kill();
        prepared = clinic.stop();
        let before = Log::read(&directory).sequence;
        tear(&directory, length);
        prepared = prepared.start().stop();
        let log = Log::read(&directory);
        log.holds(&[answer]);
        let recovery = log.events("recovery").pop().cloned().expect("a recovery");
        assert_eq!(recovery["last_sequence"], before, "{recovery}");
        assert_eq!(recovery["torn"][0]["bytes"], length, "{recovery}");
    }
    let log = Log::read(&directory);
    assert_eq!(evidence_is_kept(&log, &directory), 5);
    drop(prepared);
}

/// Writes the first bytes of a frame behind the last record of the log: those of a copy of the first one there.
fn tear(directory: &Path, length: usize) {
    use gateway_audit::frame::SEGMENT_HEADER;
    use std::io::{Seek as _, SeekFrom};
    let name = segments(directory).pop().expect("a segment");
    let path = wal(directory).join(&name);
    let bytes = std::fs::read(&path).expect("a segment");
    let end = Log::new(directory).finish().expect("a good log").expect("a segment").end;
    let mut frame = bytes[SEGMENT_HEADER..SEGMENT_HEADER + length].to_vec();
    // The last byte is not zero, so that the tail's length is exact.
    *frame.last_mut().expect("a byte") |= 1;
    let mut file = std::fs::File::options().write(true).open(&path).expect("a segment");
    file.seek(SeekFrom::Start(end)).expect("its end");
    file.write_all(&frame).expect("a torn tail");
}
