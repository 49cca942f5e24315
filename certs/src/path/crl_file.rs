//! What a file of CRLs holds: one list in DER, or any number in PEM.

use super::crl::{Crl, CrlError};
use crate::pem::{self, PemError};

/// Why bytes are no CRLs that can be used. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrlFileError {
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// The text is not strict PEM, or has no section.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A section that is not a CRL.
    #[error("line {line} begins a `{label}`, not an `X509 CRL`")]
    Label {
        /// The line of `-----BEGIN`.
        line: usize,
        /// What the section says it is.
        label: String,
    },
    /// A section whose content is no CRL that can be used.
    #[error("the CRL that begins on line {line}: {source}")]
    Section {
        /// The line of `-----BEGIN`.
        line: usize,
        /// What is wrong with it.
        source: CrlError,
    },
    /// The bytes are no CRL that can be used.
    #[error(transparent)]
    Der(#[from] CrlError),
}

/// Reads the lists of a file: DER (RFC 5280) or PEM (RFC 7468) with at least one `X509 CRL` and nothing else. One that
/// cannot be used spoils all. Signatures are not checked here.
///
/// # Errors
/// [`CrlFileError`] says which and why.
pub fn read_crls(bytes: &[u8]) -> Result<Vec<Crl>, CrlFileError> {
    match bytes {
        [] => Err(CrlFileError::Empty),
        // A SEQUENCE. No line of strict PEM begins with a `0`.
        [0x30, ..] => Ok(vec![Crl::from_der(bytes)?]),
        _ => pem::sections(bytes)?
            .into_iter()
            .map(|section| {
                let line = section.line;
                if section.label != "X509 CRL" {
                    return Err(CrlFileError::Label { line, label: section.label.escape_debug().to_string() });
                }
                Crl::from_der(&section.der).map_err(|source| CrlFileError::Section { line, source })
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_no_list_is_an_error_with_a_name() {
        let error = |bytes: &[u8]| read_crls(bytes).unwrap_err().to_string();
        assert_eq!(error(b""), "it is empty");
        assert_eq!(error(b"# nothing\n"), PemError::Empty.to_string());
        assert!(error(b"0\x82\x01\x00garbage").contains("cannot be read"), "{}", error(b"0\x82\x01\x00garbage"));
        assert!(error(&[0xff; 64]).contains("text") || error(&[0xff; 64]).contains("UTF-8"), "{}", error(&[0xff; 64]));
        let pem = "-----BEGIN X509 CRL-----\nMAMCAQE=\n-----END X509 CRL-----\n";
        assert!(error(pem.as_bytes()).starts_with("the CRL that begins on line 1: "), "{}", error(pem.as_bytes()));
        assert!(error(&pem.as_bytes()[..40]).contains("line 1"), "{}", error(&pem.as_bytes()[..40]));
        let other = crate::testing::authority().certificate_pem();
        assert_eq!(error(other.as_bytes()), "line 1 begins a `CERTIFICATE`, not an `X509 CRL`");
    }
}
