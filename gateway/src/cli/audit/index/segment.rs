//! Segments: files of terms, each with the sequence numbers of its records, sorted and never changed.
//!
//! A segment is a row of sealed blocks: entries of a term and a part of its runs, in order of term and sequence number; and,
//! as last block, a directory that says where each block lies and what it begins with. The manifest says where that is.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::IndexError;
use super::runs::{Run, Runs, put, put_run, take, take_bytes, take_run};
use super::seal::{FileKey, ID, IndexKey, TAG, random};

/// A block is closed when it has so many bytes.
const BLOCK: usize = 16 * 1024;
/// Runs of a term that stand together at most.
const CHUNK: usize = 2_048;
/// The longest block that is read, sealed.
const MAX_BLOCK: u64 = 1 << 20;
const KIND: &str = "segment";
/// Number of the directory among a segment's blocks.
const DIRECTORY: u64 = u64::MAX;

/// Where a segment is, and its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentAt {
    /// Its random id; its file is named after that.
    pub(super) id: [u8; ID],
    /// Bytes of the file.
    pub(super) length: u64,
    /// Where the directory begins.
    pub(super) directory: u64,
    /// Sequence number of the first record that it was made from.
    pub(super) first: u64,
    /// The one behind the last.
    pub(super) end: u64,
    /// Place of the first record's first entry in the log.
    pub(super) entry: u64,
}

impl SegmentAt {
    /// The name of its file.
    pub(super) fn name(&self) -> String {
        name(&self.id)
    }
}

fn name(id: &[u8; ID]) -> String {
    let mut name: String = id.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    name.push_str(".segment");
    name
}

#[derive(Debug)]
struct BlockAt {
    term: Vec<u8>,
    start: u64,
    offset: u64,
    length: u64,
}

/// Writes a segment.
pub(super) struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    key: FileKey,
    id: [u8; ID],
    block: Vec<u8>,
    last: Vec<u8>,
    payload: Vec<u8>,
    blocks: Vec<BlockAt>,
    offset: u64,
}

impl Writer {
    /// Begins a segment in a lane's folder.
    pub(super) fn create(folder: &Path, key: &IndexKey, lane: &[u8; 32]) -> Result<Self, IndexError> {
        let id = random()?;
        let path = folder.join(name(&id));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = BufWriter::with_capacity(1 << 18, file.map_err(IndexError::io(&path))?);
        let key = key.file(KIND, lane, &id)?;
        let (block, last, payload) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { path, file, key, id, block, last, payload, blocks: Vec::new(), offset: 0 })
    }

    /// Writes a term and its runs. Terms come in order, each once.
    pub(super) fn term(
        &mut self,
        term: &[u8],
        mut runs: impl FnMut() -> Result<Option<Run>, IndexError>,
    ) -> Result<(), IndexError> {
        let mut next = runs()?;
        while let Some(first) = next {
            self.payload.clear();
            let (mut end, mut count) = (0, 0);
            while let Some(run) = next.filter(|_| count < CHUNK) {
                put_run(&mut self.payload, end, run);
                (end, count) = (run.1, count + 1);
                next = runs()?;
            }
            self.entry(term, first.0)?;
        }
        Ok(())
    }

    fn entry(&mut self, term: &[u8], start: u64) -> Result<(), IndexError> {
        if self.block.is_empty() {
            self.blocks.push(BlockAt { term: term.to_vec(), start, offset: self.offset, length: 0 });
            self.last.clear();
        }
        let shared = self.last.iter().zip(term).take_while(|(a, b)| a == b).count();
        let suffix = term.get(shared..).unwrap_or_default();
        put(&mut self.block, number(shared));
        put(&mut self.block, number(suffix.len()));
        self.block.extend_from_slice(suffix);
        put(&mut self.block, number(self.payload.len()));
        self.block.extend_from_slice(&self.payload);
        self.last.clear();
        self.last.extend_from_slice(term);
        if self.block.len() >= BLOCK { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), IndexError> {
        if self.block.is_empty() {
            return Ok(());
        }
        let number_of = number(self.blocks.len().saturating_sub(1));
        self.key.seal(number_of, &mut self.block)?;
        if let Some(at) = self.blocks.last_mut() {
            at.length = number(self.block.len());
        }
        self.put_block()
    }

    fn put_block(&mut self) -> Result<(), IndexError> {
        self.file.write_all(&self.block).map_err(IndexError::io(&self.path))?;
        self.offset += number(self.block.len());
        self.block.clear();
        Ok(())
    }

    /// Ends the segment and makes it durable, but for its name.
    pub(super) fn finish(mut self, records: (u64, u64), entry: u64) -> Result<SegmentAt, IndexError> {
        self.close()?;
        let directory = self.offset;
        let mut block = Vec::new();
        put(&mut block, number(self.blocks.len()));
        for at in &self.blocks {
            put(&mut block, number(at.term.len()));
            block.extend_from_slice(&at.term);
            put(&mut block, at.start);
            put(&mut block, at.length);
        }
        self.key.seal(DIRECTORY, &mut block)?;
        self.block = block;
        self.put_block()?;
        let file = self.file.into_inner().map_err(|error| IndexError::io(&self.path)(error.into_error()))?;
        file.sync_all().map_err(IndexError::io(&self.path))?;
        let (first, end) = records;
        Ok(SegmentAt { id: self.id, length: self.offset, directory, first, end, entry })
    }
}

