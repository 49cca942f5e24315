//! The control thread: everything that is not a request.

use std::hash::RandomState;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use gateway_audit::record::Reload;
use gateway_audit::reviewer::set::Reviewers;
use policy::patients::{MAX_STUDIES, Studies};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{LocalSet, spawn_local};

use super::prepare::{Prepared, StartError, prepare};
use super::readiness::Sources;
use super::registry::{Follow, Marks, Recorder};
use super::{Command, Ending, Sockets, backends, identities, retention, reviewers, staples, threads};
use crate::accounts::Accounts;
use crate::acme;
use crate::admin::{self, Admin};
use crate::audit::retention::Place;
use crate::audit::{Audit as Log, ControlLane, init, reviewers_change};
use crate::clock;
use crate::config::Config;
use crate::enrolment;
use crate::listen::Strangers;
use crate::load::load;
use crate::login;
use crate::oidc;
use crate::outage;
use crate::quic;
use crate::registry::watch::Watch;
use crate::revocation;
use crate::session;
use crate::snapshot::Snapshots;
use crate::token;
use crate::tunnels::{Board, Hub, load_or_create_key};
use crate::upstream::Fleet;
use crate::worker::Shared;

/// How long the end waits for the login guard's last outcomes to be stored.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);

/// What a started gateway tells.
pub(super) struct Started {
    pub(super) listeners: Vec<(String, SocketAddr)>,
    pub(super) admin: SocketAddr,
    pub(super) drain: Duration,
}

type Ready = std_mpsc::Sender<Result<Started, StartError>>;

/// The thread's whole life.
pub(super) fn main(path: &Path, sockets: Sockets, inbox: mpsc::UnboundedReceiver<Command>, ready: &Ready) -> Ending {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(StartError::Thread(error)));
            return Ending::Unclean;
        }
    };
    let local = LocalSet::new();
    let ending = local.block_on(&runtime, async {
        match Control::start(path, sockets).await {
            Ok((control, started)) => {
                let _ = ready.send(Ok(started));
                control.run(path, inbox).await
            }
            Err(error) => {
                let _ = ready.send(Err(error));
                Ending::Unclean
            }
        }
    });
    // A task that ends in the middle of a query gives its connection back, which takes a runtime, or it panics.
    let _inside = runtime.enter();
    drop(local);
    ending
}

struct Control {
    prepared: Prepared,
    marks: Marks,
    shared: Shared,
    lane: ControlLane,
    drain: watch::Sender<bool>,
    cut: watch::Sender<bool>,
    draining: Arc<AtomicBool>,
    workers: Vec<JoinHandle<bool>>,
    enrolment: Option<(enrolment::Handle, JoinHandle<()>)>,
    acme: Option<JoinHandle<()>>,
    retention: Option<JoinHandle<()>>,
}

