//! What the requestor sends: held, asked about, forwarded or refused.

use policy::patients::PatientSource;

use super::super::associate::{Request, Unfit};
use super::super::command::{Command, Kind, Operation, refusal};
use super::super::fault::Fault;
use super::super::identify::{Identified, identify};
use super::super::pdu::{
    ABORT, ASSOCIATE_RQ, Fragment, RELEASE_RP, RELEASE_RQ, Token, put_fragment, put_set, put_short,
};
use super::super::question::{AssociateQuestion, Named, OperationQuestion, Status, meaning};
use super::super::scan::{Malformed, Scan};
use super::message::{Data, Held, Late, Running, Set, Waiting, Way};
use super::{Association, Cause, Event, Phase, Side};

impl Association {
    /// One token; whether there was one.
    pub(super) fn requestor_step(&mut self, bytes: &mut &[u8]) -> Result<bool, Fault> {
        let before = *bytes;
        let Some(token) = self.reader(Side::Requestor).next(bytes)? else { return Ok(false) };
        match token {
            Token::Whole(ABORT, body) => self.aborted(Side::Requestor, &body),
            Token::Whole(kind, body) => self.requestor_pdu(kind, &body)?,
            Token::Begin(fragment) => self.requestor_begin(fragment)?,
            Token::Bytes(piece) => {
                let taken = self.requestor_bytes(piece)?;
                let left = piece.len() - taken;
                self.reader(Side::Requestor).give_back(left);
                *bytes = before.get(taken..).unwrap_or_default();
                if self.is_identified() {
                    self.ask_held(false)?;
                }
            }
            Token::End => self.requestor_end()?,
        }
        Ok(true)
    }

    fn requestor_pdu(&mut self, kind: u8, body: &[u8]) -> Result<(), Fault> {
        match (kind, &self.phase) {
            (ASSOCIATE_RQ, Phase::Waiting) => match Request::read(body) {
                Ok(request) => {
                    self.max_pdu = [request.max_pdu(), 0];
                    self.events.push_back(Event::Associate(Box::new(AssociateQuestion {
                        calling: request.calling.clone(),
                        called: request.called.clone(),
                        contexts: request.contexts.clone(),
                        identity: request.identity().cloned(),
                        implementation: request.implementation().cloned(),
                    })));
                    self.phase = Phase::Asked(Box::new(request));
                }
                Err(Unfit::Fault(fault)) => return Err(fault),
                Err(Unfit::Rejected(source, reason)) => {
                    self.put_rejection(1, source, reason);
                    self.close(Cause::Rejected);
                }
            },
            (RELEASE_RQ, Phase::Open) if self.may_release() => {
                self.releasing = [true, self.releasing[1]];
                put_short(self.outbox(Side::Acceptor), RELEASE_RQ, [0; 4]);
            }
            (RELEASE_RP, Phase::Open) if self.releasing[1] => self.released(Side::Requestor),
            _ => return Err(Fault::UnexpectedPdu),
        }
        Ok(())
    }

    /// Nothing of the requestor's is under way.
    fn may_release(&self) -> bool {
        !self.releasing[0] && self.running.is_none() && matches!(self.requestor.set, Set::None)
    }

    /// A side answers the other's wish to release.
    pub(super) fn released(&mut self, by: Side) {
        put_short(self.outbox(super::other(by)), RELEASE_RP, [0; 4]);
        self.releasing = match by {
            Side::Requestor => [self.releasing[0], false],
            Side::Acceptor => [false, self.releasing[1]],
        };
        if self.releasing == [false, false] {
            self.close(Cause::Released);
        }
    }

    fn requestor_begin(&mut self, fragment: Fragment) -> Result<(), Fault> {
        if !matches!(self.phase, Phase::Open) || self.releasing[0] {
            return Err(Fault::UnexpectedPdu);
        }
        if !self.contexts.contains_key(&fragment.context) {
            return Err(Fault::Context);
        }
        self.requestor.begin(fragment)?;
        if self.requestor.is_forwarded() {
            put_fragment(self.outbox(Side::Acceptor), fragment);
        }
        Ok(())
    }

