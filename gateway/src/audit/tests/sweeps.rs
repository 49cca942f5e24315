//! The log under every fault that a disk can show: each call failing in turn, power cuts at every moment, a full
//! disk, a slow one.

use std::time::{Duration, Instant};

use gateway_audit::record::RefusedSummary;
use policy::Refusal;
use proptest::prelude::*;

use super::faults::{Disk, Fault};
use super::*;

const EIO: i32 = 5;
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

fn inline() -> Options {
    Options { preparation: Preparation::Inline, segment_bytes: 4 << 10, reserve_bytes: 32 << 10, ..options() }
}

/// The log on a disk; its tiles on one that was never used.
pub(super) fn open_on(disk: &Arc<Disk>, options: Options) -> Result<Audit, OpenError> {
    let target = tree_disk::target(disk.clone(), Arc::new(tree_disk::TreeDisk::default()));
    Audit::open_on(target, options, Arc::new(TestClock::default()), Arc::new(()))
}

pub(super) fn requests(records: &[serde_json::Value]) -> Vec<String> {
    let completions = records.iter().filter(|record| record["kind"] == "completion");
    completions.map(|record| record["request"].as_str().unwrap().to_owned()).collect()
}

/// Appends one record after the other; says which were acknowledged.
pub(super) fn work(audit: &Audit, name: &str, count: usize) -> Vec<String> {
    on_worker(audit, async |lane| {
        let mut acknowledged = Vec::new();
        for n in 0..count {
            let request = format!("{name}-{n}");
            if lane.record(&completion(&request)).await.is_ok() {
                acknowledged.push(request);
            }
        }
        acknowledged
    })
}

pub(super) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// No data key ever sealed two records under one sequence number, in anything that might have come to a disk.
pub(super) fn no_pair_twice(disk: &Disk) -> usize {
    use gateway_audit::frame::Frame;
    use gateway_audit::header::Envelope;
    let mut sealed = std::collections::HashMap::new();
    for write in disk.history() {
        let mut rest = write.as_slice();
        while let Ok(frame) = Frame::decode(rest) {
            let envelope = Envelope::decode(frame.record).unwrap();
            let pair = (envelope.header.key, frame.sequence);
            let record = frame.record.to_vec();
            let before = sealed.entry(pair).or_insert_with(|| record.clone());
            assert_eq!(*before, record, "key {} sealed {} twice", pair.0, pair.1);
            rest = &rest[frame.size()..];
        }
    }
    sealed.len()
}

fn serving(audit: &Audit) -> bool {
    audit.status().state == State::Serving
}

#[test]
fn a5_a7_every_call_failing_in_turn_loses_nothing_acknowledged() {
    for errno in [EIO, ENOSPC, EROFS, EINTR, EAGAIN] {
        for count in [1, 4] {
            let mut first = 1;
            loop {
                let disk = Arc::new(Disk::default());
                let audit = open_on(&disk, inline()).unwrap();
                let mut acknowledged = work(&audit, "before", 2);
                disk.fail(Fault { first, count, errno });
                acknowledged.extend(work(&audit, "during", 20));
                let reached = disk.calls() >= first;
                until("the log serves again", || serving(&audit));
                // What is left of the fault is not for the records that must get through.
                disk.fail(Fault { first: 0, count: 0, errno: 0 });
                until("the log serves again", || serving(&audit));
                let after = work(&audit, "after", 5);
                assert_eq!(after.len(), 5, "call {first}, errno {errno}");
                acknowledged.extend(after);
                // What a power cut leaves now must hold every acknowledged record, too.
                let cut = disk.crash(|_, _| None);
                audit.stop("test").unwrap();
                assert!(no_pair_twice(&disk) > 20);
                for disk in [&cut, &*disk] {
                    let (records, _) = read(disk);
                    let kept = requests(&records);
                    for request in &acknowledged {
                        assert!(kept.contains(request), "{request} is lost: call {first}, errno {errno}");
                    }
                    let mut once = kept.clone();
                    once.dedup();
                    assert_eq!(once, kept, "call {first}, errno {errno}");
                }
                if !reached {
                    break;
                }
                first += 1;
            }
            assert!(first > 20, "the sweep ended at call {first}");
        }
    }
}

