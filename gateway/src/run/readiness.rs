//! Whether the gateway takes requests, and the metrics that are read rather than counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::identities;
use super::servers;
use super::threads::Roster;
use crate::acme::Faults;
use crate::admin::{Condition, Health, OperatorsTls};
use crate::audit::{Audit as Log, State, TreeStatus};
use crate::clock::{Clock as _, KernelClock};
use crate::enrolment;
use crate::metrics::Metrics;
use crate::registry::watch::WatchState;
use crate::revocation::{AnswersReport, unix_seconds};
use crate::snapshot::{CertificateEnd, Snapshot, Snapshots};
use crate::worker::Shared;

/// Where the answers come from.
#[derive(Clone)]
pub(super) struct Sources {
    pub(super) shared: Shared,
    pub(super) log: Arc<Log>,
    pub(super) store: watch::Receiver<WatchState>,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) roster: Arc<Roster>,
    /// The admin listener's.
    pub(super) admin_tls: Option<Arc<OperatorsTls>>,
    pub(super) enrolment: Option<enrolment::Handle>,
    /// Why data keys are kept for longer than they are to be.
    pub(super) retention: super::retention::Fault,
    /// Why certificates are not had by ACME.
    pub(super) acme: Faults,
}

impl Sources {
    pub(super) fn health(&self) -> Health {
        let (sources, warning) = (self.clone(), self.clone());
        Health { readiness: Box::new(move || sources.conditions()), warnings: Box::new(move || warning.warnings()) }
    }

    fn conditions(&self) -> Vec<Condition> {
        let snapshot = self.shared.snapshots.load();
        let store = self.store.borrow().clone();
        let draining = self.draining.load(Ordering::Relaxed);
        vec![
            ("draining", if draining { Err("shutting down".to_owned()) } else { Ok(()) }),
            ("workers", if draining { Ok(()) } else { self.roster.condition() }),
            ("certificates", identities::condition(&snapshot)),
            ("audit", audit_condition(&self.log)),
            ("audit-tree", tree_condition(&self.log.status().tree, snapshot.config.audit.tree_lag)),
            ("clock", clock_condition(&self.shared.clock, &snapshot.config.clock)),
            // The registry in force goes on deciding without the store; losing it must not stop care.
            (
                "registry",
                store.record_error.map_or(Ok(()), |error| Err(format!("changes cannot be recorded: {error}"))),
            ),
        ]
    }

    /// What keeps no request out, and what somebody should see to in time.
    fn warnings(&self) -> Vec<String> {
        let snapshot = self.shared.snapshots.load();
        let mut all = identities::warnings(&snapshot, &self.own_certificates(), self.shared.clock.now().unix_ns);
        all.extend(tree_warning(&self.log.status().tree));
        all.extend(self.retention.borrow().as_ref().map(|error| format!("audit-retention: {error}")));
        all.extend(self.admin_tls.as_ref().and_then(|tls| tls.warning()));
        let fault = self.enrolment.as_ref().and_then(enrolment::Handle::token_fault).flatten();
        let told = |(listener, error): (&String, &String)| format!("acme-failing: listener `{listener}`: {error}");
        all.extend(self.acme.load().iter().map(told));
        all.extend(fault.map(|error| format!("ca-token: no device gets a certificate: {error}")));
        all
    }

