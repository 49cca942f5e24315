//! How the log is kept: the `[audit]` table after it was checked.

use std::time::Duration;

use super::segments::Preparation;
use super::tree::Window;

/// When a record counts as durable (`audit.durability`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When `fdatasync` covering it returned 0.
    BeforeAnswer,
    /// At once; it is on disk within this time, which is the window a crash can take.
    Interval(Duration),
}

/// What happens to requests while the log cannot be written (`audit.on_failure`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// They are refused with 503.
    Refuse,
    /// They are served; what could not be recorded is counted into a `gap` record, and the alarm stays until
    /// restart.
    ServeAndAlarm,
}

/// How the log is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// The trust domain: the log's name begins with it.
    pub domain: String,
    /// The gateway's name.
    pub node: String,
    /// The kernel's boot id.
    pub boot: String,
    /// Name and version of the program, for the `start` record.
    pub program: String,
    /// When a record counts as durable.
    pub durability: Durability,
    /// What happens while the log cannot be written.
    pub on_failure: OnFailure,
    /// Records that one lane may hold that are not yet durable. New work gets three quarters of it, so that what
    /// follows up on accepted work finds room.
    pub queue_records: u64,
    /// Bytes that one lane may hold.
    pub queue_bytes: u64,
    /// Size at which a new segment begins.
    pub segment_bytes: u64,
    /// Size of the reserve that takes the last records when the disk is full (A6).
    pub reserve_bytes: u64,
    /// How often a failed log is tried again.
    pub retry: Duration,
    /// Who fills the next segment with zeros.
    pub preparation: Preparation,
    /// When checkpoints are made.
    pub window: Window,
    /// Segments that stay though tiles hold all their records; at least 2.
    pub keep_segments: usize,
}

impl Options {
    /// The defaults of `deploy/sekisho.toml`.
    #[must_use]
    pub fn new(node: &str, boot: &str) -> Self {
        Self {
            domain: "localhost".to_owned(),
            node: node.to_owned(),
            boot: boot.to_owned(),
            program: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned(),
            durability: Durability::BeforeAnswer,
            on_failure: OnFailure::Refuse,
            queue_records: 16_384,
            queue_bytes: 32 << 20,
            segment_bytes: 64 << 20,
            reserve_bytes: 1 << 20,
            retry: Duration::from_secs(1),
            preparation: Preparation::Background,
            window: Window::PROMISED,
            keep_segments: 2,
        }
    }

    /// The name of a lane's log, which its checkpoints are signed under.
    #[must_use]
    pub fn origin(&self, lane: u8) -> String {
        format!("{}/{}/lane-{lane}", self.domain, self.node)
    }
}

impl Durability {
    /// The name in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::BeforeAnswer => "before-answer",
            Self::Interval(_) => "interval",
        }
    }
}

impl OnFailure {
    /// The name in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::ServeAndAlarm => "serve-and-alarm",
        }
    }
}
