//! C1: a request whose end two parsers could see in two places is no request. 400, closed, recorded; the backend does
//! not learn of it.

use gateway_tests::{Clinic, DOCTOR};

/// A POST with these header lines and this body, on a route that the doctor may write to.
fn post(host: &str, lines: &str, body: &str) -> Vec<u8> {
    format!("POST /fhir/Observation HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n{body}").into_bytes()
}

/// A GET with these header lines.
fn get(host: &str, lines: &str) -> Vec<u8> {
    format!("GET /fhir/Patient/1 HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n").into_bytes()
}

const AMBIGUOUS: &str = "request-ambiguous";
const MALFORMED: &str = "request-malformed";
/// An inner request that must never be read as one.
const INNER: &str = "GET /fhir/Patient/666 HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Name, bytes, reason. None of them may reach the backend with a single byte.
#[rustfmt::skip]
fn heads(host: &str) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let chunk = format!("0\r\n\r\n{INNER}");
    vec![
        ("length, then coding", post(host, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", &chunk), AMBIGUOUS),
        ("coding, then length", post(host, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", &chunk), AMBIGUOUS),
        ("coding and length 0", post(host, "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", &chunk), AMBIGUOUS),
        ("identity, chunked", post(host, "Transfer-Encoding: identity, chunked\r\n", &chunk), AMBIGUOUS),
        ("chunked, chunked", post(host, "Transfer-Encoding: chunked, chunked\r\n", &chunk), AMBIGUOUS),
        ("chunked, identity", post(host, "Transfer-Encoding: chunked, identity\r\n", &chunk), AMBIGUOUS),
        ("chunked twice", post(host, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", &chunk), AMBIGUOUS),
        ("gzip, then chunked", post(host, "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", &chunk), AMBIGUOUS),
        ("an unknown coding", post(host, "Transfer-Encoding: xchunked\r\n", &chunk), AMBIGUOUS),
        ("an empty coding", post(host, "Transfer-Encoding:\r\n", &chunk), AMBIGUOUS),
        ("a quoted coding", post(host, "Transfer-Encoding: \"chunked\"\r\n", &chunk), AMBIGUOUS),
        ("a coding with a parameter", post(host, "Transfer-Encoding: chunked;q=1\r\n", &chunk), AMBIGUOUS),
        ("a coding with a vertical tab", post(host, "Transfer-Encoding: \x0bchunked\r\n", &chunk), MALFORMED),
        ("a coding with a space before the colon", post(host, "Transfer-Encoding : chunked\r\n", &chunk), MALFORMED),
        ("a coding on HTTP/1.0", format!("POST /fhir/Observation HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}").into(), AMBIGUOUS),
        ("length 5, 5", post(host, "Content-Length: 5, 5\r\n", "12345"), AMBIGUOUS),
        ("length +5", post(host, "Content-Length: +5\r\n", "12345"), AMBIGUOUS),
        ("length -5", post(host, "Content-Length: -5\r\n", "12345"), AMBIGUOUS),
        ("length 0x5", post(host, "Content-Length: 0x5\r\n", "12345"), AMBIGUOUS),
        ("length 5.0", post(host, "Content-Length: 5.0\r\n", "12345"), AMBIGUOUS),
        ("length 5_0", post(host, "Content-Length: 5_0\r\n", "12345"), AMBIGUOUS),
        ("length 5 5", post(host, "Content-Length: 5 5\r\n", "12345"), AMBIGUOUS),
        ("an empty length", post(host, "Content-Length:\r\n", "12345"), AMBIGUOUS),
        ("a length of 2^64", post(host, "Content-Length: 18446744073709551616\r\n", "12345"), AMBIGUOUS),
        ("two equal lengths", post(host, "Content-Length: 5\r\nContent-Length: 5\r\n", "12345"), AMBIGUOUS),
        ("two lengths", post(host, "Content-Length: 5\r\nContent-Length: 6\r\n", "12345"), AMBIGUOUS),
        ("a length with a space before the colon", post(host, "Content-Length : 5\r\n", "12345"), MALFORMED),
        ("two hosts", get(host, &format!("Host: {host}\r\n")), AMBIGUOUS),
        ("two different hosts", get(host, "Host: evil.example\r\n"), AMBIGUOUS),
        ("no host", b"GET /fhir/Patient/1 HTTP/1.1\r\n\r\n".to_vec(), MALFORMED),
        ("no host on HTTP/1.0", b"GET /fhir/Patient/1 HTTP/1.0\r\n\r\n".to_vec(), MALFORMED),
        ("an empty field name", get(host, ": x\r\n"), MALFORMED),
        ("a line without a colon", get(host, "X\r\n"), MALFORMED),
        ("a space in a field name", get(host, "X Y: z\r\n"), MALFORMED),
        ("a NUL in a field name", get(host, "X\0Y: z\r\n"), MALFORMED),
        ("a NUL in a value", get(host, "X: y\0z\r\n"), MALFORMED),
        ("a control character in a value", get(host, "X: y\x01z\r\n"), MALFORMED),
        ("a bare CR in a value", get(host, "X: y\rContent-Length: 5\r\n"), MALFORMED),
        ("a bare CR before the CRLF", get(host, "X: y\r\r\n"), MALFORMED),
        ("a bare LF after a field", get(host, "X: y\nContent-Length: 5\r\n"), MALFORMED),
        ("a bare LF after the request line", format!("GET /fhir/Patient/1 HTTP/1.1\nHost: {host}\r\n\r\n").into(), MALFORMED),
        ("bare LFs at the end", format!("GET /fhir/Patient/1 HTTP/1.1\r\nHost: {host}\r\nX: y\n\n").into(), MALFORMED),
        ("a folded line", get(host, "X: y\r\n z\r\n"), MALFORMED),
        ("a folded line with a tab", get(host, "X: y\r\n\tContent-Length: 5\r\n"), MALFORMED),
        ("a space before the first field", format!("GET /fhir/Patient/1 HTTP/1.1\r\n Host: {host}\r\n\r\n").into(), MALFORMED),
        ("an empty line first", format!("\r\nGET /fhir/Patient/1 HTTP/1.1\r\nHost: {host}\r\n\r\n").into(), MALFORMED),
        ("two spaces after the method", format!("GET  /fhir/Patient/1 HTTP/1.1\r\nHost: {host}\r\n\r\n").into(), MALFORMED),
        ("two spaces before the version", format!("GET /fhir/Patient/1  HTTP/1.1\r\nHost: {host}\r\n\r\n").into(), MALFORMED),
        ("a tab in the request line", format!("GET\t/fhir/Patient/1\tHTTP/1.1\r\nHost: {host}\r\n\r\n").into(), MALFORMED),
        ("no version", format!("GET /fhir/Patient/1\r\nHost: {host}\r\n\r\n").into(), MALFORMED),
        ("HTTP/1.2", format!("GET /fhir/Patient/1 HTTP/1.2\r\nHost: {host}\r\n\r\n").into(), MALFORMED),
        ("HTTP/2.0", format!("GET /fhir/Patient/1 HTTP/2.0\r\nHost: {host}\r\n\r\n").into(), MALFORMED),
        ("http/1.1", format!("GET /fhir/Patient/1 http/1.1\r\nHost: {host}\r\n\r\n").into(), MALFORMED),
        ("the HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), MALFORMED),
        ("no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\r\n\r\n".to_vec(), MALFORMED),
        ("a method that is no token", format!("G(T /fhir/Patient/1 HTTP/1.1\r\nHost: {host}\r\n\r\n").into(), MALFORMED),
    ]
}

#[test]
fn c1_ambiguous_heads_are_refused() {
    let clinic = Clinic::builder().start();
    let host = clinic.wire(DOCTOR).host();
    for (name, bytes, reason) in heads(&host) {
        let mut wire = clinic.wire(DOCTOR);
        wire.send(&bytes);
        let answer = wire.answer();
        assert_eq!((answer.status, &*answer.problem()), (400, reason), "{name}");
        wire.closes();
        let asked = clinic.asked_by(&wire);
        assert_eq!(asked.len(), 1, "{name}: one request, one record: {asked:#?}");
        assert_eq!(clinic.reasons_of(wire.local()), [reason], "{name}");
    }
    assert_eq!(clinic.backend().connections(), 0, "{:#?}", clinic.backend().seen());
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(wire.get("/fhir/Patient/1").status, 200);
}

/// Name and chunked body: bad at its first, or at its second chunk.
const CHUNKS: &[(&str, &str)] = &[
    ("an underscore", "0_2e\r\n"),
    ("a bare CR before an extension", "5\r\r;ABCD\r\n12345\r\n0\r\n\r\n"),
    ("2^64", "10000000000000000\r\nA\r\n0\r\n\r\n"),
    ("2^64 + 1 with leading zeros", "00000000010000000000000001\r\nA\r\n0\r\n\r\n"),
    ("0x5", "0x5\r\n12345\r\n0\r\n\r\n"),
    ("+5", "+5\r\n12345\r\n0\r\n\r\n"),
    ("-5", "-5\r\n12345\r\n0\r\n\r\n"),
    ("an empty size", "\r\n12345\r\n0\r\n\r\n"),
    ("an extension without a size", ";a=b\r\n\r\n"),
    ("a space before the size", " 5\r\n12345\r\n0\r\n\r\n"),
    ("a space after the size", "5 \r\n12345\r\n0\r\n\r\n"),
    ("a bare LF after the size", "5\n12345\r\n0\r\n\r\n"),
    ("a bare LF in an extension", "5;a\nb\r\n12345\r\n0\r\n\r\n"),
    ("a NUL in an extension", "5;a\0b\r\n12345\r\n0\r\n\r\n"),
    ("more data than said", "5\r\n123456\r\n0\r\n\r\n"),
    ("a bare LF after the data", "5\r\n12345\n0\r\n\r\n"),
    ("no line end after the data", "5\r\n123450\r\n\r\n"),
    ("bad after a good one", "5\r\n12345\r\nZZ\r\n"),
    ("a bare LF after the last chunk", "5\r\n12345\r\n0\n\n"),
    ("a trailer with an empty name", "5\r\n12345\r\n0\r\n: x\r\n\r\n"),
    ("a trailer with a space in its name", "5\r\n12345\r\n0\r\nX Y: x\r\n\r\n"),
    ("a trailer with a bare LF", "5\r\n12345\r\n0\r\nX: y\n\r\n\r\n"),
    ("a folded trailer", "5\r\n12345\r\n0\r\nX: y\r\n z\r\n\r\n"),
];

#[test]
fn c1_bad_chunks_break_the_exchange_and_the_backends_connection() {
    let clinic = Clinic::builder().start();
    let host = clinic.wire(DOCTOR).host();
    for (name, body) in CHUNKS {
        // Leaves a connection in the pool, so that a broken one that were kept would be taken next.
        assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200, "{name}");
        let whole = clinic.backend().seen().len();
        let mut wire = clinic.wire(DOCTOR);
        wire.send(post(&host, "Transfer-Encoding: chunked\r\n", &format!("{body}{INNER}")));
        let answer = wire.answer();
        assert_eq!((answer.status, &*answer.problem()), (400, MALFORMED), "{name}");
        wire.closes();
        let asked = clinic.asked_by(&wire);
        assert_eq!(asked.len(), 1, "{name}: one request, one record: {asked:#?}");
        assert_eq!(clinic.wait_for_reasons(wire.local()), [MALFORMED], "{name}");
        // The next request is whole, and not on a connection whose request broke off.
        assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/2").status, 200, "{name}");
        let seen = clinic.backend().seen();
        assert_eq!(seen.len(), whole + 1, "{name}: {seen:#?}");
        let next = clinic.backend().last();
        assert_eq!(next.target(), "/fhir/Patient/2", "{name}");
        let broken = clinic.backend().broken();
        assert!(broken.iter().all(|broken| broken.connection != next.connection), "{name}: reused after {broken:#?}");
    }
}

#[test]
fn c1_a_body_that_ends_early_is_not_passed_on_as_whole() {
    let clinic = Clinic::builder().start();
    for lines in ["Content-Length: 50\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut wire = clinic.wire(DOCTOR);
        let host = wire.host();
        wire.send(post(&host, lines, "5\r\n12345\r\n"));
        gateway_tests::until("the intent", || clinic.asked_by(&wire).pop());
        wire.half_close();
        while wire.try_answer().is_ok() {}
        assert_eq!(clinic.asked_by(&wire).len(), 1, "{lines}");
    }
    assert!(clinic.backend().seen().is_empty(), "{:#?}", clinic.backend().seen());
}

#[test]
fn c1_what_is_plain_is_taken() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    let host = wire.host();
    for (bytes, body) in [
        (post(&host, "Content-Length: 5\r\n", "12345"), "12345"),
        (post(&host, "content-length:5\r\n", "12345"), "12345"),
        (post(&host, "Content-Length: \t5 \r\n", "12345"), "12345"),
        (post(&host, "Content-Length: 0\r\n", ""), ""),
        (post(&host, "Transfer-Encoding: CHUNKED\r\n", "5\r\n12345\r\n0\r\n\r\n"), "12345"),
        (
            post(&host, "Transfer-Encoding: chunked\r\n", "05;a=b\r\n12345\r\nA\r\n6789012345\r\n0\r\n\r\n"),
            "123456789012345",
        ),
        (post(&host, "", ""), ""),
    ] {
        wire.send(&bytes);
        let answer = wire.answer();
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&bytes));
        let seen = clinic.backend().last();
        assert_eq!(String::from_utf8_lossy(&seen.body), body);
        assert_eq!(seen.values("host").len(), 1);
        assert!(seen.values("content-length").len() + seen.values("transfer-encoding").len() <= 1, "{seen:?}");
    }
    assert_eq!(clinic.asked_by(&wire).len(), 7);
}
