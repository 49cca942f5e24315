//! Sliced and cached decisions against Cedar's own authorizer over the whole policy set and all entities.

use std::collections::BTreeSet;

use cedar_policy::{Context as CedarContext, Decision, Entities, EntityUid, Request as CedarRequest};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::*;
use crate::ActingFor;

const ROLES: [&str; 3] = ["doctor", "nurse", "kiosk"];
const SITES: [&str; 2] = ["s1", "s2"];
const NAMES: [&str; 2] = ["a", "b"];

fn principal() -> impl Strategy<Value = &'static str> {
    select(vec![
        "principal",
        "principal",
        r#"principal in Sekisho::Role::"doctor""#,
        r#"principal in Sekisho::Role::"nurse""#,
        r#"principal in Sekisho::Site::"s1""#,
        r#"principal == Sekisho::User::"s1/a""#,
        r#"principal == Sekisho::Device::"s2/b""#,
        r#"principal in Sekisho::User::"s2/b""#,
        r#"principal in Sekisho::Device::"s1/a""#,
        "principal is Sekisho::User",
        "principal is Sekisho::Device",
        "principal is Sekisho::Patient",
        r#"principal == Sekisho::Patient::"01010101010101010101010101010101/a""#,
        r#"principal is Sekisho::User in Sekisho::Role::"kiosk""#,
        r#"principal is Sekisho::Device in Sekisho::Site::"s2""#,
    ])
}

fn action() -> impl Strategy<Value = &'static str> {
    select(vec![
        "action",
        "action",
        r#"action == Sekisho::Action::"read""#,
        r#"action in [Sekisho::Action::"read", Sekisho::Action::"search"]"#,
        r#"action in Sekisho::Action::"delete""#,
    ])
}

fn resource() -> impl Strategy<Value = &'static str> {
    select(vec![
        "resource",
        "resource",
        r#"resource in Sekisho::InformationClass::"c1""#,
        r#"resource in Sekisho::Service::"x""#,
        r#"resource == Sekisho::Route::"r1""#,
        r#"resource in Sekisho::Route::"r2""#,
        "resource is Sekisho::Route",
        r#"resource is Sekisho::Route in Sekisho::InformationClass::"c2""#,
    ])
}

/// Valid for every audience.
const CONDITIONS: &[&str] = &[
    "context.hour < 12",
    "context.weekday == 3",
    r#"context.time < datetime("2026-04-01T06:00:00Z")"#,
    r#"context.time.toTime() > duration("1h")"#,
    r#"context.patients.contains("Patient/1")"#,
    "context.patients.isEmpty()",
    r#"context.source.isInRange(ip("192.0.2.0/24"))"#,
    "context.source.isIpv6()",
    r#"context.transport == "tls""#,
    r#"context has tls_version && context.tls_version == "1.3""#,
    "context has operation",
    r#"context has resource_type && context.resource_type like "Pat*""#,
    r#"context has method && context.method == "GET""#,
    "context.authentication_level >= 2",
    "context has authentication_age && context.authentication_age <= 300",
    "context has authentication_age && context.authentication_level == 3 && context.authentication_age < 60",
    "context has acting_for",
    r#"context has acting_for && context.acting_for in Sekisho::Role::"doctor""#,
    r#"context has acting_for && context.acting_for == Sekisho::User::"s1/b""#,
    r#"context has acting_for && context.acting_for.name == "a""#,
    r#"Sekisho::User::"s1/a" in Sekisho::Role::"nurse""#,
    "context has device",
    "context has site && principal in context.site",
    r#"context has device && context.device in Sekisho::Role::"nurse""#,
    r#"context has device && Sekisho::Device::"s1/a" == context.device"#,
    // Errs where that is not the request's patient.
    r#"Sekisho::Patient::"01010101010101010101010101010101/a".id == "a""#,
    r#"resource.service == Sekisho::Service::"y" || resource.name like "r*""#,
    r#"if context.authentication_level == 1 then principal in Sekisho::Role::"doctor" else true"#,
    r#"Sekisho::Device::"s1/a" in Sekisho::Role::"nurse""#,
    r#"resource in [Sekisho::Service::"x", Sekisho::Service::"z"]"#,
    // Errs where that is not the request's device or user.
    r#"Sekisho::Device::"s1/a".name == "a""#,
    // These err: some in what may be cached, some in what may not, some only for some requests.
    "context.authentication_level * 9223372036854775807 > 0",
    "context.hour * 9223372036854775807 > 0",
    r#"context.transport == "quic" && context.authentication_level * 9223372036854775807 > 0"#,
];

