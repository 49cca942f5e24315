//! Over a real socket, with the plainest client: one connection per request.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;

use super::*;

struct Seen {
    status: u16,
    head: String,
    body: Value,
}

fn server(echo_headers: bool) -> Server {
    let options = Options { base: "https://localhost:8443/fhir".to_owned(), echo_headers };
    Server::start(TcpListener::bind("127.0.0.1:0").unwrap(), options).unwrap()
}

fn ask(server: &Server, method: &str, target: &str, media_type: &str, body: &str) -> Seen {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nhost: demo\r\nconnection: close\r\nx-test: 1\r\nx-test: 2\r\n\
         content-type: {media_type}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
    Seen { status, head: head.to_lowercase(), body }
}

fn get(server: &Server, target: &str) -> Seen {
    ask(server, "GET", target, "text/plain", "")
}

fn send(server: &Server, method: &str, target: &str, body: &Value) -> Seen {
    ask(server, method, target, "application/fhir+json; charset=utf-8", &body.to_string())
}

fn ids(bundle: &Value) -> Vec<&str> {
    bundle["entry"].as_array().unwrap().iter().map(|entry| entry["resource"]["id"].as_str().unwrap()).collect()
}

#[test]
fn a_patient_is_shaped_like_jp_core_and_marked_synthetic() {
    let server = server(false);
    let seen = get(&server, "/fhir/Patient/yamada-hanako");
    assert_eq!(seen.status, 200);
    assert!(seen.head.contains("content-type: application/fhir+json"), "{}", seen.head);
    assert!(seen.head.contains("etag: w/\"1\""), "{}", seen.head);
    assert_eq!(seen.body["identifier"][0]["system"], "urn:oid:1.2.392.100495.20.3.51.11311234567");
    assert_eq!(seen.body["name"][0]["text"], "山田 花子");
    assert_eq!(seen.body["name"][0]["extension"][0]["valueCode"], "IDE");
    assert_eq!(seen.body["name"][1]["family"], "ヤマダ");
    assert_eq!(seen.body["name"][1]["extension"][0]["valueCode"], "SYL");
    assert_eq!(seen.body["address"][0]["country"], "JP");
}

#[test]
fn every_resource_is_of_a_known_type_has_a_legal_id_and_the_test_tag() {
    let resources = Resources::synthetic();
    let all: Vec<_> = resources::TYPES.iter().flat_map(|kind| resources.of_type(kind)).collect();
    assert_eq!(all.len(), people::resources().len());
    assert!(resources.of_type("Patient").count() >= 6);
    for resource in all {
        assert!(resources::is_id(resource["id"].as_str().unwrap()), "{resource}");
        assert_eq!(resource["meta"]["tag"][0]["code"], "HTEST", "{resource}");
        let patient = resources::patient_of(resource);
        if resource["resourceType"] != "Organization" {
            resources.read("Patient", patient.unwrap()).unwrap();
        }
    }
}

