//! Which sites fell silent (R19): a state machine without a clock. Times are arguments.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use policy::SiteName;

use super::history::{History, QUARTER_S};

/// The longest time between two looks that counts as watched: whoever did not look knows nothing.
const MAX_STEP: Duration = Duration::from_secs(60);

/// When a site is expected, and how long it may be silent then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// How long a site that is expected may be silent; none: nothing is raised.
    pub delay: Option<Duration>,
    /// Weeks that are looked back at.
    pub weeks: u32,
    /// In how many of these it must have been there.
    pub least: u32,
    /// Days on which nobody is expected: numbers since 1970, local.
    pub quiet_days: Vec<i64>,
    /// How far local time is ahead of UTC, in seconds.
    pub utc_offset_s: i64,
}

impl Rules {
    fn is_quiet(&self, unix_s: i64) -> bool {
        let day = unix_s.saturating_add(self.utc_offset_s).div_euclid(86_400);
        self.quiet_days.contains(&day)
    }
}

/// What came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A site is expected and was not seen for the delay.
    Silent {
        /// The site.
        site: SiteName,
        /// When it was seen last, seconds since 1970.
        last_seen: Option<i64>,
    },
    /// It is there again.
    Seen {
        /// The site.
        site: SiteName,
        /// Since when it counted as silent, seconds since 1970.
        silent_since: i64,
    },
}

/// What is kept of a site beyond a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The site.
    pub site: SiteName,
    /// Its hours.
    pub history: History,
    /// When it was seen last, seconds since 1970.
    pub last_seen: Option<i64>,
    /// Since when it counts as silent, seconds since 1970.
    pub silent_since: Option<i64>,
}

#[derive(Debug, Default)]
struct Site {
    history: History,
    last_seen: Option<i64>,
    silent_since: Option<i64>,
    /// How long it has been expected and not seen.
    waited: Duration,
    is_active: bool,
    is_changed: bool,
}

/// All registered sites. Memory: a few hundred bytes for each.
#[derive(Debug, Default)]
pub struct Watch {
    sites: BTreeMap<SiteName, Site>,
    /// When it looked last, nanoseconds of the monotonic clock.
    looked_ns: Option<u64>,
    events: VecDeque<Event>,
}

impl Watch {
    /// What was known before a restart. Nobody has been silent since then: who does not come back is waited for anew.
    #[must_use]
    pub fn restored(kept: Vec<Kept>) -> Self {
        let site = |kept: Kept| {
            let Kept { site, history, last_seen, silent_since } = kept;
            (site, Site { history, last_seen, silent_since, ..Site::default() })
        };
        Self { sites: kept.into_iter().map(site).collect(), looked_ns: None, events: VecDeque::new() }
    }

    /// Follows the registry: what it does not have is forgotten, and from a suspended site nobody expects anything.
    pub fn follow<'a>(&mut self, registered: impl Iterator<Item = (&'a SiteName, bool)>) {
        let registered: HashMap<&SiteName, bool> = registered.collect();
        self.sites.retain(|name, _| registered.contains_key(name));
        for (name, is_active) in registered {
            let site = self.sites.entry(name.clone()).or_default();
            site.is_active = is_active;
            if !is_active {
                site.waited = Duration::ZERO;
                site.is_changed |= site.silent_since.take().is_some();
            }
        }
    }

    /// Looks once: `is_seen` says which sites are there, or were since the last look.
    pub fn look(&mut self, rules: &Rules, unix_s: i64, monotonic_ns: u64, is_seen: impl Fn(&SiteName) -> bool) {
        let step = self.looked_ns.map_or(0, |before| monotonic_ns.saturating_sub(before));
        let step = Duration::from_nanos(step).min(MAX_STEP);
        self.looked_ns = Some(monotonic_ns);
        let (quarter, is_quiet) = (unix_s.div_euclid(QUARTER_S), rules.is_quiet(unix_s));
        for (name, site) in &mut self.sites {
            if !site.is_active {
                continue;
            }
            if is_seen(name) {
                site.last_seen = Some(unix_s);
                site.waited = Duration::ZERO;
                site.is_changed |= site.history.mark(quarter);
                if let Some(silent_since) = site.silent_since.take() {
                    site.is_changed = true;
                    self.events.push_back(Event::Seen { site: name.clone(), silent_since });
                }
                continue;
            }
            let Some(delay) = rules.delay else { continue };
            if is_quiet || !site.history.is_regular(quarter, rules.weeks, rules.least) {
                site.waited = Duration::ZERO;
                continue;
            }
            site.waited = site.waited.saturating_add(step);
            if site.waited >= delay && site.silent_since.is_none() {
                site.silent_since = Some(unix_s);
                site.is_changed = true;
                self.events.push_back(Event::Silent { site: name.clone(), last_seen: site.last_seen });
            }
        }
    }

    /// The oldest event that nobody took.
    #[must_use]
    pub fn event(&self) -> Option<&Event> {
        self.events.front()
    }

    /// The oldest event is told.
    pub fn told(&mut self) {
        self.events.pop_front();
    }

    /// How many sites are silent.
    #[must_use]
    pub fn silent(&self) -> usize {
        self.sites.values().filter(|site| site.silent_since.is_some()).count()
    }

    /// What has changed since it was asked last, for the store.
    pub fn changed(&mut self) -> Vec<Kept> {
        let kept = |(name, site): (&SiteName, &mut Site)| {
            let is_changed = std::mem::take(&mut site.is_changed);
            is_changed.then(|| Kept {
                site: name.clone(),
                history: site.history.clone(),
                last_seen: site.last_seen,
                silent_since: site.silent_since,
            })
        };
        self.sites.iter_mut().filter_map(kept).collect()
    }

    /// Nothing is kept: what it was kept in is another.
    pub fn unsaved_all(&mut self) {
        self.sites.values_mut().for_each(|site| site.is_changed = true);
    }

    /// What was to be kept could not be: it is changed still.
    pub fn unsaved(&mut self, kept: &[Kept]) {
        for one in kept {
            if let Some(site) = self.sites.get_mut(&one.site) {
                site.is_changed = true;
            }
        }
    }
}

#[cfg(test)]
mod tests;
