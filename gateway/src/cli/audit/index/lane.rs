//! The index of one lane: brought up to date with the log, and asked.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use gateway_audit::header::{Envelope, KeyId};
use gateway_audit::note::VerifierKey;
use gateway_audit::tiles::Files;
use gateway_audit::tiles::entry::{Entry, Joiner};
use gateway_audit::verify::{Against, Edge, Entries, Part, VerifyError, verify_part};

use super::super::scan::Record;
use super::build::{Builder, Place, merge};
use super::keys::{Keys, Opened};
use super::manifest::{KnownKey, Manifest, State};
use super::runs::{Held, Run, Runs, common, without};
use super::seal::IndexKey;
use super::segment::{Segment, SegmentAt, Term, between};
use super::terms::{self, Field};
use super::{IndexError, Question};

/// Records are bounded by their frames.
const MAX_RECORD: usize = gateway_audit::frame::MAX_RECORD;

/// The index of one lane.
pub(super) struct LaneIndex<'a> {
    folder: PathBuf,
    lane: [u8; 32],
    key: &'a IndexKey,
    origin: String,
    manifest: Manifest,
    segments: Vec<Rc<Segment>>,
    /// The first record that is not removed from the log.
    floor: u64,
}

/// What an answer could not be taken from.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unopened {
    /// Records that do not open.
    pub(super) records: u64,
    /// Why the last of them does not.
    pub(super) why: Option<String>,
}

impl<'a> LaneIndex<'a> {
    /// Opens the index of a log, or begins one.
    ///
    /// # Errors
    /// [`IndexError::Torn`] if something in it is not what was written.
    pub(super) fn open(root: &Path, key: &'a IndexKey, origin: &str) -> Result<Self, IndexError> {
        let lane = key.lane(origin)?;
        let folder = root.join(folder_name(&lane));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(IndexError::io(&folder))?;
        let manifest = Manifest::load(&folder, key, &lane)?.unwrap_or_else(Manifest::new);
        let origin = origin.to_owned();
        let mut index = Self { folder, lane, key, origin, manifest, segments: Vec::new(), floor: 1 };
        for at in &index.manifest.segments {
            index.segments.push(Rc::new(Segment::open(&index.folder, key, &lane, *at)?));
        }
        index.sweep()?;
        Ok(index)
    }

    /// Removes an index, whatever is in it.
    pub(super) fn remove(root: &Path, key: &IndexKey, origin: &str) -> Result<(), IndexError> {
        let folder = root.join(folder_name(&key.lane(origin)?));
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(IndexError::io(&folder)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Whether an index of this log has seen a checkpoint.
    pub(super) fn knows(root: &Path, key: &IndexKey, origin: &str) -> Result<bool, IndexError> {
        let lane = key.lane(origin)?;
        let manifest = Manifest::load(&root.join(folder_name(&lane)), key, &lane)?;
        Ok(manifest.is_some_and(|manifest| !manifest.note.is_empty()))
    }

    /// Removes files that the manifest does not name: what a crash left, and what was merged.
    fn sweep(&self) -> Result<(), IndexError> {
        let named: Vec<String> = self.manifest.segments.iter().map(SegmentAt::name).collect();
        for file in fs::read_dir(&self.folder).map_err(IndexError::io(&self.folder))?.flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if name.ends_with(".segment") && !named.contains(&name) {
                fs::remove_file(file.path()).map_err(IndexError::io(&file.path()))?;
            }
        }
        Ok(())
    }

    /// Records before this one were removed from the log: nothing is asked of them.
    pub(super) const fn begin_at(&mut self, floor: u64) {
        self.floor = floor;
    }

    /// The last record that it covers.
    pub(super) const fn covered(&self) -> u64 {
        self.manifest.sequence - 1
    }

    /// Number of entries that are in it.
    pub(super) const fn entries(&self) -> u64 {
        self.manifest.entry
    }

    /// The signed checkpoint that covers it; none before the first.
    pub(super) fn note(&self) -> Option<&[u8]> {
        Some(self.manifest.note.as_slice()).filter(|note| !note.is_empty())
    }

    fn place(&self) -> Place<'_> {
        Place { folder: &self.folder, key: self.key, lane: &self.lane }
    }

    fn torn(&self) -> IndexError {
        IndexError::Torn(self.folder.clone())
    }

