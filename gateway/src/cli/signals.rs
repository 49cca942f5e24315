//! The signals that the gateway obeys, and who sent them.

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::{Origin, WithOrigin};
use tokio::sync::mpsc;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// TERM, QUIT or INT: drain; a second one, end at once.
    End,
    /// HUP: take the files as they are.
    Reload,
    /// USR1: open the log's file again.
    Reopen,
}

/// Signals as they arrive.
pub(super) struct Signals(mpsc::UnboundedReceiver<Wish>);

impl Signals {
    /// Takes the signals from here on; each is logged with its sender.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new() -> std::io::Result<Self> {
        let mut signals = SignalsInfo::<WithOrigin>::new([SIGTERM, SIGQUIT, SIGINT, SIGHUP, SIGUSR1])?;
        let (wishes, wished) = mpsc::unbounded_channel();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for origin in signals.forever() {
                if let Some(wish) = heard(&origin)
                    && wishes.send(wish).is_err()
                {
                    return;
                }
            }
        })?;
        Ok(Self(wished))
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Wish {
        match self.0.recv().await {
            Some(wish) => wish,
            // The thread lives as long as the process.
            None => std::future::pending().await,
        }
    }
}

fn heard(origin: &Origin) -> Option<Wish> {
    let (name, wish) = match origin.signal {
        SIGTERM => ("TERM", Wish::End),
        SIGQUIT => ("QUIT", Wish::End),
        SIGINT => ("INT", Wish::End),
        SIGHUP => ("HUP", Wish::Reload),
        SIGUSR1 => ("USR1", Wish::Reopen),
        _ => return None,
    };
    // The kernel itself sends INT and HUP for a terminal.
    let (pid, uid) = origin.process.map(|process| (process.pid, process.uid)).unzip();
    tracing::info!(signal = name, sender_pid = pid, sender_uid = uid, "received a signal");
    Some(wish)
}
