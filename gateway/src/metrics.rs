//! Metrics for network operations (R19). Names start with `sekisho_`; label sets are fixed, and no label ever holds a
//! path, a user or a device.

use gateway_audit::record::OutageEvent;
use policy::Refusal;
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Seconds; from a cached answer to a patient who gives up.
const DURATION_BUCKETS: &[f64] =
    &[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Seconds; for what happens inside the gateway.
const SHORT_BUCKETS: &[f64] =
    &[0.000_000_5, 0.000_001, 0.000_005, 0.000_025, 0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0];

/// Every metric of the gateway. One registry per gateway, so that tests can run several in one process.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Requests by listener, route, action, decision, reason and status class.
    pub requests: IntCounterVec,
    /// From a request's head to its answer's head, by listener.
    pub request_duration: HistogramVec,
    /// From the first byte to a backend until its answer's head, by service.
    pub upstream_duration: HistogramVec,
    /// Normalising and judging.
    pub policy_duration: Histogram,
    /// Waiting for a record to be durable.
    pub audit_wait: Histogram,
    /// Handshakes by listener and outcome: `ok` or a refusal's label.
    pub handshakes: IntCounterVec,
    /// Live connections by listener.
    pub connections: IntGaugeVec,
    /// Bytes on connections that carry no HTTP, by listener and direction: `from-clients` or `to-clients`.
    pub stream_bytes: IntCounterVec,
    /// Most connections the listener takes.
    pub connections_limit: IntGaugeVec,
    /// Entries of the registry by kind and status.
    pub registry_entries: IntGaugeVec,
    /// When certificates end, as Unix time, by kind, name and, of several of a listener, identity.
    pub certificate_expiry: GaugeVec,
    /// 1 while a listener shows the certificate that lies in its files, by listener and identity.
    pub server_certificate_current: IntGaugeVec,
    /// Certificates of listeners that were replaced while the gateway ran, or could not be: `replaced` or `kept`.
    pub server_certificate_changes: IntCounterVec,
    /// 1 while an OCSP response is stapled, where one is configured, by listener and identity.
    pub ocsp_stapled: IntGaugeVec,
    /// Bound on the clock's error.
    pub clock_error: Gauge,
    /// 1 while somebody keeps the clock.
    pub clock_synchronised: IntGauge,
    /// What happened to the clock.
    pub clock_events: IntCounterVec,
    /// Sources of time by where they stand.
    pub clock_sources: IntGaugeVec,
    /// Records waiting for the writer.
    pub audit_queue: IntGauge,
    /// Most records that may wait.
    pub audit_queue_limit: IntGauge,
    /// Time of one commit group: write and sync.
    pub audit_commit: Histogram,
    /// Records made durable.
    pub audit_records: IntCounter,
    /// 1 while the log can be written.
    pub audit_available: IntGauge,
    /// 1 once requests passed although the log could not be written; until restart.
    pub audit_alarm: IntGauge,
    /// Seconds for which an answer may precede its record; 0 under the default durability.
    pub audit_window: Gauge,
    /// Entries of the audit log that its newest checkpoint covers.
    pub audit_tree_size: IntGauge,
    /// Durable entries that it does not cover.
    pub audit_tree_lag: IntGauge,
    /// For how long the oldest of those is durable, seconds.
    pub audit_tree_lag_time: Gauge,
    /// 1 while tiles and checkpoints can be written.
    pub audit_tree_available: IntGauge,
    /// Data keys destroyed since the start.
    pub audit_keys_destroyed: IntCounter,
    /// 1 while the last look at what is kept failed.
    pub audit_retention_failing: IntGauge,
    /// 1 while the store answers.
    pub store_available: IntGauge,
    /// 1 if a backend could be reached when a worker last tried, 0 if not; absent before the first attempt.
    pub backend_up: IntGaugeVec,
    /// 1 for what a server is, 0 for what it is not, by service, backend and state.
    pub backend_state: IntGaugeVec,
    /// Since when it is that, as Unix time; absent for what it has been from the start.
    pub backend_state_since: GaugeVec,
    /// Requests under way, by service and backend.
    pub backend_in_flight: IntGaugeVec,
    /// Requests that wait for a place at a server, by service.
    pub backend_pending: IntGaugeVec,
    /// Times that a server was ejected.
    pub backend_ejections: IntCounterVec,
    /// Health checks by service, backend and outcome: `passed` or `failed`.
    pub backend_checks: IntCounterVec,
    /// Requests that were sent once more after this backend did not answer.
    pub backend_retries: IntCounterVec,
    /// Requests that no server took, or that were not sent once more, by service and reason.
    pub backend_refused: IntCounterVec,
    /// Failures of backends by service, backend and reason.
    pub backend_errors: IntCounterVec,
    /// Reloads by outcome: `ok` or `failed`.
    pub reloads: IntCounterVec,
    /// Devices that asked for a certificate, by operation and outcome: `issued`, or why not.
    pub enrolments: IntCounterVec,
    /// Certificates that were asked for by ACME, by listener and outcome: `issued` or `failed`.
    pub acme_orders: IntCounterVec,
    /// 1 while the last order of a listener's certificate has failed; absent otherwise.
    pub acme_failing: IntGaugeVec,
    /// 1 if the token that keeps the issuing CA's key signed when it was last asked; absent where no token keeps it.
    pub ca_token_available: IntGaugeVec,
    /// Version of the snapshot in force.
    pub snapshot_version: IntGauge,
    /// Summaries written instead of single refusals of strangers.
    pub refusal_summaries: IntCounter,
    /// Attempts to log in, by route and outcome.
    pub logins: IntCounterVec,
    /// Fetches of token issuers' keys, by issuer and outcome: `ok` or `failed`.
    pub token_fetches: IntCounterVec,
    /// Logout tokens of OpenID providers, by provider and outcome: `ended`, `replayed`, `refused` or `unavailable`.
    pub oidc_logouts: IntCounterVec,
    /// When token issuers' keys were fetched, as Unix time.
    pub token_keys_fetched: GaugeVec,
    /// 1 while a token issuer's keys are there and believed.
    pub token_keys_available: IntGaugeVec,
    /// Sites that are expected and silent.
    pub sites_silent: IntGauge,
    /// Outage notes, by event.
    pub outage_notes: IntCounterVec,
    /// Tunnels' keys of which the preshared key cannot be opened.
    pub tunnel_keys_unreadable: IntGauge,
    /// Accounts whose failures the login guard remembers.
    pub login_accounts: IntGauge,
    /// Most that it can.
    pub login_accounts_limit: IntGauge,
    /// Sessions that live.
    pub sessions: IntGauge,
    /// Most that can.
    pub sessions_limit: IntGauge,
    /// 1 while what becomes of sessions can be put on stable storage.
    pub session_store_available: IntGauge,
    /// Sessions that another device presented.
    pub sessions_stolen: IntCounter,
    /// Lockouts in force.
    pub lockouts: IntGauge,
    /// 1 while the login guard's state can be put on stable storage.
    pub login_store_available: IntGauge,
    /// Live connections that were ended from outside, by reason.
    pub cuts: IntCounterVec,
    /// Connections and streams that carry another protocol, by listener.
    pub websockets: IntGaugeVec,
    /// Bytes through them, by listener and direction: `received` from clients or `sent` to them.
    pub websocket_bytes: IntCounterVec,
    /// When the next update of CRLs is due, as Unix time, by listener, issuer and kind; of several, the first.
    pub crl_next_update: GaugeVec,
    /// CRLs whose next update is due or nearly, and is not there, by listener and issuer.
    pub crl_due: IntGaugeVec,
    /// Certificates that CRLs name, by listener, issuer and kind.
    pub crl_entries: IntGaugeVec,
    /// Files and distribution points whose newest CRL is missing or not taken, by listener and origin.
    pub crl_failing: IntGaugeVec,
    /// Certificates that OCSP responders are asked about, by listener and what they said.
    pub ocsp_certificates: IntGaugeVec,
    /// Of these, those about which the last question brought no answer, by listener.
    pub ocsp_failing: IntGaugeVec,
    /// Of these, those whose answer ends soon or has ended, and no newer one is there, by listener.
    pub ocsp_due: IntGaugeVec,
    /// Tunnels.
    pub tunnels: crate::tunnels::Meters,
    /// QUIC.
    pub quic: crate::quic::Meters,
    /// Connections whose handshake succeeded, by listener and protocol: `http/1.1`, `h2` or `h3`.
    pub connections_opened: IntCounterVec,
}