    /// Adds what the log has beyond the index, verified against `note`, its signed checkpoint. What is bad in the log is
    /// given back; what is before that is in the index then.
    pub(super) fn update<F: Files>(
        &mut self,
        files: &mut F,
        log: &VerifierKey,
        note: &[u8],
        keys: &mut Keys,
    ) -> Result<Result<(), VerifyError>, IndexError> {
        let older = self.note().map(<[u8]>::to_vec);
        let against = Against { older: older.as_deref(), cosigners: &[] };
        let part = Part { from: Some(Edge::Entry(self.manifest.entry)), to: None };
        let begun = (self.manifest.sequence, self.manifest.entry);
        let mut taking = Taking {
            joiner: Joiner::new(self.manifest.sequence, MAX_RECORD),
            builder: Builder::default(),
            index: self,
            keys,
            begun,
            next: begun.1,
            note,
            failed: None,
        };
        let verified = verify_part(files, log, against, part, |index, entry| taking.take(index, entry));
        if let Some(failed) = taking.failed.take() {
            return Err(failed);
        }
        // A log that is another than the index's gives nothing to it.
        let other = matches!(&verified, Err(VerifyError::Bad(_)) if taking.builder.is_empty());
        if !other && (verified.is_ok() || !taking.builder.is_empty()) {
            taking.flush()?;
        }
        Ok(verified.map(|_| ()))
    }

    /// Makes the index what the data keys let it be: what is under keys that are gone goes, what is under keys that have
    /// come back comes.
    pub(super) fn refresh<F: Files>(
        &mut self,
        entries: &mut Entries<'_, F>,
        keys: &mut Keys,
    ) -> Result<Result<(), VerifyError>, IndexError> {
        let (mut closed, mut opened, mut changed) = (Vec::new(), Vec::new(), false);
        for (id, known) in &mut self.manifest.keys {
            let id = KeyId(*id);
            let stamp = keys.stamp(id).unwrap_or_default();
            if stamp == known.stamp {
                continue;
            }
            let (state, stamp) = keys.state(&self.origin, known.site, id);
            match (known.state, state) {
                (State::Opened, State::Gone | State::Closed) => closed.push(id),
                (State::Gone | State::Closed, State::Opened) => opened.push(id),
                _ => {}
            }
            (known.state, known.stamp, changed) = (state, stamp, true);
        }
        if !closed.is_empty() || !opened.is_empty() {
            for place in 0..self.segments.len() {
                if let Err(error) = self.rewrite(place, &closed, &opened, entries, keys)? {
                    return Ok(Err(error));
                }
            }
        }
        if changed {
            self.store()?;
        }
        Ok(Ok(()))
    }

    /// Writes a segment anew without what is under some keys, and with what is under others.
    fn rewrite<F: Files>(
        &mut self,
        place: usize,
        closed: &[KeyId],
        opened: &[KeyId],
        entries: &mut Entries<'_, F>,
        keys: &mut Keys,
    ) -> Result<Result<(), VerifyError>, IndexError> {
        let Some(segment) = self.segments.get(place).map(Rc::clone) else { return Ok(Ok(())) };
        let dropped = self.under(&segment, closed)?;
        let added = self.under(&segment, opened)?.from(self.floor);
        if dropped.runs().is_empty() && added.runs().is_empty() {
            return Ok(Ok(()));
        }
        let locator = self.locator()?;
        let (records, entry) = ((segment.at.first, segment.at.end), segment.at.entry);
        let (mut builder, mut parts) = (Builder::default(), vec![segment]);
        for sequence in added.runs().iter().flat_map(|(start, end)| *start..*end) {
            let envelope = match locator.envelope(entries, sequence) {
                Ok(envelope) => envelope.ok_or_else(|| self.torn())?,
                Err(error) => return Ok(Err(error)),
            };
            self.content(sequence, &envelope, keys, &mut builder);
            if builder.is_full() {
                parts.push(self.overlay(&mut builder, records, entry)?);
            }
        }
        if !builder.is_empty() {
            parts.push(self.overlay(&mut builder, records, entry)?);
        }
        let at = merge(self.place(), &parts, dropped.runs(), records, entry)?;
        self.exchange(place, 1, at)?;
        Ok(Ok(()))
    }

    fn overlay(&self, builder: &mut Builder, records: Run, entry: u64) -> Result<Rc<Segment>, IndexError> {
        let at = builder.flush(self.place(), records, entry)?;
        Ok(Rc::new(Segment::open(&self.folder, self.key, &self.lane, at)?))
    }

