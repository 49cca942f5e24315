use super::*;

const SYSTEM: &str = "urn:oid:1.2.392.100495.20.3.51.11311234567";

#[track_caller]
fn names(body: &str, expected: &[&str]) {
    let scanned = sent("POST", "/fhir", "application/fhir+json; charset=utf-8", body.as_bytes());
    assert_eq!(
        (told(&scanned), scanned.unread),
        (expected.iter().map(|text| (*text).to_owned()).collect(), None),
        "{body}"
    );
    // The order of members changes nothing.
    let turned = reverse(&serde_json::from_str(body).unwrap());
    let scanned = sent("POST", "/fhir", "application/fhir+json", turned.as_bytes());
    assert_eq!(told(&scanned), expected, "{turned}");
}

/// The document with the members of every object in the other order.
fn reverse(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(reverse).collect::<Vec<_>>().join(",")),
        Value::Object(members) => {
            let member =
                |(name, value): (&String, &Value)| format!("{}:{}", Value::from(name.as_str()), reverse(value));
            format!("{{{}}}", members.iter().rev().map(member).collect::<Vec<_>>().join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// As JP Core has a patient: the facility's number, the insured person's number.
#[test]
fn a_patient_of_jp_core() {
    names(
        &format!(
            r#"{{
              "resourceType": "Patient", "id": "jp-patient-example-1",
              "meta": {{"profile": ["http://jpfhir.jp/fhir/core/StructureDefinition/JP_Patient"]}},
              "identifier": [
                {{"use": "usual", "type": {{"coding": [{{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}}]}},
                  "system": "{SYSTEM}", "value": "00000010",
                  "assigner": {{"identifier": {{"system": "http://facility", "value": "1311234567"}}}}}},
                {{"system": "http://jpfhir.jp/fhir/core/mhlw/IdSystem/InsuredPersonID", "value": "00012345:あいう:1:01"}},
                {{"value": "系なし"}}, {{"system": "空"}}],
              "name": [{{"text": "山田 太郎", "family": "山田", "given": ["太郎"],
                "extension": [{{"url": "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation", "valueCode": "IDE"}}]}}],
              "telecom": [{{"system": "phone", "value": "03-1234-5678"}}],
              "managingOrganization": {{"reference": "Organization/1", "identifier": {{"system": "s", "value": "組織"}}}},
              "generalPractitioner": [{{"reference": "Practitioner/7"}}],
              "contact": [{{"id": "c1", "relationship": [{{"id": "r"}}]}}],
              "link": [{{"other": {{"reference": "Patient/old-number"}}, "type": "replaces"}}]
            }}"#
        ),
        &[
            "http://jpfhir.jp/fhir/core/mhlw/IdSystem/InsuredPersonID|00012345:あいう:1:01",
            "jp-patient-example-1",
            "old-number",
            &format!("{SYSTEM}|00000010"),
            "系なし",
        ],
    );
}

