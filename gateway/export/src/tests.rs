use gateway_audit::header::Kind;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

pub(crate) const ORIGIN: &str = "sekisho.example/gw1/lane-1";

/// A record of a kind with what is special to it.
pub(crate) fn record(kind: Kind, special: Value) -> Record {
    let mut all = json!({
        "clock": { "boot": "b", "error_ns": 5, "monotonic_us": 7, "source": "kernel", "synchronised": true },
        "kind": kind.label(), "node": "gw1", "sequence": 7, "time": "2026-11-22T01:02:03.000000004Z", "version": 1,
    });
    all.as_object_mut().unwrap().extend(special.as_object().unwrap().clone());
    Record::parse(all.to_string().as_bytes()).unwrap()
}

pub(crate) fn asked(action: &str, decision: &str) -> Value {
    json!({
        "action": action, "authority": "clinics.example", "backend": "127.0.0.1:8080", "class": "clinical",
        "connection": {
            "certificate": { "serial": "01", "sha256": "ab" }, "device": "exam-1", "id": "c-1", "listener": "clinics",
            "site": "sakura-clinic", "source": "192.0.2.7:4711", "transport": "tcp",
            "tls": { "resumed": false, "suite": "TLS_AES_256_GCM_SHA384", "version": "1.3" },
        },
        "decision": decision, "method": "GET", "patients": ["urn:oid:1.2.3|0001"], "policies": ["doctors"],
        "request": "r-1", "roles": ["doctor"], "route": "fhir", "snapshot": 3, "status": 200,
        "target": "/fhir/Patient/0001?_x=<\"'&>", "user": "dr-sato",
    })
}

/// At least one record of every kind.
pub(crate) fn every_kind() -> Vec<Record> {
    let of_exchange =
        json!({ "request": "r-1", "bytes": { "received": 1, "sent": 2 }, "end": "complete", "duration_us": 3 });
    let special = |kind: Kind| match kind {
        Kind::Request => asked("read", "permit"),
        Kind::Intent => asked("update", "permit"),
        Kind::Outcome => json!({ "request": "r-1", "status": 502, "reason": "backend-unreachable" }),
        Kind::Completion | Kind::StreamOpened | Kind::StreamPeriodic | Kind::StreamClosed => of_exchange.clone(),
        Kind::Addendum => json!({ "request": "r-1", "from": "answer", "patients": ["0001", { "base64": "/w==" }] }),
        Kind::Login => json!({
            "account": "tanaka", "connection": asked("read", "permit")["connection"], "outcome": "failure",
            "realm": "ehr", "request": "r-1", "route": "login",
        }),
        Kind::Session => json!({
            "account": "tanaka", "authentication": "user", "device": "d-1", "event": "begun", "origin": "learnt",
            "realm": "ehr", "session": "00112233aabbccdd", "site": "s", "user": "tanaka",
        }),
        Kind::ConnectionOpened | Kind::ConnectionMoved | Kind::ConnectionClosed => {
            json!({ "connection": asked("read", "permit")["connection"] })
        }
        Kind::Refusal => {
            json!({ "source": "192.0.2.9:1", "stage": "handshake", "reason": "unknown-ca", "listener": "l" })
        }
        Kind::RefusalSummary => json!({ "network": "192.0.2.0/24", "reason": "unknown-ca", "count": 12 }),
        Kind::RegistryChange => json!({ "actor": "root", "change": "{\"device\":1}", "registry_sequence": 4 }),
        Kind::RegistryRollback => json!({ "recorded_sequence": 7, "store_sequence": 5 }),
        Kind::Reviewers => json!({ "number": 2, "sha256": "aa", "site": "sakura-clinic" }),
        Kind::Start => {
            json!({ "origin": ORIGIN, "reviewers": [{ "number": 1, "sha256": "aa" }], "program": "sekisho 0.1" })
        }
        Kind::Stop => json!({ "cause": "SIGTERM" }),
        Kind::Reload => json!({ "result": "failed", "error": "no", "snapshot": 2 }),
        Kind::Clock => json!({ "event": "step", "source": "ntp.example" }),
        Kind::Outage => json!({ "event": "site-silent", "since": "2026-11-23T01:02:03Z" }),
        Kind::TunnelDrops => json!({ "listener": "tunnels", "drops": [{ "count": 2, "reason": "other-site" }] }),
        Kind::Shred
        | Kind::Opening
        | Kind::Rewrap
        | Kind::Removal
        | Kind::RevocationChange
        | Kind::Recovery
        | Kind::AuditFailure
        | Kind::Full
        | Kind::Gap => json!({ "error": "ENOSPC", "by": "operator" }),
    };
    Kind::ALL.iter().map(|kind| record(*kind, special(*kind))).collect()
}

