//! What operators see of tunnels: what each worker published last. Readers and workers never wait for each other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use gateway_tunnel::{PeerStatus, PublicKey};
use policy::DeviceId;
use serde::Serialize;

/// One device's tunnel, as its worker saw it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerState {
    /// The device.
    pub device: DeviceId,
    /// Its key.
    pub key: PublicKey,
    /// Where its last authenticated datagram came from.
    pub endpoint: Option<std::net::SocketAddr>,
    /// Whether there is a session.
    pub up: bool,
    /// When its last handshake was completed, in whole seconds since 1970.
    pub last_handshake: Option<u64>,
    /// Bytes that came, of messages with data.
    pub received_bytes: u64,
    /// Bytes that went.
    pub sent_bytes: u64,
    /// TCP connections inside.
    pub streams: usize,
}

impl PeerState {
    pub(super) fn new(status: &PeerStatus) -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self {
            device: DeviceId { site: status.peer.site.clone(), device: status.peer.device.clone() },
            key: status.peer.key,
            endpoint: status.path.map(|path| path.remote),
            up: status.up,
            last_handshake: status.last_handshake.map(|ago| since_1970.saturating_sub(ago).as_secs()),
            received_bytes: status.received_bytes,
            sent_bytes: status.sent_bytes,
            streams: status.streams,
        }
    }
}

/// Published once a second. What is older than this, a worker told that has died or is stuck: nobody knows whether a tunnel is up.
const FRESH: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Told {
    peers: Vec<PeerState>,
    at: Option<Instant>,
}

type Published = Arc<ArcSwap<Told>>;
/// A listener's name, and what one worker published of it.
type Place = (Arc<str>, Published);

/// Where one worker publishes.
#[derive(Debug)]
pub(super) struct Slot(Published);

impl Slot {
    pub(super) fn put(&self, peers: Vec<PeerState>) {
        // Nobody came, and nobody had: nothing is allocated for it.
        if !(peers.is_empty() && self.0.load().peers.is_empty()) {
            self.0.store(Arc::new(Told { peers, at: Some(Instant::now()) }));
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.store(Arc::default());
    }
}

/// What all workers published. One for a gateway.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<Vec<Place>>>);

#[derive(Serialize)]
struct Row<'a> {
    listener: &'a str,
    site: &'a str,
    device: &'a str,
    endpoint: Option<String>,
    up: bool,
    last_handshake: Option<u64>,
    received_bytes: u64,
    sent_bytes: u64,
    streams: usize,
}

impl Board {
    /// A place for one worker of a listener.
    pub(super) fn slot(&self, listener: &Arc<str>) -> Slot {
        let published = Published::default();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((Arc::clone(listener), Arc::clone(&published)));
        Slot(published)
    }

    /// Each device that has connected since the start, with its listener, by site and device. None is up of which its worker told nothing
    /// lately, and of a worker that has ended there is none.
    #[must_use]
    pub fn peers(&self) -> Vec<(Arc<str>, PeerState)> {
        self.peers_at(Instant::now())
    }

    fn peers_at(&self, now: Instant) -> Vec<(Arc<str>, PeerState)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let of = |(listener, published): &Place| {
            let told = published.load_full();
            let is_fresh = told.at.is_some_and(|at| now.saturating_duration_since(at) < FRESH);
            let state = |peer: &PeerState| PeerState { up: peer.up && is_fresh, ..peer.clone() };
            told.peers.iter().map(|peer| (Arc::clone(listener), state(peer))).collect::<Vec<_>>()
        };
        let mut peers: Vec<_> = all.iter().flat_map(of).collect();
        peers.sort_by(|(_, one), (_, other)| one.device.cmp(&other.device));
        peers
    }

    /// The same as JSON: a list of objects with `listener`, `site`, `device`, `endpoint`, `up`, `last_handshake` (Unix seconds),
    /// `received_bytes`, `sent_bytes` and `streams`.
    #[must_use]
    pub fn json(&self) -> Vec<u8> {
        let peers = self.peers();
        let row = |(listener, peer): &(Arc<str>, PeerState)| {
            serde_json::to_value(Row {
                listener,
                site: peer.device.site.as_str(),
                device: peer.device.device.as_str(),
                endpoint: peer.endpoint.map(|endpoint| endpoint.to_string()),
                up: peer.up,
                last_handshake: peer.last_handshake,
                received_bytes: peer.received_bytes,
                sent_bytes: peer.sent_bytes,
                streams: peer.streams,
            })
        };
        let rows: Vec<_> = peers.iter().filter_map(|peer| row(peer).ok()).collect();
        serde_json::to_vec(&rows).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_silent_or_gone_has_no_tunnel_up() {
        let board = Board::default();
        let slot = board.slot(&"tunnels".into());
        slot.put(vec![PeerState {
            device: DeviceId { site: "aoi".parse().unwrap(), device: "ward-1".parse().unwrap() },
            key: PublicKey([1; 32]),
            endpoint: None,
            up: true,
            last_handshake: Some(1),
            received_bytes: 0,
            sent_bytes: 0,
            streams: 0,
        }]);
        let up = |now| board.peers_at(now).iter().map(|(_, peer)| peer.up).collect::<Vec<_>>();
        let now = Instant::now();
        assert_eq!(up(now), [true]);
        assert_eq!(up(now + FRESH), [false], "it is stuck");
        drop(slot);
        assert_eq!(up(now), [false; 0], "it has ended");
    }
}
