//! The one thread that writes the log: takes what lies in the lanes, gives it its place in the chain, makes it
//! durable with one `fdatasync`, and tells the lanes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_audit::frame::Chain;
use gateway_audit::record::{AuditFailure, Full, Gap, Stop};
use gateway_audit::{Header, Record};

use super::lane::{Buffer, LaneCore};
use super::options::Durability;
use super::sealing::{Sealer, Unsealed};
use super::segments::{Failure, Preparation, Segments};
use super::shared::{Observer, Shared};
use super::tree::{Group, Handover};

/// Longest sleep; whatever is due by time is done within it.
const NAP: Duration = Duration::from_millis(500);
/// What nobody waits for is on disk within this time.
const LAZY: Duration = Duration::from_millis(50);
/// Buffers above this are not kept for the next group.
const KEPT_BYTES: usize = 4 << 20;

/// What one lane gave to a group.
struct Batch {
    lane: usize,
    buffer: Buffer,
    /// The last ticket among it.
    ticket: u64,
}

/// A failure that is not overcome.
struct Trouble {
    failure: Failure,
    /// The first record that the failed file does not hold for sure.
    sequence: u64,
    since: Instant,
    retry_at: Instant,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    observer: Arc<dyn Observer>,
    segments: Segments,
    chain: Chain,
    lanes: Vec<Arc<LaneCore>>,
    /// Records of the writer itself; they come first in a group.
    own: Buffer,
    batches: Vec<Batch>,
    /// Empty buffers to swap with.
    empty: Vec<Buffer>,
    sealer: Sealer,
    /// The group being committed.
    group: Group,
    handover: Arc<Handover>,
    scratch: Vec<u8>,
    trouble: Option<Trouble>,
    prepare_at: Instant,
    /// When the lanes' buffers were last taken.
    collected: Instant,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        observer: Arc<dyn Observer>,
        segments: Segments,
        chain: Chain,
        handover: Arc<Handover>,
        sealer: Sealer,
    ) -> Self {
        Self {
            shared,
            observer,
            segments,
            chain,
            lanes: Vec::new(),
            own: Buffer::default(),
            batches: Vec::new(),
            empty: Vec::new(),
            sealer,
            group: Group::default(),
            handover,
            scratch: Vec::new(),
            trouble: None,
            prepare_at: Instant::now(),
            collected: Instant::now(),
        }
    }

    /// Queues a record of the writer itself.
    pub(super) fn say(&mut self, record: &impl Record) {
        let options = &self.shared.options;
        let reading = self.shared.clock.now();
        let header = Header { node: &options.node, boot: &options.boot, stamp: reading.stamp() };
        self.own.write(record, &header, &mut self.scratch);
    }

    /// The first commit: the reserve, a segment, and what [`say`](Self::say) queued.
    pub(super) fn begin(&mut self) -> Result<(), Failure> {
        self.segments.prepare_reserve()?;
        self.ready(u64::MAX)?;
        self.segments.begin(&self.chain)?;
        self.commit()
    }

    /// Writes until told to stop. Returns whether the `stop` record is durable.
    pub(super) fn run(mut self) -> Result<(), Failure> {
        // However the thread ends, nobody is left waiting for it.
        let _close = CloseOnDrop(self.shared.clone());
        while !self.shared.is_stopping() {
            self.shared.update_lanes(&mut self.lanes);
            if self.trouble.is_some() && !self.overcome() {
                self.sleep();
                continue;
            }
            let since = Instant::now();
            if self.is_due(since) {
                self.collected = since;
                self.collect();
            }
            if self.has_work() {
                if let Err(failure) = self.commit() {
                    self.fail(failure);
                    continue;
                }
                self.maintain();
                if self.is_before_answer() {
                    self.shared.cover(since);
                    continue;
                }
            } else {
                self.maintain();
            }
            self.shared.cover(since);
            self.sleep();
        }
        self.finish()
    }

    /// Somebody waits, or what nobody waits for has waited long enough.
    fn is_due(&self, now: Instant) -> bool {
        !self.is_before_answer()
            || self.lanes.iter().any(|lane| lane.is_rung())
            || now.saturating_duration_since(self.collected) >= LAZY
    }

    fn is_before_answer(&self) -> bool {
        matches!(self.shared.options.durability, Durability::BeforeAnswer)
    }

    fn has_work(&self) -> bool {
        !self.batches.is_empty() || !self.own.entries.is_empty()
    }

    /// Sleeps until a lane has work, or something is due.
    fn sleep(&self) {
        self.shared.set_asleep(true);
        let nap = match (&self.trouble, self.shared.options.durability) {
            (Some(trouble), _) => trouble.retry_at.saturating_duration_since(Instant::now()).min(NAP),
            (None, Durability::Interval(bound)) => bound / 2,
            (None, Durability::BeforeAnswer) if self.lanes.iter().any(|lane| lane.is_rung()) => Duration::ZERO,
            (None, Durability::BeforeAnswer) => LAZY,
        };
        if !nap.is_zero() && !self.shared.is_stopping() {
            std::thread::park_timeout(nap);
        }
        self.shared.set_asleep(false);
    }

    /// Takes the lanes' buffers.
    fn collect(&mut self) {
        for (lane, core) in self.lanes.iter().enumerate() {
            let mut buffer = self.empty.pop().unwrap_or_default();
            let ticket = core.take(&mut buffer);
            if buffer.entries.is_empty() {
                self.empty.push(buffer);
            } else {
                self.batches.push(Batch { lane, buffer, ticket });
            }
        }
        if let Some(gap) = self.shared.take_gap() {
            tracing::error!(records = gap.records, "audit records could not be kept");
            self.say(&Gap { records: gap.records, from_unix_ns: gap.from_unix_ns, until_unix_ns: gap.until_unix_ns });
        }
    }

    /// Has data keys ready for the writer's own records and for batches as long as they fit into `room` bytes. Says how
    /// many batches that is. Where room is bounded, a batch without a key does not fit.
    fn ready(&mut self, room: u64) -> Result<usize, Failure> {
        self.sealer.follow_reviewers();
        let mut sequence = self.chain.next..;
        for (written, sequence) in self.own.records().zip(&mut sequence) {
            self.sealer.ready(&written, sequence)?;
        }
        let mut left = usize::try_from(room).unwrap_or(usize::MAX).saturating_sub(self.own.most_bytes());
        for (place, batch) in self.batches.iter().enumerate() {
            match left.checked_sub(batch.buffer.most_bytes()) {
                Some(rest) => left = rest,
                None => return Ok(place),
            }
            for (written, sequence) in batch.buffer.records().zip(&mut sequence) {
                match self.sealer.ready(&written, sequence) {
                    Err(_) if room != u64::MAX => return Ok(place),
                    ready => ready?,
                }
            }
        }
        Ok(self.batches.len())
    }

    /// Builds the group's frames: the writer's own records, and so many batches. Says how many records that is, and the
    /// chain's end behind them.
    fn frame(&mut self, fits: usize) -> Result<(u64, Chain), Failure> {
        let mut chain = self.chain;
        let durable = chain.next - 1;
        self.group.clear();
        self.group.first = chain.next;
        frame_buffer(&self.own, &mut chain, durable, &mut self.sealer, &mut self.group)?;
        for batch in self.batches.iter().take(fits) {
            frame_buffer(&batch.buffer, &mut chain, durable, &mut self.sealer, &mut self.group)?;
        }
        Ok((chain.next - self.chain.next, chain))
    }

    /// Makes the group durable and tells its lanes. After an error nothing counts as written.
    fn commit(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        let fits = self.ready(self.segments.room())?;
        let (records, chain) = self.frame(fits)?;
        let prepared = self.segments.has_spare() || self.shared.options.preparation == Preparation::Inline;
        if prepared
            && self.segments.wants_next(self.group.frames.len())
            && let Err(failure) = self.segments.begin(&self.chain)
        {
            // As long as the old segment is whole, the group may make it longer than planned.
            tracing::warn!(%failure, "no new audit segment");
        }
        self.segments.commit(&self.group.frames)?;
        self.chain = chain;
        let bytes = length(&self.group.frames);
        // Handed over before it is told: what is durable is on its way to the tree.
        self.handover.give(&mut self.group);
        self.shared.committed(records, bytes, chain.next - 1);
        for Batch { lane, mut buffer, ticket } in self.batches.drain(..fits) {
            if let Some(lane) = self.lanes.get(lane) {
                lane.publish(ticket, length(&buffer.bytes));
            }
            buffer.clear();
            if buffer.bytes.capacity() <= KEPT_BYTES {
                self.empty.push(buffer);
            }
        }
        self.own.clear();
        self.observer.committed(records, bytes, started.elapsed());
        Ok(())
    }

    /// A file failed: it is finished (A5). Tries a fresh one at once; if that fails too, whoever waits is told.
    fn fail(&mut self, failure: Failure) {
        tracing::error!(%failure, "the audit log failed");
        self.segments.abandon();
        let now = Instant::now();
        self.trouble = Some(Trouble { failure, sequence: self.chain.next, since: now, retry_at: now });
        if !self.overcome()
            && let Some(trouble) = &self.trouble
        {
            self.shared.set_unavailable(&trouble.failure);
            self.shared.wake_lanes();
            self.observer.available(false);
        }
    }

    /// When it is time: tries a fresh segment, with a record of the failure and all that was not acknowledged.
    /// Where the disk is full, the reserve takes what it can, and the trouble goes on.
    fn overcome(&mut self) -> bool {
        let now = Instant::now();
        match &mut self.trouble {
            None => return true,
            Some(trouble) if now < trouble.retry_at => return false,
            Some(trouble) => trouble.retry_at = now + self.shared.options.retry,
        }
        // Without keys no segment is begun: each that holds no record would be kept as evidence.
        let begun = self.ready(u64::MAX).and_then(|_| self.segments.begin(&self.chain));
        match begun {
            Ok(()) => {
                if self.commit_report(None) {
                    self.trouble = None;
                    self.shared.set_serving();
                    self.observer.available(true);
                    tracing::warn!("the audit log can be written again");
                    return true;
                }
            }
            Err(failure) if failure.is_full() && !self.segments.in_reserve() => {
                if self.segments.begin_reserve(&self.chain).is_ok() {
                    // Before those are told whose records the reserve takes: whoever hears of it sees the state.
                    self.shared.set_unavailable(&failure);
                    self.commit_report(Some(&failure));
                }
            }
            Err(failure) => tracing::warn!(%failure, "the audit log still fails"),
        }
        false
    }

    /// Commits what is pending behind a record of the failure, and of the full disk where it is one.
    fn commit_report(&mut self, full: Option<&Failure>) -> bool {
        let mark = self.own.mark();
        if let Some(trouble) = &self.trouble {
            let error = trouble.failure.error.to_string();
            let file = trouble.failure.file.clone();
            let report = AuditFailure {
                operation: trouble.failure.operation,
                errno: trouble.failure.error.raw_os_error(),
                error: &error,
                segment: &file,
                failed_sequence: trouble.sequence,
                unavailable_us: u64::try_from(trouble.since.elapsed().as_micros()).unwrap_or(u64::MAX),
            };
            self.say(&report);
        }
        if let Some(failure) = full {
            self.say(&Full { error: &failure.to_string() });
        }
        match self.commit() {
            Ok(()) => true,
            Err(failure) => {
                tracing::error!(%failure, "the audit log failed again");
                self.segments.abandon();
                self.own.cut(mark);
                false
            }
        }
    }

    /// Prepares the next segment, and the reserve where it was used.
    fn maintain(&mut self) {
        if self.shared.options.preparation == Preparation::Inline && self.segments.has_reserve() {
            return;
        }
        if self.prepare_at > Instant::now() {
            return;
        }
        let next = if self.segments.is_half_full() { self.segments.prepare() } else { Ok(()) };
        let reserve = if self.segments.in_reserve() { Ok(()) } else { self.segments.prepare_reserve() };
        let key = self.sealer.prepare(self.shared.clock.now().unix_ns, self.chain.next);
        if let Err(failure) = next.and(reserve).and(key) {
            self.prepare_at = Instant::now() + self.shared.options.retry;
            tracing::warn!(%failure, "the audit log cannot prepare its next file");
        }
    }

    /// The last commit: everything queued, then `stop`.
    fn finish(mut self) -> Result<(), Failure> {
        self.shared.set_closing();
        self.shared.update_lanes(&mut self.lanes);
        self.collect();
        if let Some(trouble) = &mut self.trouble {
            trouble.retry_at = Instant::now();
        }
        if self.trouble.is_none()
            && self.has_work()
            && let Err(failure) = self.commit()
        {
            self.fail(failure);
        } else {
            self.overcome();
        }
        let cause = self.shared.cause();
        self.say(&Stop { cause: &cause });
        let stopped = self.commit();
        let unsaved = self.batches.len();
        if unsaved > 0 {
            tracing::error!(batches = unsaved, "the audit log ends without records that could not be written");
        }
        self.segments.close();
        stopped
    }
}

/// Frames every record of a buffer.
fn frame_buffer(
    buffer: &Buffer,
    chain: &mut Chain,
    durable: u64,
    sealer: &mut Sealer,
    group: &mut Group,
) -> Result<(), Failure> {
    for written in buffer.records() {
        let write = |sequence, out: &mut Vec<u8>| sealer.seal(&written, sequence, out);
        match chain.append(durable, &mut group.frames, &mut group.leaves, write) {
            Ok(_) => {}
            // Lanes refuse what does not fit a frame; the writer's own records are short.
            Err(Unsealed::Length(error)) => tracing::error!(%error, "a record was left out of the audit log"),
            Err(error) => return Err(Failure::of("seal", "record")(std::io::Error::other(error.to_string()))),
        }
    }
    Ok(())
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Whatever ends the writer, a panic included, closes the log.
struct CloseOnDrop(Arc<Shared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.set_closed();
    }
}
