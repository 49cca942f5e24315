//! Once a second: numbers for the metrics, and a list of peers for operators. Nobody waits for it, and it waits for nobody.

use gateway_tunnel::{Counters, DropCounts, DropReason};

use super::board::PeerState;
use super::hub::Line;
use super::meters::Meters;

/// What a worker told last of one listener.
pub(super) struct Publisher {
    meters: Meters,
    listener: String,
    counters: Counters,
    drops: DropCounts,
    gauges: Gauges,
}

#[derive(Debug, Clone, Copy, Default)]
struct Gauges {
    peers: i64,
    up: i64,
    streams: i64,
    buffer_bytes: i64,
}

impl Publisher {
    pub(super) fn new(meters: &Meters, listener: &str) -> Self {
        meters.begin(listener);
        Self {
            meters: meters.clone(),
            listener: listener.to_owned(),
            counters: Counters::default(),
            drops: DropCounts::default(),
            gauges: Gauges::default(),
        }
    }

    pub(super) fn publish(&mut self, line: &Line) {
        let (counters, drops, gauges, peers) = line.endpoint.with(|tunnels, now| {
            let mut gauges = Gauges {
                streams: signed(tunnels.streams()),
                buffer_bytes: signed(tunnels.buffer_bytes()),
                ..Gauges::default()
            };
            let mut peers = Vec::new();
            for peer in tunnels.peers(now) {
                gauges.peers += 1;
                gauges.up += i64::from(peer.up);
                // Who never came is in the registry, and there may be many.
                if peer.last_handshake.is_some() || peer.path.is_some() {
                    peers.push(PeerState::new(&peer));
                }
            }
            (tunnels.counters(), tunnels.drops().clone(), gauges, peers)
        });
        line.slot.put(peers);
        self.count(&counters, &drops);
        self.gauge(gauges);
    }

    fn count(&mut self, now: &Counters, drops: &DropCounts) {
        let Self { meters, listener, counters: was, .. } = self;
        let name = listener.as_str();
        let ways = |way| [name, way];
        meters.handshakes.with_label_values(&ways("completed")).inc_by(now.handshakes.saturating_sub(was.handshakes));
        for (family, way, now, was) in [
            (&meters.datagrams, "received", now.received_datagrams, was.received_datagrams),
            (&meters.datagrams, "sent", now.sent_datagrams, was.sent_datagrams),
            (&meters.bytes, "received", now.received_bytes, was.received_bytes),
            (&meters.bytes, "sent", now.sent_bytes, was.sent_bytes),
        ] {
            family.with_label_values(&ways(way)).inc_by(now.saturating_sub(was));
        }
        meters.overflows.with_label_values(&[name]).inc_by(now.outbox_full.saturating_sub(was.outbox_full));
        let again = now.retransmissions.saturating_sub(was.retransmissions);
        meters.retransmissions.with_label_values(&[name]).inc_by(again);
        for reason in DropReason::ALL {
            let count = drops.get(*reason).saturating_sub(self.drops.get(*reason));
            if count > 0 {
                meters.dropped(name, *reason, count);
            }
        }
        self.counters = *now;
        self.drops.clone_from(drops);
    }

    /// Several workers have one gauge: each adds what has changed on its side.
    fn gauge(&mut self, now: Gauges) {
        let was = std::mem::replace(&mut self.gauges, now);
        let Self { meters, listener, .. } = &*self;
        for (gauge, now, was) in [
            (&meters.peers, now.peers, was.peers),
            (&meters.peers_up, now.up, was.up),
            (&meters.streams, now.streams, was.streams),
            (&meters.buffer_bytes, now.buffer_bytes, was.buffer_bytes),
        ] {
            gauge.with_label_values(&[listener.as_str()]).add(now - was);
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.gauge(Gauges::default());
    }
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
