//! One session, shared by whoever finds it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use policy::login::Origin;
use policy::session::{Factors, Kind, Limits, Reason, over};
use policy::{AuthenticationLevel, Party, UserName};

use super::secrets::Secrets;

/// A use that comes so soon after the last is not noted: nanoseconds. It bounds how often workers write where others read.
const TOUCH_GRAIN_NS: u64 = 100_000_000;

/// How the user of a session was proved, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// How strongly the user is known.
    pub level: AuthenticationLevel,
    /// By what.
    pub factors: Factors,
    /// When, monotonic nanoseconds.
    pub authenticated_ns: u64,
}

/// Whom the user of a session acts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acting {
    /// For whom.
    pub user: UserName,
    /// When that ends, seconds since 1970; none: when it is taken back.
    pub until_s: Option<i64>,
}

/// A session. What may change while it lasts is behind methods.
#[derive(Debug)]
pub struct Session {
    /// What people and records call it: 16 hexadecimal digits, which tell nothing of its secret.
    pub name: Arc<str>,
    /// Who began it.
    pub kind: Kind,
    /// Whose accounts.
    pub realm: Arc<str>,
    /// The account that was logged in with.
    pub account: Arc<str>,
    /// Where: the device that it is bound to, by what was proved.
    pub place: Origin,
    /// The registry's user, where the account is one.
    pub user: Option<UserName>,
    /// Whom the user acts for (R23).
    pub(super) acting_for: ArcSwapOption<Acting>,
    /// What an identity provider calls it.
    pub tag: Option<Arc<str>>,
    /// Number of the last change of the registry that it was proved under.
    pub as_of: u64,
    /// When it began, monotonic nanoseconds.
    pub begun_ns: u64,
    /// The same for people: RFC 3339, UTC.
    pub since: Arc<str>,
    /// The backend gave its secret to somebody who has not logged in.
    pub(super) is_given: bool,
    /// What stands for it.
    pub(super) secrets: Mutex<Secrets>,
    pub(super) proof: ArcSwap<Proof>,
    pub(super) used_ns: AtomicU64,
    /// The last use that the store was told of.
    pub(super) stored_ns: AtomicU64,
    pub(super) idle_ns: AtomicU64,
    pub(super) absolute_ns: AtomicU64,
    /// 0 while it lasts; else one more than the place of its reason in [`Reason::ALL`].
    pub(super) ended: AtomicU8,
}

impl Session {
    /// How its user was proved.
    #[must_use]
    pub fn proof(&self) -> Proof {
        **self.proof.load()
    }

    /// Whom the user acts for.
    #[must_use]
    pub fn acting_for(&self) -> Option<Arc<Acting>> {
        self.acting_for.load_full()
    }

    /// Whether the user acts for that one, and for nobody else.
    #[must_use]
    pub fn acts_for(&self, user: Option<&UserName>) -> bool {
        self.acting_for.load().as_ref().map(|acting| &acting.user) == user
    }

    /// Why it is over; none while it lasts.
    #[must_use]
    pub fn ended(&self) -> Option<Reason> {
        let place = self.ended.load(Ordering::Acquire).checked_sub(1)?;
        Reason::ALL.get(usize::from(place)).copied()
    }

    pub(super) fn secrets(&self) -> MutexGuard<'_, Secrets> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that it is used, monotonic nanoseconds. The store hears of it in the background.
    pub fn touch(&self, now_ns: u64) {
        if now_ns.saturating_sub(self.used_ns.load(Ordering::Relaxed)) >= TOUCH_GRAIN_NS {
            self.used_ns.fetch_max(now_ns, Ordering::Relaxed);
        }
    }

    /// Its bounds.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let of = |bound: &AtomicU64| bound.load(Ordering::Relaxed);
        Limits { idle_ns: of(&self.idle_ns), absolute_ns: of(&self.absolute_ns), concurrent: 0 }
    }

    pub(super) fn set_limits(&self, limits: &Limits) {
        self.idle_ns.store(limits.idle_ns, Ordering::Relaxed);
        self.absolute_ns.store(limits.absolute_ns, Ordering::Relaxed);
    }

    /// Why it is to end by now, if it is.
    #[must_use]
    pub fn is_over(&self, now_ns: u64) -> Option<Reason> {
        over(&self.limits(), self.begun_ns, self.used_ns.load(Ordering::Relaxed), now_ns)
    }

    /// Why an exchange that it is used for is cut, if it is: idle it is not as long as that lasts.
    #[must_use]
    pub fn is_cut(&self, now_ns: u64) -> Option<Reason> {
        match self.ended() {
            Some(reason) => reason.cuts().then_some(reason),
            None => self.is_over(now_ns).filter(|reason| *reason == Reason::Expired),
        }
    }

    /// Whether it is this peer's.
    #[must_use]
    pub fn is_of(&self, party: &Party) -> bool {
        let is_site = party.site().map_or("", |site| site.as_str()) == &*self.place.site;
        let named = |kind: &str, name: &dyn std::fmt::Display| *self.place.device == *format!("{kind}/{name}");
        is_site
            && match party {
                Party::Device { device, .. } => device.device.as_str() == &*self.place.device,
                Party::User { user, .. } => named("user", user),
                Party::Patient(patient) => named("patient", patient),
            }
    }
}
