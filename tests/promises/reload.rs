//! A reload changes what is in force at once and breaks nothing; one that fails changes nothing (R16, C7, C8).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::h2::Client;
use gateway_tests::{Clinic, DOCTOR, Ended, Pki, Refusal, until};

const FORBID: &str = "@id(\"closed-for-a-test\") forbid (principal, action, resource);\n";

/// The last reload's record.
fn last_reload(clinic: &Clinic) -> serde_json::Value {
    clinic.records().into_iter().rfind(|record| is(record, "reload")).expect("a reload")
}

#[test]
fn no_request_fails_while_the_gateway_reloads() {
    let clinic = Clinic::builder().start();
    let over = Arc::new(AtomicBool::new(false));
    let (answered, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(std::sync::Mutex::new(Vec::new())));
    let mut clients = Vec::new();
    for number in 0..4 {
        let handshake = clinic.handshake(DOCTOR);
        let address = clinic.door.address;
        let (over, answered, failed) = (Arc::clone(&over), Arc::clone(&answered), Arc::clone(&failed));
        clients.push(std::thread::spawn(move || {
            let target = format!("/fhir/Patient/{number}");
            let mut wire = (number % 2 == 0).then(|| handshake.open());
            let mut h2 = (number % 2 == 1).then(|| Client::open(&handshake, address));
            while !over.load(Ordering::Relaxed) {
                let status = match (&mut wire, &mut h2) {
                    (Some(wire), _) => {
                        wire.send_request("GET", &target, &[], b"");
                        wire.try_answer().map(|answer| answer.status).map_err(|ended| format!("{ended:?}"))
                    }
                    (_, Some(h2)) => h2.get(&target).map(|answer| answer.status),
                    (None, None) => unreachable!("one of them is there"),
                };
                if status == Ok(200) {
                    answered.fetch_add(1, Ordering::Relaxed);
                } else {
                    failed.lock().expect("a lock").push(format!("client {number}: {status:?}"));
                    return;
                }
            }
        }));
    }
    for round in 0..10 {
        let before = answered.load(Ordering::Relaxed);
        assert!(clinic.reload(), "{:#}", last_reload(&clinic));
        until("requests after the reload", || (answered.load(Ordering::Relaxed) > before + 8).then_some(()));
        // New connections meanwhile are served as well.
        assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/new").status, 200, "round {round}");
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("a client");
    }
    let failed = failed.lock().expect("a lock");
    assert!(failed.is_empty(), "{failed:#?}");
    println!("{} requests over 10 reloads", answered.load(Ordering::Relaxed));
    assert!((clinic.metric("sekisho_reloads_total", &[("outcome", "ok")]) - 10.0).abs() < f64::EPSILON);
}

#[test]
fn new_policies_hold_for_the_next_request_on_a_live_connection() {
    let clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    let mut h2 = clinic.h2(DOCTOR);
    assert_eq!(wire.get("/fhir/Patient/1").status, 200);
    assert_eq!(h2.get("/fhir/Patient/1").expect("an answer").status, 200);
    let snapshot = clinic.asked_by(&wire)[0]["snapshot"].clone();
    clinic.prepared.write("policy/closed.cedar", FORBID);
    assert_eq!(wire.get("/fhir/Patient/1").status, 200, "nothing is read without being told");
    assert!(clinic.reload());
    let answer = wire.get("/fhir/Patient/1");
    assert_eq!((answer.status, &*answer.problem()), (403, "policy-forbid"));
    assert_eq!(h2.get("/fhir/Patient/1").expect("an answer").status, 403);
    let asked = clinic.asked_by(&wire);
    let last = asked.last().expect("a record");
    assert!(last["snapshot"].as_u64() > snapshot.as_u64(), "{last:#}");
    assert_eq!(last["snapshot"], last_reload(&clinic)["snapshot"]);
    std::fs::remove_file(clinic.prepared.path("policy/closed.cedar")).expect("removed");
    assert!(clinic.reload());
    assert_eq!(wire.get("/fhir/Patient/1").status, 200);
}

