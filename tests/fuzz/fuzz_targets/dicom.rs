//! An association on arbitrary bytes from both sides (DICOM framing attacks).
//!
//! What must hold: nothing panics; however bytes are split, the same is asked, told and sent; the acceptor sees nothing before the
//! association is admitted; what waits stays within its bounds. The input is a list of steps: a byte for side and verdict, a length of
//! two bytes, that many bytes.
#![no_main]

use std::cell::RefCell;
use std::time::Instant;

use gateway_clinical::dicom::{Admission, Association, Cause, Event, Limits, Side, Status};
use libfuzzer_sys::fuzz_target;
use permits::Permits;
use policy::Action;

#[path = "permits.rs"]
mod permits;

thread_local! {
    static PERMITS: RefCell<Permits> = RefCell::new(Permits::new());
}

#[derive(Default, PartialEq, Debug)]
struct Seen {
    events: Vec<Event>,
    requestor: Vec<u8>,
    acceptor: Vec<u8>,
}

fuzz_target!(|data: &[u8]| {
    let now = Instant::now();
    let (whole, pieces) = (run(data, usize::MAX, now), run(data, 3, now));
    assert_eq!(whole.events, pieces.events);
    // Of a fragment that breaks the protocol more or less may have gone on.
    if !matches!(whole.events.last(), Some(Event::Closed(Cause::Fault(..)))) {
        assert!(whole == pieces);
    }
});

fn run(data: &[u8], pieces: usize, now: Instant) -> Seen {
    let limits = Limits { held_bytes: 512, refused_bytes: 2048, buffer_bytes: 1024, ..Limits::default() };
    let mut association = Association::new(limits, now);
    let mut seen = Seen::default();
    let mut rest = data;
    while let [kind, a, b, bytes @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*a, *b]) % 2048).min(bytes.len());
        let (bytes, next) = bytes.split_at(length);
        rest = next;
        let side = if kind & 1 == 0 { Side::Requestor } else { Side::Acceptor };
        let mut at = 0;
        while at < bytes.len() {
            let end = bytes.len().min(at.saturating_add(pieces));
            let taken = association.handle(side, &bytes[at..end], now);
            at += taken;
            if !settle(&mut association, kind & 2 == 0, &mut seen, now) && taken == 0 {
                break;
            }
        }
    }
    seen
}

fn settle(association: &mut Association, yes: bool, seen: &mut Seen, now: Instant) -> bool {
    let mut moved = false;
    loop {
        for side in [Side::Requestor, Side::Acceptor] {
            let output = association.output(side).to_vec();
            assert!(output.len() < 8 * 1024);
            association.sent(side, output.len());
            moved |= !output.is_empty();
            match side {
                Side::Requestor => seen.requestor.extend(output),
                Side::Acceptor => seen.acceptor.extend(output),
            }
        }
        let Some(event) = association.poll_event() else { return moved };
        moved = true;
        let permit = |action| PERMITS.with_borrow_mut(|permits| permits.permit(action));
        match &event {
            Event::Associate(_) => {
                assert!(seen.acceptor.is_empty());
                association.admit(permit(Action::Connect), &Admission { refused: vec![7], identity: yes }, now).unwrap();
            }
            Event::Operation(question) if yes => association.permit(permit(question.action), now).unwrap(),
            Event::Operation(_) => association.refuse(Status::NotAuthorized, now).unwrap(),
            Event::Outcome(_) => association.recorded(now).unwrap(),
            Event::Established(_) | Event::Refused(..) | Event::Named(_) | Event::Closed(_) => {}
        }
        seen.events.push(event);
    }
}
