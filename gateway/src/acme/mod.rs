//! Listeners' own certificates by ACME (RFC 8555), in the background.
//!
//! One thread asks for them and writes pairs of files; the listeners follow the files as they follow an operator's. A
//! failure leaves the old pair in use. Names are proved by `tls-alpn-01` (RFC 8737) at the listener itself.

mod http;
mod order;
mod schedule;
mod state;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use certs::ServerIdentity;
use rustls::pki_types::UnixTime;
use tokio::sync::watch;

use crate::authority::random;
use crate::clock::Clock as _;
use crate::config::{Acme, IdentityFiles};
use crate::listen::Identities;
use crate::worker::Shared;

/// How often somebody looks whether a certificate is due.
const LOOK: Duration = Duration::from_secs(1);

/// An order that takes longer has failed, whatever it waits for.
const ORDER: Duration = Duration::from_secs(300);

/// Why the last orders failed, by listener; one that succeeds is taken out.
pub type Faults = Arc<ArcSwap<BTreeMap<String, String>>>;

/// Gets and renews certificates on a thread of its own until `draining` says so.
///
/// # Errors
/// The system's, if there can be no thread.
pub fn start(shared: Shared, faults: Faults, mut draining: watch::Receiver<bool>) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let work = move || {
        runtime.block_on(async {
            let mut manager = Manager { shared, faults, known: BTreeMap::new() };
            tokio::select! {
                // An error says that the control thread is gone: the end as well.
                _ = draining.wait_for(|draining| *draining) => {}
                () = manager.run() => {}
            }
        });
        // A name that is being looked up keeps nobody waiting.
        runtime.shutdown_background();
    };
    std::thread::Builder::new().name("acme".to_owned()).spawn(work)
}

struct Manager {
    shared: Shared,
    faults: Faults,
    known: BTreeMap<PathBuf, Known>,
}

/// What is known of one certificate.
struct Known {
    /// As a reload made it: after one, everything is looked at anew, and whoever has mended something need not wait.
    identities: Arc<Identities>,
    names: Vec<String>,
    due: u64,
    not_after: Option<u64>,
    failures: u32,
}

/// A certificate to get.
struct Target {
    listener: String,
    files: IdentityFiles,
    names: Vec<String>,
    identities: Arc<Identities>,
}

impl Manager {
    async fn run(&mut self) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let snapshot = self.shared.snapshots.load();
        let Some(acme) = snapshot.config.acme.clone() else { return };
        let targets: Vec<Target> = snapshot
            .doors
            .iter()
            .flat_map(|door| {
                door.listener.tls.identities.iter().filter_map(|files| {
                    let names = files.acme.clone()?;
                    let identities = Arc::clone(door.tls.identities());
                    Some(Target { listener: door.listener.name.clone(), files: files.clone(), names, identities })
                })
            })
            .collect();
        drop(snapshot);
        self.forget(&targets);
        for target in targets {
            let now = self.now();
            let known = self.known(&target, now);
            if known.due <= now.as_secs() {
                self.renew(&acme, &target, now).await;
            }
        }
    }

    /// What is no longer to be had says nothing more.
    fn forget(&mut self, targets: &[Target]) {
        self.known.retain(|file, _| targets.iter().any(|target| target.files.certificate_file == *file));
        let is_told = |listener: &String| targets.iter().any(|target| target.listener == *listener);
        if self.faults.load().keys().any(|listener| !is_told(listener)) {
            self.faults.rcu(|old| {
                let mut new = BTreeMap::clone(old);
                new.retain(|listener, _| is_told(listener));
                new
            });
        }
    }

    fn known(&mut self, target: &Target, now: UnixTime) -> &mut Known {
        let fresh = || {
            let found = pair(&target.files);
            let not_after = found.as_ref().map(|identity| identity.not_after().as_secs());
            let good = found.filter(|identity| target.names.iter().all(|name| identity.names().contains(name)));
            let due = good.map_or(now.as_secs(), |identity| {
                schedule::due(identity.not_before().as_secs(), identity.not_after().as_secs(), chance())
            });
            let (identities, names) = (Arc::clone(&target.identities), target.names.clone());
            Known { identities, names, due, not_after, failures: 0 }
        };
        let known = self.known.entry(target.files.certificate_file.clone()).or_insert_with(fresh);
        if !Arc::ptr_eq(&known.identities, &target.identities) || known.names != target.names {
            *known = fresh();
        }
        known
    }

    async fn renew(&mut self, acme: &Acme, target: &Target, now: UnixTime) {
        let Target { listener, names, files, .. } = target;
        tracing::info!(listener, ?names, server = acme.directory_url, "asks for a certificate");
        let ordered = tokio::time::timeout(ORDER, order::order(acme, names, &self.shared.snapshots, now)).await;
        let ordered = ordered.unwrap_or_else(|_| Err(format!("it took longer than {} s", ORDER.as_secs())));
        let folder = files.certificate_file.parent().and_then(Path::parent);
        let done = match (ordered, folder) {
            (Ok(pair), Some(folder)) => state::put(folder, &pair.chain, &pair.key).map_err(|error| error.to_string()),
            (Ok(_), None) => Err("there is no folder for it".to_owned()),
            (Err(error), _) => Err(error),
        };
        let count = |outcome| self.shared.metrics.acme_orders.with_label_values(&[listener.as_str(), outcome]).inc();
        match &done {
            Ok(()) => {
                count("issued");
                tracing::info!(listener, ?names, "has a new certificate");
                self.known.remove(&files.certificate_file);
            }
            Err(error) => {
                count("failed");
                let now = self.now().as_secs();
                let Some(known) = self.known.get_mut(&files.certificate_file) else { return };
                known.failures = known.failures.saturating_add(1);
                let left = known.not_after.map(|end| Duration::from_secs(end.saturating_sub(now)));
                let wait = schedule::retry(known.failures, left, chance());
                known.due = now.saturating_add(wait.as_secs());
                let kept = if left.is_some() { "the old one stays" } else { "there is none" };
                tracing::error!(listener, error, again_in_s = wait.as_secs(), "got no certificate; {kept}");
            }
        }
        self.faults.rcu(|old| {
            let mut new = BTreeMap::clone(old);
            match &done {
                Ok(()) => new.remove(listener),
                Err(error) => new.insert(listener.clone(), error.clone()),
            };
            new
        });
    }

    fn now(&self) -> UnixTime {
        let seconds = u64::try_from(self.shared.clock.now().unix_ns).unwrap_or(0) / 1_000_000_000;
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }
}

/// What lies in the files, if it can be used.
fn pair(files: &IdentityFiles) -> Option<ServerIdentity> {
    ServerIdentity::load_files(&files.certificate_file, &files.key_file).ok()
}

/// Drawn from 0 to 1; without random bytes the middle, which is no less right.
fn chance() -> f64 {
    random::<2>().map_or(0.5, |bytes| f64::from(u16::from_be_bytes(bytes)) / f64::from(u16::MAX))
}
