//! The guard against a model that remembers everything and counts it each time.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    pause: Pause { first_ns: 0, most_ns: 0 },
    scope: LockScope::AccountAtSite,
    account: Bound { failures: 3, window_ns: 50, lockout_ns: 60 },
    global: None,
    device: None,
    site: None,
    address: None,
    accounts: 100,
};

fn attempt(account: u8, site: u8, device: u8) -> Attempt {
    Attempt {
        realm: "ehr".into(),
        account: AccountName::new(&format!("user-{account}"), Spelling::default()).unwrap(),
        origin: Origin { site: format!("site-{site}").into(), device: format!("device-{device}").into() },
        address: IpAddr::V4(Ipv4Addr::new(10, 0, site, device)),
    }
}

fn fail(guard: &mut Guard, now: u64, attempt: Attempt) -> Result<(), Reason> {
    let ticket = guard.reserve(now, attempt).map_err(|refused| refused.reason)?;
    guard.settle(now, ticket, Ended::Failed);
    Ok(())
}

#[test]
fn a_lockout_follows_the_last_failure_and_ends_in_time() {
    let mut guard = Guard::new(LIMITS, 1);
    for now in [0, 10, 20] {
        fail(&mut guard, now, attempt(0, 0, 0)).unwrap();
    }
    let locks: Vec<_> = guard.locks(20).collect();
    assert_eq!(locks.len(), 1);
    assert_eq!(locks[0].until_ns, 80);
    for now in [20, 60, 79] {
        assert_eq!(fail(&mut guard, now, attempt(0, 0, 1)), Err(Reason::Locked), "another device of the site at {now}");
        assert_eq!(fail(&mut guard, now, attempt(1, 0, 0)), Ok(()), "another account");
        guard.settle(now, Ticket(0), Ended::Succeeded);
    }
    assert_eq!(fail(&mut guard, 80, attempt(0, 0, 0)), Ok(()));
}

#[test]
fn what_is_in_flight_counts_as_failed_until_it_is_settled() {
    let mut guard = Guard::new(LIMITS, 1);
    let tickets: Vec<_> = (0..3).map(|device| guard.reserve(0, attempt(0, 0, device)).unwrap()).collect();
    assert_eq!(guard.reserve(0, attempt(0, 0, 9)).unwrap_err().reason, Reason::Locked);
    guard.settle(1, tickets[0], Ended::Withdrawn);
    let again = guard.reserve(1, attempt(0, 0, 9)).unwrap();
    guard.settle(2, again, Ended::Succeeded);
    guard.settle(2, again, Ended::Failed);
    assert!(guard.reserve(2, attempt(0, 0, 9)).is_ok(), "a ticket is settled once");
}

#[test]
fn guesses_elsewhere_lock_nobody_out_here() {
    let global = Some(Global { failures: 5, window_ns: 1_000, spare: 2 });
    let mut guard = Guard::new(Limits { global, ..LIMITS }, 1);
    for now in [0, 100, 200] {
        for _ in 0..3 {
            let _ = fail(&mut guard, now, attempt(0, 1, 0));
        }
    }
    assert_eq!(fail(&mut guard, 300, attempt(0, 1, 0)), Err(Reason::Locked), "the site that guesses");
    let typo = guard.reserve(300, attempt(0, 0, 0)).unwrap();
    guard.settle(300, typo, Ended::Failed);
    let right = guard.reserve(301, attempt(0, 0, 0)).expect("the owner mistypes once and comes in");
    guard.settle(301, right, Ended::Succeeded);
    for now in 302..310 {
        let again = guard.reserve(now, attempt(0, 0, 0)).expect("and again");
        guard.settle(now, again, Ended::Succeeded);
    }
    for site in 2..9 {
        assert_eq!(fail(&mut guard, 400, attempt(0, site, 0)), Ok(()));
        assert_eq!(fail(&mut guard, 400, attempt(0, site, 1)), Ok(()));
        assert_eq!(fail(&mut guard, 400, attempt(0, site, 2)), Err(Reason::Locked), "beyond the bound: two a site");
    }
}

