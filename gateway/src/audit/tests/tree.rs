//! The tree beside the log: its window, its start after any crash, its failures.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use gateway_audit::tiles::entry::Joiner;
use gateway_audit::verify::{Against, Verified, VerifyError, verify as verify_tree};
use proptest::prelude::*;

use super::faults::{Disk, Fault};
use super::sweeps::{requests, until, work};
use super::tree_disk::{TreeDisk, View, target, verifier_key};
use super::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Quick checkpoints, small segments that go as soon as they may.
fn quick() -> Options {
    Options {
        preparation: Preparation::Inline,
        segment_bytes: 4 << 10,
        reserve_bytes: 32 << 10,
        window: Window { entries: 20, delay: Duration::from_millis(5) },
        keep_segments: 2,
        ..options()
    }
}

fn open_on(disk: &Arc<Disk>, tree: &Arc<TreeDisk>, options: Options) -> Result<Audit, OpenError> {
    Audit::open_on(target(disk.clone(), tree.clone()), options, Arc::new(TestClock::default()), Arc::new(()))
}

/// The records of a tree that holds nothing bad.
fn verified(files: &BTreeMap<String, Vec<u8>>) -> Result<(Verified, Vec<serde_json::Value>), VerifyError> {
    let mut records = Vec::new();
    let mut joiner = Joiner::new(1, usize::MAX);
    let visit = |_, entry: &gateway_audit::tiles::entry::Entry<'_>| {
        let whole = |sequence, record: Option<&[u8]>| records.push(keys::opened(sequence, record.unwrap()));
        joiner.push(entry, whole).unwrap();
    };
    let verified = verify_tree(&mut View(files), &verifier_key(), Against::default(), visit)?;
    assert!(!verified.unfinished);
    Ok((verified, records))
}

/// The covered size, if there is a checkpoint.
fn covered(tree: &TreeDisk) -> u64 {
    verified(&tree.files()).map_or(0, |(verified, _)| verified.signed.checkpoint.size)
}

#[test]
fn every_record_is_covered_within_the_window_and_at_the_end() {
    let (disk, tree) = (Arc::new(Disk::default()), Arc::new(TreeDisk::default()));
    let promised = Options { window: Window::PROMISED, ..quick() };
    assert!(promised.window.entries < 1_000 && promised.window.delay < Duration::from_secs(1));
    let audit = open_on(&disk, &tree, promised).unwrap();
    work(&audit, "a", 3);
    let start = Instant::now();
    until("the first records are covered", || covered(&tree) == 4);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let status = audit.status().tree;
    assert_eq!((status.size, status.lag_entries, status.error), (4, 0, None));
    // Many at once are covered by steps of less than 1,000, whenever one looks.
    on_worker(&audit, async |lane| {
        for n in 0..2_500 {
            lane.append_unwaited(&completion(&n.to_string()));
        }
        lane.record(&completion("last")).await.unwrap();
    });
    until("the many are covered, but for a rest", || covered(&tree) > 2_505 - 900);
    audit.stop("test").unwrap();
    let (verified, records) = verified(&tree.files()).unwrap();
    assert_eq!(verified.records, 2_506);
    assert_eq!(records.last().unwrap()["kind"], "stop");
    let partial = tree.files().keys().filter(|path| path.contains(".p/")).count();
    // A bundle, and a tile of each of two levels.
    assert_eq!(partial, 3, "{:?}", tree.files().keys());
}

