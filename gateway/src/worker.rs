//! A worker: one thread, one core, and everything a request needs without asking another.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::RandomState;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use certs::PeerRefused;
use gateway_audit::record::{Record, Refused, Stage, TunnelDrops};
use gateway_tunnel::DropCounts;
use http::HeaderValue;
use policy::judge::DecisionCache;
use policy::patients::{PatientId, Studies, StudyPatient, StudySource};
use policy::{DeviceName, Refusal, ServiceName, SiteName, Subject};
use slab::Slab;
use tokio::sync::watch;

mod carried;
mod ids;
mod judging;

pub use carried::{Carried, Carrying};
use ids::Ids;

use crate::accounts::Accounts;
use crate::audit::{Lane, Ticket};
use crate::clock::{self, Clock as _, KernelClock, Reading};
use crate::config::OnClockAlarm;
use crate::listen::{Allowances, Arrival, Connection, Strangers};
use crate::login::Logins;
use crate::metrics::Metrics;
use crate::oidc::Logins as OidcLogins;
use crate::quota::Meters;
use crate::registry::Live;
use crate::session::Sessions;
use crate::snapshot::{Loaded, Snapshot, Snapshots};
use crate::token::Tokens;
use crate::tunnels::{Board, Endpoint};
use crate::upstream::headers::Ours;
use crate::upstream::identity::{Identities, SigningKey, Statement};
use crate::upstream::{BackendCounters, Fleet, Upstreams};

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
    /// What sites and devices have used of their quotas.
    pub meters: Arc<Meters>,
    /// Whose the studies are that passed. Asked for DICOMweb alone, and for a moment only.
    pub studies: Arc<std::sync::Mutex<Studies<RandomState>>>,
    /// How many workers there are.
    pub workers: usize,
    /// Which sites have live connections.
    pub sightings: crate::outage::Sightings,
    /// What workers publish of tunnels.
    pub tunnels: Board,
    /// What is known of the services' servers.
    pub fleet: Arc<Fleet>,
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
    /// Which sites they are of.
    pub present: crate::outage::sightings::Present,
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
    /// Its tunnels, by listener.
    tunnels: RefCell<Vec<Rc<Endpoint>>>,
    ids: Ids,
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
        let upstreams = Upstreams::new(services(&snapshot.loaded), Arc::clone(&shared.fleet))?;
        let worker = Rc::new(Self {
            clock: Arc::clone(&shared.clock),
            metrics: shared.metrics.clone(),
            live: Live::default(),
            present: shared.sightings.worker(),
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
            tunnels: RefCell::default(),
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

    /// What sites and devices have used of their quotas.
    #[must_use]
    pub fn meters(&self) -> &Meters {
        &self.shared.meters
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
        let PeerRefused { refusal, detail, device: _ } = refused;
        let refusal = *refusal;
        let (site, device) = arrival.party(refused).unzip();
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
                site: site.map(SiteName::as_str),
                device: device.map(DeviceName::as_str),
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

    /// Takes tunnels, whose peers it keeps as the registry has them from here on.
    pub(crate) fn takes_tunnels(&self, endpoint: &Rc<Endpoint>) {
        self.tunnels.borrow_mut().push(Rc::clone(endpoint));
    }

    /// Puts the keys of tunnels into force that the worker begins with.
    pub(crate) async fn take_keys(&self) {
        self.follow_keys(&self.snapshot());
        while self.has_keys_to_add() {
            self.add_keys().await;
        }
    }

    /// Records what was dropped in tunnels and is not in a record yet.
    pub(crate) fn tell_tunnel_drops(&self) {
        for endpoint in self.tunnels.borrow().iter() {
            for (site, counts) in endpoint.take_reports() {
                self.tunnel_drops(endpoint.listener(), site.as_ref(), &counts);
            }
        }
    }

    /// Nothing more is to be sent through tunnels to anybody.
    pub(crate) fn are_tunnels_quiet(&self) -> bool {
        self.tunnels.borrow().iter().all(|endpoint| endpoint.is_quiet())
    }

    /// Records what was dropped of a site's packets, or of strangers', since the last record of it (R14).
    pub(crate) fn tunnel_drops(&self, listener: &str, site: Option<&SiteName>, counts: &DropCounts) {
        let drops: Vec<_> = counts.iter().map(|(reason, count)| (reason.label(), count)).collect();
        self.append_unwaited(&TunnelDrops { listener, site: site.map(SiteName::as_str), drops: &drops });
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
}

fn services(loaded: &Loaded) -> impl Iterator<Item = (&crate::config::Service, Option<Arc<rustls::ClientConfig>>)> {
    loaded.config.services.iter().zip(loaded.backend_tls.iter().cloned())
}
