//! C14: how long an answer takes does not tell an account that is there from one that is not. By dudect's method (Reparaz, Balasch,
//! Verbauwhede 2017): both kinds of request alternate in an order that nothing else follows, and Welch's t over their times, also
//! with the slowest ones cropped, stays below 4.5. A leak is there every time, noise is not: of several attempts one must pass. That
//! the method sees what a hash costs, and nothing else, it shows by an account whose hash costs more than another's.

use std::time::Instant;

use gateway_tests::{Clinic, DOCTOR, Wire};

use crate::account::{Browser, clinic, first_password, start};

/// Requests of each kind in an attempt.
const EACH: usize = 400;
/// Attempts of which one must pass.
pub const ATTEMPTS: usize = 6;
/// dudect's bound.
pub const BOUND: f64 = 4.5;
/// Of a kind that does not differ from the other, a crop leaves more than one in so many.
const LEAST: usize = 10;

fn welch(one: &[f64], other: &[f64]) -> f64 {
    let moments = |times: &[f64]| {
        let n = times.len() as f64;
        let mean = times.iter().sum::<f64>() / n;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance / n)
    };
    let ((a, va), (b, vb)) = (moments(one), moments(other));
    (a - b).abs() / (va + vb).sqrt().max(f64::MIN_POSITIVE)
}

/// The largest t, over all times and over those below common percentiles of both kinds together. Where a crop leaves next to nothing
/// of one kind, the two differ as much as they can.
pub fn largest_t(one: &[f64], other: &[f64]) -> f64 {
    let mut all: Vec<f64> = one.iter().chain(other).copied().collect();
    all.sort_by(f64::total_cmp);
    let cropped = |percent: usize| {
        let most = all[(all.len() - 1) * percent / 100];
        let below = |times: &[f64]| times.iter().copied().filter(|time| *time <= most).collect::<Vec<_>>();
        let (kept, others) = (below(one), below(other));
        if kept.len() < one.len() / LEAST || others.len() < other.len() / LEAST {
            return f64::INFINITY;
        }
        welch(&kept, &others)
    };
    let all = [100, 95, 90, 75, 50].map(cropped);
    assert!(all.iter().all(|t| !t.is_nan()), "{all:?}");
    all.into_iter().fold(0.0, f64::max)
}

struct Timed<'c> {
    wire: Wire,
    fields: [(&'c str, &'c str); 2],
    target: &'c str,
}

impl Timed<'_> {
    /// How long an attempt takes, microseconds.
    fn attempt(&mut self, body: &str, status: u16) -> f64 {
        let begun = Instant::now();
        let answer = self.wire.request("POST", self.target, &self.fields, body.as_bytes());
        let took = begun.elapsed();
        assert_eq!(answer.status, status, "{answer:?}");
        took.as_secs_f64() * 1e6
    }
}

/// Times of both kinds, interleaved: which of a pair comes first follows a fixed shuffle.
fn measure(clinic: &Clinic, bodies: [(&str, u16); 2]) -> f64 {
    let origin = Browser::new(clinic, DOCTOR).origin();
    let fields = [("Origin", &*origin), ("Content-Type", "application/x-www-form-urlencoded")];
    let mut timed = Timed { wire: clinic.wire(DOCTOR), fields, target: "/.sekisho/login" };
    for _ in 0..20 {
        bodies.iter().for_each(|(body, status)| _ = timed.attempt(body, *status));
    }
    let mut times = [Vec::with_capacity(EACH), Vec::with_capacity(EACH)];
    let mut shuffle = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..EACH {
        shuffle = shuffle.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let first = usize::from(shuffle >> 63 == 1);
        for kind in [first, 1 - first] {
            let (body, status) = bodies[kind];
            times[kind].push(timed.attempt(body, status));
        }
    }
    largest_t(&times[0], &times[1])
}

#[test]
fn a_known_account_takes_as_long_as_an_unknown_one() {
    let mut clinic = start(clinic().config(|config| {
        // About a millisecond: what a hash costs must stand out from what a request costs.
        config.set("account", "memory_kib", 1_024);
        for (key, value) in [("failures", 1_000), ("window_s", 10), ("lockout_s", 10), ("global_failures", 0)] {
            config.set("login", key, value);
        }
        config.set("login", "pause_most_s", 0);
        config.set("login", "device_failures", 0);
        config.set("login", "site_failures", 0);
    }));
    let token = Browser::new(&clinic, DOCTOR).get("/.sekisho/login").token();
    // An account of its own for each attempt, so that none is locked.
    for index in 0..=ATTEMPTS {
        let id = format!("sakura-clinic/known{index}");
        clinic.registry(&["user", "add", &id]);
        first_password(&clinic, &id);
    }
    let body = |account: String| format!("csrf={token}&account={account}&password=quite+another+one+1");

    let mut all = Vec::new();
    let passes = (0..ATTEMPTS).any(|index| {
        // Names of one length, and passwords that are wrong: nothing differs but that one account is there.
        let (known, unknown) = (body(format!("known{index}")), body(format!("noone{index}")));
        all.push(measure(&clinic, [(&known, 403), (&unknown, 403)]));
        all[index] < BOUND
    });
    println!("|t| = {all:.2?}");
    assert!(passes, "a known account can be told from an unknown one: |t| = {all:.1?}");

    // Another one, whose password was hashed at other costs: nothing differs but the hash.
    clinic.reconfigure(|config| config.set("account", "memory_kib", 8_192));
    clinic.registry(&["user", "add", "sakura-clinic/costly"]);
    first_password(&clinic, "sakura-clinic/costly");
    let (known, costly) = (body(format!("known{ATTEMPTS}")), body("costly".to_owned()));
    let t = measure(&clinic, [(&known, 403), (&costly, 403)]);
    println!("|t| = {t:.2} where a hash costs eight times as much");
    assert!(t > BOUND, "a hash that costs more does not stand out: t = {t:.1}");
}
