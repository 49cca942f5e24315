//! TLS of the listener that devices enrol at (RFC 7030 3.3).

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;

use crate::profile::ProfileError;
use crate::profile::optional::Optional;
use crate::{PeerVerifier, Profile, ServerIdentity};

/// Makes the TLS of the enrolment listener: a device that has a certificate shows it, one that has none comes in
/// without. Sessions are not resumed, so that every connection's certificate was judged in its own handshake.
///
/// # Errors
/// [`ProfileError`] if rustls finds the parts not to fit.
pub fn enrolment_config(
    profile: Profile,
    identity: &ServerIdentity,
    verifier: Arc<PeerVerifier>,
    clock: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, ProfileError> {
    let mut config = ServerConfig::builder_with_details(profile.provider(), clock)
        .with_protocol_versions(profile.versions())?
        .with_client_cert_verifier(Arc::new(Optional(verifier)))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}
