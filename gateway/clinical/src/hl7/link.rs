//! The state machine between the two ends of a connection.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use policy::patients::PatientSource;
use policy::{Action, Permit};

use super::answer::refusal;
use super::frame::{CR, END, FrameFault, Frames, START};
use super::meaning::meaning;
use super::message::{Message, MessageFault};
use super::patients::patients;
use super::question::{MessageQuestion, Outcome, Refusal, operation};
use crate::outbox::Outbox;

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The clinic's system.
    Sender,
    /// The backend.
    Receiver,
}

/// Bounds of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a message; it is held whole until it is judged.
    pub message_bytes: usize,
    /// Most bytes of an answer; it is held whole until it is recorded.
    pub answer_bytes: usize,
    /// Time for a frame, from its first byte to its last.
    pub frame: Duration,
    /// Time for an answer.
    pub answer: Duration,
    /// Time between messages.
    pub idle: Duration,
    /// Whether separators other than `|^~\&` are taken. A receiver that does not read MSH-2 would see other patients then.
    pub other_separators: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 1 << 20,
            answer_bytes: 4 << 20,
            frame: Duration::from_secs(30),
            answer: Duration::from_secs(60),
            idle: Duration::from_secs(3_600),
            other_separators: false,
        }
    }
}

/// What the machine asks and tells, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Answered by [`Link::permit`] or [`Link::refuse`].
    Message(Box<MessageQuestion>),
    /// A message that cannot be asked about: answered by [`Link::refuse`] with this refusal, once it is on record. Type, trigger and
    /// control id as far as they could be read.
    Unfit {
        /// `ADT^A08`.
        operation: String,
        /// MSH-10.
        control_id: String,
        /// Why.
        refusal: Refusal,
    },
    /// Answered by [`Link::recorded`].
    Outcome(Box<Outcome>),
    /// The connection is over; the last event. What still waits is sent, then both are closed.
    Closed(Cause),
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A side's bytes are no frames.
    Frame(Side, FrameFault),
    /// A side's message cannot be read, and not even be answered.
    Message(Side, MessageFault),
    /// The receiver sent what answers nothing that was asked.
    UnexpectedAnswer,
    /// A side closed its connection.
    HungUp(Side),
    /// A side took too long.
    TimedOut,
    /// The caller cut it.
    Cut,
}

/// There was no such question, or the permit is for another action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing was asked that this answers")]
pub struct NotAsked;

/// A message that was asked about.
#[derive(Debug)]
struct Asked {
    payload: Vec<u8>,
    /// None where it can only be refused.
    action: Option<Action>,
}

/// A message that the receiver has.
#[derive(Debug)]
struct Sent {
    control: Vec<u8>,
    /// Whether an answer of the application may follow the first acknowledgement.
    then: bool,
}

/// Most messages whose second answer may still come.
const MAX_LATER: usize = 8;

/// A connection. See the [crate's documentation](crate) for how it is driven.
#[derive(Debug)]
pub struct Link {
    limits: Limits,
    sender: Frames,
    receiver: Frames,
    to_sender: Outbox,
    to_receiver: Outbox,
    events: VecDeque<Event>,
    asked: Option<Asked>,
    sent: Option<Sent>,
    later: VecDeque<Vec<u8>>,
    /// An answer that waits until it is recorded.
    outcome: Option<Vec<u8>>,
    closed: bool,
    refusals: u32,
    /// Since when what is under way is.
    since: Instant,
}

