//! Strict PEM (RFC 7468): a file is made of sections, blank lines and comments (`#` at the start of a line), and of
//! nothing else. A lenient reader skips what it does not know; a trust store that skips is weaker than its file says.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{PemObject, SectionKind};

/// The largest file of certificates or keys that is read, in bytes.
pub const MAX_FILE_LENGTH: u64 = 4 * 1024 * 1024;

/// Why a text is not strict PEM. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// There is nothing in it but blanks and comments.
    #[error("it is empty")]
    Empty,
    /// It looks like DER.
    #[error("it is DER, not PEM; convert it with `openssl x509 -inform DER -outform PEM`")]
    Der,
    /// It is not text.
    #[error("it is not text")]
    NotText,
    /// A line outside every section is neither blank nor a comment.
    #[error("line {line} is neither a comment (`#`) nor part of a PEM section")]
    Garbage {
        /// The line.
        line: usize,
    },
    /// A section has no end.
    #[error("the section that begins on line {line} has no end: the file is truncated")]
    Truncated {
        /// The line of `-----BEGIN`.
        line: usize,
    },
    /// A section ends with another label than it began with, or another one begins inside.
    #[error("line {line} does not fit the section that begins on line {begin}")]
    Boundary {
        /// The odd line.
        line: usize,
        /// The line of `-----BEGIN`.
        begin: usize,
    },
    /// A section's content is not base64.
    #[error("the section that begins on line {line} is not base64")]
    Base64 {
        /// The line of `-----BEGIN`.
        line: usize,
    },
}

/// One section.
#[derive(Clone)]
pub(crate) struct Section {
    /// The line of `-----BEGIN`.
    pub(crate) line: usize,
    /// What stands between `-----BEGIN ` and `-----`.
    pub(crate) label: String,
    /// The kind, where rustls knows the label.
    pub(crate) kind: Option<SectionKind>,
    /// The content; empty where rustls does not know the label and the lines are not the 64 characters of RFC 7468.
    pub(crate) der: Vec<u8>,
}

/// Reads all sections; at least one.
pub(crate) fn sections(bytes: &[u8]) -> Result<Vec<Section>, PemError> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        // A DER certificate is a SEQUENCE longer than 127 bytes: 0x30 0x8….
        Err(_) if bytes.starts_with(&[0x30]) => return Err(PemError::Der),
        Err(_) => return Err(PemError::NotText),
    };
    let mut sections = Vec::new();
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim_end()));
    while let Some((begin, line)) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let label = boundary(line, "-----BEGIN ").ok_or(PemError::Garbage { line: begin })?;
        let mut whole = format!("{line}\n");
        loop {
            let (number, line) = lines.next().ok_or(PemError::Truncated { line: begin })?;
            whole.push_str(line);
            whole.push('\n');
            match boundary(line, "-----END ") {
                Some(end) if end == label => break,
                None if line.bytes().all(is_base64) => {}
                Some(_) => return Err(PemError::Boundary { line: number, begin }),
                None if line.starts_with("-----") => return Err(PemError::Boundary { line: number, begin }),
                None => return Err(PemError::Base64 { line: begin }),
            }
        }
        // rustls skips sections of unknown label; they are kept here, for their names in errors and for the few that
        // somebody else reads.
        let known = <(SectionKind, Vec<u8>)>::pem_slice_iter(whole.as_bytes()).next().transpose();
        let (kind, der) = match known.map_err(|_| PemError::Base64 { line: begin })? {
            Some((kind, der)) => (Some(kind), der),
            None => (None, x509_cert::der::pem::decode_vec(whole.as_bytes()).map(|(_, der)| der).unwrap_or_default()),
        };
        sections.push(Section { line: begin, label: label.to_owned(), kind, der });
    }
    if sections.is_empty() { Err(PemError::Empty) } else { Ok(sections) }
}

/// The certificates of a file for a person to look at: one in DER, or all of PEM, whatever else stands between them.
///
/// # Errors
/// [`PemError`] if it is neither, or PEM that is not strict; [`PemError::Empty`] also where no section is a certificate.
pub fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    match sections(bytes) {
        Err(PemError::Der | PemError::NotText | PemError::Garbage { .. }) if bytes.starts_with(&[0x30]) => {
            Ok(vec![CertificateDer::from(bytes.to_vec())])
        }
        Err(error) => Err(error),
        Ok(all) => {
            let is_certificate = |section: &Section| section.kind == Some(SectionKind::Certificate);
            let all: Vec<_> = all.into_iter().filter(is_certificate).map(|section| section.der.into()).collect();
            if all.is_empty() { Err(PemError::Empty) } else { Ok(all) }
        }
    }
}

