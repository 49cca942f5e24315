use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gateway_audit::Scope;
use gateway_audit::reader::{Checked, verify};
use gateway_audit::record::{Completion, End, Gap};
use policy::Refusal;

use super::*;
use crate::clock::tests::TestClock;

mod faults;
mod keys;
mod sweeps;
mod tree;
mod tree_disk;

pub(super) fn options() -> Options {
    Options {
        segment_bytes: 256 << 10,
        reserve_bytes: 64 << 10,
        retry: Duration::from_millis(5),
        // Whatever a test reads back is there.
        keep_segments: usize::MAX,
        ..Options::new("gw1", "boot")
    }
}

pub(super) fn completion(request: &str) -> Completion<'_> {
    Completion { request, scope: Scope::NONE, received: 1, sent: 2, end: End::Complete, duration_us: 3 }
}

fn open(directory: &Path, options: Options) -> Result<Audit, OpenError> {
    Audit::open(directory, keys::sealing(), options, Arc::new(TestClock::default()), Arc::new(()))
}

/// The segments of a directory's first lane.
pub(super) fn segments_of(audit: &Path) -> Directory {
    Directory::open(&segments_directory(audit, 1)).unwrap()
}

/// Reads a whole log as a verifier would: every record as JSON, in order.
pub(super) fn read(storage: &dyn Storage) -> (Vec<serde_json::Value>, Option<Checked>) {
    let names: Vec<String> = storage.list().unwrap().into_iter().filter(|n| segment_first(n).is_some()).collect();
    let bytes: Vec<Vec<u8>> = names.iter().map(|name| storage.read(name).unwrap()).collect();
    let segments: Vec<(&str, &[u8])> = names.iter().map(String::as_str).zip(bytes.iter().map(Vec::as_slice)).collect();
    let last = verify(&segments).unwrap();
    let mut records = Vec::new();
    let mut verifier = gateway_audit::reader::Verifier::new();
    for (place, (name, bytes)) in segments.iter().enumerate() {
        let next = segments.get(place + 1).map(|(_, b)| gateway_audit::frame::SegmentHeader::decode(b).unwrap());
        verifier
            .segment(name, bytes, next.as_ref(), |_, frame| {
                records.push(keys::opened(frame.sequence, frame.record));
            })
            .unwrap();
    }
    for (place, record) in records.iter().enumerate() {
        let record: &serde_json::Value = record;
        assert_eq!(record["sequence"], place + 1, "{record}");
    }
    (records, last)
}

pub(super) fn kinds(records: &[serde_json::Value]) -> Vec<&str> {
    records.iter().map(|record| record["kind"].as_str().unwrap()).collect()
}

/// Runs a future beside a lane's driver on a worker-like runtime.
pub(super) fn on_worker<T>(audit: &Audit, work: impl AsyncFnOnce(Lane) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let (lane, driver) = audit.lane();
        tokio::task::spawn_local(driver);
        work(lane).await
    })
}

#[test]
fn records_are_durable_in_order_and_a_start_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    for round in 0..3 {
        let audit = open(&path, options()).unwrap();
        on_worker(&audit, async |lane| {
            let tickets: Vec<_> =
                (0..100).map(|n| lane.append(&completion(&format!("{round}-{n}"))).unwrap()).collect();
            for ticket in tickets.iter().rev() {
                lane.durable(*ticket).await.unwrap();
            }
        });
        audit.stop("test").unwrap();
        assert_eq!(audit.status().state, State::Closed);
        assert_eq!(audit.status().records, 102);
    }
    let storage = segments_of(&path);
    let (records, last) = read(&storage);
    assert_eq!(records.len(), 306);
    assert_eq!(last.unwrap().chain.next, 307);
    for round in 0..3 {
        let records = &records[round * 102..];
        assert_eq!(records[0]["kind"], "start");
        assert_eq!(records[0]["window_ms"], 0);
        for (n, record) in records[1..101].iter().enumerate() {
            assert_eq!(record["request"], format!("{round}-{n}"));
        }
        assert_eq!(records[101]["kind"], "stop");
        assert_eq!(records[101]["cause"], "test");
    }
}

#[test]
fn a10_a_second_process_takes_the_other_lane_and_a_third_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(folder.path(), options()).unwrap();
    let second = open(folder.path(), options()).unwrap();
    assert_eq!((audit.lane_number(), second.lane_number()), (Some(1), Some(2)));
    let error = open(folder.path(), options()).unwrap_err().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    audit.stop("test").unwrap();
    drop(audit);
    assert_eq!(open(folder.path(), options()).unwrap().lane_number(), Some(1));
    second.stop("test").unwrap();
}

#[test]
fn another_nodes_log_is_not_continued() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), options()).unwrap().stop("test").unwrap();
    let error = open(folder.path(), Options { node: "gw2".into(), ..options() }).unwrap_err().to_string();
    assert!(error.contains("gw2/lane-1") && error.contains("another name of node"), "{error}");
    let disk = Arc::new(faults::Disk::default());
    sweeps::open_on(&disk, options()).unwrap().stop("test").unwrap();
    let error = sweeps::open_on(&disk, Options { node: "gw2".into(), ..options() }).unwrap_err().to_string();
    assert!(error.contains("node `gw1`, not of `gw2`"), "{error}");
    assert!(matches!(open(folder.path(), Options::new(&"n".repeat(129), "boot")), Err(OpenError::NodeName(_))));
}

