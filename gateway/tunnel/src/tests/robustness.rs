//! Whatever comes, nothing breaks.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use proptest::prelude::*;

use super::world::{INSIDE, World};
use crate::config::Limits;
use crate::{DropReason, MAX_DATAGRAM};

fn attacker() -> SocketAddr {
    "192.0.2.66:1".parse().unwrap()
}

/// Datagrams of a session with a transfer in it.
fn recording() -> (World, Vec<Vec<u8>>) {
    let mut world = World::two_sites(Limits::default());
    world.record = true;
    world.connect_client(0);
    world.exchange(0, 40_000, INSIDE, 20_000);
    let heard = world.heard.iter().map(|(_, datagram)| datagram.clone()).collect();
    (world, heard)
}

#[test]
fn lengths_from_nothing_to_the_longest() {
    let (mut world, heard) = recording();
    let template = heard.iter().max_by_key(|datagram| datagram.len()).unwrap();
    for length in [0, 1, 3, 4, 15, 16, 31, 32, 33, 64, 92, 148, MAX_DATAGRAM, MAX_DATAGRAM + 1, 65_507] {
        for kind in 0..6 {
            let mut datagram: Vec<u8> = template.iter().copied().cycle().take(length).collect();
            if let Some(first) = datagram.first_mut() {
                *first = kind;
            }
            world.inject(attacker(), &datagram);
        }
    }
    assert_eq!(world.drops(DropReason::Oversized), 12);
    world.settle();
    world.exchange(0, 41_000, INSIDE, 1000);
}

/// A device that has the keys sends garbage in the tunnel.
#[test]
fn inner_packets_of_every_length() {
    let mut world = World::two_sites(Limits::default());
    world.connect_client(0);
    for length in 0..1_600 {
        for version in [0x45, 0x4f, 0x60, 0x00] {
            let mut packet = vec![0; length];
            if let Some(first) = packet.first_mut() {
                *first = version;
            }
            world.clients[0].send_packet(&packet);
        }
        if length % 50 == 0 {
            world.run(Duration::from_millis(20));
        }
    }
    world.run(Duration::from_secs(1));
    world.exchange(0, 41_000, INSIDE, 1000);
}

thread_local! {
    static HEARD: OnceLock<Vec<Vec<u8>>> = const { OnceLock::new() };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_datagrams(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..50)) {
        let mut world = World::two_sites(Limits::default());
        for mut datagram in datagrams {
            if let Some(first) = datagram.first_mut() {
                *first %= 5;
            }
            for byte in datagram.iter_mut().skip(1).take(3) {
                *byte = 0;
            }
            world.inject(attacker(), &datagram);
            world.run(Duration::from_millis(10));
        }
        prop_assert_eq!(world.gateway.sessions(), 0);
    }

    /// A recorded session, replayed with bits flipped, cut and in another order: nothing of it is taken.
    #[test]
    fn a_recorded_session(picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_u8..8, any::<bool>()), 1..100)) {
        let heard = HEARD.with(|heard| heard.get_or_init(|| recording().1).clone());
        let mut world = World::two_sites(Limits::default());
        world.connect_client(0);
        let opened = world.server.opened.len();
        for (datagram, at, bit, cut) in picks {
            let mut datagram = heard[datagram.index(heard.len())].clone();
            let at = at.index(datagram.len());
            if cut {
                datagram.truncate(at);
            } else {
                datagram[at] ^= 1 << bit;
            }
            world.inject(attacker(), &datagram);
        }
        world.run(Duration::from_secs(1));
        prop_assert_eq!(world.server.opened.len(), opened);
        prop_assert_eq!(world.gateway.sessions(), 1);
    }

    /// A device with keys sends any TCP segments.
    #[test]
    fn any_segments(segments in prop::collection::vec((40_000_u16..40_003, 0_u32..200_000, 0_u32..10, any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 1..60)) {
        let mut world = World::two_sites(Limits::default());
        world.connect_client(0);
        for (port, seq, ack, flags, extra) in segments {
            let mut packet = super::inside::segment([10, 1, 0, 2], [10, 0, 0, 1], port, 443, seq, ack, flags);
            // What follows the header is made its data or options; the checksum is of the whole.
            packet.extend_from_slice(&extra);
            fix(&mut packet);
            world.clients[0].send_packet(&packet);
            world.run(Duration::from_millis(5));
        }
        world.run(Duration::from_secs(1));
        prop_assert!(world.gateway.streams() <= 3);
    }
}

/// Makes lengths and checksums of a TCP segment right.
fn fix(packet: &mut [u8]) {
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet[10..12].copy_from_slice(&[0, 0]);
    let sum = super::inside::checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum);
    packet[36..38].copy_from_slice(&[0, 0]);
    let mut pseudo = packet[12..20].to_vec();
    pseudo.extend_from_slice(&[0, 6]);
    pseudo.extend_from_slice(&(length - 20).to_be_bytes());
    pseudo.extend_from_slice(&packet[20..]);
    let sum = super::inside::checksum(&pseudo);
    packet[36..38].copy_from_slice(&sum);
}
