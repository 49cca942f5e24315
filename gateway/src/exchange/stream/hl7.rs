//! HL7 v2 over MLLP: each message is an exchange of its own, named by type and trigger.

use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway_audit::record::{End, Origin};
use gateway_clinical::hl7::Refusal as Nak;
use gateway_clinical::hl7::{Cause, Event, Facility, FrameFault, Limits, Link, MessageQuestion, Outcome, Side};
use http::StatusCode;
use policy::patients::Patients;
use policy::{Action, Blame, Effect, Refusal};

use super::pump::Pump;
use super::raw::{CONNECT, Traffic};
use super::{Wish, judge, open};
use crate::clock::Clock as _;
use crate::config::Stream;
use crate::exchange::asked::Target;
use crate::exchange::trail::Trail;
use crate::listen::{ByteStream, Connection};

/// Messages whose second acknowledgement may still come, as many as the machine knows.
const MAX_LATER: usize = 8;

/// Serves a connection to its end.
pub(super) async fn serve(
    client: Box<dyn ByteStream>,
    connection: &Rc<Connection>,
    rules: &Stream,
    other_separators: bool,
) -> Option<Refusal> {
    let mut trail = Trail::begin(connection, CONNECT, Target::Raw(Bytes::new()));
    let wish = Wish { action: Action::Connect, operation: None, resource_type: None, patients: Patients::default() };
    let opened = connection.control.run(pin!(open(connection, rules, wish, &mut trail))).await;
    let server = match opened {
        Ok(Ok((_, server))) => server,
        Ok(Err(refusal)) => {
            drop(trail.refuse(refusal).await);
            return Some(refusal);
        }
        Err(cut) => return Some(cut),
    };
    let defaults = Limits::default();
    let limits = Limits {
        message_bytes: rules.message_bytes,
        answer_bytes: rules.message_bytes.max(defaults.answer_bytes),
        frame: rules.message_timeout,
        answer: response_timeout(connection, rules).unwrap_or(defaults.answer),
        idle: rules.idle_timeout,
        other_separators,
    };
    let traffic = Traffic::of(&connection.worker.metrics, &connection.listener.name);
    let mut pump = Pump::new(Link::new(limits, Instant::now()), client, traffic);
    pump.connect(server);
    let mut session = Session { connection, rules, pump, current: None, later: VecDeque::new() };
    let ran = connection.control.run(pin!(session.run())).await;
    let (end, cause) = match ran {
        Ok(ended) => ended,
        Err(cut) => (End::Revoked, Some(cut)),
    };
    trail.over(end, session.pump.traffic.received.get(), session.pump.traffic.sent.get());
    drop((session.current, session.later));
    session.pump.end(ran.is_err()).await;
    cause
}

/// How long the service may take to answer.
fn response_timeout(connection: &Connection, rules: &Stream) -> Option<Duration> {
    let snapshot = connection.worker.snapshot();
    let service = snapshot.config.services.iter().find(|service| service.name == rules.service);
    service.map(|service| service.response_timeout)
}

struct Session<'a> {
    connection: &'a Rc<Connection>,
    rules: &'a Stream,
    pump: Pump<Link>,
    /// The message that is under way.
    current: Option<Trail>,
    /// Messages that the receiver has taken, and has not answered for good.
    later: VecDeque<(String, Trail)>,
}