#[test]
fn new_routes_hold_for_the_next_request() {
    let mut clinic = Clinic::builder().start();
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(wire.get("/fhir/Patient/1").status, 200);
    clinic.reconfigure(|config| {
        config.set_routes(
            "[[route]]\nname = \"moved\"\npath = \"/moved\"\nservice = \"clinical\"\nclass = \"clinical\"\nkind = \"fhir\"\n",
        );
    });
    assert!(clinic.reload(), "{:#}", last_reload(&clinic));
    assert_eq!(wire.get("/fhir/Patient/1").problem(), "route-unknown");
    assert_eq!(wire.get("/moved/Patient/1").status, 200);
}

/// Breaks something, reloads, and expects everything to go on as before and the record to name what is broken.
fn keeps_what_is(mut clinic: Clinic, break_it: impl FnOnce(&mut Clinic), names: &str) -> Clinic {
    let mut wire = clinic.wire(DOCTOR);
    let mut h2 = clinic.h2(DOCTOR);
    assert_eq!(wire.get("/fhir/Patient/1").status, 200);
    assert_eq!(h2.get("/fhir/Patient/1").expect("an answer").status, 200);
    break_it(&mut clinic);
    assert!(!clinic.reload(), "{names}: the reload worked");
    let record = last_reload(&clinic);
    assert_eq!(text(&record, "result"), "failed", "{record:#}");
    assert!(text(&record, "error").contains(names), "`{names}` is not named: {record:#}");
    assert!((clinic.metric("sekisho_reloads_total", &[("outcome", "failed")]) - 1.0).abs() < f64::EPSILON);
    assert!(clinic.metric("sekisho_reloads_total", &[("outcome", "ok")]).abs() < f64::EPSILON);
    assert_eq!(wire.get("/fhir/Patient/1").status, 200, "{names}");
    assert_eq!(h2.get("/fhir/Patient/1").expect("an answer").status, 200, "{names}");
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200, "{names}");
    assert_eq!(clinic.admin_get("/readyz").0, 200, "{names}");
    let asked = clinic.asked_by(&wire);
    assert_eq!(asked[0]["snapshot"], asked[1]["snapshot"], "{names}");
    clinic
}

#[test]
fn a_broken_policy_changes_nothing() {
    let clinic = Clinic::builder().start();
    let write = |text: &'static str| move |clinic: &mut Clinic| clinic.prepared.write("policy/broken.cedar", text);
    keeps_what_is(clinic, write("permit (principal, action"), "broken.cedar");
    let clinic = Clinic::builder().start();
    // Valid Cedar that names what is not in the schema.
    let unknown = "@id(\"typo\") permit (principal, action == Sekisho::Action::\"reed\", resource);";
    let clinic = keeps_what_is(clinic, write(unknown), "reed");
    std::fs::remove_file(clinic.prepared.path("policy/broken.cedar")).expect("removed");
    assert!(clinic.reload(), "once it is mended it is taken: {:#}", last_reload(&clinic));
}

#[test]
fn a_broken_configuration_changes_nothing() {
    let broken = |clinic: &mut Clinic| clinic.prepared.write("sekisho.toml", "[node\n");
    keeps_what_is(Clinic::builder().start(), broken, "sekisho.toml");
    let typo = |clinic: &mut Clinic| clinic.reconfigure(|config| config.set("audit", "durabilty", "interval"));
    keeps_what_is(Clinic::builder().start(), typo, "durabilty");
    let gone = |clinic: &mut Clinic| {
        std::fs::remove_file(clinic.prepared.path("sekisho.toml")).expect("removed");
    };
    keeps_what_is(Clinic::builder().start(), gone, "sekisho.toml");
}

