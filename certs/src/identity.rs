//! The gateway's own certificates: as a server towards devices, as a client towards backends.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::SectionKind;
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer, UnixTime,
};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::Staple;
use crate::leaf::{IdentityError, Leaf};
use crate::path;
use crate::pem::{self, PemError};

/// A certificate chain with its private key.
#[derive(Clone)]
pub struct ServerIdentity {
    key: Arc<CertifiedKey>,
    not_before: UnixTime,
    not_after: UnixTime,
    names: Vec<String>,
}

/// Why a certificate and a key make no identity.
#[derive(Debug, thiserror::Error)]
pub enum ServerIdentityError {
    /// A file cannot be read.
    #[error("`{path}` cannot be read: {source}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The key's file may be read by others than its owner.
    #[error(
        "private key `{path}` has mode {mode:04o}: others than its owner can read it; `chmod 600` it, and replace the \
         key if anyone did", path = path.display()
    )]
    KeyMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The certificate file's text.
    #[error("certificate `{name}`: {source}")]
    CertificatePem {
        /// The file, or `certificate`.
        name: String,
        /// What is wrong.
        source: PemError,
    },
    /// A section of the certificate file is not a certificate.
    #[error("certificate `{name}`: line {line} begins a `{label}`, not a `CERTIFICATE`")]
    CertificateLabel {
        /// The file, or `certificate`.
        name: String,
        /// The line of `-----BEGIN`.
        line: usize,
        /// What the section says it is.
        label: String,
    },
    /// A certificate cannot be read.
    #[error("certificate `{name}`, line {line}: {source}")]
    Certificate {
        /// The file, or `certificate`.
        name: String,
        /// The line of `-----BEGIN`.
        line: usize,
        /// What is wrong.
        source: IdentityError,
    },
    /// The key file's text.
    #[error("private key `{name}`: {source}")]
    KeyPem {
        /// The file, or `key`.
        name: String,
        /// What is wrong.
        source: PemError,
    },
    /// The key file does not hold exactly one private key, unencrypted.
    #[error("private key `{name}` holds {found}, not one unencrypted private key")]
    KeyContent {
        /// The file, or `key`.
        name: String,
        /// What it holds.
        found: String,
    },
    /// The key is of a kind that TLS does not use, or broken.
    #[error("private key `{name}` cannot be used: {reason}")]
    Key {
        /// The file, or `key`.
        name: String,
        /// What rustls says.
        reason: String,
    },
    /// The key is not the certificate's.
    #[error("private key `{key}` does not belong to certificate `{certificate}`")]
    Mismatch {
        /// The certificate file, or `certificate`.
        certificate: String,
        /// The key file, or `key`.
        key: String,
    },
}

/// A certificate that peers do not accept at this time. Not an error: the operator may be about to replace it, and a
/// gateway that does not start cannot say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValidityWarning {
    /// Its validity has ended.
    #[error("the certificate expired at {}", crate::rfc3339(*not_after))]
    Expired {
        /// When.
        not_after: UnixTime,
    },
    /// Its validity has not begun.
    #[error("the certificate is not valid before {}", crate::rfc3339(*not_before))]
    NotYetValid {
        /// When it will.
        not_before: UnixTime,
    },
}

impl ServerIdentity {
    /// Reads a PEM chain (leaf first) and a PEM key (PKCS#8, SEC 1 or PKCS#1). The key's file must not be accessible to
    /// group or others.
    ///
    /// # Errors
    /// [`ServerIdentityError`] names the file and what is wrong with it.
    pub fn load_files(certificate: &Path, key: &Path) -> Result<Self, ServerIdentityError> {
        let chain = read(certificate, |_| Ok(()))?;
        // The mode is read from the open file, so that it is the mode of the bytes that are read.
        let secret = read(key, |file| {
            let mode = file.metadata().map_err(|source| unreadable(key, source))?.mode() & 0o7777;
            if mode & 0o077 == 0 { Ok(()) } else { Err(ServerIdentityError::KeyMode { path: key.to_owned(), mode }) }
        })?;
        Self::build(&chain, &secret, &certificate.display().to_string(), &key.display().to_string())
    }

