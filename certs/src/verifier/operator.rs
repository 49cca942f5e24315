//! Who may see the operators' pages: whoever the operators' anchors vouch for, and who is nothing else.

use std::fmt;
use std::sync::Arc;

use policy::Refusal;
use rustls::DistinguishedName;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;

use super::handshake::{Signatures, judge_clients_by};
use super::{PeerRefused, hints, validate};
use crate::path::{self, CrlSet, Purpose, Settings, TrustAnchor};
use crate::{Anchors, Profile, peers};

/// The client certificate verifier of the operators' listener. A certificate is mandatory: a path for `clientAuth` to one
/// of the operators' anchors. A leaf that names a device (a SPIFFE ID) or a user (HPKI) is refused even then, so that a
/// CA that issues for several purposes opens one door alone with each certificate.
pub struct OperatorVerifier {
    anchors: Arc<[TrustAnchor]>,
    settings: Settings,
    signatures: Signatures,
    hints: Vec<DistinguishedName>,
}

impl OperatorVerifier {
    /// A verifier that validates paths ([`path::validate`]) to `anchors`, with the signature algorithms of `profile`.
    #[must_use]
    pub fn new(anchors: &Anchors, profile: Profile) -> Self {
        let algorithms = profile.provider().signature_verification_algorithms;
        let anchors = anchors.trust();
        let hints = hints(&anchors);
        let settings = Settings::new(Purpose::ClientAuth, algorithms.all);
        Self { anchors, settings, signatures: Signatures(algorithms), hints }
    }

    /// Judges an operator's chain at `now`. Its key is proved by the handshake alone.
    ///
    /// # Errors
    /// [`PeerRefused`].
    pub fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), PeerRefused> {
        validate(leaf, intermediates, &self.anchors, &CrlSet::default(), &self.settings, None, now)?;
        match somebody_else(leaf) {
            None => Ok(()),
            Some(whose) => Err(PeerRefused::new(Refusal::CertificatePurpose, format!("the certificate is {whose}"))),
        }
    }
}

/// Whose certificate it is, where it says so. What cannot be read was refused before.
fn somebody_else(leaf: &[u8]) -> Option<&'static str> {
    let facts = path::read_leaf(leaf).ok()?;
    peers::of_device(&facts).or(peers::of_user(&facts))
}

impl ClientCertVerifier for OperatorVerifier {
    judge_clients_by!(|this| check of this, this.hints, this.signatures);
}

impl fmt::Debug for OperatorVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorVerifier").field("anchors", &self.anchors.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{
        NOW, YEAR, authority, der, device_certificate, later, odd, other_authority, server_certificate,
    };
    use rcgen::ExtendedKeyUsagePurpose;

    fn verifier() -> OperatorVerifier {
        let anchors = Anchors::from_pem(authority().certificate_pem().as_bytes()).unwrap();
        OperatorVerifier::new(&anchors, Profile::CryptrecHigh)
    }

    fn refusal(certificate_pem: &str, now: UnixTime) -> Result<(), Refusal> {
        verifier().check(&der(certificate_pem), &[], now).map_err(|refused| refused.refusal)
    }

    #[test]
    fn an_operator_is_whoever_is_certified_and_nothing_else() {
        let named = |p: &mut rcgen::CertificateParams| {
            p.subject_alt_names.clear();
            p.distinguished_name.push(rcgen::DnType::CommonName, "desk 1");
        };
        let operator = odd(named).certificate_pem;
        assert_eq!(refusal(&operator, NOW), Ok(()));
        assert_eq!(refusal(&operator, later(YEAR * 2)), Err(Refusal::CertificateExpired));
        let critical = odd(|p| {
            named(p);
            p.custom_extensions.push(crate::verifier::tests::critical_policies());
        });
        assert_eq!(refusal(&critical.certificate_pem, NOW), Ok(()));
        let device = device_certificate("sakura-clinic", "ward-1").certificate_pem;
        assert_eq!(refusal(&device, NOW), Err(Refusal::CertificatePurpose), "of the same CA");
        let elsewhere = odd(|p| p.subject_alt_names = vec![crate::testing::uri("SPIFFE://elsewhere/x")]);
        assert_eq!(refusal(&elsewhere.certificate_pem, NOW), Err(Refusal::CertificatePurpose));
        assert_eq!(refusal(&server_certificate().certificate_pem, NOW), Err(Refusal::CertificatePurpose));
        let none = odd(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]);
        assert_eq!(refusal(&none.certificate_pem, NOW), Err(Refusal::CertificatePurpose));
        let stranger = other_authority().issue_server(&["a"], YEAR, NOW).unwrap();
        assert_eq!(refusal(&stranger.certificate_pem, NOW), Err(Refusal::CertificateUntrusted));
    }

    #[test]
    fn a_certificate_is_mandatory_and_the_anchors_are_told() {
        let verifier = verifier();
        assert!(verifier.client_auth_mandatory() && verifier.offer_client_auth());
        assert_eq!(verifier.root_hint_subjects().len(), 1);
        assert!(!verifier.supported_verify_schemes().is_empty());
    }
}