#[test]
fn a_log_verifies_before_its_first_entries_are_covered() {
    let (disk, tree) = (Arc::new(Disk::default()), Arc::new(TreeDisk::default()));
    let patient = Options { window: Window { entries: 900, delay: Duration::from_secs(3_600) }, ..quick() };
    let audit = open_on(&disk, &tree, patient.clone()).unwrap();
    let acknowledged = work(&audit, "a", 3);
    assert_eq!(verified(&tree.files()).unwrap().0.signed.checkpoint.size, 0);
    // Cut off here, it begins again from the same checkpoint, and covers everything.
    let (left, cut) = (Arc::new(disk.crash(|_, _| None)), Arc::new(tree.crash(|_, bytes| Some(bytes.to_vec()))));
    audit.stop("test").unwrap();
    assert_eq!(requests(&verified(&tree.files()).unwrap().1), acknowledged);
    let audit = open_on(&left, &cut, patient).unwrap();
    audit.stop("test").unwrap();
    assert_eq!(requests(&verified(&cut.files()).unwrap().1), acknowledged);
    // A disk that does not take it stops nothing; the next checkpoint is the first one then.
    let (disk, tree) = (Arc::new(Disk::default()), Arc::new(TreeDisk::default()));
    tree.fail(Fault { first: 1, count: 1, errno: ENOSPC });
    let audit = open_on(&disk, &tree, quick()).unwrap();
    until("the first records are covered", || covered(&tree) == 1);
    audit.stop("test").unwrap();
}

#[test]
fn both_lanes_begin_with_a_checkpoint_and_one_that_is_written_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let origins = || ["log.example/gw1/lane-1".to_owned(), "log.example/gw1/lane-2".to_owned()];
    let read = |lane: u8| std::fs::read_to_string(lane_directory(folder.path(), lane).join("checkpoint")).unwrap();
    let first = take_lane(folder.path()).unwrap();
    begin_lanes(folder.path(), origins()).unwrap();
    assert!(!lane_directory(folder.path(), 1).join("checkpoint").exists());
    assert!(read(2).starts_with("log.example/gw1/lane-2\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n"));
    drop(first);
    begin_lanes(folder.path(), origins()).unwrap();
    assert!(read(1).starts_with("log.example/gw1/lane-1\n0\n"));
    // What is there stays.
    std::fs::write(lane_directory(folder.path(), 1).join("checkpoint"), "other").unwrap();
    begin_lanes(folder.path(), origins()).unwrap();
    assert_eq!(read(1), "other");
    assert!(!take_lane(folder.path()).unwrap().copied);
}

#[test]
fn segments_go_once_tiles_that_are_synced_hold_their_records() {
    let (disk, tree) = (Arc::new(Disk::default()), Arc::new(TreeDisk::default()));
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let audit = open_on(&disk, &tree, quick()).unwrap();
        for part in 0..3 {
            acknowledged.extend(work(&audit, &format!("{round}-{part}"), 40));
            until("tiles hold them", || audit.status().tree.lag_entries == 0);
        }
        until("the oldest segments go", || {
            acknowledged.extend(work(&audit, &format!("{round}-more"), 1));
            disk.list().unwrap().iter().filter_map(|name| segment_first(name)).min() > Some(100 * round + 1)
        });
        audit.stop("test").unwrap();
        let (_, records) = verified(&tree.files()).unwrap();
        assert_eq!(requests(&records), acknowledged);
    }
    let names = disk.list().unwrap();
    let firsts: Vec<u64> = names.iter().filter_map(|name| segment_first(name)).collect();
    assert!(firsts[0] > 1, "{names:?}");
    // All that a power cut leaves of the tiles holds whatever is in no segment any more.
    let cut = Arc::new(tree.crash(|_, _| None));
    open_on(&disk, &cut, quick()).unwrap().stop("test").unwrap();
    assert_eq!(requests(&verified(&cut.files()).unwrap().1), acknowledged);
}

