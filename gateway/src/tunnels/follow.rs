//! The registry's keys, put into force.
//!
//! Which worker has a site is a pure function of its name, so that all workers agree without a word.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Instant;

use gateway_tunnel::Tunnels;
use gateway_tunnel::config::{PeerConfig, RegistryError, SiteConfig};
use policy::SiteName;

use super::endpoint::Endpoint;
use crate::config::{Listener, WireGuard};
use crate::registry::directory::TunnelKey;

/// Peers that are added until something else is done: each costs an operation on the curve.
const AT_ONCE: usize = 32;

/// What of the registry is in force.
#[derive(Default)]
pub(super) struct Followed {
    keys: Arc<[TunnelKey]>,
    /// Peers of each site here.
    sites: HashMap<SiteName, usize>,
    /// Keys that are still to be added.
    coming: VecDeque<TunnelKey>,
    /// Keys that could not be. Whatever stands in their way may go: they are tried again with each change.
    unusable: Vec<TunnelKey>,
    /// As of the last change.
    listener: Option<Arc<Listener>>,
}

/// The worker that has a site.
pub(super) fn worker_of(site: &SiteName, workers: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    site.as_str().hash(&mut hasher);
    let workers = u64::try_from(workers.max(1)).unwrap_or(1);
    usize::try_from(hasher.finish() % workers).unwrap_or(0)
}

impl Endpoint {
    /// Goes by these keys from here on. Whoever is no longer among them, or not as before, is cut now; whoever is new is added by
    /// [`add_some`](Self::add_some).
    pub(crate) fn follow_keys(&self, keys: &Arc<[TunnelKey]>, listener: &Arc<Listener>) {
        let mut followed = self.followed.borrow_mut();
        let old = Arc::clone(&followed.keys);
        if listener.wireguard.is_none() || Arc::ptr_eq(&old, keys) {
            return;
        }
        let changes = Changes::between(&old, keys);
        self.with(|tunnels, now| {
            for key in &changes.gone {
                if !self.is_mine(key) {
                    tunnels.set_elsewhere(key.public_key, None);
                } else if tunnels.remove_peer(now, &key.public_key) {
                    followed.leave(tunnels, now, &key.device.site);
                }
            }
        });
        let gone: HashSet<_> = changes.gone.iter().map(|key| key.public_key).collect();
        let again = std::mem::take(&mut followed.unusable);
        followed.coming.extend(again);
        followed.coming.retain(|key| !gone.contains(&key.public_key));
        followed.coming.extend(changes.come.into_iter().cloned());
        followed.keys = Arc::clone(keys);
        followed.listener = Some(Arc::clone(listener));
        drop(followed);
        self.rouse();
    }

    /// Whether somebody is still to be added.
    pub(crate) fn has_more(&self) -> bool {
        !self.followed.borrow().coming.is_empty()
    }

    /// Adds some of those who are new.
    pub(crate) fn add_some(&self) {
        let mut followed = self.followed.borrow_mut();
        let Some(listener) = followed.listener.clone() else { return };
        let Some(wireguard) = &listener.wireguard else { return };
        self.with(|tunnels, now| {
            for _ in 0..AT_ONCE {
                let Some(key) = followed.coming.pop_front() else { return };
                if self.is_mine(&key) {
                    followed.enter(tunnels, now, key, &listener, wireguard);
                } else {
                    let worker = worker_of(&key.device.site, self.spread.workers);
                    tunnels.set_elsewhere(key.public_key, u16::try_from(worker).ok());
                }
            }
        });
    }

    fn is_mine(&self, key: &TunnelKey) -> bool {
        worker_of(&key.device.site, self.spread.workers) == self.number
    }
}

impl Followed {
    fn enter(
        &mut self,
        tunnels: &mut Tunnels,
        now: Instant,
        key: TunnelKey,
        listener: &Listener,
        wireguard: &WireGuard,
    ) {
        let site = &key.device.site;
        let added = self.site(tunnels, site, listener, wireguard).and_then(|()| {
            tunnels.add_peer(PeerConfig {
                key: key.public_key,
                site: site.clone(),
                device: key.device.device.clone(),
                addresses: key.networks.to_vec(),
                preshared_key: key.preshared_key.clone(),
                keepalive: None,
            })
        });
        match added {
            Ok(()) => *self.sites.entry(site.clone()).or_default() += 1,
            Err(error) => {
                unusable(&key, &error);
                if self.sites.get(site) == Some(&0) {
                    self.leave(tunnels, now, site);
                }
                self.unusable.push(key);
            }
        }
    }

    /// Adds a site that is not there yet, without peers.
    fn site(
        &mut self,
        tunnels: &mut Tunnels,
        site: &SiteName,
        listener: &Listener,
        wireguard: &WireGuard,
    ) -> Result<(), RegistryError> {
        if self.sites.contains_key(site) {
            return Ok(());
        }
        let is_name = |name: &&String| name.parse::<std::net::IpAddr>().is_err();
        let names = listener.server_names.iter().filter(|name| wireguard.dns && is_name(name));
        tunnels.add_site(SiteConfig {
            name: site.clone(),
            addresses: wireguard.inside.clone(),
            ports: wireguard.ports.clone(),
            names: names.cloned().collect(),
            mtu: wireguard.mtu,
        })?;
        self.sites.insert(site.clone(), 0);
        Ok(())
    }

