//! What it costs to check a password against an account that is not there. Hashes carry their own parameters, and after
//! `[account]` names others an account is checked at the old ones until its user logs in. Were an unknown name always checked at the
//! new ones, the time of an answer would tell the two apart (C14). So an unknown name has the costs of some account: which, a keyed
//! hash of the name says, so that it is the same each time; and as many of them have some costs as accounts do.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::AccountError;
use super::hash::Hasher;
use crate::store::{Store, StoreError};

/// How long what was read is taken for what is there, nanoseconds.
const FRESH_NS: u64 = Duration::from_mins(1).as_nanos() as u64;

/// Costs, and how many accounts have them; those that are in force come last. As users log in, names go over to those with them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Spread(Vec<(String, u64)>);

impl Spread {
    fn of(kept: BTreeMap<String, u64>, hasher: &Hasher) -> Self {
        let mut spread: Vec<_> = kept.into_iter().filter(|(costs, _)| hasher.can_stand_in(costs)).collect();
        spread.sort_by_key(|(costs, _)| hasher.is_current(costs));
        Self(spread)
    }

    /// The costs of a name; none where there are no accounts.
    fn at(&self, mark: u64) -> Option<&str> {
        let all: u128 = self.0.iter().map(|(_, count)| u128::from(*count)).sum();
        let place = (u128::from(mark) * all) >> 64;
        let mut before = 0;
        let mut each = self.0.iter();
        let found = each.find(|(_, count)| {
            before += u128::from(*count);
            place < before
        });
        found.map(|(costs, _)| &**costs)
    }
}

/// What was read of the store.
#[derive(Default)]
pub(super) struct Costs(Mutex<Option<(u64, Spread)>>);

impl Costs {
    /// A hash of a password that nobody knows, for a name with this mark.
    ///
    /// # Errors
    /// [`StoreError`]; [`AccountError::Random`].
    pub(super) async fn stand_in<F>(&self, store: &Store, hasher: &Hasher, now_ns: u64, mark: u64) -> Result<String, F>
    where
        F: From<StoreError> + From<AccountError>,
    {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = known().as_ref().is_some_and(|(read_ns, _)| now_ns.saturating_sub(*read_ns) < FRESH_NS);
        if !is_fresh {
            let spread = Spread::of(store.account_costs().await?, hasher);
            *known() = Some((now_ns, spread));
        }
        let known = known();
        let costs = known.as_ref().and_then(|(_, spread)| spread.at(mark));
        Ok(hasher.stand_in(costs)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Hashing;

    #[test]
    fn unknown_names_cost_what_accounts_cost() {
        let hasher = Hasher::new(Hashing { memory_kib: 64, passes: 1, lanes: 1 }).unwrap();
        let (new, old) = ("$argon2id$v=19$m=64,t=1,p=1", "$argon2id$v=19$m=32,t=2,p=1");
        let spread = |kept: &[(&str, u64)]| {
            Spread::of(kept.iter().map(|(costs, count)| ((*costs).to_owned(), *count)).collect(), &hasher)
        };
        let names = || (0..1_000_u64).map(|name| name.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let count = |spread: &Spread, costs| names().filter(|mark| spread.at(*mark) == Some(costs)).count();
        let before = spread(&[(old, 10)]);
        assert_eq!(count(&before, old), 1_000, "nobody has logged in since");
        let between = spread(&[(old, 3), (new, 7), ("$no", 100)]);
        let (of_old, of_new) = (count(&between, old), count(&between, new));
        assert!((250..350).contains(&of_old) && of_old + of_new == 1_000, "{of_old} {of_new}");
        let later = spread(&[(old, 1), (new, 9)]);
        let back = names().filter(|mark| between.at(*mark) == Some(new) && later.at(*mark) == Some(old)).count();
        assert_eq!(back, 0, "no name goes back to what no account goes back to");
        assert_eq!(count(&spread(&[(new, 10)]), new), 1_000);
        assert_eq!(spread(&[]).at(7), None);
        assert_eq!((between.at(0), between.at(u64::MAX)), (Some(old), Some(new)));
    }
}
