//! What changes of the registry (R27) and providers' words do to sessions: they end whoever was proved before them, whether that
//! session is known already, begins a moment later or is read from the store at the next start.

use std::collections::VecDeque;

use policy::Refusal;
use policy::login::Origin;
use policy::session::Reason;

use super::entry::{Acting, Session};
use super::{Of, Sessions};
use crate::store::{Change, ChangeBody, Device, Entry, SessionTarget, Site, Status, User};

/// Most ends of a kind that are remembered for sessions that begin later. A login lasts minutes.
const MOST_ENDS: usize = 4_096;

/// The ends that came, for sessions that were proved before them and begin after them.
#[derive(Default)]
pub(super) struct Ends {
    /// By the number of the registry's change.
    changes: Past,
    /// By the moment, monotonic nanoseconds.
    moments: Past,
}

/// Ends in one order of time.
#[derive(Default)]
struct Past {
    /// Oldest first, with when.
    known: VecDeque<(u64, Of)>,
    /// The last that is forgotten.
    forgotten: u64,
}

impl Past {
    fn note(&mut self, of: &Of, at: u64) {
        self.known.push_back((at, of.clone()));
        if self.known.len() > MOST_ENDS
            && let Some((at, _)) = self.known.pop_front()
        {
            self.forgotten = self.forgotten.max(at);
        }
    }

    /// Whether what was proved as of then is over.
    fn ends(&self, session: &Session, as_of: u64) -> bool {
        as_of < self.forgotten || self.known.iter().any(|(at, of)| as_of < *at && of.takes(session))
    }
}

impl Ends {
    /// Whether what came already has ended what this session would be. `asked_ns` is when its proof began, monotonic nanoseconds.
    ///
    /// # Errors
    /// [`Refusal::SessionUnavailable`]: what was proved is to be proved again.
    pub(super) fn allow(&self, session: &Session, asked_ns: u64) -> Result<(), Refusal> {
        let is_over = self.changes.ends(session, session.as_of) || self.moments.ends(session, asked_ns);
        if is_over { Err(Refusal::SessionUnavailable) } else { Ok(()) }
    }
}

impl Sessions {
    /// Ends the sessions that a change of the registry ends; whoever was proved under what it made of the registry stays.
    pub fn follow(&self, change: &Change) {
        let end = |of: &Of, why| self.end_earlier(of, why, change.sequence);
        if let Some(target) = out(&change.body) {
            end(&of(&target), Reason::Revoked);
        }
        self.follow_leave(&change.body);
        if let Some(Entry::Session(ended)) = &change.body.before {
            end(&of(&ended.target), Reason::Operator);
        }
        // Somebody else changed what the user logs in by: whoever got in by what it was before is out.
        if let Some(Entry::Account(account)) = &change.body.after
            && account.identified_by.is_some()
        {
            end(&Of::User { site: account.site.clone(), user: account.name.clone() }, Reason::Operator);
        }
    }

    /// Ends what is done for another where leave for it was taken away, though it be given again at once.
    fn follow_leave(&self, change: &ChangeBody) {
        let fits = |session: &Session, acting: &Acting| match (&change.before, &change.after) {
            (Some(Entry::Delegation(before)), None) => {
                *session.place.site == *before.site.as_str()
                    && session.user.as_ref() == Some(&before.user)
                    && acting.user == before.acts_for
            }
            _ => out(change).is_some_and(|target| {
                matches!(target, SessionTarget::User { site, user }
                    if *session.place.site == *site.as_str() && acting.user == user)
            }),
        };
        let book = self.book();
        for session in book.living(|session| session.acting_for().is_some_and(|acting| fits(session, &acting))) {
            if let Some(acting) = session.acting_for() {
                self.act_no_more(&session, &acting);
            }
        }
    }

    /// Ends those of the sessions that were proved before a change, and keeps others of them from beginning.
    fn end_earlier(&self, of: &Of, why: Reason, change: u64) {
        let mut book = self.book();
        book.ends.changes.note(of, change);
        for session in book.living(|session| session.as_of < change && of.takes(session)) {
            self.finish(&mut book, &session, why, None);
        }
    }

    /// Ends those of the sessions that were begun before a moment, monotonic nanoseconds, and keeps others of them, whose users were
    /// asked for their proof before it, from beginning. Returns how many it ends.
    pub fn end_before(&self, of: &Of, why: Reason, moment_ns: u64) -> usize {
        let mut book = self.book();
        book.ends.moments.note(of, moment_ns);
        let fitting = book.living(|session| session.begun_ns < moment_ns && of.takes(session));
        fitting.iter().filter(|session| self.finish(&mut book, session, why, None)).count()
    }
}

/// Whose sessions a change ends, even if another takes it back before anybody looks.
fn out(change: &ChangeBody) -> Option<SessionTarget> {
    let is_active = match change.after.as_ref() {
        Some(
            Entry::Site(Site { status, .. }) | Entry::Device(Device { status, .. }) | Entry::User(User { status, .. }),
        ) => *status == Status::Active,
        Some(_) => true,
        None => false,
    };
    let target = match change.before.as_ref()? {
        Entry::Site(site) => SessionTarget::Site { site: site.name.clone() },
        Entry::Device(device) => SessionTarget::Device { site: device.site.clone(), device: device.name.clone() },
        Entry::User(user) => SessionTarget::User { site: user.site.clone(), user: user.name.clone() },
        Entry::Role(_)
        | Entry::Certificate(_)
        | Entry::EnrolmentCode(_)
        | Entry::UserCertificate(_)
        | Entry::Lockout(_)
        | Entry::Account(_)
        | Entry::Session(_)
        | Entry::Delegation(_)
        | Entry::WireguardKey(_)
        | Entry::Backend(_) => return None,
    };
    (!is_active).then_some(target)
}

fn of(target: &SessionTarget) -> Of {
    match target {
        SessionTarget::Name { name } => Of::Name(name.clone()),
        SessionTarget::User { site, user } => Of::User { site: site.clone(), user: user.clone() },
        SessionTarget::Device { site, device } => {
            Of::Place(Origin { site: site.as_str().into(), device: device.as_str().into() })
        }
        SessionTarget::Site { site } => Of::Site(site.clone()),
    }
}

#[cfg(test)]
#[path = "follow/tests.rs"]
mod tests;
