//! Whoever is revoked is out within a second, whatever is under way, and cannot come back (R3, R27).

use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::{Backend, Clinic, DOCTOR, Ended, Refusal, Reply, Wire, until};
use serde_json::Value;

/// What the product promises, from the command's end to the connection's.
const PROMISED: Duration = Duration::from_secs(1);
const SITE: &str = "sakura-clinic";
const USER: &str = "sakura-clinic/dr-sato";
const SLOW: Duration = Duration::from_secs(8);

/// Every way to revoke the doctor's device: the command, and what is recorded of it.
const WAYS: &[(&[&str], &str)] = &[
    (&["device", "suspend", DOCTOR], "device-suspended"),
    (&["device", "remove", DOCTOR], "device-unregistered"),
    (&["site", "suspend", SITE], "site-suspended"),
    (&["site", "remove", SITE, "--cascade"], "site-unregistered"),
    (&["user", "suspend", USER], "user-suspended"),
];

fn closed_record(clinic: &Clinic, source: std::net::SocketAddr) -> Value {
    clinic.wait_for_record("the connection's end", |record| {
        is(record, "connection-closed") && text(record, "connection.source") == source.to_string()
    })
}

/// Expects the connection to end in time after the command that has just ended.
fn ends_in_time(wire: &mut Wire, what: &str) -> Ended {
    let begun = Instant::now();
    wire.set_patience(Duration::from_secs(5));
    let ended = loop {
        match wire.try_answer() {
            Err(Ended::Silent) => panic!("{what}: still open after {:?}", begun.elapsed()),
            Err(ended) => break ended,
            // What was on its way already.
            Ok(_) => {}
        }
    };
    let took = begun.elapsed();
    println!("{what}: ended {took:?} after the command");
    assert!(took < PROMISED, "{what}: ended only after {took:?}");
    ended
}

/// The backend answers `/fhir/Patient/slow` late, `/fhir/Patient/trickle` never to its end, and all else at once.
fn slow(backend: &Backend) {
    backend.answers(|seen| match seen.target().as_str() {
        "/fhir/Patient/slow" => Reply::new(200, "late").after(SLOW),
        "/fhir/Patient/trickle" => Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nonly so much"),
        _ => Reply::new(200, "{}"),
    });
}

fn seen(clinic: &Clinic, target: &str) {
    until(&format!("{target} at the backend"), || {
        clinic.backend().seen().iter().any(|seen| seen.target() == target).then_some(())
    });
}

#[test]
fn every_connection_of_a_revoked_device_ends_within_a_second() {
    for (command, cause) in WAYS {
        let clinic = Clinic::builder().device("momiji-hospital/ward-3", "ns-kato", "nurse").start();
        slow(clinic.backend());
        let mut other = clinic.wire("momiji-hospital/ward-3");
        assert_eq!(other.get("/fhir/Patient/1").status, 200);

        let mut idle = clinic.wire(DOCTOR);
        assert_eq!(idle.get("/fhir/Patient/1").status, 200);
        let mut fresh = clinic.wire(DOCTOR);
        let mut waiting = clinic.wire(DOCTOR);
        waiting.send_request("GET", "/fhir/Patient/slow", &[], b"");
        let mut receiving = clinic.wire(DOCTOR);
        receiving.send_request("GET", "/fhir/Patient/trickle", &[], b"");
        let mut sending = clinic.wire(DOCTOR);
        let host = sending.host();
        sending
            .send(format!("POST /fhir/Observation HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\n0123456789"));
        let mut h2 = clinic.h2(DOCTOR);
        assert_eq!(h2.get("/fhir/Patient/1").expect("an answer").status, 200);
        let mut frames = clinic.frames(DOCTOR);
        let fields = frames.request("GET", "/fhir/Patient/slow", &host);
        frames.headers(1, &fields, true);
        seen(&clinic, "/fhir/Patient/slow");
        seen(&clinic, "/fhir/Patient/trickle");
        until("the intent of the upload", || clinic.asked_by(&sending).pop());
        until("the request over HTTP/2", || (clinic.metric("sekisho_connections", &[]) >= 8.0).then_some(()));

        clinic.registry(command);
        let begun = Instant::now();
        let what = command.join(" ");
        for (name, wire) in [
            ("idle", &mut idle),
            ("fresh", &mut fresh),
            ("waiting for the backend", &mut waiting),
            ("receiving a body", &mut receiving),
            ("sending a body", &mut sending),
            ("HTTP/2 with a request", &mut frames.wire),
        ] {
            if name.starts_with("HTTP/2") {
                wire.set_patience(Duration::from_secs(5));
                continue;
            }
            ends_in_time(wire, &format!("{what}, {name}"));
        }
        assert!(h2.closes_within(PROMISED), "{what}: HTTP/2 stays open");
        while let Ok(frame) = frames.next_frame() {
            assert!(frame.kind != gateway_tests::h2::kind::HEADERS, "{what}: {frame:?}");
        }
        assert!(begun.elapsed() < PROMISED, "{what}: all took {:?}", begun.elapsed());

        let sources = [&idle, &fresh, &waiting, &receiving, &sending, &frames.wire].map(Wire::local);
        for source in sources.into_iter().chain([h2.local]) {
            let closed = closed_record(&clinic, source);
            assert_eq!(text(&closed, "cause"), *cause, "{what}: {closed:#}");
            assert_eq!(text(&closed, "connection.device"), "exam-1", "{closed:#}");
        }
        let cut = clinic.metric("sekisho_connections_cut_total", &[("reason", cause)]);
        assert!((cut - 7.0).abs() < f64::EPSILON, "{what}: {cut} cuts in\n{}", clinic.metrics().page());
        for wire in [&waiting, &receiving, &sending] {
            let asked = until("the request's record", || clinic.asked_by(wire).pop());
            let id = text(&asked, "request").to_owned();
            let over = clinic.wait_for_record("the completion", |r| is(r, "completion") && text(r, "request") == id);
            assert_eq!(text(&over, "end"), "revoked", "{what}: {over:#}");
        }
        // Nobody else notices.
        assert_eq!(other.get("/fhir/Patient/2").status, 200, "{what}");
        // And nobody comes back.
        for alpn in ["http/1.1", "h2"] {
            let refusal = clinic.handshake(DOCTOR).alpn(alpn).refused();
            assert!(matches!(refusal, Refusal::Alert(_) | Refusal::Closed), "{what}: {refusal:?}");
        }
        clinic.wait_for_record("the refusal", |record| is(record, "refusal") && text(record, "reason") == *cause);
        let change = clinic.wait_for_record("the change", |record| is(record, "registry-change"));
        assert!(!text(&change, "actor").is_empty(), "{change:#}");
        assert!(
            clinic.records().iter().any(|r| is(r, "registry-change") && text(r, "change").contains("exam-1")
                || text(r, "change").contains("sakura-clinic")),
            "{what}"
        );
    }
}

