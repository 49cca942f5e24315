//! TLS towards backends: only the configured authorities count, and the gateway shows its own certificate if told to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::Service;

/// Why the TLS configuration of a service cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read, or is no PEM of that kind.
    #[error("`{}`: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate, key and provider do not fit together.
    #[error("TLS to a backend cannot be configured: {0}")]
    Rustls(#[from] rustls::Error),
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |reason: String| TlsError::File { path: path.to_owned(), reason };
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|reason| error(reason.to_string()))?;
    if found.is_empty() { Err(error("holds no certificate".into())) } else { Ok(found) }
}

/// The TLS configuration of a service; `None` where its backends are plain. Reads the files that the service names.
///
/// Verification is rustls': the chain must end at one of `ca_file`, and the name must match. TLS 1.2 and 1.3 are what
/// `provider` allows; sessions are resumed; the protocol is agreed on by ALPN.
///
/// # Errors
/// [`TlsError`] if a file cannot be read or the pieces do not fit.
pub fn read_client_config(
    service: &Service,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<ClientConfig>>, TlsError> {
    let Some(tls) = &service.tls else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&tls.ca_file)? {
        roots.add(certificate)?;
    }
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some((certificate_file, key_file)) => {
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|reason| TlsError::File { path: key_file.clone(), reason: reason.to_string() })?;
            builder.with_client_auth_cert(certificates(certificate_file)?, key)?
        }
    };
    config.alpn_protocols = vec![if service.http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(Some(Arc::new(config)))
}
