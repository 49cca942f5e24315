//! What is written into the log of an exchange, and counted in the metrics.

use gateway_audit::record::{Durations, Exchange, Intent, Outcome, Request};
use gateway_audit::{Record, Scope};
use http::{HeaderValue, StatusCode};
use policy::patients::Unread;
use policy::{Refusal, Subject};
use smallvec::SmallVec;

use super::super::meters::Counted;
use super::{Stage, Trail, seconds};
use crate::audit::Ticket;
use crate::clock::{Clock as _, Reading};
use crate::worker::Worker;

impl Trail {
    /// Reads the clocks for a record.
    pub(super) fn read_clock(&mut self) -> Reading {
        let reading = self.clock().now();
        self.now_ns = reading.monotonic_ns;
        reading
    }

    /// Whose records these are.
    pub(super) fn scope(&self) -> Scope<'_> {
        Scope { site: self.connection.fields.site(), class: self.asked.as_ref().map(|asked| asked.class.as_str()) }
    }

    pub(super) fn durations(&self) -> Durations {
        Durations {
            total_us: self.since_begun_ns() / 1_000,
            policy_us: self.policy_ns.map(|ns| ns / 1_000),
            upstream_us: self.upstream_ns.map(|ns| ns / 1_000),
        }
    }

    pub(super) fn write_exchange(&mut self, status: Option<u16>, reason: Option<Refusal>) -> Result<(), Refusal> {
        let reading = self.read_clock();
        let asked = self.asked.as_ref();
        let subject = self.subject.as_deref();
        let mut patients: SmallVec<[&[u8]; 4]> =
            asked.iter().flat_map(|asked| &asked.patients.ids).map(|patient| patient.value.as_bytes()).collect();
        let patient = subject.and_then(Subject::patient).map(ToString::to_string);
        let session = self.carrying.as_ref().map(|carrying| &*carrying.carried.session);
        let bodies = asked.and_then(|asked| Some((asked, asked.bodies.as_deref()?)));
        let unread = match bodies {
            // The intent is recorded before a byte of a body is read.
            Some((asked, bodies)) => bodies.tell(&asked.patients, status.is_some(), &mut patients),
            None => asked.and_then(|asked| {
                let unread = asked.opens.then_some(Unread::ContentType);
                asked.patients.truncated.then_some(Unread::TooMany).or(unread)
            }),
        };
        let client = self.told.as_ref().map(|told| told.client.ip().to_string());
        let exchange = Exchange {
            request: self.id(),
            connection: &self.connection.fields,
            client: client.as_deref(),
            method: &self.method,
            authority: self.authority.as_ref().map(HeaderValue::as_bytes),
            target: self.target.as_bytes(),
            route: asked.map(|asked| asked.route.as_str()),
            service: asked.map(|asked| asked.service.as_str()),
            class: asked.map(|asked| asked.class.as_str()),
            action: asked.map(|asked| asked.action.label()),
            patients: &patients,
            patients_unknown: unread.map(Unread::label),
            user: subject.and_then(Subject::user).map(policy::UserName::as_str),
            session: session.map(|session| &*session.name),
            acting_for: subject.and_then(|subject| subject.acting_for.as_deref()).map(|acting| acting.user.as_str()),
            patient: patient.as_deref(),
            roles: subject.map_or(&[][..], |subject| &subject.roles[..]),
            authentication: subject.map(|subject| subject.authentication_level.label()),
            decision: self.decision,
            reason: reason.map(Refusal::label),
            policies: self.policies.as_deref().unwrap_or_default(),
            snapshot: self.snapshot_version,
            backend: self.backend.as_deref(),
            answer: self.in_words.as_deref(),
        };
        let worker = &self.connection.worker;
        let ticket = match status {
            None => put(worker, &Intent { exchange: &exchange }, &reading, self.waits)?,
            Some(status) => {
                let durations = self.durations();
                put(worker, &Request { exchange: &exchange, status, durations }, &reading, self.waits)?
            }
        };
        self.ticket = ticket;
        Ok(())
    }

    /// The record of the answer: the whole request's where nothing was recorded yet, otherwise the intent's outcome.
    pub(super) fn write_answer(&mut self, status: u16, reason: Option<Refusal>) -> Result<(), Refusal> {
        if matches!(self.stage, Stage::Begun | Stage::Intended) {
            self.write_login()?;
            self.write_session()?;
        }
        match self.stage {
            Stage::Begun => self.write_exchange(Some(status), reason)?,
            Stage::Intended => {
                let reading = self.read_clock();
                let outcome = Outcome {
                    request: self.id(),
                    scope: self.scope(),
                    status,
                    reason: reason.map(Refusal::label),
                    backend: self.backend.as_deref(),
                    answer: self.in_words.as_deref(),
                    durations: self.durations(),
                };
                self.ticket = put(&self.connection.worker, &outcome, &reading, self.waits)?;
            }
            Stage::Answered | Stage::Over => {}
        }
        self.stage = Stage::Answered;
        Ok(())
    }

    pub(super) async fn durable(&mut self) -> Result<(), Refusal> {
        let Some(ticket) = self.ticket else { return Err(Refusal::InternalError) };
        let durable = self.connection.worker.durable(ticket).await;
        let from_ns = std::mem::replace(&mut self.now_ns, self.connection.worker.clock.monotonic_ns());
        self.connection.worker.metrics.audit_wait.observe(seconds(self.now_ns.saturating_sub(from_ns)));
        durable
    }

    pub(super) fn count(&self, status: StatusCode, refusal: Option<Refusal>) {
        let connection = &self.connection;
        let counted = Counted {
            route: self.asked.as_ref().map(|asked| asked.route.clone()),
            action: self.asked.as_ref().map(|asked| asked.action),
            decision: self.decision,
            refusal,
            class: status.as_u16() / 100,
        };
        connection.meters.count(connection, counted, seconds(self.since_begun_ns()));
    }
}

/// Queues a record; without a ticket where nobody waits for it.
pub(super) fn put<R: Record>(
    worker: &Worker,
    record: &R,
    reading: &Reading,
    waits: bool,
) -> Result<Option<Ticket>, Refusal> {
    if waits {
        return worker.append(record, reading).map(Some);
    }
    worker.append_unwaited_at(record, reading);
    Ok(None)
}
