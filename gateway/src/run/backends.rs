//! What keeps the services' servers in view: health checks, names that are resolved again, and operators' drains. One
//! for all workers, on the control thread; what it finds is read by them without asking.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, timeout};

use crate::snapshot::Loaded;
use crate::store::{BackendDrain, Store};
use crate::upstream::{Drained, health};
use crate::worker::Shared;

/// The time between two looks at what is due.
const LOOK: Duration = Duration::from_millis(100);
/// The time between two looks at what operators drained.
const LOOK_AT_DRAINS: Duration = Duration::from_millis(500);
/// A name that is not resolved within this time is not resolved.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(10);
/// Checks and resolutions under way at once, over all services.
const MOST_AT_ONCE: usize = 64;

/// What is done regularly about a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Check,
    Resolve,
}

type Key = (String, String, Task);

/// What operators drained, as the store has it.
pub(super) fn drained(rows: Vec<BackendDrain>) -> Vec<Drained> {
    let drained = |row: BackendDrain| {
        let BackendDrain { service, server, actor, reason, .. } = row;
        Drained { service, server, actor, reason }
    };
    rows.into_iter().map(drained).collect()
}

/// Follows the store for as long as the gateway runs. While it cannot be read, what was drained stays drained.
pub(super) async fn follow_drains(shared: Shared, store: Store) -> Infallible {
    let mut ticks = tokio::time::interval(LOOK_AT_DRAINS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_readable = true;
    loop {
        ticks.tick().await;
        match store.backend_drains().await {
            Ok(rows) => {
                shared.fleet.set_drained(drained(rows));
                was_readable = true;
            }
            Err(error) => {
                if std::mem::take(&mut was_readable) {
                    tracing::warn!(%error, "which backends are drained cannot be read");
                }
            }
        }
    }
}

/// Checks and resolves for as long as the gateway runs.
pub(super) async fn keep(shared: Shared) -> Infallible {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut due: BTreeMap<Key, Instant> = BTreeMap::new();
    let mut under_way: JoinSet<Key> = JoinSet::new();
    let mut busy: Vec<Key> = Vec::new();
    let mut followed: Option<Arc<Loaded>> = None;
    loop {
        ticks.tick().await;
        while let Some(ended) = under_way.try_join_next() {
            if let Ok(key) = ended {
                busy.retain(|other| *other != key);
            }
        }
        let loaded = Arc::clone(&shared.snapshots.load().loaded);
        if !followed.as_ref().is_some_and(|followed| Arc::ptr_eq(followed, &loaded)) {
            shared.fleet.keep_only(&loaded.config.services);
            due.retain(|(service, server, _), _| {
                let servers = loaded.config.services.iter().filter(|known| known.name.as_str() == service);
                servers.flat_map(|known| &known.backends).any(|backend| backend.authority == *server)
            });
            followed = Some(Arc::clone(&loaded));
        }
        for (service, tls) in loaded.config.services.iter().zip(&loaded.backend_tls) {
            let settings = &service.resilience;
            // As it is configured now: a worker that lags may have brought an older one back.
            let servers = shared.fleet.servers(service);
            for (place, backend) in service.backends.iter().enumerate() {
                let is_name = backend.address.is_none();
                let tasks = [
                    settings.health.as_ref().map(|health| (Task::Check, health.interval)),
                    is_name.then_some((Task::Resolve, settings.resolve_interval)),
                ];
                for (task, interval) in tasks.into_iter().flatten() {
                    let key = (service.name.to_string(), backend.authority.clone(), task);
                    let now = Instant::now();
                    // The servers of a service take turns.
                    let first = now + interval.mul_f64(place as f64 / service.backends.len() as f64 / 2.0);
                    let at = due.entry(key.clone()).or_insert(if place == 0 { now } else { first });
                    *at = (*at).min(now + interval);
                    if *at > now || busy.contains(&key) || busy.len() >= MOST_AT_ONCE {
                        continue;
                    }
                    *at = now + interval;
                    busy.push(key.clone());
                    let (servers, tls) = (Arc::clone(&servers), tls.clone());
                    under_way.spawn_local(async move {
                        match (task, &servers.service.resilience.health) {
                            (Task::Check, Some(health)) => {
                                let outcome = health::check(&servers, place, tls, health).await;
                                servers.checked(place, outcome);
                            }
                            (Task::Check, None) => {}
                            (Task::Resolve, _) => {
                                if let Some(backend) = servers.service.backends.get(place) {
                                    servers.resolved(place, resolve(&backend.host, backend.port).await);
                                }
                            }
                        }
                        key
                    });
                }
            }
        }
    }
}

/// The addresses of a name, each once, in an order that does not depend on the resolver's mood.
async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = timeout(RESOLVE_PATIENCE, tokio::net::lookup_host((host, port))).await;
    let found = found.map_err(|_| format!("not resolved within {} s", RESOLVE_PATIENCE.as_secs()))?;
    let mut addresses: Vec<SocketAddr> = found.map_err(|error| error.to_string())?.collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() { Err("the name has no address".to_owned()) } else { Ok(addresses) }
}

/// Starts both.
pub(super) fn start(shared: &Shared, store: &Store) {
    let (drains, checks) = (shared.clone(), shared.clone());
    let store = store.clone();
    spawn_local(async move { match follow_drains(drains, store).await {} });
    spawn_local(async move { match keep(checks).await {} });
}
