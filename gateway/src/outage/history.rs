//! In which quarters of an hour of the last weeks a site was seen: one bit for each.

/// A quarter of an hour, in seconds.
pub const QUARTER_S: i64 = 900;
/// Quarters of a week.
pub const WEEK: i64 = 672;
/// The longest memory, in weeks.
pub const MAX_WEEKS: u32 = 4;
/// Quarters before and after one that must have been seen as well: an hour.
const AROUND: i64 = 4;
/// How far the last quarter may lie ahead of the present: a clock that was put back by no more changes nothing.
const AHEAD: i64 = AROUND;
/// Words of 64 quarters: four weeks, an hour more on both sides.
const WORDS: usize = 43;
/// Quarters that are remembered.
const SPAN: i64 = 64 * 43;

/// Quarters are numbered since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    bits: [u64; WORDS],
    /// The last quarter that there is a bit for.
    latest: i64,
}

impl Default for History {
    fn default() -> Self {
        Self { bits: [0; WORDS], latest: i64::MIN / 2 }
    }
}

impl History {
    /// Notes that the site is seen in a quarter, the present one. True if that was not known.
    ///
    /// What lies more than an hour ahead of it is of a clock that was wrong, and is forgotten: the present would not be remembered else
    /// until the wrong clock's time has come.
    pub fn mark(&mut self, quarter: i64) -> bool {
        if self.latest > quarter.saturating_add(AHEAD) {
            self.rewind(quarter);
        }
        if quarter > self.latest {
            // What is beyond the span has the places of those that come.
            let first = self.latest.max(quarter.saturating_sub(SPAN));
            for passed in first.saturating_add(1)..=quarter {
                self.put(passed, false);
            }
            self.latest = quarter;
        }
        let is_known = quarter <= self.latest.saturating_sub(SPAN) || self.was_seen(quarter);
        !is_known && self.put(quarter, true)
    }

    /// Forgets what is later than a quarter.
    fn rewind(&mut self, quarter: i64) {
        if self.latest.saturating_sub(quarter) >= SPAN {
            self.bits = [0; WORDS];
        } else {
            for wrong in quarter.saturating_add(1)..=self.latest {
                self.put(wrong, false);
            }
        }
        self.latest = quarter;
    }

    /// Whether the site was seen in that quarter.
    #[must_use]
    pub fn was_seen(&self, quarter: i64) -> bool {
        let is_known = quarter <= self.latest && quarter > self.latest.saturating_sub(SPAN);
        let (word, bit) = place(quarter);
        is_known && self.bits.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Whether the site is there at this quarter of the week as a rule: in at least `least` of the last `weeks` weeks it was seen in
    /// each quarter from an hour before to an hour after. When it comes and goes, and pauses, is none of these.
    #[must_use]
    pub fn is_regular(&self, quarter: i64, weeks: u32, least: u32) -> bool {
        let whole = |week: &i64| {
            let then = quarter.saturating_sub(week.saturating_mul(WEEK));
            (-AROUND..=AROUND).all(|near| self.was_seen(then.saturating_add(near)))
        };
        let seen = (1..=i64::from(weeks.min(MAX_WEEKS))).filter(whole).count();
        least > 0 && u32::try_from(seen).is_ok_and(|seen| seen >= least)
    }

    /// As text, for the store.
    #[must_use]
    pub fn text(&self) -> String {
        let words: Vec<String> = self.bits.iter().map(|word| format!("{word:016x}")).collect();
        format!("{}:{}", self.latest, words.concat())
    }

    /// Reads what [`text`](Self::text) wrote.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (latest, words) = text.split_once(':')?;
        if words.len() != WORDS * 16 || !words.is_ascii() {
            return None;
        }
        let mut bits = [0; WORDS];
        for (index, word) in bits.iter_mut().enumerate() {
            *word = u64::from_str_radix(words.get(index * 16..index * 16 + 16)?, 16).ok()?;
        }
        Some(Self { bits, latest: latest.parse().ok()? })
    }

