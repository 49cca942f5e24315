//! Connections that carry no HTTP: judged before a backend is connected, on record at both ends, cut when their device is revoked
//! (R2, R3, R5, R11, R27).

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::tcp::{Server, listener, listener_to};
use gateway_tests::{Builder, Clinic, DOCTOR, Ended, Wire, until};
use serde_json::Value;

/// Of a role that may read administrative things alone.
const CLERK: &str = "sakura-clinic/desk-1";

/// Sends back what comes until nothing more does, then says so and ends.
fn echo() -> Server {
    Server::start(|mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..read]).is_err() {
                return;
            }
        }
        let _ = stream.write_all(b"that was all");
        let _ = stream.shutdown(Shutdown::Write);
    })
}

fn clinic(backend: SocketAddr, more: &str) -> Builder {
    let text = listener("interface", "raw", backend, more);
    Clinic::builder().device(CLERK, "ito", "clerk").config(move |config| config.append(&text))
}

fn open(clinic: &Clinic, device: &str) -> Wire {
    clinic.door_of("interface").with(&clinic.identity(device)).open()
}

/// The record that tells of the end of what the intent began.
fn completion(clinic: &Clinic, intent: &Value) -> Value {
    let id = text(intent, "request").to_owned();
    clinic.wait_for_record("its end", |record| is(record, "completion") && text(record, "request") == id)
}

fn intent(clinic: &Clinic, wire: &Wire) -> Value {
    until("the intent", || clinic.asked_by(wire).into_iter().find(|record| is(record, "intent")))
}

fn closed(clinic: &Clinic, wire: &Wire) -> Value {
    let source = wire.local().to_string();
    clinic.wait_for_record("the connection's end", |record| {
        is(record, "connection-closed") && text(record, "connection.source") == source
    })
}

#[test]
fn bytes_pass_both_ways_and_either_side_may_end_first() {
    let backend = echo();
    let clinic = clinic(backend.address, "").start();
    let mut wire = open(&clinic, DOCTOR);
    wire.send(b"konnichiwa");
    assert!(wire.reads_until(b"konnichiwa"));
    let intent = intent(&clinic, &wire);
    assert_eq!((text(&intent, "action"), text(&intent, "route")), ("connect", "interface"), "{intent:#}");
    assert_eq!((text(&intent, "decision"), text(&intent, "method")), ("permit", "CONNECT"), "{intent:#}");
    assert_eq!(text(&intent, "connection.device"), "exam-1", "{intent:#}");
    assert!(intent["connection"]["tls"].get("alpn").is_none(), "{intent:#}");
    let id = text(&intent, "request").to_owned();
    let outcome =
        clinic.wait_for_record("the outcome", |record| is(record, "outcome") && text(record, "request") == id);
    assert_eq!((text(&outcome, "backend"), outcome["status"].as_u64()), (&*backend.address.to_string(), Some(200)));
    // Half of it is over: the backend is told, and still has its say.
    let long = vec![b'x'; 1 << 20];
    for piece in long.chunks(64 * 1024) {
        wire.send(piece);
        assert!(wire.reads_until(piece));
    }
    wire.half_close();
    assert!(wire.reads_until(b"that was all"));
    assert_eq!(wire.closes(), Ended::Closed);
    let end = completion(&clinic, &intent);
    assert_eq!(text(&end, "end"), "complete", "{end:#}");
    assert_eq!(end["bytes"]["received"].as_u64(), Some(10 + (1 << 20)), "{end:#}");
    assert_eq!(end["bytes"]["sent"].as_u64(), Some(10 + (1 << 20) + 12), "{end:#}");
    let closed = closed(&clinic, &wire);
    assert_eq!((text(&closed, "cause"), closed["requests"].as_u64()), ("peer", Some(1)), "{closed:#}");
    let labels = [("listener", "interface"), ("direction", "to-clients")];
    assert!(clinic.metric("sekisho_stream_bytes_total", &labels) >= f64::from(1 << 20));
    assert!(clinic.metric("sekisho_requests_total", &[("route", "interface"), ("decision", "permit")]) >= 1.0);
}

