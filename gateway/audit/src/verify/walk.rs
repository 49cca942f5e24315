//! Checks entries against the tiles of hashes above them, front to back: of a whole log and of a part.

use std::ops::Range;

use super::trust::Trust;
use super::{Bad, Fault, Removed, Stop, bundle_into, classify};
use crate::tiles::entry::{Bundle, Entry, Joiner, leaf_hashes};
use crate::tiles::{Files, HASH_BYTES, Kind, Tile, WIDTH};

/// Checks the entries of these bundles; `visit` gets each. `joiner` says which record belongs to the first of them, where
/// that is known, and then which one belongs behind the last. At the first bundle that is not there, `gone` says what
/// was removed; the walk goes on behind that, and says so.
pub(super) fn walk<F: Files>(
    trust: &mut Trust<'_, F>,
    bundles: Range<u64>,
    joiner: &mut Option<Joiner>,
    mut gone: impl FnMut(&mut Trust<'_, F>) -> Result<Option<Removed>, Stop>,
    mut visit: impl FnMut(u64, &Entry<'_>),
) -> Result<Option<Removed>, Stop> {
    let size = trust.size();
    let (mut expected, mut found, mut buffer) = (Vec::new(), Vec::new(), Vec::new());
    let mut removed: Option<Removed> = None;
    let mut numbers = bundles.clone();
    while let Some(number) = numbers.next() {
        let Some(tile) = Tile::in_tree(Kind::Entries, number, size) else { break };
        let first = number * WIDTH;
        expected.clear();
        expected.extend_from_slice(trust.tile(0, number)?.as_chunks::<HASH_BYTES>().0);
        let sequence = |joiner: &Option<Joiner>| joiner.as_ref().map(Joiner::sequence);
        let bad = |index: u64, fault, joiner: &Option<Joiner>| Bad {
            path: tile.path(),
            entries: index..index.saturating_add(1),
            sequence: sequence(joiner),
            fault,
        };
        let Some(mut bundle) = bundle_into(trust.files(), tile, std::mem::take(&mut buffer))? else {
            let known = if removed.is_none() { gone(trust)? } else { None };
            if let Some(gone) = known.filter(|gone| first < gone.entries) {
                numbers = gone.entries / WIDTH..bundles.end;
                *joiner = Some(Joiner::new(gone.next, 0));
                removed = Some(gone);
                continue;
            }
            let fault = classify::missing(trust.files(), number, size)?;
            return Err(Bad { entries: first..size, ..bad(first, fault, joiner) }.into());
        };
        leaf_hashes(&mut bundle.bytes, expected.len(), &mut found);
        let mut hashes = found.iter();
        let mut entries = Bundle::new(&bundle.bytes);
        for (index, hash) in (first..).zip(&expected) {
            let bytes = entries.next();
            if hashes.next() != Some(hash) {
                // Where nothing before tells which record belongs there, no entry is taken for one that moved far.
                let belongs = sequence(joiner).unwrap_or(u64::MAX);
                let fault = classify::mismatch(trust, tile, index, &bundle.bytes, belongs)?;
                return Err(bad(index, fault, joiner).into());
            }
            let entry = Entry::decode(bytes.unwrap_or_default());
            let entry = entry.map_err(|error| bad(index, Fault::Entry(error), joiner))?;
            let joined = joiner.get_or_insert_with(|| Joiner::from_entry(&entry)).push(&entry, |_, _| {});
            joined.map_err(|error| bad(index, Fault::Numbering(error), joiner))?;
            visit(index, &entry);
        }
        if !entries.is_whole() && !bundle.full {
            return Err(bad(first + u64::from(tile.width), Fault::Inserted, joiner).into());
        }
        buffer = bundle.bytes;
    }
    Ok(removed)
}
