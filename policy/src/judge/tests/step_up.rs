//! What a denial says is missing is what is missing, and no permit outlives the age that a policy asks for.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::ActingFor;

const SECOND: u64 = 1_000_000_000;
const LEVELS: [AuthenticationLevel; 3] =
    [AuthenticationLevel::Device, AuthenticationLevel::User, AuthenticationLevel::TwoFactor];

fn at(level: AuthenticationLevel, age_s: Option<u64>) -> Asked {
    let mut asked = Asked::new(&["doctor"], Action::Read, "clinical");
    asked.subject.authentication_level = level;
    asked.age_ns = age_s.map(|seconds| seconds * SECOND);
    asked
}

fn lacks(policies: &str, asked: &Asked) -> Option<StepUp> {
    decide(&load(policies), &mut cache(), asked).unwrap_err().step_up
}

#[test]
fn a_denial_says_what_would_do() {
    let needs = |level, max_age_s| Some(StepUp { level, max_age_s });
    let (device, user, two) = (LEVELS[0], LEVELS[1], LEVELS[2]);
    let level = "permit(principal, action, resource) when { context.authentication_level >= 3 };";
    assert_eq!(lacks(level, &at(device, None)), needs(two, None));
    assert_eq!(lacks(level, &at(user, Some(5))), needs(two, None));
    let fresh = "permit(principal, action, resource) when { context has authentication_age && \
                 context.authentication_age <= 300 };";
    assert_eq!(lacks(fresh, &at(user, Some(301))), needs(user, Some(300)));
    assert_eq!(lacks(fresh, &at(two, Some(301))), needs(two, Some(300)), "nobody is made weaker");
    assert_eq!(lacks(fresh, &at(device, None)), needs(user, Some(300)));
    let both = "permit(principal, action, resource) when { context.authentication_level == 3 && \
                context has authentication_age && context.authentication_age < 60 };";
    assert_eq!(lacks(both, &at(user, Some(1))), needs(two, Some(59)));
    assert_eq!(lacks(both, &at(two, Some(60))), needs(two, Some(59)));
    // A forbid may ask for it as well.
    let forbid = "permit(principal, action, resource);
                  forbid(principal, action, resource) unless { context has authentication_age && context.authentication_age < 10 };";
    assert_eq!(lacks(forbid, &at(user, Some(10))), needs(user, Some(9)));
}

/// Whoever is asked for a proof that cannot be fresh enough by the time it is looked at would be asked for ever.
#[test]
fn nobody_is_asked_for_a_proof_that_is_never_fresh_enough() {
    let fresh = |bound: &str| {
        let when = format!("context has authentication_age && context.authentication_age {bound}");
        lacks(&format!("permit(principal, action, resource) when {{ {when} }};"), &at(LEVELS[1], Some(5)))
    };
    for never in ["<= 0", "< 1", "== 0", "< 0"] {
        assert_eq!(fresh(never), None, "{never}");
    }
    for soon in ["<= 1", "< 2"] {
        assert_eq!(fresh(soon), Some(StepUp { level: LEVELS[1], max_age_s: Some(1) }), "{soon}");
    }
}

#[test]
fn what_no_login_mends_stays_as_it_is() {
    for denied in [
        "permit(principal in Sekisho::Role::\"nurse\", action, resource) when { context.authentication_level >= 2 };",
        "permit(principal, action, resource) when { context.authentication_level >= 2 }; forbid(principal, action, resource);",
        "permit(principal, action, resource) when { context.authentication_level > 3 };",
        // Errs: nothing else is looked at.
        "permit(principal, action, resource) when { context.authentication_level * 9223372036854775807 > 0 };",
    ] {
        assert_eq!(lacks(denied, &at(AuthenticationLevel::User, Some(1))), None, "{denied}");
    }
    let mut patient = at(AuthenticationLevel::User, None);
    patient.subject.party = super::patient(1, "a");
    patient.subject.roles.clear();
    let own = "@principal(\"patient\") permit(principal, action, resource) when { context.authentication_level >= 3 };";
    assert_eq!(lacks(own, &patient), None, "a patient has nothing to log in with");
}

#[test]
fn a_device_of_nobody_waits_for_its_user() {
    let mut asked = at(AuthenticationLevel::Device, None);
    asked.subject.roles.clear();
    asked.subject.party = at_device("sakura-clinic", "exam-1", None);
    let user = Some(StepUp { level: AuthenticationLevel::User, max_age_s: None });
    for (policy, expected) in [
        ("permit(principal in Sekisho::Role::\"doctor\", action, resource);", user),
        ("permit(principal == Sekisho::User::\"sakura-clinic/sato\", action, resource);", user),
        ("permit(principal is Sekisho::User, action, resource);", user),
        ("permit(principal == Sekisho::User::\"other/sato\", action, resource);", None),
        ("permit(principal == Sekisho::Device::\"sakura-clinic/exam-2\", action, resource);", None),
        ("permit(principal in Sekisho::Role::\"doctor\", action, resource in Sekisho::Service::\"x\");", None),
        (
            "permit(principal in Sekisho::Role::\"doctor\", action, resource); forbid(principal, action, resource);",
            None,
        ),
        ("forbid(principal in Sekisho::Role::\"doctor\", action, resource);", None),
    ] {
        assert_eq!(lacks(policy, &asked), expected, "{policy}");
    }
}

