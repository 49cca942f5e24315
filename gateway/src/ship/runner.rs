//! One destination's loop: look for what is signed and not yet given, give it, keep the position.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::backoff::{pause, random};
use super::config::PaceSection;
use super::cursor::Cursors;
use super::lane::{LANES, Lane, Log};
use super::status::Status;
use super::{Destination, Fault};

/// How long what is under way may still take when the process is to end.
const GRACE: Duration = Duration::from_secs(10);

/// Until a log that cannot be read is looked at once more.
const AGAIN: Duration = Duration::from_millis(50);

/// A destination with its surroundings.
pub(super) struct Runner<D> {
    pub(super) name: String,
    pub(super) destination: D,
    pub(super) log: Log,
    pub(super) cursors: Cursors,
    pub(super) pace: PaceSection,
    pub(super) status: Arc<Status>,
    /// True once the process is to end.
    pub(super) stop: watch::Receiver<bool>,
}

impl<D: Destination> Runner<D> {
    /// Runs until the process is to end.
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        let mut stop = self.stop.clone();
        while !*stop.borrow() {
            let end = long_after(stop.clone());
            let moved = tokio::select! {
                moved = self.round() => moved,
                () = end => return,
            };
            let pause = match moved {
                Ok(true) => {
                    failures = 0;
                    Duration::ZERO
                }
                Ok(false) => {
                    failures = 0;
                    self.pace.poll()
                }
                Err(fault) => {
                    failures += 1;
                    let pause = pause(failures, self.pace.retry_max(), random());
                    let (destination, retry_in_ms) = (self.name.as_str(), pause.as_millis());
                    if matches!(fault, Fault::Alarm(_)) {
                        tracing::error!(destination, failures, %fault, retry_in_ms, "cannot ship");
                    } else {
                        tracing::warn!(destination, failures, %fault, retry_in_ms, "cannot ship");
                    }
                    pause
                }
            };
            self.status.set_failures(failures);
            if !pause.is_zero() {
                let _ = tokio::time::timeout(pause, stopped(&mut stop)).await;
            }
        }
    }

    /// Gives each lane's next portion. Says whether there was one. A lane that fails does not hold up the others.
    async fn round(&mut self) -> Result<bool, Fault> {
        let (mut moved, mut failed, mut lag) = (false, None, 0);
        for number in 1..=LANES {
            let mut given = self.give_of(number).await;
            // Files are replaced while they are read.
            if matches!(given, Err((Fault::Log(_), _))) {
                tokio::time::sleep(AGAIN).await;
                given = self.give_of(number).await;
            }
            match given {
                Ok((given, left)) => {
                    moved |= given > 0;
                    lag += left;
                }
                Err((fault, left)) => {
                    failed.get_or_insert(fault);
                    lag += left;
                }
            }
        }
        self.status.set_lag(lag);
        failed.map_or(Ok(moved), Err)
    }

    async fn give_of(&mut self, number: u8) -> Result<(u64, u64), (Fault, u64)> {
        match self.log.lane(number).map_err(|fault| (fault, 0))? {
            Some(lane) => self.give(&lane).await,
            None => Ok((0, 0)),
        }
    }

    /// Entries that were given, and those that are left; with a fault the latter.
    async fn give(&mut self, lane: &Lane) -> Result<(u64, u64), (Fault, u64)> {
        let (origin, size) = (lane.checkpoint.origin.as_str(), lane.checkpoint.size);
        let from = self.cursors.read(&lane.name, origin).map_err(|fault| (fault, size))?;
        if from > size {
            let words = format!("`{}` has {size} entries, and {from} were shipped: it was rolled back", lane.name);
            return Err((Fault::Alarm(words), 0));
        }
        let left = size - from;
        if left == 0 {
            return self.destination.keep(lane).await.map(|()| (0, 0)).map_err(|fault| (fault, 0));
        }
        let to = self.destination.take(lane, from).await.map_err(|fault| (fault, left))?;
        if to == from {
            return Ok((0, left));
        }
        self.cursors.write(&lane.name, origin, to).map_err(|fault| (fault, left))?;
        self.status.add_taken(to.saturating_sub(from));
        Ok((to.saturating_sub(from), size.saturating_sub(to)))
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The sender lives as long as the process.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn long_after(mut stop: watch::Receiver<bool>) {
    stopped(&mut stop).await;
    tokio::time::sleep(GRACE).await;
}
