use std::collections::BTreeMap;

use proptest::prelude::*;

use super::entry::{Bundle, Entry, EntryError, HEADER, Joiner, MAX_ENTRY, MAX_PART, RecordLength, split};
use super::*;
use crate::merkle::tests::naive_root;
use crate::merkle::{self, Hash, leaf_hash};

pub(crate) type Log = BTreeMap<String, Vec<u8>>;

/// A log's entries as they lie in its files, without a checkpoint.
pub(crate) fn build(entries: &[Vec<u8>]) -> (Log, Builder) {
    let (mut log, mut builder) = (Log::new(), Builder::new());
    let mut store = |tile: Tile, bytes: &[u8]| {
        log.insert(tile.path(), bytes.to_vec());
    };
    for entry in entries {
        builder.push(entry, &mut store).unwrap();
    }
    builder.partial(&mut store);
    (log, builder)
}

/// Entries of records 1 to `count`, one each.
pub(crate) fn records(count: u64) -> Vec<Vec<u8>> {
    (1..=count)
        .map(|sequence| {
            let text = format!("record {sequence} {}", "y".repeat(usize::try_from(sequence % 13).unwrap()));
            let mut entry = Vec::new();
            split(sequence, text.as_bytes()).unwrap().for_each(|part| part.encode(&mut entry));
            entry
        })
        .collect()
}

#[test]
fn paths_are_those_of_the_specification() {
    let tile = |kind, index, width| Tile { kind, index, width }.path();
    assert_eq!(tile(Kind::Hashes(0), 1_234_067, 256), "tile/0/x001/x234/067");
    assert_eq!(tile(Kind::Hashes(1), 0, 17), "tile/1/000.p/17");
    assert_eq!(tile(Kind::Entries, 999, 256), "tile/entries/999");
    assert_eq!(tile(Kind::Entries, 1_000, 1), "tile/entries/x001/000.p/1");
    assert_eq!(tile(Kind::Entries, u64::MAX, 256), "tile/entries/x018/x446/x744/x073/x709/x551/615");
    for bad in [
        "tile/0/1",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/00/000",
        "tile/8/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/+1/000",
        "tile/0/+01",
        "tile/0/000.p/+1",
        "tile/data/000",
        "",
        "tile/0/x019/x446/x744/x073/x709/x551/615",
        "tile/0/000/",
        "tile/0/x001",
        "/tile/0/000",
    ] {
        assert_eq!(Tile::parse(bad), None, "{bad}");
    }
}

#[test]
fn a_tree_of_seventy_thousand_has_the_tiles_that_the_specification_counts() {
    let mut tiles = HashTiles::new();
    let mut names = Vec::new();
    for n in 0..70_000_u32 {
        tiles.push(leaf_hash(&n.to_be_bytes()), &mut |tile, bytes| {
            assert_eq!(bytes.len(), 8_192);
            names.push(tile);
        });
    }
    let full = |level| names.iter().filter(|tile| tile.kind == Kind::Hashes(level)).count();
    assert_eq!((full(0), full(1), full(2)), (273, 1, 0));
    let mut partial = Vec::new();
    tiles.partial(&mut |tile, bytes| partial.push((tile.path(), bytes.len() / 32)));
    let expected = [("tile/0/273.p/112", 112), ("tile/1/001.p/17", 17), ("tile/2/000.p/1", 1)];
    assert_eq!(partial, expected.map(|(path, width)| (path.to_owned(), width)));
}

#[test]
fn a_tree_of_exactly_one_tile() {
    let (log, _) = build(&records(256));
    assert_eq!(log.keys().collect::<Vec<_>>(), ["tile/0/000", "tile/1/000.p/1", "tile/entries/000"]);
}

#[test]
fn proofs_from_tiles_check_and_a_log_is_continued_from_its_tiles() {
    let entries = records(700);
    let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    let (mut whole, builder) = build(&entries);
    let root = naive_root(&leaves);
    assert_eq!(builder.root(), root);
    for size in [1, 2, 255, 256, 257, 511, 512, 513, 699] {
        let (mut log, builder) = build(&entries[..size]);
        let old_root = naive_root(&leaves[..size]);
        assert_eq!(builder.root(), old_root);
        let size64 = u64::try_from(size).unwrap();
        let mut resumed = Builder::resume(&mut log, size64, &old_root).unwrap();
        for entry in &entries[size..] {
            resumed.push(entry, &mut |tile, bytes| assert_eq!(whole[&tile.path()], bytes)).unwrap();
        }
        resumed.partial(&mut |tile, bytes| assert_eq!(whole[&tile.path()], bytes));
        assert_eq!(resumed.root(), root);
        assert_eq!(Builder::resume(&mut log, size64, &[0; 32]).map(|_| ()), Err(ResumeError::Root { size: size64 }));
        let mut source = TileHashes::new(&mut whole, 700);
        let proof = merkle::prove_consistency(&mut source, size64, 700).unwrap();
        assert!(merkle::consistent(size64, &old_root, 700, &root, &proof));
        let proof = merkle::prove_inclusion(&mut source, size64, 700).unwrap();
        assert!(merkle::included(size64, 700, &leaves[size], &proof, &root));
        assert_eq!(merkle::root(&mut TileHashes::new(&mut log, size64), size64).unwrap(), old_root);
        // A partial tile that has been replaced by the full one.
        if size < 256 {
            log.remove(&format!("tile/0/000.p/{size}"));
            log.remove(&format!("tile/entries/000.p/{size}"));
            for path in ["tile/0/000", "tile/entries/000"] {
                log.insert(path.to_owned(), whole[path].clone());
            }
            let (mut expected, mut found) = (Vec::new(), Vec::new());
            builder.partial(&mut |tile, bytes| expected.push((tile, bytes.to_vec())));
            let resumed = Builder::resume(&mut log, size64, &old_root).unwrap();
            resumed.partial(&mut |tile, bytes| found.push((tile, bytes.to_vec())));
            assert_eq!(found, expected);
        }
    }
    whole.remove("tile/0/001");
    let lost = merkle::prove_inclusion(&mut TileHashes::new(&mut whole, 700), 300, 700);
    let missing = ReadError::Missing { path: "tile/0/001".into() };
    assert_eq!(lost, Err(merkle::ProveError::Source(missing)));
}

