//! HTTP/3 is a third door of the same house: who may come in, what may be asked and what is recorded is as on TCP (R2, R3, R11).

use std::time::{Duration, Instant};

use gateway_tests::audit::{is, text};
use gateway_tests::http3::{Http3, foreign};
use gateway_tests::{Builder, Clinic, DOCTOR, Reply, until};
use serde_json::{Value, json};

/// Nothing wrong (RFC 9114 8.1).
const NO_ERROR: u64 = 0x100;
/// TLS alerts, as codes of QUIC (RFC 9001 4.8).
const CERTIFICATE_REQUIRED: u64 = 0x100 + 116;
const ACCESS_DENIED: u64 = 0x100 + 49;

fn clinic() -> Builder {
    Clinic::builder().config(|config| config.set_listener("http3", true))
}

#[test]
fn http3_is_asked_judged_and_recorded_like_any_request() {
    let clinic = clinic().start();
    clinic.backend().answers(|seen| Reply::new(200, &format!("{{\"at\":\"{}\"}}", seen.target())));
    let client = Http3::open(&clinic, DOCTOR);
    let answer = client.get("/fhir/Patient/1");
    assert_eq!((&answer["status"], &answer["text"]), (&200.into(), &"{\"at\":\"/fhir/Patient/1\"}".into()), "{answer}");
    assert!(answer["headers"]["date"].is_string() && answer["headers"]["x-request-id"].is_string(), "{answer}");
    assert!(answer["headers"]["alt-svc"].is_null(), "it is there already: {answer}");
    let seen = clinic.backend().last();
    assert_eq!(seen.method(), "GET");
    assert!(seen.values("sekisho-identity").len() == 1 && seen.values("client-cert").len() == 1, "{seen:?}");

    let denied = client.get("/admin/x");
    assert_eq!(denied["status"], 403, "{denied}");
    assert_eq!(denied["headers"]["content-type"], "application/problem+json", "{denied}");
    let unknown = client.get("/nowhere");
    assert_eq!(unknown["status"], 404, "{unknown}");
    let head = client.obey(&json!({"do": "get", "path": "/fhir/Patient/1", "method": "HEAD"}));
    assert_eq!((&head["status"], &head["bytes"]), (&200.into(), &0.into()), "{head}");
    let head = client.obey(&json!({"do": "get", "path": "/nowhere", "method": "HEAD"}));
    assert_eq!((&head["status"], &head["bytes"]), (&404.into(), &0.into()), "an answer of our own: {head}");
    let misdirected = client.obey(&json!({"do": "get", "path": "/fhir/Patient/1", "authority": "elsewhere.example"}));
    assert_eq!(misdirected["status"], 421, "{misdirected}");
    let connect = client.obey(&json!({"do": "get", "path": "/", "method": "CONNECT"}));
    assert_eq!(connect["status"], 405, "{connect}");

    let asked = |record: &Value| is(record, "request") && text(record, "target") == "/fhir/Patient/1";
    let record = clinic.wait_for_record("the request", |record| asked(record));
    let connection = &record["connection"];
    assert_eq!((&connection["transport"], &connection["tls"]["alpn"]), (&"quic".into(), &"h3".into()), "{record:#}");
    assert_eq!(
        (&connection["device"], &connection["tls"]["version"], &connection["tls"]["resumed"]),
        (&"exam-1".into(), &"1.3".into(), &false.into()),
        "{record:#}"
    );
    assert!(text(&record, "connection.tls.suite").starts_with("TLS13_"), "{record:#}");
    assert!(connection["tls"]["group"].is_string(), "{record:#}");
    let opened = [("listener", "clinics"), ("protocol", "h3")];
    assert!((clinic.metric("sekisho_connections_opened_total", &opened) - 1.0).abs() < 0.1);
    client.obey(&json!({"do": "close"}));
    clinic.wait_for_record("its end", |record| is(record, "connection-closed") && text(record, "cause") == "peer");
}

#[test]
fn http3_is_off_unless_it_is_on_and_tcp_tells_of_it() {
    let off = Clinic::builder().start();
    let answer = off.wire(DOCTOR).get("/fhir/Patient/1");
    assert!(answer.fields.iter().all(|(name, _)| name != "alt-svc"), "{answer:?}");
    let on = clinic().start();
    let told = format!("h3=\":{}\"; ma=86400", on.door.address.port());
    assert_eq!(on.wire(DOCTOR).get("/fhir/Patient/1").field("alt-svc"), told);
    assert_eq!(on.wire(DOCTOR).get("/nowhere").field("alt-svc"), told);
    let answer = on.h2(DOCTOR).get("/fhir/Patient/1").expect("an answer");
    assert_eq!(answer.field("alt-svc"), told);
}