fn number(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// A segment, opened.
pub(super) struct Segment {
    pub(super) at: SegmentAt,
    path: PathBuf,
    file: File,
    key: FileKey,
    blocks: Vec<BlockAt>,
}

impl Segment {
    /// Opens a segment and reads its directory.
    ///
    /// # Errors
    /// [`IndexError::Torn`] if it is not what was written.
    pub(super) fn open(folder: &Path, key: &IndexKey, lane: &[u8; 32], at: SegmentAt) -> Result<Self, IndexError> {
        let path = folder.join(at.name());
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(IndexError::Torn(path)),
            file => file.map_err(IndexError::io(&path))?,
        };
        let key = key.file(KIND, lane, &at.id)?;
        let length = file.metadata().map_err(IndexError::io(&path))?.len();
        let mut segment = Self { at, path, file, key, blocks: Vec::new() };
        if length != at.length {
            return Err(segment.torn());
        }
        let directory = segment.block_at(DIRECTORY, at.directory, at.length.saturating_sub(at.directory), u64::MAX)?;
        segment.blocks = read_directory(&directory, at.directory).ok_or_else(|| segment.torn())?;
        Ok(segment)
    }

    fn torn(&self) -> IndexError {
        IndexError::Torn(self.path.clone())
    }

    fn block_at(&self, number: u64, offset: u64, length: u64, most: u64) -> Result<Vec<u8>, IndexError> {
        // Nothing is allocated for what the file does not have.
        let fits = length <= most && offset.checked_add(length).is_some_and(|end| end <= self.at.length);
        let length = usize::try_from(length).ok().filter(|length| fits && *length >= TAG);
        let mut block = vec![0; length.ok_or_else(|| self.torn())?];
        match self.file.read_exact_at(&mut block, offset) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err(self.torn()),
            read => read.map_err(IndexError::io(&self.path))?,
        }
        self.key.open(number, block).ok_or_else(|| self.torn())
    }

    fn block(&self, place: usize) -> Result<Option<Vec<u8>>, IndexError> {
        let Some(at) = self.blocks.get(place) else { return Ok(None) };
        self.block_at(number(place), at.offset, at.length, MAX_BLOCK).map(Some)
    }
}

fn read_directory(mut block: &[u8], end: u64) -> Option<Vec<BlockAt>> {
    let count = take(&mut block)?;
    let (mut blocks, mut offset) = (Vec::new(), 0_u64);
    for _ in 0..count {
        let length = take(&mut block)?;
        let term = take_bytes(&mut block, length)?.to_vec();
        let (start, length) = (take(&mut block)?, take(&mut block)?);
        blocks.push(BlockAt { term, start, offset, length });
        offset = offset.checked_add(length)?;
    }
    (block.is_empty() && offset == end).then_some(blocks)
}

/// The entries of a segment from some block on, one after the other.
pub(super) struct Walk {
    segment: Rc<Segment>,
    place: usize,
    block: Vec<u8>,
    at: usize,
    term: Vec<u8>,
    payload: (usize, usize),
    end: u64,
    done: bool,
}

impl Walk {
    /// From the segment's beginning; stands at its first entry.
    pub(super) fn new(segment: Rc<Segment>) -> Result<Self, IndexError> {
        Self::from(segment, 0)
    }

    fn from(segment: Rc<Segment>, place: usize) -> Result<Self, IndexError> {
        let block = segment.block(place)?.unwrap_or_default();
        let mut walk = Self { segment, place, block, at: 0, term: Vec::new(), payload: (0, 0), end: 0, done: false };
        walk.entry()?;
        Ok(walk)
    }

    /// The entry's term; none behind the last.
    pub(super) fn term(&self) -> Option<&[u8]> {
        (!self.done).then_some(self.term.as_slice())
    }

