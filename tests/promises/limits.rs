//! Everything that a peer can send or hold has a bound, and going beyond it is answered, recorded and ends nobody else.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::h2::{END_STREAM, kind};
use gateway_tests::{Clinic, DOCTOR, Ended, Wire, connect_from, until};

/// Expects the refusal with this status and label, its record, and that the backend saw nothing of it.
fn refuses(clinic: &Clinic, wire: &mut Wire, status: u16, label: &str) {
    let answer = wire.answer();
    assert_eq!((answer.status, &*answer.problem()), (status, label), "{answer:?}");
    let source = wire.local();
    assert_eq!(clinic.wait_for_reasons(source).last().map(String::as_str), Some(label));
    assert!(clinic.backend().seen().iter().all(|seen| seen.target() == "/open/ok"), "it reached the backend");
    assert_eq!(clinic.wire(DOCTOR).get("/open/ok").status, 200, "nobody else is served");
}

#[test]
fn a_head_has_so_many_fields() {
    let clinic = Clinic::builder().limit("header_count", 20).start();
    let head = |host: &str, count: usize| {
        let fields: String = (0..count).map(|n| format!("x-{n}: 1\r\n")).collect();
        format!("GET /open/ok HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
    };
    let mut wire = clinic.wire(DOCTOR);
    let host = wire.host();
    wire.send(head(&host, 19));
    assert_eq!(wire.answer().status, 200, "20 fields with Host");
    wire.send(head(&host, 20));
    refuses(&clinic, &mut wire, 431, "header-too-large");
    assert_eq!(wire.closes(), Ended::Closed);
    let names: Vec<_> = (0..20).map(|n| format!("x-{n}")).collect();
    let fields: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let mut h2 = clinic.h2(DOCTOR);
    assert_eq!(h2.request("GET", "/open/ok", &fields[..18], b"").expect("an answer").status, 200);
    let mut more = fields.clone();
    more.push(("x-more", "1"));
    let answer = h2.request("GET", "/open/ok", &more, b"").expect("an answer");
    assert_eq!((answer.status, &*answer.problem()), (431, "header-too-large"));
    assert_eq!(h2.get("/open/ok").expect("an answer").status, 200, "the connection goes on");
}

#[test]
fn a_head_has_so_many_bytes() {
    let clinic = Clinic::builder().limit("header_bytes", 8192).limit("target_bytes", 1024).start();
    for one_field in [true, false] {
        let mut wire = clinic.wire(DOCTOR);
        let host = wire.host();
        let fields: String = if one_field {
            format!("x: {}\r\n", "y".repeat(9000))
        } else {
            (0..60).map(|n| format!("x-{n}: {}\r\n", "y".repeat(150))).collect()
        };
        wire.send(format!("GET /open/ok HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"));
        refuses(&clinic, &mut wire, 431, "header-too-large");
        assert_eq!(wire.closes(), Ended::Closed);
    }
    // Without an end, too.
    let mut wire = clinic.wire(DOCTOR);
    wire.send(format!("GET /open/ok HTTP/1.1\r\nHost: localhost\r\nx: {}", "y".repeat(20_000)));
    refuses(&clinic, &mut wire, 431, "header-too-large");
}

#[test]
fn a_target_has_so_many_bytes() {
    let clinic = Clinic::builder().limit("target_bytes", 512).start();
    let target = |length: usize| format!("/open/ok?{}", "q".repeat(length - 9));
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(wire.get(&target(512)).status, 200);
    let mut long = clinic.wire(DOCTOR);
    long.send_request("GET", &target(513), &[], b"");
    let answer = long.answer();
    assert_eq!((answer.status, &*answer.problem()), (414, "target-too-long"));
    assert_eq!(clinic.wait_for_reasons(long.local()), ["target-too-long"]);
    let mut h2 = clinic.h2(DOCTOR);
    assert_eq!(h2.get(&target(512)).expect("an answer").status, 200);
    assert_eq!(h2.get(&target(513)).expect("an answer").status, 414);
    // A line that does not end is not waited for.
    let mut endless = clinic.wire(DOCTOR);
    endless.send(format!("GET /open/{}", "a".repeat(2000)));
    assert_eq!(endless.answer().status, 414);
    assert_eq!(clinic.backend().seen().len(), 2);
}

#[test]
fn a_body_has_so_many_bytes() {
    let clinic = Clinic::builder().limit("body_bytes", 1024).start();
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(wire.request("POST", "/open/ok", &[], &[b'x'; 1024]).status, 200);
    wire.send_request("POST", "/open/ok", &[], &[b'x'; 1025]);
    refuses(&clinic, &mut wire, 413, "body-too-large");
    // It is known before a byte of it is asked for.
    let mut announced = clinic.wire(DOCTOR);
    let host = announced.host();
    announced.send(format!(
        "POST /open/big HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n"
    ));
    let answer = announced.answer();
    assert_eq!((answer.status, &*answer.problem()), (413, "body-too-large"));
    assert!(answer.interim.is_empty(), "{answer:?}");
    assert!(clinic.backend().broken().is_empty());
    for wire in [&wire, &announced] {
        clinic.wait_for_reasons(wire.local());
        let asked = clinic.asked_by(wire);
        let refused = asked.iter().find(|record| text(record, "reason") == "body-too-large").expect("a record");
        assert_eq!(text(refused, "method"), "POST");
        assert!(text(refused, "target").starts_with("/open/"), "what was refused is known: {refused:#}");
    }
}

#[test]
fn a_body_of_unknown_length_is_counted() {
    let clinic = Clinic::builder().limit("body_bytes", 1024).start();
    let mut wire = clinic.wire(DOCTOR);
    let host = wire.host();
    let head = format!("POST /open/ok HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("100\r\n{}\r\n", "x".repeat(256));
    wire.send(format!("{head}{}0\r\n\r\n", chunk.repeat(4)));
    assert_eq!(wire.answer().status, 200);
    wire.send(format!("{head}{}1\r\ny\r\n0\r\n\r\n", chunk.repeat(4)));
    refuses(&clinic, &mut wire, 413, "body-too-large");
    assert_eq!(
        clinic.backend().seen().iter().filter(|seen| seen.method() == "POST").count(),
        1,
        "a cut body is no request"
    );

    let mut frames = clinic.frames(DOCTOR);
    let fields = frames.request("POST", "/open/ok", &host);
    frames.headers(1, &fields, false);
    frames.send(kind::DATA, 0, 1, &[b'x'; 1024]);
    frames.send(kind::DATA, END_STREAM, 1, b"y");
    let outcome = frames.outcome(1);
    assert_eq!(outcome, gateway_tests::h2::Outcome::Answered(413));
    assert_eq!(clinic.wait_for_reasons(frames.wire.local()), ["body-too-large"]);
}

/// Expects an end after about `limit` from `begun` on.
fn took(what: &str, begun: Instant, limit: Duration) {
    let took = begun.elapsed();
    println!("{what}: {took:?}");
    assert!(took >= limit.mul_f32(0.9), "{what}: too early, after {took:?}");
    assert!(took < limit + Duration::from_millis(2500), "{what}: too late, after {took:?}");
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_slow_head_is_not_waited_for() {
    let clinic = Clinic::builder().limit("header_timeout_ms", 1000).start();
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(wire.get("/open/ok").status, 200);
    let begun = Instant::now();
    // A byte now and then does not buy more time.
    for byte in b"GET /open/slow HTTP/1.1\r\n" {
        wire.send([*byte]);
        std::thread::sleep(Duration::from_millis(60));
        if begun.elapsed() > SECOND {
            break;
        }
    }
    refuses(&clinic, &mut wire, 408, "request-timeout");
    took("a slow head", begun, SECOND);
    assert!(matches!(wire.closes(), Ended::Closed | Ended::Torn(_)));
    // Over HTTP/2 a head that never ends holds nobody else up, and not for ever.
    let mut frames = clinic.frames(DOCTOR);
    frames.send(kind::HEADERS, END_STREAM, 1, b"\x82");
    assert_eq!(clinic.wire(DOCTOR).get("/open/ok").status, 200);
}

#[test]
fn a_slow_body_is_not_waited_for() {
    let clinic = Clinic::builder().limit("body_idle_timeout_ms", 1000).start();
    let mut wire = clinic.wire(DOCTOR);
    let host = wire.host();
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let mut wire = clinic.wire(DOCTOR);
        wire.send(format!("POST /open/slow HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n\r\n4\r\n"));
        let begun = Instant::now();
        refuses(&clinic, &mut wire, 408, "request-timeout");
        took(framing, begun, SECOND);
        assert!(matches!(wire.closes(), Ended::Closed | Ended::Torn(_)));
    }
    let mut frames = clinic.frames(DOCTOR);
    let fields = frames.request("POST", "/open/slow", &host);
    frames.headers(1, &fields, false);
    frames.send(kind::DATA, 0, 1, b"1234");
    let begun = Instant::now();
    let outcome = frames.outcome(1);
    assert_eq!(outcome, gateway_tests::h2::Outcome::Answered(408));
    took("HTTP/2", begun, SECOND);
    // One that is slow but never silent for so long is served.
    wire.send(format!("POST /open/steady HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\n"));
    for byte in b"12345" {
        std::thread::sleep(Duration::from_millis(500));
        wire.send([*byte]);
    }
    assert_eq!(wire.answer().status, 200);
    assert_eq!(clinic.backend().last().body, b"12345");
}

#[test]
fn an_idle_connection_is_closed() {
    let clinic = Clinic::builder().limit("keepalive_timeout_ms", 1000).start();
    let mut fresh = clinic.wire(DOCTOR);
    let begun = Instant::now();
    assert_eq!(fresh.closes(), Ended::Closed);
    took("fresh", begun, SECOND);
    let mut used = clinic.wire(DOCTOR);
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(used.get("/open/ok").status, 200);
    }
    let begun = Instant::now();
    assert_eq!(used.closes(), Ended::Closed);
    took("used", begun, SECOND);
    let mut h2 = clinic.h2(DOCTOR);
    assert_eq!(h2.get("/open/ok").expect("an answer").status, 200);
    let begun = Instant::now();
    assert!(h2.closes_within(Duration::from_secs(10)), "HTTP/2 stays open");
    took("HTTP/2", begun, SECOND);
}

#[test]
fn one_address_has_so_many_connections() {
    let clinic = Clinic::builder().limit("connections_per_address", 3).start();
    let mut inside: Vec<_> = (0..3).map(|_| clinic.wire(DOCTOR)).collect();
    for wire in &mut inside {
        assert_eq!(wire.get("/open/ok").status, 200);
    }
    assert!(clinic.handshake(DOCTOR).try_open().is_err(), "a fourth is let in");
    clinic.wait_for_record("the refusal", |record| {
        is(record, "refusal") && text(record, "reason") == "too-many-connections"
    });
    let refused = || clinic.metric("sekisho_handshakes_total", &[("outcome", "too-many-connections")]);
    until("the fourth to be counted", || (refused() > 0.5).then_some(()));
    for wire in &mut inside {
        assert_eq!(wire.get("/open/ok").status, 200, "those inside stay");
    }
    drop(inside.pop());
    until("a place to be free", || clinic.handshake(DOCTOR).try_open().ok());
}

#[test]
fn all_addresses_together_have_so_many_connections() {
    let clinic = Clinic::builder().limit("connections", 2).start();
    let mut inside: Vec<_> = (0..2).map(|_| clinic.wire(DOCTOR)).collect();
    assert!(clinic.handshake(DOCTOR).try_open().is_err(), "a third is let in");
    assert_eq!(inside[0].get("/open/ok").status, 200);
    drop(inside.pop());
    until("a place to be free", || clinic.handshake(DOCTOR).try_open().ok());
}

#[test]
fn so_many_handshakes_are_under_way() {
    let clinic = Clinic::builder().limit("handshakes", 2).limit("handshake_timeout_ms", 1500).start();
    let mut inside = clinic.wire(DOCTOR);
    assert_eq!(inside.get("/open/ok").status, 200);
    let silent: Vec<_> = (0..2).map(|_| TcpStream::connect(clinic.door.address).expect("a connection")).collect();
    until("the places to be taken", || clinic.handshake(DOCTOR).try_open().is_err().then_some(()));
    clinic.wait_for_record("the refusal", |record| text(record, "reason") == "too-many-handshakes");
    assert_eq!(inside.get("/open/ok").status, 200, "those inside stay");
    drop(silent);
    until("a place to be free", || clinic.handshake(DOCTOR).try_open().ok());
}

#[test]
fn one_address_has_so_many_handshakes() {
    let clinic = Clinic::builder().limit("handshakes", 4).limit("handshakes_per_address", 2).start();
    let mut inside = clinic.wire(DOCTOR);
    // Another address of this machine: nobody there has a certificate.
    let silent: Vec<_> = (0..8).map(|_| connect_from([127, 0, 0, 2], clinic.door.address)).collect();
    let refused = clinic.wait_for_record("the refusal", |record| text(record, "reason") == "too-many-handshakes");
    assert!(text(&refused, "source").starts_with("127.0.0.2:"), "{refused:#}");
    until("the refused to be counted", || {
        let counted = clinic.metric("sekisho_handshakes_total", &[("outcome", "too-many-handshakes")]);
        ((counted - 6.0).abs() < f64::EPSILON).then_some(())
    });
    let reasons = clinic.records();
    let full = reasons.iter().filter(|record| text(record, "reason") == "too-many-handshakes");
    assert_eq!(full.count(), 1, "the rest is in the strangers' summary");
    assert_eq!(clinic.wire(DOCTOR).get("/open/ok").status, 200, "another address is let in");
    assert_eq!(inside.get("/open/ok").status, 200);
    drop(silent);
}

#[test]
fn a_handshake_has_an_end() {
    let clinic = Clinic::builder().limit("handshake_timeout_ms", 1000).start();
    for hello in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut tcp = TcpStream::connect(clinic.door.address).expect("a connection");
        tcp.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        std::io::Write::write_all(&mut tcp, hello).expect("written");
        let begun = Instant::now();
        let read = tcp.read(&mut [0; 16]);
        assert!(matches!(&read, Ok(0)) || read.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
        took("a handshake", begun, SECOND);
    }
    clinic.wait_for_record("the refusal", |record| text(record, "reason") == "handshake-timeout");
    let counted = clinic.metric("sekisho_handshakes_total", &[("outcome", "handshake-timeout")]);
    assert!((counted - 2.0).abs() < f64::EPSILON, "{counted}");
}

#[test]
fn an_exchange_has_an_end() {
    let clinic = Clinic::builder().limit("request_timeout_ms", 1000).start();
    clinic.backend().answers(|seen| {
        let reply = gateway_tests::Reply::new(200, "{}");
        if seen.target() == "/open/ok" { reply } else { reply.after(Duration::from_secs(8)) }
    });
    let mut wire = clinic.wire(DOCTOR);
    let begun = Instant::now();
    wire.send_request("GET", "/open/slow", &[], b"");
    let answered = wire.try_answer();
    took("HTTP/1.1", begun, SECOND);
    assert!(answered.as_ref().map_or(true, |answer| answer.status >= 408), "{answered:?}");
    let mut h2 = clinic.h2(DOCTOR);
    let begun = Instant::now();
    let answered = h2.get("/open/slow");
    took("HTTP/2", begun, SECOND);
    assert!(answered.as_ref().map_or(true, |answer| answer.status >= 408), "{answered:?}");
}
