//! C12: one bad socket stops nobody else. No descriptors left, resets, goodbyes in the middle of a handshake, a byte a
//! second, half-closed streams: the gateway goes on accepting, ends what has taken too long with a reason, and uses no
//! processor afterwards.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::h2::{Outcome, kind};
use gateway_tests::{Clinic, DOCTOR, Ended, Reply, until, within};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
/// Connects at one time, against 64 descriptors.
const CONNECTS: usize = 500;
/// Of everything that is repeated.
const TIMES: u32 = 100;
/// How much later than at its deadline something may be seen to end: tests share two cores.
const LATE: Duration = Duration::from_secs(3);
/// An alert of level warning, `close_notify` (RFC 8446 section 6.1), in a record of its own.
const CLOSE_NOTIFY: [u8; 7] = [21, 3, 3, 0, 2, 1, 0];

/// Processor time of the gateway so far, user and system, in ticks of 10 ms (`USER_HZ`, proc(5)).
fn ticks(clinic: &Clinic) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", clinic.gateway.pid())).expect("it runs");
    // The name in parentheses may hold anything; `utime` and `stime` are the 12th and 13th field after it.
    let fields = stat.rsplit_once(')').expect("a name").1.split_whitespace();
    fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
}

/// Below 6 % of one core. A loop that spins would take all of it. What was just ended may take a moment to go.
fn is_idle(clinic: &Clinic, when: &str) {
    const TICKS: u64 = 9;
    let mut used = 0;
    let idle = within(Duration::from_secs(6), || {
        let before = ticks(clinic);
        std::thread::sleep(Duration::from_millis(1_500));
        used = ticks(clinic) - before;
        (used < TICKS).then_some(())
    });
    assert!(idle.is_some(), "{when}: {used} ticks of 10 ms in 1.5 s");
}

fn serves(clinic: &Clinic) {
    let mut wire = until("a good client's handshake", || clinic.handshake(DOCTOR).try_open().ok());
    assert_eq!(wire.get("/fhir/Patient/good").status, 200);
    assert_eq!(clinic.h2(DOCTOR).get("/fhir/Patient/good").expect("an answer").status, 200);
}

/// Nothing of the bad peers is held for longer than it takes to end them.
fn nobody_is_left(clinic: &Clinic) {
    until("every connection to be gone", || (clinic.metric("sekisho_connections", &[]) < 0.5).then_some(()));
}

fn connect(clinic: &Clinic) -> TcpStream {
    let tcp = TcpStream::connect(clinic.door.address).expect("a connection");
    tcp.set_read_timeout(Some(gateway_tests::PATIENCE)).expect("a timeout");
    tcp.set_nodelay(true).expect("an option");
    tcp
}

/// Ends a connection by RST: what was not read is thrown away.
fn reset(tcp: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&tcp, Some(Duration::ZERO)).expect("an option");
    drop(tcp);
}

/// The bytes of a good ClientHello, in its record.
fn client_hello(clinic: &Clinic) -> Vec<u8> {
    let config = Arc::new(clinic.handshake(DOCTOR).config());
    let mut client = ClientConnection::new(config, ServerName::try_from("localhost").expect("a name")).expect("TLS");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("a vector takes all");
    hello
}

/// Waits for the end of a connection and says when it came.
fn ends(tcp: &mut TcpStream) -> Instant {
    let mut buffer = [0; 4096];
    loop {
        match tcp.read(&mut buffer) {
            Ok(0) => return Instant::now(),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Instant::now(),
            Err(error) => panic!("it is not ended: {error}"),
        }
    }
}

/// It took as long as the deadline says.
fn took(what: &str, took: Duration, limit: Duration) {
    println!("{what}: {took:?}");
    assert!(took >= limit.mul_f32(0.95) && took < limit + LATE, "{what} of {limit:?}: {took:?}");
}

fn handshakes(clinic: &Clinic, outcome: &str) -> f64 {
    clinic.metric("sekisho_handshakes_total", &[("outcome", outcome)])
}

