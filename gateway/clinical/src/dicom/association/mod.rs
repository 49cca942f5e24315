//! The state machine between the two ends of an association.

mod acceptor;
mod close;
mod message;
mod requestor;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use policy::{Action, Permit};
use smallvec::SmallVec;

use self::message::{Context, Incoming, Late, Running, Sub, Waiting};
use super::associate::Request;
use super::fault::Fault;
use super::pdu::{Reader, put_short};
use super::question::{AssociateQuestion, Named, OperationQuestion, Outcome, Rejection, Status};
use crate::outbox::Outbox;

/// An end of an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The clinic's device, which opened it.
    Requestor,
    /// The backend.
    Acceptor,
}

/// Bounds of one association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of an A-ASSOCIATE PDU.
    pub associate_bytes: usize,
    /// Most bytes of a command set.
    pub command_bytes: usize,
    /// Most bytes of a data set that are held until its operation is judged: all of a query's, an object's as far as the study.
    pub held_bytes: usize,
    /// Most bytes of a refused operation's data set; more of it ends the association.
    pub refused_bytes: u64,
    /// Bytes that wait for a side before nothing more is read from the other.
    pub buffer_bytes: usize,
    /// Time for the request, for its answer, for the end (the ARTIM timer of PS3.8 section 9.1.5).
    pub associate: Duration,
    /// Time without any byte.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            associate_bytes: 128 * 1024,
            command_bytes: 16 * 1024,
            held_bytes: 256 * 1024,
            refused_bytes: 256 << 20,
            buffer_bytes: 64 * 1024,
            associate: Duration::from_secs(30),
            idle: Duration::from_secs(600),
        }
    }
}

/// What the machine asks and tells, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Answered by [`Association::admit`] or [`Association::reject`].
    Associate(Box<AssociateQuestion>),
    /// The acceptor took the association: contexts of these ids.
    Established(Vec<u8>),
    /// Answered by [`Association::permit`] or [`Association::refuse`].
    Operation(Box<OperationQuestion>),
    /// An operation that was refused without being asked about.
    Refused(Box<OperationQuestion>, Status),
    /// Answered by [`Association::recorded`].
    Outcome(Outcome),
    /// For the record.
    Named(Box<Named>),
    /// The association is over; the last event. What still waits is sent, then both connections are closed.
    Closed(Cause),
}

/// Why an association is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Both sides released it.
    Released,
    /// A side aborted it.
    Aborted(Side),
    /// The caller rejected it, or it cannot be asked about.
    Rejected,
    /// The acceptor rejected it.
    RejectedByAcceptor,
    /// A side broke the protocol.
    Fault(Side, Fault),
    /// A side closed its connection.
    HungUp(Side),
    /// A side took too long.
    TimedOut,
    /// The caller cut it.
    Cut,
}

/// What of a request is forwarded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// Ids of presentation contexts that are refused. They are left out, and answered as rejected by the user.
    pub refused: Vec<u8>,
    /// Whether the requestor's user identity goes to the acceptor.
    pub identity: bool,
}

/// There was no such question, or the permit is for another action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing was asked that this answers")]
pub struct NotAsked;

#[derive(Debug)]
enum Phase {
    /// Nothing came yet.
    Waiting,
    /// The request is asked about.
    Asked(Box<Request>),
    /// The request was forwarded: as it came, and as it went.
    Forwarded(Box<Request>, Box<Request>),
    Open,
    Closed,
}

/// An association. See the [crate's documentation](crate) for how it is driven.
#[derive(Debug)]
pub struct Association {
    limits: Limits,
    phase: Phase,
    readers: [Reader; 2],
    outboxes: [Outbox; 2],
    events: VecDeque<Event>,
    contexts: BTreeMap<u8, Context>,
    /// Most bytes of a PDU that each side takes.
    max_pdu: [u32; 2],
    requestor: Incoming,
    acceptor: Incoming,
    /// The requestor's operation: judged, and not answered yet.
    running: Option<Running>,
    /// The acceptor's request within it.
    sub: Option<Sub>,
    /// An operation that is asked about.
    waiting: Option<Waiting>,
    /// The acceptor's last word on an operation, until it is recorded.
    outcome: Option<Waiting>,
    /// A refusal that has to wait for the end of what is being told to the requestor.
    late: Option<Late>,
    /// Contexts on which an action was permitted, so that events may be told of it.
    acted: SmallVec<[u8; 2]>,
    /// Who asked for a release that is not answered.
    releasing: [bool; 2],
    last: Instant,
}