    fn put(&mut self, quarter: i64, is_seen: bool) -> bool {
        let (word, bit) = place(quarter);
        if let Some(bits) = self.bits.get_mut(word) {
            *bits = if is_seen { *bits | bit } else { *bits & !bit };
        }
        is_seen
    }
}

fn place(quarter: i64) -> (usize, u64) {
    let at = quarter.rem_euclid(SPAN);
    (usize::try_from(at / 64).unwrap_or(0), 1_u64 << (at % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A set says the same, and so does what the store gives back.
        #[test]
        fn it_remembers_the_last_weeks(
            starts in proptest::collection::vec((-100i64..4_000, -8i64..300), 1..6),
            steps in proptest::collection::vec(-3i64..40, 0..60),
        ) {
            let hours = starts.iter().flat_map(|(start, back)| {
                let walk = steps.iter().scan(*start, |at, step| { *at += step; Some(*at) });
                walk.chain([start - back])
            });
            let (mut history, mut known) = (History::default(), BTreeSet::new());
            let mut latest = i64::MIN / 2;
            for hour in hours {
                if latest > hour + AHEAD {
                    // The clock was wrong. What made room for its hours is gone.
                    known.retain(|known| *known <= hour);
                    latest = hour;
                }
                latest = latest.max(hour);
                prop_assert_eq!(history.mark(hour), known.insert(hour));
                known.retain(|known| *known > latest - SPAN);
            }
            for hour in -800..6_700 {
                prop_assert_eq!(history.was_seen(hour), known.contains(&hour), "{}", hour);
            }
            prop_assert_eq!(History::read(&history.text()), Some(history));
        }

        #[test]
        fn no_text_breaks_it(text in "\\PC{0,400}") {
            let _ = History::read(&text);
        }
    }

    #[test]
    fn a_clock_that_was_wrong_once_is_outlived() {
        let present = 500 * WEEK;
        for ahead in [WEEK, SPAN - 1, SPAN, 40 * SPAN, i64::MAX - present] {
            let mut history = History::default();
            for quarter in present - 3 * WEEK..=present {
                history.mark(quarter);
            }
            history.mark(present + ahead);
            // The store has kept it.
            let mut history = History::read(&history.text()).unwrap();
            for quarter in present + 1..present + 3 * WEEK {
                assert!(history.mark(quarter), "{ahead}");
            }
            assert!(history.is_regular(present + 3 * WEEK, 2, 2), "{ahead}");
            assert!(!history.was_seen(present + ahead) || ahead < 3 * WEEK, "{ahead}");
            let kept = (present - 3 * WEEK..present).filter(|quarter| history.was_seen(*quarter)).count();
            assert_eq!(kept > 0, ahead == WEEK, "{ahead}");
        }
    }

    #[test]
    fn a_small_step_back_forgets_nothing() {
        let mut history = History::default();
        for quarter in 0..=100 {
            history.mark(quarter);
        }
        assert!(!history.mark(100 - AHEAD), "it is known");
        assert!((0..=100).all(|quarter| history.was_seen(quarter)));
    }

    #[test]
    fn what_is_near_coming_and_going_is_not_regular() {
        let mut history = History::default();
        let midnight = 500 * WEEK;
        for week in [3, 1] {
            for quarter in (32..50).chain(55..=71) {
                history.mark(midnight - week * WEEK + quarter);
            }
        }
        let regular: Vec<i64> = (0..96).filter(|quarter| history.is_regular(midnight + quarter, 3, 2)).collect();
        assert_eq!(regular, (36..46).chain(59..=67).collect::<Vec<_>>());
        assert!(!(0..96).any(|quarter| history.is_regular(midnight + quarter, 2, 2)), "one week is no rule");
        assert!(history.is_regular(midnight + 40, 1, 1));
        assert!(!history.is_regular(midnight + 40, 3, 0), "nothing is no rule");
    }
}
