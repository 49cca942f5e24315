//! The login guard of the running gateway: one for all workers, on stable storage before a backend sees a password (R8, C14).
//!
//! [`policy::login::Guard`] decides. This holds it under one lock, which only logins take and for microseconds, says how much
//! may come at all before it is asked ([`Rates`]), and hands what must not be forgotten to the [`Keeper`]. Everything is put into the
//! keeper's queue under the lock, so that the store has it in the order in which the guard decided.

mod keeper;
mod rates;
mod verified;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use policy::login::{AccountName, Attempt, Ended, Guard, Locked, Origin, Reason, Refused, Ticket};
use policy::{Party, Refusal};
use tokio::sync::{mpsc, oneshot};

pub use keeper::{Keeper, Kept};
pub use rates::Rates;
pub use verified::Password;

use crate::clock::{Clock as _, KernelClock};
use crate::config::Login;
use crate::store::{Lift, LoginChange};
use keeper::Order;
use verified::Verified;

/// Most attempts that may wait for the store; beyond it the store is too slow to count on.
const MOST_WAITING: usize = 4_096;

/// How the guard fares; for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Accounts that are remembered.
    pub accounts: usize,
    /// Most that can be.
    pub most_accounts: usize,
    /// Lockouts in force.
    pub lockouts: usize,
    /// The last attempt could be stored.
    pub is_stored: bool,
}

/// The guard.
pub struct Logins {
    guard: Mutex<Guard>,
    rates: ArcSwap<Rates>,
    verified: Mutex<Verified>,
    orders: mpsc::UnboundedSender<Order>,
    waiting: AtomicUsize,
    is_stored: AtomicBool,
    clock: Arc<KernelClock>,
}

/// Makes the guard, and what its keeper is made of. Nothing is remembered until [`Keeper::open`] has read the store.
#[must_use]
pub fn prepare(config: &Login, clock: Arc<KernelClock>) -> (Arc<Logins>, Kept) {
    let (orders, kept) = mpsc::unbounded_channel();
    let logins = Arc::new(Logins {
        // Two gateways may share a store for as long as one drains: each counts from a number of its own.
        guard: Mutex::new(Guard::new(config.limits, random() >> 2)),
        rates: ArcSwap::from_pointee(Rates::new(config)),
        verified: Mutex::new(Verified::new(config.verified)),
        orders,
        waiting: AtomicUsize::new(0),
        is_stored: AtomicBool::new(true),
        clock,
    });
    (logins, Kept(kept))
}

fn random() -> u64 {
    let mut random = [0; 8];
    // Without random bytes numbers begin at 0; where they meet others', the store refuses them and so does the guard.
    let _ = aws_lc_rs::rand::fill(&mut random);
    u64::from_be_bytes(random)
}

