use std::collections::BTreeMap;
use std::fs;

use gateway_audit::checkpoint::Checkpoint;
use gateway_audit::frame::{Chain, RecordLength, SegmentHeader, genesis};
use gateway_audit::header::{ClearHeader, KeyId, Kind, Pseudonym};
use gateway_audit::note::{KeyKind, Signer};
use gateway_audit::tiles::{Builder, CHECKPOINT, entry};
use proptest::prelude::*;

use super::*;
use crate::report::write;

const ORIGIN: &str = "sekisho.example/gw1/lane-1";

fn signer(origin: &str) -> Signer {
    Signer::new(origin, KeyKind::Log, &[1; 32]).unwrap()
}

fn key() -> VerifierKey {
    signer(ORIGIN).verifier().clone()
}

/// A log's files by path, as the writer lays them.
type Log = BTreeMap<String, Vec<u8>>;

/// An envelope; what is sealed in it does not matter here.
fn record(sequence: u64) -> Vec<u8> {
    let header = ClearHeader {
        kind: Kind::Request,
        unix_ns: i64::try_from(sequence).unwrap() * 1_000_000_000,
        site: Pseudonym([3; 8]),
        key: KeyId([4; 16]),
        reference: "r",
    };
    let mut envelope = Vec::new();
    header.encode(&mut envelope).unwrap();
    envelope.extend((0..20 + sequence % 200).map(|byte| u8::try_from((sequence * 31 + byte) % 251).unwrap()));
    envelope
}

fn records(count: u64) -> Vec<Vec<u8>> {
    (1..=count).map(record).collect()
}

/// The log of these records, numbered from 1, signed by `signer`.
fn log(signer: &Signer, records: &[Vec<u8>]) -> Log {
    let mut log = Log::new();
    let mut builder = Builder::new();
    let mut store = |tile: gateway_audit::tiles::Tile, bytes: &[u8]| {
        log.insert(tile.path(), bytes.to_vec());
    };
    for (record, sequence) in records.iter().zip(1..) {
        for part in entry::split(sequence, record).unwrap() {
            let mut bytes = Vec::new();
            part.encode(&mut bytes);
            builder.push(&bytes, &mut store).unwrap();
        }
    }
    builder.partial(&mut store);
    let (origin, size, root) = (signer.verifier().name().to_owned(), builder.size(), builder.root());
    let note = Checkpoint { origin, size, root, extensions: Vec::new() }.sign(signer).unwrap();
    log.insert(CHECKPOINT.to_owned(), note.into_bytes());
    log
}

/// The bytes of a segment with these records of a log, from `first` on.
fn segment(records: &[Vec<u8>], first: usize) -> Vec<u8> {
    let log = [9; 16];
    let mut chain = Chain { link: genesis(&log, "gw1"), next: 1 };
    let mut bytes = Vec::new();
    for (at, record) in records.iter().enumerate() {
        if at + 1 == first || at == 0 {
            let header = SegmentHeader { log, node: "gw1".into(), first_sequence: chain.next, previous: chain.link };
            bytes = header.encode().to_vec();
        }
        append(&mut chain, record, &mut bytes);
    }
    bytes
}

fn append(chain: &mut Chain, record: &[u8], out: &mut Vec<u8>) {
    let written = chain.append(0, out, &mut Vec::new(), |_, out| -> Result<(), RecordLength> {
        out.extend_from_slice(record);
        Ok(())
    });
    written.unwrap();
}

struct Lanes {
    folder: tempfile::TempDir,
}

impl Lanes {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn one(log: &Log) -> Self {
        let lanes = Self::new();
        lanes.put("lane-1", log);
        lanes
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn put(&self, lane: &str, log: &Log) {
        for (path, bytes) in log {
            self.write(&format!("{lane}/{path}"), bytes);
        }
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn replace(&self, lane: &str, log: &Log) {
        let _ = fs::remove_dir_all(self.path(lane));
        self.put(lane, log);
    }

    /// What is said, and the verdict.
    fn judge(&self, keys: &[VerifierKey], older: &[Vec<u8>]) -> (String, Verdict) {
        self.judge_with(keys, older, None)
    }

    fn judge_with(&self, keys: &[VerifierKey], older: &[Vec<u8>], witnesses: Option<&Witnesses>) -> (String, Verdict) {
        let kept = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (at, note) in older.iter().enumerate() {
            paths.push(kept.path().join(at.to_string()));
            fs::write(paths.last().unwrap(), note).unwrap();
        }
        let older = super::older(&paths, keys).unwrap();
        let report = verify(self.folder.path(), keys, &older, witnesses).unwrap();
        let mut out = Vec::new();
        write(&report, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), report.verdict())
    }

