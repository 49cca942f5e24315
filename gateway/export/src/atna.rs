//! IHE ATNA: audit messages of DICOM PS3.15, A.5 (the heir of RFC 3881), as IHE ITI-20 sends them.
//!
//! `schema/audit-message.xsd` is the schema. The gateway is the audit source; device, user and backend take part. The
//! record itself is an object of each message: its id is the same whenever it is sent, its details are what else it says.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::code::{Action, Code, DESTINATION_ROLE, QUERY, SOURCE_ROLE};
use crate::event::{Event, Target};
use crate::text;

/// The shortest limit that [`messages`] keeps.
pub const MIN_LIMIT: usize = 16 * 1024;
/// Codes of ids that RFC 3881 defines.
const RFC_3881: &str = "RFC-3881";
/// IHE BALP's code for a request's id.
const BALP_ENTITY: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType";
/// Sekisho's roles and ids.
const OURS: &str = "https://sekisho.example/CodeSystem/audit";
/// The longest text in an attribute, characters; the whole of it stands among the details then.
const MAX_ATTRIBUTE: usize = 256;

/// The messages of an event, each a whole XML document in UTF-8 of at most `limit` bytes ([`MIN_LIMIT`] at least). More
/// than one only where patients are many: then each has some of them, and says which part it is. Details that are too
/// long are cut, and say so.
#[must_use]
pub fn messages(event: &Event, limit: usize) -> Vec<String> {
    let limit = limit.max(MIN_LIMIT);
    let head = head(event);
    // The record's own object is added at the end: room for it is kept.
    let room = limit.saturating_sub(head.len() + 2_048);
    let fixed = objects(event, room / 2);
    let patients: Vec<_> = event.patients.iter().map(|patient| object_of_patient(patient)).collect();
    let mut parts: Vec<Vec<&str>> = vec![Vec::new()];
    let mut left = room.saturating_sub(fixed.len());
    for patient in &patients {
        if patient.len() > left && parts.last().is_some_and(|part| !part.is_empty()) {
            parts.push(Vec::new());
            left = room.saturating_sub(fixed.len());
        }
        left = left.saturating_sub(patient.len());
        if let Some(part) = parts.last_mut() {
            part.push(patient);
        }
    }
    let of = parts.len();
    let message = |(number, patients): (usize, &Vec<&str>)| {
        let record = record(event, &fixed.details, (of > 1).then(|| format!("{} of {of}", number + 1)));
        format!("{head}{}{}{record}</AuditMessage>", patients.concat(), fixed.others)
    };
    parts.iter().enumerate().map(message).collect()
}

/// What stands in every part.
struct Fixed {
    /// Objects.
    others: String,
    /// Details of the record's object.
    details: String,
}

impl Fixed {
    fn len(&self) -> usize {
        self.others.len() + self.details.len()
    }
}

fn head(event: &Event) -> String {
    let mut out = String::with_capacity(2_048);
    let (action, outcome) = (event.action.letter(), event.outcome.digits());
    out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?><AuditMessage><EventIdentification");
    attributes(
        &mut out,
        &[("EventActionCode", action), ("EventDateTime", &event.time), ("EventOutcomeIndicator", outcome)],
    );
    out.push('>');
    coded(&mut out, "EventID", event.id);
    event.types.iter().for_each(|code| coded(&mut out, "EventTypeCode", *code));
    if let Some(text) = &event.outcome_text {
        let _ = write!(out, "<EventOutcomeDescription>{}</EventOutcomeDescription>", xml(&cut(text)));
    }
    out.push_str("</EventIdentification>");
    participants(event, &mut out);
    let source = event.node.clone().unwrap_or_else(|| event.place.origin.clone());
    out.push_str("<AuditSourceIdentification");
    if let Some(site) = &event.site {
        attributes(&mut out, &[("AuditEnterpriseSiteID", &cut(site))]);
    }
    attributes(&mut out, &[("AuditSourceID", &cut(&source))]);
    // 4: an application server's process.
    out.push_str("><AuditSourceTypeCode csd-code=\"4\"/></AuditSourceIdentification>");
    out
}

