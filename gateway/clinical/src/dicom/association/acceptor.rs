//! What the acceptor sends: passed on where it answers what was judged, and nowhere else.

use policy::patients::PatientSource;

use super::super::associate::Answer;
use super::super::command::{Command, Kind, Operation};
use super::super::fault::Fault;
use super::super::identify::identify;
use super::super::pdu::{
    ABORT, ASSOCIATE_AC, ASSOCIATE_RJ, Fragment, RELEASE_RP, RELEASE_RQ, Token, hold, put_fragment, put_short,
};
use super::super::question::Outcome;
use super::super::scan::Scan;
use super::super::syntax::encoding;
use super::message::{Context, Set, Sub, Waiting, Way};
use super::requestor::feed;
use super::{Association, Cause, Event, Phase, Side};

impl Association {
    /// One token; whether there was one.
    pub(super) fn acceptor_step(&mut self, bytes: &mut &[u8]) -> Result<bool, Fault> {
        let Some(token) = self.reader(Side::Acceptor).next(bytes)? else { return Ok(false) };
        match token {
            Token::Whole(ABORT, body) if matches!(self.phase, Phase::Forwarded(..) | Phase::Open) => {
                self.aborted(Side::Acceptor, &body);
            }
            Token::Whole(kind, body) => self.acceptor_pdu(kind, &body)?,
            Token::Begin(fragment) => self.acceptor_begin(fragment)?,
            Token::Bytes(piece) => self.acceptor_bytes(piece)?,
            Token::End => self.acceptor_end()?,
        }
        Ok(true)
    }

    fn acceptor_pdu(&mut self, kind: u8, body: &[u8]) -> Result<(), Fault> {
        match (kind, &self.phase) {
            (ASSOCIATE_AC, Phase::Forwarded(original, forwarded)) => {
                let answer = Answer::read(body, forwarded)?;
                let mut ids = Vec::new();
                for context in &forwarded.contexts {
                    if let Some((0, Some(syntax))) = answer.results.get(&context.id)
                        && let Some(encoding) = encoding(syntax)
                    {
                        let class = context.abstract_syntax.clone();
                        self.contexts.insert(context.id, Context { class, encoding });
                        ids.push(context.id);
                    }
                }
                let [requestor, _] = &mut self.outboxes;
                answer.write(original, requestor);
                self.max_pdu = [self.max_pdu(Side::Requestor), answer.max_pdu()];
                self.phase = Phase::Open;
                self.events.push_back(Event::Established(ids));
            }
            (ASSOCIATE_RJ, Phase::Forwarded(..)) => {
                let [_, result, source, reason] = body else { return Err(Fault::MalformedPdu) };
                if !matches!((result, source, reason), (1 | 2, 1..=3, 0..=10)) {
                    return Err(Fault::MalformedPdu);
                }
                self.put_rejection(*result, *source, *reason);
                self.close(Cause::RejectedByAcceptor);
            }
            (RELEASE_RQ, Phase::Open) if !self.releasing[1] && matches!(self.acceptor.set, Set::None) => {
                self.releasing = [self.releasing[0], true];
                put_short(self.outbox(Side::Requestor), RELEASE_RQ, [0; 4]);
            }
            (RELEASE_RP, Phase::Open) if self.releasing[0] && matches!(self.acceptor.set, Set::None) => {
                self.released(Side::Acceptor);
            }
            _ => return Err(Fault::UnexpectedPdu),
        }
        Ok(())
    }

    fn acceptor_begin(&mut self, fragment: Fragment) -> Result<(), Fault> {
        if !matches!(self.phase, Phase::Open) || self.releasing[1] {
            return Err(Fault::UnexpectedPdu);
        }
        if !self.contexts.contains_key(&fragment.context) {
            return Err(Fault::Context);
        }
        self.acceptor.begin(fragment)?;
        if self.acceptor.is_forwarded() {
            put_fragment(self.outbox(Side::Requestor), fragment);
        }
        Ok(())
    }

    fn acceptor_bytes(&mut self, piece: &[u8]) -> Result<(), Fault> {
        match &mut self.acceptor.set {
            Set::None => return Err(Fault::Fragments),
            Set::Command { bytes, .. } => {
                hold(bytes, piece, self.limits.command_bytes).ok_or(Fault::CommandTooLong)?;
            }
            Set::Data(data) => {
                // The backend's data set is passed on even where it cannot be read: the record says so.
                if feed(data.scan.as_mut(), piece, false).is_none() {
                    data.scan = None;
                    data.unread = true;
                }
                let [requestor, _] = &mut self.outboxes;
                requestor.push(piece);
            }
        }
        Ok(())
    }

