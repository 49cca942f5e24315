//! Logins at OpenID providers (R1, R9, C14): where a browser without a session is sent, what it comes back with, and how it logs out.
//!
//! A login is begun by a route or by the provider's page below `/.sekisho/oidc/`, and ends at the provider's callback there: for the
//! device that began it, for the browser that has its cookie, once, and in time. What the provider says of the user is judged by
//! `policy::oidc`; whether that user may be here, the registry says.

mod logout;
mod session;

use std::sync::Arc;

use gateway_audit::record::LoginOutcome;
use http::header::ACCEPT;
use http::{HeaderMap, Method, Request};
use policy::account::form::local_target;
use policy::login::{AccountName, Attempt, Origin, Spelling};
use policy::oidc::{Authorization, Callback, Came, Expected, Grant, Told, authorization_url, judge};
use policy::route::OidcDefinition;
use policy::session::Kind;
use policy::target::CanonicalTarget;
use policy::token::TokenType;
use policy::{Party, Refusal, SiteName};

use super::account::{self, Asked, Brought, Own, answer, forms};
use super::trail::Trail;
pub(super) use crate::accounts::BROWSER_COOKIE;
use crate::accounts::page::{Alert, LOGIN, LOGOUT, Page, STYLE};
use crate::body::RequestBody;
use crate::clock::{Clock as _, Reading};
use crate::listen::network_of;
use crate::login::origin_of;
use crate::oidc::{Failure, Flow, PAGES, Provider, Purpose, Secrets};
use crate::session::Session;
use crate::token::now_of;

/// How long a browser is asked to wait for a provider that does not answer, seconds.
const RETRY_S: u64 = 10;

/// Whether a session is one of that provider's.
pub(super) fn is_of(session: &Session, provider: &str) -> bool {
    session.kind == Kind::Oidc && *session.realm == *provider
}

/// What a request without a session gets on a route whose users log in at a provider: a browser is sent there.
///
/// # Errors
/// [`Refusal::SessionRequired`] for whoever is no browser on its way to a page, and where the listener does not serve the provider.
pub(super) async fn require(
    asked: &Asked<'_>,
    rules: &OidcDefinition,
    brought: &Brought,
    target: &CanonicalTarget<'_>,
    request: &Request<RequestBody>,
) -> Result<Own, Refusal> {
    let is_served = asked.connection.listener.oidc.contains(&rules.provider);
    if !is_served || !is_navigation(request.method(), request.headers()) {
        return Err(Refusal::SessionRequired);
    }
    let provider = asked.snapshot.provider(&rules.provider).ok_or(Refusal::SessionRequired)?;
    let wanted = match target.query() {
        Some(query) => format!("{}?{query}", target.path()),
        None => target.path().to_owned(),
    };
    let target = local_target(&wanted).map(str::to_owned);
    let own = if may_exchange(asked, brought.session.as_ref(), request.headers()) {
        authorize(asked, provider, target, None, (request.headers(), brought.browser.as_deref())).await?
    } else {
        ask(asked, provider, target.as_deref(), request.headers())?
    };
    Ok(Own { reason: own.reason.or(Some(Refusal::SessionRequired)), ..own })
}

/// Whether a request is a browser's that goes to a page: it can be sent elsewhere, and its user sees where. What browsers say of
/// themselves (Fetch Metadata) must not contradict it: a picture or a frame logs nobody in.
fn is_navigation(method: &Method, headers: &HeaderMap) -> bool {
    let takes_pages = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(|accepted| {
        accepted.split(',').any(|range| {
            let kind = range.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("text/html") || kind.eq_ignore_ascii_case("application/xhtml+xml")
        })
    });
    let says = |name: &str, wanted: &str| headers.get(name).is_none_or(|value| value == wanted);
    *method == Method::GET && takes_pages && says("sec-fetch-mode", "navigate") && says("sec-fetch-dest", "document")
}

