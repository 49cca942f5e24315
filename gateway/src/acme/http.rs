//! HTTP to the ACME server: HTTP/1.1 over TLS whose authorities the configuration pins. The library brings a client of
//! its own, which would ask the system's authorities.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use certs::profile::{ClientSettings, client_config};
use certs::verifier::BackendVerifier;
use certs::{Anchors, Profile};
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::clock::TlsTime;
use crate::config::Acme;

/// From the connection to the answer's last byte.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer: a chain has a few KiB.
const MAX_ANSWER: usize = 256 * 1024;

/// A client of one ACME server.
pub(super) struct Client(Arc<ClientConfig>);

impl Client {
    /// Pins the authorities of the configuration.
    pub(super) fn new(acme: &Acme) -> Result<Self, String> {
        let authorities = Anchors::load_file(&acme.ca_file).map_err(|error| error.to_string())?;
        // A public CA may be behind something that knows no TLS 1.3.
        let profile = Profile::CryptrecHighTls12;
        let settings = ClientSettings {
            profile,
            verifier: Arc::new(BackendVerifier::new(&authorities, profile)),
            identity: None,
            alpn: &[b"http/1.1"],
            clock: Arc::new(TlsTime),
        };
        Ok(Self(Arc::new(client_config(settings).map_err(|error| error.to_string())?)))
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let tls = TlsConnector::from(Arc::clone(&self.0));
        Box::pin(async move {
            let host = request.uri().host().unwrap_or_default().to_owned();
            let done = tokio::time::timeout(TIMEOUT, exchange(tls, request)).await;
            let done = done.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())));
            done.map_err(|why| Error::Other(format!("ACME server `{}`: {why}", host.escape_debug()).into()))
        })
    }
}

async fn exchange(tls: TlsConnector, mut request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, String> {
    let uri = request.uri().clone();
    let (host, port, authority) = place(&uri)?;
    let name = ServerName::try_from(host.clone()).map_err(|_| "its URL names no host".to_owned())?;
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|error| format!("cannot connect: {error}"))?;
    let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
    let spoilt = |error: hyper::Error| format!("the exchange failed: {}", error.to_string().escape_debug());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(spoilt)?;
    let driven = tokio::spawn(connection);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    *request.uri_mut() = target.parse().map_err(|_| "its URL has no path".to_owned())?;
    request.headers_mut().insert(HOST, authority);
    let answered = async {
        let answer = sender.send_request(request).await.map_err(spoilt)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| format!("the answer is cut off or too long: {error}"))?.to_bytes();
        Ok(BytesResponse::from(Response::from_parts(head, Full::new(body))))
    };
    let answered = answered.await;
    driven.abort();
    answered
}

/// The host without brackets, the port, and what the request is to name.
fn place(uri: &Uri) -> Result<(String, u16, HeaderValue), String> {
    if uri.scheme_str() != Some("https") {
        return Err(format!("`{}` is no `https` URL", uri.to_string().escape_debug()));
    }
    let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'));
    let authority = authority.ok_or("its URL names no host, or a user")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let value = HeaderValue::from_str(authority.as_str()).map_err(|_| "its URL names no host")?;
    Ok((host, authority.port_u16().unwrap_or(443), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_spoken_and_no_user_is_named() {
        let of = |text: &str| place(&text.parse().unwrap());
        let (host, port, authority) = of("https://acme.example/dir?x").unwrap();
        assert_eq!((host.as_str(), port, authority.to_str().unwrap()), ("acme.example", 443, "acme.example"));
        let (host, port, authority) = of("https://[::1]:14000/dir").unwrap();
        assert_eq!((host.as_str(), port, authority.to_str().unwrap()), ("::1", 14_000, "[::1]:14000"));
        for bad in ["http://a/", "/a", "https://user@a/"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
