//! Lanes: how workers hand records to the writer and learn that they are durable.
//!
//! A lane is a buffer that the writer takes whole. Between a worker and the writer there is one uncontended lock,
//! one wake to the writer if it sleeps and one wake back for each commit group; the worker then wakes its own
//! waiters in order.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::task::AtomicWaker;
use gateway_audit::frame::{FRAME_HEADER, MAX_RECORD};
use gateway_audit::header::{Kind, MAX_HEADER, TAG};
use gateway_audit::{Header, Record, Reference, Scope, Splice};
use policy::Refusal;

use super::shared::Shared;
use crate::clock::Reading;

/// Most bytes that a place in the log adds to a written record: the digits of its sequence number, and an envelope.
const PLACE_BYTES: usize = 22 + MAX_HEADER + TAG;

/// One written record in a lane's buffer. Its bytes are those of site, class and reference, one after the other, and
/// then the record's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    kind: Kind,
    unix_ns: i64,
    site: Option<u16>,
    class: Option<u16>,
    reference: u16,
    /// Bytes in all.
    length: usize,
    splice: Splice,
}

/// A written record, taken apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) kind: Kind,
    pub(super) unix_ns: i64,
    pub(super) scope: Scope<'a>,
    pub(super) reference: &'a str,
    /// All but the digits of its sequence number.
    pub(super) json: &'a [u8],
    pub(super) splice: Splice,
}

impl Entry {
    /// Writes a record into `out`, which is empty.
    fn write(record: &impl Record, header: &Header<'_>, out: &mut Vec<u8>) -> Self {
        let put = |text: &str, out: &mut Vec<u8>| {
            // Names and ids are far shorter; a longer one would be refused with its record, by length.
            out.extend_from_slice(text.as_bytes());
            u16::try_from(text.len()).unwrap_or(u16::MAX)
        };
        let scope = record.scope();
        let site = scope.site.map(|site| put(site, out));
        let class = scope.class.map(|class| put(class, out));
        let reference = match record.reference() {
            Reference::None => 0,
            Reference::Request(text) | Reference::Text(text) => put(text, out),
            Reference::Change { number, fingerprint } => {
                let number = put(itoa::Buffer::new().format(number), out);
                number + put("-", out) + put(fingerprint, out)
            }
        };
        let splice = record.write(header, out);
        let (kind, unix_ns) = (record.kind(), header.stamp.unix_ns);
        Self { kind, unix_ns, site, class, reference, length: out.len(), splice }
    }

    fn read<'a>(&self, bytes: &'a [u8]) -> Written<'a> {
        let mut rest = bytes;
        let mut text = |length: u16| {
            let (text, behind) = rest.split_at_checked(usize::from(length)).unwrap_or_default();
            rest = behind;
            std::str::from_utf8(text).unwrap_or_default()
        };
        let scope = Scope { site: self.site.map(&mut text), class: self.class.map(&mut text) };
        let reference = text(self.reference);
        Written { kind: self.kind, unix_ns: self.unix_ns, scope, reference, json: rest, splice: self.splice }
    }
}

/// Records that were not yet taken by the writer.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: Vec<Entry>,
}

impl Buffer {
    fn push(&mut self, bytes: &[u8], entry: Entry) {
        self.bytes.extend_from_slice(bytes);
        self.entries.push(entry);
    }

    /// Writes a record at the end. `scratch` is a buffer to write with.
    pub(super) fn write(&mut self, record: &impl Record, header: &Header<'_>, scratch: &mut Vec<u8>) {
        scratch.clear();
        let entry = Entry::write(record, header, scratch);
        self.push(scratch, entry);
    }

    /// The records, in order.
    pub(super) fn records(&self) -> impl Iterator<Item = Written<'_>> {
        let mut rest = self.bytes.as_slice();
        self.entries.iter().map(move |entry| {
            let (bytes, behind) = rest.split_at_checked(entry.length).unwrap_or((rest, &[]));
            rest = behind;
            entry.read(bytes)
        })
    }

    /// The most bytes that its records take in a segment.
    pub(super) fn most_bytes(&self) -> usize {
        self.bytes.len() + self.entries.len() * (PLACE_BYTES + FRAME_HEADER)
    }

    /// The buffer's end, for [`cut`](Self::cut).
    pub(super) fn mark(&self) -> (usize, usize) {
        (self.bytes.len(), self.entries.len())
    }

    /// Takes back what was pushed behind a mark.
    pub(super) fn cut(&mut self, mark: (usize, usize)) {
        self.bytes.truncate(mark.0);
        self.entries.truncate(mark.1);
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }
}

