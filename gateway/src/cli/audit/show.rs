//! `sekisho audit show`: the last records, a line each. A reviewer's key opens them; without, their clear headers are
//! shown.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use gateway_audit::header::{ClearHeader, Envelope, EnvelopeError, Kind, Pseudonym};
use serde_json::{Value, json};

use super::LogArgs;
use super::read;
use super::secret::ReviewerArgs;
use crate::audit::opening::{Opener, OpeningError};
use crate::cli::terminal;

/// The arguments of `sekisho audit show`.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    #[command(flatten)]
    log: LogArgs,
    /// How many records, counted from the end
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: usize,
    /// Whether to wait for more; only `no` is known
    #[arg(long, value_name = "no", default_value = "no", value_parser = ["no"])]
    follow: String,
    /// One JSON object a line: the whole records, with what a terminal would obey escaped
    #[arg(long)]
    json: bool,
    /// A reviewer's private file, to open records; without, time, kind and what the record is about are shown
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// File with its passphrase; otherwise SEKISHO_REVIEWER_PASSPHRASE, or asked for at the terminal
    #[arg(long, value_name = "FILE", requires = "key")]
    passphrase_file: Option<PathBuf>,
    /// The folder of wrapped data keys; the one that the configuration names unless given
    #[arg(long, value_name = "DIR", requires = "key")]
    keys: Option<PathBuf>,
}

impl ShowArgs {
    fn opener(&self) -> anyhow::Result<Option<Opener>> {
        let Some(key) = &self.key else { return Ok(None) };
        let keys = self.log.keys(self.keys.as_ref())?;
        let arguments = ReviewerArgs { key: key.clone(), passphrase_file: self.passphrase_file.clone() };
        Ok(Some(Opener::new(&keys, arguments.open()?)))
    }
}

/// Prints records. False if the log holds a bad record; those before it are printed.
///
/// # Errors
/// If the log cannot be read, or `out` not be written.
pub(super) fn run(arguments: &ShowArgs, out: &mut dyn Write) -> anyhow::Result<bool> {
    let directory = arguments.log.directory()?;
    let lanes = read::last(&directory, arguments.last)?;
    let mut opener = arguments.opener()?;
    let mut records = Vec::new();
    for (lane, end) in &lanes {
        let log = read::origin(&directory, lane);
        let mut open =
            |sequence, envelope: &[u8]| opener.as_mut().map(|opener| opener.open(log.as_deref(), sequence, envelope));
        let lane = (lanes.len() > 1).then_some(lane.as_str());
        records.extend(end.records.iter().map(|(sequence, record)| Shown::new(lane, *sequence, record, &mut open)));
    }
    // Each lane has an order of its own; between lanes there is only time.
    records.sort_by_key(|shown| shown.unix_ns);
    let surplus = records.len().saturating_sub(arguments.last);
    match print(records.get(surplus..).unwrap_or_default(), arguments.json, out) {
        // Whoever reads a pipe may have seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(true),
        printed => printed?,
    }
    let mut notes = String::new();
    let sealed = records.iter().filter(|shown| shown.unopened.is_some()).count();
    if let Some(error) = records.iter().rev().find_map(|shown| shown.unopened.as_ref()) {
        let _ = writeln!(notes, "note: {sealed} records do not open with this key: {error}");
    }
    for (lane, end) in &lanes {
        if let Some((segment, bytes)) = &end.torn {
            let _ = writeln!(
                notes,
                "note: {bytes} bytes behind the last record of `{lane}` in `{segment}`: a gateway is writing, or a crash \
                 left them"
            );
        }
        if let Some(bad) = &end.bad {
            let _ = writeln!(notes, "BAD: {lane}: {bad}; what is shown of it is before it");
        }
    }
    super::super::say(notes.trim_end());
    Ok(lanes.iter().all(|(_, end)| end.bad.is_none()))
}

/// What a key makes of a record.
type Opened = Result<Vec<u8>, OpeningError>;

/// A record to be shown.
struct Shown<'a> {
    /// Where there is more than one.
    lane: Option<&'a str>,
    sequence: u64,
    unix_ns: i64,
    /// JSON: the record, or what its clear header says.
    text: Vec<u8>,
    /// Why the key that was given does not open it.
    unopened: Option<OpeningError>,
}

impl<'a> Shown<'a> {
    fn new(
        lane: Option<&'a str>,
        sequence: u64,
        envelope: &[u8],
        open: &mut dyn FnMut(u64, &[u8]) -> Option<Opened>,
    ) -> Self {
        let header = Envelope::decode(envelope).map(|envelope| envelope.header);
        let unix_ns = header.map_or(i64::MAX, |header| header.unix_ns);
        let (text, unopened) = match open(sequence, envelope) {
            Some(Ok(record)) => (record, None),
            Some(Err(error)) => (clear(sequence, header), Some(error)),
            None => (clear(sequence, header), None),
        };
        Self { lane, sequence, unix_ns, text, unopened }
    }
}

/// What anyone may read of a record, as JSON.
fn clear(sequence: u64, header: Result<ClearHeader<'_>, EnvelopeError>) -> Vec<u8> {
    let header = match header {
        Ok(header) => header,
        Err(error) => return json!({ "sequence": sequence, "error": error.to_string() }).to_string().into_bytes(),
    };
    let mut time = Vec::new();
    gateway_audit::time::write(&mut time, header.unix_ns);
    let pseudonym = (header.site != Pseudonym::NONE).then(|| ("pseudonym", header.site.to_string()));
    let reference = match (header.kind, header.reference.split_once('-')) {
        (Kind::RegistryChange, Some((number, _))) => Some(("registry_sequence", number.to_owned())),
        _ if header.reference.is_empty() => None,
        _ => Some(("request", header.reference.to_owned())),
    };
    let fixed = [
        ("time", json!(String::from_utf8_lossy(&time))),
        ("sequence", json!(sequence)),
        ("kind", json!(header.kind.label())),
        ("key", json!(header.key.to_string())),
    ];
    let others = pseudonym.into_iter().chain(reference).map(|(name, value)| (name, json!(value)));
    let shown: serde_json::Map<_, _> =
        fixed.into_iter().chain(others).map(|(name, value)| (name.to_owned(), value)).collect();
    Value::from(shown).to_string().into_bytes()
}