    /// Reads PEM that is in memory.
    ///
    /// # Errors
    /// [`ServerIdentityError`], with `certificate` and `key` for the files' names.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, ServerIdentityError> {
        Self::build(certificate, key, "certificate", "key")
    }

    fn build(chain: &[u8], secret: &[u8], name: &str, key_name: &str) -> Result<Self, ServerIdentityError> {
        let pem_error = |source| ServerIdentityError::CertificatePem { name: name.to_owned(), source };
        let mut certificates = Vec::new();
        let mut leaf = None;
        for section in pem::sections(chain).map_err(pem_error)? {
            let line = section.line;
            if section.kind != Some(SectionKind::Certificate) {
                let label = section.label.escape_debug().to_string();
                return Err(ServerIdentityError::CertificateLabel { name: name.to_owned(), line, label });
            }
            let fault = |source| ServerIdentityError::Certificate { name: name.to_owned(), line, source };
            let read = Leaf::read(&section.der).map_err(fault)?;
            if leaf.is_none() {
                let names = read.host_names().map_err(fault)?;
                leaf = Some((read.not_before(), read.not_after(), names));
            }
            certificates.push(CertificateDer::from(section.der));
        }
        let (not_before, not_after, names) = leaf.ok_or_else(|| pem_error(PemError::Empty))?;
        let key = private_key(secret, key_name)?;
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
            .map_err(|error| ServerIdentityError::Key { name: key_name.to_owned(), reason: error.to_string() })?;
        // Compared by the path's own reader, which takes every certificate that a path may end in.
        let leaf = certificates.first().ok_or_else(|| pem_error(PemError::Empty))?;
        let certified = path::public_key_info(leaf).ok();
        if certified.is_none() || key.public_key().as_deref() != certified {
            return Err(ServerIdentityError::Mismatch { certificate: name.to_owned(), key: key_name.to_owned() });
        }
        let key = Arc::new(CertifiedKey::new(certificates, key));
        Ok(Self { key, not_before, not_after, names })
    }

    /// Is it valid at `now`?
    ///
    /// # Errors
    /// [`ValidityWarning`] if it is not.
    pub fn check_validity(&self, now: UnixTime) -> Result<(), ValidityWarning> {
        if now > self.not_after {
            Err(ValidityWarning::Expired { not_after: self.not_after })
        } else if now < self.not_before {
            Err(ValidityWarning::NotYetValid { not_before: self.not_before })
        } else {
            Ok(())
        }
    }

    /// The beginning of the leaf's validity.
    #[must_use]
    pub const fn not_before(&self) -> UnixTime {
        self.not_before
    }

    /// The end of the leaf's validity, for the expiry metric.
    #[must_use]
    pub const fn not_after(&self) -> UnixTime {
        self.not_after
    }

    /// DNS names and IP addresses that the leaf is valid for, as they stand in it.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The chain, leaf first; at least one.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// The same with an OCSP response that handshakes staple (RFC 6066 8), or with none.
    #[must_use]
    pub fn with_staple(&self, staple: Option<&Staple>) -> Self {
        let mut key = CertifiedKey::clone(&self.key);
        key.ocsp = staple.map(|staple| staple.der().to_vec());
        Self { key: Arc::new(key), ..self.clone() }
    }

    /// Shows this identity to every client.
    #[must_use]
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(SingleCertAndKey::from(self.certified_key()))
    }

    pub(crate) fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }
}

impl std::fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerIdentity").field("names", &self.names).finish_non_exhaustive()
    }
}

fn unreadable(path: &Path, source: std::io::Error) -> ServerIdentityError {
    ServerIdentityError::Unreadable { path: path.to_owned(), source }
}

fn read(
    path: &Path,
    check: impl FnOnce(&File) -> Result<(), ServerIdentityError>,
) -> Result<Vec<u8>, ServerIdentityError> {
    let file = File::open(path).map_err(|source| unreadable(path, source))?;
    check(&file)?;
    pem::read_file(file).map_err(|source| unreadable(path, source))
}

