//! The running gateway: its threads, from the first file read to the last record written.
//!
//! One control thread (admin, store, clock, reload), one audit writer, and the workers. [`start`] returns once the
//! gateway serves; [`Running`] is the handle.

mod backends;
mod control;
mod identities;
mod prepare;
mod readiness;
mod registry;
mod retention;
mod reviewers;
mod servers;
mod sockets;
mod staples;
mod threads;

use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

pub use prepare::StartError;
pub(crate) use prepare::open_log;
pub use sockets::Sockets;

/// What the control thread is told to do.
#[derive(Debug)]
pub enum Command {
    /// Load configuration and policies again; keep the old ones if the new ones are bad. Answers with the reason.
    Reload(oneshot::Sender<Result<u64, String>>),
    /// Stop taking connections, finish the requests under way, and end.
    Drain,
    /// End at once.
    Stop,
    /// Say that the control thread lives.
    Ping(oneshot::Sender<()>),
}

/// How the gateway ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every request was answered and every record written.
    Clean,
    /// Requests were cut, or the log could not be closed.
    Unclean,
}

/// Ends a gateway at once.
#[derive(Debug, Clone)]
pub struct StopHandle(mpsc::UnboundedSender<Command>);

impl StopHandle {
    /// Ends it.
    pub fn stop(&self) {
        let _ = self.0.send(Command::Stop);
    }
}

/// A gateway that serves.
#[derive(Debug)]
pub struct Running {
    commands: mpsc::UnboundedSender<Command>,
    control: Option<JoinHandle<Ending>>,
    /// Where the listeners are, by name: with a port of 0, the one that was free.
    pub listeners: Vec<(String, SocketAddr)>,
    /// Where the admin listener is.
    pub admin: SocketAddr,
    /// What was configured and cannot be changed without a restart, for the command line.
    pub drain: std::time::Duration,
}

/// Starts a gateway from a configuration file. Sockets that a service manager opened take precedence over addresses.
///
/// # Errors
/// [`StartError`], before anything was served.
pub fn start(config: &Path, sockets: Sockets) -> Result<Running, StartError> {
    let (commands, inbox) = mpsc::unbounded_channel();
    let (ready, started) = std::sync::mpsc::channel();
    let config = config.to_owned();
    let control = std::thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || control::main(&config, sockets, inbox, &ready))
        .map_err(StartError::Thread)?;
    match started.recv() {
        Ok(Ok(started)) => Ok(Running {
            commands,
            control: Some(control),
            listeners: started.listeners,
            admin: started.admin,
            drain: started.drain,
        }),
        Ok(Err(error)) => {
            let _ = control.join();
            Err(error)
        }
        Err(_) => {
            let _ = control.join();
            Err(StartError::ControlDied)
        }
    }
}

impl Running {
    /// Loads configuration and policies again; returns the new snapshot's version.
    ///
    /// # Errors
    /// Why the new ones are bad; the old ones stay in force.
    pub fn reload(&self) -> Result<u64, String> {
        self.begin_reload().blocking_recv().unwrap_or_else(|_| Err("the gateway has ended".to_owned()))
    }

    /// As [`Running::reload`], without waiting: what is received says what came of it; nothing, if the gateway ended.
    #[must_use]
    pub fn begin_reload(&self) -> oneshot::Receiver<Result<u64, String>> {
        let (answer, answered) = oneshot::channel();
        let _ = self.commands.send(Command::Reload(answer));
        answered
    }

    /// Stops taking connections and lets the requests under way finish.
    pub fn drain(&self) {
        let _ = self.commands.send(Command::Drain);
    }

    /// Ends at once.
    pub fn stop(&self) {
        let _ = self.commands.send(Command::Stop);
    }

    /// Ends it at once, wherever it is waited for.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(self.commands.clone())
    }

    /// The control thread answers within a second.
    pub async fn answers(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        let asked = self.commands.send(Command::Ping(answer)).is_ok();
        asked && matches!(tokio::time::timeout(std::time::Duration::from_secs(1), answered).await, Ok(Ok(())))
    }

    /// The gateway has ended by itself or by command.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.control.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end.
    #[must_use]
    pub fn wait(mut self) -> Ending {
        match self.control.take().map(JoinHandle::join) {
            Some(Ok(ending)) => ending,
            Some(Err(_)) | None => Ending::Unclean,
        }
    }
}