/// A metric of the same name exists already.
pub type MetricsError = prometheus::Error;

struct Maker(Registry);

impl Maker {
    fn put<C: prometheus::core::Collector + Clone + 'static>(&self, metric: C) -> Result<C, MetricsError> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricsError> {
        self.put(IntCounterVec::new(opts(name, help), labels)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
        self.put(IntGaugeVec::new(opts(name, help), labels)?)
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, MetricsError> {
        self.put(HistogramVec::new(histogram_opts(name, help, DURATION_BUCKETS), labels)?)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("sekisho_{name}"), help)
}

fn histogram_opts(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(format!("sekisho_{name}"), help).buckets(buckets.to_vec())
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// If two of them have one name.
    pub fn new() -> Result<Self, MetricsError> {
        let make = Maker(Registry::new());
        let info = make.gauges("build_info", "The version that runs.", &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let made = Self {
            requests: make.counters(
                "requests_total",
                "Requests by what was decided and answered.",
                &["listener", "route", "action", "decision", "reason", "status_class"],
            )?,
            request_duration: make.histograms("request_duration_seconds", "Head to head.", &["listener"])?,
            upstream_duration: make.histograms("upstream_duration_seconds", "Waiting for a backend.", &["service"])?,
            policy_duration: make.put(Histogram::with_opts(histogram_opts(
                "policy_duration_seconds",
                "Normalising and judging.",
                SHORT_BUCKETS,
            ))?)?,
            audit_wait: make.put(Histogram::with_opts(histogram_opts(
                "audit_wait_seconds",
                "Waiting for a durable record.",
                SHORT_BUCKETS,
            ))?)?,
            handshakes: make.counters("handshakes_total", "Handshakes by outcome.", &["listener", "outcome"])?,
            connections: make.gauges("connections", "Live connections.", &["listener"])?,
            stream_bytes: make.counters(
                "stream_bytes_total",
                "Bytes on connections without HTTP.",
                &["listener", "direction"],
            )?,
            connections_limit: make.gauges("connections_limit", "Most connections taken.", &["listener"])?,
            registry_entries: make.gauges("registry_entries", "Entries of the registry.", &["kind", "status"])?,
            certificate_expiry: make.put(GaugeVec::new(
                opts("certificate_expiry_timestamp_seconds", "When certificates end."),
                &["kind", "name", "identity"],
            )?)?,
            server_certificate_current: make.gauges(
                "server_certificate_current",
                "1 while what lies in the files is shown.",
                &["listener", "identity"],
            )?,
            server_certificate_changes: make.counters(
                "server_certificate_changes_total",
                "New certificates found in the files.",
                &["listener", "outcome"],
            )?,
            ocsp_stapled: make.gauges(
                "ocsp_stapled",
                "1 while a response is stapled, where one is configured.",
                &["listener", "identity"],
            )?,
            clock_error: make.put(Gauge::with_opts(opts("clock_error_seconds", "Bound on the clock's error."))?)?,
            clock_synchronised: make.put(IntGauge::with_opts(opts("clock_synchronised", "1 while kept."))?)?,
            clock_events: make.counters("clock_events_total", "What happened to the clock.", &["event"])?,
            clock_sources: make.gauges("clock_sources", "Sources of time by where they stand.", &["standing"])?,
            audit_queue: make.put(IntGauge::with_opts(opts("audit_queue_records", "Records waiting."))?)?,
            audit_queue_limit: make.put(IntGauge::with_opts(opts("audit_queue_limit", "Most that may wait."))?)?,
            audit_commit: make.put(Histogram::with_opts(histogram_opts(
                "audit_commit_seconds",
                "One commit group.",
                SHORT_BUCKETS,
            ))?)?,
            audit_records: make.put(IntCounter::with_opts(opts("audit_records_total", "Records made durable."))?)?,
            audit_available: make.put(IntGauge::with_opts(opts("audit_available", "1 while writable."))?)?,
            audit_alarm: make.put(IntGauge::with_opts(opts("audit_alarm", "1 since requests passed unrecorded."))?)?,
            audit_tree_size: make
                .put(IntGauge::with_opts(opts("audit_tree_size_entries", "Entries under a checkpoint."))?)?,
            audit_tree_lag: make
                .put(IntGauge::with_opts(opts("audit_tree_lag_entries", "Durable, under none yet."))?)?,
            audit_tree_lag_time: make
                .put(Gauge::with_opts(opts("audit_tree_lag_seconds", "For how long the oldest of those."))?)?,
            audit_tree_available: make
                .put(IntGauge::with_opts(opts("audit_tree_available", "1 while tiles are written."))?)?,
            audit_keys_destroyed: make
                .put(IntCounter::with_opts(opts("audit_keys_destroyed_total", "Data keys destroyed."))?)?,
            audit_retention_failing: make
                .put(IntGauge::with_opts(opts("audit_retention_failing", "1 if keys are kept for too long."))?)?,
            audit_window: make.put(Gauge::with_opts(opts("audit_window_seconds", "Answers may precede records."))?)?,
            store_available: make.put(IntGauge::with_opts(opts("store_available", "1 while it answers."))?)?,
            backend_up: make.gauges(
                "backend_up",
                "1 if the last attempt reached it, 0 if not.",
                &["service", "backend"],
            )?,
            backend_state: make.gauges("backend_state", "1 for what a server is.", &["service", "backend", "state"])?,
            backend_state_since: make.put(GaugeVec::new(
                opts("backend_state_since_timestamp_seconds", "Since when a server is what it is."),
                &["service", "backend"],
            )?)?,
            backend_in_flight: make.gauges("backend_in_flight", "Requests under way.", &["service", "backend"])?,
            backend_pending: make.gauges("backend_pending", "Requests that wait for a place.", &["service"])?,
            backend_ejections: make.counters(
                "backend_ejections_total",
                "Times that a server was ejected.",
                &["service", "backend"],
            )?,
            backend_checks: make.counters(
                "backend_health_checks_total",
                "Health checks.",
                &["service", "backend", "outcome"],
            )?,
            backend_retries: make.counters(
                "backend_retries_total",
                "Requests that were sent once more after this backend did not answer.",
                &["service", "backend"],
            )?,
            backend_refused: make.counters(
                "backend_refused_total",
                "Requests that no server took, or that were not sent once more.",
                &["service", "reason"],
            )?,
            backend_errors: make.counters(
                "backend_errors_total",
                "Failures of backends.",
                &["service", "backend", "reason"],
            )?,
            reloads: make.counters("reloads_total", "Reloads by outcome.", &["outcome"])?,
            enrolments: make.counters(
                "enrolments_total",
                "Devices that asked for a certificate, by operation and outcome.",
                &["operation", "outcome"],
            )?,
            acme_orders: make.counters(
                "acme_orders_total",
                "Certificates asked for by ACME, by listener and outcome.",
                &["listener", "outcome"],
            )?,
            acme_failing: make.gauges(
                "acme_failing",
                "1 while the last order of a certificate by ACME has failed.",
                &["listener"],
            )?,
            ca_token_available: make.gauges(
                "ca_token_available",
                "1 if the token with the issuing CA's key signs.",
                &[],
            )?,
            snapshot_version: make.put(IntGauge::with_opts(opts("snapshot_version", "The snapshot in force."))?)?,
            refusal_summaries: make
                .put(IntCounter::with_opts(opts("refusal_summaries_total", "Summaries of strangers' refusals."))?)?,
            logins: make.counters("logins_total", "Attempts to log in.", &["route", "outcome"])?,
            token_fetches: make.counters(
                "token_key_fetches_total",
                "Fetches of token issuers' keys.",
                &["issuer", "outcome"],
            )?,
            oidc_logouts: make.counters(
                "oidc_logouts_total",
                "Logout tokens of OpenID providers.",
                &["provider", "outcome"],
            )?,
            token_keys_fetched: make.put(GaugeVec::new(
                opts("token_keys_fetched_timestamp_seconds", "When token issuers' keys were fetched."),
                &["issuer"],
            )?)?,
            token_keys_available: make.gauges(
                "token_keys_available",
                "1 while a token issuer's keys are there and believed.",
                &["issuer"],
            )?,
            sites_silent: make
                .put(IntGauge::with_opts(opts("sites_silent", "Sites that are expected and silent."))?)?,
            outage_notes: make.counters(
                "outage_notes_total",
                "Sites that fell silent, and their returns.",
                &["event"],
            )?,
            tunnel_keys_unreadable: make.put(IntGauge::with_opts(opts(
                "tunnel_keys_unreadable",
                "Tunnels' keys whose preshared key cannot be opened.",
            ))?)?,
            login_accounts: make.put(IntGauge::with_opts(opts("login_accounts", "Accounts that failed lately."))?)?,
            login_accounts_limit: make
                .put(IntGauge::with_opts(opts("login_accounts_limit", "Most accounts remembered."))?)?,
            sessions: make.put(IntGauge::with_opts(opts("sessions", "Sessions that live."))?)?,
            sessions_limit: make.put(IntGauge::with_opts(opts("sessions_limit", "Most sessions that can live."))?)?,
            session_store_available: make
                .put(IntGauge::with_opts(opts("session_store_available", "1 while sessions can be stored."))?)?,
            sessions_stolen: make.put(IntCounter::with_opts(opts(
                "sessions_stolen_total",
                "Sessions that another device presented.",
            ))?)?,
            lockouts: make.put(IntGauge::with_opts(opts("lockouts", "Lockouts in force."))?)?,
            login_store_available: make
                .put(IntGauge::with_opts(opts("login_store_available", "1 while attempts can be stored."))?)?,
            cuts: make.counters("connections_cut_total", "Live connections ended from outside.", &["reason"])?,
            websockets: make.gauges("websockets_open", "Open WebSockets.", &["listener"])?,
            websocket_bytes: make.counters(
                "websocket_bytes_total",
                "Bytes through WebSockets.",
                &["listener", "direction"],
            )?,
            crl_next_update: make.put(GaugeVec::new(
                opts("crl_next_update_timestamp_seconds", "When CRLs are due to be replaced."),
                &["listener", "issuer", "kind"],
            )?)?,
            crl_due: make.gauges("crl_due", "CRLs whose next update is not there.", &["listener", "issuer"])?,
            crl_entries: make.gauges("crl_entries", "Certificates named.", &["listener", "issuer", "kind"])?,
            crl_failing: make.gauges(
                "crl_failing_sources",
                "Sources whose newest CRL is missing or not taken.",
                &["listener", "origin"],
            )?,
            ocsp_certificates: make.gauges(
                "ocsp_certificates",
                "Certificates that responders are asked about.",
                &["listener", "status"],
            )?,
            ocsp_failing: make.gauges(
                "ocsp_failing",
                "Certificates that no responder answers about.",
                &["listener"],
            )?,
            ocsp_due: make.gauges("ocsp_due", "OCSP answers that end and are not renewed.", &["listener"])?,
            tunnels: crate::tunnels::Meters::new(&make.0)?,
            quic: crate::quic::Meters::new(&make.0)?,
            connections_opened: make.counters(
                "connections_opened_total",
                "Connections of peers that were let in.",
                &["listener", "protocol"],
            )?,
            registry: make.0,
        };
        // What appears with its first count has not risen for `increase()`, and an alert would miss that one.
        for outcome in ["ok", "failed"] {
            made.reloads.with_label_values(&[outcome]);
        }
        for event in [OutageEvent::Silent, OutageEvent::Seen] {
            made.outage_notes.with_label_values(&[event.label()]);
        }
        for operation in ["simpleenroll", "simplereenroll"] {
            made.enrolments.with_label_values(&[operation, Refusal::EnrolmentUnavailable.label()]);
        }
        Ok(made)
    }

    /// The page that a scrape gets.
    #[must_use]
    pub fn page(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(32 * 1024);
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut page) {
            tracing::error!(%error, "cannot write the metrics page");
        }
        page
    }

    /// Live connections of a listener.
    #[must_use]
    pub fn connections(&self, listener: &str) -> IntGauge {
        self.connections.with_label_values(&[listener])
    }

    /// Counts a handshake: `ok` or the refusal's label.
    pub fn handshake(&self, listener: &str, outcome: &str) {
        self.handshakes.with_label_values(&[listener, outcome]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_the_build_and_what_was_counted() {
        let metrics = Metrics::new().unwrap();
        metrics.handshake("clinics", "ok");
        let page = String::from_utf8(metrics.page()).unwrap();
        assert!(page.contains("sekisho_handshakes_total{listener=\"clinics\",outcome=\"ok\"} 1"), "{page}");
        assert!(page.contains("sekisho_build_info{version=\""), "{page}");
        // Alerts ask these for their increase.
        assert!(page.contains("sekisho_reloads_total{outcome=\"failed\"} 0"), "{page}");
        let unavailable = "sekisho_enrolments_total{operation=\"simplereenroll\",outcome=\"enrolment-unavailable\"} 0";
        assert!(page.contains(unavailable), "{page}");
    }
}
