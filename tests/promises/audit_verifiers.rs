//! A9 on the log of a real gateway: what is done to a copy of it is found by `sekisho audit verify`, and by a verifier
//! in Python that shares no code with it and was written from `gateway/audit/FORMAT.md` alone.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use gateway_audit::checkpoint::Checkpoint;
use gateway_audit::note::{KeyKind, Signer};
use gateway_audit::tiles::entry::Bundle;
use gateway_audit::tiles::{Builder, Kind, Tile};
use gateway_tests::audit::reviewer;
use gateway_tests::{Clinic, Prepared, repository, sekisho, until};
use serde_json::Value;

use crate::audit_tools::{ask, small_log};

/// A lane's files but the segments, by path.
type Log = BTreeMap<String, Vec<u8>>;

const CHECKPOINT: &str = "checkpoint";

/// The Python that `tests/run.sh` prepares.
fn python(arguments: &[&str]) -> (i32, Vec<Value>) {
    let program = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let script = repository().join("tests/offline/auditlog.py");
    let output = Command::new(program).arg(script).args(arguments).output().expect("Python runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.is_empty(), "{errors}");
    (output.status.code().expect("an exit code"), lines)
}

fn load(folder: &Path, below: &Path, log: &mut Log) {
    for entry in std::fs::read_dir(below).expect("a folder").flatten() {
        let path = entry.path();
        let name = path.strip_prefix(folder).expect("below").display().to_string();
        if path.is_dir() {
            if name != "wal" {
                load(folder, &path, log);
            }
        } else if name == CHECKPOINT || name.starts_with("tile/") {
            log.insert(name, std::fs::read(&path).expect("a file"));
        }
    }
}

/// A copy of a lane that can be changed and judged.
struct Copy {
    folder: tempfile::TempDir,
    keys: PathBuf,
}

impl Copy {
    fn new(keys: &Path) -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), keys: keys.to_owned() }
    }

    fn lay(&self, log: &Log) {
        let lane = self.folder.path().join("lane-1");
        let _ = std::fs::remove_dir_all(&lane);
        for (name, bytes) in log {
            let path = lane.join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, bytes).expect("written");
        }
    }

    /// Exit code and words of our verifier; exit code and answer of the other one.
    fn judge(&self, log: &Log, kept: Option<&[u8]>) -> (i32, String, i32, Value) {
        self.lay(log);
        let lane = self.folder.path().join("lane-1").display().to_string();
        let keys = self.keys.display().to_string();
        let older = self.folder.path().join("kept").display().to_string();
        let mut ours = vec!["audit", "verify", &*lane, "--key", &*keys];
        let mut theirs = vec!["verify", &*lane, "--key", &*keys];
        if let Some(kept) = kept {
            std::fs::write(&older, kept).expect("written");
            ours.extend(["--checkpoint", &*older]);
            theirs.extend(["--older", &*older]);
        }
        let said = sekisho(&ours);
        let (code, answers) = python(&theirs);
        let answer = answers.into_iter().next().expect("an answer");
        (said.code.expect("an exit code"), said.stdout + &said.stderr, code, answer)
    }

    fn good(&self, log: &Log, kept: Option<&[u8]>) {
        let (ours, said, theirs, answer) = self.judge(log, kept);
        assert_eq!((ours, theirs), (0, 0), "{said} {answer}");
    }

    /// Both find it; ours in these words, the other with this reason.
    fn bad(&self, log: &Log, kept: Option<&[u8]>, words: &str, reason: &str) {
        let (ours, said, theirs, answer) = self.judge(log, kept);
        assert_eq!((ours, theirs), (1, 1), "{said} {answer}");
        assert!(said.contains(words), "`{words}` is not in {said}");
        assert!(answer["why"].as_str().expect("a reason").contains(reason), "`{reason}` is not in {answer}");
    }
}

/// A gateway's log of some runs, the checkpoint that was kept in the middle, and the configuration's folder.
fn real_log() -> (Prepared, Log, Vec<u8>) {
    let mut prepared = small_log().prepare();
    let mut kept = Vec::new();
    for run in 0..3 {
        let clinic = prepared.start();
        for turn in 0..30 {
            assert_eq!(ask(&clinic, turn % 2 == 0).status, 200);
        }
        prepared = clinic.stop();
        if run == 1 {
            kept = lane_of(&prepared)[CHECKPOINT].clone();
        }
    }
    let log = lane_of(&prepared);
    (prepared, log, kept)
}

