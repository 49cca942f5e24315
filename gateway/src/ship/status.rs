//! How far the destinations are, for diagnostics.

use std::sync::atomic::{AtomicU64, Ordering};

/// What is known of one destination.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// Entries that are signed and that the receiver does not have, all lanes together.
    lag: AtomicU64,
    /// Entries that the receiver took since this process began.
    taken: AtomicU64,
    /// Failures since the last success.
    failures: AtomicU64,
    /// Records that did not open since this process began.
    unopened: AtomicU64,
    /// Events that the receiver refuses, since this process began.
    parked: AtomicU64,
}

impl Status {
    pub(super) fn set_lag(&self, entries: u64) {
        self.lag.store(entries, Ordering::Relaxed);
    }

    pub(super) fn add_taken(&self, entries: u64) {
        self.taken.fetch_add(entries, Ordering::Relaxed);
    }

    pub(super) fn set_failures(&self, failures: u32) {
        self.failures.store(u64::from(failures), Ordering::Relaxed);
    }

    /// One more record that does not open. Says how many there were before.
    pub(super) fn add_unopened(&self) -> u64 {
        self.unopened.fetch_add(1, Ordering::Relaxed)
    }

    /// One more event that the receiver refuses.
    pub(super) fn add_parked(&self) {
        self.parked.fetch_add(1, Ordering::Relaxed);
    }

    /// One line.
    pub(super) fn report(&self, destination: &str) {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let (lag_entries, taken_entries, failures) = (of(&self.lag), of(&self.taken), of(&self.failures));
        let (unopened, parked) = (of(&self.unopened), of(&self.parked));
        tracing::info!(destination, lag_entries, taken_entries, failures, unopened, parked, "position");
    }
}