#[test]
fn a5_the_failure_is_itself_recorded_and_the_file_is_finished() {
    let disk = Arc::new(Disk::default());
    let audit = open_on(&disk, Options { segment_bytes: 1 << 20, ..inline() }).unwrap();
    work(&audit, "a", 3);
    // The third record's write is call 1, its sync call 2.
    disk.fail(Fault { first: 2, count: 1, errno: EIO });
    assert_eq!(work(&audit, "b", 1), ["b-0"]);
    assert!(serving(&audit));
    audit.stop("test").unwrap();
    let (records, _) = read(&*disk);
    assert_eq!(kinds(&records[4..]), ["audit-failure", "completion", "stop"]);
    assert_eq!(records[4]["operation"], "fdatasync");
    assert_eq!(records[4]["errno"], EIO);
    assert_eq!(records[4]["segment"], segment_name(1));
    assert_eq!(records[4]["failed_sequence"], 5);
    assert!(disk.list().unwrap().contains(&segment_name(5)));
}

#[test]
fn a5_while_nothing_can_be_written_requests_are_refused_and_service_returns_by_itself() {
    let disk = Arc::new(Disk::default());
    let audit = open_on(&disk, inline()).unwrap();
    disk.fail(Fault { first: 1, count: u64::MAX / 2, errno: EROFS });
    on_worker(&audit, async |lane| {
        assert_eq!(lane.record(&completion("lost?")).await, Err(Refusal::AuditUnavailable));
        assert!(matches!(audit.status().state, State::Unavailable { errno: Some(EROFS), .. }));
        assert!(!audit.status().alarm);
        let new = recovery_request(&lane);
        assert_eq!(new, Err(Refusal::AuditUnavailable));
        lane.append_unwaited(&completion("later"));
        disk.fail(Fault { first: 0, count: 0, errno: 0 });
        while !serving(&audit) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        lane.record(&completion("after")).await.unwrap();
    });
    audit.stop("test").unwrap();
    let (records, _) = read(&*disk);
    assert_eq!(requests(&records), ["lost?", "later", "after"]);
    assert!(kinds(&records).contains(&"audit-failure"));
}

/// New work, as opposed to a follow-up.
fn recovery_request(lane: &Lane) -> Result<Ticket, Refusal> {
    lane.append(&gateway_audit::record::Refused {
        listener: "l",
        source: "s",
        stage: gateway_audit::record::Stage::Accept,
        reason: "too-many-connections",
        detail: None,
        sni: None,
        certificate: None,
        site: None,
        device: None,
        user: None,
        patient: None,
    })
}

#[test]
fn serve_and_alarm_goes_on_and_says_what_is_missing() {
    let disk = Arc::new(Disk::default());
    let on_failure = OnFailure::ServeAndAlarm;
    let audit = open_on(&disk, Options { on_failure, queue_records: 4, ..inline() }).unwrap();
    disk.fail(Fault { first: 1, count: u64::MAX / 2, errno: EIO });
    assert_eq!(work(&audit, "during", 10).len(), 10);
    let status = audit.status();
    assert!(status.alarm && status.lost == 6, "{status:?}");
    disk.fail(Fault { first: 0, count: 0, errno: 0 });
    until("the log serves again", || serving(&audit));
    assert_eq!(work(&audit, "after", 1).len(), 1);
    assert!(audit.status().alarm);
    audit.stop("test").unwrap();
    let (records, _) = read(&*disk);
    assert_eq!(requests(&records), ["during-0", "during-1", "during-2", "during-3", "after-0"]);
    let gap = records.iter().find(|record| record["kind"] == "gap").unwrap();
    assert_eq!(gap["records"], 6);
}

#[test]
fn a6_a_full_disk_closes_the_door_with_a_record_and_opens_it_when_there_is_space() {
    let disk = Arc::new(Disk::default());
    let audit = open_on(&disk, inline()).unwrap();
    disk.set_space(Some(0));
    let acknowledged = work(&audit, "during", 400);
    assert!(!acknowledged.is_empty() && acknowledged.len() < 400, "{}", acknowledged.len());
    assert!(matches!(audit.status().state, State::Unavailable { errno: Some(ENOSPC), .. }));
    let (records, _) = read(&*disk.crash(|_, _| None).into_arc());
    assert_eq!(kinds(&records).iter().filter(|kind| **kind == "full").count(), 1);
    disk.set_space(None);
    until("the log serves again", || serving(&audit));
    let after = work(&audit, "after", 3);
    assert_eq!(after.len(), 3);
    audit.stop("test").unwrap();
    let (records, _) = read(&*disk);
    let kept = requests(&records);
    assert!(acknowledged.iter().chain(&after).all(|request| kept.contains(request)));
    assert!(disk.list().unwrap().contains(&"reserve.log".to_owned()));
}