/// At least one: the gateway itself where nobody else did anything.
fn participants(event: &Event, out: &mut String) {
    // The data flow from the client when something is asked for by a query, or changed; from the server when it is read.
    let is_read = event.action == Action::Read && event.id != QUERY;
    let (of_client, of_server) =
        if is_read { (DESTINATION_ROLE, SOURCE_ROLE) } else { (SOURCE_ROLE, DESTINATION_ROLE) };
    let mut is_anyone = false;
    if let Some(user) = &event.user {
        is_anyone = true;
        let whole = event.site.as_ref().map(|site| format!("{site}/{}", user.name));
        out.push_str("<ActiveParticipant");
        attributes(out, &[("UserID", &cut(&user.name))]);
        if let Some(whole) = &whole {
            attributes(out, &[("AlternativeUserID", &cut(whole))]);
        }
        attributes(out, &[("UserIsRequestor", "true")]);
        if let Some(address) = event.client.as_ref().and_then(|client| client.address.as_deref()) {
            network(out, address);
        }
        out.push('>');
        for role in &user.roles {
            let role = cut(role);
            out.push_str("<RoleIDCode");
            attributes(out, &[("csd-code", &role), ("codeSystemName", OURS), ("originalText", &role)]);
            out.push_str("/>");
        }
        out.push_str("</ActiveParticipant>");
    }
    if let Some(client) = &event.client {
        let requestor = if is_anyone { "false" } else { "true" };
        is_anyone = true;
        participant(out, &client.name, requestor, client.address.as_deref(), of_client);
    }
    if let Some(backend) = &event.backend {
        let host = backend.rsplit_once(':').map_or(backend.as_str(), |(host, _)| host);
        participant(out, backend, "false", Some(host), of_server);
    }
    let gateway = event.node.as_ref().unwrap_or(&event.place.origin);
    participant(out, gateway, if is_anyone { "false" } else { "true" }, None, of_server);
}

fn participant(out: &mut String, id: &str, requestor: &str, address: Option<&str>, role: Code) {
    out.push_str("<ActiveParticipant");
    attributes(out, &[("UserID", &cut(id)), ("UserIsRequestor", requestor)]);
    if let Some(address) = address {
        network(out, address);
    }
    out.push('>');
    coded(out, "RoleIDCode", role);
    out.push_str("</ActiveParticipant>");
}

fn network(out: &mut String, address: &str) {
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    let is_ip = bare.parse::<std::net::IpAddr>().is_ok();
    let kind = if is_ip { "2" } else { "1" };
    attributes(out, &[("NetworkAccessPointID", &cut(bare)), ("NetworkAccessPointTypeCode", kind)]);
}

/// The objects of every part, in about so many bytes.
fn objects(event: &Event, room: usize) -> Fixed {
    let mut others = String::new();
    if let Some(target) = &event.target {
        object_of_target(&mut others, target, room / 2);
    }
    if let Some(request) = &event.request {
        others.push_str("<ParticipantObjectIdentification");
        attributes(&mut others, &[("ParticipantObjectID", &cut(request)), ("ParticipantObjectTypeCode", "2")]);
        others.push('>');
        id_type(&mut others, "XrequestId", BALP_ENTITY, "X-Request-Id");
        let _ = write!(others, "<ParticipantObjectName>{}</ParticipantObjectName>", xml(&cut(request)));
        others.push_str("</ParticipantObjectIdentification>");
    }
    let (mut details, mut dropped) = (String::new(), 0_u64);
    for (path, value) in &event.details {
        let whole = detail(path, value);
        let short = if whole.len() > 2_048 { detail(&format!("{path} (cut)"), &head_of(value, 1_024)) } else { whole };
        if others.len() + details.len() + short.len() > room {
            dropped += 1;
        } else {
            details.push_str(&short);
        }
    }
    if dropped > 0 {
        details.push_str(&detail("details that did not fit", &dropped.to_string()));
    }
    Fixed { others, details }
}

