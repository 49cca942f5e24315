use gateway_audit::frame::SegmentHeader;
use gateway_audit::reader::Verifier;
use gateway_audit::reviewer::private::ReviewerKey;
use tempfile::TempDir;

use super::*;
use crate::audit::opening::Opener;
use crate::audit::{Options, init, segment_first, segments_directory};
use crate::clock::tests::TestClock;
use crate::registry::watch::Watch;
use crate::store::DisplayName;

/// A node's store and log, without the rest of a gateway.
struct Node {
    folder: TempDir,
    store: Store,
}

fn reviewer() -> ReviewerKey {
    ReviewerKey::new("auditor", [5; 32], [6; 32]).unwrap()
}

struct OnlyRecord(Recorder);

impl OnChange for OnlyRecord {
    type Error = Refusal;

    fn publish(&self, _: Arc<Directory>, _: &[Change]) {}

    async fn record(&self, change: &Change) -> Result<(), Refusal> {
        self.0.record(change).await
    }
}

impl Node {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path().join("sekisho.db")).await.unwrap();
        Self { folder, store }
    }

    fn audit(&self) -> PathBuf {
        self.folder.path().join("audit")
    }

    fn log(&self) -> Log {
        let domain = "log.example".to_owned();
        let options =
            Options { domain, segment_bytes: 256 << 10, reserve_bytes: 64 << 10, ..Options::new("gw1", "boot") };
        let reviewers = self.folder.path().join("reviewers");
        if !reviewers.exists() {
            let key = reviewer();
            let first = init::first_statement("log.example", &[key.public().clone()], &key).unwrap();
            init::make(&self.keys(), &reviewers, "log.example", &first).unwrap();
        }
        let sealing = Sealing::open(&self.keys(), &reviewers, "log.example", std::num::NonZeroU32::MIN).unwrap();
        Log::open(&self.audit(), sealing, options, Arc::new(TestClock::default()), Arc::new(())).unwrap()
    }

    fn keys(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    async fn add(&self, site: &str) {
        self.store.site_add("tester", site.parse().unwrap(), DisplayName::default()).await.unwrap();
    }

    /// What a start does, and the end after it.
    async fn run(&self) -> Result<Marks, RegistryError> {
        let log = self.log();
        let (marks, audited) = Marks::open(&self.audit(), &log, &self.store).await?;
        let hook = OnlyRecord(Recorder { lane: log.control(), sealing: log.sealing().clone(), marks: marks.clone() });
        Watch::new(self.store.clone(), "gw1", hook).catch_up(audited).await.unwrap();
        Ok(marks)
    }

    /// Numbers of the changes that the log holds, and the kind of its last record but `stop`.
    fn recorded(&self) -> (Vec<u64>, String) {
        let mut opener = Opener::new(&self.keys(), reviewer());
        let segments = segments_directory(&self.audit(), 1);
        let mut names: Vec<_> =
            fs::read_dir(&segments).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| segment_first(name).is_some());
        names.sort();
        let bytes: Vec<_> = names.iter().map(|name| fs::read(segments.join(name)).unwrap()).collect();
        let (mut verifier, mut changes, mut last) = (Verifier::new(), Vec::new(), String::new());
        for (place, name) in names.iter().enumerate() {
            let next = bytes.get(place + 1).map(|bytes| SegmentHeader::decode(bytes).unwrap());
            let visit = |_, frame: &gateway_audit::frame::Frame<'_>| {
                let record: serde_json::Value = serde_json::from_slice(
                    &opener.open(Some("log.example/gw1/lane-1"), frame.sequence, frame.record).unwrap(),
                )
                .unwrap();
                changes.extend(record["registry_sequence"].as_u64());
                if record["kind"] != "stop" {
                    last = record["kind"].as_str().unwrap().to_owned();
                }
            };
            verifier.segment(name, &bytes[place], next.as_ref(), visit).unwrap();
        }
        (changes, last)
    }
}

