//! What strangers may write into the log: shared by the workers, touched only when somebody is refused at the door.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use policy::Refusal;

use crate::audit::refusals::{Limiter, Summary, Treatment};
use crate::clock::Reading;

/// What a full record of a refusal is reckoned at, in bytes.
const RECORD_BYTES: u64 = 1024;

/// One budget for the whole gateway.
#[derive(Debug)]
pub struct Strangers(Mutex<Limiter>);

impl Strangers {
    /// So many bytes per interval.
    #[must_use]
    pub const fn new(interval: Duration, budget: u64) -> Self {
        Self(Mutex::new(Limiter::new(interval, budget)))
    }

    /// Takes a refusal: the summaries that are due, and whether this one is recorded in full.
    pub fn take(&self, now: &Reading, reason: Refusal, source: IpAddr) -> (Vec<Summary>, bool) {
        let mut limiter = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = limiter.due(now.monotonic_ns, now.unix_ns, false).collect();
        let treatment = limiter.refuse(now.monotonic_ns, now.unix_ns, reason, source, RECORD_BYTES);
        (due, treatment == Treatment::Record)
    }

    /// The summaries that are due; all there are where this is the `last` call.
    pub fn due(&self, now: &Reading, last: bool) -> Vec<Summary> {
        let mut limiter = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.due(now.monotonic_ns, now.unix_ns, last).collect()
    }
}
