//! Requests: what was asked, by whom, what was decided and what came of it.

use sha2::{Digest, Sha256};

use super::{Connection, Header, Record, Reference, Scope, Splice, VERSION, write_clock, write_sequence, write_time};
use crate::header::Kind;
use crate::json::{self, Object, key};

/// Targets up to this many bytes are recorded whole, longer ones by this prefix, their length and their SHA-256.
pub const MAX_TARGET: usize = 16 * 1024;

/// The verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The judge permitted the request.
    Permit,
    /// The judge denied it.
    Deny,
    /// It was refused before or after judgement, for the reason given.
    Refuse,
}

impl Decision {
    const fn label(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Deny => "deny",
            Self::Refuse => "refuse",
        }
    }
}

/// Who asks for what, and the decision: the common part of [`Request`] and [`Intent`].
///
/// Keys: `acting_for`, `action`, `authentication`, `authority`, `backend`, `class`, `client`, `connection`, `decision`, `method`,
/// `patient`, `patients`, `patients_unknown`, `policies`, `reason`, `request`, `roles`, `route`, `service`,
/// `session`, `snapshot`, `target`, `user`.
#[derive(Debug)]
pub struct Exchange<'a, R, Q, P> {
    /// The request's id.
    pub request: &'a str,
    /// The connection it came over.
    pub connection: &'a Connection,
    /// The address of whom a listed proxy asked for, where one did.
    pub client: Option<&'a str>,
    /// The method's bytes.
    pub method: &'a [u8],
    /// The authority's bytes (Host or `:authority`).
    pub authority: Option<&'a [u8]>,
    /// The target's bytes as they came in, of any length; of a login route the path alone.
    pub target: &'a [u8],
    /// The route that took the request.
    pub route: Option<&'a str>,
    /// The service behind the route.
    pub service: Option<&'a str>,
    /// The class of information (R4).
    pub class: Option<&'a str>,
    /// The action's label (R2).
    pub action: Option<&'static str>,
    /// Identifiers of the patients that are known to be touched (R5): named by path and query, of the study that is asked
    /// for, and of bodies as far as they were read by then. The rest follows as [`Addendum`](super::Addendum).
    pub patients: &'a [P],
    /// Why they may not be all: `content-type`, `content-encoding`, `too-long`, `malformed` or `cut` of a body,
    /// `too-many`, or `study` where the study that is asked for is not known to be anybody's.
    pub patients_unknown: Option<&'static str>,
    /// The user.
    pub user: Option<&'a str>,
    /// The session that says so, by the name that records of kind `session` have for it: they tell when its user logged in (R5).
    pub session: Option<&'a str>,
    /// Whom the user acts for (R23).
    pub acting_for: Option<&'a str>,
    /// The patient who asks, where it is one: who vouches, `/` and what they call the patient.
    pub patient: Option<&'a str>,
    /// The roles the decision was made with.
    pub roles: &'a [R],
    /// How strongly the user is known (R9).
    pub authentication: Option<&'static str>,
    /// The verdict.
    pub decision: Decision,
    /// The refusal's label, where it is not a permit.
    pub reason: Option<&'static str>,
    /// Ids of the policies that decided.
    pub policies: &'a [Q],
    /// Version of the snapshot (configuration, policies, registry) that was used.
    pub snapshot: u64,
    /// The backend's authority, once one is chosen.
    pub backend: Option<&'a str>,
}

impl<R, Q, P> Exchange<'_, R, Q, P> {
    /// Whose exchange it is.
    #[must_use]
    pub fn scope(&self) -> Scope<'_> {
        Scope { site: self.connection.site(), class: self.class }
    }
}

/// Where the time went, microseconds. Absent: that step did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Durations {
    /// From the head's last byte until this record.
    pub total_us: u64,
    /// Normalising and judging.
    pub policy_us: Option<u64>,
    /// From the first byte sent to the backend until its answer's head.
    pub upstream_us: Option<u64>,
}

impl Durations {
    fn write(self, object: &mut Object<'_>) {
        let mut inner = Object::new(object.key(key!("durations")));
        inner.optional_number(key!("policy_us"), self.policy_us);
        inner.number(key!("total_us"), self.total_us);
        inner.optional_number(key!("upstream_us"), self.upstream_us);
        inner.end();
    }
}

/// Kind `request`: one that only reads, or that was refused; durable before its answer's first byte (A1).
/// Adds to [`Exchange`]: `durations`, `status`.
#[derive(Debug)]
pub struct Request<'a, R, Q, P> {
    /// Who, what, decision.
    pub exchange: &'a Exchange<'a, R, Q, P>,
    /// The answer's status.
    pub status: u16,
    /// Times so far.
    pub durations: Durations,
}

