//! The audit log's writer (R5, R6; rows A1 to A8, A10 and A13 of the threat list).
//!
//! Workers hand records to their [`Lane`] and wait until they are durable. One thread gives every record its place
//! in the log, writes what all lanes hold as one group with one `fdatasync`, and tells the lanes. When the log
//! cannot be written, lanes refuse; the writer goes on trying, and serves again without a restart. A second thread keeps
//! the tree over the records, and signs it.
//!
//! The format is `gateway_audit`'s.

pub mod init;
mod lane;
pub mod opening;
mod options;
mod place;
mod recovery;
pub mod refusals;
pub mod retention;
mod sealing;
mod segments;
mod shared;
mod signing;
mod storage;
mod tree;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use gateway_audit::note::Signer;
use gateway_audit::record::{ClockChange, ClockEvent, Recovery, ReviewersChange, Start};
use gateway_audit::reviewer::set::Head;

pub use lane::{ControlLane, Lane, Ticket};
pub use options::{Durability, OnFailure, Options};
pub use place::{LANES, Place, lane_directory, segments_directory, take_lane};
pub use recovery::{RecoveryError, RegistryMark};
pub use sealing::{KeyDirectory, KeyStorage, Sealing};
pub use segments::{Failure, Preparation, segment_first, segment_name};
pub use shared::{Observer, State, Status};
pub use signing::{SIGNING_KEY, SigningError, VERIFIER_KEYS, signer};
pub use storage::{Directory, DirectoryError, LogFile, Storage};
pub use tree::{TreeDirectory, TreeError, TreeStatus, TreeStorage, Window, begin_lanes};

use crate::clock::Clock;
use sealing::Sealer;
use segments::{Layout, Segments};
use shared::Shared;
use tree::{Handover, Tree, TreeThread};
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
    /// Checkpoints cannot be signed.
    #[error(transparent)]
    Signing(#[from] SigningError),
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
    sealing: Sealing,
    handover: Arc<Handover>,
    threads: Mutex<Option<Threads>>,
    /// The lane, where it is a folder of the file system.
    place: Option<Place>,
}

#[derive(Debug)]
struct Threads {
    writer: JoinHandle<Result<(), Failure>>,
    tree: TreeThread,
}

/// What a log is written to.
pub struct Target {
    /// The segments.
    pub segments: Arc<dyn Storage>,
    /// Tiles and checkpoints.
    pub tree: Arc<dyn TreeStorage>,
    /// Signs checkpoints; its name is the log's.
    pub signer: Signer,
    /// Seals records.
    pub sealing: Sealing,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("signer", &self.signer).finish_non_exhaustive()
    }
}