#[test]
fn http3_lets_nobody_in_whom_tcp_would_not() {
    let clinic = clinic().device("sakura-clinic/ward-9", "ns-mori", "nurse").start();
    let nobody = Http3::new(&clinic, None);
    let refused = nobody.obey(&json!({"do": "open"}));
    assert_eq!(refused["ended"]["code"], CERTIFICATE_REQUIRED, "{refused}");
    let record = |reason: &str| {
        clinic.wait_for_record(reason, |record| is(record, "refusal") && text(record, "reason") == reason)
    };
    assert_eq!(text(&record("certificate-missing"), "stage"), "handshake");

    let stranger = Http3::new(&clinic, Some(&clinic.pki().device("sakura-clinic/unknown")));
    let refused = stranger.obey(&json!({"do": "open"}));
    assert_eq!((&refused["ok"], &refused["ended"]["application"]), (&false.into(), &false.into()), "{refused}");
    let refusal = record("device-unregistered");
    assert_eq!(text(&refusal, "device"), "unknown", "{refusal:#}");

    let other = gateway_tests::Pki::new().device(DOCTOR);
    let refused = Http3::new(&clinic, Some(&other)).obey(&json!({"do": "open"}));
    assert_eq!(refused["ok"], false, "{refused}");

    let wrong_name = Http3::new(&clinic, Some(&clinic.identity(DOCTOR)));
    let refused = wrong_name.obey(&json!({"do": "open", "server_name": "elsewhere.example"}));
    assert_eq!(refused["ok"], false, "{refused}");
    let refused =
        Http3::new(&clinic, Some(&clinic.identity(DOCTOR))).obey(&json!({"do": "open", "alpn": ["hq"], "http": false}));
    assert_eq!(refused["ended"]["code"], 0x100 + 120, "no_application_protocol: {refused}");

    // Nobody was let in, and nothing came to the backend.
    assert!(clinic.backend().seen().is_empty());
    assert!(clinic.metric("sekisho_connections_opened_total", &[("protocol", "h3")]).abs() < 0.1);
    let ward = Http3::open(&clinic, "sakura-clinic/ward-9");
    assert_eq!(ward.get("/fhir/Patient/1")["status"], 200, "who is registered, is");
}

#[test]
fn http3_resumes_with_a_certificate_that_is_judged_again_and_takes_no_early_data() {
    let clinic = clinic().start();
    let client = Http3::open(&clinic, DOCTOR);
    assert_eq!(client.get("/fhir/Patient/1")["status"], 200);
    let again = client.obey(&json!({"do": "open", "resume": true}));
    assert_eq!(
        (&again["ok"], &again["resumed"], &again["early"]),
        (&true.into(), &true.into(), &false.into()),
        "{again}"
    );
    assert_eq!(client.get("/fhir/Patient/2")["status"], 200);
    clinic.wait_for_record("the resumption", |record| record["connection"]["tls"]["resumed"] == true);
    clinic.registry(&["device", "suspend", DOCTOR]);
    clinic.wait_for_record("the cut", |record| {
        is(record, "connection-closed") && text(record, "cause") == "device-suspended"
    });
    let refused = client.obey(&json!({"do": "open", "resume": true}));
    assert_eq!((&refused["ok"], &refused["ended"]["code"]), (&false.into(), &ACCESS_DENIED.into()), "{refused}");
    clinic
        .wait_for_record("the refusal", |record| is(record, "refusal") && text(record, "reason") == "device-suspended");
}

#[test]
fn http3_carries_large_bodies_both_ways() {
    const UP: u64 = 24 << 20;
    const DOWN: usize = 24 << 20;
    let clinic = clinic().start();
    clinic.backend().answers(|seen| match seen.method().as_str() {
        "POST" => Reply::new(201, &seen.body.len().to_string()),
        _ => Reply::new(200, &"y".repeat(DOWN)),
    });
    let client = Http3::open(&clinic, DOCTOR);
    let down = client.get("/open/down");
    assert_eq!((&down["status"], &down["bytes"]), (&200.into(), &DOWN.into()), "{}", down["ended"]);
    let order = json!({"do": "get", "method": "POST", "path": "/open/up", "body": UP});
    let up = client.obey(&order);
    assert_eq!((&up["status"], &up["text"]), (&201.into(), &UP.to_string().into()), "{up}");
    let order = json!({"do": "get", "method": "POST", "path": "/open/up", "body": UP, "fields": [["content-length", UP.to_string()]]});
    assert_eq!(client.obey(&order)["status"], 201);
    let over =
        clinic.wait_for_record("the completion", |record| is(record, "completion") && record["bytes"]["sent"] == DOWN);
    assert_eq!(text(&over, "end"), "complete", "{over:#}");
}

