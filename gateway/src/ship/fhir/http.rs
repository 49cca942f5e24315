//! HTTP/1.1 to a FHIR server.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::ship::Fault;
use crate::ship::config::FhirSettings;
use crate::ship::cursor::of;
use crate::ship::tls::Tls;

/// The longest answer, bytes: what a server says of each of a thousand events.
const MAX_ANSWER: usize = 8 << 20;
const FHIR_JSON: HeaderValue = HeaderValue::from_static("application/fhir+json");

/// Where a base URL leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    is_secure: bool,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl Place {
    /// Takes a base URL apart.
    pub(super) fn of(url: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{}` {why}", url.escape_debug());
        let uri: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("is no URL of scheme `https` or `http`")),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or_else(|| wrong("names no host, or a user"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !is_secure && !is_loopback {
            return Err(wrong("would carry patients' names in the clear: `http` goes to loopback alone"));
        }
        if uri.query().is_some() {
            return Err(wrong("has a query, and a base has none"));
        }
        let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { is_secure, host, port, authority: authority.as_str().to_owned(), path })
    }
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: u16,
    /// Its body.
    pub(super) body: Bytes,
}

/// A server.
#[derive(Debug)]
pub(super) struct Server {
    place: Place,
    tls: Option<Tls>,
    token: Option<PathBuf>,
    timeout: Duration,
}

impl Server {
    /// The server of a destination.
    ///
    /// # Errors
    /// [`Fault`] if its URL or a file of its TLS cannot be used.
    pub(super) fn new(settings: &FhirSettings) -> Result<Self, Fault> {
        let place = Place::of(&settings.url).map_err(Fault::Receiver)?;
        let tls = match (&settings.tls, place.is_secure) {
            (Some(tls), true) => Some(Tls::new(tls, &format!("{}:{}", place.host, place.port), &[b"http/1.1"])?),
            (None, true) => return Err(Fault::Receiver("its `https` needs `tls`".to_owned())),
            (_, false) => None,
        };
        Ok(Self { place, tls, token: settings.token_file.clone(), timeout: settings.timeout() })
    }

    /// Posts JSON to a path below the base.
    ///
    /// # Errors
    /// [`Fault::Receiver`] if there is no whole answer in time, [`Fault::State`] if the token cannot be read.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Answer, Fault> {
        let request = self.request(path, body)?;
        let answered = tokio::time::timeout(self.timeout, self.exchange(request)).await;
        answered.map_err(|_| Fault::Receiver("it does not answer in time".to_owned()))?.map_err(Fault::Receiver)
    }

    fn request(&self, path: &str, body: &Value) -> Result<Request<Full<Bytes>>, Fault> {
        let target = format!("{}{path}", self.place.path);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(if target.is_empty() { "/" } else { &target })
            .header(HOST, self.place.authority.as_str())
            .header(USER_AGENT, concat!("sekisho/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, FHIR_JSON)
            .header(CONTENT_TYPE, FHIR_JSON);
        if let Some(file) = &self.token {
            let token = std::fs::read_to_string(file).map_err(of(file))?;
            let cause = "it is no token".to_owned();
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
                .map_err(|_| Fault::State { file: file.display().to_string(), cause })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request.body(Full::new(body.to_string().into())).map_err(|error| Fault::Receiver(error.to_string()))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let socket = TcpStream::connect((self.place.host.as_str(), self.place.port)).await;
        let socket = socket.map_err(|error| format!("cannot connect: {error}"))?;
        match &self.tls {
            Some(tls) => over(tls.connect(socket).await.map_err(|error| format!("TLS: {error}"))?, request).await,
            None => over(socket, request).await,
        }
    }
}

async fn over<S>(socket: S, request: Request<Full<Bytes>>) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let spoilt = |error: hyper::Error| format!("the exchange failed: {}", error.to_string().escape_debug());
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(spoilt)?;
    let driven = tokio::spawn(connection);
    let answered = async {
        let answer = sender.send_request(request).await.map_err(spoilt)?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|_| "its answer is cut off or too long".to_owned())?.to_bytes();
        Ok(Answer { status, body })
    };
    let answered = answered.await;
    driven.abort();
    answered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_taken_apart_and_plain_http_stays_here() {
        let place = Place::of("https://fhir.example/r4/").unwrap();
        assert_eq!((place.host.as_str(), place.port, place.path.as_str()), ("fhir.example", 443, "/r4"));
        assert!(place.is_secure);
        let place = Place::of("http://[::1]:8080").unwrap();
        assert_eq!((place.host.as_str(), place.port, place.path.as_str()), ("::1", 8080, ""));
        for (bad, why) in [
            ("http://fhir.example/", "loopback alone"),
            ("ftp://fhir.example/", "scheme"),
            ("https://a@fhir.example/", "names no host, or a user"),
            ("https://fhir.example/?x=1", "query"),
            ("fhir", "scheme"),
            ("", "URL"),
        ] {
            assert!(Place::of(bad).unwrap_err().contains(why), "{bad}");
        }
    }
}