#[test]
fn segments_rotate_and_the_chain_goes_through() {
    let folder = tempfile::tempdir().unwrap();
    for preparation in [Preparation::Inline, Preparation::Background] {
        let audit = open(folder.path(), Options { segment_bytes: 8 << 10, preparation, ..options() }).unwrap();
        on_worker(&audit, async |lane| {
            for n in 0..300 {
                lane.record(&completion(&n.to_string())).await.unwrap();
            }
        });
        audit.stop("test").unwrap();
    }
    let storage = segments_of(folder.path());
    let (records, _) = read(&storage);
    assert_eq!(records.len(), 604);
    let names = storage.list().unwrap();
    assert!(names.iter().filter(|name| segment_first(name).is_some()).count() > 10, "{names:?}");
    assert!(!names.iter().any(|name| name.starts_with("torn") || name == "spare.log"), "{names:?}");
}

#[test]
fn a8_time_that_went_back_over_a_restart_is_recorded_before_anything_else() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock::default());
    for unix_ns in [3_600_000_000_000, 0] {
        clock.unix_ns.store(unix_ns, Ordering::Relaxed);
        Audit::open(folder.path(), keys::sealing(), options(), clock.clone(), Arc::new(()))
            .unwrap()
            .stop("test")
            .unwrap();
    }
    let (records, _) = read(&segments_of(folder.path()));
    assert_eq!(kinds(&records), ["start", "stop", "clock", "start", "stop"]);
    assert_eq!(records[2]["event"], "regression");
    assert_eq!(records[2]["previous"], "1970-01-01T01:00:00.000000000Z");
    assert_eq!(records[2]["change_ns"], -3_600_000_000_000_i64);
}

#[test]
fn control_lanes_serve_other_threads() {
    let folder = tempfile::tempdir().unwrap();
    let audit = open(folder.path(), options()).unwrap();
    let control = audit.control();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let control = control.clone();
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for n in 0..50 {
                    runtime.block_on(control.record(&completion(&format!("{thread}-{n}")))).unwrap();
                }
            });
        }
    });
    audit.stop("test").unwrap();
    assert_eq!(control.append(&completion("late")), Err(Refusal::AuditUnavailable));
    assert_eq!(read(&segments_of(folder.path())).0.len(), 202);
}

#[test]
fn an_interval_answers_at_once_and_states_its_window() {
    let folder = tempfile::tempdir().unwrap();
    let durability = Durability::Interval(Duration::from_millis(200));
    let audit = open(folder.path(), Options { durability, ..options() }).unwrap();
    assert_eq!(audit.status().window, Duration::from_millis(200));
    on_worker(&audit, async |lane| {
        let before = audit.status().commits;
        for n in 0..100 {
            lane.record(&completion(&n.to_string())).await.unwrap();
        }
        assert!(audit.status().commits <= before + 1);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(audit.status().sequence, 101);
    });
    audit.stop("test").unwrap();
    let (records, _) = read(&segments_of(folder.path()));
    assert_eq!(records[0]["window_ms"], 200);
    assert_eq!(records[0]["durability"], "interval");
}

#[test]
fn new_work_leaves_room_for_what_follows_and_the_rest_is_counted() {
    let storage = Arc::new(faults::Disk::default());
    let options = Options { queue_records: 8, ..options() };
    let audit = sweeps::open_on(&storage, options).unwrap();
    on_worker(&audit, async |lane| {
        storage.hold();
        // `Gap` counts as a follow-up, a refused peer as new work.
        let refused = gateway_audit::record::Refused {
            listener: "l",
            source: "s",
            stage: gateway_audit::record::Stage::Accept,
            reason: "too-many-connections",
            detail: None,
            sni: None,
            certificate: None,
            site: None,
            device: None,
        };
        let accepted = (0..20).filter(|_| lane.append(&refused).is_ok()).count();
        assert_eq!(accepted, 6);
        assert_eq!(lane.append(&refused), Err(Refusal::AuditBusy));
        let gap = Gap { records: 0, from_unix_ns: 0, until_unix_ns: 0 };
        let last = lane.append(&gap).unwrap();
        for _ in 0..5 {
            lane.append_unwaited(&completion("r"));
        }
        assert_eq!(audit.status().queue_records, 8);
        assert_eq!(audit.status().lost, 4);
        storage.release();
        lane.durable(last).await.unwrap();
    });
    audit.stop("test").unwrap();
    let (records, _) = read(&*storage);
    let gaps: Vec<_> = records.iter().filter(|r| r["kind"] == "gap" && r["records"] != 0).collect();
    assert_eq!(gaps.iter().map(|gap| gap["records"].as_u64().unwrap()).sum::<u64>(), 4);
}
