//! The task that looks.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use gateway_audit::record::{Outage, OutageEvent};
use policy::SiteName;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, MissedTickBehavior};

use super::sightings::Heard;
use super::watch::{Event, Watch};
use crate::audit::ControlLane;
use crate::clock::{Clock as _, Reading};
use crate::config::{self, OnClockAlarm};
use crate::store::Store;
use crate::worker::Shared;

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// The time between two writes of what was learnt; what a crash loses is an hour at most.
const SAVE: Duration = Duration::from_secs(60);

/// Looks until dropped. `stores` is the store in use, whatever file is put in its place.
pub async fn keep(shared: Shared, lane: ControlLane, stores: Receiver<Store>) -> Infallible {
    let mut store = stores.borrow().clone();
    let mut watch = match store.sightings().await {
        Ok(kept) => Watch::restored(kept),
        Err(error) => {
            tracing::error!(%error, "what was known of sites' hours cannot be read; it is learnt anew");
            Watch::default()
        }
    };
    let (mut heard, mut followed, mut saved) = (Heard::default(), None, Instant::now());
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let snapshot = shared.snapshots.load();
        if followed != Some(snapshot.directory.version()) {
            watch.follow(snapshot.directory.sites());
            followed = Some(snapshot.directory.version());
        }
        let mut seen = heard.listen(&shared.sightings);
        seen.extend(up(&shared));
        let now = shared.clock.now();
        if !may_look(&now, &snapshot.config.clock) {
            continue;
        }
        let unix_s = now.unix_ns.div_euclid(1_000_000_000);
        watch.look(&snapshot.config.outage, unix_s, now.monotonic_ns, |site| seen.contains(site));
        let has_news = tell(&mut watch, &shared, &lane).await;
        shared.metrics.sites_silent.set(i64::try_from(watch.silent()).unwrap_or(i64::MAX));
        if has_news || saved.elapsed() >= SAVE {
            saved = Instant::now();
            follow_store(&mut store, &stores, &mut watch);
            let changed = watch.changed();
            if let Err(error) = store.sightings_keep(&changed).await {
                tracing::warn!(%error, "what is known of sites' hours cannot be stored; it is tried again");
                watch.unsaved(&changed);
            }
        }
    }
}

/// Whether the clock can be believed. Hours that a wrong one makes up would take the place of those that were learnt; where the operator
/// lets requests pass by such a clock, it is all that there is.
fn may_look(now: &Reading, clock: &config::Clock) -> bool {
    clock.on_alarm == OnClockAlarm::Mark || !now.alarms(clock.max_error)
}

/// Takes up the store that is in use. What was learnt goes into one that took another's place as a whole.
fn follow_store(store: &mut Store, stores: &Receiver<Store>, watch: &mut Watch) {
    let current = stores.borrow().clone();
    if !current.is_same_file(store) {
        watch.unsaved_all();
    }
    *store = current;
}

/// Sites of tunnels with a session.
fn up(shared: &Shared) -> HashSet<SiteName> {
    let peers = shared.tunnels.peers();
    peers.into_iter().filter(|(_, peer)| peer.up).map(|(_, peer)| peer.device.site).collect()
}

/// Records what came about, each before it counts as told. True if there was something.
async fn tell(watch: &mut Watch, shared: &Shared, lane: &ControlLane) -> bool {
    let mut has_news = false;
    while let Some(event) = watch.event() {
        has_news = true;
        let (site, kind, since) = match event {
            Event::Silent { site, last_seen } => (site, OutageEvent::Silent, *last_seen),
            Event::Seen { site, silent_since } => (site, OutageEvent::Seen, Some(*silent_since)),
        };
        let since = since.and_then(|at| jiff::Timestamp::from_second(at).ok()).map(|at| at.to_string());
        let record = Outage { site: site.as_str(), event: kind, since: since.as_deref() };
        if lane.record(&record).await.is_err() {
            tracing::error!(site = %site, "an outage note could not be recorded; it is tried again");
            break;
        }
        match kind {
            OutageEvent::Silent => {
                tracing::warn!(event = kind.label(), %site, last_seen = since.as_deref(), "a site fell silent");
            }
            OutageEvent::Seen => {
                tracing::info!(event = kind.label(), %site, silent_since = since.as_deref(), "a site is seen again");
            }
        }
        shared.metrics.outage_notes.with_label_values(&[kind.label()]).inc();
        watch.told();
    }
    has_news
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::tests::TestClock;
    use crate::outage::watch::Rules;
    use crate::store::DisplayName;

    #[test]
    fn a_clock_in_alarm_is_not_looked_at_unless_the_operator_takes_it() {
        let good = TestClock::default().now();
        let loose = Reading { synchronised: false, ..good };
        let far = Reading { error_ns: Some(10_000_000_000), ..good };
        let clock = |on_alarm| config::Clock {
            on_alarm,
            max_error: Duration::from_secs(1),
            warn_error: Duration::from_secs(1),
            chrony: None,
            probe_interval: Duration::from_secs(64),
            servers: Vec::new(),
        };
        let strict = clock(OnClockAlarm::Refuse);
        assert!(may_look(&good, &strict));
        assert!(!may_look(&loose, &strict) && !may_look(&far, &strict));
        assert!(may_look(&loose, &clock(OnClockAlarm::Mark)));
    }

    /// What was learnt is in the file that took the place of the first.
    #[tokio::test]
    async fn what_is_learnt_follows_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sekisho.db");
        let first = Store::open(&path).await.unwrap();
        let site: SiteName = "s".parse().unwrap();
        first.site_add("t", site.clone(), DisplayName::default()).await.unwrap();
        first.checkpoint().await;
        let copy = folder.path().join("copy.db");
        std::fs::copy(&path, &copy).unwrap();
        let (sender, stores) = tokio::sync::watch::channel(first.clone());
        let (mut store, mut watch) = (first, Watch::default());
        watch.follow([(&site, true)].into_iter());
        let rules = Rules { delay: None, weeks: 3, least: 2, quiet_days: Vec::new(), utc_offset_s: 0 };
        watch.look(&rules, 900_000, 1, |_| true);
        follow_store(&mut store, &stores, &mut watch);
        store.sightings_keep(&watch.changed()).await.unwrap();
        store.close().await;
        std::fs::rename(&copy, &path).unwrap();
        sender.send_replace(Store::open_existing(&path).await.unwrap());
        follow_store(&mut store, &stores, &mut watch);
        let changed = watch.changed();
        assert_eq!(changed.len(), 1, "all of it is to be kept anew");
        store.sightings_keep(&changed).await.unwrap();
        assert_eq!(Store::open_existing(&path).await.unwrap().sightings().await.unwrap(), changed);
        follow_store(&mut store, &stores, &mut watch);
        assert!(watch.changed().is_empty(), "once");
    }
}
