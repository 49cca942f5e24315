//! Verifies a part of a log, at a cost that grows with the part: hashes from the root down to it, and its entries.

use std::ops::{Range, RangeInclusive};

use super::trust::Trust;
use super::{Against, Removed, Stop, VerifyError, begin, bundle, follows, rebuild, removed, walk};
use crate::checkpoint::Signed;
use crate::header::Envelope;
use crate::merkle::leaf_hash;
use crate::note::VerifierKey;
use crate::tiles::entry::{Bundle, Entry, Joiner};
use crate::tiles::{Files, HASH_BYTES, Kind, Tile, WIDTH};

/// A place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// An entry, by its place from 0.
    Entry(u64),
    /// A record, by its sequence number.
    Record(u64),
    /// The first record of this time or later, nanoseconds since the Unix epoch. It is found by bisection: exactly as long
    /// as the log's times do not go back.
    Time(i64),
}

/// Part of a log: from one place, or the beginning, to before another, or the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Part {
    /// Where it begins.
    pub from: Option<Edge>,
    /// What comes behind it.
    pub to: Option<Edge>,
}

/// A part of a log that holds nothing bad. Nothing is said of what is outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPart {
    /// The checkpoint that covers it, and those who vouch for that.
    pub signed: Signed,
    /// The entries that were verified: those that were asked for, and the rest of their bundles.
    pub entries: Range<u64>,
    /// Their first and last record, the last one perhaps in part; none where there is no entry.
    pub records: Option<RangeInclusive<u64>>,
    /// Size of the older checkpoint that the log continues.
    pub continues: Option<u64>,
    /// What was removed by retention, where the log says so.
    pub removed: Option<Removed>,
}

