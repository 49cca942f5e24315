//! `sekisho audit ship`: gives what the log holds to receivers elsewhere, until it is told to end.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use gateway_audit::reviewer::private::ReviewerKey;
use sd_notify::NotifyState;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use super::secret::{self, VARIABLE};
use crate::authority::Source;
use crate::cli::signals::{Signals, Wish};
use crate::ship::config::{Level, LineFormat, LogSection, ReviewerSection};
use crate::ship::{ShipConfig, Shipping};

/// Where the file lies unless the command line says otherwise.
const DEFAULT: &str = "/etc/sekisho-ship/ship.toml";
/// The systemd credential with the passphrase.
const CREDENTIAL: &str = "reviewer-passphrase";
/// How often a destination's own end is looked for.
const LOOK: std::time::Duration = std::time::Duration::from_millis(250);

/// `sekisho audit ship`.
#[derive(Debug, clap::Args)]
pub struct ShipArgs {
    /// What is shipped where
    #[arg(long = "config", value_name = "FILE", default_value = DEFAULT)]
    ship_config: PathBuf,
}

/// Ships until TERM, INT or QUIT.
///
/// # Errors
/// If the file is refused, the reviewer's key does not open, or a destination cannot be begun with.
pub(super) fn run(arguments: &ShipArgs) -> anyhow::Result<()> {
    let config = ShipConfig::load(&arguments.ship_config)?;
    init_logging(&config.log);
    let reviewer = config.reviewer.as_ref().map(open).transpose()?.map(Arc::new);
    crate::cli::block_on(async {
        let mut signals = Signals::new().context("cannot listen for signals")?;
        let shipping = Shipping::start(&config, reviewer)?;
        let destinations: Vec<_> = config.destinations.iter().map(crate::ship::DestinationSettings::name).collect();
        tracing::info!(?destinations, "shipping");
        notify(&[NotifyState::Status("shipping"), NotifyState::Ready]);
        let mut report = tokio::time::interval(config.pace.report());
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                wish = signals.next() => if wish == Wish::End { break },
                _ = report.tick() => shipping.report(),
                _ = look.tick() => if let Some(name) = shipping.ended() {
                    bail!("destination `{name}` ended by itself");
                },
            }
        }
        notify(&[NotifyState::Stopping]);
        tokio::task::spawn_blocking(move || shipping.end()).await.context("cannot end")
    })
}

fn open(section: &ReviewerSection) -> anyhow::Result<ReviewerKey> {
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY").map(|folder| PathBuf::from(folder).join(CREDENTIAL));
    let source = match (&section.passphrase_file, credential.filter(|file| file.exists())) {
        (None, Some(credential)) => Source::Credential(credential),
        (file, _) => Source::choose(file.clone(), VARIABLE, "Passphrase of the reviewer's key"),
    };
    secret::open(&section.key_file, &source)
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

fn init_logging(log: &LogSection) {
    let level = match log.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let registry = tracing_subscriber::registry().with(level);
    // A second subscriber in one process is refused; the first one stays.
    let _ = match log.format {
        LineFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init(),
        LineFormat::Text => registry.with(fmt::layer().with_writer(std::io::stderr)).try_init(),
    };
}