#[test]
fn a_success_resets_its_own_device_and_no_more() {
    let mut guard = Guard::new(Limits { device: Some(Bound { failures: 4, ..LIMITS.account }), ..LIMITS }, 1);
    fail(&mut guard, 0, attempt(0, 0, 1)).unwrap();
    fail(&mut guard, 0, attempt(0, 0, 0)).unwrap();
    let right = guard.reserve(1, attempt(0, 0, 0)).unwrap();
    guard.settle(1, right, Ended::Succeeded);
    fail(&mut guard, 2, attempt(0, 0, 1)).unwrap();
    fail(&mut guard, 2, attempt(0, 0, 1)).unwrap();
    assert_eq!(fail(&mut guard, 2, attempt(0, 0, 0)), Err(Reason::Locked), "three of the other device stay");
    fail(&mut guard, 3, attempt(1, 0, 0)).unwrap();
    let own = guard.reserve(3, attempt(2, 0, 0)).unwrap();
    guard.settle(3, own, Ended::Succeeded);
    fail(&mut guard, 3, attempt(3, 0, 0)).unwrap();
    fail(&mut guard, 3, attempt(4, 0, 0)).unwrap();
    assert_eq!(fail(&mut guard, 3, attempt(5, 0, 0)), Err(Reason::Locked), "one's own login buys a device no guesses");
}

#[test]
fn after_a_failure_there_is_a_pause_of_that_account_at_that_device() {
    let pause = Pause { first_ns: 2, most_ns: 30 };
    let mut guard = Guard::new(Limits { pause, account: Bound { failures: 9, ..LIMITS.account }, ..LIMITS }, 1);
    let held = guard.reserve(0, attempt(0, 0, 0)).unwrap();
    let refused = guard.reserve(0, attempt(0, 0, 0)).unwrap_err();
    assert_eq!(refused, Refused { reason: Reason::Paused, retry_after_ns: 2 }, "one at a time");
    assert!(guard.reserve(0, attempt(0, 0, 1)).is_ok(), "another device does not wait");
    guard.settle(0, held, Ended::Failed);
    assert_eq!(guard.reserve(1, attempt(0, 0, 0)).unwrap_err().reason, Reason::Paused);
    fail(&mut guard, 2, attempt(0, 0, 0)).unwrap();
    assert_eq!(guard.reserve(5, attempt(0, 0, 0)).unwrap_err(), Refused { reason: Reason::Paused, retry_after_ns: 4 });
    assert!(guard.allows(5, &attempt(0, 0, 0)).is_err(), "whoever knows the password waits as well");
    let right = guard.reserve(6, attempt(0, 0, 0)).unwrap();
    guard.settle(6, right, Ended::Succeeded);
    assert!(guard.reserve(6, attempt(0, 0, 0)).is_ok());
}

#[test]
fn the_answer_is_the_same_for_a_pause_and_a_lockout() {
    let pause = Pause { first_ns: 2, most_ns: 2 };
    let mut guard = Guard::new(Limits { pause, ..LIMITS }, 1);
    fail(&mut guard, 0, attempt(0, 0, 0)).unwrap();
    let paused = guard.reserve(1, attempt(0, 0, 0)).unwrap_err();
    fail(&mut guard, 2, attempt(0, 0, 0)).unwrap();
    fail(&mut guard, 4, attempt(0, 0, 0)).unwrap();
    let locked = guard.reserve(5, attempt(0, 0, 0)).unwrap_err();
    let elsewhere = guard.reserve(5, attempt(0, 0, 1)).unwrap_err();
    assert_eq!((paused.reason, locked.reason, elsewhere.reason), (Reason::Paused, Reason::Locked, Reason::Locked));
    assert_eq!((paused.retry_after_ns, locked.retry_after_ns, elsewhere.retry_after_ns), (2, 2, 2));
}

#[test]
fn without_room_nobody_new_is_taken_and_nothing_is_forgotten() {
    let mut guard = Guard::new(Limits { accounts: 8, ..LIMITS }, 1);
    for _ in 0..3 {
        fail(&mut guard, 0, attempt(0, 0, 0)).unwrap();
    }
    fail(&mut guard, 0, attempt(1, 0, 0)).unwrap();
    assert_eq!(fail(&mut guard, 0, attempt(2, 0, 0)), Err(Reason::Full), "a quarter for each site");
    for site in 1..4 {
        fail(&mut guard, 0, attempt(site * 10, site, 0)).unwrap();
        fail(&mut guard, 0, attempt(site * 10 + 1, site, 0)).unwrap();
    }
    assert_eq!(guard.len(), 8);
    assert_eq!(fail(&mut guard, 5, attempt(99, 9, 0)), Err(Reason::Full));
    assert_eq!(fail(&mut guard, 5, attempt(0, 0, 0)), Err(Reason::Locked), "the lockout is remembered");
    assert_eq!(fail(&mut guard, 5, attempt(10, 1, 0)), Ok(()), "whoever is known is served");
    // Those that were in the window are forgotten once they are out of it, and the lockout once it ends.
    assert_eq!(fail(&mut guard, 2_000_000_000, attempt(99, 9, 0)), Ok(()));
    assert_eq!(guard.len(), 1);
}

