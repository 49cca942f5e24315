//! R5: the record of an access names the patients it touched, wherever request and answer named them: path, query,
//! body, in one piece or in many. What could not be read is marked, never silently left out.

use std::io::Write as _;

use gateway_tests::audit::{is, text};
use gateway_tests::{Clinic, DOCTOR, Reply, Wire};
use serde_json::{Value, json};

const FHIR: &str = "application/fhir+json";

const RULES: &str = r#"
[[route]]
name = "karte"
path = "/karte"
service = "clinical"
class = "clinical"
kind = "generic"
[[route.rules]]
methods = ["POST"]
path = "/find"
action = "search"
effect = "read-only"
patient_form = ["患者番号"]
patient_request_json = ["/患者/番号"]
patient_answer_json = ["/results/*/pid"]
[[route]]
name = "short"
path = "/short"
service = "clinical"
class = "clinical"
kind = "fhir"
patients = { max_body_bytes = 300 }
"#;

fn clinic() -> Clinic {
    Clinic::builder().config(|config| config.append(RULES)).start()
}

/// What the log says of the last request over a connection, once that is over: its first record, then its addenda.
fn told(clinic: &Clinic, wire: &Wire) -> Vec<Value> {
    let asked = clinic.asked_by(wire).pop().expect("a record");
    let id = text(&asked, "request").to_owned();
    clinic.wait_for_record("the completion", |record| is(record, "completion") && text(record, "request") == id);
    let of_it = |record: &Value| {
        text(record, "request") == id && ["request", "intent", "addendum", "completion"].contains(&text(record, "kind"))
    };
    let mut told: Vec<Value> = clinic.records().into_iter().filter(of_it).collect();
    let last = told.pop().expect("the completion");
    assert!(is(&last, "completion"), "an addendum stands before the completion: {last:#}");
    told
}

/// Kind, `from`, patients and reason of each.
fn short(told: &[Value]) -> Vec<Value> {
    let one = |record: &Value| json!([record["kind"], record["from"], record["patients"], record["patients_unknown"]]);
    told.iter().map(one).collect()
}

fn post(wire: &mut Wire, target: &str, kind: &str, body: &[u8]) {
    let answer = wire.request("POST", target, &[("Content-Type", kind)], body);
    assert_eq!(answer.status, 200, "{target}: {answer:?}");
}