    fn good(&self, older: &[Vec<u8>]) -> String {
        let (said, verdict) = self.judge(&[key()], older);
        assert_eq!(verdict, Verdict::Good, "{said}");
        said
    }

    fn bad(&self, older: &[Vec<u8>]) -> String {
        let (said, verdict) = self.judge(&[key()], older);
        assert_eq!(verdict, Verdict::Bad, "{said}");
        said
    }
}

#[test]
fn a_good_log_is_good_and_says_what_it_holds() {
    let whole = log(&signer(ORIGIN), &records(300));
    let lanes = Lanes::one(&whole);
    let older = log(&signer(ORIGIN), &records(77))[CHECKPOINT].clone();
    let said = lanes.good(std::slice::from_ref(&older));
    for part in
        [ORIGIN, "good: 300 records in 300 entries", "1970-01-01T00:00:01.", "1970-01-01T00:05:00.", "of 77 entries"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(said.contains("no write-ahead log"));
    // A lane's own folder does as well.
    let report = verify(&lanes.path("lane-1"), &[key()], &[], None).unwrap();
    assert_eq!((report.lanes.len(), report.verdict()), (1, Verdict::Good));
    // An empty log is one.
    lanes.replace("lane-1", &log(&signer(ORIGIN), &[]));
    assert!(lanes.good(&[]).contains("0 records in 0 entries"));
}

#[test]
fn every_byte_of_a_small_log_flipped_is_found() {
    let genuine = log(&signer(ORIGIN), &records(50));
    let lanes = Lanes::one(&genuine);
    lanes.good(&[]);
    let mut flips = 0;
    for (path, bytes) in &genuine {
        let path = format!("lane-1/{path}");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            lanes.write(&path, &changed);
            let report = verify(lanes.folder.path(), &[key()], &[], None).unwrap();
            assert_eq!(report.verdict(), Verdict::Bad, "byte {at} of `{path}`");
            flips += 1;
        }
        lanes.write(&path, bytes);
    }
    assert!(flips > 5_000, "{flips}");
    lanes.good(&[]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn bytes_of_a_larger_log_flipped_are_found(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_u8..8), 8),
    ) {
        let genuine = log(&signer(ORIGIN), &records(2_000));
        let lanes = Lanes::one(&genuine);
        for (file, at, bit) in flips {
            let (path, bytes) = genuine.iter().nth(file.index(genuine.len())).unwrap();
            let at = at.index(bytes.len());
            let mut changed = bytes.clone();
            changed[at] ^= 1_u8 << bit;
            let path = format!("lane-1/{path}");
            lanes.write(&path, &changed);
            let (said, verdict) = lanes.judge(&[key()], &[]);
            prop_assert_eq!(verdict, Verdict::Bad, "byte {} of {}: {}", at, path, said);
            lanes.write(&path, bytes);
        }
    }
}

/// The bundle of a small log with these entries, under the genuine log's tiles.
fn with_entries(genuine: &Log, changed: &[Vec<u8>]) -> Log {
    let mut log = genuine.clone();
    let (path, bundle) = log.iter_mut().find(|(path, _)| path.contains("entries")).unwrap();
    assert!(path.ends_with(".p/50"));
    bundle.clear();
    for entry in changed {
        entry::Bundle::append(bundle, entry).unwrap();
    }
    log
}

type Change<'a> = &'a dyn Fn(&mut Vec<Vec<u8>>);

