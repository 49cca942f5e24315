//! `sekisho run`: the gateway in the foreground, and what signals do to it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sd_notify::NotifyState;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use super::signals::{Signals, Wish};
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
        notify(&[NotifyState::Status("serving"), NotifyState::Ready]);
        let ended = obey(&mut signals, &running).await;
        notify(&[NotifyState::Status("draining"), NotifyState::Stopping]);
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
            wish = signals.next() => if wish == Wish::End { stop.now() },
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

/// Carries out what signals say until one of them begins the end, or the gateway ends by itself.
async fn obey(signals: &mut Signals, running: &Running) -> Stop {
    let stop = Stop(running.stop_handle());
    let mut look = tokio::time::interval(LOOK);
    let watchdog = watchdog_interval();
    let mut fed = Instant::now();
    let mut reloading = None;
    loop {
        tokio::select! {
            wish = signals.next() => match wish {
                Wish::End => break,
                Wish::Reload => {
                    notify_reloading();
                    // Where one is under way, this one follows it, and its outcome is the one that counts.
                    reloading = Some(running.begin_reload());
                }
                Wish::Reopen => tracing::info!("diagnostics go to standard error: there is no file to reopen"),
            },
            outcome = outcome_of(&mut reloading) => {
                reloading = None;
                notify(&[NotifyState::Status(&status(&outcome)), NotifyState::Ready]);
            }
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

type Outcome = Result<u64, String>;

/// The outcome of the reload under way; never, if there is none.
async fn outcome_of(reloading: &mut Option<tokio::sync::oneshot::Receiver<Outcome>>) -> Outcome {
    match reloading {
        Some(reloading) => reloading.await.unwrap_or_else(|_| Err("the gateway has ended".to_owned())),
        None => std::future::pending().await,
    }
}

/// One line for `systemctl status`.
fn status(outcome: &Outcome) -> String {
    match outcome {
        Ok(snapshot) => format!("reloaded: serving snapshot {snapshot}"),
        Err(error) => {
            let line = error.split_whitespace().collect::<Vec<_>>().join(" ");
            format!("reload refused, serving the old configuration: {line}")
        }
    }
}

fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => {
            tracing::warn!(%error, "the monotonic clock cannot be read");
            notify(&[NotifyState::Reloading]);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line() {
        assert_eq!(status(&Ok(7)), "reloaded: serving snapshot 7");
        let refused = status(&Err("a.cedar:1:2: no\n\tb.cedar:3:4: no\r\n".to_owned()));
        assert_eq!(refused, "reload refused, serving the old configuration: a.cedar:1:2: no b.cedar:3:4: no");
    }
}
