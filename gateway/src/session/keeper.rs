//! Puts what becomes of sessions into the store and the log, on the control runtime.
//!
//! What came meanwhile is written in one transaction, in the order in which it came, and again until the store has it. Uses are written every few seconds: a session that a crash interrupts was
//! last used a little earlier than it was, and so ends no later than it should.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gateway_audit::record::{SessionEvent, SessionNote};
use policy::session::Reason;
use tokio::sync::{mpsc, oneshot};

use super::entry::Session;
use super::{Proof, Sessions, Slot};
use crate::audit::ControlLane;
use crate::clock::Clock as _;
use crate::registry::Directory;
use crate::store::{SessionChange, SessionRow, Store, StoreError};

/// Most changes of one transaction.
const MOST_AT_ONCE: usize = 512;
/// Changes of the registry that are read at once at a start.
const CHANGES_AT_ONCE: u32 = 512;
/// The time between two tries to write into a store that takes nothing.
const RETRY_EVERY: Duration = Duration::from_millis(500);
/// The time between two looks at sessions whose secrets were re-issued: a crash forgets what came since.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// The time between two looks at what is over and what was used.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// What is to be done.
#[derive(Debug)]
pub(super) enum Order {
    /// Store it when it suits.
    Write(SessionChange),
    /// Store and record that a session is over, and say whether the store has it.
    End { change: SessionChange, session: Arc<Session>, why: Reason, answer: Option<oneshot::Sender<bool>> },
    /// Store and record that its user acts for that one no longer.
    ActNoMore { change: SessionChange, session: Arc<Session>, user: policy::UserName },
    /// Say when all before it is done.
    Flush(oneshot::Sender<()>),
}

/// The keeper's end of the queue.
pub struct Kept(pub(super) mpsc::UnboundedReceiver<Order>);

/// See the [module](self).
pub struct Keeper {
    orders: mpsc::UnboundedReceiver<Order>,
    sessions: Arc<Sessions>,
    pen: Pen,
    lane: ControlLane,
}

impl Keeper {
    /// Reads the sessions that there were at the last end of the gateway, without those that `directory` takes no more. `boot`
    /// is the kernel's boot id: sessions of another boot are over, since nobody knows how long they were idle.
    ///
    /// # Errors
    /// [`StoreError`]; then nobody may be served, as what was ended is not known.
    pub async fn open(
        kept: Kept,
        sessions: &Arc<Sessions>,
        store: Store,
        lane: ControlLane,
        boot: String,
        directory: &Directory,
    ) -> Result<Self, StoreError> {
        let now_ns = sessions.clock.monotonic_ns();
        let memory = store.session_load(&boot, now_ns).await?;
        let mut restarted = Vec::new();
        {
            let mut book = sessions.book();
            let mut by_name = std::collections::HashMap::new();
            for (row, is_of_boot) in memory.sessions {
                let session = Arc::new(session_of(row, now_ns));
                if session.ended().is_none() && !is_of_boot {
                    restarted.push(Arc::clone(&session));
                }
                book.put(Arc::clone(&session), session.begun_ns);
                by_name.insert(Arc::clone(&session.name), session);
            }
            for (hash, name, superseded) in memory.secrets {
                let Some(session) = by_name.get(name.as_str()) else { continue };
                sessions.shards.put(hash, &Slot { session: Arc::clone(session), superseded });
                let aside = session.secrets().restore(hash, superseded);
                sessions.lay(aside, session);
            }
        }
        for session in restarted {
            drop(sessions.end(&session, Reason::Restarted));
        }
        // What ended them while no gateway ran, or after its last look.
        let living = sessions.book().living(|_| true);
        if let Some(mut followed) = living.iter().map(|session| session.as_of).min() {
            loop {
                let changes = store.changes_after(followed, CHANGES_AT_ONCE).await?;
                let Some(last) = changes.last() else { break };
                followed = last.sequence;
                for change in &changes {
                    sessions.follow(change);
                }
            }
        }
        sessions.review(directory);
        tracing::info!(sessions = sessions.status().live, "sessions that go on");
        let pen = Pen { sessions: Arc::clone(sessions), store, boot };
        Ok(Self { orders: kept.0, sessions: Arc::clone(sessions), pen, lane })
    }

