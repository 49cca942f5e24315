//! The thread that keeps the tree.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use gateway_audit::frame::Frame;
use gateway_audit::note::Signer;
use gateway_audit::tiles::WIDTH;

use super::files::TreeStorage;
use super::handover::{Group, Handover};
use super::resume::Standing;
use super::segments::{read_back, removable, segments};
use super::writer::{TreeWriter, Trouble};
use crate::audit::shared::{Shared, TreeState};
use crate::audit::storage::Storage;

/// How often segments are looked through for those that may go.
const TIDY: Duration = Duration::from_secs(1);

/// What the thread works with.
pub(in crate::audit) struct Tree {
    shared: Arc<Shared>,
    handover: Arc<Handover>,
    segments: Arc<dyn Storage>,
    writer: TreeWriter,
    /// Since when the oldest entry that was taken waits for a checkpoint.
    since: Option<Instant>,
    tidied: Instant,
    /// All that was durable at some time was taken.
    caught_up: bool,
    failing: bool,
}

/// The running thread.
#[derive(Debug)]
pub(in crate::audit) struct TreeThread {
    handover: Arc<Handover>,
    thread: JoinHandle<()>,
}

impl TreeThread {
    /// Makes the last checkpoint and ends the thread.
    pub(in crate::audit) fn stop(self) {
        self.handover.close();
        if self.thread.join().is_err() {
            tracing::error!("the thread of the audit log's tree panicked");
        }
    }
}

impl Tree {
    pub(in crate::audit) fn new(
        shared: Arc<Shared>,
        handover: Arc<Handover>,
        segments: Arc<dyn Storage>,
        files: Arc<dyn TreeStorage>,
        signer: Signer,
        standing: Standing,
    ) -> Self {
        let writer = TreeWriter::new(files, signer, standing);
        Self {
            shared,
            handover,
            segments,
            writer,
            since: None,
            tidied: Instant::now(),
            caught_up: false,
            failing: false,
        }
    }

    /// Starts the thread.
    pub(in crate::audit) fn start(self) -> std::io::Result<TreeThread> {
        let handover = Arc::clone(&self.handover);
        let thread = Builder::new().name("audit-tree".into()).spawn(move || self.run())?;
        handover.set_thread(thread.thread().clone());
        Ok(TreeThread { handover, thread })
    }