fn lane_of(prepared: &Prepared) -> Log {
    let lane = prepared.path("audit/lane-1");
    let mut log = Log::new();
    load(&lane, &lane, &mut log);
    log
}

/// A log without entries is a log: of a lane that is not used, and of any in its first moment.
#[test]
fn a9_a_log_that_was_only_begun_is_good_and_taking_one_back_to_that_is_found() {
    let prepared = small_log().prepare();
    let clinic = prepared.start();
    assert_eq!(ask(&clinic, true).status, 200);
    let prepared = clinic.stop();
    let keys = prepared.path("audit/verifier-keys");
    let lane = prepared.path("audit/lane-2");
    let mut unused = Log::new();
    load(&lane, &lane, &mut unused);
    let copy = Copy::new(&keys);
    copy.good(&unused, Some(&unused[CHECKPOINT]));
    // The first checkpoint of lane 1 is that of a log that begins, whenever it is put back.
    let log = lane_of(&prepared);
    let seed = std::fs::read_to_string(prepared.path("audit/signing.key")).expect("a key");
    let seed = BASE64.decode(seed.lines().nth(1).expect("a seed")).expect("base64").try_into().expect("32 bytes");
    let origin = String::from_utf8_lossy(&log[CHECKPOINT]).lines().next().expect("an origin").to_owned();
    let signer = Signer::new(&origin, KeyKind::Log, &seed).expect("a signer");
    let sign = |root| {
        let checkpoint = Checkpoint { origin: origin.clone(), size: 0, root, extensions: Vec::new() };
        Log::from([(CHECKPOINT.to_owned(), checkpoint.sign(&signer).expect("signed").into_bytes())])
    };
    let empty = sign(gateway_audit::merkle::empty_root());
    copy.good(&empty, None);
    copy.good(&log, Some(&empty[CHECKPOINT]));
    copy.bad(&empty, Some(&log[CHECKPOINT]), "cut off", "truncated");
    copy.bad(&sign([7; 32]), None, "another history", "forked");
}

/// The size that a checkpoint states.
fn size(checkpoint: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(checkpoint);
    text.lines().nth(1).and_then(|line| line.parse().ok()).expect("a size")
}

fn entries(log: &Log) -> Vec<Vec<u8>> {
    let size = size(&log[CHECKPOINT]);
    let bundles = (0..size.div_ceil(256)).map(|index| Tile::in_tree(Kind::Entries, index, size).expect("a tile"));
    let bytes = bundles.map(|tile| log.get(&tile.path()).or_else(|| log.get(&tile.full().path())).expect("a bundle"));
    bytes.flat_map(|bytes| Bundle::new(bytes).map(<[u8]>::to_vec).collect::<Vec<_>>()).take(size as usize).collect()
}

/// The tiles over these entries, under the file names of a log of `size` entries.
fn build(entries: &[Vec<u8>], size: u64) -> (Log, Builder) {
    let mut log = Log::new();
    let mut builder = Builder::new();
    let mut store = |tile: Tile, bytes: &[u8]| {
        let named = Tile::in_tree(tile.kind, tile.index, size).unwrap_or(tile);
        log.insert(named.path(), bytes.to_vec());
    };
    for entry in entries {
        builder.push(entry, &mut store).expect("it fits");
    }
    builder.partial(&mut store);
    (log, builder)
}

/// The genuine checkpoint and tiles of hashes, over other entries.
fn forge(genuine: &Log, entries: &[Vec<u8>]) -> Log {
    let (other, _) = build(entries, size(&genuine[CHECKPOINT]));
    let mut log = genuine.clone();
    log.retain(|path, _| !path.contains("entries"));
    log.extend(other.into_iter().filter(|(path, _)| path.contains("entries")));
    log
}

/// The history that whoever stole the log's key writes.
fn resigned(prepared: &Prepared, entries: &[Vec<u8>]) -> Log {
    let file = std::fs::read_to_string(prepared.path("audit/signing.key")).expect("a key");
    let seed = BASE64.decode(file.lines().nth(1).expect("a seed")).expect("base64").try_into().expect("32 bytes");
    let checkpoint = String::from_utf8(lane_of(prepared)[CHECKPOINT].clone()).expect("text");
    let origin = checkpoint.lines().next().expect("a name").to_owned();
    let (mut log, builder) = build(entries, entries.len() as u64);
    let checkpoint =
        Checkpoint { origin: origin.clone(), size: builder.size(), root: builder.root(), extensions: Vec::new() };
    let signer = Signer::new(&origin, KeyKind::Log, &seed).expect("a key");
    log.insert(CHECKPOINT.to_owned(), checkpoint.sign(&signer).expect("a checkpoint").into_bytes());
    log
}