#[test]
fn what_was_done_to_an_entry_is_named() {
    let genuine = log(&signer(ORIGIN), &records(50));
    let bundle = genuine.iter().find(|(path, _)| path.contains("entries")).unwrap().1;
    let entries: Vec<Vec<u8>> = entry::Bundle::new(bundle).map(<[u8]>::to_vec).collect();
    let lanes = Lanes::one(&genuine);
    let judged = |change: Change<'_>| {
        let mut changed = entries.clone();
        change(&mut changed);
        lanes.replace("lane-1", &with_entries(&genuine, &changed));
        lanes.bad(&[])
    };
    let cases: [(Change<'_>, &str); 5] = [
        (&|entries| drop(entries.remove(20)), "entry 20 (record 21) is removed"),
        (&|entries| entries.insert(20, entries[3].clone()), "entry 20 (record 21) is displaced by something inserted"),
        (&|entries| entries.swap(20, 30), "entry 20 (record 21) is reordered"),
        (&|entries| entries.truncate(20), "entry 20 (record 21) is cut off"),
        (&|entries| entries[20][60] ^= 1, "entry 20 (record 21) is altered"),
    ];
    for (change, why) in cases {
        let said = judged(change);
        assert!(said.contains(why), "{why}: {said}");
    }
}

#[test]
fn another_history_and_yesterdays_copy_are_found_by_a_kept_checkpoint() {
    let signer = signer(ORIGIN);
    let (old, new) = (log(&signer, &records(120)), log(&signer, &records(300)));
    let lanes = Lanes::one(&new);
    lanes.good(&[old[CHECKPOINT].clone()]);
    // The whole folder put back to yesterday: nothing inside it can tell.
    lanes.replace("lane-1", &old);
    lanes.good(&[]);
    let said = lanes.bad(&[new[CHECKPOINT].clone()]);
    assert!(said.contains("entry from 120 to 299 is cut off"), "{said}");
    // A second history by whoever holds the key.
    let mut other = records(300);
    other[60] = record(9_999);
    lanes.replace("lane-1", &log(&signer, &other));
    lanes.good(&[]);
    for kept in [&old, &new] {
        let said = lanes.bad(&[kept[CHECKPOINT].clone()]);
        assert!(said.contains("another history"), "{said}");
    }
    // Another log's entries under this log's checkpoint.
    let mut spliced = log(&signer, &other);
    spliced.insert(CHECKPOINT.to_owned(), new[CHECKPOINT].clone());
    lanes.replace("lane-1", &spliced);
    assert!(lanes.bad(&[]).contains("another history"));
}

#[test]
fn other_logs_and_what_is_missing_are_named() {
    let genuine = log(&signer(ORIGIN), &records(50));
    let other = signer("sekisho.example/gw2/lane-1");
    let lanes = Lanes::one(&log(&other, &records(5)));
    let (said, verdict) = lanes.judge(&[key()], &[]);
    assert_eq!(verdict, Verdict::Bad);
    assert!(said.contains("is of the log `sekisho.example/gw2/lane-1`, and no key is for that"), "{said}");
    // The right name, signed by another key.
    let imposter = Signer::new(ORIGIN, KeyKind::Log, &[2; 32]).unwrap();
    lanes.replace("lane-1", &log(&imposter, &records(50)));
    assert!(lanes.bad(&[]).contains("no known key has signed"));
    for path in genuine.keys() {
        lanes.replace("lane-1", &genuine);
        fs::remove_file(lanes.path("lane-1").join(path)).unwrap();
        lanes.bad(&[]);
    }
    // Nothing is left but a folder: that it was a log is known elsewhere.
    fs::remove_dir_all(lanes.path("lane-1")).unwrap();
    assert!(matches!(verify(lanes.folder.path(), &[key()], &[], None), Err(DirectoryError::NoLog(_))));
    assert!(lanes.bad(&[genuine[CHECKPOINT].clone()]).contains("the whole log is removed"));
    let (_, verdict) = (fs::create_dir_all(lanes.path("lane-1/checkpoint")), lanes.judge(&[key()], &[]).1);
    assert_eq!(verdict, Verdict::Unreadable);
}

#[test]
fn a_lane_that_was_only_begun_is_good() {
    let lanes = Lanes::one(&log(&signer(ORIGIN), &[]));
    let (said, verdict) = lanes.judge(&[key()], &[]);
    assert_eq!(verdict, Verdict::Good, "{said}");
    assert!(said.contains("good: 0 records in 0 entries"), "{said}");
    // Its first records are only in the write-ahead log for a moment.
    let all = records(5);
    lanes.write("lane-1/wal/segment-00000000000000000001.log", &segment(&all, 1));
    assert!(lanes.good(&[]).contains("5 records in the write-ahead log are not covered yet"));
    let later = log(&signer(ORIGIN), &all)[CHECKPOINT].clone();
    assert!(lanes.bad(&[later]).contains("cut off"));
}

