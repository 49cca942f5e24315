//! The kernel's clock with the kernel's own error bound.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use super::{Clock, Reading, timex};

/// The kernel lets its own bound grow by this much (`MAXFREQ`), and so does a reading between two refreshes.
const DRIFT_PPM: u64 = 500;
/// The bound at which the kernel calls its clock unsynchronised (`NTP_PHASE_LIMIT`).
const LIMIT_US: u64 = 16_000_000;

/// Reads wall and monotonic time from the vDSO; the error bound is asked of the kernel by [`KernelClock::refresh`]
/// and grows by 500 ppm in between.
#[derive(Debug)]
pub struct KernelClock {
    /// The last answer in one word, so that readers see a whole one: synchronised (1 bit), error in µs (24 bits),
    /// monotonic time of the answer in ms (39 bits, 17 years).
    state: AtomicU64,
}

const ERROR_SHIFT: u32 = 39;
const ERROR_MASK: u64 = (1 << 24) - 1;
const AGE_MASK: u64 = (1 << ERROR_SHIFT) - 1;

impl KernelClock {
    /// Asks the kernel for the first time.
    ///
    /// # Errors
    /// If the kernel refuses `adjtimex` (a sandbox without it).
    pub fn new() -> io::Result<Self> {
        let clock = Self { state: AtomicU64::new(0) };
        clock.refresh()?;
        Ok(clock)
    }

    /// Asks the kernel for the error bound again. To be called at least every second.
    ///
    /// # Errors
    /// If the kernel refuses; the clock is unsynchronised from then on.
    pub fn refresh(&self) -> io::Result<()> {
        let answer = timex::read();
        let state = answer.as_ref().copied().unwrap_or(timex::State { max_error_us: LIMIT_US, synchronised: false });
        let error = if state.synchronised { state.max_error_us.min(LIMIT_US) } else { LIMIT_US };
        let now_ms = monotonic_ns() / 1_000_000;
        let word = u64::from(state.synchronised) << 63 | error << ERROR_SHIFT | now_ms & AGE_MASK;
        self.state.store(word, Ordering::Relaxed);
        answer.map(|_| ())
    }
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
            source: "kernel",
            synchronised: word >> 63 == 1 && error_us < LIMIT_US,
        }
    }

    fn monotonic_ns(&self) -> u64 {
        monotonic_ns()
    }
}

/// Wall time through libc, which is where a test's time library stands.
fn unix_ns() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |ns| -ns),
    }
}

fn monotonic_ns() -> u64 {
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
        // An answer of 1 ms error, 10 s ago: 5 ms more. After nine hours nobody is sure any more.
        let now_ms = monotonic_ns() / 1_000_000;
        let aged =
            |ms: u64| KernelClock { state: AtomicU64::new(1 << 63 | 1_000 << ERROR_SHIFT | (now_ms - ms)) }.now();
        let error = aged(10_000.min(now_ms)).error_ns.unwrap();
        assert!((6_000_000..6_100_000).contains(&error), "{error}");
        assert!(aged(0).synchronised);
    }

    #[test]
    fn the_boot_id_is_a_uuid() {
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
