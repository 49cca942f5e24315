//! Parts of logs, and single entries.

use super::*;
use crate::header::{ClearHeader, KeyId, Kind as RecordKind, Pseudonym};

/// A log of records that are ten seconds apart; every 50th has three parts. Its entries' bytes, too.
fn timed(count: u64) -> (Log, Vec<Vec<u8>>) {
    let mut entries = Vec::new();
    for sequence in 1..=count {
        let header = ClearHeader {
            kind: RecordKind::Request,
            unix_ns: i64::try_from(sequence).unwrap() * 10,
            site: Pseudonym([3; 8]),
            key: KeyId([4; 16]),
            reference: "r",
        };
        let mut envelope = Vec::new();
        header.encode(&mut envelope).unwrap();
        envelope.resize(if sequence % 50 == 0 { 150_000 } else { 60 }, u8::try_from(sequence % 251).unwrap());
        for part in entry::split(sequence, &envelope).unwrap() {
            let mut bytes = Vec::new();
            part.encode(&mut bytes);
            entries.push(bytes);
        }
    }
    (log(&entries), entries)
}

/// Counts what is read.
struct Counted<'a>(&'a mut Log, usize);

impl Files for Counted<'_> {
    type Error = std::convert::Infallible;

    fn read(&mut self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, Self::Error> {
        self.1 += 1;
        self.0.read(path, limit)
    }
}

fn judge_part(log: &mut Log, part: Part) -> (Result<VerifiedPart, VerifyError>, Vec<u64>) {
    let mut seen = Vec::new();
    let verified = verify_part(log, signer().verifier(), Against::default(), part, |_, entry| {
        if entry.part == 0 {
            seen.push(entry.sequence);
        }
    });
    (verified, seen)
}

fn part(from: Option<Edge>, to: Option<Edge>) -> Part {
    Part { from, to }
}

#[test]
fn a_part_is_what_lies_between_its_edges() {
    let (mut log, _) = timed(700);
    for (from, to, first, last) in [
        (None, None, 1, 700),
        (Some(Edge::Record(1)), Some(Edge::Record(2)), 1, 1),
        (Some(Edge::Record(300)), Some(Edge::Record(412)), 300, 411),
        (Some(Edge::Record(650)), None, 650, 700),
        (None, Some(Edge::Time(10)), 1, 0),
        (Some(Edge::Time(10)), Some(Edge::Time(11)), 1, 1),
        (Some(Edge::Time(2_995)), Some(Edge::Time(3_010)), 300, 300),
        (Some(Edge::Time(7_001)), None, 1, 0),
        (Some(Edge::Record(701)), None, 1, 0),
        (Some(Edge::Record(5)), Some(Edge::Record(3)), 1, 0),
        (Some(Edge::Entry(0)), Some(Edge::Entry(3)), 1, 3),
    ] {
        let (verified, seen) = judge_part(&mut log, part(from, to));
        let verified = verified.unwrap();
        assert_eq!(seen, (first..=last).collect::<Vec<_>>(), "{from:?} {to:?}");
        let records = verified.records.clone();
        let within = |sequence| records.as_ref().is_some_and(|records| records.contains(sequence));
        assert!(seen.iter().all(within), "{from:?} {to:?}");
        assert_eq!(verified.entries.is_empty(), seen.is_empty());
    }
}

#[test]
fn a_part_of_a_large_log_costs_little_and_says_nothing_of_the_rest() {
    let entries: Vec<Vec<u8>> = records(70_000);
    let mut log = log(&entries);
    log.insert("tile/entries/200".to_owned(), b"something else".to_vec());
    let mut counted = Counted(&mut log, 0);
    let asked = part(Some(Edge::Record(20_000)), Some(Edge::Record(20_300)));
    let verified = verify_part(&mut counted, signer().verifier(), Against::default(), asked, |_, _| {}).unwrap();
    assert_eq!(verified.records, Some(19_969..=20_480));
    assert!(counted.1 < 60, "{} files", counted.1);
    let asked = part(Some(Edge::Record(51_000)), Some(Edge::Record(51_300)));
    let Err(VerifyError::Bad(bad)) = judge_part(&mut log, asked).0 else { panic!() };
    assert_eq!((bad.path.as_str(), bad.entries), ("tile/entries/200", 51_200..51_201));
}