/// Whether a login at a provider may begin without a word: whoever is signed in there takes the place of whoever is logged in here, and
/// that a link or a form of another site must not bring about. Browsers say whose wish a request is (Fetch Metadata); what says nothing
/// counts as another's. Where nobody can be logged in, nobody's place is taken. A session of our own accounts is not seen in what another
/// site begins, since its cookie is strict.
fn may_exchange(asked: &Asked<'_>, session: Option<&Arc<Session>>, headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    let is_readers = match (sites.next(), sites.next()) {
        (Some(site), None) => site == "same-origin" || site == "none",
        _ => false,
    };
    is_readers || (session.is_none() && !asked.connection.listener.login_page)
}

/// The page that asks the reader whether to log in at a provider.
fn ask(asked: &Asked<'_>, provider: &Provider, target: Option<&str>, headers: &HeaderMap) -> Result<Own, Refusal> {
    let (worker, origin) = (&asked.connection.worker, place(asked)?.origin);
    let token = worker.oidc().tokens.make(worker.clock.monotonic_ns(), &origin);
    let again = page_of(provider, "login");
    let page = Page::Elsewhere { again: &again, asks: true };
    let reply = answer::Reply::new(&asked.snapshot.config.account, forms::language(headers), token, page);
    Ok(reply.goal(answer::Wanted { target, level: None }).own())
}

/// Answers what the pages of providers are asked, and what those of accounts are asked about a provider's session. `None`: it is
/// about something else.
///
/// # Errors
/// The refusal of what is no page, or cannot be read.
pub(super) async fn serve(
    asked: &Asked<'_>,
    target: &CanonicalTarget<'_>,
    request: &mut Request<RequestBody>,
    trail: &mut Trail,
) -> Result<Option<Own>, Refusal> {
    let listener = &asked.connection.listener;
    if listener.oidc.is_empty() {
        return Ok(None);
    }
    let is_get = *request.method() == Method::GET;
    if let Some(page) = target.path().strip_prefix(PAGES) {
        // What comes back in a query is worth something until it is used.
        trail.hides_query();
        let (name, page) = page.split_once('/').ok_or(Refusal::RouteUnknown)?;
        let is_served = listener.oidc.iter().any(|served| served == name);
        let provider = asked.snapshot.provider(name).filter(|_| is_served).ok_or(Refusal::RouteUnknown)?;
        if !["login", "callback", "logged-out"].contains(&page) {
            return Err(Refusal::RouteUnknown);
        }
        if !is_get {
            return Err(Refusal::MethodNotAllowed);
        }
        return match page {
            "login" => {
                let forms::Query { target, go, .. } = forms::query_of(target)?;
                // Whoever is in already comes since something asks for more: the session is raised, and the user proves it anew.
                let session = account::find(asked.connection, asked.subject, request.headers(), trail)?;
                let (now_ns, origin) = (asked.connection.worker.clock.monotonic_ns(), place(asked)?.origin);
                let wants =
                    go.is_some_and(|token| asked.connection.worker.oidc().tokens.knows(now_ns, &origin, &token));
                let is_readers = wants || may_exchange(asked, session.as_ref(), request.headers());
                let raises = session.filter(|session| is_of(session, name));
                if !is_readers && raises.is_none() {
                    return ask(asked, provider, target.as_deref(), request.headers()).map(Some);
                }
                let browser = forms::cookie(request.headers(), BROWSER_COOKIE)?;
                let said = (request.headers(), browser.as_deref());
                authorize(asked, provider, target, raises, said).await.map(Some)
            }
            "callback" => {
                Back { asked, provider, place: place(asked)? }.come(target, request.headers(), trail).await.map(Some)
            }
            _ => logout::came_back(asked, provider, target, request.headers()).map(Some),
        };
    }
    if target.path() == STYLE {
        return Ok(None);
    }
    let session = account::find(asked.connection, asked.subject, request.headers(), trail)?;
    let session = session.filter(|session| session.kind == Kind::Oidc);
    match (session, target.path()) {
        (Some(session), LOGIN) if is_get && target.query().is_none() => {
            Ok(Some(logout::signed_in(asked, &session, request)?))
        }
        (Some(session), LOGOUT) if *request.method() == Method::POST => {
            logout::log_out(asked, &session, request, trail).await.map(Some)
        }
        // Where nobody logs in to the gateway itself, there is one place to log in at.
        (None, LOGIN) if is_get && !listener.login_page => {
            let first = listener.oidc.first().ok_or(Refusal::RouteUnknown)?;
            let query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
            Ok(Some(answer::see_other(&format!("{PAGES}{first}/login{query}"))))
        }
        _ if !listener.login_page => Err(Refusal::RouteUnknown),
        _ => Ok(None),
    }
}

