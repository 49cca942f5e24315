//! A5, A6, A7: a sync that fails, a disk that is full or read-only, calls that do less than they were asked to. The
//! door is shut while the log cannot be written, says so, and opens again by itself; nothing acknowledged is lost.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use gateway_tests::audit::{text, wal};
use gateway_tests::{Builder, Clinic, DOCTOR, until};

use crate::audit_tools::{Acknowledged, Broken, Load, Log, ask, segments, small_log, try_ask};

/// A gateway whose audit directory is a small disk of its own, in a mount namespace that ends with the process.
struct SmallDisk {
    clinic: Clinic,
}

impl SmallDisk {
    fn start(builder: Builder, megabytes: u32) -> Self {
        let mut prepared = builder.prepare();
        let directory = prepared.path("audit");
        let script = "mount -t tmpfs -o mode=700,size=$0m none \"$1\" && shift && exec \"$@\"";
        let directory = directory.to_str().expect("an UTF-8 path");
        let size = megabytes.to_string();
        prepared.run_under(&["unshare", "-m", "--propagation", "private", "sh", "-c", script, &size, directory]);
        Self { clinic: prepared.start() }
    }

    /// The directory as the gateway sees it.
    fn directory(&self) -> PathBuf {
        let inside = self.clinic.prepared.path("audit");
        PathBuf::from(format!("/proc/{}/root{}", self.clinic.gateway.pid(), inside.display()))
    }

    fn log(&self) -> Log {
        Log::read_with(&self.directory(), Some(&self.keys()))
    }

    fn keys(&self) -> PathBuf {
        self.clinic.prepared.path("state/audit-keys")
    }

    /// Somebody else's file takes all the space that is left.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.directory().join("ballast")).expect("a file");
        for size in [1 << 20, 4096, 1] {
            let block = vec![1; size];
            while file.write(&block).is_ok_and(|written| written == block.len()) {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.directory().join("ballast")).expect("the ballast");
    }
}

