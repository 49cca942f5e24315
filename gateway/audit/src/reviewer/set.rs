//! The reviewers in force, by site: chains of statements, validated.
//!
//! Each site may have a chain of its own, and `*` has one for all that have none. In a chain, statement n + 1 names
//! the digest of statement n and is signed by one of its reviewers. The first statement of `*` names no other and is
//! signed by one of its own reviewers: it is what everything rests on. The first statement of a site leads away from the
//! default: it names the digest of a statement of `*` and is signed by one of the reviewers there. So nobody becomes a
//! reviewer of a site unless one who could read its records until then says so.
//!
//! What a chain alone cannot show is that its last statements were taken away, or that a reviewer who has left signs a
//! site away by an old statement of `*`. Whoever has seen a newer set finds both with [`Reviewers::continues`].

use std::collections::BTreeMap;

use super::Reviewer;
use super::statement::{self, DEFAULT, Digest, Statement, StatementError};
use crate::note::{Note, NoteError};

/// A set that does not continue an older one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Discontinued {
    /// Statements that were known are gone, or were replaced.
    #[error("statement {number} of the site `{site}` was known before, and is gone or replaced")]
    Missing {
        /// The site.
        site: String,
        /// The last statement that was known.
        number: u64,
    },
    /// A new chain begins at a default that was no longer in force.
    #[error("the statements of the site `{site}` begin at statement {number} of `*`, which was no longer in force")]
    Stale {
        /// The site.
        site: String,
        /// The default statement's number.
        number: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Chain {
    digests: Vec<Digest>,
    /// Number of the default statement that the chain begins at; 0 for the default itself.
    base: u64,
    reviewers: Vec<Reviewer>,
}

impl Chain {
    fn number(&self) -> u64 {
        u64::try_from(self.digests.len()).unwrap_or(u64::MAX)
    }

    fn has(&self, number: u64) -> Option<&Digest> {
        self.digests.get(usize::try_from(number).ok()?.checked_sub(1)?)
    }
}

/// The reviewers in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewers {
    domain: String,
    default: Chain,
    /// The reviewers by each statement of the default.
    defaults: Vec<Vec<Reviewer>>,
    sites: BTreeMap<String, Chain>,
}

/// The end of one chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head<'a> {
    /// The site; none is the default.
    pub site: Option<&'a str>,
    /// Number of the last statement.
    pub number: u64,
    /// Its digest.
    pub digest: &'a Digest,
    /// The reviewers in force.
    pub reviewers: &'a [Reviewer],
}

impl Reviewers {
    /// A set that rests on the default's first statement.
    ///
    /// # Errors
    /// [`StatementError`] if that is not one, of this domain, signed by one of its own reviewers.
    pub fn new(domain: &str, first: &[u8]) -> Result<Self, StatementError> {
        let (note, first_statement) = statement::read(first)?;
        check_place(&first_statement, domain, None)?;
        let Statement { number, previous, reviewers, .. } = first_statement;
        if number != 1 {
            return Err(StatementError::Gap { site: DEFAULT.to_owned(), expected: 1, found: number });
        }
        if previous.is_some() {
            return Err(StatementError::Fork { site: DEFAULT.to_owned(), number });
        }
        check_signer(&note, DEFAULT, number, &reviewers)?;
        let default = Chain { digests: vec![statement::digest(first)], base: 0, reviewers: reviewers.clone() };
        Ok(Self { domain: domain.to_owned(), default, defaults: vec![reviewers], sites: BTreeMap::new() })
    }

    /// Takes the next statement of a site, or of the default. Statements of the default come before those of sites that
    /// begin at them.
    ///
    /// # Errors
    /// [`StatementError`] if it does not continue what is known; then nothing is changed.
    pub fn add(&mut self, site: Option<&str>, note: &[u8]) -> Result<(), StatementError> {
        let digest = statement::digest(note);
        let (note, next) = statement::read(note)?;
        check_place(&next, &self.domain, site)?;
        let label = site.unwrap_or(DEFAULT);
        let chain = site.map_or(Some(&self.default), |site| self.sites.get(site));
        let expected = chain.map_or(1, |chain| chain.number().saturating_add(1));
        let fork = || StatementError::Fork { site: label.to_owned(), number: next.number };
        if next.number > expected {
            return Err(StatementError::Gap { site: label.to_owned(), expected, found: next.number });
        }
        let previous = next.previous.filter(|_| next.number == expected).ok_or_else(fork)?;
        let (base, signers) = match chain {
            Some(chain) if chain.digests.last() == Some(&previous) => (chain.base, &chain.reviewers),
            Some(_) => return Err(fork()),
            None => {
                let mut known = self.default.digests.iter().zip(&self.defaults).zip(1..);
                let ((_, signers), base) = known.find(|((known, _), _)| **known == previous).ok_or_else(fork)?;
                (base, signers)
            }
        };
        check_signer(&note, label, next.number, signers)?;
        let Some(site) = site else {
            self.default.digests.push(digest);
            self.default.reviewers.clone_from(&next.reviewers);
            self.defaults.push(next.reviewers);
            return Ok(());
        };
        let empty = || Chain { digests: Vec::new(), base, reviewers: Vec::new() };
        let chain = self.sites.entry(site.to_owned()).or_insert_with(empty);
        chain.digests.push(digest);
        chain.reviewers = next.reviewers;
        Ok(())
    }

