//! Step 2, the user: which session a request is part of, and what its answer does to that session (R10, C14).
//!
//! On a route that observes sessions the secret is found in one reading and looked up by one keyed hash. A session of this device
//! carries its user into policy and record. Another device's is refused and ended. What is over, or was never given to this
//! device, does not reach the backend, unless the route says otherwise. Routes that observe none are not looked at.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use gateway_audit::record::SessionEvent;
use http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Request, Response};
use policy::login::{AccountName, AccountPlace, Login};
use policy::session::set_cookie::{Fate, fate};
use policy::session::{Factors, Kind, Observed, Reason, Unknown, cookie};
use policy::target::form_pairs;
use policy::{AuthenticationLevel, Party, Refusal, Subject, UserName};
use smallvec::SmallVec;
use zeroize::Zeroizing;

use super::trail::Trail;
use crate::body::RequestBody;
use crate::listen::Connection;
use crate::session::{Begin, Found, Session, Stored, note};
use crate::snapshot::Snapshot;
use crate::upstream::UpstreamBody;

/// What a request of an observing route came with.
pub(super) struct Seen {
    observed: Arc<Observed>,
    /// The session it is part of.
    session: Option<Arc<Session>>,
    /// Secrets that the backend sees, kept where one may become a session's.
    presented: SmallVec<[Zeroizing<Vec<u8>>; 1]>,
    /// It logs out.
    ends: bool,
    /// It may log in.
    may_begin: bool,
}

/// Finds the session of a request, and takes out of it what the backend must not see. Returns who asks. `route` is what it
/// observes, and whether its requests may log in.
///
/// # Errors
/// [`Refusal::SessionAmbiguous`], [`Refusal::SessionStolen`], [`Refusal::SessionRequired`], or why the registry takes the
/// session's user no more.
pub(super) async fn identify(
    connection: &Rc<Connection>,
    snapshot: &Snapshot,
    route: (&Arc<Observed>, bool),
    subject: Arc<Subject>,
    request: &mut Request<RequestBody>,
    trail: &mut Trail,
) -> Result<(Arc<Subject>, Seen), Refusal> {
    let (observed, may_begin) = route;
    let ends = observed.ends.iter().any(|method| method == request.method().as_str());
    let mut seen = Seen { observed: Arc::clone(observed), session: None, presented: SmallVec::new(), ends, may_begin };
    let mut removed: SmallVec<[&str; 1]> = SmallVec::new();
    for name in &observed.cookies[..] {
        let fields = request.headers().get_all(COOKIE).iter().map(HeaderValue::as_bytes);
        if let Some(secret) = cookie::find(fields, name)? {
            let keeps = seen.look(connection, &subject.party, &secret, trail).await?;
            if !keeps {
                removed.push(name);
            }
        }
    }
    for name in &observed.foreign[..] {
        let fields = request.headers().get_all(COOKIE).iter().map(HeaderValue::as_bytes);
        if cookie::find(fields, name)?.is_some() {
            removed.push(name);
        }
    }
    for name in removed {
        take_out(request.headers_mut(), name);
    }
    if observed.bearer
        && let Some(token) = bearer(request)?
        && !seen.look(connection, &subject.party, token.as_bytes(), trail).await?
    {
        request.headers_mut().remove(AUTHORIZATION);
    }
    let subject = match seen.session.clone() {
        Some(session) => carry(connection, snapshot, &session, &subject, trail)?,
        None if observed.require => return Err(Refusal::SessionRequired),
        None => subject,
    };
    Ok((subject, seen))
}

/// A token of `Authorization: Bearer` (RFC 6750). What some backend would take for one all the same is refused: another scheme
/// but `Basic`, other blanks, the parameter of the query.
fn bearer(request: &Request<RequestBody>) -> Result<Option<Zeroizing<String>>, Refusal> {
    let query = request.uri().query().unwrap_or_default();
    if form_pairs(query.as_bytes()).any(|(name, _)| name.eq_ignore_ascii_case("access_token")) {
        return Err(Refusal::SessionAmbiguous);
    }
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value,
        (Some(_), Some(_)) => return Err(Refusal::SessionAmbiguous),
    };
    let text = value.to_str().map_err(|_| Refusal::SessionAmbiguous)?.trim_matches(' ');
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Ok(None);
    }
    let token = token.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.contains([' ', ',', '\t']) {
        return Err(Refusal::SessionAmbiguous);
    }
    Ok(Some(Zeroizing::new(token.to_owned())))
}

/// Removes the cookies of that name from a request.
fn take_out(headers: &mut HeaderMap, name: &str) {
    let fields: Vec<Option<HeaderValue>> = headers
        .get_all(COOKIE)
        .iter()
        .map(|field| HeaderValue::from_bytes(&cookie::without(field.as_bytes(), name)?).ok())
        .collect();
    headers.remove(COOKIE);
    for field in fields.into_iter().flatten() {
        headers.append(COOKIE, field);
    }
}

