//! For whom sessions are used (代行, R23).

use std::sync::Arc;

use super::keeper::Order;
use super::{Acting, Session, Sessions};
use crate::registry::Directory;
use crate::store::SessionChange;

impl Sessions {
    /// From here on the user of a session acts for somebody, or for nobody. What goes on for whom it was before is cut.
    pub fn act(&self, session: &Arc<Session>, acting: Option<Acting>) {
        let _one_at_a_time = self.book();
        let name = session.name.to_string();
        let acting_for = acting.as_ref().map(|acting| acting.user.clone());
        session.acting_for.store(acting.map(Arc::new));
        self.order(Order::Write(SessionChange::Acts { name, acting_for }));
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// As [`act_no_more`](Self::act_no_more), for whoever finds out that the leave is gone.
    pub fn revoke_acting(&self, session: &Arc<Session>, acting: &Acting) {
        let _one_at_a_time = self.book();
        self.act_no_more(session, acting);
    }

    /// The leave to act for that user is gone: the session goes on, for its own user.
    pub(super) fn act_no_more(&self, session: &Arc<Session>, acting: &Acting) {
        if !session.acts_for(Some(&acting.user)) {
            return;
        }
        session.acting_for.store(None);
        let change = SessionChange::Acts { name: session.name.to_string(), acting_for: None };
        self.order(Order::ActNoMore { change, session: Arc::clone(session), user: acting.user.clone() });
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// Ends what a session is used for where the registry has no leave for it by then, nanoseconds since 1970, and learns until when it is.
    pub(super) fn review_acting(&self, session: &Arc<Session>, directory: &Directory, unix_ns: i64) {
        if let Some(acting) = session.acting_for() {
            let granted = session.user.as_ref().and_then(|user| {
                directory.grants(&session.place.site, user, unix_ns).find(|grant| grant.acts_for == acting.user)
            });
            match granted {
                Some(grant) if grant.until_s == acting.until_s => {}
                Some(grant) => {
                    let acting = Acting { user: acting.user.clone(), until_s: grant.until_s };
                    session.acting_for.store(Some(Arc::new(acting)));
                }
                None => self.act_no_more(session, &acting),
            }
        }
    }
}
