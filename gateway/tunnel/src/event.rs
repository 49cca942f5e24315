//! What tunnels tell.

use std::net::SocketAddr;
use std::sync::Arc;

use policy::names::{DeviceName, SiteName};

use crate::drops::DropCounts;
use crate::keys::PublicKey;
use crate::path::Path;

/// Who is at the other end of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PeerName {
    /// Its key.
    pub key: PublicKey,
    /// Its site.
    pub site: SiteName,
    /// Its device.
    pub device: DeviceName,
}

/// A TCP connection out of a tunnel. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    pub(crate) site: usize,
    pub(crate) number: u64,
}

/// Why a stream ended before both ends had finished it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The other end reset it, or nothing came from there for too long.
    Reset,
    /// Its peer was removed, or its site.
    PeerRemoved,
}

impl Cause {
    /// The cause as a word that never changes.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::PeerRemoved => "peer-removed",
        }
    }
}

/// Something a caller must know, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A handshake was completed and confirmed: the peer can be reached. Again with each new session, about every two minutes.
    SessionUp {
        /// Who.
        peer: Arc<PeerName>,
        /// From where.
        path: Path,
    },
    /// The last session of a peer ended without a new one.
    SessionDown {
        /// Who.
        peer: Arc<PeerName>,
    },
    /// A stream was opened, as if accepted: it belongs to the caller, who must [release](crate::Tunnels::release) or
    /// [reset](crate::Tunnels::reset) it.
    Opened {
        /// The stream.
        stream: StreamId,
        /// Who opened it.
        peer: Arc<PeerName>,
        /// The gateway's address and port inside.
        local: SocketAddr,
        /// The device's address and port inside.
        remote: SocketAddr,
    },
    /// A read that found nothing can be tried again.
    Readable(StreamId),
    /// A write that found no room can be tried again.
    Writable(StreamId),
    /// A stream was cut. Told once; reads and writes fail from then on.
    Closed {
        /// The stream.
        stream: StreamId,
        /// Why.
        cause: Cause,
    },
    /// An initiation of a peer whose tunnel another worker has: it goes to that worker's
    /// [`handle_handed_over`](crate::Tunnels::handle_handed_over). What follows comes there by its index.
    HandOver {
        /// The worker's number.
        shard: u16,
        /// Where the datagram came from.
        path: Path,
        /// The datagram.
        datagram: Vec<u8>,
    },
    /// What was dropped since the last report, at most one for each site and interval.
    Dropped {
        /// The site whose peers sent it; `None` for what came from nobody known.
        site: Option<SiteName>,
        /// How many, and why.
        counts: DropCounts,
    },
}
