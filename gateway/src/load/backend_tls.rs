//! TLS towards backends: only the configured authorities count, and the gateway shows its own certificate if told to.

use std::sync::Arc;

use certs::profile::{ClientSettings, client_config};
use certs::{Anchors, Profile, ServerIdentity};
use rustls::ClientConfig;

use super::LoadError;
use crate::config::Service;
use crate::snapshot::{CertificateEnd, Purpose};

/// The TLS configuration of a service; `None` where its backends are plain. Reads the files that the service names, and
/// adds to `ends` when their certificates end.
///
/// # Errors
/// [`LoadError::Service`] if a file cannot be read or the pieces do not fit.
pub(crate) fn backend_tls(
    service: &Service,
    ends: &mut Vec<CertificateEnd>,
) -> Result<Option<Arc<ClientConfig>>, LoadError> {
    let Some(tls) = &service.tls else { return Ok(None) };
    let failed = |message: String| LoadError::Service { service: service.name.to_string(), message };
    let mut ends_at = |purpose, not_after| {
        ends.push(CertificateEnd { purpose, name: service.name.to_string(), not_after });
    };
    let authorities = Anchors::load_file(&tls.ca_file).map_err(|error| failed(error.to_string()))?;
    ends_at(Purpose::BackendAuthorities, authorities.not_after().as_secs());
    let identity = match &tls.identity {
        Some((certificate, key)) => {
            let identity = ServerIdentity::load_files(certificate, key).map_err(|error| failed(error.to_string()))?;
            ends_at(Purpose::BackendIdentity, identity.not_after().as_secs());
            Some(identity)
        }
        None => None,
    };
    let alpn: &[&[u8]] = if service.http2 { &[b"h2"] } else { &[b"http/1.1"] };
    client_config(ClientSettings {
        profile: Profile::CryptrecHighTls12,
        authorities: &authorities,
        identity: identity.as_ref(),
        alpn,
        clock: Arc::new(crate::clock::TlsTime),
    })
    .map(|config| Some(Arc::new(config)))
    .map_err(|error| failed(error.to_string()))
}
