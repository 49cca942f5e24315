//! HTTP/1.1 to servers of the operator's choice (receivers of the log, identity providers), over TLS whose authorities the
//! settings pin. Plain text goes to this machine alone.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use certs::profile::{ClientSettings, client_config};
use certs::verifier::BackendVerifier;
use certs::{Anchors, Profile, ServerIdentity};
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::clock::TlsTime;

/// Connections that are kept for the next requests.
const KEPT: usize = 8;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpFailure {
    /// No connection.
    #[error("no connection to `{host}`: {why}")]
    Connect { host: String, why: String },
    /// The connection broke before the answer was whole, or the answer is too long.
    #[error("`{host}` gave no whole answer: {why}")]
    Broken { host: String, why: String },
    /// It took too long.
    #[error("`{host}` gave no answer within {seconds} s")]
    Late { host: String, seconds: u64 },
}

/// A client of one server.
pub(crate) struct Client {
    tls: Option<Arc<ClientConfig>>,
    host: String,
    port: u16,
    authority: HeaderValue,
    timeout: Duration,
    longest: usize,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the server that `url` names. Requests take at most `timeout`, answers are at most `longest` bytes.
    ///
    /// # Errors
    /// In words, if the URL is none, TLS lacks its authorities, or plain text would leave this machine.
    pub(crate) fn new(url: &Uri, ca_file: Option<&Path>, timeout: Duration, longest: usize) -> Result<Self, String> {
        Self::with_identity(url, ca_file, None, timeout, longest)
    }

    /// As [`new`](Self::new), and shows a certificate of its own: the files of its chain and its key.
    ///
    /// # Errors
    /// As [`new`](Self::new), or if the files cannot be read or do not fit.
    pub(crate) fn with_identity(
        url: &Uri,
        ca_file: Option<&Path>,
        identity: Option<(&Path, &Path)>,
        timeout: Duration,
        longest: usize,
    ) -> Result<Self, String> {
        let shown = url.to_string().escape_debug().to_string();
        let authority = url.authority().filter(|authority| !authority.as_str().contains('@'));
        let authority = authority.ok_or_else(|| format!("`{shown}` names no host, or a user"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let (tls, port) = match (url.scheme_str(), ca_file) {
            (Some("https"), Some(file)) => (Some(tls(file, identity)?), 443),
            (Some("https"), None) => return Err(format!("`{shown}` needs `ca_file`, the authorities of its server")),
            (Some("http"), None) if is_this_machine(&host) => (None, 80),
            (Some("http"), None) => {
                return Err(format!("`{shown}` is plain text, which goes to a loopback address alone"));
            }
            (Some("http"), Some(_)) => return Err(format!("`{shown}` is plain text and has no use for `ca_file`")),
            _ => return Err(format!("`{shown}` is neither `https` nor `http`")),
        };
        let value = HeaderValue::from_str(authority.as_str()).map_err(|_| format!("`{shown}` names no host"))?;
        let port = authority.port_u16().unwrap_or(port);
        Ok(Self { tls, host, port, authority: value, timeout, longest, idle: Mutex::default() })
    }

    /// Sends a request, whose URI is a path, and reads the whole answer. A connection that was kept and has gone
    /// meanwhile is replaced once.
    ///
    /// # Errors
    /// [`HttpFailure`].
    pub(crate) async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, HttpFailure> {
        let is_repeatable = request.method().is_safe();
        self.in_time(request, is_repeatable).await
    }

    /// As [`exchange`](Self::exchange), of a question that may be asked twice whatever its method is: where a connection that was kept
    /// breaks before the answer is whole, as servers that are restarted do to it, it is asked once more on a fresh one.
    ///
    /// # Errors
    /// [`HttpFailure`].
    pub(crate) async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, HttpFailure> {
        self.in_time(request, true).await
    }

    async fn in_time(
        &self,
        request: Request<Full<Bytes>>,
        is_repeatable: bool,
    ) -> Result<Response<Bytes>, HttpFailure> {
        let done = tokio::time::timeout(self.timeout, self.exchange_slowly(request, is_repeatable)).await;
        done.unwrap_or_else(|_| Err(HttpFailure::Late { host: self.host.clone(), seconds: self.timeout.as_secs() }))
    }

    async fn exchange_slowly(
        &self,
        mut request: Request<Full<Bytes>>,
        is_repeatable: bool,
    ) -> Result<Response<Bytes>, HttpFailure> {
        request.headers_mut().insert(HOST, self.authority.clone());
        while let Some(mut kept) = self.kept() {
            if kept.ready().await.is_err() {
                continue;
            }
            let again = is_repeatable.then(|| request.clone());
            let failure = match kept.try_send_request(request).await {
                Ok(answer) => match self.read(kept, answer).await {
                    Err(failure) => failure,
                    read => return read,
                },
                // Not sent, so that nobody can have obeyed it.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => {
                        request = unsent;
                        continue;
                    }
                    None => self.broken(&error.into_error()),
                },
            };
            request = again.ok_or(failure)?;
            break;
        }
        let mut sender = self.connect().await?;
        let answer = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        self.read(sender, answer).await
    }

