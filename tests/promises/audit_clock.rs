//! A8: time cannot reorder or hide. The wall clock jumps under a running gateway and between two runs; the order is
//! the sequence number, monotonic time goes on, and each jump has its record.

use std::time::Duration;

use gateway_tests::audit::text;
use gateway_tests::{Clinic, DOCTOR, Prepared, until};
use serde_json::Value;

use crate::audit_tools::small_log;

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
const HOUR_NS: i64 = 3_600_000_000_000;

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
