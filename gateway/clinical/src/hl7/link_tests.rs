//! Tests of a connection as a whole.

use proptest::prelude::*;

use super::*;
use crate::testing::permit;

const ADT: &str =
    "MSH|^~\\&|LIS|SAKURA|EHR|DC|20261123||ADT^A08^ADT_A01|42|P|2.5\rPID|||4711^^^SAKURA~99^^^MOMIJI\rMRG|12\r";
const QUERY: &str = "MSH|^~\\&|LIS|SAKURA|EHR|DC|20261123||QBP^Q22|43|P|2.5\rQPD|PDQ|1|@PID.3.1^4711\r";
const ACK: &str = "MSH|^~\\&|EHR|DC|LIS|SAKURA|20261123||ACK^A08|a1|P|2.5\rMSA|AA|42\rPID|||4711\r";

fn framed(payload: &str) -> Vec<u8> {
    [b"\x0b", payload.as_bytes(), b"\x1c\r"].concat()
}

/// Feeds a side piece by piece, sends everything, and answers every question by `decide`.
struct Driven {
    link: Link,
    now: Instant,
    decide: fn(&MessageQuestion) -> Option<Refusal>,
    events: Vec<Event>,
    sender: Vec<u8>,
    receiver: Vec<u8>,
}

impl Driven {
    fn new(decide: fn(&MessageQuestion) -> Option<Refusal>) -> Self {
        let now = Instant::now();
        let limits = Limits { message_bytes: 4096, answer_bytes: 4096, ..Limits::default() };
        let link = Link::new(limits, now);
        Self { link, now, decide, events: Vec::new(), sender: Vec::new(), receiver: Vec::new() }
    }

    /// How many bytes were taken.
    fn feed(&mut self, from: Side, bytes: &[u8], pieces: usize) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            let end = bytes.len().min(taken + pieces);
            let now = self.link.handle(from, &bytes[taken..end], self.now);
            taken += now;
            if !self.settle() && now == 0 {
                break;
            }
        }
        taken
    }

    fn settle(&mut self) -> bool {
        let mut moved = false;
        loop {
            for (side, seen) in [(Side::Sender, &mut self.sender), (Side::Receiver, &mut self.receiver)] {
                let output = self.link.output(side).to_vec();
                seen.extend_from_slice(&output);
                self.link.sent(side, output.len());
                moved |= !output.is_empty();
            }
            let Some(event) = self.link.poll_event() else { return moved };
            moved = true;
            match &event {
                Event::Message(question) => match (self.decide)(question) {
                    None => self.link.permit(permit(question.action), self.now).unwrap(),
                    Some(refusal) => self.link.refuse(refusal, 0, self.now).unwrap(),
                },
                Event::Unfit { refusal, .. } => self.link.refuse(*refusal, 0, self.now).unwrap(),
                Event::Outcome(_) => self.link.recorded(self.now).unwrap(),
                Event::Closed(_) => {}
            }
            self.events.push(event);
        }
    }
}

#[test]
fn a_message_is_judged_forwarded_and_answered() {
    let mut driven = Driven::new(|_| None);
    driven.feed(Side::Sender, &framed(ADT), 7);
    assert_eq!(driven.receiver, framed(ADT));
    let Event::Message(question) = &driven.events[0] else { panic!() };
    assert_eq!(
        (question.operation.as_str(), question.action, question.effect),
        ("ADT^A08", Action::Update, policy::Effect::Changing)
    );
    assert_eq!((question.facility.namespace.as_str(), question.control_id.as_str()), ("SAKURA", "42"));
    let ids: Vec<_> = question.patients.ids.iter().map(|id| id.value.as_str()).collect();
    assert_eq!(ids, ["4711", "99", "12"]);
    driven.feed(Side::Receiver, &framed(ACK), 5);
    assert_eq!(driven.sender, framed(ACK));
    let Event::Outcome(outcome) = &driven.events[1] else { panic!() };
    assert_eq!((outcome.control_id.as_str(), outcome.code.as_str()), ("42", "AA"));
    assert_eq!(outcome.patients.ids[0].value, "4711");
    assert_eq!(driven.link.poll_timeout(), Some(driven.now + Duration::from_secs(3_600)));
}

#[test]
fn what_is_pipelined_waits_for_the_answer() {
    let mut driven = Driven::new(|_| None);
    let both = [framed(ADT), framed(QUERY)].concat();
    let taken = driven.feed(Side::Sender, &both, 1000);
    assert_eq!(taken, framed(ADT).len());
    assert_eq!(driven.receiver, framed(ADT));
    driven.feed(Side::Receiver, &framed(ACK), 1000);
    driven.feed(Side::Sender, &both[taken..], 1000);
    assert_eq!(driven.receiver, both);
}

#[test]
fn a_refusal_is_an_answer_and_the_next_message_passes() {
    let mut driven = Driven::new(|question| (question.action == Action::Update).then_some(Refusal::NotAuthorized));
    driven.feed(Side::Sender, &[framed(ADT), framed(QUERY)].concat(), 1000);
    assert_eq!(driven.receiver, framed(QUERY));
    let answer = String::from_utf8(driven.sender).unwrap();
    assert!(answer.contains("\rMSA|AR|42|not authorized\rERR|"), "{answer:?}");
    assert!(answer.starts_with("\x0bMSH|^~\\&|EHR|DC|LIS|SAKURA|") && answer.ends_with("\x1c\r"));
}