#[derive(Debug, Default)]
struct Queue {
    buffer: Buffer,
    /// Tickets given out: the number of the last record.
    tickets: u64,
    /// Bytes ever queued.
    bytes: u64,
}

/// The part of a lane that both sides see.
#[derive(Debug, Default)]
pub(super) struct LaneCore {
    queue: Mutex<Queue>,
    /// Every ticket up to this one is durable.
    durable: AtomicU64,
    /// Somebody waits for the tickets up to this one. What nobody waits for rides along, or goes with the writer's
    /// next nap: a commit of its own would cost as much as one that hundreds share.
    rung: AtomicU64,
    /// Bytes of durable records.
    durable_bytes: AtomicU64,
    /// Whoever wakes the lane's waiters.
    waker: AtomicWaker,
    /// Waiters of a lane that many threads share.
    notify: tokio::sync::Notify,
}

impl LaneCore {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Swaps the queued records with an empty buffer. Says the last ticket taken.
    pub(super) fn take(&self, empty: &mut Buffer) -> u64 {
        let mut queue = self.lock();
        std::mem::swap(&mut queue.buffer, empty);
        queue.tickets
    }

    /// Records and bytes that are not durable.
    pub(super) fn depth(&self) -> (u64, u64) {
        let queue = self.lock();
        let records = queue.tickets.saturating_sub(self.durable.load(Ordering::Acquire));
        (records, queue.bytes.saturating_sub(self.durable_bytes.load(Ordering::Acquire)))
    }

    /// The writer made everything up to a ticket durable.
    pub(super) fn publish(&self, ticket: u64, bytes: u64) {
        self.durable_bytes.fetch_add(bytes, Ordering::Release);
        self.durable.store(ticket, Ordering::Release);
        self.wake();
    }

    /// Has the lane's waiters look again.
    pub(super) fn wake(&self) {
        self.waker.wake();
        self.notify.notify_waiters();
    }

    fn push(&self, shared: &Shared, bytes: &[u8], entry: Entry, follows: bool) -> Result<Ticket, Refusal> {
        if shared.is_closing() || !follows && !shared.serves() {
            return Err(Refusal::AuditUnavailable);
        }
        if bytes.len() + PLACE_BYTES > MAX_RECORD {
            return Err(Refusal::InternalError);
        }
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let share = |limit: u64| if follows { limit } else { limit - limit / 4 };
        let ticket = {
            let mut queue = self.lock();
            let records = queue.tickets.saturating_sub(self.durable.load(Ordering::Acquire));
            let held = queue.bytes.saturating_sub(self.durable_bytes.load(Ordering::Acquire));
            if records >= share(shared.options.queue_records) || held + size > share(shared.options.queue_bytes) {
                let all = Ticket(queue.tickets);
                drop(queue);
                // Even if nobody waits for what is queued: whoever comes next does.
                self.ring(shared, all);
                return Err(Refusal::AuditBusy);
            }
            queue.buffer.push(bytes, entry);
            queue.tickets += 1;
            queue.bytes += size;
            queue.tickets
        };
        Ok(Ticket(ticket))
    }

    /// Has the writer commit everything up to a ticket.
    fn ring(&self, shared: &Shared, ticket: Ticket) {
        if ticket != Ticket::UNRECORDED && self.rung.fetch_max(ticket.0, Ordering::SeqCst) < ticket.0 {
            shared.wake_writer();
        }
    }

    /// Somebody waits for a record that is not durable.
    pub(super) fn is_rung(&self) -> bool {
        self.rung.load(Ordering::SeqCst) > self.durable.load(Ordering::Acquire)
    }

    fn resolve(&self, shared: &Shared, ticket: Ticket) -> Option<Result<(), Refusal>> {
        if ticket == Ticket::UNRECORDED || self.durable.load(Ordering::Acquire) >= ticket.0 {
            return Some(Ok(()));
        }
        if shared.serves_unrecorded() {
            return Some(Ok(()));
        }
        if shared.is_unavailable() || shared.is_closed() {
            return Some(Err(Refusal::AuditUnavailable));
        }
        shared.answers_at_once().then_some(Ok(()))
    }
}

