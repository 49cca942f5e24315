//! What a request leaves behind: its records, its metrics, and both even if it is dropped half-way.
//!
//! Order is the promise (A1). A request that only reads: one record, durable before its answer. One that may change
//! something: its intent, durable before the backend sees a byte, and its outcome, durable before its answer. Either
//! is followed by a completion, which nobody waits for.

mod named;
mod told;
mod tunnel;
mod user;
mod written;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use gateway_audit::Scope;
use gateway_audit::record::{Addendum, Completion, Decision, End, SessionEvent, Stream, StreamEvent};
use http::{HeaderValue, Response, StatusCode};
use policy::judge::PolicyName;
use policy::patients::Unread;
use policy::{Refusal, Subject, UserName};

use smallvec::SmallVec;

use super::account::{Own, forget};
use super::answer::ResponseBody;
use super::asked::{Asked, Target};
use super::forwarded::Told;
use super::patients::Bodies;
use crate::accounts::page::Language;
use crate::answer::{X_REQUEST_ID, status_of, without_content};
use crate::audit::Ticket;
use crate::body::{Received, RequestBody, Tap};
use crate::clock::{Clock as _, KernelClock, Reading};
use crate::listen::{Bearing, Connection};
use crate::quota::Admitted;
use crate::session::Session;
use crate::snapshot::Snapshot;
use crate::upstream::{Client, UpstreamBody, headers};
use crate::worker::Carrying;
use tunnel::Open;
use user::LoginTold;

/// Status of a request whose client went away before there was an answer. Nobody ever sees it but the log's reader.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What the record of a refused request is reckoned at beside its connection and what the peer wrote: names of route,
/// service, user, roles and policies, and the keys.
const RECORD_BYTES: u64 = 1024;

/// Bytes of an answer that pass before quotas are told of them; a request's are told with the next of them, or at its end.
const CHARGED_AT_ONCE: u64 = 256 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is recorded.
    Begun,
    /// The intent is.
    Intended,
    /// The answer is.
    Answered,
    /// Nothing is left to record.
    Over,
}

/// The guard of a request's records.
pub(super) struct Trail {
    connection: Rc<Connection>,
    /// When it began.
    begun: Reading,
    /// The last moment that was read, monotonic nanoseconds.
    now_ns: u64,
    id: HeaderValue,
    method: SmallVec<[u8; 8]>,
    target: Target,
    authority: Option<HeaderValue>,
    /// What a listed proxy says of where it comes from.
    told: Option<Told>,
    snapshot_version: u64,
    subject: Option<Arc<Subject>>,
    asked: Option<Asked>,
    login: Option<Box<LoginTold>>,
    /// Ends the connection should its user be suspended meanwhile.
    bearing: Option<Bearing>,
    /// The session that it is part of; told by its end, and given up with the trail.
    carrying: Option<Carrying>,
    /// The one that it begins or changes, what it does, and whom that is about.
    session_told: Option<(Arc<Session>, SessionEvent, Option<UserName>)>,
    /// When a token says that its user was proved, nanoseconds since 1970.
    proved_ns: Option<i64>,
    /// The answer has the browser forget the gateway's own cookies.
    forgets_cookies: bool,
    /// Seconds after which a refused request may come again, where that is known.
    retry_after_s: Option<u64>,
    /// The language of the person who reads the answer, if it is one.
    reader: Option<Language>,
    decision: Decision,
    policies: Option<Arc<[PolicyName]>>,
    policy_ns: Option<u64>,
    sent_ns: Option<u64>,
    upstream_ns: Option<u64>,
    backend: Option<Arc<str>>,
    stage: Stage,
    ticket: Option<Ticket>,
    /// Somebody waits for what is recorded.
    waits: bool,
    received: Rc<Received>,
    /// A backend has the request, and there is no answer.
    forwarding: bool,
    bytes: u64,
    ended: bool,
    /// Its place within quotas, where there are some.
    admitted: Option<Admitted>,
    /// Bytes that quotas know of.
    charged: u64,
    /// How it ended, where it is no request of HTTP.
    end: Option<End>,
    /// What the backend said in its own words, where that is no status of HTTP.
    in_words: Option<Box<str>>,
    /// It carries another protocol.
    tunnel: Option<Open>,
    /// It is a call of gRPC, which is refused in terms of gRPC.
    grpc: bool,
}

