//! The admin listener: metrics and health for network operations, on its own socket and its own identity (C16).

mod health;
pub mod jwks;
pub mod openings;
pub(crate) mod places;
mod tls;

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certs::PeerRefused;
use certs::verifier::{noting, refusal_of_io};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub use health::{Condition, Health, Verdict};
use places::Places;
pub use tls::OperatorsTls;

/// A handshake may take so long, and a request's head again.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// From accept to the answer's last byte. A connection carries one request: a scraper comes every few seconds at most,
/// and one that does not read must not hold a place for long.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// One line about refused connections within this time: whoever is refused must not fill the diagnostics.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Where the keys are that identities are signed with, and what they are (RFC 7517 section 8.5).
const JWKS_PATH: &str = "/.well-known/sekisho/jwks.json";
const JWKS_TYPE: &str = "application/jwk-set+json";

/// Where the services' servers are shown.
pub(crate) const BACKENDS_PATH: &str = "/backends";

/// What the pages are made of.
pub struct Admin {
    /// Metrics, brought up to date by `refresh` before each page.
    pub metrics: crate::metrics::Metrics,
    /// Brings the metrics up to date that nobody counts by himself.
    pub refresh: Box<dyn Fn()>,
    /// Health.
    pub health: Health,
    /// The keys that identities are signed with (RFC 7517).
    pub jwks: Bytes,
    /// The services' servers, as JSON.
    pub backends: Box<dyn Fn() -> String>,
    /// Gives out wrapped data keys.
    pub openings: Option<openings::Openings>,
    /// Operators' TLS; none on a loopback address.
    pub tls: Option<Arc<OperatorsTls>>,
    /// Tunnels, as workers published them last.
    pub tunnels: crate::tunnels::Board,
}

/// Serves until dropped.
pub async fn serve(listener: TcpListener, admin: Rc<Admin>) -> Infallible {
    let places = Places::default();
    let mut told: Option<Instant> = None;
    loop {
        let (stream, source) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an operator's connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = places.take(source.ip()) else {
            if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                told = Some(Instant::now());
                tracing::warn!(%source, "refused an operator's connection: too many at once");
            }
            continue;
        };
        let admin = Rc::clone(&admin);
        spawn_local(async move {
            let _place = place;
            serve_in_time(stream, admin.tls.as_ref().map(|tls| tls.acceptor()), &admin, source).await;
        });
    }
}

/// Serves one connection to its end, which comes in time.
async fn serve_in_time<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    tls: Option<TlsAcceptor>,
    admin: &Rc<Admin>,
    source: SocketAddr,
) {
    let served = async {
        match tls {
            None => serve_connection(stream, admin, &source.to_string()).await,
            Some(tls) => match timeout(HEADER_TIMEOUT, shake(stream, &tls)).await {
                Ok(Ok(stream)) => {
                    let by = operator(&stream, source);
                    serve_connection(stream, admin, &by).await;
                }
                Ok(Err(refused)) => {
                    tracing::warn!(
                        %source,
                        reason = refused.refusal.label(),
                        detail = refused.detail,
                        "refused an operator's connection"
                    );
                }
                Err(_) => tracing::warn!(%source, "an operator's handshake took too long"),
            },
        }
    };
    if timeout(CONNECTION_TIMEOUT, served).await.is_err() {
        tracing::warn!(%source, "an operator's connection took too long");
    }
}

/// The handshake; where it fails, why in full.
async fn shake<S: AsyncRead + AsyncWrite + Unpin>(stream: S, tls: &TlsAcceptor) -> Result<TlsStream<S>, PeerRefused> {
    let mut accept = pin!(tls.accept(stream));
    let mut refused = None;
    let outcome = poll_fn(|context| {
        let (outcome, noted) = noting(|| accept.as_mut().poll(context));
        refused = refused.take().or(noted);
        outcome
    });
    outcome.await.map_err(|error| {
        refused.unwrap_or_else(|| {
            let (refusal, detail) = refusal_of_io(&error);
            PeerRefused { refusal, detail, device: None }
        })
    })
}

