//! The metrics of tunnels. No label ever names a peer.

use gateway_tunnel::DropReason;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

/// Drops that are the end of a handshake: its outcomes beside `completed`.
const OUTCOMES: &[DropReason] = &[
    DropReason::Mac1,
    DropReason::CookieSent,
    DropReason::HandshakeRate,
    DropReason::UnknownKey,
    DropReason::Forged,
    DropReason::ReplayedInitiation,
    DropReason::PeerRate,
];

/// See the fields; all are by listener.
#[derive(Debug, Clone)]
pub struct Meters {
    /// Peers with a session.
    pub peers_up: IntGaugeVec,
    /// Peers of the registry that may connect.
    pub peers: IntGaugeVec,
    /// Handshakes by outcome: `completed`, or why not.
    pub handshakes: IntCounterVec,
    /// Bytes of datagrams, by direction: `received` or `sent`.
    pub bytes: IntCounterVec,
    /// Datagrams, by direction.
    pub datagrams: IntCounterVec,
    /// Datagrams, and packets in them, that were dropped, by reason.
    pub drops: IntCounterVec,
    /// Datagrams that found no room to wait until they are sent.
    pub overflows: IntCounterVec,
    /// TCP segments that were sent again, inside tunnels.
    pub retransmissions: IntCounterVec,
    /// Datagrams of other workers' sessions, by what became of them: `passed` or `lost`.
    pub passed: IntCounterVec,
    /// Streams, half-open and lingering ones included.
    pub streams: IntGaugeVec,
    /// Memory that streams' buffers may take, in bytes.
    pub buffer_bytes: IntGaugeVec,
}

impl Meters {
    /// Registers them.
    ///
    /// # Errors
    /// If another metric has the name of one of them.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(format!("sekisho_tunnel_{name}"), help), labels)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let gauges = |name: &str, help: &str| {
            let made = IntGaugeVec::new(Opts::new(format!("sekisho_tunnel_{name}"), help), &["listener"])?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        Ok(Self {
            peers_up: gauges("peers_up", "WireGuard peers with a session.")?,
            peers: gauges("peers", "WireGuard peers that may connect.")?,
            handshakes: counters("handshakes_total", "WireGuard handshakes by outcome.", &["listener", "outcome"])?,
            bytes: counters("bytes_total", "Bytes of tunnels' datagrams.", &["listener", "direction"])?,
            datagrams: counters("datagrams_total", "Tunnels' datagrams.", &["listener", "direction"])?,
            drops: counters("drops_total", "Datagrams and packets dropped.", &["listener", "reason"])?,
            overflows: counters("overflows_total", "Datagrams that found no room to wait.", &["listener"])?,
            retransmissions: counters(
                "retransmissions_total",
                "TCP segments inside tunnels that were sent again.",
                &["listener"],
            )?,
            passed: counters("passed_on_total", "Datagrams of other workers' sessions.", &["listener", "outcome"])?,
            streams: gauges("streams", "TCP connections inside tunnels.")?,
            buffer_bytes: gauges("buffer_bytes", "Memory that their buffers may take.")?,
        })
    }

    /// Counts a datagram that was another worker's.
    pub(super) fn passed_on(&self, listener: &str, outcome: &str) {
        self.passed.with_label_values(&[listener, outcome]).inc();
    }

    /// Makes all of a listener's, so that the first count of each is an increase.
    pub(super) fn begin(&self, listener: &str) {
        DropReason::ALL.iter().for_each(|reason| drop(self.drops.with_label_values(&[listener, reason.label()])));
        outcomes().for_each(|outcome| drop(self.handshakes.with_label_values(&[listener, outcome])));
        ["passed", "lost"].iter().for_each(|outcome| drop(self.passed.with_label_values(&[listener, outcome])));
    }

    /// Counts drops of one reason.
    pub(super) fn dropped(&self, listener: &str, reason: DropReason, count: u64) {
        self.drops.with_label_values(&[listener, reason.label()]).inc_by(count);
        if OUTCOMES.contains(&reason) {
            self.handshakes.with_label_values(&[listener, reason.label()]).inc_by(count);
        }
    }
}

fn outcomes() -> impl Iterator<Item = &'static str> {
    std::iter::once("completed").chain(OUTCOMES.iter().map(|reason| reason.label()))
}