#[test]
fn lanes_and_nodes_are_verified_together() {
    let lanes = Lanes::new();
    let mut keys = Vec::new();
    for node in ["gw1", "gw2"] {
        for lane in ["lane-1", "lane-2"] {
            let signer = signer(&format!("sekisho.example/{node}/{lane}"));
            keys.push(signer.verifier().clone());
            lanes.put(&format!("{node}/{lane}"), &log(&signer, &records(10)));
        }
    }
    let (said, verdict) = lanes.judge(&keys, &[]);
    assert_eq!((verdict, said.lines().count()), (Verdict::Good, 5), "{said}");
    assert!(said.ends_with("all 4 logs are good\n"), "{said}");
    // One bad lane makes it bad, and the others are still listed as good.
    fs::remove_file(lanes.path("gw2/lane-1/checkpoint")).unwrap();
    let (said, verdict) = lanes.judge(&keys, &[]);
    assert_eq!(verdict, Verdict::Bad);
    assert!(
        said.contains("gw2/lane-1: BAD: `checkpoint` is missing") && said.contains("3 of 4 logs are good"),
        "{said}"
    );
    // A lane that is gone is told; only a checkpoint kept elsewhere tells that it was there.
    fs::remove_dir_all(lanes.path("gw2/lane-1")).unwrap();
    let (said, verdict) = lanes.judge(&keys, &[]);
    assert_eq!(verdict, Verdict::Good);
    assert!(said.contains("sekisho.example/gw2/lane-1: not here"), "{said}");
    let kept = log(&signer("sekisho.example/gw2/lane-1"), &records(3))[CHECKPOINT].clone();
    assert_eq!(lanes.judge(&keys, &[kept]).1, Verdict::Bad);
}

#[test]
fn the_write_ahead_log_is_checked_beside_the_tree() {
    let all = records(60);
    let lanes = Lanes::one(&log(&signer(ORIGIN), &all[..50]));
    let name = |first: usize| format!("lane-1/wal/segment-{first:020}.log");
    let with = |first: usize, bytes: &[u8]| {
        let _ = fs::remove_dir_all(lanes.path("lane-1/wal"));
        lanes.write(&name(first), bytes);
    };
    for first in [1, 40, 51] {
        with(first, &segment(&all, first));
        assert!(lanes.good(&[]).contains("10 records in the write-ahead log are not covered yet"));
    }
    with(52, &segment(&all, 52));
    let said = lanes.bad(&[]);
    assert!(said.contains("records 51 to 51 are removed"), "{said}");
    // Another record than the tree has, in a chain that fits itself.
    let mut other = all.clone();
    other[44] = record(7_000);
    with(40, &segment(&other, 40));
    let said = lanes.bad(&[]);
    assert!(said.contains("record 45 is another than the one that was signed"), "{said}");
    // A crash's trace at the end, zeros ahead of use, and a copy that is older than the checkpoint.
    let mut torn = segment(&all, 40);
    torn.truncate(torn.len() - 3);
    torn.extend([0; 64]);
    with(40, &torn);
    let said = lanes.good(&[]);
    assert!(said.contains("9 records") && said.contains("unfinished bytes"), "{said}");
    with(1, &segment(&all[..45], 1));
    assert!(lanes.good(&[]).contains("ends with record 45"));
    // Two segments, the second begun and empty.
    with(40, &segment(&all, 40));
    lanes.write(&name(61), &[0; 4_096]);
    assert!(lanes.good(&[]).contains("10 records"));
    // A change in the middle.
    let mut changed = segment(&all, 40);
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    with(40, &changed);
    lanes.write(&name(61), &segment(&records(70), 61));
    assert!(lanes.bad(&[]).contains("write-ahead log: `segment-"));
}

/// The checkpoint of a log, cosigned.
fn cosigned(log: &Log, by: &[(&Signer, u64)]) -> Vec<u8> {
    let note = String::from_utf8(log[CHECKPOINT].clone()).unwrap();
    let text = note.split_inclusive("\n\n").next().and_then(|text| text.strip_suffix('\n')).unwrap();
    by.iter().fold(note.clone(), |note, (signer, time)| note + &signer.sign(text, *time)).into_bytes()
}