    /// The reviewers to whom the data keys of a site's records are wrapped; never none.
    #[must_use]
    pub fn of(&self, site: Option<&str>) -> &[Reviewer] {
        let chain = site.and_then(|site| self.sites.get(site)).unwrap_or(&self.default);
        &chain.reviewers
    }

    /// The end of the chain that is in force for a site: its own, else the default's. The next statement, if it is of
    /// the same chain, names its digest and has the next number; a site's first names the default's digest and has 1.
    #[must_use]
    pub fn head(&self, site: Option<&str>) -> Head<'_> {
        match site.and_then(|site| self.sites.get_key_value(site)) {
            Some((site, chain)) => head(Some(site), chain),
            None => head(None, &self.default),
        }
    }

    /// The ends of all chains, the default's first.
    pub fn heads(&self) -> impl Iterator<Item = Head<'_>> {
        let sites = self.sites.iter().map(|(site, chain)| head(Some(site), chain));
        std::iter::once(head(None, &self.default)).chain(sites)
    }

    /// Whether this set is `older` or came from it by statements that were in force when they were made.
    ///
    /// # Errors
    /// [`Discontinued`] names the first statement for which it is not so.
    pub fn continues(&self, older: &Self) -> Result<(), Discontinued> {
        let heads: Vec<_> = older.heads().map(|head| (head.site, head.number, *head.digest)).collect();
        self.continue_from(&heads)
    }

    /// [`Reviewers::continues`] of a set of which the ends of all chains are known: the site (none is the default), the
    /// number and the digest of each last statement. A digest stands for all statements before it.
    ///
    /// # Errors
    /// As [`Reviewers::continues`].
    pub fn continue_from(&self, heads: &[(Option<&str>, u64, Digest)]) -> Result<(), Discontinued> {
        for (site, number, digest) in heads {
            let chain = site.map_or(Some(&self.default), |site| self.sites.get(site));
            if chain.and_then(|chain| chain.has(*number)) != Some(digest) {
                let site = site.unwrap_or(DEFAULT).to_owned();
                return Err(Discontinued::Missing { site, number: *number });
            }
        }
        let default = heads.iter().find(|(site, ..)| site.is_none()).map_or(0, |(_, number, _)| *number);
        let is_known = |site: &str| heads.iter().any(|(known, ..)| *known == Some(site));
        for (site, chain) in self.sites.iter().filter(|(site, _)| !is_known(site)) {
            if chain.base < default {
                return Err(Discontinued::Stale { site: site.clone(), number: chain.base });
            }
        }
        Ok(())
    }
}

fn head<'a>(site: Option<&'a str>, chain: &'a Chain) -> Head<'a> {
    const NONE: &Digest = &[0; 32];
    Head { site, number: chain.number(), digest: chain.digests.last().unwrap_or(NONE), reviewers: &chain.reviewers }
}

fn check_place(statement: &Statement, domain: &str, site: Option<&str>) -> Result<(), StatementError> {
    if statement.domain != domain {
        return Err(StatementError::Domain { expected: domain.to_owned(), found: statement.domain.clone() });
    }
    if statement.site.as_deref() != site {
        let expected = site.unwrap_or(DEFAULT).to_owned();
        return Err(StatementError::Site { expected, found: statement.site_label().to_owned() });
    }
    Ok(())
}

