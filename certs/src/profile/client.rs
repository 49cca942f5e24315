//! TLS towards a backend.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;

use crate::profile::ProfileError;
use crate::verifier::BackendVerifier;
use crate::{Profile, ServerIdentity};

/// What the TLS towards a backend is made of.
#[derive(Debug)]
pub struct ClientSettings<'a> {
    /// Versions and algorithms.
    pub profile: Profile,
    /// Who judges the backend's certificate, by pinned authorities; the system's are never asked.
    pub verifier: Arc<BackendVerifier>,
    /// The gateway's own certificate, where the backend wants one.
    pub identity: Option<&'a ServerIdentity>,
    /// Application protocols, the preferred first.
    pub alpn: &'a [&'a [u8]],
    /// The clock that certificates are judged by.
    pub clock: Arc<dyn TimeProvider>,
}

/// Makes the TLS towards a backend. Sessions are not resumed: pooled connections make handshakes rare, and a resumed
/// one would not look at the backend's certificate again.
///
/// # Errors
/// [`ProfileError`] if rustls finds the parts not to fit.
pub fn client_config(settings: ClientSettings<'_>) -> Result<ClientConfig, ProfileError> {
    let ClientSettings { profile, verifier, identity, alpn, clock } = settings;
    let builder = ClientConfig::builder_with_details(profile.provider(), clock)
        .with_protocol_versions(profile.versions())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key()))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.resumption = Resumption::disabled();
    Ok(config)
}
