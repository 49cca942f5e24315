//! Keys of tunnels.

use std::sync::Arc;

use gateway_tunnel::{Network, PresharedKey, PublicKey};
use policy::DeviceId;

use super::Directory;
use crate::store::{Entries, Preshared};

/// A device that comes by WireGuard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelKey {
    /// The device.
    pub device: DeviceId,
    /// The key it is known by.
    pub public_key: PublicKey,
    /// A key that it shares with the gateway beside.
    pub preshared_key: Option<PresharedKey>,
    /// Its inner addresses.
    pub networks: Box<[Network]>,
}

impl Directory {
    /// Keys of devices that [`lookup`](Self::lookup) lets in, ordered by key.
    #[must_use]
    pub fn tunnel_keys(&self) -> &Arc<[TunnelKey]> {
        &self.tunnel_keys
    }

    /// Keys that are left out because their preshared key cannot be opened: the file that it is sealed under is gone or another's.
    #[must_use]
    pub const fn unreadable_tunnel_keys(&self) -> u64 {
        self.unreadable_tunnel_keys
    }
}

/// The keys that count, and how many cannot be read.
pub(super) fn keys(directory: &Directory, entries: &Entries) -> (Arc<[TunnelKey]>, u64) {
    let mut unreadable = 0_u64;
    let mut keys: Vec<TunnelKey> = Vec::new();
    for opened in &entries.wireguard_keys {
        let preshared_key = match &opened.preshared_key {
            Preshared::None => None,
            Preshared::Opened(key) => Some(key.clone()),
            Preshared::Unreadable => {
                unreadable = unreadable.saturating_add(1);
                continue;
            }
        };
        let device = opened.key.id();
        if directory.lookup(&device).is_ok() {
            keys.push(TunnelKey {
                device,
                public_key: opened.key.public_key,
                preshared_key,
                networks: opened.key.addresses.clone().into(),
            });
        }
    }
    keys.sort_by_key(|key| key.public_key);
    (keys.into(), unreadable)
}
