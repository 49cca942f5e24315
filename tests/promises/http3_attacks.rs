//! What a peer of HTTP/3 may not do: RFC 9114's and RFC 9204's rules from outside, and more of anything than the gateway bears
//! (rows C4 and C10).

use std::path::Path;

use gateway_tests::audit::{is, text};
use gateway_tests::http3::Http3;
use gateway_tests::{Clinic, DOCTOR, Reply, until};
use serde_json::{Value, json};

const STREAM_CREATION_ERROR: u64 = 0x103;
const CLOSED_CRITICAL_STREAM: u64 = 0x104;
const FRAME_UNEXPECTED: u64 = 0x105;
const FRAME_ERROR: u64 = 0x106;
const EXCESSIVE_LOAD: u64 = 0x107;
const ID_ERROR: u64 = 0x108;
const SETTINGS_ERROR: u64 = 0x109;
const MISSING_SETTINGS: u64 = 0x10a;
const REQUEST_INCOMPLETE: u64 = 0x10d;
const MESSAGE_ERROR: u64 = 0x10e;
const DECOMPRESSION_FAILED: u64 = 0x200;
const ENCODER_STREAM_ERROR: u64 = 0x201;
const DECODER_STREAM_ERROR: u64 = 0x202;

/// What a process may grow by under an attack that is stopped.
const GROWTH: u64 = 64 << 20;

fn clinic() -> Clinic {
    Clinic::builder().config(|config| config.set_listener("http3", true)).start()
}

