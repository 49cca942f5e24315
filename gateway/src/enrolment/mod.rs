//! Where devices enrol and renew: EST (RFC 7030) on a listener of its own, and the lists of what was revoked.
//!
//! One thread, so that nobody who asks for certificates keeps a request or an operator waiting. The listener shares no
//! socket, no TLS configuration and no session with the clinics' (C16).

mod answer;
mod guard;
mod refused;
mod slots;

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use certs::profile::enrolment_config;
use certs::verifier::{Admit, noting, refusal_of_io};
use certs::{Anchors, PeerRefused, PeerVerifier, Profile, ServerIdentity, VerifiedPeer};
use gateway_audit::record::Stage;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use policy::Refusal;
use rustls::ServerConfig;
use rustls::pki_types::UnixTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::authority::{Ca, CaError, TokenKey};
use crate::clock::TlsTime;
use crate::config::{Enrolment, EnrolmentListener};
use crate::snapshot::{CertificateEnd, Purpose};
use crate::store::{Store, StoreError};
use guard::Guard;
pub use refused::RefusalLog;
use slots::{Leave, Slot, Slots};

/// Software that enrols is up to date.
const PROFILE: Profile = Profile::CryptrecHigh;

/// A handshake may take so long, and a request's head again.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// From accept to the answer's last byte.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How often somebody looks whether a list is due. What the command revokes, it publishes itself.
const PUBLISH_EVERY: Duration = Duration::from_secs(5);
/// How often the token that keeps the issuing key has to show that it is there.
const ASK_TOKEN_EVERY: Duration = Duration::from_secs(5);

