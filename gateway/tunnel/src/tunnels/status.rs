//! How tunnels are doing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Tunnels;
use crate::core::Counters;
use crate::drops::DropCounts;
use crate::event::PeerName;
use crate::path::Path;

/// One peer, for a list that an operator reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub peer: Arc<PeerName>,
    /// Where its last authenticated message came from.
    pub path: Option<Path>,
    /// Whether there is a session to send with.
    pub up: bool,
    /// How long ago the last handshake was completed.
    pub last_handshake: Option<Duration>,
    /// Bytes of transport messages that came, without UDP.
    pub received_bytes: u64,
    /// Bytes of transport messages that went, without UDP.
    pub sent_bytes: u64,
    /// Streams.
    pub streams: usize,
    /// Memory that its streams' buffers may take, in bytes.
    pub buffer_bytes: usize,
}

impl Tunnels {
    /// All peers, in no order.
    pub fn peers(&self, now: Instant) -> impl Iterator<Item = PeerStatus> + '_ {
        self.peers.iter().map(move |(_, peer)| PeerStatus {
            peer: peer.name.clone(),
            path: peer.path,
            up: peer.is_up(now),
            last_handshake: peer.last_handshake.map(|at| now.saturating_duration_since(at)),
            received_bytes: peer.received,
            sent_bytes: peer.sent,
            streams: peer.usage.streams,
            buffer_bytes: peer.usage.bytes,
        })
    }

    /// Numbers since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.core.counters
    }

    /// What was dropped since the start.
    #[must_use]
    pub fn drops(&self) -> &DropCounts {
        &self.core.drops
    }

    /// Memory that streams' buffers may take at present, in bytes.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.budget.used()
    }

    /// Sessions at present, half-made ones included.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.core.sessions()
    }

    /// Streams at present, half-open and lingering ones included.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.sites.iter().filter_map(|(_, site)| site.stack.as_ref()).map(|stack| stack.streams()).sum()
    }

    /// Asserts that what is kept in two places agrees.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let live = self.peers.iter().filter_map(|(_, peer)| peer.live.as_ref());
        let kept = live.map(|live| {
            let sessions = [&live.current, &live.previous, &live.next].into_iter().flatten().count();
            sessions + usize::from(live.attempt.is_some())
        });
        assert_eq!(kept.sum::<usize>(), self.sessions(), "sessions and their indices");
        let usage =
            |f: fn(&crate::peer::Usage) -> usize| self.peers.iter().map(|(_, peer)| f(&peer.usage)).sum::<usize>();
        assert_eq!(usage(|usage| usage.bytes), self.buffer_bytes(), "buffers");
        assert_eq!(usage(|usage| usage.streams), self.streams(), "streams");
        let peers = self.peers.iter().filter(|(_, peer)| peer.timer.is_some()).count();
        let sites = self
            .sites
            .iter()
            .map(|(_, site)| usize::from(site.timer.is_some()) + usize::from(site.report_timer.is_some()));
        assert_eq!(
            peers + sites.sum::<usize>() + usize::from(self.strangers_timer.is_some()),
            self.timers.len(),
            "timers"
        );
    }
}