/// Where a login happens.
struct Place {
    site: SiteName,
    origin: Origin,
}

fn place(asked: &Asked<'_>) -> Result<Place, Refusal> {
    let Party::Device { device, .. } = &asked.subject.party else { return Err(Refusal::RouteUnknown) };
    Ok(Place { site: device.site.clone(), origin: origin_of(&asked.subject.party) })
}

/// The gateway as the browser knows it, if the provider knows it so too.
fn known_as(asked: &Asked<'_>, provider: &Provider) -> Result<String, Refusal> {
    let authority = asked.authority.to_str().map_err(|_| Refusal::Misdirected)?.to_ascii_lowercase();
    let origin = format!("https://{}", authority.strip_suffix(":443").unwrap_or(&authority));
    if provider.config.origins.contains(&origin) {
        return Ok(origin);
    }
    tracing::warn!(provider = %provider.config.name(), %origin, "nobody can log in there: `origins` of the provider lacks it");
    Err(Refusal::Misdirected)
}

fn page_of(provider: &Provider, page: &str) -> String {
    format!("{PAGES}{}/{page}", provider.config.name())
}

/// Sends a browser to a provider, to log in, and back to `target`, a path of this host. The session that it `raises` is raised should
/// the same user come back, who proves it anew for that, however short ago that was; otherwise it is replaced. `browser` is the name
/// that the browser has already: it may be at a provider in another tab.
///
/// # Errors
/// [`Refusal::Misdirected`] where the provider does not know the gateway by this name; [`Refusal::LoginUnavailable`] without room.
pub(super) async fn authorize(
    asked: &Asked<'_>,
    provider: &Arc<Provider>,
    target: Option<String>,
    raises: Option<Arc<Session>>,
    (headers, browser): (&HeaderMap, Option<&str>),
) -> Result<Own, Refusal> {
    let Place { origin: device, .. } = place(asked)?;
    let origin = known_as(asked, provider)?;
    let Some(discovered) = provider.discovered().await else {
        return Ok(unavailable(asked, provider, target.as_deref(), headers));
    };
    let config = &provider.config;
    let max_age_s = if raises.is_some() { 0 } else { config.max_age_s };
    let reading = asked.connection.worker.clock.now();
    let age_ns = i64::try_from(max_age_s.saturating_mul(1_000_000_000)).unwrap_or(i64::MAX);
    let secrets = Secrets::make().map_err(|_| Refusal::InternalError)?;
    let redirect_uri = format!("{origin}{}", page_of(provider, "callback"));
    let purpose = Purpose::Login {
        secrets: secrets.clone(),
        redirect_uri: redirect_uri.clone(),
        asked_ns: reading.monotonic_ns,
        earliest_ns: reading.unix_ns.saturating_sub(age_ns),
        target,
        raises,
    };
    let flow = Flow { provider: Arc::clone(config.name()), origin, purpose };
    let begun = {
        let mut flows = asked.connection.worker.oidc().flows();
        flows.begin(reading.monotonic_ns, config.login, (&device, browser), flow)
    };
    let begun = begun.map_err(|_| Refusal::InternalError)?.ok_or(Refusal::LoginUnavailable)?;
    let url = authorization_url(
        &discovered.metadata.authorization_endpoint,
        &Authorization {
            client_id: &config.client_id,
            redirect_uri: &redirect_uri,
            scope: &config.scope,
            state: &begun.state,
            nonce: &secrets.nonce,
            verifier: &secrets.verifier,
            max_age_s,
            acr_values: &config.acr_values,
        },
    );
    Ok(answer::see_other(&url).cookie_for_arrivals(BROWSER_COOKIE, &begun.browser))
}

/// The page of a provider that cannot be asked.
fn unavailable(asked: &Asked<'_>, provider: &Provider, target: Option<&str>, headers: &HeaderMap) -> Own {
    refused(asked, provider, target, headers, (Alert::Provider, Refusal::ProviderUnavailable))
}