#[test]
fn references_in_any_element() {
    for (reference, expected) in [
        ("Patient/1", "1"),
        ("Patient/1/_history/3", "1"),
        ("https://ehr.example/fhir/Patient/山-1", "山-1"),
        ("Patient?identifier=s|5", "s|5"),
        ("https://h/fhir/Patient?_id=6", "6"),
    ] {
        for element in ["subject", "patient", "beneficiary", "individual", "actor", "who", "for"] {
            let body = format!(
                r#"{{"resourceType":"X","id":"no","{element}":{{"reference":"{reference}","display":"山田"}}}}"#
            );
            names(&body, &[expected]);
            names(&format!(r#"{{"a":[{{"b":{{"{element}":[{{"reference":"{reference}"}}]}}}}]}}"#), &[expected]);
        }
    }
    let urn = "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0";
    names(&format!(r#"{{"subject":{{"reference":"{urn}"}}}}"#), &[urn]);
    names(&format!(r#"{{"actor":{{"reference":"{urn}","type":"Patient"}}}}"#), &[urn]);
    names(&format!(r#"{{"actor":{{"reference":"{urn}","type":"Device"}}}}"#), &[]);
    names(&format!(r#"{{"actor":{{"reference":"{urn}"}}}}"#), &[]);
    for none in ["Group/3", "#p1", "Device/Patient", "https://h/fhir/Location/4", "", "Observation?patient=1"] {
        names(&format!(r#"{{"subject":{{"reference":"{none}","identifier":{{"use":"usual"}}}}}}"#), &[]);
    }
    // Spelt so that only a parser sees it.
    let body = r#"{"sub\u006aect":{"refe\u0072ence":"\u0050atient\/1"}}"#;
    let scanned = sent("POST", "/fhir/Observation", "application/json", body.as_bytes());
    assert_eq!(told(&scanned), ["1"]);
}

#[test]
fn logical_references() {
    let identifier = r#""identifier":{"system":"s","value":"00000010"}"#;
    names(&format!(r#"{{"subject":{{{identifier}}}}}"#), &["s|00000010"]);
    names(&format!(r#"{{"actor":{{"type":"Patient",{identifier}}}}}"#), &["s|00000010"]);
    names(&format!(r#"{{"subject":{{"reference":"Patient/1",{identifier}}}}}"#), &["1", "s|00000010"]);
    names(&format!(r#"{{"subject":{{"type":"Group",{identifier}}}}}"#), &[]);
    names(&format!(r#"{{"subject":{{"reference":"Group/1",{identifier}}}}}"#), &[]);
    names(&format!(r#"{{"actor":{{{identifier}}}}}"#), &[]);
    names(&format!(r#"{{"resourceType":"Encounter",{identifier}}}"#), &[]);
}

#[test]
fn contained_patients_have_identifiers_and_no_id() {
    names(
        r##"{"resourceType":"Coverage","id":"c","beneficiary":{"reference":"#p"},
            "contained":[{"resourceType":"Patient","id":"p","identifier":[{"value":"9"}]}]}"##,
        &["9"],
    );
}

#[test]
fn a_transaction_and_its_response() {
    names(
        r#"{"resourceType":"Bundle","type":"transaction","id":"b","entry":[
            {"fullUrl":"urn:uuid:1","resource":{"resourceType":"Patient","identifier":[{"system":"s","value":"new"}]},
             "request":{"method":"POST","url":"Patient","ifNoneExist":"identifier=s|new2&name=x"}},
            {"resource":{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/2"}},
             "request":{"method":"PUT","url":"Observation?patient=Patient/3&identifier=s|o"}},
            {"request":{"method":"GET","url":"Patient/4/$everything"}},
            {"request":{"method":"GET","url":"/Patient/%35/Observation?subject.identifier=s%7C6"}},
            {"request":{"method":"DELETE","url":"Patient?identifier=s|7"}},
            {"request":{"method":"GET","url":"Patient/_search?_id=8"}},
            {"request":{"method":"PATCH","url":"Appointment/1"},"resource":{"resourceType":"Parameters","parameter":[
                {"name":"operation","part":[{"name":"value","valueReference":{"reference":"Patient/9"}}]}]}}]}"#,
        &["2", "3", "4", "5", "8", "9", "s|6", "s|7", "s|new", "s|new2"],
    );
    names(
        r#"{"resourceType":"Bundle","type":"transaction-response","entry":[
            {"response":{"status":"201 Created","location":"Patient/10/_history/1"}},
            {"response":{"status":"201","location":"https://h/fhir/Observation/1/_history/1"}},
            {"fullUrl":"https://h/fhir/Patient/11","response":{"status":"200"}}]}"#,
        &["10", "11"],
    );
}

#[test]
fn a_json_patch() {
    names(
        r#"[{"op":"replace","path":"/subject/reference","value":"Patient/1"},
            {"op":"add","path":"/subject","value":{"reference":"Patient/2"}},{"op":"test","path":"/id","value":"3"}]"#,
        &["1", "2"],
    );
}

#[test]
fn search_results() {
    let body = r#"{"resourceType":"Bundle","type":"searchset","total":2,
        "link":[{"relation":"self","url":"https://h/fhir/Observation?patient=Patient/0"}],
        "entry":[{"fullUrl":"https://h/fhir/Observation/1","resource":{"resourceType":"Observation","id":"1",
            "text":{"status":"generated","div":"<div>Patient/99</div>"},
            "subject":{"reference":"Patient/1","display":"山田 太郎"},"performer":[{"reference":"Practitioner/2"}],
            "valueQuantity":{"value":7.2,"unit":"mmol/L"}}},
          {"resource":{"resourceType":"Patient","id":"2"},"search":{"mode":"include"}}]}"#;
    let scanned = answered("/fhir/Observation?_include=*", "application/fhir+json", body.as_bytes());
    assert_eq!((told(&scanned), scanned.unread), (["1", "2"].map(String::from).to_vec(), None));
    assert!(scanned.patients.ids.iter().all(|id| id.source == PatientSource::Answer));
    let lines = "{\"resourceType\":\"Patient\",\"id\":\"1\"}\n{\"resourceType\":\"Patient\",\"id\":\"2\"}\n";
    assert_eq!(told(&answered("/fhir/Patient", "application/fhir+ndjson", lines.as_bytes())), ["1", "2"]);
}

#[test]
fn forms() {
    let form = b"subject=Patient%2F2&_has%3AX%3Ay%3Apatient=3&patient.identifier=s%7C4&code=x";
    let scanned = sent("POST", "/fhir/Observation/_search", "application/x-www-form-urlencoded", form);
    assert_eq!(told(&scanned), ["2", "3", "s|4"]);
    let scanned = sent("POST", "/fhir/_search", "application/x-www-form-urlencoded", b"_type=Patient&_id=5");
    assert_eq!(told(&scanned), ["5"]);
    let long = [b"patient=1&x=".to_vec(), vec![b'x'; 70_000]].concat();
    let scanned = sent("POST", "/fhir/X/_search", "application/x-www-form-urlencoded", &long);
    assert_eq!((told(&scanned), scanned.unread), (vec!["1".to_owned()], Some(Unread::TooLong)));
}

#[test]
fn an_identifier_with_two_values_is_not_told_in_full() {
    let body = r#"{"resourceType":"Patient","identifier":[{"value":"0001","value":"0002"}]}"#;
    let scanned = sent("POST", "/fhir", "application/fhir+json", body.as_bytes());
    assert_eq!((told(&scanned), scanned.unread), (vec!["0002".to_owned()], Some(Unread::TooMany)));
}
