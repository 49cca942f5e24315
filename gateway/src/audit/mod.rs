//! The audit log's writer (R5, R6; rows A1 to A8, A10 and A13 of the threat list).
//!
//! Workers hand records to their [`Lane`] and wait until they are durable. One thread gives every record its place
//! in the log, writes what all lanes hold as one group with one `fdatasync`, and tells the lanes. When the log
//! cannot be written, lanes refuse; the writer goes on trying, and serves again without a restart.
//!
//! The format is `gateway_audit`'s.

pub mod init;
mod lane;
mod options;
mod recovery;
pub mod refusals;
mod segments;
mod shared;
mod storage;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use gateway_audit::record::{ClockChange, ClockEvent, Recovery, Start};

pub use lane::{ControlLane, Lane, Ticket};
pub use options::{Durability, OnFailure, Options};
pub use recovery::{RecoveryError, RegistryMark};
pub use segments::{Failure, Preparation, segment_first, segment_name};
pub use shared::{Observer, State, Status};
pub use storage::{Directory, DirectoryError, LogFile, Storage};

use crate::clock::Clock;
use segments::{Layout, Segments};
use shared::Shared;
use writer::Writer;

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// What lies in it cannot be continued.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The first records cannot be written.
    #[error("the audit log cannot be written: {0}")]
    Failure(#[from] Failure),
    /// The node's name does not fit a segment's header.
    #[error("the node's name `{0}` is longer than 128 bytes")]
    NodeName(String),
    /// No random id for a new log, or no thread.
    #[error("the audit log cannot be started: {0}")]
    System(std::io::Error),
}

/// The open log.
#[derive(Debug)]
pub struct Audit {
    shared: Arc<Shared>,
    registry: Option<RegistryMark>,
    thread: Mutex<Option<JoinHandle<Result<(), Failure>>>>,
}

impl Audit {
    /// Locks the directory, puts in order what a crash left there, and starts the writer. When it returns, the
    /// `start` record is durable, and so is `recovery` where there is one.
    ///
    /// # Errors
    /// [`OpenError`]; the gateway must not serve.
    pub fn open(
        directory: &Path,
        options: Options,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(Directory::open(directory)?), options, clock, observer)
    }

    /// As [`open`](Self::open), on storage that the caller has for itself.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_on(
        storage: Arc<dyn Storage>,
        options: Options,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, OpenError> {
        if options.node.len() > gateway_audit::frame::MAX_NODE {
            return Err(OpenError::NodeName(options.node));
        }
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| OpenError::System(std::io::Error::other("no random numbers")))?;
        let found = recovery::recover(&*storage, &options.node, id)?;
        let layout = Layout {
            log: found.log,
            node: options.node.clone(),
            segment_bytes: options.segment_bytes,
            reserve_bytes: options.reserve_bytes,
            preparation: options.preparation,
        };
        let shared = Arc::new(Shared::new(options, clock));
        let mut writer = Writer::new(shared.clone(), observer, Segments::new(storage, layout), found.chain);
        if found.is_worth_a_record() {
            writer.say(&Recovery {
                last_sequence: found.chain.next - 1,
                torn: &found.torn,
                unresolved: &found.unresolved,
                unresolved_count: found.unresolved_count,
            });
        }
        let now = shared.clock.now().unix_ns;
        if let Some(last) = found.last_unix_ns
            && now < last
        {
            writer.say(&ClockChange {
                event: ClockEvent::Regression,
                previous_unix_ns: Some(last),
                change_ns: now.checked_sub(last),
            });
        }
        writer.say(&Start {
            log: &found.log,
            program: &shared.options.program,
            window_ms: u64::try_from(shared.window().as_millis()).unwrap_or(u64::MAX),
            durability: shared.options.durability.label(),
            on_failure: shared.options.on_failure.label(),
        });
        writer.begin()?;
        let thread = Builder::new().name("audit".into()).spawn(move || writer.run()).map_err(OpenError::System)?;
        shared.set_writer(thread.thread().clone());
        Ok(Self { shared, registry: found.registry, thread: Mutex::new(Some(thread)) })
    }

    /// A lane for the calling worker, and its driver, which the worker spawns on its own thread.
    pub fn lane(&self) -> (Lane, impl Future<Output = ()> + 'static) {
        Lane::new(self.shared.clone())
    }

    /// A lane for everything but the workers.
    #[must_use]
    pub fn control(&self) -> ControlLane {
        ControlLane::new(self.shared.clone())
    }

    /// The last change of the registry that stood in the last two segments when the log was opened; none if there was
    /// none there.
    #[must_use]
    pub const fn registry_mark(&self) -> Option<&RegistryMark> {
        self.registry.as_ref()
    }

    /// Figures for metrics and `/readyz`.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// Writes everything that is queued and a `stop` record, then ends the writer. Blocks. Lanes refuse from then
    /// on. A second call does nothing.
    ///
    /// # Errors
    /// [`Failure`] if the `stop` record could not be made durable.
    pub fn stop(&self, cause: &str) -> Result<(), Failure> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return Ok(()) };
        self.shared.stop(cause);
        thread.join().unwrap_or_else(|_| {
            Err(Failure { operation: "run", file: "audit".into(), error: std::io::Error::other("the writer panicked") })
        })
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        if let Err(failure) = self.stop("dropped") {
            tracing::error!(%failure, "the audit log ends without its stop record");
        }
    }
}

#[cfg(test)]
mod tests;
