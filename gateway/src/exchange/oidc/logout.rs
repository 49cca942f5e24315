//! Logging out here and at the provider (OpenID Connect RP-Initiated Logout 1.0).

use std::sync::Arc;

use http::{HeaderMap, Request};
use policy::Refusal;
use policy::oidc::{end_session_url, origin_of as origin_of_address};
use policy::session::Reason;
use policy::target::CanonicalTarget;

use super::{BROWSER_COOKIE, known_as, page_of, place};
use crate::accounts::page::{Alert, LOGIN, Page};
use crate::body::RequestBody;
use crate::clock::Clock as _;
use crate::exchange::account::{Asked, Own, answer, forms};
use crate::exchange::trail::Trail;
use crate::oidc::{Flow, Provider, Purpose};
use crate::session::Session;

/// The provider of a session, if it is still there.
fn provider_of<'a>(asked: &'a Asked<'_>, session: &Session) -> Option<&'a Arc<Provider>> {
    asked.snapshot.provider(&session.realm)
}

/// The page of whoever is logged in: whose session it is, and how to end it.
///
/// # Errors
/// [`Refusal::RouteUnknown`] for whoever is no device.
pub(super) fn signed_in(asked: &Asked<'_>, session: &Session, request: &Request<RequestBody>) -> Result<Own, Refusal> {
    reply(asked, session, request.headers(), None)
}

fn reply(
    asked: &Asked<'_>,
    session: &Session,
    headers: &HeaderMap,
    alert: Option<(Alert, Refusal)>,
) -> Result<Own, Refusal> {
    let (worker, origin) = (&asked.connection.worker, place(asked)?.origin);
    let token = worker.oidc().tokens.make(worker.clock.monotonic_ns(), &origin);
    let acting = session.acting_for();
    let page = Page::SignedIn {
        user: &session.account,
        can_change: false,
        acting_for: acting.as_ref().map(|acting| acting.user.as_str()),
        may_act: false,
    };
    let reply = answer::Reply::new(&asked.snapshot.config.account, forms::language(headers), token, page);
    let reply = match alert {
        Some((alert, refusal)) => reply.alert(alert, refusal),
        None => reply,
    };
    // A browser asks whether the form may lead to where its answer sends it.
    let discovered = provider_of(asked, session).and_then(|provider| provider.issuer.discovered());
    let ends = discovered.as_ref().and_then(|discovered| discovered.metadata.end_session_endpoint.as_deref());
    Ok(match ends.and_then(origin_of_address) {
        Some(provider) => reply.own().leads_to(provider),
        None => reply.own(),
    })
}

/// POST of the log-out: the session is over here, and the browser goes on to the provider's log-out where there is one.
///
/// # Errors
/// [`Refusal::SessionUnavailable`] if the end cannot be stored; it is over here all the same. Those of a form that cannot be read.
pub(super) async fn log_out(
    asked: &Asked<'_>,
    session: &Arc<Session>,
    request: &mut Request<RequestBody>,
    trail: &mut Trail,
) -> Result<Own, Refusal> {
    let (worker, origin) = (&asked.connection.worker, place(asked)?.origin);
    let body = forms::body(request, trail).await?;
    let form = forms::read(&body)?;
    let (headers, now_ns) = (request.headers(), worker.clock.monotonic_ns());
    let is_ours = forms::is_from_here(headers, asked.authority)
        && form.get("csrf").is_some_and(|token| worker.oidc().tokens.knows(now_ns, &origin, token));
    if !is_ours {
        return reply(asked, session, headers, Some((Alert::Form, Refusal::LoginForm)));
    }
    let hint = worker.oidc().hints().take(session);
    let is_stored = worker.sessions().end(session, Reason::LoggedOut).wait().await;
    if !is_stored {
        return Err(Refusal::SessionUnavailable);
    }
    let own = match leave(asked, session, headers, hint.as_deref())? {
        Some(own) => own,
        None => signed_out(asked, headers),
    };
    Ok(own.clear(answer::SESSION_COOKIE))
}

/// On to the provider's log-out, if it has one.
fn leave(
    asked: &Asked<'_>,
    session: &Session,
    headers: &HeaderMap,
    hint: Option<&str>,
) -> Result<Option<Own>, Refusal> {
    let (worker, device) = (&asked.connection.worker, place(asked)?.origin);
    let Some(provider) = provider_of(asked, session) else { return Ok(None) };
    let Some(discovered) = provider.issuer.discovered() else { return Ok(None) };
    let Some(endpoint) = &discovered.metadata.end_session_endpoint else { return Ok(None) };
    // The session is over whatever name the browser knows the gateway by.
    let Ok(origin) = known_as(asked, provider) else { return Ok(None) };
    let config = &provider.config;
    let back = format!("{origin}{}", page_of(provider, "logged-out"));
    let flow = Flow { provider: Arc::clone(config.name()), origin, purpose: Purpose::Logout };
    let browser = forms::cookie(headers, BROWSER_COOKIE)?;
    let now_ns = worker.clock.monotonic_ns();
    let begun = worker.oidc().flows().begin(now_ns, config.login, (&device, browser.as_deref()), flow);
    let Ok(Some(begun)) = begun else { return Ok(None) };
    let url = end_session_url(endpoint, &config.client_id, hint, &back, &begun.state);
    Ok(Some(answer::see_other(&url).cookie_for_arrivals(BROWSER_COOKIE, &begun.browser)))
}

fn signed_out(asked: &Asked<'_>, headers: &HeaderMap) -> Own {
    let config = &asked.snapshot.config.account;
    answer::Reply::new(config, forms::language(headers), String::new(), Page::SignedOut).own()
}

/// GET of where the provider sends the browser after its log-out. Whoever did not log out here learns nothing.
///
/// # Errors
/// [`Refusal::SessionAmbiguous`] for a cookie that can be read in two ways.
pub(super) fn came_back(
    asked: &Asked<'_>,
    provider: &Provider,
    target: &CanonicalTarget<'_>,
    headers: &HeaderMap,
) -> Result<Own, Refusal> {
    let (worker, device) = (&asked.connection.worker, place(asked)?.origin);
    let browser = forms::cookie(headers, BROWSER_COOKIE)?;
    let mut states = target.query_pairs().filter(|(name, _)| name == "state").map(|(_, value)| value);
    let state = match (states.next(), states.next()) {
        (Some(state), None) => state,
        _ => return Ok(answer::see_other(LOGIN)),
    };
    let flow = worker.oidc().flows().take(worker.clock.monotonic_ns(), (&device, browser.as_deref()), &state);
    let is_ours =
        flow.is_some_and(|flow| flow.provider == *provider.config.name() && matches!(flow.purpose, Purpose::Logout));
    Ok(if is_ours { signed_out(asked, headers) } else { answer::see_other(LOGIN) })
}