#[test]
fn who_may_not_connect_reaches_no_backend() {
    let backend = echo();
    let clinic = clinic(backend.address, "").start();
    let mut wire = open(&clinic, CLERK);
    assert!(wire.closes() != Ended::Silent);
    assert_eq!(clinic.wait_for_reasons(wire.local()), ["policy-no-permit"]);
    assert_eq!(text(&closed(&clinic, &wire), "cause"), "policy-no-permit");
    assert_eq!(backend.connections(), 0);
    // No certificate, no connection; the listener's door is as shut as that of HTTP.
    let refused = clinic.door_of("interface").without_certificate().refused();
    assert!(matches!(refused, gateway_tests::Refusal::Alert(_)), "{refused:?}");
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_connection_ends_within_a_second_of_its_devices_suspension() {
    let backend = echo();
    let clinic = clinic(backend.address, "").start();
    let mut wire = open(&clinic, DOCTOR);
    wire.send(b"still here");
    assert!(wire.reads_until(b"still here"));
    let intent = intent(&clinic, &wire);
    clinic.registry(&["device", "suspend", DOCTOR]);
    let begun = Instant::now();
    wire.set_patience(Duration::from_secs(5));
    assert!(wire.closes() != Ended::Silent);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(text(&completion(&clinic, &intent), "end"), "revoked");
    assert_eq!(text(&closed(&clinic, &wire), "cause"), "device-suspended");
    assert!(clinic.door_of("interface").with(&clinic.identity(DOCTOR)).refused() != gateway_tests::Refusal::Closed);
}

#[test]
fn silence_and_backends_that_are_away_have_their_reasons() {
    let silent = Server::start(|mut stream| drop(stream.read(&mut [0; 16])));
    let clinic = clinic(silent.address, "idle_timeout_ms = 1000").start();
    let mut wire = open(&clinic, DOCTOR);
    let intent = intent(&clinic, &wire);
    assert!(wire.closes() != Ended::Silent);
    assert_eq!(text(&completion(&clinic, &intent), "end"), "timeout");
    assert_eq!(text(&closed(&clinic, &wire), "cause"), "stream-idle");

    drop(silent);
    let mut wire = open(&clinic, DOCTOR);
    assert!(wire.closes() != Ended::Silent);
    assert_eq!(clinic.wait_for_reasons(wire.local()), ["backend-unavailable"]);
    assert_eq!(text(&closed(&clinic, &wire), "cause"), "backend-unavailable");
}

#[test]
fn a_gateway_that_ends_lets_connections_end_and_cuts_those_that_do_not() {
    let backend = echo();
    let mut clinic = clinic(backend.address, "").config(|config| config.set("shutdown", "drain_s", 2)).start();
    let (mut ends, mut stays) = (open(&clinic, DOCTOR), open(&clinic, DOCTOR));
    for wire in [&mut ends, &mut stays] {
        wire.send(b"here");
        assert!(wire.reads_until(b"here"));
    }
    let (ending, staying) = (intent(&clinic, &ends), intent(&clinic, &stays));
    clinic.terminate();
    ends.send(b"a last word");
    assert!(ends.reads_until(b"a last word"), "what is under way goes on");
    ends.half_close();
    assert!(ends.reads_until(b"that was all"));
    assert!(stays.closes() != Ended::Silent);
    clinic.gateway.wait();
    assert_eq!(text(&completion(&clinic, &ending), "end"), "complete");
    assert_eq!(text(&completion(&clinic, &staying), "end"), "drained");
}

#[test]
fn there_are_only_so_many_connections() {
    let backend = echo();
    let text =
        listener_to("interface", "raw", &format!("tcp://{}", backend.address), "limits = { connections = 2 }", "");
    let clinic = Clinic::builder().config(move |config| config.append(&text)).start();
    let mut held: Vec<_> = (0..2).map(|_| open(&clinic, DOCTOR)).collect();
    for wire in &mut held {
        wire.send(b"here");
        assert!(wire.reads_until(b"here"));
    }
    assert!(clinic.door_of("interface").with(&clinic.identity(DOCTOR)).try_open().is_err());
    drop(held);
    let mut again = until("a place", || clinic.door_of("interface").with(&clinic.identity(DOCTOR)).try_open().ok());
    again.send(b"here");
    assert!(again.reads_until(b"here"));
}
