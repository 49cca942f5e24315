//! What ACME asks of a server: a request for its certificate (RFC 8555 7.4), and the answer to the challenge
//! `tls-alpn-01` (RFC 8737).

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::{IssueError, KeyKind, LAST_SECOND, PrivatePem, host, params};
use crate::Profile;

/// The application protocol of validation, and of nothing else (RFC 8737 6.2).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// Validation is a matter of seconds.
const CHALLENGE_LIFETIME: Duration = Duration::from_secs(86_400);

/// Why there is no answer to a challenge.
#[derive(Debug, thiserror::Error)]
pub enum ChallengeError {
    /// The certificate.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// rustls finds the parts not to fit.
    #[error("the answer to a challenge: {0}")]
    Tls(#[from] rustls::Error),
}

/// Draws a P-256 key and makes a certification request for these host names, in DER.
///
/// # Errors
/// [`IssueError`] if a name is none, or the generator fails.
pub fn server_request(names: &[String]) -> Result<(PrivatePem, Vec<u8>), IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for name in names {
        params.subject_alt_names.push(host(name)?);
    }
    let key = KeyPair::generate_for(KeyKind::P256.algorithm())?;
    let request = params.serialize_request(&key)?;
    Ok((PrivatePem(key.serialize_pem()), request.der().to_vec()))
}

/// The TLS of one validation (RFC 8737 3): a certificate for `name` with `digest`, SHA-256 of the key authorization, in
/// its critical extension. It agrees on [`ACME_TLS`] alone, knows no sessions and asks nobody for a certificate: whoever
/// completes such a handshake has proved nothing and may be given nothing.
///
/// # Errors
/// [`ChallengeError`].
pub fn challenge_config(
    profile: Profile,
    name: &str,
    digest: &[u8],
    now: UnixTime,
) -> Result<ServerConfig, ChallengeError> {
    let limit = UnixTime::since_unix_epoch(Duration::from_secs(LAST_SECOND));
    let mut params = params(now, CHALLENGE_LIFETIME, limit)?;
    params.subject_alt_names.push(host(name)?);
    params.is_ca = IsCa::ExplicitNoCa;
    params.custom_extensions.push(CustomExtension::new_acme_identifier(digest));
    let key = KeyPair::generate_for(KeyKind::P256.algorithm()).map_err(IssueError::from)?;
    let certificate = params.self_signed(&key).map_err(IssueError::from)?;
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = profile.provider();
    // Its critical extension is nobody's to understand but the server's that validates, so nothing here reads it again.
    let key = CertifiedKey::new(chain, provider.key_provider.load_private_key(key)?);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(profile.versions())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::NOW;

    #[test]
    fn a_validation_agrees_on_its_protocol_alone_and_keeps_nothing() {
        let config = challenge_config(Profile::CryptrecHigh, "a.example", &[7; 32], NOW).unwrap();
        assert_eq!(config.alpn_protocols, [ACME_TLS]);
        assert_eq!((config.send_tls13_tickets, config.max_early_data_size), (0, 0));
        assert!(!config.ticketer.enabled() && !config.session_storage.can_cache());
        for bad in ["", "a b", "*\0"] {
            assert!(challenge_config(Profile::CryptrecHigh, bad, &[7; 32], NOW).is_err());
            assert!(server_request(&[bad.to_owned()]).is_err());
        }
        let (key, request) = server_request(&["a.example".to_owned(), "b.example".to_owned()]).unwrap();
        assert!(super::super::RequestedKey::from_der(&request).is_ok());
        assert!(key.expose().contains("PRIVATE KEY") && !format!("{key:?}").contains("PRIVATE"));
        let holds = |name: &[u8]| request.windows(name.len()).any(|window| window == name);
        assert!(holds(b"a.example") && holds(b"b.example"));
    }
}
