//! Permits for targets whose machines want them: of a judge that says yes to all.

use std::hash::RandomState;

use policy::judge::{Context, DecisionCache, JudgeOptions, PolicySource, Request, Transport};
use policy::{Action, AuthenticationLevel, DeviceId, EntityVersions, Judge, Party, Permit, Subject};

pub struct Permits {
    judge: Judge,
    cache: DecisionCache,
    subject: Subject,
}

impl Permits {
    pub fn new() -> Self {
        let source = PolicySource { file: "all.cedar".into(), text: "permit (principal, action, resource);".into() };
        let device = DeviceId { site: "sakura".parse().unwrap(), device: "ct-1".parse().unwrap() };
        Self {
            judge: Judge::load(vec![source], JudgeOptions::default()).unwrap(),
            cache: DecisionCache::new(64, RandomState::new()),
            subject: Subject {
                party: Party::Device { device, user: None },
                roles: Default::default(),
                authentication_level: AuthenticationLevel::Device,
                versions: EntityVersions { site: 1, device: 1, user: 0 },
                acting_for: None,
            },
        }
    }

    pub fn permit(&mut self, action: Action) -> Permit {
        let request = Request {
            action,
            service: &"pacs".parse().unwrap(),
            class: &"clinical".parse().unwrap(),
            route: &"dicom".parse().unwrap(),
            context: Context {
                transport: Transport::Tls,
                tls_version: None,
                source: [192, 0, 2, 1].into(),
                time: 0,
                authentication_age_ns: None,
                method: None,
                operation: None,
                resource_type: None,
                patients: &(),
            },
        };
        self.judge.decide(&mut self.cache, &self.subject, &request).unwrap()
    }
}
