//! What a peer may send without progress, whatever version of HTTP it speaks (row C10).

use tokio::time::Instant;

/// Frames without progress that a peer may send in a burst, and what it earns back.
const CONTROL_BURST: f64 = 2_000.0;
const CONTROL_PER_SECOND: f64 = 100.0;
const CONTROL_PER_REQUEST: f64 = 6.0;
const RESET_PERIOD_SECONDS: f64 = 10.0;

/// What a peer may still send.
#[derive(Debug)]
pub(super) struct Budget {
    control: f64,
    resets: f64,
    reset_burst: f64,
    refilled: Instant,
}

impl Budget {
    /// Of a peer that may reset so many streams in a burst.
    pub(super) fn new(resets: u32, now: Instant) -> Self {
        let reset_burst = f64::from(resets);
        Self { control: CONTROL_BURST, resets: reset_burst, reset_burst, refilled: now }
    }

    /// Gives back so many frames.
    pub(super) fn earn(&mut self, control: f64) {
        self.control = (self.control + control).min(CONTROL_BURST);
    }

    /// Gives back what time brings.
    pub(super) fn refill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.earn(seconds * CONTROL_PER_SECOND);
        self.resets = (self.resets + seconds * self.reset_burst / RESET_PERIOD_SECONDS).min(self.reset_burst);
    }

    /// A request came.
    pub(super) fn request(&mut self) {
        self.earn(CONTROL_PER_REQUEST);
    }

    /// A frame without progress came, or so many.
    pub(super) fn idle_frames(&mut self, count: f64) {
        self.control -= count;
    }

    /// The peer reset a stream.
    pub(super) fn reset(&mut self) {
        self.control -= 1.0;
        self.resets -= 1.0;
    }

    /// It has sent more.
    pub(super) fn is_spent(&self) -> bool {
        self.control < 0.0 || self.resets < 0.0
    }
}
