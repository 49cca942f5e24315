//! How long a session lasts, and how many one user has (R10).

use super::Reason;
use crate::{RoleName, SiteName};

/// Bounds on a session. Times are nanoseconds of the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Without a request for so long, it is over.
    pub idle_ns: u64,
    /// Whatever is done with it, it is over after so long.
    pub absolute_ns: u64,
    /// Sessions that one user may have at once, of all kinds; 0 is as many as come.
    pub concurrent: u32,
}

impl Limits {
    /// The stricter of each.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        let concurrent = match (self.concurrent, other.concurrent) {
            (0, bound) | (bound, 0) => bound,
            (one, another) => one.min(another),
        };
        Self {
            idle_ns: self.idle_ns.min(other.idle_ns),
            absolute_ns: self.absolute_ns.min(other.absolute_ns),
            concurrent,
        }
    }
}

/// Bounds for some sites and roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The sites; none is every one.
    pub sites: Vec<SiteName>,
    /// Roles, of which the user has at least one; none is whatever roles.
    pub roles: Vec<RoleName>,
    /// The bounds.
    pub limits: Limits,
}

impl Rule {
    fn is_for(&self, site: Option<&SiteName>, roles: &[RoleName]) -> bool {
        (self.sites.is_empty() || site.is_some_and(|site| self.sites.contains(site)))
            && (self.roles.is_empty() || roles.iter().any(|role| self.roles.contains(role)))
    }
}

/// All bounds on sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// What holds where no rule is for the user.
    pub default: Limits,
    /// The rest.
    pub rules: Vec<Rule>,
}

impl Rules {
    /// The bounds of a user with these roles at this site: of all rules that are for them the strictest of each bound, and the
    /// default's where none is. So a rule may be more generous than the default, and never than another rule.
    #[must_use]
    pub fn limits(&self, site: Option<&SiteName>, roles: &[RoleName]) -> Limits {
        let fitting = self.rules.iter().filter(|rule| rule.is_for(site, roles)).map(|rule| rule.limits);
        fitting.reduce(Limits::stricter).unwrap_or(self.default)
    }
}

/// Why a session that began and was last used then is over by now, if it is. Times are monotonic; one that is later than now
/// is now.
#[must_use]
pub const fn over(limits: &Limits, begun_ns: u64, used_ns: u64, now_ns: u64) -> Option<Reason> {
    if now_ns.saturating_sub(begun_ns) >= limits.absolute_ns {
        return Some(Reason::Expired);
    }
    if now_ns.saturating_sub(used_ns) >= limits.idle_ns {
        return Some(Reason::Idle);
    }
    None
}

/// Which of a user's sessions end when one more begins: the oldest, until with the new one there are as many as allowed.
/// `sessions` are what names each and when it began.
#[must_use]
pub fn surplus<T>(concurrent: u32, sessions: impl IntoIterator<Item = (T, u64)>) -> Vec<T> {
    if concurrent == 0 {
        return Vec::new();
    }
    let mut sessions: Vec<_> = sessions.into_iter().collect();
    let most = usize::try_from(concurrent).unwrap_or(usize::MAX).saturating_sub(1);
    let too_many = sessions.len().saturating_sub(most);
    sessions.sort_by_key(|(_, begun_ns)| *begun_ns);
    sessions.into_iter().take(too_many).map(|(session, _)| session).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn limits(idle_ns: u64, absolute_ns: u64, concurrent: u32) -> Limits {
        Limits { idle_ns, absolute_ns, concurrent }
    }

    #[test]
    fn the_strictest_rule_holds_and_else_the_default() {
        let (s, t): (SiteName, SiteName) = ("s".parse().unwrap(), "t".parse().unwrap());
        let (doctor, nurse): (RoleName, RoleName) = ("doctor".parse().unwrap(), "nurse".parse().unwrap());
        let rules = Rules {
            default: limits(900, 9_000, 0),
            rules: vec![
                Rule { sites: vec![s.clone()], roles: vec![], limits: limits(1_800, 5_000, 3) },
                Rule { sites: vec![], roles: vec![nurse.clone()], limits: limits(300, 90_000, 0) },
                Rule { sites: vec![t.clone()], roles: vec![nurse.clone()], limits: limits(600, 600, 2) },
            ],
        };
        assert_eq!(rules.limits(Some(&t), std::slice::from_ref(&doctor)), limits(900, 9_000, 0));
        assert_eq!(rules.limits(Some(&s), std::slice::from_ref(&doctor)), limits(1_800, 5_000, 3));
        assert_eq!(rules.limits(Some(&s), &[doctor, nurse.clone()]), limits(300, 5_000, 3));
        assert_eq!(rules.limits(Some(&t), std::slice::from_ref(&nurse)), limits(300, 600, 2));
        assert_eq!(rules.limits(None, &[]), limits(900, 9_000, 0));
    }

    #[test]
    fn the_oldest_make_room() {
        assert_eq!(surplus(0, [("a", 1), ("b", 2)]), Vec::<&str>::new());
        assert_eq!(surplus(1, [("a", 1), ("b", 2)]), ["a", "b"]);
        assert_eq!(surplus(2, [("b", 2), ("a", 1)]), ["a"]);
        assert_eq!(surplus(3, [("a", 1), ("b", 2)]), Vec::<&str>::new());
    }

    proptest! {
        /// Whatever is done with a session, it is over no later than either bound says, and not before.
        #[test]
        fn a_session_is_over_when_a_bound_says_so(
            idle in 1_u64..1_000, absolute in 1_u64..1_000, begun in 0_u64..1_000,
            used in 0_u64..1_000, after in 0_u64..2_000,
        ) {
            let used = begun + used;
            let now = used + after;
            let is_over = over(&limits(idle, absolute, 0), begun, used, now).is_some();
            prop_assert_eq!(is_over, now - used >= idle || now - begun >= absolute);
        }

        #[test]
        fn with_the_new_one_there_are_never_too_many(bound in 1_u32..6, begun in prop::collection::vec(0_u64..9, 0..12)) {
            let ended = surplus(bound, begun.iter().copied().enumerate());
            let left = begun.len() - ended.len() + 1;
            prop_assert!(left <= bound as usize);
            prop_assert!(ended.is_empty() || left == bound as usize);
        }
    }
}