#[test]
fn an_operator_unlocks_and_what_is_in_flight_stays() {
    let mut guard = Guard::new(LIMITS, 1);
    for _ in 0..2 {
        fail(&mut guard, 0, attempt(0, 0, 0)).unwrap();
    }
    let flying = guard.reserve(0, attempt(0, 0, 0)).unwrap();
    for _ in 0..3 {
        fail(&mut guard, 0, attempt(0, 1, 0)).unwrap();
    }
    let name = attempt(0, 0, 0).account;
    guard.unlock(Some("other"), &name, None);
    assert_eq!(guard.locks(1).count(), 1);
    guard.unlock(None, &name, Some("site-1"));
    assert_eq!((guard.locks(1).count(), fail(&mut guard, 1, attempt(0, 0, 0))), (0, Err(Reason::Locked)));
    guard.unlock(Some("ehr"), &name, None);
    guard.settle(1, flying, Ended::Failed);
    for _ in 0..2 {
        fail(&mut guard, 1, attempt(0, 0, 0)).unwrap();
    }
    assert_eq!(fail(&mut guard, 1, attempt(0, 0, 0)), Err(Reason::Locked));
}

#[test]
fn what_is_put_back_after_a_restart_counts_as_before() {
    let mut guard = Guard::new(LIMITS, 7);
    for at in [0, 1] {
        guard.restore_failure(at, &attempt(0, 0, 0), true);
    }
    guard.restore_failure(2, &attempt(0, 0, 0), false);
    assert_eq!(fail(&mut guard, 3, attempt(0, 0, 0)), Ok(()));
    assert_eq!(fail(&mut guard, 3, attempt(0, 0, 0)), Err(Reason::Locked));
    let mut guard = Guard::new(LIMITS, 7);
    guard.restore_lock(Lock { of: Locked::Site("site-1".into()), until_ns: 40 });
    let of = Locked::Account {
        realm: "ehr".into(),
        account: attempt(1, 0, 0).account,
        site: Some("site-0".into()),
        device: None,
    };
    guard.restore_lock(Lock { of, until_ns: 30 });
    assert_eq!(fail(&mut guard, 29, attempt(1, 0, 3)), Err(Reason::Locked));
    assert_eq!(fail(&mut guard, 30, attempt(1, 0, 3)), Ok(()));
    assert_eq!(guard.reserve(30, attempt(1, 0, 3)).unwrap(), Ticket(8));
    // A site's lockout is a bound's: where there is none, nothing asks for it.
    assert_eq!(fail(&mut guard, 30, attempt(2, 1, 0)), Ok(()));
    guard.set_limits(Limits { site: Some(LIMITS.account), ..LIMITS });
    assert_eq!(fail(&mut guard, 30, attempt(2, 1, 0)), Err(Reason::Locked));
    guard.unlock_place(&Locked::Site("site-1".into()));
    assert_eq!(fail(&mut guard, 30, attempt(2, 1, 0)), Ok(()));
}

/// One attempt as the model remembers it. Times are of the clock; steps number the events.
#[derive(Debug, Clone)]
struct Seen {
    attempt: Attempt,
    settled: Option<(u64, usize, Ended)>,
    cleared: Option<usize>,
}

type Counts<'a> = &'a dyn Fn(&Attempt) -> bool;

#[derive(Debug, Default)]
struct Model {
    seen: Vec<Seen>,
}

impl Model {
    /// Failed attempts that count at a step: within the window before `now`, settled by then, and not taken back by then.
    fn failed(&self, now: u64, step: usize, window: u64, clears: bool, counts: &dyn Fn(&Attempt) -> bool) -> u32 {
        let failed = self.seen.iter().filter(|seen| {
            let Some((at, settled, Ended::Failed)) = seen.settled else { return false };
            let is_cleared = clears && seen.cleared.is_some_and(|cleared| cleared <= step);
            settled <= step && now - at < window && !is_cleared && counts(&seen.attempt)
        });
        u32::try_from(failed.count()).unwrap()
    }