#[test]
fn tiles_that_cannot_be_written_stop_no_answer_and_are_made_up_for() {
    for errno in [EIO, ENOSPC] {
        let (disk, tree) = (Arc::new(Disk::default()), Arc::new(TreeDisk::default()));
        let audit = open_on(&disk, &tree, quick()).unwrap();
        tree.fail(Fault { first: 1, count: u64::MAX / 2, errno });
        let acknowledged = work(&audit, "during", 300);
        assert_eq!(acknowledged.len(), 300);
        until("the lag is told", || {
            let status = audit.status();
            status.tree.error.is_some() && status.tree.lag_entries > 200 && status.state == State::Serving
        });
        assert!(audit.status().tree.lag > Duration::ZERO);
        let firsts = disk.list().unwrap().iter().filter_map(|name| segment_first(name)).min();
        assert_eq!(firsts, Some(1), "what no tile holds stays");
        tree.fail(Fault { first: 0, count: 0, errno: 0 });
        until("the lag is made up for", || audit.status().tree.lag_entries == 0);
        assert_eq!(audit.status().tree.error, None);
        audit.stop("test").unwrap();
        assert_eq!(requests(&verified(&tree.files()).unwrap().1), acknowledged);
    }
}

#[test]
fn each_failing_call_of_the_tree_is_overcome() {
    let mut first = 1;
    loop {
        let (disk, tree) = (Arc::new(Disk::default()), Arc::new(TreeDisk::default()));
        let audit = open_on(&disk, &tree, quick()).unwrap();
        tree.fail(Fault { first, count: 2, errno: EIO });
        let mut acknowledged = work(&audit, "a", 60);
        until("all is covered", || audit.status().tree.lag_entries == 0);
        acknowledged.extend(work(&audit, "b", 5));
        let reached = tree.calls() >= first;
        audit.stop("test").unwrap();
        // Whatever call failed, what a power cut leaves leads on.
        let cut = Arc::new(tree.crash(|_, _| None));
        open_on(&disk, &cut, quick()).unwrap().stop("test").unwrap();
        assert_eq!(requests(&verified(&cut.files()).unwrap().1), acknowledged, "call {first}");
        if !reached {
            break;
        }
        first += 1;
    }
    assert!(first > 10, "the sweep ended at call {first}");
}

#[test]
fn a_sync_that_failed_is_never_taken_for_a_later_one() {
    /// A disk whose sync fails once and drops what was to be synced, as a kernel does: the next sync succeeds.
    #[derive(Default)]
    struct Forgetful(TreeDisk, std::sync::atomic::AtomicU64, std::sync::Mutex<std::collections::BTreeSet<String>>);
    impl TreeStorage for Forgetful {
        fn read(&self, path: &str, limit: usize) -> std::io::Result<Option<Vec<u8>>> {
            self.0.read(path, limit)
        }
        fn put(&self, path: &str, bytes: &[u8]) -> std::io::Result<()> {
            self.2.lock().unwrap().remove(path);
            self.0.put(path, bytes)
        }
        fn put_durable(&self, path: &str, bytes: &[u8]) -> std::io::Result<()> {
            self.2.lock().unwrap().remove(path);
            self.0.put_durable(path, bytes)
        }
        fn remove(&self, path: &str) -> std::io::Result<()> {
            self.0.remove(path)
        }
        fn sync_all(&self) -> std::io::Result<()> {
            if self.1.fetch_add(1, Ordering::Relaxed) == 0 {
                *self.2.lock().unwrap() = self.0.files().into_keys().collect();
                return Err(std::io::Error::from_raw_os_error(EIO));
            }
            self.0.sync_all()
        }
    }
    let (disk, tree) = (Arc::new(Disk::default()), Arc::new(Forgetful::default()));
    let signer = super::tree_disk::signer();
    let target = Target { segments: disk.clone(), tree: tree.clone(), signer, sealing: keys::sealing() };
    let audit = Audit::open_on(target, quick(), Arc::new(TestClock::default()), Arc::new(())).unwrap();
    let mut acknowledged = Vec::new();
    let mut round = 0;
    until("segments went", || {
        acknowledged.extend(work(&audit, &round.to_string(), 20));
        round += 1;
        std::thread::sleep(Duration::from_millis(100));
        tree.1.load(Ordering::Relaxed) >= 2
    });
    audit.stop("test").unwrap();
    // What the failed sync lost and nobody wrote again is gone with the power.
    let lost = tree.2.lock().unwrap().clone();
    let kept: BTreeMap<_, _> = tree.0.files().into_iter().filter(|(path, _)| !lost.contains(path)).collect();
    assert_eq!(requests(&verified(&kept).unwrap().1), acknowledged);
}

