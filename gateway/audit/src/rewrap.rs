//! Additions: data keys that a reviewer wrapped to another reviewer, signed.
//!
//! A reviewer opens what was sealed while the statements named it. To let a newer one open older periods, one who can
//! opens their data keys and wraps them again: an *addition*, a signed note that a gateway takes into its key files.
//!
//! ```text
//! <trust domain of the gateways>/rewrap
//! site <name, or * for records of no site>
//! statement <SHA-256 of the statement in force for the site, in hexadecimal digits>
//! reviewer <name of the other>
//! key <data key's id> <base64 of enc> <base64 of ct>
//! …
//! ```
//!
//! The signer and the other must be reviewers in that statement. That a wrapped key opens is between the two: nobody else
//! can see it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::header::KeyId;
use crate::keyfile::Lines;
use crate::note::{Note, Signer};
use crate::reviewer::is_name;
use crate::reviewer::set::Reviewers;
use crate::reviewer::statement::{self, DEFAULT, Digest};
use crate::wrap::Wrapped;

/// The most keys of one addition: a note has at most 256 KiB.
pub const MAX_KEYS: usize = 900;

/// Why an addition is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RewrapError {
    /// It is not a signed note.
    #[error("the addition: {0}")]
    Note(#[from] crate::note::NoteError),
    /// A line that is not what belongs there.
    #[error("line {0} of the addition is not what belongs there")]
    Line(usize),
    /// It has none or too many keys.
    #[error("the addition has no key, or more than {MAX_KEYS}")]
    Keys,
    /// It is of other gateways.
    #[error("the addition is of the trust domain `{found}`, not `{expected}`")]
    Domain {
        /// These gateways'.
        expected: String,
        /// Its own.
        found: String,
    },
    /// Its site has other reviewers by now.
    #[error("the addition names a statement that is not in force for the site `{0}`; make it again")]
    Stale(String),
    /// Whom it names, or who signed it, is no reviewer of the site.
    #[error("`{reviewer}` is not a reviewer of the site `{site}`")]
    Reviewer {
        /// The name.
        reviewer: String,
        /// The site.
        site: String,
    },
    /// It has none or several signatures.
    #[error("the addition has {0} signatures instead of one")]
    Signatures(usize),
}

/// Data keys of one site, wrapped to one more reviewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    /// Trust domain of the gateways.
    pub domain: String,
    /// The site; none for records of no site.
    pub site: Option<String>,
    /// Digest of the statement in force.
    pub statement: Digest,
    /// For whom the keys are wrapped.
    pub reviewer: String,
    /// The keys.
    pub keys: Vec<(KeyId, Wrapped)>,
}

impl fmt::Display for Addition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/rewrap\nsite {}\nstatement ", self.domain, self.site.as_deref().unwrap_or(DEFAULT))?;
        self.statement.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        writeln!(f, "\nreviewer {}", self.reviewer)?;
        self.keys.iter().try_for_each(|(id, wrapped)| {
            writeln!(f, "key {id} {} {}", BASE64.encode(wrapped.encapsulated), BASE64.encode(wrapped.ciphertext))
        })
    }
}

impl Addition {
    /// Reads a note's text, strictly.
    ///
    /// # Errors
    /// [`RewrapError`] names the first line that is wrong.
    pub fn parse(text: &str) -> Result<Self, RewrapError> {
        let mut lines = Lines::new(text);
        let domain = lines.take("", |line| line.strip_suffix("/rewrap").map(str::to_owned));
        let domain = domain.map_err(|_| RewrapError::Line(1))?;
        let site = |name: &str| match name {
            DEFAULT => Some(None),
            name => is_name(name).then(|| Some(name.to_owned())),
        };
        let site = lines.take("site ", site).map_err(|_| RewrapError::Line(2))?;
        let statement = lines.take("statement ", statement::digits).map_err(|_| RewrapError::Line(3))?;
        let reviewer = lines.take("reviewer ", |name| is_name(name).then(|| name.to_owned()));
        let reviewer = reviewer.map_err(|_| RewrapError::Line(4))?;
        let mut keys: Vec<(KeyId, Wrapped)> = Vec::new();
        while !lines.rest.is_empty() {
            let line = 5 + keys.len();
            let key = lines.take("key ", read_key).map_err(|_| RewrapError::Line(line))?;
            if keys.len() >= MAX_KEYS {
                return Err(RewrapError::Keys);
            }
            if keys.iter().any(|(id, _)| *id == key.0) {
                return Err(RewrapError::Line(line));
            }
            keys.push(key);
        }
        let read = Self { domain, site, statement, reviewer, keys };
        match (read.keys.is_empty(), read.to_string() == text) {
            (true, _) => Err(RewrapError::Keys),
            (false, true) => Ok(read),
            (false, false) => Err(RewrapError::Line(1)),
        }
    }

