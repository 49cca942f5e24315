//! FHIR R4 AuditEvent, in the shapes of IHE BALP (Basic Audit Log Patterns): `PatientRead`, `PatientCreate`,
//! `PatientUpdate`, `PatientDelete` and `PatientQuery`, one event for each patient, or the same without `Patient`; a plain
//! event for everything else.
//!
//! BALP's patterns are for what succeeded; what was refused or failed is a plain event of the same form, with its outcome.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_audit::header::Kind;
use serde_json::{Map, Value, json};

use crate::code::{Action, Code, DCM, DESTINATION_ROLE, Outcome, QUERY, REST, SOURCE_ROLE};
use crate::event::Event;

/// The system of a record's id, which stands as a tag in each event of it: a server knows a repetition by it.
pub const RECORD_SYSTEM: &str = "https://sekisho.example/audit-record";
/// As FHIR names DICOM's code system.
const DCM_URI: &str = "http://dicom.nema.org/resources/ontology/DCM";
/// BALP's profiles.
const PROFILES: &str = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const OBJECT_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
const BALP_ENTITY: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType";
const PARTICIPATION: &str = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
const SOURCE_TYPE: &str = "http://terminology.hl7.org/CodeSystem/security-source-type";

/// The resources of an event: one for each patient, and one where there is none.
#[must_use]
pub fn resources(event: &Event) -> Vec<Value> {
    if event.patients.is_empty() {
        return vec![resource(event, None)];
    }
    event.patients.iter().map(|patient| resource(event, Some(patient))).collect()
}

/// A Bundle of type `batch` that creates resources. Each entry is an event with its place among its record's.
#[must_use]
pub fn batch<'a>(entries: impl IntoIterator<Item = (&'a Event, usize, Value)>) -> Value {
    let entry = |(event, part, resource): (&Event, usize, Value)| {
        json!({
            "fullUrl": format!("urn:uuid:{}", event.place.uuid(part)),
            "resource": resource,
            "request": { "method": "POST", "url": "AuditEvent" },
        })
    };
    let entries: Vec<Value> = entries.into_iter().map(entry).collect();
    json!({ "resourceType": "Bundle", "type": "batch", "entry": entries })
}

fn resource(event: &Event, patient: Option<&str>) -> Value {
    let of_request = matches!(event.kind, Kind::Request | Kind::Intent);
    // BALP's requests are of type `rest`, whatever ATNA calls them.
    let kind = if of_request || event.kind == Kind::Addendum { REST } else { event.id };
    let mut meta = Map::new();
    meta.insert("tag".to_owned(), json!([{ "system": RECORD_SYSTEM, "code": event.place.id() }]));
    if let Some(profile) = profile(event, patient.is_some()) {
        meta.insert("profile".to_owned(), json!([format!("{PROFILES}{profile}")]));
    }
    let mut out = json!({
        "resourceType": "AuditEvent",
        "meta": meta,
        "type": coding(kind),
        "subtype": event.types.iter().map(|code| coding(*code)).collect::<Vec<_>>(),
        "action": event.action.letter(),
        "recorded": event.time,
        "outcome": event.outcome.digits(),
        "agent": agents(event),
        "source": source(event),
        "entity": entities(event, patient),
    });
    if let (Value::Object(out), Some(text)) = (&mut out, &event.outcome_text) {
        out.insert("outcomeDesc".to_owned(), json!(text));
    }
    out
}

/// The pattern that the event is one of.
fn profile(event: &Event, of_patient: bool) -> Option<&'static str> {
    let is_exchange = matches!(event.kind, Kind::Request | Kind::Intent);
    // Agents that BALP wants: who asked, by what connection, and of whom.
    let is_whole = event.client.as_ref().is_some_and(|client| client.address.is_some()) && event.backend.is_some();
    if !is_exchange || event.outcome != Outcome::Success || !is_whole {
        return None;
    }
    let is_search = event.target.as_ref().is_some_and(|target| target.is_search);
    Some(match (event.action, of_patient) {
        (Action::Read, true) => "PatientRead",
        (Action::Read, false) => "Read",
        (Action::Create, true) => "PatientCreate",
        (Action::Create, false) => "Create",
        (Action::Update, true) => "PatientUpdate",
        (Action::Update, false) => "Update",
        (Action::Delete, true) => "PatientDelete",
        (Action::Delete, false) => "Delete",
        (Action::Execute, true) if is_search => "PatientQuery",
        (Action::Execute, false) if is_search => "Query",
        (Action::Execute, _) => return None,
    })
}

