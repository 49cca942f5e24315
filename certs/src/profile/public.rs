//! TLS for a listener that anybody may speak to: whoever comes proves nothing by a certificate.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;

use super::{Profile, ProfileError};
use crate::ServerIdentity;

/// Makes the TLS of a listener that asks for no certificate. Sessions are not resumed.
///
/// # Errors
/// [`ProfileError`] if rustls finds the parts not to fit.
pub fn public_config(
    profile: Profile,
    identity: &ServerIdentity,
    clock: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, ProfileError> {
    let mut config = ServerConfig::builder_with_details(profile.provider(), clock)
        .with_protocol_versions(profile.versions())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified_key())));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}
