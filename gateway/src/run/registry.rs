//! The registry and the audit log of this node: every change is recorded once, and a registry that was put back is not
//! taken for the one that the log tells of.
//!
//! The log's last two segments tell of the last change if it is recent, by the clear headers of its records; a file beside
//! them, [`MARK`], if it is not. Both tell its number and a keyed fingerprint of it, and no name. The file is written
//! after the record is durable, so that it is never ahead of the log.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gateway_audit::record::{RegistryChange, RegistryRollback};
use policy::Refusal;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;

use crate::audit::{Audit as Log, ControlLane, RegistryMark, Sealing};
use crate::login::Logins;
use crate::registry::Directory;
use crate::registry::watch::OnChange;
use crate::replace::replace;
use crate::session::Sessions;
use crate::snapshot::Snapshots;
use crate::store::{Change, Entry, Store, StoreError};

/// The file in the audit directory: the last recorded change.
const MARK: &str = "registry-mark.json";
/// Beside it: held by whoever records a change, so that of two processes that overlap only one does.
const LOCK: &str = "registry-mark.lock";
/// A process whose log is stuck does not keep the other from recording for longer. Twice is better than never.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);
/// The pause after the file could not be written.
const RETRY: Duration = Duration::from_secs(1);

/// Why the registry is not used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// An older or a foreign copy was put in place, which may un-revoke.
    #[error(
        "registry rolled back: the audit log holds change {recorded} of the registry, and `{path}` {}; put the right \
         store in place, see `registry-rolled-back` in the runbook",
        if recorded > held { format!("ends with change {held}") } else { "holds another of that number".to_owned() }
    )]
    RolledBack {
        /// The store's file.
        path: PathBuf,
        /// The last change in the log.
        recorded: u64,
        /// The last change in the store.
        held: u64,
    },
    /// The file beside the log is not what the gateway writes.
    #[error("`{path}`: {reason}; it says which change of the registry was recorded last", path = path.display())]
    Mark {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The roll-back could not be recorded.
    #[error("a registry that was rolled back cannot be recorded: {0}")]
    Unrecorded(Refusal),
}

/// Keeps [`MARK`] up to date. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    path: Arc<Path>,
    latest: watch::Sender<Option<RegistryMark>>,
    writing: Arc<Mutex<()>>,
}

impl Marks {
    /// Compares the registry with the last change that the log tells of; returns that change's number, 0 if there is
    /// none. A registry without that very change is recorded as rolled back, and refused.
    ///
    /// # Errors
    /// [`RegistryError`]; the gateway must not serve.
    pub(super) async fn open(directory: &Path, log: &Log, store: &Store) -> Result<(Self, u64), RegistryError> {
        let path: Arc<Path> = directory.join(MARK).into();
        let written = read(&path).map_err(|reason| RegistryError::Mark { path: path.to_path_buf(), reason })?;
        let mark = match (written, log.registry_mark()) {
            (Some(file), Some(log)) if file.registry_sequence > log.registry_sequence => Some(file),
            // The log itself is the better witness.
            (_, Some(log)) => Some(log.clone()),
            (file, None) => file,
        };
        let audited = mark.as_ref().map_or(0, |mark| mark.registry_sequence);
        if let Some(mark) = &mark
            && store.change(audited).await?.map(|change| fingerprint(log.sealing(), &change)).as_ref()
                != Some(&mark.fingerprint)
        {
            let held = store.sequence().await?;
            let record = RegistryRollback { recorded_sequence: audited, store_sequence: held };
            log.control().record(&record).await.map_err(RegistryError::Unrecorded)?;
            let _ = log.stop("registry-rolled-back");
            return Err(RegistryError::RolledBack { path: store.path().to_owned(), recorded: audited, held });
        }
        Ok((Self { path, latest: watch::Sender::new(mark), writing: Arc::default() }, audited))
    }

