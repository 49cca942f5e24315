//! Statements: who a site's reviewers are, signed by one who was one before.
//!
//! A statement is a signed note (C2SP signed-note) with exactly one signature and this text:
//!
//! ```text
//! <domain>/reviewers
//! site <name, or * for the default>
//! number <n, from 1>
//! previous <SHA-256 of the statement before, its signature included, in hexadecimal digits; or none>
//! reviewer <name> <wrapping key> <verifier key>
//! reviewer …
//! ```

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::{Reviewer, ReviewerError, is_name};
use crate::checkpoint::decimal;
use crate::note::{Note, NoteError, Signer};

/// The most reviewers of a site: each data key is wrapped to every one of them.
pub const MAX_REVIEWERS: usize = 16;
/// What stands for the reviewers of all sites that have none of their own.
pub const DEFAULT: &str = "*";

/// SHA-256 of a statement with its signature.
pub type Digest = [u8; 32];

/// Why a statement is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Not a signed note, or its signature is not the signer's.
    #[error("the statement is refused: {0}")]
    Note(#[from] NoteError),
    /// A line that is not what belongs there.
    #[error("line {0} of the statement is not what belongs there")]
    Line(usize),
    /// A line that is no reviewer.
    #[error("line {line} of the statement: {source}")]
    Reviewer {
        /// The line.
        line: usize,
        /// What is wrong.
        source: ReviewerError,
    },
    /// More than one signature.
    #[error("the statement has {0} signatures, and may have one")]
    Signatures(usize),
    /// The last reviewer would be removed.
    #[error("the statement names no reviewer: nobody could read what is written then")]
    Nobody,
    /// More than [`MAX_REVIEWERS`].
    #[error("the statement names more than {MAX_REVIEWERS} reviewers")]
    Many,
    /// Two reviewers with the same name.
    #[error("the statement names the reviewer `{0}` twice")]
    Duplicate(String),
    /// It is of another domain.
    #[error("the statement is of the domain `{found}`, not `{expected}`")]
    Domain {
        /// The domain it should be of.
        expected: String,
        /// The one it is of.
        found: String,
    },
    /// It is of another site.
    #[error("the statement is of the site `{found}`, not `{expected}`")]
    Site {
        /// The site it should be of.
        expected: String,
        /// The one it is of.
        found: String,
    },
    /// A statement before it is missing.
    #[error("statement {found} of the site `{site}` comes where number {expected} belongs")]
    Gap {
        /// The site.
        site: String,
        /// The number that comes next.
        expected: u64,
        /// The statement's.
        found: u64,
    },
    /// It does not follow from the one before it, or there is another one with its number.
    #[error("statement {number} of the site `{site}` does not continue the statements that are known")]
    Fork {
        /// The site.
        site: String,
        /// The statement's number.
        number: u64,
    },
    /// Nobody who may has signed it.
    #[error("statement {number} of the site `{site}` is signed by `{signer}`, which was no reviewer before it")]
    Signer {
        /// The site.
        site: String,
        /// The statement's number.
        number: u64,
        /// The name on the signature.
        signer: String,
    },
}

/// Who a site's reviewers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// For whose gateways: their SPIFFE trust domain.
    pub domain: String,
    /// For which site; none is the default.
    pub site: Option<String>,
    /// Place in the site's chain, from 1.
    pub number: u64,
    /// The statement that this one follows; see [`super::set::Reviewers`].
    pub previous: Option<Digest>,
    /// The reviewers.
    pub reviewers: Vec<Reviewer>,
}

impl Statement {
    /// Reads a statement's text strictly. Nothing in it is to be believed before its chain is.
    ///
    /// # Errors
    /// [`StatementError`] if it is none.
    pub fn parse(text: &str) -> Result<Self, StatementError> {
        let mut lines = text.strip_suffix('\n').ok_or(StatementError::Line(1))?.split('\n');
        let domain = lines.next().and_then(|line| line.strip_suffix("/reviewers"));
        let domain = domain.filter(|domain| is_domain(domain)).ok_or(StatementError::Line(1))?.to_owned();
        let site = match lines.next().and_then(|line| line.strip_prefix("site ")) {
            Some(DEFAULT) => None,
            Some(site) if is_name(site) => Some(site.to_owned()),
            Some(_) | None => return Err(StatementError::Line(2)),
        };
        let number = lines.next().and_then(|line| line.strip_prefix("number ")).and_then(decimal);
        let number = number.filter(|number| *number > 0).ok_or(StatementError::Line(3))?;
        let previous = match lines.next().and_then(|line| line.strip_prefix("previous ")) {
            Some("none") => None,
            Some(digest) => Some(digits(digest).ok_or(StatementError::Line(4))?),
            None => return Err(StatementError::Line(4)),
        };
        let mut reviewers: Vec<Reviewer> = Vec::new();
        for (place, line) in lines.enumerate() {
            let reviewer = Reviewer::parse(line);
            let reviewer = reviewer.map_err(|source| StatementError::Reviewer { line: place + 5, source })?;
            if reviewers.iter().any(|other| other.name() == reviewer.name()) {
                return Err(StatementError::Duplicate(reviewer.name().to_owned()));
            }
            if reviewers.len() == MAX_REVIEWERS {
                return Err(StatementError::Many);
            }
            reviewers.push(reviewer);
        }
        if reviewers.is_empty() {
            return Err(StatementError::Nobody);
        }
        Ok(Self { domain, site, number, previous, reviewers })
    }

