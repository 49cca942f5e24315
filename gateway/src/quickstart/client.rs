//! A client as a clinic would have one: TLS 1.3 with a device certificate, one request per connection.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::layout::ClientFiles;
use super::tunnel::Tunnel;

/// How long one request may take. Whoever waits longer has seen a fault.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a client saw.
#[derive(Debug)]
pub(super) enum Seen {
    /// An answer, whole.
    Answer { status: u16, headers: HeaderMap, body: Bytes },
    /// The server ended the handshake with this alert.
    Alert(AlertDescription),
    /// Anything else: what went wrong, in words.
    Failed(String),
}

/// The HTTP version that a client offers by ALPN, alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    H1,
    H2,
}

/// Whom to ask and whom to trust.
pub(super) struct Client {
    pub(super) address: SocketAddr,
    roots: RootCertStore,
    /// What it comes through, instead of going to the address.
    tunnel: Option<Tunnel>,
}

/// What TLS runs on.
trait Carrier: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Carrier for T {}

impl Client {
    /// A client that trusts one CA.
    pub(super) fn new(address: SocketAddr, ca: &Path) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|error| format!("`{}`: {error}", ca.display()))?;
        }
        Ok(Self { address, roots, tunnel: None })
    }

    /// The same, whose every connection comes through a tunnel of its own.
    pub(super) fn through(tunnel: Tunnel, address: SocketAddr, ca: &Path) -> Result<Self, String> {
        Ok(Self { tunnel: Some(tunnel), ..Self::new(address, ca)? })
    }

    /// Sends a request and takes the answer.
    pub(super) async fn ask(
        &self,
        identity: Option<&ClientFiles>,
        version: Version,
        request: Request<Full<Bytes>>,
    ) -> Seen {
        within_deadline(async {
            let config = self.config(identity, version).map_err(Seen::Failed)?;
            let stream = self.connect(config).await?;
            match version {
                Version::H1 => {
                    let (mut sender, connection) =
                        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| seen(&e))?;
                    let driver = tokio::spawn(connection);
                    let answer = take(sender.send_request(request).await).await;
                    driver.abort();
                    answer
                }
                Version::H2 => {
                    let io = TokioIo::new(stream);
                    let (mut sender, connection) =
                        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.map_err(|e| seen(&e))?;
                    let driver = tokio::spawn(connection);
                    let answer = take(sender.send_request(request).await).await;
                    driver.abort();
                    answer
                }
            }
        })
        .await
    }

    /// Connects and only listens. With TLS 1.3 the client's side of a handshake is over before the server has judged
    /// the certificate, and a request sent then could meet a reset that hides the alert.
    pub(super) async fn knock(&self, identity: Option<&ClientFiles>) -> Seen {
        within_deadline(async {
            let config = self.config(identity, Version::H1).map_err(Seen::Failed)?;
            let mut stream = self.connect(config).await?;
            match stream.read(&mut [0]).await {
                Ok(0) => Err(Seen::Failed("closed without an alert".to_owned())),
                Ok(_) => Err(Seen::Failed("bytes that nobody asked for".to_owned())),
                Err(error) => Err(seen(&error)),
            }
        })
        .await
    }

    fn config(&self, identity: Option<&ClientFiles>, version: Version) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| error.to_string())?
            .with_root_certificates(self.roots.clone());
        let mut config = match identity {
            Some(files) => {
                let chain = certificates(&files.certificate)?;
                let key = PrivateKeyDer::from_pem_file(&files.key)
                    .map_err(|error| format!("`{}`: {error}", files.key.display()))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| error.to_string())?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![match version {
            Version::H1 => b"http/1.1".to_vec(),
            Version::H2 => b"h2".to_vec(),
        }];
        Ok(config)
    }

    async fn connect(&self, config: ClientConfig) -> Result<TlsStream<Box<dyn Carrier>>, Seen> {
        let failed = |error: io::Error| Seen::Failed(error.to_string());
        let stream: Box<dyn Carrier> = match &self.tunnel {
            Some(tunnel) => Box::new(tunnel.connect().await.map_err(failed)?),
            None => Box::new(TcpStream::connect(self.address).await.map_err(failed)?),
        };
        let name = ServerName::try_from("localhost").map_err(|error| Seen::Failed(error.to_string()))?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| seen(&error))
    }
}

/// A plain request, as to the admin listener.
pub(super) async fn get_plain(address: SocketAddr, target: &str) -> Seen {
    within_deadline(async {
        let stream = TcpStream::connect(address).await.map_err(|error| Seen::Failed(error.to_string()))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| seen(&e))?;
        let driver = tokio::spawn(connection);
        let request = Request::get(target)
            .header(http::header::HOST, address.to_string())
            .body(Full::<Bytes>::default())
            .map_err(|error| Seen::Failed(error.to_string()))?;
        let answer = take(sender.send_request(request).await).await;
        driver.abort();
        answer
    })
    .await
}

async fn within_deadline(asking: impl Future<Output = Result<Seen, Seen>>) -> Seen {
    match tokio::time::timeout(DEADLINE, asking).await {
        Ok(Ok(seen) | Err(seen)) => seen,
        Err(_) => Seen::Failed(format!("nothing within {} s", DEADLINE.as_secs())),
    }
}

async fn take(answer: hyper::Result<http::Response<hyper::body::Incoming>>) -> Result<Seen, Seen> {
    let (head, body) = answer.map_err(|error| seen(&error))?.into_parts();
    let body = body.collect().await.map_err(|error| seen(&error))?.to_bytes();
    Ok(Seen::Answer { status: head.status.as_u16(), headers: head.headers, body })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| format!("`{}`: {error}", file.display()))
}

/// The alert, where one is anywhere among an error's causes.
fn seen(error: &(dyn Error + 'static)) -> Seen {
    let mut cause = Some(error);
    while let Some(error) = cause {
        // An `io::Error` passes over what it wraps when it is asked for its source.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref()).or_else(|| error.downcast_ref());
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            return Seen::Alert(*alert);
        }
        cause = error.source();
    }
    Seen::Failed(error.to_string())
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
