//! What the workers of one listener have in common: its sockets, its keys, and the way from one to another.

use std::io;
use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::sync::Arc;

use quinn::{Connecting, ConnectionError, Endpoint, Incoming, ServerConfig, TokioRuntime};
use tokio::sync::mpsc;

use super::Windows;
use super::crypto::{Proof, Proving, QuicTls};
use super::ids::Ids;
use super::meters::Meters;
use super::settings::{Keys, transport};
use super::socket::{Passed, Steered};
use super::steering::steer;
use crate::config::Limits;
use crate::tunnels::{Spread, bind};

/// Datagrams that wait for another worker. Beyond, they are lost as on any network.
const MAILBOX: usize = 1024;

/// A listener's sockets, opened.
pub(crate) struct Hub {
    /// One for each worker, as many as ids can name.
    pub(crate) shares: Vec<Share>,
}

/// What one worker gets.
pub(crate) struct Share {
    listener: Arc<str>,
    address: SocketAddr,
    number: usize,
    spread: Spread,
    keys: Keys,
    meters: Meters,
    socket: StdSocket,
    mailbox: mpsc::Receiver<Passed>,
    others: Vec<mpsc::Sender<Passed>>,
}

/// What one worker's loop has.
pub(crate) struct Line {
    /// The listener.
    pub(crate) listener: Arc<str>,
    /// The port.
    pub(crate) port: u16,
    /// Takes connections.
    pub(crate) endpoint: Endpoint,
    /// Memory for them.
    pub(crate) windows: Windows,
    keys: Keys,
}

impl Hub {
    /// Opens the listener's sockets at an address whose port is known: that of its sockets on TCP.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open(listener: &str, address: SocketAddr, workers: usize, meters: &Meters) -> io::Result<Self> {
        // Nobody else's socket may stand there: those that share a port share its datagrams.
        drop(StdSocket::bind(address)?);
        let spread = Spread::over(workers);
        let sockets = (0..spread.workers).map(|_| bind(address)).collect::<io::Result<Vec<_>>>()?;
        if let Some(first) = sockets.first().filter(|_| spread.workers > 1)
            && let Err(error) = steer(spread, first)
        {
            tracing::warn!(%listener, %error, "the kernel steers no datagrams: workers pass them on");
        }
        let (others, mailboxes): (Vec<_>, Vec<_>) = (0..spread.workers).map(|_| mpsc::channel(MAILBOX)).unzip();
        let keys = Keys::new()?;
        let listener: Arc<str> = Arc::from(listener);
        let share = |(number, (socket, mailbox))| Share {
            listener: Arc::clone(&listener),
            address,
            number,
            spread,
            keys: keys.clone(),
            meters: meters.clone(),
            socket,
            mailbox,
            others: others.clone(),
        };
        Ok(Self { shares: sockets.into_iter().zip(mailboxes).enumerate().map(share).collect() })
    }
}

impl Share {
    /// The listener.
    pub(crate) fn listener(&self) -> &str {
        &self.listener
    }

    /// Makes the worker's own things of it. Call it on the worker's thread, within its runtime.
    ///
    /// # Errors
    /// The system's, with the listener's name.
    pub(crate) fn open(self, tls: Arc<QuicTls>, limits: &Limits) -> Result<Line, String> {
        let Self { listener, address, number, spread, keys, meters, socket, mailbox, others } = self;
        let passing = meters.passing(&listener);
        let opened = Steered::new(socket, (number, spread), mailbox, others, passing).and_then(|socket| {
            let config = keys.endpoint(Ids { number, spread });
            let server = keys.server(tls, Arc::new(transport(limits)));
            Endpoint::new_with_abstract_socket(config, Some(server), Arc::new(socket), Arc::new(TokioRuntime))
        });
        match opened {
            Ok(endpoint) => Ok(Line { listener, port: address.port(), endpoint, windows: Windows::default(), keys }),
            Err(error) => Err(format!("listener `{listener}`, HTTP/3: {error}")),
        }
    }
}

impl Line {
    /// Begins a connection's handshake by the configuration in force. What comes of it is told to `proof`.
    ///
    /// # Errors
    /// What quinn says of a first packet that is none.
    pub(crate) fn accept(
        &self,
        incoming: Incoming,
        tls: &Arc<QuicTls>,
        limits: &Limits,
        proof: &Arc<Proof>,
    ) -> Result<Connecting, ConnectionError> {
        let proving = Arc::new(Proving { tls: Arc::clone(tls), proof: Arc::clone(proof) });
        let config: ServerConfig = self.keys.server(proving, Arc::new(transport(limits)));
        incoming.accept_with(Arc::new(config))
    }
}
