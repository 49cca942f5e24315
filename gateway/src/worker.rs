//! A worker: one thread, one core, and everything a request needs without asking another.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use certs::PeerRefused;
use gateway_audit::record::{Record, Refused, Stage};
use http::HeaderValue;
use policy::judge::DecisionCache;
use policy::patients::{PatientId, Studies, StudyPatient, StudySource};
use policy::{Refusal, ServiceName, Subject};
use slab::Slab;
use tokio::sync::watch;

use crate::accounts::Accounts;
use crate::audit::{Lane, Ticket};
use crate::clock::{self, Clock as _, KernelClock, Reading};
use crate::config::OnClockAlarm;
use crate::listen::{Allowances, Arrival, Connection, Control, Strangers};
use crate::login::Logins;
use crate::metrics::Metrics;
use crate::oidc::Logins as OidcLogins;
use crate::registry::Live;
use crate::session::{Acting, Session, Sessions};
use crate::snapshot::{Loaded, Snapshot, Snapshots};
use crate::token::Tokens;
use crate::upstream::headers::Ours;
use crate::upstream::identity::{Identities, SigningKey, Statement};
use crate::upstream::{BackendCounters, Upstreams};

/// Decisions remembered per worker.
const DECISIONS: usize = 16 * 1024;

/// Identity tokens remembered per worker.
const TOKENS: usize = 8 * 1024;

/// What all workers share, made once at start.
#[derive(Clone)]
pub struct Shared {
    /// The snapshot in force.
    pub snapshots: Arc<Snapshots>,
    /// The clock.
    pub clock: Arc<KernelClock>,
    /// Metrics.
    pub metrics: Metrics,
    /// Signs identities for backends.
    pub signing_key: Arc<SigningKey>,
    /// Bounds what strangers can write into the log.
    pub strangers: Arc<Strangers>,
    /// Set once the gateway stops taking connections.
    pub draining: watch::Receiver<bool>,
    /// The login guard.
    pub logins: Arc<Logins>,
    /// The gateway's own accounts; none where no listener has a login page.
    pub accounts: Option<Arc<Accounts>>,
    /// Logins at OpenID providers that are under way.
    pub oidc: Arc<OidcLogins>,
    /// Sessions.
    pub sessions: Arc<Sessions>,
    /// Whose the studies are that passed. Asked for DICOMweb alone, and for a moment only.
    pub studies: Arc<std::sync::Mutex<Studies<RandomState>>>,
    /// How many workers there are.
    pub workers: usize,
    /// Counters of the backends, by worker, for the metrics.
    pub backend_counters: Arc<std::sync::Mutex<Vec<Vec<Arc<BackendCounters>>>>>,
}

/// One worker's own things. Nothing here is locked, nothing is shared with another thread.
pub struct Worker {
    shared: Shared,
    /// The clock.
    pub clock: Arc<KernelClock>,
    /// Metrics.
    pub metrics: Metrics,
    /// Live connections.
    pub live: Live,
    /// What devices may have.
    pub allowances: Allowances,
    /// What tokens said.
    pub tokens: Tokens,
    /// The judge's memory.
    pub decisions: RefCell<DecisionCache>,
    index: usize,
    cell: Arc<ArcSwap<Snapshot>>,
    lane: Lane,
    upstreams: Upstreams,
    upstreams_of: RefCell<Arc<Loaded>>,
    identities: Identities,
    opening: Cell<usize>,
    /// Exchanges that are part of a session.
    carried: RefCell<Slab<Rc<Carried>>>,
    ids: Ids,
}

/// An exchange that is part of a session.
pub struct Carried {
    /// The session.
    pub session: Arc<Session>,
    /// Whom it acts for.
    acting: Option<Arc<Acting>>,
    /// Ends the exchange.
    pub control: Control,
}

impl Carried {
    /// Why it is cut, if it is.
    fn is_cut(&self, now: &Reading) -> Option<Refusal> {
        let unix_s = now.unix_ns / 1_000_000_000;
        let is_revoked = self.acting.as_ref().is_some_and(|acting| {
            acting.until_s.is_some_and(|until_s| unix_s >= until_s) || !self.session.acts_for(Some(&acting.user))
        });
        let of_session = self.session.is_cut(now.monotonic_ns).map(|_| Refusal::SessionEnded);
        of_session.or(is_revoked.then_some(Refusal::ActingNotGranted))
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
        // Whoever is in the middle of something is not idle.
        self.carried.session.touch(self.worker.clock.monotonic_ns());
        self.worker.carried.borrow_mut().try_remove(self.key);
    }
}

