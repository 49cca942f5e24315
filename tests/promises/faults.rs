//! Constant load while servers are killed and revived, fall sick and are drained, and the gateway reloads, at random (R19, R20).
//!
//! What is safe to ask again is always answered; what is not fails only where a server was killed meanwhile; and at the end nothing is
//! left over. A minute of it, or `SEKISHO_FAULT_SECONDS=600 cargo nextest run -p gateway-tests faults`; `SEKISHO_FAULT_SEED` repeats a run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gateway_tests::nginx::Nginx;
use gateway_tests::{Clinic, DOCTOR, Output, sekisho, until};
use rustix::process::Signal;

/// Of three servers one is always left alone, so that every request can be answered.
const SERVERS: usize = 3;
const HEALTH: &str = "kind = \"http\"\npath = \"/health\"\nbody = \"status: up\"\ninterval_ms = 100\nunhealthy_after = 2\nhealthy_after = 2";

/// Numbers that a seed determines (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().expect("a number"))
}

/// What the clients saw.
#[derive(Default)]
struct Tally {
    over: AtomicBool,
    asked: AtomicU64,
    /// Requests that change something and were not answered by a server.
    lost: AtomicU64,
}

impl Tally {
    fn goes_on(&self) -> bool {
        std::thread::sleep(Duration::from_millis(4));
        self.asked.fetch_add(1, Ordering::Relaxed);
        !self.over.load(Ordering::Relaxed)
    }
}

/// Ends the load also where an expectation is broken.
struct End<'a>(&'a Tally);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// The servers, and what is the matter with each.
struct Fleet {
    servers: Vec<Nginx>,
    dead: [bool; SERVERS],
    sick: [bool; SERVERS],
    drained: [bool; SERVERS],
    /// The one that the configuration does not name for now.
    unlisted: Option<usize>,
    /// The one that is left alone.
    left_alone: usize,
    kills: u64,
}

impl Fleet {
    fn drain(&mut self, clinic: &Clinic, which: usize) {
        let verb = if self.drained[which] { "resume" } else { "drain" };
        let config = clinic.prepared.path("sekisho.toml");
        let server = self.servers[which].address.to_string();
        let arguments = ["backend", verb, "clinical", &server, "--config", config.to_str().expect("an UTF-8 path")];
        let Output { code, stderr, .. } = sekisho(&arguments);
        assert_eq!(code, Some(0), "{stderr}");
        self.drained[which] = !self.drained[which];
    }

    fn kill_or_revive(&mut self, which: usize) {
        if self.dead[which] {
            self.servers[which].revive();
        } else {
            self.servers[which].kill();
            self.kills += 1;
        }
        self.dead[which] = !self.dead[which];
    }

    fn fall_sick_or_recover(&mut self, which: usize) {
        self.sick[which] = !self.sick[which];
        self.servers[which].set("sick", self.sick[which]);
    }

    /// Mends what is the matter with one, and waits until the gateway has seen that.
    fn mend(&mut self, clinic: &Clinic, which: usize) {
        if self.dead[which] {
            self.kill_or_revive(which);
        }
        if self.sick[which] {
            self.fall_sick_or_recover(which);
        }
        if self.drained[which] {
            self.drain(clinic, which);
        }
        let server = self.servers[which].address.to_string();
        let is = |state| clinic.metric("sekisho_backend_state", &[("backend", &server), ("state", state)]) == 1.0;
        // What failed just before may still eject it, which is told a moment later.
        until("a server that is well to serve", || {
            let serves = is("in");
            std::thread::sleep(Duration::from_millis(1200));
            (serves && is("in")).then_some(())
        });
    }
}

/// What the gateway says of its servers, and why it asked none of them.
fn why(clinic: &Clinic) -> String {
    let page = clinic.metrics().page().to_owned();
    let lines =
        page.lines().filter(|line| line.contains("_backend_") && !line.starts_with('#') && !line.ends_with(" 0"));
    lines.collect::<Vec<_>>().join("\n")
}

fn reload(clinic: &Clinic) {
    let done = || clinic.metric("sekisho_reloads_total", &[("outcome", "ok")]);
    let before = done();
    clinic.gateway.signal(Signal::HUP);
    until("the reload", || (done() > before).then_some(()));
    assert_eq!(clinic.metric("sekisho_reloads_total", &[("outcome", "failed")]), 0.0);
}

