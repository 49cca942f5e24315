mod dicom;
mod fhir;
mod json;

use super::*;
use crate::patients::{PatientId, plan};
use crate::route::{RouteDefinition, RouteTable};
use crate::target::CanonicalTarget;

#[derive(serde::Deserialize)]
struct File {
    route: Vec<RouteDefinition>,
}

const ROUTES: &str = r#"
    [[route]]
    name = "fhir"
    path = "/fhir"
    service = "fhir"
    class = "clinical"
    kind = "fhir"
    [[route]]
    name = "short"
    path = "/short"
    service = "fhir"
    class = "clinical"
    kind = "fhir"
    patients = { max_body_bytes = 200 }
    [[route]]
    name = "images"
    path = "/dicom-web"
    service = "images"
    class = "clinical"
    kind = "dicomweb"
    [[route]]
    name = "legacy"
    path = "/app"
    service = "legacy"
    class = "clinical"
    kind = "generic"
    [[route.rules]]
    methods = ["POST"]
    path = "/karte"
    action = "search"
    patient_form = ["患者番号"]
    patient_request_json = ["/患者/番号", "/list/*/pid", "/pairs/1", "/a~1b/~0"]
    patient_answer_json = ["/*/id"]
    [[route.rules]]
    methods = ["GET"]
    path = "/plain"
    action = "read"
    patient_query = ["pid"]
"#;

/// The plan of a request.
fn planned(method: &str, raw: &str) -> Option<Plan> {
    let table = RouteTable::new(toml::from_str::<File>(ROUTES).unwrap().route).unwrap();
    let target = CanonicalTarget::parse(raw.as_bytes(), 16 * 1024).unwrap_or_else(|refusal| panic!("{raw}: {refusal}"));
    let resolved = table
        .resolve(crate::route::Place::default(), method, &target)
        .unwrap_or_else(|refusal| panic!("{raw}: {refusal}"));
    plan(&resolved, &target)
}

fn head(content_type: &str) -> BodyHead<'_> {
    let content_type = (!content_type.is_empty()).then_some(content_type.as_bytes());
    BodyHead { content_type, content_encoding: None }
}

fn scan(mut scanner: Scanner, body: &[u8], piece: usize) -> Scanned {
    body.chunks(piece.max(1)).for_each(|bytes| scanner.feed(bytes));
    scanner.finish(true)
}

/// Whatever pieces a body comes in, the same is found.
fn everywhere(scanner: impl Fn() -> Scanner, body: &[u8]) -> Scanned {
    let whole = scan(scanner(), body, body.len());
    for piece in [1, 2, 3, 7, 64] {
        assert_eq!(scan(scanner(), body, piece), whole, "in pieces of {piece}");
    }
    whole
}

fn sent(method: &str, raw: &str, content_type: &str, body: &[u8]) -> Scanned {
    let plan = planned(method, raw).expect("a plan");
    everywhere(|| plan.request(head(content_type)).expect("a scanner"), body)
}

fn answered(raw: &str, content_type: &str, body: &[u8]) -> Scanned {
    let plan = planned("GET", raw).expect("a plan");
    everywhere(|| plan.answer(head(content_type)).expect("a scanner"), body)
}

/// `system|value` for each, sorted.
fn told(scanned: &Scanned) -> Vec<String> {
    let tell = |id: &PatientId| match &id.system {
        Some(system) => format!("{system}|{}", id.value),
        None => id.value.clone(),
    };
    let mut told: Vec<String> = scanned.patients.ids.iter().map(tell).collect();
    told.sort();
    told
}

#[test]
fn a_rule_names_fields_and_pointers() {
    let form = "患者番号=0001&x=2&%E6%82%A3%E8%80%85%E7%95%AA%E5%8F%B7=0003";
    let scanned = sent("POST", "/app/karte", "application/x-www-form-urlencoded", form.as_bytes());
    assert_eq!(told(&scanned), ["0001", "0003"]);
    let body = r#"{"患者":{"番号":17,"名":"山田"},"list":[{"pid":"a"},{"pid":"b","x":{"pid":"c"}},[],{"pid":null}],
        "pairs":["d","e","f"],"a/b":{"~":"g"},"pid":"h","患\u8005":{"番号":"i","x":{"番号":"j"}}}"#;
    let scanned = sent("POST", "/app/karte", "application/json", body.as_bytes());
    assert_eq!((told(&scanned), scanned.unread), (["17", "a", "b", "e", "g", "i"].map(String::from).to_vec(), None));
    let plan = planned("POST", "/app/karte").unwrap();
    let scanned = scan(plan.answer(head("application/json")).unwrap(), br#"[{"id":"x"},{"id":"y"},{"no":1}]"#, 5);
    assert_eq!(told(&scanned), ["x", "y"]);
    let scanned = scan(plan.answer(head("text/html")).unwrap(), b"<p>", 5);
    assert_eq!(scanned.unread, Some(Unread::ContentType));
}

#[test]
fn what_nobody_asked_for_costs_nothing() {
    assert!(planned("GET", "/app/other").is_none());
    assert!(planned("GET", "/app/plain?pid=1").is_none());
    let plan = planned("GET", "/fhir/Patient/1").unwrap();
    assert!(plan.request(head("")).is_some(), "a body without a type is unread, not ignored");
}