#[test]
fn c12_without_descriptors_it_waits_and_goes_on() {
    let mut prepared = Clinic::builder().limit("handshake_timeout_ms", 60_000).limit("connections", 1_000).prepare();
    prepared.run_under(&["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"]);
    let clinic = prepared.start();
    // With its connection to the backend open: what is inside needs no more descriptors.
    let mut inside = clinic.wire(DOCTOR);
    assert_eq!(inside.get("/fhir/Patient/1").status, 200);
    let crowd: Vec<_> = (0..CONNECTS).map(|_| connect(&clinic)).collect();
    until("the log to say so", || clinic.gateway.said().contains("cannot accept a connection").then_some(()));
    let said = clinic.gateway.said();
    let line = said.lines().find(|line| line.contains("cannot accept a connection")).expect("a line");
    assert!(line.contains("os error 24") && line.contains("clinics"), "EMFILE, and the listener: {line}");
    // Paused, not spinning: it asks again fifty times a second at most.
    is_idle(&clinic, "without descriptors");
    assert_eq!(inside.get("/fhir/Patient/2").status, 200, "those inside are served");
    let lines = clinic.gateway.said().matches("cannot accept a connection").count();
    let before = Instant::now();
    std::thread::sleep(SECOND);
    let more = clinic.gateway.said().matches("cannot accept a connection").count() - lines;
    let most = before.elapsed().as_millis() / 20 + 2;
    assert!(more as u128 <= most, "{more} lines in {:?}", before.elapsed());
    drop(crowd);
    serves(&clinic);
    drop(inside);
    nobody_is_left(&clinic);
    // The whole crowd was taken in the end, and each of it has its reason.
    until("the crowd's reasons", || (handshakes(&clinic, "handshake-failed") >= 499.5).then_some(()));
    is_idle(&clinic, "after the crowd");
}

#[test]
fn c12_resets_stop_nobody() {
    let clinic = Clinic::builder().start();
    let hello = client_hello(&clinic);
    let mut made = 0;
    // At once; after one byte; in the middle of the ClientHello; after it, with the server's answer unread.
    for sent in [0, 1, hello.len() / 2, hello.len()] {
        for turn in 0..TIMES {
            let mut tcp = connect(&clinic);
            tcp.write_all(&hello[..sent]).expect("written");
            if turn % 2 == 0 {
                // So that half of the resets come after the gateway has read.
                std::thread::sleep(Duration::from_millis(2));
            }
            reset(tcp);
            made += 1;
        }
        serves(&clinic);
    }
    nobody_is_left(&clinic);
    until("each to be counted", || (handshakes(&clinic, "handshake-failed") >= f64::from(made) - 0.5).then_some(()));
    clinic.wait_for_record("a refusal", |record| {
        is(record, "refusal") && text(record, "reason") == "handshake-failed" && text(record, "stage") == "handshake"
    });
    is_idle(&clinic, "after the resets");
    serves(&clinic);
}

#[test]
fn c12_a_goodbye_in_a_handshake_spins_nothing() {
    const LIMIT: Duration = Duration::from_secs(3);
    let clinic = Clinic::builder().limit("handshake_timeout_ms", 3_000).start();
    let hello = client_hello(&clinic);
    let begun = Instant::now();
    let mut held = Vec::new();
    for sent in [0, hello.len() / 2, hello.len()] {
        for half_closed in [false, true] {
            let mut tcp = connect(&clinic);
            tcp.write_all(&hello[..sent]).expect("written");
            tcp.write_all(&CLOSE_NOTIFY).expect("written");
            if half_closed {
                tcp.shutdown(Shutdown::Write).expect("half-closed");
            }
            held.push((tcp, half_closed));
        }
    }
    serves(&clinic);
    held.sort_by_key(|(_, half_closed)| !half_closed);
    for (tcp, half_closed) in &mut held {
        // An end of stream is an end; a goodbye that another word may follow (TLS 1.2) waits for the deadline.
        let took = ends(tcp) - begun;
        assert!(took < if *half_closed { SECOND * 2 } else { LIMIT + LATE }, "half-closed {half_closed}: {took:?}");
    }
    let failed = || handshakes(&clinic, "handshake-failed") + handshakes(&clinic, "handshake-timeout");
    until("a reason for each", || (failed() > 5.5).then_some(()));
    // The sockets are still open on this side.
    is_idle(&clinic, "after the goodbyes");
    serves(&clinic);
    drop(held);
    nobody_is_left(&clinic);
}

/// A byte a second until the gateway ends the connection.
fn byte_by_byte(tcp: &TcpStream, bytes: Vec<u8>) -> std::thread::JoinHandle<()> {
    let mut tcp = tcp.try_clone().expect("a second handle");
    std::thread::spawn(move || {
        for byte in bytes {
            if tcp.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(SECOND);
        }
    })
}

