//! Puts what the guard must not forget into the store, on the control runtime.
//!
//! What came meanwhile is written in one transaction, so that many attempts cost one sync of the disk. An attempt that cannot
//! be stored is refused. An outcome that cannot be stored is left: its attempt stays pending there, which counts as failed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{Logins, lock};
use crate::clock::Clock as _;
use crate::store::{LoginChange, Store, StoreError};

/// Most changes of one transaction.
const MOST_AT_ONCE: usize = 512;
/// The time between two looks at what can be forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// What is to be done.
#[derive(Debug)]
pub(super) enum Order {
    /// Store it when it suits.
    Write(LoginChange),
    /// Store it, and say whether that worked.
    Reserve(LoginChange, oneshot::Sender<bool>),
    /// Say when all before it is done.
    Flush(oneshot::Sender<()>),
}

/// The keeper's end of the queue.
pub struct Kept(pub(super) mpsc::UnboundedReceiver<Order>);

/// See the [module](self).
pub struct Keeper {
    orders: mpsc::UnboundedReceiver<Order>,
    logins: Arc<Logins>,
    store: Store,
    boot: String,
}

impl Keeper {
    /// Reads into the guard what it knew before the last end of the gateway. `boot` is the kernel's boot id.
    ///
    /// # Errors
    /// [`StoreError`]; then no login may be served.
    pub async fn open(kept: Kept, logins: &Arc<Logins>, store: Store, boot: String) -> Result<Self, StoreError> {
        let now_ns = logins.clock.monotonic_ns();
        let memory = store.login_load(&boot, now_ns).await?;
        let known: Vec<_> = memory.locks.iter().map(|lock| lock.of.clone()).collect();
        let mut changes = Vec::new();
        {
            let mut guard = lock(&logins.guard);
            for (at_ns, attempt, counts_for_account) in &memory.failures {
                guard.restore_failure(*at_ns, attempt, *counts_for_account);
            }
            memory.locks.into_iter().for_each(|lock| guard.restore_lock(lock));
            guard.sweep(now_ns);
            // A crash may have come between the last failure and the note of its lockout.
            for lock in guard.locks(now_ns).filter(|lock| !known.contains(&lock.of)) {
                let lasts_ns = lock.until_ns.saturating_sub(now_ns);
                changes.push(LoginChange::Locked { lock, lasts_ns });
            }
        }
        store.login_write(&boot, &changes).await?;
        tracing::info!(
            failures = memory.failures.len(),
            lockouts = known.len() + changes.len(),
            "what logins left behind"
        );
        Ok(Self { orders: kept.0, logins: Arc::clone(logins), store, boot })
    }

    /// Stores for as long as the gateway runs.
    pub async fn keep(mut self) {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut orders = Vec::new();
            tokio::select! {
                count = self.orders.recv_many(&mut orders, MOST_AT_ONCE) => if count == 0 { return },
                _ = ticks.tick() => orders.push(Order::Write(self.sweep())),
            }
            self.carry_out(orders).await;
        }
    }

    /// Forgets what cannot matter any more, in memory and, by the change it returns, in the store.
    fn sweep(&self) -> LoginChange {
        self.logins.rates.load().sweep();
        let now_ns = self.logins.clock.monotonic_ns();
        let mut guard = lock(&self.logins.guard);
        guard.sweep(now_ns);
        let limits = guard.limits();
        let windows = [Some(limits.account), limits.device, limits.site, limits.address];
        let windows = windows.into_iter().flatten().map(|bound| bound.window_ns);
        let longest = windows.chain(limits.global.map(|global| global.window_ns)).max().unwrap_or_default();
        LoginChange::Purge { attempts_ns: now_ns.saturating_sub(longest), now_ns }
    }

    async fn carry_out(&mut self, orders: Vec<Order>) {
        let mut changes = Vec::with_capacity(orders.len());
        let (mut waiting, mut flushed) = (Vec::new(), Vec::new());
        for order in orders {
            match order {
                Order::Write(change) => changes.push(change),
                Order::Reserve(change, answer) => {
                    changes.push(change);
                    waiting.push(answer);
                }
                Order::Flush(answer) => flushed.push(answer),
            }
        }
        let stored = if changes.is_empty() { Ok(()) } else { self.write(&changes).await };
        if let Err(error) = &stored {
            tracing::error!(%error, "the login guard cannot store what it must not forget: logins are refused");
        }
        if !changes.is_empty() {
            self.logins.is_stored.store(stored.is_ok(), Ordering::Relaxed);
        }
        self.logins.waiting.fetch_sub(waiting.len(), Ordering::Relaxed);
        for answer in waiting {
            let _ = answer.send(stored.is_ok());
        }
        for answer in flushed {
            let _ = answer.send(());
        }
    }

    async fn write(&mut self, changes: &[LoginChange]) -> Result<(), StoreError> {
        if self.store.check_in_place().is_err() {
            // Another file lies there: the one that is open would take everything and be gone with the process.
            self.store = Store::open_existing(self.store.path()).await?;
        }
        self.store.login_write(&self.boot, changes).await
    }
}