/// A request that goes to a backend.
pub struct Sending<'a> {
    /// The service behind its route.
    pub service: &'a ServiceName,
    /// The authority that it names.
    pub authority: &'a HeaderValue,
    /// Its id.
    pub request_id: HeaderValue,
    /// When it began.
    pub reading: &'a Reading,
}

/// A connection that is being opened.
pub struct Opening(Rc<Worker>);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.opening.set(self.0.opening.get() - 1);
    }
}

/// Ends the accept loops.
pub struct DrainSignal(watch::Receiver<bool>);

impl DrainSignal {
    /// Returns once the gateway stops taking connections.
    pub async fn wait(&mut self) {
        // The sender lives as long as the gateway; without it there is nothing left to serve for.
        let _ = self.0.wait_for(|draining| *draining).await;
    }
}

impl Worker {
    /// Makes the worker's things. Call it on the worker's own thread.
    ///
    /// # Errors
    /// If a service's backends cannot be reached as configured.
    pub fn new(shared: Shared, index: usize, lane: Lane) -> Result<Rc<Self>, crate::upstream::InvalidService> {
        let snapshot = shared.snapshots.load();
        let upstreams = Upstreams::new(services(&snapshot.loaded))?;
        let worker = Rc::new(Self {
            clock: Arc::clone(&shared.clock),
            metrics: shared.metrics.clone(),
            live: Live::default(),
            allowances: Allowances::default(),
            tokens: Tokens::default(),
            decisions: RefCell::new(DecisionCache::new(DECISIONS, RandomState::new())),
            index,
            cell: shared.snapshots.cell(),
            lane,
            upstreams,
            upstreams_of: RefCell::new(Arc::clone(&snapshot.loaded)),
            identities: Identities::new(Arc::clone(&shared.signing_key), &snapshot.config.trust_domain, TOKENS),
            opening: Cell::new(0),
            carried: RefCell::default(),
            ids: Ids::new(index),
            shared,
        });
        worker.tell_counters();
        Ok(worker)
    }

