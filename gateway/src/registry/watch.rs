//! How a running gateway learns of changes that others make to the store.
//!
//! Two loops that do not wait for each other, so that a slow audit log never delays a revocation: one polls the
//! store, and publishes the new directory at once; the other puts each change into the audit log and then marks it
//! recorded. A crash between the two hands the change over again: at least once, with its sequence to tell.
//!
//! Losing the store never unlocks nor un-revokes: while it cannot be read, or its history is not the one that was
//! read before, the last directory stays, and [`WatchState`] says so.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use super::directory::Directory;
use crate::store::{Change, Store, StoreError};

/// The time between two looks at the store: a change is acted on within a second (R27).
pub const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// A look at the store that takes longer is reported as failing, and goes on.
const POLL_LATE: Duration = Duration::from_secs(2);

/// The time after which keys of tunnels that could not be opened are tried again.
const REOPEN_KEYS: Duration = Duration::from_secs(5);

/// The pause after the audit log or the store refused a record.
const RECORD_RETRY: Duration = Duration::from_millis(500);

/// Changes recorded between two moves of the cursor.
const RECORD_BATCH: u32 = 256;

/// What the gateway does about a change.
pub trait OnChange {
    /// Why a change could not be put into the audit log.
    type Error: std::fmt::Display;

    /// Acts on a new directory at once: publishes it and ends connections that it no longer admits. `changes` led from
    /// the directory published before to this one, oldest first. Must not block.
    fn publish(&self, directory: Arc<Directory>, changes: &[Change]);

    /// Puts the change into the audit log; returns when it is durable. Called in order of sequence, and again for a
    /// change whose recording failed or was not marked before a crash.
    fn record(&self, change: &Change) -> impl Future<Output = Result<(), Self::Error>>;
}

/// How the watch fares; for readiness and metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WatchState {
    /// Why the store cannot be followed; none while it can. The directory in use may be out of date.
    pub store_error: Option<String>,
    /// Why changes cannot be recorded; none while they can.
    pub record_error: Option<String>,
    /// Looks at the store that failed since start.
    pub store_failures: u64,
    /// Attempts to record that failed since start.
    pub record_failures: u64,
    /// Number of the last change that was published.
    pub published: u64,
    /// Number of the last change that is in the audit log.
    pub recorded: u64,
}

/// Why a gateway may not serve yet.
#[derive(Debug, thiserror::Error)]
pub enum CatchUpError {
    /// The store cannot be read or marked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A change made while no gateway ran cannot be put into the audit log.
    #[error("change {sequence} of the registry cannot be recorded: {reason}")]
    Record {
        /// Its number.
        sequence: u64,
        /// What the audit log said.
        reason: String,
    },
}

/// Follows the store on behalf of one gateway node.
#[derive(Debug)]
pub struct Watch<H> {
    node: String,
    hook: H,
    follower: Follower,
    state: watch::Sender<WatchState>,
    /// The store in use; sent anew when there is something to record.
    stores: watch::Sender<Store>,
}

/// What is known of the store.
#[derive(Debug, Clone)]
struct Follower {
    store: Store,
    sequence: u64,
    /// The change of that number: if the store no longer has it, it is not the store that was followed.
    last: Option<Change>,
    /// Keys of tunnels that could not be opened, and when that was tried.
    unreadable: Option<(u64, Instant)>,
}

impl<H: OnChange> Watch<H> {
    /// A watch of `store` for `node`, which names the cursor of its audit log. Does nothing yet.
    #[must_use]
    pub fn new(store: Store, node: &str, hook: H) -> Self {
        let stores = watch::Sender::new(store.clone());
        let follower = Follower { store, sequence: 0, last: None, unreadable: None };
        Self { node: node.to_owned(), hook, follower, state: watch::Sender::default(), stores }
    }

    /// The store in use: another handle when another file took its place.
    #[must_use]
    pub fn stores(&self) -> watch::Receiver<Store> {
        self.stores.subscribe()
    }

    /// How the watch fares.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<WatchState> {
        self.state.subscribe()
    }

    /// To be called before serving: hands every change that was made while no gateway ran to [`OnChange::record`],
    /// and returns the directory to start with, without publishing it. `audited` is the number of the last change that
    /// the node's audit log is known to hold, 0 if nobody looked.
    ///
    /// # Errors
    /// [`CatchUpError`]; then the gateway must not serve. Among them [`StoreError::RolledBack`] if the audit log holds
    /// changes that the store does not: an older copy was put in place, which may un-revoke.
    pub async fn catch_up(&mut self, audited: u64) -> Result<Arc<Directory>, CatchUpError> {
        let store = self.follower.store.clone();
        if audited > store.sequence().await? {
            return Err(StoreError::RolledBack { path: store.path().to_owned(), sequence: audited }.into());
        }
        store.mark_recorded(&self.node, audited).await?;
        let mut recorded = store.recorded_up_to(&self.node).await?;
        while let Some(next) = record_batch(&store, &self.node, &self.hook, recorded).await? {
            recorded = next;
        }
        let directory = self.follower.start().await?;
        self.state.send_modify(|state| {
            state.published = directory.version();
            state.recorded = recorded;
        });
        Ok(directory)
    }

    /// Follows the store until dropped.
    pub async fn run(self) -> Infallible {
        let Self { node, hook, mut follower, state, stores: notice } = self;
        let noticed = notice.subscribe();
        let polling = async {
            let mut ticks = tokio::time::interval(POLL_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let polled = patiently(&mut follower, &state).await;
                match polled {
                    Ok(Some((directory, changes))) => {
                        let version = directory.version();
                        hook.publish(directory, &changes);
                        state.send_modify(|state| {
                            state.published = version;
                            state.store_error = None;
                        });
                        notice.send_replace(follower.store.clone());
                    }
                    Ok(None) => {
                        state.send_if_modified(|state| state.store_error.take().is_some());
                    }
                    Err(error) => store_failed(&state, error.to_string()),
                }
            }
        };
        let recording = record_for_ever(&node, &hook, &state, noticed);
        tokio::select! {
            never = polling => never,
            never = recording => never,
        }
    }
}

