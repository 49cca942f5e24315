//! The reviewers that a node's log was sealed to last: a start goes on with them, or with those whom they have named (R28).
//!
//! Statements that were taken away, and a folder of statements that somebody else began, are whole in themselves. The
//! records of kind `start` and `reviewers` tell a reviewer of both; the gateway, which cannot read them back, keeps the
//! ends of the chains in [`MARK`] beside the log. Whoever may write there may change it: it is for mistakes, old backups,
//! and those who may write the statements alone.

use std::io;
use std::path::{Path, PathBuf};

use gateway_audit::reviewer::set::{Discontinued, Head, Reviewers};
use serde::{Deserialize, Serialize};

use crate::replace::replace;
use crate::store::hash;

/// The file in the audit directory.
const MARK: &str = "reviewers-mark.json";

/// Why the statements are not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReviewersError {
    /// They do not go on from those that the log was sealed by.
    #[error(
        "reviewers rolled back: {0}; put the statements back, or begin another audit directory: see `start-refused` in \
         the runbook"
    )]
    RolledBack(#[from] Discontinued),
    /// The file beside the log.
    #[error("`{path}`: {reason}; it says by which statements the log was sealed last", path = path.display())]
    Mark {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The end of one chain.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    site: Option<String>,
    number: u64,
    sha256: String,
}

/// Do these reviewers go on from those that the log in `directory` was sealed to last? Where nothing is known of any,
/// they do.
///
/// # Errors
/// [`ReviewersError`]; the gateway must not serve.
pub(super) fn check(directory: &Path, reviewers: &Reviewers) -> Result<(), ReviewersError> {
    let path = directory.join(MARK);
    let fault = |reason: String| ReviewersError::Mark { path: path.clone(), reason };
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fault(error.to_string())),
    };
    let known: Vec<Known> = serde_json::from_slice(&text).map_err(|error| fault(error.to_string()))?;
    let heads = known.iter().map(|known| Some((known.site.as_deref(), known.number, hash(&known.sha256)?)));
    let heads: Vec<_> = heads.collect::<Option<_>>().ok_or_else(|| fault("a digest is none".to_owned()))?;
    Ok(reviewers.continue_from(&heads)?)
}

/// Remembers these.
///
/// # Errors
/// [`ReviewersError::Mark`] if they cannot be written.
pub(super) fn keep(directory: &Path, reviewers: &Reviewers) -> Result<(), ReviewersError> {
    let path = directory.join(MARK);
    let known = |head: Head<'_>| Known {
        site: head.site.map(str::to_owned),
        number: head.number,
        sha256: certs::hex(head.digest),
    };
    let known: Vec<Known> = reviewers.heads().map(known).collect();
    let written = serde_json::to_vec(&known).map_err(io::Error::from).and_then(|text| replace(&path, &text, 0o600));
    written.map_err(|error| ReviewersError::Mark { path, reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::init::{first_statement, new_reviewer};
    use gateway_audit::reviewer::private::ReviewerKey;
    use gateway_audit::reviewer::statement::Statement;

    fn set(reviewers: &[&ReviewerKey]) -> Reviewers {
        let all: Vec<_> = reviewers.iter().map(|reviewer| reviewer.public().clone()).collect();
        Reviewers::new("a.example", &first_statement("a.example", &all, reviewers[0]).unwrap()).unwrap()
    }

    fn next(set: &Reviewers, site: Option<&str>, by: &ReviewerKey, reviewer: &ReviewerKey) -> Reviewers {
        let head = set.head(site);
        let statement = Statement {
            domain: "a.example".into(),
            site: site.map(str::to_owned),
            number: if head.site == site { head.number + 1 } else { 1 },
            previous: Some(*head.digest),
            reviewers: vec![reviewer.public().clone()],
        };
        let mut set = set.clone();
        set.add(site, statement.sign(by.signing()).unwrap().as_bytes()).unwrap();
        set
    }

    #[test]
    fn a_start_goes_on_from_the_reviewers_that_were() {
        let folder = tempfile::tempdir().unwrap();
        let [auditor, clinic, operator] = ["auditor", "clinic", "operator"].map(|name| new_reviewer(name).unwrap());
        let one = set(&[&auditor]);
        let two = next(&one, Some("s"), &auditor, &clinic);
        let three = next(&two, None, &auditor, &clinic);
        assert!(check(folder.path(), &one).is_ok(), "a first start");
        for set in [&one, &two, &three] {
            check(folder.path(), set).unwrap();
            keep(folder.path(), set).unwrap();
            check(folder.path(), set).unwrap();
        }
        let refused = |set: &Reviewers| match check(folder.path(), set) {
            Err(ReviewersError::RolledBack(why)) => why,
            other => panic!("{other:?}"),
        };
        let missing = |site: &str, number| Discontinued::Missing { site: site.into(), number };
        assert_eq!(refused(&set(&[&operator])), missing("*", 2), "another beginning");
        assert_eq!(refused(&two), missing("*", 2), "its end was taken away");
        assert_eq!(refused(&next(&one, None, &auditor, &clinic)), missing("s", 1), "a clinic's own are gone");
        // The same default, and a site's chain gone; then one that begins where nobody may any more.
        keep(folder.path(), &next(&three, Some("t"), &clinic, &clinic)).unwrap();
        assert_eq!(refused(&three), missing("t", 1));
        keep(folder.path(), &three).unwrap();
        let mut stale = three.clone();
        let old = one.head(None);
        let away = Statement {
            domain: "a.example".into(),
            site: Some("u".into()),
            number: 1,
            previous: Some(*old.digest),
            reviewers: vec![operator.public().clone()],
        };
        stale.add(Some("u"), away.sign(auditor.signing()).unwrap().as_bytes()).unwrap();
        assert_eq!(refused(&stale), Discontinued::Stale { site: "u".into(), number: 1 });
        std::fs::write(folder.path().join(MARK), "[{}]").unwrap();
        let error = check(folder.path(), &three).unwrap_err().to_string();
        assert!(error.contains(MARK), "{error}");
    }
}
