//! C2: an answer that comes before the request's body is read. The rest of that body is never taken for a request,
//! whichever part of the gateway answered.

use gateway_tests::audit::text;
use gateway_tests::{Clinic, DOCTOR, Ended, Reply, Wire};

/// Sixty bytes that are a request to anybody who has lost his place.
fn inner(host: &str) -> String {
    format!("GET /admin/inner HTTP/1.1\r\nHost: {host}\r\n\r\n{:>60}", "")[..].chars().take(60).collect()
}

/// Sends the outer request with the inner one as its body, all at once and then in pieces, and a good one behind it.
/// The answer to the outer one must have this status; then either the good one is answered or the connection closes.
fn answers_early(clinic: &Clinic, status: u16, outer: impl Fn(&Wire, &str) -> Vec<u8>) {
    for in_pieces in [false, true] {
        let mut wire = clinic.wire(DOCTOR);
        let host = wire.host();
        let good = format!("GET /fhir/Patient/good HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let body = inner(&host);
        assert_eq!(body.len(), 60);
        let outer = outer(&wire, &body);
        if in_pieces {
            let (head, body) = outer.split_at(outer.len() - 60);
            wire.send(head);
            let answer = wire.answer();
            assert_eq!(answer.status, status);
            wire.send(body);
        } else {
            wire.send(&outer);
            assert_eq!(wire.answer().status, status);
        }
        wire.send(&good);
        match wire.try_answer() {
            Ok(answer) => assert_eq!(answer.status, 200, "only the good request can be answered: {answer:?}"),
            Err(Ended::Silent) => panic!("neither an answer nor an end"),
            Err(_) => {}
        }
        only_these_were_asked(clinic, &wire);
    }
}

fn only_these_were_asked(clinic: &Clinic, wire: &Wire) {
    for record in clinic.asked_by(wire) {
        assert!(!text(&record, "target").starts_with("/admin/inner"), "the inner request was asked: {record:#}");
    }
    for seen in clinic.backend().seen() {
        assert!(!seen.target().starts_with("/admin/inner"), "the inner request reached the backend: {seen:?}");
    }
}

fn post(target: &str, wire: &Wire, lines: &str, body: &str) -> Vec<u8> {
    format!("POST {target} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n{body}", wire.host()).into_bytes()
}

#[test]
fn c2_denied_by_policy() {
    let clinic = Clinic::builder().start();
    answers_early(&clinic, 403, |wire, body| post("/admin/outer", wire, "Content-Length: 60\r\n", body));
}

#[test]
fn c2_no_such_route() {
    let clinic = Clinic::builder().start();
    answers_early(&clinic, 404, |wire, body| post("/nowhere", wire, "Content-Length: 60\r\n", body));
}

#[test]
fn c2_no_such_method() {
    let clinic = Clinic::builder().start();
    let outer = |wire: &Wire, body: &str| {
        let host = wire.host();
        format!("BREW /fhir/Patient/1 HTTP/1.1\r\nHost: {host}\r\nContent-Length: 60\r\n\r\n{body}").into_bytes()
    };
    answers_early(&clinic, 405, outer);
}

#[test]
fn c2_too_large() {
    let clinic = Clinic::builder().limit("body_bytes", 1_024).start();
    let outer = |wire: &Wire, body: &str| {
        let body = body.repeat(20);
        post("/fhir/Observation", wire, &format!("Content-Length: {}\r\n", body.len()), &body)
    };
    answers_early(&clinic, 413, outer);
    assert!(clinic.backend().seen().iter().all(|seen| seen.method() == "GET"));
}

#[test]
fn c2_too_large_without_saying_so() {
    let clinic = Clinic::builder().limit("body_bytes", 1_024).start();
    let mut wire = clinic.wire(DOCTOR);
    let host = wire.host();
    let chunk = inner(&host).repeat(20);
    wire.send(post(
        "/fhir/Observation",
        &wire,
        "Transfer-Encoding: chunked\r\n",
        &format!("4b0\r\n{chunk}\r\n0\r\n\r\n"),
    ));
    let answer = wire.answer();
    assert_eq!((answer.status, &*answer.problem()), (413, "body-too-large"));
    wire.closes();
    only_these_were_asked(&clinic, &wire);
    assert_eq!(clinic.wait_for_reasons(wire.local()), ["body-too-large"]);
    assert!(clinic.backend().seen().is_empty(), "{:?}", clinic.backend().seen());
}

#[test]
fn c2_misdirected() {
    let clinic = Clinic::builder().start();
    let outer = |_: &Wire, body: &str| {
        format!("POST /fhir/Observation HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 60\r\n\r\n{body}")
            .into_bytes()
    };
    answers_early(&clinic, 421, outer);
}

#[test]
fn c2_a_target_that_is_not_normal() {
    let clinic = Clinic::builder().start();
    answers_early(&clinic, 400, |wire, body| post("/fhir/../admin", wire, "Content-Length: 60\r\n", body));
}

#[test]
fn c2_an_expectation_that_cannot_be_met() {
    let clinic = Clinic::builder().start();
    let lines = "Content-Length: 60\r\nExpect: 200-ok\r\n";
    answers_early(&clinic, 417, |wire, body| post("/fhir/Observation", wire, lines, body));
}

#[test]
fn c2_denied_while_the_client_waits_to_be_told_to_go_on() {
    let clinic = Clinic::builder().start();
    let lines = "Content-Length: 60\r\nExpect: 100-continue\r\n";
    answers_early(&clinic, 403, |wire, body| post("/admin/outer", wire, lines, body));
}

#[test]
fn c2_a_backend_that_does_not_wait_for_the_body() {
    let clinic = Clinic::builder().start();
    clinic.backend().answers_early(|seen| (seen.method() == "POST").then(|| Reply::new(409, "{}")));
    answers_early(&clinic, 409, |wire, body| post("/fhir/Observation", wire, "Content-Length: 60\r\n", body));
}

#[test]
fn c2_a_backend_that_answers_and_closes() {
    let clinic = Clinic::builder().start();
    clinic.backend().answers_early(|seen| (seen.method() == "POST").then(|| Reply::new(409, "{}").then_close()));
    answers_early(&clinic, 409, |wire, body| post("/fhir/Observation", wire, "Content-Length: 60\r\n", body));
}

#[test]
fn c2_a_long_body_ends_the_connection() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    let host = wire.host();
    let flood = format!("GET /admin/inner HTTP/1.1\r\nHost: {host}\r\n\r\n").repeat(20_000);
    let length = flood.len();
    wire.send(post("/admin/outer", &wire, &format!("Content-Length: {length}\r\n"), &flood[..1_000]));
    assert_eq!(wire.answer().status, 403);
    wire.send(&flood[1_000..]);
    wire.send(format!("GET /fhir/Patient/good HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    wire.closes();
    only_these_were_asked(&clinic, &wire);
    assert_eq!(clinic.asked_by(&wire).len(), 1);
}

#[test]
fn c2_chunks_after_an_early_answer() {
    let clinic = Clinic::builder().start();
    let chunked = |wire: &Wire, body: &str| {
        let mut bytes = post("/admin/outer", wire, "Transfer-Encoding: chunked\r\n", "");
        // The size line belongs to the head here, so that the pieces of the test cut behind it.
        bytes.extend_from_slice(b"3c\r\n");
        bytes.extend_from_slice(body.as_bytes());
        bytes
    };
    let mut wire = clinic.wire(DOCTOR);
    let host = wire.host();
    wire.send(chunked(&wire, &inner(&host)));
    assert_eq!(wire.answer().status, 403);
    wire.send(format!("\r\n0\r\n\r\nGET /fhir/Patient/good HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    if let Ok(answer) = wire.try_answer() {
        assert_eq!(answer.status, 200);
    }
    only_these_were_asked(&clinic, &wire);
}

#[test]
fn c2_requests_in_a_row_are_answered_in_order() {
    let clinic = Clinic::builder().start();
    clinic.backend().answers(|seen| Reply::new(200, &seen.target()));
    let mut wire = clinic.wire(DOCTOR);
    let host = wire.host();
    let requests: String = (0..10).map(|n| format!("GET /fhir/Patient/{n} HTTP/1.1\r\nHost: {host}\r\n\r\n")).collect();
    wire.send(requests);
    for n in 0..10 {
        assert_eq!(String::from_utf8_lossy(&wire.answer().body), format!("/fhir/Patient/{n}"));
    }
    assert_eq!(clinic.asked_by(&wire).len(), 10);
}