    /// The records of a segment that are under some keys.
    fn under(&self, segment: &Rc<Segment>, ids: &[KeyId]) -> Result<Held, IndexError> {
        let mut runs = Vec::new();
        for id in ids {
            let (mut term, mut at) = (Term::new(std::slice::from_ref(segment), terms::key(*id)), 0);
            while let Some(run) = term.seek(at)? {
                runs.push(run);
                at = run.1;
            }
        }
        Ok(Held::new(runs))
    }

    /// Puts one segment in the place of several.
    fn exchange(&mut self, place: usize, count: usize, at: SegmentAt) -> Result<(), IndexError> {
        let segment = Rc::new(Segment::open(&self.folder, self.key, &self.lane, at)?);
        self.manifest.segments.splice(place..place + count, [at]);
        self.segments.splice(place..place + count, [segment]);
        Ok(())
    }

    /// Merges the newest segments as long as that makes the next one at most half as large: so that there are few, and
    /// each record is written a few times only.
    fn compact(&mut self) -> Result<(), IndexError> {
        while let [.., before, last] = self.segments.as_slice()
            && before.at.length <= last.at.length.saturating_mul(2)
            && before.at.end == last.at.first
        {
            let (records, entry) = ((before.at.first, last.at.end), before.at.entry);
            let place = self.segments.len() - 2;
            let both = self.segments.get(place..).unwrap_or_default();
            let at = merge(self.place(), both, &[], records, entry)?;
            self.exchange(place, 2, at)?;
        }
        Ok(())
    }

    fn store(&self) -> Result<(), IndexError> {
        self.manifest.store(&self.folder, self.key, &self.lane)?;
        self.sweep()
    }

    /// Opens a record and adds its terms; what does not open is noted.
    fn content(&mut self, sequence: u64, envelope: &[u8], keys: &mut Keys, builder: &mut Builder) {
        let Ok(envelope) = Envelope::decode(envelope) else { return };
        let record = match keys.open(Some(&self.origin), sequence, &envelope) {
            Opened::Record(record) => serde_json::from_slice(&record).ok(),
            Opened::NoKey(_) => return,
            Opened::Bad(_) => None,
        };
        let Some(value) = record else {
            builder.add(&terms::unreadable(false), sequence);
            self.manifest.unreadable += 1;
            return;
        };
        let (lane, origin) = (String::new(), String::new());
        let record = Record { unix_ns: envelope.header.unix_ns, lane, origin, sequence, value };
        terms::of(&record).for_each(|term| builder.add(&term, sequence));
    }

    /// Where records are in the log.
    fn locator(&self) -> Result<Locator, IndexError> {
        let mut extra = Vec::new();
        for segment in &self.segments {
            between(segment, &[Field::Parts as u8], &[Field::Parts as u8 + 1], &mut |term, (start, end)| {
                let parts = terms::parts_of(term).unwrap_or(1);
                extra.extend((start..end).map(|sequence| (sequence, u64::from(parts.saturating_sub(1)))));
            })?;
        }
        extra.sort_unstable();
        let mut sum = 0;
        for (_, parts) in &mut extra {
            sum += *parts;
            *parts = sum;
        }
        let begins = self.segments.iter().map(|segment| (segment.at.first, segment.at.entry)).collect();
        Ok(Locator { begins, extra })
    }

    /// The records that answer a question, in order. `visit` gets each.
    pub(super) fn answer<F: Files>(
        &self,
        entries: &mut Entries<'_, F>,
        keys: &mut Keys,
        question: &Question,
        visit: &mut dyn FnMut(Record),
    ) -> Result<(Unopened, Result<(), VerifyError>), IndexError> {
        let mut asked: Vec<Box<dyn Runs>> = Vec::new();
        let content = question.terms();
        for term in &content {
            asked.push(Box::new(Term::new(&self.segments, term.clone())));
        }
        let time = self.time(question)?;
        asked.push(Box::new(time.all.clone()));
        let locator = self.locator()?;
        let mut unopened = Unopened::default();
        let mut at = 1;
        while let Some(run) = common(&mut asked, at)? {
            at = run.1;
            for sequence in run.0..run.1 {
                let envelope = match locator.envelope(entries, sequence) {
                    Ok(envelope) => envelope.ok_or_else(|| self.torn())?,
                    Err(error) => return Ok((unopened, Err(error))),
                };
                let taken = question.take(Some(&self.origin), sequence, &envelope, keys, visit);
                if let Some(why) = taken.filter(|_| content.is_empty()) {
                    unopened.records += 1;
                    unopened.why = Some(why);
                }
            }
        }
        // What does not open is under no term of what records say, and is counted by key.
        if !content.is_empty() {
            unopened = self.unopened(entries, keys, question, &time, &locator)?;
        }
        Ok((unopened, Ok(())))
    }

