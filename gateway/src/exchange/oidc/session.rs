//! Sessions that a provider vouches for.

use std::sync::Arc;

use gateway_audit::record::SessionEvent;
use policy::Refusal;
use policy::oidc::Told;
use policy::session::{Factors, Kind, Reason};

use super::{is_of, monotonic_of};
use crate::clock::Reading;
use crate::exchange::account::Asked;
use crate::exchange::trail::Trail;
use crate::oidc::Provider;
use crate::session::{Begin, Secret, Session, vouched};

/// A login that the provider has vouched for.
pub(super) struct Login<'a> {
    pub(super) told: &'a Told,
    pub(super) token: &'a str,
    /// When the browser was sent to the provider, monotonic nanoseconds.
    pub(super) asked_ns: u64,
    /// The session that was to be raised.
    pub(super) raises: Option<Arc<Session>>,
    /// The one that the browser came with.
    pub(super) old: Option<Arc<Session>>,
    pub(super) reading: &'a Reading,
}

/// Raises the session that was to be, or begins one in place of what the browser came with. Either way the secret is a new one: what
/// was known before the login is worth nothing after it.
///
/// # Errors
/// [`Refusal::SessionUnavailable`]; those of the registry where the user may not be here.
pub(super) async fn begin(
    asked: &Asked<'_>,
    provider: &Provider,
    login: Login<'_>,
    trail: &mut Trail,
) -> Result<Secret, Refusal> {
    let Login { told, token, asked_ns, raises, old, reading } = login;
    let (connection, party) = (asked.connection, &asked.subject.party);
    let (sessions, logins) = (connection.worker.sessions(), connection.worker.oidc());
    let device = party.device().ok_or(Refusal::RouteUnknown)?;
    // The registry may have changed while the provider was asked.
    let snapshot = connection.worker.snapshot();
    let user = snapshot.directory.user_at(device, &told.said.user, told.said.level)?;
    let authenticated_ns = monotonic_of(told.authenticated_ns, reading);
    let factors = told.factors.with(Factors::DEVICE);
    let tag = vouched(&provider.config.rules().issuer, &told.subject, told.session.as_deref());
    let is_same = |session: &Arc<Session>| {
        session.ended().is_none()
            && is_of(session, provider.config.name())
            && session.user.as_ref() == Some(&told.said.user)
            && session.tag.as_deref() == Some(&*tag)
            && old.as_ref().is_some_and(|old| Arc::ptr_eq(old, session))
    };
    if let Some(session) = raises.filter(is_same) {
        let secret = sessions.rotate(&session)?;
        sessions.raise(&session, told.said.level, factors, authenticated_ns);
        logins.hints().keep(&session, token);
        trail.tells_session(session, SessionEvent::Raised, None);
        return Ok(secret);
    }
    sessions.can_begin()?;
    if let Some(old) = old {
        logins.hints().take(&old);
        sessions.end(&old, Reason::Replaced).wait().await;
    }
    let begin = Begin {
        kind: Kind::Oidc,
        realm: provider.config.name(),
        party,
        user: Some(told.said.user.clone()),
        account: told.said.user.as_str(),
        acting_for: None,
        level: told.said.level,
        factors,
        authenticated_ns,
        asked_ns,
        // What ended the user's sessions while the provider was asked ends this one as well.
        as_of: asked.snapshot.directory.version(),
        tag: Some(&tag),
        limits: sessions.limits(party.site(), &user.roles),
    };
    let (secret, session) = sessions.begin(&begin)?;
    logins.hints().keep(&session, token);
    trail.begins_session(session);
    Ok(secret)
}
