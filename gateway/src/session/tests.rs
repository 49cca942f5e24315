//! Sessions in memory: found by their own device alone, bounded, and over at once for all workers.

use policy::session::Rules;
use policy::{DeviceId, Patient};

use super::*;

fn limits() -> Limits {
    Limits { idle_ns: u64::MAX, absolute_ns: u64::MAX, concurrent: 0 }
}

fn sessions(most: usize) -> (Arc<Sessions>, Kept) {
    let rules = Rules { default: limits(), rules: Vec::new() };
    let config = config::Session { rules, most, key_file: "unused".into() };
    prepare(&config, SessionKey::new(&[1; 32]), Arc::new(KernelClock::new().unwrap()))
}

fn device(name: &str) -> Party {
    let device = DeviceId { site: "s".parse().unwrap(), device: name.parse().unwrap() };
    Party::Device { device, user: None }
}

fn begin<'a>(party: &'a Party, user: &str, limits: Limits) -> Begin<'a> {
    Begin {
        kind: Kind::Learnt,
        realm: "ehr",
        party,
        user: Some(user.parse().unwrap()),
        account: "a",
        acting_for: None,
        level: AuthenticationLevel::User,
        factors: Factors::PASSWORD,
        authenticated_ns: 1,
        tag: Some("t"),
        limits,
    }
}

fn found(sessions: &Sessions, secret: &[u8], party: &Party) -> &'static str {
    match sessions.find(Kind::Learnt, "ehr", secret, party) {
        Found::Live(_) => "live",
        Found::Stolen(_) => "stolen",
        Found::Over(reason) => reason.label(),
        Found::Given => "given",
        Found::Unknown => "unknown",
    }
}

#[test]
fn a_session_is_found_by_its_device_kind_and_realm_alone() {
    let (sessions, _kept) = sessions(100);
    let (one, two) = (device("one"), device("two"));
    let session = sessions.learn(b"x", &begin(&one, "tanaka", limits())).unwrap();
    assert_eq!(found(&sessions, b"x", &one), "live");
    assert_eq!(found(&sessions, b"y", &one), "unknown");
    for other in [
        two.clone(),
        Party::User { site: "s".parse().unwrap(), user: "one".parse().unwrap() },
        Party::Patient(Patient::new(&[0; 32], "one").unwrap()),
    ] {
        assert_eq!(found(&sessions, b"x", &other), "stolen");
    }
    assert!(matches!(sessions.find(Kind::Local, "ehr", b"x", &one), Found::Unknown));
    assert!(matches!(sessions.find(Kind::Learnt, "pacs", b"x", &one), Found::Unknown));
    drop(sessions.end(&session, Reason::LoggedOut));
    assert_eq!(found(&sessions, b"x", &one), "logged-out");
    assert_eq!(found(&sessions, b"x", &two), "stolen", "it is still not theirs");
    sessions.learn(b"x", &begin(&two, "suzuki", limits())).unwrap();
    assert_eq!(found(&sessions, b"x", &two), "live", "a backend gave it out again");

    let (secret, own) = sessions.begin(&begin(&one, "tanaka", limits())).unwrap();
    assert_eq!(secret.as_str().len(), 43);
    assert_eq!(found(&sessions, secret.as_str().as_bytes(), &one), "live");
    let next = sessions.rotate(&own).unwrap();
    assert_ne!(secret.as_str(), next.as_str());
    assert_eq!(found(&sessions, next.as_str().as_bytes(), &one), "live");
    sessions.raise(&own, AuthenticationLevel::TwoFactor, Factors::TOTP, 7);
    assert_eq!(
        own.proof(),
        Proof { level: AuthenticationLevel::TwoFactor, factors: Factors::TOTP, authenticated_ns: 7 }
    );
}

