//! What the decision cache keeps, and what it tells apart.

use super::*;

/// What is changed, and how.
type Change = (&'static str, fn(&mut Asked));

const BY_ROLE: &str = "permit(principal in Sekisho::Role::\"doctor\", action, resource);";

fn cached(judge: &Judge, cache: &mut DecisionCache, asked: &Asked) -> bool {
    match decide(judge, cache, asked) {
        Ok(permit) => permit.cached(),
        Err(denial) => denial.cached,
    }
}

#[test]
fn a_decision_comes_again_with_its_policies() {
    let judge = load(&format!("@id(\"d\") {BY_ROLE}"));
    let (mut cache, asked) = (cache(), Asked::new(&["doctor"], Action::Read, "clinical"));
    assert!(!decide(&judge, &mut cache, &asked).unwrap().cached());
    let again = decide(&judge, &mut cache, &asked).unwrap();
    assert!(again.cached());
    assert_eq!((again.action(), names(again.policies())), (Action::Read, vec!["d"]));
    assert_eq!((cache.hits(), cache.misses(), cache.len()), (1, 1, 1));
    let denied = Asked::new(&["nurse"], Action::Read, "clinical");
    assert!(!decide(&judge, &mut cache, &denied).unwrap_err().cached);
    assert!(decide(&judge, &mut cache, &denied).unwrap_err().cached);
}

#[test]
fn every_part_of_the_key_tells_decisions_apart() {
    let judge = load("permit(principal, action, resource);");
    let base = Asked::new(&["doctor"], Action::Read, "clinical");
    let changes: [Change; 15] = [
        ("site version", |a| a.subject.versions.site += 1),
        ("device version", |a| a.subject.versions.device += 1),
        ("user version", |a| a.subject.versions.user += 1),
        ("site", |a| a.subject.party = at_device("other", "exam-1", Some("sato"))),
        ("device", |a| a.subject.party = at_device("sakura-clinic", "other", Some("sato"))),
        ("user", |a| a.subject.party = at_device("sakura-clinic", "exam-1", None)),
        ("a user alone", |a| a.subject.party = alone("sakura-clinic", "sato")),
        ("a patient", |a| a.subject.party = patient(1, "sato")),
        ("another issuer's patient", |a| a.subject.party = patient(2, "sato")),
        ("roles", |a| a.subject.roles.clear()),
        ("level", |a| a.subject.authentication_level = AuthenticationLevel::TwoFactor),
        ("action", |a| a.action = Action::Search),
        ("service", |a| a.service = "other".parse().unwrap()),
        ("class", |a| a.class = "other".parse().unwrap()),
        ("route", |a| a.route = "other".parse().unwrap()),
    ];
    for (part, change) in changes {
        let mut cache = cache();
        let mut other = base.clone();
        change(&mut other);
        assert!(!cached(&judge, &mut cache, &base), "{part}");
        assert!(!cached(&judge, &mut cache, &other), "{part}");
        assert!(cached(&judge, &mut cache, &base), "{part}: the other entry stays");
        assert!(cached(&judge, &mut cache, &other), "{part}");
    }
}

#[test]
fn what_no_policy_reads_is_no_part_of_the_key() {
    let judge = load(BY_ROLE);
    let mut cache = cache();
    let mut asked = Asked::new(&["doctor"], Action::Read, "clinical");
    assert!(!cached(&judge, &mut cache, &asked));
    asked.transport = Transport::Quic;
    asked.tls_version = None;
    asked.source = "2001:db8::1".parse().unwrap();
    asked.time += 1;
    asked.method = Some("GET".into());
    asked.resource_type = Some("Patient".into());
    asked.patients = vec!["Patient/1".into()];
    assert!(cached(&judge, &mut cache, &asked));
}

#[test]
fn what_a_policy_of_the_slice_reads_is_part_of_the_key() {
    let cases: [Change; 3] = [
        ("context.source.isIpv4()", |a| a.source = "2001:db8::1".parse().unwrap()),
        ("context.transport == \"tls\"", |a| a.transport = Transport::Quic),
        ("context has tls_version", |a| a.tls_version = None),
    ];
    for (condition, change) in cases {
        let judge = load(&format!("permit(principal, action, resource) when {{ {condition} }};"));
        let mut cache = cache();
        let base = Asked::new(&[], Action::Read, "clinical");
        let mut other = base.clone();
        change(&mut other);
        assert!(decide(&judge, &mut cache, &base).is_ok(), "{condition}");
        let denial = decide(&judge, &mut cache, &other).unwrap_err();
        assert!(!denial.cached, "{condition}");
        assert!(cached(&judge, &mut cache, &base) && cached(&judge, &mut cache, &other), "{condition}");
    }
    // The IPv6 spelling of an IPv4 address is the same address.
    let judge = load("permit(principal, action, resource) when { context.source.isIpv4() };");
    let mut cache = cache();
    let mut asked = Asked::new(&[], Action::Read, "clinical");
    assert!(!cached(&judge, &mut cache, &asked));
    asked.source = "::ffff:192.0.2.10".parse().unwrap();
    assert!(cached(&judge, &mut cache, &asked));
}

#[test]
fn nothing_is_kept_that_reads_time_or_content() {
    for condition in [
        "context.time > datetime(\"2020-01-01\")",
        "context.hour == 10",
        "context.weekday == 3",
        "context has method",
        "context has operation",
        "context has resource_type",
        "context.patients.isEmpty()",
    ] {
        let judge = load(&format!(
            "{BY_ROLE} forbid(principal in Sekisho::Role::\"clerk\", action, resource) when {{ {condition} }};"
        ));
        let mut cache = cache();
        for _ in 0..2 {
            assert!(!cached(&judge, &mut cache, &Asked::new(&["clerk"], Action::Read, "clinical")), "{condition}");
        }
        assert!(cache.is_empty(), "{condition}");
        // Whom the policy does not concern, it does not slow down.
        let doctor = Asked::new(&["doctor"], Action::Read, "clinical");
        assert!(!cached(&judge, &mut cache, &doctor));
        assert!(cached(&judge, &mut cache, &doctor), "{condition}");
    }
}

#[test]
fn a_reload_forgets_and_another_policy_set_never_answers() {
    let (open, closed) = (load("permit(principal, action, resource);"), load(""));
    assert_ne!(open.version(), closed.version());
    let (mut cache, asked) = (cache(), Asked::new(&[], Action::Read, "clinical"));
    for _ in 0..2 {
        assert!(decide(&open, &mut cache, &asked).is_ok());
        assert!(decide(&closed, &mut cache, &asked).is_err());
    }
    assert!(!cached(&load("permit(principal, action, resource);"), &mut cache, &asked));
}

#[test]
fn the_cache_is_bounded_and_keeps_what_is_used() {
    let judge = load(BY_ROLE);
    let mut cache = DecisionCache::new(100, RandomState::new());
    assert_eq!(cache.capacity(), 128);
    let favourite = Asked::new(&["doctor"], Action::Read, "clinical");
    assert!(!cached(&judge, &mut cache, &favourite));
    for number in 0..5_000_u64 {
        let mut asked = favourite.clone();
        asked.subject.versions.user = 1_000 + number;
        assert!(!cached(&judge, &mut cache, &asked));
        assert!(cache.len() <= cache.capacity());
        assert!(cached(&judge, &mut cache, &favourite), "after {number}");
    }
    assert_eq!(cache.len(), cache.capacity());
    assert_eq!(DecisionCache::new(0, RandomState::new()).capacity(), 8);
}