fn all_forms(event: &Event) -> Vec<String> {
    let mut out = atna::messages(event, 65_536);
    out.extend(fhir::resources(event).iter().map(Value::to_string));
    out.extend([ecs::document(event).to_string(), csv::row(event)]);
    out
}

#[test]
fn every_kind_has_its_event_and_says_who_and_where() {
    for record in every_kind() {
        let event = Event::of(ORIGIN, &record);
        assert_eq!(event.types.last().unwrap().code, record.kind().label());
        for form in all_forms(&event) {
            assert!(form.contains("sekisho.example/gw1/lane-1"), "{form}");
            assert!(form.contains("2026-11-22T01:02:03.000000004Z") && form.contains("gw1"), "{form}");
        }
        let sealed = Event::sealed(event.place.clone(), record.kind(), 4, Some("00ff".to_owned()), "no key");
        assert!(!sealed.is_opened());
        assert!(all_forms(&sealed).iter().all(|form| form.contains("sealed") && form.contains("lane-1")));
    }
}

#[test]
fn a_read_in_each_form() {
    let event = Event::of(ORIGIN, &record(Kind::Request, asked("read", "permit")));
    assert_eq!(
        atna::messages(&event, 65_536)[0].split("<ParticipantObjectDetail").next().unwrap(),
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><AuditMessage><EventIdentification EventActionCode=\"R\" \
         EventDateTime=\"2026-11-22T01:02:03.000000004Z\" EventOutcomeIndicator=\"0\"><EventID csd-code=\"110110\" \
         codeSystemName=\"DCM\" originalText=\"Patient Record\"/><EventTypeCode csd-code=\"read\" \
         codeSystemName=\"http://hl7.org/fhir/restful-interaction\" originalText=\"read\"/><EventTypeCode \
         csd-code=\"request\" codeSystemName=\"https://sekisho.example/CodeSystem/audit-record-kind\" \
         originalText=\"request\"/><EventOutcomeDescription>decision permit, status 200</EventOutcomeDescription>\
         </EventIdentification><ActiveParticipant UserID=\"dr-sato\" AlternativeUserID=\"sakura-clinic/dr-sato\" \
         UserIsRequestor=\"true\" NetworkAccessPointID=\"192.0.2.7\" NetworkAccessPointTypeCode=\"2\"><RoleIDCode \
         csd-code=\"doctor\" codeSystemName=\"https://sekisho.example/CodeSystem/audit\" originalText=\"doctor\"/>\
         </ActiveParticipant><ActiveParticipant UserID=\"sakura-clinic/exam-1\" UserIsRequestor=\"false\" \
         NetworkAccessPointID=\"192.0.2.7\" NetworkAccessPointTypeCode=\"2\"><RoleIDCode csd-code=\"110152\" \
         codeSystemName=\"DCM\" originalText=\"Destination Role ID\"/></ActiveParticipant><ActiveParticipant \
         UserID=\"127.0.0.1:8080\" UserIsRequestor=\"false\" NetworkAccessPointID=\"127.0.0.1\" \
         NetworkAccessPointTypeCode=\"2\"><RoleIDCode csd-code=\"110153\" codeSystemName=\"DCM\" originalText=\"Source \
         Role ID\"/></ActiveParticipant><ActiveParticipant UserID=\"gw1\" UserIsRequestor=\"false\"><RoleIDCode \
         csd-code=\"110153\" codeSystemName=\"DCM\" originalText=\"Source Role ID\"/></ActiveParticipant>\
         <AuditSourceIdentification AuditEnterpriseSiteID=\"sakura-clinic\" AuditSourceID=\"gw1\"><AuditSourceTypeCode \
         csd-code=\"4\"/></AuditSourceIdentification><ParticipantObjectIdentification \
         ParticipantObjectID=\"urn:oid:1.2.3|0001\" ParticipantObjectTypeCode=\"1\" ParticipantObjectTypeCodeRole=\"1\">\
         <ParticipantObjectIDTypeCode csd-code=\"2\" codeSystemName=\"RFC-3881\" originalText=\"Patient Number\"/>\
         <ParticipantObjectName>urn:oid:1.2.3|0001</ParticipantObjectName></ParticipantObjectIdentification>\
         <ParticipantObjectIdentification ParticipantObjectID=\"/fhir/Patient/0001?_x=&lt;&quot;&apos;&amp;&gt;\" \
         ParticipantObjectTypeCode=\"2\" ParticipantObjectTypeCodeRole=\"3\"><ParticipantObjectIDTypeCode csd-code=\"12\" \
         codeSystemName=\"RFC-3881\" originalText=\"URI\"/><ParticipantObjectQuery>\
         R0VUIC9maGlyL1BhdGllbnQvMDAwMT9feD08IicmPg==</ParticipantObjectQuery></ParticipantObjectIdentification>\
         <ParticipantObjectIdentification ParticipantObjectID=\"r-1\" ParticipantObjectTypeCode=\"2\">\
         <ParticipantObjectIDTypeCode csd-code=\"XrequestId\" \
         codeSystemName=\"https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType\" \
         originalText=\"X-Request-Id\"/><ParticipantObjectName>r-1</ParticipantObjectName>\
         </ParticipantObjectIdentification><ParticipantObjectIdentification \
         ParticipantObjectID=\"sekisho.example/gw1/lane-1#7\" ParticipantObjectTypeCode=\"2\" \
         ParticipantObjectTypeCodeRole=\"13\"><ParticipantObjectIDTypeCode csd-code=\"audit-record\" \
         codeSystemName=\"https://sekisho.example/CodeSystem/audit\" originalText=\"Audit record\"/>\
         <ParticipantObjectName>request</ParticipantObjectName>"
    );
    let resource = fhir::resources(&event).remove(0);
    let profile = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientRead";
    assert_eq!(resource["meta"]["profile"], json!([profile]));
    assert_eq!(
        (&resource["type"]["code"], &resource["action"], &resource["outcome"]),
        (&json!("rest"), &json!("R"), &json!("0"))
    );
    assert_eq!(resource["agent"][0]["type"]["coding"][0]["code"], "110152");
    assert_eq!(resource["agent"][2]["who"]["identifier"]["value"], "dr-sato");
    assert_eq!(resource["entity"][0]["what"]["identifier"], json!({ "system": "urn:oid:1.2.3", "value": "0001" }));
    let document = ecs::document(&event);
    assert_eq!((&document["user"]["name"], &document["source"]["ip"]), (&json!("dr-sato"), &json!("192.0.2.7")));
    assert_eq!(document["event"]["id"], "sekisho.example/gw1/lane-1#7");
    assert_eq!(document["sekisho"]["patients"], json!(["urn:oid:1.2.3|0001"]));
    let row = csv::row(&event);
    assert!(row.starts_with(
        "\"2026-11-22T01:02:03.000000004Z\",\"sekisho.example/gw1/lane-1\",\"7\",\"request\",\"Patient Record\",\"R\",\
         \"0\",\"decision permit, status 200\",\"gw1\",\"sakura-clinic\",\"sakura-clinic/exam-1\",\"192.0.2.7\",\"dr-sato\",\
         \"doctor\",\"urn:oid:1.2.3|0001\",\"r-1\",\"GET\",\"/fhir/Patient/0001?_x=<\"\"'&>\",\"127.0.0.1:8080\","
    ), "{row}");
    assert_eq!(csv::head().matches(',').count() + 1, csv::COLUMNS.len());
}