    fn acceptor_end(&mut self) -> Result<(), Fault> {
        let Some(fragment) = self.acceptor.fragment.take() else { return Err(Fault::Fragments) };
        if !fragment.last {
            return Ok(());
        }
        match std::mem::take(&mut self.acceptor.set) {
            Set::None => return Err(Fault::Fragments),
            Set::Command { context, bytes } => self.acceptor_command(context, bytes)?,
            Set::Data(data) => {
                let Way::Forwarded { operation, message } = data.way else { return Err(Fault::Fragments) };
                let findings = data.scan.map(Scan::finish);
                let unread = data.unread || matches!(findings, Some(Err(_)));
                let found = findings.and_then(Result::ok).map(|found| identify(&found, PatientSource::Answer));
                self.name(operation, message, found.unwrap_or_default(), unread);
                self.settle();
                self.put_late();
            }
        }
        Ok(())
    }

    /// What waited for the end of the acceptor's data set.
    fn put_late(&mut self) {
        if let Some(late) = self.late.take() {
            self.put_command(Side::Requestor, late.context, &late.answer);
        }
    }

    fn acceptor_command(&mut self, context: u8, bytes: Vec<u8>) -> Result<(), Fault> {
        let command = Command::read(&bytes)?;
        match command.kind {
            Kind::Response(operation) => self.response(context, operation, command, bytes),
            Kind::Request(operation) => self.sub_operation(context, operation, &command, &bytes),
            Kind::Cancel => Err(Fault::UnexpectedMessage),
        }
    }

    fn response(&mut self, context: u8, operation: Operation, command: Command, bytes: Vec<u8>) -> Result<(), Fault> {
        let Some(running) = self.running else { return Err(Fault::UnexpectedMessage) };
        let fits = running.context == context
            && running.operation == operation
            && running.message == command.message
            && !running.answered;
        let Some(status) = command.status.filter(|_| fits) else { return Err(Fault::UnexpectedMessage) };
        let waiting = Waiting { context, command, command_bytes: bytes, data: Vec::new(), whole: false };
        if operation.has_pending() && matches!(status, 0xff00 | 0xff01) {
            self.pass_on(&waiting, operation);
        } else {
            self.events.push_back(Event::Outcome(Outcome { operation, message: running.message, status }));
            self.outcome = Some(waiting);
        }
        Ok(())
    }

    /// The last answer is on record.
    pub(super) fn forward_outcome(&mut self, waiting: Waiting) {
        let Some(operation) = waiting.operation() else { return };
        self.pass_on(&waiting, operation);
        if let Some(running) = &mut self.running {
            running.answered = true;
        }
        self.settle();
    }

    fn pass_on(&mut self, waiting: &Waiting, operation: Operation) {
        let (id, message) = (waiting.context, waiting.command.message);
        self.put_command(Side::Requestor, id, &waiting.command_bytes);
        if waiting.command.has_data {
            let scan = self.contexts.get(&id).map(|context| Scan::new(context.encoding));
            self.acceptor.forward(id, scan, operation, message);
        }
    }

    /// A request of the acceptor's: an object of a C-GET that is under way, or an event of what an action began.
    fn sub_operation(&mut self, id: u8, operation: Operation, command: &Command, bytes: &[u8]) -> Result<(), Fault> {
        let context = self.contexts.get(&id).ok_or(Fault::Context)?;
        let within = if operation == Operation::CStore && command.class.as_ref() == Some(&context.class) {
            let getting = self.running.filter(|running| running.operation == Operation::CGet && !running.answered);
            getting.map(|running| (running.operation, running.message))
        } else {
            let acted = operation == Operation::NEventReport && self.acted.contains(&id);
            acted.then_some((operation, command.message))
        };
        let (of, message) = within.filter(|_| self.sub.is_none()).ok_or(Fault::UnexpectedMessage)?;
        let scan = Some(Scan::new(context.encoding));
        self.sub = Some(Sub { context: id, operation, message: command.message });
        self.put_command(Side::Requestor, id, bytes);
        if command.has_data {
            self.acceptor.forward(id, scan, of, message);
        }
        Ok(())
    }
}