#[test]
fn missing_or_broken_certificates_change_nothing() {
    for file in ["tls/devices-ca.crt", "tls/server.crt", "tls/server.key"] {
        let gone = |clinic: &mut Clinic| std::fs::remove_file(clinic.prepared.path(file)).expect("removed");
        keeps_what_is(Clinic::builder().start(), gone, file);
        let empty = |clinic: &mut Clinic| clinic.prepared.write(file, "");
        keeps_what_is(Clinic::builder().start(), empty, file);
        let nonsense = |clinic: &mut Clinic| {
            clinic.prepared.write(file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        };
        keeps_what_is(Clinic::builder().start(), nonsense, file);
    }
    // A pair whose time has not come, where the one in use is valid.
    let early = |clinic: &mut Clinic| {
        let server = clinic.pki().server_between(&["localhost", "127.0.0.1"], 3, 9);
        clinic.prepared.write("tls/server.crt", server.certificate_pem);
        clinic.prepared.write("tls/server.key", server.key_pem);
    };
    keeps_what_is(Clinic::builder().start(), early, "server.crt");
    // A key that is not the certificate's.
    let other = |clinic: &mut Clinic| {
        let server = clinic.pki().server(&["localhost"]);
        clinic.prepared.write("tls/server.key", server.key_pem);
    };
    keeps_what_is(Clinic::builder().start(), other, "server.key");
}

#[test]
fn what_needs_a_restart_is_said_and_not_half_done() {
    let change = |clinic: &mut Clinic| {
        clinic.prepared.write("policy/closed.cedar", FORBID);
        clinic.reconfigure(|config| config.set("node", "name", "gw2"));
    };
    keeps_what_is(Clinic::builder().start(), change, "node");
}

#[test]
fn c8_removing_an_authority_ends_its_connections_and_no_others() {
    let prepared = Clinic::builder().device("sakura-clinic/desk-2", "cl-ito", "clerk").prepare();
    let leaving = Pki::new();
    let both = format!("{}{}", prepared.pki.devices_ca_pem(), leaving.devices_ca_pem());
    prepared.write("tls/devices-ca.crt", both);
    let clinic = prepared.start();
    let left = leaving.device(DOCTOR);
    let mut idle = clinic.door.with(&left).open();
    assert_eq!(idle.get("/fhir/Patient/1").status, 200);
    let mut h2 = Client::open(&clinic.door.with(&left), clinic.door.address);
    assert_eq!(h2.get("/fhir/Patient/1").expect("an answer").status, 200);
    let mut stays = clinic.wire("sakura-clinic/desk-2");
    assert_eq!(stays.get("/appointments/Appointment/1").status, 200);

    clinic.prepared.write("tls/devices-ca.crt", clinic.pki().devices_ca_pem());
    assert!(clinic.reload(), "{:#}", last_reload(&clinic));
    let begun = Instant::now();
    assert!(matches!(idle.closes(), Ended::Closed | Ended::Torn(_)));
    assert!(h2.closes_within(Duration::from_secs(1)), "HTTP/2 stays open");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    for source in [idle.local(), h2.local] {
        let closed = clinic.wait_for_record("the end", |record| {
            is(record, "connection-closed") && text(record, "connection.source") == source.to_string()
        });
        assert_eq!(text(&closed, "cause"), "certificate-untrusted", "{closed:#}");
    }
    assert_eq!(stays.get("/appointments/Appointment/1").status, 200);
    let refusal = clinic.door.with(&left).refused();
    assert!(matches!(refusal, Refusal::Alert(_)), "{refusal:?}");
    clinic.wait_for_record("the refusal", |record| text(record, "reason") == "certificate-untrusted");
    assert_eq!(clinic.wire(DOCTOR).get("/fhir/Patient/1").status, 200, "the same device, the other authority");
}

#[test]
fn a_new_server_certificate_is_shown_to_new_handshakes() {
    let clinic = Clinic::builder().start();
    let shown = |wire: &gateway_tests::Wire| wire.tls().peer_certificates().expect("a certificate")[0].to_vec();
    let mut old = clinic.wire(DOCTOR);
    let before = shown(&old);
    let server = clinic.pki().server(&["localhost", "127.0.0.1"]);
    clinic.prepared.write("tls/server.crt", &server.certificate_pem);
    clinic.prepared.write("tls/server.key", &server.key_pem);
    assert!(clinic.reload(), "{:#}", last_reload(&clinic));
    let mut new = clinic.wire(DOCTOR);
    assert_eq!(shown(&new), server.chain()[0].to_vec());
    assert_ne!(shown(&new), before);
    assert_eq!((old.get("/fhir/Patient/1").status, new.get("/fhir/Patient/1").status), (200, 200));
}