#[test]
fn shapes_of_balp_follow_action_and_outcome() {
    let profile = |action: &str, decision: &str, change: fn(&mut Value)| {
        let mut special = asked(action, decision);
        change(&mut special);
        let event = Event::of(ORIGIN, &record(Kind::Request, special));
        let resource = fhir::resources(&event).remove(0);
        let name = resource["meta"]["profile"][0].as_str().map(|url| url.rsplit('.').next().unwrap().to_owned());
        (name.unwrap_or_default(), resource["outcome"].as_str().unwrap().to_owned())
    };
    let as_is = |_: &mut Value| {};
    let of_nobody = |special: &mut Value| special["patients"] = json!([]);
    let failed = |special: &mut Value| special["status"] = json!(500);
    for (action, of_patient, plain) in [
        ("read", "PatientRead", "Read"),
        ("create", "PatientCreate", "Create"),
        ("update", "PatientUpdate", "Update"),
        ("delete", "PatientDelete", "Delete"),
        ("search", "PatientQuery", "Query"),
        ("operate", "", ""),
    ] {
        assert_eq!(profile(action, "permit", as_is), (of_patient.to_owned(), "0".to_owned()));
        assert_eq!(profile(action, "permit", of_nobody), (plain.to_owned(), "0".to_owned()));
        assert_eq!(profile(action, "permit", failed), (String::new(), "8".to_owned()));
        assert_eq!(profile(action, "deny", as_is), (String::new(), "8".to_owned()));
    }
}