#[test]
fn a9_what_is_done_to_a_log_is_found_by_two_verifiers() {
    let (prepared, log, kept) = real_log();
    let copy = Copy::new(&prepared.path("audit/verifier-keys"));
    copy.good(&log, None);
    copy.good(&log, Some(&kept));
    let genuine = entries(&log);
    let (total, middle) = (genuine.len(), genuine.len() / 2);
    assert!(total > 100, "{total}");
    let change = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut entries = genuine.clone();
        change(&mut entries);
        entries
    };
    let named = |what: &str| format!("entry {middle} (record {}) is {what}", middle + 1);

    // By somebody without the log's key.
    let altered = change(&|entries| *entries[middle].last_mut().expect("a byte") ^= 1);
    copy.bad(&forge(&log, &altered), None, &named("altered"), "altered");
    let removed = change(&|entries| drop(entries.remove(middle)));
    copy.bad(&forge(&log, &removed), None, &named("removed"), "removed");
    let inserted = change(&|entries| entries.insert(middle, entries[3].clone()));
    copy.bad(&forge(&log, &inserted), None, &named("displaced by something inserted"), "inserted");
    let swapped = change(&|entries| entries.swap(middle, middle + 9));
    copy.bad(&forge(&log, &swapped), None, &named("reordered"), "reordered");
    let truncated = change(&|entries| entries.truncate(total - 7));
    copy.bad(&forge(&log, &truncated), None, "cut off", "truncated");
    for path in log.keys() {
        let mut without = log.clone();
        without.remove(path);
        let unfinished = Tile::parse(path)
            .is_some_and(|tile| Tile::in_tree(tile.kind, tile.index, size(&log[CHECKPOINT])) != Some(tile));
        // A partial tile of another width is nobody's.
        if !unfinished {
            copy.bad(&without, None, "BAD", "");
        }
    }
    let other = resigned(&prepared, &altered);
    let mut spliced = other.clone();
    spliced.insert(CHECKPOINT.to_owned(), log[CHECKPOINT].clone());
    copy.bad(&spliced, None, "another history", "forked");

    // By somebody with it: only what was kept elsewhere tells.
    let early = size(&kept) as usize / 2;
    let rechained = resigned(&prepared, &change(&|entries| *entries[early].last_mut().expect("a byte") ^= 1));
    copy.good(&rechained, None);
    copy.bad(&rechained, Some(&kept), "another history", "forked");
    copy.bad(&rechained, Some(&log[CHECKPOINT]), "another history", "forked");
    let yesterday = resigned(&prepared, &genuine[..size(&kept) as usize]);
    copy.good(&yesterday, None);
    copy.good(&yesterday, Some(&kept));
    copy.bad(&yesterday, Some(&log[CHECKPOINT]), "cut off", "truncated");
}