#[test]
fn a6_the_reserve_takes_the_stop_record() {
    let disk = Arc::new(Disk::default());
    let audit = open_on(&disk, inline()).unwrap();
    disk.set_space(Some(0));
    work(&audit, "during", 400);
    audit.stop("test").unwrap();
    let (records, _) = read(&*disk);
    assert_eq!(*kinds(&records).last().unwrap(), "stop");
    assert!(kinds(&records).contains(&"full"));
    disk.set_space(None);
    open_on(&disk, inline()).unwrap().stop("test").unwrap();
    let (records, _) = read(&*disk);
    assert!(!kinds(&records).contains(&"recovery"));
}

#[test]
fn a6_without_a_key_nothing_is_sealed_and_the_full_record_has_one() {
    use std::sync::atomic::Ordering;
    let (disk, keys) = (Arc::new(Disk::default()), Arc::new(keys::Keys::default()));
    let target = tree_disk::target(disk.clone(), Arc::default());
    let target = Target { sealing: keys::sealing_with(keys.clone()), ..target };
    let audit = Audit::open_on(target, inline(), Arc::new(TestClock::default()), Arc::new(())).unwrap();
    assert_eq!(work(&audit, "before", 3).len(), 3);
    std::thread::sleep(Duration::from_millis(60));
    keys.full.store(true, Ordering::Relaxed);
    // Keys that are there go on.
    assert_eq!(work(&audit, "during", 3).len(), 3);
    let stranger = RefusedSummary {
        reason: "rate-limited",
        network: None,
        site: Some("sakura-clinic"),
        device: None,
        user: None,
        patient: None,
        count: 1,
        from_unix_ns: 0,
        until_unix_ns: 0,
    };
    on_worker(&audit, async |lane| {
        assert_eq!(lane.record(&stranger).await, Err(Refusal::AuditUnavailable));
    });
    assert!(matches!(audit.status().state, State::Unavailable { operation: "write", errno: Some(ENOSPC), .. }));
    let (records, _) = read(&*disk.crash(|_, _| None).into_arc());
    assert_eq!(*kinds(&records).last().unwrap(), "full");
    let files = disk.list().unwrap().len();
    std::thread::sleep(Duration::from_millis(100));
    assert!(disk.list().unwrap().len() <= files + 2, "{:?}", disk.list().unwrap());
    keys.full.store(false, Ordering::Relaxed);
    until("the log serves again", || serving(&audit));
    assert_eq!(work(&audit, "after", 3).len(), 3);
    audit.stop("test").unwrap();
    let (records, _) = read(&*disk);
    assert_eq!(kinds(&records).iter().filter(|kind| **kind == "refusal-summary").count(), 1);
    assert_eq!(requests(&records).len(), 9);
    no_pair_twice(&disk);
}

#[test]
fn keys_are_by_site_class_and_period_and_wrapped_to_the_sites_reviewers() {
    use std::sync::atomic::Ordering;
    let disk = Arc::new(Disk::default());
    let clock = Arc::new(TestClock::default());
    let target = tree_disk::target(disk.clone(), Arc::default());
    let audit = Audit::open_on(target, inline(), clock.clone(), Arc::new(())).unwrap();
    on_worker(&audit, async |lane| {
        for day in 0..2 {
            clock.unix_ns.store(day * 86_400_000_000_000, Ordering::Relaxed);
            for (site, class) in [(None, None), (Some("a"), None), (Some("a"), Some("clinical")), (Some("b"), None)] {
                for _ in 0..3 {
                    let scope = Scope { site, class };
                    lane.record(&Completion { scope, ..completion("r") }).await.unwrap();
                }
            }
        }
    });
    audit.stop("test").unwrap();
    let mut files = std::collections::BTreeMap::new();
    for write in disk.history() {
        let mut rest = write.as_slice();
        while let Ok(frame) = gateway_audit::frame::Frame::decode(rest) {
            let file = keys::key_file(frame.record);
            let names: Vec<_> = file.wrapped.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["auditor"]);
            assert!(file.first <= frame.sequence, "{file}");
            files.insert(file.key, (file.site, file.class, file.period));
            rest = &rest[frame.size()..];
        }
    }
    let mut scopes: Vec<_> = files.into_values().collect();
    scopes.sort();
    scopes.dedup();
    assert_eq!(scopes.len(), 8, "{scopes:?}");
}

