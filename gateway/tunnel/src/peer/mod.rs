//! A peer: who it is, where it was last, and while it is active its sessions and timers.

mod handshake;
mod timers;
mod transport;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::bucket::Bucket;
use crate::core::Core;
use crate::event::{Event, PeerName};
use crate::keys::PresharedKey;
use crate::network::Network;
use crate::path::Path;
use crate::session::Session;

/// Packets that wait for a session, at most. TCP sends again what is lost here.
const QUEUE: usize = 16;

/// A registered peer. While it is idle there is nothing but this.
pub(crate) struct Peer {
    /// Its place in the table of peers.
    pub(crate) id: usize,
    pub(crate) name: Arc<PeerName>,
    /// Its site's place in the table of sites.
    pub(crate) site: usize,
    pub(crate) ranges: Vec<Network>,
    pub(crate) preshared: Option<PresharedKey>,
    pub(crate) keepalive: Option<Duration>,
    /// Where the last authenticated message came from.
    pub(crate) path: Option<Path>,
    /// What its key and the gateway's share; made at its first handshake.
    shared: Option<Zeroizing<[u8; 32]>>,
    /// Of its last initiation. Kept as long as the peer is registered, so that an old one never opens a session.
    latest: [u8; 12],
    handshakes: Bucket,
    pub(crate) live: Option<Box<Live>>,
    pub(crate) last_handshake: Option<Instant>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// What its streams have of the budget, and how many there are.
    pub(crate) usage: Usage,
    /// When its timer is set to.
    pub(crate) timer: Option<Instant>,
}

/// What a peer's streams take.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) streams: usize,
    pub(crate) half_open: usize,
    pub(crate) bytes: usize,
}

/// What an active peer has beside.
#[derive(Default)]
pub(crate) struct Live {
    /// The session that is sent with.
    pub(crate) current: Option<Session>,
    /// The one before it, for what is still on its way.
    pub(crate) previous: Option<Session>,
    /// One that the peer asked for and has not used yet.
    pub(crate) next: Option<Session>,
    /// One that the gateway asked for.
    pub(crate) attempt: Option<Attempt>,
    queue: VecDeque<Vec<u8>>,
    /// When to send something, since something came and nothing went.
    keepalive_due: Option<Instant>,
    /// When to ask for a new session, since something went and nothing came.
    answer_due: Option<Instant>,
    /// When to send something to keep a NAT open.
    persistent_due: Option<Instant>,
}

/// A handshake that the gateway began.
pub(crate) struct Attempt {
    pub(crate) session: Session,
    started: Instant,
    retry: Instant,
}

impl Peer {
    pub(crate) fn new(id: usize, name: Arc<PeerName>, site: usize, ranges: Vec<Network>) -> Self {
        Self {
            id,
            name,
            site,
            ranges,
            preshared: None,
            keepalive: None,
            path: None,
            shared: None,
            latest: [0; 12],
            handshakes: Bucket::default(),
            live: None,
            last_handshake: None,
            received: 0,
            sent: 0,
            usage: Usage::default(),
            timer: None,
        }
    }

    /// Ends everything that is under way. The indices of its sessions are free again.
    pub(crate) fn end(&mut self, core: &mut Core) {
        if let Some(live) = self.live.take() {
            let live = *live;
            let attempt = live.attempt.map(|attempt| attempt.session);
            for session in [live.current, live.previous, live.next, attempt].into_iter().flatten() {
                core.forget(session);
            }
        }
    }

    /// Whether a session is there to send with.
    pub(crate) fn is_up(&self, now: Instant) -> bool {
        let current = self.live.as_ref().and_then(|live| live.current.as_ref());
        current.is_some_and(|session| session.is_fresh(now))
    }

    /// A session has proved to be usable.
    fn established(&mut self, now: Instant, core: &mut Core, path: Path) {
        self.last_handshake = Some(now);
        core.gate.completed(core.elapsed(now), path.remote.ip());
        core.counters.handshakes = core.counters.handshakes.saturating_add(1);
        core.tell(Event::SessionUp { peer: self.name.clone(), path });
    }
}