impl Seen {
    /// Looks a secret up. Returns whether the backend may see it.
    async fn look(
        &mut self,
        connection: &Connection,
        party: &Party,
        secret: &[u8],
        trail: &Trail,
    ) -> Result<bool, Refusal> {
        let sessions = connection.worker.sessions();
        let keeps = match sessions.find(Kind::Learnt, &self.observed.realm, secret, party) {
            Found::Live(session) => {
                if self.session.as_ref().is_some_and(|known| !Arc::ptr_eq(known, &session)) {
                    return Err(Refusal::SessionAmbiguous);
                }
                self.session = Some(session);
                true
            }
            Found::Stolen(session) => {
                // It is refused whatever becomes of this; the keeper says so where it cannot be stored, and goes on trying.
                let _ = stolen(connection, &session, trail).wait().await;
                return Err(Refusal::SessionStolen);
            }
            Found::Given => true,
            Found::Unknown => self.observed.unknown == Unknown::Forward,
            Found::Over(_) => false,
        };
        if keeps && self.may_begin {
            self.presented.push(Zeroizing::new(secret.to_vec()));
        }
        Ok(keeps)
    }

    /// Learns from an answer what became of the session; one that is no answer to a login that succeeded.
    ///
    /// # Errors
    /// [`Refusal::SessionUnavailable`] if it logs out, and a restart would not know of that.
    pub(super) async fn answered(
        self,
        response: &Response<UpstreamBody>,
        connection: &Connection,
        trail: &Trail,
    ) -> Result<(), Refusal> {
        let sessions = connection.worker.sessions();
        let now = trail.unix_seconds();
        let fates = || {
            let fields = || response.headers().get_all(SET_COOKIE).iter().map(HeaderValue::as_bytes);
            self.observed.cookies.iter().filter_map(move |name| fate(fields(), name, now))
        };
        let Some(session) = &self.session else {
            for fate in fates() {
                // Its next request without a login comes with it, and the backend expects that.
                if let (Fate::Set(secret), Some(party)) = (fate, trail.party()) {
                    sessions.give(&self.observed.realm, &secret, party);
                }
            }
            return Ok(());
        };
        let is_cleared = fates().any(|fate| fate == Fate::Cleared) && !fates().any(|fate| matches!(fate, Fate::Set(_)));
        if self.ends || is_cleared {
            // Whoever hears that they are logged out is, whatever happens to the gateway.
            let stored = sessions.end(session, Reason::LoggedOut);
            return if stored.wait().await { Ok(()) } else { Err(Refusal::SessionUnavailable) };
        }
        for fate in fates() {
            if let Fate::Set(secret) = fate {
                sessions.reissue(session, &secret);
            }
        }
        Ok(())
    }
}

/// Another device than its own presents a session: it ends, since somebody else knows its secret.
pub(super) fn stolen(connection: &Connection, session: &Arc<Session>, trail: &Trail) -> Stored {
    let ended = connection.worker.sessions().end(session, Reason::Stolen);
    connection.worker.metrics.sessions_stolen.inc();
    if connection.may_record(2 * 1024) {
        let acting = session.acting_for();
        let acting_for = acting.as_ref().map(|acting| &acting.user);
        let note = note(session, SessionEvent::Stolen, None, Some(trail.id()), acting_for);
        connection.worker.append_unwaited(&note);
    }
    ended
}

/// Makes a request part of a session: its user asks, its record says so, and it is cut when the session ends, or one that it was made
/// part of before.
///
/// # Errors
/// Why the registry takes the session's user no more.
pub(super) fn carry(
    connection: &Rc<Connection>,
    snapshot: &Snapshot,
    session: &Arc<Session>,
    subject: &Arc<Subject>,
    trail: &mut Trail,
) -> Result<Arc<Subject>, Refusal> {
    session.touch(trail.begun().monotonic_ns);
    let acting = session.acting_for();
    let beside = trail.carried().map(|carried| Arc::clone(&carried.session));
    trail.in_session(connection.worker.carries(session, beside, acting.clone()));
    let unix_ns = trail.begun().unix_ns;
    let subject = match (&subject.party, &session.user) {
        (Party::Device { device, .. }, Some(user)) => {
            let found = connection.subject_in(snapshot, session, (device, user), acting.as_ref(), unix_ns);
            if let (Err(Refusal::ActingNotGranted), Some(acting)) = (&found, &acting) {
                // The registry may have changed since the request began.
                let latest = connection.worker.snapshot();
                if latest.directory.acting_for(&device.site, user, &acting.user, unix_ns).is_err() {
                    connection.worker.sessions().revoke_acting(session, acting);
                }
            }
            found?
        }
        // Who proved a card is who asks, whatever a backend calls them.
        _ => Arc::clone(subject),
    };
    trail.asked_by(&subject);
    Ok(subject)
}

