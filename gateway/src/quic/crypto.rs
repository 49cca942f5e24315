//! TLS 1.3 inside QUIC (RFC 9001): rustls's, with the listener's certificates and its verifier.
//!
//! quinn's own session tells neither suite nor group, nor whether a session was resumed, nor why a certificate was refused.
//! This one does, and judges a resumed session's chain anew before the handshake counts as done.

use std::any::Any;
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};

use certs::verifier::noting;
use certs::{PeerRefused, PeerVerifier};
use policy::Refusal;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::crypto::{self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, UnsupportedVersion};
use quinn::{ConnectionId, Side, TransportErrorCode};
use quinn_proto::TransportError;
use quinn_proto::transport_parameters::TransportParameters;
use rustls::pki_types::UnixTime;
use rustls::quic::{KeyChange, Secrets, ServerConnection, Suite, Version};
use rustls::time_provider::TimeProvider as _;
use rustls::{AlertDescription, HandshakeKind};

use crate::clock::TlsTime;
use crate::listen::{Parameters, Protocol, ShownCertificate};

/// A listener's TLS for QUIC.
pub(crate) struct QuicTls {
    config: Arc<rustls::ServerConfig>,
    /// Protects what comes before any key was agreed on.
    quinn: Arc<QuicServerConfig>,
    initial: Suite,
    verifier: Arc<PeerVerifier>,
}

impl QuicTls {
    /// TLS by `config`, whose clients `verifier` judges.
    ///
    /// # Errors
    /// What does not fit QUIC.
    pub(crate) fn new(config: rustls::ServerConfig, verifier: Arc<PeerVerifier>) -> Result<Self, String> {
        let config = Arc::new(config);
        let suites = config.crypto_provider().cipher_suites.iter();
        let aes = suites.filter(|suite| suite.suite() == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        let initial = aes.filter_map(|suite| suite.tls13()?.quic_suite()).next().ok_or("there is no AES-128-GCM")?;
        let quinn = QuicServerConfig::with_initial(Arc::clone(&config), initial).map_err(|error| error.to_string())?;
        let tls = Self { config, quinn: Arc::new(quinn), initial, verifier };
        // What would stand in each connection's way stands in the listener's.
        ServerConnection::new(Arc::clone(&tls.config), Version::V1, Vec::new()).map_err(|error| error.to_string())?;
        Ok(tls)
    }

    fn session(self: Arc<Self>, parameters: &TransportParameters, proof: Arc<Proof>) -> Session {
        let mut bytes = Vec::new();
        parameters.write(&mut bytes);
        let tls = ServerConnection::new(Arc::clone(&self.config), Version::V1, bytes).ok();
        Session { with: self, tls, next: None, told: false, proof }
    }
}

impl crypto::ServerConfig for QuicTls {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.quinn.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.quinn.retry_tag(version, id, packet)
    }

    fn start_session(self: Arc<Self>, _: u32, parameters: &TransportParameters) -> Box<dyn crypto::Session> {
        Box::new(self.session(parameters, Arc::default()))
    }
}

/// What came of one connection's handshake.
#[derive(Default)]
pub(crate) struct Proof(Mutex<Option<Result<(ShownCertificate, Parameters), PeerRefused>>>);

impl Proof {
    /// Takes it out; none while the handshake goes on, and where it ended by nothing that TLS knows of.
    pub(crate) fn take(&self) -> Option<Result<(ShownCertificate, Parameters), PeerRefused>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The first one stays.
    fn put(&self, outcome: Result<(ShownCertificate, Parameters), PeerRefused>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(outcome);
    }
}

/// A listener's TLS for one connection, which tells what came of it.
pub(super) struct Proving {
    pub(super) tls: Arc<QuicTls>,
    pub(super) proof: Arc<Proof>,
}

impl crypto::ServerConfig for Proving {
    fn initial_keys(&self, version: u32, id: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.tls.initial_keys(version, id)
    }

    fn retry_tag(&self, version: u32, id: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.tls.retry_tag(version, id, packet)
    }

    fn start_session(self: Arc<Self>, _: u32, parameters: &TransportParameters) -> Box<dyn crypto::Session> {
        Box::new(Arc::clone(&self.tls).session(parameters, Arc::clone(&self.proof)))
    }
}