impl Control {
    async fn start(path: &Path, sockets: Sockets) -> Result<(Self, Started), StartError> {
        let prepared = prepare(path).await?;
        // A limit on file sizes is an error of the write that meets it, not the end of the process.
        let over_limit = SignalKind::from_raw(libc::SIGXFSZ);
        let mut over_limit = signal(over_limit).map_err(StartError::Thread)?;
        spawn_local(async move { while over_limit.recv().await.is_some() {} });
        let config = &prepared.loaded.config;
        let unknown = sockets.unknown(&config.listeners);
        if !unknown.is_empty() {
            return Err(StartError::UnknownSockets(unknown.join(", ")));
        }
        let lane = prepared.log.control();
        let snapshots = Arc::new(Snapshots::new(Arc::clone(&prepared.loaded), Arc::clone(&prepared.directory)));

        // Changes that were made while no gateway ran are recorded before anybody is served by them.
        let (marks, audited) = Marks::open(&config.audit.directory, &prepared.log, &prepared.store).await?;
        let sealing = prepared.log.sealing().clone();
        let recorder = Recorder { lane: lane.clone(), sealing, marks: marks.clone() };
        let boot = clock::boot_id().map_err(StartError::Clock)?;
        let (logins, kept) = login::prepare(&config.login, Arc::clone(&prepared.clock));
        let (sessions, held) =
            session::prepare(&config.session, prepared.session_key.clone(), Arc::clone(&prepared.clock));
        let hook = Follow {
            snapshots: Arc::clone(&snapshots),
            recorder,
            logins: Arc::clone(&logins),
            sessions: Arc::clone(&sessions),
        };
        let mut watching = Watch::new(prepared.store.clone(), &config.node, hook);
        snapshots.publish_directory(watching.catch_up(audited).await?);
        // After the changes that were made while no gateway ran: what an operator unlocked is not remembered.
        let keeper = login::Keeper::open(kept, &logins, prepared.store.clone(), boot.clone()).await?;
        spawn_local(keeper.keep());
        let directory = Arc::clone(&snapshots.load().directory);
        let (store, told) = (prepared.store.clone(), lane.clone());
        let keeper = session::Keeper::open(held, &sessions, store, told, boot, &directory).await?;
        spawn_local(keeper.keep());
        spawn_local(marks.clone().keep());

        let (drain, draining) = watch::channel(false);
        let (cut, cutting) = watch::channel(false);
        let accounts = match config.has_login_page() {
            true => {
                let (store, clock) = (prepared.store.clone(), Arc::clone(&prepared.clock));
                Some(Arc::new(Accounts::start(&config.account, store, clock)?))
            }
            false => None,
        };
        let count = config.workers.count.map_or_else(
            || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            std::num::NonZeroUsize::get,
        );
        let fleet = Arc::new(Fleet::default());
        fleet.set_drained(backends::drained(prepared.store.backend_drains().await?));
        let shared = Shared {
            meters: Arc::default(),
            snapshots,
            clock: Arc::clone(&prepared.clock),
            metrics: prepared.metrics.clone(),
            signing_key: Arc::clone(&prepared.signing_key),
            strangers: Arc::new(Strangers::new(config.audit.refusal_interval, config.audit.refusal_bytes)),
            draining,
            logins,
            accounts,
            oidc: Arc::new(oidc::Logins::new()?),
            sessions,
            studies: Arc::new(std::sync::Mutex::new(Studies::new(MAX_STUDIES, RandomState::new()))),
            sightings: crate::outage::Sightings::default(),
            tunnels: Board::default(),
            fleet,
            backend_counters: Arc::default(),
            workers: count,
        };
        let control = Self {
            marks,
            lane,
            drain,
            cut,
            draining: Arc::new(AtomicBool::new(false)),
            workers: Vec::new(),
            enrolment: None,
            acme: None,
            retention: None,
            shared,
            prepared,
        };
        control.open(sockets, cutting, count, watching).await
    }

