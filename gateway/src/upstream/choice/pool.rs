//! Who takes part: health checks, ejection, drain and the return of each server, as one state machine.
//!
//! A server is *out* while somebody drained it or while its checks fail, and *ejected* for a while after requests to it
//! failed. Ejection is a guess, so it has a floor: it never leaves fewer servers than that, and it is lifted where
//! others that go out leave fewer.

/// When a server takes part that does not until somebody says so.
pub(in crate::upstream) const NEVER: u64 = u64::MAX;
/// An ejection is at most so many times the first one.
const LONGEST_EJECTION: u64 = 16;

/// The bounds of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) struct Bounds {
    /// Failures in a row that eject; 0 for never.
    pub(in crate::upstream) eject_after: u32,
    /// How long the first ejection lasts; each that follows soon, twice as long.
    pub(in crate::upstream) eject_ms: u64,
    /// Of a hundred servers, how many may be ejected at once. One never is.
    pub(in crate::upstream) max_ejected_percent: u32,
    /// Checks in a row that fail before a server is out.
    pub(in crate::upstream) unhealthy_after: u32,
    /// Checks in a row that pass before it is back.
    pub(in crate::upstream) healthy_after: u32,
}

/// What a server is at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It takes requests.
    In,
    /// It takes requests again, and is given more of them slowly.
    Starting,
    /// Requests to it failed: it takes none for a while, unless no other is left.
    Ejected,
    /// Its health checks fail: it takes none.
    Unhealthy,
    /// An operator wants it to take no new ones.
    Drained,
}

impl State {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::In, Self::Starting, Self::Ejected, Self::Unhealthy, Self::Drained];

    /// The label `state` of `backend_state`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Starting => "starting",
            Self::Ejected => "ejected",
            Self::Unhealthy => "unhealthy",
            Self::Drained => "drained",
        }
    }
}

/// A server's state and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) struct Standing {
    pub(in crate::upstream) state: State,
    /// Since when; 0 from the beginning.
    pub(in crate::upstream) since: u64,
    /// Until when, where it ends by itself.
    pub(in crate::upstream) until: Option<u64>,
}

/// What a health check said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::upstream) enum Checked {
    Passed,
    Failed,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Server {
    /// Since when it is drained.
    drained: Option<u64>,
    /// Since when its checks fail.
    unhealthy: Option<u64>,
    /// Checks in a row that said the other of what is believed.
    contradicting: u32,
    /// Failures in a row.
    failures: u32,
    /// It comes back from an ejection: the next failure ejects it again.
    on_probation: bool,
    /// Ejections in a row, and when the last began.
    ejections: u32,
    ejected_at: u64,
    /// When it takes part, but for drain and checks; 0 from the beginning.
    from: u64,
}

impl Server {
    const fn is_out(&self) -> bool {
        self.drained.is_some() || self.unhealthy.is_some()
    }

    const fn is_ejected(&self, now: u64) -> bool {
        self.from > now
    }

    const fn takes_part(&self, now: u64) -> bool {
        !self.is_out() && !self.is_ejected(now)
    }
}

/// The servers of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) struct Pool {
    bounds: Bounds,
    servers: Vec<Server>,
}

impl Pool {
    /// So many servers, all of which take part.
    pub(in crate::upstream) fn new(bounds: Bounds, count: usize) -> Self {
        Self { bounds, servers: vec![Server::default(); count] }
    }

    /// A pool for another configuration: of each server, the place that it had, if it had one. One that is new is started
    /// slowly.
    pub(in crate::upstream) fn carried(&self, bounds: Bounds, places: &[Option<usize>], now: u64) -> Self {
        let new = || Server { from: now, ..Server::default() };
        let old = |place: &Option<usize>| place.and_then(|place| self.servers.get(place)).cloned();
        let mut pool = Self { bounds, servers: places.iter().map(|place| old(place).unwrap_or_else(new)).collect() };
        pool.keep_floor(now);
        pool
    }

    /// Servers that ejection must leave.
    fn floor(&self) -> usize {
        let count = self.servers.len();
        let may_go = count * self.bounds.max_ejected_percent.min(100) as usize / 100;
        (count - may_go).max(1)
    }

    fn taking_part(&self, now: u64) -> usize {
        self.servers.iter().filter(|server| server.takes_part(now)).count()
    }

    /// Lifts ejections, those that end first, while fewer servers take part than must.
    fn keep_floor(&mut self, now: u64) {
        let floor = self.floor();
        while self.taking_part(now) < floor {
            let ejected = self.servers.iter_mut().filter(|server| !server.is_out() && server.is_ejected(now));
            let Some(first) = ejected.min_by_key(|server| server.from) else { return };
            first.from = now;
        }
    }

