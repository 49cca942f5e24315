//! Logins at OpenID providers, of browsers (R1, R9, C14): who is on the way to a provider and back, and what the provider says.
//!
//! `policy::oidc` builds and judges. A [`Provider`] speaks to its token endpoint; its keys, and what it says of itself, are fetched
//! in the background ([`token`](crate::token)). [`Logins`] remember for a few minutes what a browser must come back with, each for
//! its device, and end what the provider says is over ([`BackChannel`]). The pages are `exchange`'s.

mod back_channel;
mod crowd;
mod flows;
mod hints;
mod provider;

use std::sync::{Mutex, MutexGuard, PoisonError};

use policy::oidc::Notices;

use crate::accounts::AccountError;
use crate::accounts::tokens::Tokens;

pub use back_channel::{BackChannel, BackChannelError};
pub use flows::{Begun, Flow, Flows, Purpose, Secrets};
pub use hints::Hints;
pub use provider::{Failure, Provider, ProviderError};

/// Below it are the pages of providers.
pub const PAGES: &str = "/.sekisho/oidc/";

/// Logins at providers that are under way, and what their sessions will need at their end; one for all workers.
pub struct Logins {
    flows: Mutex<Flows>,
    hints: Mutex<Hints>,
    notices: Mutex<Notices>,
    /// What forms carry, so that nobody else's do.
    pub tokens: Tokens,
}

impl Logins {
    /// None yet.
    ///
    /// # Errors
    /// [`AccountError::Random`].
    pub fn new() -> Result<Self, AccountError> {
        let (flows, hints, notices) = (Mutex::default(), Mutex::default(), Mutex::default());
        Ok(Self { flows, hints, notices, tokens: Tokens::new()? })
    }

    /// Browsers that are at a provider.
    pub fn flows(&self) -> MutexGuard<'_, Flows> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// ID tokens of sessions that live.
    pub fn hints(&self) -> MutexGuard<'_, Hints> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notices(&self) -> MutexGuard<'_, Notices> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
