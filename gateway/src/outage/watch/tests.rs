use proptest::prelude::*;

use super::*;
use crate::outage::history::WEEK;

const HOUR: i64 = 3_600;
/// A Monday, 00:00 UTC.
const MONDAY: i64 = 345_600 + 2_900 * 7 * 86_400;

fn rules() -> Rules {
    Rules { delay: Some(Duration::from_secs(900)), weeks: 3, least: 2, quiet_days: Vec::new(), utc_offset_s: 0 }
}

fn name() -> SiteName {
    "s".parse().unwrap()
}

/// A site under watch: looked at every minute.
struct World {
    watch: Watch,
    rules: Rules,
    now: i64,
    monotonic_ns: u64,
    told: Vec<(i64, &'static str)>,
}

impl World {
    fn new(rules: Rules) -> Self {
        let mut watch = Watch::default();
        watch.follow([(&name(), true)].into_iter());
        Self { watch, rules, now: MONDAY, monotonic_ns: 7, told: Vec::new() }
    }

    /// Goes on to `until`; the site is there when `is_there` says so.
    fn on(&mut self, until: i64, is_there: impl Fn(i64) -> bool) {
        while self.now < until {
            self.now += 60;
            self.monotonic_ns += 60_000_000_000;
            let is_seen = is_there(self.now);
            self.watch.look(&self.rules, self.now, self.monotonic_ns, |_| is_seen);
            while let Some(event) = self.watch.event() {
                self.told.push((self.now, if matches!(event, Event::Silent { .. }) { "silent" } else { "seen" }));
                self.watch.told();
            }
        }
    }
}

/// Monday to Friday, 8:40 to 12:30 and 13:50 to 18:20, a little different each day.
fn clinic(now: i64) -> bool {
    let (day, minute) = ((now - MONDAY).div_euclid(86_400), (now - MONDAY).rem_euclid(86_400) / 60);
    let late = day * 7 % 15;
    let hours = (520 + late..750 + late).contains(&minute) || (830 + late..1_100 - late).contains(&minute);
    day.rem_euclid(7) < 5 && hours
}

#[test]
fn nights_weekends_and_lunch_are_no_outages() {
    let mut world = World::new(rules());
    world.on(MONDAY + 8 * 7 * 86_400, clinic);
    assert_eq!(world.told, []);
}

#[test]
fn who_falls_silent_is_told_after_the_delay_and_once_and_so_is_the_return() {
    let mut world = World::new(rules());
    let third = MONDAY + 3 * 7 * 86_400;
    let (from, to) = (third + 10 * HOUR, third + 11 * HOUR + 1_800);
    world.on(third + 86_400, |now| clinic(now) && !(from..to).contains(&now));
    assert_eq!(world.told, [(from + 900 - 60, "silent"), (to, "seen")]);
    // Shorter than the delay: nobody hears of it.
    world.told.clear();
    let from = third + 86_400 + 10 * HOUR;
    world.on(third + 2 * 86_400, |now| clinic(now) && !(from..from + 840).contains(&now));
    assert_eq!(world.told, []);
    // All day and the day after: one event, though nobody expects it at night.
    let from = third + 2 * 86_400;
    world.on(third + 4 * 86_400, |_| false);
    assert_eq!(
        world.told,
        [(from + 9 * HOUR + 2_700 + 900 - 60, "silent")],
        "expected from an hour after its coming on"
    );
    assert_eq!(world.watch.silent(), 1);
}

#[test]
fn nothing_is_regular_before_it_was_so_twice() {
    let mut world = World::new(rules());
    world.on(MONDAY + 7 * 86_400, clinic);
    world.on(MONDAY + 14 * 86_400, |_| false);
    assert_eq!(world.told, []);
    assert_eq!(world.watch.silent(), 0);
}

#[test]
fn on_quiet_days_nobody_is_expected() {
    let day = (MONDAY + 21 * 86_400) / 86_400;
    let mut world = World::new(Rules { quiet_days: vec![day], ..rules() });
    world.on(MONDAY + 22 * 86_400, |now| clinic(now) && now < MONDAY + 21 * 86_400);
    assert_eq!(world.told, []);
    // The week after, one holiday does not make it forget.
    world.on(MONDAY + 28 * 86_400, clinic);
    world.on(MONDAY + 29 * 86_400, |_| false);
    assert_eq!(world.told.len(), 1);
    // Local days: nine hours ahead, the day begins at 15:00 UTC.
    let rules = Rules { quiet_days: vec![day + 1], utc_offset_s: 9 * HOUR, ..rules() };
    assert!(!rules.is_quiet(day * 86_400 + 15 * HOUR - 1) && rules.is_quiet(day * 86_400 + 15 * HOUR));
    assert!(rules.is_quiet(day * 86_400 + 39 * HOUR - 1) && !rules.is_quiet(day * 86_400 + 39 * HOUR));
}

#[test]
fn a_restart_waits_anew_and_knows_who_was_silent() {
    let mut world = World::new(rules());
    let third = MONDAY + 21 * 86_400;
    world.on(third + 10 * HOUR, clinic);
    let kept = world.watch.changed();
    assert_eq!(kept.len(), 1);
    assert_eq!(world.watch.changed(), [], "said once");
    world.watch.unsaved(&kept);
    assert_eq!(world.watch.changed(), kept);
    world.watch = Watch::restored(kept);
    world.watch.follow([(&name(), true)].into_iter());
    // Four hours in which no gateway ran.
    world.now = third + 14 * HOUR + 1_800;
    world.monotonic_ns = 1;
    let started = third + 14 * HOUR + 2_700;
    world.on(started - 60, |_| false);
    assert_eq!(world.told, [], "it may come so late");
    world.on(started + HOUR, |_| false);
    assert_eq!(world.told, [(started + 900 - 60, "silent")]);
    let kept = world.watch.changed();
    assert!(kept[0].silent_since.is_some());
    world.watch = Watch::restored(kept);
    world.watch.follow([(&name(), true)].into_iter());
    assert_eq!(world.watch.silent(), 1);
    world.on(started + HOUR + 60, |_| true);
    assert_eq!(world.told.last(), Some(&(started + HOUR + 60, "seen")));
}

#[test]
fn suspended_and_removed_sites_are_not_waited_for() {
    let mut world = World::new(rules());
    let third = MONDAY + 21 * 86_400;
    world.on(third + 10 * HOUR, clinic);
    world.watch.follow([(&name(), false)].into_iter());
    world.on(third + 12 * HOUR, |_| false);
    assert_eq!((world.told.len(), world.watch.silent()), (0, 0));
    world.watch.follow([(&name(), true)].into_iter());
    world.on(third + 16 * HOUR, |_| false);
    assert_eq!(world.told.len(), 1);
    world.watch.follow([(&name(), false)].into_iter());
    assert_eq!(world.watch.silent(), 0, "nor are they silent");
    world.watch.follow(std::iter::empty());
    assert!(world.watch.sites.is_empty());
}

/// A clock that jumps, and a process that was stopped, are no silence.
#[test]
fn only_time_that_was_watched_counts() {
    let mut world = World::new(rules());
    let third = MONDAY + 21 * 86_400;
    world.on(third + 10 * HOUR, clinic);
    world.now += 2_400;
    world.on(world.now + 600, |_| false);
    assert_eq!(world.told, [], "wall time jumped");
    world.monotonic_ns += 7_200_000_000_000;
    world.on(world.now + 60, |_| false);
    assert_eq!(world.told, [], "the process stood still");
    world.on(world.now + 300, |_| false);
    assert_eq!(world.told.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]
    /// Whatever comes and goes: silences and returns take turns, nobody is silent who was seen, and none is raised sooner than the
    /// delay allows.
    #[test]
    fn events_take_turns(runs in proptest::collection::vec((any::<bool>(), 1usize..60), 20..60), weeks in 1u32..4) {
        let rules = Rules { weeks, least: 1, ..rules() };
        let mut watch = Watch::default();
        watch.follow([(&name(), true)].into_iter());
        let (mut now, mut last, mut is_silent) = (MONDAY, i64::MIN, false);
        let week = (true, usize::try_from(WEEK).unwrap() * 15 + 60);
        for is_there in std::iter::once(week).chain(runs).flat_map(|(is_there, looks)| std::iter::repeat_n(is_there, looks)) {
            now += 60;
            watch.look(&rules, now, u64::try_from(now - MONDAY).unwrap() * 1_000_000_000, |_| is_there);
            if is_there {
                last = now;
            }
            while let Some(event) = watch.event() {
                match event {
                    Event::Silent { last_seen, .. } => {
                        prop_assert!(!is_silent && !is_there && now - last >= 900);
                        prop_assert_eq!(*last_seen, Some(last));
                        is_silent = true;
                    }
                    Event::Seen { silent_since, .. } => {
                        prop_assert!(is_silent && is_there && *silent_since < now);
                        is_silent = false;
                    }
                }
                watch.told();
            }
            prop_assert_eq!(watch.silent(), usize::from(is_silent));
        }
    }
}