    /// Brings those metrics up to date that nobody counts.
    pub(super) fn refresh(&self) {
        let metrics = &self.shared.metrics;
        let reading = self.shared.clock.now();
        // 16 s is where the kernel stops claiming to know.
        metrics.clock_error.set(reading.error_ns.map_or(16.0, |ns| std::time::Duration::from_nanos(ns).as_secs_f64()));
        metrics.clock_synchronised.set(i64::from(reading.synchronised));
        let snapshot = self.shared.snapshots.load();
        let status = self.log.status();
        metrics.audit_queue.set(i64::try_from(status.queue_records).unwrap_or(i64::MAX));
        let queue_limit = snapshot.config.audit.queue_records.saturating_mul(self.shared.workers);
        metrics.audit_queue_limit.set(i64::try_from(queue_limit).unwrap_or(i64::MAX));
        metrics.audit_window.set(status.window.as_secs_f64());
        metrics.audit_tree_size.set(i64::try_from(status.tree.size).unwrap_or(i64::MAX));
        metrics.audit_tree_lag.set(i64::try_from(status.tree.lag_entries).unwrap_or(i64::MAX));
        metrics.audit_tree_lag_time.set(status.tree.lag.as_secs_f64());
        metrics.audit_tree_available.set(i64::from(status.tree.error.is_none()));
        metrics.audit_available.set(i64::from(status.state == State::Serving));
        metrics.audit_alarm.set(i64::from(status.alarm));
        metrics.store_available.set(i64::from(self.store.borrow().store_error.is_none()));
        metrics.token_keys_available.reset();
        metrics.token_keys_fetched.reset();
        for issuer in snapshot.token_issuers.iter().chain(snapshot.oidc.iter().map(|provider| &provider.issuer)) {
            let Some((fetched, available)) = issuer.status() else { continue };
            let name = &*issuer.config.rules.name;
            metrics.token_keys_available.with_label_values(&[name]).set(i64::from(available));
            metrics.token_keys_fetched.with_label_values(&[name]).set(fetched as f64);
        }
        let logins = self.shared.logins.status(reading.monotonic_ns);
        let sessions = self.shared.sessions.status();
        metrics.sessions.set(i64::try_from(sessions.live).unwrap_or(i64::MAX));
        metrics.sessions_limit.set(i64::try_from(sessions.most).unwrap_or(i64::MAX));
        metrics.session_store_available.set(i64::from(sessions.is_stored));
        metrics.login_accounts.set(i64::try_from(logins.accounts).unwrap_or(i64::MAX));
        metrics.login_accounts_limit.set(i64::try_from(logins.most_accounts).unwrap_or(i64::MAX));
        metrics.lockouts.set(i64::try_from(logins.lockouts).unwrap_or(i64::MAX));
        metrics.login_store_available.set(i64::from(logins.is_stored));
        metrics.snapshot_version.set(i64::try_from(snapshot.version).unwrap_or(i64::MAX));
        registry_entries(metrics, &self.shared.snapshots);
        for door in &snapshot.doors {
            let name = door.listener.name.as_str();
            let workers = self.shared.workers;
            let limit = door.listener.limits.connections.saturating_mul(workers);
            metrics.connections_limit.with_label_values(&[name]).set(i64::try_from(limit).unwrap_or(i64::MAX));
        }
        identities::refresh(metrics, &snapshot, &self.own_certificates());
        metrics.acme_failing.reset();
        for listener in self.acme.load().keys() {
            metrics.acme_failing.with_label_values(&[listener.as_str()]).set(1);
        }
        if let Some(fault) = self.enrolment.as_ref().and_then(enrolment::Handle::token_fault) {
            metrics.ca_token_available.with_label_values::<&str>(&[]).set(i64::from(fault.is_none()));
        }
        self.revocation(&snapshot);
        servers::refresh(&self.shared);
    }

    /// The services' servers, as JSON.
    pub(super) fn backends_page(&self) -> String {
        servers::page(&self.shared)
    }

