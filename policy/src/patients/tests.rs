use proptest::prelude::*;

use super::*;
use crate::route::{RouteDefinition, RouteTable};

#[derive(serde::Deserialize)]
struct File {
    route: Vec<RouteDefinition>,
}

fn table() -> RouteTable {
    let text = r#"
        [[route]]
        name = "fhir"
        path = "/fhir"
        service = "fhir"
        class = "clinical"
        kind = "fhir"
        rules = [{ methods = ["GET"], path = "/Patient/{patient}/photo", action = "read", effect = "read-only" }]
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
        rules = [
            { methods = ["GET"], path = "/chart/{patient}/with/{patient}", action = "read" },
            { methods = ["GET"], path = "/find", action = "search", patient_query = ["pid", "患者"] },
        ]
    "#;
    RouteTable::new(toml::from_str::<File>(text).unwrap().route).unwrap()
}

fn patients(method: &str, raw: &str, body: Option<&[u8]>) -> Patients {
    let table = table();
    let target = CanonicalTarget::parse(raw.as_bytes(), 64 * 1024).unwrap_or_else(|refusal| panic!("{raw}: {refusal}"));
    let resolved = table
        .resolve(crate::route::Place::default(), method, &target)
        .unwrap_or_else(|refusal| panic!("{raw}: {refusal}"));
    let mut patients = target_patients(&resolved, &target);
    if let Some(body) = body {
        let head = BodyHead { content_type: Some(b"application/x-www-form-urlencoded"), content_encoding: None };
        let mut scanner = plan(&resolved, &target).unwrap().request(head).unwrap();
        scanner.feed(body);
        let scanned = scanner.finish(true);
        scanned.patients.ids.iter().for_each(|id| patients.add(&id.value, id.system.as_deref(), id.source));
    }
    patients
}

/// `source:system|value` for each.
fn told(patients: &Patients) -> Vec<String> {
    let tell = |id: &PatientId| {
        let system = id.system.as_ref().map(|system| format!("{system}|")).unwrap_or_default();
        format!("{}:{system}{}", id.source.label(), id.value)
    };
    patients.ids.iter().map(tell).collect()
}

#[track_caller]
fn finds(raw: &str, expected: &[&str]) {
    let found = patients("GET", raw, None);
    assert_eq!(told(&found), expected, "{raw}");
    assert!(!found.truncated, "{raw}");
}

#[test]
fn fhir_paths() {
    finds("/fhir/Patient/123", &["path:123"]);
    finds("/fhir/Patient/123/", &["path:123"]);
    finds("/fhir/Patient/123/_history/4", &["path:123"]);
    finds("/fhir/Patient/123/$everything", &["path:123"]);
    finds("/fhir/Patient/123/Observation?patient=123", &["path:123"]);
    finds("/fhir/Patient/123/photo", &["path:123"]);
    finds("/fhir/Patient/%E5%B1%B1", &["path:山"]);
    finds("/fhir/Patient", &[]);
    finds("/fhir/Patient/_search", &[]);
    finds("/fhir/Patient/_history", &[]);
    finds("/fhir/Patient/$match", &[]);
    finds("/fhir/Observation/123", &[]);
}

#[test]
fn fhir_references() {
    for name in ["patient", "subject", "beneficiary", "patient:Patient", "subject:Patient", "actor:Patient"] {
        for value in [
            "123",
            "Patient/123",
            "Patient/123/_history/2",
            "Patient%2F123",
            "https://ehr.example/fhir/Patient/123",
            "http://h/Patient/123/_history/1",
        ] {
            finds(&format!("/fhir/Observation?{name}={value}"), &["query:123"]);
        }
    }
    finds("/fhir/Observation?%70atient=123", &["query:123"]);
    finds("/fhir/Observation?patient=1,Patient/2&patient=3,1", &["query:1", "query:2", "query:3"]);
    finds(
        "/fhir/Observation?patient=urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0",
        &["query:urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"],
    );
    finds("/fhir/Observation?patient=https://ehr.example/p/123", &["query:123"]);
    finds("/fhir/Appointment?actor=Patient/123,Practitioner/5", &["query:123"]);
    finds("/fhir/Communication?recipient=https://h/fhir/Patient/9", &["query:9"]);
}

#[test]
fn fhir_identifiers() {
    let system = "urn:oid:1.2.392.100495.20.3.51.11311234567";
    let expected = [&*format!("query:{system}|00000010")];
    for query in [
        "Observation?patient.identifier=",
        "Observation?subject.identifier=",
        "Observation?subject:Patient.identifier=",
        "Observation?patient:identifier=",
        "Observation?subject:identifier=",
        "Patient?identifier=",
        "?_type=Patient,Observation&identifier=",
    ] {
        finds(&format!("/fhir/{query}{system}|00000010"), &expected);
        finds(&format!("/fhir/{query}{system}%7C00000010"), &expected);
        finds(&format!("/fhir/{query}00000010"), &["query:00000010"]);
        finds(&format!("/fhir/{query}|00000010"), &["query:00000010"]);
        finds(&format!("/fhir/{query}{system}|"), &[]);
        finds(&format!("/fhir/{query}s|a%5C,b%5C|c,d"), &["query:s|a,b|c", "query:d"]);
    }
    finds("/fhir/Patient?identifier:of-type=http://t|MR|446", &["query:446"]);
    finds("/fhir/Patient?_id=1,2&_id=3", &["query:1", "query:2", "query:3"]);
    finds("/fhir/Observation?patient._id=1", &["query:1"]);
}

