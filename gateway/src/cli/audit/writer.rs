//! Commands that change something, and so write the log: as a process of their own, in the lane that is free.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::audit::retention::Place;
use crate::audit::{Audit as Log, ControlLane};
use crate::clock::KernelClock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::run::open_log;

/// The configuration of a gateway on this machine, whose log is written.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = crate::cli::DEFAULT_CONFIG)]
    config: PathBuf,
}

impl ConfigArgs {
    pub(super) fn load(&self) -> anyhow::Result<Config> {
        Ok(Config::load(Path::new(&self.config))?)
    }
}

/// Does what is to be recorded, as the log's writer: beside a gateway that runs, or without one.
pub(super) fn with_log<T>(
    config: &Config,
    work: impl AsyncFnOnce(&Place, &ControlLane) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let clock = Arc::new(KernelClock::new()?);
    let log: Log = open_log(config, &clock, Metrics::new()?)?;
    let place = Place::of(&config.audit, log.lane_number().unwrap_or(1));
    let done = block_on(work(&place, &log.control()));
    let stopped = log.stop("command");
    let done = done?;
    stopped?;
    Ok(done)
}

/// Runs to the end on this thread.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
