//! The process: one thread for each destination.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use gateway_audit::reviewer::private::ReviewerKey;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::watch;

use super::atna::Atna;
use super::config::{DestinationSettings, ShipConfig};
use super::copy::Copy;
use super::cursor::Cursors;
use super::fhir::Fhir;
use super::lane::Log;
use super::records::Records;
use super::runner::Runner;
use super::status::Status;
use super::witness::Witnesses;
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
                DestinationSettings::Atna(settings) => {
                    begin.records().and_then(|records| Atna::new(settings, records)).and_then(|atna| begin.with(atna))
                }
                DestinationSettings::Fhir(settings) => {
                    let folder = config.state.directory.join(&settings.name);
                    let fhir = begin.records().and_then(|records| Fhir::new(settings, records, &folder, &status));
                    fhir.and_then(|fhir| begin.with(fhir))
                }
                DestinationSettings::Copy(settings) => Copy::open(settings, config).and_then(|copy| begin.with(copy)),
                DestinationSettings::Witness(settings) => {
                    Witnesses::open(settings, config).and_then(|witnesses| begin.with(witnesses))
                }
            };
            match thread {
                Ok(thread) => shipping.threads.push((settings.name().to_owned(), thread, status)),
                Err(fault) => {
                    shipping.end();
                    return Err(failed(fault));
                }
            }
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
    reviewer: Option<&'a Arc<ReviewerKey>>,
}

impl Begin<'_> {
    /// For destinations that open records; the configuration's check has seen to it that they can.
    fn records(&self) -> Result<Records, Fault> {
        match (&self.config.audit.key_directory, self.reviewer) {
            (Some(keys), Some(reviewer)) => Ok(Records::new(keys, reviewer, &self.status)),
            _ => Err(Fault::Log(
                "nobody opens its records: `[reviewer]` and `audit.key_directory` are needed".to_owned(),
            )),
        }
    }

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