/// Why there is no enrolment.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// The authority.
    #[error("enrolment: {0}")]
    Ca(#[from] CaError),
    /// Certificates or TLS.
    #[error("enrolment: {0}")]
    Tls(String),
    /// An address.
    #[error("`{key}` {address}: {error}")]
    Bind {
        /// The key of the configuration.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// The thread.
    #[error("enrolment: cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// The TLS in force, and what judges its clients.
type Est = (Arc<ArcSwap<ServerConfig>>, Arc<PeerVerifier>);

/// What is ready before the first device asks.
pub struct Prepared {
    est: Option<(std::net::TcpListener, Est)>,
    crl: Option<std::net::TcpListener>,
    ca: Ca,
    store: Store,
    refusals: RefusalLog,
    /// The handle.
    pub handle: Handle,
    /// Where EST listens: with a port of 0, the one that was free.
    pub listen: Option<SocketAddr>,
}

/// What can be told to a running enrolment.
#[derive(Clone)]
pub struct Handle {
    config: Enrolment,
    est: Option<Est>,
    ends: Arc<ArcSwap<Vec<CertificateEnd>>>,
    issuing_not_after: u64,
    token: Option<Arc<TokenKey>>,
}

impl Handle {
    /// Takes the server's certificate and key as the files have them.
    ///
    /// # Errors
    /// What is wrong with them; the old ones stay in force.
    pub fn reload(&self) -> Result<(), EnrolmentError> {
        if let (Some(files), Some((tls, verifier))) = (&self.config.est, &self.est) {
            let (config, not_after) = tls_of(files, verifier)?;
            tls.store(Arc::new(config));
            self.ends.store(Arc::new(ends(Some(not_after), self.issuing_not_after)));
        }
        Ok(())
    }

    /// Why the token that keeps the issuing key did not sign when it was last asked; `None` where no token keeps it.
    #[must_use]
    pub fn token_fault(&self) -> Option<Option<Arc<String>>> {
        self.token.as_ref().map(|token| token.fault())
    }

    /// When certificates end.
    #[must_use]
    pub fn ends(&self) -> Arc<Vec<CertificateEnd>> {
        self.ends.load_full()
    }
}

fn ends(server: Option<u64>, issuing: u64) -> Vec<CertificateEnd> {
    let end = |purpose, not_after| CertificateEnd { purpose, name: "enrolment".to_owned(), not_after };
    let server = server.map(|not_after| end(Purpose::EnrolmentServer, not_after));
    server.into_iter().chain([end(Purpose::IssuingAuthority, issuing)]).collect()
}

fn tls_of(files: &EnrolmentListener, verifier: &Arc<PeerVerifier>) -> Result<(ServerConfig, u64), EnrolmentError> {
    let fault = |error: &dyn ToString| EnrolmentError::Tls(error.to_string());
    let identity =
        ServerIdentity::load_files(&files.certificate_file, &files.key_file).map_err(|error| fault(&error))?;
    let config =
        enrolment_config(PROFILE, &identity, Arc::clone(verifier), Arc::new(TlsTime)).map_err(|error| fault(&error))?;
    Ok((config, identity.not_after().as_secs()))
}

/// What requests are answered from.
struct EstServer {
    refusals: RefusalLog,
    ca: Ca,
    store: RefCell<Store>,
    guard: RefCell<Guard>,
}

/// Reads the authority and opens the sockets.
///
/// # Errors
/// [`EnrolmentError`] names the file or the address.
pub fn prepare(
    config: &Enrolment,
    store: Store,
    admit: &Admit,
    refusals: RefusalLog,
) -> Result<Prepared, EnrolmentError> {
    let ca = Ca::load(&config.directory)?;
    let (mut listen, mut server, mut est) = (None, None, None);
    if let Some(files) = &config.est {
        let verifier = verifier(&ca, admit)?;
        let (tls, not_after) = tls_of(files, &verifier)?;
        let socket = bind("enrolment.listen", files.listen)?;
        listen = socket.local_addr().ok();
        server = Some(not_after);
        est = Some((socket, (Arc::new(ArcSwap::from_pointee(tls)), verifier)));
    }
    let crl = config.crl_listen.map(|address| bind("enrolment.crl_listen", address)).transpose()?;
    let issuing_not_after = ca.not_after().as_secs();
    let handle = Handle {
        config: config.clone(),
        est: est.as_ref().map(|(_, est)| est.clone()),
        ends: Arc::new(ArcSwap::from_pointee(ends(server, issuing_not_after))),
        issuing_not_after,
        token: ca.token().cloned(),
    };
    Ok(Prepared { est, crl, ca, store, refusals, handle, listen })
}

/// Whose certificates count for a renewal: those below the root, and below the issuing CA where a device shows its own
/// certificate alone.
fn verifier(ca: &Ca, admit: &Admit) -> Result<Arc<PeerVerifier>, EnrolmentError> {
    let text = ca.anchors_pem()?;
    let anchors = Anchors::from_pem(text.as_bytes()).map_err(|error| EnrolmentError::Tls(error.to_string()))?;
    Ok(Arc::new(PeerVerifier::new(&anchors, PROFILE, ca.domain().clone(), Arc::clone(admit))))
}

fn bind(key: &'static str, address: SocketAddr) -> Result<std::net::TcpListener, EnrolmentError> {
    let open = || {
        let socket = std::net::TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    open().map_err(|error| EnrolmentError::Bind { key, address, error })
}

/// Serves on a thread of its own until `draining` says so.
///
/// # Errors
/// [`EnrolmentError::Thread`].
pub fn start(prepared: Prepared, mut draining: watch::Receiver<bool>) -> Result<JoinHandle<()>, EnrolmentError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(EnrolmentError::Thread)?;
    let work = move || {
        // Whoever is cut off in the middle gives a connection back to the store, which needs a runtime.
        let _entered = runtime.enter();
        LocalSet::new().block_on(&runtime, async {
            let Prepared { est, crl, ca, store, refusals, .. } = prepared;
            let server = Rc::new(EstServer { refusals, ca, store: RefCell::new(store), guard: RefCell::default() });
            if let Some((socket, est)) = est {
                spawn_local(listen(socket, Rc::clone(&server), Some(est)));
            }
            if let Some(socket) = crl {
                spawn_local(listen(socket, Rc::clone(&server), None));
            }
            if let Some(token) = server.ca.token().cloned() {
                spawn_local(keep_asking(token, server.ca.folder().to_owned()));
            }
            spawn_local(keep_publishing(server));
            // An error says that the control thread is gone: the end as well.
            let _ = draining.wait_for(|draining| *draining).await;
        });
    };
    std::thread::Builder::new().name("enrolment".to_owned()).spawn(work).map_err(EnrolmentError::Thread)
}

async fn keep_publishing(server: Rc<EstServer>) -> Infallible {
    let mut ticks = tokio::time::interval(PUBLISH_EVERY);
    loop {
        ticks.tick().await;
        let published = async {
            let store = server.store().await?;
            server.ca.publish_if_due(&store, server.refusals.now()).await
        };
        match published.await {
            Ok(Some(draft)) => tracing::info!(number = draft.number, revoked = draft.revoked.len(), "published a CRL"),
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the list of revoked certificates is not published"),
        }
    }
}

/// Lets a token sign something from time to time, so that one that is gone is known before a device needs it. The
/// token's thread is waited for elsewhere: devices that only fetch are answered meanwhile.
async fn keep_asking(token: Arc<TokenKey>, folder: PathBuf) -> Infallible {
    let mut ticks = tokio::time::interval(ASK_TOKEN_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut known = None;
    loop {
        ticks.tick().await;
        let (asked, folder) = (Arc::clone(&token), folder.clone());
        let asked = tokio::task::spawn_blocking(move || Ca::prove_by(&folder, asked)).await;
        let fault = match asked {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        token.note(fault.clone());
        match &fault {
            Some(error) if known.as_ref() != Some(&fault) => {
                tracing::error!(error, "the issuing key's token does not sign: no device gets a certificate");
            }
            None if matches!(known, Some(Some(_))) => tracing::info!("the issuing key's token signs again"),
            Some(_) | None => {}
        }
        known = Some(fault);
    }
}

async fn listen(socket: std::net::TcpListener, server: Rc<EstServer>, est: Option<Est>) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "enrolment does not listen");
            return;
        }
    };
    let slots = Slots::default();
    loop {
        let (stream, source) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a device that enrols");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let crowded = || PeerRefused {
            refusal: Refusal::TooManyConnections,
            detail: "too many connections where devices enrol".to_owned(),
            device: None,
        };
        let Some((slot, leave)) = slots.take(source.ip()) else {
            server.refusals.refuse_peer(source, &crowded(), Stage::Accept);
            continue;
        };
        let (server, est) = (Rc::clone(&server), est.clone());
        spawn_local(async move {
            let slot = Rc::new(slot);
            let refusals = server.refusals.clone();
            let served = async {
                match est {
                    None => serve(stream, server, None, source, None).await,
                    Some(est) => match shake(stream, &est, server.refusals.now()).await {
                        Ok((stream, peer)) => {
                            if peer.is_some() {
                                slot.keep();
                            }
                            serve(stream, server, peer, source, Some(&slot)).await;
                        }
                        Err(refused) => server.refusals.refuse_peer(source, &refused, Stage::Handshake),
                    },
                }
            };
            tokio::select! {
                biased;
                () = asked(leave) => refusals.refuse_peer(source, &crowded(), Stage::Accept),
                done = timeout(CONNECTION_TIMEOUT, served) => if done.is_err() {
                    tracing::debug!(%source, "a connection took too long where devices enrol");
                }
            }
        });
    }
}

