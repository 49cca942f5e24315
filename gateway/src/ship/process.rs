//! The process: one thread for each destination.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use gateway_audit::reviewer::private::ReviewerKey;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;

use super::config::{DestinationSettings, ShipConfig};
use super::cursor::Cursors;
use super::lane::Log;
use super::runner::Runner;
use super::status::Status;
use super::{Destination, Fault};

/// Why shipping does not begin.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// Another process has the state directory.
    #[error("`{}` is another process's", .0.display())]
    Held(PathBuf),
    /// A file or folder.
    #[error("`{path}`: {source}", path = .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A destination cannot be begun with.
    #[error("destination `{name}`: {cause}")]
    Destination {
        /// Its name.
        name: String,
        /// Why.
        cause: String,
    },
}

/// Destinations at work.
#[derive(Debug)]
pub struct Shipping {
    stop: watch::Sender<bool>,
    threads: Vec<(String, JoinHandle<()>, Arc<Status>)>,
    _lock: File,
}

impl Shipping {
    /// Begins with every destination of the configuration. `reviewer` opens the records.
    ///
    /// # Errors
    /// [`ShipError`]; then nothing was begun.
    pub fn start(config: &ShipConfig, reviewer: Option<Arc<ReviewerKey>>) -> Result<Self, ShipError> {
        let lock = lock(&config.state.directory)?;
        let (stop, stopped) = watch::channel(false);
        let mut shipping = Self { stop, threads: Vec::new(), _lock: lock };
        for settings in &config.destinations {
            let failed =
                |fault: Fault| ShipError::Destination { name: settings.name().to_owned(), cause: fault.to_string() };
            let begin = Begin {
                name: settings.name(),
                config,
                stop: stopped.clone(),
                status: Arc::default(),
                reviewer: reviewer.as_ref(),
            };
            let status = Arc::clone(&begin.status);
            let thread = match settings {
                DestinationSettings::Atna(_) => begin.with(super::NotYet),
            };
            shipping.threads.push((settings.name().to_owned(), thread.map_err(failed)?, status));
        }
        Ok(shipping)
    }

    /// Writes a line on each destination.
    pub fn report(&self) {
        self.threads.iter().for_each(|(name, _, status)| status.report(name));
    }

    /// The first destination whose thread ended by itself, which none should.
    #[must_use]
    pub fn ended(&self) -> Option<&str> {
        self.threads.iter().find(|(_, thread, _)| thread.is_finished()).map(|(name, _, _)| name.as_str())
    }

    /// Ends: what is under way may finish within ten seconds, and is done again at the next start otherwise.
    pub fn end(self) {
        self.stop.send_replace(true);
        for (name, thread, status) in self.threads {
            let is_clean = thread.join().is_ok();
            status.report(&name);
            if !is_clean {
                tracing::error!(destination = name, "the destination's thread had panicked");
            }
        }
    }
}

/// What a destination is begun with.
struct Begin<'a> {
    name: &'a str,
    config: &'a ShipConfig,
    stop: watch::Receiver<bool>,
    status: Arc<Status>,
    #[expect(dead_code, reason = "for the destinations that open records")]
    reviewer: Option<&'a Arc<ReviewerKey>>,
}

impl Begin<'_> {
    fn with<D: Destination + Send + 'static>(self, destination: D) -> Result<JoinHandle<()>, Fault> {
        let audit = &self.config.audit;
        let runner = Runner {
            name: self.name.to_owned(),
            destination,
            log: Log::new(&audit.directory, audit.verifier_keys.as_deref()),
            cursors: Cursors::open(&self.config.state.directory, self.name)?,
            pace: self.config.pace,
            status: self.status,
            stop: self.stop,
        };
        let state = |cause: std::io::Error| Fault::State { file: "a thread".to_owned(), cause: cause.to_string() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(state)?;
        let thread = std::thread::Builder::new().name(format!("ship-{}", self.name));
        thread.spawn(move || runtime.block_on(runner.run())).map_err(state)
    }
}

fn lock(directory: &Path) -> Result<File, ShipError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| ShipError::Io { path, source }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io(directory))?;
    let path = directory.join("lock");
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(io(&path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ShipError::Held(directory.to_owned())),
        Err(error) => Err(io(&path)(error.into())),
    }
}