    fn time(&self, question: &Question) -> Result<Time, IndexError> {
        let whole = Held::new(vec![(self.floor, self.manifest.sequence)]);
        let (Some((from, to)), false) = (question.time(), self.segments.is_empty()) else {
            return Ok(Time { inner: whole.clone(), all: whole });
        };
        let (mut inner, mut all) = (Vec::new(), Vec::new());
        let (first, last) = (terms::minute(from), terms::minute(to));
        for segment in &self.segments {
            between(segment, &first, &terms::next_minute(to), &mut |term, run| {
                if term != first && term != last {
                    inner.push(run);
                }
                all.push(run);
            })?;
        }
        // What has no time is in all times.
        let mut timeless = Term::new(&self.segments, terms::unreadable(true));
        let mut at = 1;
        while let Some(run) = timeless.seek(at)? {
            inner.push(run);
            all.push(run);
            at = run.1;
        }
        Ok(Time { inner: Held::new(inner).from(self.floor), all: Held::new(all).from(self.floor) })
    }

    fn unopened<F: Files>(
        &self,
        entries: &mut Entries<'_, F>,
        keys: &mut Keys,
        question: &Question,
        time: &Time,
        locator: &Locator,
    ) -> Result<Unopened, IndexError> {
        let mut unopened = Unopened::default();
        let without_key = |known: &KnownKey| known.state != State::Opened;
        for (id, known) in self.manifest.keys.iter().filter(|(_, known)| without_key(known)) {
            let count = match question.time() {
                None if self.floor == 1 => known.records,
                None | Some(_) => self.count(terms::key(KeyId(*id)), entries, question, time, locator)?,
            };
            if count > 0 {
                unopened.why = keys.why(known.site, KeyId(*id)).or(unopened.why);
            }
            unopened.records += count;
        }
        if self.manifest.unreadable > 0 {
            for timeless in [false, true] {
                let count = self.count(terms::unreadable(timeless), entries, question, time, locator)?;
                unopened.records += count;
                if count > 0 {
                    unopened.why = Some("they are not what was sealed under their data keys".to_owned());
                }
            }
        }
        Ok(unopened)
    }

    /// Number of a term's records in the time that is asked for. Of the minutes at its ends, each record is looked at.
    fn count<F: Files>(
        &self,
        term: Vec<u8>,
        entries: &mut Entries<'_, F>,
        question: &Question,
        time: &Time,
        locator: &Locator,
    ) -> Result<u64, IndexError> {
        let mut asked: Vec<Box<dyn Runs>> = vec![Box::new(Term::new(&self.segments, term)), Box::new(time.all.clone())];
        let (mut count, mut at) = (0, 1);
        while let Some(run) = common(&mut asked, at)? {
            at = run.1;
            count += run.1 - run.0;
            for sequence in without(run, time.inner.runs()).into_iter().flat_map(|(start, end)| start..end) {
                let envelope = locator.envelope(entries, sequence).ok().flatten();
                let header =
                    envelope.as_deref().and_then(|envelope| Envelope::decode(envelope).ok().map(|e| e.header.unix_ns));
                if header.is_some_and(|time| !question.covers(time)) {
                    count -= 1;
                }
            }
        }
        Ok(count)
    }
}

/// The records of the time that is asked for.
struct Time {
    /// Those of minutes that are wholly in it.
    inner: Held,
    /// Those of all its minutes.
    all: Held,
}

/// Where records are in the log, whatever the number of their parts.
struct Locator {
    /// The first record of each segment, and its first entry.
    begins: Vec<(u64, u64)>,
    /// Records with more than one entry, and how many more there are up to and with theirs.
    extra: Vec<(u64, u64)>,
}

impl Locator {
    /// How many entries more than records there are before this one.
    fn more(&self, sequence: u64) -> u64 {
        let before = self.extra.partition_point(|(record, _)| *record < sequence);
        before.checked_sub(1).and_then(|place| self.extra.get(place)).map_or(0, |(_, sum)| *sum)
    }