impl Session<'_> {
    async fn run(&mut self) -> (End, Option<Refusal>) {
        loop {
            let is_idle = self.current.is_none() && self.later.is_empty();
            let Some(event) = self.pump.next(&self.connection.control, is_idle).await else {
                return (End::Drained, Some(Refusal::Draining));
            };
            match event {
                Event::Message(question) => {
                    if let Err(why) = self.message(&question).await {
                        self.refuse(why);
                    }
                }
                Event::Unfit { operation, control_id, refusal } => {
                    let why = match refusal {
                        Nak::UnknownType | Nak::Acknowledgement => Refusal::OperationUnknown,
                        Nak::Malformed(_) | Nak::NotAuthorized | Nak::Facility | Nak::Unavailable => {
                            Refusal::ProtocolMalformed
                        }
                    };
                    let target = Target::Raw(Bytes::from(control_id));
                    let trail = Trail::begin(self.connection, operation.as_bytes(), target);
                    drop(trail.refuse(why).await);
                    self.refuse(refusal);
                }
                Event::Outcome(outcome) => {
                    if let Err(refusal) = self.answered(&outcome).await {
                        // Nobody learns what the log does not hold.
                        return (End::Withheld, Some(refusal));
                    }
                }
                Event::Closed(cause) => return self.closed(cause).await,
            }
        }
    }

    /// Has a message judged, and sends it on once that is on record.
    async fn message(&mut self, question: &MessageQuestion) -> Result<(), Nak> {
        let connection = self.connection;
        let mut trail = Trail::begin(connection, question.operation.as_bytes(), target(question));
        if !connection.may_ask() {
            drop(trail.limit());
            return Err(Nak::Unavailable);
        }
        match self.permitted(question, &mut trail).await {
            Ok(()) => {
                drop(trail.forwards());
                self.current = Some(trail);
                Ok(())
            }
            Err(refusal) => {
                drop(trail.refuse(refusal).await);
                Err(if refusal == Refusal::FacilityUnknown {
                    Nak::Facility
                } else if refusal.blame() == Blame::Service {
                    Nak::Unavailable
                } else {
                    Nak::NotAuthorized
                })
            }
        }
    }

    async fn permitted(&mut self, question: &MessageQuestion, trail: &mut Trail) -> Result<(), Refusal> {
        let snapshot = self.connection.worker.snapshot();
        let wish = Wish {
            action: question.action,
            operation: Some(&question.operation),
            resource_type: None,
            patients: question.patients.clone(),
        };
        // Judged before its sender is looked at, so that the record of a wrong one says what was wanted.
        let judged = judge(self.connection, &snapshot, self.rules, wish, trail);
        if !self.is_theirs(&snapshot.directory, &question.facility) {
            return Err(Refusal::FacilityUnknown);
        }
        let permit = judged?;
        if question.effect == Effect::Changing {
            trail.intends().await?;
        }
        let permitted = self.pump.machine.permit(permit, Instant::now());
        permitted.map_err(|_| Refusal::InternalError)
    }

    /// Whether the site sends as that facility: by its namespace, by its universal id, or by both.
    fn is_theirs(&self, directory: &crate::registry::Directory, facility: &Facility) -> bool {
        let Some(device) = self.connection.peer.device() else { return false };
        let names = [&facility.namespace, &facility.universal];
        let mut named = names.into_iter().filter(|name| !name.is_empty()).peekable();
        named.peek().is_some() && named.all(|name| directory.has_facility(&device.site, name))
    }

    fn refuse(&mut self, why: Nak) {
        let reading = self.connection.worker.clock.now();
        let refused = self.pump.machine.refuse(why, reading.unix_ns, Instant::now());
        debug_assert!(refused.is_ok(), "a message waits for its answer");
    }

    /// Puts what the receiver said on record, and lets it go on.
    async fn answered(&mut self, outcome: &Outcome) -> Result<(), Refusal> {
        let status = match &*outcome.code {
            "AA" | "CA" => StatusCode::OK,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let backend = self.pump.server().map(crate::upstream::Opened::backend);
        let place = self.later.iter().position(|(control, _)| *control == outcome.control_id);
        let mut trail = match (self.current.take(), place) {
            (Some(current), None) => current,
            (current, Some(place)) => {
                self.current = current;
                match self.later.remove(place) {
                    Some((_, trail)) => trail,
                    None => return Err(Refusal::InternalError),
                }
            }
            (None, None) => return Err(Refusal::InternalError),
        };
        trail.sent_to(backend);
        trail.tells(&outcome.code);
        trail.names(&outcome.patients, Origin::Answer);
        match place {
            None => trail.answered(status).await?,
            Some(_) => trail.answered_again(status).await?,
        }
        // A commit is not the last word.
        if outcome.code == "CA" {
            if self.later.len() == MAX_LATER {
                self.later.pop_front();
            }
            self.later.push_back((outcome.control_id.clone(), trail));
        } else {
            trail.reached_end();
        }
        self.pump.machine.recorded(Instant::now()).map_err(|_| Refusal::InternalError)
    }

    async fn closed(&mut self, cause: Cause) -> (End, Option<Refusal>) {
        let is_amid = self.current.is_some();
        let (end, why) = match cause {
            Cause::Frame(Side::Sender, FrameFault::TooLong) => (End::Aborted, Some(Refusal::BodyTooLarge)),
            Cause::Frame(Side::Sender, _) | Cause::Message(Side::Sender, _) => {
                (End::Aborted, Some(Refusal::ProtocolMalformed))
            }
            Cause::Frame(Side::Receiver, _) | Cause::Message(Side::Receiver, _) | Cause::UnexpectedAnswer => {
                (End::BackendFailed, Some(Refusal::BackendMalformed))
            }
            Cause::HungUp(Side::Receiver) if is_amid => (End::BackendFailed, Some(Refusal::BackendMalformed)),
            Cause::HungUp(Side::Sender) if is_amid => (End::Aborted, None),
            Cause::HungUp(_) => (End::Complete, None),
            Cause::TimedOut if is_amid => (End::Timeout, Some(Refusal::BackendTimeout)),
            Cause::TimedOut if self.pump.machine.is_amid() => (End::Timeout, Some(Refusal::RequestTimeout)),
            Cause::TimedOut => (End::Timeout, Some(Refusal::StreamIdle)),
            Cause::Cut => (End::Revoked, None),
        };
        let detail = match cause {
            Cause::Frame(_, fault) => fault.label(),
            Cause::Message(_, fault) => fault.label(),
            Cause::UnexpectedAnswer => "unexpected-answer",
            Cause::HungUp(_) => "hung-up",
            Cause::TimedOut => "timed-out",
            Cause::Cut => "cut",
        };
        if end == End::BackendFailed {
            if let Some(server) = self.pump.server() {
                server.failed("stream-broken");
            }
            tracing::warn!(service = %self.rules.service, detail, "the backend broke a connection");
        }
        match (self.current.take(), why) {
            (Some(current), Some(refusal)) => drop(current.refuse(refusal).await),
            (None, Some(refusal)) if end == End::Aborted => self.connection.refused(refusal, detail),
            (_, _) => {}
        }
        (end, why)
    }
}

/// Who sends to whom, and the message's id: what the record has of its head.
fn target(question: &MessageQuestion) -> Target {
    let MessageQuestion { application, facility, receiving_application, receiving_facility, control_id, .. } = question;
    let parts = [application, facility, receiving_application, receiving_facility].map(|part| {
        match (part.namespace.is_empty(), part.universal.is_empty()) {
            (_, true) => part.namespace.clone(),
            (true, false) => part.universal.clone(),
            (false, false) => format!("{}^{}", part.namespace, part.universal),
        }
    });
    let text = format!("{}|{control_id}", parts.join("|"));
    Target::Raw(Bytes::from(text))
}