    /// Goes to the next entry.
    pub(super) fn entry(&mut self) -> Result<(), IndexError> {
        if self.at == self.block.len() {
            if !self.block.is_empty() {
                self.place += 1;
            }
            self.block = self.segment.block(self.place)?.unwrap_or_default();
            (self.at, self.done) = (0, self.block.is_empty());
            self.term.clear();
            if self.done {
                return Ok(());
            }
        }
        self.read_entry().ok_or_else(|| self.segment.torn())
    }

    fn read_entry(&mut self) -> Option<()> {
        let mut rest = self.block.get(self.at..)?;
        let (shared, length) = (usize::try_from(take(&mut rest)?).ok()?, take(&mut rest)?);
        let suffix = take_bytes(&mut rest, length)?;
        if shared > self.term.len() {
            return None;
        }
        self.term.truncate(shared);
        self.term.extend_from_slice(suffix);
        let length = take(&mut rest)?;
        let start = self.block.len() - rest.len();
        take_bytes(&mut rest, length)?;
        self.at = self.block.len() - rest.len();
        (self.payload, self.end) = ((start, self.at), 0);
        Some(())
    }

    /// The entry's next run; none behind its last.
    pub(super) fn run(&mut self) -> Result<Option<Run>, IndexError> {
        let mut rest = self.block.get(self.payload.0..self.payload.1).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let run = take_run(&mut rest, self.end).ok_or_else(|| self.segment.torn())?;
        self.payload.0 = self.payload.1 - rest.len();
        self.end = run.1;
        Ok(Some(run))
    }
}

/// The runs of one term in a row of segments, which follow each other.
pub(super) struct Term {
    segments: Vec<Rc<Segment>>,
    term: Vec<u8>,
    /// The segment that is looked at, and where in it.
    at: usize,
    walk: Option<Walk>,
    held: Option<Run>,
}

impl Term {
    pub(super) fn new(segments: &[Rc<Segment>], term: Vec<u8>) -> Self {
        Self { segments: segments.to_vec(), term, at: 0, walk: None, held: None }
    }

    /// Places the walk at the last entry of the term that may hold `at`, or behind the term.
    fn enter(&mut self, at: u64) -> Result<(), IndexError> {
        let Some(segment) = self.segments.get(self.at) else { return Ok(()) };
        let key = (self.term.as_slice(), at);
        let behind = segment.blocks.partition_point(|block| (block.term.as_slice(), block.start) <= key);
        let place = behind.saturating_sub(1);
        // A walk that has come as far stays: it holds the block already.
        if self.walk.as_ref().is_none_or(|walk| walk.place < place) {
            let mut walk = Walk::from(Rc::clone(segment), place)?;
            while walk.term().is_some_and(|term| term < self.term.as_slice()) {
                walk.entry()?;
            }
            self.walk = Some(walk);
        }
        Ok(())
    }
}

impl Runs for Term {
    fn seek(&mut self, at: u64) -> Result<Option<Run>, IndexError> {
        if let Some(run) = self.held.filter(|run| run.1 > at) {
            return Ok(Some((run.0.max(at), run.1)));
        }
        loop {
            let Some(segment) = self.segments.get(self.at) else { return Ok(None) };
            if segment.at.end <= at {
                (self.at, self.walk) = (self.at + 1, None);
                continue;
            }
            self.enter(at)?;
            while let Some(walk) = self.walk.as_mut().filter(|walk| walk.term() == Some(self.term.as_slice())) {
                while let Some(run) = walk.run()? {
                    if run.1 > at {
                        self.held = Some(run);
                        return Ok(Some((run.0.max(at), run.1)));
                    }
                }
                walk.entry()?;
            }
            (self.at, self.walk) = (self.at + 1, None);
        }
    }
}