    /// One peer of a site less. A site without peers is taken away with the last that leaves.
    fn leave(&mut self, tunnels: &mut Tunnels, now: Instant, site: &SiteName) {
        let Some(peers) = self.sites.get_mut(site) else { return };
        *peers = peers.saturating_sub(1);
        if *peers == 0 {
            self.sites.remove(site);
            tunnels.remove_site(now, site);
        }
    }
}

fn unusable(key: &TunnelKey, error: &RegistryError) {
    tracing::error!(device = %key.device, %error, "the key of a device's tunnel cannot be used: it cannot connect");
}

/// What differs between two lists of keys, each ordered by key.
#[derive(Default)]
struct Changes<'a> {
    /// In the old one, and not, or otherwise, in the new one.
    gone: Vec<&'a TunnelKey>,
    /// In the new one, and not, or otherwise, in the old one.
    come: Vec<&'a TunnelKey>,
}

impl<'a> Changes<'a> {
    fn between(old: &'a [TunnelKey], new: &'a [TunnelKey]) -> Self {
        let mut changes = Self::default();
        let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
        loop {
            match (old.peek(), new.peek()) {
                (None, None) => return changes,
                (Some(was), Some(is)) if was.public_key == is.public_key => {
                    let (was, is) = (*was, *is);
                    // Another preshared key ends the session as well: whoever has the old one is nobody from here on.
                    if was != is {
                        changes.gone.push(was);
                        changes.come.push(is);
                    }
                    old.next();
                    new.next();
                }
                (Some(was), is) if is.is_none_or(|is| was.public_key < is.public_key) => {
                    changes.gone.extend(old.next())
                }
                (Some(_) | None, _) => changes.come.extend(new.next()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use gateway_tunnel::config::{Limits, Shard};
    use gateway_tunnel::{Network, PresharedKey, PrivateKey, PublicKey};
    use policy::DeviceId;

    use super::super::steering::Spread;
    use super::*;

    fn key(number: u8, site: &str, host: u8, shared: Option<u8>) -> TunnelKey {
        TunnelKey {
            device: DeviceId { site: site.parse().unwrap(), device: "ward-1".parse().unwrap() },
            public_key: PublicKey([number; 32]),
            preshared_key: shared.map(|byte| PresharedKey::new([byte; 32])),
            networks: [Network::host([10, 64, 1, host].into())].into(),
        }
    }

    #[test]
    fn changes_are_found_in_one_pass() {
        let old = [key(1, "a", 1, None), key(2, "b", 2, None), key(3, "c", 3, None), key(4, "d", 4, None)];
        let new = [key(0, "z", 9, None), key(2, "b", 2, Some(1)), key(3, "c", 8, None), key(4, "d", 4, None)];
        let changes = Changes::between(&old, &new);
        let numbers = |keys: &[&TunnelKey]| keys.iter().map(|key| key.public_key.0[0]).collect::<Vec<_>>();
        assert_eq!(numbers(&changes.gone), [1, 2, 3]);
        assert_eq!(numbers(&changes.come), [0, 2, 3]);
        let all = Changes::between(&[], &new);
        assert_eq!(numbers(&all.come), [0, 2, 3, 4]);
        let none = Changes::between(&new, &[]);
        assert_eq!(numbers(&none.gone), [0, 2, 3, 4]);
    }

    /// Two workers take ten thousand sites, each its own; then one leaves, and a key that stays is not touched.
    #[test]
    fn ten_thousand_sites_are_followed() {
        let site = |number: u32| DeviceId {
            site: format!("clinic-{number}").parse().unwrap(),
            device: "ward-1".parse().unwrap(),
        };
        let key = |number: u32| {
            let mut private = [7; 32];
            private[..4].copy_from_slice(&number.to_be_bytes());
            let address = std::net::Ipv4Addr::from(0x0a40_0100 + number * 256);
            TunnelKey {
                device: site(number),
                public_key: PrivateKey::new(private).public(),
                preshared_key: None,
                networks: [Network::host(address.into())].into(),
            }
        };
        let mut keys: Vec<TunnelKey> = (0..10_000).map(key).collect();
        keys.sort_by_key(|key| key.public_key);
        let all: Arc<[TunnelKey]> = keys.into();
        let listener = listener();
        let spread = Spread::over(2);
        let mut ends = Vec::new();
        for number in 0..2 {
            let shard = Shard { number: number as u16, bits: spread.bits };
            let own = PrivateKey::new([1; 32]);
            let tunnels = Tunnels::new(Instant::now(), own, Limits::default(), shard, [number; 32]);
            ends.push(Endpoint::new("tunnels".into(), usize::from(number), spread, tunnels));
        }
        let count = |end: &Rc<Endpoint>| end.with(|tunnels, now| tunnels.peers(now).count());
        for end in &ends {
            let begun = Instant::now();
            follow(end, &all, &listener);
            println!("worker {}: {} peers in {:?}", end.number, count(end), begun.elapsed());
        }
        assert_eq!(count(&ends[0]) + count(&ends[1]), 10_000);
        assert!(ends.iter().all(|end| count(end) > 4_000));
        let fewer: Arc<[TunnelKey]> = all.iter().filter(|key| key.device != site(77)).cloned().collect();
        for end in &ends {
            let begun = Instant::now();
            follow(end, &fewer, &listener);
            println!("worker {}: one fewer in {:?}", end.number, begun.elapsed());
        }
        assert_eq!(count(&ends[0]) + count(&ends[1]), 9_999);
        assert!(ends.iter().all(|end| !end.followed.borrow().sites.contains_key(&site(77).site)));
    }

    fn follow(end: &Endpoint, keys: &Arc<[TunnelKey]>, listener: &Arc<Listener>) {
        end.follow_keys(keys, listener);
        while end.has_more() {
            end.add_some();
        }
    }

    fn endpoint() -> Rc<Endpoint> {
        let limits = Limits { peers: 100, ..Limits::default() };
        let tunnels = Tunnels::new(Instant::now(), PrivateKey::new([200; 32]), limits, Shard::default(), [3; 32]);
        Endpoint::new("tunnels".into(), 0, Spread::over(1), tunnels)
    }

    fn list(keys: impl IntoIterator<Item = TunnelKey>) -> Arc<[TunnelKey]> {
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_by_key(|key| key.public_key);
        keys.into()
    }

    /// A key of which the curve makes a secret.
    fn good(number: u8, site: &str, host: u8) -> TunnelKey {
        TunnelKey { public_key: PrivateKey::new([number; 32]).public(), ..key(number, site, host, None) }
    }

    fn has(end: &Endpoint, key: &TunnelKey) -> bool {
        end.with(|tunnels, now| tunnels.peers(now).any(|peer| peer.peer.key == key.public_key))
    }

    #[test]
    fn whoever_goes_is_cut_while_others_are_still_to_be_added() {
        let (end, listener) = (endpoint(), listener());
        let many: Vec<_> = (10..90).map(|n| good(n, &format!("site-{n}"), n)).collect();
        end.follow_keys(&list(many.clone()), &listener);
        end.add_some();
        let (inside, outside): (Vec<_>, Vec<_>) = many.into_iter().partition(|key| has(&end, key));
        assert_eq!(inside.len(), AT_ONCE);
        // One that is in goes, one that is still to come does as well, and so does a site with both.
        let fewer = list(inside[1..].iter().chain(&outside[1..]).cloned());
        end.follow_keys(&fewer, &listener);
        assert!(!has(&end, &inside[0]), "at once");
        assert!(end.has_more());
        while end.has_more() {
            end.add_some();
        }
        assert!(fewer.iter().all(|key| has(&end, key)));
        assert!(!has(&end, &inside[0]) && !has(&end, &outside[0]));
        assert_eq!(end.followed.borrow().sites.len(), fewer.len());
        follow(&end, &list([]), &listener);
        assert!(end.followed.borrow().sites.is_empty());
        assert_eq!(end.with(|tunnels, now| tunnels.peers(now).count()), 0);
    }

    #[test]
    fn another_preshared_key_ends_the_session() {
        let (end, listener) = (endpoint(), listener());
        let old = good(1, "aoi", 1);
        follow(&end, &list([old.clone()]), &listener);
        let new = TunnelKey { preshared_key: Some(PresharedKey::new([9; 32])), ..old.clone() };
        end.follow_keys(&list([new.clone()]), &listener);
        assert!(!has(&end, &old), "cut, and its sessions with it");
        end.add_some();
        assert!(has(&end, &new));
    }

    #[test]
    fn a_key_that_could_not_be_added_is_tried_again() {
        let (end, listener) = (endpoint(), listener());
        // Two sites with one address: the registry never lets it come to that, and it must not stay so.
        let (first, second) = (good(1, "aoi", 1), good(2, "kita", 1));
        follow(&end, &list([first.clone()]), &listener);
        follow(&end, &list([first.clone(), second.clone()]), &listener);
        assert!(has(&end, &first) && !has(&end, &second));
        assert_eq!(end.followed.borrow().sites.len(), 1, "no site without peers");
        follow(&end, &list([second.clone()]), &listener);
        assert!(has(&end, &second));
        assert_eq!(end.followed.borrow().sites.len(), 1);
        assert!(end.followed.borrow().unusable.is_empty());
    }

    fn listener() -> Arc<Listener> {
        Arc::new(crate::config::example_of_tunnels())
    }

    #[test]
    fn a_site_has_one_worker_and_sites_are_spread() {
        let sites: Vec<SiteName> = (0..1000).map(|n| format!("clinic-{n}").parse().unwrap()).collect();
        let mut counts = [0; 4];
        for site in &sites {
            assert_eq!(worker_of(site, 4), worker_of(site, 4));
            counts[worker_of(site, 4)] += 1;
        }
        assert!(counts.iter().all(|count| *count > 150), "{counts:?}");
        assert_eq!(worker_of(&sites[0], 1), 0);
    }
}
