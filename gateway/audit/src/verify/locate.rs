//! Finds a record by its sequence number: records in parts make places and numbers differ.

use super::{VerifyError, bundle};
use crate::tiles::entry::{Bundle, Entry};
use crate::tiles::{Files, Kind, ReadError, Tile, WIDTH};

/// A record's entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Place of the first in the log, from 0.
    pub index: u64,
    /// Their bytes, all parts of the record.
    pub entries: Vec<Vec<u8>>,
}

/// The entries of record `sequence` in a log of `size` entries; none if the log has no such record, or not all its
/// parts. Nothing is checked: what is found must be proved.
///
/// # Errors
/// [`VerifyError::Read`] if a bundle is missing or cannot be read.
pub fn locate<F: Files>(files: &mut F, size: u64, sequence: u64) -> Result<Option<Located>, VerifyError> {
    // Each record has at least one entry, so that it stands at its own number or behind.
    let (mut low, mut high) = (0, size.div_ceil(WIDTH));
    // What was removed comes first, and holds no record that can be found.
    let mut gone = None;
    while low < high {
        let middle = low + (high - low) / 2;
        match first_sequence(files, size, middle) {
            Ok(Some(first)) if first < sequence => low = middle + 1,
            Ok(Some(_) | None) => high = middle,
            Err(VerifyError::Read(ReadError::Missing { path })) => {
                gone = Some((middle, path));
                low = middle + 1;
            }
            Err(error) => return Err(error),
        }
    }
    if let Some((_, path)) = gone.filter(|(middle, _)| *middle + 1 == low) {
        // Nothing before the first bundle that is there: the record begins in it, or it is gone.
        if low == size.div_ceil(WIDTH) || first_sequence(files, size, low)? != Some(sequence) {
            return Err(VerifyError::Read(ReadError::Missing { path }));
        }
        low += 1;
    }
    let mut located = Located { index: 0, entries: Vec::new() };
    // The bundle before may hold its first parts, or all of them.
    for number in low.saturating_sub(1)..size.div_ceil(WIDTH) {
        let bytes = read(files, size, number)?;
        for (index, bytes) in (number.saturating_mul(WIDTH)..size).zip(Bundle::new(&bytes)) {
            let Ok(entry) = Entry::decode(bytes) else { return Ok(None) };
            if entry.sequence > sequence {
                return Ok(None);
            }
            if entry.sequence < sequence || usize::from(entry.part) != located.entries.len() {
                continue;
            }
            if located.entries.is_empty() {
                located.index = index;
            }
            located.entries.push(bytes.to_vec());
            if located.entries.len() == usize::from(entry.parts) {
                return Ok(Some(located));
            }
        }
    }
    Ok(None)
}

fn first_sequence<F: Files>(files: &mut F, size: u64, number: u64) -> Result<Option<u64>, VerifyError> {
    let bytes = read(files, size, number)?;
    let first = Bundle::new(&bytes).next();
    Ok(first.and_then(|entry| Entry::decode(entry).ok()).map(|entry| entry.sequence))
}

fn read<F: Files>(files: &mut F, size: u64, number: u64) -> Result<Vec<u8>, VerifyError> {
    let Some(tile) = Tile::in_tree(Kind::Entries, number, size) else { return Ok(Vec::new()) };
    let missing = || VerifyError::Read(ReadError::Missing { path: tile.path() });
    Ok(bundle(files, tile)?.ok_or_else(missing)?.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiles::entry;
    use crate::tiles::tests::build;

    #[test]
    fn every_record_is_found_whatever_its_parts() {
        let mut entries = Vec::new();
        for sequence in 1_u64..=400 {
            let length = if sequence % 50 == 0 { 150_000 } else { 5 };
            for part in entry::split(sequence, &vec![7; length]).unwrap() {
                let mut bytes = Vec::new();
                part.encode(&mut bytes);
                entries.push(bytes);
            }
        }
        let (mut log, _) = build(&entries);
        let size = u64::try_from(entries.len()).unwrap();
        let mut place = 0;
        for sequence in 1..=400 {
            let parts = if sequence % 50 == 0 { 3 } else { 1 };
            let found = locate(&mut log, size, sequence).unwrap().unwrap();
            assert_eq!(found.index, u64::try_from(place).unwrap());
            assert_eq!(found.entries, entries[place..place + parts]);
            place += parts;
        }
        for absent in [0, 401, u64::MAX] {
            assert_eq!(locate(&mut log, size, absent).unwrap(), None);
        }
        // The last record's last part is not covered.
        let (mut short, _) = build(&entries[..entries.len() - 1]);
        assert_eq!(locate(&mut short, size - 1, 400), Ok(None));
        assert!(locate(&mut short, size - 1, 399).unwrap().is_some());
        log.clear();
        assert!(matches!(locate(&mut log, size, 5), Err(VerifyError::Read(ReadError::Missing { .. }))));
        assert_eq!(locate(&mut log, 0, 1), Ok(None));
    }
}
