//! TLS towards backends: only the configured authorities count, and the gateway shows its own certificate if told to.

use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use certs::path::{Crl, CrlSet, MAX_CRL_BYTES, RevocationMode, RevocationSettings, read_crls};
use certs::profile::{ClientSettings, client_config};
use certs::verifier::BackendVerifier;
use certs::{Anchors, Profile, ServerIdentity};
use rustls::ClientConfig;

use super::LoadError;
use crate::config::Service;
use crate::snapshot::{CertificateEnd, Purpose};

/// Backends may be old; TLS 1.2 with ECDHE and AEAD is as low as it gets.
const PROFILE: Profile = Profile::CryptrecHighTls12;

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
    let mut verifier = BackendVerifier::new(&authorities, PROFILE);
    if !tls.crl_files.is_empty() {
        let mut crls = CrlSet::default();
        for (file, path) in tls.crl_files.iter().enumerate() {
            let refused = |error: &dyn std::fmt::Display| failed(format!("CRL `{}`: {error}", path.display()));
            let lists = read_lists(path).map_err(|error| refused(&error))?;
            for (at, list) in lists.into_iter().enumerate() {
                crls = crls.with(&format!("{file}/{at}"), list).map_err(|error| refused(&error))?;
            }
        }
        // A list that is out of date still tells whom it revoked, and keeps no good backend out.
        let settings = RevocationSettings { mode: RevocationMode::Prefer, ..RevocationSettings::default() };
        verifier = verifier.with_revocation(crls, settings);
    }
    let alpn: &[&[u8]] = match (service.is_stream, service.http2) {
        (true, _) => &[],
        (false, true) => &[b"h2"],
        (false, false) => &[b"http/1.1"],
    };
    client_config(ClientSettings {
        profile: PROFILE,
        verifier: Arc::new(verifier),
        identity: identity.as_ref(),
        alpn,
        clock: Arc::new(crate::clock::TlsTime),
    })
    .map(|config| Some(Arc::new(config)))
    .map_err(|error| failed(error.to_string()))
}

/// The lists of a file, DER or PEM.
fn read_lists(path: &Path) -> io::Result<Vec<Crl>> {
    let most = MAX_CRL_BYTES as u64;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    read_crls(&bytes).map_err(io::Error::other)
}
