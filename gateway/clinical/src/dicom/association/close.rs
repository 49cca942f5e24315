//! Ends of an association.

use super::super::fault::Fault;
use super::super::pdu::{ABORT, put_short};
use super::message::{Set, Way};
use super::{Association, Cause, Event, Phase, Side};

impl Association {
    pub(super) fn fault(&mut self, from: Side, fault: Fault) {
        self.abort_both(fault.abort_reason());
        self.close(Cause::Fault(from, fault));
    }

    pub(super) fn close(&mut self, cause: Cause) {
        if !self.is_closed() {
            self.phase = Phase::Closed;
            self.events.push_back(Event::Closed(cause));
            // What was held is not needed any more.
            self.waiting = None;
            self.outcome = None;
            self.late = None;
            self.requestor.set = Set::None;
            self.acceptor.set = Set::None;
        }
    }

    pub(super) fn abort_both(&mut self, reason: u8) {
        self.abort(Side::Requestor, reason);
        self.abort(Side::Acceptor, reason);
    }

    /// Tells a side by an A-ABORT of the service provider, where it knows of the association and no PDU to it is under way; otherwise
    /// the end of the connection tells.
    pub(super) fn abort(&mut self, to: Side, reason: u8) {
        let knows = match self.phase {
            Phase::Waiting | Phase::Asked(_) => to == Side::Requestor,
            Phase::Forwarded(..) | Phase::Open => true,
            Phase::Closed => false,
        };
        if knows && !self.is_amid(to) {
            put_short(self.outbox(to), ABORT, [0, 0, 2, reason]);
        }
    }

    /// Whether a fragment to a side is under way.
    fn is_amid(&self, to: Side) -> bool {
        let incoming = match to {
            Side::Requestor => &self.acceptor,
            Side::Acceptor => &self.requestor,
        };
        let forwarded = matches!(&incoming.set, Set::Data(data) if matches!(data.way, Way::Forwarded { .. }));
        forwarded && incoming.fragment.is_some()
    }

    /// An A-ABORT came: it is told on, as far as it can be.
    pub(super) fn aborted(&mut self, from: Side, body: &[u8]) {
        let (source, reason) = match body {
            [_, _, 2, reason @ 0..=6] => (2, *reason),
            _ => (0, 0),
        };
        let to = super::other(from);
        if !self.is_amid(to) && (to == Side::Requestor || matches!(self.phase, Phase::Forwarded(..) | Phase::Open)) {
            put_short(self.outbox(to), ABORT, [0, 0, source, reason]);
        }
        self.close(Cause::Aborted(from));
    }
}