fn agents(event: &Event) -> Vec<Value> {
    let is_read = event.action == Action::Read && event.id != QUERY;
    let (of_client, of_server) =
        if is_read { (DESTINATION_ROLE, SOURCE_ROLE) } else { (SOURCE_ROLE, DESTINATION_ROLE) };
    let mut agents = Vec::new();
    if let Some(client) = &event.client {
        let mut agent = agent(of_client, &client.name, event.user.is_none());
        if let (Some(agent), Some(address)) = (agent.as_object_mut(), &client.address) {
            agent.insert("network".to_owned(), network(address));
        }
        agents.push(agent);
    }
    if let Some(backend) = &event.backend {
        let host = backend.rsplit_once(':').map_or(backend.as_str(), |(host, _)| host);
        let mut agent = agent(of_server, backend, false);
        if let Some(agent) = agent.as_object_mut() {
            agent.insert("network".to_owned(), network(host));
        }
        agents.push(agent);
    }
    if let Some(user) = &event.user {
        let mut identifier = json!({ "value": user.name });
        if let (Some(identifier), Some(site)) = (identifier.as_object_mut(), &event.site) {
            identifier.insert("assigner".to_owned(), json!({ "display": site }));
        }
        let recipient = json!({ "system": PARTICIPATION, "code": "IRCP", "display": "information recipient" });
        let mut agent =
            json!({ "type": { "coding": [recipient] }, "who": { "identifier": identifier }, "requestor": true });
        if let (Some(agent), false) = (agent.as_object_mut(), user.roles.is_empty()) {
            let roles: Vec<_> = user.roles.iter().map(|role| json!({ "text": role })).collect();
            agent.insert("role".to_owned(), Value::from(roles));
        }
        agents.push(agent);
    }
    if agents.is_empty() {
        let gateway = event.node.as_ref().unwrap_or(&event.place.origin);
        agents.push(agent(of_server, gateway, true));
    }
    agents
}

fn agent(role: Code, name: &str, requestor: bool) -> Value {
    json!({ "type": { "coding": [coding(role)] }, "who": { "identifier": { "value": name } }, "requestor": requestor })
}

fn network(address: &str) -> Value {
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    // 1: a name, 2: an IP address.
    let kind = if bare.parse::<std::net::IpAddr>().is_ok() { "2" } else { "1" };
    json!({ "address": bare, "type": kind })
}

fn source(event: &Event) -> Value {
    let gateway = event.node.as_ref().unwrap_or(&event.place.origin);
    let mut out = json!({
        "observer": { "identifier": { "value": gateway } },
        "type": [{ "system": SOURCE_TYPE, "code": "4", "display": "Application Server" }],
    });
    if let (Some(out), Some(site)) = (out.as_object_mut(), &event.site) {
        out.insert("site".to_owned(), json!(site));
    }
    out
}

fn entities(event: &Event, patient: Option<&str>) -> Vec<Value> {
    let mut entities = Vec::new();
    if let Some(patient) = patient {
        entities.push(json!({
            "what": { "type": "Patient", "identifier": identifier(patient) },
            "type": { "system": ENTITY_TYPE, "code": "1", "display": "Person" },
            "role": { "system": OBJECT_ROLE, "code": "1", "display": "Patient" },
        }));
    }
    if let Some(target) = &event.target {
        let system_object = json!({ "system": ENTITY_TYPE, "code": "2", "display": "System Object" });
        entities.push(if target.is_search {
            json!({
                "type": system_object,
                "role": { "system": OBJECT_ROLE, "code": "24", "display": "Query" },
                "query": STANDARD.encode(&target.raw),
            })
        } else {
            json!({
                "what": { "identifier": { "value": target.shown } },
                "type": system_object,
                "role": { "system": OBJECT_ROLE, "code": "4", "display": "Domain Resource" },
            })
        });
    }
    if let Some(request) = &event.request {
        entities.push(json!({
            "what": { "identifier": { "value": request } },
            "type": { "system": BALP_ENTITY, "code": "XrequestId", "display": "The unique identity of the http REST request." },
        }));
    }
    let details: Vec<_> = event
        .details
        .iter()
        // An empty text is no value in FHIR.
        .filter(|(_, value)| !value.is_empty())
        .map(|(path, value)| json!({ "type": path, "valueString": value }))
        .collect();
    let mut record = json!({
        "what": { "identifier": { "system": RECORD_SYSTEM, "value": event.place.id() } },
        "type": { "system": ENTITY_TYPE, "code": "2", "display": "System Object" },
        "role": { "system": OBJECT_ROLE, "code": "13", "display": "Security Resource" },
    });
    if let (Some(record), false) = (record.as_object_mut(), details.is_empty()) {
        record.insert("detail".to_owned(), Value::from(details));
    }
    entities.push(record);
    entities
}

/// `system|value` or a value alone, as tokens are written.
fn identifier(patient: &str) -> Value {
    match patient.split_once('|') {
        Some((system, value)) if !system.is_empty() && !value.is_empty() => json!({ "system": system, "value": value }),
        _ => json!({ "value": patient }),
    }
}

fn coding(code: Code) -> Value {
    let system = if code.system == DCM { DCM_URI } else { code.system };
    json!({ "system": system, "code": code.code, "display": code.meaning })
}
