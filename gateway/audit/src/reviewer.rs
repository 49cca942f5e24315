//! Reviewers: who may open a site's records.
//!
//! A reviewer has a name, a key pair to which data keys are wrapped ([`crate::wrap`]) and a key pair that signs
//! [`statement`]s about who the reviewers are. Its public part is one line of text; its [`private`] part is a file under a
//! passphrase. Statements make a chain for each site, so that whoever runs the gateway cannot add a reviewer
//! ([`set::Reviewers`]).

pub mod private;
pub mod set;
pub mod statement;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::note::{KeyError, KeyKind, VerifierKey};
use crate::wrap::{PublicKey, WrapError};

/// The longest name of a site, class or reviewer, bytes.
pub const MAX_NAME: usize = 128;

/// Whether a text may name a site, a class or a reviewer: up to [`MAX_NAME`] letters, digits, `-`, `_` and `.`, and not
/// `.` or `..`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && !matches!(text, "." | "..")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Why a line is not a reviewer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReviewerError {
    /// Not `reviewer <name> <base64> <verifier key>`.
    #[error("the line is not `reviewer NAME KEY VERIFIER-KEY`")]
    Form,
    /// A name that cannot be a reviewer's.
    #[error("`{0}` cannot be the name of a reviewer")]
    Name(String),
    /// The key for wrapping is none.
    #[error("the reviewer `{name}` has an unusable key: {source}")]
    Wrapping {
        /// The reviewer's name.
        name: String,
        /// What is wrong.
        source: WrapError,
    },
    /// The key for signing is none.
    #[error("the reviewer `{name}` has an unusable key: {source}")]
    Signing {
        /// The reviewer's name.
        name: String,
        /// What is wrong.
        source: KeyError,
    },
    /// The key for signing has another name than the reviewer, or is a cosigner's.
    #[error("the signing key of the reviewer `{name}` is named `{found}` or is not of type 0x01")]
    Signer {
        /// The reviewer's name.
        name: String,
        /// The key's.
        found: String,
    },
}

/// A reviewer's public part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewer {
    name: String,
    wrapping: PublicKey,
    signing: VerifierKey,
}

impl Reviewer {
    /// A reviewer from its keys; its name is that of the signing key.
    ///
    /// # Errors
    /// [`ReviewerError`] if the name is not a reviewer's, or the signing key a cosigner's.
    pub fn new(wrapping: PublicKey, signing: VerifierKey) -> Result<Self, ReviewerError> {
        let name = signing.name().to_owned();
        if !is_name(&name) {
            return Err(ReviewerError::Name(name));
        }
        if signing.kind() != KeyKind::Log {
            return Err(ReviewerError::Signer { found: name.clone(), name });
        }
        Ok(Self { name, wrapping, signing })
    }

    /// Reads the public line, without its newline.
    ///
    /// # Errors
    /// [`ReviewerError`] if it is none.
    pub fn parse(line: &str) -> Result<Self, ReviewerError> {
        let mut words = line.split(' ');
        let words = [words.next(), words.next(), words.next(), words.next(), words.next()];
        let [Some("reviewer"), Some(name), Some(wrapping), Some(signing), None] = words else {
            return Err(ReviewerError::Form);
        };
        if !is_name(name) {
            return Err(ReviewerError::Name(name.escape_debug().to_string()));
        }
        let bytes = BASE64.decode(wrapping).ok().and_then(|bytes| bytes.try_into().ok());
        let unusable = |source| ReviewerError::Wrapping { name: name.to_owned(), source };
        let wrapping = PublicKey::new(bytes.ok_or_else(|| unusable(WrapError::Public))?).map_err(unusable)?;
        let signing =
            VerifierKey::parse(signing).map_err(|source| ReviewerError::Signing { name: name.to_owned(), source })?;
        if signing.name() != name {
            return Err(ReviewerError::Signer { name: name.to_owned(), found: signing.name().to_owned() });
        }
        Self::new(wrapping, signing)
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key to which data keys are wrapped.
    #[must_use]
    pub const fn wrapping(&self) -> &PublicKey {
        &self.wrapping
    }

    /// The key that verifies the reviewer's statements.
    #[must_use]
    pub const fn signing(&self) -> &VerifierKey {
        &self.signing
    }
}

/// The public line, without newline.
impl fmt::Display for Reviewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reviewer {} {} {}", self.name, BASE64.encode(self.wrapping.bytes()), self.signing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use private::ReviewerKey;
    use proptest::prelude::*;

    #[test]
    fn the_public_line_comes_back() {
        let key = ReviewerKey::new("auditor", [1; 32], [2; 32]).unwrap();
        let line = key.public().to_string();
        assert_eq!(line.split(' ').count(), 4);
        assert_eq!(Reviewer::parse(&line).as_ref(), Ok(key.public()));
    }

    #[test]
    fn what_is_no_reviewer_is_named() {
        let key = ReviewerKey::new("auditor", [1; 32], [2; 32]).unwrap();
        let line = key.public().to_string();
        let words: Vec<_> = line.split(' ').collect();
        let parse = |words: [&str; 4]| Reviewer::parse(&words.join(" ")).unwrap_err();
        let name = || "auditor".to_owned();
        for bad in ["", "reviewer", &format!("{line} "), &line.replace(' ', "  "), &line.replacen("re", "RE", 1)] {
            assert_eq!(Reviewer::parse(bad), Err(ReviewerError::Form), "{bad}");
        }
        for bad in ["*", ".", "a+b", "a/b", "\u{1b}[2J", &"a".repeat(129)] {
            let error = ReviewerError::Name(bad.escape_debug().to_string());
            assert_eq!(parse([words[0], bad, words[2], words[3]]), error);
        }
        let unusable = ReviewerError::Wrapping { name: name(), source: WrapError::Public };
        for bad in ["", "AAAA", &BASE64.encode([4; 65]), words[2].trim_end_matches('=')] {
            assert_eq!(parse([words[0], words[1], bad, words[3]]), unusable);
        }
        let error = parse([words[0], words[1], words[2], "auditor+00000000+AAAA"]);
        assert!(matches!(error, ReviewerError::Signing { .. }), "{error}");
        let other = ReviewerKey::new("other", [1; 32], [2; 32]).unwrap();
        let other = ReviewerError::Signer { name: name(), found: other.public().name().to_owned() };
        let wrong = ReviewerKey::new("other", [1; 32], [2; 32]).unwrap().public().signing().to_string();
        assert_eq!(parse([words[0], words[1], words[2], &wrong]), other);
        let cosigner = VerifierKey::new("auditor", KeyKind::Cosigner, [9; 32]).unwrap().to_string();
        let error = ReviewerError::Signer { name: name(), found: name() };
        assert_eq!(parse([words[0], words[1], words[2], &cosigner]), error);
    }

    proptest! {
        #[test]
        fn any_line_is_judged(line in "(reviewer )?[ -~]{0,200}") {
            if let Ok(reviewer) = Reviewer::parse(&line) {
                prop_assert_eq!(reviewer.to_string(), line);
            }
        }
    }
}
