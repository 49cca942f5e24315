//! What listeners for patients and others share that the configuration's text does not show (R18): anchors in two files, and
//! servers under two names. The text itself is judged when it is read.

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs as _};

use policy::route::{Route, RouteTable};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::config::{Config, Listener, Service, is_for_patients};

/// What is shared. The message names both.
#[derive(Debug, thiserror::Error)]
pub enum NotApart {
    /// An authority.
    #[error(
        "listeners `{patients}` and `{other}` trust one authority, in two files; patients' access is cut off from everybody else's (`trust.patients_apart`)"
    )]
    Authority {
        /// The listener for patients.
        patients: String,
        /// The other.
        other: String,
    },
    /// A server.
    #[error(
        "services `{patients}`, for patients, and `{other}` have one server, `{server}`; patients' access is cut off from everybody else's (`trust.patients_apart`)"
    )]
    Server {
        /// The service for patients.
        patients: String,
        /// The other.
        other: String,
        /// Its address.
        server: SocketAddr,
    },
}

/// Refuses what is shared. Names that nobody can resolve at the moment are let be: whether they lead to one server, nobody knows.
///
/// # Errors
/// [`NotApart`].
pub(super) fn judge(config: &Config, routes: &RouteTable) -> Result<(), NotApart> {
    let (patients, others): (Vec<&Listener>, Vec<&Listener>) =
        config.listeners.iter().partition(|one| is_for_patients(one));
    if !config.patients_apart || patients.is_empty() || others.is_empty() {
        return Ok(());
    }
    for patients in &patients {
        let trusted = authorities(patients);
        if let Some(other) = others.iter().find(|other| !authorities(other).is_disjoint(&trusted)) {
            return Err(NotApart::Authority { patients: patients.name.clone(), other: other.name.clone() });
        }
    }
    let of = |listeners: &[&Listener]| -> Vec<&Service> {
        let is_at = |route: &Route| listeners.iter().any(|listener| route.is_at(config.place_of(listener)));
        let is_used = |service: &&Service| {
            routes.routes().any(|route| *route.service() == service.name && is_at(route)) || {
                let streams = listeners.iter().flat_map(|listener| &listener.streams);
                streams.map(|stream| &stream.service).any(|name| *name == service.name)
            }
        };
        config.services.iter().filter(is_used).collect()
    };
    let theirs: Vec<_> = of(&others).into_iter().map(|service| (service, addresses(service))).collect();
    for service in of(&patients) {
        let ours = addresses(service);
        for (other, theirs) in &theirs {
            if let Some(server) = ours.intersection(theirs).next() {
                let (patients, other) = (service.name.to_string(), other.name.to_string());
                return Err(NotApart::Server { patients, other, server: *server });
            }
        }
    }
    Ok(())
}

/// The certificates in a listener's file of anchors. One that cannot be read is refused by whoever needs it.
fn authorities(listener: &Listener) -> BTreeSet<Vec<u8>> {
    let Some(file) = &listener.tls.client_ca_file else { return BTreeSet::new() };
    let read = CertificateDer::pem_file_iter(file).ok();
    read.into_iter().flatten().filter_map(Result::ok).map(|certificate| certificate.as_ref().to_vec()).collect()
}

fn addresses(service: &Service) -> BTreeSet<SocketAddr> {
    let resolved = service.backends.iter().flat_map(|backend| match backend.address {
        Some(address) => vec![address],
        None => (backend.host.as_str(), backend.port).to_socket_addrs().map(Iterator::collect).unwrap_or_default(),
    });
    resolved.map(|address| SocketAddr::new(address.ip().to_canonical(), address.port())).collect()
}