/// A page that says why there is no session, and where to begin anew.
fn refused(
    asked: &Asked<'_>,
    provider: &Provider,
    target: Option<&str>,
    headers: &HeaderMap,
    (alert, refusal): (Alert, Refusal),
) -> Own {
    let again = page_of(provider, "login");
    let config = &asked.snapshot.config.account;
    let page = Page::Elsewhere { again: &again, asks: false };
    let reply = answer::Reply::new(config, forms::language(headers), String::new(), page)
        .goal(answer::Wanted { target, level: None });
    let reply = reply.alert(alert, refusal);
    let reply = if refusal == Refusal::ProviderUnavailable { reply.retry_after(RETRY_S) } else { reply };
    reply.own()
}

/// A browser that comes back from a provider.
struct Back<'a> {
    asked: &'a Asked<'a>,
    provider: &'a Arc<Provider>,
    place: Place,
}

/// What it was sent to the provider with.
struct Sent {
    secrets: Secrets,
    redirect_uri: String,
    asked_ns: u64,
    earliest_ns: i64,
    target: Option<String>,
    raises: Option<Arc<Session>>,
}

impl Back<'_> {
    async fn come(self, target: &CanonicalTarget<'_>, headers: &HeaderMap, trail: &mut Trail) -> Result<Own, Refusal> {
        let (asked, provider) = (self.asked, self.provider);
        let back = Callback::read(target.query_pairs())?;
        let worker = &asked.connection.worker;
        let again = |target: Option<&str>, alert, refusal| refused(asked, provider, target, headers, (alert, refusal));
        let over = || again(None, Alert::Over, Refusal::LoginCallback);
        let browser = forms::cookie(headers, BROWSER_COOKIE)?;
        let now_ns = worker.clock.monotonic_ns();
        let flow = worker.oidc().flows().take(now_ns, (&self.place.origin, browser.as_deref()), &back.state);
        let Some(flow) = flow.filter(|flow| flow.provider == *provider.config.name()) else { return Ok(over()) };
        let Purpose::Login { secrets, redirect_uri, asked_ns, earliest_ns, target, raises } = flow.purpose else {
            return Ok(over());
        };
        let sent = Sent { secrets, redirect_uri, asked_ns, earliest_ns, target, raises };
        let wanted = sent.target.as_deref();
        let rules = provider.config.rules();
        let names_issuer = provider.issuer.discovered().is_some_and(|discovered| discovered.metadata.names_issuer);
        if known_as(asked, provider)? != flow.origin || !back.is_of(&rules.issuer, names_issuer) {
            tracing::warn!(provider = &*rules.name, "an answer that another provider made was taken for this one's");
            return Ok(over());
        }
        match back.came {
            Came::Code => {}
            Came::Denied => return Ok(again(wanted, Alert::Denied, Refusal::LoginFailed)),
            Came::Unavailable | Came::Refused => {
                let error = back.value.escape_debug();
                tracing::warn!(provider = &*rules.name, %error, "a provider sends a browser back without a login");
                return Ok(unavailable(asked, provider, wanted, headers));
            }
        }
        if !worker.logins().admits(&self.attempt("-")?) {
            return Err(Refusal::RateLimited);
        }
        if worker.is_draining() {
            return Err(Refusal::Draining);
        }
        let reading = worker.clock.now();
        let grant = Grant {
            code: &back.value,
            redirect_uri: &sent.redirect_uri,
            verifier: &sent.secrets.verifier,
            assertion: None,
        };
        let token = match provider.exchange(grant, reading.unix_ns / 1_000_000_000).await {
            Ok(token) => token,
            Err(Failure::Worthless) => return Ok(again(wanted, Alert::Over, Refusal::LoginFailed)),
            Err(Failure::Unavailable) => return Ok(unavailable(asked, provider, wanted, headers)),
        };
        let told = match self.told(&token, &sent).await {
            Ok(told) => told,
            Err(Refusal::ProviderUnavailable) => return Ok(unavailable(asked, provider, wanted, headers)),
            Err(refusal) => return Ok(again(wanted, Alert::Unknown, refusal)),
        };
        trail.attempts(&self.attempt(told.said.user.as_str())?);
        let old = account::find(asked.connection, asked.subject, headers, trail)?;
        let (token, wanted) = (token.as_str(), sent.target.clone());
        let (asked_ns, raises) = (sent.asked_ns, sent.raises);
        let login = session::Login { told: &told, token, asked_ns, raises, old, reading: &worker.clock.now() };
        let secret = match session::begin(asked, provider, login, trail).await {
            Ok(secret) => secret,
            Err(refusal @ (Refusal::UserUnregistered | Refusal::UserSuspended)) => {
                trail.attempt_ends(LoginOutcome::Failure);
                return Ok(again(None, Alert::Unknown, refusal));
            }
            Err(refusal) => {
                trail.attempt_ends(LoginOutcome::Unavailable);
                return Err(refusal);
            }
        };
        trail.attempt_ends(LoginOutcome::Success);
        let target = wanted.as_deref().and_then(local_target).unwrap_or(LOGIN);
        Ok(answer::see_other(target).cookie_for_arrivals(answer::SESSION_COOKIE, secret.as_str()))
    }

    /// What the provider says of whoever logged in, if it says so to this gateway, about this login and of this site.
    async fn told(&self, token: &str, sent: &Sent) -> Result<Told, Refusal> {
        let (provider, connection) = (self.provider, self.asked.connection);
        let name = &**provider.config.name();
        let claims = provider.claims(token, TokenType::IdToken).await.map_err(|fault| match fault {
            None => Refusal::ProviderUnavailable,
            Some(fault) => {
                tracing::warn!(provider = name, why = %fault, "an ID token is refused");
                fault.refusal()
            }
        })?;
        let nonce = &sent.secrets.nonce;
        let expected = Expected { client_id: &provider.config.client_id, nonce, earliest_ns: sent.earliest_ns };
        let now = now_of(&connection.worker.clock.now());
        let told = judge(provider.config.rules(), &claims, &expected, now);
        let told = told.and_then(|told| {
            told.said.holds(now, connection.peer.fingerprint(), &self.place.site)?;
            Ok(told)
        });
        told.map_err(|fault| {
            tracing::warn!(provider = name, why = %fault, "an ID token is refused");
            fault.refusal()
        })
    }

    fn attempt(&self, user: &str) -> Result<Attempt, Refusal> {
        Ok(Attempt {
            realm: Arc::clone(self.provider.config.name()),
            account: AccountName::new(user, Spelling::default()).map_err(|_| Refusal::InternalError)?,
            origin: self.place.origin.clone(),
            address: network_of(self.asked.source),
        })
    }
}

