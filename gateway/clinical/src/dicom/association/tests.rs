//! Tests of an association as a whole.

use proptest::prelude::*;

use super::super::associate::tests::{EXPLICIT, FIND, GET, IMPLICIT, SECONDARY, answer, context, request};
use super::super::command::Operation;
use super::super::command::tests::set;
use super::super::pdu::Token;
use super::super::scan::tests::element;
use super::super::syntax::Encoding;
use super::*;
use crate::testing::permit;

const VERIFICATION: &str = "1.2.840.10008.1.1";
const PATIENT: u32 = 0x0010_0020;
const STUDY: u32 = 0x0020_000d;

fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 0];
    out.extend((body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn fragment(context: u8, control: u8, bytes: &[u8]) -> Vec<u8> {
    let mut body = (bytes.len() as u32 + 2).to_be_bytes().to_vec();
    body.extend([context, control]);
    body.extend_from_slice(bytes);
    pdu(4, &body)
}

fn uid(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    bytes
}

fn command(code: u16, class: &str, message: u16, more: &[(u16, &[u8])]) -> Vec<u8> {
    let (class, code, message) = (uid(class), code.to_le_bytes(), message.to_le_bytes());
    let mut elements: Vec<(u16, &[u8])> = vec![(0x0002, &class), (0x0100, &code)];
    let answers = u16::from_le_bytes(code) & 0x8000 != 0;
    elements.push((if answers { 0x0120 } else { 0x0110 }, &message));
    elements.extend(more);
    elements.sort_by_key(|(element, _)| *element);
    set(&elements)
}

const DATA: (u16, &[u8]) = (0x0800, &[0, 0]);
const NO_DATA: (u16, &[u8]) = (0x0800, &[1, 1]);

fn echo(message: u16) -> Vec<u8> {
    fragment(1, 3, &command(0x30, VERIFICATION, message, &[NO_DATA]))
}

fn store(message: u16, data: &[u8], piece: usize) -> Vec<u8> {
    let head = command(0x01, SECONDARY, message, &[DATA, (0x1000, b"1.2.3\0")]);
    let mut out = fragment(3, 3, &head);
    let mut pieces = data.chunks(piece).peekable();
    while let Some(bytes) = pieces.next() {
        out.extend(fragment(3, if pieces.peek().is_none() { 2 } else { 0 }, bytes));
    }
    out
}

fn object(pixels: usize) -> Vec<u8> {
    let mut data = element(Encoding::Explicit, PATIENT, b"LO", b"4711");
    data.extend(element(Encoding::Explicit, STUDY, b"UI", b"1.2\0"));
    data.extend(element(Encoding::Explicit, 0x7fe0_0010, b"OW", &vec![5; pixels]));
    data
}

fn find(message: u16, patient: &[u8]) -> Vec<u8> {
    let mut data = element(Encoding::Implicit, 0x0008_0052, b"CS", b"STUDY ");
    data.extend(element(Encoding::Implicit, PATIENT, b"LO", patient));
    let head = command(0x20, FIND, message, &[(0x0700, &[0, 0]), DATA]);
    [fragment(5, 3, &head), fragment(5, 2, &data)].concat()
}

fn answered(context: u8, code: u16, class: &str, message: u16, status: u16) -> Vec<u8> {
    fragment(context, 3, &command(code | 0x8000, class, message, &[NO_DATA, (0x0900, &status.to_le_bytes())]))
}

fn opening() -> Vec<u8> {
    let contexts = [
        context(1, VERIFICATION, &[IMPLICIT]),
        context(3, SECONDARY, &[EXPLICIT]),
        context(5, FIND, &[IMPLICIT]),
        context(7, GET, &[IMPLICIT]),
    ];
    pdu(1, &request("PACS", "CT1", &contexts, &[]))
}

fn opened() -> Vec<u8> {
    pdu(2, &answer(&[(1, 0, IMPLICIT), (3, 0, EXPLICIT), (5, 0, IMPLICIT), (7, 0, IMPLICIT)], &[]))
}

type Decide = fn(&OperationQuestion) -> Option<Status>;

struct Driven {
    association: Association,
    now: Instant,
    decide: Decide,
    events: Vec<Event>,
    requestor: Vec<u8>,
    acceptor: Vec<u8>,
    /// Most bytes that ever waited.
    most: usize,
}

impl Driven {
    fn new(decide: Decide) -> Self {
        let now = Instant::now();
        let limits = Limits { held_bytes: 2048, refused_bytes: 100_000, buffer_bytes: 4096, ..Limits::default() };
        let association = Association::new(limits, now);
        Self { association, now, decide, events: Vec::new(), requestor: Vec::new(), acceptor: Vec::new(), most: 0 }
    }

    fn open(decide: Decide) -> Self {
        let mut driven = Self::new(decide);
        driven.feed(Side::Requestor, &opening(), 1000);
        driven.feed(Side::Acceptor, &opened(), 1000);
        assert!(matches!(driven.events[..], [Event::Associate(_), Event::Established(_)]));
        driven.clear();
        driven
    }

    fn clear(&mut self) {
        self.events.clear();
        self.requestor.clear();
        self.acceptor.clear();
    }

    fn feed(&mut self, from: Side, bytes: &[u8], pieces: usize) {
        let mut taken = 0;
        while taken < bytes.len() {
            let end = bytes.len().min(taken + pieces);
            let now = self.association.handle(from, &bytes[taken..end], self.now);
            taken += now;
            if !self.settle() && now == 0 {
                return;
            }
        }
    }

    fn settle(&mut self) -> bool {
        let mut moved = false;
        loop {
            for (side, seen) in [(Side::Requestor, &mut self.requestor), (Side::Acceptor, &mut self.acceptor)] {
                let output = self.association.output(side).to_vec();
                self.most = self.most.max(output.len());
                seen.extend_from_slice(&output);
                self.association.sent(side, output.len());
                moved |= !output.is_empty();
            }
            let Some(event) = self.association.poll_event() else { return moved };
            moved = true;
            match &event {
                Event::Associate(_) => {
                    let admission = Admission { refused: vec![9], identity: false };
                    self.association.admit(permit(Action::Connect), &admission, self.now).unwrap();
                }
                Event::Operation(question) => match (self.decide)(question) {
                    None => self.association.permit(permit(question.action), self.now).unwrap(),
                    Some(status) => self.association.refuse(status, self.now).unwrap(),
                },
                Event::Outcome(_) => self.association.recorded(self.now).unwrap(),
                Event::Established(_) | Event::Refused(..) | Event::Named(_) | Event::Closed(_) => {}
            }
            self.events.push(event);
        }
    }

    fn closed(&self) -> Option<Cause> {
        match self.events.last() {
            Some(Event::Closed(cause)) => Some(*cause),
            _ => None,
        }
    }

    fn question(&self) -> &OperationQuestion {
        let (Event::Operation(question) | Event::Refused(question, _)) = &self.events[0] else {
            panic!("{:?}", self.events[0])
        };
        question
    }
}

fn no(_: &OperationQuestion) -> Option<Status> {
    Some(Status::NotAuthorized)
}

#[test]
fn an_object_is_judged_by_its_patient_and_streams_in_bounded_memory() {
    let mut driven = Driven::open(|_| None);
    let sent = store(1, &object(3_000_000), 16_000);
    driven.feed(Side::Requestor, &sent, 1500);
    let question = driven.question();
    assert_eq!((question.operation, question.action), (Operation::CStore, Action::Create));
    assert_eq!(question.patients.ids[0].value, "4711");
    assert_eq!(question.study.as_ref().unwrap().study, "1.2");
    assert!(driven.most < 8192, "{}", driven.most);
    // What the acceptor sees is the same set, in fragments of our own.
    let mut reader = Reader::new(0);
    let (mut rest, mut data, mut lasts) = (driven.acceptor.as_slice(), Vec::new(), 0);
    let mut in_command = false;
    while let Some(token) = reader.next(&mut rest).unwrap() {
        if let Token::Begin(fragment) = token {
            in_command = fragment.command;
            lasts += usize::from(fragment.last);
        } else if let Token::Bytes(bytes) = token
            && !in_command
        {
            data.extend_from_slice(bytes);
        }
    }
    assert_eq!((data.len(), lasts), (object(3_000_000).len(), 2));
    assert!(data == object(3_000_000));
    driven.feed(Side::Acceptor, &answered(3, 1, SECONDARY, 1, 0), 9);
    assert_eq!(driven.requestor, answered(3, 1, SECONDARY, 1, 0));
    assert!(matches!(driven.events.last(), Some(Event::Outcome(Outcome { status: 0, message: 1, .. }))));
}

#[test]
fn a_refused_operation_is_answered_and_the_next_one_passes() {
    let mut driven = Driven::open(|question| (question.operation != Operation::CEcho).then_some(Status::NotAuthorized));
    driven.feed(Side::Requestor, &store(7, &object(50_000), 4_000), 999);
    assert!(driven.acceptor.is_empty(), "the acceptor saw nothing");
    let body = &driven.requestor[12..];
    let refusal = super::super::command::Command::read(body).unwrap();
    assert_eq!((refusal.message, refusal.status), (7, Some(0x0124)));
    driven.requestor.clear();
    driven.feed(Side::Requestor, &find(8, b"4711"), 10);
    assert!(driven.acceptor.is_empty() && !driven.requestor.is_empty());
    driven.feed(Side::Requestor, &echo(9), 10);
    assert_eq!(driven.acceptor, echo(9));
    driven.feed(Side::Acceptor, &answered(1, 0x30, VERIFICATION, 9, 0), 10);
    driven.feed(Side::Requestor, &pdu(5, &[0; 4]), 10);
    driven.feed(Side::Acceptor, &pdu(6, &[0; 4]), 10);
    assert_eq!(driven.closed(), Some(Cause::Released));
}

#[test]
fn a_query_is_judged_with_its_patients_and_its_answers_are_recorded() {
    let mut driven = Driven::open(|_| None);
    driven.feed(Side::Requestor, &find(2, b"4711"), 7);
    let question = driven.question();
    assert_eq!((question.action, question.level.as_deref()), (Action::Search, Some("STUDY")));
    assert_eq!(question.patients.ids[0].value, "4711");
    assert_eq!(driven.acceptor, find(2, b"4711"));
    let mut data = element(Encoding::Implicit, PATIENT, b"LO", b"4711");
    data.extend(element(Encoding::Implicit, STUDY, b"UI", b"1.9\0"));
    let pending = command(0x8020, FIND, 2, &[DATA, (0x0900, &[0, 0xff])]);
    let pending = [fragment(5, 3, &pending), fragment(5, 2, &data)].concat();
    let last = answered(5, 0x20, FIND, 2, 0);
    driven.feed(Side::Acceptor, &[pending.clone(), last.clone()].concat(), 7);
    assert_eq!(driven.requestor, [pending, last].concat());
    let Event::Named(named) = &driven.events[1] else { panic!() };
    assert_eq!(named.study.as_ref().unwrap().study, "1.9");
    assert!(matches!(driven.events[2], Event::Outcome(_)));
}

#[test]
fn objects_come_back_only_within_their_get() {
    let head = command(0x01, SECONDARY, 40, &[DATA, (0x1000, b"1.2.3\0")]);
    let sub = [fragment(3, 3, &head), fragment(3, 2, &object(10))].concat();
    let mut driven = Driven::open(|_| None);
    driven.feed(Side::Acceptor, &sub, 1000);
    assert_eq!(driven.closed(), Some(Cause::Fault(Side::Acceptor, Fault::UnexpectedMessage)));

    let mut driven = Driven::open(|_| None);
    let get = [
        fragment(7, 3, &command(0x10, GET, 4, &[(0x0700, &[0, 0]), DATA])),
        fragment(7, 2, &element(Encoding::Implicit, STUDY, b"UI", b"1.2\0")),
    ]
    .concat();
    driven.feed(Side::Requestor, &get, 1000);
    driven.feed(Side::Acceptor, &sub, 1000);
    assert_eq!(driven.requestor, sub);
    let Some(Event::Named(named)) = driven.events.last() else { panic!() };
    assert_eq!((named.operation, named.patients.ids[0].value.as_str()), (Operation::CGet, "4711"));
    driven.feed(Side::Requestor, &answered(3, 1, SECONDARY, 40, 0), 1000);
    driven.feed(Side::Acceptor, &answered(7, 0x10, GET, 4, 0), 1000);
    assert!(driven.closed().is_none());
    driven.feed(Side::Acceptor, &sub, 1000);
    assert!(driven.closed().is_some(), "the get is over");
}

#[test]
fn what_breaks_the_protocol_ends_the_association() {
    let head = command(0x20, FIND, 1, &[(0x0700, &[0, 0]), DATA]);
    let cases: Vec<(&str, Vec<u8>, Fault)> = vec![
        ("a context that nobody accepted", fragment(9, 3, b"x"), Fault::Context),
        ("data without a command", fragment(5, 2, b"x"), Fault::Fragments),
        ("a command amid data", [fragment(5, 3, &head), fragment(5, 1, b"x")].concat(), Fault::Fragments),
        ("another context amid data", [fragment(5, 3, &head), fragment(7, 0, b"x")].concat(), Fault::Fragments),
        ("a second operation", [echo(1), echo(2)].concat(), Fault::UnexpectedMessage),
        ("an answer to nothing", answered(1, 0x30, VERIFICATION, 1, 0), Fault::UnexpectedMessage),
        ("a second association", opening(), Fault::UnexpectedPdu),
        ("a release amid a command", [fragment(5, 1, &head), pdu(5, &[0; 4])].concat(), Fault::UnexpectedPdu),
        ("garbage", b"GET / HTTP/1.1\r\n\r\n".to_vec(), Fault::UnknownPdu),
        ("a command without an end", fragment(5, 1, &vec![0; 20_000]), Fault::CommandTooLong),
        ("a refused object without an end", store(1, &vec![0; 200_000], 8_000), Fault::RefusedDataTooLong),
    ];
    for (name, bytes, fault) in cases {
        let mut driven = Driven::open(|_| None);
        driven.feed(Side::Requestor, &bytes, 777);
        assert_eq!(driven.closed(), Some(Cause::Fault(Side::Requestor, fault)), "{name}");
        assert_eq!(driven.requestor.last_chunk::<10>().map(|last| last[0]), Some(7), "{name}: aborted");
        assert_eq!(driven.acceptor.last_chunk::<10>().map(|last| last[0]), Some(7), "{name}: aborted");
    }
}

#[test]
fn a_second_patient_behind_the_first_never_arrives_whole() {
    let mut driven = Driven::open(|_| None);
    let mut data = object(100);
    data.extend(element(Encoding::Explicit, PATIENT, b"LO", b"0815"));
    driven.feed(Side::Requestor, &store(1, &data, 64), 1000);
    assert_eq!(driven.closed(), Some(Cause::Fault(Side::Requestor, Fault::MalformedData)));
    let mut driven = Driven::open(|_| None);
    let padded = [element(Encoding::Explicit, 0x0009_1001, b"UN", &[0; 5_000]), object(10)].concat();
    driven.feed(Side::Requestor, &store(1, &padded, 500), 1000);
    assert!(matches!(driven.events[0], Event::Refused(_, Status::OutOfResources)));
    assert!(driven.acceptor.is_empty() && driven.closed().is_none());
}

#[test]
fn associations_are_refused_in_the_protocols_own_words() {
    let mut driven = Driven::new(no);
    let contexts = [context(9, SECONDARY, &[EXPLICIT])];
    driven.feed(Side::Requestor, &pdu(1, &request("PACS", "CT1", &contexts, &[])), 3);
    assert_eq!(driven.requestor, pdu(3, &[0, 1, 1, 1]), "no context was left");
    assert!(driven.acceptor.is_empty());
    let now = Instant::now();
    let mut association = Association::new(Limits::default(), now);
    association.handle(Side::Requestor, &opening(), now);
    assert_eq!(association.admit(permit(Action::Search), &Admission::default(), now), Err(NotAsked));
    association.reject(Rejection::CallingTitle).unwrap();
    assert_eq!(association.output(Side::Requestor), pdu(3, &[0, 1, 1, 3]));
    assert!(association.is_closed() && association.output(Side::Acceptor).is_empty());
    let mut early = Association::new(Limits::default(), now);
    early.handle(Side::Acceptor, &opened(), now);
    assert!(early.is_closed());
    let mut silent = Association::new(Limits::default(), now);
    let due = silent.poll_timeout().unwrap();
    silent.handle_timeout(due);
    assert!(silent.is_closed());
}

#[test]
fn a_cancel_reaches_its_operation_and_no_other() {
    let cancel =
        |message: u16| fragment(5, 3, &set(&[(0x0100, &[0xff, 0x0f]), (0x0120, &message.to_le_bytes()), NO_DATA]));
    let mut driven = Driven::open(|_| None);
    driven.feed(Side::Requestor, &find(2, b""), 1000);
    driven.acceptor.clear();
    driven.feed(Side::Requestor, &cancel(3), 1000);
    assert!(driven.acceptor.is_empty());
    driven.feed(Side::Requestor, &cancel(2), 1000);
    assert_eq!(driven.acceptor, cancel(2));
    assert!(driven.closed().is_none());
}

proptest! {
    #[test]
    fn chunks_do_not_matter(pieces in 1_usize..300, refuse in any::<bool>(), flip in proptest::option::of((0_usize..5_000, any::<u8>()))) {
        let mut steps = vec![
            (Side::Requestor, opening()),
            (Side::Acceptor, opened()),
            (Side::Requestor, store(1, &object(3_000), 1_000)),
            (Side::Acceptor, answered(3, 1, SECONDARY, 1, 0)),
            (Side::Requestor, find(2, b"4711")),
            (Side::Acceptor, answered(5, 0x20, FIND, 2, 0)),
            (Side::Requestor, pdu(5, &[0; 4])),
        ];
        if refuse {
            steps.retain(|(side, bytes)| *side == Side::Requestor || bytes.len() > 300);
        }
        if let Some((at, with)) = flip {
            let place = at % steps.len();
            let bytes = &mut steps[place].1;
            let at = at % bytes.len();
            bytes[at] ^= with;
        }
        let run = |pieces: usize| {
            let mut driven = Driven::new(if refuse { no } else { |_| None });
            for (side, bytes) in &steps {
                driven.feed(*side, bytes, pieces);
            }
            driven
        };
        let (one, other) = (run(pieces), run(100_000));
        prop_assert_eq!(&one.events, &other.events);
        if matches!(one.closed(), Some(Cause::Fault(..))) {
            // What of a broken fragment was already forwarded may differ.
            let same = one.acceptor.iter().zip(&other.acceptor).take_while(|(a, b)| a == b).count();
            prop_assert!(same + 3_100 >= one.acceptor.len().max(other.acceptor.len()));
        } else {
            prop_assert_eq!(one.acceptor, other.acceptor);
            prop_assert_eq!(one.requestor, other.requestor);
        }
    }
}