impl Link {
    /// A connection from a sender.
    #[must_use]
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            sender: Frames::new(limits.message_bytes),
            receiver: Frames::new(limits.answer_bytes),
            to_sender: Outbox::default(),
            to_receiver: Outbox::default(),
            events: VecDeque::new(),
            asked: None,
            sent: None,
            later: VecDeque::new(),
            outcome: None,
            closed: false,
            refusals: 0,
            since: now,
        }
    }

    /// Takes bytes that came from a side, and says how many. The rest is to be given again when [`wants`](Self::wants) says so: one
    /// message at a time is under way, and what a sender pipelines waits.
    pub fn handle(&mut self, from: Side, bytes: &[u8], now: Instant) -> usize {
        let mut rest = bytes;
        while self.wants(from) && !rest.is_empty() {
            if self.closed {
                return bytes.len();
            }
            let frames = match from {
                Side::Sender => &mut self.sender,
                Side::Receiver => &mut self.receiver,
            };
            if from == Side::Sender && !frames.is_amid() {
                self.since = now;
            }
            match frames.next(&mut rest) {
                Ok(Some(payload)) => match from {
                    Side::Sender => self.message(payload),
                    Side::Receiver => self.answered(payload),
                },
                Ok(None) => {}
                Err(fault) => self.close(Cause::Frame(from, fault)),
            }
        }
        bytes.len() - rest.len()
    }

    /// Whether bytes of a side would be taken.
    #[must_use]
    pub fn wants(&self, from: Side) -> bool {
        let waits = self.asked.is_some() || self.outcome.is_some();
        match from {
            Side::Sender => self.closed || !(waits || self.sent.is_some() || self.to_receiver.len() > 0),
            // An application's answer that comes while a message is asked about waits as well.
            Side::Receiver => self.closed || !(waits || self.to_sender.len() > 0),
        }
    }

    /// Whether the connection is over. Bytes are swallowed from then on.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether a part of a message has come.
    #[must_use]
    pub fn is_amid(&self) -> bool {
        self.sender.is_amid()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What waits to be sent to a side.
    #[must_use]
    pub fn output(&self, to: Side) -> &[u8] {
        match to {
            Side::Sender => self.to_sender.pending(),
            Side::Receiver => self.to_receiver.pending(),
        }
    }

    /// The first `count` bytes of [`output`](Self::output) were sent.
    pub fn sent(&mut self, to: Side, count: usize) {
        match to {
            Side::Sender => self.to_sender.sent(count),
            Side::Receiver => self.to_receiver.sent(count),
        }
    }

    /// Forwards the message that was asked about.
    ///
    /// # Errors
    /// [`NotAsked`] if none was, or if the permit is for another action.
    pub fn permit(&mut self, permit: Permit, now: Instant) -> Result<(), NotAsked> {
        let asked = self.asked.take_if(|asked| asked.action == Some(permit.action())).ok_or(NotAsked)?;
        if let Ok(message) = Message::read(&asked.payload, self.limits.other_separators) {
            let raw = |field: usize| message.header(field).unwrap_or_default().bytes;
            let then = raw(15) == b"AL" && raw(16) != b"NE";
            self.sent = Some(Sent { control: raw(10).to_vec(), then });
        }
        put(&mut self.to_receiver, &asked.payload);
        self.since = now;
        Ok(())
    }

    /// Refuses the message that was asked about, by a negative acknowledgement. `time_ns`: nanoseconds since 1970 in UTC, for its MSH-7.
    ///
    /// # Errors
    /// [`NotAsked`] if none was.
    pub fn refuse(&mut self, why: Refusal, time_ns: i64, now: Instant) -> Result<(), NotAsked> {
        let asked = self.asked.take().ok_or(NotAsked)?;
        self.refusals = self.refusals.wrapping_add(1);
        self.since = now;
        let limits = self.limits;
        let header = readable(&asked.payload);
        match Message::read(&asked.payload, limits.other_separators)
            .or_else(|_| Message::read(header, limits.other_separators))
        {
            Ok(message) => put(&mut self.to_sender, &refusal(&message, why, time_ns, self.refusals)),
            Err(fault) => self.close(Cause::Message(Side::Sender, fault)),
        }
        Ok(())
    }

    /// The outcome is on record: the answer goes on.
    ///
    /// # Errors
    /// [`NotAsked`] if no outcome waits.
    pub fn recorded(&mut self, now: Instant) -> Result<(), NotAsked> {
        let payload = self.outcome.take().ok_or(NotAsked)?;
        put(&mut self.to_sender, &payload);
        self.since = now;
        Ok(())
    }

    /// Ends the connection at once: its device was revoked, say.
    pub fn cut(&mut self) {
        self.close(Cause::Cut);
    }

    /// A side closed its connection.
    pub fn hang_up(&mut self, side: Side) {
        self.close(Cause::HungUp(side));
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due. Nothing is while the caller has a question to answer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.closed || self.asked.is_some() || self.outcome.is_some() {
            return None;
        }
        let time = if self.sent.is_some() {
            self.limits.answer
        } else if self.sender.is_amid() {
            self.limits.frame
        } else {
            self.limits.idle
        };
        self.since.checked_add(time)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.close(Cause::TimedOut);
        }
    }

    fn close(&mut self, cause: Cause) {
        if !self.closed {
            self.closed = true;
            self.asked = None;
            self.outcome = None;
            self.events.push_back(Event::Closed(cause));
        }
    }

    /// A message came.
    fn message(&mut self, payload: Vec<u8>) {
        let other = self.limits.other_separators;
        let read = Message::read(&payload, other);
        let event = match &read {
            Ok(message) => match asks(message) {
                Ok(question) => Event::Message(Box::new(question)),
                Err(refusal) => unfit(message, refusal),
            },
            Err(fault) => match Message::read(readable(&payload), other) {
                Ok(message) => unfit(&message, Refusal::Malformed(*fault)),
                Err(_) => return self.close(Cause::Message(Side::Sender, *fault)),
            },
        };
        let action = match &event {
            Event::Message(question) => Some(question.action),
            Event::Unfit { .. } | Event::Outcome(_) | Event::Closed(_) => None,
        };
        self.events.push_back(event);
        self.asked = Some(Asked { payload, action });
    }

    /// An answer came: of the message under way, or the application's to one before.
    fn answered(&mut self, payload: Vec<u8>) {
        match self.outcome_of(&payload) {
            Ok(outcome) => {
                self.events.push_back(Event::Outcome(Box::new(outcome)));
                self.outcome = Some(payload);
            }
            Err(cause) => self.close(cause),
        }
    }

    /// What an answer says, of a message whose answer is awaited.
    fn outcome_of(&mut self, payload: &[u8]) -> Result<Outcome, Cause> {
        let read = Message::read(payload, self.limits.other_separators);
        let message = read.map_err(|fault| Cause::Message(Side::Receiver, fault))?;
        let mut acknowledgements = message.segments().filter(|segment| &segment.name == b"MSA");
        let (Some(acknowledgement), None) = (acknowledgements.next(), acknowledgements.next()) else {
            return Err(Cause::UnexpectedAnswer);
        };
        let control = acknowledgement.field(2).unwrap_or_default();
        if let Some(sent) = self.sent.take_if(|sent| sent.control == control.bytes) {
            if sent.then {
                if self.later.len() == MAX_LATER {
                    self.later.pop_front();
                }
                self.later.push_back(sent.control);
            }
        } else {
            let at = self.later.iter().position(|known| known == control.bytes).ok_or(Cause::UnexpectedAnswer)?;
            self.later.remove(at);
        }
        Ok(Outcome {
            control_id: message.text(control),
            code: message.text(acknowledgement.field(1).unwrap_or_default()),
            patients: patients(&message, PatientSource::Answer),
        })
    }
}