/// Where a peer's attempts come from, by what was proved.
#[must_use]
pub fn origin_of(party: &Party) -> Origin {
    let site = party.site().map(|site| site.as_str().into()).unwrap_or_default();
    // No device's name has a `/`, so none of these is taken for one.
    let device = match party {
        Party::Device { device, .. } => device.device.as_str().into(),
        Party::User { user, .. } => format!("user/{user}").into(),
        Party::Patient(patient) => format!("patient/{patient}").into(),
    };
    Origin { site, device }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Logins {
    /// Puts other bounds in force; lockouts stay.
    pub fn configure(&self, config: &Login) {
        lock(&self.guard).set_limits(config.limits);
        lock(&self.verified).set_lifetime(config.verified);
        if !self.rates.load().are_of(config) {
            self.rates.store(Arc::new(Rates::new(config)));
        }
    }

    /// Whether another attempt may come, right or wrong: asked before anything is remembered of it.
    #[must_use]
    pub fn admits(&self, attempt: &Attempt) -> bool {
        self.rates.load().admit(attempt)
    }

    /// Whether the password was right here a while ago, and neither pause nor lockout is in force.
    #[must_use]
    pub fn knows(&self, attempt: &Attempt, password: &Password) -> bool {
        let now_ns = self.clock.monotonic_ns();
        lock(&self.verified).knows(now_ns, attempt, password) && lock(&self.guard).allows(now_ns, attempt).is_ok()
    }

    /// Remembers that the password was right, or that it is not.
    pub fn learns(&self, attempt: &Attempt, password: &Password, is_right: bool) {
        lock(&self.verified).learn(self.clock.monotonic_ns(), attempt, password, is_right);
    }

    /// Takes an attempt, which counts as failed from here on.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn reserve(self: &Arc<Self>, attempt: Attempt) -> Result<Reservation, Refused> {
        let mut guard = lock(&self.guard);
        // Read under the lock, so that times never go back.
        let at_ns = self.clock.monotonic_ns();
        if self.waiting.load(Ordering::Relaxed) >= MOST_WAITING {
            return Err(Refused { reason: Reason::Full, retry_after_ns: guard.limits().pause.most_ns });
        }
        let ticket = guard.reserve(at_ns, attempt.clone())?;
        let (answer, stored) = oneshot::channel();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let change = LoginChange::Reserved { id: ticket.0, attempt: attempt.clone(), at_ns };
        self.order(Order::Reserve(change, answer));
        drop(guard);
        Ok(Reservation {
            logins: Arc::clone(self),
            ticket,
            attempt,
            stored: Some(stored),
            start: Start::default(),
            settled: false,
        })
    }

    /// Counts a failure of an attempt that was let through because its password was known to be right.
    pub fn fails(self: &Arc<Self>, attempt: &Attempt) {
        if let Ok(mut reservation) = self.reserve(attempt.clone()) {
            reservation.end(Ended::Failed);
        }
    }

    fn settle(&self, ticket: Ticket, attempt: &Attempt, ended: Ended) {
        let mut guard = lock(&self.guard);
        let at_ns = self.clock.monotonic_ns();
        let begun = guard.settle(at_ns, ticket, ended);
        self.order(Order::Write(match ended {
            Ended::Failed => LoginChange::Failed { id: ticket.0, at_ns },
            Ended::Succeeded => LoginChange::Succeeded { id: ticket.0, attempt: attempt.clone() },
            Ended::Withdrawn => LoginChange::Withdrawn { id: ticket.0 },
        }));
        let kinds: Vec<_> = begun.iter().map(|lock| kind(&lock.of)).collect();
        for lock in begun {
            let lasts_ns = lock.until_ns.saturating_sub(at_ns);
            self.order(Order::Write(LoginChange::Locked { lock, lasts_ns }));
        }
        drop(guard);
        for of in kinds {
            // Whose, the sealed record says.
            tracing::warn!(of, "a lockout begins; `sekisho user lockouts` lists it");
        }
    }

    /// Lifts what an operator lifted in the store.
    pub fn lift(&self, lift: &Lift) {
        let mut guard = lock(&self.guard);
        match lift {
            Lift::Account { realm, account, site } => {
                let Ok(account) = AccountName::restored(account) else { return };
                guard.unlock(realm.as_deref(), &account, site.as_deref());
            }
            Lift::Device { site, device } => {
                let origin = Origin { site: site.as_str().into(), device: device.as_str().into() };
                guard.unlock_place(&Locked::Device(origin));
            }
            Lift::Site { site } => guard.unlock_place(&Locked::Site(site.as_str().into())),
        }
        // What was written between the operator's change and this goes as well.
        self.order(Order::Write(LoginChange::Lifted(lift.clone())));
    }

    /// How the guard fares at `now_ns`.
    #[must_use]
    pub fn status(&self, now_ns: u64) -> Status {
        let guard = lock(&self.guard);
        Status {
            accounts: guard.len(),
            most_accounts: guard.limits().accounts,
            lockouts: guard.locks(now_ns).count(),
            is_stored: self.is_stored.load(Ordering::Relaxed),
        }
    }

    /// Returns once all that was decided so far is in the store, or `patience` is over.
    pub async fn flush(&self, patience: Duration) {
        let (answer, flushed) = oneshot::channel();
        self.order(Order::Flush(answer));
        if tokio::time::timeout(patience, flushed).await.is_err() {
            tracing::warn!("the login guard's last outcomes are not stored: at the next start they count as failures");
        }
    }

    fn order(&self, order: Order) {
        // Without a keeper nothing is stored, and whoever waits for that hears that it is not.
        let _ = self.orders.send(order);
    }
}

const fn kind(of: &Locked) -> &'static str {
    match of {
        Locked::Account { .. } => "account",
        Locked::Device(_) => "device",
        Locked::Site(_) => "site",
        Locked::Address(_) => "address",
    }
}

const WAITING: u8 = 0;
const BEGUN: u8 = 1;
const GIVEN_UP: u8 = 2;

/// Whether anybody has looked at an attempt's password. Whoever is going to says so before, and is told no where the attempt was
/// given up: one that waits counts for nothing, and none is compared that does not count.
#[derive(Debug, Clone, Default)]
pub struct Start(Arc<AtomicU8>);

