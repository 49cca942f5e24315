//! What the writer hands to the tree: groups that are durable. Bounded in bytes; the writer never waits. What finds no
//! room is read from the segments instead.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use gateway_audit::merkle::Hash;

use super::TreeStatus;
use crate::audit::shared::TreeState;

/// Bytes of frames that may wait.
const MAX_BYTES: usize = 16 << 20;
/// Buffers that are kept for the next groups, and how large they may be.
const KEPT: usize = 8;
const KEPT_BYTES: usize = 4 << 20;

/// One commit group.
#[derive(Debug, Default)]
pub(in crate::audit) struct Group {
    /// Its frames, one after the other.
    pub(in crate::audit) frames: Vec<u8>,
    /// The hashes of all their entries, in order.
    pub(in crate::audit) leaves: Vec<Hash>,
    /// Sequence number of its first record.
    pub(in crate::audit) first: u64,
    /// When it was durable.
    pub(super) at: Option<Instant>,
}

impl Group {
    pub(in crate::audit) fn clear(&mut self) {
        self.frames.clear();
        self.leaves.clear();
        self.at = None;
    }
}

#[derive(Debug, Default)]
struct Queue {
    groups: VecDeque<Group>,
    bytes: usize,
    entries: u64,
    /// Entries that were taken and that no checkpoint covered then.
    uncovered: u64,
    empty: Vec<Group>,
    /// When the first group found no room that is not covered yet.
    overflow: Option<Instant>,
    /// Entries that were ever handed over or found no room, and those that the log held before.
    total: u64,
    closing: bool,
}

/// The queue between writer and tree.
#[derive(Debug)]
pub(in crate::audit) struct Handover {
    queue: Mutex<Queue>,
    thread: OnceLock<Thread>,
    /// Entries without a checkpoint that are worth a wake.
    enough: u64,
}

impl Handover {
    /// A queue of a log that holds `total` entries. `enough` of them without a checkpoint wake the tree.
    pub(in crate::audit) fn new(total: u64, enough: u64) -> Self {
        Self { queue: Mutex::new(Queue { total, ..Queue::default() }), thread: OnceLock::new(), enough }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_thread(&self, thread: Thread) {
        // Set once, by the only one who starts it.
        let _ = self.thread.set(thread);
    }

    /// Hands a group over, for an empty one in its place.
    pub(in crate::audit) fn give(&self, group: &mut Group) {
        let entries = u64::try_from(group.leaves.len()).unwrap_or(u64::MAX);
        let now = Instant::now();
        let wake = {
            let mut queue = self.lock();
            queue.total += entries;
            if queue.bytes + group.frames.len() > MAX_BYTES && !queue.groups.is_empty() {
                queue.overflow.get_or_insert(now);
                drop(queue);
                group.clear();
                return;
            }
            let before = queue.entries;
            queue.entries += entries;
            queue.bytes += group.frames.len();
            let mut next = queue.empty.pop().unwrap_or_default();
            group.at = Some(now);
            std::mem::swap(&mut next, group);
            queue.groups.push_back(next);
            let reaches = queue.uncovered + before < self.enough && queue.uncovered + queue.entries >= self.enough;
            before == 0 || reaches
        };
        if wake {
            self.wake();
        }
    }

    /// The next group. Those that were taken count as waiting no more.
    pub(super) fn take(&self) -> Option<Group> {
        let mut queue = self.lock();
        let group = queue.groups.pop_front()?;
        queue.bytes -= group.frames.len();
        queue.entries -= u64::try_from(group.leaves.len()).unwrap_or(0);
        Some(group)
    }

    /// Sequence number of the first record that waits.
    pub(super) fn first(&self) -> Option<u64> {
        self.lock().groups.front().map(|group| group.first)
    }

    /// Gives a buffer back.
    pub(super) fn recycle(&self, mut group: Group) {
        group.clear();
        let mut queue = self.lock();
        if queue.empty.len() < KEPT && group.frames.capacity() <= KEPT_BYTES {
            queue.empty.push(group);
        }
    }

    /// Since when something waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let queue = self.lock();
        let front = queue.groups.front().and_then(|group| group.at);
        front.into_iter().chain(queue.overflow).min()
    }

    /// Whatever found no room was read from the segments, and so many of the entries that were taken wait for a
    /// checkpoint.
    pub(super) fn caught_up(&self, uncovered: u64) {
        let mut queue = self.lock();
        queue.overflow = None;
        queue.uncovered = uncovered;
    }

    /// Entries of the log.
    pub(super) fn total(&self) -> u64 {
        self.lock().total
    }

    /// Entries that wait.
    pub(super) fn waiting(&self) -> u64 {
        self.lock().entries
    }

    /// How far the tree is behind.
    pub(in crate::audit) fn status(&self, tree: &TreeState) -> TreeStatus {
        let lag_entries = self.total().saturating_sub(tree.covered);
        let oldest = tree.since.into_iter().chain(self.oldest()).min().filter(|_| lag_entries > 0);
        let lag = oldest.map_or(Duration::ZERO, |oldest| oldest.elapsed());
        TreeStatus { size: tree.covered, lag_entries, lag, error: tree.error.clone() }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Nothing more will be given.
    pub(in crate::audit) fn close(&self) {
        self.lock().closing = true;
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}
