//! What an exchange leaves behind that became a tunnel of another protocol: records of its beginning and its end beside
//! those of the exchange, and what passes through it in the metrics.

use gateway_audit::record::{Completion, End, Stream, StreamEvent};
use prometheus::{IntCounter, IntGauge};

use super::Trail;
use crate::metrics::Metrics;

/// An open tunnel.
pub(super) struct Open {
    open: IntGauge,
    received: IntCounter,
    sent: IntCounter,
    /// Bytes that are counted already.
    counted: (u64, u64),
    silent: bool,
}

impl Open {
    fn new(metrics: &Metrics, listener: &str) -> Self {
        let open = metrics.websockets.with_label_values(&[listener]);
        open.inc();
        let bytes = |direction| metrics.websocket_bytes.with_label_values(&[listener, direction]);
        Self { open, received: bytes("received"), sent: bytes("sent"), counted: (0, 0), silent: false }
    }

    /// Nothing passed for as long as its route allows.
    pub(super) const fn is_silent(&self) -> bool {
        self.silent
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl Trail {
    /// Both sides have agreed, and that is recorded: a tunnel opens.
    pub(in crate::exchange) fn opened(&mut self) {
        let (worker, listener) = (&self.connection.worker, &self.connection.listener.name);
        self.tunnel = Some(Open::new(&worker.metrics, listener));
        let so_far = Completion {
            request: self.id(),
            scope: self.scope(),
            received: 0,
            sent: 0,
            end: End::Complete,
            duration_us: self.since_begun_ns() / 1_000,
        };
        worker.append_unwaited(&Stream { event: StreamEvent::Opened, so_far });
        if let Some(carrying) = &self.carrying {
            carrying.becomes_tunnel();
        }
    }

    /// Counts what has passed through the tunnel, if it is one.
    pub(in crate::exchange) fn passes(&mut self) {
        let (received, sent) = (self.received.bytes.get(), self.bytes);
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.received.inc_by(received - tunnel.counted.0);
            tunnel.sent.inc_by(sent - tunnel.counted.1);
            tunnel.counted = (received, sent);
        }
    }

    /// Nothing passed through the tunnel for as long as its route allows.
    pub(in crate::exchange) fn fell_silent(&mut self) {
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.silent = true;
        }
    }
}
