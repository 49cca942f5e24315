//! The services' servers in metrics and for `sekisho backend list`.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use prometheus::IntCounter;
use serde_json::json;

use crate::metrics::Metrics;
use crate::upstream::{Refused, Report, Sight, State};
use crate::worker::Shared;

/// What all workers counted of one server.
#[derive(Debug, Default)]
struct Counted {
    seen: Option<Sight>,
    in_flight: u64,
    retried: u64,
    errors: BTreeMap<&'static str, u64>,
}

type Key = (String, String);

/// Of servers that the configuration no longer has, nothing.
fn counted(shared: &Shared) -> BTreeMap<Key, Counted> {
    let counters = shared.backend_counters.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all: BTreeMap<Key, Counted> = BTreeMap::new();
    for backend in counters.iter().flatten() {
        let counted = all.entry((backend.service.to_string(), backend.backend.to_string())).or_default();
        counted.seen = counted.seen.max(backend.last_seen());
        counted.in_flight += backend.in_flight();
        counted.retried += backend.retried();
        for (reason, count) in backend.errors() {
            *counted.errors.entry(reason).or_default() += count;
        }
    }
    all
}

/// Counters of workers and of configurations come and go; a metric only grows.
fn raise(counter: &IntCounter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

/// Brings the metrics up to date.
pub(super) fn refresh(shared: &Shared) {
    let metrics = &shared.metrics;
    // A backend is up if it was when a worker last tried, whichever it was. Of one that nobody has tried yet nothing is said.
    metrics.backend_up.reset();
    metrics.backend_in_flight.reset();
    for ((service, backend), counted) in counted(shared) {
        let labels = [service.as_str(), backend.as_str()];
        if let Some(Sight { up, .. }) = counted.seen {
            metrics.backend_up.with_label_values(&labels).set(i64::from(up));
        }
        let in_flight = i64::try_from(counted.in_flight).unwrap_or(i64::MAX);
        metrics.backend_in_flight.with_label_values(&labels).set(in_flight);
        raise(&metrics.backend_retries.with_label_values(&labels), counted.retried);
        for (reason, count) in counted.errors {
            raise(&metrics.backend_errors.with_label_values(&[&*service, &*backend, reason]), count);
        }
    }
    states(metrics, &shared.fleet.report());
    metrics.backend_pending.reset();
    for (service, refused, pending) in shared.fleet.refused() {
        let pending = i64::try_from(pending).unwrap_or(i64::MAX);
        metrics.backend_pending.with_label_values(&[service.as_str()]).set(pending);
        for (reason, count) in Refused::ALL.iter().zip(refused) {
            raise(&metrics.backend_refused.with_label_values(&[service.as_str(), reason.label()]), count);
        }
    }
}

fn states(metrics: &Metrics, reports: &[Report]) {
    metrics.backend_state.reset();
    metrics.backend_state_since.reset();
    let now = SystemTime::now();
    for report in reports {
        let labels = [report.service.as_str(), &*report.server];
        for state in State::ALL {
            let is = i64::from(state == report.state);
            metrics.backend_state.with_label_values(&[labels[0], labels[1], state.label()]).set(is);
        }
        let since = report.for_ms.and_then(|ms| now.checked_sub(Duration::from_millis(ms)));
        if let Some(since) = since.and_then(|since| since.duration_since(SystemTime::UNIX_EPOCH).ok()) {
            metrics.backend_state_since.with_label_values(&labels).set(since.as_secs_f64());
        }
        raise(&metrics.backend_ejections.with_label_values(&labels), report.ejections);
        for (outcome, count) in [("passed", report.checks.0), ("failed", report.checks.1)] {
            raise(&metrics.backend_checks.with_label_values(&[labels[0], labels[1], outcome]), count);
        }
    }
}

/// The page for `sekisho backend list`.
pub(super) fn page(shared: &Shared) -> String {
    let counted = counted(shared);
    let now = Timestamp::now();
    let ago = |ms: u64| now.checked_sub(Duration::from_millis(ms)).ok().map(|time| format!("{time:.3}"));
    let servers = shared.fleet.report().into_iter().map(|report| {
        let counted = counted.get(&(report.service.to_string(), report.server.to_string()));
        json!({
            "service": report.service.as_str(),
            "backend": &*report.server,
            "state": report.state.label(),
            "since": report.for_ms.and_then(ago),
            "ends_in_ms": report.ends_in_ms,
            "reason": report.reason,
            "reachable": counted.and_then(|counted| counted.seen).map(|sight| sight.up),
            "in_flight": counted.map_or(0, |counted| counted.in_flight),
            "ejections": report.ejections,
            "checks_passed": report.checks.0,
            "checks_failed": report.checks.1,
            "last_failure": report.last_failure.as_ref().map(|(why, ms)| json!({ "reason": why, "at": ago(*ms) })),
            "addresses": report.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    });
    let mut page = json!({ "backends": servers.collect::<Vec<_>>() }).to_string();
    page.push('\n');
    page
}