/// Asks, with records as long as may be, until the log is the reason to refuse; what was answered until then.
fn ask_until_refused(clinic: &Clinic) -> Vec<Acknowledged> {
    let target = format!("/fhir/Patient/1?x={}", "x".repeat(12_000));
    let mut answered = Vec::new();
    let mut wire = clinic.wire(DOCTOR);
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end {
        let answer = Acknowledged::new(&wire.get(&target), false);
        if answer.is_about_the_log() {
            return answered;
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        answered.push(answer);
    }
    panic!("never refused; the gateway said: {}", clinic.gateway.said());
}

/// The door is shut: reads, changes and denials alike, and `/readyz` says why.
fn is_shut(clinic: &Clinic, why: &str) {
    let (status, page) = until("/readyz to say no", || Some(clinic.admin_get("/readyz")).filter(|page| page.0 != 200));
    assert_eq!(status, 503, "{page}");
    assert!(page.contains("audit") && page.contains(why), "{page}");
    let asked_before = clinic.backend().seen().len();
    for changes in [false, true] {
        let answer = ask(clinic, changes);
        assert_eq!((answer.status, &*answer.label), (503, "audit-unavailable"), "{answer:?}");
    }
    let denied = clinic.wire(DOCTOR).get("/admin/page");
    assert_eq!((denied.status, &*denied.problem()), (503, "audit-unavailable"));
    let changes = clinic.backend().seen().into_iter().skip(asked_before).filter(|seen| seen.method() != "GET").count();
    assert_eq!(changes, 0, "something was changed without a record");
    assert!(clinic.metric("sekisho_audit_available", &[]) < 0.5);
}

/// It opens again without a restart.
fn opens_again(clinic: &Clinic) -> Vec<Acknowledged> {
    until("/readyz to say yes", || (clinic.admin_get("/readyz").0 == 200).then_some(()));
    // What waited in the queue is written first; where that is short, it may still be full.
    let ask = |changes| until("an answer", || Some(ask(clinic, changes)).filter(|answer| answer.label != "audit-busy"));
    let answers: Vec<_> = [false, true].map(ask).into();
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert!(clinic.metric("sekisho_audit_available", &[]) > 0.5);
    answers
}

#[test]
fn a5_one_failed_sync_finishes_the_file_and_not_the_service() {
    let clinic = small_log().start();
    let directory = clinic.prepared.path("audit");
    let load = Load::start(&clinic.handshake(DOCTOR), 4);
    std::thread::sleep(Duration::from_millis(300));
    let before = segments(&directory);
    {
        let _broken = Broken::inject(&clinic, "fdatasync:error=EIO:when=1");
        until("the failure's record", || Log::read(&directory).events("audit-failure").first().map(|_| ()));
    }
    std::thread::sleep(Duration::from_millis(300));
    let mut answers = load.stop();
    answers.extend(opens_again(&clinic));
    assert!(answers.iter().all(|answer| answer.status == 200 || answer.is_about_the_log()), "{answers:?}");
    let log = Log::read(&directory);
    log.holds(&answers);
    let failure = log.events("audit-failure")[0];
    assert_eq!((text(failure, "operation"), &failure["errno"]), ("fdatasync", &5.into()), "{failure}");
    assert!(text(failure, "segment") == before.last().expect("a segment"), "{failure}");
    assert!(segments(&directory).len() > before.len(), "the file whose sync failed is not used again");
    // No descriptor of the failed file is open any more: no second sync can lie about it.
    let open = std::fs::read_dir(format!("/proc/{}/fd", clinic.gateway.pid())).expect("its files").flatten();
    let open: Vec<_> = open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
    assert!(!open.contains(&wal(&directory).join(text(failure, "segment"))), "{open:?}");
}

#[test]
fn a5_while_every_sync_fails_the_door_is_shut() {
    let clinic = small_log().start();
    let mut answers = vec![ask(&clinic, false), ask(&clinic, true)];
    let broken = Broken::inject(&clinic, "fdatasync:error=EIO");
    // Whoever is first to need the log finds out.
    assert_eq!(ask(&clinic, true).label, "audit-unavailable");
    is_shut(&clinic, "fdatasync");
    // Trying again is not succeeding.
    std::thread::sleep(Duration::from_millis(2_500));
    is_shut(&clinic, "fdatasync");
    drop(broken);
    answers.extend(opens_again(&clinic));
    let log = Log::read(&clinic.prepared.path("audit"));
    log.holds(&answers);
    let failure = log.events("audit-failure")[0];
    assert!(failure["unavailable_us"].as_u64().expect("a time") > 2_000_000, "{failure}");
    // A restart finds nothing wrong.
    let prepared = clinic.stop().start().stop();
    let log = Log::read(&prepared.path("audit"));
    assert_eq!((log.count("recovery"), log.count("stop")), (0, 2), "{:?}", log.kinds);
}

#[test]
fn a5_writes_that_fail_are_like_syncs_that_fail() {
    let clinic = small_log().start();
    let mut answers = vec![ask(&clinic, false)];
    let broken = Broken::inject(&clinic, "pwrite64:error=EIO");
    assert_eq!(ask(&clinic, false).label, "audit-unavailable");
    is_shut(&clinic, "write");
    drop(broken);
    answers.extend(opens_again(&clinic));
    Log::read(&clinic.prepared.path("audit")).holds(&answers);
}

#[test]
fn a5_ended_while_the_log_is_broken() {
    let mut clinic = small_log().start();
    let answer = ask(&clinic, true);
    let broken = Broken::inject(&clinic, "fdatasync:error=EIO");
    assert_eq!(ask(&clinic, true).label, "audit-unavailable");
    clinic.terminate();
    let status = clinic.gateway.wait();
    drop(broken);
    assert!(!status.success(), "an end without a `stop` record is not a clean one");
    let prepared = clinic.stop().start().stop();
    let log = Log::read(&prepared.path("audit"));
    log.holds(&[answer]);
    assert_eq!(log.count("recovery"), 1, "{:?}", log.kinds);
}

#[test]
fn a6_a_full_disk_shuts_the_door_until_there_is_space() {
    let disk = SmallDisk::start(small_log(), 4);
    disk.fill();
    let mut answers = ask_until_refused(&disk.clinic);
    is_shut(&disk.clinic, "No space left");
    let log = disk.log();
    assert_eq!(log.count("full"), 1, "the reserve took the record of it: {:?}", log.kinds);
    log.holds(&answers);
    std::thread::sleep(Duration::from_millis(1_500));
    is_shut(&disk.clinic, "No space left");
    disk.free();
    answers.extend(opens_again(&disk.clinic));
    let log = disk.log();
    log.holds(&answers);
    assert!(log.count("audit-failure") >= 1, "{:?}", log.kinds);
    // The second time is as good as the first.
    disk.fill();
    answers.extend(ask_until_refused(&disk.clinic));
    is_shut(&disk.clinic, "No space left");
    disk.free();
    answers.extend(opens_again(&disk.clinic));
    let log = disk.log();
    log.holds(&answers);
    assert_eq!(log.count("full"), 2, "{:?}", log.kinds);
}

#[test]
fn a6_ended_while_the_disk_is_full() {
    let mut disk = SmallDisk::start(small_log(), 4);
    disk.fill();
    let answers = ask_until_refused(&disk.clinic);
    is_shut(&disk.clinic, "No space left");
    // The disk goes with the process, so that its end is watched from a copy of the mount.
    let keep = std::fs::File::open(disk.directory()).expect("the directory");
    disk.clinic.terminate();
    let status = disk.clinic.gateway.wait();
    let kept = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&keep)));
    let log = Log::read_with(&kept, Some(&disk.keys()));
    log.holds(&answers);
    assert_eq!((log.count("full"), log.count("stop")), (1, 1), "{:?}", log.kinds);
    println!("{status}");
}