fn memory(clinic: &Clinic, key: &str) -> u64 {
    let path = format!("/proc/{}/status", clinic.gateway.pid());
    let status = std::fs::read_to_string(Path::new(&path)).expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line");
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Others are served as if nothing were.
fn still_serves(clinic: &Clinic) {
    assert_eq!(Http3::open(clinic, DOCTOR).get("/open/bystander")["status"], 200);
    assert_eq!(clinic.wire(DOCTOR).get("/open/bystander").status, 200);
    let said = clinic.gateway.said();
    assert!(!said.contains("panicked"), "{said}");
}

/// So many refusals of this reason are recorded, or will be in a moment: nobody waits for them.
fn are_recorded(clinic: &Clinic, reason: &str, least: usize) {
    until("the refusals' records", || {
        let records = clinic.records();
        let refusals = records.iter().filter(|record| is(record, "refusal") && text(record, "reason") == reason);
        (refusals.count() >= least).then_some(())
    });
}

#[test]
fn http3_ends_connections_that_break_the_rules_of_frames() {
    let clinic = clinic();
    // A head of GET, https, / and nothing else.
    const HEAD: &str = "01050000d1d7c1";
    let stream = |code: u64, hex: String, more: Value| (code, hex, more);
    let end = || json!({"end": true});
    let uni = || json!({"kind": "uni"});
    let control = || json!({"kind": "control"});
    let cases = [
        stream(FRAME_UNEXPECTED, "000178".to_owned(), end()),
        stream(FRAME_UNEXPECTED, "0400".to_owned(), end()),
        stream(FRAME_UNEXPECTED, "070100".to_owned(), end()),
        stream(FRAME_UNEXPECTED, "050100".to_owned(), end()),
        stream(FRAME_UNEXPECTED, format!("{HEAD}0d0100"), end()),
        stream(FRAME_UNEXPECTED, format!("{HEAD}030100"), end()),
        stream(FRAME_UNEXPECTED, format!("{HEAD}0800"), end()),
        stream(FRAME_UNEXPECTED, format!("{HEAD}40410000"), end()),
        stream(FRAME_ERROR, "0105".to_owned(), end()),
        stream(DECOMPRESSION_FAILED, "0103000080".to_owned(), end()),
        stream(DECOMPRESSION_FAILED, "0103020080".to_owned(), end()),
        stream(DECOMPRESSION_FAILED, "01040000ff24".to_owned(), end()),
        stream(STREAM_CREATION_ERROR, "000400".to_owned(), uni()),
        stream(STREAM_CREATION_ERROR, "0100".to_owned(), uni()),
        stream(STREAM_CREATION_ERROR, "02".to_owned(), uni()),
        stream(STREAM_CREATION_ERROR, "03".to_owned(), uni()),
        stream(FRAME_UNEXPECTED, "0400".to_owned(), control()),
        stream(FRAME_UNEXPECTED, "000178".to_owned(), control()),
        stream(FRAME_UNEXPECTED, HEAD.to_owned(), control()),
        stream(ID_ERROR, "030100".to_owned(), control()),
        stream(ID_ERROR, "0d01020d0101".to_owned(), control()),
        stream(FRAME_ERROR, "07020000".to_owned(), control()),
        stream(CLOSED_CRITICAL_STREAM, String::new(), json!({"kind": "control", "end": true})),
        stream(CLOSED_CRITICAL_STREAM, String::new(), json!({"kind": "control", "reset": 0x100})),
    ];
    for (code, hex, more) in &cases {
        let client = Http3::open(&clinic, DOCTOR);
        let ended = client.raw(hex, more);
        assert_eq!(ended["ended"]["code"], *code, "{hex} {more}: {ended}");
    }
    // Those who speak first by hand.
    for (code, hex) in [
        (MISSING_SETTINGS, "00070100"),
        (SETTINGS_ERROR, "00040406010601"),
        (SETTINGS_ERROR, "0004020200"),
        (FRAME_ERROR, "00040106"),
        (EXCESSIVE_LOAD, "00047fff"),
        (ENCODER_STREAM_ERROR, "023fe11f"),
        (ENCODER_STREAM_ERROR, "02c00161"),
        (DECODER_STREAM_ERROR, "0301"),
        (DECODER_STREAM_ERROR, "0380"),
    ] {
        let client = Http3::new(&clinic, Some(&clinic.identity(DOCTOR)));
        assert_eq!(client.obey(&json!({"do": "open", "http": false}))["ok"], true);
        let ended = client.raw(hex, &json!({"kind": "uni"}));
        assert_eq!(ended["ended"]["code"], code, "{hex}: {ended}");
    }
    assert!(clinic.backend().seen().is_empty(), "{:?}", clinic.backend().seen());
    are_recorded(&clinic, "request-malformed", cases.len());
    still_serves(&clinic);
}

#[test]
fn http3_resets_requests_that_are_malformed_and_keeps_the_connection() {
    let clinic = clinic();
    let client = Http3::open(&clinic, DOCTOR);
    let host = format!("localhost:{}", clinic.door.address.port());
    let (method, scheme, authority, path) =
        ([":method", "GET"], [":scheme", "https"], [":authority", &*host], [":path", "/open/x"]);
    let all = json!([method, scheme, authority, path]);
    for (pseudo, fields) in [
        (json!([method, scheme, authority, path, path]), json!([])),
        (json!([method, method, scheme, authority, path]), json!([])),
        (json!([method, scheme, authority, path, [":status", "200"]]), json!([])),
        (json!([method, scheme, authority, path, [":x", "1"]]), json!([])),
        (json!([method, scheme, authority, path, [":protocol", "websocket"]]), json!([])),
        (json!([["x-first", "1"], method, scheme, authority, path]), json!([])),
        (json!([method, authority, path]), json!([])),
        (json!([method, scheme, authority]), json!([])),
        (json!([scheme, authority, path]), json!([])),
        (json!([method, scheme, path]), json!([])),
        (json!([method, scheme, authority, [":path", ""]]), json!([])),
        (all.clone(), json!([["host", "elsewhere.example"]])),
        (all.clone(), json!([["X-Upper", "1"]])),
        (all.clone(), json!([["x bad", "1"]])),
        (all.clone(), json!([["x-bad", "a\nb"]])),
        (all.clone(), json!([["connection", "close"]])),
        (all.clone(), json!([["keep-alive", "1"]])),
        (all.clone(), json!([["proxy-connection", "1"]])),
        (all.clone(), json!([["transfer-encoding", "chunked"]])),
        (all.clone(), json!([["upgrade", "websocket"]])),
        (all.clone(), json!([["te", "gzip"]])),
        (all.clone(), json!([["content-length", "1"], ["content-length", "2"]])),
        (all.clone(), json!([["content-length", "+1"]])),
        (all.clone(), json!([["content-length", "5"]])),
    ] {
        let order = json!({"do": "get", "path": "", "pseudo": pseudo, "fields": fields});
        let ended = client.obey(&order);
        assert_eq!((&ended["reset"], &ended["ended"]), (&MESSAGE_ERROR.into(), &Value::Null), "{order}: {ended}");
    }
    assert!(clinic.backend().seen().is_empty(), "{:?}", clinic.backend().seen());
    let incomplete = client.raw("", &json!({"end": true}));
    assert_eq!(incomplete["reset"], REQUEST_INCOMPLETE, "{incomplete}");
    are_recorded(&clinic, "request-malformed", 25);
    assert_eq!(client.get("/open/x")["status"], 200, "the connection is as good as before");
    still_serves(&clinic);
}

#[test]
fn http3_takes_no_body_that_is_not_as_long_as_its_head_says() {
    let clinic = clinic();
    let client = Http3::open(&clinic, DOCTOR);
    for (length, body) in [("5", "abc"), ("3", "abcdef")] {
        let order = json!({"do": "get", "method": "POST", "path": "/open/x", "data": body, "fields": [["content-length", length]]});
        let ended = client.obey(&order);
        let told = ended["status"] == 400 || ended["reset"] == MESSAGE_ERROR;
        assert!(told && ended["ended"].is_null(), "{ended}");
    }
    // Nobody behind the gateway took it for a whole request.
    assert!(clinic.backend().seen().is_empty(), "{:?}", clinic.backend().seen());
    still_serves(&clinic);
}

#[test]
fn http3_bounds_what_heads_take() {
    let clinic = clinic();
    let before = memory(&clinic, "VmRSS");
    let client = Http3::open(&clinic, DOCTOR);
    let big = |bytes: usize| json!({"do": "get", "path": "/open/x", "fields": [["x-big", "a".repeat(bytes)]]});
    assert_eq!(client.obey(&big(20_000))["status"], 200);
    // Ours, by the size of the list as RFC 9114 4.2.2 counts it; aioquic's Huffman coding makes it shorter on the wire.
    assert_eq!(client.obey(&big(40_000))["status"], 431);
    let long = client.obey(&json!({"do": "get", "path": format!("/open/{}", "x".repeat(17_000))}));
    assert_eq!(long["status"], 414, "{long}");
    // The library's, beyond four times as much: the stream is reset.
    let huge = "a".repeat(50_000);
    let huge = json!({"do": "get", "path": "/open/x", "fields": [["x-a", huge], ["x-b", huge], ["x-c", huge]]});
    let huge = client.obey(&huge);
    assert!(huge["status"] == 431 || huge["reset"].is_u64(), "{huge}");
    assert!(huge["ended"].is_null(), "{huge}");
    // What says that it is longer than anything is not even waited for.
    let ended = client.raw("01bfffffff0000d1d7c1", &json!({}));
    assert_eq!(ended["ended"]["code"], EXCESSIVE_LOAD, "{ended}");
    are_recorded(&clinic, "header-too-large", 2);
    let grown = memory(&clinic, "VmHWM").saturating_sub(before);
    assert!(grown < GROWTH, "{grown} bytes");
    still_serves(&clinic);
}

#[test]
fn http3_ends_connections_that_send_in_masses_what_means_nothing() {
    let clinic = clinic();
    let before = memory(&clinic, "VmRSS");
    // POST, https, /open/x, localhost.
    const HEAD: &str = "01180000d4d751072f6f70656e2f7850096c6f63616c686f7374";
    for (hex, more) in [
        ("2100".repeat(5_000), json!({})),
        (format!("{HEAD}{}", "0000".repeat(5_000)), json!({})),
        ("2100".repeat(5_000), json!({"kind": "control"})),
        ("0d0120".repeat(5_000), json!({"kind": "control"})),
        // An unknown frame of four megabytes.
        (format!("21{:08x}{}", 0x8000_0000_u32 | (4 << 20), "00".repeat(4 << 20)), json!({})),
    ] {
        let client = Http3::open(&clinic, DOCTOR);
        let ended = client.raw(&hex, &more);
        assert_eq!(ended["ended"]["code"], EXCESSIVE_LOAD, "{more}: {ended}");
        let closed = |record: &Value| is(record, "connection-closed") && text(record, "cause") == "protocol-abuse";
        clinic.wait_for_record("the end", closed);
    }
    let grown = memory(&clinic, "VmHWM").saturating_sub(before);
    assert!(grown < GROWTH, "{grown} bytes");
    still_serves(&clinic);
}

#[test]
fn http3_ends_a_storm_of_resets_and_bounds_a_flood_of_streams() {
    let clinic = clinic();
    clinic.backend().answers(|seen| {
        let reply = Reply::new(200, "{}");
        if seen.target().starts_with("/open") { reply } else { reply.after(std::time::Duration::from_secs(5)) }
    });
    let before = memory(&clinic, "VmRSS");
    for head in [true, false] {
        let client = Http3::open(&clinic, DOCTOR);
        let storm = client.obey(&json!({"do": "storm", "path": "/fhir/Patient/1", "count": 20_000, "head": head}));
        assert_eq!(storm["ended"]["code"], EXCESSIVE_LOAD, "{storm}");
        assert!(storm["sent"].as_u64().is_some_and(|sent| sent < 20_000), "{storm}");
    }
    let client = Http3::open(&clinic, DOCTOR);
    let flood = client.obey(&json!({"do": "flood", "path": "/open/x", "method": "POST", "count": 1_000}));
    assert_eq!((&flood["ended"], &flood["blocked"]), (&Value::Null, &(1_000 - 128).into()), "{flood}");
    let grown = memory(&clinic, "VmHWM").saturating_sub(before);
    assert!(grown < GROWTH, "{grown} bytes");
    still_serves(&clinic);
}