/// An answer in chunks of so many bytes.
fn chunked(body: &[u8], size: usize, fields: &str) -> Reply {
    let mut bytes = format!("HTTP/1.1 200 OK\r\n{fields}transfer-encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(size) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    Reply::raw(bytes)
}

/// Observations of these patients.
fn searchset(patients: &[&str]) -> String {
    let entry = |id: &&str| {
        json!({ "resource": { "resourceType": "Observation", "id": "o", "code": { "text": "血圧" },
            "subject": { "reference": format!("Patient/{id}"), "display": "山田 太郎" } } })
    };
    json!({ "entry": patients.iter().map(entry).collect::<Vec<_>>(), "resourceType": "Bundle", "type": "searchset" })
        .to_string()
}

#[test]
fn the_patients_of_a_search_s_results() {
    let clinic = clinic();
    let mut wire = clinic.wire(DOCTOR);
    // A small answer comes with its head: one record says it all.
    clinic.backend().answers(|_| Reply::new(200, &searchset(&["1", "2", "1"])));
    assert_eq!(wire.get("/fhir/Observation?code=85354-9").status, 200);
    assert_eq!(short(&told(&clinic, &wire)), [json!(["request", null, ["1", "2"], null])]);
    // What streams after the head is told once it has passed, and only what is new.
    let many: Vec<String> = (0..600).map(|number| format!("p{number}")).collect();
    let body = searchset(&many.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(body.len() > 64 * 1024);
    let streamed = body.clone();
    clinic.backend().answers(move |_| chunked(streamed.as_bytes(), 997, "content-type: application/fhir+json\r\n"));
    let answer = wire.get("/fhir/Observation?patient=Patient/p3");
    assert_eq!(answer.body, body.as_bytes(), "the answer passed unchanged");
    let told = told(&clinic, &wire);
    assert_eq!(told.len(), 2, "{told:#?}");
    assert_eq!(short(&told)[0], json!(["request", null, ["p3"], null]));
    let rest: Vec<&String> = many.iter().filter(|id| *id != "p3").collect();
    assert_eq!(short(&told)[1], json!(["addendum", "answer", rest, null]));
    // Over HTTP/2 the same.
    let mut h2 = clinic.h2(DOCTOR);
    let answer = h2.request("GET", "/fhir/Observation?patient=p4", &[], b"").expect("an answer");
    assert_eq!(answer.body, body.as_bytes());
    let id = answer.field("x-request-id").to_owned();
    let addendum = clinic.wait_for_record("it", |record| is(record, "addendum") && text(record, "request") == id);
    assert_eq!(addendum["patients"].as_array().map(Vec::len), Some(599), "{addendum:#}");
}

/// `{"subject":{"reference":"Patient/1"}}`, compressed.
const GZIP: &[u8] =
    b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xab\x56\x2a\x2e\x4d\xca\x4a\x4d\x2e\x51\xb2\xaa\x56\x2a\x4a\x4d\x4b\
    \x2d\x4a\xcd\x4b\x4e\x55\xb2\x52\x0a\x48\x2c\xc9\x4c\xcd\x2b\xd1\x37\x54\xaa\xad\x05\0\x6b\x6f\x4f\xdf\x25\0\0\0";

#[test]
fn the_patients_of_compressed_answers() {
    let clinic = clinic();
    let mut wire = clinic.wire(DOCTOR);
    let coded = "content-type: application/fhir+json\r\ncontent-encoding: gzip\r\n";
    clinic.backend().answers(move |_| chunked(GZIP, 5, coded));
    let answer = wire.get("/fhir/Observation");
    assert_eq!(answer.body, GZIP, "the answer passed as it was");
    let expected = [json!(["request", null, null, null]), json!(["addendum", "answer", ["1"], null])];
    assert_eq!(short(&told(&clinic, &wire)), expected);
}

/// Policies see the patients of path and query; what a body names is known only when it streams.
#[test]
fn policies_do_not_see_the_patients_of_bodies() {
    let policy = r#"permit(principal, action, resource);
        forbid(principal, action, resource) when { context has patients && context.patients.contains("vip") };"#;
    let clinic = Clinic::builder().policy("vip.cedar", policy).start();
    let mut wire = clinic.wire(DOCTOR);
    assert_eq!(wire.get("/fhir/Patient/vip").status, 403);
    let form = "application/x-www-form-urlencoded";
    post(&mut wire, "/fhir/Observation/_search", form, b"patient=vip");
    assert_eq!(short(&told(&clinic, &wire))[0], json!(["request", null, ["vip"], null]));
}

#[test]
fn the_patients_of_a_search_that_is_a_form() {
    let clinic = clinic();
    let mut wire = clinic.wire(DOCTOR);
    clinic.backend().answers(|_| Reply::new(200, r#"{"resourceType":"Bundle"}"#));
    let form = b"subject%3APatient.identifier=urn%3Aoid%3A1.2.392.100495.20.3.51.11311234567%7C00000010&patient=7";
    post(&mut wire, "/fhir/Observation/_search", "application/x-www-form-urlencoded", form);
    assert_eq!(short(&told(&clinic, &wire)), [json!(["request", null, ["00000010", "7"], null])]);
}

#[test]
fn the_patients_of_a_transaction() {
    let clinic = clinic();
    let mut wire = clinic.wire(DOCTOR);
    let response = json!({ "resourceType": "Bundle", "type": "transaction-response", "entry": [
        { "response": { "status": "201 Created", "location": "Patient/new-1/_history/1" } },
        { "response": { "status": "200 OK", "location": "Observation/o/_history/2" } } ] });
    clinic.backend().answers(move |_| Reply::new(200, &response.to_string()));
    let bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": [
        { "fullUrl": "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a",
          "resource": { "resourceType": "Patient", "identifier": [{ "system": "urn:oid:1.2", "value": "00000011" }] },
          "request": { "method": "POST", "url": "Patient", "ifNoneExist": "identifier=urn:oid:1.2|00000011" } },
        { "resource": { "resourceType": "Observation", "id": "o", "subject": { "reference": "Patient/5" } },
          "request": { "method": "PUT", "url": "Observation/o" } },
        { "request": { "method": "GET", "url": "Condition?patient=Patient/6" } } ] });
    post(&mut wire, "/fhir", FHIR, bundle.to_string().as_bytes());
    let expected = [
        json!(["intent", null, null, null]),
        json!(["addendum", "request", ["00000011", "5", "6"], null]),
        json!(["addendum", "answer", ["new-1"], null]),
    ];
    assert_eq!(short(&told(&clinic, &wire)), expected);
    // A chart that is written about somebody who is named already says nothing new.
    clinic.backend().answers(|seen| Reply::new(200, &String::from_utf8_lossy(&seen.body)));
    let patient = json!({ "resourceType": "Patient", "id": "5", "name": [{ "text": "山田 太郎" }] });
    let answer = wire.request("PUT", "/fhir/Patient/5", &[("Content-Type", FHIR)], patient.to_string().as_bytes());
    assert_eq!(answer.status, 200);
    assert_eq!(short(&told(&clinic, &wire)), [json!(["intent", null, ["5"], null])]);
}

#[test]
fn what_could_not_be_read_is_marked() {
    let clinic = clinic();
    let mut wire = clinic.wire(DOCTOR);
    let answer = |fields: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}content-length: {}\r\n\r\n", body.len());
        Reply::raw([head.as_bytes(), body].concat())
    };
    let json = "content-type: application/fhir+json\r\n";
    for (reply, reason) in [
        (answer("content-type: application/pdf\r\n", b"%PDF-1.7"), "content-type"),
        (answer("", b"{}"), "content-type"),
        (answer("content-type: text/html\r\ncontent-type: application/json\r\n", b"{}"), "content-type"),
        (answer(&format!("{json}content-encoding: br\r\n"), b"\x8b"), "content-encoding"),
        (answer(json, b"{\"resourceType\":"), "malformed"),
        (chunked(b"[[[", 1, json), "malformed"),
    ] {
        clinic.backend().answers(move |_| reply.clone());
        assert_eq!(wire.get("/fhir/Observation").status, 200);
        let told = told(&clinic, &wire);
        let reasons: Vec<&str> = told.iter().map(|record| text(record, "patients_unknown")).collect();
        assert_eq!(reasons.concat(), reason, "{told:#?}");
        assert!(told.iter().all(|record| record["patients"].is_null()), "{told:#?}");
    }
    // Beyond the bound; what stands before it is known.
    clinic.backend().answers(|_| Reply::new(200, &searchset(&["1", "2", "3", "4", "5"])));
    assert_eq!(wire.get("/short/Observation").status, 200);
    assert_eq!(short(&told(&clinic, &wire)), [json!(["request", null, ["1", "2"], "too-long"])]);
    // A body that breaks off.
    let mut wire = clinic.wire(DOCTOR);
    let head = format!("POST /fhir/Observation HTTP/1.1\r\nHost: {}\r\nContent-Type: {FHIR}\r\n", wire.host());
    wire.send(format!("{head}Content-Length: 1000\r\n\r\n{{\"subject\":{{\"reference\":\"Patient/8\"}},"));
    gateway_tests::until("the intent", || clinic.asked_by(&wire).pop());
    std::thread::sleep(std::time::Duration::from_millis(100));
    let source = wire.local();
    drop(wire);
    let id = text(&clinic.asked_from(source)[0], "request").to_owned();
    let addendum = clinic.wait_for_record("it", |record| is(record, "addendum") && text(record, "request") == id);
    assert_eq!(short(&[addendum]), [json!(["addendum", "request", ["8"], "cut"])]);
}