fn private_key(bytes: &[u8], name: &str) -> Result<PrivateKeyDer<'static>, ServerIdentityError> {
    let mut sections = pem::sections(bytes)
        .map_err(|source| ServerIdentityError::KeyPem { name: name.to_owned(), source })?
        .into_iter()
        // `openssl ecparam -genkey` writes the curve before the key.
        .filter(|section| section.label != "EC PARAMETERS");
    let content = |found: String| ServerIdentityError::KeyContent { name: name.to_owned(), found };
    let Some(section) = sections.next() else { return Err(content("no key".to_owned())) };
    if sections.next().is_some() {
        return Err(content("several sections".to_owned()));
    }
    match section.kind {
        Some(SectionKind::PrivateKey) => Ok(PrivatePkcs8KeyDer::from(section.der).into()),
        Some(SectionKind::EcPrivateKey) => Ok(PrivateSec1KeyDer::from(section.der).into()),
        Some(SectionKind::RsaPrivateKey) => Ok(PrivatePkcs1KeyDer::from(section.der).into()),
        Some(_) | None => Err(content(format!("a `{}`", section.label.escape_debug()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, authority, later, server_certificate};
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    #[test]
    fn a_pair_of_files_is_loaded_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("server.crt"), dir.path().join("server.key"));
        let issued = server_certificate();
        std::fs::write(&certificate, format!("{}{}", issued.certificate_pem, authority().certificate_pem())).unwrap();
        crate::issue::write_private_file(&key, issued.key_pem.expose().as_bytes()).unwrap();
        let identity = ServerIdentity::load_files(&certificate, &key).unwrap();
        assert_eq!(identity.names(), ["localhost", "127.0.0.1", "::1"]);
        assert_eq!(identity.chain().len(), 2);
        assert_eq!(identity.check_validity(NOW), Ok(()));
        let end = identity.not_after();
        let warning = identity.check_validity(later(Duration::from_secs(3 * 365 * 86_400))).unwrap_err();
        assert_eq!(warning, ValidityWarning::Expired { not_after: end });
        assert_eq!(warning.to_string(), "the certificate expired at 2027-01-01T00:00:00Z");
        let early = UnixTime::since_unix_epoch(Duration::from_secs(1));
        assert_eq!(
            identity.check_validity(early),
            Err(ValidityWarning::NotYetValid { not_before: identity.not_before() })
        );

        for mode in [0o640, 0o604, 0o620, 0o601] {
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = ServerIdentity::load_files(&certificate, &key).unwrap_err();
            assert!(matches!(&error, ServerIdentityError::KeyMode { mode: found, .. } if *found == mode));
            assert!(error.to_string().contains("server.key"), "{error}");
            assert!(error.to_string().contains(&format!("{mode:04o}")), "{error}");
        }
        std::fs::remove_file(&key).unwrap();
        let error = ServerIdentity::load_files(&certificate, &key).unwrap_err();
        assert!(matches!(error, ServerIdentityError::Unreadable { .. }), "{error}");
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let (one, two) = (server_certificate(), server_certificate());
        let of = |certificate: &str, key: &str| {
            ServerIdentity::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap_err()
        };
        let (certificate, key) = (one.certificate_pem.as_str(), one.key_pem.expose());
        assert!(matches!(of(certificate, two.key_pem.expose()), ServerIdentityError::Mismatch { .. }));
        assert!(matches!(of(key, key), ServerIdentityError::CertificateLabel { line: 1, .. }));
        assert!(matches!(of(certificate, certificate), ServerIdentityError::KeyContent { .. }));
        assert!(matches!(of(certificate, &format!("{key}{key}")), ServerIdentityError::KeyContent { .. }));
        assert!(matches!(of("", key), ServerIdentityError::CertificatePem { source: PemError::Empty, .. }));
        assert!(matches!(of(certificate, ""), ServerIdentityError::KeyPem { source: PemError::Empty, .. }));
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert!(matches!(of(certificate, &encrypted), ServerIdentityError::KeyContent { .. }));
        let broken = "-----BEGIN PRIVATE KEY-----\nAAEC\n-----END PRIVATE KEY-----\n";
        assert!(matches!(of(certificate, broken), ServerIdentityError::Key { .. }));
        assert!(
            !format!("{:?}", ServerIdentity::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap()).contains("key")
        );
    }
}
