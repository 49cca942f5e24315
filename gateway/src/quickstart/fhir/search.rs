//! Search: the parameters of a query, what matches them, and the bundle that answers (FHIR R4, Search).

use serde_json::{Value, json};

use super::answer::Fault;
use super::resources::{Resources, patient_of};

/// Most resources of one page.
const MAX_COUNT: usize = 100;

/// The parameters of a search. One that is not known is refused, since ignoring it would find too much.
#[derive(Debug)]
pub(super) struct Query {
    filters: Vec<(String, String)>,
    count: usize,
    offset: usize,
}

impl Query {
    /// Reads `application/x-www-form-urlencoded`.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let mut query = Self { filters: Vec::new(), count: 20, offset: 0 };
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            let number = || {
                value.parse::<usize>().map_err(|_| Fault::invalid(format!("`{name}` must be a number of resources")))
            };
            match name.as_str() {
                "_count" => query.count = number()?.min(MAX_COUNT),
                "_offset" => query.offset = number()?,
                "_format" => {}
                _ => query.filters.push((name, value)),
            }
        }
        Ok(query)
    }

    /// The query again, as a link carries it.
    pub(super) fn link(&self) -> String {
        let filters = self.filters.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value)));
        let page = [format!("_count={}", self.count), format!("_offset={}", self.offset)];
        format!("?{}", filters.chain(page).collect::<Vec<_>>().join("&"))
    }
}

/// The page of matches, and how many match in all.
pub(super) fn find(resources: &Resources, kind: &str, query: &Query) -> Result<(Vec<Value>, usize), Fault> {
    let mut matches = Vec::new();
    'resources: for resource in resources.of_type(kind) {
        for (name, value) in &query.filters {
            // A comma means "or" within one parameter, a repeated parameter means "and".
            let mut any = false;
            for wanted in value.split(',') {
                any |= agrees(resources, resource, name, wanted)?;
            }
            if !any {
                continue 'resources;
            }
        }
        matches.push(resource);
    }
    let total = matches.len();
    Ok((matches.into_iter().skip(query.offset).take(query.count).cloned().collect(), total))
}

fn agrees(resources: &Resources, resource: &Value, name: &str, wanted: &str) -> Result<bool, Fault> {
    let text = |key: &str| resource.get(key).and_then(Value::as_str).unwrap_or_default();
    Ok(match name {
        "_id" => text("id") == wanted,
        "identifier" => has_identifier(resource, wanted),
        "name" => names(resource, &["text", "family", "given"]).any(|part| part.contains(wanted)),
        "family" => names(resource, &["family"]).any(|part| part.starts_with(wanted)),
        "given" => names(resource, &["given"]).any(|part| part.starts_with(wanted)),
        "birthdate" => text("birthDate") == wanted,
        "gender" => text("gender") == wanted,
        "status" => text("status") == wanted,
        "patient" | "subject" => patient_of(resource) == Some(wanted.strip_prefix("Patient/").unwrap_or(wanted)),
        "patient.identifier" | "subject.identifier" | "subject:Patient.identifier" => patient_of(resource)
            .and_then(|id| resources.read("Patient", id).ok())
            .is_some_and(|patient| has_identifier(&patient, wanted)),
        _ => return Err(Fault::invalid(format!("the search parameter `{}` is not known", name.escape_debug()))),
    })
}

/// A token is `value`, `system|value` or `|value` (no system).
fn has_identifier(resource: &Value, wanted: &str) -> bool {
    let (system, value) = match wanted.split_once('|') {
        Some((system, value)) => (Some(system), value),
        None => (None, wanted),
    };
    let all = resource.get("identifier").and_then(Value::as_array).into_iter().flatten();
    all.into_iter().any(|identifier| {
        let part = |key: &str| identifier.get(key).and_then(Value::as_str).unwrap_or_default();
        part("value") == value && system.is_none_or(|system| part("system") == system)
    })
}

/// The texts of all names: kanji and kana.
fn names<'a>(resource: &'a Value, parts: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    let all = resource.get("name").and_then(Value::as_array).into_iter().flatten();
    all.flat_map(|name| parts.iter().filter_map(|part| name.get(*part))).flat_map(|part| match part {
        Value::String(text) => vec![text.as_str()],
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    })
}

/// A `searchset` with these resources; `this` is the link to itself, relative to the base.
pub(super) fn bundle(base: &str, this: &str, resources: &[Value], total: usize) -> Value {
    let entries: Vec<_> = resources
        .iter()
        .map(|resource| {
            let part = |key: &str| resource.get(key).and_then(Value::as_str).unwrap_or_default();
            json!({
                "fullUrl": format!("{base}/{}/{}", part("resourceType"), part("id")),
                "resource": resource,
                "search": { "mode": "match" },
            })
        })
        .collect();
    json!({
        "resourceType": "Bundle",
        "type": "searchset",
        "total": total,
        "link": [{ "relation": "self", "url": format!("{base}/{this}") }],
        "entry": entries,
    })
}

fn decode(text: &str) -> Result<String, Fault> {
    let fault = || Fault::invalid("the query is not UTF-8 in percent-encoding");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || {
                    let digit = char::from(rest.next()?).to_digit(16)?;
                    u8::try_from(digit).ok()
                };
                digit().zip(digit()).map(|(high, low)| high << 4 | low).ok_or_else(fault)?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| fault())
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
