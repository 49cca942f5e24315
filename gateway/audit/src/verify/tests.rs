use std::collections::BTreeMap;

use proptest::prelude::*;

mod part;

use super::*;
use crate::note::{KeyKind, Signer};
use crate::tiles::tests::{Log, build, records};
use crate::tiles::{Builder, Kind, entry};

fn signer() -> Signer {
    Signer::new("log.example/gw1", KeyKind::Log, &[1; 32]).unwrap()
}

fn note(size: usize, root: Hash) -> Vec<u8> {
    let size = u64::try_from(size).unwrap();
    let checkpoint = Checkpoint { origin: "log.example/gw1".into(), size, root, extensions: Vec::new() };
    checkpoint.sign(&signer()).unwrap().into_bytes()
}

/// A signed log.
fn log(entries: &[Vec<u8>]) -> Log {
    let (mut log, builder) = build(entries);
    log.insert(CHECKPOINT.to_owned(), note(entries.len(), builder.root()));
    log
}

fn judge(log: &Log) -> Result<Verified, VerifyError> {
    judge_against(log, Against::default())
}

fn judge_against(log: &Log, against: Against<'_>) -> Result<Verified, VerifyError> {
    verify(&mut log.clone(), signer().verifier(), against, |_, _| {})
}

fn bad(log: &Log) -> Bad {
    match judge(log) {
        Err(VerifyError::Bad(bad)) => *bad,
        other => panic!("{other:?}"),
    }
}

/// Who changes a log.
#[derive(Debug, Clone, Copy)]
enum Forger {
    /// Changes the entries and leaves the tiles of hashes.
    Entries,
    /// Computes the tiles anew as well.
    Tiles,
}

/// The log with other entries in it, under the checkpoint and the file names of the true one.
fn forge(forger: Forger, genuine: &Log, entries: &[Vec<u8>], size: usize) -> Log {
    let (forged, _) = build(entries);
    let mut log = genuine.clone();
    log.retain(|path, _| path == CHECKPOINT || (matches!(forger, Forger::Entries) && !path.contains("entries")));
    for (path, bytes) in forged {
        let tile = Tile::parse(&path).unwrap();
        let named = Tile::in_tree(tile.kind, tile.index, u64::try_from(size).unwrap());
        if matches!(forger, Forger::Tiles) || tile.kind == Kind::Entries {
            log.insert(named.unwrap_or(tile).path(), bytes);
        }
    }
    log
}

#[test]
fn good_logs_verify_and_every_entry_is_visited_once() {
    for size in [0, 1, 2, 255, 256, 257, 300, 700] {
        let entries = records(size);
        let mut log = log(&entries);
        let mut seen = Vec::new();
        let verified = verify(&mut log, signer().verifier(), Against::default(), |index, entry| {
            seen.push((index, entry.sequence));
        });
        let verified = verified.unwrap();
        assert_eq!((verified.records, verified.unfinished, verified.continues), (size, false, None));
        assert_eq!(seen, (0..size).map(|index| (index, index + 1)).collect::<Vec<_>>());
    }
}

#[test]
fn an_empty_log_has_one_root_and_is_the_beginning_of_every_log() {
    let empty = log(&[]);
    let checkpoint = empty[CHECKPOINT].clone();
    assert!(std::str::from_utf8(&checkpoint).unwrap().contains("\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"));
    let against = Against { older: Some(&checkpoint), ..Against::default() };
    for size in [0, 1, 300] {
        assert_eq!(judge_against(&log(&records(size)), against).unwrap().continues, Some(0));
    }
    // Taken back to it, a log is cut off.
    let later = log(&records(3))[CHECKPOINT].clone();
    let cut = judge_against(&empty, Against { older: Some(&later), ..Against::default() });
    let Err(VerifyError::Bad(cut)) = cut else { panic!("{cut:?}") };
    assert_eq!((cut.fault, cut.entries), (Fault::Truncated, 0..3));
    // Another root over nothing is no log's.
    let mut wrong = empty;
    wrong.insert(CHECKPOINT.to_owned(), note(0, [7; 32]));
    assert_eq!(bad(&wrong).fault, Fault::Forked);
    let older = wrong[CHECKPOINT].clone();
    let forked = judge_against(&log(&records(3)), Against { older: Some(&older), ..Against::default() });
    assert!(matches!(forked, Err(VerifyError::Bad(bad)) if bad.fault == Fault::Forked));
}

