//! The metrics of requests, found once for a run of like requests rather than once for each.

use std::cell::RefCell;

use gateway_audit::record::Decision;
use policy::{Action, Refusal, RouteName, ServiceName};
use prometheus::{Histogram, IntCounter};

use crate::listen::Connection;
use crate::metrics::Metrics;

/// What tells one counter of requests from another, beside the listener.
#[derive(PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) route: Option<RouteName>,
    pub(super) action: Option<Action>,
    pub(super) decision: Decision,
    pub(super) refusal: Option<Refusal>,
    /// Hundreds of the status.
    pub(super) class: u16,
}

impl Counted {
    fn counter(&self, metrics: &Metrics, listener: &str) -> IntCounter {
        metrics.requests.with_label_values(&[
            listener,
            self.route.as_ref().map_or("none", RouteName::as_str),
            self.action.map_or("none", Action::label),
            match self.decision {
                Decision::Permit => "permit",
                Decision::Deny => "deny",
                Decision::Refuse => "refuse",
            },
            self.refusal.map_or("none", Refusal::label),
            match self.class {
                1 => "1xx",
                2 => "2xx",
                3 => "3xx",
                4 => "4xx",
                5 => "5xx",
                _ => "other",
            },
        ])
    }
}

struct Requests {
    counted: Counted,
    counter: IntCounter,
    duration: Histogram,
}

/// The metrics that a connection's last request had; the next one mostly has the same.
#[derive(Default)]
pub struct Meters {
    requests: RefCell<Option<Requests>>,
    upstream: RefCell<Option<(ServiceName, Histogram)>>,
}

impl Meters {
    /// Counts a request and its seconds.
    pub(super) fn count(&self, connection: &Connection, counted: Counted, seconds: f64) {
        let mut known = self.requests.borrow_mut();
        let found = match known.take() {
            Some(found) if found.counted == counted => found,
            _ => {
                let (metrics, listener) = (&connection.worker.metrics, connection.listener.name.as_str());
                let counter = counted.counter(metrics, listener);
                Requests { counted, counter, duration: metrics.request_duration.with_label_values(&[listener]) }
            }
        };
        let found = known.insert(found);
        found.counter.inc();
        found.duration.observe(seconds);
    }

    /// Counts the seconds that a service's backend took.
    pub(super) fn waited(&self, metrics: &Metrics, service: &ServiceName, seconds: f64) {
        let mut known = self.upstream.borrow_mut();
        let found = match known.take() {
            Some(found) if found.0 == *service => found,
            _ => (service.clone(), metrics.upstream_duration.with_label_values(&[service.as_str()])),
        };
        known.insert(found).1.observe(seconds);
    }
}