impl Start {
    /// Somebody looks at it from here on; `false` if it was given up, and nobody may.
    #[must_use]
    pub fn begins(&self) -> bool {
        self.0.compare_exchange(WAITING, BEGUN, Ordering::AcqRel, Ordering::Acquire) != Err(GIVEN_UP)
    }

    /// Whether somebody may have looked at it.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire) == BEGUN
    }

    /// Nobody may look at it any more; `false` if somebody may have.
    fn is_given_up(&self) -> bool {
        self.0.compare_exchange(WAITING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire) != Err(BEGUN)
    }
}

/// An attempt that was taken. Dropped unsettled it failed if anybody may have seen it, and is withdrawn if not.
#[must_use]
pub struct Reservation {
    logins: Arc<Logins>,
    ticket: Ticket,
    /// Whose.
    pub attempt: Attempt,
    stored: Option<oneshot::Receiver<bool>>,
    start: Start,
    settled: bool,
}

impl Reservation {
    /// Returns once the attempt is on stable storage; nobody must see a byte of it before. Whoever then does says
    /// [`Start::begins`] first.
    ///
    /// # Errors
    /// [`Refusal::LoginUnavailable`] if it cannot be put there.
    pub async fn stored(&mut self) -> Result<Start, Refusal> {
        let Some(stored) = self.stored.take() else { return Err(Refusal::InternalError) };
        if !stored.await.unwrap_or(false) {
            return Err(Refusal::LoginUnavailable);
        }
        Ok(self.start.clone())
    }

    /// The same, for a backend, which may see it from here on.
    ///
    /// # Errors
    /// As [`stored`](Self::stored).
    pub async fn sends(&mut self) -> Result<(), Refusal> {
        let start = self.stored().await?;
        if start.begins() { Ok(()) } else { Err(Refusal::InternalError) }
    }

    /// Says what became of it.
    pub fn settle(mut self, ended: Ended) {
        self.end(ended);
    }

    fn end(&mut self, ended: Ended) {
        if !std::mem::replace(&mut self.settled, true) {
            self.logins.settle(self.ticket, &self.attempt, ended);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.end(if self.start.is_given_up() { Ended::Withdrawn } else { Ended::Failed });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::login::{Bound, Limits, LockScope, Pause, Spelling};
    use std::num::NonZeroU32;

    /// Takes an attempt as far as the store.
    async fn stored(logins: &Arc<Logins>, kept: &mut Kept) -> Result<(Reservation, Start), Refused> {
        let attempt = Attempt {
            realm: "r".into(),
            account: AccountName::new("tanaka", Spelling::default()).unwrap(),
            origin: Origin { site: "s".into(), device: "d".into() },
            address: [192, 0, 2, 1].into(),
        };
        let mut reservation = logins.reserve(attempt)?;
        loop {
            match kept.0.recv().await.unwrap() {
                Order::Reserve(_, answer) => break answer.send(true).unwrap(),
                Order::Write(_) | Order::Flush(_) => {}
            }
        }
        let start = reservation.stored().await.unwrap();
        Ok((reservation, start))
    }

    #[tokio::test]
    async fn an_attempt_that_nobody_looked_at_counts_for_nothing() {
        let most = 3;
        let minute = 60_000_000_000;
        let limits = Limits {
            pause: Pause { first_ns: 0, most_ns: 0 },
            scope: LockScope::AccountAtSite,
            account: Bound { failures: most, window_ns: minute, lockout_ns: minute },
            global: None,
            device: None,
            site: None,
            address: None,
            accounts: 16,
        };
        let [device_attempts, site_attempts, address_attempts] = [NonZeroU32::MAX; 3];
        let config = Login { limits, device_attempts, site_attempts, address_attempts, verified: Duration::ZERO };
        let (logins, mut kept) = prepare(&config, Arc::new(KernelClock::new().unwrap()));
        for _ in 0..2 * most {
            let (reservation, start) = stored(&logins, &mut kept).await.unwrap();
            drop(reservation);
            assert!(!start.begins() && !start.has_begun(), "given up while it waited: nobody may compare it");
        }
        for _ in 0..most {
            let (reservation, start) = stored(&logins, &mut kept).await.unwrap();
            assert!(start.begins() && start.has_begun());
            drop(reservation);
        }
        assert!(stored(&logins, &mut kept).await.is_err(), "what was looked at has failed");
    }
}