#[test]
fn under_load_checkpoints_end_with_tiles() {
    let (disk, tree) = (Arc::new(Disk::default()), Arc::new(TreeDisk::default()));
    let window = Window { entries: 900, delay: Duration::from_secs(3_600) };
    let audit = open_on(&disk, &tree, Options { window, ..quick() }).unwrap();
    for n in 0..60 {
        on_worker(&audit, async |lane| {
            for m in 0..49 {
                lane.append_unwaited(&completion(&format!("{n}-{m}")));
            }
            lane.record(&completion(&n.to_string())).await.unwrap();
        });
        // However the groups fall, no 900 entries wait: whoever has the last of them wakes the tree.
        until("few enough are left", || audit.status().tree.lag_entries < 900);
        let size = audit.status().tree.size;
        assert_eq!(size % 256, 0, "a checkpoint in the middle of a tile");
    }
    assert!(audit.status().tree.size > 3_000 - 900);
    let unfinished: Vec<_> = tree.files().into_keys().filter(|path| path.contains(".p/")).collect();
    assert!(unfinished.iter().all(|path| path.starts_with("tile/1/")), "{unfinished:?}");
    audit.stop("test").unwrap();
    assert_eq!(verified(&tree.files()).unwrap().0.records, 3_002);
}

/// A log of two runs whose first segments are gone, cut off without its stop.
fn small_log() -> (Arc<Disk>, BTreeMap<String, Vec<u8>>) {
    let (disk, tree) = (Arc::new(Disk::default()), Arc::new(TreeDisk::default()));
    let audit = open_on(&disk, &tree, quick()).unwrap();
    work(&audit, "a", 30);
    audit.stop("test").unwrap();
    let audit = open_on(&disk, &tree, quick()).unwrap();
    work(&audit, "b", 10);
    until("all is covered", || audit.status().tree.lag_entries == 0);
    let (killed, files) = (disk.kill(), tree.files());
    audit.stop("test").unwrap();
    (Arc::new(killed), files)
}

