//! The tree over a lane's records: tiles, and checkpoints that the lane signs (C2SP tlog-tiles; A9).
//!
//! One thread beside the writer. It is handed each group once that is durable, writes full tiles as they come, and makes
//! a checkpoint of whatever is not covered yet when that is [`Window::entries`] entries or [`Window::delay`] old, so that
//! no entry waits for 1,000 others or a second; under load it ends where tiles do, so that none is written twice. Tiles are derived from the segments and are not synced: what a power cut
//! tears is built again from the segments, which are kept until the tiles over them are on disk. A disk that does
//! not take tiles stops no answer; the lag is a metric.

mod begin;
mod files;
mod handover;
mod resume;
mod segments;
mod spares;
mod thread;
mod writer;

use std::time::Duration;

pub use begin::begin_lanes;
pub use files::{TreeDirectory, TreeStorage};
pub use resume::TreeError;

pub(super) use handover::{Group, Handover};
pub(super) use resume::{Replay, Standing, stand};
pub(super) use thread::{Tree, TreeThread};

/// The newest checkpoint whose tiles are on stable storage, a copy.
const SYNCED: &str = "checkpoint.synced";

/// When checkpoints are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// As soon as so many entries are not covered.
    pub entries: u64,
    /// As soon as one is not covered for so long.
    pub delay: Duration,
}

impl Window {
    /// Well within what is promised: 1,000 entries and a second.
    pub const PROMISED: Self = Self { entries: 900, delay: Duration::from_millis(500) };
}

/// How far the tree is behind the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TreeStatus {
    /// Entries that the newest checkpoint covers.
    pub size: u64,
    /// Durable entries that it does not.
    pub lag_entries: u64,
    /// For how long the oldest of those is durable.
    pub lag: Duration,
    /// Why tiles cannot be written, while they cannot.
    pub error: Option<String>,
}
