//! The peer's proof of its key, which is the same whoever the peer is: a signature over the handshake by the key of a
//! certificate that the path's own reader reads.

use std::fmt;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme};

use crate::path;

/// The signature algorithms of a profile, as a handshake uses them.
#[derive(Clone, Copy)]
pub(crate) struct Signatures(pub(super) WebPkiSupportedAlgorithms);

impl Signatures {
    pub(crate) fn tls12(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let (algorithm, key) = path::public_key(cert).map_err(|_| CertificateError::BadEncoding)?;
        // In TLS 1.2 a scheme names a hash; the curve is the key's (RFC 8422 5.10).
        let mut schemes = self.0.mapping.iter().filter(|(scheme, _)| *scheme == dss.scheme);
        let verify = schemes
            .next()
            .and_then(|(_, all)| all.iter().find(|own| own.public_key_alg_id().as_ref() == algorithm))
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        match verify.verify_signature(key, message, dss.signature()) {
            Ok(()) => Ok(HandshakeSignatureValid::assertion()),
            Err(_) => Err(CertificateError::BadSignature.into()),
        }
    }

    pub(crate) fn tls13(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = path::public_key_info(cert).map_err(|_| CertificateError::BadEncoding)?;
        verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(key), dss, &self.0)
    }

    pub(crate) fn schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// What a verifier of clients tells rustls: its anchors' names, what `$judge` says of a chain, and the proof of the key.
/// rustls's own defaults stay: a certificate is asked for and mandatory.
macro_rules! judge_clients_by {
    (|$this:ident| $judge:ident of $verifier:expr, $hints:expr, $signatures:expr) => {
        fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
            let $this = self;
            &$hints
        }

        fn verify_client_cert(
            &self,
            end_entity: &rustls::pki_types::CertificateDer<'_>,
            intermediates: &[rustls::pki_types::CertificateDer<'_>],
            now: rustls::pki_types::UnixTime,
        ) -> Result<rustls::server::danger::ClientCertVerified, rustls::Error> {
            let $this = self;
            $verifier.$judge(end_entity, intermediates, now)?;
            Ok(rustls::server::danger::ClientCertVerified::assertion())
        }

        $crate::verifier::prove_by!(|$this| $signatures);
    };
}
pub(crate) use judge_clients_by;

/// The three methods of rustls's verifiers, of clients and of servers, that are about the proof and about nothing else.
macro_rules! prove_by {
    (|$this:ident| $signatures:expr) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &rustls::pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let $this = self;
            $signatures.tls12(message, cert, dss)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &rustls::pki_types::CertificateDer<'_>,
            dss: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let $this = self;
            $signatures.tls13(message, cert, dss)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            let $this = self;
            $signatures.schemes()
        }
    };
}
pub(crate) use prove_by;

impl fmt::Debug for Signatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signatures").field(&self.schemes()).finish()
    }
}