struct Session {
    with: Arc<QuicTls>,
    /// None if there is none to be had, which was found out before.
    tls: Option<ServerConnection>,
    next: Option<Secrets>,
    /// Whether quinn knows that the peer's first message was read.
    told: bool,
    proof: Arc<Proof>,
}

impl Session {
    /// Reads who is there, once the handshake is done.
    fn prove(&self, tls: &ServerConnection) -> Result<(), TransportError> {
        let now = TlsTime.current_time().unwrap_or(UnixTime::since_unix_epoch(std::time::Duration::ZERO));
        let outcome = self.with.verifier.peer(tls, now).map(|peer| {
            let chain = tls.peer_certificates().unwrap_or_default();
            let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
            let parameters = Parameters {
                version: "1.3",
                suite: tls.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("unknown"),
                group: tls.negotiated_key_exchange_group().and_then(|group| group.name().as_str()),
                resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
                sni: tls.server_name().map(str::to_ascii_lowercase),
                protocol: Protocol::H3,
            };
            (ShownCertificate { peer, chain }, parameters)
        });
        let refused = outcome.is_err();
        self.proof.put(outcome);
        if refused { Err(alert(AlertDescription::AccessDenied, "access denied")) } else { Ok(()) }
    }
}

/// What a peer learns of a handshake that failed (RFC 9001 4.8); the rest is in the record.
fn alert(description: AlertDescription, reason: &str) -> TransportError {
    let code = TransportErrorCode::crypto(description.into());
    TransportError { code, frame: None, reason: reason.to_owned() }
}

fn boxed(keys: rustls::quic::Keys) -> Keys {
    Keys {
        header: KeyPair { local: Box::new(keys.local.header), remote: Box::new(keys.remote.header) },
        packet: KeyPair { local: Box::new(keys.local.packet), remote: Box::new(keys.remote.packet) },
    }
}

impl crypto::Session for Session {
    fn initial_keys(&self, id: &ConnectionId, side: Side) -> Keys {
        boxed(self.with.initial.keys(id, side.into(), Version::V1))
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.told.then(|| Box::new(()) as _)
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        None
    }

    /// Nothing that could be replayed is read: early data is never taken.
    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_handshaking())
    }

    fn read_handshake(&mut self, bytes: &[u8]) -> Result<bool, TransportError> {
        let Some(tls) = &mut self.tls else {
            return Err(alert(AlertDescription::InternalError, "no session"));
        };
        let was_handshaking = tls.is_handshaking();
        let (read, noted) = noting(|| tls.read_hs(bytes));
        if let Err(error) = read {
            let description = tls.alert().unwrap_or(AlertDescription::HandshakeFailure);
            self.proof.put(Err(noted.unwrap_or_else(|| PeerRefused::of(&error))));
            return Err(alert(description, "handshake failed"));
        }
        if was_handshaking
            && let Some(tls) = &self.tls
            && !tls.is_handshaking()
        {
            self.prove(tls)?;
        }
        let knows = self.tls.as_ref().is_some_and(|tls| tls.alpn_protocol().is_some());
        Ok(knows && !std::mem::replace(&mut self.told, knows))
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let Some(bytes) = self.tls.as_ref().and_then(|tls| tls.quic_transport_parameters()) else { return Ok(None) };
        TransportParameters::read(Side::Server, &mut Cursor::new(bytes)).map(Some).map_err(|error| {
            let detail = format!("transport parameters: {error}");
            self.proof.put(Err(PeerRefused { refusal: Refusal::HandshakeFailed, detail, device: None }));
            error.into()
        })
    }

    fn write_handshake(&mut self, buffer: &mut Vec<u8>) -> Option<Keys> {
        match self.tls.as_mut()?.write_hs(buffer)? {
            KeyChange::Handshake { keys } => Some(boxed(keys)),
            KeyChange::OneRtt { keys, next } => {
                self.next = Some(next);
                Some(boxed(keys))
            }
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.next.as_mut()?.next_packet_keys();
        Some(KeyPair { local: Box::new(keys.local), remote: Box::new(keys.remote) })
    }

    /// Nobody sends a server a Retry.
    fn is_valid_retry(&self, _: &ConnectionId, _: &[u8], _: &[u8]) -> bool {
        false
    }

    /// Nobody asks.
    fn export_keying_material(&self, _: &mut [u8], _: &[u8], _: &[u8]) -> Result<(), ExportKeyingMaterialError> {
        Err(ExportKeyingMaterialError)
    }
}