    fn kept(&self) -> Option<SendRequest<Full<Bytes>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    async fn read(
        &self,
        sender: SendRequest<Full<Bytes>>,
        answer: Response<hyper::body::Incoming>,
    ) -> Result<Response<Bytes>, HttpFailure> {
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, self.longest).collect().await.map_err(|error| self.broken(&*error))?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT && !sender.is_closed() {
            idle.push(sender);
        }
        Ok(Response::from_parts(head, body.to_bytes()))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, HttpFailure> {
        let failed = |why: String| HttpFailure::Connect { host: self.host.clone(), why };
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        // Small requests wait for nothing.
        stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
        let Some(tls) = &self.tls else { return self.speak(stream).await };
        let name = ServerName::try_from(self.host.clone()).map_err(|_| failed("it is no host's name".to_owned()))?;
        let connector = TlsConnector::from(Arc::clone(tls));
        let stream = connector.connect(name, stream).await.map_err(|error| failed(format!("TLS: {error}")))?;
        self.speak(stream).await
    }

    async fn speak<S>(&self, stream: S) -> Result<SendRequest<Full<Bytes>>, HttpFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        tokio::spawn(connection);
        Ok(sender)
    }

    fn broken(&self, error: &dyn std::error::Error) -> HttpFailure {
        let why = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        HttpFailure::Broken { host: self.host.clone(), why: why.escape_debug().to_string() }
    }
}

fn is_this_machine(host: &str) -> bool {
    host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn tls(ca_file: &Path, identity: Option<(&Path, &Path)>) -> Result<Arc<ClientConfig>, String> {
    let authorities = Anchors::load_file(ca_file).map_err(|error| error.to_string())?;
    let identity = identity.map(|(certificate, key)| ServerIdentity::load_files(certificate, key)).transpose();
    let identity = identity.map_err(|error| error.to_string())?;
    // A public service may be behind something that knows no TLS 1.3.
    let profile = Profile::CryptrecHighTls12;
    let settings = ClientSettings {
        profile,
        verifier: Arc::new(BackendVerifier::new(&authorities, profile)),
        identity: identity.as_ref(),
        alpn: &[b"http/1.1"],
        clock: Arc::new(TlsTime),
    };
    Ok(Arc::new(client_config(settings).map_err(|error| error.to_string())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that is restarted while it has the second request in hand.
    #[tokio::test]
    async fn a_question_is_asked_again_where_a_kept_connection_breaks_and_nothing_else_is() {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let server = std::thread::spawn(move || {
            let mut requests = 0;
            for answers in [1, 1, 1] {
                let (mut stream, _) = listener.accept().unwrap();
                let mut read = |stream: &mut std::net::TcpStream| {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\nq") {
                        let mut byte = [0];
                        stream.read_exact(&mut byte).unwrap();
                        head.extend(byte);
                    }
                    requests += 1;
                };
                for _ in 0..answers {
                    read(&mut stream);
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na").unwrap();
                }
                read(&mut stream);
            }
            requests
        });
        let client = Client::new(&url, None, Duration::from_secs(60), 10).unwrap();
        let question = || Request::post("/").body(Full::from("q")).unwrap();
        assert!(client.exchange(question()).await.is_ok());
        assert!(matches!(client.exchange(question()).await, Err(HttpFailure::Broken { .. })), "a code counts once");
        assert!(client.ask(question()).await.is_ok());
        // The connection breaks under it, and it is asked on another.
        assert!(client.ask(question()).await.is_ok());
        assert!(client.exchange(question()).await.is_err());
        assert_eq!(server.join().unwrap(), 6);
    }

    #[test]
    fn plain_text_stays_on_this_machine() {
        let client = |url: &str, ca: Option<&str>| {
            Client::new(&url.parse().unwrap(), ca.map(Path::new), Duration::from_secs(1), 10)
        };
        let client_of = |url| client(url, None).unwrap();
        assert_eq!((client_of("http://127.0.0.1:9/x").port, client_of("http://[::1]/").port), (9, 80));
        for (url, ca, why) in [
            ("http://192.0.2.1/", None, "loopback"),
            ("http://localhost/", None, "loopback"),
            ("http://127.0.0.1/", Some("ca.crt"), "no use for `ca_file`"),
            ("https://a.example/", None, "`ca_file`"),
            ("https://a.example/", Some("/nowhere/ca.crt"), "/nowhere/ca.crt"),
            ("https://user@a.example/", None, "names no host, or a user"),
            ("ftp://a.example/", None, "neither"),
            ("/a", None, "names no host"),
        ] {
            let error = client(url, ca).unwrap_err();
            assert!(error.contains(why), "{url}: {error}");
        }
    }
}
