//! `--check`: asks everything that the example shows, as a client over real sockets, and compares.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Request};
use http_body_util::Full;
use rustls::AlertDescription;
use serde_json::Value;

use super::client::{Client, Seen, Version, get_plain};
use super::layout::Layout;
use super::scene::{Expected, SCENES, Scene};
use super::{log, login, show, tunnel};

/// How long a record or a count may take to be seen. Records of refused handshakes are not waited for by anyone.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// Where backends find the keys that verify `Sekisho-Identity`.
const JWKS: &str = "/.well-known/sekisho/jwks.json";

/// The header that ties an answer to its record.
const REQUEST_ID: &str = "x-request-id";

/// One comparison.
pub(super) struct Line {
    title: String,
    expected: String,
    seen: String,
    agrees: bool,
}

/// Runs every scene, then looks for its record, its count and the keys; prints a line for each. Whether all agreed.
pub(super) async fn check(layout: &Layout, out: &mut dyn Write) -> io::Result<bool> {
    let mut report = Report { out, asked: 0, agreed: 0 };
    let client = match Client::new(layout.addresses().listen, &layout.ca_certificate()) {
        Ok(client) => client,
        Err(why) => {
            report.line(Line::of("development ca", "a certificate", why, false))?;
            return Ok(false);
        }
    };
    let before = log::last_sequence(&layout.audit());
    let mut traces = Vec::new();
    for scene in SCENES {
        let (line, trace) = play(layout, &client, scene, Version::H1).await;
        report.line(line)?;
        traces.extend(trace);
    }
    if let Some(scene) = SCENES.first() {
        let (line, trace) = play(layout, &client, scene, Version::H2).await;
        report.line(line)?;
        traces.extend(trace);
    }
    let (lines, of_logins) = login::play(layout, &client).await;
    for line in lines {
        report.line(line)?;
    }
    traces.extend(of_logins);
    if layout.addresses().tunnels.is_some() {
        let (lines, of_tunnels) = tunnel::play(layout).await;
        for line in lines {
            report.line(line)?;
        }
        traces.extend(of_tunnels);
    }
    report.line(recorded(layout, before, &traces).await)?;
    report.line(counted(layout, &traces).await)?;
    report.line(keys(layout).await)?;
    report.end()
}

struct Report<'a> {
    out: &'a mut dyn Write,
    asked: usize,
    agreed: usize,
}

impl Report<'_> {
    fn line(&mut self, line: Line) -> io::Result<()> {
        let Line { title, expected, seen, agrees } = line;
        let mark = if agrees { "ok" } else { "FAIL" };
        self.asked += 1;
        self.agreed += usize::from(agrees);
        writeln!(self.out, "{mark:<5} {title:<24} expected {expected:<24} seen {seen}")?;
        self.out.flush()
    }

    fn end(self) -> io::Result<bool> {
        let all = self.agreed == self.asked;
        let mark = if all { "ok" } else { "FAIL" };
        writeln!(self.out, "{mark:<5} {} of {} as expected", self.agreed, self.asked)?;
        Ok(all)
    }
}

impl Line {
    pub(super) fn of(title: &str, expected: impl Into<String>, seen: impl Into<String>, agrees: bool) -> Self {
        Self { title: title.to_owned(), expected: expected.into(), seen: seen.into(), agrees }
    }
}

async fn play(layout: &Layout, client: &Client, scene: &Scene, version: Version) -> (Line, Option<log::Trace>) {
    let identity = scene.client.map(|(site, device)| layout.client(site, device));
    let seen = match (scene.expected, request(layout, scene, version)) {
        (Expected::Alert(_), _) => client.knock(identity.as_ref()).await,
        (_, Ok(request)) => client.ask(identity.as_ref(), version, request).await,
        (_, Err(error)) => Seen::Failed(error.to_string()),
    };
    let trace = trace(scene, &seen);
    let title = match version {
        Version::H1 => scene.title.to_owned(),
        Version::H2 => format!("{}, HTTP/2", scene.title),
    };
    let line = Line {
        title,
        expected: expectation(scene.expected),
        agrees: agrees(scene.expected, &seen) && (trace.is_some()),
        seen: sight(&seen, trace.is_some()),
    };
    (line, trace)
}

fn request(layout: &Layout, scene: &Scene, version: Version) -> http::Result<Request<Full<Bytes>>> {
    let base = show::base(layout.addresses().listen, "https");
    let mut builder = Request::builder().method(scene.method);
    builder = match version {
        Version::H1 => {
            let authority = base.strip_prefix("https://").unwrap_or_default().to_owned();
            builder.uri(scene.target).header(HOST, authority)
        }
        Version::H2 => builder.uri(format!("{base}{}", scene.target)),
    };
    match scene.body {
        Some(body) => builder.header(CONTENT_TYPE, "application/fhir+json").body(Full::from(body)),
        None => builder.body(Full::default()),
    }
}

/// What the audit log must know about a scene; none where an answer names no request.
fn trace(scene: &Scene, seen: &Seen) -> Option<log::Trace> {
    match (scene.expected, seen) {
        (Expected::Alert(reason), _) => Some(log::Trace::Refusal(reason)),
        (_, Seen::Answer { headers, .. }) => text(headers, REQUEST_ID).map(|id| log::Trace::Request(id.to_owned())),
        (_, Seen::Alert(_) | Seen::Failed(_)) => None,
    }
}

fn expectation(expected: Expected) -> String {
    match expected {
        Expected::Answer(status) => status.to_string(),
        Expected::Denied(reason) => format!("403 {reason}"),
        Expected::Alert(_) => "TLS alert".to_owned(),
    }
}

