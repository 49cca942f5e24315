//! Looks at the data keys at the start and once a day, on a thread of its own: files are read and overwritten.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::audit::ControlLane;
use crate::audit::retention::{Place, RetentionError, Swept, Time};
use crate::clock::{Clock as _, KernelClock, boot_id};
use crate::metrics::Metrics;
use crate::snapshot::Snapshots;

/// The first look comes within this time: processes that start together do not look together.
const FIRST: Duration = Duration::from_secs(10);
/// From one look to the next, and up to an hour more.
const EVERY: Duration = Duration::from_secs(24 * 3_600);
const SPREAD: Duration = Duration::from_secs(3_600);
/// After a look that failed, and up to as much more. It is told once.
const RETRY: Duration = Duration::from_secs(10);

/// Why the last look failed; none if it did not.
pub(super) type Fault = watch::Receiver<Option<String>>;

/// What a look takes.
pub(super) struct Keeping {
    pub(super) place: Place,
    pub(super) lane: ControlLane,
    pub(super) clock: Arc<KernelClock>,
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) metrics: Metrics,
}

/// Starts the thread, which ends when the gateway drains.
pub(super) fn start(keeping: Keeping, mut drain: watch::Receiver<bool>) -> std::io::Result<(JoinHandle<()>, Fault)> {
    let (tell, fault) = watch::channel(None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let thread = std::thread::Builder::new().name("retention".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = keep(&keeping, &tell) => {}
                _ = drain.wait_for(|draining| *draining) => {}
            }
        });
    })?;
    Ok((thread, fault))
}

async fn keep(keeping: &Keeping, tell: &watch::Sender<Option<String>>) {
    tokio::time::sleep(part_of(FIRST)).await;
    loop {
        let outcome = keeping.place.sweep(keeping.time(), &keeping.lane).await;
        let pause = keeping.told(outcome, tell);
        tokio::time::sleep(pause).await;
    }
}

impl Keeping {
    fn time(&self) -> Result<Time, RetentionError> {
        let max_error = self.snapshots.load().config.clock.max_error;
        let boot = boot_id().map_err(|error| RetentionError::Clock(error.to_string()))?;
        Time::of(&self.clock.now(), &self.clock.estimate(), max_error, &boot)
    }

    fn told(&self, outcome: Result<Swept, RetentionError>, tell: &watch::Sender<Option<String>>) -> Duration {
        self.metrics.audit_retention_failing.set(i64::from(outcome.is_err()));
        match outcome {
            Ok(Swept { keys, bundles }) => {
                self.metrics.audit_keys_destroyed.inc_by(u64::try_from(keys).unwrap_or(u64::MAX));
                if keys > 0 || bundles > 0 {
                    tracing::info!(keys, bundles, "destroyed what is no longer kept");
                }
                tell.send_replace(None);
                EVERY + part_of(SPREAD)
            }
            Err(error) => {
                let error = error.to_string();
                if tell.borrow().as_ref() != Some(&error) {
                    tracing::warn!(error, "data keys may be kept for longer than they are to be");
                }
                tell.send_replace(Some(error));
                RETRY + part_of(RETRY)
            }
        }
    }
}

/// A random part of a time.
fn part_of(time: Duration) -> Duration {
    let mut random = [0; 4];
    match aws_lc_rs::rand::fill(&mut random) {
        Ok(()) => time.mul_f64(f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX)),
        Err(_) => time,
    }
}