#[test]
fn many_patients_go_out_in_parts_and_all_of_them() {
    let patients: Vec<_> = (0..2_000).map(|n| format!("urn:oid:1.2.392.100495.20.3.51.11311234567|{n:06}")).collect();
    let mut special = asked("search", "permit");
    special["patients"] = json!(patients);
    special["target"] = json!("/x".repeat(8_000));
    let event = Event::of(ORIGIN, &record(Kind::Request, special));
    for limit in [0, atna::MIN_LIMIT, 65_536] {
        let messages = atna::messages(&event, limit);
        assert!(messages.len() > 1 && messages.iter().all(|message| message.len() <= limit.max(atna::MIN_LIMIT)));
        let found = |patient: &String| messages.iter().filter(|message| message.contains(patient.as_str())).count();
        assert!(patients.iter().all(|patient| found(patient) == 1));
    }
    assert_eq!(fhir::resources(&event).len(), 2_000);
}

#[test]
fn ids_are_stable_and_tell_parts_apart() {
    let place = |sequence| Place { origin: ORIGIN.to_owned(), sequence };
    assert_eq!(place(1).uuid(0), place(1).uuid(0));
    assert_ne!(place(1).uuid(0), place(1).uuid(1));
    assert_ne!(place(1).uuid(0), place(2).uuid(0));
    let uuid = place(1).uuid(0);
    assert!(
        uuid.len() == 36 && uuid.chars().nth(14) == Some('8') && matches!(uuid.chars().nth(19), Some('8'..='b')),
        "{uuid}"
    );
}

#[test]
fn what_is_no_record_is_told_without_its_content() {
    for (bytes, error) in [
        (&b"secret"[..], RecordError::Json),
        (b"[]", RecordError::Json),
        (
            br#"{"kind":"secret","sequence":1,"time":"2026-11-22T01:02:03.000000004Z","node":"n"}"#,
            RecordError::Key("kind"),
        ),
        (
            br#"{"kind":"stop","sequence":-1,"time":"2026-11-22T01:02:03.000000004Z","node":"n"}"#,
            RecordError::Key("sequence"),
        ),
        (br#"{"kind":"stop","sequence":1,"time":"secret","node":"n"}"#, RecordError::Key("time")),
    ] {
        assert_eq!(Record::parse(bytes), Err(error.clone()));
        assert!(!error.to_string().contains("secret"));
    }
    let long =
        br#"{"kind":"stop","sequence":"18446744073709551615","time":"2026-11-22T01:02:03.000000004Z","node":"n"}"#;
    assert_eq!(Record::parse(long).unwrap().sequence(), u64::MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// C15: whatever strangers say, the form stays one, and nothing in it is obeyed.
    #[test]
    fn hostile_text_stays_inside(texts in proptest::collection::vec(any::<String>(), 6), bytes in any::<Vec<u8>>()) {
        use base64::Engine as _;
        let mut special = asked("search", "permit");
        for (key, text) in ["user", "target", "method", "authority", "request", "reason"].iter().zip(&texts) {
            special[*key] = json!(text);
        }
        special["patients"] = json!([texts[0], texts[1], { "base64": base64::engine::general_purpose::STANDARD.encode(&bytes) }]);
        let record = record(Kind::Request, special);
        let event = Event::of(ORIGIN, &record);
        for message in atna::messages(&event, 65_536) {
            // Inside attributes and elements there are no marks of XML, so that these count its structure.
            prop_assert_eq!(message.matches("</ParticipantObjectIdentification>").count(), 6);
            prop_assert_eq!(message.matches("<ActiveParticipant ").count(), 4);
            prop_assert!(message.chars().all(|c| !c.is_control()));
            prop_assert_eq!(message.matches('<').count(), message.matches('>').count());
        }
        let row = csv::row(&event);
        prop_assert_eq!(row.matches('\n').count(), 1);
        for resource in fhir::resources(&event) {
            // Our own escapes have two backslashes in JSON.
            let json = resource.to_string().replace(r"\\", "");
            prop_assert!(!json.contains(r"\u00"), "no control characters in FHIR's strings");
        }
        // The documents of ECS hold the record as it was.
        let document = ecs::document(&event);
        for (key, value) in record.value() {
            prop_assert_eq!(&document["sekisho"][key], value);
        }
        prop_assert_eq!(event.target.unwrap().raw, format!("{} {}", texts[2], texts[1]).into_bytes());
    }
}