    /// How many bytes were taken: fewer where an operation is to be asked about first.
    fn requestor_bytes(&mut self, piece: &[u8]) -> Result<usize, Fault> {
        let limits = self.limits;
        let mut refused = None;
        let taken = match &mut self.requestor.set {
            Set::None => return Err(Fault::Fragments),
            Set::Command { bytes, .. } => {
                super::super::pdu::hold(bytes, piece, limits.command_bytes).ok_or(Fault::CommandTooLong)?;
                piece.len()
            }
            Set::Data(data) => {
                let taken = match &mut data.way {
                    Way::Held(held) => {
                        let room = limits.held_bytes.saturating_sub(held.bytes.len());
                        let some = piece.get(..room.min(piece.len())).unwrap_or_default();
                        match feed(data.scan.as_mut(), some, held.streams()) {
                            _ if room == 0 => {
                                refused = Some(Status::OutOfResources);
                                piece.len()
                            }
                            Some(taken) => {
                                held.bytes.extend_from_slice(some.get(..taken).unwrap_or_default());
                                taken
                            }
                            None => {
                                refused = Some(Status::CannotUnderstand);
                                piece.len()
                            }
                        }
                    }
                    Way::Asked => 0,
                    Way::Forwarded { .. } => {
                        feed(data.scan.as_mut(), piece, false).ok_or(Fault::MalformedData)?;
                        let [_, acceptor] = &mut self.outboxes;
                        acceptor.push(piece);
                        piece.len()
                    }
                    Way::Refused { .. } => piece.len(),
                };
                data.received = data.received.saturating_add(taken as u64);
                taken
            }
        };
        if let Some(status) = refused {
            self.refuse_held(status);
        }
        let endless = |data: &Data| matches!(data.way, Way::Refused { .. }) && data.received > limits.refused_bytes;
        match &self.requestor.set {
            Set::Data(data) if endless(data) => Err(Fault::RefusedDataTooLong),
            Set::None | Set::Command { .. } | Set::Data(_) => Ok(taken),
        }
    }

    fn is_identified(&self) -> bool {
        let Set::Data(data) = &self.requestor.set else { return false };
        let Way::Held(held) = &data.way else { return false };
        held.streams() && data.scan.as_ref().is_some_and(Scan::is_identified)
    }

    fn requestor_end(&mut self) -> Result<(), Fault> {
        let Some(fragment) = self.requestor.fragment.take() else { return Err(Fault::Fragments) };
        if !fragment.last {
            return Ok(());
        }
        match std::mem::take(&mut self.requestor.set) {
            Set::None => Err(Fault::Fragments),
            Set::Command { context, bytes } => self.requestor_command(context, bytes),
            Set::Data(mut data) => match data.way {
                Way::Held(_) | Way::Asked => {
                    self.requestor.set = Set::Data(data);
                    self.ask_held(true)
                }
                Way::Refused { answer } => {
                    self.answer(data.context, answer);
                    Ok(())
                }
                Way::Forwarded { operation, message } => {
                    let findings = data.scan.take().map(Scan::finish).transpose().map_err(|_| Fault::MalformedData)?;
                    if let Some(findings) = findings.filter(|findings| !findings.nested.is_empty()) {
                        self.name(operation, message, identify(&findings, PatientSource::Body), false);
                    }
                    if let Some(running) = &mut self.running {
                        running.sent = true;
                    }
                    self.settle();
                    Ok(())
                }
            },
        }
    }

    fn requestor_command(&mut self, context: u8, bytes: Vec<u8>) -> Result<(), Fault> {
        let command = Command::read(&bytes)?;
        match command.kind {
            Kind::Request(operation) => self.request(context, operation, command, bytes),
            Kind::Response(operation) => {
                let fits = self.sub.is_some_and(|sub| {
                    sub.context == context && sub.operation == operation && sub.message == command.message
                });
                // The acceptor's data set has to be whole before it is answered.
                if !fits || self.acceptor.is_forwarded() {
                    return Err(Fault::UnexpectedMessage);
                }
                self.sub = None;
                self.put_command(Side::Acceptor, context, &bytes);
                if command.has_data {
                    self.requestor.forward(context, None, operation, command.message);
                }
                Ok(())
            }
            Kind::Cancel => {
                let fits = |running: &Running| {
                    running.context == context && running.message == command.message && running.operation.has_pending()
                };
                // One that crossed the last answer is nobody's any more.
                if self.running.as_ref().is_some_and(|running| fits(running) && !running.answered) {
                    self.put_command(Side::Acceptor, context, &bytes);
                }
                Ok(())
            }
        }
    }