/// Whether one of these reviewers has signed.
fn check_signer(note: &Note<'_>, site: &str, number: u64, signers: &[Reviewer]) -> Result<(), StatementError> {
    let keys: Vec<_> = signers.iter().map(|signer| signer.signing().clone()).collect();
    match note.verify(&keys) {
        Ok(_) => Ok(()),
        Err(NoteError::Unknown) => {
            let signer = note.signatures().first().map(|signature| signature.name).unwrap_or_default();
            Err(StatementError::Signer { site: site.to_owned(), number, signer: signer.to_owned() })
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reviewer::private::ReviewerKey;

    const SITE: Option<&str> = Some("sakura-clinic");

    fn key(name: &str) -> ReviewerKey {
        let seed = name.bytes().next().unwrap();
        ReviewerKey::new(name, [seed; 32], [seed; 32]).unwrap()
    }

    fn make(site: Option<&str>, number: u64, previous: Option<Digest>, reviewers: &[&str], signer: &str) -> String {
        let statement = Statement {
            domain: "sekisho.example".into(),
            site: site.map(str::to_owned),
            number,
            previous,
            reviewers: reviewers.iter().map(|name| key(name).public().clone()).collect(),
        };
        statement.sign(key(signer).signing()).unwrap()
    }

    /// The next statement of a chain that has begun, or a site's first.
    fn next(set: &Reviewers, site: Option<&str>, reviewers: &[&str], signer: &str) -> String {
        let head = set.head(site);
        let number = if head.site == site { head.number + 1 } else { 1 };
        make(site, number, Some(*head.digest), reviewers, signer)
    }

    fn set() -> Reviewers {
        Reviewers::new("sekisho.example", make(None, 1, None, &["auditor", "backup"], "auditor").as_bytes()).unwrap()
    }

    fn extended(mut set: Reviewers, site: Option<&str>, reviewers: &[&str], signer: &str) -> Reviewers {
        let note = next(&set, site, reviewers, signer);
        set.add(site, note.as_bytes()).unwrap();
        set
    }

    fn names(set: &Reviewers, site: Option<&str>) -> Vec<String> {
        set.of(site).iter().map(|reviewer| reviewer.name().to_owned()).collect()
    }

    #[test]
    fn reviewers_hand_over_to_others() {
        let set = set();
        assert_eq!(
            (names(&set, None), names(&set, SITE)),
            (vec!["auditor".into(), "backup".into()], names(&set, None))
        );
        let set = extended(set, None, &["backup"], "backup");
        let set = extended(set, SITE, &["backup", "clinic"], "backup");
        let set = extended(set, SITE, &["clinic"], "clinic");
        let set = extended(set, None, &["other"], "backup");
        assert_eq!((names(&set, None), names(&set, SITE)), (vec!["other".into()], vec!["clinic".into()]));
        assert_eq!(names(&set, Some("elsewhere")), ["other"]);
        let heads: Vec<_> = set.heads().map(|head| (head.site, head.number)).collect();
        assert_eq!(heads, [(None, 3), (SITE, 2)]);
    }

    #[test]
    fn the_first_statement_is_signed_by_one_of_its_own() {
        let found = |note: String| Reviewers::new("sekisho.example", note.as_bytes()).map(|_| ()).unwrap_err();
        let site = || "*".to_owned();
        let stranger = StatementError::Signer { site: site(), number: 1, signer: "mallory".into() };
        assert_eq!(found(make(None, 1, None, &["auditor"], "mallory")), stranger);
        let gap = StatementError::Gap { site: site(), expected: 1, found: 2 };
        assert_eq!(found(make(None, 2, None, &["auditor"], "auditor")), gap);
        let fork = StatementError::Fork { site: site(), number: 1 };
        assert_eq!(found(make(None, 1, Some([0; 32]), &["auditor"], "auditor")), fork);
        let other = StatementError::Site { expected: site(), found: "sakura-clinic".into() };
        assert_eq!(found(make(SITE, 1, None, &["auditor"], "auditor")), other);
        let note = make(None, 1, None, &["auditor"], "auditor");
        let error = Reviewers::new("other.example", note.as_bytes()).unwrap_err();
        let domain = StatementError::Domain { expected: "other.example".into(), found: "sekisho.example".into() };
        assert_eq!(error, domain);
        let forged = note.replace("number 1", "number 1\nx");
        assert!(matches!(found(forged), StatementError::Line(_)));
        let forged = note.replace("sekisho.example/reviewers", "sekisho.example/reviewers ");
        assert!(matches!(found(forged), StatementError::Line(1)));
    }

    #[test]
    fn an_operator_adds_nobody() {
        let mut set = set();
        let before = set.clone();
        let head = *set.head(None).digest;
        let mut refused = |site: Option<&str>, note: String| set.add(site, note.as_bytes()).unwrap_err();
        let signer = |site: Option<&str>, number| StatementError::Signer {
            site: site.unwrap_or("*").into(),
            number,
            signer: "mallory".into(),
        };
        assert_eq!(refused(None, make(None, 2, Some(head), &["auditor", "mallory"], "mallory")), signer(None, 2));
        // A site is not signed away by its own new reviewers either.
        assert_eq!(refused(SITE, make(SITE, 1, Some(head), &["mallory"], "mallory")), signer(SITE, 1));
        let fork = |site: Option<&str>, number| StatementError::Fork { site: site.unwrap_or("*").into(), number };
        assert_eq!(refused(SITE, make(SITE, 1, None, &["mallory"], "mallory")), fork(SITE, 1));
        assert_eq!(refused(SITE, make(SITE, 1, Some([9; 32]), &["auditor"], "auditor")), fork(SITE, 1));
        // The name of a reviewer with another key.
        let imposter = ReviewerKey::new("auditor", [9; 32], [9; 32]).unwrap();
        let text = make(None, 2, Some(head), &["mallory"], "auditor");
        let text = text.split_once("\n\n").unwrap().0.to_owned() + "\n";
        let imposter = format!("{text}\n{}", imposter.signing().sign(&text, 0));
        assert!(matches!(refused(None, imposter), StatementError::Signer { .. }));
        // A genuine signature under another text.
        let genuine = make(None, 2, Some(head), &["auditor"], "auditor");
        let forged = genuine.replace("number 2", "number 3");
        let gap = StatementError::Gap { site: "*".into(), expected: 2, found: 3 };
        assert_eq!(refused(None, forged), gap);
        let forged = make(None, 2, Some(head), &["mallory"], "auditor").split_once("\n\n").unwrap().0.to_owned();
        let forged = format!("{forged}\n\n{}", genuine.split_once("\n\n").unwrap().1);
        assert_eq!(refused(None, forged), StatementError::Note(NoteError::Signature("auditor".into())));
        let other = StatementError::Site { expected: "*".into(), found: "sakura-clinic".into() };
        assert_eq!(refused(None, make(SITE, 1, Some(head), &["auditor"], "auditor")), other);
        assert_eq!(set, before);
    }

    #[test]
    fn forks_gaps_and_repeats_are_refused() {
        let one = set();
        let head = *one.head(None).digest;
        let mut two = extended(one, None, &["auditor"], "auditor");
        let fork = StatementError::Fork { site: "*".into(), number: 2 };
        let other = make(None, 2, Some(head), &["backup"], "backup");
        assert_eq!(two.add(None, other.as_bytes()), Err(fork.clone()));
        let same = make(None, 2, Some(head), &["auditor"], "auditor");
        assert_eq!(two.add(None, same.as_bytes()), Err(fork));
        let stale = make(None, 3, Some(head), &["auditor"], "auditor");
        let fork = StatementError::Fork { site: "*".into(), number: 3 };
        assert_eq!(two.add(None, stale.as_bytes()), Err(fork));
        let gap = StatementError::Gap { site: "*".into(), expected: 3, found: 4 };
        let far = make(None, 4, Some(*two.head(None).digest), &["auditor"], "auditor");
        assert_eq!(two.add(None, far.as_bytes()), Err(gap));
        // One who has left signs no more.
        let left = make(None, 3, Some(*two.head(None).digest), &["backup"], "backup");
        let signer = StatementError::Signer { site: "*".into(), number: 3, signer: "backup".into() };
        assert_eq!(two.add(None, left.as_bytes()), Err(signer));
    }

    #[test]
    fn what_was_taken_away_is_seen_by_whom_has_seen_it() {
        let one = set();
        let two = extended(one.clone(), None, &["auditor"], "auditor");
        let three = extended(two.clone(), SITE, &["clinic"], "auditor");
        for (newer, older) in [(&one, &one), (&two, &one), (&three, &one), (&three, &two)] {
            assert_eq!(newer.continues(older), Ok(()));
        }
        let missing = |site: &str, number| Err(Discontinued::Missing { site: site.into(), number });
        assert_eq!(one.continues(&two), missing("*", 2));
        assert_eq!(two.continues(&three), missing("sakura-clinic", 1));
        let other = extended(one.clone(), None, &["backup"], "backup");
        assert_eq!(other.continues(&two), missing("*", 2));
        // `backup` has left with the second statement, and signs a site away by the first.
        let mut stale = two.clone();
        let note = make(SITE, 1, Some(*one.head(None).digest), &["mallory"], "backup");
        stale.add(SITE, note.as_bytes()).unwrap();
        assert_eq!(stale.continues(&two), Err(Discontinued::Stale { site: "sakura-clinic".into(), number: 1 }));
        assert_eq!(stale.continues(&one), Ok(()));
    }
}