/// Resolves when the slot is wanted; never where its holder stays.
async fn asked(leave: Leave) {
    if leave.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The handshake, and whose certificate was shown in it, if any was.
async fn shake(
    stream: TcpStream,
    (tls, verifier): &Est,
    now: UnixTime,
) -> Result<(TlsStream<TcpStream>, Option<VerifiedPeer>), PeerRefused> {
    let mut accept = pin!(TlsAcceptor::from(tls.load_full()).accept(stream));
    let mut refused = None;
    let outcome = poll_fn(|context| {
        let (outcome, noted) = noting(|| accept.as_mut().poll(context));
        refused = refused.take().or(noted);
        outcome
    });
    let outcome = timeout(HEADER_TIMEOUT, outcome).await;
    let stream = match outcome {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let of = |error: &std::io::Error| {
                let (refusal, detail) = refusal_of_io(error);
                PeerRefused { refusal, detail, device: None }
            };
            return Err(refused.unwrap_or_else(|| of(&error)));
        }
        Err(_) => {
            let detail = "the handshake took too long".to_owned();
            return Err(PeerRefused { refusal: Refusal::HandshakeTimeout, detail, device: None });
        }
    };
    let (_, connection) = stream.get_ref();
    let peer = match connection.peer_certificates() {
        None => None,
        Some(_) => Some(verifier.peer(connection, now)?),
    };
    Ok((stream, peer))
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    server: Rc<EstServer>,
    peer: Option<VerifiedPeer>,
    source: SocketAddr,
    est: Option<&Rc<Slot>>,
) {
    let peer = Rc::new(peer);
    let service = service_fn(|request: Request<Incoming>| {
        let (server, peer, est) = (Rc::clone(&server), Rc::clone(&peer), est.map(Rc::clone));
        async move {
            let answer = match est {
                Some(slot) => answer::est(&server, &slot, peer.as_ref().as_ref(), source, request).await,
                None => answer::crl(&server.ca, request.method(), request.uri().path()),
            };
            Ok::<_, Infallible>(answer)
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%source, %error, "a connection ended where devices enrol");
    }
}

impl EstServer {
    /// The store; opened anew where another file was put in its place.
    async fn store(&self) -> Result<Store, StoreError> {
        let store = self.store.borrow().clone();
        if store.check_in_place().is_ok() {
            return Ok(store);
        }
        let store = Store::open_existing(store.path()).await?;
        self.store.replace(store.clone());
        Ok(store)
    }
}