#[test]
fn c12_a_client_hello_of_a_byte_a_second_is_not_waited_for() {
    const LIMIT: Duration = Duration::from_secs(3);
    let clinic = Clinic::builder().limit("handshake_timeout_ms", 3_000).start();
    let hello = client_hello(&clinic);
    let mut slow: Vec<_> = (0..20).map(|_| connect(&clinic)).collect();
    let begun = Instant::now();
    let writers: Vec<_> = slow.iter().map(|tcp| byte_by_byte(tcp, hello.clone())).collect();
    serves(&clinic);
    is_idle(&clinic, "beside slow handshakes");
    for tcp in &mut slow {
        took("a slow ClientHello", ends(tcp) - begun, LIMIT);
    }
    drop(slow);
    writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
    let refused = clinic.wait_for_record("the refusal", |record| text(record, "reason") == "handshake-timeout");
    assert_eq!((text(&refused, "kind"), text(&refused, "stage")), ("refusal", "handshake"), "{refused:#}");
    let counted = handshakes(&clinic, "handshake-timeout");
    assert!((counted - 20.0).abs() < f64::EPSILON, "{counted}");
    nobody_is_left(&clinic);
    is_idle(&clinic, "after slow handshakes");
}

#[test]
fn c12_a_head_of_a_byte_a_second_is_not_waited_for() {
    const LIMIT: Duration = Duration::from_secs(3);
    let clinic = Clinic::builder().limit("header_timeout_ms", 3_000).start();
    let mut wire = clinic.wire(DOCTOR);
    wire.set_patience(Duration::from_millis(1));
    let begun = Instant::now();
    let mut bytes = b"GET /fhir/Patient/slow HTTP/1.1\r\n".iter();
    let answer = loop {
        wire.send([*bytes.next().expect("it is ended before the head is")]);
        wire.set_patience(SECOND);
        match wire.try_answer() {
            Ok(answer) => break answer,
            Err(Ended::Silent) => {}
            Err(ended) => panic!("no answer: {ended:?}"),
        }
    };
    took("a slow head", begun.elapsed(), LIMIT);
    assert_eq!((answer.status, &*answer.problem()), (408, "request-timeout"));
    assert_eq!(clinic.wait_for_reasons(wire.local()), ["request-timeout"]);
    assert!(clinic.backend().seen().is_empty());
    wire.set_patience(gateway_tests::PATIENCE);
    assert!(matches!(wire.closes(), Ended::Closed | Ended::Torn(_)));
    drop(wire);
    nobody_is_left(&clinic);
    is_idle(&clinic, "after a slow head");
    serves(&clinic);
}

/// The record of this kind that follows the intent for this target.
fn what_came_of(clinic: &Clinic, target: &str, kind: &str) -> Value {
    let intent =
        clinic.wait_for_record("the intent", |record| is(record, "intent") && text(record, "target") == target);
    let id = text(&intent, "request");
    clinic.wait_for_record(kind, |record| is(record, kind) && text(record, "request") == id)
}

fn outcome_of(clinic: &Clinic, target: &str) -> Value {
    what_came_of(clinic, target, "outcome")
}

/// The deadline is named as what it is, and not as the client's leaving.
fn ended_by_its_deadline(clinic: &Clinic, target: &str) {
    let outcome = outcome_of(clinic, target);
    assert_eq!((&outcome["status"], text(&outcome, "reason")), (&408.into(), "request-timeout"), "{outcome:#}");
}

#[test]
fn c12_a_body_of_a_byte_a_second_has_two_ends() {
    // Silence has its own, shorter deadline; what is slow but never silent ends with the exchange.
    let clinic = Clinic::builder().limit("body_idle_timeout_ms", 1_000).start();
    let mut wire = clinic.wire(DOCTOR);
    let host = wire.host();
    let head = |target: &str| format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 60\r\n\r\n");
    wire.send(head("/fhir/Observation?silent"));
    wire.send("1");
    let begun = Instant::now();
    let answer = wire.answer();
    took("a silent body", begun.elapsed(), SECOND);
    assert_eq!((answer.status, &*answer.problem()), (408, "request-timeout"));
    let outcome = outcome_of(&clinic, "/fhir/Observation?silent");
    assert_eq!((&outcome["status"], text(&outcome, "reason")), (&408.into(), "request-timeout"), "{outcome:#}");
    drop(wire);
    nobody_is_left(&clinic);
    is_idle(&clinic, "after a silent body");

    let clinic = Clinic::builder().limit("request_timeout_ms", 3_000).start();
    let mut wire = clinic.wire(DOCTOR);
    wire.send(head("/fhir/Observation?steady").replace(&host, &wire.host()));
    let begun = Instant::now();
    wire.set_patience(SECOND);
    let ended = loop {
        wire.send("1");
        match wire.try_answer() {
            Err(Ended::Silent) => assert!(begun.elapsed() < Duration::from_secs(10), "it goes on for ever"),
            ended => break ended,
        }
    };
    took("a steady body", begun.elapsed(), Duration::from_secs(3));
    assert_eq!(ended.map(|answer| (answer.status, answer.problem())), Ok((408, "request-timeout".to_owned())));
    ended_by_its_deadline(&clinic, "/fhir/Observation?steady");
    // The backend is not left with half a request for ever.
    until("the backend's end", || (!clinic.backend().broken().is_empty()).then_some(()));
    drop(wire);

    let mut frames = clinic.frames(DOCTOR);
    let authority = format!("localhost:{}", clinic.door.address.port());
    let fields = frames.request("POST", "/fhir/Observation?h2", &authority);
    frames.headers(1, &fields, false);
    let begun = Instant::now();
    frames.wire.set_patience(Duration::from_millis(900));
    let outcome = loop {
        frames.send(kind::DATA, 0, 1, b"1");
        match frames.next_frame() {
            Err(Ended::Silent) => assert!(begun.elapsed() < Duration::from_secs(10), "it goes on for ever"),
            Err(ended) => panic!("the connection is ended: {ended:?}"),
            Ok(frame) => break frame,
        }
    };
    took("a steady body over HTTP/2", begun.elapsed(), Duration::from_secs(3));
    assert_eq!((outcome.kind, outcome.stream), (kind::HEADERS, 1), "an answer: {outcome:?}");
    ended_by_its_deadline(&clinic, "/fhir/Observation?h2");
    drop(frames);
    nobody_is_left(&clinic);
    is_idle(&clinic, "after steady bodies");
    serves(&clinic);
}

