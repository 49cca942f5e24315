//! A registered device cannot fill the log with what it is refused, nor take more than it may; what it is permitted is
//! always recorded, and others notice nothing.

use gateway_tests::audit::{is, text};
use gateway_tests::{Clinic, DOCTOR, Wire, until};
use serde_json::Value;

const OTHER: &str = "sakura-clinic/exam-2";
const MIB: i64 = 1024 * 1024;

fn limited(clinic: &Clinic) -> f64 {
    clinic.metric("sekisho_requests_total", &[("reason", "rate-limited"), ("status_class", "4xx")])
}

/// Bytes of all records of requests so far.
fn log_bytes(clinic: &Clinic) -> usize {
    let records = clinic.raw_records();
    let is_request =
        |record: &&Vec<u8>| serde_json::from_slice::<Value>(record).is_ok_and(|record| is(&record, "request"));
    records.iter().filter(is_request).map(Vec::len).sum()
}

fn summaries(clinic: &Clinic) -> Vec<Value> {
    let records = clinic.records().into_iter();
    records.filter(|record| is(record, "refusal-summary") && text(record, "reason") == "rate-limited").collect()
}

fn counted(clinic: &Clinic) -> u64 {
    summaries(clinic).iter().filter_map(|record| record["count"].as_u64()).sum()
}

#[test]
fn what_a_device_is_denied_does_not_fill_the_log() {
    let clinic = Clinic::builder()
        .device(OTHER, "dr-ito", "doctor")
        .limit("device_refusal_burst_bytes", MIB)
        .limit("device_refusal_bytes_per_second", 1024)
        .config(|config| config.set("audit", "refusal_interval_s", 1))
        .start();
    let target = format!("/admin/{}", "x".repeat(16_000));
    let mut told = (0, 0);
    // Two connections, since a new one is no new budget.
    let (mut wire, mut h2) = (clinic.wire(DOCTOR), clinic.h2(DOCTOR));
    for n in 0..200 {
        let answer = if n % 2 == 0 { wire.get(&target) } else { h2.get(&target).expect("an answer") };
        match (answer.status, &*answer.problem()) {
            (403, "policy-no-permit") => told.0 += 1,
            (429, "rate-limited") => {
                told.1 += 1;
                assert_ne!(answer.field("retry-after"), "");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(told.0 > 40 && told.1 > 100, "{told:?}");
    let bytes = log_bytes(&clinic);
    assert!(bytes < usize::try_from(MIB + MIB / 8).expect("small"), "{bytes} bytes of log");
    assert!((limited(&clinic) - f64::from(told.1)).abs() < f64::EPSILON);
    // Whatever else is refused is in the same budget: a head that cannot be read, and frames.
    let mut bad = clinic.wire(DOCTOR);
    bad.send(format!("GET /{} HTTP/1.1\r\nHost : x\r\n\r\n", "y".repeat(16_000)));
    assert_eq!(bad.answer().status, 429);
    // What is permitted is served, and recorded in full.
    let mut permitted: Wire = clinic.wire(DOCTOR);
    assert_eq!(permitted.get("/open/ok").status, 200);
    assert_eq!(clinic.asked_by(&permitted).len(), 1);
    // Others are refused and recorded as ever.
    let mut other = clinic.wire(OTHER);
    assert_eq!(other.get(&target).status, 403);
    assert_eq!(clinic.asked_by(&other).len(), 1);
    until("every refusal is counted", || (counted(&clinic) == told.1 as u64 + 1).then_some(()));
    for summary in summaries(&clinic) {
        assert_eq!((text(&summary, "site"), text(&summary, "device")), ("sakura-clinic", "exam-1"), "{summary:#}");
        assert!(summary.get("network").is_none(), "{summary:#}");
    }
}

#[test]
fn counts_are_told_when_the_gateway_ends() {
    let clinic = Clinic::builder()
        .limit("device_refusal_burst_bytes", MIB)
        .limit("device_refusal_bytes_per_second", 1024)
        .start();
    let target = format!("/admin/{}", "x".repeat(16_000));
    let mut wire = clinic.wire(DOCTOR);
    let refused = (0..100).filter(|_| wire.get(&target).status == 429).count();
    assert!(refused > 0 && summaries(&clinic).is_empty(), "{refused} refused");
    drop(wire);
    clinic.terminate();
    clinic.wait_for_record("the summary", |record| is(record, "refusal-summary"));
    assert_eq!(counted(&clinic), refused as u64);
}

#[test]
fn a_device_makes_so_many_requests() {
    let clinic = Clinic::builder()
        .device(OTHER, "dr-ito", "doctor")
        .limit("device_requests_per_second", 2)
        .config(|config| config.set("audit", "refusal_interval_s", 1))
        .start();
    let (mut wire, mut h2) = (clinic.wire(DOCTOR), clinic.h2(DOCTOR));
    let mut refused = 0;
    for n in 0..60 {
        let answer = if n % 2 == 0 { wire.get("/open/ok") } else { h2.get("/open/ok").expect("an answer") };
        if answer.status == 429 {
            assert_eq!(answer.problem(), "rate-limited");
            refused += 1;
        } else {
            assert_eq!((answer.status, refused == 0 || n > 20), (200, true), "request {n}");
        }
    }
    // A burst of ten seconds, and what came back meanwhile.
    assert!((20..=40).contains(&refused), "{refused} of 60 were refused");
    assert_eq!(clinic.backend().seen().len(), 60 - refused);
    assert_eq!(clinic.wire(OTHER).get("/open/ok").status, 200, "others have their own");
    until("a request to be taken again", || (wire.get("/open/ok").status == 200).then_some(()));
    until("the summary", || (counted(&clinic) >= refused as u64).then_some(()));
}

#[test]
fn without_a_bound_everything_is_taken_and_recorded() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    for _ in 0..300 {
        assert_eq!(wire.get("/admin/x").status, 403);
    }
    assert_eq!(clinic.asked_by(&wire).len(), 300);
    assert!(limited(&clinic).abs() < f64::EPSILON);
}