    /// A record's envelope, verified; none if something else stands there, so that the index is not this log's.
    fn envelope<F: Files>(&self, entries: &mut Entries<'_, F>, sequence: u64) -> Result<Option<Vec<u8>>, VerifyError> {
        let segment = self.begins.partition_point(|(first, _)| *first <= sequence).checked_sub(1);
        let Some((first, entry)) = segment.and_then(|segment| self.begins.get(segment)) else { return Ok(None) };
        let extra = self.more(sequence).saturating_sub(self.more(*first));
        let mut index = entry.saturating_add(sequence - first).saturating_add(extra);
        let mut envelope = Vec::new();
        let mut part = 0;
        loop {
            let Some(entry) = entries.get(index).map_err(|error| of_record(error, sequence))? else { return Ok(None) };
            if (entry.sequence, entry.part) != (sequence, part) || envelope.len() > MAX_RECORD {
                return Ok(None);
            }
            envelope.extend_from_slice(entry.bytes);
            part += 1;
            index += 1;
            if part == entry.parts {
                return Ok(Some(envelope));
            }
        }
    }
}

/// Says whose entry is bad.
fn of_record(mut error: VerifyError, sequence: u64) -> VerifyError {
    if let VerifyError::Bad(bad) = &mut error {
        bad.sequence = Some(sequence);
    }
    error
}

/// What takes entries into the index as they are verified.
struct Taking<'t, 'a, 'n> {
    index: &'t mut LaneIndex<'a>,
    keys: &'t mut Keys,
    joiner: Joiner,
    builder: Builder,
    /// First record and entry of the segment that is being built.
    begun: (u64, u64),
    /// Place of the entry that comes next.
    next: u64,
    note: &'n [u8],
    failed: Option<IndexError>,
}

impl Taking<'_, '_, '_> {
    fn take(&mut self, place: u64, entry: &Entry<'_>) {
        if self.failed.is_some() {
            return;
        }
        // What was removed by retention is passed over as a whole: a record begins behind it.
        if place != self.next && entry.part == 0 && self.joiner.is_between_records() {
            self.failed = self.skip(place, entry.sequence).err();
        }
        self.next = place.saturating_add(1);
        let (index, keys, builder) = (&mut *self.index, &mut *self.keys, &mut self.builder);
        let mut whole = false;
        let pushed = self.joiner.push(entry, |sequence, envelope| {
            whole = true;
            index.take(sequence, entry.parts, envelope.unwrap_or_default(), keys, builder);
        });
        if pushed.is_err() {
            self.failed = Some(index.torn());
            return;
        }
        if whole {
            (index.manifest.sequence, index.manifest.entry) = (self.joiner.sequence(), place.saturating_add(1));
            if builder.is_full() {
                self.failed = self.flush().err();
            }
        }
    }

    /// Goes on behind a gap.
    fn skip(&mut self, place: u64, sequence: u64) -> Result<(), IndexError> {
        self.flush()?;
        (self.index.manifest.sequence, self.index.manifest.entry) = (sequence, place);
        self.begun = (sequence, place);
        self.joiner = Joiner::new(sequence, MAX_RECORD);
        Ok(())
    }

    /// Writes what was taken, and says so durably.
    fn flush(&mut self) -> Result<(), IndexError> {
        let end = (self.index.manifest.sequence, self.index.manifest.entry);
        if end.0 > self.begun.0 {
            let at = self.builder.flush(self.index.place(), (self.begun.0, end.0), self.begun.1)?;
            let segments = self.index.segments.len();
            self.index.exchange(segments, 0, at)?;
            self.index.compact()?;
        } else if self.index.manifest.note == self.note {
            return Ok(());
        }
        self.index.manifest.note = self.note.to_vec();
        self.begun = end;
        self.index.store()
    }
}

impl LaneIndex<'_> {
    /// Takes a record that was verified.
    fn take(&mut self, sequence: u64, parts: u16, envelope: &[u8], keys: &mut Keys, builder: &mut Builder) {
        if parts > 1 {
            builder.add(&terms::parts(parts), sequence);
        }
        let Ok(read) = Envelope::decode(envelope) else {
            builder.add(&terms::unreadable(true), sequence);
            self.manifest.unreadable += 1;
            return;
        };
        builder.add(&terms::minute(read.header.unix_ns), sequence);
        let (site, id) = (read.header.site, read.header.key);
        builder.add(&terms::key(id), sequence);
        let origin = &self.origin;
        let known = self.manifest.keys.entry(id.0).or_insert_with(|| {
            let (state, stamp) = keys.state(origin, site, id);
            KnownKey { site, records: 0, state, stamp }
        });
        known.records += 1;
        if known.state == State::Opened {
            self.content(sequence, envelope, keys, builder);
        }
    }
}

fn folder_name(lane: &[u8; 32]) -> String {
    lane.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
