//! What one connection's streams have in common: what the peer did wrong, and how much it may still send (row C10).

use std::cell::{Cell, RefCell};

use policy::Refusal;
use quinn::VarInt;
use tokio::time::Instant;

use super::fault::{Fault, code};
use super::sieve::Counts;
use crate::listen::budget::Budget;

/// Bytes of frames that mean nothing that count as one frame.
const SKIPPED_PER_FRAME: f64 = 1024.0;
/// Bytes of field sections that may wait on one connection until they are whole.
const MOST_HELD: usize = 512 * 1024;
/// Faults of single streams that are remembered until they are recorded; as many as can come between two looks.
const MOST_FAULTS: usize = 256;

/// See the module.
pub(super) struct Watch {
    quic: quinn::Connection,
    budget: RefCell<Budget>,
    /// Bytes that sieves hold.
    held: Cell<usize>,
    /// What is still to be recorded.
    faults: RefCell<Vec<(Refusal, &'static str)>>,
    /// The peer has sent more than it may.
    abuse: Cell<bool>,
    /// The connection was closed from here, for a reason that is told.
    closed: Cell<bool>,
    /// The first request stream that is not taken any more.
    refuses_from: Cell<Option<u64>>,
    /// The last that was.
    last: Cell<Option<u64>>,
}

impl Watch {
    /// Watches a connection whose peer may reset so many streams in a burst.
    pub(super) fn new(quic: quinn::Connection, resets: u32) -> Self {
        Self {
            quic,
            budget: RefCell::new(Budget::new(resets, Instant::now())),
            held: Cell::new(0),
            faults: RefCell::default(),
            abuse: Cell::new(false),
            closed: Cell::new(false),
            refuses_from: Cell::new(None),
            last: Cell::new(None),
        }
    }

    /// The connection.
    pub(super) const fn quic(&self) -> &quinn::Connection {
        &self.quic
    }

    /// The peer broke a rule. Returns whether that is the end of the connection.
    pub(super) fn fault(&self, fault: Fault) -> bool {
        self.note(fault.refusal, fault.why);
        if fault.whole {
            if fault.refusal == Refusal::ProtocolAbuse {
                self.abuse.set(true);
            }
            self.close(fault.code, fault.why);
        }
        fault.whole
    }

    /// Has something recorded.
    pub(super) fn note(&self, refusal: Refusal, why: &'static str) {
        let mut faults = self.faults.borrow_mut();
        if faults.len() < MOST_FAULTS {
            faults.push((refusal, why));
        }
    }

    /// Closes the connection; the first reason is told.
    pub(super) fn close(&self, code: u32, why: &str) {
        if !self.closed.replace(true) {
            self.quic.close(VarInt::from_u32(code), why.as_bytes());
        }
    }

    /// The library closes the connection, for something that only it sees.
    pub(super) fn closed_by_library(&self, code: u64) {
        let already = self.closed.get();
        if code != u64::from(code::NO_ERROR) && !already {
            self.note(Refusal::RequestMalformed, "the HTTP/3 library ended the connection");
        }
        self.close(u32::try_from(code).unwrap_or(code::INTERNAL_ERROR), "");
    }

    /// What a piece of a stream cost or earned its peer.
    pub(super) fn count(&self, counts: Counts) {
        let mut budget = self.budget.borrow_mut();
        (0..counts.heads).for_each(|_| budget.request());
        #[expect(clippy::cast_precision_loss, reason = "no stream's piece has as many bytes")]
        let skipped = counts.skipped as f64 / SKIPPED_PER_FRAME;
        budget.idle_frames(f64::from(counts.idle_frames) + skipped);
        drop(budget);
        self.spend();
    }

    /// The peer reset a stream, or would have no more of an answer.
    pub(super) fn reset(&self) {
        self.budget.borrow_mut().reset();
        self.spend();
    }

    fn spend(&self) {
        let mut budget = self.budget.borrow_mut();
        if budget.is_spent() {
            budget.refill(Instant::now());
        }
        if budget.is_spent() {
            self.abuse.set(true);
            self.close(code::EXCESSIVE_LOAD, "calm down");
        }
    }

    /// A sieve holds other bytes than before.
    ///
    /// # Errors
    /// The fault, where all of the connection hold too much.
    pub(super) fn holds(&self, before: usize, now: usize) -> Result<(), Fault> {
        let held = self.held.get().saturating_sub(before).saturating_add(now);
        self.held.set(held);
        if held > MOST_HELD && now > before {
            return Err(Fault::load(Refusal::HeaderTooLarge, "field sections that are not whole take too much memory"));
        }
        Ok(())
    }

    /// Whether a request's stream is taken.
    pub(super) fn takes(&self, stream: u64) -> bool {
        let takes = self.refuses_from.get().is_none_or(|first| stream < first);
        if takes {
            self.last.set(self.last.get().max(Some(stream)));
        }
        takes
    }

    /// Takes no further request than those it has.
    pub(super) fn refuse_more(&self) {
        let next = self.last.get().map_or(0, |last| last + 4);
        self.refuses_from.set(Some(next));
    }

    /// What is to be recorded.
    pub(super) fn take_faults(&self) -> Vec<(Refusal, &'static str)> {
        self.faults.take()
    }

    /// The peer has sent more than it may.
    pub(super) fn is_abused(&self) -> bool {
        self.abuse.get()
    }
}
