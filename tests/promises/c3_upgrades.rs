//! C3: no protocol is changed before a policy allows it and the backend agrees. Bytes behind a refused upgrade are
//! never passed on unread.

use gateway_tests::audit::text;
use gateway_tests::h2::Outcome;
use gateway_tests::{Clinic, DOCTOR, Reply, Wire};

/// Sends the request with another one right behind it. Expects this status and reason, then the end of the connection
/// or an answer to the other one in its own right; the backend sees neither's bytes as a tunnel's.
fn refused(clinic: &Clinic, wire: &mut Wire, request: &str, status: u16, reason: &str) {
    let host = wire.host();
    wire.send(format!("{request}GET /admin/pipelined HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let answer = wire.answer();
    assert_eq!((answer.status, &*answer.problem()), (status, reason), "{request}");
    if let Ok(answer) = wire.try_answer() {
        assert_eq!(answer.status, 403, "the request behind {request} has its own decision");
    }
    let asked = clinic.asked_by(wire);
    assert_eq!(text(&asked[0], "reason"), reason, "{request}: {asked:#?}");
    for record in &asked[1..] {
        assert_eq!(text(record, "decision"), "deny", "{request}: {record:#}");
    }
    assert_eq!(clinic.backend().connections(), 0, "{request}");
}

#[test]
fn c3_an_upgrade_is_refused_and_what_follows_is_not_passed_on() {
    let clinic = Clinic::builder().start();
    for upgrade in [
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        "Connection: upgrade\r\nUpgrade: connect-tcp\r\n",
        "Connection: keep-alive, Upgrade\r\nUpgrade: TLS/1.0\r\n",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
    ] {
        let mut wire = clinic.wire(DOCTOR);
        let request = format!("GET /open/socket HTTP/1.1\r\nHost: {}\r\n{upgrade}\r\n", wire.host());
        refused(&clinic, &mut wire, &request, 501, "upgrade-refused");
    }
}

#[test]
fn c3_connect_opens_no_tunnel() {
    let clinic = Clinic::builder().start();
    let port = clinic.door.address.port();
    for (target, host) in [
        ("127.0.0.1:22".to_owned(), "127.0.0.1:22".to_owned()),
        (format!("localhost:{port}"), format!("localhost:{port}")),
        ("/open/x".to_owned(), format!("localhost:{port}")),
    ] {
        let mut wire = clinic.wire(DOCTOR);
        wire.send(format!(
            "CONNECT {target} HTTP/1.1\r\nHost: {host}\r\n\r\nGET /admin/pipelined HTTP/1.1\r\nHost: {host}\r\n\r\n"
        ));
        let answer = wire.answer();
        assert!(matches!(answer.status, 400 | 405), "CONNECT {target}: {answer:?}");
        let reason = answer.problem();
        let asked = clinic.asked_by(&wire);
        assert_eq!(text(&asked[0], "reason"), reason, "{asked:#?}");
        assert_eq!(text(&asked[0], "method"), "CONNECT", "{asked:#?}");
    }
    assert_eq!(clinic.backend().connections(), 0);
}

#[test]
fn c3_connect_opens_no_tunnel_over_http2() {
    let clinic = Clinic::builder().start();
    let plain = [(":method", "CONNECT"), (":authority", "127.0.0.1:22")];
    let authority = format!("localhost:{}", clinic.door.address.port());
    let extended = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":path", "/open/socket"),
        (":authority", &*authority),
    ];
    for fields in [&plain[..], &extended[..]] {
        let mut frames = clinic.frames(DOCTOR);
        frames.headers(1, fields, false);
        let outcome = frames.outcome(1);
        assert!(
            matches!(outcome, Outcome::Answered(400 | 405 | 501) | Outcome::Reset(_) | Outcome::GoneAway(_)),
            "{fields:?}: {outcome:?}"
        );
    }
    assert_eq!(clinic.backend().connections(), 0);
}

#[test]
fn c3_a_101_that_nobody_asked_for_is_no_answer() {
    let clinic = Clinic::builder().start();
    clinic.backend().answers(|seen| match &*seen.target() {
        "/open/switch" => {
            Reply::raw("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello")
        }
        target => Reply::new(200, target),
    });
    let mut wire = clinic.wire(DOCTOR);
    let answer = wire.get("/open/switch");
    assert_eq!((answer.status, &*answer.problem()), (502, "backend-malformed"));
    assert_eq!(clinic.wait_for_reasons(wire.local()), ["backend-malformed"]);
    let switched = clinic.backend().last().connection;
    // The connection that changed its protocol carries no request of anybody.
    let answer = clinic.wire(DOCTOR).get("/open/after");
    assert_eq!(String::from_utf8_lossy(&answer.body), "/open/after");
    assert_ne!(clinic.backend().last().connection, switched);
}

#[test]
fn c3_trace_shows_nobody_what_the_gateway_adds() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    let answer = wire.request("TRACE", "/open/x", &[("Max-Forwards", "1")], b"");
    assert_eq!((answer.status, &*answer.problem()), (405, "method-not-allowed"));
    assert_eq!(clinic.backend().connections(), 0);
}