#[test]
fn who_is_resumed_is_let_in_again() {
    for (suspend, resume, cause) in [
        (["device", "suspend", DOCTOR], ["device", "resume", DOCTOR], "device-suspended"),
        (["site", "suspend", SITE], ["site", "resume", SITE], "site-suspended"),
        (["user", "suspend", USER], ["user", "resume", USER], "user-suspended"),
    ] {
        let clinic = Clinic::builder().start();
        let mut wire = clinic.wire(DOCTOR);
        assert_eq!(wire.get("/fhir/Patient/1").status, 200);
        clinic.registry(&suspend);
        ends_in_time(&mut wire, suspend[0]);
        assert_eq!(text(&closed_record(&clinic, wire.local()), "cause"), cause);
        let _ = clinic.handshake(DOCTOR).refused();
        clinic.registry(&resume);
        let begun = Instant::now();
        until("the device to be let in", || {
            let mut wire = clinic.handshake(DOCTOR).try_open().ok()?;
            wire.send_request("GET", "/fhir/Patient/1", &[], b"");
            (wire.try_answer().ok()?.status == 200).then_some(())
        });
        assert!(begun.elapsed() < PROMISED * 2, "{resume:?}: let in only after {:?}", begun.elapsed());
    }
}

#[test]
fn a_role_taken_away_holds_for_the_next_request_on_a_live_connection() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    let mut h2 = clinic.h2(DOCTOR);
    assert_eq!(wire.get("/fhir/Patient/1").status, 200);
    assert_eq!(h2.get("/fhir/Patient/1").expect("an answer").status, 200);
    clinic.registry(&["user", "set", USER, "--role", "clerk", "--no-role", "doctor"]);
    let begun = Instant::now();
    until("the role to be gone", || (wire.get("/fhir/Patient/1").status == 403).then_some(()));
    assert!(begun.elapsed() < PROMISED, "{:?}", begun.elapsed());
    assert_eq!(wire.get("/fhir/Patient/1").problem(), "policy-no-permit");
    assert_eq!(h2.get("/fhir/Patient/1").expect("an answer").status, 403);
    clinic.registry(&["user", "set", USER, "--role", "doctor"]);
    until("the role to be back", || (wire.get("/fhir/Patient/1").status == 200).then_some(()));
}

#[test]
fn changes_made_while_no_gateway_runs_are_recorded_before_anybody_is_served() {
    let clinic = Clinic::builder().device("sakura-clinic/desk-2", "cl-ito", "clerk").start();
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    let count = |records: &[Value]| records.iter().filter(|record| is(record, "registry-change")).count();
    let at_first = count(&clinic.records());
    assert!(at_first > 0, "what was registered before the first start is recorded");
    let records = clinic.records();
    let first = |kind: &str| records.iter().position(|record| is(record, kind)).expect(kind);
    let last_change = records.iter().rposition(|record| is(record, "registry-change")).expect("a change");
    assert!(last_change < first("connection-opened"), "served before the changes were recorded");

    let prepared = clinic.stop();
    prepared.registry(&["device", "suspend", DOCTOR]);
    prepared.registry(&["user", "set", "sakura-clinic/cl-ito", "--role", "nurse"]);
    let clinic = prepared.start();
    let mut desk = clinic.wire("sakura-clinic/desk-2");
    assert_eq!(desk.get("/fhir/Patient/1").status, 200);
    let _ = clinic.handshake(DOCTOR).refused();
    let records = clinic.records();
    let start = records.iter().rposition(|record| is(record, "start")).expect("a start");
    let since: Vec<_> = records[start..].to_vec();
    assert_eq!(count(&since), 2, "{since:#?}");
    assert_eq!(count(&records), at_first + 2, "none is recorded twice");
    let opened = since.iter().position(|record| is(record, "connection-opened")).expect("a connection");
    let last = since.iter().rposition(|record| is(record, "registry-change")).expect("a change");
    assert!(last < opened, "{since:#?}");
    let changes: Vec<_> = since.iter().filter(|record| is(record, "registry-change")).collect();
    assert!(text(changes[0], "change").contains("exam-1"), "{:#}", changes[0]);
    assert!(text(changes[1], "change").contains("cl-ito"), "{:#}", changes[1]);

    // A start without changes records none.
    let clinic = clinic.stop().start();
    assert_eq!(count(&clinic.records()), at_first + 2);
}