    /// The addition as a signed note.
    ///
    /// # Errors
    /// [`RewrapError`] if it could not be read again.
    pub fn sign(&self, signer: &Signer) -> Result<String, RewrapError> {
        let text = self.to_string();
        Self::parse(&text)?;
        Ok(format!("{text}\n{}", signer.sign(&text, 0)))
    }

    /// Reads a signed addition; says who signed it. Both must be reviewers of the site by the statements in force.
    ///
    /// # Errors
    /// [`RewrapError`].
    pub fn open(note: &[u8], domain: &str, reviewers: &Reviewers) -> Result<(Self, String), RewrapError> {
        let note = Note::parse(note)?;
        if note.signatures().len() != 1 {
            return Err(RewrapError::Signatures(note.signatures().len()));
        }
        let addition = Self::parse(note.text())?;
        if addition.domain != domain {
            return Err(RewrapError::Domain { expected: domain.to_owned(), found: addition.domain });
        }
        let site = addition.site.as_deref().unwrap_or(DEFAULT).to_owned();
        let head = reviewers.head(addition.site.as_deref());
        if *head.digest != addition.statement {
            return Err(RewrapError::Stale(site));
        }
        let name = note.signatures().first().map(|signature| signature.name.to_owned()).unwrap_or_default();
        let unknown = |reviewer: &str| RewrapError::Reviewer { reviewer: reviewer.to_owned(), site: site.clone() };
        let signer = head.reviewers.iter().find(|reviewer| reviewer.name() == name).ok_or_else(|| unknown(&name))?;
        note.verify(std::slice::from_ref(signer.signing()))?;
        if !head.reviewers.iter().any(|reviewer| reviewer.name() == addition.reviewer) {
            return Err(unknown(&addition.reviewer));
        }
        Ok((addition, name))
    }
}