#[tokio::test]
async fn what_the_log_holds_is_not_recorded_again_wherever_a_crash_came() {
    let node = Node::new().await;
    node.add("a").await;
    node.add("b").await;
    {
        // The record of the first is durable; neither the store's cursor nor the file says so.
        let log = node.log();
        let (marks, audited) = Marks::open(&node.audit(), &log, &node.store).await.unwrap();
        assert_eq!(audited, 0);
        let change = node.store.change(1).await.unwrap().unwrap();
        Recorder { lane: log.control(), sealing: log.sealing().clone(), marks }.record(&change).await.unwrap();
    }
    // The file was not written any more.
    fs::remove_file(node.audit().join(MARK)).unwrap();
    assert_eq!(node.store.recorded_up_to("gw1").await.unwrap(), 0);
    node.run().await.unwrap();
    assert_eq!(node.recorded().0, [1, 2]);
    node.add("c").await;
    node.run().await.unwrap();
    node.run().await.unwrap();
    assert_eq!(node.recorded().0, [1, 2, 3]);
    assert_eq!(node.store.recorded_up_to("gw1").await.unwrap(), 3);
}

#[tokio::test]
async fn two_processes_that_overlap_record_a_change_once() {
    let node = Node::new().await;
    node.add("a").await;
    node.add("b").await;
    let (old, new) = (node.log(), node.log());
    let mut recorders = Vec::new();
    for log in [&old, &new] {
        let (marks, _) = Marks::open(&node.audit(), log, &node.store).await.unwrap();
        recorders.push(Recorder { lane: log.control(), sealing: log.sealing().clone(), marks });
    }
    for number in [1, 2] {
        let change = node.store.change(number).await.unwrap().unwrap();
        let [old, new] = recorders.as_slice() else { panic!("two") };
        let (old, new) = tokio::join!(old.record(&change), new.record(&change));
        old.and(new).unwrap();
    }
    drop((recorders, old, new));
    let wal = |lane| crate::audit::segments_directory(&node.audit(), lane);
    let mut changes = 0;
    for lane in [1, 2] {
        for entry in fs::read_dir(wal(lane)).unwrap().flatten() {
            let bytes = fs::read(entry.path()).unwrap();
            let _ = Verifier::new().segment("segment", &bytes, None, |_, frame| {
                let envelope = gateway_audit::header::Envelope::decode(frame.record).unwrap();
                changes += usize::from(envelope.header.kind == gateway_audit::header::Kind::RegistryChange);
            });
        }
    }
    assert_eq!(changes, 2);
}

#[tokio::test]
async fn a_store_that_was_put_back_is_recorded_and_refused() {
    for with_file in [true, false] {
        let node = Node::new().await;
        node.add("a").await;
        node.store.checkpoint().await;
        let backup = node.folder.path().join("backup.db");
        fs::copy(node.store.path(), &backup).unwrap();
        node.store.site_suspend("tester", &"a".parse().unwrap()).await.unwrap();
        let marks = node.run().await.unwrap();
        if with_file {
            // The records that tell of the change are long archived.
            assert!(marks.write());
            fs::remove_dir_all(node.audit().join("lane-1")).unwrap();
        }
        let old = Node { folder: node.folder, store: Store::open(&backup).await.unwrap() };
        let refused = old.run().await.unwrap_err();
        assert!(matches!(refused, RegistryError::RolledBack { recorded: 2, held: 1, .. }), "{refused}");
        assert!(refused.to_string().contains("backup.db` ends with change 1"), "{refused}");
        assert_eq!(old.recorded().1, "registry-rollback");
        // Changes that were made since then in the copy do not make it the right one.
        old.add("b").await;
        let refused = old.run().await.unwrap_err().to_string();
        assert!(refused.contains("holds another of that number"), "{refused}");
        let right = Node { folder: old.folder, store: Store::open(node.store.path()).await.unwrap() };
        right.run().await.unwrap();
    }
}

#[tokio::test]
async fn a_file_that_nobody_wrote_so_is_refused() {
    let node = Node::new().await;
    fs::create_dir(node.audit()).unwrap();
    fs::write(node.audit().join(MARK), "7").unwrap();
    let refused = node.run().await.unwrap_err().to_string();
    assert!(refused.contains(MARK) && refused.contains("recorded last"), "{refused}");
}
