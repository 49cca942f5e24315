//! The listeners' own certificates while the gateway runs: followed on disk, told to the log, metrics and `/readyz`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;

use crate::admin::OperatorsTls;
use crate::clock::Clock as _;
use crate::config::InsideTls;
use crate::listen::Change;
use crate::metrics::Metrics;
use crate::snapshot::{CertificateEnd, Loaded, Purpose, Snapshot};
use crate::worker::Shared;

/// How often the files are looked at. What has changed is read at the second look that finds it the same, so that a new
/// certificate is shown within a second.
const LOOK: Duration = Duration::from_millis(400);

/// A certificate that ends within this time is worth a warning; deploy/alerts.yml has the same.
const ENDS_SOON: Duration = Duration::from_secs(14 * 86_400);

/// Looks at the files of the listeners in force, the operators' included, for ever.
pub(super) async fn follow(shared: Shared, admin: Option<Arc<OperatorsTls>>) -> Infallible {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let now = unix_time(shared.clock.now().unix_ns);
        for door in &shared.snapshots.load().doors {
            for change in door.tls.identities().look(now) {
                note(&shared.metrics, &door.listener.name, &change);
            }
        }
        match admin.as_ref().and_then(|admin| admin.look()) {
            None => {}
            Some(Ok(())) => tracing::info!("the admin listener shows and trusts the new certificates"),
            Some(Err(error)) => tracing::error!(%error, "the admin listener kept the old certificates"),
        }
    }
}

fn note(metrics: &Metrics, listener: &str, change: &Change) {
    let count = |outcome| metrics.server_certificate_changes.with_label_values(&[listener, outcome]).inc();
    match change {
        Change::Replaced { identity } => {
            count("replaced");
            tracing::info!(listener, identity, "shows the new certificate");
        }
        Change::Kept { identity, error } => {
            count("kept");
            tracing::error!(listener, identity, %error, "kept the old certificate");
        }
        Change::Stapled { identity } => tracing::info!(listener, identity, "staples the new OCSP response"),
        Change::StapleRefused { identity, error } => {
            tracing::error!(listener, identity, %error, "an OCSP response cannot be stapled");
        }
    }
}

/// Says of each listener what its profile gives away, and what is wrong with its certificates.
pub(super) fn tell(loaded: &Loaded) {
    for door in &loaded.doors {
        let (listener, profile) = (door.listener.name.as_str(), door.tls.profile());
        for gives_away in profile.gives_away() {
            tracing::warn!(listener, %profile, gives_away, "the TLS profile is weaker than `cryptrec-high`");
        }
        for warning in door.tls.identities().warnings() {
            tracing::warn!("{warning}");
        }
        if door.listener.speaks_tls() != InsideTls::Required {
            let why = "WireGuard's own suite is not on the CRYPTREC list";
            tracing::warn!(listener, why, "TLS inside tunnels is not required");
        }
    }
}

/// When everything ends that the gateway shows or trusts.
fn ends(snapshot: &Snapshot, admin: &[CertificateEnd]) -> Vec<(CertificateEnd, String)> {
    let own = snapshot.doors.iter().flat_map(|door| {
        door.tls.identities().shown().into_iter().map(|shown| {
            let name = door.listener.name.clone();
            (CertificateEnd { purpose: Purpose::Server, name, not_after: shown.not_after }, shown.identity)
        })
    });
    own.chain(snapshot.certificates.iter().chain(admin).map(|end| (end.clone(), String::new()))).collect()
}

/// Brings the metrics of certificates up to date.
pub(super) fn refresh(metrics: &Metrics, snapshot: &Snapshot, admin: &[CertificateEnd]) {
    metrics.certificate_expiry.reset();
    for (CertificateEnd { purpose, name, not_after }, identity) in ends(snapshot, admin) {
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit a double exactly")]
        metrics.certificate_expiry.with_label_values(&[purpose.label(), &name, &identity]).set(not_after as f64);
    }
    metrics.server_certificate_current.reset();
    metrics.ocsp_stapled.reset();
    for door in &snapshot.doors {
        for shown in door.tls.identities().shown() {
            let labels = [door.listener.name.as_str(), shown.identity.as_str()];
            metrics.server_certificate_current.with_label_values(&labels).set(i64::from(shown.is_current));
            if let Some(stapled) = shown.stapled {
                metrics.ocsp_stapled.with_label_values(&labels).set(i64::from(stapled));
            }
        }
    }
}

/// A listener without a certificate takes nobody.
pub(super) fn condition(snapshot: &Snapshot) -> Result<(), String> {
    let closed = snapshot.doors.iter().filter_map(|door| {
        door.tls.identities().closed().map(|why| format!("listener `{}`: {why}", door.listener.name))
    });
    let closed: Vec<_> = closed.collect();
    if closed.is_empty() { Ok(()) } else { Err(closed.join("; ")) }
}

/// What somebody should see to: files that cannot be used, and certificates that end soon.
pub(super) fn warnings(snapshot: &Snapshot, admin: &[CertificateEnd], now_unix_ns: i64) -> Vec<String> {
    let now = unix_time(now_unix_ns).as_secs();
    let mut warnings: Vec<_> = snapshot.doors.iter().flat_map(|door| door.tls.identities().warnings()).collect();
    warnings.extend(ends(snapshot, admin).into_iter().filter_map(|(end, identity)| ends_soon(&end, &identity, now)));
    warnings
}

fn ends_soon(CertificateEnd { purpose, name, not_after }: &CertificateEnd, identity: &str, now: u64) -> Option<String> {
    let what = if identity.is_empty() { String::new() } else { format!(" (`{identity}`)") };
    let kind = purpose.label();
    match not_after.checked_sub(now) {
        None => Some(format!("certificate-ends: the {kind} certificate of `{name}`{what} has ended")),
        Some(left) if left < ENDS_SOON.as_secs() => {
            let (days, hours) = (left / 86_400, left % 86_400 / 3_600);
            Some(format!("certificate-ends: the {kind} certificate of `{name}`{what} ends in {days} d {hours} h"))
        }
        Some(_) => None,
    }
}

pub(super) fn unix_time(unix_ns: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_nanos(u64::try_from(unix_ns).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_ends_soon_is_told() {
        let end = CertificateEnd { purpose: Purpose::Server, name: "clinics".to_owned(), not_after: 20 * 86_400 };
        let at = |day: u64| ends_soon(&end, "gw.example", day * 86_400);
        assert_eq!(at(6), None);
        let soon = "certificate-ends: the server certificate of `clinics` (`gw.example`) ends in 13 d 0 h";
        assert_eq!(at(7).as_deref(), Some(soon));
        assert!(at(21).unwrap().ends_with("has ended"));
        assert!(!ends_soon(&end, "", 19 * 86_400).unwrap().contains('('));
    }
}