#[test]
fn a6_a_file_size_limit_does_not_kill() {
    let clinic = small_log().start();
    let mut answers = Vec::new();
    for _ in 0..40 {
        answers.push(ask(&clinic, false));
    }
    // Real short writes: the kernel writes up to the limit, and refuses the rest.
    let pid = clinic.gateway.pid().to_string();
    let limit = |bytes: &str| {
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}")]).status();
        assert!(set.expect("prlimit runs").success());
    };
    limit("200000:unlimited");
    answers.extend(ask_until_refused_or_smaller(&clinic));
    limit("unlimited:unlimited");
    answers.extend(opens_again(&clinic));
    Log::read(&clinic.prepared.path("audit")).holds(&answers);
}

/// As [`ask_until_refused`], where the gateway may also help itself with smaller files.
fn ask_until_refused_or_smaller(clinic: &Clinic) -> Vec<Acknowledged> {
    let directory = clinic.prepared.path("audit");
    let before = segments(&directory).len();
    let mut answered = Vec::new();
    until("a refusal or another file", || {
        let answer = try_ask(clinic, true).unwrap_or_else(|| panic!("it ended; it said: {}", clinic.gateway.said()));
        let over = answer.is_about_the_log() || segments(&directory).len() > before;
        answered.push(answer);
        over.then_some(())
    });
    answered
}

#[test]
fn a7_a_disk_that_turns_read_only_shuts_the_door_until_it_is_writable() {
    // As after an error of the file system. (Nobody can remount it while the gateway holds its lock.)
    let clinic = small_log().start();
    let mut answers = vec![ask(&clinic, false), ask(&clinic, true)];
    let broken = Broken::inject(&clinic, "pwrite64,openat,rename,ftruncate:error=EROFS");
    assert_eq!(ask(&clinic, false).label, "audit-unavailable");
    is_shut(&clinic, "Read-only file system");
    std::thread::sleep(Duration::from_millis(1_500));
    is_shut(&clinic, "Read-only file system");
    drop(broken);
    answers.extend(opens_again(&clinic));
    Log::read(&clinic.prepared.path("audit")).holds(&answers);
}

