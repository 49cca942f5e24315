//! Sessions in memory: found by their own device alone, bounded, and over at once for all workers.

use policy::session::Rules;
use policy::{DeviceId, Patient};

use policy::login::Origin;

use super::*;

fn limits() -> Limits {
    Limits { idle_ns: u64::MAX >> 1, absolute_ns: u64::MAX >> 1, concurrent: 0 }
}

fn sessions(most: usize) -> (Arc<Sessions>, Kept) {
    let rules = Rules { default: limits(), rules: Vec::new() };
    let config = config::Session { rules, most, key_file: "unused".into() };
    prepare(&config, SessionKey::new(&[1; 32]), Arc::new(KernelClock::new().unwrap()))
}

fn device(name: &str) -> Party {
    device_at("s", name)
}

fn device_at(site: &str, name: &str) -> Party {
    let device = DeviceId { site: site.parse().unwrap(), device: name.parse().unwrap() };
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
        asked_ns: u64::MAX,
        as_of: 7,
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
    let mut all = vec![begin_one(&[0]).unwrap()];
    for (secret, site) in [(1, "t"), (2, "u"), (3, "v")] {
        let other = device_at(site, "one");
        all.push(sessions.learn(&[secret], &begin(&other, "tanaka", limits())).unwrap());
    }
    let more = device_at("w", "one");
    let refused = sessions.learn(b"more", &begin(&more, "tanaka", limits()));
    assert_eq!(refused.unwrap_err(), Refusal::SessionUnavailable);
    assert_eq!(found(&sessions, &[0], &party), "live");
    for session in &all {
        drop(sessions.end(session, Reason::Operator));
    }
    for secret in 10..20_u8 {
        drop(sessions.end(&begin_one(&[secret]).unwrap(), Reason::Operator));
    }
    assert_eq!(sessions.status(), Status { live: 0, most: 4, is_stored: true });
    assert_eq!(sessions.shards.len(), 4, "those that were over last");
    assert_eq!(found(&sessions, &[0], &party), "unknown");
    assert_eq!(found(&sessions, &[19], &party), "operator");

    // Re-issued for ever, a session has a few secrets, and remembers some that it had.
    let session = begin_one(b"first").unwrap();
    for number in 0..100_u8 {
        sessions.reissue(&session, &[0xff, number]);
    }
    assert!(sessions.shards.len() <= 4 + 2 * SECRETS, "{}", sessions.shards.len());
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
fn a_device_and_a_site_have_their_share() {
    let (sessions, _kept) = sessions(64);
    let learn = |secret: &[u8], party: &Party| sessions.learn(secret, &begin(party, "tanaka", limits()));
    let (one, far) = (device("one"), device_at("t", "far"));
    for secret in 0..5_u8 {
        learn(&[secret], &one).unwrap();
    }
    assert_eq!(found(&sessions, &[0], &one), "surplus", "a sixteenth");
    assert_eq!(found(&sessions, &[1], &one), "live");
    for (number, name) in ["two", "three", "four"].into_iter().enumerate() {
        for secret in 0..4_u8 {
            learn(&[10 + u8::try_from(number).unwrap(), secret], &device(name)).unwrap();
        }
    }
    assert_eq!(sessions.status().live, 16);
    assert_eq!(learn(b"new", &device("five")).unwrap_err(), Refusal::SessionUnavailable, "a quarter");
    learn(b"far", &far).unwrap();
    learn(b"more", &one).unwrap();
    assert_eq!(found(&sessions, &[1], &one), "surplus");
    assert_eq!(found(&sessions, &[10, 0], &device("two")), "live");
    sessions.end_before(&Of::Site("s".parse().unwrap()), Reason::Operator, u64::MAX);
    learn(b"new", &device("five")).unwrap();
}

#[test]
fn whoever_logs_in_with_every_request_has_one_session() {
    let (sessions, _kept) = sessions(100);
    let (one, two) = (device("one"), device("two"));
    let (first, begins) = sessions.go_on(b"1", &begin(&one, "tanaka", limits())).unwrap();
    assert!(begins);
    for secret in 2..100_u8 {
        let (session, begins) = sessions.go_on(&[secret], &begin(&one, "tanaka", limits())).unwrap();
        assert!(Arc::ptr_eq(&session, &first) && !begins);
        assert_eq!(found(&sessions, &[secret], &one), "live");
    }
    assert_eq!(sessions.status().live, 1);
    let other = Begin { account: "b", ..begin(&one, "tanaka", limits()) };
    for begin in [other, begin(&one, "suzuki", limits()), begin(&two, "tanaka", limits())] {
        assert!(sessions.go_on(begin.account.as_bytes(), &begin).unwrap().1);
    }
    drop(sessions.end(&first, Reason::LoggedOut));
    assert!(sessions.go_on(b"new", &begin(&one, "tanaka", limits())).unwrap().1);
}

#[test]
fn what_is_over_leaves_room_for_what_is_given() {
    let (sessions, _kept) = sessions(1);
    let party = device("one");
    let session = sessions.learn(b"0", &begin(&party, "tanaka", limits())).unwrap();
    for secret in 1..8_u8 {
        sessions.reissue(&session, &[secret]);
    }
    for number in 0..3_u8 {
        sessions.give("ehr", &[9, number], &party);
    }
    drop(sessions.end(&session, Reason::LoggedOut));
    assert_eq!(sessions.shards.len(), LAST_SECRETS + 3);
    assert_eq!(found(&sessions, &[7], &party), "logged-out");
    assert_eq!(found(&sessions, &[1], &party), "unknown");
    sessions.give("ehr", &[9, 3], &party);
    assert_eq!(found(&sessions, &[9, 3], &party), "given");
    sessions.give("ehr", &[9, 4], &device("two"));
    assert_eq!(found(&sessions, &[9, 4], &device("two")), "unknown", "no more than four for each that may live");
    assert!(sessions.said_full.load(Ordering::Relaxed));

    // A secret that was given out again is not forgotten with the session that it stood for before.
    let again = sessions.learn(&[7], &begin(&party, "tanaka", limits())).unwrap();
    sessions.learn(b"next", &begin(&party, "tanaka", limits())).unwrap();
    assert_eq!(again.ended(), Some(Reason::Surplus));
    assert_eq!(found(&sessions, &[7], &party), "surplus");
}

#[test]
fn secrets_that_roll_cost_the_store_little() {
    let (sessions, mut kept) = sessions(100);
    let party = device("one");
    let session = sessions.learn(b"0", &begin(&party, "tanaka", limits())).unwrap();
    while kept.0.try_recv().is_ok() {}
    for number in 1..200_u8 {
        sessions.reissue(&session, &[number]);
        assert_eq!(found(&sessions, &[number], &party), "live");
    }
    assert!(kept.0.try_recv().is_err(), "the store hears of none of it");
    sessions.save();
    let told = std::iter::from_fn(|| kept.0.try_recv().ok()).count();
    assert!((1..=9).contains(&told), "{told}");
    sessions.save();
    assert!(kept.0.try_recv().is_err(), "once");
    assert_eq!(sessions.shards.len(), 2 * SECRETS);
    // What was another's is this one's, and the other is over.
    let other = sessions.learn(b"other", &begin(&device("two"), "suzuki", limits())).unwrap();
    sessions.reissue(&session, b"other");
    assert_eq!((other.ended(), found(&sessions, b"other", &party)), (Some(Reason::Replaced), "live"));
    // What comes when it is over ties nothing.
    drop(sessions.end(&session, Reason::LoggedOut));
    sessions.reissue(&session, b"late");
    assert_eq!(found(&sessions, b"late", &party), "unknown");
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
        (Of::Vouched { issuer: "t".to_owned(), subject: None, session: None }, 0),
        (Of::Name("x".to_owned()), 0),
    ] {
        let (sessions, _kept) = all();
        let told = sessions.subscribe();
        assert_eq!(sessions.end_before(&of, Reason::Operator, u64::MAX), count, "{of:?}");
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

#[tokio::test]
async fn what_a_store_does_not_take_is_written_once_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.db");
    let store = crate::store::Store::open(file.clone()).await.unwrap();
    let (sessions, mut kept) = sessions(100);
    let party = device("one");
    let session = sessions.learn(b"1", &begin(&party, "tanaka", limits())).unwrap();
    let ended = sessions.end(&session, Reason::LoggedOut);
    let (mut changes, mut waiting) = (Vec::new(), Vec::new());
    while let Ok(order) = kept.0.try_recv() {
        match order {
            Order::Write(change) => changes.push(change),
            Order::End { change, answer, .. } => {
                changes.push(change);
                waiting.extend(answer);
            }
            Order::ActNoMore { .. } | Order::Flush(_) => {}
        }
    }
    let aside = folder.path().join("aside.db");
    std::fs::rename(&file, &aside).unwrap();
    let mut pen = keeper::Pen { sessions: Arc::clone(&sessions), store, boot: "boot".to_owned() };
    let writes = tokio::spawn(async move {
        pen.put(&changes, waiting).await;
        pen
    });
    assert!(!ended.wait().await, "whoever waits hears of it at once");
    assert!(!sessions.status().is_stored);
    assert_eq!(sessions.learn(b"2", &begin(&party, "tanaka", limits())).unwrap_err(), Refusal::SessionUnavailable);
    std::fs::rename(&aside, &file).unwrap();
    let pen = writes.await.unwrap();
    assert!(sessions.status().is_stored);
    assert_eq!(sessions.waiting.load(Ordering::Relaxed), 0);
    let memory = pen.store.session_load("boot", u64::MAX >> 1).await.unwrap();
    assert_eq!(memory.sessions.first().unwrap().0.ended, Some(Reason::LoggedOut));
    sessions.learn(b"2", &begin(&party, "tanaka", limits())).unwrap();

    // Beyond what may wait nothing begins, and ends are told all the same.
    sessions.waiting.store(MOST_WAITING, Ordering::Relaxed);
    assert!(sessions.learn(b"3", &begin(&party, "tanaka", limits())).is_err());
    while kept.0.try_recv().is_ok() {}
    let Found::Live(session) = sessions.find(Kind::Learnt, "ehr", b"2", &party) else { panic!("it lives") };
    sessions.reissue(&session, b"4");
    assert!(kept.0.try_recv().is_err());
    drop(sessions.end(&session, Reason::LoggedOut));
    assert!(matches!(kept.0.try_recv(), Ok(Order::End { .. })));
}

/// What is done for another ends with the leave, and only that.
#[test]
fn acting_ends_where_it_is_taken_back() {
    use crate::store::{ChangeBody, Delegation, Entry, Verb};
    let (sessions, _kept) = sessions(100);
    let party = device("one");
    let site = party.site().unwrap().clone();
    let session = sessions.learn(b"1", &begin(&party, "tanaka", limits())).unwrap();
    let acting = |user: &str| Acting { user: user.parse().unwrap(), until_s: None };
    let delegation = |user: &str, acts_for: &str| {
        let (user, acts_for) = (user.parse().unwrap(), acts_for.parse().unwrap());
        Entry::Delegation(Delegation { site: site.clone(), user, acts_for, until_s: None, added_at: String::new() })
    };
    let removed = |entry| crate::store::Change {
        sequence: 9,
        time: String::new(),
        actor: String::new(),
        body: ChangeBody { verb: Verb::Remove, before: Some(entry), after: None },
    };
    sessions.act(&session, Some(acting("sato")));
    assert!(session.acts_for(Some(&"sato".parse().unwrap())) && !session.acts_for(None));
    sessions.follow(&removed(delegation("tanaka", "ito")));
    sessions.follow(&removed(delegation("suzuki", "sato")));
    assert!(session.acting_for().is_some(), "leave of others");
    sessions.follow(&removed(delegation("tanaka", "sato")));
    assert!(session.acts_for(None) && session.ended().is_none());
    // Whoever finds out late ends nothing that was said since.
    sessions.act(&session, Some(acting("ito")));
    sessions.revoke_acting(&session, &acting("sato"));
    assert!(session.acts_for(Some(&"ito".parse().unwrap())));
    sessions.review(&Directory::default());
    assert!(session.acts_for(None), "nobody has leave");
}

#[test]
fn a_secret_that_was_known_before_more_was_proved_stands_for_nobody_after_it() {
    let (sessions, _kept) = sessions(100);
    let party = device("one");
    let (first, session) = sessions.begin(&begin(&party, "tanaka", limits())).unwrap();
    sessions.reissue(&session, b"between");
    let last = sessions.rotate(&session).unwrap();
    assert_eq!(found(&sessions, last.as_str().as_bytes(), &party), "live");
    assert_eq!(found(&sessions, first.as_str().as_bytes(), &party), "replaced");
    assert_eq!(found(&sessions, b"between", &party), "replaced");
    assert_eq!(found(&sessions, first.as_str().as_bytes(), &device("two")), "stolen");
}
