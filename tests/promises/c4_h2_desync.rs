//! C4: an HTTP/2 request that promises one body and sends another, or that cannot be said in HTTP/1.1, never becomes
//! the beginning of somebody else's request.

use gateway_tests::audit::text;
use gateway_tests::h2::{END_STREAM, Frames, Outcome, kind};
use gateway_tests::{Clinic, DOCTOR, until};

/// The next request, on a connection of its own, is whole and arrives over a connection that nothing broke off on.
fn next_request_is_whole(clinic: &Clinic, name: &str) {
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/next").status, 200, "{name}");
    let next = clinic.backend().last();
    assert_eq!((&*next.method(), &*next.target()), ("GET", "/fhir/Patient/next"), "{name}");
    let broken = clinic.backend().broken();
    assert!(broken.iter().all(|broken| broken.connection != next.connection), "{name}: reused after {broken:#?}");
}

fn only_next_was_seen(clinic: &Clinic, name: &str) {
    let seen = clinic.backend().seen();
    // Bytes up to the length that was said are a whole request before anybody can know that more will follow.
    let is_as_said = |seen: &gateway_tests::Seen| name == "a long body in two frames" && seen.body == b"1234";
    let is_next = |seen: &gateway_tests::Seen| seen.target() == "/fhir/Patient/next";
    assert!(seen.iter().all(|seen| is_next(seen) || is_as_said(seen)), "{name}: {seen:#?}");
}

#[test]
fn c4_a_body_of_another_length_than_said() {
    let clinic = Clinic::builder().start();
    let authority = clinic.wire(DOCTOR).host();
    type Send = fn(&mut Frames);
    let bodies: [(&str, &str, Send); 6] = [
        ("the end with the head", "40", |_| {}),
        ("an empty last frame", "40", |frames| frames.send(kind::DATA, END_STREAM, 1, b"")),
        ("a short body", "40", |frames| frames.send(kind::DATA, END_STREAM, 1, b"12345")),
        ("a long body", "4", |frames| frames.send(kind::DATA, END_STREAM, 1, b"12345")),
        ("the end with trailers", "40", |frames| {
            frames.send(kind::DATA, 0, 1, b"12345");
            frames.headers(1, &[("x-trailer", "1")], true);
        }),
        ("a long body in two frames", "4", |frames| {
            frames.send(kind::DATA, 0, 1, b"1234");
            frames.send(kind::DATA, END_STREAM, 1, b"GET /admin HTTP/1.1\r\n\r\n");
        }),
    ];
    for (name, length, send) in bodies {
        assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/next").status, 200);
        let mut frames = clinic.frames(DOCTOR);
        let mut fields = frames.request("POST", "/fhir/Observation", &authority);
        fields.push(("content-length", length));
        frames.headers(1, &fields, name == "the end with the head");
        send(&mut frames);
        let outcome = frames.outcome(1);
        assert!(outcome.is_refusal(), "{name}: {outcome:?}");
        next_request_is_whole(&clinic, name);
        only_next_was_seen(&clinic, name);
    }
}

#[test]
fn c4_lengths_that_are_none() {
    let clinic = Clinic::builder().start();
    let authority = clinic.wire(DOCTOR).host();
    let lengths: [&[&str]; 6] = [&["+5"], &["5, 5"], &["0x5"], &[""], &["5", "5"], &["5", "6"]];
    for values in lengths {
        let mut frames = clinic.frames(DOCTOR);
        let mut fields = frames.request("POST", "/fhir/Observation", &authority);
        fields.extend(values.iter().map(|value| ("content-length", *value)));
        frames.headers(1, &fields, false);
        frames.send(kind::DATA, END_STREAM, 1, b"12345");
        let outcome = frames.outcome(1);
        assert!(outcome.is_refusal(), "{values:?}: {outcome:?}");
        next_request_is_whole(&clinic, &format!("{values:?}"));
        only_next_was_seen(&clinic, &format!("{values:?}"));
    }
}

/// Names and values, of any bytes.
type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;

