//! A8: time cannot reorder or hide. The wall clock jumps under a running gateway and between two runs; the order is
//! the sequence number, monotonic time goes on, and each jump has its record.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gateway_tests::audit::text;
use gateway_tests::{Clinic, DOCTOR, Oddity, Prepared, Refusal, until};
use rustls::AlertDescription;
use serde_json::Value;

use crate::audit_tools::small_log;

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
const HOUR_NS: i64 = 3_600_000_000_000;
const SECOND_NS: i64 = 1_000_000_000;
/// Ten years, in seconds.
const TEN_YEARS: i64 = 315_576_000;
/// The second after the last one that 32 bits with a sign can count: 2038-01-19T03:14:08Z.
const ROLLOVER: i64 = 1 << 31;

/// A clinic whose gateway's wall clock is moved by a file.
fn with_a_false_clock() -> Prepared {
    let mut prepared = small_log().prepare();
    assert!(std::path::Path::new(LIBRARY).exists(), "this test needs libfaketime");
    let file = format!("FAKETIME_TIMESTAMP_FILE={}", prepared.path("clock").display());
    let preload = format!("LD_PRELOAD={LIBRARY}");
    prepared.run_under(&["env", &preload, "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_NO_CACHE=1", &file]);
    set_clock(&prepared, "+0");
    prepared
}

/// Whole or not at all: the library reads the file at any time.
fn set_clock(prepared: &Prepared, offset: &str) {
    prepared.write("clock.new", offset);
    std::fs::rename(prepared.path("clock.new"), prepared.path("clock")).expect("a file");
}

fn clock_events(clinic: &Clinic, event: &str) -> Vec<Value> {
    let is_it = |record: &Value| text(record, "kind") == "clock" && text(record, "event") == event;
    clinic.records().into_iter().filter(is_it).collect()
}

fn monotonic_us(record: &Value) -> u64 {
    record["clock"]["monotonic_us"].as_u64().unwrap_or_else(|| panic!("no monotonic time: {record}"))
}

/// Order is the sequence number, and monotonic time agrees with it whatever the wall clock does. Lanes hand over
/// their records in groups, so that neighbours may be exchanged by as much as a group takes.
fn in_order(records: &[Value]) {
    let boot = text(&records[0], "clock.boot").to_owned();
    assert!(!boot.is_empty());
    let mut last = 0;
    for (place, record) in records.iter().enumerate() {
        assert_eq!(record["sequence"], place + 1, "{record}");
        assert_eq!(text(record, "clock.boot"), boot);
        assert!(monotonic_us(record) + 2_000_000 > last, "{record}");
        last = last.max(monotonic_us(record));
    }
}

#[test]
fn a8_steps_of_the_wall_clock_are_recorded() {
    let clinic = with_a_false_clock().start();
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(wire.get("/fhir/Patient/1").status, 200);
    // Let the watch look once before the first step.
    std::thread::sleep(Duration::from_millis(700));
    let mut offset = 0;
    for (place, (name, hours)) in [("-3600s", -1), ("+0", 0), ("+3600s", 1), ("+0", 0)].into_iter().enumerate() {
        set_clock(&clinic.prepared, name);
        let steps = until("the step's record", || Some(clock_events(&clinic, "step")).filter(|s| s.len() > place));
        let step = &steps[place];
        let change = step["change_ns"].as_i64().expect("a number");
        let expected = (hours - offset) * HOUR_NS;
        assert!((change - expected).abs() < 1_000_000_000, "{step}");
        assert!(!text(step, "previous").is_empty(), "{step}");
        offset = hours;
        // Requests go on, each with the wall time it happened at; no timeout saw an hour pass.
        assert_eq!(wire.get(&format!("/fhir/Patient/{place}")).status, 200);
    }
    assert_eq!(clock_events(&clinic, "step").len(), 4, "one record for each step");
    let records = clinic.records();
    in_order(&records);
    // In the order of the log, the first request after the step back has an earlier time than the one before it.
    let asked = clinic.asked_by(&wire);
    assert_eq!(asked.len(), 5);
    assert!(text(&asked[1], "time") < text(&asked[0], "time"), "{asked:?}");
}

