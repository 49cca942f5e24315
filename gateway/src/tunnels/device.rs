//! What a device must know to come by a tunnel, as `wg-quick` reads it.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_tunnel::{Network, PublicKey};
use policy::DeviceId;
use zeroize::Zeroizing;

use super::key::{TunnelKeyError, load_or_create_key};
use crate::config::Config;
use crate::store::{Allotment, base64_text};

/// After how many seconds of silence a device sends something, so that a NAT keeps its address: the usual value (wg(8)).
const KEEPALIVE_S: u8 = 25;

/// What a device must know of a listener that tunnels end at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelListener {
    /// The listener's name.
    pub name: String,
    /// Host and port.
    pub endpoint: String,
    /// The gateway's key.
    pub public_key: PublicKey,
    /// The MTU inside, in bytes.
    pub mtu: u16,
    /// Whether DNS is answered inside.
    pub dns: bool,
    /// Out of what sites and devices get addresses, and the gateway's own.
    pub allotment: Allotment,
}

impl TunnelListener {
    /// The listeners of tunnels of a configuration. The gateway's key is made where there is none.
    ///
    /// # Errors
    /// If a key can be neither read nor made.
    pub fn of(config: &Config) -> Result<Vec<Self>, TunnelKeyError> {
        let with = config.listeners.iter().filter_map(|listener| Some((listener, listener.wireguard.as_ref()?)));
        with.map(|(listener, wireguard)| {
            Ok(Self {
                name: listener.name.clone(),
                endpoint: wireguard.endpoint.clone(),
                public_key: load_or_create_key(&wireguard.private_key_file)?.public(),
                mtu: wireguard.mtu,
                dns: wireguard.dns,
                allotment: Allotment {
                    ranges: wireguard.site_ranges.clone(),
                    prefix_v4: wireguard.site_prefix,
                    prefix_v6: wireguard.site_prefix_v6,
                    own: wireguard.inside.clone(),
                },
            })
        })
        .collect()
    }

    /// What `wg-quick` reads.
    ///
    /// # Errors
    /// [`NoAddress`].
    pub fn configuration(
        &self,
        addresses: &[Network],
        id: &DeviceId,
        private: Option<&[u8; 32]>,
        preshared: &[u8; 32],
    ) -> Result<Zeroizing<String>, NoAddress> {
        let has = |own: &&IpAddr| addresses.iter().any(|range| range.address().is_ipv4() == own.is_ipv4());
        let own: Vec<IpAddr> = self.allotment.own.iter().filter(has).copied().collect();
        if own.is_empty() {
            return Err(NoAddress(id.clone()));
        }
        let listed = |all: Vec<String>| all.join(", ");
        let private_line = match private {
            Some(key) => Zeroizing::new(format!("PrivateKey = {}", *base64(key))),
            None => Zeroizing::new("# PrivateKey = (the device's own; it never left the device)".to_owned()),
        };
        let dns = if self.dns {
            let own = listed(own.iter().map(ToString::to_string).collect());
            format!(
                "# Only the gateway's own names are answered here: without this line, others are found as before.\nDNS = {own}\n"
            )
        } else {
            String::new()
        };
        let mut text = Zeroizing::new(String::with_capacity(1024));
        text.push_str(&format!(
        "# Sekisho, listener {}: device {id}. The keys are shown this once; bring the file to the device and keep no copy.\n\
         [Interface]\n{}\nAddress = {}\nMTU = {}\n{dns}\n\
         [Peer]\nPublicKey = {}\nPresharedKey = {}\nEndpoint = {}\nAllowedIPs = {}\nPersistentKeepalive = {KEEPALIVE_S}\n",
        self.name,
        *private_line,
        listed(addresses.iter().map(ToString::to_string).collect()),
        self.mtu,
        base64_text(&self.public_key),
        *base64(preshared),
        self.endpoint,
        listed(own.iter().map(|own| Network::host(*own).to_string()).collect()),
    ));
        Ok(text)
    }
}

/// A device without an address of a version of IP that the gateway has inside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("device `{0}` has no address of the version of IP that the gateway's `inside` has")]
pub struct NoAddress(pub DeviceId);

fn base64(key: &[u8; 32]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(key))
}
