//! Who asks, as far as logins and sessions say so: what a trail knows of them, and their records.

use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use gateway_audit::record::{Login, LoginOutcome, SessionEvent};
use policy::login::{AccountName, Attempt};
use policy::{Party, Refusal, Subject};

use super::{Trail, put};
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
        self.begun_session = Some(session);
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

    /// The record of a session that begins. It stands before that of the answer, which is waited for.
    pub(super) fn write_session(&mut self) -> Result<(), Refusal> {
        let Some(session) = self.begun_session.take() else { return Ok(()) };
        let reading = self.read_clock();
        let record = note(&session, SessionEvent::Begun, None, Some(self.id()));
        put(&self.connection.worker, &record, &reading, self.waits).map(drop)
    }

    pub(super) fn cut_reason(&self) -> Option<Refusal> {
        let of_session = || self.carrying.as_ref().and_then(|carrying| carrying.carried.control.cut_reason());
        self.connection.control.cut_reason().or_else(of_session)
    }
}