    /// The statement as a signed note.
    ///
    /// # Errors
    /// [`StatementError`] if it cannot be read again; whether the signer may sign it is not asked.
    pub fn sign(&self, signer: &Signer) -> Result<String, StatementError> {
        let text = self.to_string();
        let again = Self::parse(&text)?;
        if again == *self { Ok(format!("{text}\n{}", signer.sign(&text, 0))) } else { Err(StatementError::Line(1)) }
    }

    /// What the site is called in statements.
    #[must_use]
    pub fn site_label(&self) -> &str {
        self.site.as_deref().unwrap_or(DEFAULT)
    }
}

/// The note's text.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/reviewers\nsite {}\nnumber {}\nprevious ", self.domain, self.site_label(), self.number)?;
        match &self.previous {
            None => f.write_str("none")?,
            Some(digest) => digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?,
        }
        f.write_str("\n")?;
        self.reviewers.iter().try_for_each(|reviewer| writeln!(f, "{reviewer}"))
    }
}

/// The digest by which the next statement names a signed one.
#[must_use]
pub fn digest(note: &[u8]) -> Digest {
    Sha256::digest(note).into()
}

/// A signed statement, read: its note, and the statement in it.
pub(super) fn read(note: &[u8]) -> Result<(Note<'_>, Statement), StatementError> {
    let note = Note::parse(note)?;
    if note.signatures().len() != 1 {
        return Err(StatementError::Signatures(note.signatures().len()));
    }
    let statement = Statement::parse(note.text())?;
    Ok((note, statement))
}

fn is_domain(domain: &str) -> bool {
    (1..=255).contains(&domain.len()) && domain.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+')
}

pub(crate) fn digits(text: &str) -> Option<Digest> {
    let (first, second) = text.split_at_checked(text.len() / 2)?;
    let first = crate::header::KeyId::parse(first)?.0;
    let second = crate::header::KeyId::parse(second)?.0;
    let mut digest = [0; 32];
    digest.iter_mut().zip(first.into_iter().chain(second)).for_each(|(place, byte)| *place = byte);
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reviewer::private::ReviewerKey;
    use proptest::prelude::*;

    fn key(name: &str) -> ReviewerKey {
        ReviewerKey::new(name, [1; 32], [2; 32]).unwrap()
    }

    fn statement() -> Statement {
        Statement {
            domain: "sekisho.example".into(),
            site: Some("sakura-clinic".into()),
            number: 7,
            previous: Some([0xab; 32]),
            reviewers: vec![key("auditor").public().clone(), key("doctor").public().clone()],
        }
    }

    #[test]
    fn a_statement_comes_back() {
        let note = statement().sign(key("auditor").signing()).unwrap();
        let (read_note, read_statement) = read(note.as_bytes()).unwrap();
        assert_eq!(read_statement, statement());
        assert_eq!(read_note.signatures()[0].name, "auditor");
        let default = Statement { site: None, previous: None, ..statement() };
        assert_eq!(Statement::parse(&default.to_string()), Ok(default));
    }

    #[test]
    fn each_wrong_line_is_named() {
        let text = statement().to_string();
        let lines: Vec<_> = text.lines().collect();
        let line = |number: usize, line: &str| {
            let mut lines = lines.clone();
            lines[number - 1] = line;
            Statement::parse(&format!("{}\n", lines.join("\n"))).unwrap_err()
        };
        for (number, bad) in [
            (1, "/reviewers"),
            (1, "a b/reviewers"),
            (1, "sekisho.example"),
            (2, "site "),
            (2, "site a/b"),
            (2, "site **"),
            (3, "number 0"),
            (3, "number 01"),
            (3, "number -1"),
            (3, "number 18446744073709551616"),
            (4, "previous "),
            (4, "previous ab"),
            (4, &lines[3].to_uppercase()),
            (4, &format!("previous {}", "AB".repeat(32))),
        ] {
            assert_eq!(line(number, bad), StatementError::Line(number), "{bad}");
        }
        let reviewer = StatementError::Reviewer { line: 6, source: ReviewerError::Form };
        assert_eq!(line(6, ""), reviewer);
        assert_eq!(line(6, lines[4]), StatementError::Duplicate("auditor".into()));
        let nobody = format!("{}\n", lines[..4].join("\n"));
        assert_eq!(Statement::parse(&nobody), Err(StatementError::Nobody));
        assert_eq!(Statement::parse(text.trim_end()), Err(StatementError::Line(1)));
        let many = (0..=MAX_REVIEWERS).map(|n| key(&format!("r{n}")).public().clone()).collect();
        let many = Statement { reviewers: many, ..statement() };
        assert_eq!(many.sign(key("auditor").signing()), Err(StatementError::Many));
        let nobody = Statement { reviewers: Vec::new(), ..statement() };
        assert_eq!(nobody.sign(key("auditor").signing()), Err(StatementError::Nobody));
        let mut twice = statement().sign(key("auditor").signing()).unwrap();
        twice.push_str(&key("doctor").signing().sign(&statement().to_string(), 0));
        assert_eq!(read(twice.as_bytes()).map(|_| ()), Err(StatementError::Signatures(2)));
        assert!(matches!(read(text.as_bytes()).unwrap_err(), StatementError::Note(_)));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(
            domain in "[a-z. ]{0,4}", site in "[*a]{0,2}", number in "[0-9]{0,3}", previous in "(none|[0-9a-f]{64})",
        ) {
            let reviewer = key("auditor").public().to_string();
            let text = format!("{domain}/reviewers\nsite {site}\nnumber {number}\nprevious {previous}\n{reviewer}\n");
            if let Ok(statement) = Statement::parse(&text) {
                prop_assert_eq!(statement.to_string(), text);
            }
        }

        #[test]
        fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&bytes).is_err());
        }
    }
}
