//! What the workers of one listener have in common: its key, its sockets, and the way from one to another.

use std::io;
use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use gateway_tunnel::config::{Limits, Shard};
use gateway_tunnel::{KnownSources, Path, PrivateKey, Tunnels};
use tokio::sync::mpsc;

use super::board::Slot;
use super::endpoint::Endpoint;
use super::socket::{Datagrams, bind};
use super::steering::Spread;
use crate::config::{Audit, Listener};

/// Datagrams that wait for another worker. Beyond, they are lost as on any network.
pub(super) const MAILBOX: usize = 1024;

/// A datagram that came to another worker.
pub(super) struct Passed {
    pub(super) path: Path,
    pub(super) datagram: Vec<u8>,
    /// The other has let it pass already ([`Event::HandOver`](gateway_tunnel::Event::HandOver)).
    pub(super) admitted: bool,
}

/// A listener's tunnels, opened.
pub(crate) struct Hub {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// One for each worker, as many as tunnels are spread over.
    pub(crate) shares: Vec<Share>,
}

/// What one worker gets.
pub(crate) struct Share {
    listener: Arc<str>,
    number: usize,
    spread: Spread,
    key: PrivateKey,
    limits: Limits,
    known: KnownSources,
    socket: StdSocket,
    slot: Slot,
    mailbox: mpsc::Receiver<Passed>,
    others: Vec<mpsc::Sender<Passed>>,
}

/// What the loop of one worker has.
pub(crate) struct Line {
    pub(super) endpoint: Rc<Endpoint>,
    pub(super) datagrams: Datagrams,
    pub(super) slot: Slot,
    pub(super) mailbox: mpsc::Receiver<Passed>,
    pub(super) others: Vec<mpsc::Sender<Passed>>,
}

impl Hub {
    /// Opens the listener's sockets.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open(
        listener: &Listener,
        key: &PrivateKey,
        audit: &Audit,
        workers: usize,
        board: &super::Board,
    ) -> io::Result<Self> {
        let spread = Spread::over(workers);
        // A port of 0 is chosen once, and shared by the others.
        let first = bind(listener.address)?;
        let address = first.local_addr()?;
        let mut sockets = vec![first];
        while sockets.len() < spread.workers {
            sockets.push(bind(address)?);
        }
        if let Some(first) = sockets.first().filter(|_| spread.workers > 1)
            && let Err(error) = spread.steer(first)
        {
            tracing::warn!(listener = %listener.name, %error, "the kernel steers no datagrams: workers pass them on");
        }
        let known = KnownSources::new(Instant::now(), random()?);
        let limits = Limits { report_interval: audit.refusal_interval, ..Limits::default() };
        let (others, mailboxes): (Vec<_>, Vec<_>) = (0..spread.workers).map(|_| mpsc::channel(MAILBOX)).unzip();
        let name: Arc<str> = Arc::from(listener.name.as_str());
        let share = |(number, (socket, mailbox))| Share {
            listener: Arc::clone(&name),
            number,
            spread,
            key: key.clone(),
            limits: limits.clone(),
            known: known.clone(),
            socket,
            slot: board.slot(&name),
            mailbox,
            others: others.clone(),
        };
        Ok(Self { address, shares: sockets.into_iter().zip(mailboxes).enumerate().map(share).collect() })
    }
}

impl Share {
    /// Makes the worker's own things of it. Call it on the worker's thread.
    ///
    /// # Errors
    /// The system's, with the listener's name.
    pub(crate) fn open(self) -> Result<Line, String> {
        let name = Arc::clone(&self.listener);
        self.opened().map_err(|error| format!("listener `{name}`: {error}"))
    }

    fn opened(self) -> io::Result<Line> {
        let Self { listener, number, spread, key, limits, known, socket, slot, mailbox, others } = self;
        let shard = Shard { number: u16::try_from(number).unwrap_or(0), bits: spread.bits };
        let mut tunnels = Tunnels::new(Instant::now(), key, limits, shard, random()?);
        tunnels.share_known_sources(known);
        let endpoint = Endpoint::new(listener, number, spread, tunnels);
        Ok(Line { endpoint, datagrams: Datagrams::new(socket)?, slot, mailbox, others })
    }
}

fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(bytes)
}

impl Line {
    /// What streams, and whoever follows the registry, share with the loop.
    pub(crate) fn endpoint(&self) -> &Rc<Endpoint> {
        &self.endpoint
    }
}
