//! ID tokens of sessions that live: by one of them a provider knows whom to log out without asking (RP-Initiated Logout 1.0). In
//! memory alone, within a bound; without one the provider asks.

use std::collections::HashMap;
use std::sync::Arc;

use crate::session::Session;

/// Most bytes of all.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// See the [module](self).
#[derive(Default)]
pub struct Hints {
    kept: HashMap<Arc<str>, (Arc<Session>, Box<str>)>,
    bytes: usize,
    /// How many there were when those of sessions that are over were last taken out.
    swept: usize,
}

impl Hints {
    /// Keeps the ID token of a session, in place of an older one; not where there is no room.
    pub fn keep(&mut self, session: &Arc<Session>, token: &str) {
        self.take(session);
        if self.bytes + token.len() > MOST_BYTES || self.kept.len() >= 2 * self.swept.max(512) {
            self.kept.retain(|_, (session, _)| session.ended().is_none());
            self.bytes = self.kept.values().map(|(_, token)| token.len()).sum();
            self.swept = self.kept.len();
        }
        if self.bytes + token.len() <= MOST_BYTES {
            self.bytes += token.len();
            self.kept.insert(Arc::clone(&session.name), (Arc::clone(session), token.into()));
        }
    }

    /// The ID token of a session; it is kept no more.
    pub fn take(&mut self, session: &Session) -> Option<Box<str>> {
        let (_, token) = self.kept.remove(&session.name)?;
        self.bytes = self.bytes.saturating_sub(token.len());
        Some(token)
    }
}
