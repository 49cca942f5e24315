//! A13: a slow disk slows, and skips nothing. The queue is bounded; what does not fit is refused and says why.

use std::time::Duration;

use gateway_tests::DOCTOR;

use crate::audit_tools::{Acknowledged, Broken, Load, Log, ask, small_log};

/// What each sync takes.
const SYNC: Duration = Duration::from_millis(200);

fn p99(answers: &[Acknowledged]) -> Duration {
    let mut times: Vec<_> = answers.iter().map(|answer| answer.took).collect();
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().expect("answers")
}

#[test]
fn a13_a_slow_disk_slows_and_loses_nothing() {
    let clinic = small_log().start();
    let slow = Broken::inject(&clinic, &format!("fdatasync:delay_enter={}", SYNC.as_micros()));
    let load = Load::start(&clinic.handshake(DOCTOR), 24);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(clinic.admin_get("/readyz").0, 200, "slow is not broken");
    let answers = load.stop();
    drop(slow);
    println!("{} answers, p99 {:?}", answers.len(), p99(&answers));
    assert!(answers.len() > 24, "{}", answers.len());
    assert!(answers.iter().all(|answer| answer.status == 200));
    // A change waits for two groups, and each of them for the one before it.
    assert!(p99(&answers) < 10 * SYNC, "{:?}", p99(&answers));
    assert!(answers.iter().all(|answer| answer.took >= SYNC / 2), "answered before the sync returned");
    Log::read(&clinic.prepared.path("audit")).holds(&answers);
    assert_eq!(ask(&clinic, false).status, 200);
}

#[test]
fn a13_a_full_queue_is_refused_and_told() {
    let clinic = small_log().config(|config| config.set("audit", "queue_records", 64)).start();
    let slow = Broken::inject(&clinic, &format!("fdatasync:delay_enter={}", SYNC.as_micros()));
    // More than the queue's 64 may wait at once.
    let load = Load::start(&clinic.handshake(DOCTOR), 120);
    std::thread::sleep(Duration::from_secs(5));
    let queue = clinic.metric("sekisho_audit_queue_records", &[]);
    let answers = load.stop();
    drop(slow);
    let busy = answers.iter().filter(|answer| answer.label == "audit-busy").count();
    println!("{} answers, {busy} busy, queue {queue}, p99 {:?}", answers.len(), p99(&answers));
    assert!(queue <= 200.0, "the lanes of a worker, of the control thread and what is being written: {queue}");
    assert!(busy > 0, "the queue was never full");
    assert!(busy < answers.len(), "nobody was served");
    assert!(answers.iter().all(|answer| answer.status == 200 || answer.label == "audit-busy"), "{answers:?}");
    assert!(p99(&answers) < 20 * SYNC, "{:?}", p99(&answers));
    Log::read(&clinic.prepared.path("audit")).holds(&answers);
    assert_eq!(ask(&clinic, true).status, 200, "and it serves again");
}
