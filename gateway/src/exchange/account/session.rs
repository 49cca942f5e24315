//! Sessions of the gateway's own accounts: begun by a login, carried by a cookie, ended by a log-out.

use std::rc::Rc;
use std::sync::Arc;

use gateway_audit::record::SessionEvent;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue, Request};
use policy::account::Proved;
use policy::session::cookie::{self, without};
use policy::session::{Factors, Kind, Reason};
use policy::{AuthenticationLevel, Refusal, Subject, UserName};

use super::{Asked, answer};
use crate::accounts::{BROWSER_COOKIE, OWN_COOKIES};
use crate::body::RequestBody;
use crate::clock::Clock as _;
use crate::exchange::session::{carry, stolen};
use crate::exchange::trail::Trail;
use crate::listen::Connection;
use crate::session::{Acting, Begin, Found, Secret, Session};
use crate::snapshot::Snapshot;
use crate::store::UserId;

/// The realm of their sessions.
const REALM: &str = "local";

/// A login that has proved all that is asked.
pub(super) struct Login<'a> {
    pub(super) user: &'a UserId,
    pub(super) level: AuthenticationLevel,
    pub(super) proved: Proved,
    /// Number of the registry's last change when the account was read.
    pub(super) as_of: u64,
    /// The session that the browser came with.
    pub(super) old: Option<&'a Arc<Session>>,
}

/// The session that a request's cookie stands for, if that is alive and this device's.
///
/// # Errors
/// [`Refusal::SessionAmbiguous`]; [`Refusal::SessionStolen`] if it is another device's: then the answer has the browser forget it, or
/// a terminal that got another name would be refused for as long as the session is known.
pub(in crate::exchange) fn find(
    connection: &Connection,
    subject: &Subject,
    headers: &HeaderMap,
    trail: &mut Trail,
) -> Result<Option<Arc<Session>>, Refusal> {
    if !headers.contains_key(COOKIE) {
        return Ok(None);
    }
    let fields = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let Some(secret) = cookie::find(fields, answer::SESSION_COOKIE)?.filter(|secret| !secret.is_empty()) else {
        return Ok(None);
    };
    let local = [(Kind::Local, REALM)].into_iter().filter(|_| connection.listener.login_page);
    let elsewhere = connection.listener.oidc.iter().map(|provider| (Kind::Oidc, provider.as_str()));
    for (kind, realm) in local.chain(elsewhere) {
        match connection.worker.sessions().find(kind, realm, &secret, &subject.party) {
            Found::Live(session) => return Ok(Some(session)),
            Found::Stolen(session) => {
                drop(stolen(connection, &session, trail));
                trail.forgets_cookies();
                return Err(Refusal::SessionStolen);
            }
            Found::Over(_) | Found::Given | Found::Unknown => {}
        }
    }
    Ok(None)
}

/// What cookies of ours a request for a backend comes with.
#[derive(Default)]
pub(in crate::exchange) struct Brought {
    /// The session.
    pub(in crate::exchange) session: Option<Arc<Session>>,
    /// The name of a browser that is at a provider already, in another tab.
    pub(in crate::exchange) browser: Option<String>,
}

/// The session of ours that a request for a backend comes with, if any. The cookies of ours go to no backend.
///
/// # Errors
/// As [`find`]; [`Refusal::SessionAmbiguous`] as well for a browser with two names.
pub(in crate::exchange) fn of_request(
    connection: &Connection,
    subject: &Subject,
    request: &mut Request<RequestBody>,
    trail: &mut Trail,
) -> Result<Brought, Refusal> {
    let mut brought = Brought::default();
    if !request.headers().contains_key(COOKIE) {
        return Ok(brought);
    }
    // Browsers send a host's cookies to all of its ports: those of the other listeners are ours as well.
    if connection.listener.has_pages() {
        brought.session = find(connection, subject, request.headers(), trail)?;
    }
    if !connection.listener.oidc.is_empty() {
        brought.browser = super::forms::cookie(request.headers(), BROWSER_COOKIE)?;
    }
    strip(request.headers_mut());
    Ok(brought)
}

/// Makes a request part of a session of ours. `asks` is who asks by the device alone, and who asks by a session of the backend's as
/// well: where both name a user, it is the same one, and ours says how strongly that is known.
///
/// # Errors
/// [`Refusal::SessionAmbiguous`] if the backend's session is another user's; those of [`carry`].
pub(in crate::exchange) fn carry_own(
    connection: &Rc<Connection>,
    snapshot: &Snapshot,
    session: &Arc<Session>,
    asks: (&Arc<Subject>, &Arc<Subject>),
    trail: &mut Trail,
) -> Result<Arc<Subject>, Refusal> {
    let (device, learnt) = asks;
    let is_other = !Arc::ptr_eq(device, learnt) && learnt.user() != session.user.as_ref();
    if is_other {
        return Err(Refusal::SessionAmbiguous);
    }
    carry(connection, snapshot, session, device, trail)
}