/// Who is at the other end, for records.
fn operator<S>(stream: &TlsStream<S>, source: SocketAddr) -> String {
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let fingerprint = leaf.map(|leaf| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf));
    let fingerprint = fingerprint.map(|digest| certs::hex(digest.as_ref())).unwrap_or_default();
    format!("{source}, certificate {fingerprint}")
}

async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin>(stream: S, admin: &Rc<Admin>, by: &str) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
        let response = answer(&request, admin);
        let openings = admin.openings.as_ref().filter(|_| request.uri().path() == openings::PATH);
        Ok::<_, Infallible>(match openings {
            // Where the answer is another, the request was refused as every other.
            Some(openings) if response.status() == StatusCode::NOT_FOUND && request.method() == Method::GET => {
                openings.answer(request.uri().query().unwrap_or_default(), by).await
            }
            _ => response,
        })
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an operator's connection ended");
    }
}

fn answer<B>(request: &Request<B>, admin: &Admin) -> Response<Full<Bytes>> {
    if admin.tls.is_none() && !is_local(request.headers().get(HOST)) {
        return page(StatusCode::MISDIRECTED_REQUEST, "text/plain", "not for this host\n");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n");
    }
    let verbose = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "verbose"));
    match request.uri().path() {
        "/metrics" => {
            (admin.refresh)();
            page(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", admin.metrics.page())
        }
        "/livez" => verdict(&admin.health.live(), verbose),
        "/readyz" => verdict(&admin.health.ready(), verbose),
        "/startupz" => verdict(&admin.health.started(), verbose),
        "/tunnels" => page(StatusCode::OK, "application/json", admin.tunnels.json()),
        BACKENDS_PATH => page(StatusCode::OK, "application/json", (admin.backends)()),
        JWKS_PATH => page(StatusCode::OK, JWKS_TYPE, admin.jwks.clone()),
        _ => page(StatusCode::NOT_FOUND, "text/plain", "there is nothing here\n"),
    }
}

/// A page on loopback is for this machine's own tools: a browser that was lured here by a foreign name is refused.
fn is_local(host: Option<&HeaderValue>) -> bool {
    let Some(Ok(host)) = host.map(HeaderValue::to_str) else { return false };
    let name = host.rsplit_once(':').map_or(
        host,
        |(name, port)| {
            if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host }
        },
    );
    name.eq_ignore_ascii_case("localhost")
        || name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

fn verdict(verdict: &Verdict, verbose: bool) -> Response<Full<Bytes>> {
    let status = if verdict.is_good() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    page(status, "text/plain; charset=utf-8", verdict.page(verbose))
}

fn page(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Opens the admin listener's socket.
///
/// # Errors
/// The system's.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_its_answer_is_left() {
        let metrics = crate::metrics::Metrics::new().unwrap();
        let health = Health { readiness: Box::new(Vec::new), warnings: Box::new(Vec::new) };
        let admin = Rc::new(Admin {
            metrics,
            refresh: Box::new(|| ()),
            health,
            jwks: Bytes::new(),
            backends: Box::new(String::new),
            openings: None,
            tls: None,
            tunnels: Default::default(),
        });
        let (mut peer, ours) = tokio::io::duplex(64);
        let begun = Instant::now();
        let asks = async {
            tokio::io::AsyncWriteExt::write_all(&mut peer, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await
        };
        let (asked, ()) = tokio::join!(asks, serve_in_time(ours, None, &admin, ([192, 0, 2, 1], 1).into()));
        asked.unwrap();
        assert_eq!(begun.elapsed(), CONNECTION_TIMEOUT);
    }

    #[test]
    fn a_foreign_name_is_not_local() {
        for (host, expected) in [
            ("localhost:9443", true),
            ("LOCALHOST", true),
            ("127.0.0.1:9443", true),
            ("[::1]:9443", true),
            ("evil.example:9443", false),
            ("192.0.2.1:9443", false),
            ("localhost.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_local(Some(&HeaderValue::from_str(host).unwrap())), expected, "{host}");
        }
        assert!(!is_local(None));
    }
}
