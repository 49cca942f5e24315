//! How long data keys are kept, and by which time that is counted (R26, R30, A11).
//!
//! A key goes when its period has been over for as long as the [`Rules`] state, and never before. Time is not what a wall
//! clock says: a clock that jumps a year ahead must not destroy a year's keys. So a [`Memory`] is kept beside the keys. It
//! goes on with the machine's monotonic time; where nobody but the clock itself vouches for the time, it goes no faster,
//! and does not count the time in which a machine was off. A key whose period is over when it is seen for the first time may
//! have been made under a clock that was behind: it is kept from then.
//!
//! Every error here keeps keys longer, none destroys them earlier. Pure: times and readings are arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::checkpoint::decimal;
use crate::header::KeyId;
use crate::keyfile::{KeyFile, NANOS_PER_DAY, is_origin};

/// Path of the memory in the key directory.
pub const MEMORY: &str = "retention";
/// The longest memory that is read, bytes.
pub const MAX_MEMORY: usize = 1 << 24;
/// Monotonic time may run so much slower than true time; no more is added for it.
const DRIFT_PPM: u64 = 500;

/// Keeps what it is about for at least so many days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Records of this site; none: of all sites.
    pub site: Option<String>,
    /// Records of this class of information; none: of all classes.
    pub class: Option<String>,
    /// Days, from the end of a key's period.
    pub days: u32,
}

/// What is kept for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Days for what no rule is about.
    pub days: u32,
    /// Days for records of the provider's own, which are of no site, where no rule is about their class.
    pub provider_days: u32,
    /// The rules.
    pub rules: Vec<Rule>,
}

/// How long something is kept, and which key of the configuration says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Days.
    pub days: u32,
    /// The configuration's key.
    pub knob: String,
}

impl Rules {
    /// How long records of a site and a class are kept: by the rule about both; otherwise by those about one of them, and
    /// of two by the longer; otherwise by default.
    #[must_use]
    pub fn of(&self, site: Option<&str>, class: Option<&str>) -> Keep {
        let about = |rule: &&Rule| {
            let site_fits = rule.site.is_none() || rule.site.as_deref() == site;
            site_fits && (rule.class.is_none() || rule.class.as_deref() == class)
        };
        let both = |rule: &Rule| rule.site.is_some() && rule.class.is_some();
        let best = self.rules.iter().filter(about).max_by_key(|rule| (both(rule), rule.days));
        match (best, site) {
            (Some(Rule { site, class, days }), _) => {
                let named = [("site", site), ("class", class)];
                let named = named.into_iter().filter_map(|(key, name)| Some(format!("{key} `{}`", name.as_ref()?)));
                let named = named.collect::<Vec<_>>().join(" and ");
                Keep { days: *days, knob: format!("audit.retention.rule of {named}") }
            }
            (None, Some(_)) => Keep { days: self.days, knob: "audit.retention.days".to_owned() },
            (None, None) => Keep { days: self.provider_days, knob: "audit.retention.provider_days".to_owned() },
        }
    }
}

/// What is known of the time at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look<'a> {
    /// UTC is at least this, nanoseconds since the Unix epoch.
    pub earliest_ns: i64,
    /// Others than this machine's own clock say so.
    pub vouched: bool,
    /// The kernel's boot id.
    pub boot: &'a str,
    /// Monotonic time since then, nanoseconds.
    pub monotonic_ns: u64,
}

/// What was known when keys were last looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// The time by which keys are kept, nanoseconds since the Unix epoch. It never goes back.
    time_ns: i64,
    boot: String,
    monotonic_ns: u64,
    /// The highest first sequence number of keys that were seen, by log, and those keys.
    seen: BTreeMap<String, (u64, BTreeSet<KeyId>)>,
    /// Keys that are kept from a later time than their period's end.
    holds: BTreeMap<KeyId, i64>,
}

/// A file that is not a memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {0} of the memory of retention is not what belongs there")]
pub struct MemoryError(pub usize);

