use policy::judge::{Context, DecisionCache, Judge, JudgeOptions, PolicySource, Request, TlsVersion, Transport};
use policy::route::{RouteDefinition, RouteTable};
use policy::target::CanonicalTarget;
use policy::{DeviceId, DeviceName, SiteName};

use super::*;
use crate::quickstart::layout::{Asked, prepare};
use crate::registry::directory::Directory;
use crate::store::Store;

#[derive(serde::Deserialize)]
struct Routes {
    route: Vec<RouteDefinition>,
}

/// The scenes again, with registry, routes and policies of a folder, but without a gateway.
#[tokio::test]
async fn what_a_scene_expects_is_what_registry_routes_and_policies_say() {
    let dir = tempfile::tempdir().unwrap();
    let free = Some("127.0.0.1:0".parse().unwrap());
    let layout = prepare(dir.path(), Asked { listen: free, admin: free }).unwrap();

    let store = Store::open_existing(dir.path().join("state/sekisho.db")).await.unwrap();
    let directory = Directory::build(&store.entries().await.unwrap());
    let text = std::fs::read_to_string(layout.configuration()).unwrap();
    let routes = RouteTable::new(toml::from_str::<Routes>(&text).unwrap().route).unwrap();
    let sources = ["limits.cedar", "roles.cedar"].map(|file| PolicySource {
        file: file.to_owned(),
        text: std::fs::read_to_string(dir.path().join("policy").join(file)).unwrap(),
    });
    let judge = Judge::load(sources.into(), JudgeOptions::default()).unwrap();
    let mut cache = DecisionCache::new(16, std::hash::RandomState::new());

    for scene in SCENES {
        let Some((site, device)) = scene.client else { continue };
        let id = DeviceId { site: SiteName::new(site).unwrap(), device: DeviceName::new(device).unwrap() };
        let subject = match (directory.lookup(&id), scene.expected) {
            (Ok(subject), Expected::Answer(_) | Expected::Denied(_)) => subject,
            (Err(seen), Expected::Alert(Refusal::DeviceUnregistered)) => {
                assert_eq!(seen, Refusal::DeviceUnregistered);
                continue;
            }
            (Err(_), Expected::Alert(Refusal::CertificateUntrusted)) => continue,
            (found, expected) => panic!("{}: {found:?}, not {expected:?}", scene.title),
        };
        let target = CanonicalTarget::parse(scene.target.as_bytes(), 16 * 1024).unwrap();
        let resolved = routes.resolve(policy::route::Place::default(), scene.method, &target).unwrap();
        let request = Request {
            action: resolved.action,
            service: resolved.route.service(),
            class: resolved.class,
            route: resolved.route.name(),
            context: Context {
                transport: Transport::Tls,
                tls_version: Some(TlsVersion::V1_3),
                source: [127, 0, 0, 1].into(),
                time: 0,
                authentication_age_ns: None,
                method: Some(scene.method),
                operation: None,
                resource_type: resolved.resource_type.as_deref(),
                patients: &(),
            },
        };
        let seen = judge.decide(&mut cache, &subject, &request).map_err(|denial| denial.reason);
        match (seen, scene.expected) {
            (Ok(_), Expected::Answer(_)) => {}
            (Err(seen), Expected::Denied(reason)) => assert_eq!(seen, reason, "{}", scene.title),
            (seen, expected) => panic!("{}: {seen:?}, not {expected:?}", scene.title),
        }
    }
}