    /// Writes the file after every change, or after many that came at once; for as long as the gateway runs.
    pub(super) async fn keep(self) {
        let mut changes = self.latest.subscribe();
        loop {
            changes.mark_unchanged();
            let marks = self.clone();
            match tokio::task::spawn_blocking(move || marks.write()).await {
                Ok(true) => {
                    if changes.changed().await.is_err() {
                        return;
                    }
                }
                Ok(false) | Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Writes the file with what is latest, or says why not. A file that lags does no harm while the log's last two
    /// segments hold the change.
    pub(super) fn write(&self) -> bool {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = self.latest.borrow().clone();
        // What another process has recorded since stays.
        let stands = |mark: &RegistryMark| matches!(read(&self.path), Ok(Some(file)) if file.registry_sequence >= mark.registry_sequence);
        let replaced = |mark: RegistryMark| replace(&self.path, &serde_json::to_vec(&mark)?, 0o600);
        match latest.filter(|mark| !stands(mark)).map(replaced) {
            None | Some(Ok(())) => true,
            Some(Err(error)) => {
                tracing::warn!(path = %self.path.display(), %error, "cannot write what was recorded last");
                false
            }
        }
    }
}

impl Marks {
    /// Waits for the other process of this node that may be recording a change, if there is one.
    async fn alone(&self) -> Option<File> {
        let path = self.path.with_file_name(LOCK);
        let open = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = open.inspect_err(|error| tracing::warn!(path = %path.display(), %error, "cannot be opened")).ok()?;
        let begun = tokio::time::Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Some(file),
                Err(_) if begun.elapsed() < PATIENCE => tokio::time::sleep(LOOK).await,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a change of the registry may be recorded twice");
                    return None;
                }
            }
        }
    }

    /// Whether another process has recorded this change, or one behind it.
    fn has(&self, mark: &RegistryMark) -> bool {
        match read(&self.path) {
            Ok(Some(file)) => file.registry_sequence > mark.registry_sequence || file == *mark,
            Ok(None) | Err(_) => false,
        }
    }
}

/// What tells this very change from another of its number: all that the registry keeps of it, keyed.
fn fingerprint(sealing: &Sealing, change: &Change) -> String {
    // A change that cannot be written as JSON is like no other.
    let change = serde_json::to_string(change).unwrap_or_default();
    sealing.fingerprint(&format!("registry change\n{change}"))
}

fn read(path: &Path) -> Result<Option<RegistryMark>, String> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Puts changes into the log.
pub(super) struct Recorder {
    pub(super) lane: ControlLane,
    pub(super) sealing: Sealing,
    pub(super) marks: Marks,
}

impl Recorder {
    async fn record(&self, change: &Change) -> Result<(), Refusal> {
        let body = serde_json::to_string(&change.body).map_err(|_| Refusal::InternalError)?;
        let (registry_sequence, fingerprint) = (change.sequence, fingerprint(&self.sealing, change));
        let (actor, body) = (change.actor.as_bytes(), body.as_bytes());
        // While one process takes over from another both follow the registry.
        let _alone = self.marks.alone().await;
        let mark = RegistryMark { registry_sequence, fingerprint };
        if !self.marks.has(&mark) {
            let fingerprint = &mark.fingerprint;
            self.lane.record(&RegistryChange { registry_sequence, fingerprint, change: body, actor }).await?;
        }
        self.marks.latest.send_replace(Some(mark));
        // Before the other process looks; where it fails, it is tried again.
        self.marks.write();
        Ok(())
    }
}

/// What the gateway does about a change of the registry.
pub(super) struct Follow {
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) recorder: Recorder,
    pub(super) logins: Arc<Logins>,
    pub(super) sessions: Arc<Sessions>,
}

impl OnChange for Follow {
    type Error = Refusal;

    fn publish(&self, directory: Arc<Directory>, changes: &[Change]) {
        let snapshot = self.snapshots.publish_directory(Arc::clone(&directory));
        tracing::info!(snapshot, changes = changes.len(), "the registry has changed");
        for change in changes {
            if let Some(Entry::Lockout(lockout)) = &change.body.before {
                self.logins.lift(&lockout.lifted);
            }
            self.sessions.follow(change);
        }
        self.sessions.review(&directory);
    }

    async fn record(&self, change: &Change) -> Result<(), Refusal> {
        self.recorder.record(change).await
    }
}

#[cfg(test)]
mod tests;
