//! Makes segments: from records as they come, and from other segments.

use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use super::IndexError;
use super::runs::{Run, put_run, take_run, without};
use super::seal::IndexKey;
use super::segment::{Segment, SegmentAt, Walk, Writer};
use super::terms::is_content;

/// Terms that are gathered in memory before they are written, bytes.
const MOST: usize = if cfg!(test) { 8 << 10 } else { 96 << 20 };
/// What a term costs beside its bytes.
const TERM: usize = 160;

/// Where a lane's segments are written.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) folder: &'a Path,
    pub(super) key: &'a IndexKey,
    pub(super) lane: &'a [u8; 32],
}

#[derive(Default)]
struct Gathered {
    /// Runs that are over, written, and where the last of them ended.
    written: Vec<u8>,
    end: u64,
    last: Run,
}

/// Terms of records, gathered in memory.
#[derive(Default)]
pub(super) struct Builder {
    terms: HashMap<Vec<u8>, Gathered>,
    bytes: usize,
}

impl Builder {
    /// Adds a record to a term. Records come in order.
    pub(super) fn add(&mut self, term: &[u8], sequence: u64) {
        let fresh = (sequence, sequence.saturating_add(1));
        let Some(gathered) = self.terms.get_mut(term) else {
            self.bytes += TERM + term.len();
            self.terms.insert(term.to_vec(), Gathered { last: fresh, ..Gathered::default() });
            return;
        };
        if sequence <= gathered.last.1 {
            gathered.last.1 = gathered.last.1.max(fresh.1);
            return;
        }
        let before = gathered.written.capacity();
        put_run(&mut gathered.written, gathered.end, gathered.last);
        self.bytes += gathered.written.capacity() - before;
        (gathered.end, gathered.last) = (gathered.last.1, fresh);
    }

    /// Nothing was added.
    pub(super) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// So much was added that it should be written.
    pub(super) const fn is_full(&self) -> bool {
        self.bytes >= MOST
    }

    /// Writes what was gathered as a segment of these records, and begins anew.
    pub(super) fn flush(&mut self, place: Place<'_>, records: Run, entry: u64) -> Result<SegmentAt, IndexError> {
        let mut terms: Vec<_> = std::mem::take(self).terms.into_iter().collect();
        terms.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut writer = Writer::create(place.folder, place.key, place.lane)?;
        for (term, gathered) in terms {
            let (mut rest, mut end, mut last) = (gathered.written.as_slice(), 0, Some(gathered.last));
            writer.term(&term, || {
                if let Some(run) = take_run(&mut rest, end) {
                    end = run.1;
                    return Ok(Some(run));
                }
                Ok(last.take())
            })?;
        }
        writer.finish(records, entry)
    }
}

/// The runs of one term in several walks, in order, joined where they touch, without what is dropped.
struct Joined<'a> {
    walks: &'a mut [Walk],
    term: &'a [u8],
    /// The next run of each.
    next: Vec<Option<Run>>,
    dropped: &'a [Run],
    ready: Vec<Run>,
    begun: Option<Run>,
}

impl Joined<'_> {
    fn advance(&mut self, place: usize) -> Result<(), IndexError> {
        let Some(walk) = self.walks.get_mut(place) else { return Ok(()) };
        let mut run = None;
        while run.is_none() && walk.term() == Some(self.term) {
            run = walk.run()?;
            if run.is_none() {
                walk.entry()?;
            }
        }
        if let Some(next) = self.next.get_mut(place) {
            *next = run;
        }
        Ok(())
    }

    /// The next run of any walk.
    fn any(&mut self) -> Result<Option<Run>, IndexError> {
        let first = self.next.iter().enumerate().filter_map(|(place, run)| Some(((*run)?, place))).min();
        let Some((run, place)) = first else { return Ok(None) };
        self.advance(place)?;
        Ok(Some(run))
    }

    fn run(&mut self) -> Result<Option<Run>, IndexError> {
        loop {
            if let Some(run) = self.ready.pop() {
                return Ok(Some(run));
            }
            let Some(mut run) = self.begun.take().map_or_else(|| self.any(), |run| Ok(Some(run)))? else {
                return Ok(None);
            };
            while let Some(next) = self.any()? {
                if next.0 > run.1 {
                    self.begun = Some(next);
                    break;
                }
                run.1 = run.1.max(next.1);
            }
            self.ready = without(run, self.dropped);
            self.ready.reverse();
        }
    }
}

/// Writes several segments as one. `dropped` are records of which nothing is to be left that was sealed.
pub(super) fn merge(
    place: Place<'_>,
    segments: &[Rc<Segment>],
    dropped: &[Run],
    records: Run,
    entry: u64,
) -> Result<SegmentAt, IndexError> {
    let mut walks = segments.iter().map(|segment| Walk::new(Rc::clone(segment))).collect::<Result<Vec<_>, _>>()?;
    let mut writer = Writer::create(place.folder, place.key, place.lane)?;
    while let Some(term) = walks.iter().filter_map(Walk::term).min().map(<[u8]>::to_vec) {
        let dropped = if is_content(&term) { dropped } else { &[] };
        let count = walks.len();
        let (next, ready) = (vec![None; count], Vec::new());
        let mut joined = Joined { walks: &mut walks, term: &term, next, dropped, ready, begun: None };
        (0..count).try_for_each(|place| joined.advance(place))?;
        writer.term(&term, || joined.run())?;
    }
    writer.finish(records, entry)
}
