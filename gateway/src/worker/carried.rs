//! Exchanges that are part of a session, so that they are cut when it ends.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use policy::Refusal;

use super::Worker;
use crate::clock::{Clock as _, Reading};
use crate::listen::Control;
use crate::session::{Acting, Session};

/// An exchange that is part of a session.
pub struct Carried {
    /// The session.
    pub session: Arc<Session>,
    /// The backend's, where ours carries its requests as well.
    beside: Option<Arc<Session>>,
    /// Whom it acts for.
    acting: Option<Arc<Acting>>,
    /// Ends the exchange.
    pub control: Control,
    /// It is a tunnel: whatever ends its session ends it, and it is no use of one.
    tunnel: Cell<bool>,
}

impl Carried {
    /// Why it is cut, if it is.
    fn is_cut(&self, now: &Reading) -> Option<Refusal> {
        let unix_s = now.unix_ns / 1_000_000_000;
        let is_revoked = self.acting.as_ref().is_some_and(|acting| {
            acting.until_s.is_some_and(|until_s| unix_s >= until_s) || !self.session.acts_for(Some(&acting.user))
        });
        let mut sessions = std::iter::once(&self.session).chain(&self.beside);
        let is_cut = |session: &Arc<Session>| match self.tunnel.get() {
            true => session.ended().or_else(|| session.is_over(now.monotonic_ns)).is_some(),
            false => session.is_cut(now.monotonic_ns).is_some(),
        };
        let of_session = sessions.any(is_cut).then_some(Refusal::SessionEnded);
        of_session.or(is_revoked.then_some(Refusal::ActingNotGranted))
    }
}

impl Carrying {
    /// The exchange becomes a tunnel, through which pages send what nobody asked them to: it does not keep its session from
    /// becoming idle (R10), and ends with it, for whatever reason that ends.
    pub fn becomes_tunnel(&self) {
        self.carried.tunnel.set(true);
        if let Some(why) = self.carried.is_cut(&self.worker.clock.now()) {
            self.carried.control.cut(why);
        }
    }
}

/// An exchange's place among those that are part of a session; given up when dropped.
pub struct Carrying {
    /// The exchange.
    pub carried: Rc<Carried>,
    worker: Rc<Worker>,
    key: usize,
}

impl Drop for Carrying {
    fn drop(&mut self) {
        if !self.carried.tunnel.get() {
            // Whoever is in the middle of something is not idle.
            let now_ns = self.worker.clock.monotonic_ns();
            std::iter::once(&self.carried.session)
                .chain(&self.carried.beside)
                .for_each(|session| session.touch(now_ns));
        }
        self.worker.carried.borrow_mut().try_remove(self.key);
    }
}

impl Worker {
    /// Registers an exchange that is part of a session, so that it is cut when the session ends, or acts for that one no longer.
    /// `beside` is another session that it is part of, and ends with.
    #[must_use]
    pub fn carries(
        self: &Rc<Self>,
        session: &Arc<Session>,
        beside: Option<Arc<Session>>,
        acting: Option<Arc<Acting>>,
    ) -> Carrying {
        let carried = Carried {
            session: Arc::clone(session),
            beside,
            acting,
            control: Control::default(),
            tunnel: Cell::new(false),
        };
        let carried = Rc::new(carried);
        let key = self.carried.borrow_mut().insert(Rc::clone(&carried));
        // It may have ended since it was found, and whoever ended it looked before it stood here.
        if let Some(why) = carried.is_cut(&self.clock.now()) {
            carried.control.cut(why);
        }
        Carrying { carried, worker: Rc::clone(self), key }
    }

    /// Cuts exchanges whose session is over.
    pub(super) fn cut_sessions(&self) {
        let now = self.clock.now();
        let mut cut = 0;
        for (_, carried) in self.carried.borrow().iter() {
            if let Some(why) = carried.is_cut(&now) {
                carried.control.cut(why);
                cut += 1;
            }
        }
        if cut > 0 {
            tracing::info!(worker = self.index, cut, "ended exchanges of sessions that are over");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::KernelClock;

    #[test]
    fn an_exchange_ends_with_any_of_its_sessions_and_with_the_leave() {
        use policy::session::{Factors, Kind, Limits, Reason, Rules};
        let limits = Limits { idle_ns: u64::MAX >> 1, absolute_ns: u64::MAX >> 1, concurrent: 0 };
        let rules = Rules { default: limits, rules: Vec::new() };
        let config = crate::config::Session { rules, most: 100, key_file: "unused".into() };
        let clock = Arc::new(KernelClock::new().unwrap());
        let (sessions, _kept) = crate::session::prepare(&config, crate::session::SessionKey::new(&[1; 32]), clock);
        let device = policy::DeviceId { site: "s".parse().unwrap(), device: "d".parse().unwrap() };
        let party = policy::Party::Device { device, user: None };
        let begin = |kind| {
            let begin = crate::session::Begin {
                kind,
                realm: "r",
                party: &party,
                user: Some("tanaka".parse().unwrap()),
                account: "a",
                acting_for: None,
                level: policy::AuthenticationLevel::User,
                factors: Factors::PASSWORD,
                authenticated_ns: 1,
                asked_ns: 1,
                as_of: 1,
                tag: None,
                limits,
            };
            sessions.begin(&begin).unwrap().1
        };
        let at = |unix_s: i64| Reading {
            unix_ns: unix_s * 1_000_000_000,
            monotonic_ns: 1,
            error_ns: None,
            source: "test",
            synchronised: true,
        };
        let (own, learnt) = (begin(Kind::Local), begin(Kind::Learnt));
        sessions.act(&own, Some(Acting { user: "sato".parse().unwrap(), until_s: Some(100) }));
        let carried = Carried {
            session: Arc::clone(&own),
            beside: Some(Arc::clone(&learnt)),
            acting: own.acting_for(),
            control: Control::default(),
            tunnel: Cell::new(false),
        };
        assert_eq!(carried.is_cut(&at(99)), None);
        assert_eq!(carried.is_cut(&at(100)), Some(Refusal::ActingNotGranted), "nobody has swept since");
        drop(sessions.end(&learnt, Reason::Operator));
        assert_eq!(carried.is_cut(&at(99)), Some(Refusal::SessionEnded));
        let carried = Carried { beside: None, ..carried };
        assert_eq!(carried.is_cut(&at(99)), None);
        drop(sessions.end(&own, Reason::LoggedOut));
        assert_eq!(carried.is_cut(&at(99)), None, "what is under way when somebody logs out is finished");
        carried.tunnel.set(true);
        assert_eq!(carried.is_cut(&at(99)), Some(Refusal::SessionEnded), "a tunnel is not");
        let own = begin(Kind::Local);
        let carried = Carried { session: Arc::clone(&own), acting: None, tunnel: Cell::new(false), ..carried };
        drop(sessions.end(&own, Reason::Operator));
        assert_eq!(carried.is_cut(&at(99)), Some(Refusal::SessionEnded));
    }
}