#[test]
fn what_a_part_continues_is_checked_too() {
    let (mut log, entries) = timed(300);
    let (_, old) = build(&entries[..100]);
    let older = note(100, old.root());
    let asked = part(Some(Edge::Record(200)), None);
    let against = Against { older: Some(&older), ..Against::default() };
    let verified = verify_part(&mut log, signer().verifier(), against, asked, |_, _| {}).unwrap();
    assert_eq!(verified.continues, Some(100));
    for (size, fault) in [(100, Fault::Forked), (5_000, Fault::Truncated)] {
        let older = note(size, [7; 32]);
        let against = Against { older: Some(&older), ..Against::default() };
        let judged = verify_part(&mut log, signer().verifier(), against, asked, |_, _| {});
        assert!(matches!(judged, Err(VerifyError::Bad(bad)) if bad.fault == fault));
        let opened = Entries::open(&mut log, signer().verifier(), against).err();
        assert!(matches!(opened, Some(VerifyError::Bad(bad)) if bad.fault == fault));
    }
}

#[test]
fn a_damaged_tile_of_hashes_is_named() {
    let (mut log, _) = timed(700);
    log.get_mut("tile/0/001").unwrap()[5] ^= 1;
    let asked = part(Some(Edge::Record(300)), Some(Edge::Record(301)));
    let Err(VerifyError::Bad(bad)) = judge_part(&mut log, asked).0 else { panic!() };
    assert_eq!((bad.path.as_str(), bad.fault), ("tile/0/001", Fault::Tile));
    let mut entries = Entries::open(&mut log, signer().verifier(), Against::default()).unwrap().0;
    assert_eq!(entries.get(3).unwrap().unwrap().sequence, 4);
    let Err(VerifyError::Bad(bad)) = entries.get(300) else { panic!() };
    assert_eq!((bad.path.as_str(), bad.fault), ("tile/0/001", Fault::Tile));
}

#[test]
fn single_entries_are_had_in_any_order() {
    let (mut log, all) = timed(600);
    let mut entries = Entries::open(&mut log, signer().verifier(), Against::default()).unwrap().0;
    for index in [0, 599, 5, 255, 256, 257, 4, 610] {
        let entry = entries.get(index).unwrap().unwrap();
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        assert_eq!(bytes, all[usize::try_from(index).unwrap()]);
    }
    assert_eq!(entries.get(u64::try_from(all.len()).unwrap()), Ok(None));
    assert_eq!(entries.get(u64::MAX), Ok(None));
    log.remove("tile/entries/001");
    let mut entries = Entries::open(&mut log, signer().verifier(), Against::default()).unwrap().0;
    let Err(VerifyError::Bad(bad)) = entries.get(300) else { panic!() };
    assert_eq!(bad.fault, Fault::Removed);
    assert!(entries.get(3).unwrap().is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A byte that is changed is seen if it is in the part, by every reader alike, and else it is not.
    #[test]
    fn a_changed_byte_is_seen_where_it_is_asked_for(
        from in 1_u64..760,
        length in 0_u64..400,
        file: prop::sample::Index,
        place: prop::sample::Index,
        bit in 0_u8..8,
    ) {
        let (genuine, _) = timed(250);
        let mut log = genuine.clone();
        let names: Vec<String> = log.keys().filter(|path| path.contains("entries")).cloned().collect();
        let name = file.get(&names);
        let number = Tile::parse(name).unwrap().index;
        let bytes = log.get_mut(name).unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        let asked = part(Some(Edge::Entry(from)), Some(Edge::Entry(from.saturating_add(length))));
        let (verified, _) = judge_part(&mut log, asked);
        let end = (from + length).min(260);
        let asked_for = length > 0 && from < end && (from / WIDTH..end.div_ceil(WIDTH)).contains(&number);
        let whole = bad(&log);
        match verified {
            Ok(_) => prop_assert!(!asked_for),
            Err(VerifyError::Bad(bad)) => {
                prop_assert!(asked_for);
                prop_assert_eq!(bad.entries, whole.entries.clone());
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
        let index = whole.entries.start;
        let mut entries = Entries::open(&mut log, signer().verifier(), Against::default()).unwrap().0;
        prop_assert!(entries.get(index).is_err());
    }
}
