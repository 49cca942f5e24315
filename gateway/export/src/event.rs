//! What happened, who took part, and what it was about.

use std::net::SocketAddr;

use gateway_audit::header::Kind;
use gateway_audit::time;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::code::{Action, Code, KIND, Outcome};
use crate::record::Record;
use crate::shape::{Shape, shape};
use crate::text;

/// Where a record stands: together the same for all time, so that a receiver knows a repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The name of the log (lane).
    pub origin: String,
    /// The number of the record in it.
    pub sequence: u64,
}

impl Place {
    /// The record's id: `<origin>#<sequence>`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}#{}", self.origin, self.sequence)
    }

    /// A UUID (RFC 9562, version 8) from the first bytes of SHA-256 over the id and a part's number.
    #[must_use]
    pub fn uuid(&self, part: usize) -> String {
        let digest = Sha256::digest(format!("{}#{part}", self.id()));
        let mut bytes = [0; 16];
        for (place, byte) in bytes.iter_mut().zip(digest) {
            *place = byte;
        }
        let value = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
        let digits = format!("{value:032x}");
        let mut out = String::with_capacity(36);
        for (place, digit) in digits.chars().enumerate() {
            if matches!(place, 8 | 12 | 16 | 20) {
                out.push('-');
            }
            out.push(digit);
        }
        out
    }
}

/// The person who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// What the site calls them; of a patient, who vouches, `/`, and what they call the patient.
    pub name: String,
    /// Their roles.
    pub roles: Vec<String>,
}

/// Where a request or connection comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// `<site>/<device>` where a device is known, otherwise the address.
    pub name: String,
    /// The IP address, or the network of many.
    pub address: Option<String>,
    /// The port.
    pub port: Option<u16>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The method.
    pub method: String,
    /// The target in its form as text.
    pub shown: String,
    /// The very bytes: method, space, target as far as it was recorded.
    pub raw: Vec<u8>,
    /// It is a search.
    pub is_search: bool,
}

/// One event. Texts are in their form ([`crate::text`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Where its record stands.
    pub place: Place,
    /// The record's kind.
    pub kind: Kind,
    /// RFC 3339, UTC.
    pub time: String,
    /// What it is.
    pub id: Code,
    /// What it is more narrowly; the record's kind, of Sekisho's own code system, is the last.
    pub types: Vec<Code>,
    /// What was done.
    pub action: Action,
    /// What came of it.
    pub outcome: Outcome,
    /// The same in words.
    pub outcome_text: Option<String>,
    /// The gateway; none where the record is not opened.
    pub node: Option<String>,
    /// The site (R1).
    pub site: Option<String>,
    /// The person.
    pub user: Option<User>,
    /// The device or address.
    pub client: Option<Client>,
    /// The backend that was asked.
    pub backend: Option<String>,
    /// The patients that were touched (R5).
    pub patients: Vec<String>,
    /// The request's id.
    pub request: Option<String>,
    /// What was asked for.
    pub target: Option<Target>,
    /// Everything else that the record says, by path.
    pub details: Vec<(String, String)>,
    /// The record.
    pub(crate) record: Option<Map<String, Value>>,
}

/// Paths that have a place in every form; all others are details.
const PLACED: &[&str] = &[
    "kind",
    "sequence",
    "time",
    "node",
    "version",
    "connection.site",
    "connection.device",
    "connection.user",
    "connection.patient",
    "connection.source",
    "site",
    "device",
    "user",
    "patient",
    "source",
    "network",
    "roles",
    "backend",
    "patients",
    "request",
    "method",
    "target",
    "target.prefix",
    "actor",
    "by",
];
/// Who asks, by what comes first.
const USERS: &[&str] = &["user", "connection.user", "patient", "connection.patient", "actor", "by"];
/// The site, likewise.
const SITES: &[&str] = &["connection.site", "site"];

