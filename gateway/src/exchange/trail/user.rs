//! Who asks, as far as logins and sessions say so: what a trail knows of them, and their records.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use gateway_audit::record::{Login, LoginOutcome, SessionEvent};
use policy::login::{AccountName, Attempt};
use policy::{Party, Refusal, Subject, UserName};

use super::Trail;
use super::written::put;
use crate::listen::Bearing;
use crate::login::Start;
use crate::session::{Session, note};
use crate::worker::{Carried, Carrying};

/// An attempt to log in.
pub(super) struct LoginTold {
    realm: Arc<str>,
    pub(super) account: AccountName,
    outcome: LoginOutcome,
    /// Says whether the attempt was looked at, where that is not known here.
    start: Option<Start>,
}

impl Trail {
    /// Who asks.
    pub(in crate::exchange) fn asked_by(&mut self, subject: &Arc<Subject>) {
        self.subject = Some(Arc::clone(subject));
    }

    pub(in crate::exchange) fn subject(&self) -> Option<Arc<Subject>> {
        self.subject.clone()
    }

    pub(in crate::exchange) fn party(&self) -> Option<&Party> {
        self.subject.as_deref().map(|subject| &subject.party)
    }

    /// When it began, Unix seconds.
    pub(in crate::exchange) fn unix_seconds(&self) -> i64 {
        self.begun.unix_ns / 1_000_000_000
    }

    /// Whether a token names who asks.
    pub(in crate::exchange) const fn is_borne(&self) -> bool {
        self.bearing.is_some()
    }

    /// It is asked by a user whom the connection itself does not name: it goes on only while the registry takes that user,
    /// and lets the user act for another.
    pub(in crate::exchange) fn stays_while_allowed(&mut self, user: &UserName, acts_for: Option<&UserName>) {
        self.bearing = Some(Bearing::begin(&self.connection, user, acts_for));
    }

    /// It is part of a session.
    pub(in crate::exchange) fn in_session(&mut self, carrying: Carrying) {
        self.carrying = Some(carrying);
    }

    /// What tells it that its session ends.
    pub(in crate::exchange) fn carried(&self) -> Option<Rc<Carried>> {
        self.carrying.as_ref().map(|carrying| Rc::clone(&carrying.carried))
    }

    /// Whether its session has ended under it; tells `cx` when it does.
    pub(in crate::exchange) fn is_cut(&self, cx: &mut Context<'_>) -> Option<Refusal> {
        self.carrying.as_ref()?.carried.control.poll_cut(cx)
    }

    /// Its answer begins a session, whose record stands before the answer's.
    pub(in crate::exchange) fn begins_session(&mut self, session: Arc<Session>) {
        self.tells_session(session, SessionEvent::Begun, None);
    }

    /// Its request changes a session, whose record stands before the answer's. `acting_for` is whom that is about; none: whom the
    /// session's user acts for.
    pub(in crate::exchange) fn tells_session(
        &mut self,
        session: Arc<Session>,
        event: SessionEvent,
        acting_for: Option<UserName>,
    ) {
        let acting_for = acting_for.or_else(|| session.acting_for().map(|acting| acting.user.clone()));
        self.session_told = Some((session, event, acting_for));
    }

    /// A token says when its user was proved, nanoseconds since 1970.
    pub(in crate::exchange) const fn proved_at(&mut self, unix_ns: Option<i64>) {
        self.proved_ns = unix_ns;
    }

    /// How long ago the user who asks was proved, nanoseconds; `now_ns` is monotonic. None where nobody can say: a device alone, a
    /// card, or a token that does not tell.
    pub(in crate::exchange) fn proof_age_ns(&self, subject: &Subject, now_ns: u64) -> Option<u64> {
        if self.is_borne() {
            let since_begun = i64::try_from(now_ns.saturating_sub(self.begun.monotonic_ns)).unwrap_or(i64::MAX);
            // The bound on our clock's error counts against the token.
            let error_ns = i64::try_from(self.begun.error_ns?).unwrap_or(i64::MAX);
            let latest = self.begun.unix_ns.saturating_add(since_begun).saturating_add(error_ns);
            return Some(u64::try_from(latest.saturating_sub(self.proved_ns?)).unwrap_or(0));
        }
        let session = self.carrying.as_ref().map(|carrying| &carrying.carried.session)?;
        let is_theirs = matches!(&subject.party, Party::Device { user: Some(_), .. }) && session.user.is_some();
        is_theirs.then(|| now_ns.saturating_sub(session.proof().authenticated_ns))
    }

    /// Its answer has the browser forget the gateway's own cookies, but for those that it sets.
    pub(in crate::exchange) fn forgets_cookies(&mut self) {
        self.forgets_cookies = true;
    }

    /// It is an attempt to log in; no backend has seen it.
    pub(in crate::exchange) fn attempts(&mut self, attempt: &Attempt) {
        let (realm, account) = (Arc::clone(&attempt.realm), attempt.account.clone());
        self.login = Some(Box::new(LoginTold { realm, account, outcome: LoginOutcome::NotSent, start: None }));
    }

    /// The attempt waits to be looked at.
    pub(in crate::exchange) fn attempt_waits(&mut self, start: Start) {
        if let Some(login) = &mut self.login {
            login.start = Some(start);
        }
    }

    /// What came of the attempt, as far as that is known.
    pub(in crate::exchange) fn attempt_ends(&mut self, outcome: LoginOutcome) {
        if let Some(login) = &mut self.login {
            login.outcome = outcome;
            login.start = None;
        }
    }

    /// The record of an attempt to log in. It stands before that of the answer, which is waited for.
    pub(super) fn write_login(&mut self) -> Result<(), Refusal> {
        let Some(mut login) = self.login.take() else { return Ok(()) };
        if login.start.as_ref().is_some_and(Start::has_begun) {
            login.outcome = LoginOutcome::NoAnswer;
        }
        let reading = self.read_clock();
        let asked = self.asked.as_ref();
        let record = Login {
            request: self.id(),
            connection: &self.connection.fields,
            class: asked.map(|asked| asked.class.as_str()),
            route: asked.map(|asked| asked.route.as_str()),
            service: asked.map(|asked| asked.service.as_str()),
            realm: &login.realm,
            account: login.account.as_str(),
            outcome: login.outcome,
        };
        let worker = &self.connection.worker;
        let route = asked.map_or("", |asked| asked.route.as_str());
        worker.metrics.logins.with_label_values(&[route, login.outcome.label()]).inc();
        put(worker, &record, &reading, self.waits).map(drop)
    }

    /// The record of a session that begins or changes. It stands before that of the answer, which is waited for.
    pub(super) fn write_session(&mut self) -> Result<(), Refusal> {
        let Some((session, event, acting_for)) = self.session_told.take() else { return Ok(()) };
        let reading = self.read_clock();
        let record = note(&session, event, None, Some(self.id()), acting_for.as_ref());
        put(&self.connection.worker, &record, &reading, self.waits).map(drop)
    }

    pub(super) fn cut_reason(&self) -> Option<Refusal> {
        let of_session = || self.carrying.as_ref().and_then(|carrying| carrying.carried.control.cut_reason());
        self.connection.control.cut_reason().or_else(of_session)
    }
}