#[test]
fn rules_of_the_operator_s_own() {
    let clinic = clinic();
    let mut wire = clinic.wire(DOCTOR);
    clinic.backend().answers(|_| Reply::new(200, r#"{"results":[{"pid":3},{"pid":"4"}],"pid":"9"}"#));
    post(&mut wire, "/karte/find", "application/json", r#"{"患者":{"番号":"0001"},"番号":"x"}"#.as_bytes());
    assert_eq!(short(&told(&clinic, &wire)), [json!(["request", null, ["0001", "3", "4"], null])]);
    let form = "%E6%82%A3%E8%80%85%E7%95%AA%E5%8F%B7=0002&x=y";
    post(&mut wire, "/karte/find", "application/x-www-form-urlencoded", form.as_bytes());
    assert_eq!(short(&told(&clinic, &wire)), [json!(["request", null, ["0002", "3", "4"], null])]);
    post(&mut wire, "/karte/find", "text/plain", b"0003");
    assert_eq!(short(&told(&clinic, &wire)), [json!(["request", null, ["3", "4"], "content-type"])]);
    // Where no rule asks, nobody reads.
    clinic.backend().answers(|_| Reply::new(200, &searchset(&["1"])));
    assert_eq!(wire.get("/open/page").status, 200);
    assert_eq!(short(&told(&clinic, &wire)), [json!(["request", null, null, null])]);
}

#[test]
fn reading_does_not_hold_a_stream() {
    let clinic = clinic();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let backend = format!("http://{}", listener.local_addr().expect("its address"));
    let mut clinic = clinic;
    clinic.reconfigure(|config| config.set_service("backends", vec![backend]));
    assert!(clinic.reload());
    let mut wire = clinic.wire(DOCTOR);
    let (first, second) = ("[{\"subject\":{\"reference\":\"Patient/1\"},", "\"x\":0}]");
    wire.send_request("GET", "/fhir/Observation", &[], b"");
    let (mut stream, _) = listener.accept().expect("the gateway");
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: {FHIR}\r\ncontent-length: {}\r\n\r\n", first.len() + second.len());
    stream.write_all(head.as_bytes()).expect("written");
    stream.write_all(first.as_bytes()).expect("written");
    // Half a document is at the client's before the backend has sent the rest.
    assert!(wire.reads_until(first.as_bytes()), "the first half waits");
    stream.write_all(second.as_bytes()).expect("written");
    assert!(wire.reads_until(second.as_bytes()), "the second half waits");
    let addendum = clinic.wait_for_record("the addendum", |record| is(record, "addendum"));
    assert_eq!(short(&[addendum]), [json!(["addendum", "answer", ["1"], null])]);
}
