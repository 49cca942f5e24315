//! Tests of the judge as a whole.

mod audience;
mod cache;
mod example;
mod load;
mod property;
mod step_up;

use std::hash::RandomState;
use std::net::IpAddr;

use super::*;
use crate::{AuthenticationLevel, DeviceId, EntityVersions, InformationClass, Party, Patient, RouteName, ServiceName};

/// A request that owns its parts.
#[derive(Debug, Clone)]
struct Asked {
    subject: Subject,
    action: Action,
    service: ServiceName,
    class: InformationClass,
    route: RouteName,
    transport: Transport,
    tls_version: Option<TlsVersion>,
    source: IpAddr,
    time: i64,
    age_ns: Option<u64>,
    method: Option<String>,
    operation: Option<String>,
    resource_type: Option<String>,
    patients: Vec<String>,
}

impl Asked {
    /// A user with these roles at sakura-clinic/exam-1, over TLS 1.3.
    fn new(roles: &[&str], action: Action, class: &str) -> Self {
        let mut roles: SmallVec<[_; 4]> = roles.iter().map(|role| role.parse().unwrap()).collect();
        roles.sort();
        Self {
            subject: Subject {
                party: at_device("sakura-clinic", "exam-1", Some("sato")),
                roles,
                authentication_level: AuthenticationLevel::Device,
                versions: EntityVersions { site: 1, device: 2, user: 3 },
                acting_for: None,
            },
            action,
            service: "fhir".parse().unwrap(),
            class: class.parse().unwrap(),
            route: "fhir".parse().unwrap(),
            transport: Transport::Tls,
            tls_version: Some(TlsVersion::V1_3),
            source: "192.0.2.10".parse().unwrap(),
            // 1 April 2026, 10:00 in Japan, a Wednesday.
            time: 1_775_005_200_000_000_000,
            age_ns: None,
            method: None,
            operation: None,
            resource_type: None,
            patients: Vec::new(),
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            action: self.action,
            service: &self.service,
            class: &self.class,
            route: &self.route,
            context: Context {
                transport: self.transport,
                tls_version: self.tls_version,
                source: self.source,
                time: self.time,
                authentication_age_ns: self.age_ns,
                method: self.method.as_deref(),
                operation: self.operation.as_deref(),
                resource_type: self.resource_type.as_deref(),
                patients: &self.patients,
            },
        }
    }
}

fn at_device(site: &str, device: &str, user: Option<&str>) -> Party {
    let device = DeviceId { site: site.parse().unwrap(), device: device.parse().unwrap() };
    Party::Device { device, user: user.map(|user| user.parse().unwrap()) }
}

fn alone(site: &str, user: &str) -> Party {
    Party::User { site: site.parse().unwrap(), user: user.parse().unwrap() }
}

fn patient(issuer: u8, id: &str) -> Party {
    Party::Patient(Patient::new(&[issuer; 32], id).unwrap())
}

fn load(text: &str) -> Judge {
    let source = PolicySource { file: "test.cedar".into(), text: text.into() };
    Judge::load(vec![source], JudgeOptions::default()).unwrap()
}

fn cache() -> DecisionCache {
    DecisionCache::new(64, RandomState::new())
}

fn decide(judge: &Judge, cache: &mut DecisionCache, asked: &Asked) -> Result<Permit, Denial> {
    judge.decide(cache, &asked.subject, &asked.request())
}

fn names(policies: &[PolicyName]) -> Vec<&str> {
    policies.iter().map(PolicyName::as_str).collect()
}

#[test]
fn without_policies_everything_is_denied() {
    let judge = Judge::load(Vec::new(), JudgeOptions::default()).unwrap();
    assert!(judge.is_empty());
    for action in Action::ALL {
        let denial = decide(&judge, &mut cache(), &Asked::new(&["doctor"], action, "clinical")).unwrap_err();
        assert_eq!(
            denial,
            Denial { reason: Refusal::PolicyNoPermit, policies: Arc::from([]), cached: false, step_up: None }
        );
    }
}

#[test]
fn forbid_outweighs_permit_and_an_error_outweighs_both() {
    let permit = "@id(\"p\") permit(principal, action, resource);";
    let forbid = "@id(\"f\") forbid(principal, action, resource) when { context.hour == 10 };";
    let error = "@id(\"e\") permit(principal, action, resource) when { context.hour * 9223372036854775807 > 0 };";
    let unguarded = "@id(\"never\") forbid(principal, action == Sekisho::Action::\"delete\", resource) \
                     when { context.hour * 9223372036854775807 > 0 };";
    let asked = Asked::new(&[], Action::Read, "clinical");
    let judge = load(&[permit, unguarded].concat());
    assert_eq!(names(decide(&judge, &mut cache(), &asked).unwrap().policies()), ["p"]);
    let denial = decide(&load(&[permit, forbid].concat()), &mut cache(), &asked).unwrap_err();
    assert_eq!((denial.reason, names(&denial.policies)), (Refusal::PolicyForbid, vec!["f"]));
    for set in [[permit, error].concat(), [permit, forbid, error].concat(), error.to_owned()] {
        let denial = decide(&load(&set), &mut cache(), &asked).unwrap_err();
        assert_eq!((denial.reason, names(&denial.policies)), (Refusal::PolicyError, vec!["e"]));
    }
}

#[test]
fn an_explanation_says_what_was_missing() {
    let judge = load(
        "@id(\"a\") permit(principal in Sekisho::Role::\"doctor\", action == Sekisho::Action::\"read\", \
         resource in Sekisho::InformationClass::\"clinical\") \
         when { context.authentication_level >= 2 && context.transport == \"tls\" } unless { context.source.isLoopback() };",
    );
    let mut asked = Asked::new(&["nurse"], Action::Delete, "medication");
    asked.source = "127.0.0.1".parse().unwrap();
    let explanation = judge.explain(&asked.subject, &asked.request());
    assert_eq!(explanation.refusal, Some(Refusal::PolicyNoPermit));
    let Outcome::Missing(missing) = &explanation.findings[0].outcome else { panic!("{explanation}") };
    assert_eq!(
        missing,
        &[
            Missing::Principal("principal in Sekisho::Role::\"doctor\"".into()),
            Missing::Action("action == Sekisho::Action::\"read\"".into()),
            Missing::Resource("resource in Sekisho::InformationClass::\"clinical\"".into()),
            Missing::When("context.authentication_level >= 2".into()),
            Missing::Unless("context.source.isLoopback()".into()),
        ],
        "{explanation}"
    );
    let mut asked = Asked::new(&["doctor"], Action::Read, "clinical");
    asked.subject.authentication_level = AuthenticationLevel::User;
    let explanation = judge.explain(&asked.subject, &asked.request());
    assert_eq!((explanation.refusal, names(&explanation.policies)), (None, vec!["a"]));
    assert_eq!(explanation.findings[0].outcome, Outcome::Satisfied);
}