/// The place of a record in its lane.
#[must_use = "a record is durable only once `durable` says so"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

impl Ticket {
    /// The record was counted into a gap, because the operator chose to serve without.
    const UNRECORDED: Self = Self(u64::MAX);
}

/// Writes a record into a scratch buffer and hands it over.
fn append(
    shared: &Shared,
    core: &LaneCore,
    scratch: &mut Vec<u8>,
    record: &impl RecordDyn,
    reading: &Reading,
) -> Result<Ticket, Refusal> {
    scratch.clear();
    let header = Header { node: &shared.options.node, boot: &shared.options.boot, stamp: reading.stamp() };
    let entry = record.write_to(&header, scratch);
    match core.push(shared, scratch, entry, record.follows()) {
        Err(Refusal::AuditBusy) if shared.serves_unrecorded() => {
            shared.count_gap(reading.unix_ns);
            Ok(Ticket::UNRECORDED)
        }
        result => result,
    }
}

/// As [`append`]; what finds no room is counted into a `gap` record.
fn append_unwaited(
    shared: &Shared,
    core: &LaneCore,
    scratch: &mut Vec<u8>,
    record: &impl RecordDyn,
    reading: &Reading,
) {
    if append(shared, core, scratch, record, reading).is_err() {
        shared.count_gap(reading.unix_ns);
    }
}

/// [`Record`] with its constant as a method, so that unwaited records may count as follow-ups.
trait RecordDyn {
    fn follows(&self) -> bool;
    fn write_to(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Entry;
}

struct Waited<'a, R>(&'a R);
struct Unwaited<'a, R>(&'a R);

impl<R: Record> RecordDyn for Waited<'_, R> {
    fn follows(&self) -> bool {
        R::FOLLOWS
    }

    fn write_to(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Entry {
        Entry::write(self.0, header, out)
    }
}

impl<R: Record> RecordDyn for Unwaited<'_, R> {
    fn follows(&self) -> bool {
        true
    }

    fn write_to(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Entry {
        Entry::write(self.0, header, out)
    }
}

/// A worker's lane. Lives on one thread; clones are the same lane.
#[derive(Debug, Clone)]
pub struct Lane(Rc<LaneInner>);

#[derive(Debug)]
struct LaneInner {
    shared: Arc<Shared>,
    core: Arc<LaneCore>,
    scratch: RefCell<Vec<u8>>,
    /// In order of tickets.
    waiters: RefCell<VecDeque<(u64, Waker)>>,
    /// The last record that somebody waits for and the writer was not told of.
    unrung: Cell<Option<Ticket>>,
}

impl Lane {
    /// A lane and its driver, a future that never ends and must run on the same thread: it wakes the lane's waiters,
    /// and the writer, behind all that was ready in the same turn of the loop: they share one commit.
    pub(super) fn new(shared: Arc<Shared>) -> (Self, impl Future<Output = ()> + 'static) {
        let core = shared.add_lane();
        let inner = Rc::new(LaneInner {
            shared,
            core,
            scratch: RefCell::default(),
            waiters: RefCell::default(),
            unrung: Cell::new(None),
        });
        let driver = inner.clone();
        let drive = poll_fn(move |context| {
            driver.core.waker.register(context.waker());
            driver.release();
            if let Some(ticket) = driver.unrung.take() {
                driver.core.ring(&driver.shared, ticket);
            }
            Poll::Pending
        });
        (Self(inner), drive)
    }

    /// Queues a record.
    ///
    /// # Errors
    /// [`Refusal::AuditUnavailable`] while the log cannot be written, [`Refusal::AuditBusy`] where the lane holds as
    /// much as it may, [`Refusal::InternalError`] for a record too long for a frame. Nothing was queued then.
    pub fn append(&self, record: &impl Record) -> Result<Ticket, Refusal> {
        self.append_at(record, &self.0.shared.clock.now())
    }

