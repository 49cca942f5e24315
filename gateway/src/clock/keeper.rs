//! Keeps the clock's estimate: asks the kernel, hears chronyd and the servers, publishes and records. Runs on the control
//! runtime.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local};

use super::estimate::{Sources, Standing, Word};
use super::kernel::{self, monotonic_ns};
use super::probe::{self, Origin};
use super::servers::Asking;
use super::watch::{Bounds, Happened, Watch};
use super::{Clock as _, KernelClock};
use crate::audit::ControlLane;
use crate::metrics::Metrics;
use crate::snapshot::Snapshots;

/// How often the kernel is asked.
const PERIOD: Duration = Duration::from_millis(500);
/// A step of the wall clock beyond this is worth a record.
const STEP: Duration = Duration::from_millis(500);

/// Everything that is asked, and by whom.
struct Asked {
    asking: Asking,
    sources: Sources,
    heard: mpsc::UnboundedReceiver<(Origin, Word)>,
    tasks: Vec<JoinHandle<()>>,
}

impl Asked {
    fn begin(asking: Asking) -> Self {
        let (tell, heard) = mpsc::unbounded_channel();
        let mut tasks = Vec::new();
        if let Some(address) = asking.chrony {
            tasks.push(spawn_local(probe::keep_asking_chrony(address, tell.clone())));
        }
        for number in 0..asking.servers.len() {
            tasks.push(spawn_local(probe::keep_asking_server(number, asking.clone(), tell.clone())));
        }
        let names = asking.servers.iter().map(|server| server.address.clone());
        let sources = Sources::new(asking.chrony.is_some(), names, asking.stale_ns());
        Self { asking, sources, heard, tasks }
    }

    /// Takes what was heard. What was measured before the clock was moved is of another clock.
    fn hear(&mut self, stepped_ns: u64) {
        while let Ok((origin, word)) = self.heard.try_recv() {
            if matches!(word, Word::Claim { at_ns, .. } if at_ns < stepped_ns) {
                continue;
            }
            match origin {
                Origin::Chrony => self.sources.chrony(word),
                Origin::Server(number) => self.sources.server(number, word),
            }
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Keeps the clock, for ever. A reload changes whom it asks and its bounds.
pub async fn keep(clock: Arc<KernelClock>, lane: ControlLane, snapshots: Arc<Snapshots>, metrics: Metrics) {
    let mut snapshot = snapshots.load();
    let mut asked = Asked::begin(snapshot.time_sources.clone());
    let mut watch = Watch::new(bounds(&snapshot.config.clock));
    let mut stepped_ns = 0;
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let newest = snapshots.load();
        if newest.version != snapshot.version {
            if newest.time_sources != asked.asking {
                let mut fresh = Asked::begin(newest.time_sources.clone());
                fresh.sources.adopt(&asked.sources);
                asked = fresh;
            }
            watch.set_bounds(bounds(&newest.config.clock));
            snapshot = newest;
        }
        let moved = watch.moved(&clock.now());
        if let Some(change_ns) = moved.as_ref().and_then(Happened::change_ns) {
            stepped_ns = monotonic_ns();
            asked.sources.stepped(change_ns);
        }
        asked.hear(stepped_ns);
        match kernel::ask() {
            Ok(word) => asked.sources.kernel(word),
            Err(error) => tracing::warn!(%error, "the kernel does not tell its clock's error"),
        }
        let now_ns = monotonic_ns();
        let estimate = Arc::new(asked.sources.estimate(now_ns));
        clock.publish(Arc::clone(&estimate), now_ns);
        for happened in moved.into_iter().chain(watch.judge(&clock.now(), &estimate)) {
            let record = happened.record();
            metrics.clock_events.with_label_values(&[record.event.label()]).inc();
            tracing::warn!(event = record.event.label(), change_ns = record.change_ns, source = ?record.source, "clock");
            lane.append_unwaited(&record);
        }
        for standing in Standing::ALL {
            let count = estimate.sources.iter().filter(|source| source.standing == standing).count();
            let gauge = metrics.clock_sources.with_label_values(&[standing.label()]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

const fn bounds(settings: &crate::config::Clock) -> Bounds {
    Bounds { step: STEP, warn_error: settings.warn_error, max_error: settings.max_error }
}
