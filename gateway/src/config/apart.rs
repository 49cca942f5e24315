//! Patients' access is cut off from the clinics' own (R18): what listeners for patients and others may not share.
//!
//! Policies are apart by themselves: a `permit` is for patients alone or not for them at all. What else there is, is judged here as far
//! as the file says it; which certificates the anchors are and where names lead is judged when they are loaded.

use std::collections::BTreeSet;

use policy::route::RouteDefinition;

use super::document::quoted;
use super::table::Table;
use super::{Backend, Listener, ListenerPeers, Service};

/// For whom a route or a service is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct For {
    patients: bool,
    others: bool,
}

impl For {
    const fn both(self) -> bool {
        self.patients && self.others
    }
}

const WHY: &str = "patients' access is cut off from everybody else's (`trust.patients_apart`)";

/// Notes what they share.
pub(super) fn judge(file: &Table<'_>, listeners: &[Listener], services: &[Service], routes: &[RouteDefinition]) {
    let (patients, others): (Vec<_>, Vec<_>) = listeners.iter().enumerate().partition(|(_, one)| is_for_patients(one));
    if patients.is_empty() || others.is_empty() {
        return;
    }
    for (place, listener) in &patients {
        let shared = others.iter().find(|(_, other)| {
            other.tls.client_ca_file.is_some() && other.tls.client_ca_file == listener.tls.client_ca_file
        });
        if let Some((_, other)) = shared {
            let key = format!("listener[{place}].tls.client_ca_file");
            let other = quoted(&other.name);
            file.problem_at(&key, format!("{} is also that of listener {other}; {WHY}", quoted(&key)));
        }
    }
    let reach = |route: &RouteDefinition| {
        let named = route.listeners.as_ref();
        For {
            // Only what names it is at a listener for patients.
            patients: named.is_some_and(|names| patients.iter().any(|(_, one)| names.contains(&one.name))),
            others: named.is_none_or(|names| others.iter().any(|(_, one)| names.contains(&one.name))),
        }
    };
    for (place, route) in routes.iter().enumerate().filter(|(_, route)| reach(route).both()) {
        let (key, name) = (format!("route[{place}].listeners"), quoted(route.name.as_str()));
        file.problem_at(&key, format!("route {name} is at listeners for patients and at others; {WHY}"));
    }
    let whose = |service: &Service| {
        let of = routes.iter().filter(|route| route.service == service.name).map(reach);
        of.fold(For::default(), |all, one| For {
            patients: all.patients || one.patients,
            others: all.others || one.others,
        })
    };
    for (place, service) in services.iter().enumerate().filter(|(_, service)| whose(service).both()) {
        // A route that is for both is told already.
        if !routes.iter().any(|route| route.service == service.name && reach(route).both()) {
            let key = format!("service[{place}].name");
            let name = quoted(service.name.as_str());
            file.problem_at(&key, format!("service {name} has routes for patients and for others; {WHY}"));
        }
    }
    for (place, service) in services.iter().enumerate().filter(|(_, service)| whose(service).patients) {
        for other in services.iter().filter(|other| whose(other).others && other.name != service.name) {
            for (index, backend) in service.backends.iter().enumerate() {
                if other.backends.iter().any(|theirs| is_same(backend, theirs)) {
                    let key = format!("service[{place}].backends[{index}]");
                    let (authority, name) = (quoted(&backend.authority), quoted(other.name.as_str()));
                    file.problem_at(&key, format!("{authority} is also a server of service {name}; {WHY}"));
                }
            }
        }
    }
}

pub(crate) const fn is_for_patients(listener: &Listener) -> bool {
    matches!(listener.tls.peers, ListenerPeers::Patients(_))
}

/// Whether two servers are one, as far as their text says: every address of the loopback is this machine.
fn is_same(one: &Backend, other: &Backend) -> bool {
    let names = |backend: &Backend| -> BTreeSet<String> {
        let is_loopback = backend.host == "localhost"
            || backend.address.is_some_and(|address| {
                let ip = address.ip().to_canonical();
                ip.is_unspecified() || ip == std::net::Ipv4Addr::LOCALHOST || ip == std::net::Ipv6Addr::LOCALHOST
            });
        let canonical = backend.address.map(|address| address.ip().to_canonical().to_string());
        let loopback = is_loopback.then(|| "localhost".to_owned());
        [Some(backend.host.clone()), canonical, loopback].into_iter().flatten().collect()
    };
    one.port == other.port && !names(one).is_disjoint(&names(other))
}
