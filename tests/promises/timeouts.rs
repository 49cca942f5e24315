//! An exchange that takes too long is answered, by whose fault it is, and its record says so. Once an answer has begun
//! it can only be cut, and the record of its end says why.

use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::h2::{Outcome, kind};
use gateway_tests::{Clinic, DOCTOR, Reply, until};

const LIMIT: Duration = Duration::from_secs(1);

/// A clinic whose exchanges may take a second, and whose backend takes longer.
fn clinic() -> Clinic {
    let clinic = Clinic::builder().limit("request_timeout_ms", 1000).start();
    clinic.backend().answers(|seen| {
        let reply = Reply::new(200, "{}");
        if seen.target() == "/open/ok" { reply } else { reply.after(Duration::from_secs(8)) }
    });
    clinic
}

fn in_time(what: &str, begun: Instant) {
    let took = begun.elapsed();
    assert!(took >= LIMIT.mul_f32(0.9) && took < LIMIT * 3, "{what}: after {took:?}");
}

#[test]
fn a_backend_that_does_not_answer_in_time() {
    let clinic = clinic();
    for (method, kept) in [("GET", "request"), ("POST", "outcome")] {
        let mut wire = clinic.wire(DOCTOR);
        let begun = Instant::now();
        let answer = wire.request(method, "/open/slow", &[], b"");
        in_time("HTTP/1.1", begun);
        assert_eq!((answer.status, &*answer.problem()), (504, "backend-timeout"));
        let mut h2 = clinic.h2(DOCTOR);
        let begun = Instant::now();
        let answer = h2.request(method, "/open/slow", &[], b"").expect("an answer");
        in_time("HTTP/2", begun);
        assert_eq!((answer.status, &*answer.problem()), (504, "backend-timeout"));
        for source in [wire.local(), h2.local] {
            assert_eq!(clinic.wait_for_reasons(source), ["backend-timeout"]);
            let id = text(&clinic.asked_from(source)[0], "request").to_owned();
            let record =
                clinic.wait_for_record("the refusal", |record| is(record, kept) && text(record, "request") == id);
            assert_eq!((record["status"].as_u64(), text(&record, "reason")), (Some(504), "backend-timeout"));
            let records = clinic.records();
            assert!(
                !records.iter().any(|record| is(record, "completion") && text(record, "request") == id),
                "a refused request has no answer to complete"
            );
        }
        assert_eq!(wire.get("/open/ok").status, 200, "the connection goes on");
        assert_eq!(h2.get("/open/ok").expect("an answer").status, 200, "the connection goes on");
    }
}

#[test]
fn a_body_that_does_not_come_in_time() {
    let clinic = clinic();
    for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let mut wire = clinic.wire(DOCTOR);
        let host = wire.host();
        wire.send(format!("POST /open/slow HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n\r\n"));
        let begun = Instant::now();
        // Never silent for long.
        while begun.elapsed() < LIMIT.mul_f32(0.95) {
            wire.send(if framing.starts_with('C') { "x" } else { "1\r\nx\r\n" });
            std::thread::sleep(Duration::from_millis(50));
        }
        let answer = wire.answer();
        in_time(framing, begun);
        assert_eq!((answer.status, &*answer.problem()), (408, "request-timeout"), "{framing}");
        assert_eq!(clinic.wait_for_reasons(wire.local()), ["request-timeout"], "{framing}");
    }
    let mut frames = clinic.frames(DOCTOR);
    let host = frames.wire.host();
    let fields = frames.request("POST", "/open/slow", &host);
    frames.headers(1, &fields, false);
    let begun = Instant::now();
    while begun.elapsed() < LIMIT.mul_f32(0.9) {
        frames.send(kind::DATA, 0, 1, b"x");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(frames.outcome(1), Outcome::Answered(408));
    in_time("HTTP/2", begun);
    assert_eq!(clinic.wait_for_reasons(frames.wire.local()), ["request-timeout"]);
    assert!(clinic.backend().seen().is_empty(), "no whole request reached the backend");
}

#[test]
fn an_answer_that_does_not_end_in_time() {
    let clinic = clinic();
    clinic.backend().answers(|_| Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun"));
    let mut wire = clinic.wire(DOCTOR);
    let begun = Instant::now();
    wire.send_request("GET", "/open/endless", &[], b"");
    assert!(wire.try_answer().is_err(), "a truncated answer looks truncated");
    in_time("HTTP/1.1", begun);
    let mut h2 = clinic.h2(DOCTOR);
    let begun = Instant::now();
    assert!(h2.get("/open/endless").is_err(), "a truncated answer looks truncated");
    in_time("HTTP/2", begun);
    for source in [wire.local(), h2.local] {
        let asked = until("the record", || clinic.asked_from(source).into_iter().next());
        let id = text(&asked, "request").to_owned();
        let completion =
            clinic.wait_for_record("the end", |record| is(record, "completion") && text(record, "request") == id);
        assert_eq!(text(&completion, "end"), "timeout", "{completion:#}");
    }
    // The control: a client that goes away before the time is up has aborted.
    let mut frames = clinic.frames(DOCTOR);
    let host = frames.wire.host();
    let fields = frames.request("GET", "/open/endless", &host);
    frames.headers(1, &fields, true);
    let source = frames.wire.local();
    let asked = until("the record", || clinic.asked_from(source).into_iter().next());
    drop(frames);
    let id = text(&asked, "request").to_owned();
    let completion =
        clinic.wait_for_record("the end", |record| is(record, "completion") && text(record, "request") == id);
    assert_eq!(text(&completion, "end"), "aborted", "{completion:#}");
}