#[test]
fn http3_is_cut_within_a_second_of_a_suspension() {
    let clinic = clinic().start();
    clinic.backend().answers(|seen| match seen.target().as_str() {
        "/fhir/Patient/slow" => Reply::new(200, "{}").after(Duration::from_secs(50)),
        _ => Reply::new(200, "{}"),
    });
    let client = Http3::open(&clinic, DOCTOR);
    assert_eq!(client.get("/fhir/Patient/1")["status"], 200);
    client.obey(&json!({"do": "begin", "path": "/fhir/Patient/slow"}));
    until("the request at the backend", || {
        clinic.backend().seen().iter().any(|seen| seen.target() == "/fhir/Patient/slow").then_some(())
    });
    clinic.registry(&["device", "suspend", DOCTOR]);
    let begun = Instant::now();
    let closed = client.obey(&json!({"do": "closed"}));
    assert_eq!(closed["ended"]["code"], NO_ERROR, "{closed}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let record = clinic.wait_for_record("the cut", |record| is(record, "connection-closed"));
    assert_eq!(text(&record, "cause"), "device-suspended", "{record:#}");
}

#[test]
fn http3_drains_with_a_goaway_and_finishes_what_it_has_begun() {
    let mut clinic = clinic().start();
    clinic.backend().answers(|seen| match seen.target().as_str() {
        "/fhir/Patient/slow" => Reply::new(200, "{\"slow\":true}").after(Duration::from_millis(1500)),
        _ => Reply::new(200, "{}"),
    });
    let idle = Http3::open(&clinic, DOCTOR);
    assert_eq!(idle.get("/fhir/Patient/1")["status"], 200);
    let busy = Http3::open(&clinic, DOCTOR);
    let begun = busy.obey(&json!({"do": "begin", "path": "/fhir/Patient/slow"}));
    until("the request at the backend", || {
        clinic.backend().seen().iter().any(|seen| seen.target() == "/fhir/Patient/slow").then_some(())
    });
    clinic.terminate();
    let closed = idle.obey(&json!({"do": "closed"}));
    assert_eq!((&closed["ended"]["code"], &closed["goaways"]), (&NO_ERROR.into(), &json!([4])), "{closed}");
    let answer = busy.obey(&json!({"do": "finish", "stream": begun["stream"]}));
    assert_eq!((&answer["status"], &answer["text"]), (&200.into(), &"{\"slow\":true}".into()), "{answer}");
    let closed = busy.obey(&json!({"do": "closed"}));
    assert_eq!((&closed["ended"]["code"], &closed["goaways"]), (&NO_ERROR.into(), &json!([4])), "{closed}");
    assert_eq!(clinic.gateway.wait().code(), Some(0), "{}", clinic.gateway.said());
}

#[test]
fn http3_follows_a_peer_to_another_address_and_says_so() {
    // Several workers: what comes from the new address may come to another of them first.
    let clinic = clinic().config(|config| config.set("workers", "count", 3)).start();
    for _ in 0..3 {
        let client = Http3::open(&clinic, DOCTOR);
        assert_eq!(client.get("/fhir/Patient/1")["status"], 200);
        let moved = client.obey(&json!({"do": "migrate"}));
        assert_eq!(client.get("/fhir/Patient/2")["status"], 200, "{moved}");
        let to = format!("127.0.0.1:{}", moved["to"][1]);
        let record =
            clinic.wait_for_record("the move", |record| is(record, "connection-moved") && text(record, "to") == to);
        assert_eq!(text(&record, "connection.source"), format!("127.0.0.1:{}", moved["from"][1]), "{record:#}");
    }
    assert!((clinic.metric("sekisho_quic_migrations_total", &[("listener", "clinics")]) - 3.0).abs() < 0.1);
}

#[test]
fn http3_asks_for_a_proof_of_the_address_when_told_to() {
    let at_ease = clinic().start();
    let client = Http3::new(&at_ease, Some(&at_ease.identity(DOCTOR)));
    assert_eq!(client.obey(&json!({"do": "open"}))["retried"], false);
    let pressed = clinic().limit("h3_retry_handshakes", 0).start();
    let client = Http3::new(&pressed, Some(&pressed.identity(DOCTOR)));
    let opened = client.obey(&json!({"do": "open"}));
    assert_eq!((&opened["ok"], &opened["retried"]), (&true.into(), &true.into()), "{opened}");
    assert_eq!(client.get("/fhir/Patient/1")["status"], 200);
    assert!((pressed.metric("sekisho_quic_retries_total", &[("listener", "clinics")]) - 1.0).abs() < 0.1);
}

#[test]
fn http3_speaks_with_two_more_foreign_clients() {
    let clinic = clinic().start();
    clinic.backend().answers(|_| Reply::new(200, "{\"hello\":true}"));
    let by = foreign("niquests", &clinic, DOCTOR, "/fhir/Patient/1");
    assert_eq!((&by["versions"], &by["text"]), (&json!([30, 30]), &"{\"hello\":true}".into()), "{by}");
    let by = foreign("curl_cffi", &clinic, DOCTOR, "/fhir/Patient/1");
    assert_eq!((&by["statuses"], &by["text"]), (&json!([200, 200]), &"{\"hello\":true}".into()), "{by}");
    let of_h3 = |record: &&Value| is(record, "request") && record["connection"]["tls"]["alpn"] == "h3";
    assert_eq!(clinic.records().iter().filter(of_h3).count(), 4);
}