fn strip(headers: &mut HeaderMap) {
    let is_ours = |value: &HeaderValue| memchr::memmem::find(value.as_bytes(), b"__Host-sekisho").is_some();
    if !headers.get_all(COOKIE).iter().any(is_ours) {
        return;
    }
    let fields: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for field in fields {
        let rest = OWN_COOKIES.iter().try_fold(field.as_bytes().to_vec(), |rest, name| without(&rest, name));
        if let Some(Ok(mut rest)) = rest.map(|rest| HeaderValue::from_bytes(&rest)) {
            rest.set_sensitive(field.is_sensitive());
            headers.append(COOKIE, rest);
        }
    }
}

/// Begins the session of a login, in place of the one that the browser came with: a secret that was known before the login is worth
/// nothing after it.
///
/// # Errors
/// [`Refusal::SessionUnavailable`]; those of the registry where the user may not be here.
pub(super) async fn begin(
    asked: &Asked<'_>,
    login: &Login<'_>,
    trail: &mut Trail,
) -> Result<(Secret, Arc<Session>), Refusal> {
    let (connection, party) = (asked.connection, &asked.subject.party);
    let sessions = connection.worker.sessions();
    let device = party.device().ok_or(Refusal::RouteUnknown)?;
    let user = asked.snapshot.directory.user_at(device, &login.user.user, login.level)?;
    if let Some(old) = login.old {
        sessions.can_begin()?;
        sessions.end(old, Reason::Replaced).wait().await;
    }
    let begin = Begin {
        as_of: login.as_of,
        kind: Kind::Local,
        realm: REALM,
        party,
        user: Some(login.user.user.clone()),
        account: login.user.user.as_str(),
        acting_for: None,
        level: login.level,
        factors: factors(login.proved),
        authenticated_ns: connection.worker.clock.monotonic_ns(),
        asked_ns: trail.begun().monotonic_ns,
        tag: None,
        limits: sessions.limits(party.site(), &user.roles),
    };
    let (secret, session) = sessions.begin(&begin)?;
    trail.begins_session(Arc::clone(&session));
    Ok((secret, session))
}

/// Ends a session whose account has changed since it was proved. Nobody has its secret.
pub(super) fn revoke(connection: &Connection, session: &Arc<Session>) {
    drop(connection.worker.sessions().end(session, Reason::Revoked));
}

fn factors(proved: Proved) -> Factors {
    proved.second.map_or(Factors::PASSWORD, |second| Factors::PASSWORD.with(second))
}

/// Raises the session of a user who has proved anew who they are: the same session under another secret.
///
/// # Errors
/// [`Refusal::SessionUnavailable`]; those of the registry where the user may not be here.
pub(super) fn raise(
    asked: &Asked<'_>,
    login: &Login<'_>,
    session: &Arc<Session>,
    trail: &mut Trail,
) -> Result<Secret, Refusal> {
    let (connection, party) = (asked.connection, &asked.subject.party);
    let device = party.device().ok_or(Refusal::RouteUnknown)?;
    asked.snapshot.directory.user_at(device, &login.user.user, login.level)?;
    let sessions = connection.worker.sessions();
    let secret = sessions.rotate(session)?;
    sessions.raise(session, login.level, factors(login.proved), connection.worker.clock.monotonic_ns());
    trail.tells_session(Arc::clone(session), SessionEvent::Raised, None);
    Ok(secret)
}

/// From here on the user of a session acts for somebody, or for nobody: the same session under another secret.
///
/// # Errors
/// [`Refusal::SessionUnavailable`]; [`Refusal::ActingNotGranted`].
pub(super) fn act(
    asked: &Asked<'_>,
    session: &Arc<Session>,
    acts_for: Option<UserName>,
    trail: &mut Trail,
) -> Result<Secret, Refusal> {
    let connection = asked.connection;
    let (site, user) = asked.subject.site().zip(session.user.as_ref()).ok_or(Refusal::ActingNotGranted)?;
    let acting = match acts_for {
        Some(acts_for) => {
            let directory = &asked.snapshot.directory;
            let (_, until_s) = directory.acting_for(site, user, &acts_for, trail.begun().unix_ns)?;
            Some(Acting { user: acts_for, until_s })
        }
        None => None,
    };
    let sessions = connection.worker.sessions();
    let secret = sessions.rotate(session)?;
    let before = session.acting_for().map(|acting| acting.user.clone());
    let event = if acting.is_some() { SessionEvent::ActsFor } else { SessionEvent::ActsNoMore };
    let told = acting.as_ref().map(|acting| acting.user.clone()).or(before);
    sessions.act(session, acting);
    trail.tells_session(Arc::clone(session), event, told);
    Ok(secret)
}

/// Ends a session whose user logs out: once this returns, the store has it.
///
/// # Errors
/// [`Refusal::SessionUnavailable`] if it cannot be put there; it has ended here all the same.
pub(super) async fn end(connection: &Connection, session: &Arc<Session>) -> Result<(), Refusal> {
    if connection.worker.sessions().end(session, Reason::LoggedOut).wait().await {
        Ok(())
    } else {
        Err(Refusal::SessionUnavailable)
    }
}
