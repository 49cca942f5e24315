//! What the writer and everybody else see of each other.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::lane::LaneCore;
use super::options::{Durability, OnFailure, Options};
use super::tree::TreeStatus;
use crate::clock::Clock;

const SERVING: u8 = 0;
const UNAVAILABLE: u8 = 1;
const CLOSING: u8 = 2;
const CLOSED: u8 = 3;

/// Told what the writer does, on the writer's thread. Must not block.
pub trait Observer: Send + Sync + 'static {
    /// A group was committed: its records and bytes, and how long `write` and `fdatasync` took together.
    fn committed(&self, records: u64, bytes: u64, took: Duration) {
        let _ = (records, bytes, took);
    }

    /// The log failed, or can be written again.
    fn available(&self, available: bool) {
        let _ = available;
    }
}

/// An observer that looks away.
impl Observer for () {}

/// Whether the log can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It can.
    Serving,
    /// It cannot; the writer keeps trying.
    Unavailable {
        /// The call that failed first.
        operation: &'static str,
        /// The system's error number.
        errno: Option<i32>,
        /// Its text, with the file.
        error: String,
    },
    /// The writer has stopped.
    Closed,
}

/// Figures for metrics and `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether the log can be written.
    pub state: State,
    /// Set by the first failure under `serve-and-alarm`; stays until restart.
    pub alarm: bool,
    /// Records queued and not durable.
    pub queue_records: u64,
    /// Their bytes.
    pub queue_bytes: u64,
    /// Records made durable since the start.
    pub records: u64,
    /// Their bytes, with frames.
    pub bytes: u64,
    /// Groups committed since the start.
    pub commits: u64,
    /// The last durable record's sequence number.
    pub sequence: u64,
    /// Records that could not be kept since the start.
    pub lost: u64,
    /// Longest time that an answered request's record may be missing after a crash; zero before-answer.
    pub window: Duration,
    /// How far the tree is behind.
    pub tree: TreeStatus,
}

/// Records that were counted instead of kept.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct GapCount {
    pub(super) records: u64,
    pub(super) from_unix_ns: i64,
    pub(super) until_unix_ns: i64,
}

pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) clock: Arc<dyn Clock>,
    lanes: Mutex<Vec<Arc<LaneCore>>>,
    lane_count: AtomicU64,
    state: AtomicU8,
    failure: Mutex<Option<State>>,
    alarm: AtomicBool,
    asleep: AtomicBool,
    writer: OnceLock<Thread>,
    stopping: AtomicBool,
    cause: Mutex<String>,
    /// Zero of `covered_us`.
    origin: Instant,
    covered_us: AtomicU64,
    gap: Mutex<GapCount>,
    lost: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    commits: AtomicU64,
    sequence: AtomicU64,
    tree: Mutex<TreeState>,
}