#[test]
fn memory_is_bounded_and_no_session_ends_for_another() {
    let (sessions, _kept) = sessions(4);
    let party = device("one");
    let begin_one = |secret: &[u8]| sessions.learn(secret, &begin(&party, "tanaka", limits()));
    let all: Vec<_> = (0..4_u8).map(|secret| begin_one(&[secret]).unwrap()).collect();
    assert_eq!(begin_one(b"more").unwrap_err(), Refusal::SessionUnavailable);
    assert_eq!(found(&sessions, &[0], &party), "live");
    for session in &all {
        drop(sessions.end(session, Reason::Operator));
    }
    for secret in 10..20_u8 {
        drop(sessions.end(&begin_one(&[secret]).unwrap(), Reason::Operator));
    }
    assert_eq!(sessions.status(), Status { live: 0, most: 4 });
    assert_eq!(sessions.shards.len(), 4, "those that were over last");
    assert_eq!(found(&sessions, &[0], &party), "unknown");
    assert_eq!(found(&sessions, &[19], &party), "operator");

    // Re-issued for ever, a session has a few secrets, and remembers some that it had.
    let session = begin_one(b"first").unwrap();
    for number in 0..100_u8 {
        sessions.reissue(&session, &[0xff, number]);
    }
    assert!(sessions.shards.len() <= 4 + SECRETS + 4, "{}", sessions.shards.len());
    assert_eq!(found(&sessions, &[0xff, 99], &party), "live");
    assert_eq!(found(&sessions, &[0xff, 91], &party), "replaced");
    assert_eq!(found(&sessions, b"first", &party), "unknown");

    // What backends give to whoever asks without a login takes no more than a little for each device.
    for number in 0..1_000_u32 {
        sessions.give("ehr", &number.to_be_bytes(), &party);
    }
    assert!(sessions.shards.len() <= 16 + GIVEN, "{}", sessions.shards.len());
}

#[test]
fn what_was_given_before_a_login_is_no_session() {
    let (sessions, _kept) = sessions(100);
    let (one, two) = (device("one"), device("two"));
    sessions.give("ehr", b"x", &one);
    assert_eq!(found(&sessions, b"x", &one), "given");
    assert_eq!(found(&sessions, b"x", &two), "unknown", "and nobody's to be stolen");
    sessions.learn(b"x", &begin(&one, "tanaka", limits())).unwrap();
    sessions.give("ehr", b"x", &two);
    assert_eq!(found(&sessions, b"x", &one), "live", "no gift takes a session away");
}

#[test]
fn sessions_end_by_user_place_site_and_tag() {
    let all = || {
        let (sessions, kept) = sessions(100);
        sessions.learn(b"1", &begin(&device("one"), "tanaka", limits())).unwrap();
        sessions.learn(b"2", &begin(&device("two"), "tanaka", limits())).unwrap();
        let two = device("two");
        sessions.learn(b"3", &Begin { tag: None, ..begin(&two, "suzuki", limits()) }).unwrap();
        (sessions, kept)
    };
    let site: SiteName = "s".parse().unwrap();
    let place = Origin { site: "s".into(), device: "two".into() };
    for (of, count) in [
        (Of::User { site: site.clone(), user: "tanaka".parse().unwrap() }, 2),
        (Of::User { site: "t".parse().unwrap(), user: "tanaka".parse().unwrap() }, 0),
        (Of::Place(place), 2),
        (Of::Site(site), 3),
        (Of::Tag { kind: Kind::Learnt, tag: "t".to_owned() }, 2),
        (Of::Tag { kind: Kind::Oidc, tag: "t".to_owned() }, 0),
        (Of::Name("x".to_owned()), 0),
    ] {
        let (sessions, _kept) = all();
        let told = sessions.subscribe();
        assert_eq!(sessions.end_all(&of, Reason::Operator), count, "{of:?}");
        assert_eq!(told.has_changed().unwrap(), count > 0);
        assert_eq!(sessions.status().live, 3 - count);
    }
}

#[test]
fn idle_and_old_sessions_are_over_when_they_are_asked_for() {
    let (sessions, _kept) = sessions(100);
    let party = device("one");
    let idle = Limits { idle_ns: 1, ..limits() };
    let old = Limits { absolute_ns: 1, ..limits() };
    sessions.learn(b"1", &begin(&party, "tanaka", idle)).unwrap();
    sessions.learn(b"2", &begin(&party, "tanaka", old)).unwrap();
    std::thread::sleep(Duration::from_millis(1));
    assert_eq!(found(&sessions, b"1", &party), "idle");
    assert_eq!(found(&sessions, b"2", &party), "expired");
    assert_eq!(sessions.status().live, 0);
}

#[tokio::test]
async fn without_a_keeper_whoever_waits_hears_that_nothing_is_stored() {
    let (sessions, kept) = sessions(100);
    let session = sessions.learn(b"1", &begin(&device("one"), "tanaka", limits())).unwrap();
    drop(kept);
    assert!(!sessions.end(&session, Reason::LoggedOut).wait().await);
    assert!(sessions.end(&session, Reason::LoggedOut).wait().await, "it was over");
}