impl Trail {
    pub(super) fn begin(connection: &Rc<Connection>, method: &[u8], target: Target) -> Self {
        connection.requests.set(connection.requests.get() + 1);
        let begun = connection.worker.clock.now();
        Self {
            now_ns: begun.monotonic_ns,
            begun,
            id: connection.worker.next_id(),
            method: SmallVec::from_slice(method),
            target,
            authority: None,
            told: None,
            snapshot_version: 0,
            subject: None,
            asked: None,
            login: None,
            bearing: None,
            carrying: None,
            session_told: None,
            proved_ns: None,
            forgets_cookies: false,
            retry_after_s: None,
            reader: None,
            decision: Decision::Refuse,
            policies: None,
            policy_ns: None,
            sent_ns: None,
            upstream_ns: None,
            backend: None,
            stage: Stage::Begun,
            ticket: None,
            waits: true,
            received: Rc::default(),
            forwarding: false,
            bytes: 0,
            ended: false,
            admitted: None,
            charged: 0,
            end: None,
            in_words: None,
            tunnel: None,
            grpc: false,
            connection: Rc::clone(connection),
        }
    }

    pub(super) fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    pub(super) fn id_header(&self) -> HeaderValue {
        self.id.clone()
    }

    /// When it began.
    pub(super) fn begun(&self) -> &Reading {
        &self.begun
    }

    fn clock(&self) -> &KernelClock {
        &self.connection.worker.clock
    }

    pub(super) fn patients(&self) -> &dyn policy::judge::Patients {
        match &self.asked {
            Some(asked) => &asked.patients,
            None => &(),
        }
    }

    pub(super) fn judged_by(&mut self, snapshot: &Snapshot) {
        self.snapshot_version = snapshot.version;
    }

    pub(super) fn addressed_to(&mut self, authority: &HeaderValue) {
        self.authority = Some(authority.clone());
    }

    /// A listed proxy says whose it is, or nothing.
    pub(super) fn told(&mut self, told: Option<Told>) {
        self.told = told;
    }

    /// Where it comes from: the connection's other end, or by the word of a listed proxy.
    pub(super) fn source(&self) -> IpAddr {
        self.told.as_ref().map_or(self.connection.source(), |told| told.client).ip()
    }

    /// The same for backends that are told whose connection a request came over.
    pub(super) fn client(&self) -> Client {
        let client = self.connection.client();
        self.told.as_ref().map_or(client, |told| Client { source: told.client, ..client })
    }

    /// `Forwarded` for backends where a listed proxy asked for somebody; none where the connection's will do.
    ///
    /// # Errors
    /// [`Refusal::InternalError`] if it cannot be written.
    pub(super) fn forwarded(&self, authority: &HeaderValue) -> Option<Result<HeaderValue, Refusal>> {
        let told = self.told.as_ref()?;
        let ours = self.connection.forwarded(authority).ok_or(Refusal::InternalError);
        let behind = |ours| headers::forwarded_behind(told.client.ip(), told.is_tls, told.host.as_deref(), &ours);
        Some(ours.and_then(|ours| behind(ours).ok_or(Refusal::InternalError)))
    }

    pub(super) fn asks(&mut self, mut asked: Asked) {
        if let Some(bodies) = &mut asked.bodies {
            bodies.recall(&self.connection.worker, &asked.service, self.now_ns);
        }
        self.asked = Some(asked);
    }

    /// Its query may hold a password: records have the path alone.
    pub(super) fn hides_query(&mut self) {
        if let Target::Origin(target) = &self.target
            && target.query().is_some()
        {
            self.target = Target::Raw(Bytes::copy_from_slice(target.path().as_bytes()));
        }
    }

    /// Whether the gateway itself waits for the request's body.
    pub(super) fn awaits_body(&mut self, awaits: bool) {
        self.forwarding = awaits;
        self.received.awaited.set(awaits);
    }

    /// The request goes to a backend: its body is read as it passes.
    pub(super) fn reads_request(&mut self, request: &http::Request<RequestBody>) -> Option<Rc<dyn Tap>> {
        self.asked.as_mut()?.bodies.as_mut()?.of_request(request)
    }

