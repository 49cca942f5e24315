//! Sets of sequence numbers as runs, and how they are written: the gap before each run, and its length where it is not 1.

use super::IndexError;

/// Sequence numbers from the first to before the second.
pub(super) type Run = (u64, u64);

/// Appends a number in groups of seven bits, the lowest first.
pub(super) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or(0));
}

/// Takes a number off the front; none if there is none.
pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        number |= bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Takes so many bytes off the front; none if there are not as many.
pub(super) fn take_bytes<'a>(bytes: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(taken)
}

/// Appends a run that begins behind `end`, the end of the run before it.
pub(super) fn put_run(out: &mut Vec<u8>, end: u64, run: Run) {
    let (gap, length) = (run.0.saturating_sub(end), run.1.saturating_sub(run.0));
    put(out, gap.saturating_mul(2) | u64::from(length > 1));
    if length > 1 {
        put(out, length - 2);
    }
}

/// Takes a run off the front, behind `end`; none if there is none.
pub(super) fn take_run(bytes: &mut &[u8], end: u64) -> Option<Run> {
    let gap = take(bytes)?;
    let length = if gap & 1 == 1 { take(bytes)?.checked_add(2)? } else { 1 };
    let start = end.checked_add(gap >> 1)?;
    Some((start, start.checked_add(length)?))
}

/// Something that has runs in ascending order.
pub(super) trait Runs {
    /// The first run that ends behind `at`, cut off before it; none if there is none. `at` never goes back.
    ///
    /// # Errors
    /// If the index cannot be read.
    fn seek(&mut self, at: u64) -> Result<Option<Run>, IndexError>;
}

/// Runs in memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    runs: Vec<Run>,
    at: usize,
}

impl Held {
    /// From runs in any order, which may overlap.
    pub(super) fn new(mut runs: Vec<Run>) -> Self {
        runs.sort_unstable();
        let mut merged: Vec<Run> = Vec::with_capacity(runs.len().min(1_024));
        for (start, end) in runs.into_iter().filter(|(start, end)| start < end) {
            match merged.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                Some(_) | None => merged.push((start, end)),
            }
        }
        Self { runs: merged, at: 0 }
    }

    /// What is left from a number on.
    pub(super) fn from(self, first: u64) -> Self {
        Self::new(self.runs.into_iter().map(|(start, end)| (start.max(first), end)).collect())
    }

    /// The runs, ascending, none of which touch.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }
}

impl Runs for Held {
    fn seek(&mut self, at: u64) -> Result<Option<Run>, IndexError> {
        let rest = self.runs.get(self.at..).unwrap_or_default();
        self.at += rest.partition_point(|(_, end)| *end <= at);
        Ok(self.runs.get(self.at).map(|(start, end)| ((*start).max(at), *end)))
    }
}

/// The first run from `at` on that all have.
///
/// # Errors
/// If the index cannot be read.
pub(super) fn common(all: &mut [Box<dyn Runs + '_>], mut at: u64) -> Result<Option<Run>, IndexError> {
    'again: loop {
        let mut end = u64::MAX;
        for runs in all.iter_mut() {
            let Some(run) = runs.seek(at)? else { return Ok(None) };
            if run.0 > at {
                at = run.0;
                continue 'again;
            }
            end = end.min(run.1);
        }
        return Ok(Some((at, end)));
    }
}

/// What is left of `runs` without those of `dropped`.
pub(super) fn without(run: Run, dropped: &[Run]) -> Vec<Run> {
    let mut left = Vec::new();
    let (mut start, end) = run;
    let first = dropped.partition_point(|(_, dropped)| *dropped <= start);
    for (from, to) in dropped.iter().skip(first).take_while(|(from, _)| *from < end) {
        if *from > start {
            left.push((start, *from));
        }
        start = start.max(*to);
    }
    if start < end {
        left.push((start, end));
    }
    left
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn held(numbers: &BTreeSet<u64>) -> Held {
        Held::new(numbers.iter().map(|number| (*number, number + 1)).collect())
    }

    fn all(runs: &[Run]) -> BTreeSet<u64> {
        runs.iter().flat_map(|(start, end)| *start..*end).collect()
    }

    proptest! {
        #[test]
        fn numbers_and_runs_come_back(numbers: Vec<u64>, set in prop::collection::btree_set(1_u64..300, 0..100)) {
            let mut out = Vec::new();
            numbers.iter().for_each(|number| put(&mut out, *number));
            let mut rest = out.as_slice();
            let back: Vec<u64> = std::iter::from_fn(|| take(&mut rest)).collect();
            prop_assert_eq!(back, numbers);
            let (mut out, mut end) = (Vec::new(), 0);
            for run in held(&set).runs() {
                put_run(&mut out, end, *run);
                end = run.1;
            }
            let (mut rest, mut end) = (out.as_slice(), 0);
            let mut back = Vec::new();
            while let Some(run) = take_run(&mut rest, end) {
                back.push(run);
                end = run.1;
            }
            prop_assert_eq!(all(&back), set);
        }

        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let mut rest = bytes.as_slice();
            while take(&mut rest).is_some() {}
            let (mut rest, mut end) = (bytes.as_slice(), 0);
            while let Some(run) = take_run(&mut rest, end) {
                prop_assert!(run.0 < run.1 && run.0 >= end);
                end = run.1;
            }
        }

        #[test]
        fn sets_are_intersected_and_subtracted(
            a in prop::collection::btree_set(1_u64..200, 0..150),
            b in prop::collection::btree_set(1_u64..200, 0..150),
            c in prop::collection::btree_set(1_u64..200, 0..150),
        ) {
            let mut sources: Vec<Box<dyn Runs>> = [&a, &b, &c].map(|set| Box::new(held(set)) as _).into();
            let (mut found, mut at) = (Vec::new(), 1);
            while let Some(run) = common(&mut sources, at).unwrap() {
                found.push(run);
                at = run.1;
            }
            let expected: BTreeSet<u64> = a.iter().filter(|n| b.contains(n) && c.contains(n)).copied().collect();
            prop_assert_eq!(all(&found), expected);
            let dropped = held(&b);
            let left: Vec<Run> = held(&a).runs().iter().flat_map(|run| without(*run, dropped.runs())).collect();
            prop_assert_eq!(all(&left), a.difference(&b).copied().collect::<BTreeSet<_>>());
        }
    }
}
