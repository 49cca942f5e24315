//! What a session begins with, and what its secret stands for.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use policy::session::{Factors, Kind, Limits, Reason};
use policy::{AuthenticationLevel, Party, Refusal, UserName};
use zeroize::{Zeroize as _, Zeroizing};

use super::entry::Session;

/// A session that begins.
#[derive(Debug, Clone)]
pub struct Begin<'a> {
    /// Who begins it.
    pub kind: Kind,
    /// Whose accounts.
    pub realm: &'a str,
    /// Who is connected: it is bound to this device, card or patient.
    pub party: &'a Party,
    /// The registry's user of the party's site; none: it is bound to the device and stands for nobody.
    pub user: Option<UserName>,
    /// The account that was logged in with.
    pub account: &'a str,
    /// Whom the user acts for (R23).
    pub acting_for: Option<UserName>,
    /// How strongly the user is known.
    pub level: AuthenticationLevel,
    /// By what.
    pub factors: Factors,
    /// When that was proved, monotonic nanoseconds.
    pub authenticated_ns: u64,
    /// Since when the user was being asked for that proof, monotonic nanoseconds: what ended sessions since then ends this one.
    pub asked_ns: u64,
    /// Number of the last change of the registry that it was proved under.
    pub as_of: u64,
    /// Something to end it by from outside.
    pub tag: Option<&'a str>,
    /// Its bounds: [`Sessions::limits`](super::Sessions::limits).
    pub limits: Limits,
}

impl Begin<'_> {
    /// Whether a session of the same place is of the same kind, account and user.
    pub(super) fn is_of(&self, session: &Session) -> bool {
        session.kind == self.kind
            && *session.realm == *self.realm
            && *session.account == *self.account
            && session.user == self.user
            && session.acts_for(self.acting_for.as_ref())
    }
}

/// A secret that stands for a session: 43 characters of base64url. Given out once, kept nowhere.
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub(super) fn make() -> Result<Self, Refusal> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Refusal::SessionUnavailable)?;
        let text = URL_SAFE_NO_PAD.encode(bytes);
        bytes.zeroize();
        Ok(Self(Zeroizing::new(text)))
    }

    /// As it is given out.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a presented secret stands for.
#[derive(Debug, Clone)]
pub enum Found {
    /// A session of this peer.
    Live(Arc<Session>),
    /// A session of another device, over or not.
    Stolen(Arc<Session>),
    /// A session of this peer that is over.
    Over(Reason),
    /// Nobody: the backend gave it to this peer, who has not logged in.
    Given,
    /// Nothing.
    Unknown,
}
