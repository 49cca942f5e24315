//! Tells what happened to an entry that does not fit, from what stands around it.

use super::trust::{Trust, Untrusted};
use super::{Fault, VerifyError, bundle};
use crate::merkle::{Hash, leaf_hash};
use crate::tiles::entry::{Bundle, Entry, OutOfOrder};
use crate::tiles::{Files, HASH_BYTES, Kind, Tile, WIDTH};

/// A bundle is missing: removed if a later one is there, else the log is cut off.
pub(super) fn missing<F: Files>(files: &mut F, number: u64, size: u64) -> Result<Fault, VerifyError> {
    let last = size.div_ceil(WIDTH).saturating_sub(1);
    for later in [number.saturating_add(1), last] {
        if later <= number {
            continue;
        }
        if let Some(tile) = Tile::in_tree(Kind::Entries, later, size)
            && bundle(files, tile)?.is_some()
        {
            return Ok(Fault::Removed);
        }
    }
    Ok(Fault::Truncated)
}

/// Entry `index`, in bundle `tile` with these bytes, is not there or has another hash. `sequence` is that of the record
/// that belongs there. An entry that moved further than into the next bundle is found by its sequence number.
pub(super) fn mismatch<F: Files>(
    trust: &mut Trust<'_, F>,
    tile: Tile,
    index: u64,
    bytes: &[u8],
    sequence: u64,
) -> Result<Fault, VerifyError> {
    let expected = hashes(trust, tile.index)?;
    let mut found: Vec<Hash> = Bundle::new(bytes).map(leaf_hash).collect();
    if found.len() >= usize::from(tile.width)
        && let Some(next) = Tile::in_tree(Kind::Entries, tile.index + 1, trust.size())
        && let Some(read) = bundle(trust.files(), next)?
    {
        found.extend(Bundle::new(&read.bytes).map(leaf_hash));
    }
    let place = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
    let Some((there, behind)) = found.get(place..).and_then(<[Hash]>::split_first) else {
        let mut entries = Bundle::new(bytes);
        entries.by_ref().for_each(drop);
        let size = trust.size();
        return ended(trust.files(), tile, size, &entries);
    };
    let Some((belongs, later)) = expected.get(place..).and_then(<[Hash]>::split_first) else {
        return Ok(Fault::Inserted);
    };
    let moved_on = behind.contains(belongs);
    let comes_later = later.contains(there);
    let shifted = behind.first() == Some(belongs) && behind.get(1).is_some_and(|next| later.first() == Some(next));
    if moved_on && (shifted || !comes_later) {
        return Ok(Fault::Inserted);
    }
    if comes_later {
        return Ok(if moved_on { Fault::Reordered } else { Fault::Removed });
    }
    let Some(entry) = Bundle::new(bytes).nth(place).and_then(|entry| Entry::decode(entry).ok()) else {
        return Ok(Fault::Altered);
    };
    let Some(home) = entry.sequence.checked_sub(sequence).and_then(|ahead| index.checked_add(ahead)) else {
        return Ok(Fault::Altered);
    };
    if home >= trust.size() || home == index || leaf(trust, home)? != Some(*there) {
        return Ok(Fault::Altered);
    }
    Ok(if presented(trust, home)? == Some(*belongs) { Fault::Reordered } else { Fault::Removed })
}

/// A bundle ends before all its entries have come; `entries` has been read to its end. In the log's last bundle a cut
/// and a length that says too much look the same.
pub(super) fn ended<F: Files>(
    files: &mut F,
    tile: Tile,
    size: u64,
    entries: &Bundle<'_>,
) -> Result<Fault, VerifyError> {
    let last = tile.index == size.saturating_sub(1) / WIDTH;
    if last || entries.is_whole() { missing(files, tile.index, size) } else { Ok(Fault::Altered) }
}

/// The hashes that belong to a bundle and to the next.
fn hashes<F: Files>(trust: &mut Trust<'_, F>, number: u64) -> Result<Vec<Hash>, VerifyError> {
    let mut hashes = Vec::new();
    for number in [number, number.saturating_add(1)] {
        match trust.tile(0, number) {
            Ok(bytes) => hashes.extend_from_slice(bytes.as_chunks::<HASH_BYTES>().0),
            Err(Untrusted::Damaged) => break,
            Err(Untrusted::Unreadable(error)) => return Err(VerifyError::Read(error)),
        }
    }
    Ok(hashes)
}

/// The hash that belongs to an entry, if that is known.
fn leaf<F: Files>(trust: &mut Trust<'_, F>, index: u64) -> Result<Option<Hash>, VerifyError> {
    match trust.leaf(index) {
        Ok(hash) => Ok(Some(hash)),
        Err(Untrusted::Damaged) => Ok(None),
        Err(Untrusted::Unreadable(error)) => Err(VerifyError::Read(error)),
    }
}

/// The hash of the entry that stands at a place.
fn presented<F: Files>(trust: &mut Trust<'_, F>, index: u64) -> Result<Option<Hash>, VerifyError> {
    let size = trust.size();
    at(trust.files(), size, index, leaf_hash)
}

/// Something of the entry that stands at a place.
fn at<F: Files, T>(
    files: &mut F,
    size: u64,
    index: u64,
    what: impl FnOnce(&[u8]) -> T,
) -> Result<Option<T>, VerifyError> {
    let Some(tile) = Tile::in_tree(Kind::Entries, index / WIDTH, size) else { return Ok(None) };
    let place = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
    Ok(bundle(files, tile)?.and_then(|read| Bundle::new(&read.bytes).nth(place).map(what)))
}

/// Entry `index` does not follow the one before it, and no hash tells what belongs there.
pub(super) fn misnumbered<F: Files>(
    files: &mut F,
    size: u64,
    index: u64,
    error: &OutOfOrder,
) -> Result<Fault, VerifyError> {
    let Some(ahead) = error.sequence.checked_sub(error.expected_sequence).filter(|ahead| *ahead > 0) else {
        return Ok(Fault::Inserted);
    };
    let sequence = |entry: &[u8]| Entry::decode(entry).ok().map(|entry| entry.sequence);
    let home = at(files, size, index.saturating_add(ahead), sequence)?.flatten();
    Ok(if home == Some(error.expected_sequence) { Fault::Reordered } else { Fault::Removed })
}