#[test]
fn the_page_is_enough_to_open_a_real_log() {
    let (prepared, log, _) = real_log();
    let copy = Copy::new(&prepared.path("audit/verifier-keys"));
    copy.lay(&log);
    let at = |path: PathBuf| path.display().to_string();
    let private = reviewer().protect("correct horse battery", NonZeroU32::MIN, [7; 16]).expect("a private file");
    std::fs::write(copy.folder.path().join("private"), private).expect("written");
    let (lane, keys, file) =
        (at(copy.folder.path().join("lane-1")), at(copy.keys.clone()), at(copy.folder.path().join("private")));
    let data_keys = at(prepared.path("state/audit-keys"));
    let pepper = at(prepared.path("state/audit-keys/pseudonym.key"));
    let mut open = vec!["open", &*lane, "--key", &*keys, "--keys", &*data_keys, "--reviewer", &*file];
    open.extend(["--passphrase", "correct horse battery"]);
    let (code, mut answers) = python(&open);
    let end = answers.pop().expect("an answer");
    assert_eq!(
        (code, &end["closed"], end["opened"].as_u64()),
        (0, &Value::from(0), Some(answers.len() as u64)),
        "{end}"
    );
    let of_site = answers.iter().filter(|record| record["connection"]["site"] == "sakura-clinic").count();
    assert!(of_site > 60, "{of_site}");
    // The records of one site, told apart by its pseudonym alone.
    let mut of_one = open.clone();
    of_one.extend(["--site", "sakura-clinic", "--pepper", &*pepper]);
    let (_, mut answers) = python(&of_one);
    let end = answers.pop().expect("an answer");
    assert!(end["opened"].as_u64().expect("a number") >= of_site as u64, "{end}");
    let elsewhere = |record: &Value| record["connection"]["site"].as_str().is_some_and(|site| site != "sakura-clinic");
    assert!(!answers.iter().any(elsewhere));
    // Another passphrase, and key files that are gone.
    let wrong = open.iter().map(|word| if word.starts_with("correct") { "another passphrase" } else { word });
    let (code, answers) = python(&wrong.collect::<Vec<_>>());
    assert_eq!((code, &answers[0]["result"]), (1, &Value::from("bad")));
    std::fs::remove_dir_all(prepared.path("state/audit-keys")).expect("removed");
    let (code, answers) = python(&open);
    assert_eq!((code, &answers[0]["opened"]), (0, &Value::from(0)));
    // Who the reviewers are.
    let statements = at(prepared.path("state/audit-reviewers"));
    let (code, answers) = python(&["statements", &statements, "--domain", "sekisho.example"]);
    assert_eq!((code, &answers[0]["reviewers"][0]), (0, &Value::from("auditor")), "{answers:?}");
    let (code, _) = python(&["statements", &statements, "--domain", "other.example"]);
    assert_eq!(code, 1);
}

#[test]
fn a9_every_byte_of_a_log_counts_for_both_verifiers() {
    let (prepared, log, _) = real_log();
    let copy = Copy::new(&prepared.path("audit/verifier-keys"));
    copy.lay(&log);
    let lane = copy.folder.path().join("lane-1").display().to_string();
    let keys = copy.keys.display().to_string();
    let (code, answers) = python(&["flips", &lane, "--key", &keys, "--every", "37"]);
    assert_eq!(code, 0, "{answers:?}");
    assert!(answers[0]["flips"].as_u64().expect("a number") > 1_000, "{answers:?}");
}

#[test]
fn a9_two_gateways_that_go_on_with_one_log_are_found() {
    let mut prepared = small_log().prepare();
    let clinic = prepared.start();
    assert_eq!(ask(&clinic, false).status, 200);
    prepared = clinic.stop();
    // The same disk twice, and both go on.
    let original = prepared.path("audit");
    let aside = prepared.path("audit-aside");
    copy_folder(&original, &aside);
    prepared = go_on(prepared, 3);
    let first = lane_of(&prepared);
    std::fs::remove_dir_all(&original).expect("removed");
    std::fs::rename(&aside, &original).expect("moved");
    prepared = go_on(prepared, 9);
    let second = lane_of(&prepared);
    let copy = Copy::new(&prepared.path("audit/verifier-keys"));
    copy.good(&first, None);
    copy.good(&second, None);
    assert!(size(&second[CHECKPOINT]) > size(&first[CHECKPOINT]));
    copy.bad(&second, Some(&first[CHECKPOINT]), "another history", "forked");
    copy.bad(&first, Some(&second[CHECKPOINT]), "cut off", "truncated");
}

fn go_on(prepared: Prepared, requests: u32) -> Prepared {
    let clinic = prepared.start();
    for _ in 0..requests {
        assert_eq!(ask(&clinic, false).status, 200);
    }
    clinic.stop()
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_folder(&path, &copy);
        } else {
            std::fs::copy(&path, &copy).expect("copied");
        }
    }
}

#[test]
fn a9_a_running_gateways_log_is_verified_and_its_tail_told() {
    let clinic: Clinic = small_log().start();
    for turn in 0..40 {
        assert_eq!(ask(&clinic, turn % 2 == 0).status, 200);
    }
    let directory = clinic.prepared.path("audit").display().to_string();
    let keys = clinic.prepared.path("audit/verifier-keys").display().to_string();
    // The stated window: a second later all of it is covered.
    until("the first checkpoint", || clinic.prepared.path("audit/lane-1/checkpoint").exists().then_some(()));
    let verified = || {
        let said = sekisho(&["audit", "verify", &directory, "--key", &keys]);
        assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
        said.stdout
    };
    verified();
    until("everything is covered", || {
        verified().contains("; 0 records in the write-ahead log are not covered yet").then_some(())
    });
    drop(clinic.stop());
}
