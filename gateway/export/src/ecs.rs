//! The Elastic Common Schema (ECS 8.11). What it has no field for is below `sekisho`, which is the whole record as it was
//! written.

use serde_json::{Map, Value, json};

use crate::code::{Action, Outcome, SECURITY_ALERT, USER_AUTHENTICATION};
use crate::event::Event;

/// One document, to be written as one line. `event.id` is the same whenever the record is exported.
#[must_use]
pub fn document(event: &Event) -> Value {
    let mut out = Map::new();
    out.insert("@timestamp".to_owned(), json!(event.time));
    out.insert("ecs".to_owned(), json!({ "version": "8.11.0" }));
    out.insert("event".to_owned(), event_of(event));
    let mut put = |name: &str, fields: Map<String, Value>| {
        if !fields.is_empty() {
            out.insert(name.to_owned(), Value::from(fields));
        }
    };
    let mut observer = fields([("vendor", json!("Sekisho")), ("type", json!("proxy"))]);
    observer.extend(event.node.iter().map(|node| ("name".to_owned(), json!(node))));
    put("observer", observer);
    put("organization", event.site.iter().map(|site| ("name".to_owned(), json!(site))).collect());
    if let Some(user) = &event.user {
        put("user", fields([("name", json!(user.name)), ("roles", json!(user.roles))]));
        put("related", fields([("user", json!([user.name]))]));
    }
    if let Some(client) = &event.client {
        let mut source = fields([("address", json!(client.name))]);
        let ip = client.address.as_ref().filter(|address| address.parse::<std::net::IpAddr>().is_ok());
        source.extend(ip.map(|ip| ("ip".to_owned(), json!(ip))));
        source.extend(client.port.map(|port| ("port".to_owned(), json!(port))));
        put("source", source);
    }
    put("destination", event.backend.iter().map(|backend| ("address".to_owned(), json!(backend))).collect());
    let mut http = Map::new();
    let mut request = Map::new();
    request.extend(event.request.iter().map(|id| ("id".to_owned(), json!(id))));
    if let Some(target) = &event.target {
        request.insert("method".to_owned(), json!(target.method));
        put("url", fields([("original", json!(target.shown))]));
    }
    if !request.is_empty() {
        http.insert("request".to_owned(), Value::from(request));
    }
    if let Some(status) = event.record.as_ref().and_then(|record| record.get("status")) {
        http.insert("response".to_owned(), json!({ "status_code": status }));
    }
    put("http", http);
    put("tls", tls(event));
    let mut ours = event.record.clone().unwrap_or_default();
    ours.insert("origin".to_owned(), json!(event.place.origin));
    if event.record.is_none() {
        ours.insert("sequence".to_owned(), json!(event.place.sequence));
        ours.insert("kind".to_owned(), json!(event.kind.label()));
        ours.insert("opened".to_owned(), json!(false));
        ours.extend(event.details.iter().map(|(path, value)| (path.clone(), json!(value))));
    }
    put("sekisho", ours);
    Value::from(out)
}

fn event_of(event: &Event) -> Value {
    let of_authentication = event.id == USER_AUTHENTICATION;
    let (category, mut kinds) = match event.id {
        id if id == USER_AUTHENTICATION => ("authentication", vec![]),
        id if id == SECURITY_ALERT => ("configuration", vec![]),
        _ => ("web", vec!["access"]),
    };
    kinds.push(match event.action {
        Action::Create => "creation",
        Action::Update => "change",
        Action::Delete => "deletion",
        Action::Read | Action::Execute => "info",
    });
    if event.outcome == Outcome::Serious && !of_authentication && category == "web" {
        kinds.push("denied");
    }
    if of_authentication {
        kinds = vec![if event.kind == gateway_audit::header::Kind::ConnectionOpened { "start" } else { "end" }];
    }
    let mut out = fields([
        ("id", json!(event.place.id())),
        ("kind", json!("event")),
        ("module", json!("sekisho")),
        ("dataset", json!("sekisho.audit")),
        ("action", json!(event.kind.label())),
        ("category", json!([category])),
        ("type", json!(kinds)),
        ("outcome", json!(if event.outcome == Outcome::Success { "success" } else { "failure" })),
        ("sequence", json!(event.place.sequence)),
    ]);
    out.extend(event.outcome_text.iter().map(|text| ("reason".to_owned(), json!(text))));
    Value::from(out)
}

fn tls(event: &Event) -> Map<String, Value> {
    let detail = |path: &str| event.details.iter().find(|(known, _)| known == path).map(|(_, value)| value.as_str());
    let mut out = Map::new();
    for (name, path) in [
        ("version", "connection.tls.version"),
        ("cipher", "connection.tls.suite"),
        ("curve", "connection.tls.group"),
        ("next_protocol", "connection.tls.alpn"),
    ] {
        out.extend(detail(path).map(|value| (name.to_owned(), json!(value))));
    }
    if let Some(sha256) = detail("connection.certificate.sha256").or_else(|| detail("certificate.sha256")) {
        out.insert("client".to_owned(), json!({ "hash": { "sha256": sha256.to_uppercase() } }));
    }
    out
}

fn fields<const N: usize>(of: [(&str, Value); N]) -> Map<String, Value> {
    of.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
