//! What may come out of a tunnel: the peer's own address, the gateway's own ports, and nothing else (R14).

use std::time::Duration;

use super::world::{INSIDE, World, peer_config};
use crate::DropReason;
use crate::config::Limits;
use crate::event::Event;

pub(super) fn v4(source: [u8; 4], destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0, (length >> 8) as u8, length as u8, 0, 1, 0, 0, 64, protocol, 0, 0];
    packet.extend_from_slice(&source);
    packet.extend_from_slice(&destination);
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum);
    packet.extend_from_slice(payload);
    packet
}

pub(super) fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// A SYN to a port, from 40,000 on.
pub(super) fn syn(source: [u8; 4], destination: [u8; 4], from: u16, to: u16) -> Vec<u8> {
    segment(source, destination, from, to, 1, 0, 2)
}

pub(super) fn segment(
    source: [u8; 4],
    destination: [u8; 4],
    from: u16,
    to: u16,
    seq: u32,
    ack: u32,
    flags: u8,
) -> Vec<u8> {
    let mut tcp = Vec::new();
    tcp.extend_from_slice(&from.to_be_bytes());
    tcp.extend_from_slice(&to.to_be_bytes());
    tcp.extend_from_slice(&seq.to_be_bytes());
    tcp.extend_from_slice(&ack.to_be_bytes());
    tcp.extend_from_slice(&[0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    let mut pseudo = Vec::new();
    pseudo.extend_from_slice(&source);
    pseudo.extend_from_slice(&destination);
    pseudo.extend_from_slice(&[0, 6, 0, tcp.len() as u8]);
    pseudo.extend_from_slice(&tcp);
    let sum = checksum(&pseudo);
    tcp[16..18].copy_from_slice(&sum);
    v4(source, destination, 6, &tcp)
}

const OWN: [u8; 4] = [10, 1, 0, 2];
const GATEWAY: [u8; 4] = [10, 0, 0, 1];

/// Sends one packet through the tunnel of the client at `aoi` and tells what became of it.
fn fate(world: &mut World, packet: &[u8]) -> Vec<DropReason> {
    let before = world.gateway.drops().clone();
    world.clients[0].send_packet(packet);
    world.run(Duration::from_secs(1));
    let after = world.gateway.drops().clone();
    after.iter().filter(|(reason, count)| before.get(*reason) != *count).map(|(reason, _)| reason).collect()
}

#[test]
fn everything_else_is_dropped_for_its_own_reason() {
    let mut world = World::two_sites(Limits::default());
    world.add_client(3, "aoi", "10.1.0.3", None);
    world.connect_client(0);
    let mut more = syn(OWN, GATEWAY, 40_000, 443);
    more[6] = 0x20;
    let mut late = syn(OWN, GATEWAY, 40_000, 443);
    late[7] = 9;
    let to = |destination| syn(OWN, destination, 40_000, 443);
    let from = |source| syn(source, GATEWAY, 40_000, 443);
    let udp = v4(OWN, GATEWAY, 17, &[0, 53, 0, 54, 0, 8, 0, 0]);
    let dns = v4(OWN, GATEWAY, 17, &[0, 53, 0, 53, 0, 8, 0, 0]);
    let mut short = to(GATEWAY);
    short[3] += 1;
    let cases: Vec<(&str, Vec<u8>, DropReason)> = vec![
        ("another site's device", to([10, 2, 0, 2]), DropReason::OtherSite),
        ("a device of the same site", to([10, 1, 0, 3]), DropReason::OtherDevice),
        ("the internet", to([8, 8, 8, 8]), DropReason::OtherAddress),
        ("beside the gateway", to([10, 0, 0, 2]), DropReason::OtherAddress),
        ("loopback", to([127, 0, 0, 1]), DropReason::OtherAddress),
        ("another port", syn(OWN, GATEWAY, 40_000, 22), DropReason::Port),
        ("multicast", to([224, 0, 0, 251]), DropReason::Multicast),
        ("broadcast", to([255; 4]), DropReason::Multicast),
        ("the other site's source", from([10, 2, 0, 2]), DropReason::SpoofedSource),
        ("a neighbour's source", from([10, 1, 0, 3]), DropReason::SpoofedSource),
        ("nobody's source", from([192, 168, 0, 1]), DropReason::SpoofedSource),
        ("the gateway's source", from(GATEWAY), DropReason::SpoofedSource),
        ("multicast as source", from([224, 0, 0, 1]), DropReason::SpoofedSource),
        ("nothing as source", from([0; 4]), DropReason::SpoofedSource),
        ("a first fragment", more, DropReason::Fragment),
        ("a last fragment", late, DropReason::Fragment),
        ("UDP", udp, DropReason::Protocol),
        ("DNS that nobody asked for", dns, DropReason::Protocol),
        ("IPv6 in IPv4", v4(OWN, GATEWAY, 41, &[0x60; 60]), DropReason::Protocol),
        ("an echo reply", v4(OWN, GATEWAY, 1, &[0; 8]), DropReason::Protocol),
        ("an ACK out of nowhere", segment(OWN, GATEWAY, 40_000, 443, 5, 5, 0x10), DropReason::NoConnection),
        ("a reset out of nowhere", segment(OWN, GATEWAY, 40_000, 443, 5, 5, 0x04), DropReason::NoConnection),
        ("shorter than it says", short, DropReason::Malformed),
        ("no version", vec![0x10; 40], DropReason::Malformed),
        ("one byte", vec![0x45], DropReason::Malformed),
    ];
    for (name, packet, reason) in cases {
        assert_eq!(fate(&mut world, &packet), [reason], "{name}");
        assert_eq!(world.gateway.streams(), 0, "{name}");
    }
    assert!(world.clients[1].lengths.is_empty(), "nothing ever reached the other site");
}

/// As `fragments` and `hop-by-hop` in IPv6.
#[test]
fn ipv6_is_held_to_the_same() {
    let mut world = World::new(Limits::default());
    let client = world.add_client(1, "aoi", "fd00:1::2", None);
    world.connect_client(client);
    let packet = |next: u8, last: u8| {
        let mut packet = vec![0x60, 0, 0, 0, 0, 20, next, 64];
        packet.extend_from_slice(&"fd00:1::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
        packet.extend_from_slice(&"fd00::".parse::<std::net::Ipv6Addr>().unwrap().octets());
        packet[39] = last;
        packet.extend_from_slice(&[0; 20]);
        packet
    };
    assert_eq!(fate(&mut world, &packet(44, 1)), [DropReason::Fragment]);
    assert_eq!(fate(&mut world, &packet(0, 1)), [DropReason::Protocol]);
    assert_eq!(fate(&mut world, &packet(17, 1)), [DropReason::Protocol]);
    assert_eq!(fate(&mut world, &packet(6, 9)), [DropReason::OtherAddress]);
    let mut multicast = packet(6, 1);
    multicast[24] = 0xff;
    assert_eq!(fate(&mut world, &multicast), [DropReason::Multicast]);
    let mut spoofed = packet(6, 1);
    spoofed[23] = 3;
    assert_eq!(fate(&mut world, &spoofed), [DropReason::SpoofedSource]);
}

#[test]
fn echo_requests_are_answered() {
    let mut world = World::two_sites(Limits::default());
    world.connect_client(0);
    let mut echo = vec![8, 0, 0, 0, 0, 1, 0, 1, b'h', b'i'];
    let sum = checksum(&echo);
    echo[2..4].copy_from_slice(&sum);
    assert_eq!(fate(&mut world, &v4(OWN, GATEWAY, 1, &echo)), []);
    assert_eq!(world.clients[0].echoes, 1);
}

#[test]
fn own_names_are_answered_where_a_site_asks_for_it() {
    let mut world = World::new(Limits::default());
    let now = world.now();
    assert!(world.gateway.remove_site(now, &super::world::site("aoi")));
    let mut config = super::world::site_config("aoi");
    config.names = vec!["gw.sekisho.example".to_owned()];
    world.gateway.add_site(config).unwrap();
    world.add_client(1, "aoi", "10.1.0.2", None);
    world.connect_client(0);
    let mut udp = vec![0x99, 0x99, 0, 53, 0, 44, 0, 0];
    udp.extend_from_slice(b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x02gw\x07sekisho\x07example\0\0\x01\0\x01");
    let length = udp.len() as u8;
    udp[5] = length;
    world.clients[0].send_packet(&v4(OWN, GATEWAY, 17, &udp));
    let sent = world.clients[0].out.pop_back().unwrap();
    let from = world.clients[0].outside;
    world.inject(from, &sent);
    let mut datagram = Vec::new();
    world.gateway.poll_transmit(world.now(), 1, &mut datagram).unwrap();
    world.clients[0].receive(super::world::GATEWAY.parse().unwrap(), &datagram);
    let packet = world.clients[0].wire.arriving.pop_back().unwrap();
    assert_eq!((&packet[12..16], &packet[16..20], packet[9]), (&GATEWAY[..], &OWN[..], 17));
    assert_eq!(packet[20..24], [0, 53, 0x99, 0x99]);
    assert_eq!(packet[packet.len() - 4..], GATEWAY);
    assert_eq!(world.gateway.drops().total(), 0);
    // Cut short it is no query.
    assert_eq!(fate(&mut world, &v4(OWN, GATEWAY, 17, &udp[..20])), [DropReason::Malformed]);
}

/// A peer's narrower range is not its neighbour's, though that has the range around it; and a range of another site cannot be had.
#[test]
fn the_longest_range_owns_a_source() {
    let mut world = World::two_sites(Limits::default());
    let router = super::client::Client::new(9, world.gateway.public_key(), "198.51.100.9:1", "10.1.0.9", None);
    world.gateway.add_peer(peer_config(&router, "aoi", &["10.1.0.0/24"], None)).unwrap();
    world.clients.push(router);
    let router = 2;
    world.connect_client(router);
    let before = world.drops(DropReason::SpoofedSource);
    world.clients[router].send_packet(&syn(OWN, GATEWAY, 40_000, 443));
    world.run(Duration::from_secs(1));
    assert_eq!(world.drops(DropReason::SpoofedSource), before + 1);
    assert_eq!(world.gateway.streams(), 0);
    world.clients[router].send_packet(&syn([10, 1, 0, 77], GATEWAY, 40_000, 443));
    world.run(Duration::from_secs(1));
    assert_eq!(world.gateway.streams(), 1, "the rest of the range is its own");
}

#[test]
fn drops_are_reported_once_for_each_site_and_interval() {
    let mut world = World::two_sites(Limits::default());
    world.connect_client(0);
    for _ in 0..100 {
        world.clients[0].send_packet(&syn(OWN, [10, 2, 0, 2], 40_000, 443));
        world.run(Duration::from_millis(100));
    }
    world.run(Duration::from_secs(120));
    let mut reports = Vec::new();
    for event in &world.events {
        if let Event::Dropped { site, counts } = event {
            let site = site.as_ref().map(|site| site.as_str().to_owned());
            reports.push((site, counts.get(DropReason::OtherSite)));
        }
    }
    assert_eq!(reports, [(Some("aoi".to_owned()), 1), (Some("aoi".to_owned()), 99)]);
    world.run(Duration::from_secs(200));
    assert_eq!(world.gateway.poll_timeout(), None, "and then there is silence");
}

#[test]
fn a_removed_peer_is_cut_at_once() {
    let mut world = World::two_sites(Limits::default());
    world.server.habit = super::server::Habit::Ignore;
    world.connect_client(0);
    world.connect_client(1);
    for client in [0, 1] {
        world.clients[client].connect(40_000, INSIDE);
    }
    assert!(world.run_until(Duration::from_secs(5), |world| world.server.opened.len() == 2));
    let key = world.clients[0].key.public();
    let lengths = world.clients[0].lengths.len();
    let now = world.now();
    assert!(world.gateway.remove_peer(now, &key));
    assert!(!world.gateway.remove_peer(now, &key));
    world.settle();
    assert_eq!(world.server.cut.len(), 1);
    assert_eq!(world.gateway.read(now, world.server.cut[0], &mut [0; 9]), Err(crate::StreamError::Unknown));
    assert_eq!((world.gateway.streams(), world.gateway.sessions()), (1, 1), "the other's are still there");
    world.clients[0].send_packet(&syn(OWN, GATEWAY, 40_001, 443));
    world.clients[0].handshake();
    world.run(Duration::from_secs(100));
    assert_eq!(world.drops(DropReason::UnknownKey), 1);
    assert!(world.drops(DropReason::UnknownSession) >= 1);
    assert_eq!(world.clients[0].lengths.len(), lengths, "it hears nothing any more");
    world.server.habit = super::server::Habit::Echo;
    world.exchange(1, 40_002, INSIDE, 100);
}

#[test]
fn a_removed_site_takes_its_peers_with_it() {
    let mut world = World::two_sites(Limits::default());
    world.connect_client(0);
    world.clients[0].connect(40_000, INSIDE);
    world.run(Duration::from_secs(1));
    let now = world.now();
    assert!(world.gateway.remove_site(now, &super::world::site("aoi")));
    world.run(Duration::from_secs(700));
    assert_eq!((world.gateway.streams(), world.gateway.sessions(), world.gateway.buffer_bytes()), (0, 0, 0));
    assert_eq!(world.gateway.peers(now).count(), 1);
    world.connect_client(1);
}