/// Reads a file of certificates, as [`certificates`] does.
///
/// # Errors
/// The system's, or what is wrong with its content.
pub fn certificates_from_file(path: &std::path::Path) -> std::io::Result<Vec<CertificateDer<'static>>> {
    certificates(&read_file(std::fs::File::open(path)?)?).map_err(std::io::Error::other)
}

fn boundary<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix("-----")
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// Reads a file of at most [`MAX_FILE_LENGTH`] bytes.
pub(crate) fn read_file(mut file: std::fs::File) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    Read::by_ref(&mut file).take(MAX_FILE_LENGTH + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_LENGTH {
        return Err(std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            format!("more than {MAX_FILE_LENGTH} bytes"),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";

    #[test]
    fn comments_and_blank_lines_stand_between_sections() {
        let text = format!("# 院内 CA\n\n{GOOD}\r\n# second\n{}", GOOD.replace('\n', "\r\n"));
        let found = sections(text.as_bytes()).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|s| s.der == [0, 1, 2] && s.kind == Some(SectionKind::Certificate)));
        assert_eq!(found[1].line, 8);
    }

    #[test]
    fn each_defect_has_its_name() {
        let of = |text: &str| sections(text.as_bytes()).err().unwrap();
        assert_eq!(of(""), PemError::Empty);
        assert_eq!(of("# only a comment\n\n"), PemError::Empty);
        assert_eq!(of(&format!("subject=CN\n{GOOD}")), PemError::Garbage { line: 1 });
        assert_eq!(of(&format!("{GOOD}x\n{GOOD}")), PemError::Garbage { line: 4 });
        assert_eq!(of("-----END CERTIFICATE-----"), PemError::Garbage { line: 1 });
        assert_eq!(of(&format!("{GOOD}-----BEGIN CERTIFICATE-----\nAAEC\n")), PemError::Truncated { line: 4 });
        assert_eq!(of(&format!("-----BEGIN CERTIFICATE-----\nAAEC\n{GOOD}")), PemError::Boundary { line: 3, begin: 1 });
        let other = GOOD.replace("END CERTIFICATE", "END X509 CRL");
        assert_eq!(of(&other), PemError::Boundary { line: 3, begin: 1 });
        assert_eq!(of(&GOOD.replace("AAEC", "A!EC")), PemError::Base64 { line: 1 });
        assert_eq!(of(&GOOD.replace("AAEC", "A")), PemError::Base64 { line: 1 });
        assert_eq!(sections(&[0x30, 0x82, 0x01, 0x88]).err().unwrap(), PemError::Der);
        assert_eq!(sections(&[0xff, 0xfe, 0x00]).err().unwrap(), PemError::NotText);
    }

    #[test]
    fn certificates_are_found_in_both_forms() {
        let pem = format!("{}{GOOD}{GOOD}", GOOD.replace("CERTIFICATE", "PRIVATE KEY"));
        assert_eq!(certificates(pem.as_bytes()).unwrap().len(), 2);
        assert_eq!(certificates(&[0x30, 0x82, 0x01, 0x88]).unwrap()[0].as_ref(), [0x30, 0x82, 0x01, 0x88]);
        assert_eq!(certificates(&[0x30, 0x03, 0x02, 0x01, 0x01]).unwrap().len(), 1);
        assert_eq!(certificates(b"-----BEGIN").unwrap_err(), PemError::Garbage { line: 1 });
        let key = GOOD.replace("CERTIFICATE", "PRIVATE KEY");
        assert_eq!(certificates(key.as_bytes()).unwrap_err(), PemError::Empty);
    }

    proptest! {
        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _: Result<Vec<Section>, PemError> = sections(&bytes);
        }

        #[test]
        fn a_cut_file_is_never_a_whole_one(cut in 1usize..55) {
            let text = format!("{GOOD}{GOOD}");
            // The last newline alone may be missing.
            let short = &text.as_bytes()[..text.len() - 1 - cut];
            let whole_sections = sections(short).map_or(0, |s| s.len());
            prop_assert!(whole_sections == 0 || short == GOOD.as_bytes() || short == &GOOD.as_bytes()[..GOOD.len() - 1]);
        }
    }
}