    /// An operator drains a server, or takes it back.
    pub(in crate::upstream) fn set_drained(&mut self, place: usize, drained: bool, now: u64) {
        let Some(server) = self.servers.get_mut(place) else { return };
        match (server.drained, drained) {
            (None, true) => server.drained = Some(now),
            (Some(_), false) => {
                server.drained = None;
                server.from = server.from.max(now);
                server.failures = 0;
            }
            (None, false) | (Some(_), true) => return,
        }
        self.keep_floor(now);
    }

    /// A health check ended.
    pub(in crate::upstream) fn checked(&mut self, place: usize, checked: Checked, now: u64) {
        let Bounds { unhealthy_after, healthy_after, .. } = self.bounds;
        let Some(server) = self.servers.get_mut(place) else { return };
        let contradicts = server.unhealthy.is_some() == (checked == Checked::Passed);
        if !contradicts {
            server.contradicting = 0;
            return;
        }
        server.contradicting += 1;
        match checked {
            Checked::Failed if server.contradicting >= unhealthy_after => server.unhealthy = Some(now),
            Checked::Passed if server.contradicting >= healthy_after => {
                server.unhealthy = None;
                server.from = server.from.max(now);
                server.failures = 0;
            }
            Checked::Failed | Checked::Passed => return,
        }
        server.contradicting = 0;
        self.keep_floor(now);
    }

    /// Nobody checks the server any more: what checks said counts no longer.
    pub(in crate::upstream) fn unchecked(&mut self, place: usize, now: u64) {
        let Some(server) = self.servers.get_mut(place) else { return };
        server.contradicting = 0;
        if server.unhealthy.take().is_some() {
            server.from = server.from.max(now);
            self.keep_floor(now);
        }
    }

    /// A request to the server failed by the server's fault. True if that ejects it.
    pub(in crate::upstream) fn failed(&mut self, place: usize, now: u64) -> bool {
        let Bounds { eject_after, eject_ms, .. } = self.bounds;
        let may_eject = eject_after > 0 && self.taking_part(now) > self.floor();
        let Some(server) = self.servers.get_mut(place) else { return false };
        if !server.takes_part(now) {
            // It was asked before it went, or since nobody else was left.
            return false;
        }
        server.failures = server.failures.saturating_add(1);
        if !may_eject || (server.failures < eject_after && !server.on_probation) {
            return false;
        }
        let lasts = |ejections: u32| eject_ms.saturating_mul((1 << ejections.min(16)).min(LONGEST_EJECTION));
        // After as long a time without trouble again, it begins anew.
        if now.saturating_sub(server.from) > lasts(server.ejections) {
            server.ejections = 0;
        }
        server.from = now.saturating_add(lasts(server.ejections));
        server.ejections += 1;
        server.ejected_at = now;
        server.failures = 0;
        server.on_probation = true;
        true
    }

    /// A request to the server was answered in full.
    pub(in crate::upstream) fn succeeded(&mut self, place: usize) {
        if let Some(server) = self.servers.get_mut(place) {
            server.failures = 0;
            server.on_probation = false;
        }
    }

    /// Whether a success would change anything.
    pub(in crate::upstream) fn is_troubled(&self, place: usize) -> bool {
        self.servers.get(place).is_some_and(|server| server.failures > 0 || server.on_probation)
    }

    /// From when the server takes part: 0 from the beginning, [`NEVER`] while it is out, a time to come while it is ejected.
    pub(in crate::upstream) fn takes_part_from(&self, place: usize) -> u64 {
        self.servers.get(place).map_or(NEVER, |server| if server.is_out() { NEVER } else { server.from })
    }

    /// What the server is.
    pub(in crate::upstream) fn standing(&self, place: usize, now: u64, slow_start: u64) -> Standing {
        let Some(server) = self.servers.get(place) else {
            return Standing { state: State::Drained, since: 0, until: None };
        };
        let from = server.from;
        let (state, since, until) = match (server.drained, server.unhealthy) {
            (Some(since), _) => (State::Drained, since, None),
            (None, Some(since)) => (State::Unhealthy, since, None),
            (None, None) if server.is_ejected(now) => (State::Ejected, server.ejected_at, Some(from)),
            (None, None) if from > 0 && now < from.saturating_add(slow_start) => {
                (State::Starting, from, Some(from.saturating_add(slow_start)))
            }
            (None, None) => (State::In, from, None),
        };
        Standing { state, since, until }
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