    fn flying(&self, counts: &dyn Fn(&Attempt) -> bool) -> u32 {
        u32::try_from(self.seen.iter().filter(|seen| seen.settled.is_none() && counts(&seen.attempt)).count()).unwrap()
    }

    /// Whether any failure so far began a lockout that still holds.
    fn locked(&self, now: u64, bound: &Bound, clears: bool, counts: &dyn Fn(&Attempt) -> bool) -> bool {
        self.seen.iter().filter(|seen| counts(&seen.attempt)).any(|seen| match seen.settled {
            Some((at, step, Ended::Failed)) => {
                now < at + bound.lockout_ns && self.failed(at, step, bound.window_ns, clears, counts) >= bound.failures
            }
            _ => false,
        })
    }

    fn over(&self, now: u64, bound: &Bound, clears: bool, counts: &dyn Fn(&Attempt) -> bool) -> bool {
        let all = self.failed(now, usize::MAX, bound.window_ns, clears, counts) + self.flying(counts);
        all >= bound.failures || self.locked(now, bound, clears, counts)
    }

    fn verdict(&self, now: u64, limits: &Limits, wanted: &Attempt) -> Option<Reason> {
        let origin = &wanted.origin;
        let places: [(Option<Bound>, Counts<'_>); 3] = [
            (limits.device, &|other| other.origin == *origin),
            (limits.site, &|other| other.origin.site == origin.site),
            (limits.address, &|other| other.address == wanted.address),
        ];
        for (bound, counts) in places {
            if bound.is_some_and(|bound| self.over(now, &bound, false, counts)) {
                return Some(Reason::Locked);
            }
        }
        let is_account = |other: &Attempt| other.account == wanted.account;
        let mine = |other: &Attempt| {
            is_account(other)
                && match limits.scope {
                    LockScope::Account => true,
                    LockScope::AccountAtSite => other.origin.site == origin.site,
                    LockScope::AccountAtDevice => other.origin == *origin,
                }
        };
        if self.over(now, &limits.account, true, &mine) {
            return Some(Reason::Locked);
        }
        if let Some(global) = limits.global {
            let count = |counts: &dyn Fn(&Attempt) -> bool| {
                self.failed(now, usize::MAX, global.window_ns, true, counts) + self.flying(counts)
            };
            let here = |other: &Attempt| is_account(other) && other.origin.site == origin.site;
            if count(&is_account) >= global.failures && count(&here) >= global.spare {
                return Some(Reason::Locked);
            }
        }
        let here = |other: &Attempt| is_account(other) && other.origin == *origin;
        let failures = self.failed(now, usize::MAX, limits.account.window_ns, true, &here);
        let pause = limits.pause.after(failures);
        let is_paused = pause > 0 && self.failed(now, usize::MAX, pause, true, &here) > 0;
        (is_paused || (limits.pause.first_ns > 0 && self.flying(&here) > 0)).then_some(Reason::Paused)
    }

    fn settle(&mut self, now: u64, step: usize, index: usize, ended: Ended) {
        let attempt = self.seen[index].attempt.clone();
        self.seen[index].settled = Some((now, step, ended));
        if ended == Ended::Succeeded {
            for seen in &mut self.seen {
                let is_same = seen.attempt.account == attempt.account && seen.attempt.origin == attempt.origin;
                if is_same && matches!(seen.settled, Some((_, _, Ended::Failed))) && seen.cleared.is_none() {
                    seen.cleared = Some(step);
                }
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Try { account: u8, site: u8, device: u8 },
    Settle { which: prop::sample::Index, ended: Ended },
    Sweep,
}

fn ended() -> impl Strategy<Value = Ended> {
    prop_oneof![6 => Just(Ended::Failed), 2 => Just(Ended::Succeeded), 1 => Just(Ended::Withdrawn)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..30u64).prop_map(Step::Wait),
        6 => (0..2u8, 0..3u8, 0..2u8).prop_map(|(account, site, device)| Step::Try { account, site, device }),
        6 => (any::<prop::sample::Index>(), ended()).prop_map(|(which, ended)| Step::Settle { which, ended }),
        1 => Just(Step::Sweep),
    ]
}

fn bound() -> impl Strategy<Value = Bound> {
    (1..6u32, 10..80u64, 0..40u64).prop_map(|(failures, window_ns, more)| Bound {
        failures,
        window_ns,
        lockout_ns: window_ns + more,
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    let scope = prop_oneof![Just(LockScope::Account), Just(LockScope::AccountAtSite), Just(LockScope::AccountAtDevice)];
    let global =
        (1..8u32, 10..200u64, 1..4u32).prop_map(|(failures, window_ns, spare)| Global { failures, window_ns, spare });
    let place = || prop::option::of((3..9u32, bound()).prop_map(|(failures, bound)| Bound { failures, ..bound }));
    let pause = (0..4u64, 0..10u64).prop_map(|(first_ns, more)| Pause { first_ns, most_ns: first_ns + more });
    (scope, bound(), prop::option::of(global), place(), place(), place(), pause).prop_map(
        |(scope, account, global, device, site, address, pause)| {
            let window = account.window_ns;
            let pause = Pause { first_ns: pause.first_ns.min(window), most_ns: pause.most_ns.min(window) };
            Limits { pause, scope, account, global, device, site, address, accounts: 100 }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_guard_decides_as_one_who_remembers_everything(limits in limits(), steps in prop::collection::vec(step(), 1..120)) {
        let (mut guard, mut model) = (Guard::new(limits, 1), Model::default());
        let mut flying: Vec<(Ticket, usize)> = Vec::new();
        let mut now = 0;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Wait(time) => now += time,
                Step::Try { account, site, device } => {
                    let wanted = attempt(account, site, device);
                    let expected = model.verdict(now, &limits, &wanted);
                    let got = guard.reserve(now, wanted.clone());
                    prop_assert_eq!(got.as_ref().err().map(|refused| refused.reason), expected);
                    if let Ok(ticket) = got {
                        flying.push((ticket, model.seen.len()));
                        model.seen.push(Seen { attempt: wanted, settled: None, cleared: None });
                    }
                }
                Step::Settle { which, ended } if !flying.is_empty() => {
                    let (ticket, index) = flying.swap_remove(which.index(flying.len()));
                    guard.settle(now, ticket, ended);
                    model.settle(now, number, index, ended);
                }
                Step::Settle { .. } => {}
                Step::Sweep => guard.sweep(now),
            }
        }
    }

    /// Whoever guesses, at however many devices and sites at once, never gets more than the bound past the guard: each
    /// wrong password is tried somewhere between its reservation and its settling.
    #[test]
    fn never_more_wrong_passwords_pass_than_the_bound(
        scope in prop_oneof![Just(LockScope::Account), Just(LockScope::AccountAtSite), Just(LockScope::AccountAtDevice)],
        failures in 1..6u32,
        spare in 1..3u32,
        steps in prop::collection::vec((0..25u64, 0..3u8, 0..3u8, any::<bool>(), any::<prop::sample::Index>()), 1..200),
    ) {
        let account = Bound { failures, window_ns: 60, lockout_ns: 60 };
        let global = Global { failures: 8, window_ns: 300, spare };
        let limits = Limits { scope, account, global: Some(global), ..LIMITS };
        let mut guard = Guard::new(limits, 1);
        let mut flying: Vec<(Ticket, Attempt, u64)> = Vec::new();
        let mut tried: Vec<(u64, Attempt)> = Vec::new();
        let mut now = 0;
        for (time, site, device, settles, which) in steps {
            now += time;
            let wanted = attempt(0, site, device);
            if let Ok(ticket) = guard.reserve(now, wanted.clone()) {
                flying.push((ticket, wanted, now));
            }
            if settles && !flying.is_empty() {
                let (ticket, attempt, from) = flying.swap_remove(which.index(flying.len()));
                guard.settle(now, ticket, Ended::Failed);
                tried.push((from + which.index(usize::try_from(now - from).unwrap() + 1) as u64, attempt));
            }
        }
        tried.extend(flying.into_iter().map(|(_, attempt, from)| (from, attempt)));
        for (start, one) in &tried {
            let within = |window: u64, counts: &dyn Fn(&Attempt) -> bool| {
                tried.iter().filter(|(at, other)| (*start..start + window).contains(at) && counts(other)).count()
            };
            let mine = |other: &Attempt| match scope {
                LockScope::Account => true,
                LockScope::AccountAtSite => other.origin.site == one.origin.site,
                LockScope::AccountAtDevice => other.origin == one.origin,
            };
            prop_assert!(within(60, &mine) <= failures as usize);
            prop_assert!(within(300, &|_| true) <= 8 + 3 * spare as usize);
        }
    }
}