#[test]
fn what_cannot_be_read_has_a_reason() {
    let unread = |method: &str, raw: &str, content_type: &str, body: &[u8]| {
        let scanned = sent(method, raw, content_type, body);
        assert!(scanned.patients.ids.is_empty());
        scanned.unread
    };
    assert_eq!(unread("POST", "/fhir/Patient", "", b"{}"), Some(Unread::ContentType));
    assert_eq!(unread("POST", "/fhir/Patient", "application/pdf", b"%PDF"), Some(Unread::ContentType));
    assert_eq!(unread("POST", "/fhir/Patient", "application/pdf", b""), None, "there is nothing to read");
    assert_eq!(unread("POST", "/fhir/$graphql", "application/json", b"{}"), Some(Unread::ContentType));
    assert_eq!(unread("POST", "/dicom-web/studies", "multipart/related", b"x"), Some(Unread::Malformed));
    for malformed in ["{", "{]", "{\"a\"}", "{\"a\":\"b", "[1,,2]", "nope'", "\"\\x\"", "\u{0}"] {
        let seen = unread("POST", "/fhir/Patient", "application/fhir+json", malformed.as_bytes());
        assert_eq!(seen, Some(Unread::Malformed), "{malformed}");
    }
    let deep = [vec![b'['; 129], vec![b']'; 129]].concat();
    assert_eq!(unread("POST", "/fhir/Patient", "application/fhir+json", &deep), Some(Unread::Malformed));
    let plan = planned("POST", "/fhir/Patient").unwrap();
    for coding in ["zstd", "br", "gzip, br", "x"] {
        let content_encoding = Some(coding.as_bytes());
        let scanner = plan.request(BodyHead { content_encoding, ..head("application/json") }).unwrap();
        assert_eq!(scan(scanner, b"{}", 9).unread, Some(Unread::ContentEncoding));
    }
    let content_encoding = Some(&b" Identity"[..]);
    let scanner = plan.request(BodyHead { content_encoding, ..head("application/json") }).unwrap();
    assert_eq!(scan(scanner, b"{}", 9).unread, None);
}

#[test]
fn a_bound_keeps_what_was_found_before_it() {
    let body = |padding: usize| {
        let padding = "x".repeat(padding);
        format!(
            r#"{{"resourceType":"Patient","id":"before","text":"{padding}","subject":{{"reference":"Patient/after"}}}}"#
        )
    };
    let fits = body(100);
    let scanned = sent("PUT", "/short/Patient/1", "application/json", fits.as_bytes());
    assert_eq!((told(&scanned), scanned.unread), (["after", "before"].map(String::from).to_vec(), None));
    let scanned = sent("PUT", "/short/Patient/1", "application/json", body(300).as_bytes());
    assert_eq!((told(&scanned), scanned.unread), (["before".to_owned()].to_vec(), Some(Unread::TooLong)));
    // A body that was cut on its way.
    let plan = planned("PUT", "/short/Patient/1").unwrap();
    let mut scanner = plan.request(head("application/json")).unwrap();
    scanner.feed(&fits.as_bytes()[..80]);
    let scanned = scanner.finish(false);
    assert_eq!((told(&scanned), scanned.unread), (["before".to_owned()].to_vec(), Some(Unread::Cut)));
}

#[test]
fn many_patients_are_counted_once_and_bounded() {
    let entry = |n: usize| format!(r#"{{"resource":{{"resourceType":"Patient","id":"{n}"}}}}"#);
    let bundle = |numbers: &mut dyn Iterator<Item = usize>| {
        let entries: Vec<String> = numbers.map(entry).collect();
        format!(r#"{{"resourceType":"Bundle","entry":[{}]}}"#, entries.join(","))
    };
    let most = crate::patients::MAX_BODY_PATIENTS;
    let read = |body: String| {
        let plan = planned("GET", "/fhir/Patient").unwrap();
        scan(plan.answer(head("application/fhir+json")).unwrap(), body.as_bytes(), 4096)
    };
    let exactly = read(bundle(&mut (0..most).chain(0..most).rev()));
    assert_eq!((exactly.patients.ids.len(), exactly.unread), (most, None));
    let more = read(bundle(&mut (0..=most)));
    assert_eq!((more.patients.ids.len(), more.unread), (most, Some(Unread::TooMany)));
    assert!(more.patients.truncated);
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, body).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn compressed_bodies_are_read() {
    let plan = planned("POST", "/fhir").unwrap();
    let read = |coding: &'static str, body: &[u8]| {
        let content_encoding = Some(coding.as_bytes());
        everywhere(|| plan.request(BodyHead { content_encoding, ..head("application/json") }).unwrap(), body)
    };
    let (first, second) = (br#"[{"reference":"Patient/1"},"#, br#"{"reference":"Patient/2"}]"#);
    let whole = [&first[..], second].concat();
    for (coding, body) in [
        ("gzip", gzip(&whole)),
        ("X-GZIP", gzip(&whole)),
        // Readers of files take one member after the other.
        ("gzip", [gzip(first), gzip(second)].concat()),
    ] {
        let scanned = read(coding, &body);
        assert_eq!((told(&scanned), scanned.unread), (["1", "2"].map(String::from).to_vec(), None), "{coding}");
    }
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, &whole).unwrap();
    assert_eq!(told(&read("deflate", &encoder.finish().unwrap())), ["1", "2"]);
    let cut = gzip(&whole);
    assert_eq!(read("gzip", &cut[..cut.len() - 9]).unread, Some(Unread::Malformed));
    assert_eq!(read("gzip", b"no gzip at all, whatever it says").unread, Some(Unread::Malformed));
    assert_eq!(read("gzip", b"").unread, None);
    // A little that would become a lot.
    let bomb = [&gzip(first)[..], &gzip(&vec![b' '; 64 * 1024 * 1024])].concat();
    let scanned = scan(
        plan.request(BodyHead { content_encoding: Some(b"gzip"), ..head("application/json") }).unwrap(),
        &bomb,
        4096,
    );
    assert_eq!((told(&scanned), scanned.unread), (vec!["1".to_owned()], Some(Unread::TooLong)));
}
