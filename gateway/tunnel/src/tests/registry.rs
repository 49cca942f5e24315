//! What cannot be registered.

use super::client::Client;
use super::world::{World, peer_config, range, site_config};
use crate::DropReason;
use crate::config::{Limits, RegistryError};
use crate::event::Event;
use crate::keys::PublicKey;

#[test]
fn keys_and_ranges_are_somebodys_alone() {
    let mut world = World::two_sites(Limits::default());
    let other = Client::new(7, world.gateway.public_key(), "198.51.100.7:1", "10.7.0.1", None);
    let mut add = |site: &str, ranges: &[&str]| world.gateway.add_peer(peer_config(&other, site, ranges, None));
    for (site, wanted, had) in [
        ("kita", "10.1.0.2/32", "10.1.0.2/32"),
        ("aoi", "10.1.0.2/32", "10.1.0.2/32"),
        ("kita", "10.1.0.0/16", "10.1.0.2/32"),
        ("kita", "0.0.0.0/0", "10.1.0.2/32"),
    ] {
        let refused = add(site, &["10.99.0.1/32", wanted]).unwrap_err();
        let RegistryError::Overlap { range: asked, other, .. } = refused else { panic!("{refused}") };
        assert_eq!((asked, other), (range(wanted), range(had)));
    }
    assert_eq!(add("nowhere", &[]), Err(RegistryError::UnknownSite(super::world::site("nowhere"))));
    add("aoi", &["10.1.0.0/16", "fd00:7::/64"]).unwrap();
    assert!(matches!(add("aoi", &[]), Err(RegistryError::KeyInUse { .. })));
    let now = world.now();
    assert!(world.gateway.remove_peer(now, &other.key.public()));
    world.gateway.add_peer(peer_config(&other, "aoi", &["10.1.0.0/16"], None)).unwrap();
}

#[test]
fn a_key_of_small_order_is_none() {
    let mut world = World::two_sites(Limits::default());
    let other = Client::new(7, world.gateway.public_key(), "198.51.100.7:1", "10.7.0.1", None);
    let mut config = peer_config(&other, "aoi", &[], None);
    config.key = PublicKey([0; 32]);
    assert!(matches!(world.gateway.add_peer(config.clone()), Err(RegistryError::WeakKey { .. })));
    config.key = world.gateway.public_key();
    assert!(matches!(world.gateway.add_peer(config), Err(RegistryError::KeyInUse { .. })));
}

#[test]
fn sites_are_checked() {
    let mut world = World::new(Limits::default());
    assert!(matches!(world.gateway.add_site(site_config("aoi")), Err(RegistryError::SiteExists(_))));
    let mut config = site_config("new");
    config.mtu = 1279;
    assert!(matches!(world.gateway.add_site(config.clone()), Err(RegistryError::Mtu { least: 1280, .. })));
    config.mtu = 1441;
    assert!(matches!(world.gateway.add_site(config.clone()), Err(RegistryError::Mtu { .. })));
    config.mtu = 1000;
    config.addresses = vec!["10.0.0.1".parse().unwrap()];
    world.gateway.add_site(config.clone()).unwrap();
    for addresses in [vec![], vec!["224.0.0.1".parse().unwrap()], vec!["10.0.0.1".parse().unwrap(); 9]] {
        let mut config = site_config("third");
        config.addresses = addresses;
        assert!(matches!(world.gateway.add_site(config), Err(RegistryError::Addresses(_))));
    }
    let limits = Limits { peers: 1, ..Limits::default() };
    let mut world = World::new(limits);
    world.add_client(1, "aoi", "10.1.0.1", None);
    let other = Client::new(7, world.gateway.public_key(), "198.51.100.7:1", "10.7.0.1", None);
    assert_eq!(world.gateway.add_peer(peer_config(&other, "aoi", &[], None)), Err(RegistryError::TooManyPeers(1)));
}

/// What was dropped within the interval of a report is told of a site that goes, and of all by whoever ends.
#[test]
fn drops_are_reported_to_the_last() {
    let mut world = World::two_sites(Limits::default());
    world.connect_client(0);
    world.connect_client(1);
    for client in [0, 1] {
        for _ in 0..5 {
            world.clients[client].send_packet(&[0x45, 0, 0, 3]);
        }
    }
    // A stranger's as well.
    for _ in 0..3 {
        world.inject("192.0.2.1:1".parse().unwrap(), b"no message");
    }
    world.run(std::time::Duration::from_secs(1));
    let now = world.now();
    let malformed = |world: &World, name: &str| -> u64 {
        let of_site = |event: &Event| {
            let Event::Dropped { site: Some(site), counts } = event else { return 0 };
            if site.as_str() == name { counts.get(DropReason::Malformed) } else { 0 }
        };
        world.events.iter().map(of_site).sum()
    };
    assert_eq!(malformed(&world, "aoi"), 1, "the others wait for the end of the interval");
    assert!(world.gateway.remove_site(now, &super::world::site("aoi")));
    world.settle();
    assert_eq!(malformed(&world, "aoi"), 5);
    let rest = world.gateway.take_reports();
    let told: Vec<_> =
        rest.iter().map(|(site, counts)| (site.as_ref().map(|site| site.as_str()), counts.total())).collect();
    assert_eq!(told, [(Some("kita"), 4), (None, 2)]);
    assert!(world.gateway.take_reports().is_empty(), "once");
}
