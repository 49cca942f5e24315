//! What it costs to read bodies for the patients they name: a search's results, plain and indented; a document in base64;
//! DICOM JSON; files in parts. In pieces as they come from a socket.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up is to stop")]

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, Throughput};
use policy::patients::{BodyHead, Plan, plan};
use policy::route::{PatientsDefinition, RouteDefinition, RouteKind, RouteTable};
use policy::target::CanonicalTarget;

/// As the gateway reads.
const PIECE: usize = 16 * 1024;

fn planned(kind: RouteKind, target: &str) -> Plan {
    let route = RouteDefinition {
        hosts: None,
        listeners: None,
        name: "r".parse().unwrap(),
        path: "/r".to_owned(),
        service: "s".parse().unwrap(),
        class: "clinical".parse().unwrap(),
        kind,
        rules: Vec::new(),
        read_only_operations: None,
        patients: PatientsDefinition { max_body_bytes: 1 << 30 },
        login: None,
        token: None,
        oidc: None,
        session: None,
        deadline_ms: None,
        websocket: None,
    };
    let table = RouteTable::new(vec![route]).unwrap();
    let target = CanonicalTarget::parse(target.as_bytes(), 1_000).unwrap();
    plan(&table.resolve(policy::route::Place::default(), "GET", &target).unwrap(), &target).unwrap()
}

fn searchset(newline: &str, space: &str) -> String {
    let mut body = String::from("{\"resourceType\":\"Bundle\",\"type\":\"searchset\",\"entry\":[");
    for number in 0..1_000 {
        let comma = if number == 0 { "" } else { "," };
        write!(
            body,
            "{comma}{newline}{space}{{\"fullUrl\":\"https://ehr.example/fhir/Observation/{number}\",{newline}{space}\"resource\":\
             {{{newline}{space}{space}\"resourceType\":\"Observation\",{newline}{space}{space}\"id\":\"{number}\",{newline}\
             {space}{space}\"status\":\"final\",{newline}{space}{space}\"code\":{{\"coding\":[{{\"system\":\
             \"http://loinc.org\",\"code\":\"85354-9\",\"display\":\"Blood pressure panel\"}}]}},{newline}{space}{space}\
             \"subject\":{{\"reference\":\"Patient/{}\",\"display\":\"山田 太郎\"}},{newline}{space}{space}\
             \"effectiveDateTime\":\"2026-11-23T09:30:00+09:00\",{newline}{space}{space}\"valueQuantity\":{{\"value\":{},\
             \"unit\":\"mmHg\",\"system\":\"http://unitsofmeasure.org\",\"code\":\"mm[Hg]\"}}}}}}",
            number % 40,
            number % 200,
        )
        .unwrap();
    }
    body.push_str("]}");
    body
}

fn dicom_json() -> String {
    let dataset = |number: usize| {
        format!(
            "{{\"00080005\":{{\"vr\":\"CS\",\"Value\":[\"ISO_IR 192\"]}},\"00080020\":{{\"vr\":\"DA\",\"Value\":[\"20261123\"]}},\
             \"00100010\":{{\"vr\":\"PN\",\"Value\":[{{\"Alphabetic\":\"Yamada^Taro\"}}]}},\"00100020\":{{\"vr\":\"LO\",\"Value\":\
             [\"{number:08}\"]}},\"0020000D\":{{\"vr\":\"UI\",\"Value\":[\"1.2.392.200036.{number}\"]}}}}"
        )
    };
    format!("[{}]", (0..1_000).map(dataset).collect::<Vec<_>>().join(","))
}

fn parts() -> Vec<u8> {
    let meta = b"\x02\0\x10\0UI\x14\x001.2.840.10008.1.2.1\0";
    let dataset = b"\x10\0\x20\0LO\x04\x000001\x20\0\x0d\0UI\x04\x001.2\0\xe0\x7f\x10\0OW\0\0\0\0\x08\0";
    let part = [&b"--b\r\nContent-Type: application/dicom\r\n\r\n"[..], &[0; 128], b"DICM", meta, dataset].concat();
    let pixels: Vec<u8> = (0..512 * 1024_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    [part, pixels, b"\r\n".to_vec()].concat().repeat(8)
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let document = format!("{{\"resourceType\":\"Binary\",\"data\":\"{}\"}}", "QUJD".repeat(100_000));
    let (fhir, dicom) = (planned(RouteKind::Fhir, "/r/Observation"), planned(RouteKind::Dicomweb, "/r/studies"));
    let mut group = criterion.benchmark_group("patients");
    for (name, plan, content_type, body) in [
        ("searchset", &fhir, "application/fhir+json", searchset("", "").into_bytes()),
        ("searchset-indented", &fhir, "application/fhir+json", searchset("\n", "        ").into_bytes()),
        ("base64", &fhir, "application/fhir+json", document.into_bytes()),
        ("dicom-json", &dicom, "application/dicom+json", dicom_json().into_bytes()),
        ("dicom-parts", &dicom, "multipart/related; boundary=b", parts()),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let head = BodyHead { content_type: Some(content_type.as_bytes()), content_encoding: None };
                let mut scanner = plan.answer(head).unwrap();
                body.chunks(PIECE).for_each(|bytes| scanner.feed(black_box(bytes)));
                scanner.finish(true)
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