impl<R: AsRef<str>, Q: AsRef<str>, P: AsRef<[u8]>> Record for Request<'_, R, Q, P> {
    const FOLLOWS: bool = false;

    fn kind(&self) -> Kind {
        Kind::Request
    }

    fn scope(&self) -> Scope<'_> {
        self.exchange.scope()
    }

    fn reference(&self) -> Reference<'_> {
        Reference::Request(self.exchange.request)
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        write_exchange(self.exchange, Kind::Request, Some((self.status, self.durations)), header, out)
    }
}

/// Kind `intent`: one that may change something; durable before the backend sees a byte of it (A1).
#[derive(Debug)]
pub struct Intent<'a, R, Q, P> {
    /// Who, what, decision.
    pub exchange: &'a Exchange<'a, R, Q, P>,
}

impl<R: AsRef<str>, Q: AsRef<str>, P: AsRef<[u8]>> Record for Intent<'_, R, Q, P> {
    const FOLLOWS: bool = false;

    fn kind(&self) -> Kind {
        Kind::Intent
    }

    fn scope(&self) -> Scope<'_> {
        self.exchange.scope()
    }

    fn reference(&self) -> Reference<'_> {
        Reference::Request(self.exchange.request)
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        write_exchange(self.exchange, Kind::Intent, None, header, out)
    }
}

fn write_exchange<R: AsRef<str>, Q: AsRef<str>, P: AsRef<[u8]>>(
    exchange: &Exchange<'_, R, Q, P>,
    kind: Kind,
    result: Option<(u16, Durations)>,
    header: &Header<'_>,
    out: &mut Vec<u8>,
) -> Splice {
    let start = out.len();
    out.reserve(1_024);
    let mut object = Object::new(out);
    object.optional_text(key!("acting_for"), exchange.acting_for);
    if let Some(action) = exchange.action {
        object.label(key!("action"), action);
    }
    if let Some(level) = exchange.authentication {
        object.label(key!("authentication"), level);
    }
    object.optional_bytes(key!("authority"), exchange.authority);
    object.optional_text(key!("backend"), exchange.backend);
    object.optional_text(key!("class"), exchange.class);
    object.optional_text(key!("client"), exchange.client);
    write_clock(&mut object, header);
    object.key(key!("connection")).extend_from_slice(exchange.connection.as_bytes());
    object.label(key!("decision"), exchange.decision.label());
    if let Some((_, durations)) = result {
        durations.write(&mut object);
    }
    object.label(key!("kind"), kind.label());
    object.bytes(key!("method"), exchange.method);
    object.text(key!("node"), header.node);
    object.optional_text(key!("patient"), exchange.patient);
    if !exchange.patients.is_empty() {
        object.array(key!("patients"), exchange.patients, |out, patient| json::bytes(out, patient.as_ref()));
    }
    if let Some(reason) = exchange.patients_unknown {
        object.label(key!("patients_unknown"), reason);
    }
    if !exchange.policies.is_empty() {
        object.array(key!("policies"), exchange.policies, |out, policy| json::string(out, policy.as_ref()));
    }
    if let Some(reason) = exchange.reason {
        object.label(key!("reason"), reason);
    }
    object.text(key!("request"), exchange.request);
    if !exchange.roles.is_empty() {
        object.array(key!("roles"), exchange.roles, |out, role| json::string(out, role.as_ref()));
    }
    object.optional_text(key!("route"), exchange.route);
    let splice = write_sequence(&mut object, start);
    object.optional_text(key!("service"), exchange.service);
    object.optional_text(key!("session"), exchange.session);
    object.number(key!("snapshot"), exchange.snapshot);
    object.optional_number(key!("status"), result.map(|(status, _)| u64::from(status)));
    write_target(&mut object, exchange.target);
    write_time(&mut object, header);
    object.optional_text(key!("user"), exchange.user);
    object.number(key!("version"), VERSION);
    object.end();
    splice
}

/// Writes `target`: the bytes, or `{"length","prefix","sha256"}` where there are too many of them.
fn write_target(object: &mut Object<'_>, target: &[u8]) {
    match target.get(..MAX_TARGET) {
        Some(prefix) if target.len() > MAX_TARGET => {
            let mut inner = Object::new(object.key(key!("target")));
            inner.number(key!("length"), u64::try_from(target.len()).unwrap_or(u64::MAX));
            inner.bytes(key!("prefix"), prefix);
            inner.hex(key!("sha256"), &Sha256::digest(target));
            inner.end();
        }
        _ => object.bytes(key!("target"), target),
    }
}