#[test]
fn a7_no_start_on_a_read_only_disk() {
    let mut prepared = small_log().prepare();
    let directory = prepared.path("audit").to_str().expect("an UTF-8 path").to_owned();
    let script = "mount -t tmpfs -o ro,size=8m none \"$0\" && exec \"$@\"";
    prepared.run_under(&["unshare", "-m", "--propagation", "private", "sh", "-c", script, &directory]);
    let Err((failure, _)) = prepared.try_start() else { panic!("it started") };
    assert_eq!(failure.code, Some(1), "{failure:?}");
    assert!(failure.message.contains("Read-only file system") && failure.message.contains(&directory), "{failure:?}");
}

#[test]
fn a7_interrupted_and_blocked_calls_are_repeated() {
    let clinic = small_log().start();
    let directory = clinic.prepared.path("audit");
    let mut answers = Vec::new();
    for fault in ["pwrite64:error=EINTR:when=1..5", "pwrite64:error=EAGAIN:when=1..5"] {
        let _broken = Broken::inject(&clinic, fault);
        for changes in [false, true, false] {
            answers.push(ask(&clinic, changes));
        }
        assert!(answers.iter().all(|answer| answer.status == 200), "{fault}: {answers:?}");
        assert_eq!(Log::read(&directory).count("audit-failure"), 0, "{fault}");
    }
    // A sync is not repeated: the second one might say yes to pages that are lost.
    for fault in ["fdatasync:error=EINTR:when=1", "fdatasync:error=EDQUOT:when=1", "fdatasync:error=ESTALE:when=1"] {
        let before = Log::read(&directory).count("audit-failure");
        let _broken = Broken::inject(&clinic, fault);
        answers.push(ask(&clinic, true));
        answers.extend(opens_again(&clinic));
        assert_eq!(Log::read(&directory).count("audit-failure"), before + 1, "{fault}");
    }
    Log::read(&directory).holds(&answers);
}

#[test]
fn a5_serve_and_alarm_serves_alarms_and_tells_the_gap() {
    let builder = small_log().config(|config| {
        config.set("audit", "on_failure", "serve-and-alarm");
        config.set("audit", "queue_records", 64);
    });
    let clinic = builder.start();
    let directory = clinic.prepared.path("audit");
    let mut answers = vec![ask(&clinic, true)];
    let broken = Broken::inject(&clinic, "fdatasync:error=EIO");
    let mut unrecorded = 0_u64;
    for turn in 0..200 {
        let answer = ask(&clinic, turn % 2 == 0);
        assert_eq!(answer.status, 200, "{answer:?}");
        unrecorded += 1;
    }
    assert!(clinic.metric("sekisho_audit_available", &[]) < 0.5, "the alarm");
    let (_, page) = clinic.admin_get("/readyz?verbose");
    assert!(page.contains("fdatasync"), "the alarm says why: {page}");
    drop(broken);
    until("the queue to be written", || (clinic.metric("sekisho_audit_queue_records", &[]) < 0.5).then_some(()));
    answers.extend(opens_again(&clinic));
    assert!(clinic.metric("sekisho_audit_alarm", &[]) > 0.5, "an alarm stays");
    // Every record that there should be is there or in the gap: each connection has two (opened, closed), a read has
    // two (request, completion), a change three (intent, outcome, completion).
    let asked = 1 + unrecorded + 2;
    let expected = asked * 2 + asked / 2 * 2 + asked.div_ceil(2) * 3;
    let kinds = ["connection-opened", "connection-closed", "request", "intent", "outcome", "completion"];
    let (log, missing) = until("every record or its gap", || {
        let log = Log::read(&directory);
        let missing: u64 = log.events("gap").iter().map(|gap| gap["records"].as_u64().expect("a count")).sum();
        let kept: u64 = kinds.iter().map(|kind| log.count(kind)).sum();
        assert!(kept + missing <= expected, "{missing} missing and {:?}", log.kinds);
        (kept + missing == expected).then_some((log, missing))
    });
    println!("{unrecorded} served without a log, {missing} records missing, {:?}", log.kinds);
    assert!(missing > 0);
    log.holds(&answers);
    assert_eq!(text(log.events("start")[0], "on_failure"), "serve-and-alarm");
}