impl Audit {
    /// Takes a free lane of the directory, puts in order what a crash left there, and starts the writer. When it returns, the
    /// `start` record is durable, and so is `recovery` where there is one.
    ///
    /// # Errors
    /// [`OpenError`]; the gateway must not serve.
    pub fn open(
        directory: &Path,
        sealing: Sealing,
        options: Options,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, OpenError> {
        is_node_name(&options)?;
        let place = take_lane(directory)?;
        let lane = place.lane;
        let signer = signing::signer(directory, [options.origin(1), options.origin(2)], lane)?;
        let segments = Arc::new(Directory::open(&segments_directory(directory, lane))?);
        let tree = Arc::new(TreeDirectory::open(&place.path)?);
        if place.copied {
            tracing::warn!(
                directory = %place.path.display(),
                "the audit directory was copied or put back: see that no other gateway goes on with the original"
            );
        }
        // The lane that is not used verifies as well.
        if let Err(error) = begin_lanes(directory, [options.origin(1), options.origin(2)]) {
            tracing::warn!(%error, "the other lane of the audit log is not begun");
        }
        let target = Target { segments, tree, signer, sealing };
        // Another lane may hold later changes of the registry than this one.
        let elsewhere = (1..=LANES).filter(|other| *other != lane).filter_map(|other| {
            let segments = segments_directory(directory, other);
            if segments.is_dir() { recovery::glance(&Directory::open(&segments).ok()?) } else { None }
        });
        let elsewhere = elsewhere.max_by_key(|mark| mark.registry_sequence);
        let mut audit = Self::open_at(target, Some(place), options, clock, observer)?;
        let own = audit.registry.as_ref().map_or(0, |mark| mark.registry_sequence);
        if let Some(later) = elsewhere.filter(|mark| mark.registry_sequence > own) {
            audit.registry = Some(later);
        }
        Ok(audit)
    }

    /// As [`open`](Self::open), on storage that the caller has for itself.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(test)]
    pub fn open_on(
        target: Target,
        options: Options,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, OpenError> {
        Self::open_at(target, None, options, clock, observer)
    }

    fn open_at(
        target: Target,
        place: Option<Place>,
        options: Options,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, OpenError> {
        let Target { segments: storage, tree: files, signer, sealing } = target;
        is_node_name(&options)?;
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| OpenError::System(std::io::Error::other("no random numbers")))?;
        let mut standing = tree::stand(&*files, signer.verifier()).map_err(RecoveryError::Tree)?;
        let found = recovery::recover(&*storage, &*files, &standing, &options.node, id)?;
        standing.begin(&*files, &signer, found.entries);
        let origin = signer.verifier().name().to_owned();
        let handover = Arc::new(Handover::new(found.entries, options.window.entries));
        let layout = Layout {
            log: found.log,
            node: options.node.clone(),
            segment_bytes: options.segment_bytes,
            reserve_bytes: options.reserve_bytes,
            preparation: options.preparation,
        };
        let shared = Arc::new(Shared::new(options, clock));
        let tree = Tree::new(shared.clone(), handover.clone(), storage.clone(), files, signer, standing);
        let segments = Segments::new(storage, layout);
        let sealer = Sealer::new(origin.clone(), sealing.clone());
        let mut writer = Writer::new(shared.clone(), observer, segments, found.chain, handover.clone(), sealer);
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
                source: None,
            });
        }
        let reviewers = sealing.reviewers.load_full();
        let heads: Vec<_> = reviewers.heads().map(|head| reviewers_change(&head)).collect();
        writer.say(&Start {
            log: &found.log,
            origin: &origin,
            reviewers: &heads,
            copied: place.as_ref().is_some_and(|place| place.copied),
            program: &shared.options.program,
            window_ms: u64::try_from(shared.window().as_millis()).unwrap_or(u64::MAX),
            durability: shared.options.durability.label(),
            on_failure: shared.options.on_failure.label(),
        });
        writer.begin()?;
        let tree = tree.start().map_err(OpenError::System)?;
        let writer = Builder::new().name("audit".into()).spawn(move || writer.run()).map_err(OpenError::System)?;
        shared.set_writer(writer.thread().clone());
        let threads = Mutex::new(Some(Threads { writer, tree }));
        Ok(Self { shared, registry: found.registry, sealing, handover, threads, place })
    }

    /// What the log is sealed with. Another set of reviewers there holds from the next group of records on.
    #[must_use]
    pub const fn sealing(&self) -> &Sealing {
        &self.sealing
    }

    /// The lane that this process writes, where the log lies in a directory.
    #[must_use]
    pub fn lane_number(&self) -> Option<u8> {
        self.place.as_ref().map(|place| place.lane)
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
        Status { tree: self.handover.status(&self.shared.tree()), ..self.shared.status() }
    }

    /// Writes everything that is queued and a `stop` record, covers it by a checkpoint, and ends the threads. Blocks. Lanes refuse from then
    /// on. A second call does nothing.
    ///
    /// # Errors
    /// [`Failure`] if the `stop` record could not be made durable.
    pub fn stop(&self, cause: &str) -> Result<(), Failure> {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Threads { writer, tree }) = threads else { return Ok(()) };
        self.shared.stop(cause);
        let stopped = writer.join().unwrap_or_else(|_| {
            Err(Failure { operation: "run", file: "audit".into(), error: std::io::Error::other("the writer panicked") })
        });
        tree.stop();
        stopped
    }
}

/// The record of a site's reviewers.
#[must_use]
pub fn reviewers_change<'a>(head: &Head<'a>) -> ReviewersChange<'a> {
    ReviewersChange { site: head.site, number: head.number, sha256: head.digest }
}

fn is_node_name(options: &Options) -> Result<(), OpenError> {
    if options.node.len() > gateway_audit::frame::MAX_NODE {
        return Err(OpenError::NodeName(options.node.clone()));
    }
    Ok(())
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