    fn run(mut self) {
        loop {
            let closing = self.handover.is_closing();
            match self.turn(closing) {
                Ok(()) => {
                    if std::mem::take(&mut self.failing) {
                        tracing::warn!("the audit log's tiles can be written again");
                    }
                    self.report(None);
                }
                Err(trouble) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::error!(%trouble, "the audit log's tree falls behind; no record is lost");
                    }
                    self.report(Some(trouble.to_string()));
                }
            }
            if closing {
                return;
            }
            self.sleep();
        }
    }

    /// Until something is due; the writer wakes it for a first group and for enough entries.
    fn sleep(&self) {
        let window = self.shared.options.window;
        let nap = if self.failing {
            self.shared.options.retry
        } else {
            match self.since.into_iter().chain(self.handover.oldest()).min() {
                Some(since) => window.delay.saturating_sub(since.elapsed()),
                None => TIDY,
            }
        };
        if (self.failing || !self.has_enough()) && !nap.is_zero() && !self.handover.is_closing() {
            std::thread::park_timeout(nap);
        }
    }

    fn has_enough(&self) -> bool {
        self.handover.waiting() + self.writer.uncovered() >= self.shared.options.window.entries
    }

    /// Takes what is there, and makes the checkpoints that are due.
    fn turn(&mut self, closing: bool) -> Result<(), Trouble> {
        self.writer.mend()?;
        self.writer.flush()?;
        let delay = self.shared.options.window.delay;
        let late = |since: Option<Instant>| since.is_some_and(|since| since.elapsed() >= delay);
        if closing || !self.caught_up || self.has_enough() || late(self.since) || late(self.handover.oldest()) {
            self.caught_up = false;
            self.take_up()?;
            self.caught_up = true;
        }
        if (closing || late(self.since)) && self.writer.uncovered() > 0 {
            self.sign()?;
        }
        if closing {
            return self.writer.sync();
        }
        if self.tidied.elapsed() >= TIDY {
            self.tidied = Instant::now();
            self.tidy()?;
        }
        Ok(())
    }

    /// Takes every durable record: from the groups, and from the segments what is in none.
    fn take_up(&mut self) -> Result<(), Trouble> {
        loop {
            // Read before the queue is looked at: a record that is durable by now, and is in no group then, comes in none.
            let durable = self.shared.durable_sequence();
            match self.handover.first() {
                Some(first) if first > self.writer.next() => self.catch_up(first - 1)?,
                Some(_) => {
                    if let Some(group) = self.handover.take() {
                        let taken = self.take(&group);
                        self.handover.recycle(group);
                        taken?;
                    }
                }
                None if durable >= self.writer.next() => {
                    self.catch_up(durable)?;
                    self.handover.caught_up(self.writer.uncovered());
                }
                None => {
                    self.handover.caught_up(self.writer.uncovered());
                    return Ok(());
                }
            }
        }
    }

    fn take(&mut self, group: &Group) -> Result<(), Trouble> {
        let mut rest = group.frames.as_slice();
        let mut leaves = group.leaves.as_slice();
        while let Ok(frame) = Frame::decode(rest) {
            rest = rest.get(frame.size()..).unwrap_or_default();
            let (known, others) = leaves.split_at_checked(frame.entries()).unwrap_or((leaves, &[]));
            leaves = others;
            if frame.sequence < self.writer.next() {
                // It was read from its segment.
                continue;
            }
            if self.since.is_none() {
                self.since = group.at;
            }
            self.writer.push(&frame, known)?;
            self.sign_if_enough()?;
        }
        Ok(())
    }

    /// Takes the records up to `to` from the segments.
    fn catch_up(&mut self, to: u64) -> Result<(), Trouble> {
        let from = self.writer.next();
        let segments = Arc::clone(&self.segments);
        read_back(&*segments, from, to, |frame, leaves| {
            self.since.get_or_insert_with(Instant::now);
            self.writer.push(frame, leaves)?;
            self.sign_if_enough()
        })
    }

    fn sign_if_enough(&mut self) -> Result<(), Trouble> {
        // The newest checkpoint of an earlier run is met exactly: its unfinished tiles may be torn.
        if self.writer.is_behind_newest() {
            return self.writer.flush();
        }
        // Where tiles end none is left unfinished, to be written twice: the last such place before the window's end.
        let most = self.shared.options.window.entries;
        let least = if self.writer.is_at_tiles_end() { most.saturating_sub(WIDTH) + 1 } else { most };
        if self.writer.uncovered() >= least || self.writer.is_at_newest() { self.sign() } else { Ok(()) }
    }

    fn sign(&mut self) -> Result<(), Trouble> {
        self.writer.sign()?;
        self.since = None;
        self.report(None);
        Ok(())
    }

    /// Removes segments whose records are all in tiles on stable storage.
    fn tidy(&mut self) -> Result<(), Trouble> {
        let failed = |failure| Trouble::ReadBack(super::segments::ReadBackError::Failure(failure));
        let keep = self.shared.options.keep_segments;
        let names = segments(&*self.segments).map_err(failed)?;
        if removable(&names, self.writer.signed_record(), keep).is_empty() {
            return Ok(());
        }
        self.writer.sync()?;
        for (_, name) in removable(&names, self.writer.synced_record(), keep) {
            self.segments.remove(name).map_err(crate::audit::segments::Failure::of("unlink", name)).map_err(failed)?;
        }
        Ok(())
    }

    fn report(&self, error: Option<String>) {
        let since = self.since;
        self.shared.tree_is(TreeState { covered: self.writer.covered(), since, error });
    }
}