fn agrees(expected: Expected, seen: &Seen) -> bool {
    match (expected, seen) {
        (Expected::Answer(expected), Seen::Answer { status, headers, .. }) => {
            expected == *status && is_media_type(headers, "application/fhir+json")
        }
        (Expected::Denied(reason), Seen::Answer { status, headers, body }) => {
            let problem = is_media_type(headers, "application/problem+json");
            *status == 403 && problem && problem_label(body).as_deref() == Some(reason.label())
        }
        (Expected::Alert(_), Seen::Alert(_)) => true,
        (Expected::Answer(_) | Expected::Denied(_) | Expected::Alert(_), _) => false,
    }
}

pub(super) fn sight(seen: &Seen, traced: bool) -> String {
    match seen {
        Seen::Answer { .. } if !traced => format!("an answer without {REQUEST_ID}"),
        Seen::Answer { status, headers, body } if is_media_type(headers, "application/problem+json") => {
            format!("{status} {}", problem_label(body).unwrap_or_else(|| "of no type".to_owned()))
        }
        Seen::Answer { status, .. } => status.to_string(),
        Seen::Alert(alert) => format!("TLS alert {}", alert_name(*alert)),
        Seen::Failed(why) => why.clone(),
    }
}

/// The last part of a problem's `type` (RFC 9457).
pub(super) fn problem_label(body: &[u8]) -> Option<String> {
    let problem: Value = serde_json::from_slice(body).ok()?;
    problem.get("type")?.as_str()?.rsplit(['/', ':', '#']).next().map(str::to_owned)
}

fn is_media_type(headers: &HeaderMap, wanted: &str) -> bool {
    text(headers, CONTENT_TYPE.as_str()).is_some_and(|value| value.split(';').next().unwrap_or_default() == wanted)
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// `CertificateRequired` as RFC 8446 writes it: `certificate_required`.
fn alert_name(alert: AlertDescription) -> String {
    let mut name = String::new();
    let mut in_word = false;
    for c in format!("{alert:?}").chars() {
        if c.is_ascii_uppercase() && in_word {
            name.push('_');
        }
        in_word = !c.is_ascii_uppercase();
        name.push(c.to_ascii_lowercase());
    }
    name
}

async fn recorded(layout: &Layout, after: Option<u64>, traces: &[log::Trace]) -> Line {
    let wanted = format!("{} records", traces.len());
    let opener = layout.opener().map(std::cell::RefCell::new);
    let seen = patiently(async || {
        let opener = opener.as_ref().map_err(Clone::clone)?;
        let open = |sequence, envelope: &[u8]| opener.borrow_mut().open(None, sequence, envelope).ok();
        let records = log::records(&layout.audit(), after, open)?;
        let missing: Vec<_> = traces.iter().filter(|trace| !records.hold(trace)).map(ToString::to_string).collect();
        if missing.is_empty() && !traces.is_empty() {
            Ok(wanted.clone())
        } else {
            Err(format!("nothing of {}", missing.join(", ")))
        }
    })
    .await;
    Line::result("audit log", wanted.clone(), seen)
}

async fn counted(layout: &Layout, traces: &[log::Trace]) -> Line {
    let asked = traces.iter().filter(|trace| matches!(trace, log::Trace::Request(_))).count();
    let seen = patiently(async || {
        let Seen::Answer { status: 200, body, .. } = get_plain(layout.addresses().admin, "/metrics").await else {
            return Err("no metrics".to_owned());
        };
        let count = total(&String::from_utf8_lossy(&body), "sekisho_requests_total");
        if asked > 0 && count >= asked as f64 {
            Ok(format!("{count} requests"))
        } else {
            Err(format!("{count} requests"))
        }
    })
    .await;
    Line::result("metrics", format!("{asked} requests or more"), seen)
}

async fn keys(layout: &Layout) -> Line {
    let seen = match get_plain(layout.addresses().admin, JWKS).await {
        Seen::Answer { status: 200, body, .. } => {
            let set: Value = serde_json::from_slice(&body).unwrap_or_default();
            let keys = set.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
            let good = keys.iter().any(|key| key.get("crv").and_then(Value::as_str) == Some("P-256"));
            let private = keys.iter().any(|key| key.get("d").is_some());
            match (good, private) {
                (true, false) => Ok("a P-256 key".to_owned()),
                (_, true) => Err("a private key".to_owned()),
                (false, false) => Err("no P-256 key".to_owned()),
            }
        }
        other @ (Seen::Answer { .. } | Seen::Alert(_) | Seen::Failed(_)) => Err(sight(&other, true)),
    };
    Line::result("identity keys", "a P-256 key".to_owned(), seen)
}

impl Line {
    fn result(title: &str, expected: String, seen: Result<String, String>) -> Self {
        let agrees = seen.is_ok();
        Self { title: title.to_owned(), expected, seen: seen.unwrap_or_else(|why| why), agrees }
    }
}

/// Tries until it succeeds or patience ends.
async fn patiently<T>(mut attempt: impl AsyncFnMut() -> Result<T, String>) -> Result<T, String> {
    let begun = tokio::time::Instant::now();
    loop {
        match attempt().await {
            Ok(seen) => return Ok(seen),
            Err(why) if begun.elapsed() >= PATIENCE => return Err(why),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// The sum of a counter over all its labels, in Prometheus' text format.
fn total(text: &str, name: &str) -> f64 {
    let samples = text.lines().filter_map(|line| line.strip_prefix(name));
    let values = samples.filter(|rest| rest.starts_with(['{', ' '])).filter_map(|rest| rest.rsplit(' ').next());
    values.filter_map(|value| value.parse::<f64>().ok()).sum()
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