    /// The backend's answer goes to the client: its body is read as it passes, or now where it is here.
    pub(super) fn reads_answer(&mut self, response: &Response<UpstreamBody>) {
        let Some(asked) = &mut self.asked else { return };
        if let Some(bodies) = &mut asked.bodies {
            bodies.of_answer(response);
            bodies.learn(&self.connection.worker, &asked.service, self.now_ns);
        }
    }

    /// The judge was asked from one moment to another, monotonic nanoseconds, and said yes.
    pub(super) fn permitted(&mut self, policies: &Arc<[PolicyName]>, from_ns: u64, until_ns: u64) {
        self.decision = Decision::Permit;
        self.judged(policies, from_ns, until_ns);
        self.sent_ns = Some(until_ns);
    }

    /// The same, and said no.
    pub(super) fn denied(&mut self, policies: &Arc<[PolicyName]>, from_ns: u64, until_ns: u64) {
        self.decision = Decision::Deny;
        self.judged(policies, from_ns, until_ns);
    }

    fn judged(&mut self, policies: &Arc<[PolicyName]>, from_ns: u64, until_ns: u64) {
        self.policies = Some(Arc::clone(policies));
        self.policy_ns = Some(until_ns.saturating_sub(from_ns));
        self.now_ns = until_ns;
    }

    /// The backend has answered, or will not. Says how long that took, in nanoseconds.
    pub(super) fn sent_to(&mut self, backend: Option<Arc<str>>) -> u64 {
        self.forwarding = false;
        self.backend = backend;
        self.now_ns = self.clock().monotonic_ns();
        let took = self.now_ns.saturating_sub(self.sent_ns.unwrap_or(self.now_ns));
        self.upstream_ns = Some(took);
        took
    }

    /// Makes the intent durable: before this returns, the backend has not seen a byte.
    ///
    /// # Errors
    /// [`Refusal::AuditUnavailable`] or [`Refusal::AuditBusy`]; then nothing may be forwarded.
    pub(super) async fn intends(&mut self) -> Result<(), Refusal> {
        self.write_exchange(None, None)?;
        self.stage = Stage::Intended;
        self.durable().await?;
        self.sent_ns = Some(self.now_ns);
        Ok(())
    }

    /// Makes the backend's answer durable: before this returns, the client has not seen a byte of it.
    ///
    /// # Errors
    /// [`Refusal::AuditUnavailable`] or [`Refusal::AuditBusy`]; then the answer must not be given.
    pub(super) async fn answered(&mut self, status: StatusCode) -> Result<(), Refusal> {
        self.write_answer(status.as_u16(), None)?;
        self.durable().await?;
        self.count(status, None);
        Ok(())
    }

    /// Records a refusal and answers with it. Where even that cannot be recorded, the answer says so instead: the
    /// client learns nothing about its request that the log does not hold.
    pub(super) async fn refuse(mut self, refusal: Refusal) -> Response<ResponseBody> {
        let was_permitted = self.decision == Decision::Permit || self.stage != Stage::Begun;
        if !was_permitted && !self.connection.may_record(self.record_bytes()) {
            return self.limit();
        }
        if self.decision == Decision::Permit && self.stage == Stage::Begun {
            self.decision = Decision::Refuse;
        }
        let recorded = match self.stage {
            Stage::Begun | Stage::Intended => match self.write_answer(status_of(refusal).as_u16(), Some(refusal)) {
                Ok(()) => self.durable().await.map(|()| refusal),
                Err(unrecorded) => Err(unrecorded),
            },
            // The answer's record could not be made durable: the refusal is about the log itself.
            Stage::Answered | Stage::Over => Err(refusal),
        };
        self.stage = Stage::Over;
        let refusal = recorded.unwrap_or_else(|unrecorded| unrecorded);
        self.count(status_of(refusal), Some(refusal));
        self.answer(refusal)
    }