impl Association {
    /// A connection from a requestor.
    #[must_use]
    pub fn new(limits: Limits, now: Instant) -> Self {
        let reader = || Reader::new(limits.associate_bytes);
        Self {
            limits,
            phase: Phase::Waiting,
            readers: [reader(), reader()],
            outboxes: [Outbox::default(), Outbox::default()],
            events: VecDeque::new(),
            contexts: BTreeMap::new(),
            max_pdu: [0, 0],
            requestor: Incoming::default(),
            acceptor: Incoming::default(),
            running: None,
            sub: None,
            waiting: None,
            outcome: None,
            late: None,
            acted: SmallVec::new(),
            releasing: [false; 2],
            last: now,
        }
    }

    /// Takes bytes that came from a side, and says how many. The rest is to be given again: after a question was answered, after events
    /// were polled, after what waits for the other side was sent.
    pub fn handle(&mut self, from: Side, bytes: &[u8], now: Instant) -> usize {
        let mut rest = bytes;
        while self.wants(from) {
            if self.is_closed() {
                return bytes.len();
            }
            let before = rest.len();
            let step = match from {
                Side::Requestor => self.requestor_step(&mut rest),
                Side::Acceptor => self.acceptor_step(&mut rest),
            };
            if rest.len() < before {
                self.last = now;
            }
            match step {
                Ok(true) => {}
                Ok(false) => break,
                Err(fault) => self.fault(from, fault),
            }
        }
        bytes.len() - rest.len()
    }

    /// Whether bytes of a side would be taken: whoever reads its socket waits while they would not.
    #[must_use]
    pub fn wants(&self, from: Side) -> bool {
        let full = self.events.len() >= 32 || self.outbox_full(from);
        let held = match from {
            Side::Requestor => matches!(self.phase, Phase::Asked(_)) || self.waiting.is_some() || self.late.is_some(),
            Side::Acceptor => self.outcome.is_some(),
        };
        self.is_closed() || !(full || held)
    }

