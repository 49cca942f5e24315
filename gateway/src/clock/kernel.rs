//! The kernel's clock, and the bound of its error as it was last estimated.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustix::time::{ClockId, clock_gettime};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use super::estimate::{Estimate, Sources, Vouching, Word};
use super::{Clock, Reading, timex};

/// The kernel lets its own bound grow by this much (`MAXFREQ`), and so does a reading between two estimates.
const DRIFT_PPM: u64 = 500;
/// The bound at which the kernel calls its clock unsynchronised (`NTP_PHASE_LIMIT`).
const LIMIT_US: u64 = 16_000_000;

/// Reads wall and monotonic time from the vDSO. The error bound is the last [`Estimate`] that was
/// [published](KernelClock::publish), and grows by 500 ppm since.
#[derive(Debug)]
pub struct KernelClock {
    /// The estimate in one word, so that readers see a whole one: whether somebody vouches for it (1 bit), error in µs
    /// (24 bits), monotonic time of it in ms (39 bits, 17 years).
    state: AtomicU64,
    /// Who vouches: a [`Vouching`].
    vouching: AtomicU8,
    /// The estimate in full, for people.
    estimate: ArcSwap<Estimate>,
}

const ERROR_SHIFT: u32 = 39;
const ERROR_MASK: u64 = (1 << 24) - 1;
const AGE_MASK: u64 = (1 << ERROR_SHIFT) - 1;

impl KernelClock {
    /// A clock of which the kernel alone was asked.
    ///
    /// # Errors
    /// If the kernel refuses `adjtimex` (a sandbox without it).
    pub fn new() -> io::Result<Self> {
        let mut sources = Sources::new(false, [], 0);
        sources.kernel(ask()?);
        let now_ns = monotonic_ns();
        let estimate = Arc::new(sources.estimate(now_ns));
        let clock = Self {
            state: AtomicU64::new(0),
            vouching: AtomicU8::new(0),
            estimate: ArcSwap::new(Arc::clone(&estimate)),
        };
        clock.publish(estimate, now_ns);
        Ok(clock)
    }

    /// What records say from here on, until the next: an estimate of the monotonic time `now_ns`. To be called at least
    /// every second.
    pub fn publish(&self, estimate: Arc<Estimate>, now_ns: u64) {
        let vouched = estimate.vouching != Vouching::Nobody;
        let error_us = estimate.error_ns().map_or(LIMIT_US, |ns| ns.div_ceil(1_000)).min(LIMIT_US);
        let word = u64::from(vouched) << 63 | error_us << ERROR_SHIFT | ((now_ns / 1_000_000) & AGE_MASK);
        self.vouching.store(estimate.vouching as u8, Ordering::Relaxed);
        self.state.store(word, Ordering::Relaxed);
        self.estimate.store(estimate);
    }

    /// The last estimate, with its sources.
    #[must_use]
    pub fn estimate(&self) -> Arc<Estimate> {
        self.estimate.load_full()
    }
}

/// Asks the kernel what it knows of its clock.
///
/// # Errors
/// If the kernel refuses `adjtimex`.
pub(super) fn ask() -> io::Result<Word> {
    let state = timex::read()?;
    if !state.synchronised {
        return Ok(Word::Unsynchronised);
    }
    let error_ns = state.max_error_us.min(LIMIT_US) * 1_000;
    Ok(Word::Claim { offset_ns: 0, error_ns, at_ns: monotonic_ns(), leap: state.leap })
}

impl Clock for KernelClock {
    fn now(&self) -> Reading {
        let unix_ns = unix_ns();
        let monotonic_ns = monotonic_ns();
        let word = self.state.load(Ordering::Relaxed);
        let age_ms = (monotonic_ns / 1_000_000).saturating_sub(word & AGE_MASK);
        let error_us = (word >> ERROR_SHIFT & ERROR_MASK).saturating_add(age_ms.saturating_mul(DRIFT_PPM) / 1_000);
        Reading {
            unix_ns,
            monotonic_ns,
            error_ns: Some(error_us.min(LIMIT_US) * 1_000),
            source: Vouching::of(self.vouching.load(Ordering::Relaxed)).label(),
            synchronised: word >> 63 == 1 && error_us < LIMIT_US,
        }
    }

    fn monotonic_ns(&self) -> u64 {
        monotonic_ns()
    }
}

/// Wall time through libc, which is where a test's time library stands.
pub(super) fn unix_ns() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
    }
}

pub(super) fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// The wall clock as TLS reads it. Before 1970 it is 1970, when no certificate is valid yet; the library's own provider
/// panics there.
#[derive(Debug)]
pub struct TlsTime;

impl TimeProvider for TlsTime {
    fn current_time(&self) -> Option<UnixTime> {
        let since = Duration::from_nanos(u64::try_from(unix_ns()).unwrap_or(0));
        Some(UnixTime::since_unix_epoch(since))
    }
}

/// The kernel's id of this boot; monotonic times of one id can be compared (A8).
///
/// # Errors
/// If `/proc` cannot be read.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_follow_both_clocks_and_the_error_grows() {
        let clock = KernelClock::new().unwrap();
        let first = clock.now();
        let second = clock.now();
        assert!(second.monotonic_ns >= first.monotonic_ns);
        assert!(first.unix_ns > 1_700_000_000_000_000_000);
        if !first.synchronised {
            assert_eq!(first.error_ns, Some(16_000_000_000));
        }
        // An estimate of 1 ms, 10 s ago: 5 ms more. One that nobody vouches for is 16 s at any age.
        let estimate = |error_ms: u64| {
            let mut sources = Sources::new(false, [], 0);
            let error_ns = error_ms * 1_000_000;
            sources.kernel(Word::Claim { offset_ns: 0, error_ns, at_ns: 0, leap: None });
            Arc::new(sources.estimate(0))
        };
        let now_ns = monotonic_ns();
        clock.publish(estimate(1), now_ns - 10_000_000_000.min(now_ns));
        let aged = clock.now();
        assert!((6_000_000..6_100_000).contains(&aged.error_ns.unwrap()), "{aged:?}");
        assert!(aged.synchronised && aged.source == "kernel" && clock.estimate().vouching == Vouching::Kernel);
        clock.publish(estimate(20_000), now_ns);
        let lost = clock.now();
        assert_eq!((lost.synchronised, lost.source, lost.error_ns), (false, "none", Some(16_000_000_000)));
    }

    #[test]
    fn the_boot_id_is_a_uuid() {
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
