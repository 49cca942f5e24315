//! TCP attacks inside a tunnel: counted, bounded, and of no consequence for others.

use std::time::Duration;

use super::inside::{segment, syn};
use super::server::Habit;
use super::world::{INSIDE, World};
use crate::DropReason;
use crate::config::Limits;

const OWN: [u8; 4] = [10, 1, 0, 2];
const GATEWAY: [u8; 4] = [10, 0, 0, 1];

#[test]
fn a_flood_of_syns_leaves_a_few_half_open_and_then_none() {
    let mut world = World::two_sites(Limits::default());
    world.connect_client(0);
    world.connect_client(1);
    for port in 1..20_000 {
        let from = world.clients[0].outside;
        world.clients[0].send_packet(&syn(OWN, GATEWAY, port, 443));
        let message = world.clients[0].out.pop_back().unwrap();
        world.inject(from, &message);
        assert!(world.gateway.streams() <= 32);
        if port % 100 == 0 {
            // What comes back is lost: the attacker never answers.
            let mut buffer = Vec::new();
            while world.gateway.poll_transmit(world.now(), 64, &mut buffer).is_some() {
                buffer.clear();
            }
        }
    }
    assert!(world.drops(DropReason::HalfOpen) > 19_000);
    assert!(world.server.opened.is_empty());
    world.exchange(1, 40_000, INSIDE, 10_000);
    world.weather.lost = 1000;
    world.run(Duration::from_secs(60));
    assert_eq!(world.gateway.streams(), 0);
    assert_eq!(world.gateway.buffer_bytes(), 0);
}

#[test]
fn memory_is_bounded_and_comes_back() {
    let limits = Limits {
        buffer_bytes: 4 << 20,
        peer_buffer_bytes: 3 << 20,
        streams_per_peer: 80,
        stream_buffer_min: 16 << 10,
        stream_buffer_max: 64 << 10,
        ..Limits::default()
    };
    let mut world = World::two_sites(limits);
    world.server.habit = Habit::Ignore;
    world.connect_client(0);
    world.connect_client(1);
    let handles: Vec<_> = (0..100)
        .map(|number| {
            let handle = world.clients[0].connect_with(30_000 + number, INSIDE, 2048);
            world.run(Duration::from_millis(20));
            handle
        })
        .collect();
    assert_eq!(world.server.opened.len(), 80);
    assert!(world.drops(DropReason::TooManyStreams) >= 20);
    assert!(world.gateway.buffer_bytes() <= 3 << 20, "{}", world.gateway.buffer_bytes());
    let others: Vec<_> = (0..100)
        .map(|number| {
            let handle = world.clients[1].connect_with(30_000 + number, INSIDE, 2048);
            world.run(Duration::from_millis(20));
            handle
        })
        .collect();
    assert!(world.drops(DropReason::Memory) > 0);
    assert!(world.gateway.buffer_bytes() <= 4 << 20);
    assert!(world.server.opened.len() >= 110, "{}", world.server.opened.len());
    for (client, handles) in [(0, handles), (1, others)] {
        for handle in handles {
            world.clients[client].socket(handle).abort();
        }
    }
    world.run(Duration::from_secs(2));
    assert_eq!(world.gateway.buffer_bytes(), 0);
    assert_eq!(world.gateway.peers(world.now()).map(|peer| peer.buffer_bytes + peer.streams).sum::<usize>(), 0);
}

/// RFC 5961: a reset or a SYN whose number is not exactly expected ends nothing.
#[test]
fn out_of_window_segments_end_nothing() {
    let mut world = World::two_sites(Limits::default());
    world.server.habit = Habit::Ignore;
    world.connect_client(0);
    let handle = world.clients[0].connect(40_000, INSIDE);
    assert!(world.run_until(Duration::from_secs(5), |world| !world.server.opened.is_empty()));
    for seq in (0..u32::MAX - 0x0400_0000).step_by(0x0400_0000) {
        for flags in [0x04, 0x02, 0x12, 0x14, 0x01] {
            world.clients[0].send_packet(&segment(OWN, GATEWAY, 40_000, 443, seq, 7, flags));
        }
        world.run(Duration::from_millis(50));
    }
    assert!(world.server.cut.is_empty());
    world.clients[0].socket(handle).send_slice(b"still here").unwrap();
    world.run(Duration::from_secs(5));
    let mut buffer = [0; 100];
    let stream = world.server.opened[0];
    assert_eq!(world.gateway.read(world.now(), stream, &mut buffer), Ok(10));
}

#[test]
fn a_window_of_zero_is_probed_and_a_tiny_one_is_served() {
    let mut world = World::two_sites(Limits::default());
    world.server.habit = Habit::Ignore;
    world.connect_client(0);
    let handle = world.clients[0].connect_with(40_000, INSIDE, 64);
    assert!(world.run_until(Duration::from_secs(5), |world| !world.server.opened.is_empty()));
    let stream = world.server.opened[0];
    let data: Vec<u8> = (0..1000_u32).map(|at| at as u8).collect();
    assert_eq!(world.gateway.write(world.now(), stream, &data), Ok(1000));
    // Nothing is read for a while, and the client's window stays shut.
    world.run(Duration::from_secs(100));
    assert!(world.server.cut.is_empty(), "the other end answers probes, so it lives");
    let mut got = Vec::new();
    assert!(
        world.run_until(Duration::from_secs(600), |world| {
            let socket = world.clients[0].socket(handle);
            if socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), got.extend_from_slice(bytes))).unwrap();
            }
            got.len() == 1000
        }),
        "{}",
        got.len()
    );
    assert_eq!(got, data);
}

/// Segments that overlap with other content: what came first counts, and nothing breaks.
#[test]
fn overlapping_segments_are_harmless() {
    let mut world = World::two_sites(Limits::default());
    world.connect_client(0);
    world.exchange(0, 40_000, INSIDE, 1000);
    world.server.habit = Habit::Ignore;
    world.clients[0].send_packet(&syn(OWN, GATEWAY, 41_000, 443));
    world.run(Duration::from_millis(100));
    for seq in [2, 3, 100, 2, 50, 60_000, 1, 0] {
        world.clients[0].send_packet(&segment(OWN, GATEWAY, 41_000, 443, seq, 1, 0x18));
    }
    world.run(Duration::from_secs(30));
    assert_eq!(world.gateway.streams(), 0);
}
