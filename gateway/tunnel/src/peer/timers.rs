//! A peer's timers (white paper, 6): what happens when nothing does.

use std::time::{Duration, Instant};

use crate::core::Core;
use crate::event::Event;
use crate::peer::Peer;
use crate::session::{REJECT_AFTER, Session};

/// Something came and nothing went for this long: an empty message goes.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Something went and nothing came for this long: the session is taken for dead.
const ANSWER: Duration = Duration::from_secs(15);
/// For this long a handshake is tried.
const ATTEMPT: Duration = Duration::from_secs(90);
/// The initiator of a session that only listens asks for the next one at this age, before it ends.
const LAST_MINUTE: Duration = Duration::from_secs(165);

impl Peer {
    /// Something authentic came.
    pub(super) fn heard(&mut self, now: Instant, core: &mut Core, data: bool) {
        let persistent = self.persistent_from(now);
        let Some(live) = self.live.as_mut() else { return };
        live.answer_due = None;
        live.persistent_due = persistent;
        if data && live.keepalive_due.is_none() {
            live.keepalive_due = now.checked_add(KEEPALIVE);
        }
        let aged = |session: &Session| session.initiator && now.saturating_duration_since(session.born) >= LAST_MINUTE;
        if live.current.as_ref().is_some_and(aged) {
            self.initiate(now, core);
        }
    }

    /// Something went.
    pub(super) fn spoke(&mut self, now: Instant, core: &mut Core, data: bool) {
        let persistent = self.persistent_from(now);
        let Some(live) = self.live.as_mut() else { return };
        live.keepalive_due = None;
        live.persistent_due = persistent;
        if data && live.answer_due.is_none() {
            let jitter = Duration::from_millis(core.random.number() % 334);
            live.answer_due = now.checked_add(ANSWER.saturating_add(jitter));
        }
    }

    fn persistent_from(&self, now: Instant) -> Option<Instant> {
        now.checked_add(self.keepalive?)
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let live = self.live.as_ref()?;
        let ends =
            [&live.current, &live.previous, &live.next].into_iter().flatten().map(|s| s.born.checked_add(REJECT_AFTER));
        let dues = [live.keepalive_due, live.answer_due, live.persistent_due];
        ends.chain(dues).chain([live.attempt.as_ref().map(|attempt| attempt.retry)]).flatten().min()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant, core: &mut Core) {
        self.end_old_sessions(now, core);
        self.retry(now, core);
        let Some(live) = self.live.as_mut() else { return };
        let due = |timer: &mut Option<Instant>| timer.take_if(|due| *due <= now).is_some();
        let (answer, keepalive, persistent) =
            (due(&mut live.answer_due), due(&mut live.keepalive_due), due(&mut live.persistent_due));
        if answer {
            self.initiate(now, core);
        } else if keepalive || persistent {
            self.send_keepalive(now, core);
        }
        let idle = self.live.as_ref().is_some_and(|live| {
            let sessions = [&live.current, &live.previous, &live.next];
            sessions.into_iter().all(Option::is_none) && live.attempt.is_none() && live.queue.is_empty()
        });
        if idle {
            self.live = None;
        }
    }

    fn end_old_sessions(&mut self, now: Instant, core: &mut Core) {
        let Some(live) = self.live.as_mut() else { return };
        let was_up = live.current.is_some();
        for slot in [&mut live.current, &mut live.previous, &mut live.next] {
            if let Some(old) = slot.take_if(|session| !session.is_fresh(now)) {
                core.forget(old);
            }
        }
        if was_up && live.current.is_none() {
            live.keepalive_due = None;
            live.answer_due = None;
            live.persistent_due = self.keepalive.and(live.persistent_due);
            core.tell(Event::SessionDown { peer: self.name.clone() });
        }
    }

    fn retry(&mut self, now: Instant, core: &mut Core) {
        let Some(live) = self.live.as_mut() else { return };
        let Some(attempt) = live.attempt.as_mut().filter(|attempt| attempt.retry <= now) else { return };
        if now.saturating_duration_since(attempt.started) < ATTEMPT
            && let Some(path) = self.path
        {
            attempt.send(now, core, path);
            return;
        }
        live.queue.clear();
        if let Some(attempt) = live.attempt.take() {
            core.forget(attempt.session);
        }
    }
}