    /// Keeps for as long as the gateway runs.
    pub async fn keep(mut self) {
        let (mut ticks, mut saves) = (tokio::time::interval(SWEEP_EVERY), tokio::time::interval(SAVE_EVERY));
        for ticks in [&mut ticks, &mut saves] {
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        loop {
            let mut orders = Vec::new();
            tokio::select! {
                count = self.orders.recv_many(&mut orders, MOST_AT_ONCE) => if count == 0 { return },
                _ = saves.tick() => self.sessions.save(),
                _ = ticks.tick() => {
                    orders.extend(self.sessions.sweep().into_iter().map(Order::Write));
                    let remembered = u64::try_from(super::book::REMEMBERED.as_nanos()).unwrap_or(u64::MAX);
                    if let Some(before_ns) = self.sessions.clock.monotonic_ns().checked_sub(remembered) {
                        orders.push(Order::Write(SessionChange::Purge { before_ns }));
                    }
                    self.sessions.waiting.fetch_add(orders.len(), Ordering::Relaxed);
                }
            }
            self.carry_out(orders).await;
        }
    }

    async fn carry_out(&mut self, orders: Vec<Order>) {
        let mut changes = Vec::with_capacity(orders.len());
        let (mut waiting, mut flushed) = (Vec::new(), Vec::new());
        for order in orders {
            match order {
                Order::Write(change) => changes.push(change),
                Order::End { change, session, why, answer } => {
                    changes.push(change);
                    waiting.extend(answer);
                    let acting = session.acting_for();
                    let acting_for = acting.as_ref().map(|acting| &acting.user);
                    self.lane.append_unwaited(&note(&session, SessionEvent::Ended, Some(why), None, acting_for));
                }
                Order::ActNoMore { change, session, user } => {
                    changes.push(change);
                    self.lane.append_unwaited(&note(&session, SessionEvent::ActsNoMore, None, None, Some(&user)));
                }
                Order::Flush(answer) => flushed.push(answer),
            }
        }
        if !changes.is_empty() {
            self.pen.put(&changes, waiting).await;
        }
        for answer in flushed {
            let _ = answer.send(());
        }
    }
}

/// Writes into the store, for as long as that takes.
pub(super) struct Pen {
    pub(super) sessions: Arc<Sessions>,
    pub(super) store: Store,
    pub(super) boot: String,
}

impl Pen {
    /// Returns once the store has all of it: what comes later counts on what came before. Whoever waits hears of the first
    /// failure, and no session begins until the store has caught up.
    pub(super) async fn put(&mut self, changes: &[SessionChange], mut waiting: Vec<oneshot::Sender<bool>>) {
        loop {
            let stored = self.write(changes).await;
            let was_stored = self.sessions.is_stored.swap(stored.is_ok(), Ordering::Relaxed);
            for answer in waiting.drain(..) {
                let _ = answer.send(stored.is_ok());
            }
            match stored {
                Ok(()) => break,
                Err(error) if was_stored => {
                    tracing::error!(%error, "what becomes of sessions cannot be stored: a restart would not know of it");
                }
                Err(_) => {}
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
        self.sessions.waiting.fetch_sub(changes.len(), Ordering::Relaxed);
    }

    async fn write(&mut self, changes: &[SessionChange]) -> Result<(), StoreError> {
        if self.store.check_in_place().is_err() {
            // Another file lies there: the one that is open would take everything and be gone with the process.
            self.store = Store::open_existing(self.store.path()).await?;
        }
        self.store.session_write(&self.boot, changes).await
    }
}

/// What the log tells of a session. `acting_for` is whom its user acts for, or did until now.
pub(crate) fn note<'a>(
    session: &'a Session,
    event: SessionEvent,
    reason: Option<Reason>,
    request: Option<&'a str>,
    acting_for: Option<&'a policy::UserName>,
) -> SessionNote<'a> {
    let proof = session.proof();
    SessionNote {
        event,
        reason: reason.map(Reason::label),
        request,
        session: &session.name,
        origin: session.kind.label(),
        realm: &session.realm,
        account: &session.account,
        site: (!session.place.site.is_empty()).then_some(&*session.place.site),
        device: &session.place.device,
        user: session.user.as_ref().map(policy::UserName::as_str),
        acting_for: acting_for.map(policy::UserName::as_str),
        authentication: proof.level.label(),
        factors: proof.factors.names().collect(),
        since: &session.since,
    }
}

/// As the store has it.
pub(super) fn row(session: &Session) -> SessionRow {
    use std::sync::atomic::Ordering::Relaxed;
    let Proof { level, factors, authenticated_ns } = session.proof();
    SessionRow {
        name: session.name.to_string(),
        kind: session.kind,
        realm: session.realm.to_string(),
        account: session.account.to_string(),
        site: session.place.site.to_string(),
        device: session.place.device.to_string(),
        user: session.user.clone(),
        acting_for: session.acting_for().map(|acting| acting.user.clone()),
        tag: session.tag.as_deref().map(str::to_owned),
        level,
        factors,
        begun_ns: session.begun_ns,
        authenticated_ns,
        used_ns: session.used_ns.load(Relaxed),
        idle_ns: session.idle_ns.load(Relaxed),
        absolute_ns: session.absolute_ns.load(Relaxed),
        since: session.since.to_string(),
        as_of: session.as_of,
        ended: session.ended(),
    }
}

/// No time of it is later than now.
fn session_of(row: SessionRow, now_ns: u64) -> Session {
    use std::sync::atomic::{AtomicU8, AtomicU64};
    let place = row.ended.and_then(|why| Reason::ALL.iter().position(|known| *known == why));
    let ended = place.and_then(|place| u8::try_from(place + 1).ok()).unwrap_or(0);
    Session {
        name: row.name.into(),
        kind: row.kind,
        realm: row.realm.into(),
        account: row.account.into(),
        place: policy::login::Origin { site: row.site.into(), device: row.device.into() },
        user: row.user,
        acting_for: arc_swap::ArcSwapOption::from_pointee(
            row.acting_for.map(|user| super::Acting { user, until_s: None }),
        ),
        tag: row.tag.map(Into::into),
        as_of: row.as_of,
        begun_ns: row.begun_ns.min(now_ns),
        since: row.since.into(),
        is_given: false,
        proof: arc_swap::ArcSwap::from_pointee(Proof {
            level: row.level,
            factors: row.factors,
            authenticated_ns: row.authenticated_ns.min(now_ns),
        }),
        used_ns: AtomicU64::new(row.used_ns.min(now_ns)),
        stored_ns: AtomicU64::new(row.used_ns),
        idle_ns: AtomicU64::new(row.idle_ns),
        absolute_ns: AtomicU64::new(row.absolute_ns),
        ended: AtomicU8::new(ended),
        secrets: std::sync::Mutex::default(),
    }
}