    /// Opens the doors: the admin listener first, so that a start that hangs can be seen.
    async fn open(
        mut self,
        mut sockets: Sockets,
        cutting: watch::Receiver<bool>,
        count: usize,
        watching: Watch<Follow>,
    ) -> Result<(Self, Started), StartError> {
        let config = self.prepared.loaded.config.clone();
        let bind_error = |name: &str, address, error| StartError::Bind { name: name.to_owned(), address, error };
        let admin_tls = config.admin.tls.as_ref().map(admin::OperatorsTls::load).transpose();
        let admin_tls = admin_tls.map_err(StartError::AdminTls)?.map(Arc::new);
        let enrolment = match &config.enrolment {
            Some(enrolment) => {
                let store = self.prepared.store.clone();
                let refusals = enrolment::RefusalLog {
                    lane: self.lane.clone(),
                    strangers: Arc::clone(&self.shared.strangers),
                    clock: Arc::clone(&self.prepared.clock) as _,
                    metrics: self.shared.metrics.clone(),
                };
                Some(enrolment::prepare(enrolment, store, &self.prepared.admit, refusals)?)
            }
            None => None,
        };
        let roster = Arc::new(threads::Roster::new(count));
        let acme_faults = acme::Faults::default();
        let keeping = retention::Keeping {
            place: Place::of(&config.audit, self.prepared.log.lane_number().unwrap_or(1)),
            lane: self.prepared.log.control(),
            clock: Arc::clone(&self.prepared.clock),
            snapshots: Arc::clone(&self.shared.snapshots),
            metrics: self.shared.metrics.clone(),
        };
        let (keeper, kept) = retention::start(keeping, self.drain.subscribe()).map_err(StartError::Thread)?;
        self.retention = Some(keeper);
        let sources = Sources {
            retention: kept,
            roster: Arc::clone(&roster),
            admin_tls: admin_tls.clone(),
            enrolment: enrolment.as_ref().map(|prepared| prepared.handle.clone()),
            acme: Arc::clone(&acme_faults),
            shared: self.shared.clone(),
            log: Arc::clone(&self.prepared.log),
            store: watching.state(),
            draining: Arc::clone(&self.draining),
        };
        let admin_socket = match sockets.take("admin") {
            Some(passed) => tokio::net::TcpListener::from_std(passed),
            None => admin::bind(config.admin.listen).await,
        }
        .map_err(|error| bind_error("admin", config.admin.listen, error))?;
        let admin_address =
            admin_socket.local_addr().map_err(|error| bind_error("admin", config.admin.listen, error))?;

        let jwks: bytes::Bytes = self.prepared.signing_key.jwks_json().into();
        let keys_socket = match config.identity.jwks_listen {
            Some(address) => {
                Some(admin::bind(address).await.map_err(|error| bind_error("identity.jwks_listen", address, error))?)
            }
            None => None,
        };

        let back_channel = match &config.back_channel {
            Some(back_channel) => Some(oidc::BackChannel::bind(back_channel, &self.shared).await?),
            None => None,
        };
        let mut listeners = Vec::new();
        let mut by_worker: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        let mut shares: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
        let mut quic: Vec<Vec<quic::Share>> = (0..count).map(|_| Vec::new()).collect();
        for listener in &config.listeners {
            if let Some(wireguard) = &listener.wireguard {
                let key = load_or_create_key(&wireguard.private_key_file)?;
                let hub = Hub::open(listener, &key, &config.audit, count, &self.shared.tunnels)
                    .map_err(|error| bind_error(&listener.name, listener.address, error))?;
                listeners.push((listener.name.clone(), hub.address));
                shares.iter_mut().zip(hub.shares).for_each(|(worker, share)| worker.push(share));
                continue;
            }
            let (address, opened) =
                sockets.open(listener, count).map_err(|error| bind_error(&listener.name, listener.address, error))?;
            listeners.push((listener.name.clone(), address));
            if listener.http3 {
                let hub = quic::Hub::open(&listener.name, address, count, &self.shared.metrics.quic)
                    .map_err(|error| bind_error(&listener.name, address, error))?;
                quic.iter_mut().zip(hub.shares).for_each(|(worker, share)| worker.push(share));
            }
            for (worker, socket) in by_worker.iter_mut().zip(opened) {
                worker.push((Arc::from(listener.name.as_str()), socket));
            }
        }
        let (go, going) = watch::channel(false);
        let (report, mut reports) = mpsc::unbounded_channel();
        for (index, ((sockets, tunnels), quic)) in by_worker.into_iter().zip(shares).zip(quic).enumerate() {
            let part = threads::Part {
                place: threads::Place::new(&roster, index, report.clone()),
                shared: self.shared.clone(),
                log: Arc::clone(&self.prepared.log),
                sockets,
                tunnels,
                quic,
                go: going.clone(),
                cut: cutting.clone(),
            };
            self.workers.push(threads::spawn(part).map_err(StartError::Thread)?);
        }
        drop(report);
        while let Some((index, started)) = reports.recv().await {
            if let Err(reason) = started {
                // Without `go` the others end, and the log can be closed.
                drop(go);
                self.workers.drain(..).for_each(|worker| drop(worker.join()));
                return Err(StartError::Worker { index, reason });
            }
        }
        go.send_replace(true);
        let (refreshing, backends) = (sources.clone(), sources.clone());
        let admin = Rc::new(Admin {
            metrics: self.shared.metrics.clone(),
            refresh: Box::new(move || refreshing.refresh()),
            health: sources.health(),
            jwks: jwks.clone(),
            backends: Box::new(move || backends.backends_page()),
            openings: Some(admin::openings::Openings {
                keys: config.audit.key_directory.clone(),
                log: self.lane.clone(),
            }),
            tls: admin_tls.clone(),
            tunnels: self.shared.tunnels.clone(),
        });
        if let Some(socket) = keys_socket {
            spawn_local(async move { match admin::jwks::serve(socket, jwks).await {} });
        }
        spawn_local(async move { match admin::serve(admin_socket, admin).await {} });
        if let Some(back_channel) = back_channel {
            listeners.push(("back_channel".to_owned(), back_channel.address()));
            spawn_local(async move { match back_channel.serve().await {} });
        }
        if let Some(prepared) = enrolment {
            listeners.extend(prepared.listen.map(|address| ("enrolment".to_owned(), address)));
            let handle = prepared.handle.clone();
            self.enrolment = Some((handle, enrolment::start(prepared, self.drain.subscribe())?));
        }
        if config.acme.is_some() {
            let faults = Arc::clone(&acme_faults);
            let started = acme::start(self.shared.clone(), faults, self.drain.subscribe());
            self.acme = Some(started.map_err(StartError::Thread)?);
        }
        let stores = watching.stores();
        spawn_local(async move { match watching.run().await {} });
        backends::start(&self.shared, &self.prepared.store);
        let (snapshots, metrics) = (Arc::clone(&self.shared.snapshots), self.shared.metrics.clone());
        spawn_local(clock::keep(Arc::clone(&self.prepared.clock), self.lane.clone(), snapshots, metrics));
        let snapshots = Arc::clone(&self.shared.snapshots);
        let lane = self.lane.clone();
        spawn_local(async move { match revocation::keep(snapshots, lane).await {} });
        let following = self.shared.clone();
        spawn_local(async move { match identities::follow(following, admin_tls).await {} });
        let stapling = self.shared.clone();
        spawn_local(async move { match staples::keep(stapling).await {} });
        let (tokens, metrics) = (Arc::clone(&self.shared.snapshots), self.shared.metrics.clone());
        spawn_local(async move { match token::keep(tokens, metrics).await {} });
        let (watched, told) = (self.shared.clone(), self.lane.clone());
        spawn_local(async move { match outage::keep(watched, told, stores).await {} });
        spawn_local(summarise(self.shared.clone(), self.lane.clone(), config.audit.refusal_interval));
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            node = %config.node,
            workers = count,
            listeners = ?listeners,
            admin = %admin_address,
            "serving"
        );
        identities::tell(&self.prepared.loaded);
        Ok((self, Started { listeners, admin: admin_address, drain: config.shutdown.drain }))
    }

    async fn run(self, path: &Path, mut inbox: mpsc::UnboundedReceiver<Command>) -> Ending {
        let drain_time = loop {
            match inbox.recv().await {
                Some(Command::Reload(answer)) => {
                    let outcome = self.reload(path).await;
                    let _ = answer.send(outcome);
                }
                Some(Command::Ping(answer)) => drop(answer.send(())),
                Some(Command::Drain) => break self.shared.snapshots.load().config.shutdown.drain,
                Some(Command::Stop) | None => break Duration::ZERO,
            }
        };
        self.end(drain_time, inbox).await
    }

    /// Puts the files as they are into force, or says why not and keeps what is.
    async fn reload(&self, path: &Path) -> Result<u64, String> {
        let old = self.shared.snapshots.load();
        let mut reviewers = None;
        let loaded = load(path, &self.prepared.admit, Some(&old.loaded)).map_err(|error| error.to_string());
        let outcome = loaded.and_then(|loaded| {
            let fixed = old.config.needs_restart(&loaded.config);
            if fixed.is_empty() {
                reviewers = Some(self.reviewers(&loaded.config)?);
                if let Some((handle, _)) = &self.enrolment {
                    handle.reload().map_err(|error| error.to_string())?;
                }
                self.shared.logins.configure(&loaded.config.login);
                self.shared.sessions.configure(&loaded.config.session, &old.directory);
                Ok(self.shared.snapshots.publish_loaded(Arc::new(loaded)))
            } else {
                Err(format!("needs a restart: {}", fixed.join(", ")))
            }
        });
        if let (Ok(_), Some(reviewers)) = (&outcome, reviewers) {
            self.follow_reviewers(reviewers).await;
        }
        let label = if outcome.is_ok() { "ok" } else { "failed" };
        self.shared.metrics.reloads.with_label_values(&[label]).inc();
        let snapshot = *outcome.as_ref().unwrap_or(&old.version);
        let error = outcome.as_ref().err().map(String::as_bytes);
        if self.lane.record(&Reload { snapshot, error }).await.is_err() {
            tracing::error!("the reload could not be recorded");
        }
        match &outcome {
            Ok(snapshot) => {
                tracing::info!(snapshot, "reloaded");
                identities::tell(&self.shared.snapshots.load());
            }
            Err(error) => tracing::error!(%error, "kept the old configuration"),
        }
        outcome
    }

    /// The reviewers by the statements that lie there now. They must continue those in force: an operator can neither add
    /// one nor take one away.
    fn reviewers(&self, config: &Config) -> Result<Reviewers, String> {
        let next = init::reviewers(&config.audit.reviewers, &config.trust_domain).map_err(|error| error.to_string())?;
        let now = self.prepared.log.sealing().reviewers.load();
        next.continues(&now).map_err(|error| error.to_string())?;
        Ok(next)
    }

    /// Seals to other reviewers from here on, and records whose have changed.
    async fn follow_reviewers(&self, next: Reviewers) {
        let in_force = &self.prepared.log.sealing().reviewers;
        let before = in_force.load_full();
        if *before == next {
            return;
        }
        let next = Arc::new(next);
        in_force.store(Arc::clone(&next));
        for head in next.heads().filter(|head| !before.heads().any(|old| old == *head)) {
            if self.lane.record(&reviewers_change(&head)).await.is_err() {
                tracing::error!("a change of reviewers could not be recorded; the next `start` record names it");
            }
        }
        let directory = self.shared.snapshots.load().config.audit.directory.clone();
        if let Err(error) = reviewers::keep(&directory, &next) {
            tracing::error!(%error, "the reviewers could not be remembered; the next start takes older ones as well");
        }
    }

    /// Drains for so long, then cuts, then closes the log.
    async fn end(self, drain_time: Duration, mut inbox: mpsc::UnboundedReceiver<Command>) -> Ending {
        self.draining.store(true, Ordering::Relaxed);
        tracing::info!(seconds = drain_time.as_secs(), "draining");
        self.drain.send_replace(true);
        let finished = async {
            while !self.workers.iter().all(JoinHandle::is_finished) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let hurry = async {
            loop {
                match inbox.recv().await {
                    Some(Command::Stop | Command::Drain) | None => return,
                    Some(Command::Ping(answer)) => drop(answer.send(())),
                    Some(Command::Reload(answer)) => drop(answer.send(Err("the gateway is draining".to_owned()))),
                }
            }
        };
        tokio::select! {
            () = finished => {}
            () = tokio::time::sleep(drain_time) => {}
            () = hurry => {}
        }
        self.cut.send_replace(true);
        let mut clean = true;
        for worker in self.workers {
            while !worker.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            clean &= worker.join().unwrap_or(false);
        }
        if let Some((_, enrolment)) = self.enrolment {
            clean &= enrolment.join().is_ok();
        }
        if let Some(acme) = self.acme {
            clean &= acme.join().is_ok();
        }
        if let Some(retention) = self.retention {
            clean &= retention.join().is_ok();
        }
        tell_summaries(&self.shared, &self.lane, true);
        self.shared.logins.flush(FLUSH_PATIENCE).await;
        self.shared.sessions.flush(FLUSH_PATIENCE).await;
        self.marks.write();
        let closed = close(&self.prepared.log, if clean { "drained" } else { "cut" });
        tracing::info!(clean, "ended");
        if clean && closed { Ending::Clean } else { Ending::Unclean }
    }
}

fn close(log: &Log, cause: &str) -> bool {
    match log.stop(cause) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(%error, "the audit log could not be closed");
            false
        }
    }
}

/// Writes what strangers did too often, once per interval.
async fn summarise(shared: Shared, lane: ControlLane, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        tell_summaries(&shared, &lane, false);
    }
}

fn tell_summaries(shared: &Shared, lane: &ControlLane, last: bool) {
    for summary in shared.strangers.due(&clock::Clock::now(&*shared.clock), last) {
        shared.metrics.refusal_summaries.inc();
        summary.with_record(|record| lane.append_unwaited(record));
    }
}