/// Acting for somebody gives nothing by itself, and a policy that permits it sees both.
#[test]
fn whoever_acts_for_another_has_no_more_than_before() {
    let mut asked = Asked::new(&["clerk"], Action::Read, "clinical");
    asked.subject.acting_for = Some(Arc::new(ActingFor {
        user: "ito".parse().unwrap(),
        roles: [("doctor".parse().unwrap())].into_iter().collect(),
        version: 9,
    }));
    let of_doctors = "permit(principal in Sekisho::Role::\"doctor\", action, resource);";
    assert!(decide(&load(of_doctors), &mut cache(), &asked).is_err());
    let on_behalf = "permit(principal in Sekisho::Role::\"clerk\", action, resource)
                     when { context has acting_for && context.acting_for in Sekisho::Role::\"doctor\" };";
    let (judge, mut cache) = (load(on_behalf), cache());
    for _ in 0..2 {
        let _ = decide(&judge, &mut cache, &asked).unwrap();
    }
    assert_eq!(cache.hits(), 1, "it may be found again");
    asked.subject.acting_for = None;
    assert!(decide(&judge, &mut cache, &asked).is_err(), "and not for whoever acts for nobody");
}

fn policies() -> impl Strategy<Value = String> {
    let condition = select(vec![
        "context.authentication_level >= 2",
        "context.authentication_level == 3",
        "context has authentication_age && context.authentication_age <= 300",
        "context has authentication_age && context.authentication_age < 60",
        "context has authentication_age && 10 > context.authentication_age",
        "context has acting_for",
        "principal in Sekisho::Role::\"doctor\"",
    ]);
    let policy = (select(vec!["permit", "permit", "forbid"]), select(vec!["when", "unless"]), condition);
    let text = |(effect, word, text)| format!("{effect}(principal, action, resource) {word} {{ {text} }};\n");
    prop::collection::vec(policy.prop_map(text), 1..5).prop_map(|policies| policies.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// As a session grows older, on one cache: a permit is given only at ages at which the policies permit without any cache, to
    /// the nanosecond; and what a denial asks for is permitted once it is proved, and for as long as it says.
    #[test]
    fn no_permit_outlives_its_age_and_what_is_asked_for_is_enough(
        policies in policies(),
        level in select(&LEVELS[..]),
        mut ages in prop::collection::vec((0u64..400, select(vec![0, 1, SECOND - 1])), 1..12),
    ) {
        ages.sort_unstable();
        let judge = load(&policies);
        let mut kept = cache();
        for (seconds, more) in ages {
            let mut asked = at(level, None);
            asked.age_ns = Some(seconds * SECOND + more);
            for _ in 0..2 {
                let decision = decide(&judge, &mut kept, &asked);
                let plain = decide(&judge, &mut DecisionCache::new(0, RandomState::new()), &asked);
                prop_assert_eq!(decision.is_ok(), plain.is_ok());
                let Err(Denial { step_up: Some(step_up), .. }) = decision else { continue };
                prop_assert!(step_up.level >= level);
                let mut proved = at(step_up.level, Some(step_up.max_age_s.unwrap_or(0)));
                prop_assert!(decide(&judge, &mut kept, &proved).is_ok(), "{:?}", step_up);
                proved.age_ns = Some(0);
                prop_assert!(decide(&judge, &mut kept, &proved).is_ok(), "{:?}", step_up);
            }
        }
    }

    /// The bound itself: not a nanosecond longer.
    #[test]
    fn a_bound_is_kept_to_the_nanosecond(bound in 1u64..100_000, over in 1u64..10_000_000_000, under in 0u64..10_000_000_000) {
        let judge = load(&format!(
            "permit(principal, action, resource) when {{ context has authentication_age && context.authentication_age <= {bound} }};"
        ));
        let mut kept = cache();
        let mut asked = at(AuthenticationLevel::User, None);
        asked.age_ns = Some((bound * SECOND).saturating_sub(under));
        prop_assert!(decide(&judge, &mut kept, &asked).is_ok());
        asked.age_ns = Some(bound * SECOND + over);
        prop_assert!(decide(&judge, &mut kept, &asked).is_err());
        asked.age_ns = None;
        prop_assert!(decide(&judge, &mut kept, &asked).is_err());
    }
}