fn read_key(text: &str) -> Option<(KeyId, Wrapped)> {
    let (id, rest) = text.split_once(' ')?;
    let (encapsulated, ciphertext) = rest.split_once(' ')?;
    let encapsulated = BASE64.decode(encapsulated).ok()?.try_into().ok()?;
    let ciphertext = BASE64.decode(ciphertext).ok()?.try_into().ok()?;
    Some((KeyId::parse(id)?, Wrapped { encapsulated, ciphertext }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reviewer::Reviewer;
    use crate::reviewer::private::ReviewerKey;
    use crate::reviewer::statement::Statement;
    use proptest::prelude::*;

    const DOMAIN: &str = "sekisho.example";

    fn key(name: &str, byte: u8) -> ReviewerKey {
        ReviewerKey::new(name, [byte; 32], [byte; 32]).unwrap()
    }

    fn statements(reviewers: &[&ReviewerKey]) -> Reviewers {
        let reviewers: Vec<Reviewer> = reviewers.iter().map(|key| key.public().clone()).collect();
        let first = Statement { domain: DOMAIN.into(), site: None, number: 1, previous: None, reviewers };
        Reviewers::new(DOMAIN, first.sign(key("old", 1).signing()).unwrap().as_bytes()).unwrap()
    }

    fn addition(reviewers: &Reviewers) -> Addition {
        let wrapped = Wrapped { encapsulated: [4; 65], ciphertext: [5; 48] };
        Addition {
            domain: DOMAIN.into(),
            site: Some("sakura-clinic".into()),
            statement: *reviewers.head(None).digest,
            reviewer: "new".into(),
            keys: vec![(KeyId([1; 16]), wrapped), (KeyId([2; 16]), wrapped)],
        }
    }

    #[test]
    fn an_addition_comes_back_and_both_must_be_reviewers() {
        let (old, new) = (key("old", 1), key("new", 2));
        let set = statements(&[&old, &new]);
        let note = addition(&set).sign(old.signing()).unwrap();
        assert_eq!(Addition::open(note.as_bytes(), DOMAIN, &set), Ok((addition(&set), "old".to_owned())));
        let stranger = addition(&set).sign(key("other", 1).signing()).unwrap();
        let error = Addition::open(stranger.as_bytes(), DOMAIN, &set).unwrap_err();
        assert_eq!(error.to_string(), "`other` is not a reviewer of the site `sakura-clinic`");
        let impostor = addition(&set).sign(key("old", 9).signing()).unwrap();
        assert!(matches!(Addition::open(impostor.as_bytes(), DOMAIN, &set), Err(RewrapError::Note(_))));
        let alone = statements(&[&old]);
        let stale = Addition::open(note.as_bytes(), DOMAIN, &alone).unwrap_err();
        assert_eq!(stale, RewrapError::Stale("sakura-clinic".into()));
        let for_nobody = addition(&alone).sign(old.signing()).unwrap();
        let error = Addition::open(for_nobody.as_bytes(), DOMAIN, &alone).unwrap_err();
        assert_eq!(error.to_string(), "`new` is not a reviewer of the site `sakura-clinic`");
        let elsewhere = Addition::open(note.as_bytes(), "other.example", &set).unwrap_err();
        assert!(matches!(elsewhere, RewrapError::Domain { .. }));
        let twice = format!("{note}{}", new.signing().sign(&addition(&set).to_string(), 0));
        assert_eq!(Addition::open(twice.as_bytes(), DOMAIN, &set), Err(RewrapError::Signatures(2)));
        assert!(matches!(Addition::open(b"", DOMAIN, &set), Err(RewrapError::Note(_))));
    }

    #[test]
    fn each_wrong_line_is_named() {
        let addition = addition(&statements(&[&key("old", 1)]));
        let text = addition.to_string();
        for (from, to, line) in [
            ("/rewrap", "/reviewers", 1),
            ("site s", "site /", 2),
            ("statement ", "statement 0", 3),
            ("reviewer new", "reviewer ..", 4),
            ("key 01", "key 1", 5),
            ("key 02", "key 0x", 6),
            (&"02".repeat(16), &"01".repeat(16), 6),
        ] {
            assert_eq!(Addition::parse(&text.replacen(from, to, 1)), Err(RewrapError::Line(line)), "{to}");
        }
        assert_eq!(
            Addition { keys: Vec::new(), ..addition.clone() }.sign(key("old", 1).signing()),
            Err(RewrapError::Keys)
        );
        let wrapped = addition.keys[0].1;
        let keys = (0..=u32::try_from(MAX_KEYS).unwrap()).map(|n| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&n.to_be_bytes());
            (KeyId(id), wrapped)
        });
        let mut many = Addition { site: None, keys: keys.collect(), ..addition };
        assert_eq!(many.sign(key("old", 1).signing()), Err(RewrapError::Keys));
        many.keys.pop();
        // The most keys that are taken fit a note.
        let note = many.sign(key("old", 1).signing()).unwrap();
        assert!(Note::parse(note.as_bytes()).is_ok(), "{}", note.len());
        assert_eq!(Addition::parse(&many.to_string()), Ok(many));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(place: prop::sample::Index, byte in 0_u8..128) {
            let mut text = addition(&statements(&[&key("old", 1)])).to_string().into_bytes();
            let place = place.index(text.len());
            text[place] = byte;
            let text = String::from_utf8(text).unwrap();
            if let Ok(read) = Addition::parse(&text) {
                prop_assert_eq!(read.to_string(), text);
            }
        }
    }
}
