//! A connection of HL7 v2 over MLLP on arbitrary bytes from both sides (framing attacks).
//!
//! What must hold: nothing panics; however bytes are split, the same is asked, told and sent; and what the receiver sees is whole frames,
//! as many as were permitted, with no frame inside. The input is a list of steps: a byte for side and verdict, a length of two bytes,
//! that many bytes.
#![no_main]

use std::cell::RefCell;
use std::time::Instant;

use gateway_clinical::hl7::{Event, Limits, Link, Refusal, Side};
use libfuzzer_sys::fuzz_target;
use permits::Permits;

#[path = "permits.rs"]
mod permits;

thread_local! {
    static PERMITS: RefCell<Permits> = RefCell::new(Permits::new());
}

#[derive(Default, PartialEq, Debug)]
struct Seen {
    events: Vec<Event>,
    permitted: usize,
    sender: Vec<u8>,
    receiver: Vec<u8>,
}

fuzz_target!(|data: &[u8]| {
    let now = Instant::now();
    let (whole, pieces) = (run(data, usize::MAX, now), run(data, 3, now));
    assert_eq!(whole, pieces);
    let count = |byte: u8| whole.receiver.iter().filter(|b| **b == byte).count();
    assert_eq!((count(0x0b), count(0x1c)), (whole.permitted, whole.permitted));
});

fn run(data: &[u8], pieces: usize, now: Instant) -> Seen {
    let limits = Limits { message_bytes: 1024, answer_bytes: 1024, ..Limits::default() };
    let mut link = Link::new(limits, now);
    let mut seen = Seen::default();
    let mut rest = data;
    while let [kind, a, b, bytes @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*a, *b]) % 2048).min(bytes.len());
        let (bytes, next) = bytes.split_at(length);
        rest = next;
        let side = if kind & 1 == 0 { Side::Sender } else { Side::Receiver };
        let mut at = 0;
        while at < bytes.len() {
            let end = bytes.len().min(at.saturating_add(pieces));
            let taken = link.handle(side, &bytes[at..end], now);
            at += taken;
            if !settle(&mut link, kind & 2 == 0, &mut seen, now) && taken == 0 {
                break;
            }
        }
    }
    seen
}

fn settle(link: &mut Link, yes: bool, seen: &mut Seen, now: Instant) -> bool {
    let mut moved = false;
    loop {
        for side in [Side::Sender, Side::Receiver] {
            let output = link.output(side).to_vec();
            link.sent(side, output.len());
            moved |= !output.is_empty();
            match side {
                Side::Sender => seen.sender.extend(output),
                Side::Receiver => seen.receiver.extend(output),
            }
        }
        let Some(event) = link.poll_event() else { return moved };
        moved = true;
        match &event {
            Event::Message(question) if yes => {
                seen.permitted += 1;
                link.permit(PERMITS.with_borrow_mut(|permits| permits.permit(question.action)), now).unwrap();
            }
            Event::Message(_) => link.refuse(Refusal::NotAuthorized, 0, now).unwrap(),
            Event::Unfit { refusal, .. } => link.refuse(*refusal, 0, now).unwrap(),
            Event::Outcome(_) => link.recorded(now).unwrap(),
            Event::Closed(_) => {}
        }
        seen.events.push(event);
    }
}