#[test]
fn a8_a_start_with_an_earlier_clock_says_so() {
    // The first run is two hours ahead: certificates that are valid in both runs are easier made so.
    let prepared = with_a_false_clock();
    set_clock(&prepared, "+7200s");
    let clinic = prepared.start();
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    let prepared = clinic.stop();
    set_clock(&prepared, "+0");
    let clinic = prepared.start();
    let regressions = clock_events(&clinic, "regression");
    assert_eq!(regressions.len(), 1);
    let change = regressions[0]["change_ns"].as_i64().expect("a number");
    assert!((-2 * HOUR_NS..-2 * HOUR_NS + 20_000_000_000).contains(&change), "{}", regressions[0]);
    let records = clinic.records();
    in_order(&records);
    // It stands before anything else that this run wrote.
    let stop = records.iter().position(|record| text(record, "kind") == "stop").expect("the first run's end");
    assert_eq!(text(&records[stop + 1], "event"), "regression");
    assert_eq!(text(&regressions[0], "previous"), text(&records[stop], "time"));
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
    // Going on from there is no second regression.
    let prepared = clinic.stop();
    let clinic = prepared.start();
    assert_eq!(clock_events(&clinic, "regression").len(), 1);
}

/// Real time, seconds since 1970.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_secs()).expect("a near time")
}

/// Moves the clock by so many seconds against real time.
fn move_clock(prepared: &Prepared, seconds: i64) {
    set_clock(prepared, &format!("{seconds:+}s"));
}

/// Moves the clock and waits for the one record of it.
fn step(clinic: &Clinic, from: i64, to: i64) {
    let before = clock_events(clinic, "step").len();
    move_clock(&clinic.prepared, to);
    let steps = until("the step's record", || Some(clock_events(clinic, "step")).filter(|all| all.len() > before));
    assert_eq!(steps.len(), before + 1, "one record for each step: {steps:#?}");
    assert!(
        (change_ns(&steps[before]) - (to - from) * SECOND_NS).abs() < SECOND_NS / 2,
        "{from} to {to}: {}",
        steps[before]
    );
}

/// Numbers that a double does not hold exactly are text (I-JSON, RFC 7493 section 2.2).
fn change_ns(record: &Value) -> i64 {
    let change = &record["change_ns"];
    let change = change.as_i64().or_else(|| change.as_str().and_then(|digits| digits.parse().ok()));
    change.unwrap_or_else(|| panic!("no change: {record}"))
}

fn nothing_panicked(clinic: &Clinic) {
    let said = clinic.gateway.said();
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(clinic.admin_get("/livez").0, 200);
}

/// A certificate of the doctor's device that is valid from 2020 to 2090.
fn of_seventy_years(clinic: &Clinic) -> gateway_tests::Identity {
    clinic.pki().odd(&Oddity::of(DOCTOR))
}

#[test]
fn a8_a_second_either_way_is_a_step() {
    let clinic = with_a_false_clock().start();
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(wire.get("/fhir/Patient/1").status, 200);
    std::thread::sleep(Duration::from_millis(700));
    let mut last = 0;
    for to in [1, 0, -1, 0] {
        step(&clinic, last, to);
        assert_eq!(wire.get("/fhir/Patient/1").status, 200);
        last = to;
    }
    in_order(&clinic.records());
    nothing_panicked(&clinic);
}

#[test]
fn a8_ten_years_later_certificates_have_expired() {
    let clinic = with_a_false_clock().start();
    let mut live = clinic.wire(DOCTOR);
    assert_eq!(live.get("/fhir/Patient/1").status, 200);
    std::thread::sleep(Duration::from_millis(700));
    step(&clinic, 0, TEN_YEARS);
    let _ = live.closes();
    let source = live.local().to_string();
    let closed = clinic.wait_for_record("the end", |record| {
        text(record, "kind") == "connection-closed" && text(record, "connection.source") == source
    });
    assert_eq!(text(&closed, "cause"), "certificate-expired", "{closed:#}");
    assert_eq!(clinic.handshake(DOCTOR).refused(), Refusal::Alert(AlertDescription::CertificateExpired));
    clinic.wait_for_record("the refusal", |record| {
        text(record, "kind") == "refusal" && text(record, "reason") == "certificate-expired"
    });
    let expired = || clinic.metric("sekisho_handshakes_total", &[("outcome", "certificate-expired")]);
    until("it to be counted", || (expired() > 0.5).then_some(()));
    // Whose certificate is still good is served, and the record has the year.
    let mut wire = clinic.door.with(&of_seventy_years(&clinic)).open();
    assert_eq!(wire.get("/fhir/Patient/1").status, 200);
    let year: i64 = text(&clinic.asked_by(&wire)[0], "time")[..4].parse().expect("a year");
    assert!(year >= 2035, "{year}");
    step(&clinic, TEN_YEARS, 0);
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200, "and back");
    in_order(&clinic.records());
    nothing_panicked(&clinic);
}

