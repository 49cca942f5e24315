//! TLS on a listener: from a stream to a verified peer.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use certs::profile::{ClientCertificates, Resumption, ServerSettings, UnknownProfile, server_config};
use certs::verifier::{Admit, noting, refusal_of_io};
use certs::{AnchorFileError, Anchors, PeerRefused, PeerVerifier, Profile, TrustDomain, VerifiedPeer};
use policy::{DeviceId, Refusal};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::time_provider::TimeProvider as _;
use rustls::{HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::{Accept, LazyConfigAcceptor, TlsAcceptor};

use super::accept::Carrier;
use super::h1::Stream;
use super::identities::Identities;
use super::peer::Shown;
use super::purpose::{PeerRules, RolesFileError};
use crate::clock::TlsTime;
use crate::config::{Asking, InsideTls, Listener, ListenerTls};
use crate::quic::{self, QuicTls};
use crate::registry::directory::Proved;
use crate::revocation::{Lists, RevocationError, notice, unix_seconds};

/// How long, and for how many bytes, a refused peer is listened to after its alert.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 64 * 1024;

/// Protocols over TLS, the preferred first.
const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// Why a listener's TLS cannot be set up. The message names the file.
#[derive(Debug, thiserror::Error)]
pub enum ListenerTlsError {
    /// The profile is unknown.
    #[error(transparent)]
    Profile(#[from] UnknownProfile),
    /// The anchors of peers' certificates cannot be used.
    #[error(transparent)]
    Anchors(#[from] certs::AnchorFileError),
    /// The gateway's certificate or key cannot be used.
    #[error(transparent)]
    Identity(#[from] certs::ServerIdentityError),
    /// A CRL cannot be used.
    #[error("listener `{listener}`: {error}")]
    Revocation {
        /// The listener.
        listener: String,
        /// The file, and what is wrong with it.
        error: RevocationError,
    },
    /// A table of roles cannot be used.
    #[error("listener `{listener}`: {error}")]
    Roles {
        /// The listener.
        listener: String,
        /// The file, and what is wrong with it.
        error: RolesFileError,
    },
    /// The parts do not fit together.
    #[error("listener `{listener}`: {message}")]
    Setup {
        /// The listener.
        listener: String,
        /// What does not fit, or what the TLS library says.
        message: String,
    },
}

/// A listener's TLS, with everything loaded.
pub struct TlsListener {
    acceptor: TlsAcceptor,
    verifier: Arc<PeerVerifier>,
    lists: Arc<Lists>,
    resumption: Resumption,
    domain: TrustDomain,
    rules: PeerRules,
    identities: Arc<Identities>,
    profile: Profile,
    /// The same for QUIC, where that is spoken.
    quic: Option<Arc<QuicTls>>,
    /// Whether nobody may come in without a certificate.
    asks: ClientCertificates,
    /// The first end among the authorities of its peers, seconds since 1970; none where no certificate is asked for.
    pub authorities_not_after: Option<u64>,
}

/// The anchors of peers' certificates; nobody's where none is asked for.
///
/// # Errors
/// [`AnchorFileError`] names the file.
pub(crate) fn anchors(tls: &ListenerTls) -> Result<Anchors, AnchorFileError> {
    tls.client_ca_file.as_deref().map_or_else(|| Ok(Anchors::none()), Anchors::load_file)
}

impl TlsListener {
    /// Loads the files that the listener names. `admit` asks the registry. Where `old` is the same listener before a
    /// reload, its clients' sessions stay resumable; they are judged anew in any case.
    ///
    /// # Errors
    /// [`ListenerTlsError`]; there is no weaker configuration to fall back to (C7).
    pub fn load(
        listener: &Listener,
        domain: &TrustDomain,
        admit: Admit,
        old: Option<&Self>,
    ) -> Result<Self, ListenerTlsError> {
        let profile: Profile = listener.tls.profile.parse()?;
        let anchors = anchors(&listener.tls)?;
        let asks = match listener.client_certificates() {
            Asking::Off => ClientCertificates::Off,
            Asking::Optional => ClientCertificates::Optional,
            Asking::Required => ClientCertificates::Required,
        };
        let now = TlsTime.current_time().unwrap_or(UnixTime::since_unix_epoch(Duration::ZERO));
        let identities = Arc::new(Identities::load(listener, now)?);
        let setup = |message: String| ListenerTlsError::Setup { listener: listener.name.clone(), message };
        if let Some(why) = old.and_then(|old| identities.untimely(&old.identities, now)) {
            return Err(setup(why));
        }
        let rules = PeerRules::load(listener, domain)
            .map_err(|error| ListenerTlsError::Roles { listener: listener.name.clone(), error })?;
        let mut verifier = PeerVerifier::new(&anchors, profile, rules.peers.clone(), admit);
        if let Some(old) = old {
            verifier = verifier.with_cache(old.verifier.cache());
        }
        let revocation = &listener.tls.revocation;
        let lists = Lists::load(revocation, &anchors, profile, old.map(|old| &*old.lists), unix_seconds())
            .map_err(|error| ListenerTlsError::Revocation { listener: listener.name.clone(), error })?;
        let lists = Arc::new(lists);
        verifier = verifier.with_revocation(lists.set(), lists.settings());
        if let Some(notice) = notice(&lists) {
            verifier = verifier.with_notice(notice);
        }
        let verifier = Arc::new(verifier);
        let resumption = match old {
            Some(old) => old.resumption.clone(),
            None => Resumption::new_tickets().map_err(|error| setup(error.to_string()))?,
        };
        let config = server_config(ServerSettings {
            profile,
            resolver: Arc::clone(&identities) as _,
            verifier: Arc::clone(&verifier),
            certificates: asks,
            alpn: if listener.is_tcp() { &[] } else { ALPN },
            resumption: resumption.clone(),
            clock: Arc::new(TlsTime),
        })
        .map_err(|error| setup(error.to_string()))?;
        let quic = match listener.http3 {
            true => {
                // QUIC knows TLS 1.3 alone (RFC 9001 4.2), whatever is taken on TCP.
                let config = server_config(ServerSettings {
                    profile: Profile::CryptrecHigh,
                    resolver: Arc::clone(&identities) as _,
                    verifier: Arc::clone(&verifier),
                    certificates: asks,
                    alpn: quic::ALPN,
                    resumption: resumption.clone(),
                    clock: Arc::new(TlsTime),
                })
                .map_err(|error| setup(error.to_string()))?;
                Some(Arc::new(QuicTls::new(config, Arc::clone(&verifier)).map_err(setup)?))
            }
            false => None,
        };
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            verifier,
            lists,
            resumption,
            domain: domain.clone(),
            rules,
            identities,
            profile,
            quic,
            asks,
            authorities_not_after: listener.tls.client_ca_file.as_ref().map(|_| anchors.not_after().as_secs()),
        })
    }

    /// What the listener shows to its clients.
    #[must_use]
    pub const fn identities(&self) -> &Arc<Identities> {
        &self.identities
    }

    /// TLS for QUIC; none where that is not spoken.
    pub(crate) const fn quic(&self) -> Option<&Arc<QuicTls>> {
        self.quic.as_ref()
    }

    /// The profile that it speaks TLS by.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// The SPIFFE ID of a device in the listener's trust domain.
    #[must_use]
    pub fn spiffe_id(&self, device: &DeviceId) -> String {
        self.domain.id_of(device)
    }

    /// What the registry has to know of whom this listener proves.
    #[must_use]
    pub const fn proved(&self) -> Proved<'_> {
        self.rules.proved()
    }

    /// Where its CRLs and OCSP answers come from.
    #[must_use]
    pub fn lists(&self) -> &Arc<Lists> {
        &self.lists
    }

    /// Has the verifier judge by the lists and answers in force; true if somebody has to be judged again.
    pub fn take_lists(&self) -> bool {
        let news = self.lists.has_new_answers();
        let set = self.lists.set();
        let changed = *set.version() != self.verifier.crls_version();
        if changed || news {
            self.verifier.set_crls(set);
        }
        changed
    }

    /// Judges a live connection's peer by these anchors, this registry and this moment.
    ///
    /// # Errors
    /// What a handshake would be refused with.
    pub fn recheck(&self, chain: &[CertificateDer<'static>], unix_ns: i64) -> Result<VerifiedPeer, Refusal> {
        self.verifier.recheck(chain, unix_time(unix_ns)).map_err(|refused| refused.refusal)
    }

    /// Takes what a peer begins with: a handshake or, where that is let, none.
    ///
    /// # Errors
    /// As [`handshake`](Self::handshake).
    pub(super) async fn arrive<S: Carrier>(
        &self,
        mut stream: S,
        speaks: InsideTls,
        now_unix_ns: i64,
    ) -> Result<Arrived, PeerRefused> {
        let has_tls = match speaks {
            InsideTls::Required => true,
            InsideTls::Optional => stream.begins_with_tls().await.map_err(|error| refused_by(&error))?,
            InsideTls::Off => false,
        };
        if has_tls {
            return self.handshake(stream, now_unix_ns).await;
        }
        Ok(Arrived::Peer(Box::new(Established { shown: None, parameters: None, stream: Box::new(stream) })))
    }

    /// Runs the handshake and reads who is there.
    ///
    /// # Errors
    /// [`PeerRefused`]: the refusal, and what exactly was wrong, for the record only.
    async fn handshake<S: Carrier>(&self, stream: S, now_unix_ns: i64) -> Result<Arrived, PeerRefused> {
        if now_unix_ns < 0 {
            // No certificate is valid then, and the library's ticket keys cannot be asked without a panic.
            let detail = "the clock is before 1970".to_owned();
            return Err(PeerRefused { refusal: Refusal::ClockUnsynchronised, detail, device: None });
        }
        let accept = if self.identities.is_challenged() {
            match self.sort_out(stream).await? {
                Some(accept) => accept,
                None => return Ok(Arrived::Validated),
            }
        } else {
            self.acceptor.accept(stream)
        };
        let mut accept = pin!(accept.into_fallible());
        let mut refused = None;
        let outcome = poll_fn(|context| {
            let (outcome, noted) = noting(|| accept.as_mut().poll(context));
            refused = refused.take().or(noted);
            outcome
        });
        let stream = match outcome.await {
            Ok(stream) => stream,
            Err((error, stream)) => {
                linger(stream).await;
                return Err(refused.unwrap_or_else(|| refused_by(&error)));
            }
        };
        let (_, connection) = stream.get_ref();
        let chain = connection.peer_certificates().unwrap_or_default();
        let peer = match (chain, self.asks) {
            ([], ClientCertificates::Off | ClientCertificates::Optional) => Ok(None),
            ([_, ..], _) | ([], ClientCertificates::Required) => {
                self.verifier.peer(connection, unix_time(now_unix_ns)).map(Some)
            }
        };
        let peer = match peer {
            Ok(peer) => peer,
            Err(refused) => {
                let (stream, mut tls) = stream.into_inner();
                tls.send_close_notify();
                linger(stream).await;
                return Err(refused);
            }
        };
        let parameters = Parameters {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "1.3",
                _ => "1.2",
            },
            suite: connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("unknown"),
            group: connection.negotiated_key_exchange_group().and_then(|group| group.name().as_str()),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            sni: connection.server_name().map(str::to_ascii_lowercase),
            protocol: match connection.alpn_protocol() {
                Some(b"h2") => Protocol::H2,
                Some(_) | None => Protocol::H1,
            },
        };
        let chain = || chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        let shown = peer.map(|peer| Shown { peer, chain: chain() });
        Ok(Arrived::Peer(Box::new(Established { shown, parameters: Some(parameters), stream: Box::new(stream) })))
    }

    /// While validations by `tls-alpn-01` are under way: reads the first message, and answers whoever validates. That
    /// connection ends here, at the end of its handshake; not a byte that it sends is read. Everybody else goes the usual
    /// way.
    async fn sort_out<S: Carrier>(&self, stream: S) -> Result<Option<Accept<S>>, PeerRefused> {
        let mut first = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
        let start = match (&mut first).await {
            Ok(start) => start,
            Err(error) => {
                if let Some(stream) = first.take_io() {
                    linger(stream).await;
                }
                return Err(refused_by(&error));
            }
        };
        let Some(answer) = self.identities.challenge(&start.client_hello()) else {
            return Ok(Some(start.into_stream(Arc::clone(self.acceptor.config()))));
        };
        match start.into_stream(answer).into_fallible().await {
            Ok(stream) => {
                let (stream, mut tls) = stream.into_inner();
                tls.send_close_notify();
                linger(stream).await;
                Ok(None)
            }
            Err((error, stream)) => {
                linger(stream).await;
                Err(refused_by(&error))
            }
        }
    }
}

/// What came of a handshake that did not fail.
pub(super) enum Arrived {
    /// Somebody is there.
    Peer(Box<Established>),
    /// It was the validation of a server name; the connection is closed.
    Validated,
    /// A load balancer looked whether anybody is there.
    Check,
}

/// A beginning that ended well.
pub(super) struct Established {
    /// The certificate that was presented and holds; none where nobody had to present one.
    pub shown: Option<Shown>,
    /// What was agreed; none where no TLS is spoken.
    pub parameters: Option<Parameters>,
    /// The stream.
    pub stream: Box<dyn Stream>,
}

/// What a handshake agreed on (R15).
#[derive(Debug, Clone)]
pub struct Parameters {
    /// `1.2` or `1.3`.
    pub version: &'static str,
    /// The cipher suite.
    pub suite: &'static str,
    /// The key exchange group; none where a session was resumed without one.
    pub group: Option<&'static str>,
    /// An earlier session was resumed.
    pub resumed: bool,
    /// The server name the peer asked for, lower case.
    pub sni: Option<String>,
    /// What is spoken.
    pub protocol: Protocol,
}

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    H1,
    /// HTTP/2.
    H2,
    /// HTTP/3.
    H3,
}

impl Protocol {
    /// Its name in ALPN, in records and in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::H1 => "http/1.1",
            Self::H2 => "h2",
            Self::H3 => "h3",
        }
    }
}

/// What a handshake's error says about the peer, its device included where its certificate names one.
fn refused_by(error: &std::io::Error) -> PeerRefused {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(error) => PeerRefused::of(error),
        None => {
            let (refusal, detail) = refusal_of_io(error);
            PeerRefused { refusal, detail, device: None }
        }
    }
}

/// Closes after an alert so that the client gets to read it: what it has sent meanwhile, a request perhaps, would turn
/// the close into a reset that takes the alert with it.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let mut left = LINGER_BYTES;
    let read_away = async {
        stream.shutdown().await?;
        let mut buffer = [0; 2048];
        loop {
            match stream.read(&mut buffer).await? {
                0 => return Ok(()),
                read => left = left.checked_sub(read).ok_or(std::io::ErrorKind::FileTooLarge)?,
            }
        }
    };
    let _: Result<std::io::Result<()>, _> = tokio::time::timeout(LINGER, read_away).await;
}

fn unix_time(unix_ns: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_nanos(u64::try_from(unix_ns).unwrap_or(0)))
}