#[test]
fn long_records_verify_in_parts() {
    let mut entries = records(2);
    for part in entry::split(3, &vec![5; 200_000]).unwrap() {
        let mut bytes = Vec::new();
        part.encode(&mut bytes);
        entries.push(bytes);
    }
    assert_eq!(entries.len(), 6);
    let verified = judge(&log(&entries)).unwrap();
    assert_eq!((verified.records, verified.unfinished), (3, false));
    let verified = judge(&log(&entries[..4])).unwrap();
    assert_eq!((verified.records, verified.unfinished), (2, true));
}

#[test]
fn every_flipped_byte_of_a_log_is_found_and_named() {
    let entries = records(300);
    let genuine = log(&entries);
    std::thread::scope(|scope| {
        for path in genuine.keys() {
            scope.spawn(|| flip_every_byte(&genuine, path, &entries));
        }
    });
}

fn flip_every_byte(genuine: &Log, path: &String, entries: &[Vec<u8>]) {
    let mut changed = genuine.clone();
    let bytes = &genuine[path];
    // Which entry stands at each byte of a bundle, and whether the byte is one of its length.
    let mut owners = Vec::new();
    if let Some(Tile { kind: Kind::Entries, index, .. }) = Tile::parse(path) {
        let first = usize::try_from(index * WIDTH).unwrap();
        for (at, entry) in entries.iter().enumerate().skip(first).take(256) {
            owners.extend((0..entry.len() + 2).map(|byte| (u64::try_from(at).unwrap(), byte < 2)));
        }
        assert_eq!(owners.len(), bytes.len());
    }
    for at in 0..bytes.len() {
        let flip = |log: &mut Log| log.get_mut(path).unwrap()[at] ^= 1 << (at % 8);
        flip(&mut changed);
        match (judge(&changed), owners.get(at)) {
            (Err(VerifyError::Checkpoint(_)), None) => assert_eq!(path, CHECKPOINT),
            (Err(VerifyError::Bad(bad)), None) => assert_eq!((bad.fault, &bad.path), (Fault::Tile, path)),
            (Err(VerifyError::Bad(bad)), Some((entry, length))) => {
                assert_eq!((bad.entries, bad.sequence, &bad.path), (*entry..entry + 1, Some(entry + 1), path));
                // A length that says too much at the log's end cannot be told from a cut.
                assert!(bad.fault == Fault::Altered || (*length && bad.fault == Fault::Truncated));
            }
            (other, _) => panic!("{path} byte {at}: {other:?}"),
        }
        flip(&mut changed);
    }
    assert_eq!(changed, *genuine);
}

#[test]
fn every_cut_of_every_file_is_found() {
    let genuine = log(&records(40));
    for (path, bytes) in &genuine {
        for length in 0..bytes.len() {
            let mut cut = genuine.clone();
            cut.get_mut(path).unwrap().truncate(length);
            assert!(judge(&cut).is_err(), "{path} cut to {length}");
        }
        let mut longer = genuine.clone();
        longer.get_mut(path).unwrap().push(b'x');
        assert!(judge(&longer).is_err(), "{path} made longer");
        let mut without = genuine.clone();
        without.remove(path);
        assert!(judge(&without).is_err(), "{path} removed");
    }
    assert_eq!(judge(&Log::new()), Err(VerifyError::Missing));
}

#[test]
fn missing_bundles_are_removed_or_cut_off() {
    let genuine = log(&records(600));
    for (path, entries, fault) in [
        ("tile/entries/000", 0..600, Fault::Removed),
        ("tile/entries/001", 256..600, Fault::Removed),
        ("tile/entries/002.p/88", 512..600, Fault::Truncated),
    ] {
        let mut log = genuine.clone();
        log.remove(path);
        let sequence = Some(entries.start + 1);
        assert_eq!(bad(&log), Bad { path: path.to_owned(), entries: entries.clone(), sequence, fault });
        // The same with a tile of hashes gone, so that the entries alone must tell.
        log.remove("tile/1/000.p/2");
        assert_eq!(bad(&log), Bad { path: path.to_owned(), entries, sequence, fault });
    }
}