fn print(records: &[Shown<'_>], json: bool, out: &mut dyn Write) -> io::Result<()> {
    for shown in records {
        let text = String::from_utf8_lossy(&shown.text);
        if json {
            writeln!(out, "{}", terminal::json(&text))?;
        } else {
            let mut line = match serde_json::from_slice::<Value>(&shown.text) {
                Ok(record) => line(shown.sequence, &record),
                Err(_) => format!("{} (not JSON) {text}", shown.sequence),
            };
            if let Some(lane) = shown.lane {
                let _ = write!(line, " lane={lane}");
            }
            writeln!(out, "{}", terminal::text(&line))?;
        }
    }
    out.flush()
}

/// Time, number, kind; then what the record has of the rest, each by name.
fn line(sequence: u64, record: &Value) -> String {
    let at = |path: &str| path.split('.').try_fold(record, |value, key| value.get(key)).map(plain);
    let or = |first: &str, second: &str| at(first).or_else(|| at(second));
    let mut line = format!("{} {sequence} {}", at("time").unwrap_or_default(), at("kind").unwrap_or_default());
    let (site, device) = (or("connection.site", "site"), or("connection.device", "device"));
    let user = or("user", "connection.user");
    let (device, site) = match (site, device) {
        (None, None) => (None, None),
        // Of a user without a device, the site stands alone.
        (site, None) if user.is_some() => (None, site),
        (site, device) => (Some(format!("{}/{}", site.unwrap_or_default(), device.unwrap_or_default())), None),
    };
    let fields = [
        ("device", device),
        ("site", site),
        ("user", user),
        ("patient", or("patient", "connection.patient")),
        ("method", at("method")),
        ("target", at("target")),
        ("decision", at("decision")),
        ("reason", at("reason")),
        ("status", at("status")),
        ("source", or("connection.source", "source").filter(|_| at("decision").is_none())),
        ("request", at("request")),
        ("end", at("end")),
        ("cause", at("cause")),
        ("registry_sequence", at("registry_sequence").filter(|_| at("change").is_none())),
        ("pseudonym", at("pseudonym")),
        ("actor", at("actor")),
        ("change", at("change")),
        ("event", at("event")),
        ("result", at("result")),
        ("error", at("error")),
        ("count", at("count")),
        ("records", at("records")),
        ("recorded_sequence", at("recorded_sequence")),
        ("store_sequence", at("store_sequence")),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            let quoted = value.is_empty() || value.contains([' ', '"', '=']);
            let value = if quoted { Value::from(value).to_string() } else { value };
            let _ = write!(line, " {name}={value}");
        }
    }
    line
}

/// Text as it is, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_what_the_record_has() {
        let record = serde_json::json!({
            "time": "2026-11-22T01:02:03.000000000Z", "kind": "request", "user": "dr-sato", "method": "GET",
            "connection": { "site": "sakura-clinic", "device": "exam-1", "source": "192.0.2.1:5" },
            "target": "/fhir/Patient?name=a b", "decision": "deny", "reason": "policy-no-permit", "status": 403,
            "request": "00ff",
        });
        assert_eq!(
            line(7, &record),
            "2026-11-22T01:02:03.000000000Z 7 request device=sakura-clinic/exam-1 user=dr-sato method=GET \
             target=\"/fhir/Patient?name=a b\" decision=deny reason=policy-no-permit status=403 request=00ff"
        );
        let opened = serde_json::json!({
            "kind": "connection-opened",
            "connection": { "site": "s", "user": "u", "qualifications": ["Medical Doctor"], "source": "192.0.2.1:5" },
        });
        assert_eq!(line(2, &opened), " 2 connection-opened site=s user=u source=192.0.2.1:5");
        let patient = serde_json::json!({ "kind": "request", "patient": "ab/1", "connection": { "patient": "ab/1" } });
        assert_eq!(line(3, &patient), " 3 request patient=ab/1");
        let refused = serde_json::json!({ "kind": "refusal", "source": "192.0.2.1:5", "target": { "base64": "/w==" } });
        assert_eq!(line(1, &refused), " 1 refusal target=\"{\\\"base64\\\":\\\"/w==\\\"}\" source=192.0.2.1:5");
    }

    #[test]
    fn a_terminal_obeys_nothing_of_it() {
        let hostile = "a\u{1b}[2J\u{9b}\u{202e}\u{2028}\n{\"kind\":\"stop\"}\u{200f}\u{e0041}";
        let record = serde_json::json!({ "kind": "request", "target": hostile }).to_string();
        for json in [true, false] {
            let mut out = Vec::new();
            let text = record.clone().into_bytes();
            print(&[Shown { lane: None, sequence: 1, unix_ns: 0, text, unopened: None }], json, &mut out).unwrap();
            let shown = String::from_utf8(out).unwrap();
            assert_eq!(shown.matches('\n').count(), 1, "{shown:?}");
            assert!(shown.trim_end().chars().all(|c| c == ' ' || c.is_ascii_graphic()), "{shown:?}");
            if json {
                let read: Value = serde_json::from_str(&shown).unwrap();
                assert_eq!(read["target"], hostile);
            }
        }
    }
}
