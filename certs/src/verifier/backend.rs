//! Is the backend the one that the operator named? (RFC 5280 6, RFC 9525.)

use std::fmt;
use std::sync::Arc;

use rustls::Error;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::handshake::{Signatures, prove_by};
use super::{PeerRefused, validate};
use crate::path::{
    CrlSet, Description, PathRefusal, PathRefused, PeerName, Purpose, RevocationSettings, Settings, TrustAnchor,
    ValidPath,
};
use crate::{Anchors, Profile};

/// Names that are told where none of them is the one that was looked for.
const NAMES_TOLD: usize = 8;

/// Verifies the certificates of a service's backends: a path for `serverAuth` to one of the pinned authorities, with the
/// backend's name in the leaf. Stapled responses are not looked at.
pub struct BackendVerifier {
    anchors: Arc<[TrustAnchor]>,
    crls: CrlSet,
    settings: Settings,
    signatures: Signatures,
}

impl BackendVerifier {
    /// A verifier that validates paths ([`path::validate`](crate::path::validate)) to `authorities`, with the signature
    /// algorithms of `profile`.
    /// Nobody looks at revocation before [`BackendVerifier::with_revocation`].
    #[must_use]
    pub fn new(authorities: &Anchors, profile: Profile) -> Self {
        Self::of(authorities.trust(), profile)
    }

    /// [`BackendVerifier::new`] with anchors that are in no file.
    #[must_use]
    pub fn of(anchors: impl Into<Arc<[TrustAnchor]>>, profile: Profile) -> Self {
        let algorithms = profile.provider().signature_verification_algorithms;
        let settings = Settings::new(Purpose::ServerAuth, algorithms.all);
        Self { anchors: anchors.into(), crls: CrlSet::default(), settings, signatures: Signatures(algorithms) }
    }

    /// The verifier with these CRLs, asked as `settings` say.
    #[must_use]
    pub fn with_revocation(mut self, crls: CrlSet, settings: RevocationSettings) -> Self {
        self.crls = crls;
        self.settings.revocation = settings;
        self
    }

    /// The verifier with other settings of the path. The purpose stays.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = Settings { purpose: Purpose::ServerAuth, ..settings };
        self
    }

    /// Judges a backend's chain at `now`. Its key is proved by the handshake alone.
    ///
    /// # Errors
    /// [`PeerRefused`]: which certificate, why, and where it is about the name, which names there are.
    pub fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ValidPath, PeerRefused> {
        let peer = match name {
            ServerName::DnsName(host) => {
                let host = host.as_ref();
                PeerName::Dns(host.strip_suffix('.').unwrap_or(host).to_owned())
            }
            ServerName::IpAddress(address) => PeerName::Ip((*address).into()),
            // The enum is open; what it does not have is nobody's name.
            _ => return Err(refused(&path_refused(PathRefusal::WrongName), leaf, "a name of an unknown kind")),
        };
        validate(leaf, intermediates, &self.anchors, &self.crls, &self.settings, Some(&peer), now)
            .map_err(|error| refused(&error, leaf, &name.to_str()))
    }
}

const fn path_refused(refusal: PathRefusal) -> PathRefused {
    PathRefused { refusal, subject: String::new() }
}

/// The refusal, and for a wrong name what an operator has to compare.
fn refused(error: &PathRefused, leaf: &[u8], wanted: &str) -> PeerRefused {
    let mut refused = PeerRefused::from(error.clone());
    if error.refusal == PathRefusal::WrongName {
        let names = Description::of(leaf).map(|description| description.names).unwrap_or_default();
        let own = names.iter().filter(|(kind, _)| matches!(*kind, "DNS" | "IP"));
        let own: Vec<_> = own.take(NAMES_TOLD).map(|(_, name)| format!("`{}`", name.escape_debug())).collect();
        let own = if own.is_empty() { "no host".to_owned() } else { own.join(", ") };
        refused.detail = format!("{}; `{wanted}` was asked for, it names {own}", refused.detail);
    }
    refused
}

impl ServerCertVerifier for BackendVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates, server_name, now)?;
        Ok(ServerCertVerified::assertion())
    }

    prove_by!(|this| this.signatures);
}

impl fmt::Debug for BackendVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendVerifier").field("anchors", &self.anchors.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
