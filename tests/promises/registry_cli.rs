//! The registry is kept with the command line, while gateways run and while none does: who may come is said by name,
//! every change has an author, and what cannot be done changes nothing (R1, R3, R27).

use gateway_tests::audit::{is, text};
use gateway_tests::{Clinic, DOCTOR, Output, Prepared, sekisho, until};
use serde_json::Value;

fn json(prepared: &Prepared, arguments: &[&str]) -> Value {
    let output = prepared.registry(&[arguments, &["--json"]].concat());
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"))
}

#[test]
fn a_device_is_served_from_its_registration_on() {
    let clinic = Clinic::builder().start();
    let _ = clinic.handshake("sakura-clinic/new-1").refused();
    clinic.registry(&["user", "add", "sakura-clinic/dr-mori", "--role", "doctor"]);
    clinic.registry(&["device", "add", "sakura-clinic/new-1", "--user", "dr-mori"]);
    let answer = until("the new device to be let in", || {
        let mut wire = clinic.handshake("sakura-clinic/new-1").try_open().ok()?;
        wire.send_request("GET", "/fhir/Patient/1", &[], b"");
        wire.try_answer().ok()
    });
    assert_eq!(answer.status, 200);
    // A change is in force before its record is on disk: nobody waits for it.
    let added = clinic.wait_for_record("the device's change", |record| {
        is(record, "registry-change") && text(record, "change").contains("new-1")
    });
    let changes: Vec<_> = clinic.records().into_iter().filter(|record| is(record, "registry-change")).collect();
    assert!(!text(&added, "actor").is_empty(), "{added:#}");
    let numbers: Vec<_> = changes.iter().filter_map(|change| change["registry_sequence"].as_u64()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "each change once, in order");
}

#[test]
fn what_is_listed_is_what_is_in_force() {
    let prepared = Clinic::builder().device_alone("sakura-clinic/kiosk-1", &["kiosk"]).prepare();
    prepared.registry(&["device", "suspend", "sakura-clinic/kiosk-1"]);
    let listed = json(&prepared, &["device", "list"]);
    let devices = listed["devices"].as_array().expect("a list").clone();
    assert_eq!(devices.len(), 2, "{listed:#}");
    let kiosk = devices.iter().find(|device| device["device"] == "kiosk-1" || device["name"] == "kiosk-1");
    let kiosk = kiosk.unwrap_or_else(|| panic!("{listed:#}"));
    assert_eq!((&kiosk["status"], &kiosk["roles"][0]), (&"suspended".into(), &"kiosk".into()), "{kiosk:#}");
    let clinic = prepared.start();
    for (kind, status, count) in [("device", "active", 1.0), ("device", "suspended", 1.0), ("site", "active", 1.0)] {
        let counted = clinic.metric("sekisho_registry_entries", &[("kind", kind), ("status", status)]);
        assert!((counted - count).abs() < f64::EPSILON, "{kind}, {status}: {counted}");
    }
}

#[test]
fn what_cannot_be_done_says_why_and_changes_nothing() {
    let clinic = Clinic::builder().start();
    let before = json(&clinic.prepared, &["device", "list"]);
    let fails = |arguments: &[&str], says: &str| {
        let output: Output = clinic.prepared.try_registry(arguments);
        assert_eq!(output.code, Some(1), "{arguments:?}: {output:?}");
        assert!(output.stderr.contains(says), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
    };
    fails(&["device", "add", DOCTOR], "exists already");
    fails(&["device", "add", "no-clinic/exam-1"], "no site `no-clinic`");
    fails(&["device", "add", "sakura-clinic/exam-2", "--user", "nobody"], "nobody");
    fails(&["device", "add", "sakura-clinic/exam-2", "--role", "docter"], "docter");
    fails(&["device", "suspend", "sakura-clinic/exam-9"], "exam-9");
    fails(&["site", "remove", "sakura-clinic"], "--cascade");
    fails(&["role", "remove", "doctor"], "--cascade");
    fails(&["user", "show", "sakura-clinic/nobody"], "nobody");
    for usage in [
        &["device", "add", "no-slash"][..],
        &["device", "add", "a/b/c"],
        &["device", "add", "sakura-clinic/../x"],
        &["site", "add", "さくら"],
        &["site", "add", ""],
        &["device", "set", DOCTOR],
        &["device", "frobnicate", DOCTOR],
    ] {
        let output = clinic.prepared.try_registry(usage);
        assert_eq!(output.code, Some(2), "{usage:?}: {output:?}");
    }
    assert_eq!(json(&clinic.prepared, &["device", "list"]), before);
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
}

#[test]
fn a_store_that_is_not_there_is_not_made_by_a_question() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("sekisho.db");
    let path = store.to_str().expect("UTF-8");
    for question in [&["device", "list"][..], &["site", "suspend", "x"], &["user", "show", "a/b"]] {
        let output = sekisho(&[question, &["--store", path]].concat());
        assert_eq!(output.code, Some(1), "{question:?}: {output:?}");
        assert!(output.stderr.contains("sekisho.db"), "{question:?}: {output:?}");
    }
    assert!(!store.exists());
}

#[test]
fn removing_somebody_takes_everything_of_theirs() {
    let clinic = Clinic::builder().device("momiji-hospital/ward-3", "ns-kato", "nurse").start();
    assert_eq!(clinic.wire("momiji-hospital/ward-3").get("/fhir/Patient/1").status, 200);
    clinic.registry(&["user", "remove", "momiji-hospital/ns-kato", "--cascade"]);
    let shown = json(&clinic.prepared, &["device", "show", "momiji-hospital/ward-3"]);
    assert_eq!((&shown["status"], &shown["user"]), (&"suspended".into(), &Value::Null), "{shown:#}");
    until("the device to be out", || {
        clinic.handshake("momiji-hospital/ward-3").try_open().map_or(Some(()), |mut wire| {
            wire.send_request("GET", "/fhir/Patient/1", &[], b"");
            wire.try_answer().err().map(drop)
        })
    });
    clinic.registry(&["site", "remove", "momiji-hospital", "--cascade"]);
    let listed = json(&clinic.prepared, &["device", "list"]);
    assert_eq!(listed["devices"].as_array().map(Vec::len), Some(1), "{listed:#}");
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
}

#[test]
fn many_hands_at_once_lose_no_change() {
    let clinic = Clinic::builder().start();
    let store = clinic.prepared.path("state/sekisho.db");
    let hands: Vec<_> = (0..4)
        .map(|hand| {
            let store = store.clone();
            std::thread::spawn(move || {
                let store = store.to_str().expect("UTF-8");
                for n in 0..10 {
                    let device = format!("sakura-clinic/hand-{hand}-{n}");
                    let output = sekisho(&["device", "add", &device, "--role", "kiosk", "--store", store]);
                    assert_eq!(output.code, Some(0), "{output:?}");
                }
            })
        })
        .collect();
    for hand in hands {
        hand.join().expect("a hand");
    }
    assert_eq!(json(&clinic.prepared, &["device", "list"])["devices"].as_array().map(Vec::len), Some(41));
    let changes = until("every change to be recorded", || {
        let changes: Vec<_> = clinic.records().into_iter().filter(|record| is(record, "registry-change")).collect();
        let of_hands = changes.iter().filter(|change| text(change, "change").contains("hand-")).count();
        (of_hands >= 40).then_some(changes)
    });
    let numbers: Vec<_> = changes.iter().filter_map(|change| change["registry_sequence"].as_u64()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "each change once, in order");
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200);
}