    fn request(&mut self, id: u8, operation: Operation, command: Command, bytes: Vec<u8>) -> Result<(), Fault> {
        // One operation at a time: no other window was negotiated.
        if self.running.is_some() {
            return Err(Fault::UnexpectedMessage);
        }
        let context = self.contexts.get(&id).ok_or(Fault::Context)?;
        let foreign = operation.is_composite() && command.class.as_ref() != Some(&context.class);
        if command.has_data {
            let scan = Some(Scan::new(context.encoding));
            let held = Held { command, operation, command_bytes: bytes, bytes: Vec::new() };
            self.requestor.set =
                Set::Data(Box::new(Data { context: id, scan, way: Way::Held(held), received: 0, unread: false }));
            if foreign {
                self.refuse_held(Status::ClassNotSupported);
            }
            return Ok(());
        }
        let waiting = Waiting { context: id, command, command_bytes: bytes, data: Vec::new(), whole: true };
        let question = question(operation, &waiting.command, Identified::default())?;
        if foreign {
            self.events.push_back(Event::Refused(Box::new(question), Status::ClassNotSupported));
            self.refuse_request(waiting, Status::ClassNotSupported);
        } else {
            self.events.push_back(Event::Operation(Box::new(question)));
            self.waiting = Some(waiting);
        }
        Ok(())
    }

    /// What is held can be asked about: it is identified, or whole.
    fn ask_held(&mut self, whole: bool) -> Result<(), Fault> {
        let Set::Data(data) = &mut self.requestor.set else { return Ok(()) };
        let Way::Held(held) = &data.way else { return Ok(()) };
        let findings = match (whole, data.scan.take()) {
            (true, Some(scan)) => match scan.finish() {
                Ok(findings) => Some(findings),
                Err(Malformed) => {
                    self.refuse_held(Status::CannotUnderstand);
                    self.finish_refused();
                    return Ok(());
                }
            },
            (_, scan) => {
                data.scan = scan;
                None
            }
        };
        let findings = findings.as_ref().or(data.scan.as_ref().map(Scan::findings));
        let identified = findings.map(|findings| identify(findings, source(held.operation))).unwrap_or_default();
        let question = question(held.operation, &held.command, identified)?;
        let Way::Held(held) = std::mem::replace(&mut data.way, Way::Asked) else { return Ok(()) };
        let context = data.context;
        if whole {
            self.requestor.set = Set::None;
        }
        self.events.push_back(Event::Operation(Box::new(question)));
        self.waiting = Some(Waiting {
            context,
            command: held.command,
            command_bytes: held.command_bytes,
            data: held.bytes,
            whole,
        });
        Ok(())
    }

    /// Refuses what is held, without asking.
    fn refuse_held(&mut self, status: Status) {
        let Set::Data(data) = &mut self.requestor.set else { return };
        let Way::Held(held) = &data.way else { return };
        let identified =
            data.scan.as_ref().map(|scan| identify(scan.findings(), source(held.operation))).unwrap_or_default();
        let answer = refusal(&held.command, held.operation, status.code(held.operation));
        if let Ok(question) = question(held.operation, &held.command, identified) {
            self.events.push_back(Event::Refused(Box::new(question), status));
        }
        data.way = Way::Refused { answer };
        data.scan = None;
    }

    /// What was refused is whole already.
    fn finish_refused(&mut self) {
        if let Set::Data(data) = std::mem::take(&mut self.requestor.set)
            && let Way::Refused { answer } = data.way
        {
            self.answer(data.context, answer);
        }
    }

