//! Quotas of sites and devices hold over all workers at once, say when to come again, and are given back (R11).

use std::sync::Barrier;
use std::time::{Duration, Instant};

use gateway_tests::audit::text;
use gateway_tests::{Answer, Builder, Clinic, DOCTOR, Reply, until};

/// Another device of the doctor's site, and one of another site.
const SECOND: &str = "sakura-clinic/exam-2";
const ELSEWHERE: &str = "aoi-clinic/exam-1";

fn clinic(workers: i64, quota: &[(&str, i64)]) -> Builder {
    Clinic::builder().device(SECOND, "dr-sato", "doctor").device(ELSEWHERE, "dr-ito", "doctor").config(|config| {
        config.set("workers", "count", workers);
        for (key, value) in quota {
            config.set("quota", key, *value);
        }
    })
}

/// Seconds after which to come again.
fn retry_after(answer: &Answer) -> u64 {
    answer.field("retry-after").parse().unwrap_or_else(|_| panic!("a Retry-After: {answer:?}"))
}

/// Statuses of many requests at once: each device on connections of its own, which the kernel spreads over workers.
fn at_once(clinic: &Clinic, devices: &[&str], connections: usize, each: usize) -> Vec<Answer> {
    let handshakes: Vec<_> = (0..connections).map(|number| clinic.handshake(devices[number % devices.len()])).collect();
    let barrier = Barrier::new(connections);
    std::thread::scope(|scope| {
        let threads: Vec<_> = handshakes
            .iter()
            .map(|handshake| {
                scope.spawn(|| {
                    let mut wire = handshake.open();
                    barrier.wait();
                    (0..each).map(|_| wire.get("/open/x")).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("answers")).collect()
    })
}

fn served(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| answer.status == 200).count()
}

#[test]
fn a_sites_requests_are_counted_over_all_workers() {
    let clinic = clinic(4, &[("site_requests_per_second", 2), ("burst_s", 20)]).start();
    let begun = Instant::now();
    let answers = at_once(&clinic, &[DOCTOR, SECOND], 16, 10);
    let gained = usize::try_from(begun.elapsed().as_secs() * 2 + 2).expect("a number");
    let count = served(&answers);
    assert!((40..=40 + gained).contains(&count), "{count} of {} within {:?}", answers.len(), begun.elapsed());
    let refused = answers.iter().find(|answer| answer.status != 200).expect("one is refused");
    assert_eq!((refused.status, &*refused.problem()), (429, "quota-requests"));
    assert!((1..=2).contains(&retry_after(refused)), "{refused:?}");
    // Nobody else's quota is touched.
    assert_eq!(served(&at_once(&clinic, &[ELSEWHERE], 4, 5)), 20);
    let record = clinic.wait_for_record("the refusal", |record| text(record, "reason") == "quota-requests");
    assert_eq!(record["connection"]["site"], "sakura-clinic");
    // Whoever comes when told is served.
    std::thread::sleep(Duration::from_secs(retry_after(refused)));
    assert_eq!(clinic.wire(SECOND).get("/open/x").status, 200);
}

#[test]
fn a_device_over_its_quota_takes_nothing_of_its_sites() {
    let clinic = clinic(2, &[("device_requests_per_second", 1), ("site_requests_per_second", 1), ("burst_s", 30)]);
    let mut clinic = clinic.config(|config| config.set("quota", "site_requests_per_second", 2)).start();
    let begun = Instant::now();
    let count = served(&at_once(&clinic, &[DOCTOR], 8, 10));
    let gained = usize::try_from(begun.elapsed().as_secs() + 1).expect("a number");
    assert!((30..=30 + gained).contains(&count), "{count}");
    let count = served(&at_once(&clinic, &[SECOND], 4, 5));
    assert_eq!(count, 20, "the other device has its own");
    // A reload puts another quota in force for connections that live.
    let mut wire = clinic.wire(ELSEWHERE);
    assert_eq!(wire.get("/open/x").status, 200);
    clinic.reconfigure(|config| config.set("quota", "device_requests_per_second", 0));
    assert!(clinic.reload());
    clinic.reconfigure(|config| {
        config.append("[[quota.sites]]\nname = \"aoi-clinic\"\nconcurrent_requests = 1\nrequests_per_second = 1\n");
        config.set("quota", "burst_s", 1);
    });
    assert!(clinic.reload());
    let refused = until("its site's own quota", || Some(wire.get("/open/x")).filter(|answer| answer.status == 429));
    assert_eq!(refused.problem(), "quota-requests");
}

#[test]
fn requests_under_way_are_bounded_and_given_back() {
    let clinic = clinic(4, &[("site_concurrent_requests", 3)]).start();
    clinic.backend().answers(|seen| {
        let reply = Reply::new(200, "{}");
        if seen.target().ends_with("/slow") { reply.after(Duration::from_secs(4)) } else { reply }
    });
    let mut held: Vec<_> = (0..3).map(|_| clinic.wire(DOCTOR)).collect();
    for wire in &mut held {
        wire.send_request("GET", "/open/slow", &[], b"");
    }
    until("three at the backend", || (clinic.backend().connections() >= 3).then_some(()));
    let mut other = clinic.wire(SECOND);
    let refused = other.get("/open/x");
    assert_eq!((refused.status, &*refused.problem()), (429, "quota-concurrency"));
    assert!(retry_after(&refused) >= 1);
    assert_eq!(clinic.wire(ELSEWHERE).get("/open/x").status, 200);
    for wire in &mut held[..2] {
        assert_eq!(wire.answer().status, 200);
    }
    assert_eq!(other.get("/open/x").status, 200);
    // One that is given up counts no more.
    held[0].send_request("GET", "/open/slow", &[], b"");
    held[1].send_request("GET", "/open/slow", &[], b"");
    assert_eq!(held[2].answer().status, 200);
    drop(held);
    let served = || served(&at_once(&clinic, &[DOCTOR], 3, 1)) == 3;
    until("their places", || served().then_some(()));
}

#[test]
fn bytes_are_owed_and_what_has_begun_is_never_cut() {
    let clinic = clinic(2, &[("device_bytes_per_second", 100_000), ("burst_s", 2)]).start();
    let body = "x".repeat(1_000_000);
    clinic.backend().answers(move |seen| Reply::new(200, if seen.target().ends_with("/big") { &body } else { "{}" }));
    let mut wire = clinic.wire(DOCTOR);
    let answer = wire.get("/open/big");
    assert_eq!((answer.status, answer.body.len()), (200, 1_000_000), "all of it, though it is ten seconds' worth");
    let refused = until("the debt", || Some(wire.get("/open/x")).filter(|answer| answer.status == 429));
    assert_eq!(refused.problem(), "quota-bytes");
    assert!((1..=8).contains(&retry_after(&refused)), "{refused:?}");
    assert_eq!(clinic.wire(SECOND).get("/open/x").status, 200, "another device owes nothing");
    let again = until("the debt to be paid", || Some(wire.get("/open/x")).filter(|answer| answer.status == 200));
    assert_eq!(again.status, 200);
    // Uploads count as well.
    assert_eq!(wire.request("POST", "/open/up", &[], &vec![b'x'; 600_000]).status, 200);
    let refused = until("the debt", || Some(wire.get("/open/x")).filter(|answer| answer.status == 429));
    assert_eq!(refused.problem(), "quota-bytes");
}