#[test]
fn witnesses_must_have_signed_what_the_log_continues() {
    let all = records(300);
    let whole = log(&signer(ORIGIN), &all);
    let witness = |name, seed| Signer::new(name, KeyKind::Cosigner, &[seed; 32]).unwrap();
    let (first, second) = (witness("w1", 2), witness("w2", 3));
    let known = |require| Witnesses {
        keys: vec![first.verifier().clone(), second.verifier().clone()],
        require,
        now: 1_700_000_000,
    };
    let lanes = Lanes::one(&whole);
    let judge = |require, older: &[Vec<u8>]| lanes.judge_with(&[key()], older, Some(&known(require)));
    let bad = |require, older: &[Vec<u8>], why: &str| {
        let (said, verdict) = judge(require, older);
        assert_eq!(verdict, Verdict::Bad, "{said}");
        assert!(said.contains(why), "{said}");
    };
    bad(1, &[], "no checkpoint at hand was cosigned by 1 of the 2 known witnesses; the best has 0");
    let at = 1_600_000_000;
    let early = cosigned(&log(&signer(ORIGIN), &all[..77]), &[(&first, at), (&second, at + 60)]);
    let (said, verdict) = judge(2, std::slice::from_ref(&early));
    assert_eq!(verdict, Verdict::Good, "{said}");
    assert!(said.contains("cosigned: 77 entries at 2020-09-13T12:26:40.000000000Z by w1, w2"), "{said}");
    // Beside the checkpoint, and in it; the newest that enough have signed counts.
    lanes.write("lane-1/checkpoint.cosigned", &cosigned(&log(&signer(ORIGIN), &all[..200]), &[(&second, at)]));
    assert!(judge(1, &[]).0.contains("cosigned: 200 entries"));
    assert!(judge(2, std::slice::from_ref(&early)).0.contains("cosigned: 77 entries"));
    bad(2, &[], "the best has 1");
    lanes.write("lane-1/checkpoint", &cosigned(&whole, &[(&first, at), (&second, at)]));
    assert!(judge(2, std::slice::from_ref(&early)).0.contains("cosigned: 300 entries"));
    // Put back to yesterday, and gone on in another way.
    lanes.replace("lane-1", &log(&signer(ORIGIN), &all[..50]));
    bad(
        1,
        std::slice::from_ref(&early),
        "the log was rolled back: 77 entries were cosigned by `w1`, `w2`, and it has 50",
    );
    let mut other = all.clone();
    other[60] = record(9_000);
    lanes.replace("lane-1", &log(&signer(ORIGIN), &other));
    lanes.write("lane-1/checkpoint.cosigned", &early);
    bad(1, &[], "the log was forked");
    lanes.write("lane-1/checkpoint.cosigned", &cosigned(&log(&signer(ORIGIN), &all[..50]), &[(&first, at)]));
    assert_eq!(judge(1, &[]).1, Verdict::Good, "what was cosigned is before the fork");
    // From the future, by a key under a witness's name that is not known, and not of this checkpoint.
    lanes.replace("lane-1", &whole);
    lanes.write("lane-1/checkpoint.cosigned", &cosigned(&whole, &[(&first, 1_700_000_061)]));
    bad(1, &[], "`checkpoint.cosigned`: `w1` states the time 1700000061, which is in the future");
    lanes.write("lane-1/checkpoint.cosigned", &cosigned(&whole, &[(&witness("w1", 9), at)]));
    bad(1, &[], "the best has 0");
    let mut wrong = cosigned(&whole, &[]);
    let of_other = log(&signer(ORIGIN), &all[..50])[CHECKPOINT].clone();
    wrong.extend(
        cosigned(&Log::from([(CHECKPOINT.to_owned(), of_other.clone())]), &[(&first, at)])[of_other.len()..].iter(),
    );
    lanes.write("lane-1/checkpoint.cosigned", &wrong);
    bad(1, &[], "the signature of `w1` is not that of this note");
}

