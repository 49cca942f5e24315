//! Reading what a `[[service]]` says of servers that are slow, sick or gone.

use super::document::quoted;
use super::file_service::{Scheme, parse_backend};
use super::knob::{self, Knob};
use super::table::Table;
use super::{Backend, Balance, HealthCheck, HealthKind, Resilience};

/// Longest text that a health check looks for in a body, and longest path that it asks for, bytes.
const MOST_TEXT: usize = 1024;

pub(super) fn resilience(
    table: &Table<'_>,
    backends: &[(Scheme, Backend)],
    http2: bool,
    is_stream: bool,
) -> Resilience {
    let count = |key: &'static str, knob: &Knob| u32::try_from(table.number(key, knob)).unwrap_or(u32::MAX);
    let choices = [("least-requests", Balance::LeastRequests), ("site", Balance::Site), ("patient", Balance::Patient)];
    Resilience {
        balance: table.choice("balance", Balance::LeastRequests, &choices),
        slow_start: table.millis("slow_start_ms", &knob::SLOW_START_MS),
        max_in_flight: knob::size(table.number("max_in_flight", &knob::MAX_IN_FLIGHT)),
        max_pending: knob::size(table.number("max_pending", &knob::MAX_PENDING)),
        pending_timeout: table.millis("pending_timeout_ms", &knob::PENDING_TIMEOUT_MS),
        retries: count("retries", &knob::RETRIES),
        retry_percent: table.number("retry_percent", &knob::RETRY_PERCENT),
        retry_reserve: table.number("retry_reserve", &knob::RETRY_RESERVE),
        retry_backoff: table.millis("retry_backoff_ms", &knob::RETRY_BACKOFF_MS),
        eject_after: count("eject_after", &knob::EJECT_AFTER),
        eject: table.millis("eject_ms", &knob::EJECT_MS),
        max_ejected_percent: count("max_ejected_percent", &knob::MAX_EJECTED_PERCENT),
        resolve_interval: table.millis("resolve_interval_ms", &knob::RESOLVE_INTERVAL_MS),
        retry_after: table.seconds("retry_after_s", &knob::RETRY_AFTER_S),
        drained: drained(table, backends),
        health: table
            .section("health", |health| health.is_present().then(|| check(health, http2, is_stream)).flatten()),
    }
}

fn drained(table: &Table<'_>, backends: &[(Scheme, Backend)]) -> Vec<String> {
    let mut drained = Vec::new();
    for text in table.texts_optional("drained") {
        match parse_backend(&text) {
            Err(why) => table.refuse(&text, &why),
            Ok(backend) if !backends.contains(&backend) => table.refuse(&text, "it is none of `backends`"),
            Ok((_, backend)) => drained.push(backend.authority),
        }
    }
    drained
}

#[derive(Clone, Copy)]
enum Kind {
    Http,
    Tcp,
    Grpc,
}

fn check(table: &Table<'_>, http2: bool, is_stream: bool) -> Option<HealthCheck> {
    let count = |key: &'static str, knob: &Knob| u32::try_from(table.number(key, knob)).unwrap_or(u32::MAX);
    let chosen = table.choice("kind", Kind::Http, &[("http", Kind::Http), ("tcp", Kind::Tcp), ("grpc", Kind::Grpc)]);
    if is_stream && !matches!(chosen, Kind::Tcp) {
        let own = quoted(&table.key("kind"));
        table.problem("kind", format!("{own} must be `tcp`: the backends speak no HTTP"));
    }
    let path = table.text_or("path", "/");
    let body = table.text_optional("body");
    let service = table.text_optional("grpc_service");
    let status = statuses(table);
    if !path.text.starts_with('/')
        || path.text.len() > MOST_TEXT
        || path.text.parse::<http::uri::PathAndQuery>().is_err()
    {
        table.refuse(&path, "it must be a path, from `/` on");
        return None;
    }
    for text in body.iter().chain(&service).filter(|text| text.text.is_empty() || text.text.len() > MOST_TEXT) {
        table.refuse(text, &format!("it must have 1 to {MOST_TEXT} bytes"));
    }
    let no_use = |key: &'static str, why: &str| {
        table.problem(key, format!("{} has no use: {why}", quoted(&table.key(key))));
    };
    let has = |key: &'static str| table.has(key);
    if !matches!(chosen, Kind::Http) {
        ["path", "body", "status"]
            .into_iter()
            .filter(|key| has(key))
            .for_each(|key| no_use(key, "the check is not of kind `http`"));
    }
    if service.is_some() && !matches!(chosen, Kind::Grpc) {
        no_use("grpc_service", "the check is not of kind `grpc`");
    }
    if matches!(chosen, Kind::Grpc) && !http2 {
        table.problem(
            "kind",
            format!("{} is `grpc`, which takes `http2 = true` for the service", quoted(&table.key("kind"))),
        );
    }
    Some(HealthCheck {
        kind: match chosen {
            Kind::Http => {
                HealthKind::Http { path: path.text.to_owned(), status, body: body.map(|text| text.text.to_owned()) }
            }
            Kind::Tcp => HealthKind::Tcp,
            Kind::Grpc => HealthKind::Grpc { service: service.map(|text| text.text.to_owned()).unwrap_or_default() },
        },
        interval: table.millis("interval_ms", &knob::HEALTH_INTERVAL_MS),
        timeout: table.millis("timeout_ms", &knob::HEALTH_TIMEOUT_MS),
        unhealthy_after: count("unhealthy_after", &knob::UNHEALTHY_AFTER),
        healthy_after: count("healthy_after", &knob::HEALTHY_AFTER),
    })
}

/// Statuses that pass; 200 unless set.
fn statuses(table: &Table<'_>) -> Vec<u16> {
    let Some(numbers) = table.numbers_optional("status") else { return vec![200] };
    let is_final = |status: &u16| (200..=599).contains(status);
    let statuses: Vec<u16> = numbers.iter().filter_map(|number| u16::try_from(*number).ok().filter(is_final)).collect();
    if statuses.is_empty() || statuses.len() < numbers.len() {
        table.problem("status", format!("{} must be a list of statuses from 200 to 599", quoted(&table.key("status"))));
    }
    statuses
}