#[test]
fn c12_half_closed_with_an_open_body() {
    let clinic = Clinic::builder().start();
    let host = format!("localhost:{}", clinic.door.address.port());
    let mut held = Vec::new();
    for (number, framing) in ["Content-Length: 100", "Transfer-Encoding: chunked"].into_iter().enumerate() {
        let target = format!("/fhir/Observation?{number}");
        let mut wire = clinic.wire(DOCTOR);
        wire.send(format!("POST {target} HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n\r\n4\r\nbody\r\n"));
        wire.half_close();
        let answered = wire.try_answer();
        assert!(answered.as_ref().map_or(true, |answer| answer.status == 400), "{answered:?}");
        let outcome = outcome_of(&clinic, &target);
        assert_eq!((&outcome["status"], text(&outcome, "reason")), (&400.into(), "request-malformed"), "{outcome:#}");
        held.push(wire);
    }
    assert!(clinic.backend().seen().is_empty(), "half a body is no request");
    // The other half is still open here.
    is_idle(&clinic, "after half-closed bodies");

    let mut frames = clinic.frames(DOCTOR);
    let fields = frames.request("POST", "/fhir/Observation?h2", &host);
    frames.headers(1, &fields, false);
    frames.send(kind::DATA, 0, 1, b"body");
    until("the backend's connection", || (clinic.backend().connections() >= 3).then_some(()));
    frames.wire.half_close();
    let outcome = outcome_of(&clinic, "/fhir/Observation?h2");
    assert!(outcome["status"].as_u64().is_some_and(|status| status >= 400), "{outcome:#}");
    is_idle(&clinic, "after a half-closed HTTP/2 connection");
    drop((held, frames));
    nobody_is_left(&clinic);
    serves(&clinic);
}

#[test]
fn c12_half_closed_while_the_backend_thinks() {
    // A whole request: its client may say goodbye and still read the answer. Nothing spins meanwhile.
    let clinic = Clinic::builder().start();
    clinic.backend().answers(|seen| {
        let reply = Reply::new(200, "{}");
        if seen.target().contains("slow") { reply.after(Duration::from_secs(5)) } else { reply }
    });
    let mut wire = clinic.wire(DOCTOR);
    wire.send_request("GET", "/fhir/Patient/slow", &[], b"");
    wire.half_close();
    until("the backend to have it", || (!clinic.backend().seen().is_empty()).then_some(()));
    is_idle(&clinic, "half-closed, while the backend thinks");
    assert_eq!(wire.answer().status, 200);
    drop(wire);
    let mut frames = clinic.frames(DOCTOR);
    let host = format!("localhost:{}", clinic.door.address.port());
    let fields = frames.request("GET", "/fhir/Patient/slow", &host);
    frames.headers(1, &fields, true);
    until("the backend to have it", || (clinic.backend().seen().len() >= 2).then_some(()));
    frames.wire.half_close();
    is_idle(&clinic, "half-closed HTTP/2, while the backend thinks");
    let outcome = frames.outcome(1);
    assert!(matches!(outcome, Outcome::Answered(200) | Outcome::Closed), "{outcome:?}");
    drop(frames);
    nobody_is_left(&clinic);
    serves(&clinic);
}
