//! A gateway that is told to end finishes what it has begun, takes nothing new, and says how it ended.

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::h2::{END_STREAM, kind};
use gateway_tests::{Clinic, DOCTOR, Ended, Reply, sekisho, until};

const SLOW: &str = "/fhir/Patient/slow";

fn slow_for(clinic: &Clinic, pause: Duration) {
    clinic.backend().answers(move |seen| {
        let reply = Reply::new(200, "{\"slow\":true}");
        if seen.target() == SLOW { reply.after(pause) } else { reply }
    });
}

fn in_flight(clinic: &Clinic, count: usize) {
    until("the requests at the backend", || {
        (clinic.backend().seen().iter().filter(|seen| seen.target() == SLOW).count() >= count).then_some(())
    });
}

/// The last record is `stop`, with this cause, and there is one.
fn last_is_stop(clinic: &Clinic, cause: &str) {
    let records = clinic.records();
    let last = records.last().expect("a record");
    assert_eq!((text(last, "kind"), text(last, "cause")), ("stop", cause), "{last:#}");
    assert_eq!(records.iter().filter(|record| is(record, "stop")).count(), 1);
}

#[test]
fn what_is_in_flight_is_finished_and_nothing_new_is_taken() {
    let mut clinic = Clinic::builder().start();
    slow_for(&clinic, Duration::from_millis(1500));
    let mut idle = clinic.wire(DOCTOR);
    assert_eq!(idle.get("/fhir/Patient/1").status, 200);
    let mut idle_h2 = clinic.h2(DOCTOR);
    assert_eq!(idle_h2.get("/fhir/Patient/1").expect("an answer").status, 200);
    let mut busy = clinic.wire(DOCTOR);
    busy.send_request("GET", SLOW, &[], b"");
    let mut frames = clinic.frames(DOCTOR);
    let host = busy.host();
    let fields = frames.request("GET", SLOW, &host);
    frames.headers(1, &fields, true);
    in_flight(&clinic, 2);

    clinic.terminate();
    let begun = Instant::now();
    assert_eq!(idle.closes(), Ended::Closed);
    assert!(idle_h2.closes_within(Duration::from_secs(1)), "an idle HTTP/2 connection stays");
    assert!(begun.elapsed() < Duration::from_secs(1), "idle connections close at once: {:?}", begun.elapsed());
    let refused = until("the listener to close", || TcpStream::connect(clinic.door.address).err());
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    // Whoever watches sees that this node leaves.
    assert_eq!(clinic.admin_get("/readyz").0, 503);
    assert_eq!(clinic.admin_get("/livez").0, 200);

    let answer = busy.answer();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"{\"slow\":true}"[..]));
    assert_eq!(answer.field("connection"), "close", "{answer:?}");
    let mut goaway = false;
    let mut answered = false;
    while let Ok(frame) = frames.next_frame() {
        if frame.kind == kind::GOAWAY {
            assert_eq!(frame.payload[4..8], [0; 4], "an orderly end");
            goaway = true;
        }
        answered |= frame.stream == 1 && frame.flags & END_STREAM != 0 && frame.kind == kind::DATA;
    }
    assert!(goaway && answered, "goaway: {goaway}, answered: {answered}");
    drop((busy, frames, idle));
    let status = clinic.gateway.wait();
    assert_eq!(status.code(), Some(0), "{}", clinic.gateway.said());
    assert!(begun.elapsed() < Duration::from_secs(4), "ended only after {:?}", begun.elapsed());
    last_is_stop(&clinic, "drained");
    let closed = clinic.records().iter().filter(|record| is(record, "connection-closed")).count();
    assert_eq!(closed, 4, "every connection's end is recorded");
}

