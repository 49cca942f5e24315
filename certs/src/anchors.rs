//! Trust anchors: the authorities whose devices a listener takes. Never a fallback: a file that is not exactly what it
//! should be makes no anchors at all (R12).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::SectionKind;
use rustls::pki_types::{CertificateDer, UnixTime};

use crate::leaf::{IdentityError, Leaf};
use crate::path::{PathRefused, TrustAnchor};
use crate::pem::{self, PemError};

/// One or more trust anchors.
#[derive(Debug, Clone)]
pub struct Anchors {
    // INVARIANT: not empty, but for `none`.
    certificates: Arc<[CertificateDer<'static>]>,
    trust: Arc<[TrustAnchor]>,
    not_after: UnixTime,
}

/// Why bytes make no trust anchors. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnchorsError {
    /// The text is not strict PEM, or has no section.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A private key lies among the anchors: it is in the wrong place, and perhaps already elsewhere too.
    #[error("line {line} begins a private key; a file of trust anchors must not hold one")]
    PrivateKey {
        /// The line of `-----BEGIN`.
        line: usize,
    },
    /// A section that is not a certificate.
    #[error("line {line} begins a `{label}`, not a `CERTIFICATE`")]
    Label {
        /// The line of `-----BEGIN`.
        line: usize,
        /// What the section says it is.
        label: String,
    },
    /// A section whose content is not a certificate.
    #[error("the certificate that begins on line {line}: {source}")]
    Certificate {
        /// The line of `-----BEGIN`.
        line: usize,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// A certificate that cannot be an anchor: a weak key, an unknown critical extension, not as RFC 5280 has it.
    #[error("the certificate that begins on line {line} cannot be an anchor: {source}")]
    Unfit {
        /// The line of `-----BEGIN`.
        line: usize,
        /// What is wrong with it.
        source: PathRefused,
    },
    /// A certificate that may not sign others: its basic constraints or its key usage do not say so.
    #[error("the certificate that begins on line {line} is not a CA's")]
    NotAuthority {
        /// The line of `-----BEGIN`.
        line: usize,
    },
}

/// Why a file makes no trust anchors.
#[derive(Debug, thiserror::Error)]
pub enum AnchorFileError {
    /// The file cannot be read.
    #[error("trust anchors `{path}` cannot be read: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file's content is not what it should be.
    #[error("trust anchors `{path}`: {source}", path = path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: AnchorsError,
    },
}

impl Anchors {
    /// Nobody's: no certificate leads to them. For a door that asks nobody for a certificate.
    #[must_use]
    pub fn none() -> Self {
        let not_after = UnixTime::since_unix_epoch(Duration::MAX);
        Self { certificates: Arc::default(), trust: Arc::default(), not_after }
    }

    /// Reads PEM. Every certificate in it becomes an anchor, and one that cannot spoils all.
    ///
    /// # Errors
    /// [`AnchorsError`] says which line and why.
    pub fn from_pem(bytes: &[u8]) -> Result<Self, AnchorsError> {
        let mut certificates = Vec::new();
        let mut trust = Vec::new();
        let mut not_after: Option<UnixTime> = None;
        for section in pem::sections(bytes)? {
            let line = section.line;
            if section.label.contains("PRIVATE KEY") {
                return Err(AnchorsError::PrivateKey { line });
            }
            if section.label != "CERTIFICATE" || section.kind != Some(SectionKind::Certificate) {
                return Err(AnchorsError::Label { line, label: section.label.escape_debug().to_string() });
            }
            let fault = |source| AnchorsError::Certificate { line, source };
            let read = Leaf::read(&section.der).map_err(fault)?;
            if !read.is_authority().map_err(fault)? || !read.signs_certificates().map_err(fault)? {
                return Err(AnchorsError::NotAuthority { line });
            }
            trust.push(TrustAnchor::from_der(&section.der).map_err(|source| AnchorsError::Unfit { line, source })?);
            certificates.push(CertificateDer::from(section.der));
            not_after = Some(not_after.map_or(read.not_after(), |earliest| earliest.min(read.not_after())));
        }
        let not_after = not_after.ok_or(PemError::Empty)?;
        Ok(Self { certificates: certificates.into(), trust: trust.into(), not_after })
    }

