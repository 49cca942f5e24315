//! Permits for tests: a judge that says yes to all.

use std::hash::RandomState;

use policy::judge::{Context, DecisionCache, JudgeOptions, PolicySource, Request, TlsVersion, Transport};
use policy::{Action, AuthenticationLevel, DeviceId, EntityVersions, Judge, Party, Permit, Subject};

/// A permit for this action.
pub(crate) fn permit(action: Action) -> Permit {
    thread_local! {
        static JUDGE: Judge = Judge::load(
            vec![PolicySource { file: "all.cedar".into(), text: "permit (principal, action, resource);".into() }],
            JudgeOptions::default(),
        )
        .unwrap();
    }
    let device = DeviceId { site: "sakura".parse().unwrap(), device: "ct-1".parse().unwrap() };
    let subject = Subject {
        party: Party::Device { device, user: None },
        roles: Default::default(),
        authentication_level: AuthenticationLevel::Device,
        versions: EntityVersions { site: 1, device: 1, user: 0 },
        acting_for: None,
    };
    let request = Request {
        action,
        service: &"pacs".parse().unwrap(),
        class: &"clinical".parse().unwrap(),
        route: &"dicom".parse().unwrap(),
        context: Context {
            transport: Transport::Tls,
            tls_version: Some(TlsVersion::V1_2),
            source: "192.0.2.1".parse().unwrap(),
            time: 0,
            authentication_age_ns: None,
            method: None,
            operation: None,
            resource_type: None,
            patients: &(),
        },
    };
    JUDGE.with(|judge| judge.decide(&mut DecisionCache::new(4, RandomState::new()), &subject, &request)).unwrap()
}