fn object_of_patient(patient: &str) -> String {
    let mut out = String::with_capacity(256);
    let patient = xml(&head_of(patient, 1_024));
    let _ = write!(
        out,
        "<ParticipantObjectIdentification ParticipantObjectID=\"{patient}\" ParticipantObjectTypeCode=\"1\" \
         ParticipantObjectTypeCodeRole=\"1\">"
    );
    id_type(&mut out, "2", RFC_3881, "Patient Number");
    let _ = write!(out, "<ParticipantObjectName>{patient}</ParticipantObjectName></ParticipantObjectIdentification>");
    out
}

/// The query, or the resource, with the very bytes that were asked for.
fn object_of_target(out: &mut String, target: &Target, room: usize) {
    out.push_str("<ParticipantObjectIdentification");
    attributes(out, &[("ParticipantObjectID", &cut(&target.shown)), ("ParticipantObjectTypeCode", "2")]);
    // 24: a query; 3: a report, which is what RFC 3881 has for a resource that is read or written.
    attributes(out, &[("ParticipantObjectTypeCodeRole", if target.is_search { "24" } else { "3" })]);
    out.push('>');
    if target.is_search {
        id_type(out, "10", RFC_3881, "Search Criteria");
    } else {
        id_type(out, "12", RFC_3881, "URI");
    }
    let most = (room / 4 * 3).max(1_024);
    let (raw, is_cut) = target.raw.get(..most).map_or((target.raw.as_slice(), false), |raw| (raw, true));
    let _ = write!(out, "<ParticipantObjectQuery>{}</ParticipantObjectQuery>", STANDARD.encode(raw));
    if is_cut {
        out.push_str(&detail("bytes of the request line, of which the first are shown", &target.raw.len().to_string()));
    }
    out.push_str("</ParticipantObjectIdentification>");
}

/// The record: its id and its details. A security resource (13).
fn record(event: &Event, details: &str, part: Option<String>) -> String {
    let mut out = String::with_capacity(details.len() + 512);
    out.push_str("<ParticipantObjectIdentification");
    let id = text::shown(&event.place.id());
    attributes(
        &mut out,
        &[("ParticipantObjectID", &id), ("ParticipantObjectTypeCode", "2"), ("ParticipantObjectTypeCodeRole", "13")],
    );
    out.push('>');
    id_type(&mut out, "audit-record", OURS, "Audit record");
    let _ = write!(out, "<ParticipantObjectName>{}</ParticipantObjectName>", event.kind.label());
    out.push_str(details);
    if let Some(part) = part {
        out.push_str(&detail("part", &part));
    }
    out.push_str("</ParticipantObjectIdentification>");
    out
}

fn id_type(out: &mut String, code: &str, system: &str, meaning: &str) {
    out.push_str("<ParticipantObjectIDTypeCode");
    attributes(out, &[("csd-code", code), ("codeSystemName", system), ("originalText", meaning)]);
    out.push_str("/>");
}

fn detail(name: &str, value: &str) -> String {
    format!("<ParticipantObjectDetail type=\"{}\" value=\"{}\"/>", xml(name), STANDARD.encode(value))
}

fn coded(out: &mut String, element: &str, code: Code) {
    let _ = write!(out, "<{element}");
    attributes(out, &[("csd-code", code.code), ("codeSystemName", code.system), ("originalText", code.meaning)]);
    out.push_str("/>");
}

fn attributes(out: &mut String, attributes: &[(&str, &str)]) {
    for (name, value) in attributes {
        let _ = write!(out, " {name}=\"{}\"", xml(value));
    }
}

/// Text that is in its form already, for an attribute or an element.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            character => out.push(character),
        }
    }
    out
}

fn cut(text: &str) -> String {
    head_of(text, MAX_ATTRIBUTE)
}

/// The first characters of a text, with `…` where there are more.
fn head_of(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}
