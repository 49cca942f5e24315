use super::*;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;

fn party(site: &str, device: &str) -> Party {
    let device = policy::DeviceId { site: site.parse().unwrap(), device: device.parse().unwrap() };
    Party::Device { device, user: None }
}

fn quotas(site: Quota, device: Quota) -> Quotas {
    Quotas { burst: Duration::from_secs(10), site, device, sites: BTreeMap::new() }
}

fn requests(per_second: u64) -> Quota {
    Quota { requests_per_second: Some(per_second), ..Quota::default() }
}

#[test]
fn a_rate_has_a_burst_and_says_when_to_come_again() {
    let meters = Meters::default();
    let one = meters.of(&party("a", "1"), 0);
    let quotas = quotas(Quota::default(), requests(2));
    let all: Vec<_> = (0..30).map(|_| one.enter(&quotas, SECOND).map(drop)).collect();
    assert_eq!(all.iter().filter(|entered| entered.is_ok()).count(), 20);
    assert_eq!(all[20], Err((Refusal::QuotaRequests, Some(SECOND / 2))));
    assert!(one.enter(&quotas, SECOND + SECOND / 2 - 1).is_err());
    assert!(one.enter(&quotas, SECOND + SECOND / 2).is_ok());
    assert!(meters.of(&party("a", "1"), 0).enter(&quotas, SECOND + SECOND / 2).is_err(), "on another connection, too");
    assert!(meters.of(&party("a", "2"), 0).enter(&quotas, SECOND).is_ok());
}

#[test]
fn bytes_run_into_debt_that_holds_up_the_next_request() {
    let one = Meters::default().of(&party("a", "1"), 0);
    let quotas = quotas(Quota { bytes_per_second: Some(1000), ..Quota::default() }, Quota::default());
    let admitted = one.enter(&quotas, SECOND).unwrap();
    admitted.passes(SECOND, 9_000);
    assert!(one.enter(&quotas, SECOND).is_ok(), "within the burst");
    admitted.passes(SECOND, 4_000);
    assert_eq!(one.enter(&quotas, SECOND).map(drop), Err((Refusal::QuotaBytes, Some(3 * SECOND))));
    assert!(one.enter(&quotas, 4 * SECOND).is_ok());
}

#[test]
fn a_site_is_all_its_devices_and_a_device_over_its_own_quota_takes_nothing_of_it() {
    let meters = Meters::default();
    let (one, two) = (meters.of(&party("a", "1"), 0), meters.of(&party("a", "2"), 0));
    let most = |most| Quota { concurrent_requests: Some(most), ..Quota::default() };
    let mut quotas = quotas(most(3), most(2));
    let held = [one.enter(&quotas, 0).unwrap(), one.enter(&quotas, 0).unwrap()];
    assert_eq!(one.enter(&quotas, 0).map(drop), Err((Refusal::QuotaConcurrency, None)));
    let third = two.enter(&quotas, 0).unwrap();
    assert_eq!(two.enter(&quotas, 0).map(drop), Err((Refusal::QuotaConcurrency, None)), "the site is full");
    let b = meters.of(&party("b", "1"), 0);
    assert!(b.enter(&quotas, 0).is_ok());
    drop(held);
    assert!(two.enter(&quotas, 0).is_ok(), "what ends is given back, and what the site refused took nothing");
    quotas.sites.insert("a".parse().unwrap(), most(1));
    assert!(two.enter(&quotas, 0).is_err(), "its own quota counts instead");
    drop(third);
    assert!(two.enter(&quotas, 0).is_ok());
}

#[test]
fn workers_share_a_quota_to_the_last_request() {
    let meters = Meters::default();
    let quotas = quotas(requests(100), Quota { concurrent_requests: Some(1_000_000), ..Quota::default() });
    let entered: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let (meters, quotas) = (&meters, &quotas);
                scope.spawn(move || {
                    let own = meters.of(&party("a", &format!("d{worker}")), 0);
                    (0..1_000).filter(|_| own.enter(quotas, SECOND).is_ok()).count()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(entered, 1_000);
}

#[test]
fn memory_has_a_bound() {
    let mut known = Known::default();
    let site = |number: usize| -> SiteName { format!("s{number}").parse().unwrap() };
    let held = known.of(&site(0), 0, 4);
    held.under_way.fetch_add(1, Ordering::Relaxed);
    for number in 1..4 {
        known.of(&site(number), 0, 4).owe(Quota { bytes_per_second: Some(1), ..Quota::default() }, 0, 5);
    }
    let other = known.of(&site(4), 0, 4);
    assert!(Arc::ptr_eq(&other, &known.others) && known.meters.len() == 4, "nobody who used something is forgotten");
    let other = known.of(&site(4), 6 * SECOND, 4);
    assert!(!Arc::ptr_eq(&other, &known.others) && known.meters.len() == 2, "who is gone and owes nothing is");
}

proptest! {
    /// Whatever the times, no more pass than burst and rate allow, and who comes when told is let in.
    #[test]
    fn no_more_pass_than_may(rate in 1u64..50, steps in proptest::collection::vec(0u64..400_000_000, 1..200)) {
        let one = Meters::default().of(&party("a", "1"), 0);
        let quotas = quotas(Quota::default(), requests(rate));
        let (mut now, mut passed) = (SECOND, 0u64);
        for step in steps {
            now += step;
            match one.enter(&quotas, now) {
                Ok(_) => passed += 1,
                Err((_, wait)) => {
                    now += wait.unwrap();
                    prop_assert!(one.enter(&quotas, now).is_ok());
                    passed += 1;
                }
            }
            let most = u128::from(rate) * u128::from(now - SECOND) / u128::from(SECOND) + u128::from(rate) * 10;
            prop_assert!(u128::from(passed) <= most + 1);
        }
    }
}