    /// The snapshot in force: one reading per request.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.cell.load_full()
    }

    /// Whether the gateway is about to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.shared.draining.borrow()
    }

    /// Ends the accept loops.
    #[must_use]
    pub fn drain_signal(&self) -> DrainSignal {
        DrainSignal(self.shared.draining.clone())
    }

    /// A name for a connection or a request that no other has: 32 hexadecimal digits.
    #[must_use]
    pub fn next_id(&self) -> HeaderValue {
        self.ids.next()
    }

    /// Puts a record of an event at a moment that was read already into the log's queue.
    ///
    /// # Errors
    /// [`Refusal::AuditBusy`] or [`Refusal::AuditUnavailable`]; nothing was queued then.
    pub fn append<R: Record>(&self, record: &R, reading: &Reading) -> Result<Ticket, Refusal> {
        self.lane.append_at(record, reading)
    }

    /// Puts a record into the queue that nobody waits for.
    pub fn append_unwaited<R: Record>(&self, record: &R) {
        self.lane.append_unwaited(record);
    }

    /// As [`append_unwaited`](Self::append_unwaited), of an event at a moment that was read already.
    pub fn append_unwaited_at<R: Record>(&self, record: &R, reading: &Reading) {
        self.lane.append_unwaited_at(record, reading);
    }

    /// The login guard.
    #[must_use]
    pub const fn logins(&self) -> &Arc<Logins> {
        &self.shared.logins
    }

    /// The gateway's own accounts.
    ///
    /// # Errors
    /// [`Refusal::RouteUnknown`] where nobody can log in to it.
    pub fn accounts(&self) -> Result<&Arc<Accounts>, Refusal> {
        self.shared.accounts.as_ref().ok_or(Refusal::RouteUnknown)
    }

    /// Logins at OpenID providers that are under way.
    #[must_use]
    pub fn oidc(&self) -> &OidcLogins {
        &self.shared.oidc
    }

    /// Sessions.
    #[must_use]
    pub const fn sessions(&self) -> &Arc<Sessions> {
        &self.shared.sessions
    }

    /// Registers an exchange that is part of a session, so that it is cut when the session ends, or acts for that one no longer.
    #[must_use]
    pub fn carries(self: &Rc<Self>, session: &Arc<Session>, acting: Option<Arc<Acting>>) -> Carrying {
        let carried = Rc::new(Carried { session: Arc::clone(session), acting, control: Control::default() });
        let key = self.carried.borrow_mut().insert(Rc::clone(&carried));
        // It may have ended since it was found, and whoever ended it looked before it stood here.
        if let Some(why) = carried.is_cut(&self.clock.now()) {
            carried.control.cut(why);
        }
        Carrying { carried, worker: Rc::clone(self), key }
    }

    /// Cuts exchanges whose session is over.
    fn cut_sessions(&self) {
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

    /// Whose a study is, if that passed before.
    #[must_use]
    pub fn patient_of(&self, service: &ServiceName, study: &str, now_ns: u64) -> Option<PatientId> {
        let studies = self.shared.studies.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        studies.patient(service, study, now_ns)
    }

    /// Learns whose studies are.
    pub fn learn(&self, service: &ServiceName, learnt: &[StudyPatient], source: StudySource, now_ns: u64) {
        if learnt.is_empty() {
            return;
        }
        let mut studies = self.shared.studies.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        learnt.iter().for_each(|study| studies.learn(service, study, source, now_ns));
    }

    /// Waits until the record is on stable storage (A1).
    ///
    /// # Errors
    /// [`Refusal::AuditUnavailable`] if it could not be put there.
    pub async fn durable(&self, ticket: Ticket) -> Result<(), Refusal> {
        self.lane.durable(ticket).await
    }

    /// Refuses while the clock is bad, where the operator wants that (R7).
    ///
    /// # Errors
    /// [`Refusal::ClockUnsynchronised`].
    pub fn clock_allows(&self, snapshot: &Snapshot, reading: &Reading) -> Result<(), Refusal> {
        let settings = &snapshot.config.clock;
        let on_alarm = match settings.on_alarm {
            OnClockAlarm::Refuse => clock::OnAlarm::Refuse,
            OnClockAlarm::Mark => clock::OnAlarm::Mark,
        };
        match clock::refusal(reading, on_alarm, settings.max_error) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// Counts and records a peer that was refused before it could ask for anything. Strangers share a budget, so that
    /// they cannot fill the log.
    pub fn refuse_arrival(&self, arrival: &Arrival, refused: &PeerRefused, stage: Stage) {
        let PeerRefused { refusal, detail, device } = refused;
        let refusal = *refusal;
        self.metrics.handshake(&arrival.listener.name, refusal.label());
        let (summaries, admitted) = self.shared.strangers.take(&self.clock.now(), refusal, arrival.source.ip());
        for summary in summaries {
            self.metrics.refusal_summaries.inc();
            summary.with_record(|record| self.append_unwaited(record));
        }
        if admitted {
            self.append_unwaited(&Refused {
                listener: &arrival.listener.name,
                source: &arrival.source.to_string(),
                stage,
                reason: refusal.label(),
                detail: (!detail.is_empty()).then_some(detail.as_bytes()),
                sni: None,
                certificate: None,
                site: device.as_ref().map(|device| device.site.as_str()),
                device: device.as_ref().map(|device| device.device.as_str()),
                user: None,
                patient: None,
            });
        }
    }

    /// Records how many refusals of proved peers were counted, at the end of an interval or with the `last` call.
    pub fn tell_limited(&self, interval: Duration, last: bool) {
        for summary in self.allowances.due(&self.clock.now(), interval, last) {
            summary.with_record(|record| self.append_unwaited(record));
        }
    }

    /// What the gateway tells a backend about a request (R13).
    ///
    /// # Errors
    /// [`Refusal::InternalError`] if the identity cannot be signed.
    pub fn identify(
        &self,
        connection: &Connection,
        snapshot: &Snapshot,
        subject: &Arc<Subject>,
        sending: Sending<'_>,
    ) -> Result<Ours, Refusal> {
        let Sending { service, authority, request_id, reading } = sending;
        let configured = snapshot.config.services.iter().find(|known| known.name == *service);
        let audience = configured.map_or(service.as_str(), |service| service.identity_audience.as_str());
        let statement = Statement {
            subject,
            spiffe_id: connection.spiffe_id.as_deref(),
            certificate_sha256: connection.peer.fingerprint(),
            service,
            audience,
        };
        let now = u64::try_from(reading.unix_ns / 1_000_000_000).unwrap_or(0);
        let identity = self.identities.token(&statement, now);
        Ok(Ours {
            client_cert: connection.client_cert.clone(),
            request_id,
            forwarded: connection.forwarded(authority).ok_or(Refusal::InternalError)?,
            identity: identity.map_err(|_| Refusal::InternalError)?,
        })
    }

    /// The backends' pools, as the snapshot's configuration has them.
    ///
    /// # Errors
    /// [`Refusal::InternalError`] if the configuration in force cannot be used; a reload checks that before.
    pub fn upstreams(&self, snapshot: &Snapshot) -> Result<&Upstreams, Refusal> {
        if !Arc::ptr_eq(&self.upstreams_of.borrow(), &snapshot.loaded) {
            self.upstreams.replace(services(&snapshot.loaded)).map_err(|error| {
                tracing::error!(%error, "the services of the configuration in force cannot be used");
                Refusal::InternalError
            })?;
            self.upstreams_of.replace(Arc::clone(&snapshot.loaded));
            self.tell_counters();
        }
        Ok(&self.upstreams)
    }

    fn tell_counters(&self) {
        let mut all = self.shared.backend_counters.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if all.len() <= self.index {
            all.resize_with(self.index + 1, Vec::new);
        }
        if let Some(mine) = all.get_mut(self.index) {
            *mine = self.upstreams.counters();
        }
    }

    /// Counts a connection that is not yet known; uncounted when dropped.
    pub fn opens(self: &Rc<Self>) -> Opening {
        self.opening.set(self.opening.get() + 1);
        Opening(Rc::clone(self))
    }

    /// No connection lives, and none is being opened.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.live.is_empty() && self.opening.get() == 0
    }

    /// Drops idle backend connections that are too old, for as long as the worker runs.
    pub fn keep_pools(&self) -> impl Future<Output = ()> + 'static {
        self.upstreams.clone().maintain()
    }

    /// Judges the live connections again at every change of the snapshot, for as long as the worker runs.
    pub async fn keep_judging(self: Rc<Self>) {
        let mut changes = self.shared.snapshots.subscribe();
        let mut ended = self.shared.sessions.subscribe();
        let mut judged = self.snapshot();
        let mut every_second = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                changed = ended.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.cut_sessions();
                    continue;
                }
                // Certificates end without anything changing.
                _ = every_second.tick() => {}
            }
            self.cut_sessions();
            let snapshot = self.snapshot();
            self.tell_limited(snapshot.config.audit.refusal_interval, false);
            let new_trust = snapshot.has_other_trust(&judged);
            judged = Arc::clone(&snapshot);
            let cut = self.live.rejudge(&snapshot, new_trust).await;
            if cut > 0 {
                tracing::info!(worker = self.index, cut, snapshot = snapshot.version, "ended live connections");
            }
        }
    }
}