#[test]
fn fhir_parameters_that_name_no_patient() {
    finds(
        "/fhir/Observation?_id=1&identifier=s|2&code=a,b&subject=Group/3&patient:missing=true&patient:not=4\
         &_has:Provenance:target:agent=5&subject.name=x&subject:Device=6&subject=https://h/Group/7&_include=Observation:patient",
        &[],
    );
    finds(
        "/fhir/Patient?name=x&identifier:not=1&_id:not=2&general-practitioner.identifier=3&identifier=&patient=",
        &[],
    );
    finds("/fhir/Patient?", &[]);
}

#[test]
fn fhir_chains() {
    finds("/fhir/Practitioner?_has:Observation:performer:patient=Patient/1", &["query:1"]);
    finds("/fhir/Practitioner?_has:Observation:performer:subject:Patient.identifier=s|2", &["query:s|2"]);
    finds("/fhir/Practitioner?_has:Patient:general-practitioner:_id=3", &["query:3"]);
    finds("/fhir/Group?_has:X:a:_has:Encounter:b:patient=4", &["query:4"]);
    finds(
        "/fhir/Observation?encounter.patient=5&encounter:Encounter.subject.identifier=s|6",
        &["query:5", "query:s|6"],
    );
    finds("/fhir/Observation?subject:Device.identifier=7&encounter.identifier=8&_has:Patient=9&_has:::=1", &[]);
}

#[test]
fn fhir_forms() {
    let found = patients("POST", "/fhir/Observation/_search?patient=1", Some(b"subject=Patient%2F2&patient=1&code=x"));
    assert_eq!(told(&found), ["query:1", "body:2"]);
    let found = patients("POST", "/fhir/Patient/_search", Some(b"identifier=urn%3Aoid%3A1.2%7C0+1&_id=7"));
    assert_eq!(told(&found), ["body:urn:oid:1.2|0 1", "body:7"]);
    let found = patients("POST", "/fhir/Patient/8/Observation/_search", Some(b"\xff\0&=&%&patient=%"));
    assert_eq!(told(&found), ["path:8", "body:%"]);
}

#[test]
fn dicomweb_parameters() {
    finds("/dicom-web/studies?PatientID=00000010", &["query:00000010"]);
    finds("/dicom-web/studies?00100020=00000010&00100021=HOSP", &["query:HOSP|00000010"]);
    finds("/dicom-web/series?IssuerOfPatientID=HOSP&PatientID=a,b", &["query:HOSP|a,b"]);
    finds("/dicom-web/instances?PatientID=1%5C2", &["query:1", "query:2"]);
    finds("/dicom-web/studies?OtherPatientIDsSequence.PatientID=3&00101002.00100020=4", &["query:3", "query:4"]);
    finds("/dicom-web/studies?PatientID=12*", &["query:12*"]);
    finds("/dicom-web/studies?PatientID=*&PatientName=x&includefield=00100020&patientid=5", &[]);
    finds("/dicom-web/studies/1.2.3", &[]);
}

#[test]
fn rules_name_segments_and_parameters() {
    finds("/app/chart/1/with/2", &["path:1", "path:2"]);
    finds("/app/find?pid=1&pid=2,3&PID=4&%E6%82%A3%E8%80%85=5", &["query:1", "query:2,3", "query:5"]);
    finds("/app/other?pid=1", &[]);
}

#[test]
fn bounds_are_kept_and_told() {
    let many: Vec<_> = (0..MAX_PATIENTS).map(|number| number.to_string()).collect();
    let exactly = patients("GET", &format!("/fhir/Observation?patient={}", many.join(",")), None);
    assert_eq!((exactly.ids.len(), exactly.truncated), (MAX_PATIENTS, false));
    let again = patients("GET", &format!("/fhir/Observation?patient={},3", many.join(",")), None);
    assert_eq!((again.ids.len(), again.truncated), (MAX_PATIENTS, false));
    let more = patients("GET", &format!("/fhir/Observation?patient={},x", many.join(",")), None);
    assert_eq!((more.ids.len(), more.truncated), (MAX_PATIENTS, true));

    let fits = patients("GET", &format!("/fhir/Patient/{}", "x".repeat(MAX_VALUE_BYTES)), None);
    assert_eq!((fits.ids[0].value.len(), fits.truncated), (MAX_VALUE_BYTES, false));
    // 256 is no multiple of 3, the length of a character here.
    let long = patients("GET", &format!("/fhir/Patient/{}", "%E5%B1%B1".repeat(100)), None);
    assert_eq!((long.ids[0].value.len(), long.truncated), (255, true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn extraction_is_total_and_bounded(
        path in prop_oneof!["/fhir/(Patient|Observation)/_search", "/fhir/Patient/[a-z0-9]{1,300}/_search"],
        query in "(patient|subject|identifier|_id|_type|patient\\.identifier)=([a-zP/|,\\\\&=+]|%5C|%E5%B1%B1|%FF){0,40}",
        body in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let found = patients("POST", &format!("{path}?{query}"), Some(&body));
        prop_assert!(found.ids.len() <= MAX_PATIENTS);
        for id in &found.ids {
            prop_assert!((1..=MAX_VALUE_BYTES).contains(&id.value.len()));
            prop_assert!(id.system.as_ref().is_none_or(|system| (1..=MAX_VALUE_BYTES).contains(&system.len())));
        }
    }

    #[test]
    fn a_patient_is_found_in_every_spelling(id in "[A-Za-z0-9.-]{1,64}", name in "patient|subject|beneficiary", how in 0..5) {
        let reference = match how {
            0 => id.clone(),
            1 => format!("Patient/{id}"),
            2 => format!("Patient%2f{id}"),
            3 => format!("https://h/fhir/Patient/{id}/_history/1"),
            _ => format!("x0,Patient/{id}"),
        };
        let found = patients("GET", &format!("/fhir/Observation?_count=1&{name}={reference}"), None);
        prop_assert!(found.ids.iter().any(|found| found.value == id), "{:?}", found);
    }
}