    /// Whether the association is over. Bytes are swallowed from then on.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        self.resume();
        event
    }

    /// What waits to be sent to a side.
    #[must_use]
    pub fn output(&self, to: Side) -> &[u8] {
        let [requestor, acceptor] = &self.outboxes;
        match to {
            Side::Requestor => requestor.pending(),
            Side::Acceptor => acceptor.pending(),
        }
    }

    /// The first `count` bytes of [`output`](Self::output) were sent.
    pub fn sent(&mut self, to: Side, count: usize) {
        self.outbox(to).sent(count);
        self.resume();
    }

    /// Opens the association at the acceptor.
    ///
    /// # Errors
    /// [`NotAsked`] if it was not asked about, or if the permit is not for [`Action::Connect`]. Where no context is left, it is
    /// rejected instead.
    pub fn admit(&mut self, permit: Permit, admission: &Admission, now: Instant) -> Result<(), NotAsked> {
        if permit.action() != Action::Connect {
            return Err(NotAsked);
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Waiting);
        let Phase::Asked(original) = phase else {
            self.phase = phase;
            return Err(NotAsked);
        };
        self.last = now;
        let forwarded = original.narrowed(|context| !admission.refused.contains(&context.id), admission.identity);
        if forwarded.contexts.is_empty() {
            self.phase = Phase::Asked(original);
            return self.reject(Rejection::NotAuthorized);
        }
        forwarded.write(self.outbox(Side::Acceptor));
        self.phase = Phase::Forwarded(original, Box::new(forwarded));
        self.resume();
        Ok(())
    }

    /// Refuses the association.
    ///
    /// # Errors
    /// [`NotAsked`] if it was not asked about.
    pub fn reject(&mut self, rejection: Rejection) -> Result<(), NotAsked> {
        let Phase::Asked(_) = self.phase else { return Err(NotAsked) };
        let [result, source, reason] = rejection.codes();
        self.put_rejection(result, source, reason);
        self.close(Cause::Rejected);
        Ok(())
    }

    /// Forwards the operation that was asked about.
    ///
    /// # Errors
    /// [`NotAsked`] if none was, or if the permit is for another action.
    pub fn permit(&mut self, permit: Permit, now: Instant) -> Result<(), NotAsked> {
        let fits = |waiting: &mut Waiting| waiting.action() == Some(permit.action());
        let waiting = self.waiting.take_if(fits).ok_or(NotAsked)?;
        self.last = now;
        self.forward_request(waiting);
        self.resume();
        Ok(())
    }

    /// Refuses the operation that was asked about. Its data set is swallowed, then it is answered.
    ///
    /// # Errors
    /// [`NotAsked`] if none was.
    pub fn refuse(&mut self, status: Status, now: Instant) -> Result<(), NotAsked> {
        let waiting = self.waiting.take().ok_or(NotAsked)?;
        self.last = now;
        self.refuse_request(waiting, status);
        self.resume();
        Ok(())
    }

    /// The outcome is on record: the acceptor's answer goes on.
    ///
    /// # Errors
    /// [`NotAsked`] if no outcome waits.
    pub fn recorded(&mut self, now: Instant) -> Result<(), NotAsked> {
        let waiting = self.outcome.take().ok_or(NotAsked)?;
        self.last = now;
        self.forward_outcome(waiting);
        self.resume();
        Ok(())
    }

    /// Ends the association at once: its device was revoked, say.
    pub fn cut(&mut self) {
        self.abort_both(0);
        self.close(Cause::Cut);
    }

    /// A side closed its connection.
    pub fn hang_up(&mut self, side: Side) {
        self.abort(other(side), 0);
        self.close(Cause::HungUp(side));
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due. Nothing is while the caller has a question to answer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let time = match self.phase {
            Phase::Waiting | Phase::Forwarded(..) => self.limits.associate,
            Phase::Open if self.waiting.is_some() || self.outcome.is_some() => return None,
            Phase::Open if self.releasing.contains(&true) => self.limits.associate,
            Phase::Open => self.limits.idle,
            Phase::Asked(_) | Phase::Closed => return None,
        };
        self.last.checked_add(time)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.abort_both(0);
            self.close(Cause::TimedOut);
        }
    }

    /// What came whole, but could not go on, goes on.
    fn resume(&mut self) {
        if !self.is_closed() {
            self.handle(Side::Requestor, &[], self.last);
            self.handle(Side::Acceptor, &[], self.last);
        }
    }

    fn outbox(&mut self, to: Side) -> &mut Outbox {
        let [requestor, acceptor] = &mut self.outboxes;
        match to {
            Side::Requestor => requestor,
            Side::Acceptor => acceptor,
        }
    }

    fn reader(&mut self, of: Side) -> &mut Reader {
        let [requestor, acceptor] = &mut self.readers;
        match of {
            Side::Requestor => requestor,
            Side::Acceptor => acceptor,
        }
    }

    fn outbox_full(&self, from: Side) -> bool {
        // An answer of our own goes back to the requestor, so that whoever does not read is not read from.
        let [requestor, acceptor] = &self.outboxes;
        let most = self.limits.buffer_bytes;
        requestor.len() >= most || (from == Side::Requestor && acceptor.len() >= most)
    }

    fn max_pdu(&self, of: Side) -> u32 {
        let [requestor, acceptor] = self.max_pdu;
        match of {
            Side::Requestor => requestor,
            Side::Acceptor => acceptor,
        }
    }

    fn put_rejection(&mut self, result: u8, source: u8, reason: u8) {
        put_short(self.outbox(Side::Requestor), super::pdu::ASSOCIATE_RJ, [0, result, source, reason]);
    }
}

fn other(side: Side) -> Side {
    match side {
        Side::Requestor => Side::Acceptor,
        Side::Acceptor => Side::Requestor,
    }
}