/// Name, and the fields that replace or follow those of a plain GET.
#[rustfmt::skip]
fn heads(authority: &str) -> Vec<(&'static str, Fields<'_>)> {
    let get: [(&[u8], &[u8]); 4] =
        [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", authority.as_bytes()), (b":path", b"/fhir/Patient/1")];
    let with = |more: &[(&'static [u8], &'static [u8])]| [&get[..], more].concat();
    let without = |gone: &[u8]| get.iter().copied().filter(|(name, _)| *name != gone).collect::<Vec<_>>();
    let instead = |name: &[u8], value: &'static [u8]| {
        get.iter().copied().map(|field| if field.0 == name { (field.0, value) } else { field }).collect::<Vec<_>>()
    };
    vec![
        ("authority and host differ", with(&[(b"host", b"evil.example")])),
        ("two hosts", with(&[(b"host", b"localhost"), (b"host", b"evil.example")])),
        ("two methods", with(&[(b":method", b"POST")])),
        ("two paths", with(&[(b":path", b"/admin")])),
        ("two authorities", with(&[(b":authority", b"evil.example")])),
        ("two schemes", with(&[(b":scheme", b"http")])),
        ("an unknown pseudo-header", with(&[(b":forwarded", b"x")])),
        ("a pseudo-header of answers", with(&[(b":status", b"200")])),
        ("a pseudo-header after a field", [&[(&b"x"[..], &b"y"[..])], &get[..]].concat()),
        ("no method", without(b":method")),
        ("no path", without(b":path")),
        ("no scheme", without(b":scheme")),
        ("no authority and no host", without(b":authority")),
        ("an empty path", instead(b":path", b"")),
        ("a path without a slash", instead(b":path", b"admin")),
        ("a path that is an authority", instead(b":path", b"evil.example:80/admin")),
        ("a path with a space and a version", instead(b":path", b"/fhir/Patient/1 HTTP/1.1\r\nx: y")),
        ("a path with a space", instead(b":path", b"/fhir/Patient/1 2")),
        ("a path with NUL", instead(b":path", b"/fhir/Patient/1\0")),
        ("a path with LF", instead(b":path", b"/fhir/Patient/1\n")),
        ("a star", instead(b":path", b"*")),
        ("a method with a space", instead(b":method", b"GET /admin HTTP/1.1\r\nx:")),
        ("an empty method", instead(b":method", b"")),
        ("an authority with a comma", instead(b":authority", b"localhost,evil.example")),
        ("an authority with a user", instead(b":authority", b"x@localhost")),
        ("an authority with CRLF", instead(b":authority", b"localhost\r\nx: y")),
        ("an authority with a path", instead(b":authority", b"localhost/admin")),
        ("an empty authority", instead(b":authority", b"")),
        ("an upper-case name", with(&[(b"X-Upper", b"1")])),
        ("an upper-case identity", with(&[(b"Sekisho-Identity", b"1")])),
        ("an empty name", with(&[(b"", b"1")])),
        ("a name with a colon", with(&[(b"x:y", b"1")])),
        ("a name with a space", with(&[(b"x y", b"1")])),
        ("a name with CRLF", with(&[(b"x\r\ny", b"1")])),
        ("a name with NUL", with(&[(b"x\0", b"1")])),
        ("a value with CRLF", with(&[(b"x", b"1\r\nsekisho-identity: 2")])),
        ("a value with CR", with(&[(b"x", b"1\r2")])),
        ("a value with LF", with(&[(b"x", b"1\n2")])),
        ("a value with NUL", with(&[(b"x", b"1\x002")])),
        ("connection", with(&[(b"connection", b"keep-alive")])),
        ("keep-alive", with(&[(b"keep-alive", b"1")])),
        ("proxy-connection", with(&[(b"proxy-connection", b"keep-alive")])),
        ("transfer-encoding", with(&[(b"transfer-encoding", b"chunked")])),
        ("upgrade", with(&[(b"upgrade", b"websocket")])),
        ("te: gzip", with(&[(b"te", b"gzip")])),
        ("te: trailers, gzip", with(&[(b"te", b"trailers, gzip")])),
    ]
}

#[test]
fn c4_heads_that_http_1_1_could_not_say() {
    let clinic = Clinic::builder().start();
    let authority = clinic.wire(DOCTOR).host();
    for (name, fields) in heads(&authority) {
        let mut frames = clinic.frames(DOCTOR);
        frames.headers_raw(1, &fields, true);
        let outcome = frames.outcome(1);
        // A host that is not ours is misdirected; what is not a target of ours may be no route.
        let refused = outcome.is_refusal() || matches!(outcome, Outcome::Answered(404 | 421));
        assert!(refused, "{name}: {outcome:?}");
        for record in clinic.asked_from(frames.wire.local()) {
            assert_ne!(text(&record, "decision"), "permit", "{name}: {record:#}");
        }
        next_request_is_whole(&clinic, name);
        only_next_was_seen(&clinic, name);
    }
}

#[test]
fn c4_what_the_library_refuses_is_recorded_too() {
    let clinic = Clinic::builder().start();
    let authority = clinic.wire(DOCTOR).host();
    let mut unrecorded = Vec::new();
    for (name, fields) in heads(&authority) {
        let mut frames = clinic.frames(DOCTOR);
        frames.headers_raw(1, &fields, true);
        let _ = frames.outcome(1);
        let local = frames.wire.local();
        drop(frames);
        // The connection's end is recorded after everything else on it.
        until("the end of the connection", || {
            let records = clinic.records();
            let closed = |record: &&serde_json::Value| {
                text(record, "kind") == "connection-closed" && text(record, "connection.source") == local.to_string()
            };
            records.iter().find(closed).map(drop)
        });
        if clinic.reasons_of(local).is_empty() {
            unrecorded.push(name);
        }
    }
    assert!(unrecorded.is_empty(), "refused without a record: {unrecorded:#?}");
}

#[test]
fn c4_the_control_is_taken() {
    let clinic = Clinic::builder().start();
    let authority = clinic.wire(DOCTOR).host();
    let mut frames = clinic.frames(DOCTOR);
    let mut fields = frames.request("POST", "/fhir/Observation", &authority);
    fields.extend([("content-length", "5"), ("te", "trailers"), ("host", &authority)]);
    frames.headers(1, &fields, false);
    frames.send(kind::DATA, END_STREAM, 1, b"12345");
    assert_eq!(frames.outcome(1), Outcome::Answered(200));
    let seen = clinic.backend().last();
    assert_eq!((&seen.body[..], &*seen.method()), (&b"12345"[..], "POST"));
    assert_eq!(seen.values("host").len(), 1, "{seen:?}");
}

#[test]
fn c4_a_reset_in_the_body_breaks_off_the_backends_request() {
    let clinic = Clinic::builder().start();
    let authority = clinic.wire(DOCTOR).host();
    let mut frames = clinic.frames(DOCTOR);
    let fields = frames.request("POST", "/fhir/Observation", &authority);
    frames.headers(1, &fields, false);
    frames.send(kind::DATA, 0, 1, b"12345");
    until("the intent", || clinic.asked_from(frames.wire.local()).pop());
    // CANCEL.
    frames.send(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    clinic.wait_for_record("the outcome", |record| text(record, "kind") == "outcome");
    next_request_is_whole(&clinic, "a reset");
    only_next_was_seen(&clinic, "a reset");
}