/// All terms that begin with one of these bytes, from one to before another, each with its runs.
pub(super) fn between(
    segment: &Rc<Segment>,
    from: &[u8],
    to: &[u8],
    each: &mut dyn FnMut(&[u8], Run),
) -> Result<(), IndexError> {
    let place = segment.blocks.partition_point(|block| block.term.as_slice() < from).saturating_sub(1);
    let mut walk = Walk::from(Rc::clone(segment), place)?;
    while let Some(term) = walk.term().filter(|term| *term < to).map(<[u8]>::to_vec) {
        if term.as_slice() >= from {
            while let Some(run) = walk.run()? {
                each(&term, run);
            }
        }
        walk.entry()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use gateway_audit::reviewer::private::ReviewerKey;
    use proptest::prelude::*;

    use super::super::runs::Held;
    use super::*;

    const LANE: [u8; 32] = [3; 32];

    fn key() -> IndexKey {
        IndexKey::derive(&ReviewerKey::new("r", [1; 32], [1; 32]).unwrap(), &[9; 32]).unwrap()
    }

    /// Everything that can be asked of a segment; none if it is torn somewhere.
    fn read(folder: &Path, at: SegmentAt, term: &[u8]) -> Option<BTreeMap<Vec<u8>, BTreeSet<u64>>> {
        let segment = Rc::new(Segment::open(folder, &key(), &LANE, at).ok()?);
        let mut all: BTreeMap<Vec<u8>, BTreeSet<u64>> = BTreeMap::new();
        let mut whole = true;
        let mut walk = Walk::new(Rc::clone(&segment)).ok()?;
        while let Some(term) = walk.term().map(<[u8]>::to_vec) {
            while let Some((start, end)) = walk.run().ok()? {
                // Runs of any length can be written; none is gone through here.
                all.entry(term.clone()).or_default().extend((start..end).take(1_000));
            }
            walk.entry().ok()?;
        }
        let (mut found, mut at) = (Term::new(std::slice::from_ref(&segment), term.to_vec()), 0);
        for _ in 0..1_000 {
            match found.seek(at) {
                Ok(Some(run)) => at = run.1,
                Ok(None) => break,
                Err(_) => return None,
            }
        }
        whole &= between(&segment, term, &[0xff], &mut |_, _| {}).is_ok();
        whole.then_some(all)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn terms_come_back_from_every_block(
            terms in prop::collection::btree_map(
                prop::collection::vec(0_u8..4, 1..40),
                prop::collection::btree_set(1_u64..9_000, 1..6_000),
                1..12,
            ),
            seeks in prop::collection::vec(1_u64..9_000, 1..20),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut writer = Writer::create(folder.path(), &key(), &LANE).unwrap();
            for (term, numbers) in &terms {
                let held = Held::new(numbers.iter().map(|number| (*number, number + 1)).collect());
                let mut runs = held.runs().iter().copied();
                writer.term(term, || Ok(runs.next())).unwrap();
            }
            let at = writer.finish((1, 9_000), 0).unwrap();
            let first = terms.keys().next().unwrap();
            let all = read(folder.path(), at, first);
            prop_assert_eq!(all.as_ref(), Some(&terms));
            let segment = Rc::new(Segment::open(folder.path(), &key(), &LANE, at).unwrap());
            let mut seeks = seeks;
            seeks.sort_unstable();
            for (term, numbers) in &terms {
                let mut found = Term::new(std::slice::from_ref(&segment), term.clone());
                for at in &seeks {
                    let next = found.seek(*at).unwrap().map(|run| run.0);
                    prop_assert_eq!(next, numbers.range(at..).next().copied());
                }
            }
            let mut absent = Term::new(std::slice::from_ref(&segment), vec![9]);
            prop_assert_eq!(absent.seek(1).unwrap(), None);
        }

        /// Bytes that were never a segment, sealed as if they were one, are read or refused.
        #[test]
        fn whatever_was_sealed_is_read_or_refused(
            blocks in prop::collection::vec(prop::collection::vec(0_u8..8, 0..60), 0..4),
            directory in prop::option::of(prop::collection::vec(0_u8..20, 0..40)),
            term in prop::collection::vec(0_u8..8, 0..3),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let id = [7; ID];
            let file = key().file(KIND, &LANE, &id).unwrap();
            let (mut bytes, mut listed) = (Vec::new(), Vec::new());
            put(&mut listed, number(blocks.len()));
            for (place, block) in blocks.iter().enumerate() {
                let mut block = block.clone();
                file.seal(number(place), &mut block).unwrap();
                [0, 0, number(block.len())].iter().for_each(|number| put(&mut listed, *number));
                bytes.extend_from_slice(&block);
            }
            let begins = number(bytes.len());
            let mut directory = directory.unwrap_or(listed);
            file.seal(DIRECTORY, &mut directory).unwrap();
            bytes.extend_from_slice(&directory);
            let at = SegmentAt { id, length: number(bytes.len()), directory: begins, first: 1, end: 9, entry: 0 };
            std::fs::write(folder.path().join(at.name()), bytes).unwrap();
            let _ = read(folder.path(), at, &term);
            let wrong = SegmentAt { directory: u64::MAX, ..at };
            prop_assert_eq!(read(folder.path(), wrong, &term), None);
        }
    }
}