    /// Answers with a page of the gateway's own, once its record is durable.
    pub(super) async fn page(mut self, page: Own) -> Response<ResponseBody> {
        let Own { response, reason } = page;
        if reason.is_some() && !self.connection.may_record(self.record_bytes()) {
            return self.limit();
        }
        self.decision = match (reason, self.decision) {
            (None, _) => Decision::Permit,
            (Some(_), Decision::Deny) => Decision::Deny,
            (Some(_), Decision::Permit | Decision::Refuse) => Decision::Refuse,
        };
        let recorded = match self.write_answer(response.status().as_u16(), reason) {
            Ok(()) => self.durable().await,
            Err(unrecorded) => Err(unrecorded),
        };
        self.stage = Stage::Over;
        if let Err(unrecorded) = recorded {
            self.count(status_of(unrecorded), Some(unrecorded));
            return self.answer(unrecorded);
        }
        self.count(response.status(), reason);
        let mut response = if self.method[..] == *b"HEAD" { without_content(response) } else { response };
        response.headers_mut().insert(X_REQUEST_ID, self.id_header());
        if self.forgets_cookies {
            forget(response.headers_mut());
        }
        response.map(ResponseBody::own)
    }

    /// Answers that the peer is over its bounds. That is counted, and told as a summary.
    pub(super) fn limit(mut self) -> Response<ResponseBody> {
        self.connection.limited();
        self.decision = Decision::Refuse;
        self.stage = Stage::Over;
        self.count(status_of(Refusal::RateLimited), Some(Refusal::RateLimited));
        self.answer(Refusal::RateLimited)
    }

    /// What the record of a refusal is reckoned at; not less than it takes.
    fn record_bytes(&self) -> u64 {
        let patients = self.asked.iter().flat_map(|asked| &asked.patients.ids).map(|patient| patient.value.as_bytes());
        let authority = self.authority.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
        let own = self.subject.as_deref().and_then(Subject::patient).map(|patient| patient.id().as_bytes());
        let login = self.login.as_ref().map(|login| login.account.as_str().as_bytes());
        // An attempt to log in has a record of its own beside the request's.
        let records = 1 + u64::from(login.is_some());
        let strings =
            [self.target.as_bytes(), &self.method, authority].into_iter().chain(patients).chain(own).chain(login);
        let fields = self.connection.fields.as_bytes().len() as u64;
        records * (RECORD_BYTES + fields) + strings.map(written_bytes).sum::<u64>()
    }

    /// The request goes to a backend. Returns where the bytes of its body are counted.
    pub(super) fn forwards(&mut self) -> Rc<Received> {
        self.forwarding = true;
        Rc::clone(&self.received)
    }

    /// Takes its place within the quotas of its device and site.
    ///
    /// # Errors
    /// As [`Metered::enter`](crate::quota::Metered::enter).
    pub(super) fn counts_for_quotas(&mut self, snapshot: &Snapshot) -> Result<(), Refusal> {
        let quotas = &snapshot.config.quota;
        let now_ns = self.begun.monotonic_ns;
        let Some(metered) = self.connection.metered(quotas, now_ns) else { return Ok(()) };
        match metered.enter(quotas, now_ns) {
            Ok(admitted) => {
                self.admitted = Some(admitted);
                Ok(())
            }
            Err((refusal, wait_ns)) => {
                if let Some(wait_ns) = wait_ns {
                    self.retry_after(wait_ns);
                }
                Err(refusal)
            }
        }
    }

    /// Tells quotas of the bytes that have passed since they were told last.
    fn charge(&mut self) {
        let total = self.bytes + self.received.bytes.get();
        if let Some(admitted) = &self.admitted {
            admitted.passes(self.clock().monotonic_ns(), total - self.charged);
            self.charged = total;
        }
    }

    /// Whose fault it is that the time is up before there is an answer.
    pub(super) fn overdue(&self) -> Refusal {
        match (self.forwarding, self.received.awaited.get()) {
            (true, true) => Refusal::RequestTimeout,
            (true, false) => Refusal::BackendTimeout,
            // Whatever else a request waits for is a record.
            (false, _) => Refusal::AuditUnavailable,
        }
    }

    /// The time for the whole exchange, or for a silence of a tunnel, is up.
    fn is_overdue(&self) -> bool {
        if let Some(tunnel) = &self.tunnel {
            return tunnel.is_silent();
        }
        self.connection
            .listener
            .limits
            .request_timeout
            .is_some_and(|limit| u128::from(self.since_begun_ns()) >= limit.as_nanos())
    }

