//! DICOM: the association is the connection's own exchange, and each operation one of its own (PS3.7, PS3.8).

use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use gateway_audit::record::{End, Origin};
use gateway_clinical::dicom::{
    Admission, AssociateQuestion, Association, Cause, Event, Limits, Named, Operation, OperationQuestion, Outcome,
    Rejection, Side, Status,
};
use http::{HeaderValue, StatusCode};
use policy::judge::Permit;
use policy::patients::{PatientSource, Patients, StudyPatient, StudySource};
use policy::{Action, Blame, Effect, Refusal};

use super::pump::Pump;
use super::raw::Traffic;
use super::{Wish, judge, reach};
use crate::clock::Clock as _;
use crate::config::Stream;
use crate::exchange::asked::Target;
use crate::exchange::trail::Trail;
use crate::listen::{ByteStream, Connection};
use crate::snapshot::Snapshot;
use crate::upstream::Opened;

/// What opening an association is called, in records and as `context.operation`.
const ASSOCIATE: &str = "A-ASSOCIATE";

/// Serves a connection to its end.
pub(super) async fn serve(
    client: Box<dyn ByteStream>,
    connection: &Rc<Connection>,
    rules: &Stream,
    called_titles: &[String],
) -> Option<Refusal> {
    let limits = Limits {
        associate: rules.message_timeout,
        idle: rules.idle_timeout,
        held_bytes: rules.message_bytes,
        ..Limits::default()
    };
    let traffic = Traffic::of(&connection.worker.metrics, &connection.listener.name);
    let pump = Pump::new(Association::new(limits, Instant::now()), client, traffic);
    let mut session = Session {
        connection,
        rules,
        called_titles,
        pump,
        calling: String::new(),
        association: None,
        current: None,
        storing: None,
    };
    let ran = connection.control.run(pin!(session.run())).await;
    let (end, cause) = match ran {
        Ok(ended) => ended,
        Err(cut) => (End::Revoked, Some(cut)),
    };
    if let Some(association) = &mut session.association {
        association.over(end, session.pump.traffic.received.get(), session.pump.traffic.sent.get());
    }
    drop((session.current, session.association));
    session.pump.end(ran.is_err()).await;
    cause
}

struct Session<'a> {
    connection: &'a Rc<Connection>,
    rules: &'a Stream,
    called_titles: &'a [String],
    pump: Pump<Association>,
    /// The requestor's AE title, which is its device's.
    calling: String,
    /// The connection's own exchange, once it is asked for.
    association: Option<Trail>,
    /// The operation that is under way.
    current: Option<Trail>,
    /// Whose the study is that it stores into.
    storing: Option<StudyPatient>,
}

