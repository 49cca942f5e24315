//! Which changes a reload takes, and which only a restart.

use super::{Config, Listener};

impl Config {
    /// Whether users log in to the gateway itself anywhere.
    #[must_use]
    pub fn has_login_page(&self) -> bool {
        self.listeners.iter().any(|listener| listener.login_page)
    }

    /// The keys that differ between this configuration and `new` and cannot change while the gateway runs: sockets are
    /// bound, the audit log has its writer, threads are started. A reload that would change one is refused whole, so
    /// that a running gateway never is half of each.
    ///
    /// Everything else (TLS, server names, limits, services, routes, policies' folder, clock, drain time) is taken.
    #[must_use]
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let sockets = |listeners: &[Listener]| {
            let mut sockets: Vec<_> =
                listeners.iter().map(|listener| (listener.name.clone(), listener.address)).collect();
            sockets.sort();
            sockets
        };
        // A socket on UDP, and what workers share of it.
        let quic = |listeners: &[Listener]| {
            let mut quic: Vec<_> =
                listeners.iter().filter(|listener| listener.http3).map(|one| one.name.clone()).collect();
            quic.sort();
            quic
        };
        // Stacks and keys are made for tunnels at the start; what is asked of those inside is read for each.
        let tunnels = |listeners: &[Listener]| {
            let mut tunnels: Vec<_> = listeners
                .iter()
                .filter_map(|listener| {
                    let tunnels = listener.wireguard.as_ref()?;
                    let names = tunnels.dns.then(|| listener.server_names.clone());
                    let inside = (tunnels.inside.clone(), tunnels.ports.clone(), tunnels.mtu, names);
                    Some((listener.name.clone(), tunnels.private_key_file.clone(), inside))
                })
                .collect();
            tunnels.sort();
            tunnels
        };
        let changes = [
            ("node.name", self.node != new.node),
            ("trust.domain", self.trust_domain != new.trust_domain),
            ("store.file", self.store != new.store),
            ("audit", self.audit != new.audit),
            ("identity.key_file", self.identity.key_file != new.identity.key_file),
            ("identity.jwks_listen", self.identity.jwks_listen != new.identity.jwks_listen),
            ("admin", self.admin != new.admin),
            ("enrolment", self.enrolment != new.enrolment),
            ("session.key_file", self.session.key_file != new.session.key_file),
            ("acme", self.acme.is_some() != new.acme.is_some()),
            ("listener.login_page", self.has_login_page() != new.has_login_page()),
            ("back_channel", self.back_channel != new.back_channel),
            ("account", self.account != new.account),
            ("log", self.log != new.log),
            ("workers.count", self.workers != new.workers),
            ("listener.wireguard", tunnels(&self.listeners) != tunnels(&new.listeners)),
            ("listener.http3", quic(&self.listeners) != quic(&new.listeners)),
            ("listener.address", sockets(&self.listeners) != sockets(&new.listeners)),
        ];
        changes.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
    }
}