/// Kind `outcome`: what came of an intent; durable before its answer's last byte (A1). Keys: `backend`,
/// `durations`, `reason`, `request`, `status`.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// The intent's request id.
    pub request: &'a str,
    /// That of the intent.
    pub scope: Scope<'a>,
    /// The status the client gets.
    pub status: u16,
    /// The refusal's label, where the backend gave no usable answer.
    pub reason: Option<&'static str>,
    /// The backend that had the request, where it was sent.
    pub backend: Option<&'a str>,
    /// Times so far.
    pub durations: Durations,
}

impl Record for Outcome<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::Outcome
    }

    fn scope(&self) -> Scope<'_> {
        self.scope
    }

    fn reference(&self) -> Reference<'_> {
        Reference::Request(self.request)
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        object.optional_text(key!("backend"), self.backend);
        write_clock(&mut object, header);
        self.durations.write(&mut object);
        object.label(key!("kind"), "outcome");
        object.text(key!("node"), header.node);
        if let Some(reason) = self.reason {
            object.label(key!("reason"), reason);
        }
        object.text(key!("request"), self.request);
        let splice = write_sequence(&mut object, start);
        object.number(key!("status"), u64::from(self.status));
        write_time(&mut object, header);
        object.number(key!("version"), VERSION);
        object.end();
        splice
    }
}

/// How an exchange or a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The answer's last byte was handed to the transport.
    Complete,
    /// Dropped unfinished: the client went away, or the code that served it ended early.
    Aborted,
    /// The backend's answer broke off.
    BackendFailed,
    /// A deadline passed.
    Timeout,
    /// The device, site or user was revoked or suspended meanwhile.
    Revoked,
    /// The gateway shut down.
    Drained,
    /// The answer was withheld, since its record could not be made durable.
    Withheld,
}

impl End {
    /// The name in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Aborted => "aborted",
            Self::BackendFailed => "backend-failed",
            Self::Timeout => "timeout",
            Self::Revoked => "revoked",
            Self::Drained => "drained",
            Self::Withheld => "withheld",
        }
    }
}

/// Kind `completion`: bytes and end of an exchange, tied to it by the request id. Nobody waits for it (A1). Keys:
/// `bytes` {`received`, `sent`}, `end`, `duration_us`, `request`.
#[derive(Debug, Clone, Copy)]
pub struct Completion<'a> {
    /// The request id.
    pub request: &'a str,
    /// That of the exchange.
    pub scope: Scope<'a>,
    /// Body bytes that came from the client.
    pub received: u64,
    /// Body bytes that went to the client.
    pub sent: u64,
    /// How it ended.
    pub end: End,
    /// From the head's last byte to the end, microseconds.
    pub duration_us: u64,
}

impl Record for Completion<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::Completion
    }

    fn scope(&self) -> Scope<'_> {
        self.scope
    }

    fn reference(&self) -> Reference<'_> {
        Reference::Request(self.request)
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        write_traffic(Kind::Completion, self, header, out)
    }
}

/// A moment in a stream's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEvent {
    /// The stream is about to open.
    Opened,
    /// It goes on.
    Periodic,
    /// It is over; the end says how.
    Closed,
}

/// Kind `stream-opened`, `stream-periodic` or `stream-closed`: WebSocket and the like, under the request id that
/// opened them. Keys as [`Completion`]'s; `end` only at the close.
#[derive(Debug, Clone, Copy)]
pub struct Stream<'a> {
    /// Which moment.
    pub event: StreamEvent,
    /// Counts so far; its `end` is written only for [`StreamEvent::Closed`].
    pub so_far: Completion<'a>,
}

impl Record for Stream<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        match self.event {
            StreamEvent::Opened => Kind::StreamOpened,
            StreamEvent::Periodic => Kind::StreamPeriodic,
            StreamEvent::Closed => Kind::StreamClosed,
        }
    }

    fn scope(&self) -> Scope<'_> {
        self.so_far.scope
    }

    fn reference(&self) -> Reference<'_> {
        Reference::Request(self.so_far.request)
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        write_traffic(self.kind(), &self.so_far, header, out)
    }
}

fn write_traffic(kind: Kind, traffic: &Completion<'_>, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
    let start = out.len();
    let mut object = Object::new(out);
    let mut bytes = Object::new(object.key(key!("bytes")));
    bytes.number(key!("received"), traffic.received);
    bytes.number(key!("sent"), traffic.sent);
    bytes.end();
    write_clock(&mut object, header);
    object.number(key!("duration_us"), traffic.duration_us);
    if matches!(kind, Kind::Completion | Kind::StreamClosed) {
        object.label(key!("end"), traffic.end.label());
    }
    object.label(key!("kind"), kind.label());
    object.text(key!("node"), header.node);
    object.text(key!("request"), traffic.request);
    let splice = write_sequence(&mut object, start);
    write_time(&mut object, header);
    object.number(key!("version"), VERSION);
    object.end();
    splice
}
