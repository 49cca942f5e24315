//! `sekisho quickstart`: two clinics, a gateway and a demonstration FHIR server on one machine.
//!
//! [`prepare`] makes a folder with certificates, registry, policies and configuration; [`run`] starts backend and
//! gateway on it and shows, or with `--check` proves, what the gateway lets through and what it refuses.

mod cast;
mod check;
mod client;
mod configuration;
mod error;
pub mod fhir;
mod layout;
mod log;
mod login;
mod pki;
mod policies;
mod registry;
mod reviewer;
mod scene;
mod show;
mod tunnel;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

pub use error::QuickstartError;
pub use layout::{Addresses, Asked, ClientFiles, Layout, prepare};

/// How the quickstart is to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder.
    pub dir: PathBuf,
    /// Ask everything, compare and end, instead of running until stopped.
    pub check: bool,
    /// The clinics' listener.
    pub listen: Option<SocketAddr>,
    /// The admin listener.
    pub admin: Option<SocketAddr>,
}

/// A gateway that was started in this process.
pub trait Running {
    /// Waits until it serves.
    ///
    /// # Errors
    /// In words, if it ended or was not ready in time.
    fn wait_ready(&mut self) -> Result<(), String>;

    /// Asks it to load configuration and policies again, without waiting; the outcome is in its log.
    fn reload(&self);

    /// Whether it ended by itself.
    fn has_ended(&self) -> bool;

    /// Drains it and waits for its end.
    ///
    /// # Errors
    /// In words, if it did not drain in time.
    fn stop(self) -> Result<(), String>;
}

/// Prepares the folder, starts backend and gateway, and prints to `out`. `start` gets the configuration's path.
/// Returns, after the gateway's end, whether all was as expected; without `check` that is `true`.
///
/// # Errors
/// [`QuickstartError`].
pub fn run<R: Running>(
    options: &Options,
    out: &mut dyn Write,
    start: impl FnOnce(&Path) -> Result<R, String>,
) -> Result<bool, QuickstartError> {
    let layout = prepare(&options.dir, Asked { listen: options.listen, admin: options.admin })?;
    let system = |what| move |error| QuickstartError::System { what, error };
    let base = format!("{}/fhir", show::base(layout.addresses().listen, "https"));
    let listener = layout.backend_listener().map_err(system("demonstration server"))?;
    let _backend = fhir::Server::start(listener, fhir::Options { base, echo_headers: false })
        .map_err(system("demonstration server"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("runtime"))?;

    let mut gateway = start(&layout.configuration()).map_err(QuickstartError::Gateway)?;
    let shown = gateway.wait_ready().map_err(QuickstartError::Gateway).and_then(|()| {
        if options.check {
            return runtime.block_on(check::check(&layout, out)).map_err(system("output"));
        }
        let program = std::env::args_os().next().map_or_else(|| PathBuf::from("sekisho"), PathBuf::from);
        let welcome = show::Welcome { layout: &layout, program: &program };
        writeln!(out, "{welcome}").and_then(|()| out.flush()).map_err(system("output"))?;
        runtime.block_on(until_stopped(&gateway)).map_err(system("signals"))?;
        Ok(true)
    });
    let stopped = gateway.stop().map_err(QuickstartError::Gateway);
    shown.and_then(|all| stopped.map(|()| all))
}

/// TERM and INT stop; HUP reloads; the gateway's own end is an end as well.
async fn until_stopped(gateway: &impl Running) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => gateway.reload(),
            _ = look.tick() => if gateway.has_ended() { return Ok(()) },
        }
    }
}

/// How often the gateway is looked after.
const LOOK: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