impl Session<'_> {
    async fn run(&mut self) -> (End, Option<Refusal>) {
        loop {
            let may_end = self.association.is_none();
            let Some(event) = self.pump.next(&self.connection.control, may_end).await else {
                return (End::Drained, Some(Refusal::Draining));
            };
            match event {
                Event::Associate(question) => {
                    if let Err((refusal, rejection)) = self.associate(&question).await {
                        if let Some(association) = self.association.take() {
                            drop(association.refuse(refusal).await);
                        }
                        let rejected = self.pump.machine.reject(rejection);
                        debug_assert!(rejected.is_ok(), "an association waits for its answer");
                        return (End::Aborted, Some(refusal));
                    }
                }
                Event::Established(_) => {
                    if let Some(association) = &mut self.association
                        && let Err(refusal) = association.answered(StatusCode::OK).await
                    {
                        return (End::Withheld, Some(refusal));
                    }
                }
                Event::Operation(question) => {
                    if let Err(status) = self.operation(&question).await {
                        let refused = self.pump.machine.refuse(status, Instant::now());
                        debug_assert!(refused.is_ok(), "an operation waits for its answer");
                    }
                }
                Event::Refused(question, status) => {
                    let why = match status {
                        Status::OutOfResources => Refusal::BodyTooLarge,
                        Status::CannotUnderstand => Refusal::ProtocolMalformed,
                        Status::NotAuthorized | Status::ClassNotSupported | Status::Failure => {
                            Refusal::OperationUnknown
                        }
                    };
                    let trail = self.begin(&question);
                    drop(trail.refuse(why).await);
                }
                Event::Outcome(outcome) => {
                    if let Err(refusal) = self.answered(&outcome).await {
                        return (End::Withheld, Some(refusal));
                    }
                }
                Event::Named(named) => self.named(&named),
                Event::Closed(cause) => return self.closed(cause).await,
            }
        }
    }

    /// Has an association judged, connects the backend, and asks it for what was permitted.
    async fn associate(&mut self, question: &AssociateQuestion) -> Result<(), (Refusal, Rejection)> {
        let connection = self.connection;
        let calling = question.calling.as_str();
        let target = Target::Raw(Bytes::copy_from_slice(calling.as_bytes()));
        let mut trail = Trail::begin(connection, ASSOCIATE.as_bytes(), target);
        if let Ok(called) = HeaderValue::from_str(question.called.as_str()) {
            trail.addressed_to(&called);
        }
        if !connection.may_ask() {
            drop(trail.limit());
            return Err((Refusal::RateLimited, Rejection::Temporary));
        }
        calling.clone_into(&mut self.calling);
        let trail = self.association.insert(trail);
        let snapshot = connection.worker.snapshot();
        let (permit, refused) = contexts(connection, &snapshot, self.rules, question, trail);
        let device = connection.peer.device();
        if !device.is_some_and(|device| snapshot.directory.has_title(device, calling)) {
            return Err((Refusal::CallingTitle, Rejection::CallingTitle));
        }
        if !self.called_titles.iter().any(|title| title == question.called.as_str()) {
            return Err((Refusal::CalledTitle, Rejection::CalledTitle));
        }
        let permit = permit.map_err(|refusal| (refusal, rejection(refusal)))?;
        let opened = connect(connection, &snapshot, self.rules, &permit, trail).await;
        let server = opened.map_err(|refusal| (refusal, rejection(refusal)))?;
        self.pump.connect(server);
        let admission = Admission { refused, identity: false };
        let admitted = self.pump.machine.admit(permit, &admission, Instant::now());
        admitted.map_err(|_| (Refusal::InternalError, Rejection::Temporary))
    }

    fn begin(&self, question: &OperationQuestion) -> Trail {
        let mut text = question.class.as_str().to_owned();
        for part in
            [question.instance.as_ref().map(|uid| uid.as_str()), question.level.as_deref()].into_iter().flatten()
        {
            text.push('/');
            text.push_str(part);
        }
        if let Some(destination) = &question.destination {
            text.push_str(" to ");
            text.push_str(destination.as_str());
        }
        Trail::begin(self.connection, question.operation.label().as_bytes(), Target::Raw(Bytes::from(text)))
    }

    /// Has an operation judged, and lets it go on once that is on record.
    async fn operation(&mut self, question: &OperationQuestion) -> Result<(), Status> {
        let mut trail = self.begin(question);
        if !self.connection.may_ask() {
            drop(trail.limit());
            return Err(Status::Failure);
        }
        match self.permitted(question, &mut trail).await {
            Ok(()) => {
                drop(trail.forwards());
                self.current = Some(trail);
                Ok(())
            }
            Err(refusal) => {
                drop(trail.refuse(refusal).await);
                Err(if refusal.blame() == Blame::Service { Status::Failure } else { Status::NotAuthorized })
            }
        }
    }

    async fn permitted(&mut self, question: &OperationQuestion, trail: &mut Trail) -> Result<(), Refusal> {
        let worker = &self.connection.worker;
        let snapshot = worker.snapshot();
        let now_ns = worker.clock.monotonic_ns();
        let mut patients = question.patients.clone();
        for study in &question.studies {
            if let Some(patient) = worker.patient_of(&self.rules.service, study, now_ns) {
                patients.add(&patient.value, patient.system.as_deref(), PatientSource::Study);
            }
        }
        let wish = Wish {
            action: question.action,
            operation: Some(question.operation.label()),
            resource_type: question.level.as_deref(),
            patients,
        };
        let judged = judge(self.connection, &snapshot, self.rules, wish, trail);
        let device = self.connection.peer.device().ok_or(Refusal::CallingTitle)?;
        if !snapshot.directory.has_title(device, &self.calling) {
            return Err(Refusal::CallingTitle);
        }
        let is_theirs = |title: &str| snapshot.directory.is_title_at(&device.site, title);
        if question.destination.as_ref().is_some_and(|title| !is_theirs(title.as_str())) {
            return Err(Refusal::MoveDestination);
        }
        let permit = judged?;
        // Answers to what only reads may follow at once, so that its record precedes it as well.
        trail.intends().await?;
        let permitted = self.pump.machine.permit(permit, Instant::now());
        permitted.map_err(|_| Refusal::InternalError)?;
        self.storing = question.study.clone().filter(|_| question.effect == Effect::Changing);
        Ok(())
    }

    /// Puts the acceptor's last word on record, and lets it go on.
    async fn answered(&mut self, outcome: &Outcome) -> Result<(), Refusal> {
        let mut trail = self.current.take().ok_or(Refusal::InternalError)?;
        trail.sent_to(self.pump.server().map(Opened::backend));
        trail.tells(&format!("{:04X}", outcome.status));
        trail.answered(status_of(outcome.status)).await?;
        trail.reached_end();
        let stored = self.storing.take().filter(|_| status_of(outcome.status) == StatusCode::OK);
        self.learn(stored.as_ref(), StudySource::Client);
        self.pump.machine.recorded(Instant::now()).map_err(|_| Refusal::InternalError)
    }

    /// Patients of a data set that passed.
    fn named(&mut self, named: &Named) {
        let from = match named.operation {
            Operation::CStore | Operation::NCreate | Operation::NSet => Origin::Request,
            Operation::CGet
            | Operation::CFind
            | Operation::CMove
            | Operation::CEcho
            | Operation::NEventReport
            | Operation::NGet
            | Operation::NAction
            | Operation::NDelete => Origin::Answer,
        };
        match from {
            // Believed once the backend has taken it.
            Origin::Request => self.storing = named.study.clone().or(self.storing.take()),
            Origin::Answer => self.learn(named.study.as_ref(), StudySource::Backend),
        }
        let Some(current) = &mut self.current else { return };
        current.names(&named.patients, from);
        if named.unread {
            current.cannot_read(from);
        }
    }

    /// Remembers whose a study is.
    fn learn(&self, study: Option<&StudyPatient>, source: StudySource) {
        let worker = &self.connection.worker;
        if let Some(study) = study {
            let now_ns = worker.clock.monotonic_ns();
            worker.learn(&self.rules.service, std::slice::from_ref(study), source, now_ns);
        }
    }

    async fn closed(&mut self, cause: Cause) -> (End, Option<Refusal>) {
        let is_open = self.pump.server().is_some();
        let (end, why) = match cause {
            Cause::Released => (End::Complete, None),
            Cause::Aborted(Side::Requestor) | Cause::HungUp(Side::Requestor) => (End::Aborted, None),
            Cause::Aborted(Side::Acceptor) | Cause::HungUp(Side::Acceptor) | Cause::Fault(Side::Acceptor, _) => {
                (End::BackendFailed, Some(Refusal::BackendMalformed))
            }
            Cause::RejectedByAcceptor => (End::BackendFailed, Some(Refusal::BackendUnavailable)),
            Cause::Fault(Side::Requestor, _) | Cause::Rejected => (End::Aborted, Some(Refusal::ProtocolMalformed)),
            Cause::TimedOut if !is_open => (End::Timeout, Some(Refusal::RequestTimeout)),
            Cause::TimedOut if self.association.as_ref().is_some_and(|association| !association.is_answered()) => {
                (End::Timeout, Some(Refusal::BackendTimeout))
            }
            Cause::TimedOut => (End::Timeout, Some(Refusal::StreamIdle)),
            Cause::Cut => (End::Revoked, None),
        };
        let detail = match cause {
            Cause::Fault(_, fault) => fault.label(),
            Cause::Rejected => "association-unfit",
            Cause::Released
            | Cause::Aborted(_)
            | Cause::RejectedByAcceptor
            | Cause::HungUp(_)
            | Cause::TimedOut
            | Cause::Cut => "",
        };
        if end == End::BackendFailed {
            if let Some(server) = self.pump.server() {
                server.failed("stream-broken");
            }
            tracing::warn!(service = %self.rules.service, ?cause, "the backend ended an association");
        }
        if end == End::Aborted
            && let Some(refusal) = why
        {
            self.connection.refused(refusal, detail);
        }
        if let Some(refusal) = why {
            let is_backends = refusal.blame() == Blame::Service;
            if let Some(current) = self.current.take() {
                drop(current.refuse(refusal).await);
            }
            // An association that the backend never took is over with its outcome.
            if is_backends
                && let Some(association) = &mut self.association
                && !association.is_answered()
                && let Some(association) = self.association.take()
            {
                drop(association.refuse(refusal).await);
            }
        }
        (end, why)
    }
}