#[test]
fn a13_a_slow_disk_slows_and_loses_nothing() {
    let disk = Arc::new(Disk::default());
    let audit = open_on(&disk, Options { queue_records: 64, ..inline() }).unwrap();
    disk.set_sync_delay(Duration::from_millis(50));
    let (accepted, refused) = on_worker(&audit, async |lane| {
        let (mut tickets, mut refused) = (Vec::new(), 0);
        for n in 0..400 {
            match lane.append(&completion(&n.to_string())) {
                Ok(ticket) => tickets.push((n.to_string(), ticket)),
                Err(refusal) => {
                    assert_eq!(refusal, Refusal::AuditBusy);
                    refused += 1;
                }
            }
            assert!(audit.status().queue_records <= 64);
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        for (_, ticket) in &tickets {
            lane.durable(*ticket).await.unwrap();
        }
        (tickets, refused)
    });
    audit.stop("test").unwrap();
    assert_eq!(accepted.len() + refused, 400);
    assert!(refused > 0);
    let kept = requests(&read(&*disk).0);
    assert_eq!(kept, accepted.into_iter().map(|(request, _)| request).collect::<Vec<_>>());
}

#[test]
fn an_interval_holds_its_bound_on_a_slow_disk() {
    let disk = Arc::new(Disk::default());
    let durability = Durability::Interval(Duration::from_millis(40));
    let audit = open_on(&disk, Options { durability, ..inline() }).unwrap();
    on_worker(&audit, async |lane| {
        disk.hold();
        lane.record(&completion("quick")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let ticket = lane.append(&completion("slow")).unwrap();
        let early = tokio::time::timeout(Duration::from_millis(20), lane.durable(ticket)).await;
        assert!(early.is_err(), "answered beyond the stated window");
        disk.release();
        lane.durable(ticket).await.unwrap();
    });
    audit.stop("test").unwrap();
}

impl Disk {
    fn into_arc(self) -> Arc<Self> {
        Arc::new(self)
    }
}

#[test]
fn a3_what_a_killed_process_did_not_sync_is_safe_before_the_log_goes_on() {
    let disk = Arc::new(Disk::default());
    let audit = open_on(&disk, inline()).unwrap();
    work(&audit, "a", 2);
    disk.hold();
    let killed = on_worker(&audit, async |lane| {
        let ticket = lane.append(&completion("b")).unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(100), lane.durable(ticket)).await;
        assert!(waited.is_err());
        disk.kill().into_arc()
    });
    disk.release();
    audit.stop("test").unwrap();
    let next = open_on(&killed, inline()).unwrap();
    let cut = killed.crash(|_, _| None).into_arc();
    next.stop("test").unwrap();
    open_on(&cut, inline()).unwrap().stop("test").unwrap();
    assert_eq!(requests(&read(&*cut).0), ["a-0", "a-1", "b"]);
}

#[test]
fn a3_intents_without_outcome_are_named_once() {
    use gateway_audit::record::{Connection, ConnectionFields, Decision, Durations, Exchange, Intent, Outcome};
    let fields = ConnectionFields {
        proxy: None,
        id: "c",
        listener: "l",
        transport: "tcp",
        source: "192.0.2.1:1",
        tls: None,
        site: None,
        device: None,
        user: None,
        patient: None,
        qualifications: &[],
        certificate: None,
    };
    let connection = Connection::new(&fields);
    let exchange = |request| Exchange::<&str, &str, &str> {
        client: None,
        request,
        connection: &connection,
        method: b"POST",
        authority: None,
        target: b"/",
        route: None,
        service: None,
        class: None,
        action: None,
        patients: &[],
        patients_unknown: None,
        user: None,
        session: None,
        acting_for: None,
        patient: None,
        roles: &[],
        authentication: None,
        decision: Decision::Permit,
        reason: None,
        policies: &[],
        snapshot: 1,
        backend: None,
    };
    let disk = Arc::new(Disk::default());
    let audit = open_on(&disk, inline()).unwrap();
    on_worker(&audit, async |lane| {
        for request in ["r1", "r2", "r3"] {
            lane.record(&Intent { exchange: &exchange(request) }).await.unwrap();
        }
        let durations = Durations::default();
        let scope = Scope::NONE;
        let outcome = Outcome { request: "r2", scope, status: 201, reason: None, backend: None, durations };
        lane.record(&outcome).await.unwrap();
    });
    let crashed = Arc::new(disk.crash(|_, _| None));
    audit.stop("test").unwrap();
    for _ in 0..2 {
        open_on(&crashed, inline()).unwrap().stop("test").unwrap();
    }
    let (records, _) = read(&*crashed);
    let recoveries: Vec<_> = records.iter().filter(|record| record["kind"] == "recovery").collect();
    assert_eq!(recoveries.len(), 1);
    assert_eq!(recoveries[0]["unresolved"], serde_json::json!(["r1", "r3"]));
    assert_eq!(recoveries[0]["unresolved_count"], 2);
    assert_eq!(recoveries[0]["last_sequence"], 5);
}

#[test]
fn damage_to_an_acknowledged_record_stops_the_start_and_touches_nothing() {
    let disk = Arc::new(Disk::default());
    let audit = open_on(&disk, Options { segment_bytes: 1 << 20, ..inline() }).unwrap();
    work(&audit, "a", 5);
    audit.stop("test").unwrap();
    disk.edit(&segment_name(1), |bytes| bytes[900] ^= 1);
    let before: Vec<_> = disk.list().unwrap().iter().map(|name| disk.read(name).unwrap()).collect();
    let error = open_on(&disk, inline()).unwrap_err();
    assert!(matches!(error, OpenError::Recovery(RecoveryError::Damaged(_))), "{error}");
    assert!(error.to_string().contains("segment-00000000000000000001.log"), "{error}");
    let after: Vec<_> = disk.list().unwrap().iter().map(|name| disk.read(name).unwrap()).collect();
    assert_eq!(before, after);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    /// A power cut at any moment of any run, with any part of the unsynced writes kept, and then cuts during the
    /// recovery: what was acknowledged is there, sequence numbers have no gap, evidence is kept.
    #[test]
    fn a3_a4_power_cuts_leave_a_prefix_with_all_that_was_acknowledged(
        counts in proptest::collection::vec(1_usize..12, 1..4),
        keeps in proptest::collection::vec(proptest::option::of(0_usize..400), 8),
        failing in proptest::option::of((1_u64..30, 1_u64..3)),
        recoveries in 0_u64..12,
    ) {
        let mut disk = Arc::new(Disk::default());
        let mut acknowledged = Vec::new();
        for (round, count) in counts.into_iter().enumerate() {
            let audit = open_on(&disk, inline()).unwrap();
            if let Some((first, count)) = failing {
                disk.fail(Fault { first, count, errno: EIO });
            }
            acknowledged.extend(work(&audit, &round.to_string(), count));
            // Records under way when the power goes: written, never synced.
            let cut = on_worker(&audit, async |lane| {
                disk.hold();
                for n in 0..3 {
                    let _ = lane.append(&completion(&format!("{round}-open-{n}")));
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                disk.crash(|place, length| keeps[(place + round) % keeps.len()].map(|kept| kept % (length + 1)))
            });
            disk.release();
            drop(audit);
            // The recovery dies at one of its calls, and is tried again.
            disk = Arc::new(cut);
            disk.fail(Fault { first: recoveries + 1, count: 1, errno: EIO });
            drop(open_on(&disk, inline()));
            disk = Arc::new(disk.crash(|_, _| None));
        }
        open_on(&disk, inline()).unwrap().stop("test").unwrap();
        no_pair_twice(&disk);
        let (records, _) = read(&*disk);
        let kept = requests(&records);
        for request in &acknowledged {
            prop_assert!(kept.contains(request), "{} is lost: {:?}", request, kept);
        }
    }
}