#[test]
fn a_damaged_bundle_is_not_continued() {
    let (mut log, builder) = build(&records(3));
    log.get_mut("tile/entries/000.p/3").unwrap()[20] ^= 1;
    let error = Builder::resume(&mut log, 3, &builder.root()).map(|_| ());
    assert_eq!(error, Err(ResumeError::Bundle { path: "tile/entries/000.p/3".into() }));
}

#[test]
fn records_of_every_awkward_length_are_split_and_joined() {
    for length in [1, MAX_PART - 1, MAX_PART, MAX_PART + 1, 2 * MAX_PART, 1 << 20] {
        let record: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let mut joiner = Joiner::new(9, 1 << 20);
        let mut whole = None;
        for part in split(9, &record).unwrap() {
            assert!(whole.is_none());
            let mut entry = Vec::new();
            part.encode(&mut entry);
            assert!(entry.len() <= MAX_ENTRY);
            let decoded = Entry::decode(&entry).unwrap();
            assert_eq!(decoded, part);
            joiner.push(&decoded, |sequence, bytes| whole = Some((sequence, bytes.unwrap().to_vec()))).unwrap();
        }
        assert_eq!(whole, Some((9, record)));
        assert_eq!((joiner.sequence(), joiner.is_between_records()), (10, true));
    }
    assert_eq!(split(1, b"").map(|_| ()), Err(RecordLength(0)));
}

#[test]
fn a_joiner_keeps_no_more_than_it_may() {
    let record = vec![7; 2 * MAX_PART];
    let mut joiner = Joiner::new(1, 2 * MAX_PART - 1);
    let mut seen = Vec::new();
    for part in split(1, &record).unwrap() {
        joiner.push(&part, |sequence, bytes| seen.push((sequence, bytes.is_some()))).unwrap();
    }
    assert_eq!(seen, [(1, false)]);
    let lone = Entry { sequence: 3, part: 0, parts: 1, bytes: b"x" };
    assert_eq!(joiner.push(&lone, |_, _| {}).unwrap_err().expected_sequence, 2);
}

#[test]
fn impossible_entries_are_refused() {
    let mut good = Vec::new();
    Entry { sequence: 1, part: 0, parts: 1, bytes: b"x" }.encode(&mut good);
    assert!(Entry::decode(&good).is_ok());
    for cut in 0..good.len() {
        assert_eq!(Entry::decode(&good[..cut]), Err(EntryError::Short));
    }
    for (at, value, error) in [
        (0, 2, EntryError::Version(2)),
        (8, 0, EntryError::Header),
        (10, 1, EntryError::Header),
        (12, 0, EntryError::Header),
        (12, 2, EntryError::Header),
    ] {
        let mut bad = good.clone();
        bad[at] = value;
        assert_eq!(Entry::decode(&bad), Err(error), "{at}");
    }
    assert_eq!(good.len(), HEADER + 1);
    let long = vec![0; MAX_ENTRY + 1];
    assert_eq!(Bundle::append(&mut Vec::new(), &long), Err(RecordLength(MAX_ENTRY + 1)));
}

proptest! {
    #[test]
    fn every_tile_comes_back_from_its_path(level in 0_u8..9, index in any::<u64>(), width in 1_u16..=256) {
        let kind = if level == 8 { Kind::Entries } else { Kind::Hashes(level) };
        let tile = Tile { kind, index, width };
        prop_assert_eq!(Tile::parse(&tile.path()), Some(tile));
    }

    #[test]
    fn any_path_and_any_bundle_are_judged(
        path in "(tile/)?[0-9ex./p+]{0,30}",
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        if let Some(tile) = Tile::parse(&path) {
            prop_assert_eq!(tile.path(), path);
        }
        let mut bundle = Bundle::new(&bytes);
        let mut again = Vec::new();
        for entry in bundle.by_ref() {
            let _ = Entry::decode(entry);
            Bundle::append(&mut again, entry).unwrap();
        }
        prop_assert_eq!(bundle.rest_len(), bytes.len() - again.len());
        prop_assert!(bytes.starts_with(&again));
        let _ = Entry::decode(&bytes);
    }
}