/// A moment of the wall clock as one of the monotonic clock. What was before this machine ran is as long ago as can be.
fn monotonic_of(unix_ns: i64, reading: &Reading) -> u64 {
    let ago_ns = u64::try_from(reading.unix_ns.saturating_sub(unix_ns)).unwrap_or(0);
    reading.monotonic_ns.saturating_sub(ago_ns)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_a_browser_on_its_way_to_a_page_is_sent_elsewhere() {
        let asks = |method: Method, fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            is_navigation(&method, &headers)
        };
        let page = ("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8");
        assert!(asks(Method::GET, &[page]));
        assert!(asks(Method::GET, &[page, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]));
        assert!(!asks(Method::GET, &[page, ("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image")]));
        assert!(!asks(Method::GET, &[page, ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")]));
        assert!(!asks(Method::POST, &[page]));
        assert!(!asks(Method::HEAD, &[page]));
        assert!(!asks(Method::GET, &[("accept", "*/*")]));
        assert!(!asks(Method::GET, &[("accept", "application/fhir+json, text/htmlx")]));
        assert!(!asks(Method::GET, &[]));
    }

    #[test]
    fn what_was_long_ago_is_as_long_ago_as_can_be() {
        let reading = |unix_ns, monotonic_ns| Reading {
            unix_ns,
            monotonic_ns,
            error_ns: None,
            source: "test",
            synchronised: true,
        };
        assert_eq!(monotonic_of(90, &reading(100, 50)), 40);
        assert_eq!(monotonic_of(10, &reading(100, 50)), 0);
        assert_eq!(monotonic_of(110, &reading(100, 50)), 50, "not in the future");
    }
}