#[test]
fn a_full_bundle_may_stand_for_a_partial_one_and_swapped_tiles_are_found() {
    let entries = records(600);
    let whole = log(&entries);
    let mut grown = whole.clone();
    grown.insert(CHECKPOINT.to_owned(), log(&entries[..300])[CHECKPOINT].clone());
    grown.insert("tile/1/000.p/1".to_owned(), whole["tile/1/000.p/2"][..32].to_vec());
    assert_eq!(judge(&grown).unwrap().records, 300);
    let mut swapped = whole.clone();
    swapped.insert("tile/entries/000".into(), whole["tile/entries/001"].clone());
    swapped.insert("tile/entries/001".into(), whole["tile/entries/000"].clone());
    assert_eq!((bad(&swapped).entries, bad(&swapped).fault), (0..1, Fault::Reordered));
    let mut swapped = whole.clone();
    swapped.insert("tile/0/000".into(), whole["tile/0/001"].clone());
    assert_eq!((bad(&swapped).path, bad(&swapped).fault), ("tile/0/000".into(), Fault::Tile));
}

#[test]
fn a_bundle_forged_together_with_its_tile_is_found() {
    let entries = records(600);
    let genuine = log(&entries);
    let mut altered = entries.clone();
    altered[300][14] ^= 0x20;
    let forged = log(&altered);
    let mut log = genuine.clone();
    for path in ["tile/entries/001", "tile/0/001"] {
        log.insert(path.to_owned(), forged[path].clone());
    }
    assert_eq!((bad(&log).entries, bad(&log).fault), (0..600, Fault::Forked));
}

#[test]
fn older_checkpoints_tell_forks_and_cuts() {
    let entries = records(600);
    let whole = log(&entries);
    for size in [0, 1, 255, 256, 257, 599, 600] {
        let older = &log(&entries[..size])[CHECKPOINT];
        let judged = judge_against(&whole, Against { older: Some(older), ..Against::default() });
        assert_eq!(judged.unwrap().continues, Some(u64::try_from(size).unwrap()));
    }
    let mut other = entries.clone();
    other[100][20] ^= 1;
    let fault = |log: &Log, older: &[u8]| match judge_against(log, Against { older: Some(older), ..Against::default() })
    {
        Err(VerifyError::Bad(bad)) => (bad.entries, bad.fault),
        other => panic!("{other:?}"),
    };
    for size in [101, 256, 300, 600] {
        let older = &log(&other[..size])[CHECKPOINT];
        assert_eq!(fault(&whole, older), (0..u64::try_from(size).unwrap(), Fault::Forked));
    }
    assert_eq!(fault(&whole, &note(0, [7; 32])), (0..600, Fault::Forked));
    // Yesterday's copy of the whole directory.
    assert_eq!(fault(&log(&entries[..500]), &whole[CHECKPOINT]), (500..600, Fault::Truncated));
    // A history replaced behind the older checkpoint, tiles and all, by one without the key.
    let mut forged = log(&other);
    forged.insert(CHECKPOINT.to_owned(), whole[CHECKPOINT].clone());
    assert_eq!(fault(&forged, &log(&entries[..50])[CHECKPOINT]), (50..600, Fault::Forked));
    assert_eq!((bad(&forged).entries, bad(&forged).fault), (0..600, Fault::Forked));
    let older = judge_against(&whole, Against { older: Some(b"x"), ..Against::default() });
    assert!(matches!(older, Err(VerifyError::Older(CheckpointError::Note(_)))), "{older:?}");
}

#[test]
fn another_log_is_named_as_such() {
    let genuine = log(&records(3));
    let other = Signer::new("log.example/gw2", KeyKind::Log, &[2; 32]).unwrap();
    let judged = verify(&mut genuine.clone(), other.verifier(), Against::default(), |_, _| {});
    let origin = CheckpointError::Origin { expected: "log.example/gw2".into(), found: "log.example/gw1".into() };
    assert_eq!(judged, Err(VerifyError::Checkpoint(origin)));
    // The same name and another key.
    let imposter = Signer::new("log.example/gw1", KeyKind::Log, &[2; 32]).unwrap();
    let judged = verify(&mut genuine.clone(), imposter.verifier(), Against::default(), |_, _| {});
    let unknown = CheckpointError::Note(crate::note::NoteError::Unknown);
    assert_eq!(judged, Err(VerifyError::Checkpoint(unknown)));
}

#[test]
fn what_the_key_itself_signed_wrongly_is_told() {
    let mut entries = records(5);
    entries.remove(2);
    let error = OutOfOrder { sequence: 4, part: 0, expected_sequence: 3, expected_part: 0 };
    assert_eq!((bad(&log(&entries)).entries, bad(&log(&entries)).fault), (2..3, Fault::Numbering(error)));
    entries[2] = b"nothing".to_vec();
    let bad = bad(&log(&entries));
    assert_eq!((bad.entries, bad.fault), (2..3, Fault::Entry(EntryError::Short)));
}

