//! Over HTTP/2 nothing is refused behind the log's back, nothing is waited for without end, and an answer has the form
//! that its request allows.

use gateway_tests::h2::{END_STREAM, kind};
use gateway_tests::{Clinic, DOCTOR};

#[test]
fn a_refused_head_is_answered_without_content() {
    let clinic = Clinic::builder().start();
    let mut frames = clinic.frames(DOCTOR);
    let host = frames.wire.host();
    for (stream, target) in [(1, "/nowhere"), (3, "/admin/x"), (5, "/open/../x")] {
        let fields = frames.request("HEAD", target, &host);
        frames.headers(stream, &fields, true);
        let frame = frames.next_frame().expect("an answer");
        assert_eq!((frame.kind, frame.stream), (kind::HEADERS, stream), "{target}");
        assert_ne!(frame.flags & END_STREAM, 0, "{target}: content follows a HEAD's answer: {frame:?}");
    }
    // What a GET would get is said.
    let (mut wire, mut h2) = (clinic.wire(DOCTOR), clinic.h2(DOCTOR));
    let length = wire.get("/nowhere").field("content-length").to_owned();
    for answer in [wire.request("HEAD", "/nowhere", &[], b""), h2.request("HEAD", "/nowhere", &[], b"").expect("one")] {
        assert_eq!((answer.status, answer.body.len()), (404, 0), "{answer:?}");
        assert_eq!(answer.field("content-length"), length, "{answer:?}");
        assert_eq!(answer.field("content-type"), "application/problem+json");
    }
    assert_eq!(wire.get("/open/ok").status, 200, "HTTP/1.1 goes on behind it");
}