    /// Reads a PEM file.
    ///
    /// # Errors
    /// [`AnchorFileError`] names the file and what is wrong with it.
    pub fn load_file(path: &Path) -> Result<Self, AnchorFileError> {
        let unreadable = |source| AnchorFileError::Unreadable { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let bytes = pem::read_file(file).map_err(unreadable)?;
        Self::from_pem(&bytes).map_err(|source| AnchorFileError::Content { path: path.to_owned(), source })
    }

    /// The anchors' certificates; at least one, but for [`Anchors::none`].
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The earliest end among the anchors' own validities, for the expiry metric. Every path ends with its anchor
    /// (RFC 5937): devices', users', operators' and backends'.
    #[must_use]
    pub const fn not_after(&self) -> UnixTime {
        self.not_after
    }

    pub(crate) fn trust(&self) -> Arc<[TrustAnchor]> {
        Arc::clone(&self.trust)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, authority, other_authority};

    fn error(text: impl AsRef<[u8]>) -> AnchorsError {
        Anchors::from_pem(text.as_ref()).unwrap_err()
    }

    #[test]
    fn all_certificates_of_a_file_are_read() {
        let text =
            format!("# first\n{}\n# 二番目\n{}", authority().certificate_pem(), other_authority().certificate_pem());
        let anchors = Anchors::from_pem(text.as_bytes()).unwrap();
        assert_eq!(anchors.certificates().len(), 2);
        assert_eq!(anchors.trust().len(), 2);
        assert!(anchors.not_after() > NOW);
    }

    #[test]
    fn whatever_is_not_exactly_anchors_is_an_error() {
        let good = authority().certificate_pem();
        let key = authority().key_pem().unwrap();
        assert_eq!(error(""), AnchorsError::Pem(PemError::Empty));
        assert_eq!(error("# nothing\n"), AnchorsError::Pem(PemError::Empty));
        let (half, _) = good.split_at(good.len() / 2);
        assert_eq!(error(half), AnchorsError::Pem(PemError::Truncated { line: 1 }));
        assert_eq!(
            error(Anchors::from_pem(good.as_bytes()).unwrap().certificates()[0].as_ref()),
            AnchorsError::Pem(PemError::Der)
        );
        assert!(matches!(error(format!("{good}garbage\n{good}")), AnchorsError::Pem(PemError::Garbage { .. })));
        let bad = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
        assert!(matches!(error(format!("{good}{bad}{good}")), AnchorsError::Certificate { .. }));
        assert!(matches!(error(format!("{good}{}", key.expose())), AnchorsError::PrivateKey { .. }));
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAEC\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(matches!(error(format!("{good}{encrypted}")), AnchorsError::PrivateKey { .. }));
        for label in ["X509 CRL", "TRUSTED CERTIFICATE", "certificate", "CERTIFICATE REQUEST", "PUBLIC KEY"] {
            let other = good.replace("CERTIFICATE", label);
            assert!(matches!(error(format!("{good}{other}")), AnchorsError::Label { .. }), "{label}");
        }
        let leaf = crate::testing::device_certificate("sakura-clinic", "ward-1").certificate_pem;
        assert!(matches!(error(format!("{good}{leaf}")), AnchorsError::NotAuthority { .. }));
        // Basic constraints say CA, the key usage does not.
        let half = crate::testing::odd(|p| p.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
        assert!(matches!(error(&half.certificate_pem), AnchorsError::NotAuthority { line: 1 }));
    }

    #[test]
    fn a_file_is_named_in_its_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("devices-ca.crt");
        let message = |path: &Path| Anchors::load_file(path).unwrap_err().to_string();
        assert!(message(&path).contains("devices-ca.crt"), "{}", message(&path));
        std::fs::write(&path, "").unwrap();
        assert!(message(&path).ends_with("devices-ca.crt`: it is empty"), "{}", message(&path));
        assert!(matches!(Anchors::load_file(dir.path()), Err(AnchorFileError::Unreadable { .. })));
        std::fs::write(&path, authority().certificate_pem()).unwrap();
        assert_eq!(Anchors::load_file(&path).unwrap().certificates().len(), 1);
    }
}
