//! Over HTTP/2 nothing is refused behind the log's back, nothing is waited for without end, and an answer has the form
//! that its request allows.

use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::h2::{END_STREAM, encode, hpack, kind};
use gateway_tests::{Clinic, DOCTOR, Ended};

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

#[test]
fn a_header_list_that_is_too_long_is_a_refusal_like_others() {
    let clinic = Clinic::builder().limit("header_bytes", 8192).limit("target_bytes", 1024).start();
    let value = "v".repeat(4000);
    let mut h2 = clinic.h2(DOCTOR);
    let two = [("x-a", &*value), ("x-b", "short")];
    assert_eq!(h2.request("GET", "/open/ok", &two, b"").expect("an answer").status, 200);
    let three = [("x-a", &*value), ("x-b", &*value), ("x-c", &*value)];
    for method in ["GET", "POST"] {
        let body: &[u8] = if method == "POST" { b"{}" } else { b"" };
        let answer = h2.request(method, "/open/long", &three, body).expect("an answer");
        assert_eq!((answer.status, &*answer.problem()), (431, "header-too-large"), "{answer:?}");
    }
    let asked = clinic.asked_from(h2.local);
    let refused: Vec<_> = asked.iter().filter(|record| text(record, "reason") == "header-too-large").collect();
    assert_eq!(refused.len(), 2, "{asked:#?}");
    assert!(refused.iter().all(|record| text(record, "target") == "/open/long"), "{refused:#?}");
    assert_eq!(h2.get("/open/ok").expect("an answer").status, 200, "the connection goes on");
    assert!(clinic.backend().seen().iter().all(|seen| seen.target() == "/open/ok"));
}

#[test]
fn a_header_list_that_even_the_library_refuses_is_recorded() {
    let clinic = Clinic::builder().limit("header_bytes", 8192).limit("target_bytes", 1024).start();
    let value = "v".repeat(4000);
    let fields: Vec<_> =
        ["x-0", "x-1", "x-2", "x-3", "x-4", "x-5", "x-6", "x-7", "x-8", "x-9"].map(|n| (n, &*value)).into();
    let mut h2 = clinic.h2(DOCTOR);
    for method in ["GET", "POST", "GET"] {
        let body: &[u8] = if method == "POST" { b"{}" } else { b"" };
        let answer = h2.request(method, "/open/long", &fields, body);
        assert!(answer.as_ref().is_ok_and(|answer| answer.status == 431), "{method}: {answer:?}");
    }
    let source = h2.local.to_string();
    let recorded = || {
        let records = clinic.records();
        let ours = records.into_iter().filter(|record| is(record, "refusal") && text(record, "source") == source);
        ours.map(|record| text(&record, "reason").to_owned()).collect::<Vec<_>>()
    };
    gateway_tests::until("the records", || (recorded().len() >= 3).then_some(()));
    assert_eq!(recorded(), ["header-too-large"; 3], "each once");
    assert_eq!(h2.get("/open/ok").expect("an answer").status, 200, "the connection goes on");
}

#[test]
fn a_header_section_that_does_not_end_is_not_waited_for() {
    let clinic = Clinic::builder().limit("header_timeout_ms", 1000).start();
    let block = |host: &str| {
        hpack(&[
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":authority", host.as_bytes()),
            (b":path", b"/open/slow"),
        ])
    };
    type Dribble = fn(usize) -> Vec<u8>;
    let dribbles: [(&str, Dribble); 3] = [
        ("silence", |_| Vec::new()),
        // One long frame, a byte of it at a time.
        ("a long CONTINUATION", |n| if n == 0 { vec![0, 64, 0, kind::CONTINUATION, 0, 0, 0, 0, 1] } else { vec![0] }),
        ("short CONTINUATIONs", |n| if n % 4 == 0 { encode(kind::CONTINUATION, 0, 1, &[0x10]) } else { Vec::new() }),
    ];
    for (name, dribble) in dribbles {
        let mut frames = clinic.frames(DOCTOR);
        let host = frames.wire.host();
        frames.wire.set_patience(Duration::from_millis(50));
        // Settings are acknowledged first: no frame may stand inside a header section.
        assert_eq!(frames.next_frame(), Err(Ended::Silent));
        frames.send(kind::HEADERS, END_STREAM, 1, &block(&host));
        let begun = Instant::now();
        let mut goaway = None;
        for n in 0..200 {
            frames.wire.send(dribble(n));
            match frames.next_frame() {
                Ok(frame) if frame.kind == kind::GOAWAY => goaway = frame.payload.get(7).copied(),
                Ok(frame) => panic!("{name}: {frame:?}"),
                Err(Ended::Silent) => {}
                Err(_) => break,
            }
        }
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(900) && took < Duration::from_millis(3500), "{name}: {took:?}");
        assert_eq!(goaway, Some(0xb), "{name}");
        let source = frames.wire.local();
        assert_eq!(clinic.wait_for_reasons(source), ["request-timeout"], "{name}");
        let closed = clinic.wait_for_record("the end", |record| {
            is(record, "connection-closed") && text(record, "connection.source") == source.to_string()
        });
        assert_eq!(text(&closed, "cause"), "request-timeout", "{name}");
    }
    assert_eq!(clinic.backend().connections(), 0);
    assert_eq!(clinic.h2(DOCTOR).get("/open/ok").expect("an answer").status, 200);
}
