//! TLS of a listener.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;

use crate::profile::ProfileError;
use crate::profile::optional::Optional;
use crate::verifier::OperatorVerifier;
use crate::{PeerVerifier, Profile, ServerIdentity};

/// Session resumption of one listener.
///
/// Stateless tickets: a resumed connection may come to any worker, and a shared session store would be a lock that all
/// workers contend for. The tickets' keys are made at random in memory and replaced every six hours; they are never
/// written, so a restart ends every session. A ticket proves only that its holder once was let in: whoever comes with
/// one is judged again by [`PeerVerifier::peer`], so that keys may outlive a reload of anchors and registry without
/// outliving anybody's rights.
#[derive(Debug, Clone)]
pub enum Resumption {
    /// Every handshake is full.
    Off,
    /// Tickets under these keys.
    Tickets(Arc<dyn ProducesTickets>),
}

impl Resumption {
    /// Tickets under new random keys. One listener's keys are not another's: a ticket opens only the door it was given
    /// at. Keep the value across reloads to spare every client a full handshake.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub fn new_tickets() -> Result<Self, ProfileError> {
        Ok(Self::Tickets(Ticketer::new()?))
    }
}

/// Whether clients are asked for a certificate. Only where something outside TLS has proved who is there may it be other
/// than [`Required`](Self::Required).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Nobody is asked.
    Off,
    /// Who shows one is judged by it, and nobody has to.
    Optional,
    /// Without one there is no connection.
    Required,
}

/// What a listener's TLS is made of.
#[derive(Debug)]
pub struct ServerSettings<'a> {
    /// Versions and algorithms.
    pub profile: Profile,
    /// Which certificate and key a client gets to see. Whatever it asks for, the verifier is the same, so that no name
    /// leads past it (C7); [`ServerIdentities::choose`](crate::ServerIdentities::choose) says what a resolver must.
    pub resolver: Arc<dyn ResolvesServerCert>,
    /// Who may come in.
    pub verifier: Arc<PeerVerifier>,
    /// Whether a certificate is asked for.
    pub certificates: ClientCertificates,
    /// Application protocols, the preferred first.
    pub alpn: &'a [&'a [u8]],
    /// Session resumption.
    pub resumption: Resumption,
    /// The clock that certificates and tickets are judged by.
    pub clock: Arc<dyn TimeProvider>,
}

/// Makes a listener's TLS. Early data is never taken: it can be replayed (RFC 8446 8), and it would reach a backend
/// before the peer is judged.
///
/// # Errors
/// [`ProfileError`] if rustls finds the parts not to fit.
pub fn server_config(settings: ServerSettings<'_>) -> Result<ServerConfig, ProfileError> {
    let ServerSettings { profile, resolver, verifier, certificates, alpn, resumption, clock } = settings;
    let builder =
        ServerConfig::builder_with_details(profile.provider(), clock).with_protocol_versions(profile.versions())?;
    let builder = match certificates {
        ClientCertificates::Off => builder.with_no_client_auth(),
        ClientCertificates::Optional => builder.with_client_cert_verifier(Arc::new(Optional(verifier))),
        ClientCertificates::Required => builder.with_client_cert_verifier(verifier),
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.ignore_client_order = true;
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    // Without the extended master secret a TLS 1.2 session can be spliced into another (RFC 7627).
    config.require_ems = profile.requires_extended_master_secret();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match resumption {
        Resumption::Tickets(_) if !profile.resumes() => config.send_tls13_tickets = 0,
        Resumption::Off => config.send_tls13_tickets = 0,
        Resumption::Tickets(ticketer) => {
            config.ticketer = ticketer;
            // A ticket carries the client's chain and costs an encryption and a kilobyte on the wire. One is enough for
            // a client that comes back: every resumption brings it the next (RFC 8446 C.4). More would only help one
            // that opens several connections at once and never uses a ticket twice.
            config.send_tls13_tickets = 1;
        }
    }
    Ok(config)
}

/// Makes the TLS of the operators' listener: whoever `verifier` takes is an operator. Sessions are not resumed, so
/// that nobody is let in by what another day's anchors allowed.
///
/// # Errors
/// [`ProfileError`] if rustls finds the parts not to fit.
pub fn operators_config(
    profile: Profile,
    identity: &ServerIdentity,
    verifier: Arc<OperatorVerifier>,
    clock: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, ProfileError> {
    let mut config = ServerConfig::builder_with_details(profile.provider(), clock)
        .with_protocol_versions(profile.versions())?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())));
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}
