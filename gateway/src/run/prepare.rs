//! Everything that must be well before the first connection is taken, in order: closed on failure.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use certs::verifier::Admit;
use policy::Refusal;

use super::registry::RegistryError;
use super::reviewers::{self, ReviewersError};
use crate::accounts::AccountError;
use crate::audit::init::InitError;
use crate::audit::{self, Audit as Log, Options, Sealing};
use crate::clock::{Clock as _, KernelClock, boot_id};
use crate::config::{Audit, Config, ConfigError, Durability, OnAuditFailure};
use crate::enrolment::EnrolmentError;
use crate::load::{LoadError, load_config};
use crate::metrics::{Metrics, MetricsError};
use crate::registry::Directory;
use crate::registry::watch::CatchUpError;
use crate::session::{SessionKey, SessionKeyError};
use crate::snapshot::Loaded;
use crate::store::{Store, StoreError};
use crate::upstream::identity::{KeyError, SigningKey};

/// Why the gateway did not start. The message names the file, the key or the address.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something that the configuration names.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The kernel's clock.
    #[error("the kernel's clock cannot be read: {0}")]
    Clock(std::io::Error),
    /// The wall clock is of a time that certificates cannot be judged by.
    #[error("the clock is before 1970")]
    BeforeEpoch,
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] audit::OpenError),
    /// What the log is sealed with.
    #[error(transparent)]
    Sealing(#[from] InitError),
    /// The start could not be recorded.
    #[error("the start cannot be recorded: {0}")]
    Unrecorded(Refusal),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Changes of the registry that were made while no gateway ran.
    #[error(transparent)]
    CatchUp(#[from] CatchUpError),
    /// The registry is not the one that the audit log tells of.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The reviewers are not those that the audit log was sealed to, nor named by them.
    #[error(transparent)]
    Reviewers(#[from] ReviewersError),
    /// The key that identities are signed with.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key that secrets of sessions are hashed under.
    #[error(transparent)]
    SessionKey(#[from] SessionKeyError),
    /// A listener's address.
    #[error("listener `{name}` on {address}: {error}")]
    Bind {
        /// The listener.
        name: String,
        /// Its address.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// Sockets that no listener has a use for.
    #[error("the service manager passed sockets that no listener is named after: {0}")]
    UnknownSockets(String),
    /// A folder that is to be made.
    #[error("`{path}`: {error}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// Operators' TLS.
    #[error("admin listener: {0}")]
    AdminTls(String),
    /// The clinic's own authority, or where devices enrol.
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    /// The gateway's own accounts.
    #[error(transparent)]
    Accounts(#[from] AccountError),
    /// The key that tunnels end at.
    #[error(transparent)]
    TunnelKey(#[from] crate::tunnels::TunnelKeyError),
    /// Where providers end sessions.
    #[error(transparent)]
    BackChannel(#[from] crate::oidc::BackChannelError),
    /// The metrics.
    #[error("metrics: {0}")]
    Metrics(#[from] MetricsError),
    /// A worker.
    #[error("worker {index} cannot start: {reason}")]
    Worker {
        /// Its number, from 0.
        index: usize,
        /// Why.
        reason: String,
    },
    /// A thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// The control thread ended without a word.
    #[error("the control thread ended before the gateway served")]
    ControlDied,
}

/// What is ready once the files are read and the log is open.
pub(super) struct Prepared {
    pub(super) loaded: Arc<Loaded>,
    pub(super) directory: Arc<ArcSwap<Directory>>,
    pub(super) admit: Admit,
    pub(super) clock: Arc<KernelClock>,
    pub(super) log: Arc<Log>,
    pub(super) signing_key: Arc<SigningKey>,
    pub(super) session_key: SessionKey,
    pub(super) metrics: Metrics,
    pub(super) store: Store,
}

/// Reads and opens everything that needs no socket.
pub(super) async fn prepare(path: &Path) -> Result<Prepared, StartError> {
    let config = Config::load(path)?;
    let directory: Arc<ArcSwap<Directory>> = Arc::default();
    let asked = Arc::clone(&directory);
    let admit: Admit = Arc::new(move |peer| asked.load().admit(peer));
    let clock = Arc::new(KernelClock::new().map_err(StartError::Clock)?);
    if clock.now().unix_ns < 0 {
        return Err(StartError::BeforeEpoch);
    }
    let loaded = Arc::new(load_config(config, &admit, None)?);
    let config = &loaded.config;

    let metrics = Metrics::new()?;
    let folder = |path: &Path| make_folder(path);
    folder(&config.audit.directory)?;
    config.store.file.parent().map_or(Ok(()), folder)?;
    config.identity.key_file.parent().map_or(Ok(()), folder)?;
    let signing_key = Arc::new(SigningKey::load_or_create(&config.identity.key_file)?);
    config.session.key_file.parent().map_or(Ok(()), folder)?;
    for wireguard in config.listeners.iter().filter_map(|listener| listener.wireguard.as_ref()) {
        wireguard.private_key_file.parent().map_or(Ok(()), folder)?;
    }
    let session_key = SessionKey::load_or_create(&config.session.key_file)?;
    let store = Store::open(&config.store.file).await?;
    let log = Arc::new(open_log(config, &clock, metrics.clone())?);
    Ok(Prepared { loaded, directory, admit, clock, log, signing_key, session_key, metrics, store })
}

/// Opens the log that a configuration names, as its writer.
///
/// # Errors
/// [`StartError`]; nothing can be recorded then.
pub(crate) fn open_log(config: &Config, clock: &Arc<KernelClock>, metrics: Metrics) -> Result<Log, StartError> {
    let audit = &config.audit;
    let sealing = Sealing::open(&audit.key_directory, &audit.reviewers, &config.trust_domain, audit.key_period)?;
    let reviewers = sealing.reviewers.load_full();
    reviewers::check(&audit.directory, &reviewers)?;
    let options = audit_options(audit, &config.node, &config.trust_domain)?;
    let observer = Arc::new(CommitMetrics(metrics));
    let log = Log::open(&audit.directory, sealing, options, Arc::clone(clock) as _, observer)?;
    // After the record that names them.
    reviewers::keep(&audit.directory, &reviewers)?;
    Ok(log)
}

/// Makes a folder that only its owner can enter.
fn make_folder(path: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt as _;
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| StartError::Folder { path: path.to_owned(), error })
}

fn audit_options(config: &Audit, node: &str, domain: &str) -> Result<Options, StartError> {
    let boot = boot_id().map_err(StartError::Clock)?;
    let mut options = Options::new(node, &boot);
    domain.clone_into(&mut options.domain);
    options.durability = match config.durability {
        Durability::BeforeAnswer => audit::Durability::BeforeAnswer,
        Durability::Interval(window) => audit::Durability::Interval(window),
    };
    options.on_failure = match config.on_failure {
        OnAuditFailure::Refuse => audit::OnFailure::Refuse,
        OnAuditFailure::ServeAndAlarm => audit::OnFailure::ServeAndAlarm,
    };
    options.queue_records = config.queue_records as u64;
    options.segment_bytes = config.segment_bytes;
    options.reserve_bytes = config.reserve_bytes;
    Ok(options)
}

/// Puts the writer's own figures into the metrics.
struct CommitMetrics(Metrics);

impl audit::Observer for CommitMetrics {
    fn committed(&self, records: u64, _: u64, took: std::time::Duration) {
        self.0.audit_records.inc_by(records);
        self.0.audit_commit.observe(took.as_secs_f64());
    }

    fn available(&self, available: bool) {
        self.0.audit_available.set(i64::from(available));
    }
}