#[test]
fn what_cannot_be_asked_about_is_answered_or_ends_the_connection() {
    for (from, to, code) in [
        ("ADT^A08", "ZZZ^Z01", "AR"),
        ("\rPID", "\nPID", "AE"),
        ("\rPID", "\rMSH|^~\\&|\rPID", "AE"),
        ("|2.5\r", "|2.5||||||BIG-5\r", "AE"),
        ("|2.5\r", "|2.5|||NE|NE\r", "AR"),
        ("|42|", "||", "AE"),
    ] {
        let mut driven = Driven::new(|_| None);
        driven.feed(Side::Sender, &framed(&ADT.replacen(from, to, 1)), 1000);
        assert!(driven.receiver.is_empty(), "{to:?}");
        let answer = String::from_utf8(driven.sender).unwrap();
        assert!(answer.contains(&format!("\rMSA|{code}|")), "{to:?}: {answer:?}");
        assert!(!driven.link.is_closed());
    }
    for bytes in [
        framed("PID|1"),
        framed(&ADT.replacen("^~\\&", "~^\\&", 1)),
        b"GET / HTTP/1.1\r\n".to_vec(),
        framed(&"x".repeat(5000)),
    ] {
        let mut driven = Driven::new(|_| None);
        driven.feed(Side::Sender, &bytes, 1000);
        assert!(driven.link.is_closed() && driven.receiver.is_empty() && driven.sender.is_empty());
    }
}

#[test]
fn what_follows_a_frame_is_another_frame_or_nothing() {
    let mut driven = Driven::new(|_| None);
    let smuggled = [framed(ADT), b"MSH|^~\\&|X\r\x1c\r".to_vec()].concat();
    driven.feed(Side::Sender, &smuggled, 1000);
    driven.feed(Side::Receiver, &framed(ACK), 1000);
    driven.feed(Side::Sender, &smuggled[framed(ADT).len()..], 1000);
    assert_eq!(driven.receiver, framed(ADT));
    assert_eq!(driven.events.last(), Some(&Event::Closed(Cause::Frame(Side::Sender, FrameFault::Outside))));
}

#[test]
fn an_answer_that_answers_nothing_ends_the_connection() {
    for answer in [
        ACK.replacen("|42\r", "|41\r", 1),
        ACK.replacen("MSA|", "ZSA|", 1),
        ACK.replacen("\rPID", "\rMSA|AA|42\rPID", 1),
    ] {
        let mut driven = Driven::new(|_| None);
        driven.feed(Side::Sender, &framed(ADT), 1000);
        driven.feed(Side::Receiver, &framed(&answer), 1000);
        assert!(driven.sender.is_empty(), "{answer:?}");
        assert_eq!(driven.events.last(), Some(&Event::Closed(Cause::UnexpectedAnswer)));
    }
    let mut driven = Driven::new(|_| None);
    driven.feed(Side::Receiver, &framed(ACK), 1000);
    assert_eq!(driven.events.last(), Some(&Event::Closed(Cause::UnexpectedAnswer)));
}

#[test]
fn the_second_answer_of_the_enhanced_mode_comes_when_it_will() {
    let mut driven = Driven::new(|_| None);
    driven.feed(Side::Sender, &framed(&ADT.replacen("|2.5\r", "|2.5|||AL|AL\r", 1)), 1000);
    driven.feed(Side::Receiver, &framed(&ACK.replacen("|AA|", "|CA|", 1)), 1000);
    driven.feed(Side::Sender, &framed(QUERY), 1000);
    driven.feed(Side::Receiver, &framed(ACK), 1000);
    driven.feed(Side::Receiver, &framed(&ACK.replacen("|42\r", "|43\r", 1)), 1000);
    assert!(!driven.link.is_closed());
    driven.feed(Side::Receiver, &framed(ACK), 1000);
    assert!(driven.link.is_closed(), "a third");
}

#[test]
fn time_and_word_of_the_caller_end_it() {
    let mut driven = Driven::new(|_| None);
    driven.feed(Side::Sender, b"\x0bMSH", 1000);
    let due = driven.link.poll_timeout().unwrap();
    assert_eq!(due, driven.now + Duration::from_secs(30));
    driven.link.handle_timeout(due);
    driven.settle();
    assert_eq!(driven.events, [Event::Closed(Cause::TimedOut)]);
    let mut link = Link::new(Limits::default(), driven.now);
    assert_eq!(link.permit(permit(Action::Update), driven.now), Err(NotAsked));
    link.handle(Side::Sender, &framed(ADT), driven.now);
    assert_eq!(link.permit(permit(Action::Search), driven.now), Err(NotAsked), "for another action");
    link.cut();
    assert!(link.is_closed() && link.output(Side::Receiver).is_empty());
}

proptest! {
    #[test]
    fn chunks_do_not_matter(pieces in 1_usize..60, at in 0_usize..200, with in any::<u8>()) {
        let mut bytes = [framed(ADT), framed(QUERY)].concat();
        let at = at % bytes.len();
        bytes[at] ^= with;
        let run = |pieces: usize| {
            let mut driven = Driven::new(|question| (question.action == Action::Update).then_some(Refusal::Facility));
            driven.feed(Side::Sender, &bytes, pieces);
            driven.feed(Side::Receiver, &framed(&ACK.replacen("|42\r", "|43\r", 1)), pieces);
            (driven.events, driven.sender, driven.receiver)
        };
        prop_assert_eq!(run(pieces), run(10_000));
    }
}