struct Failing;

impl Files for Failing {
    type Error = &'static str;

    fn read(&mut self, path: &str, _: usize) -> Result<Option<Vec<u8>>, Self::Error> {
        let whole = log(&records(300));
        if path.contains("entries") { Err("input/output error") } else { Ok(whole.get(path).cloned()) }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_not_called_tampering() {
    let judged = verify(&mut Failing, signer().verifier(), Against::default(), |_, _| {});
    let cause = "input/output error".to_owned();
    let path = "tile/entries/000".to_owned();
    assert_eq!(judged, Err(VerifyError::Read(ReadError::Unreadable { path, cause })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn removed_inserted_swapped_and_altered_entries_are_named(
        size in 2_usize..640,
        places in any::<[usize; 2]>(),
        forger in prop_oneof![Just(Forger::Entries), Just(Forger::Tiles)],
        what in 0..4,
    ) {
        let entries = records(u64::try_from(size).unwrap());
        let genuine = log(&entries);
        let (mut a, mut b) = (places[0] % size, places[1] % size);
        if a > b {
            (a, b) = (b, a);
        }
        let mut changed = entries.clone();
        let mut first = a;
        let fault = match what {
            0 => {
                changed.remove(a);
                // The last entry has nothing behind it that could stand in its place.
                if a + 1 == size { Fault::Truncated } else { Fault::Removed }
            }
            1 => {
                let mut entry = Vec::new();
                entry::split(7_000, b"never happened").unwrap().for_each(|part| part.encode(&mut entry));
                changed.insert(a, entry);
                Fault::Inserted
            }
            2 if a != b => {
                changed.swap(a, b);
                Fault::Reordered
            }
            _ => {
                changed[a][14] ^= 0x20;
                Fault::Altered
            }
        };
        let bad = bad(&forge(forger, &genuine, &changed, size));
        let expected = match (forger, fault) {
            // Hashes computed anew: only sequence numbers are left, and they skip where the insertion stands.
            (Forger::Tiles, Fault::Inserted) => Fault::Removed,
            (Forger::Tiles, Fault::Altered) => {
                first = 0;
                Fault::Forked
            }
            _ => fault,
        };
        let first = u64::try_from(first).unwrap();
        let at_most = if expected == Fault::Forked { u64::try_from(size).unwrap() } else { first + 1 };
        // A last bundle that is gone with its only entry counts from its first.
        let truncated = expected == Fault::Truncated && bad.entries.end > at_most;
        prop_assert!(!truncated || bad.entries.start <= first);
        prop_assert_eq!((bad.fault, truncated || bad.entries == (first..at_most)), (expected, true));
    }

    #[test]
    fn truncated_logs_are_found(
        size in 1_usize..640,
        keep in any::<usize>(),
        forger in prop_oneof![Just(Forger::Entries), Just(Forger::Tiles)],
    ) {
        let entries = records(u64::try_from(size).unwrap());
        let keep = keep % size;
        let forged = forge(forger, &log(&entries), &entries[..keep], size);
        let bad = bad(&forged);
        prop_assert_eq!(bad.fault, Fault::Truncated);
        prop_assert!(bad.entries.contains(&u64::try_from(keep).unwrap()), "{:?}", bad.entries);
    }

    #[test]
    fn whatever_lies_there_is_judged(
        files in proptest::collection::vec(
            (0_u8..3, 0_u64..3, 1_u16..257, proptest::collection::vec(any::<u8>(), 0..600)),
            0..12,
        ),
        size in prop_oneof![1_u64..700, any::<u64>().prop_map(|size| size.max(1))],
        root in any::<Hash>(),
        checkpoint in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
    ) {
        let signed = Checkpoint { origin: "log.example/gw1".into(), size, root, extensions: Vec::new() };
        let signed = signed.sign(&signer()).unwrap().into_bytes();
        let mut log = BTreeMap::from([(CHECKPOINT.to_owned(), checkpoint.unwrap_or(signed))]);
        for (kind, index, width, bytes) in files {
            let kind = if kind == 2 { Kind::Entries } else { Kind::Hashes(kind) };
            log.insert(Tile { kind, index, width }.path(), bytes.clone());
            if let Some(tile) = Tile::in_tree(kind, index, size) {
                log.insert(tile.path(), bytes);
            }
        }
        prop_assert!(judge(&log).is_err());
        prop_assert!(Builder::resume(&mut log, size, &root).is_err());
    }
}