#[test]
fn keys_and_checkpoints_that_are_none_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let key_text = key().to_string();
    fs::write(&path, format!("# of gw1\n\n{key_text}\n")).unwrap();
    assert_eq!(verifier_keys(path.to_str().unwrap()).unwrap(), [key()]);
    assert_eq!(verifier_keys(&key_text).unwrap(), [key()]);
    let error = |text: &str| verifier_keys(text).unwrap_err().to_string();
    assert!(error("nothing").contains("no such file"));
    assert!(error("a+b+c").contains("is not a verifier key"));
    fs::write(&path, format!("{key_text}\nx\n")).unwrap();
    assert!(error(path.to_str().unwrap()).contains("line 2"));
    fs::write(&path, "# none\n").unwrap();
    assert!(error(path.to_str().unwrap()).contains("has no verifier keys"));
    let cosigner = Signer::new("witness", KeyKind::Cosigner, &[2; 32]).unwrap();
    assert!(error(&cosigner.verifier().to_string()).contains("cosigner"));
    let many = |texts: &[String], require| witnesses(texts, require, 0).map_err(|error| error.to_string());
    let of = cosigner.verifier().to_string();
    assert!(many(&[], None).unwrap().is_none());
    assert_eq!(many(std::slice::from_ref(&of), None).unwrap().unwrap().require, 1);
    assert!(many(std::slice::from_ref(&key_text), None).unwrap_err().contains("is a log's, not a witness's"));
    assert!(many(std::slice::from_ref(&of), Some(2)).unwrap_err().contains("`--require` is 2, and 1 witnesses"));
    assert!(many(&[of.clone(), of], Some(2)).unwrap_err().contains("1 witnesses"));
    assert!(many(&[], Some(1)).unwrap_err().contains("0 witnesses"));
    let checkpoint = folder.path().join("checkpoint");
    let note = log(&signer(ORIGIN), &records(3))[CHECKPOINT].clone();
    let error = |keys: &[VerifierKey], paths: &[PathBuf]| older(paths, keys).unwrap_err().to_string();
    assert!(error(&[key()], std::slice::from_ref(&checkpoint)).contains("no such file"));
    fs::write(&checkpoint, "x").unwrap();
    assert!(error(&[key()], std::slice::from_ref(&checkpoint)).contains("is no checkpoint"));
    fs::write(&checkpoint, note).unwrap();
    assert!(error(&[], std::slice::from_ref(&checkpoint)).contains("no key is for that"));
    assert!(error(&[key()], &[checkpoint.clone(), checkpoint]).contains("two older checkpoints"));
}

#[test]
fn a_part_is_verified_and_the_rest_is_not() {
    let mut genuine = log(&signer(ORIGIN), &records(700));
    genuine.get_mut("tile/entries/000").unwrap()[9] ^= 1;
    let lanes = Lanes::one(&genuine);
    let judge = |from, to| {
        let part = Part { from: Some(arguments::from_edge(from).unwrap()), to: Some(arguments::to_edge(to).unwrap()) };
        let report = verify_part(lanes.folder.path(), &[key()], &[], None, Some(part)).unwrap();
        let mut out = Vec::new();
        write(&report, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), report.verdict())
    };
    for (from, to) in [("300", "310"), ("1970-01-01T00:05:00Z", "1970-01-01T09:05:11+09:00")] {
        let (said, verdict) = judge(from, to);
        assert_eq!(verdict, Verdict::Good, "{said}");
        let times = "asked for: 1970-01-01T00:05:00.000000000Z to 1970-01-01T00:05:10.000000000Z";
        assert!(said.contains("records 257 to 512 in the entries 256 to 511") && said.contains(times), "{said}");
        assert!(said.contains("the rest of its 700 entries was not looked at"), "{said}");
    }
    let (said, verdict) = judge("1", "2");
    assert_eq!(verdict, Verdict::Bad);
    assert!(said.contains("entry 0 (record 1) is altered"), "{said}");
    let (said, verdict) = judge("800", "900");
    assert!(verdict == Verdict::Good && said.contains("no record is in that part"), "{said}");
    // A record that was removed together with the rest of the log.
    fs::remove_file(lanes.path("lane-1/tile/entries/001")).unwrap();
    let (said, verdict) = judge("300", "310");
    assert!(verdict == Verdict::Bad && said.contains("removed"), "{said}");
}