impl Event {
    /// The event of an opened record. `origin` is the name of its log.
    #[must_use]
    pub fn of(origin: &str, record: &Record) -> Self {
        let Shape { id, narrower, action, outcome } = shape(record.kind(), Some(record));
        let first = |paths: &[&str]| paths.iter().find_map(|path| record.text(path));
        let (site, user) = (first(SITES), first(USERS));
        let mut details = Vec::new();
        // What is a source of time or of lists is no peer.
        let of_peer = !matches!(record.kind(), Kind::Clock | Kind::RevocationChange);
        flatten("", &Value::Object(record.value().clone()), &mut |path, value| {
            let is_another =
                |paths: &[&str], placed: &Option<String>| paths.contains(&path) && placed.as_ref() != Some(&value);
            let is_placed = PLACED.contains(&path) && (path != "source" || of_peer);
            if !is_placed || is_another(USERS, &user) || is_another(SITES, &site) {
                details.push((path.to_owned(), value));
            }
        });
        Self {
            place: Place { origin: origin.to_owned(), sequence: record.sequence() },
            kind: record.kind(),
            time: written(record.unix_ns()),
            id,
            types: narrower.into_iter().chain([of_kind(record.kind())]).collect(),
            action,
            outcome,
            outcome_text: outcome_text(record),
            node: record.text("node"),
            user: user.map(|name| User { name, roles: record.list("roles") }),
            client: if of_peer { client(record, site.as_deref()) } else { None },
            site,
            backend: record.text("backend"),
            patients: record.list("patients"),
            request: record.text("request"),
            target: target(record),
            details,
            record: Some(record.value().clone()),
        }
    }

    /// The event of a record that is not opened, from its clear header. `why` it is not.
    #[must_use]
    pub fn sealed(place: Place, kind: Kind, unix_ns: i64, pseudonym: Option<String>, why: &str) -> Self {
        let Shape { id, narrower, action, .. } = shape(kind, None);
        Self {
            place,
            kind,
            time: written(unix_ns),
            id,
            types: narrower.into_iter().chain([of_kind(kind)]).collect(),
            action,
            // What came of it stands inside.
            outcome: Outcome::Minor,
            outcome_text: Some(format!("the record is sealed and was not opened: {}", text::shown(why))),
            node: None,
            site: None,
            user: None,
            client: None,
            backend: None,
            patients: Vec::new(),
            request: None,
            target: None,
            details: pseudonym.map(|pseudonym| ("pseudonym".to_owned(), pseudonym)).into_iter().collect(),
            record: None,
        }
    }

    /// Whether the record was opened.
    #[must_use]
    pub const fn is_opened(&self) -> bool {
        self.record.is_some()
    }
}

fn of_kind(kind: Kind) -> Code {
    Code { code: kind.label(), system: KIND, meaning: kind.label() }
}

fn written(unix_ns: i64) -> String {
    let mut out = Vec::new();
    time::write(&mut out, unix_ns);
    String::from_utf8_lossy(&out).into_owned()
}

/// `deny: policy-no-permit, 403` and the like.
fn outcome_text(record: &Record) -> Option<String> {
    let mut words = Vec::new();
    for key in ["decision", "reason", "result", "event", "cause", "end", "error", "detail", "status"] {
        words.extend(record.text(key).map(|text| format!("{key} {text}")));
    }
    (!words.is_empty()).then(|| words.join(", "))
}

fn client(record: &Record, site: Option<&str>) -> Option<Client> {
    let device = record.text("connection.device").or_else(|| record.text("device"));
    let source = record.text("connection.source").or_else(|| record.text("source"));
    let parsed: Option<SocketAddr> = source.as_deref().and_then(|source| source.parse().ok());
    let address = parsed.map(|source| source.ip().to_canonical().to_string()).or(source);
    let address = address.or_else(|| record.text("network"));
    let known = device.map(|device| format!("{}/{device}", site.unwrap_or_default()));
    let name = known.or_else(|| address.clone())?;
    Some(Client { name, address, port: parsed.map(|source| source.port()) })
}

fn target(record: &Record) -> Option<Target> {
    let value = record.at("target")?;
    let method = record.text("method").unwrap_or_default();
    // Of a long target its beginning was recorded.
    let value = value.get("prefix").unwrap_or(value);
    let mut raw = bytes(record.at("method")?);
    raw.push(b' ');
    raw.extend(bytes(value));
    Some(Target { method, shown: text::of(value)?, raw, is_search: record.label("action") == "search" })
}

/// The bytes of a text, or of what is not one.
fn bytes(value: &Value) -> Vec<u8> {
    use base64::Engine as _;
    match value {
        Value::Object(object) => {
            let digits = text::bytes_of(object).unwrap_or_default();
            base64::engine::general_purpose::STANDARD.decode(digits).unwrap_or_default()
        }
        Value::String(text) => text.as_bytes().to_vec(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => value.to_string().into_bytes(),
    }
}

/// Every value that is not made of others, by path; of a list, each item under the same.
fn flatten(path: &str, value: &Value, take: &mut impl FnMut(&str, String)) {
    match value {
        Value::Object(object) if text::bytes_of(object).is_none() => {
            for (key, value) in object {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, take);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| flatten(path, item, take)),
        Value::Null => {}
        Value::Object(_) | Value::String(_) | Value::Number(_) | Value::Bool(_) => {
            take(path, text::of(value).unwrap_or_default());
        }
    }
}