/// Of a device or a user: what has a site.
const OF_MEMBERS: &[&str] = &[
    "principal in context.site",
    r#"principal.site == Sekisho::Site::"s1""#,
    r#"Sekisho::User::"s2/b".site == context.site"#,
];

const OF_DEVICES: &[&str] = &[
    r#"context.device in Sekisho::Role::"nurse""#,
    r#"context.device.name == "a""#,
    r#"Sekisho::Device::"s1/a" == context.device"#,
    r#"[Sekisho::Device::"s1/a", Sekisho::Device::"s2/b"].contains(context.device)"#,
];

const OF_PATIENTS: &[&str] =
    &[r#"principal.id == "a""#, r#"principal.issuer like "01*""#, "context.patients == [principal.id]"];

fn condition(more: &[&[&'static str]]) -> impl Strategy<Value = &'static str> + use<> {
    select(CONDITIONS.iter().chain(more.iter().copied().flatten()).copied().collect::<Vec<_>>())
}

fn policy() -> impl Strategy<Value = String> {
    let of = |head: &'static str, more: &[&[&'static str]]| {
        let clauses = prop::collection::vec((select(vec!["when", "unless"]), condition(more)), 0..3);
        (Just(head), principal(), action(), resource(), clauses)
    };
    let parts = prop_oneof![
        3 => of("permit", &[OF_MEMBERS, OF_DEVICES]),
        2 => of("@device(\"none\") permit", &[OF_MEMBERS]),
        2 => of("@principal(\"patient\") permit", &[OF_PATIENTS]),
        2 => of("forbid", &[]),
    ];
    parts.prop_map(|(head, principal, action, resource, clauses)| {
        let clauses: String = clauses.iter().map(|(word, text)| format!(" {word} {{ {text} }}")).collect();
        format!("{head}({principal}, {action}, {resource}){clauses};\n")
    })
}

fn party() -> impl Strategy<Value = Party> {
    let names = || select(&NAMES[..]);
    prop_oneof![
        2 => (select(&SITES[..]), names(), prop::option::of(names())).prop_map(|(s, d, u)| at_device(s, d, u)),
        1 => (select(&SITES[..]), names()).prop_map(|(s, u)| alone(s, u)),
        1 => (1u8..3, names()).prop_map(|(issuer, id)| patient(issuer, id)),
    ]
}

fn asked() -> impl Strategy<Value = Asked> {
    let subject = (party(), 0u64..8, 1u8..=3, prop::option::of((select(&NAMES[..]), 0u64..8)));
    let target = (select(vec![Action::Read, Action::Search, Action::Delete]), 0usize..2, 0usize..2, 0usize..2);
    let way = (
        select(&Transport::ALL[..]),
        select(vec![None, Some(TlsVersion::V1_2), Some(TlsVersion::V1_3)]),
        select(vec!["192.0.2.1", "::ffff:192.0.2.1", "203.0.113.1", "2001:db8::1"]),
        // Around noon and midnight of a Tuesday to Thursday.
        0i64..16,
        prop::option::of(select(vec![
            0,
            1,
            59_000_000_000,
            60_000_000_000,
            299_000_000_001,
            300_000_000_000,
            300_000_000_001,
        ])),
    );
    let content = (
        prop::option::of(select(vec!["GET", "POST"])),
        prop::option::of(Just("$everything")),
        prop::option::of(select(vec!["Patient", "Observation"])),
        prop::collection::vec(select(vec!["Patient/1", "Patient/2", "a"]), 0..3),
    );
    (subject, target, way, content).prop_map(|(subject, target, way, content)| {
        let (party, bits, level, acting_for) = subject;
        let roles_of =
            |bits: u64| (0..3).filter(|bit| bits >> bit & 1 == 1).map(|bit| ROLES[bit]).collect::<Vec<&str>>();
        let roles = roles_of(bits);
        let mut asked = Asked::new(&roles, target.0, ["c1", "c2"][target.1]);
        asked.subject.authentication_level = match level {
            1 => AuthenticationLevel::Device,
            2 => AuthenticationLevel::User,
            _ => AuthenticationLevel::TwoFactor,
        };
        // As the registry does it: other roles, other versions.
        asked.subject.versions = match &party {
            Party::Device { user, .. } => {
                EntityVersions { site: 1, device: bits, user: user.as_ref().map_or(0, |_| bits + 1) }
            }
            Party::User { .. } => EntityVersions { site: 1, device: 0, user: bits + 1 },
            Party::Patient(_) => EntityVersions::default(),
        };
        if party.patient().is_some() {
            asked.subject.roles.clear();
        }
        asked.subject.acting_for = acting_for
            .filter(|(other, _)| party.user().is_some_and(|user| user.as_str() != *other))
            .map(|(user, bits)| {
                let mut roles: SmallVec<[_; 4]> = roles_of(bits).iter().map(|role| role.parse().unwrap()).collect();
                roles.sort();
                Arc::new(ActingFor { user: user.parse().unwrap(), roles, version: bits })
            });
        asked.subject.party = party;
        asked.service = ["x", "y"][target.2].parse().unwrap();
        asked.route = ["r1", "r2"][target.3].parse().unwrap();
        asked.transport = way.0;
        asked.tls_version = way.1;
        asked.source = way.2.parse().unwrap();
        asked.time = 1_774_882_800_000_000_000 + way.3 * 3 * 3_600_000_000_000;
        asked.age_ns = way.4;
        asked.method = content.0.map(str::to_owned);
        asked.operation = content.1.map(str::to_owned);
        asked.resource_type = content.2.map(str::to_owned);
        asked.patients = content.3.into_iter().map(str::to_owned).collect();
        asked
    })
}

fn entity(kind: &str, id: &str) -> Value {
    json!({"type": format!("Sekisho::{kind}"), "id": id})
}

fn reference(kind: &str, id: &str) -> Value {
    json!({"__entity": entity(kind, id)})
}

fn uid(kind: &str, id: &str) -> EntityUid {
    format!("Sekisho::{kind}::{id:?}").parse().unwrap()
}

/// All entities there are: every site, role, service and class, and the parties of the request, checked by the schema.
fn all_entities(judge: &Judge, asked: &Asked) -> Entities {
    let plain = |kind: &str, id: &str| json!({"uid": entity(kind, id), "attrs": {}, "parents": []});
    let mut entities: Vec<Value> = Vec::new();
    entities.extend(SITES.iter().map(|id| plain("Site", id)));
    entities.extend(ROLES.iter().map(|id| plain("Role", id)));
    entities.extend(["x", "y"].iter().map(|id| plain("Service", id)));
    entities.extend(["c1", "c2"].iter().map(|id| plain("InformationClass", id)));
    let site = asked.subject.site().map_or("", |site| site.as_str());
    let mut parents: Vec<Value> = asked.subject.roles.iter().map(|role| entity("Role", role.as_str())).collect();
    parents.push(entity("Site", site));
    if let Some(patient) = asked.subject.patient() {
        entities.push(json!({
            "uid": entity("Patient", &patient.to_string()),
            "attrs": {"id": patient.id(), "issuer": patient.issuer()},
            "parents": [],
        }));
    }
    let mut party = |kind: &str, name: &str, parents: &[Value]| {
        entities.push(json!({
            "uid": entity(kind, &format!("{site}/{name}")),
            "attrs": {"name": name, "site": reference("Site", site)},
            "parents": parents,
        }));
    };
    if let Some(device) = asked.subject.device() {
        party("Device", device.device.as_str(), &parents);
    }
    if let Some(user) = asked.subject.user() {
        party("User", user.as_str(), &parents);
    }
    if let Some(acting_for) = &asked.subject.acting_for {
        let mut parents: Vec<Value> = acting_for.roles.iter().map(|role| entity("Role", role.as_str())).collect();
        parents.push(entity("Site", site));
        party("User", acting_for.user.as_str(), &parents);
    }
    let (service, class) = (asked.service.as_str(), asked.class.as_str());
    entities.push(json!({
        "uid": entity("Route", asked.route.as_str()),
        "attrs": {
            "name": asked.route, "service": reference("Service", service), "class": reference("InformationClass", class),
        },
        "parents": [entity("Service", service), entity("InformationClass", class)],
    }));
    Entities::from_json_value(Value::Array(entities), Some(judge.vocabulary.schema_for(Audience::Everybody))).unwrap()
}

/// Whether the policy is for the subject at all, by its text.
fn is_for(policy: &cedar_policy::Policy, subject: &Subject) -> bool {
    if policy.effect() == Effect::Forbid {
        return true;
    }
    let is_patients = policy.annotation("principal") == Some("patient");
    let needs_no_device = policy.annotation("device") == Some("none");
    if subject.patient().is_some() {
        is_patients
    } else {
        !is_patients && (needs_no_device || subject.device().is_some())
    }
}

/// What Cedar says of the whole set: the refusal, if any, and the policies.
fn plainly(judge: &Judge, asked: &Asked) -> (Option<Refusal>, BTreeSet<String>) {
    let site = asked.subject.site().map_or("", |site| site.as_str());
    let civil = super::super::civil::Civil::at(asked.time, 540);
    let mut context = json!({
        "transport": asked.transport.label(),
        "source": {"__extn": {"fn": "ip", "arg": asked.source.to_canonical().to_string()}},
        "time": {"__extn": {"fn": "datetime", "arg": super::super::civil::Civil::at(asked.time, 0).cedar()}},
        "hour": civil.hour,
        "weekday": civil.weekday,
        "authentication_level": asked.subject.authentication_level.level(),
        "patients": asked.patients,
    });
    let optional = [
        ("tls_version", asked.tls_version.map(|version| version.label().to_owned())),
        ("method", asked.method.clone()),
        ("operation", asked.operation.clone()),
        ("resource_type", asked.resource_type.clone()),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            context[key] = json!(value);
        }
    }
    if let Some(age_ns) = asked.age_ns {
        context["authentication_age"] = json!(age_ns.div_ceil(1_000_000_000));
    }
    if let Some(acting_for) = &asked.subject.acting_for {
        context["acting_for"] = reference("User", &format!("{site}/{}", acting_for.user));
    }
    if let Some(device) = asked.subject.device() {
        context["device"] = reference("Device", &format!("{site}/{}", device.device));
    }
    if asked.subject.site().is_some() {
        context["site"] = reference("Site", site);
    }
    let schema = judge.vocabulary.schema_for(Audience::Everybody);
    let action = uid("Action", asked.action.label());
    let context = CedarContext::from_json_value(context, Some((schema, &action))).unwrap();
    let principal = match (asked.subject.patient(), asked.subject.user(), asked.subject.device()) {
        (Some(patient), ..) => uid("Patient", &patient.to_string()),
        (None, Some(user), _) => uid("User", &format!("{site}/{user}")),
        (None, None, device) => uid("Device", &format!("{site}/{}", device.unwrap().device)),
    };
    let request =
        CedarRequest::new(principal, action, uid("Route", asked.route.as_str()), context, Some(schema)).unwrap();
    let all = judge.rules.iter().flat_map(|rule| rule.alone.policies());
    let whole = PolicySet::from_policies(all.filter(|policy| is_for(policy, &asked.subject)).cloned()).unwrap();
    let response = Authorizer::new().is_authorized(&request, &whole, &all_entities(judge, asked));
    let errors: BTreeSet<String> = response
        .diagnostics()
        .errors()
        .map(|error| match error {
            cedar_policy::AuthorizationError::PolicyEvaluationError(error) => error.policy_id().to_string(),
        })
        .collect();
    if !errors.is_empty() {
        return (Some(Refusal::PolicyError), errors);
    }
    let reasons: BTreeSet<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    match (response.decision(), reasons.is_empty()) {
        (Decision::Allow, _) => (None, reasons),
        (Decision::Deny, true) => (Some(Refusal::PolicyNoPermit), reasons),
        (Decision::Deny, false) => (Some(Refusal::PolicyForbid), reasons),
    }
}

fn ours(decision: &Result<Permit, Denial>) -> (Option<Refusal>, BTreeSet<String>) {
    let (refusal, policies) = match decision {
        Ok(permit) => (None, permit.policies()),
        Err(denial) => (Some(denial.reason), &denial.policies),
    };
    (refusal, policies.iter().map(ToString::to_string).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// Two policy sets take turns on one cache, small enough to evict, over requests that come again.
    #[test]
    fn slices_and_cache_change_no_decision(
        sets in prop::array::uniform2(prop::collection::vec(policy(), 0..7)),
        asked in prop::collection::vec(asked(), 1..6),
        order in prop::collection::vec((0usize..2, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..24),
        capacity in select(vec![0usize, 64]),
    ) {
        let judges = sets.map(|policies| load(&policies.concat()));
        let mut cache = DecisionCache::new(capacity, RandomState::new());
        for (judge, base, donor) in order {
            let judge = &judges[judge];
            let mut asked_now = asked[base.index(asked.len())].clone();
            let donor = &asked[donor.index(asked.len())];
            // The same parties, in other circumstances: what a wrong key would confuse.
            asked_now.transport = donor.transport;
            asked_now.tls_version = donor.tls_version;
            asked_now.source = donor.source;
            asked_now.time = donor.time;
            asked_now.age_ns = donor.age_ns;
            asked_now.patients.clone_from(&donor.patients);
            asked_now.resource_type.clone_from(&donor.resource_type);
            for _ in 0..2 {
                let decision = decide(judge, &mut cache, &asked_now);
                prop_assert_eq!(ours(&decision), plainly(judge, &asked_now), "{:?}", asked_now);
            }
            let explanation = judge.explain(&asked_now.subject, &asked_now.request());
            prop_assert_eq!(explanation.refusal, plainly(judge, &asked_now).0);
            prop_assert!(cache.len() <= cache.capacity());
        }
    }
}