/// Has each abstract syntax judged. A permit where one of them is permitted, otherwise why the first is not; and the contexts of those
/// that are not.
fn contexts(
    connection: &Rc<Connection>,
    snapshot: &Snapshot,
    rules: &Stream,
    question: &AssociateQuestion,
    trail: &mut Trail,
) -> (Result<Permit, Refusal>, Vec<u8>) {
    let mut judged: Vec<(&str, Result<(), Refusal>)> = Vec::new();
    let mut permit = None;
    let mut refused = Vec::new();
    for context in &question.contexts {
        let class = context.abstract_syntax.as_str();
        let known = judged.iter().find(|(known, _)| *known == class).map(|(_, verdict)| *verdict);
        let verdict = known.unwrap_or_else(|| {
            let wish = Wish {
                action: Action::Connect,
                operation: Some(ASSOCIATE),
                resource_type: Some(class),
                patients: Patients::default(),
            };
            let verdict = judge(connection, snapshot, rules, wish, trail);
            let verdict = verdict.map(|given| permit = Some(given));
            judged.push((class, verdict));
            verdict
        });
        if verdict.is_err() {
            refused.push(context.id);
        }
    }
    let first = judged.iter().find_map(|(_, verdict)| verdict.err());
    let permit = permit.ok_or(first.unwrap_or(Refusal::PolicyNoPermit));
    if let Ok(permit) = &permit {
        // What was said last may have been a no to one of several.
        trail.stays_permitted(permit.policies());
    }
    (permit, refused)
}

/// Makes the intent durable, and connects to a server.
async fn connect(
    connection: &Rc<Connection>,
    snapshot: &Snapshot,
    rules: &Stream,
    permit: &Permit,
    trail: &mut Trail,
) -> Result<Opened, Refusal> {
    trail.intends().await?;
    reach(connection, snapshot, rules, permit, trail).await
}

fn rejection(refusal: Refusal) -> Rejection {
    if refusal.blame() == Blame::Service { Rejection::Temporary } else { Rejection::NotAuthorized }
}

/// A status of DICOM (PS3.7 annex C) as records have one: success, pending and warnings; what was cancelled; failures.
const fn status_of(status: u16) -> StatusCode {
    match status {
        0x0000 | 0x0001 | 0x0107 | 0x0116 | 0xb000..=0xbfff | 0xff00 | 0xff01 => StatusCode::OK,
        0xfe00 => StatusCode::RESET_CONTENT,
        0x0124 => StatusCode::FORBIDDEN,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}