    fn revocation(&self, snapshot: &Snapshot) {
        let metrics = &self.shared.metrics;
        for gauges in [
            &metrics.crl_due,
            &metrics.crl_entries,
            &metrics.crl_failing,
            &metrics.ocsp_certificates,
            &metrics.ocsp_failing,
            &metrics.ocsp_due,
        ] {
            gauges.reset();
        }
        metrics.crl_next_update.reset();
        let now = unix_seconds();
        for door in snapshot.doors.iter().filter(|door| door.tls.lists().is_on()) {
            let listener = door.listener.name.as_str();
            if let Some(report) = door.tls.lists().answers_report(now) {
                answers(metrics, listener, report);
            }
            let mut first: BTreeMap<(String, &str), i64> = BTreeMap::new();
            for report in door.tls.lists().report(now) {
                let kind = if report.delta { "delta" } else { "complete" };
                metrics.crl_due.with_label_values(&[listener, &report.issuer]).add(i64::from(report.due));
                let entries = i64::try_from(report.entries).unwrap_or(i64::MAX);
                metrics.crl_entries.with_label_values(&[listener, &report.issuer, kind]).add(entries);
                let next = first.entry((report.issuer, kind)).or_insert(report.next_update);
                *next = report.next_update.min(*next);
            }
            for ((issuer, kind), next) in first {
                #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit a double exactly")]
                metrics.crl_next_update.with_label_values(&[listener, &issuer, kind]).set(next as f64);
            }
            let (files, points) = door.tls.lists().failing();
            for (origin, count) in [("file", files), ("fetch", points)] {
                let gauge = metrics.crl_failing.with_label_values(&[listener, origin]);
                gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
    }

    /// Ends of certificates that no snapshot holds: the admin listener's and the enrolment's.
    fn own_certificates(&self) -> Vec<CertificateEnd> {
        let enrolment = self.enrolment.as_ref().map(enrolment::Handle::ends).unwrap_or_default();
        let admin = self.admin_tls.as_ref().map(|tls| tls.ends()).unwrap_or_default();
        admin.iter().chain(&*enrolment).cloned().collect()
    }
}

/// The tree over the audit log: every record is safe without it, but not yet beyond doubt.
fn tree_warning(tree: &TreeStatus) -> Option<String> {
    let error = tree.error.as_ref()?;
    let (entries, seconds) = (tree.lag_entries, tree.lag.as_secs());
    Some(format!("the audit log's checkpoint lags by {entries} entries and {seconds} s: {error}"))
}

/// Not ready where the operator chose so (`audit.tree_lag_s`) and a record is under no checkpoint for so long.
fn tree_condition(tree: &TreeStatus, most: Option<Duration>) -> Result<(), String> {
    match most.filter(|most| tree.lag > *most) {
        None => Ok(()),
        Some(_) => {
            let error = tree.error.as_deref().unwrap_or("the tree does not keep up");
            Err(format!("{} entries are under no checkpoint for {} s: {error}", tree.lag_entries, tree.lag.as_secs()))
        }
    }
}

fn answers(metrics: &Metrics, listener: &str, report: AnswersReport) {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let AnswersReport { good, revoked, unknown, unanswered, failing, due } = report;
    for (status, number) in [("good", good), ("revoked", revoked), ("unknown", unknown), ("unanswered", unanswered)] {
        metrics.ocsp_certificates.with_label_values(&[listener, status]).set(count(number));
    }
    metrics.ocsp_failing.with_label_values(&[listener]).set(count(failing));
    metrics.ocsp_due.with_label_values(&[listener]).set(count(due));
}

fn audit_condition(log: &Log) -> Result<(), String> {
    match log.status().state {
        State::Serving => Ok(()),
        State::Unavailable { operation, error, .. } => Err(format!("{operation}: {error}")),
        State::Closed => Err("the writer has stopped".to_owned()),
    }
}

fn clock_condition(clock: &KernelClock, settings: &crate::config::Clock) -> Result<(), String> {
    let reading = clock.now();
    let refuses = settings.on_alarm == crate::config::OnClockAlarm::Refuse;
    if refuses && reading.alarms(settings.max_error) {
        Err(match reading.error_ns {
            Some(error) if reading.synchronised => format!("error bound of {} ms", error / 1_000_000),
            _ => match clock.estimate().named(crate::clock::estimate::Standing::Disagrees) {
                names if names.is_empty() => "nobody keeps the clock".to_owned(),
                names => format!("the sources of time contradict each other: {names}"),
            },
        })
    } else {
        Ok(())
    }
}

fn registry_entries(metrics: &Metrics, snapshots: &Snapshots) {
    let snapshot = snapshots.load();
    let unreadable = snapshot.directory.unreadable_tunnel_keys();
    metrics.tunnel_keys_unreadable.set(i64::try_from(unreadable).unwrap_or(i64::MAX));
    let counts = snapshot.directory.counts();
    for (kind, count) in
        [("site", counts.sites), ("device", counts.devices), ("user", counts.users), ("role", counts.roles)]
    {
        let set = |status: &str, value: u64| {
            metrics.registry_entries.with_label_values(&[kind, status]).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set("active", count.active);
        set("suspended", count.suspended);
    }
}