#[test]
fn a_torn_tile_is_built_again_or_refused_by_name() {
    let (disk, files) = small_log();
    let whole = verified(&files).unwrap().1;
    let (mut built, mut refused) = (0, 0);
    for (path, bytes) in &files {
        // Cut at each byte; flipped at each; gone.
        let cuts = (0..bytes.len()).step_by(1 + bytes.len() / 40).map(|at| Some(bytes[..at].to_vec()));
        let flips = (0..bytes.len()).step_by(1 + bytes.len() / 40).map(|at| {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            Some(flipped)
        });
        for torn in cuts.chain(flips).chain([None]) {
            let mut files = files.clone();
            match torn {
                Some(torn) => drop(files.insert(path.clone(), torn)),
                None => drop(files.remove(path)),
            }
            let tree = Arc::new(TreeDisk::with(files));
            let disk = Arc::new(disk.kill());
            match open_on(&disk, &tree, Options { keep_segments: usize::MAX, ..quick() }) {
                Ok(audit) => {
                    audit.stop("test").unwrap();
                    let records = verified(&tree.files()).unwrap_or_else(|error| panic!("{path}: {error}")).1;
                    assert_eq!(records[..whole.len()], whole[..]);
                    built += 1;
                }
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains("tile") || error.contains("checkpoint"), "{path}: {error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(built > 50 && refused > 10, "{built} built, {refused} refused");
}

#[test]
fn a_log_that_was_rolled_back_is_refused_by_name() {
    let (disk, files) = small_log();
    let older = Arc::new(Disk::default());
    let tree = Arc::new(TreeDisk::default());
    let audit = open_on(&older, &tree, quick()).unwrap();
    work(&audit, "a", 3);
    audit.stop("test").unwrap();
    // Segments of an earlier state, or none, under the newer checkpoint.
    for segments in [older.clone(), Arc::new(Disk::default())] {
        let error = open_on(&segments, &Arc::new(TreeDisk::with(files.clone())), quick()).unwrap_err();
        assert!(matches!(&error, OpenError::Recovery(RecoveryError::Tree(_))), "{error}");
        assert!(error.to_string().contains("rolled back"), "{error}");
    }
    // The checkpoint that stands is older than the synced one.
    let mut forged = files.clone();
    forged.insert("checkpoint".into(), tree.files()["checkpoint"].clone());
    let error = open_on(&disk, &Arc::new(TreeDisk::with(forged)), quick()).unwrap_err().to_string();
    assert!(error.contains("rolled back"), "{error}");
    // Another log's tree; a tree that another key signed.
    let other = Signer::new("log.example/gw2/lane-1", gateway_audit::note::KeyKind::Log, &[3; 32]).unwrap();
    let tree: Arc<dyn TreeStorage> = Arc::new(TreeDisk::with(files));
    let target = Target { segments: disk, tree, signer: other, sealing: keys::sealing() };
    let error = Audit::open_on(target, quick(), Arc::new(TestClock::default()), Arc::new(())).unwrap_err().to_string();
    assert!(error.contains("checkpoint") && error.contains("log.example/gw1"), "{error}");
}

#[test]
fn segments_of_another_history_are_refused_by_name() {
    let (_, files) = small_log();
    // As long, and not what was signed.
    let (disk, tree) = (Arc::new(Disk::default()), Arc::new(TreeDisk::default()));
    let audit = open_on(&disk, &tree, Options { keep_segments: usize::MAX, ..quick() }).unwrap();
    work(&audit, "other", 80);
    audit.stop("test").unwrap();
    let error = open_on(&disk, &Arc::new(TreeDisk::with(files)), quick()).unwrap_err().to_string();
    assert!(error.contains("not those that its checkpoint signed"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Power cuts at any moment, tiles torn at any byte, calls that fail: the log verifies, and its tree holds all that
    /// was acknowledged.
    #[test]
    fn a3_a9_after_any_crash_the_tree_holds_every_acknowledged_record(
        rounds in proptest::collection::vec((1_usize..60, 0_u64..12), 1..5),
        keeps in proptest::collection::vec(proptest::option::of(0_usize..9_000), 8),
        failing in proptest::option::of((1_u64..30, 1_u64..4)),
    ) {
        let (mut disk, mut tree) = (Arc::new(Disk::default()), Arc::new(TreeDisk::default()));
        let mut acknowledged = Vec::new();
        for (round, (count, pause)) in rounds.into_iter().enumerate() {
            let audit = open_on(&disk, &tree, quick()).unwrap();
            if let Some((first, count)) = failing {
                tree.fail(Fault { first, count, errno: EIO });
            }
            acknowledged.extend(work(&audit, &round.to_string(), count));
            std::thread::sleep(Duration::from_millis(pause));
            // The tiles first: what they hold is durable in the segments of that moment, and so of a later one.
            let mut place = 0;
            let cut_tree = tree.crash(|_, bytes| {
                place += 1;
                keeps[place % keeps.len()].map(|kept| bytes[..kept.min(bytes.len())].to_vec())
            });
            let cut = disk.crash(|place, length| keeps[place % keeps.len()].map(|kept| kept % (length + 1)));
            drop(audit);
            (disk, tree) = (Arc::new(cut), Arc::new(cut_tree));
        }
        open_on(&disk, &tree, quick()).unwrap().stop("test").unwrap();
        let (_, records) = verified(&tree.files()).unwrap();
        prop_assert_eq!(requests(&records), acknowledged);
    }
}