#[test]
fn a8_2038_comes_and_goes() {
    let clinic = with_a_false_clock().start();
    let identity = of_seventy_years(&clinic);
    let mut wire = clinic.door.with(&identity).open();
    assert_eq!(wire.get("/fhir/Patient/1").status, 200);
    std::thread::sleep(Duration::from_millis(700));
    step(&clinic, 0, ROLLOVER - 3 - now());
    let steps = clock_events(&clinic, "step").len();
    for _ in 0..30 {
        assert_eq!(wire.get("/fhir/Patient/1").status, 200);
        std::thread::sleep(Duration::from_millis(200));
    }
    let asked = clinic.asked_by(&wire);
    let times: Vec<_> = asked.iter().skip(1).map(|record| text(record, "time").to_owned()).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!(times[0].as_str() < "2038-01-19T03:14:08Z", "{times:?}");
    assert!(times[29].as_str() > "2038-01-19T03:14:08Z" && times[29].starts_with("2038-"), "{times:?}");
    assert_eq!(clock_events(&clinic, "step").len(), steps, "time passed there, and nothing more");
    assert_eq!(clinic.door.with(&identity).open().get("/fhir/Patient/1").status, 200);
    in_order(&clinic.records());
    nothing_panicked(&clinic);
}

#[test]
fn a8_1969_is_survived() {
    let clinic = with_a_false_clock().start();
    let mut live = clinic.wire(DOCTOR);
    assert_eq!(live.get("/fhir/Patient/1").status, 200);
    std::thread::sleep(Duration::from_millis(700));
    // Six seconds of 1969, then 1970.
    let offset = -6 - now();
    step(&clinic, 0, offset);
    // Nobody comes in before time begins, and no certificate is valid just after; who was inside goes on.
    let refused = clinic.handshake(DOCTOR).try_open().map(|mut wire| wire.get("/fhir/Patient/1").status);
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(live.get("/fhir/Patient/2").status, 200);
    clinic.wait_for_record("a record of 1969", |record| text(record, "time").starts_with("1969-12-31T23:59:5"));
    clinic.wait_for_record("the refusal", |record| text(record, "reason") == "clock-unsynchronised");
    let is_1970 = || {
        assert_eq!(live.get("/fhir/Patient/3").status, 200);
        text(clinic.asked_by(&live).last().expect("a record"), "time").starts_with("1970-01-01T00:00:").then_some(())
    };
    until("1970", is_1970);
    let refused = clinic.handshake(DOCTOR).refused();
    assert_eq!(refused, Refusal::Alert(AlertDescription::CertificateExpired));
    nothing_panicked(&clinic);
    step(&clinic, offset, 0);
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200, "and back");
    in_order(&clinic.records());
    nothing_panicked(&clinic);
}

#[test]
fn a8_restarts_at_any_time() {
    // Each run but those that go forward begins before the last record of the one before it, and says so.
    let mut prepared = with_a_false_clock();
    let (mut runs, mut regressions) = (0, 0);
    let mut last = i64::MIN;
    for to in [30, 0, TEN_YEARS, ROLLOVER - 2 - now(), 0, 1 - now(), 0, TEN_YEARS, 0] {
        move_clock(&prepared, to);
        let clinic = prepared.start();
        let expected = to < last;
        last = to;
        regressions += usize::from(expected);
        let seen = clock_events(&clinic, "regression");
        assert_eq!(seen.len(), regressions, "{to}: {seen:#?}");
        let mut wire = clinic.door.with(&of_seventy_years(&clinic)).try_open().ok();
        if now() + to > 1_600_000_000 {
            assert_eq!(wire.as_mut().expect("a handshake").get("/fhir/Patient/1").status, 200, "{to}");
        }
        nothing_panicked(&clinic);
        runs += 1;
        prepared = clinic.stop();
        let log = crate::audit_tools::Log::read(&prepared.path("audit"));
        assert_eq!((log.count("start"), log.count("stop"), log.count("recovery")), (runs, runs, 0), "{:?}", log.kinds);
    }
    // Before 1970 there is no start: no certificate could be judged.
    move_clock(&prepared, -60 - now());
    let Err((failure, again)) = prepared.try_start() else { panic!("it started in 1969") };
    assert_eq!(failure.code, Some(1), "{failure:?}");
    assert!(failure.message.contains("the clock is before 1970"), "{failure:?}");
    prepared = *again;
    move_clock(&prepared, 0);
    let clinic = prepared.start();
    let records = clinic.records();
    in_order(&records);
    // Time never goes below the last record's without a `clock` record in between, or at it.
    for pair in records.windows(2) {
        let back = text(&pair[1], "time") < text(&pair[0], "time");
        let told = text(&pair[1], "kind") == "clock";
        let by_a_moment = text(&pair[0], "kind") != "stop";
        assert!(!back || told || by_a_moment, "{pair:#?}");
    }
    println!("{runs} runs, {regressions} regressions, {} records", records.len());
}
