//! Where providers say that sessions are over (OpenID Connect Back-Channel Logout 1.0): a listener of its own, since a provider has no
//! device's certificate. It takes logout tokens, and publishes the gateway's keys as a client; nothing else is there.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certs::profile::public_config;
use certs::{Profile, ServerIdentity};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use policy::oidc::{logout_form, logout_token};
use policy::session::Reason;
use policy::token::TokenType;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::spawn_local;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::crowd::{Crowd, Place};
use super::{PAGES, Provider};
use crate::clock::{Clock as _, Reading, TlsTime};
use crate::config;
use crate::listen::network_of;
use crate::session::Of;
use crate::token::now_of;
use crate::worker::Shared;

/// Where a logout token is posted, below the provider's pages.
const LOGOUT: &str = "backchannel-logout";
/// Where the gateway's key as a client is, below the provider's pages.
const KEYS: &str = "jwks.json";
/// From accept to the answer's end, the provider's keys and the store included.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long the store may take.
const STORED_WITHIN: Duration = Duration::from_secs(5);
/// How long a handshake, a head and a form may take, each.
const SAID_WITHIN: Duration = Duration::from_secs(5);
/// The longest form: a token, encoded.
const MAX_FORM: usize = 48 * 1024;

/// Why the listener cannot be opened. The message names the file or the address.
#[derive(Debug, thiserror::Error)]
pub enum BackChannelError {
    /// The socket.
    #[error("back_channel.listen: cannot listen on `{address}`: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's word.
        source: std::io::Error,
    },
    /// The certificate or its key.
    #[error("back_channel: {0}")]
    Tls(String),
}

/// The listener.
pub struct BackChannel {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    shared: Shared,
}