#[test]
fn an_idle_gateway_ends_at_once() {
    let mut clinic = Clinic::builder().start();
    let begun = Instant::now();
    clinic.terminate();
    assert_eq!(clinic.gateway.wait().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    last_is_stop(&clinic, "drained");
}

#[test]
fn what_takes_longer_than_the_drain_is_cut_and_told() {
    let mut clinic = Clinic::builder().config(|config| config.set("shutdown", "drain_s", 1)).start();
    slow_for(&clinic, Duration::from_secs(15));
    let mut busy = clinic.wire(DOCTOR);
    busy.send_request("GET", SLOW, &[], b"");
    in_flight(&clinic, 1);
    let begun = Instant::now();
    clinic.terminate();
    assert!(matches!(busy.try_answer(), Err(Ended::Torn(_) | Ended::Closed)));
    let status = clinic.gateway.wait();
    let took = begun.elapsed();
    assert_eq!(status.code(), Some(3), "{}", clinic.gateway.said());
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(4), "{took:?}");
    last_is_stop(&clinic, "cut");
    let closed = clinic.wait_for_record("the cut", |record| is(record, "connection-closed"));
    assert_eq!(text(&closed, "cause"), "draining", "{closed:#}");
    let over = clinic.wait_for_record("the completion", |record| is(record, "completion"));
    assert_eq!(text(&over, "end"), "drained", "{over:#}");
}

#[test]
fn a_second_term_ends_at_once() {
    let mut clinic = Clinic::builder().config(|config| config.set("shutdown", "drain_s", 60)).start();
    slow_for(&clinic, Duration::from_secs(15));
    let mut busy = clinic.wire(DOCTOR);
    busy.send_request("GET", SLOW, &[], b"");
    in_flight(&clinic, 1);
    clinic.terminate();
    assert!(clinic.gateway.wait_for(Duration::from_millis(700)).is_none(), "the first one waits");
    let begun = Instant::now();
    clinic.terminate();
    assert_eq!(clinic.gateway.wait().code(), Some(3), "{}", clinic.gateway.said());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    last_is_stop(&clinic, "cut");
}

#[test]
fn a_peer_that_says_nothing_does_not_hold_the_end_up() {
    // In the middle of a handshake, of a head, of a body that no backend waits for.
    let mut clinic = Clinic::builder().config(|config| config.set("shutdown", "drain_s", 2)).start();
    let tcp = TcpStream::connect(clinic.door.address).expect("a connection");
    let mut head = clinic.wire(DOCTOR);
    head.send("GET /fhir/Patient/1 HTTP/1.1\r\nHost: loc");
    let begun = Instant::now();
    clinic.terminate();
    let status = clinic.gateway.wait();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(matches!(status.code(), Some(0 | 3)), "{status:?}");
    assert!(is(clinic.records().last().expect("a record"), "stop"));
    drop(tcp);
}

#[test]
fn exit_codes_tell_a_bad_configuration_from_a_bad_command() {
    let prepared = Clinic::builder().prepare();
    prepared.write_configuration();
    let config = prepared.path("sekisho.toml");
    let path = config.to_str().expect("UTF-8");
    for (what, text) in [
        ("nonsense", "this is = = not TOML"),
        ("an unknown key", "[node]\nname = \"gw1\"\nnickname = \"x\"\n"),
        ("nothing", ""),
    ] {
        prepared.write("sekisho.toml", text);
        let output = sekisho(&["run", "--config", path]);
        assert_eq!(output.code, Some(1), "{what}: {output:?}");
        assert!(output.stderr.contains("sekisho.toml"), "{what}: the message names the file: {output:?}");
    }
    let missing = prepared.path("no-such.toml");
    let output = sekisho(&["run", "--config", missing.to_str().expect("UTF-8")]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("no-such.toml"), "{output:?}");
    for usage in [&["run", "--nonsense"][..], &["nonsense"], &["run", "--config"]] {
        assert_eq!(sekisho(usage).code, Some(2), "{usage:?}");
    }
    assert_eq!(sekisho(&["--version"]).code, Some(0));
}