fn services(loaded: &Loaded) -> impl Iterator<Item = (&crate::config::Service, Option<Arc<rustls::ClientConfig>>)> {
    loaded.config.services.iter().zip(loaded.backend_tls.iter().cloned())
}

/// Makes names: a random half per worker and start, and a count.
#[derive(Debug)]
struct Ids {
    start: u64,
    next: Cell<u64>,
}

impl Ids {
    fn new(index: usize) -> Self {
        let mut random = [0u8; 8];
        // Without random bytes the names are still unique within the log: the boot id and the sequence tell starts apart.
        let _ = aws_lc_rs::rand::fill(&mut random);
        Self { start: u64::from_be_bytes(random) ^ index as u64, next: Cell::new(0) }
    }

    fn next(&self) -> HeaderValue {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let count = self.next.get();
        self.next.set(count.wrapping_add(1));
        let value = u128::from(self.start) << 64 | u128::from(count);
        let mut id = [b'0'; 32];
        for (place, byte) in id.chunks_exact_mut(2).zip(value.to_be_bytes()) {
            for (digit, nibble) in place.iter_mut().zip([byte >> 4, byte & 0xf]) {
                *digit = HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
            }
        }
        // INVARIANT: hexadecimal digits are a header's value.
        let mut id = HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("0"));
        // It never comes twice: in HPACK's table it would only push out what does (RFC 7541 7.1.3).
        id.set_sensitive(true);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_have_32_digits() {
        let ids = Ids::new(1);
        let (a, b) = (ids.next(), ids.next());
        assert_ne!(a, b);
        assert_eq!(a.len(), 32);
        assert!(a.as_bytes().iter().all(u8::is_ascii_hexdigit));
        assert_eq!(a.as_bytes().first_chunk::<16>(), b.as_bytes().first_chunk::<16>());
    }
}
