//! Handshakes with a peer, in both directions.

use std::time::{Duration, Instant};

use crate::core::Core;
use crate::drops::DropReason;
use crate::initiation::Opened;
use crate::path::Path;
use crate::peer::{Attempt, Peer};
use crate::session::Session;

/// An initiation is repeated after this time, and up to a third of a second (white paper, 6.1, 6.4).
const RETRY: Duration = Duration::from_secs(5);
/// Operations on the curve that a response costs, with those of making a `Tunn`.
const RESPONSE_COST: u64 = 6;
/// And an initiation of the gateway's own.
const INITIATION_COST: u64 = 4;
/// And what completes it.
const COMPLETION_COST: u64 = 2;

impl Peer {
    /// Takes an initiation that claims this peer's key, and answers it.
    pub(crate) fn take_initiation(
        &mut self,
        now: Instant,
        core: &mut Core,
        path: Path,
        message: &[u8],
        opened: &Opened,
    ) -> Result<(), DropReason> {
        if self.shared.is_none() {
            core.counters.curve_operations = core.counters.curve_operations.saturating_add(1);
            self.shared = core.identity.private.shared(&self.name.key.0);
        }
        let timestamp = self.shared.as_ref().and_then(|shared| opened.timestamp(shared)).ok_or(DropReason::Forged)?;
        if timestamp <= self.latest {
            return Err(DropReason::ReplayedInitiation);
        }
        if !self.handshakes.take(core.limits.handshakes.peer, core.elapsed(now)) {
            return Err(DropReason::PeerRate);
        }
        self.latest = timestamp;
        core.counters.curve_operations = core.counters.curve_operations.saturating_add(RESPONSE_COST);
        let index = core.free_index(self.id);
        let mut session = Session::new(&core.identity, &self.name.key, self.preshared.as_ref(), index, now);
        let mut answer = core.outbox.buffer();
        if !session.handshake(now, path.remote.ip(), message, &mut answer) {
            core.forget(session);
            core.outbox.give_back(answer);
            return Err(DropReason::Forged);
        }
        self.path = Some(path);
        core.send(path, answer);
        let live = self.live.get_or_insert_default();
        if let Some(unused) = live.next.replace(session) {
            core.forget(unused);
        }
        Ok(())
    }

    /// Takes the response to an initiation of the gateway's, or a cookie reply.
    pub(crate) fn take_answer(
        &mut self,
        now: Instant,
        core: &mut Core,
        path: Path,
        message: &[u8],
        is_cookie: bool,
    ) -> Result<(), DropReason> {
        let live = self.live.as_mut().ok_or(DropReason::UnknownSession)?;
        let attempt = live.attempt.as_mut().ok_or(DropReason::UnknownSession)?;
        let mut answer = core.outbox.buffer();
        if !is_cookie {
            core.counters.curve_operations = core.counters.curve_operations.saturating_add(COMPLETION_COST);
        }
        let taken = attempt.session.handshake(now, path.remote.ip(), message, &mut answer);
        if is_cookie {
            // It says nothing about where the peer is; the next try will carry it.
            core.outbox.give_back(answer);
            return if taken { Ok(()) } else { Err(DropReason::Forged) };
        }
        if !taken {
            core.outbox.give_back(answer);
            return Err(DropReason::Forged);
        }
        self.path = Some(path);
        core.send(path, answer);
        let session = live.attempt.take().map(|attempt| attempt.session);
        let replaced = std::mem::replace(&mut live.current, session);
        // What the peer asked for meanwhile may be in use already, at its end.
        let (kept, gone) = match live.next.take() {
            Some(next) => (Some(next), replaced),
            None => (replaced, None),
        };
        let oldest = std::mem::replace(&mut live.previous, kept);
        for session in [gone, oldest].into_iter().flatten() {
            core.forget(session);
        }
        self.heard(now, core, false);
        self.established(now, core, path);
        self.flush(now, core);
        Ok(())
    }

    /// Asks for a session, unless that is under way or nobody knows where the peer is.
    pub(crate) fn initiate(&mut self, now: Instant, core: &mut Core) {
        let Some(path) = self.path else { return };
        let live = self.live.get_or_insert_default();
        if live.attempt.is_some() {
            return;
        }
        let index = core.free_index(self.id);
        let session = Session::new(&core.identity, &self.name.key, self.preshared.as_ref(), index, now);
        let mut attempt = Attempt { session, started: now, retry: now };
        attempt.send(now, core, path);
        live.attempt = Some(attempt);
    }
}

impl Attempt {
    /// Sends the initiation, or sends it anew.
    pub(super) fn send(&mut self, now: Instant, core: &mut Core, path: Path) {
        core.counters.curve_operations = core.counters.curve_operations.saturating_add(INITIATION_COST);
        let mut message = core.outbox.buffer();
        if self.session.initiate(&mut message) {
            core.send(path, message);
        } else {
            core.outbox.give_back(message);
        }
        let jitter = Duration::from_millis(core.random.number() % 334);
        self.retry = now.checked_add(RETRY.saturating_add(jitter)).unwrap_or(now);
    }
}