/// Verifies a part of a log: its checkpoint, the tiles of hashes from the root to the part, the part's entries, their order,
/// and that the log continues an older checkpoint. `visit` gets each entry of the part that was asked for, in order, after
/// it has been checked.
///
/// # Errors
/// [`VerifyError`] says what is wrong, and names the first bad entry. Where a tile of hashes is damaged, all entries of the
/// log are read to find it.
pub fn verify_part<F: Files>(
    files: &mut F,
    log: &VerifierKey,
    against: Against<'_>,
    part: Part,
    mut visit: impl FnMut(u64, &Entry<'_>),
) -> Result<VerifiedPart, VerifyError> {
    let (signed, older) = begin(files, log, against)?;
    let (size, root) = (signed.checkpoint.size, signed.checkpoint.root);
    follows(files, size, &root, older.as_ref())?;
    let walked = Trust::new(files, size, &root).map_err(Stop::from).and_then(|mut trust| {
        let gone = removed::find(&mut trust, &root)?;
        let first = gone.map_or(0, |gone| gone.entries);
        let start = part.from.map_or(Ok(0), |edge| find(&mut trust, edge, first, false))?;
        let end = part.to.map_or(Ok(size), |edge| find(&mut trust, edge, first, true))?;
        Ok((check(&mut trust, start..end, gone, &mut visit)?, gone))
    });
    let ((entries, records), removed) = match walked {
        Ok(walked) => walked,
        Err(Stop::Error(error)) => return Err(*error),
        Err(Stop::Tiles) => return Err(rebuild::name(files, size, &root, older.as_ref())),
    };
    Ok(VerifiedPart { signed, entries, records, continues: older.map(|older| older.size), removed })
}

type Walked = (Range<u64>, Option<RangeInclusive<u64>>);

/// Checks the bundles that hold these entries.
fn check<F: Files>(
    trust: &mut Trust<'_, F>,
    asked: Range<u64>,
    gone: Option<Removed>,
    visit: &mut impl FnMut(u64, &Entry<'_>),
) -> Result<Walked, Stop> {
    let size = trust.size();
    if asked.start >= asked.end {
        return Ok((asked.start..asked.start, None));
    }
    let bundles = asked.start / WIDTH..asked.end.div_ceil(WIDTH);
    // Only of the log's beginning it is known which record belongs there.
    let mut joiner = (bundles.start == 0).then(|| Joiner::new(1, 0));
    let mut records: Option<RangeInclusive<u64>> = None;
    walk::walk(
        trust,
        bundles.clone(),
        &mut joiner,
        |_| Ok(gone),
        |index, entry| {
            records = Some(*records.as_ref().map_or(&entry.sequence, RangeInclusive::start)..=entry.sequence);
            if asked.contains(&index) {
                visit(index, entry);
            }
        },
    )?;
    Ok((bundles.start * WIDTH..(bundles.end * WIDTH).min(size), records))
}

/// The first entry that is not before an edge; the log's size if all are. Only entries that fit the tree are believed:
/// where none tells, `unknown` says whether it counts as before. Those before `first` were removed.
fn find<F: Files>(trust: &mut Trust<'_, F>, edge: Edge, first: u64, unknown: bool) -> Result<u64, Stop> {
    let size = trust.size();
    if let Edge::Entry(index) = edge {
        return Ok(index.min(size));
    }
    let begins = first / WIDTH;
    let (mut low, mut high) = (begins, size.div_ceil(WIDTH));
    while low < high {
        let middle = low + (high - low) / 2;
        let known = first_known(trust, middle..high, edge)?;
        if known.unwrap_or(unknown) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    // The edge is in the bundle before, behind its first entry, or it is this one's first.
    let Some(number) = low.checked_sub(1).filter(|number| *number >= begins) else { return Ok(first) };
    let told = told(trust, number, edge)?;
    // What stands before one that is before is so too.
    let known = told.iter().rposition(|(_, is_before)| *is_before == Some(true)).map_or(0, |place| place + 1);
    for (place, (index, is_before)) in told.into_iter().enumerate() {
        if !is_before.unwrap_or(unknown || place < known) {
            return Ok(index);
        }
    }
    Ok(low.saturating_mul(WIDTH).min(size))
}

/// Bundles behind one that tells nothing in which is looked.
const FURTHER: usize = 64;

/// Whether the first bundle begins before an edge. Where none of its entries tells, a later bundle does if that is before.
fn first_known<F: Files>(trust: &mut Trust<'_, F>, numbers: Range<u64>, edge: Edge) -> Result<Option<bool>, Stop> {
    let first = numbers.start;
    for number in numbers.take(FURTHER) {
        if let Some(known) = told(trust, number, edge)?.into_iter().find_map(|(_, is_before)| is_before) {
            return Ok((known || number == first).then_some(known));
        }
    }
    Ok(None)
}

/// For each entry of a bundle, whether it is before an edge; none where it does not fit the tree. The parts of a record
/// behind its first are with that.
fn told<F: Files>(trust: &mut Trust<'_, F>, number: u64, edge: Edge) -> Result<Vec<(u64, Option<bool>)>, Stop> {
    let Some(tile) = Tile::in_tree(Kind::Entries, number, trust.size()) else { return Ok(Vec::new()) };
    let expected = trust.tile(0, number)?.as_chunks::<HASH_BYTES>().0.to_vec();
    let read = match bundle(trust.files(), tile) {
        Err(VerifyError::Bad(_)) => None,
        read => read?,
    };
    let read = read.map(|read| read.bytes).unwrap_or_default();
    let mut entries = Bundle::new(&read);
    let mut told: Vec<(u64, Option<bool>)> = Vec::with_capacity(expected.len());
    for (index, hash) in (number.saturating_mul(WIDTH)..).zip(&expected) {
        let entry = entries.next().filter(|entry| leaf_hash(entry) == *hash);
        let entry = entry.and_then(|entry| Entry::decode(entry).ok());
        let is_before = entry.and_then(|entry| match edge {
            Edge::Entry(edge) => Some(index < edge),
            Edge::Record(sequence) => Some(entry.sequence < sequence),
            Edge::Time(_) if entry.part > 0 => told.last().and_then(|(_, before)| *before),
            Edge::Time(time) => Envelope::decode(entry.bytes).ok().map(|envelope| envelope.header.unix_ns < time),
        });
        told.push((index, is_before));
    }
    Ok(told)
}