    /// Counts and reads bytes of the answer's body.
    pub(super) fn sends(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if self.admitted.is_some() && self.bytes + self.received.bytes.get() >= self.charged + CHARGED_AT_ONCE {
            self.charge();
        }
        if let Some(bodies) = self.bodies() {
            bodies.answer_passes(bytes);
        }
    }

    /// The answer's last byte was handed over.
    pub(super) fn reached_end(&mut self) {
        self.ended = true;
        let Some(asked) = &mut self.asked else { return };
        if let Some(bodies) = &mut asked.bodies {
            bodies.answer_ends(true);
            bodies.learn(&self.connection.worker, &asked.service, self.now_ns);
        }
    }

    /// What carried no HTTP is over: how, and after how many bytes from the client and to it.
    pub(super) fn over(&mut self, end: End, received: u64, sent: u64) {
        self.end = Some(end);
        self.received.bytes.set(received);
        self.bytes = sent;
    }

    fn bodies(&mut self) -> Option<&mut Bodies> {
        self.asked.as_mut()?.bodies.as_deref_mut()
    }

    /// Records the patients that bodies named after the record of the exchange was written. Nobody waits for it.
    fn add_patients(&mut self) {
        let Some(mut asked) = self.asked.take() else { return };
        if let Some(bodies) = &mut asked.bodies {
            bodies.end();
            bodies.learn(&self.connection.worker, &asked.service, self.now_ns);
            for (from, scanned) in bodies.untold() {
                let patients = bodies.new_in(scanned, &asked.patients);
                let reason = scanned.unread.map(Unread::label);
                if !patients.is_empty() || reason.is_some() {
                    let scope = Scope { site: self.connection.fields.site(), class: Some(asked.class.as_str()) };
                    let patients_unknown = reason;
                    let addendum = Addendum { request: self.id(), scope, from, patients: &patients, patients_unknown };
                    self.connection.worker.append_unwaited(&addendum);
                }
            }
        }
        self.asked = Some(asked);
    }

    fn since_begun_ns(&self) -> u64 {
        self.now_ns.saturating_sub(self.begun.monotonic_ns)
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        self.charge();
        let is_over = self.stage == Stage::Over;
        if matches!(self.stage, Stage::Begun | Stage::Intended) {
            // Dropped before there was an answer, and nobody waits for the record of that any more.
            self.waits = false;
            let reason = self.cut_reason();
            let _ = self.write_answer(CLIENT_CLOSED_REQUEST, reason);
        }
        self.add_patients();
        if is_over {
            return;
        }
        let reading = self.read_clock();
        let end = match (self.ended, self.cut_reason(), self.end) {
            (true, ..) => End::Complete,
            (false, Some(Refusal::Draining), _) => End::Drained,
            (false, Some(_), _) => End::Revoked,
            (false, None, Some(end)) => end,
            (false, None, None) if self.is_overdue() => End::Timeout,
            (false, None, None) => End::Aborted,
        };
        let completion = Completion {
            request: self.id(),
            scope: self.scope(),
            received: self.received.bytes.get(),
            sent: self.bytes,
            end,
            duration_us: self.since_begun_ns() / 1_000,
        };
        let worker = &self.connection.worker;
        match self.tunnel {
            Some(_) => {
                let closed = Stream { event: StreamEvent::Closed, so_far: completion };
                worker.append_unwaited_at(&closed, &reading);
            }
            None => worker.append_unwaited_at(&completion, &reading),
        }
    }
}

/// Nanoseconds as histograms take them.
pub(super) fn seconds(ns: u64) -> f64 {
    std::time::Duration::from_nanos(ns).as_secs_f64()
}

/// Bytes of a string in a record, at most: what JSON escapes takes two, a control character six.
fn written_bytes(bytes: &[u8]) -> u64 {
    let written = |byte: &u8| match byte {
        b'"' | b'\\' => 2,
        0x20..=0x7e => 1,
        _ => 6,
    };
    bytes.iter().map(written).sum::<u64>() + 8
}
