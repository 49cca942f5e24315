use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;

use clap::Parser;
use gateway_audit::checkpoint::Checkpoint;
use gateway_audit::header::{ClearHeader, KeyId, Kind, Pseudonym};
use gateway_audit::keyfile::KeyFile;
use gateway_audit::note::{KeyKind, Signer};
use gateway_audit::seal::{DataKey, Secret};
use gateway_audit::tiles::{Builder, Tile, entry};
use proptest::prelude::*;

use super::super::query::{QueryArgs, find};
use super::*;

const MINUTE: i64 = 60_000_000_000;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    query: QueryArgs,
}

/// A data key's number: its log, site and class.
type Key = (usize, u8);

/// Logs of two lanes on disk, their keys, and two reviewers.
struct World {
    folder: tempfile::TempDir,
    lanes: [Vec<Vec<u8>>; 2],
    time: i64,
}

/// What one record says.
#[derive(Debug, Clone)]
struct Said {
    key: u8,
    user: u8,
    patients: Vec<u8>,
    permit: bool,
    /// Time goes on by so much; back, if the clock was put back.
    later: i64,
    long: bool,
}

fn reviewer(name: &str) -> ReviewerKey {
    ReviewerKey::new(name, [name.as_bytes()[0]; 32], [2; 32]).unwrap()
}

fn origin(lane: usize) -> String {
    format!("sekisho.example/gw1/lane-{}", lane + 1)
}

fn signer(lane: usize) -> Signer {
    Signer::new(&origin(lane), KeyKind::Log, &[u8::try_from(lane).unwrap() + 1; 32]).unwrap()
}

fn id((lane, key): Key) -> KeyId {
    KeyId([key + 16 * u8::try_from(lane).unwrap() + 1; 16])
}

