//! `sekisho run`: the gateway in the foreground, and what signals do to it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use crate::config::{Config, Log, LogFormat};
use crate::run::{Ending, Running, Sockets, start};

/// Exit code of an end that cut requests.
const UNCLEAN: u8 = 3;
/// How often the gateway's own end is looked for.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
}

pub(super) fn run(arguments: &RunArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&arguments.config)?;
    init_logging(config.log);
    let sockets = Sockets::from_environment().context("the service manager's sockets")?;
    super::block_on(async {
        let mut signals = Signals::new().context("cannot listen for signals")?;
        let running = start(&arguments.config, sockets)?;
        notify(&[NotifyState::Ready]);
        let ended = signals.obey(&running).await;
        notify(&[NotifyState::Stopping]);
        let ending = tokio::task::spawn_blocking(move || running.wait());
        let code = match finish(ending, ended, &mut signals).await {
            Ending::Clean => ExitCode::SUCCESS,
            Ending::Unclean => ExitCode::from(UNCLEAN),
        };
        Ok(code)
    })
}

/// Waits for the end; a second TERM or QUIT does not.
async fn finish(ending: tokio::task::JoinHandle<Ending>, stop: Stop, signals: &mut Signals) -> Ending {
    tokio::pin!(ending);
    loop {
        tokio::select! {
            ended = &mut ending => return ended.unwrap_or(Ending::Unclean),
            () = signals.end() => stop.now(),
        }
    }
}

/// The command to end at once, after the gateway itself was given away to be waited for.
struct Stop(crate::run::StopHandle);

impl Stop {
    fn now(&self) {
        self.0.stop();
    }
}

struct Signals {
    terminate: Signal,
    quit: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
    /// Taken only so that it does not end the process: a write beyond the limit of a file's size (`RLIMIT_FSIZE`)
    /// then fails with `EFBIG`, which the audit log treats like a full disk (row A6).
    _file_size: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            _file_size: signal(SignalKind::from_raw(libc::SIGXFSZ))?,
        })
    }

    /// One of the signals that end the gateway.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.quit.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Carries out what signals say until one of them begins the end, or the gateway ends by itself.
    async fn obey(&mut self, running: &Running) -> Stop {
        let stop = Stop(running.stop_handle());
        let mut look = tokio::time::interval(LOOK);
        let watchdog = watchdog_interval();
        let mut fed = Instant::now();
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.quit.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => {
                    notify(&[NotifyState::Reloading]);
                    running.request_reload();
                    notify(&[NotifyState::Ready]);
                }
                _ = self.user1.recv() => tracing::info!("diagnostics go to standard error: there is no file to reopen"),
                _ = look.tick() => {
                    if running.has_ended() {
                        return stop;
                    }
                    if watchdog.is_some_and(|interval| fed.elapsed() >= interval) && running.answers().await {
                        fed = Instant::now();
                        notify(&[NotifyState::Watchdog]);
                    }
                }
            }
        }
        running.drain();
        stop
    }
}

/// Half the time that the service manager waits for a sign of life.
fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

fn init_logging(log: Log) {
    let level = LevelFilter::from_level(log.level);
    let registry = tracing_subscriber::registry().with(level);
    // A second subscriber in one process is refused; the first one stays.
    let _ = match log.format {
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init(),
        LogFormat::Text => registry.with(fmt::layer().with_writer(std::io::stderr)).try_init(),
    };
}

/// The quickstart shows its own text; only what goes wrong is added to it.
pub(super) fn init_quiet_logging() {
    let layer = fmt::layer().without_time().with_target(false).with_writer(std::io::stderr);
    let _ = tracing_subscriber::registry().with(LevelFilter::WARN).with(layer).try_init();
}

pub(super) fn start_for_quickstart(config: &Path) -> Result<Running, String> {
    start(config, Sockets::default()).map_err(|error| error.to_string())
}
