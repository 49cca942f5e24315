//! Who is at the other end of a connection, and by what that was proved.

use certs::{PeerIdentity, PeerRefused, VerifiedPeer};
use gateway_tunnel::{PeerName, PublicKey};
use policy::judge::Transport;
use policy::{DeviceId, Refusal};
use rustls::pki_types::CertificateDer;

use crate::config::{Asking, InsideTls, Listener};
use crate::snapshot::{Door, Snapshot};

/// A certificate that was presented, and whom it proves.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Who.
    pub peer: VerifiedPeer,
    /// It, and those that it presented with it, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
}

/// A peer that was proved by a certificate, by the key of the tunnel that it came out of, or by both.
#[derive(Debug, Clone)]
pub struct Peer {
    identity: PeerIdentity,
    shown: Option<Shown>,
    tunnel: Option<PublicKey>,
}

impl Peer {
    /// The peer that was proved by all that there is. A tunnel's key is asked of the registry here; a certificate was judged by
    /// its verifier.
    ///
    /// # Errors
    /// [`Refusal::CertificateMissing`] where there is neither; [`Refusal::TunnelIdentity`] where key and certificate are not the
    /// same device's; [`Refusal::TunnelKeyUnknown`] and what [`Directory::admit`](crate::registry::Directory::admit) refuses.
    pub(crate) fn new(
        tunnel: Option<&PeerName>,
        shown: Option<Shown>,
        snapshot: &Snapshot,
    ) -> Result<Self, PeerRefused> {
        let refused = |refusal, detail: String, device| PeerRefused { refusal, detail, device };
        let Some(name) = tunnel else {
            let nobody = || refused(Refusal::CertificateMissing, "the peer presented no certificate".to_owned(), None);
            let shown = shown.ok_or_else(nobody)?;
            return Ok(Self { identity: shown.peer.identity().clone(), shown: Some(shown), tunnel: None });
        };
        let device = DeviceId { site: name.site.clone(), device: name.device.clone() };
        let identity = PeerIdentity::Device(device.clone());
        if let Some(shown) = shown.as_ref().filter(|shown| *shown.peer.identity() != identity) {
            let other = shown.peer.device().map_or_else(|| "no device".to_owned(), ToString::to_string);
            let detail = format!("the certificate is of `{other}`, the tunnel's key of `{device}`");
            return Err(refused(Refusal::TunnelIdentity, detail, Some(device)));
        }
        let peer = Self { identity, shown, tunnel: Some(name.key) };
        match peer.admitted(snapshot) {
            Ok(()) => Ok(peer),
            Err(refusal) => Err(refused(refusal, String::new(), Some(device))),
        }
    }

    /// Who.
    #[must_use]
    pub const fn identity(&self) -> &PeerIdentity {
        &self.identity
    }

    /// The device, where it is one.
    #[must_use]
    pub const fn device(&self) -> Option<&DeviceId> {
        match &self.identity {
            PeerIdentity::Device(device) => Some(device),
            PeerIdentity::User { .. } | PeerIdentity::Patient(_) => None,
        }
    }

    /// SHA-256 of the certificate that it presented; none where a tunnel's key alone proves it.
    #[must_use]
    pub fn fingerprint(&self) -> Option<&[u8; 32]> {
        self.shown.as_ref().map(|shown| shown.peer.fingerprint())
    }

    /// The certificates that it presented, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        self.shown.as_ref().map(|shown| &shown.chain[..]).unwrap_or_default()
    }

    /// How it came, for policies.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        if self.tunnel.is_some() { Transport::WireGuard } else { Transport::Tls }
    }

    /// How it came, for records.
    #[must_use]
    pub const fn transport_label(&self) -> &'static str {
        if self.tunnel.is_some() { "wireguard" } else { "tcp" }
    }

    /// Judges it again: dates, what the registry says of it, and its chain where `new_trust` says that anchors or CRLs may have
    /// changed.
    ///
    /// # Errors
    /// What it would be refused with, did it come now.
    pub(crate) fn recheck(
        &self,
        door: &Door,
        snapshot: &Snapshot,
        new_trust: bool,
        unix_ns: i64,
    ) -> Result<(), Refusal> {
        if let Some(shown) = &self.shown {
            let seconds = u64::try_from(unix_ns / 1_000_000_000).unwrap_or(0);
            if seconds > shown.peer.not_after().as_secs() {
                return Err(Refusal::CertificateExpired);
            }
            // The listener may read certificates otherwise than it did.
            if new_trust && *door.tls.recheck(&shown.chain, unix_ns)?.identity() != self.identity {
                return Err(Refusal::CertificateIdentity);
            }
        }
        self.admitted(snapshot)
    }

    /// Whether it shows what the listener asks for by the configuration in force; `is_tls` says whether it came by TLS.
    ///
    /// # Errors
    /// [`Refusal::HandshakeFailed`] where TLS is required and it spoke none; [`Refusal::CertificateMissing`] where it showed no
    /// certificate and must.
    pub(crate) fn suits(&self, listener: &Listener, is_tls: bool) -> Result<(), Refusal> {
        if listener.speaks_tls() == InsideTls::Required && !is_tls {
            return Err(Refusal::HandshakeFailed);
        }
        match listener.client_certificates() {
            Asking::Required if self.shown.is_none() => Err(Refusal::CertificateMissing),
            Asking::Required | Asking::Optional | Asking::Off => Ok(()),
        }
    }

    /// Whether the registry takes it, with the key that it has.
    fn admitted(&self, snapshot: &Snapshot) -> Result<(), Refusal> {
        snapshot.directory.admit(&self.identity)?;
        match (&self.tunnel, self.device()) {
            (Some(key), Some(device)) if !has_tunnel_key(snapshot, key, device) => Err(Refusal::TunnelKeyUnknown),
            (Some(_) | None, _) => Ok(()),
        }
    }
}

fn has_tunnel_key(snapshot: &Snapshot, key: &PublicKey, device: &DeviceId) -> bool {
    let keys = snapshot.directory.tunnel_keys();
    let found = keys.binary_search_by(|known| known.public_key.cmp(key)).ok().and_then(|place| keys.get(place));
    found.is_some_and(|found| found.device == *device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(inside: &str, certificate: &str) -> Listener {
        let mut listener = crate::config::example_of_tunnels();
        let tunnels = listener.wireguard.as_mut().unwrap();
        tunnels.inside_tls = match inside {
            "required" => InsideTls::Required,
            "optional" => InsideTls::Optional,
            _ => InsideTls::Off,
        };
        tunnels.client_certificate = if certificate == "required" { Asking::Required } else { Asking::Optional };
        listener
    }

    #[test]
    fn a_listener_that_asks_for_more_keeps_nobody_who_shows_less() {
        let device = DeviceId { site: "aoi".parse().unwrap(), device: "ward-1".parse().unwrap() };
        let tunnel = Some(PublicKey([1; 32]));
        let peer = Peer { identity: PeerIdentity::Device(device), shown: None, tunnel };
        for (inside, certificate, is_tls, wanted) in [
            ("off", "optional", false, Ok(())),
            ("optional", "optional", false, Ok(())),
            ("optional", "optional", true, Ok(())),
            ("required", "optional", true, Ok(())),
            ("required", "optional", false, Err(Refusal::HandshakeFailed)),
            ("required", "required", true, Err(Refusal::CertificateMissing)),
        ] {
            let suits = peer.suits(&listener(inside, certificate), is_tls);
            assert_eq!(suits, wanted, "{inside} {certificate} {is_tls}");
        }
    }
}