/// What the tree's thread says of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct TreeState {
    /// Entries that checkpoints cover.
    pub(super) covered: u64,
    /// Since when the oldest entry that it took waits for one.
    pub(super) since: Option<Instant>,
    /// Why it cannot write.
    pub(super) error: Option<String>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("node", &self.options.node).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(options: Options, clock: Arc<dyn Clock>) -> Self {
        Self {
            options,
            clock,
            lanes: Mutex::default(),
            lane_count: AtomicU64::new(0),
            state: AtomicU8::new(SERVING),
            failure: Mutex::default(),
            alarm: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            writer: OnceLock::new(),
            stopping: AtomicBool::new(false),
            cause: Mutex::default(),
            origin: Instant::now(),
            covered_us: AtomicU64::new(0),
            gap: Mutex::default(),
            lost: AtomicU64::new(0),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
            tree: Mutex::default(),
        }
    }

    /// The last record that is durable.
    pub(super) fn durable_sequence(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    pub(super) fn tree_is(&self, state: TreeState) {
        *lock(&self.tree) = state;
    }

    pub(super) fn tree(&self) -> TreeState {
        lock(&self.tree).clone()
    }

    pub(super) fn add_lane(&self) -> Arc<LaneCore> {
        let core = Arc::new(LaneCore::default());
        let mut lanes = lock(&self.lanes);
        lanes.push(core.clone());
        self.lane_count.fetch_add(1, Ordering::Release);
        core
    }

    /// Brings the writer's own list of lanes up to date.
    pub(super) fn update_lanes(&self, lanes: &mut Vec<Arc<LaneCore>>) {
        if u64::try_from(lanes.len()).unwrap_or(0) != self.lane_count.load(Ordering::Acquire) {
            lanes.clone_from(&lock(&self.lanes));
        }
    }

    pub(super) fn serves(&self) -> bool {
        self.state.load(Ordering::Acquire) == SERVING || self.serves_unrecorded()
    }

    /// Whether requests are served although the log cannot be written.
    pub(super) fn serves_unrecorded(&self) -> bool {
        self.options.on_failure == OnFailure::ServeAndAlarm && self.is_unavailable()
    }

    pub(super) fn is_unavailable(&self) -> bool {
        self.state.load(Ordering::Acquire) == UNAVAILABLE
    }

    /// Whether a queued record counts as durable at once: with an interval, as long as the disk keeps up with it.
    pub(super) fn answers_at_once(&self) -> bool {
        match self.options.durability {
            Durability::BeforeAnswer => false,
            Durability::Interval(bound) => {
                let covered = Duration::from_micros(self.covered_us.load(Ordering::Acquire));
                self.serves() && self.origin.elapsed().saturating_sub(covered) <= bound
            }
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.state.load(Ordering::Acquire) >= CLOSING
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) == CLOSED
    }

    /// Records cannot be made durable for now; [`wake_lanes`](Self::wake_lanes) tells whoever waits.
    pub(super) fn set_unavailable(&self, failure: &super::segments::Failure) {
        *lock(&self.failure) = Some(State::Unavailable {
            operation: failure.operation,
            errno: failure.error.raw_os_error(),
            error: failure.to_string(),
        });
        if self.options.on_failure == OnFailure::ServeAndAlarm {
            self.alarm.store(true, Ordering::Release);
        }
        if !self.is_closing() {
            self.state.store(UNAVAILABLE, Ordering::Release);
        }
    }

    /// Has everybody who waits look again.
    pub(super) fn wake_lanes(&self) {
        for lane in lock(&self.lanes).iter() {
            lane.wake();
        }
    }

    pub(super) fn set_serving(&self) {
        if !self.is_closing() {
            self.state.store(SERVING, Ordering::Release);
        }
        *lock(&self.failure) = None;
    }

    /// Lanes take nothing more; what they hold is still written.
    pub(super) fn set_closing(&self) {
        self.state.store(CLOSING, Ordering::Release);
    }

    /// What is not durable will never be.
    pub(super) fn set_closed(&self) {
        self.state.store(CLOSED, Ordering::Release);
        self.wake_lanes();
    }

    /// Everything queued before this instant is durable.
    pub(super) fn cover(&self, until: Instant) {
        let until = until.saturating_duration_since(self.origin).as_micros();
        self.covered_us.store(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Release);
    }

    pub(super) fn set_writer(&self, thread: Thread) {
        // Set once, by the only writer.
        let _ = self.writer.set(thread);
    }

    /// Tells the writer that there is work, if it sleeps. With an interval it wakes by itself.
    pub(super) fn wake_writer(&self) {
        if self.asleep.load(Ordering::SeqCst)
            && matches!(self.options.durability, Durability::BeforeAnswer)
            && self.asleep.swap(false, Ordering::SeqCst)
        {
            self.unpark();
        }
    }

    pub(super) fn unpark(&self) {
        if let Some(thread) = self.writer.get() {
            thread.unpark();
        }
    }

    pub(super) fn set_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, Ordering::SeqCst);
    }

    pub(super) fn stop(&self, cause: &str) {
        cause.clone_into(&mut lock(&self.cause));
        self.stopping.store(true, Ordering::SeqCst);
        self.unpark();
    }

    pub(super) fn cause(&self) -> String {
        lock(&self.cause).clone()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(super) fn count_gap(&self, unix_ns: i64) {
        let mut gap = lock(&self.gap);
        if gap.records == 0 {
            gap.from_unix_ns = unix_ns;
        }
        gap.records += 1;
        gap.until_unix_ns = unix_ns;
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn take_gap(&self) -> Option<GapCount> {
        let mut gap = lock(&self.gap);
        (gap.records > 0).then(|| std::mem::take(&mut *gap))
    }

    pub(super) fn committed(&self, records: u64, bytes: u64, sequence: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.sequence.store(sequence, Ordering::Release);
    }

    pub(super) fn window(&self) -> Duration {
        match self.options.durability {
            Durability::BeforeAnswer => Duration::ZERO,
            Durability::Interval(bound) => bound,
        }
    }

    pub(super) fn status(&self) -> Status {
        let state = match self.state.load(Ordering::Acquire) {
            SERVING => State::Serving,
            CLOSING | CLOSED => State::Closed,
            _ => lock(&self.failure).clone().unwrap_or(State::Serving),
        };
        let (mut queue_records, mut queue_bytes) = (0, 0);
        for lane in lock(&self.lanes).iter() {
            let (records, bytes) = lane.depth();
            queue_records += records;
            queue_bytes += bytes;
        }
        Status {
            state,
            alarm: self.alarm.load(Ordering::Acquire),
            queue_records,
            queue_bytes,
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            sequence: self.sequence.load(Ordering::Acquire),
            lost: self.lost.load(Ordering::Relaxed),
            window: self.window(),
            tree: TreeStatus::default(),
        }
    }
}
