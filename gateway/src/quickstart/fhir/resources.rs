//! The resources in memory.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Value, json};

use super::answer::Fault;
use super::people;

/// The types that are kept.
pub(super) const TYPES: &[&str] =
    &["Appointment", "Condition", "Coverage", "MedicationRequest", "Observation", "Organization", "Patient"];

/// Most resources kept, deleted ones included, so that a client cannot fill the memory.
const MAX_RESOURCES: usize = 10_000;

/// The tag that marks test data. Every resource carries it, those that clients send included.
const TAG_SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";

/// Everything the server knows, by type and id.
#[derive(Debug, Default)]
pub(super) struct Resources {
    entries: BTreeMap<String, BTreeMap<String, Entry>>,
    kept: usize,
    created: u64,
    /// The application beside.
    pub(super) ehr: super::ehr::Ehr,
}

#[derive(Debug)]
struct Entry {
    version: u64,
    /// None once deleted.
    resource: Option<Value>,
}

impl Resources {
    /// The synthetic patients and what belongs to them.
    pub(super) fn synthetic() -> Self {
        let mut resources = Self::default();
        for resource in people::resources() {
            let part = |key: &str| resource.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            resources.put(&part("resourceType"), &part("id"), resource, people::SEED_TIME);
        }
        resources
    }

    pub(super) fn of_type(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.entries.get(kind).into_iter().flat_map(BTreeMap::values).filter_map(|entry| entry.resource.as_ref())
    }

    /// What belongs to a patient, the patient itself excluded.
    pub(super) fn of_patient<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a Value> {
        let others =
            self.entries.iter().filter(|(kind, _)| *kind != "Patient").flat_map(|(_, of_kind)| of_kind.values());
        others.filter_map(|entry| entry.resource.as_ref()).filter(move |resource| patient_of(resource) == Some(id))
    }

    pub(super) fn read(&self, kind: &str, id: &str) -> Result<Value, Fault> {
        let name = format!("{kind}/{id}");
        let entry =
            self.entries.get(kind).and_then(|of_kind| of_kind.get(id)).ok_or_else(|| Fault::not_found(&name))?;
        let gone = || Fault::new(StatusCode::GONE, "deleted", format!("`{name}` was deleted"));
        entry.resource.clone().ok_or_else(gone)
    }

    pub(super) fn create(&mut self, kind: &str, resource: Value) -> Result<Value, Fault> {
        let id = loop {
            self.created += 1;
            let id = format!("synthetic-{:04}", self.created);
            if !self.entries.get(kind).is_some_and(|of_kind| of_kind.contains_key(&id)) {
                break id;
            }
        };
        self.update(kind, &id, resource).map(|(resource, _)| resource)
    }

    /// The stored resource, and whether it is new.
    pub(super) fn update(&mut self, kind: &str, id: &str, resource: Value) -> Result<(Value, bool), Fault> {
        let known = self.entries.get(kind).is_some_and(|of_kind| of_kind.contains_key(id));
        if !known && self.kept >= MAX_RESOURCES {
            let text = format!("the demonstration keeps at most {MAX_RESOURCES} resources");
            return Err(Fault::new(StatusCode::INSUFFICIENT_STORAGE, "no-store", text));
        }
        let new = self.read(kind, id).is_err();
        let now = jiff::Timestamp::now().to_string();
        Ok((self.put(kind, id, resource, &now), new))
    }

    pub(super) fn delete(&mut self, kind: &str, id: &str) {
        if let Some(entry) = self.entries.get_mut(kind).and_then(|of_kind| of_kind.get_mut(id)) {
            entry.resource = None;
        }
    }

    fn put(&mut self, kind: &str, id: &str, mut resource: Value, time: &str) -> Value {
        let of_kind = self.entries.entry(kind.to_owned()).or_default();
        let entry = of_kind.entry(id.to_owned()).or_insert_with(|| {
            self.kept += 1;
            Entry { version: 0, resource: None }
        });
        entry.version += 1;
        stamp(&mut resource, id, entry.version, time);
        entry.resource = Some(resource.clone());
        resource
    }
}

/// Sets id, version and time, and marks the resource as synthetic.
fn stamp(resource: &mut Value, id: &str, version: u64, time: &str) {
    let Some(object) = resource.as_object_mut() else { return };
    object.insert("id".to_owned(), json!(id));
    let meta = object.entry("meta").or_insert_with(|| json!({}));
    if !meta.is_object() {
        *meta = json!({});
    }
    let Some(meta) = meta.as_object_mut() else { return };
    meta.insert("versionId".to_owned(), json!(version.to_string()));
    meta.insert("lastUpdated".to_owned(), json!(time));
    let test_data = json!({ "system": TAG_SYSTEM, "code": "HTEST", "display": "test health data" });
    let tags = meta.entry("tag").or_insert_with(|| json!([]));
    match tags.as_array_mut() {
        Some(tags) if tags.iter().any(|tag| tag.get("code") == test_data.get("code")) => {}
        Some(tags) => tags.push(test_data),
        None => *tags = json!([test_data]),
    }
}

/// The id of the patient that a resource belongs to; for a patient, its own.
pub(super) fn patient_of(resource: &Value) -> Option<&str> {
    if resource.get("resourceType").and_then(Value::as_str) == Some("Patient") {
        return resource.get("id").and_then(Value::as_str);
    }
    let direct = ["subject", "patient", "beneficiary"].iter().filter_map(|key| resource.get(*key));
    let participants = resource.get("participant").and_then(Value::as_array).into_iter().flatten();
    let actors = participants.filter_map(|participant| participant.get("actor"));
    direct
        .chain(actors)
        .filter_map(|reference| reference.get("reference").and_then(Value::as_str))
        .find_map(|reference| reference.strip_prefix("Patient/"))
}

/// FHIR R4, datatype `id`: `[A-Za-z0-9\-\.]{1,64}`.
pub(super) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}