    /// As [`append`](Self::append), of an event at a moment that was read already.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_at(&self, record: &impl Record, reading: &Reading) -> Result<Ticket, Refusal> {
        let mut scratch = self.0.scratch.borrow_mut();
        let ticket = append(&self.0.shared, &self.0.core, &mut scratch, &Waited(record), reading)?;
        if ticket != Ticket::UNRECORDED && self.0.unrung.replace(Some(ticket)).is_none() {
            self.0.core.waker.wake();
        }
        Ok(ticket)
    }

    /// Queues a record that nobody waits for. It may use the part of the queue that new work may not; where even
    /// that is full, the record is counted into a `gap` record.
    pub fn append_unwaited(&self, record: &impl Record) {
        self.append_unwaited_at(record, &self.0.shared.clock.now());
    }

    /// As [`append_unwaited`](Self::append_unwaited), of an event at a moment that was read already.
    pub fn append_unwaited_at(&self, record: &impl Record, reading: &Reading) {
        let mut scratch = self.0.scratch.borrow_mut();
        append_unwaited(&self.0.shared, &self.0.core, &mut scratch, &Unwaited(record), reading);
    }

    /// Waits until a record is durable as the operator defined it.
    ///
    /// # Errors
    /// [`Refusal::AuditUnavailable`] if the log failed before the record was durable. It may still reach the log
    /// once that can be written again.
    pub fn durable(&self, ticket: Ticket) -> impl Future<Output = Result<(), Refusal>> + '_ {
        poll_fn(move |context| self.0.poll_durable(ticket, context))
    }

    /// [`append`](Self::append), then [`durable`](Self::durable).
    ///
    /// # Errors
    /// As those.
    pub async fn record(&self, record: &impl Record) -> Result<(), Refusal> {
        let ticket = self.append(record)?;
        self.durable(ticket).await
    }
}

impl LaneInner {
    fn poll_durable(&self, ticket: Ticket, context: &Context<'_>) -> Poll<Result<(), Refusal>> {
        if let Some(result) = self.core.resolve(&self.shared, ticket) {
            return Poll::Ready(result);
        }
        let mut waiters = self.waiters.borrow_mut();
        let place = waiters.partition_point(|(other, _)| *other < ticket.0);
        match waiters.get_mut(place) {
            Some((other, waker)) if *other == ticket.0 => waker.clone_from(context.waker()),
            _ => waiters.insert(place, (ticket.0, context.waker().clone())),
        }
        Poll::Pending
    }

    /// Wakes the waiters whose tickets are resolved.
    fn release(&self) {
        loop {
            let waker = {
                let mut waiters = self.waiters.borrow_mut();
                match waiters.front() {
                    Some((ticket, _)) if self.core.resolve(&self.shared, Ticket(*ticket)).is_some() => {
                        waiters.pop_front()
                    }
                    _ => None,
                }
            };
            match waker {
                Some((_, waker)) => waker.wake(),
                None => return,
            }
        }
    }
}

/// A lane for everything but the workers: shared by threads and runtimes.
#[derive(Debug, Clone)]
pub struct ControlLane {
    shared: Arc<Shared>,
    core: Arc<LaneCore>,
}

impl ControlLane {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let core = shared.add_lane();
        Self { shared, core }
    }

    /// As [`Lane::append`].
    ///
    /// # Errors
    /// As [`Lane::append`].
    pub fn append(&self, record: &impl Record) -> Result<Ticket, Refusal> {
        let ticket = append(&self.shared, &self.core, &mut Vec::new(), &Waited(record), &self.shared.clock.now())?;
        self.core.ring(&self.shared, ticket);
        Ok(ticket)
    }

    /// As [`Lane::append_unwaited`].
    pub fn append_unwaited(&self, record: &impl Record) {
        append_unwaited(&self.shared, &self.core, &mut Vec::new(), &Unwaited(record), &self.shared.clock.now());
    }

    /// As [`Lane::durable`]; works on any runtime.
    ///
    /// # Errors
    /// As [`Lane::durable`].
    pub async fn durable(&self, ticket: Ticket) -> Result<(), Refusal> {
        loop {
            let mut notified = std::pin::pin!(self.core.notify.notified());
            notified.as_mut().enable();
            if let Some(result) = self.core.resolve(&self.shared, ticket) {
                return result;
            }
            notified.await;
        }
    }

    /// [`append`](Self::append), then [`durable`](Self::durable).
    ///
    /// # Errors
    /// As those.
    pub async fn record(&self, record: &impl Record) -> Result<(), Refusal> {
        let ticket = self.append(record)?;
        self.durable(ticket).await
    }
}
