//! Sites and peers come and go.

use std::sync::Arc;
use std::time::Instant;

use policy::names::SiteName;

use super::{Site, Timer, Tunnels};
use crate::config::{MAX_MTU, MIN_MTU_V4, MIN_MTU_V6, PeerConfig, RegistryError, SiteConfig};
use crate::drops::Reporter;
use crate::event::{Event, PeerName};
use crate::keys::{PresharedKey, PublicKey};
use crate::network::Network;
use crate::packet;
use crate::peer::Peer;

/// How many addresses smoltcp is built for.
const MAX_ADDRESSES: usize = 8;

impl Tunnels {
    /// The key that tunnels end at.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.core.identity.public
    }

    /// Adds a site.
    ///
    /// # Errors
    /// [`RegistryError`] if it is there, or its addresses or MTU cannot be.
    pub fn add_site(&mut self, config: SiteConfig) -> Result<(), RegistryError> {
        let name = config.name.clone();
        if self.by_site.contains_key(&name) {
            return Err(RegistryError::SiteExists(name));
        }
        let hosts = config.addresses.iter().all(|address| packet::is_one_host(*address));
        if config.addresses.is_empty() || config.addresses.len() > MAX_ADDRESSES || !hosts {
            return Err(RegistryError::Addresses(name));
        }
        let least = if config.addresses.iter().all(|a| a.is_ipv4()) { MIN_MTU_V4 } else { MIN_MTU_V6 };
        if !(least..=MAX_MTU).contains(&config.mtu) {
            return Err(RegistryError::Mtu { site: name, mtu: config.mtu, least });
        }
        let site = Site {
            config,
            stack: None,
            reporter: Reporter::default(),
            busy: false,
            peers: 0,
            timer: None,
            report_timer: None,
        };
        let id = self.sites.insert(site);
        self.by_site.insert(name, id);
        Ok(())
    }

    /// Removes a site and its peers; their streams are cut, and what was dropped is reported. `false` if there is none.
    pub fn remove_site(&mut self, now: Instant, name: &SiteName) -> bool {
        self.advance(now);
        let Some(id) = self.by_site.remove(name) else { return false };
        // Nobody looks for the peers of a site that has none: many sites may leave at once.
        if self.sites.get(id).is_some_and(|site| site.peers > 0) {
            let of_site = self.peers.iter().filter(|(_, peer)| peer.site == id);
            let keys: Vec<PublicKey> = of_site.map(|(_, peer)| peer.name.key).collect();
            for key in keys {
                self.remove_peer(now, &key);
            }
        }
        self.report();
        let Some(mut site) = self.sites.try_remove(id) else { return true };
        for (due, timer) in [(site.timer, Timer::Stack(id)), (site.report_timer, Timer::Report(id))] {
            if let Some(due) = due {
                self.timers.remove(&(due, timer));
            }
        }
        if let Some(counts) = site.reporter.rest() {
            self.core.tell(Event::Dropped { site: Some(site.config.name), counts });
        }
        if site.busy {
            self.busy.retain(|busy| *busy != id);
        }
        true
    }

    /// Adds a peer.
    ///
    /// # Errors
    /// [`RegistryError`] if its site is not there, its key is in use or none, or its addresses are another's. Within one site a
    /// range may lie inside another peer's range, but for the very same one.
    pub fn add_peer(&mut self, config: PeerConfig) -> Result<(), RegistryError> {
        let PeerConfig { key, site, device, addresses, preshared_key, keepalive } = config;
        let site_id = *self.by_site.get(&site).ok_or_else(|| RegistryError::UnknownSite(site.clone()))?;
        // With at most four sessions each there are always indices left.
        if self.peers.len() >= self.core.limits.peers.min(1 << 15) {
            return Err(RegistryError::TooManyPeers(self.peers.len()));
        }
        if self.by_key.contains_key(&key) || key == self.core.identity.public {
            return Err(RegistryError::KeyInUse { site, device });
        }
        if self.core.identity.private.shared(&key.0).is_none() {
            return Err(RegistryError::WeakKey { site, device });
        }
        for range in &addresses {
            if let Some(other) = self.conflict(*range, site_id) {
                return Err(RegistryError::Overlap { site, device, range: *range, other });
            }
        }
        let entry = self.peers.vacant_entry();
        let id = entry.key();
        let name = Arc::new(PeerName { key, site, device });
        let mut peer = Peer::new(id, name, site_id, addresses);
        peer.preshared = preshared_key;
        peer.keepalive = keepalive;
        for range in &peer.ranges {
            self.owners.insert(*range, id);
        }
        entry.insert(peer);
        self.by_key.insert(key, id);
        if let Some(site) = self.sites.get_mut(site_id) {
            site.peers = site.peers.saturating_add(1);
        }
        Ok(())
    }

    /// Tells that a peer's tunnel is another worker's; `None` that it is no more. All peers of a site must be one worker's, since
    /// a site has one stack.
    pub fn set_elsewhere(&mut self, key: PublicKey, shard: Option<u16>) {
        match shard {
            Some(shard) => drop(self.elsewhere.insert(key, shard)),
            None => drop(self.elsewhere.remove(&key)),
        }
    }

    /// A range that another peer has and that excludes this one.
    fn conflict(&self, range: Network, site: usize) -> Option<Network> {
        let excludes = |(other, owner): &(Network, usize)| {
            *other == range || self.peers.get(*owner).is_none_or(|owner| owner.site != site)
        };
        self.owners.overlapping(range).find(excludes).map(|(other, _)| other)
    }

    /// Gives a peer another preshared key, or none. It counts from the next handshake on. `false` if there is no such peer.
    pub fn set_preshared_key(&mut self, key: &PublicKey, preshared_key: Option<PresharedKey>) -> bool {
        let peer = self.by_key.get(key).and_then(|id| self.peers.get_mut(*id));
        peer.is_some_and(|peer| {
            peer.preshared = preshared_key;
            true
        })
    }

    /// Removes a peer: its sessions end and its streams are cut at once, and nothing is sent to it any more. `false` if there is none.
    pub fn remove_peer(&mut self, now: Instant, key: &PublicKey) -> bool {
        self.advance(now);
        let Some(id) = self.by_key.remove(key) else { return false };
        let Some(site) = self.peers.get(id).map(|peer| peer.site) else { return false };
        self.with_stack(site, |stack, around| stack.cut(around, id));
        let Some(mut peer) = self.peers.try_remove(id) else { return false };
        peer.end(&mut self.core);
        for range in &peer.ranges {
            self.owners.remove(*range);
        }
        if let Some(due) = peer.timer {
            self.timers.remove(&(due, Timer::Peer(id)));
        }
        if let Some(site) = self.sites.get_mut(site) {
            site.peers = site.peers.saturating_sub(1);
        }
        self.wake(site);
        true
    }
}