    /// The caller permits.
    pub(super) fn forward_request(&mut self, waiting: Waiting) {
        let Some(operation) = waiting.operation() else { return };
        let (context, message) = (waiting.context, waiting.command.message);
        self.put_command(Side::Acceptor, context, &waiting.command_bytes);
        if operation == Operation::NAction && !self.acted.contains(&context) {
            self.acted.push(context);
        }
        self.running = Some(Running { context, operation, message, sent: waiting.whole, answered: false });
        let most = self.max_pdu(Side::Acceptor);
        if waiting.whole {
            if waiting.command.has_data {
                put_set(self.outbox(Side::Acceptor), context, false, true, &waiting.data, most);
            }
            return;
        }
        // The rest of the fragment under way goes as a fragment of its own.
        let left = self.reader(Side::Requestor).left();
        let last = self.requestor.fragment.is_some_and(|fragment| fragment.last);
        put_set(self.outbox(Side::Acceptor), context, false, last && left == 0, &waiting.data, most);
        if left > 0 {
            put_fragment(self.outbox(Side::Acceptor), Fragment { context, command: false, last, length: left });
        }
        if let Set::Data(data) = &mut self.requestor.set {
            data.way = Way::Forwarded { operation, message };
        }
    }

    /// The caller refuses.
    pub(super) fn refuse_request(&mut self, waiting: Waiting, status: Status) {
        let Some(operation) = waiting.operation() else { return };
        let answer = refusal(&waiting.command, operation, status.code(operation));
        match &mut self.requestor.set {
            Set::Data(data) if !waiting.whole => {
                data.way = Way::Refused { answer };
                data.scan = None;
            }
            Set::None | Set::Command { .. } | Set::Data(_) => self.answer(waiting.context, answer),
        }
    }

    /// Answers the requestor, in its turn.
    fn answer(&mut self, context: u8, answer: Vec<u8>) {
        if self.acceptor.is_forwarded() {
            self.late = Some(Late { context, answer });
        } else {
            self.put_command(Side::Requestor, context, &answer);
        }
    }

    pub(super) fn put_command(&mut self, to: Side, context: u8, bytes: &[u8]) {
        let most = self.max_pdu(to);
        put_set(self.outbox(to), context, true, true, bytes, most);
    }

    /// An operation that was sent whole and answered is over.
    pub(super) fn settle(&mut self) {
        self.running.take_if(|running| running.sent && running.answered);
    }

    pub(super) fn name(&mut self, operation: Operation, message: u16, found: Identified, unread: bool) {
        if unread || !found.patients.ids.is_empty() || found.patients.truncated {
            let Identified { patients, study, .. } = found;
            self.events.push_back(Event::Named(Box::new(Named { operation, message, patients, study, unread })));
        }
    }
}

/// None where it is malformed. Without `stops`, nothing makes it stop.
pub(super) fn feed(scan: Option<&mut Scan>, bytes: &[u8], stops: bool) -> Option<usize> {
    let Some(scan) = scan else { return Some(bytes.len()) };
    let mut taken = scan.feed(bytes).ok()?;
    while !stops && taken < bytes.len() {
        taken += scan.feed(bytes.get(taken..)?).ok()?;
    }
    Some(taken)
}

fn source(operation: Operation) -> PatientSource {
    match operation {
        Operation::CFind | Operation::CMove | Operation::CGet => PatientSource::Query,
        Operation::CStore
        | Operation::CEcho
        | Operation::NEventReport
        | Operation::NGet
        | Operation::NSet
        | Operation::NAction
        | Operation::NCreate
        | Operation::NDelete => PatientSource::Body,
    }
}

fn question(operation: Operation, command: &Command, found: Identified) -> Result<OperationQuestion, Fault> {
    let (action, effect) = meaning(operation);
    let Identified { patients, level, studies, study } = found;
    Ok(OperationQuestion {
        operation,
        action,
        effect,
        class: command.class.clone().ok_or(Fault::MalformedCommand)?,
        instance: command.instance.clone(),
        level,
        patients,
        studies,
        study,
        destination: command.destination.clone(),
        message: command.message,
    })
}