#[test]
fn searches_by_the_common_parameters() {
    let server = server(false);
    let found = |target: &str| {
        let seen = get(&server, target);
        assert_eq!(seen.status, 200, "{target}: {}", seen.body);
        assert_eq!(seen.body["type"], "searchset");
        ids(&seen.body).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(found("/fhir/Patient?_id=sato-misaki,ito-shigeru"), ["ito-shigeru", "sato-misaki"]);
    assert_eq!(found("/fhir/Patient?name=%E9%88%B4%E6%9C%A8"), ["suzuki-ichiro"]);
    assert_eq!(found("/fhir/Patient?family=%E3%83%A4%E3%83%9E"), ["yamada-hanako"]);
    assert_eq!(found("/fhir/Patient?identifier=00000044"), ["tanaka-kenji"]);
    let by_system = "urn:oid:1.2.392.100495.20.3.51.11311234567%7C00000044";
    assert_eq!(found(&format!("/fhir/Patient?identifier={by_system}")), ["tanaka-kenji"]);
    assert!(found("/fhir/Patient?identifier=urn:oid:9.9%7C00000044").is_empty());
    assert_eq!(found("/fhir/Observation?patient=ito-shigeru").len(), 2);
    assert_eq!(found("/fhir/Observation?subject=Patient/ito-shigeru").len(), 2);
    assert_eq!(found(&format!("/fhir/Condition?patient.identifier={by_system}")), ["tanaka-kenji-condition"]);
    assert_eq!(found("/fhir/Coverage?patient=ito-shigeru"), ["ito-shigeru-coverage"]);
    assert_eq!(found("/fhir/Appointment?patient=ito-shigeru"), ["ito-shigeru-appointment"]);
    assert!(found("/fhir/Patient?gender=male&_id=sato-misaki").is_empty());

    let page = get(&server, "/fhir/Patient?_count=2").body;
    assert_eq!((ids(&page).len(), &page["total"]), (2, &Value::from(7)));
    let form = "application/x-www-form-urlencoded";
    let posted = ask(&server, "POST", "/fhir/Patient/_search", form, "name=%E8%91%B5&_count=5");
    assert_eq!((posted.status, ids(&posted.body)), (200, vec!["nakamura-aoi"]));
}

#[test]
fn everything_of_a_patient_is_its_and_nobody_elses() {
    let server = server(false);
    let seen = get(&server, "/fhir/Patient/suzuki-ichiro/$everything");
    let ids = ids(&seen.body);
    assert_eq!((seen.status, ids.len()), (200, 7));
    assert!(ids.iter().all(|id| id.starts_with("suzuki-ichiro")), "{ids:?}");
    assert_eq!(get(&server, "/fhir/Patient/nobody/$everything").status, 404);
}

#[test]
fn creates_updates_and_deletes() {
    let server = server(false);
    let new = serde_json::json!({ "resourceType": "Observation", "status": "final",
        "subject": { "reference": "Patient/ito-shigeru" } });
    let created = send(&server, "POST", "/fhir/Observation", &new);
    assert_eq!(created.status, 201);
    let id = created.body["id"].as_str().unwrap();
    let target = format!("/fhir/Observation/{id}");
    assert!(created.head.contains(&format!("location: https://localhost:8443{}", target.to_lowercase())));
    assert_eq!(created.body["meta"]["tag"][0]["code"], "HTEST");

    let mut changed = created.body.clone();
    changed["status"] = "amended".into();
    assert_eq!(send(&server, "PUT", "/fhir/Observation/other", &changed).status, 400);
    let updated = send(&server, "PUT", &target, &changed);
    assert_eq!((updated.status, &updated.body["meta"]["versionId"]), (200, &Value::from("2")));
    assert_eq!(get(&server, &target).body["status"], "amended");

    assert_eq!(ask(&server, "DELETE", &target, "", "").status, 204);
    assert_eq!(get(&server, &target).status, 410);
    assert_eq!(send(&server, "PUT", &target, &changed).status, 201);
}

#[test]
fn what_is_wrong_is_an_operation_outcome() {
    let server = server(false);
    let json = "application/fhir+json";
    for (method, target, media_type, body, status) in [
        ("GET", "/", "", "", 404),
        ("GET", "/fhir/Nothing/1", "", "", 404),
        ("GET", "/fhir/Patient/nobody", "", "", 404),
        ("GET", "/fhir/Patient/a%20b", "", "", 400),
        ("GET", "/fhir/Patient?favourite=1", "", "", 400),
        ("GET", "/fhir/Patient?name=%ff", "", "", 400),
        ("GET", "/fhir/Patient?_count=many", "", "", 400),
        ("GET", "/fhir/$echo-headers", "", "", 404),
        ("PATCH", "/fhir/Patient/ito-shigeru", json, "{}", 405),
        ("POST", "/fhir/Patient", "text/xml", "<a/>", 415),
        ("POST", "/fhir/Patient", json, "{", 400),
        ("POST", "/fhir/Patient", json, "{\"resourceType\":\"Group\"}", 400),
        ("POST", "/fhir/Patient/_search", json, "{}", 415),
    ] {
        let seen = ask(&server, method, target, media_type, body);
        assert_eq!(seen.status, status, "{method} {target}: {}", seen.body);
        assert_eq!(seen.body["resourceType"], "OperationOutcome", "{method} {target}");
    }
}

#[test]
fn states_what_it_can_do() {
    let seen = get(&server(false), "/fhir/metadata");
    assert_eq!((seen.status, &seen.body["fhirVersion"]), (200, &Value::from("4.0.1")));
}

#[test]
fn echoes_header_fields_only_when_asked_to_at_the_start() {
    let seen = get(&server(true), "/fhir/$echo-headers");
    assert_eq!(seen.status, 200);
    let twice: Vec<_> = seen.body["headers"].as_array().unwrap().iter().filter(|field| field[0] == "x-test").collect();
    assert_eq!(twice, [&serde_json::json!(["x-test", "1"]), &serde_json::json!(["x-test", "2"])]);
}

#[test]
fn binds_loopback_only_and_ends_when_dropped() {
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let options = Options { base: String::new(), echo_headers: false };
    assert_eq!(Server::start(open, options).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    let server = server(false);
    let address = server.address();
    drop(server);
    TcpListener::bind(address).unwrap();
}
