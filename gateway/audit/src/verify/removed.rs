//! Finds the record that stands for entries that were removed.

use super::trust::Trust;
use super::{Stop, VerifyError, bundle};
use crate::merkle::{self, Hash, leaf_hash};
use crate::removal::{FILE, MAX_FILE, Pointer, Tombstone};
use crate::tiles::entry::{Bundle, Entry};
use crate::tiles::{Files, Kind, ReadError, Tile, TileHashes, WIDTH};

/// What was removed, proved by the log's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// So many entries, from the first on. Some of their bundles may still be there.
    pub entries: u64,
    /// The first record that stays whole.
    pub next: u64,
    /// The record that says so.
    pub record: u64,
}

/// The newest tombstone, if the log has one. The pointer to it vouches for nothing: the entry that it points at must be
/// under the root, be a tombstone, and name the root over what it says was removed.
pub(super) fn find<F: Files>(trust: &mut Trust<'_, F>, root: &Hash) -> Result<Option<Removed>, Stop> {
    let file = trust.files().read(FILE, MAX_FILE).map_err(|error| {
        VerifyError::Read(ReadError::Unreadable { path: FILE.to_owned(), cause: error.to_string() })
    })?;
    let size = trust.size();
    let Some(pointer) = file.and_then(|file| Pointer::parse(&file)).filter(|pointer| pointer.entry < size) else {
        return Ok(None);
    };
    let Some(tile) = Tile::in_tree(Kind::Entries, pointer.entry / WIDTH, size) else { return Ok(None) };
    let expected = trust.leaf(pointer.entry)?;
    let Some(read) = bundle(trust.files(), tile)? else { return Ok(None) };
    let place = usize::try_from(pointer.entry % WIDTH).unwrap_or(usize::MAX);
    let bytes = Bundle::new(&read.bytes).nth(place).filter(|bytes| leaf_hash(bytes) == expected);
    let Some(entry) = bytes.and_then(|bytes| Entry::decode(bytes).ok()) else { return Ok(None) };
    let Some(Tombstone { entries, next, root: over }) = Tombstone::of(&entry) else { return Ok(None) };
    // It stands behind what it is about.
    if entry.sequence != pointer.record || entries > pointer.entry || next > entry.sequence {
        return Ok(None);
    }
    let proof = merkle::prove_consistency(&mut TileHashes::new(trust.files(), size), entries, size);
    let same = proof.is_ok_and(|proof| merkle::consistent(entries, &over, size, root, &proof));
    Ok(same.then_some(Removed { entries, next, record: entry.sequence }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::header::{ClearHeader, KeyId, Kind as Record, Pseudonym};
    use crate::note::{KeyKind, Signer};
    use crate::tiles::entry::split;
    use crate::tiles::tests::{Log, build, records};
    use crate::tiles::{CHECKPOINT, Kind};
    use crate::verify::{Against, Fault, Verified, locate, verify};

    fn signer() -> Signer {
        Signer::new("log.example/gw1", KeyKind::Log, &[1; 32]).unwrap()
    }

    fn entry(sequence: u64, kind: Record, reference: &str) -> Vec<u8> {
        let header = ClearHeader { kind, unix_ns: 1, site: Pseudonym::NONE, key: KeyId([1; 16]), reference };
        let (mut envelope, mut entry) = (Vec::new(), Vec::new());
        header.encode(&mut envelope).unwrap();
        envelope.extend_from_slice(&[0; 16]);
        split(sequence, &envelope).unwrap().for_each(|part| part.encode(&mut entry));
        entry
    }

    /// 1,500 records, of which number 1,401 is the tombstone of the first `entries`.
    fn log(entries: u64, kind: Record, change: impl FnOnce(Tombstone) -> Tombstone) -> Log {
        let mut all = records(1_500);
        let (_, builder) = build(&all[..usize::try_from(entries).unwrap()]);
        let tombstone = change(Tombstone { entries, next: entries + 1, root: builder.root() });
        all[1_400] = entry(1_401, kind, &tombstone.to_string());
        let (mut log, builder) = build(&all);
        let checkpoint =
            Checkpoint { origin: "log.example/gw1".into(), size: 1_500, root: builder.root(), extensions: Vec::new() };
        log.insert(CHECKPOINT.to_owned(), checkpoint.sign(&signer()).unwrap().into_bytes());
        log.insert(FILE.to_owned(), Pointer { entry: 1_400, record: 1_401 }.to_string().into_bytes());
        log
    }

    fn without(log: &Log, bundles: std::ops::Range<u64>) -> Log {
        let mut log = log.clone();
        for index in bundles {
            log.remove(&Tile { kind: Kind::Entries, index, width: 256 }.path()).unwrap();
        }
        log
    }

    fn judge(log: &Log) -> Result<(Verified, Vec<u64>), VerifyError> {
        let mut seen = Vec::new();
        let visit = |_, entry: &Entry<'_>| seen.push(entry.sequence);
        let verified = verify(&mut log.clone(), signer().verifier(), Against::default(), visit)?;
        Ok((verified, seen))
    }

    fn fault(log: &Log) -> (Fault, std::ops::Range<u64>) {
        match judge(log) {
            Err(VerifyError::Bad(bad)) => (bad.fault, bad.entries),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a11_what_a_record_says_was_removed_is_named_and_the_rest_verified() {
        let whole = log(1_024, Record::Removal, |tombstone| tombstone);
        assert_eq!(judge(&whole).unwrap().0.removed, None);
        let removed = Some(Removed { entries: 1_024, next: 1_025, record: 1_401 });
        // A crash in the middle of the removal leaves any of these.
        for gone in 1..=4 {
            let (verified, seen) = judge(&without(&whole, 0..gone)).unwrap();
            assert_eq!((verified.removed, verified.records), (removed, 1_500));
            assert_eq!(seen, (1_025..=1_500).collect::<Vec<_>>());
        }
        // An older checkpoint is continued without the entries it was about.
        let (_, builder) = build(&records(300));
        let older =
            Checkpoint { origin: "log.example/gw1".into(), size: 300, root: builder.root(), extensions: Vec::new() };
        let older = older.sign(&signer()).unwrap();
        let against = Against { older: Some(older.as_bytes()), ..Against::default() };
        let verified = verify(&mut without(&whole, 0..4), signer().verifier(), against, |_, _| {}).unwrap();
        assert_eq!(verified.continues, Some(300));
    }

    #[test]
    fn a11_one_bundle_more_or_no_tombstone_is_a_removal() {
        let whole = log(1_024, Record::Removal, |tombstone| tombstone);
        assert_eq!(fault(&without(&whole, 0..5)), (Fault::Removed, 1_024..1_500));
        assert_eq!(fault(&without(&whole, 4..5)), (Fault::Removed, 1_024..1_500));
        let mut blind = without(&whole, 0..1);
        blind.remove(FILE);
        assert_eq!(fault(&blind), (Fault::Removed, 0..1_500));
        for pointer in [
            "",
            "sekisho audit removal v1\nentry 1399\nrecord 1400\n",
            "sekisho audit removal v1\nentry 1400\nrecord 9\n",
        ] {
            let mut log = without(&whole, 0..1);
            log.insert(FILE.to_owned(), pointer.as_bytes().to_vec());
            assert_eq!(fault(&log), (Fault::Removed, 0..1_500), "{pointer}");
        }
    }

    #[test]
    fn a11_a_tombstone_that_is_none_hides_nothing() {
        let shift = |tombstone: Tombstone| Tombstone { root: [7; 32], ..tombstone };
        assert_eq!(fault(&without(&log(1_024, Record::Removal, shift), 0..4)).0, Fault::Removed);
        // Signed as another kind of record.
        assert_eq!(fault(&without(&log(1_024, Record::Shred, |same| same), 0..4)).0, Fault::Removed);
        // About what comes behind it.
        let mut all = records(1_500);
        let (_, builder) = build(&all[..1_024]);
        let text = Tombstone { entries: 1_024, next: 1_025, root: builder.root() }.to_string();
        all[900] = entry(901, Record::Removal, &text);
        let (mut early, builder) = build(&all);
        let checkpoint =
            Checkpoint { origin: "log.example/gw1".into(), size: 1_500, root: builder.root(), extensions: Vec::new() };
        early.insert(CHECKPOINT.to_owned(), checkpoint.sign(&signer()).unwrap().into_bytes());
        early.insert(FILE.to_owned(), Pointer { entry: 900, record: 901 }.to_string().into_bytes());
        assert_eq!(fault(&without(&early, 0..1)).0, Fault::Removed);
        // A record number that does not follow: signed out of order.
        let skip = |tombstone: Tombstone| Tombstone { next: tombstone.next + 1, ..tombstone };
        assert!(matches!(fault(&without(&log(1_024, Record::Removal, skip), 0..4)).0, Fault::Numbering(_)));
        // An entry behind what was removed is still checked.
        let mut changed = without(&log(1_024, Record::Removal, |same| same), 0..4);
        let path = Tile { kind: Kind::Entries, index: 4, width: 256 }.path();
        changed.get_mut(&path).unwrap()[40] ^= 1;
        assert_eq!(fault(&changed), (Fault::Altered, 1_025..1_026));
    }

    #[test]
    fn records_behind_what_was_removed_are_found() {
        let mut log = without(&log(1_024, Record::Removal, |same| same), 0..4);
        for sequence in [1_025, 1_026, 1_280, 1_281, 1_500] {
            let found = locate(&mut log, 1_500, sequence).unwrap().unwrap();
            assert_eq!((found.index, found.entries.len()), (sequence - 1, 1));
        }
        for gone in [1, 500, 1_024] {
            assert!(
                matches!(locate(&mut log, 1_500, gone), Err(VerifyError::Read(ReadError::Missing { .. }))),
                "{gone}"
            );
        }
        assert_eq!(locate(&mut log, 1_500, 1_501), Ok(None));
    }
}