#[test]
fn faults_at_random_lose_nothing_that_can_be_asked_again() {
    let time = Duration::from_secs(number("SEKISHO_FAULT_SECONDS", 60));
    let seed = number("SEKISHO_FAULT_SEED", 1);
    let mut dice = Dice(seed);
    let mut prepared = Clinic::builder().prepare();
    let servers: Vec<Nginx> = ["one", "two", "three"].iter().map(|name| Nginx::start(&prepared, name)).collect();
    let urls: Vec<String> = servers.iter().map(|server| format!("http://{}", server.address)).collect();
    prepared.reconfigure(|config| {
        config.set("workers", "count", 2);
        config.set_service("backends", urls.clone());
        config.set_service("slow_start_ms", 200);
        config.set_service("eject_ms", 300);
        config.check_health(HEALTH);
    });
    let mut clinic = prepared.start();
    let mut fleet = Fleet {
        servers,
        dead: [false; SERVERS],
        sick: [false; SERVERS],
        drained: [false; SERVERS],
        unlisted: None,
        left_alone: 0,
        kills: 0,
    };
    let tally = Tally::default();
    let (mut steps, mut reloads) = (0_u64, 0_u64);
    std::thread::scope(|scope| {
        let end = End(&tally);
        let tally = &tally;
        let mut loads = Vec::new();
        for _ in 0..3 {
            let mut wire = clinic.wire(DOCTOR);
            loads.push(scope.spawn(move || {
                while tally.goes_on() {
                    let answer = wire.get("/open/x");
                    assert_eq!(answer.status, 200, "{answer:?}");
                }
            }));
        }
        let mut h2 = clinic.h2(DOCTOR);
        loads.push(scope.spawn(move || {
            while tally.goes_on() {
                let answer = h2.get("/open/x").expect("an answer");
                assert_eq!(answer.status, 200, "{answer:?}");
            }
        }));
        for _ in 0..2 {
            let mut wire = clinic.wire(DOCTOR);
            loads.push(scope.spawn(move || {
                while tally.goes_on() {
                    let answer = wire.request("POST", "/open/x", &[("content-type", "text/plain")], b"once");
                    if answer.status != 200 {
                        let problem = answer.problem();
                        assert!(matches!(&*problem, "backend-unavailable" | "backend-malformed"), "{answer:?}");
                        tally.lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }));
        }
        let begun = Instant::now();
        while begun.elapsed() < time {
            let broken = loads.iter().any(std::thread::ScopedJoinHandle::is_finished);
            assert!(!broken, "a request was lost after {steps} steps with the seed {seed}: {}", why(&clinic));
            steps += 1;
            let which = (fleet.left_alone + 1 + dice.roll(2) as usize) % SERVERS;
            match dice.roll(8) {
                0..3 => fleet.kill_or_revive(which),
                3 => fleet.fall_sick_or_recover(which),
                4 if fleet.unlisted != Some(which) => fleet.drain(&clinic, which),
                5 => {
                    // In another order, with or without one of those that may fail.
                    let mut urls = urls.clone();
                    fleet.unlisted = (dice.roll(2) == 0).then_some(which);
                    if fleet.unlisted.is_some() {
                        urls.remove(which);
                    }
                    urls.reverse();
                    clinic.reconfigure(|config| config.set_service("backends", urls));
                    reload(&clinic);
                    reloads += 1;
                }
                6 => {
                    clinic.reconfigure(|config| config.set_service("backends", urls.clone()));
                    fleet.unlisted = None;
                    reload(&clinic);
                    reloads += 1;
                    fleet.mend(&clinic, which);
                    fleet.left_alone = which;
                }
                _ => assert_eq!(clinic.wire(DOCTOR).get("/open/x").status, 200, "a new connection"),
            }
            std::thread::sleep(Duration::from_millis(50 + dice.roll(400)));
        }
        drop(end);
        for load in loads {
            load.join().unwrap_or_else(|_| panic!("a request was lost with the seed {seed}"));
        }
    });
    let (asked, lost) = (tally.asked.load(Ordering::Relaxed), tally.lost.load(Ordering::Relaxed));
    assert!(asked > time.as_secs() * 20 && steps > time.as_secs() / 2, "{asked} requests, {steps} steps");
    assert!(lost <= 2 * fleet.kills, "{lost} of those that change something were lost by {} kills", fleet.kills);
    assert!(fleet.kills > 0 && reloads > 0, "{} kills, {reloads} reloads", fleet.kills);
    // Each answer is counted, and nothing is under way any more.
    assert_eq!(clinic.metric("sekisho_requests_total", &[("status_class", "5xx")]) as u64, lost);
    until("every request to be over", || (clinic.metric("sekisho_backend_in_flight", &[]) == 0.0).then_some(()));
}