impl World {
    fn new() -> Self {
        let world =
            Self { folder: tempfile::tempdir().unwrap(), lanes: [Vec::new(), Vec::new()], time: 1_000 * MINUTE };
        for name in ["auditor", "clinic"] {
            let file = reviewer(name).protect("correct horse battery", NonZeroU32::MIN, [7; 16]).unwrap();
            for (name, text) in [(name, file.as_str()), ("passphrase", "correct horse battery\n")] {
                fs::write(world.path(name), text).unwrap();
                fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
        fs::create_dir(world.path("keys")).unwrap();
        fs::create_dir(world.path("audit")).unwrap();
        let keys: String = [0, 1].map(|lane| format!("{}\n", signer(lane).verifier())).concat();
        fs::write(world.path("audit/verifier-keys"), keys).unwrap();
        // Odd keys are the clinic's as well.
        for key in [0, 1].into_iter().flat_map(|lane| (0..4).map(move |key| (lane, key))) {
            let readers: &[&str] = if key.1 % 2 == 1 { &["auditor", "clinic"] } else { &["auditor"] };
            world.wrap(key, readers);
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn key_path(&self, key: Key) -> PathBuf {
        self.path("keys").join(format!("{}/2026-11-23/{}", Pseudonym([key.1 + 1; 8]), id(key)))
    }

    fn wrap(&self, key: Key, readers: &[&str]) {
        let mut file = KeyFile {
            origin: origin(key.0),
            site: Some(format!("site-{}", key.1)),
            pseudonym: Pseudonym([key.1 + 1; 8]),
            class: None,
            period: "2026-11-23".into(),
            days: NonZeroU32::MIN,
            key: id(key),
            first: 1,
            wrapped: Vec::new(),
        };
        for name in readers {
            file.wrap_to(&Secret::new(id(key).0.repeat(2).try_into().unwrap()), reviewer(name).public()).unwrap();
        }
        let path = self.key_path(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Another file each time, as the gateway writes them.
        fs::write(path.with_extension("new"), file.encode().unwrap()).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    fn destroy(&self, key: Key) {
        let _ = fs::remove_file(self.key_path(key));
    }

    fn append(&mut self, lane: usize, said: &[Said]) {
        for said in said {
            self.time += said.later;
            let sequence = u64::try_from(self.lanes[lane].len()).unwrap() + 1;
            let patients: Vec<String> = said.patients.iter().map(|n| format!("patient-{n}")).collect();
            let mut value = serde_json::json!({
                "kind": "request", "user": format!("user-{}", said.user), "patients": patients,
                "connection": { "site": format!("site-{}", said.key), "device": "d" },
                "decision": if said.permit { "permit" } else { "deny" }, "action": "read", "sequence": sequence,
            });
            if said.long {
                value["target"] = "x".repeat(70_000).into();
            }
            let header = ClearHeader {
                kind: Kind::Request,
                unix_ns: self.time,
                site: Pseudonym([said.key + 1; 8]),
                key: id((lane, said.key)),
                reference: "r",
            };
            let secret = Secret::new(header.key.0.repeat(2).try_into().unwrap());
            let (mut envelope, json) = (Vec::new(), value.to_string());
            let key = DataKey::new(&secret).unwrap();
            key.seal_into(&origin(lane), sequence, &header, json.as_bytes(), &mut envelope).unwrap();
            if said.user == 9 {
                // Sealed wrongly, and signed by the log all the same.
                *envelope.last_mut().unwrap() ^= 1;
            }
            self.lanes[lane].push(envelope);
        }
        self.lay(lane, self.lanes[lane].len());
    }

    /// Lays the first records of a lane on disk, as a tree.
    fn lay(&self, lane: usize, records: usize) {
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut store = |tile: Tile, bytes: &[u8]| {
            files.insert(tile.path(), bytes.to_vec());
        };
        let mut builder = Builder::new();
        for (envelope, sequence) in self.lanes[lane].iter().take(records).zip(1..) {
            for part in entry::split(sequence, envelope).unwrap() {
                let mut bytes = Vec::new();
                part.encode(&mut bytes);
                builder.push(&bytes, &mut store).unwrap();
            }
        }
        builder.partial(&mut store);
        let (size, root) = (builder.size(), builder.root());
        let note = Checkpoint { origin: origin(lane), size, root, extensions: Vec::new() };
        files.insert(CHECKPOINT.to_owned(), note.sign(&signer(lane)).unwrap().into_bytes());
        let folder = self.path(&format!("audit/lane-{}", lane + 1));
        let _ = fs::remove_dir_all(&folder);
        for (path, bytes) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    fn ask(&self, reviewer: &str, words: &[&str]) -> anyhow::Result<(Vec<Record>, Notes)> {
        let at = |name: &str| self.path(name).display().to_string();
        let (dir, keys, key, passphrase) = (at("audit"), at("keys"), at(reviewer), at("passphrase"));
        let fixed = ["query", "--dir", &dir, "--keys", &keys, "--key", &key, "--passphrase-file", &passphrase];
        find(&Line::try_parse_from(fixed.iter().chain(words))?.query)
    }

    /// Asks with the index and without: the answers are the same. Gives the answer.
    fn same(&self, reviewer: &str, words: &[&str]) -> (Vec<Record>, Notes) {
        let told = |(records, notes): &(Vec<Record>, Notes)| {
            let records: Vec<_> =
                records.iter().map(|one| (one.unix_ns, one.lane.clone(), one.value.to_string())).collect();
            let unopened =
                notes.text.lines().find_map(|line| line.strip_prefix("note: ")?.split_once(" records do not"));
            (records, notes.bad, unopened.map(|(count, _)| count.to_owned()))
        };
        let found = self.ask(reviewer, words).unwrap();
        let scanned = self.ask(reviewer, &[words, &["--no-index"]].concat()).unwrap();
        assert_eq!(told(&found), told(&scanned), "{reviewer} {words:?}");
        found
    }

    /// All files of an index.
    fn files(&self, reviewer: &str) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.path(&format!("{reviewer}.index"))).unwrap().flatten().map(|file| file.path());
        let folders = folders.flat_map(|path| match fs::read_dir(&path) {
            Ok(files) => files.flatten().map(|file| file.path()).collect(),
            Err(_) => vec![path],
        });
        folders.collect()
    }
}

fn said(key: u8, user: u8, patients: &[u8]) -> Said {
    Said { key, user, patients: patients.to_vec(), permit: true, later: MINUTE / 3, long: false }
}

fn some(count: u8) -> Vec<Said> {
    (0..count).map(|n| said(n % 4, n % 7, &[n % 5, n % 11])).collect()
}

#[test]
fn an_index_grows_with_its_log_and_both_lanes_answer() {
    let mut world = World::new();
    world.append(0, &some(200));
    world.append(1, &some(50));
    let all = world.same("auditor", &[]).0;
    assert_eq!((all.len(), all.is_sorted_by_key(|record| record.unix_ns)), (250, true));
    let before = world.same("auditor", &["--patient", "patient-3"]).0.len();
    assert!(before > 20);
    world.append(0, &some(200));
    world.append(0, &[Said { long: true, ..said(1, 1, &[3]) }, said(1, 1, &[3])]);
    let after = world.same("auditor", &["--patient", "patient-3"]).0;
    assert!(after.len() > before + 20);
    assert!(world.same("auditor", &["--patient", "patient-3", "--user", "user-1", "--site", "site-1"]).0.len() > 2);
    assert_eq!(world.same("clinic", &["--site", "site-0"]).0.len(), 0);
    assert!(
        world.same("clinic", &["--patient", "patient-3"]).1.text.contains("is not wrapped to the reviewer `clinic`")
    );
    // Each reviewer has an index, and neither can use the other's.
    let other = world.path("auditor.index").display().to_string();
    let refused = world.ask("clinic", &["--index", &other]).unwrap_err();
    assert!(format!("{refused:#}").contains("another reviewer's"), "{refused:#}");
    assert!(world.files("auditor").len() > 4);
}

#[test]
fn nothing_on_disk_says_who_or_what() {
    let mut world = World::new();
    world.append(0, &some(200));
    world.same("auditor", &[]);
    let words = ["patient-3", "user-1", "site-0", "lane-1", "sekisho.example", "permit", "auditor"];
    for file in world.files("auditor") {
        let bytes = fs::read(&file).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        for word in words {
            let inside = bytes.windows(word.len()).any(|window| window == word.as_bytes());
            assert!(!inside && !name.contains(word), "{word} in {}", file.display());
        }
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o077, 0, "{}", file.display());
    }
}

#[test]
fn what_is_under_a_destroyed_key_leaves_the_index_and_what_comes_back_comes_back() {
    let mut world = World::new();
    world.append(0, &some(200));
    let before = world.same("auditor", &["--site", "site-1"]).0.len();
    let files = world.files("auditor");
    world.destroy((0, 1));
    let (records, notes) = world.same("auditor", &["--site", "site-1"]);
    assert!(records.is_empty() && notes.text.contains("is not in the key directory"), "{}", notes.text);
    let kept = |file: &PathBuf| file.extension().is_some_and(|kind| kind == "segment") && file.exists();
    assert!(!files.iter().any(kept), "an old segment is still there");
    world.wrap((0, 1), &["clinic"]);
    assert!(world.same("auditor", &["--site", "site-1"]).0.is_empty());
    world.wrap((0, 1), &["clinic", "auditor"]);
    assert_eq!(world.same("auditor", &["--site", "site-1"]).0.len(), before);
    // A new reviewer opens later periods, until somebody wraps older ones.
    let count = |world: &World| world.same("clinic", &["--user", "user-2"]).0.len();
    let few = count(&world);
    world.wrap((0, 2), &["auditor", "clinic"]);
    assert!(count(&world) > few);
}

#[test]
fn a_log_that_was_altered_taken_back_or_replaced_is_told() {
    let mut world = World::new();
    world.append(0, &some(250));
    world.append(0, &some(250));
    let all = world.same("auditor", &["--user", "user-3"]).0.len();
    // Put back to an earlier state, which is a good log by itself.
    world.lay(0, 300);
    let (records, notes) = world.ask("auditor", &["--user", "user-3"]).unwrap();
    assert!(notes.bad && notes.text.contains("cut off with all that follows"), "{}", notes.text);
    assert!(records.is_empty());
    // Another history of the same length.
    let genuine = world.lanes[0].clone();
    world.lanes[0].swap(3, 4);
    world.lay(0, 500);
    let (records, notes) = world.ask("auditor", &["--user", "user-3"]).unwrap();
    assert!(notes.bad && notes.text.contains("another history") && records.is_empty(), "{}", notes.text);
    // Without its checkpoint.
    world.lanes[0] = genuine;
    world.lay(0, 500);
    assert_eq!(world.same("auditor", &["--user", "user-3"]).0.len(), all);
    let checkpoint = world.path("audit/lane-1/checkpoint");
    let note = fs::read(&checkpoint).unwrap();
    fs::remove_file(&checkpoint).unwrap();
    let (_, notes) = world.ask("auditor", &["--user", "user-3"]).unwrap();
    assert!(notes.bad && notes.text.contains("the index has seen one"), "{}", notes.text);
    fs::write(&checkpoint, note).unwrap();
    // An entry that is part of the answer.
    let bundle = world.path("audit/lane-1/tile/entries/000");
    let mut bytes = fs::read(&bundle).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let (records, notes) = world.ask("auditor", &[]).unwrap();
    assert!(notes.bad && notes.text.contains("is altered"), "{}", notes.text);
    assert!((1..400).contains(&records.len()));
}

#[test]
fn a_damaged_index_is_noticed_and_built_anew() {
    let mut world = World::new();
    world.append(0, &some(250));
    let whole = world.same("auditor", &["--patient", "patient-3"]).0.len();
    let files: Vec<_> = world
        .files("auditor")
        .into_iter()
        .filter(|file| file.file_name().is_some_and(|name| name != LOCK && name != OWNER))
        .collect();
    assert!(files.len() >= 2, "{files:?}");
    for number in 0..files.len() {
        for damage in 0..4 {
            let files: Vec<_> = world.files("auditor");
            let kind = |file: &PathBuf| file.extension().is_some_and(|kind| kind == "segment");
            let manifest = files.iter().find(|file| file.ends_with("manifest")).unwrap();
            let segments: Vec<_> = files.iter().filter(|file| kind(file)).collect();
            let file = if number == 0 { manifest } else { segments[number % segments.len()] };
            let mut bytes = fs::read(file).unwrap();
            match damage {
                0 => bytes[10] ^= 1,
                1 => bytes.truncate(bytes.len() - 1),
                2 => bytes.push(0),
                _ => bytes.clear(),
            }
            fs::write(file, bytes).unwrap();
            // Asking for everything reads no block; a patient does.
            let (found, notes) = world.same("auditor", &["--patient", "patient-3"]);
            assert_eq!(found.len(), whole);
            assert!(notes.text.contains("is damaged; it is built anew"), "{number} {damage}: {}", notes.text);
        }
    }
    // What a crash leaves beside a manifest is removed, and a manifest that was put back is caught up with.
    let manifest = world.files("auditor").into_iter().find(|file| file.ends_with("manifest")).unwrap();
    let stray = manifest.with_file_name("0123456789abcdef0123456789abcdef.segment");
    fs::write(&stray, b"half").unwrap();
    world.same("auditor", &[]);
    assert!(!stray.exists());
    let old = fs::read(&manifest).unwrap();
    world.append(0, &some(100));
    world.same("auditor", &[]);
    fs::write(&manifest, old).unwrap();
    world.same("auditor", &["--user", "user-3"]);
    // On demand, too.
    world.same("auditor", &[]);
    assert!(world.ask("auditor", &["--rebuild"]).unwrap().0.len() > 300);
    fs::write(world.path("auditor.index").join(OWNER), b"torn").unwrap();
    assert!(world.ask("auditor", &[]).is_err());
    assert!(world.ask("auditor", &["--rebuild"]).unwrap().0.len() > 300);
}

#[test]
fn what_retention_removed_is_passed_over() {
    let mut world = World::new();
    // All of the first bundle is under two keys, and none of the rest is.
    world.append(0, &(0..256).map(|n: u32| said(u8::try_from(n % 2).unwrap(), 1, &[3])).collect::<Vec<_>>());
    world.append(0, &(0..300).map(|n: u32| said(u8::try_from(2 + n % 2).unwrap(), 2, &[3])).collect::<Vec<_>>());
    assert_eq!(world.same("auditor", &["--patient", "patient-3"]).0.len(), 556);
    let mut builder = Builder::new();
    for (envelope, sequence) in world.lanes[0].iter().take(256).zip(1..) {
        let mut bytes = Vec::new();
        entry::split(sequence, envelope).unwrap().for_each(|part| part.encode(&mut bytes));
        builder.push(&bytes, &mut |_, _| {}).unwrap();
    }
    let tombstone = gateway_audit::removal::Tombstone { entries: 256, next: 257, root: builder.root() };
    let reference = tombstone.to_string();
    let (kind, site, key) = (Kind::Removal, Pseudonym([9; 8]), KeyId([99; 16]));
    let mut envelope = Vec::new();
    ClearHeader { kind, unix_ns: world.time, site, key, reference: &reference }.encode(&mut envelope).unwrap();
    envelope.extend_from_slice(&[0; 16]);
    world.lanes[0].push(envelope);
    world.append(0, &[said(2, 2, &[3])]);
    world.destroy((0, 0));
    world.destroy((0, 1));
    let pointer = gateway_audit::removal::Pointer { entry: 556, record: 557 };
    fs::write(world.path("audit/lane-1/removed"), pointer.to_string()).unwrap();
    fs::remove_file(world.path("audit/lane-1/tile/entries/000")).unwrap();
    // An index from before, and one that begins behind it.
    for who in ["auditor", "clinic"] {
        for words in [&["--patient", "patient-3"][..], &[], &["--user", "user-1"], &["--to", "1970-01-01T17:41:00Z"]] {
            let (_, notes) = world.same(who, words);
            assert!(notes.text.contains("before 257 were removed by retention under record 557"), "{}", notes.text);
        }
    }
    assert_eq!(world.same("auditor", &["--patient", "patient-3"]).0.len(), 301);
    let pointer = fs::read(world.path("audit/lane-1/removed")).unwrap();
    world.lanes[0].push(world.lanes[0][0].clone());
    world.append(0, &[said(2, 2, &[3])]);
    fs::write(world.path("audit/lane-1/removed"), pointer).unwrap();
    fs::remove_file(world.path("audit/lane-1/tile/entries/000")).unwrap();
    world.same("clinic", &[]);
    assert_eq!(world.same("auditor", &["--patient", "patient-3"]).0.len(), 302);
    // Without the record of it, it is no retention.
    fs::remove_file(world.path("audit/lane-1/removed")).unwrap();
    assert!(world.ask("auditor", &["--from", "1970-01-01"]).unwrap().1.bad);
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize, Vec<Said>),
    Destroy(Key),
    Wrap(Key, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let said = (0_u8..4, 0_u8..10, prop::collection::vec(0_u8..9, 0..3), any::<bool>(), -5_i64..40, 0_u8..60);
    let said = said.prop_map(|(key, user, patients, permit, later, long)| Said {
        key,
        user,
        patients,
        permit,
        later: later * MINUTE / 10,
        long: long == 0,
    });
    let key = (0_usize..2, 0_u8..4);
    prop_oneof![
        4 => (0_usize..2, prop::collection::vec(said, 1..150)).prop_map(|(lane, said)| Step::Append(lane, said)),
        1 => key.clone().prop_map(Step::Destroy),
        1 => (key, any::<bool>()).prop_map(|(key, both)| Step::Wrap(key, both)),
    ]
}

fn question() -> impl Strategy<Value = Vec<String>> {
    let one = |name: &'static str, values: std::ops::Range<u8>| {
        prop::option::weighted(0.3, values).prop_map(move |value| {
            value.map(|value| vec![format!("--{name}"), format!("{name}-{value}")]).unwrap_or_default()
        })
    };
    let permit = prop::option::weighted(0.3, any::<bool>()).prop_map(|permit| match permit {
        Some(permit) => vec!["--decision".into(), if permit { "permit".into() } else { "deny".to_owned() }],
        None => Vec::new(),
    });
    let time = |name: &'static str| {
        prop::option::weighted(0.3, 0_u32..600).prop_map(move |tenths| {
            let Some(tenths) = tenths else { return Vec::new() };
            let mut text = Vec::new();
            gateway_audit::time::write(&mut text, 1_000 * MINUTE + i64::from(tenths) * MINUTE / 3);
            vec![format!("--{name}"), String::from_utf8(text).unwrap()]
        })
    };
    (one("site", 0..5), one("user", 0..10), one("patient", 0..9), permit, time("from"), time("to"))
        .prop_map(|(a, b, c, d, e, f)| [a, b, c, d, e, f].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever happens to logs and keys, an index answers what a scan of everything answers.
    #[test]
    fn an_index_answers_as_a_scan_does(
        steps in prop::collection::vec((step(), prop::collection::vec(question(), 1..4)), 1..8),
    ) {
        let mut world = World::new();
        world.append(0, &some(3));
        for (step, questions) in steps {
            match step {
                Step::Append(lane, said) => world.append(lane, &said),
                Step::Destroy(key) => world.destroy(key),
                Step::Wrap(key, both) => world.wrap(key, if both { &["auditor", "clinic"] } else { &["clinic"] }),
            }
            for question in questions {
                let words: Vec<&str> = question.iter().map(String::as_str).collect();
                world.same("auditor", &words);
                world.same("clinic", &words);
            }
        }
    }
}