/// The question, or why there is none.
fn asks(message: &Message<'_>) -> Result<MessageQuestion, Refusal> {
    let raw = |field: usize| message.header(field).unwrap_or_default().bytes;
    if !(1..=200).contains(&raw(10).len()) || !(3..=32).contains(&raw(9).len()) {
        return Err(Refusal::Malformed(MessageFault::Type));
    }
    // Original mode has neither field; in the enhanced mode one of the two acknowledgements must be sure to come (chapter 2.9.3).
    let sure = (raw(15).is_empty() && raw(16).is_empty()) || raw(15) == b"AL" || raw(16) == b"AL";
    if !sure {
        return Err(Refusal::Acknowledgement);
    }
    let (kind, trigger) = (message.header_text(9, 1), message.header_text(9, 2));
    let (action, effect) = meaning(&kind, &trigger).ok_or(Refusal::UnknownType)?;
    Ok(MessageQuestion::of(message, action, effect))
}

fn unfit(message: &Message<'_>, refusal: Refusal) -> Event {
    let short = |text: String| text.chars().take(200).collect();
    Event::Unfit { operation: short(operation(message)), control_id: short(message.header_text(10, 1)), refusal }
}

/// The part of a header that can be echoed whatever is wrong with the rest: as far as MSH-17, a control character, or what is not ASCII.
fn readable(payload: &[u8]) -> &[u8] {
    let end = payload.iter().position(|byte| !(0x20..0x7f).contains(byte)).unwrap_or(payload.len());
    let header = payload.get(..end).unwrap_or_default();
    let field = header.get(3).copied().unwrap_or(b'|');
    let end = header.iter().enumerate().filter(|(_, byte)| **byte == field).nth(16).map_or(header.len(), |(at, _)| at);
    header.get(..end).unwrap_or_default()
}

fn put(out: &mut Outbox, payload: &[u8]) {
    out.push(&[START]);
    out.push(payload);
    out.push(&[END, CR]);
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