/// One look at the store; where it takes long, the state says so while it goes on.
async fn patiently(
    follower: &mut Follower,
    state: &watch::Sender<WatchState>,
) -> Result<Option<(Arc<Directory>, Vec<Change>)>, StoreError> {
    let path = follower.store.path().to_owned();
    let mut look = std::pin::pin!(follower.poll());
    loop {
        match tokio::time::timeout(POLL_LATE, look.as_mut()).await {
            Ok(polled) => return polled,
            Err(_) => store_failed(state, format!("`{}`: no answer for too long", path.display())),
        }
    }
}

fn store_failed(state: &watch::Sender<WatchState>, error: String) {
    state.send_modify(|state| {
        state.store_failures = state.store_failures.saturating_add(1);
        state.store_error = Some(error);
    });
}

impl Follower {
    /// Everything as it stands; the journal's past is not read.
    async fn start(&mut self) -> Result<Arc<Directory>, StoreError> {
        let sequence = self.store.sequence().await?;
        self.last = self.store.change(sequence).await?;
        self.sequence = sequence;
        let (directory, _) = self.read().await?;
        Ok(directory)
    }

    /// The new directory and what led to it, if the store has changed.
    async fn poll(&mut self) -> Result<Option<(Arc<Directory>, Vec<Change>)>, StoreError> {
        if self.store.check_in_place().is_err() {
            return self.reopen().await;
        }
        if self.store.sequence().await? == self.sequence {
            return self.retry_keys().await;
        }
        self.read().await.map(Some)
    }

    /// Reads again where keys of tunnels could not be opened; a directory only if more, or fewer, can be by now. Their file is not in the
    /// registry, so that no change of it tells when that is back.
    async fn retry_keys(&mut self) -> Result<Option<(Arc<Directory>, Vec<Change>)>, StoreError> {
        let Some((before, _)) = self.unreadable.filter(|(_, tried)| tried.elapsed() >= REOPEN_KEYS) else {
            return Ok(None);
        };
        let (directory, changes) = self.read().await?;
        let is_news = directory.unreadable_tunnel_keys() != before || !changes.is_empty();
        Ok(is_news.then_some((directory, changes)))
    }

    /// Takes up the file that replaced the one in use, if its history goes on from there.
    async fn reopen(&mut self) -> Result<Option<(Arc<Directory>, Vec<Change>)>, StoreError> {
        let store = self.store.reopen().await?;
        let mut next = Self { store, sequence: self.sequence, last: self.last.clone(), unreadable: None };
        let read = next.read().await?;
        *self = next;
        Ok(Some(read))
    }

    async fn read(&mut self) -> Result<(Arc<Directory>, Vec<Change>), StoreError> {
        let (entries, changes) = self.store.entries_since(self.sequence, self.last.as_ref()).await?;
        self.sequence = entries.sequence;
        if let Some(last) = changes.last() {
            self.last = Some(last.clone());
        }
        let directory = Directory::build(&entries);
        let unreadable = directory.unreadable_tunnel_keys();
        self.unreadable = (unreadable > 0).then(|| (unreadable, Instant::now()));
        Ok((Arc::new(directory), changes))
    }
}

/// Records what the cursor says is not recorded yet, whenever there is news, and again after a failure.
async fn record_for_ever<H: OnChange>(
    node: &str,
    hook: &H,
    state: &watch::Sender<WatchState>,
    mut noticed: watch::Receiver<Store>,
) -> Infallible {
    loop {
        let store = noticed.borrow_and_update().clone();
        match record_all(&store, node, hook, state).await {
            Ok(()) => {
                state.send_if_modified(|state| state.record_error.take().is_some());
                if noticed.changed().await.is_err() {
                    // The sender lives as long as this loop; without it there is no news.
                    std::future::pending::<()>().await;
                }
            }
            Err(error) => {
                state.send_modify(|state| {
                    state.record_failures = state.record_failures.saturating_add(1);
                    state.record_error = Some(error.to_string());
                });
                tokio::time::sleep(RECORD_RETRY).await;
            }
        }
    }
}

async fn record_all<H: OnChange>(
    store: &Store,
    node: &str,
    hook: &H,
    state: &watch::Sender<WatchState>,
) -> Result<(), CatchUpError> {
    let mut recorded = store.recorded_up_to(node).await?;
    while let Some(next) = record_batch(store, node, hook, recorded).await? {
        recorded = next;
        state.send_modify(|state| state.recorded = recorded);
    }
    Ok(())
}

/// Records the next changes and moves the cursor; none if there was nothing to record. What was recorded before a
/// failure is marked, so that it is not recorded again.
async fn record_batch<H: OnChange>(
    store: &Store,
    node: &str,
    hook: &H,
    recorded: u64,
) -> Result<Option<u64>, CatchUpError> {
    let mut last = recorded;
    let mut failure = None;
    for change in store.changes_after(recorded, RECORD_BATCH).await? {
        match hook.record(&change).await {
            Ok(()) => last = change.sequence,
            Err(error) => {
                failure = Some(CatchUpError::Record { sequence: change.sequence, reason: error.to_string() });
                break;
            }
        }
    }
    if last > recorded {
        store.mark_recorded(node, last).await?;
    }
    match failure {
        Some(failure) => Err(failure),
        None => Ok((last > recorded).then_some(last)),
    }
}

#[cfg(test)]
mod tests;