impl BackChannel {
    /// Opens it.
    ///
    /// # Errors
    /// [`BackChannelError`].
    pub async fn bind(config: &config::BackChannel, shared: &Shared) -> Result<Self, BackChannelError> {
        let bind = |source| BackChannelError::Bind { address: config.listen, source };
        let socket = crate::admin::bind(config.listen).await.map_err(bind)?;
        let address = socket.local_addr().map_err(bind)?;
        let tls = config.identity.as_ref().map(|(certificate, key)| tls(certificate, key)).transpose()?;
        Ok(Self { socket, address, tls, shared: shared.clone() })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until dropped.
    pub async fn serve(self) -> Infallible {
        let crowd = Crowd::default();
        let shared = Rc::new(self.shared);
        loop {
            let (stream, source) = match self.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a provider that ends sessions");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Some((place, makes_room)) = crowd.enter(network_of(source.ip())) else { continue };
            let (shared, tls) = (Rc::clone(&shared), self.tls.clone());
            spawn_local(async move {
                let place = Rc::new(place);
                let served = async {
                    match tls {
                        None => serve_connection(stream, &shared, &place).await,
                        Some(tls) => match timeout(SAID_WITHIN, tls.accept(stream)).await {
                            Ok(Ok(stream)) => serve_connection(stream, &shared, &place).await,
                            Ok(Err(error)) => tracing::debug!(%error, "a provider's handshake failed"),
                            Err(_) => tracing::debug!("a provider's handshake took too long"),
                        },
                    }
                };
                tokio::select! {
                    _ = timeout(DEADLINE, served) => {}
                    Err(_) = makes_room => tracing::debug!(%source, "a silent connection made room for another"),
                }
            });
        }
    }
}

fn tls(certificate: &std::path::Path, key: &std::path::Path) -> Result<TlsAcceptor, BackChannelError> {
    let failed = |error: &dyn ToString| BackChannelError::Tls(error.to_string());
    let identity = ServerIdentity::load_files(certificate, key).map_err(|error| failed(&error))?;
    // A provider may know no TLS 1.3.
    let config =
        public_config(Profile::CryptrecHighTls12, &identity, Arc::new(TlsTime)).map_err(|error| failed(&error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin>(stream: S, shared: &Rc<Shared>, place: &Rc<Place>) {
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, place) = (Rc::clone(shared), Rc::clone(place));
        async move { Ok::<_, Infallible>(answer(&shared, request, &place).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SAID_WITHIN)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a provider's connection ended");
    }
}

/// What a token was good for: the metric's outcome.
enum Judged {
    Ended,
    /// It came before, and ended what there was then.
    Replayed,
    Refused,
    Unavailable,
}

impl Judged {
    const fn label(&self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Replayed => "replayed",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
        }
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>, place: &Place) -> Response<Full<Bytes>> {
    let snapshot = shared.snapshots.load();
    let page = request.uri().path().strip_prefix(PAGES).and_then(|rest| rest.split_once('/'));
    let Some((provider, page)) = page.and_then(|(name, page)| Some((Arc::clone(snapshot.provider(name)?), page)))
    else {
        return said(StatusCode::NOT_FOUND, "");
    };
    match (page, request.method()) {
        (LOGOUT, &Method::POST) => {
            let judged = logout(shared, &provider, request, place).await;
            shared.metrics.oidc_logouts.with_label_values(&[&**provider.config.name(), judged.label()]).inc();
            match judged {
                Judged::Ended | Judged::Replayed => said(StatusCode::OK, ""),
                // Section 2.8.
                Judged::Refused => said(StatusCode::BAD_REQUEST, r#"{"error":"invalid_request"}"#),
                Judged::Unavailable => said(StatusCode::SERVICE_UNAVAILABLE, ""),
            }
        }
        (KEYS, &(Method::GET | Method::HEAD)) => match provider.jwks() {
            Some(jwks) => said(StatusCode::OK, &jwks),
            None => said(StatusCode::NOT_FOUND, ""),
        },
        (LOGOUT | KEYS, _) => said(StatusCode::METHOD_NOT_ALLOWED, ""),
        _ => said(StatusCode::NOT_FOUND, ""),
    }
}

async fn logout(shared: &Shared, provider: &Provider, request: Request<Incoming>, place: &Place) -> Judged {
    let name = &**provider.config.name();
    let refused = |why: &dyn std::fmt::Display| {
        tracing::warn!(provider = name, %why, "a logout token is refused");
        Judged::Refused
    };
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return refused(&"it comes in no form");
    }
    let body = timeout(SAID_WITHIN, Limited::new(request.into_body(), MAX_FORM).collect()).await;
    let Ok(Ok(body)) = body else { return refused(&"its form is too long, took too long, or broke off") };
    if !place.is_heard() {
        return Judged::Unavailable;
    }
    let Some(token) = logout_form(&body.to_bytes()) else { return refused(&"its form cannot be read") };
    let claims = match provider.claims(&token, TokenType::LogoutToken).await {
        Ok(claims) => claims,
        Err(Some(fault)) => return refused(&fault),
        Err(None) => return Judged::Unavailable,
    };
    let rules = provider.config.rules();
    let reading = shared.clock.now();
    let parties = (rules.issuer.as_str(), provider.config.client_id.as_str());
    let logout = match logout_token(&claims, parties, rules.leeway_s, now_of(&reading)) {
        Ok(logout) => logout,
        Err(fault) => return refused(&fault),
    };
    let id = format!("{name}\n{}", logout.id);
    let (first_ns, is_first) = shared.oidc.notices().first(&id, reading.monotonic_ns, rules.leeway_s);
    let moment_ns = first_ns.min(latest_of(logout.made_ns, rules.leeway_s, &reading));
    let (subject, session) = (logout.end.subject, logout.end.session);
    let of = Of::Vouched { issuer: rules.issuer.clone(), subject, session };
    let ended = shared.sessions.end_before(&of, Reason::Provider, moment_ns);
    tracing::info!(provider = name, ended, is_first, "a provider ended sessions");
    // Whoever is told that they are over knows that no restart brings them back.
    match shared.sessions.flush(STORED_WITHIN).await {
        false => Judged::Unavailable,
        true if is_first => Judged::Ended,
        true => Judged::Replayed,
    }
}

/// The latest moment at which a token can have been made that says when, by a provider whose clock differs from ours by no more than
/// the leeway; monotonic nanoseconds. A token that came before a restart and comes again ends nothing that began later.
fn latest_of(made_ns: i64, leeway_s: u32, reading: &Reading) -> u64 {
    let error_ns = now_of(reading).error_ns;
    // Its time is in whole seconds.
    let latest_ns = made_ns.saturating_add((i64::from(leeway_s) + 1) * 1_000_000_000).saturating_add(error_ns);
    let ago_ns = u64::try_from(reading.unix_ns.saturating_sub(latest_ns)).unwrap_or(0);
    reading.monotonic_ns.saturating_sub(ago_ns)
}

fn said(status: StatusCode, json: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(json.as_bytes())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !json.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}