impl Memory {
    /// The first look at these keys. Those whose period is over are kept from now: nobody knows since when they are.
    #[must_use]
    pub fn begin<'a>(look: &Look<'_>, keys: impl IntoIterator<Item = &'a KeyFile>) -> Self {
        let mut memory = Self {
            time_ns: look.earliest_ns.max(0),
            boot: look.boot.to_owned(),
            monotonic_ns: look.monotonic_ns,
            seen: BTreeMap::new(),
            holds: BTreeMap::new(),
        };
        memory.sight(keys);
        memory
    }

    /// The time by which keys are kept, nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn time_ns(&self) -> i64 {
        self.time_ns
    }

    /// From when a key is kept, where that is later than its period's end.
    #[must_use]
    pub fn hold_ns(&self, key: KeyId) -> Option<i64> {
        self.holds.get(&key).copied()
    }

    /// The next look.
    pub fn look<'a>(&mut self, look: &Look<'_>, keys: impl IntoIterator<Item = &'a KeyFile>) {
        self.time_ns = self.reached(look);
        look.boot.clone_into(&mut self.boot);
        self.monotonic_ns = look.monotonic_ns;
        self.sight(keys);
    }

    /// The time that would be reached with this look.
    #[must_use]
    pub fn reached(&self, look: &Look<'_>) -> i64 {
        let elapsed = if look.boot == self.boot { look.monotonic_ns.saturating_sub(self.monotonic_ns) } else { 0 };
        let elapsed = elapsed.saturating_add(elapsed / 1_000_000 * DRIFT_PPM);
        let own = self.time_ns.saturating_add(i64::try_from(elapsed).unwrap_or(i64::MAX));
        let reached = if look.vouched { look.earliest_ns } else { look.earliest_ns.min(own) };
        reached.max(self.time_ns)
    }

    /// Takes up keys that were made since the last look. Nobody knows when: what is over by now is kept from now.
    fn sight<'a>(&mut self, keys: impl IntoIterator<Item = &'a KeyFile>) {
        let now = self.time_ns;
        let mut highest = self.seen.clone();
        for key in keys {
            if !self.has_seen(key) && key.until_ns() < now {
                self.holds.entry(key.key).or_insert(now);
            }
            let highest = highest.entry(key.origin.clone()).or_default();
            if key.first > highest.0 {
                *highest = (key.first, BTreeSet::new());
            }
            if key.first == highest.0 {
                highest.1.insert(key.key);
            }
        }
        self.seen = highest;
    }

    fn has_seen(&self, key: &KeyFile) -> bool {
        let seen = self.seen.get(&key.origin);
        seen.is_some_and(|(first, at)| key.first < *first || key.first == *first && at.contains(&key.key))
    }

    /// Forgets what was held of keys that are destroyed.
    pub fn forget(&mut self, key: KeyId) {
        self.holds.remove(&key);
    }

    /// When a key may go: its period's end, or whenever it turned up, and so many days.
    #[must_use]
    pub fn due_ns(&self, key: &KeyFile, keep: &Keep) -> i64 {
        let from = key.until_ns().max(self.hold_ns(key.key).unwrap_or(i64::MIN));
        from.saturating_add(NANOS_PER_DAY.saturating_mul(i64::from(keep.days)))
    }

    /// Whether a key may go, which was there at the last look. `exported_ns`: the time of the last record of its log that every required copy holds, where
    /// copies are required.
    #[must_use]
    pub fn may_go(&self, key: &KeyFile, keep: &Keep, exported_ns: Option<i64>) -> bool {
        let exported = exported_ns.is_none_or(|exported| exported >= key.until_ns().saturating_add(NANOS_PER_DAY));
        exported && self.has_seen(key) && self.due_ns(key, keep) <= self.time_ns
    }

    /// Reads what is written, strictly.
    ///
    /// # Errors
    /// [`MemoryError`] names the first line that is wrong.
    pub fn parse(file: &[u8]) -> Result<Self, MemoryError> {
        let text = std::str::from_utf8(file).map_err(|_| MemoryError(1))?;
        let mut lines = text.lines();
        let mut number = 0;
        let mut take = |prefix: &str| {
            number += 1;
            lines.next().and_then(|line| line.strip_prefix(prefix)).ok_or(MemoryError(number))
        };
        take("sekisho audit retention v1")
            .and_then(|rest| if rest.is_empty() { Ok(()) } else { Err(MemoryError(1)) })?;
        let time = |text: &str| decimal(text).and_then(|ns| i64::try_from(ns).ok());
        let time_ns = time(take("time ")?).ok_or(MemoryError(2))?;
        let boot = take("boot ")?.to_owned();
        let monotonic_ns = decimal(take("monotonic ")?).ok_or(MemoryError(4))?;
        let mut memory = Self { time_ns, boot, monotonic_ns, seen: BTreeMap::new(), holds: BTreeMap::new() };
        for (line, number) in lines.zip(5..) {
            let mut words = line.split(' ');
            let read = match (words.next(), words.next(), words.next()) {
                (Some("seen"), Some(origin), Some(first)) if is_origin(origin) => {
                    let keys: Option<BTreeSet<KeyId>> = words.map(KeyId::parse).collect();
                    let seen = decimal(first).zip(keys);
                    seen.is_some_and(|seen| memory.seen.insert(origin.to_owned(), seen).is_none())
                }
                (Some("hold"), Some(key), Some(from)) => match (KeyId::parse(key), time(from), words.next()) {
                    (Some(key), Some(from), None) => memory.holds.insert(key, from).is_none(),
                    _ => false,
                },
                _ => false,
            };
            if !read {
                return Err(MemoryError(number));
            }
        }
        if memory.to_string() == text { Ok(memory) } else { Err(MemoryError(1)) }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "sekisho audit retention v1\ntime {}\nboot {}\nmonotonic {}",
            self.time_ns, self.boot, self.monotonic_ns
        )?;
        for (origin, (first, keys)) in &self.seen {
            write!(f, "seen {origin} {first}")?;
            keys.iter().try_for_each(|key| write!(f, " {key}"))?;
            f.write_str("\n")?;
        }
        self.holds.iter().try_for_each(|(key, from)| writeln!(f, "hold {key} {from}"))
    }
}

#[cfg(test)]
mod tests;