/// Which user of the registry logs in with an account, if any.
///
/// # Errors
/// [`Refusal::UserSuspended`] if it is one who may no more (R27).
pub(super) fn user_of(
    login: &Login,
    account: &AccountName,
    subject: &Subject,
    snapshot: &Snapshot,
) -> Result<Option<UserName>, Refusal> {
    let (Some(tie), Some(device)) = (&login.session, subject.device()) else { return Ok(None) };
    let Some(user) = tie.user(account) else { return Ok(None) };
    match snapshot.directory.user_at(device, &user, AuthenticationLevel::User) {
        Ok(_) => Ok(Some(user)),
        Err(Refusal::UserUnregistered) => {
            if tie.maps(account) {
                tracing::warn!(
                    realm = &*login.realm,
                    "`login.session.users` names a user who is not registered at this site"
                );
            }
            Ok(None)
        }
        Err(refusal) => Err(refusal),
    }
}

/// Ties the session that the answer to a right password begins to whoever gave it. A program that sends its
/// password with every request begins one, and goes on with it.
///
/// # Errors
/// [`Refusal::SessionUnavailable`] if none can begin.
pub(super) fn begin(
    login: &Login,
    account: &AccountName,
    user: Option<UserName>,
    seen: Option<Seen>,
    answer: (&HeaderMap, Option<&[u8]>),
    connection: &Connection,
    trail: &mut Trail,
) -> Result<(), Refusal> {
    let (Some(tie), Some(seen), Some(subject)) = (&login.session, seen, trail.subject()) else { return Ok(()) };
    let (headers, body) = answer;
    let now = trail.unix_seconds();
    let mut secrets: SmallVec<[Zeroizing<Vec<u8>>; 2]> = SmallVec::new();
    for name in &tie.cookies[..] {
        let fields = headers.get_all(SET_COOKIE).iter().map(HeaderValue::as_bytes);
        match fate(fields, name, now) {
            Some(Fate::Set(secret)) => secrets.push(Zeroizing::new(Cow::into_owned(secret))),
            Some(Fate::Unclear) => {
                tracing::warn!(
                    realm = &*login.realm,
                    "a login's answer sets its session's cookie in a way that has several readings"
                );
                return Ok(());
            }
            Some(Fate::Cleared) | None => {}
        }
    }
    if tie.token.is_some() {
        let token = body.and_then(|body| login.token(body));
        secrets.extend(token.map(|token| Zeroizing::new(token.into_bytes())));
    }
    if secrets.is_empty() {
        // The backend goes on with what was presented: from here on that is this device's.
        secrets.extend(seen.presented.iter().cloned());
    }
    let Some((first, rest)) = secrets.split_first() else {
        tracing::debug!(realm = &*login.realm, "a login succeeded, and its answer begins no session");
        return Ok(());
    };
    let sessions = connection.worker.sessions();
    let is_basic = matches!(login.place, AccountPlace::Basic);
    let is_same = |old: &Session| {
        *old.realm == *login.realm && *old.account == *account.as_str() && old.user == user && old.ended().is_none()
    };
    if let Some(old) = &seen.session {
        if is_basic && is_same(old) {
            for secret in &secrets {
                sessions.reissue(old, secret);
            }
            return Ok(());
        }
        drop(sessions.end(old, Reason::Replaced));
    }
    let (level, device) = match &subject.party {
        Party::Device { .. } => (AuthenticationLevel::User, Factors::DEVICE),
        Party::User { .. } | Party::Patient(_) => (subject.authentication_level, Factors::default()),
    };
    let snapshot = connection.worker.snapshot();
    let roles = match (&subject.party, &user) {
        (Party::Device { device, .. }, Some(user)) => {
            let found = snapshot.directory.user_at(device, user, level);
            found.map(|found| found.roles.to_vec()).unwrap_or_default()
        }
        _ => subject.roles.to_vec(),
    };
    let begin = Begin {
        kind: Kind::Learnt,
        realm: &login.realm,
        party: &subject.party,
        user,
        account: account.as_str(),
        acting_for: None,
        level,
        factors: Factors::PASSWORD.with(device),
        authenticated_ns: trail.begun().monotonic_ns,
        asked_ns: trail.begun().monotonic_ns,
        as_of: snapshot.directory.version(),
        tag: None,
        limits: sessions.limits(subject.site(), &roles),
    };
    let (session, begins) =
        if is_basic { sessions.go_on(first, &begin)? } else { (sessions.learn(first, &begin)?, true) };
    for secret in rest {
        sessions.reissue(&session, secret);
    }
    if begins {
        trail.begins_session(session);
    }
    Ok(())
}
