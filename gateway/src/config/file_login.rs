//! Reading `[login]`.

use std::num::NonZeroU32;
use std::time::Duration;

use policy::login::{Bound, Global, Limits, LockScope, Pause};

use super::knob::Knob;
use super::table::Table;
use super::{Login, knob};

pub(super) fn login(table: &Table<'_>) -> Login {
    let scope = table.choice(
        "scope",
        LockScope::AccountAtSite,
        &[
            (LockScope::Account.label(), LockScope::Account),
            (LockScope::AccountAtSite.label(), LockScope::AccountAtSite),
            (LockScope::AccountAtDevice.label(), LockScope::AccountAtDevice),
        ],
    );
    let account = Bound {
        failures: short(table.number("failures", &knob::FAILURES)),
        window_ns: ns(table.seconds("window_s", &knob::WINDOW_S)),
        lockout_ns: ns(table.seconds("lockout_s", &knob::LOCKOUT_S)),
    };
    check_lockout(table, "lockout_s", "window_s", &account);
    let pause = Pause {
        first_ns: ns(table.seconds("pause_s", &knob::PAUSE_S)),
        most_ns: ns(table.seconds("pause_most_s", &knob::PAUSE_MOST_S)),
    };
    if pause.most_ns < pause.first_ns || pause.most_ns > account.window_ns {
        let why = "it must be at least `login.pause_s` and at most `login.window_s`, after which failures do not count";
        table.problem("pause_most_s", format!("`login.pause_most_s` is {}; {why}", seconds(pause.most_ns)));
    }
    let failures = short(table.number("global_failures", &knob::GLOBAL_FAILURES));
    let window_ns = ns(table.seconds("global_window_s", &knob::GLOBAL_WINDOW_S));
    let spare = short(table.number("global_spare", &knob::GLOBAL_SPARE));
    let global = (failures > 0).then_some(Global { failures, window_ns, spare });
    if global.is_some() && (failures < account.failures || window_ns < account.window_ns) {
        let why =
            "the bound over all sites must be the slower one: at least `login.failures` in at least `login.window_s`";
        table.problem("global_failures", format!("`login.global_failures` is {failures}; {why}"));
    }
    let place = |key: &'static str, knob: &Knob| short(table.number(key, knob));
    let device = place("device_failures", &knob::DEVICE_FAILURES);
    let site = place("site_failures", &knob::SITE_FAILURES);
    let address = place("address_failures", &knob::ADDRESS_FAILURES);
    let of_places = Bound {
        failures: 1,
        window_ns: ns(table.seconds("place_window_s", &knob::PLACE_WINDOW_S)),
        lockout_ns: ns(table.seconds("place_lockout_s", &knob::PLACE_LOCKOUT_S)),
    };
    check_lockout(table, "place_lockout_s", "place_window_s", &of_places);
    let bound = |failures| (failures > 0).then_some(Bound { failures, ..of_places });
    let rate =
        |key: &'static str, knob: &Knob| NonZeroU32::new(short(table.number(key, knob))).unwrap_or(NonZeroU32::MIN);
    Login {
        limits: Limits {
            pause,
            scope,
            account,
            global,
            device: bound(device),
            site: bound(site),
            address: bound(address),
            accounts: knob::size(table.number("accounts", &knob::ACCOUNTS)),
        },
        device_attempts: rate("device_attempts_per_minute", &knob::DEVICE_ATTEMPTS_PER_MINUTE),
        site_attempts: rate("site_attempts_per_minute", &knob::SITE_ATTEMPTS_PER_MINUTE),
        address_attempts: rate("address_attempts_per_minute", &knob::ADDRESS_ATTEMPTS_PER_MINUTE),
        verified: table.seconds("verified_s", &knob::VERIFIED_S),
    }
}

fn check_lockout(table: &Table<'_>, key: &'static str, window: &str, bound: &Bound) {
    if bound.lockout_ns < bound.window_ns {
        let why = "the failures that led to a lockout would still count at its end";
        let least = seconds(bound.window_ns);
        let is = seconds(bound.lockout_ns);
        table.problem(key, format!("`login.{key}` is {is}; it must be at least `login.{window}`, {least}: {why}"));
    }
}

fn short(number: u64) -> u32 {
    knob::short(number)
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

const fn seconds(ns: u64) -> u64 {
    ns / 1_000_000_000
}
