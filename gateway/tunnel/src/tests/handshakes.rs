//! Sessions: begun, renewed, roaming, replayed, refused.

use std::time::Duration;

use super::client::Client;
use super::server::Habit;
use super::world::{GATEWAY, INSIDE, World};
use crate::DropReason;
use crate::config::Limits;
use crate::event::Event;
use crate::keys::PresharedKey;

/// Streams that do not ask by themselves whether anybody is there.
fn patient() -> Limits {
    let long = Duration::from_secs(100_000);
    Limits { stream_timeout: long, stream_keepalive: long, ..Limits::default() }
}

#[test]
fn a_session_is_up_once_it_is_used() {
    let mut world = World::two_sites(Limits::default());
    world.clients[0].handshake();
    assert!(world.run_until(Duration::from_secs(1), |world| !world.clients[0].lengths.is_empty()), "a response");
    world.run(Duration::from_secs(1));
    // boringtun sends a keepalive as soon as it has the response, and so the session is confirmed.
    assert_eq!(world.ups(0), 1);
    let peers: Vec<_> = world.gateway.peers(world.now()).filter(|peer| peer.up).collect();
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].path.unwrap().remote, world.clients[0].outside);
    assert_eq!(peers[0].peer.site.as_str(), "aoi");
}

#[test]
fn preshared_keys_must_be_the_same() {
    let (right, wrong) = (PresharedKey::new([1; 32]), PresharedKey::new([2; 32]));
    let mut world = World::new(Limits::default());
    let client = world.add_client(1, "aoi", "10.1.0.2", Some(right.clone()));
    for other in [Some(&wrong), None] {
        world.clients[client].restart(other);
        world.clients[client].handshake();
        world.run(Duration::from_secs(10));
        assert_eq!(world.ups(client), 0);
    }
    world.clients[client].restart(Some(&right));
    world.connect_client(client);
}

/// A new preshared key counts from the next handshake on, and the session that is under way goes on.
#[test]
fn a_preshared_key_can_be_changed() {
    let (old, new) = (PresharedKey::new([1; 32]), PresharedKey::new([2; 32]));
    let mut world = World::new(Limits::default());
    let client = world.add_client(1, "aoi", "10.1.0.2", Some(old));
    world.connect_client(client);
    let key = world.clients[client].key.public();
    assert!(world.gateway.set_preshared_key(&key, Some(new.clone())));
    world.exchange(client, 40_000, INSIDE, 10_000);
    world.clients[client].handshake();
    world.run(Duration::from_secs(10));
    assert_eq!(world.ups(client), 1, "the old key makes no session any more");
    world.clients[client].restart(Some(&new));
    world.connect_client(client);
    world.exchange(client, 40_001, INSIDE, 10_000);
}

#[test]
fn sessions_are_renewed_for_hours_under_a_stream() {
    let mut world = World::two_sites(Limits::default());
    world.connect_client(0);
    let handle = world.clients[0].connect(40_000, INSIDE);
    let mut got = 0;
    for round in 0..120 {
        if round > 0 && world.clients[0].socket(handle).may_send() {
            world.clients[0].socket(handle).send_slice(&[5; 100]).unwrap();
        }
        world.run(Duration::from_secs(60));
        while world.clients[0].socket(handle).can_recv() {
            got += world.clients[0].socket(handle).recv(|bytes| (bytes.len(), bytes.len())).unwrap();
        }
        if round % 2 == 1 {
            world.clients[0].handshake();
        }
        assert!(world.gateway.sessions() <= 3, "{} sessions in round {round}", world.gateway.sessions());
    }
    assert_eq!(got, 119 * 100);
    assert!((59..=61).contains(&world.ups(0)), "{}: one in two minutes", world.ups(0));
    assert!(world.server.cut.is_empty());
}

/// The gateway asks for a session itself when it has something to send and the old one has ended, and gives up after 90 s.
#[test]
fn the_gateway_asks_for_a_session_when_it_must() {
    let mut world = World::two_sites(patient());
    world.server.habit = Habit::Ignore;
    world.connect_client(0);
    world.clients[0].connect(40_000, INSIDE);
    assert!(world.run_until(Duration::from_secs(5), |world| !world.server.opened.is_empty()));
    let stream = world.server.opened[0];
    world.weather.lost = 1000;
    world.run(Duration::from_secs(200));
    assert!(world.events.iter().any(|event| matches!(event, Event::SessionDown { .. })), "the session ended");
    assert!(!world.gateway.peers(world.now()).any(|peer| peer.up));
    world.gateway.write(world.now(), stream, &[9; 50]).unwrap();
    let before = world.gateway.counters().sent_datagrams;
    world.run(Duration::from_secs(80));
    let tries = world.gateway.counters().sent_datagrams - before;
    assert!((10..=18).contains(&tries), "{tries} tries in 80 s: one in 5 s, and somewhat less");
    world.weather.lost = 0;
    assert!(world.run_until(Duration::from_secs(20), |world| world.ups(0) == 2), "the gateway's own handshake");
    assert!(world.run_until(Duration::from_secs(120), |world| world.gateway.unacknowledged(stream) == Ok(0)));
}

/// An unused peer costs nothing but its entry.
#[test]
fn an_idle_peer_has_no_session() {
    let mut world = World::two_sites(Limits::default());
    world.connect_client(0);
    assert_eq!(world.gateway.sessions(), 1);
    world.run(Duration::from_secs(600));
    assert_eq!(world.gateway.sessions(), 0);
    assert_eq!(world.gateway.poll_timeout(), None, "and no timer");
    let (peer, tunn) = (size_of::<crate::peer::Peer>(), size_of::<boringtun::noise::Tunn>());
    println!("a peer has {peer} bytes, a session {tunn}");
    assert!(peer < 1024, "{peer}");
    // An active peer has two sessions for one minute in two, and may have four; 64 KiB are its share.
    assert!(tunn * 4 < 60 << 10, "{tunn}");
}

#[test]
fn a_keepalive_answers_data_after_ten_seconds_and_nothing_answers_keepalives() {
    let mut world = World::two_sites(Limits::default());
    world.connect_client(0);
    world.run(Duration::from_secs(30));
    assert_eq!(world.clients[0].keepalives, 0, "a keepalive is not answered");
    // To a closed port: taken, and not answered by anything else.
    world.clients[0].connect(40_000, "10.0.0.1:9");
    world.settle();
    world.clients[0].sockets = smoltcp::iface::SocketSet::new(Vec::new());
    world.run(Duration::from_secs(9));
    assert_eq!(world.clients[0].keepalives, 0, "not at once");
    world.run(Duration::from_secs(2));
    assert_eq!(world.clients[0].keepalives, 1);
    world.run(Duration::from_secs(60));
    assert_eq!(world.clients[0].keepalives, 1, "once");
}

#[test]
fn an_endpoint_roams_by_authenticated_messages_alone() {
    let mut world = World::two_sites(Limits::default());
    world.connect_client(0);
    let home = world.clients[0].outside;
    let path = |world: &World| {
        let key = world.clients[0].key.public();
        world.gateway.peers(world.now()).find(|peer| peer.peer.key == key).unwrap().path.unwrap().remote
    };
    // Another's datagrams with the right index change nothing: a forged message, and a replayed one.
    world.record = true;
    world.clients[0].send_packet(&[0; 20]);
    world.run(Duration::from_secs(1));
    let (_, message) = world.heard.last().unwrap().clone();
    let attacker = "192.0.2.66:1".parse().unwrap();
    world.inject(attacker, &message);
    let mut forged = message.clone();
    forged[8] = forged[8].wrapping_add(1);
    world.inject(attacker, &forged);
    assert_eq!(world.drops(DropReason::Replayed), 1);
    assert_eq!(world.drops(DropReason::Unauthentic), 1);
    assert_eq!(path(&world), home);
    // The client itself moves, in the middle of a transfer, as when a NAT forgets it.
    let handle = world.clients[0].connect(40_000, INSIDE);
    assert!(world.run_until(Duration::from_secs(5), |world| world.clients[0].socket(handle).may_send()));
    let away = "192.0.2.7:9".parse().unwrap();
    world.clients[0].outside = away;
    world.exchange(0, 40_001, INSIDE, 50_000);
    assert_eq!(path(&world), away);
}

#[test]
fn initiations_cannot_be_replayed_not_even_to_an_idle_peer() {
    let mut world = World::two_sites(Limits::default());
    world.record = true;
    world.connect_client(0);
    let (_, initiation) = world.heard.iter().find(|(_, datagram)| datagram.len() == 148).unwrap().clone();
    let attacker = "192.0.2.66:1".parse().unwrap();
    world.inject(attacker, &initiation);
    world.run(Duration::from_secs(1000));
    assert_eq!(world.gateway.sessions(), 0);
    world.inject(attacker, &initiation);
    world.run(Duration::from_secs(1));
    assert_eq!(world.drops(DropReason::ReplayedInitiation), 2);
    assert!(world.astray.is_empty(), "the attacker gets no answer");
    assert_eq!(world.gateway.sessions(), 0);
}

/// Counters at the edges of the window of 1,024 messages, each taken once at most.
#[test]
fn messages_are_taken_once_within_the_window() {
    let mut world = World::two_sites(Limits::default());
    world.connect_client(0);
    let mut messages = Vec::new();
    for _ in 0..3000 {
        world.clients[0].send_packet(&[]);
        messages.push(world.clients[0].out.pop_back().unwrap());
    }
    let from = world.clients[0].outside;
    let taken = |world: &mut World, at: usize| {
        let before = world.gateway.drops().total();
        world.inject(from, &messages[at]);
        world.gateway.drops().total() == before
    };
    assert!(taken(&mut world, 0));
    assert!(!taken(&mut world, 0), "again");
    assert!(taken(&mut world, 2000));
    for (at, expected) in [
        (2000, false),
        (1999, true),
        (1999, false),
        (2000 - 1022, true),
        (2000 - 1022, false),
        (900, false),
        (0, false),
    ] {
        assert_eq!(taken(&mut world, at), expected, "{at}");
    }
    assert!(taken(&mut world, 2999));
    assert!(!taken(&mut world, 1000));
    assert!(taken(&mut world, 2998));
}

/// Past Reject-After-Messages nothing is opened: boringtun's arithmetic overflows there.
#[test]
fn counters_at_their_end_are_refused() {
    let mut world = World::two_sites(Limits::default());
    world.connect_client(0);
    world.clients[0].send_packet(&[]);
    let mut message = world.clients[0].out.pop_back().unwrap();
    let from = world.clients[0].outside;
    for (counter, reason) in [
        (u64::MAX, DropReason::Counter),
        (u64::MAX - (1 << 13), DropReason::Counter),
        (u64::MAX - (1 << 13) - 1, DropReason::Unauthentic),
    ] {
        message[8..16].copy_from_slice(&counter.to_le_bytes());
        let before = world.drops(reason);
        world.inject(from, &message);
        assert_eq!(world.drops(reason), before + 1, "{counter}");
    }
}

#[test]
fn indices_tell_nothing() {
    let mut world = World::two_sites(Limits {
        handshakes: crate::HandshakeLimits {
            peer: crate::Rate { per_second: 1000, burst: 1000 },
            source: crate::Rate { per_second: 1000, burst: 1000 },
            ..Default::default()
        },
        ..Limits::default()
    });
    let mut indices = std::collections::HashSet::new();
    for _ in 0..50 {
        world.clients[0].handshake();
        let from = world.clients[0].outside;
        let message = world.clients[0].out.pop_back().unwrap();
        world.inject(from, &message);
        let mut answer = Vec::new();
        world.gateway.poll_transmit(world.now(), 1, &mut answer).unwrap();
        indices.insert(u32::from_le_bytes(answer[4..8].try_into().unwrap()) >> 8);
    }
    assert_eq!(indices.len(), 50);
    let mut sorted: Vec<_> = indices.into_iter().collect();
    sorted.sort_unstable();
    assert!(sorted.windows(2).any(|pair| pair[1] - pair[0] > 10_000), "they are spread: {sorted:?}");
    assert!(world.gateway.sessions() <= 2, "what was not used is forgotten");
}

/// A response that proves nothing does not end the handshake that it claims to answer.
#[test]
fn a_forged_response_disturbs_nothing() {
    let mut world = World::two_sites(patient());
    world.server.habit = Habit::Ignore;
    world.connect_client(0);
    world.clients[0].connect(40_000, INSIDE);
    assert!(world.run_until(Duration::from_secs(5), |world| !world.server.opened.is_empty()));
    world.weather.lost = 1000;
    world.run(Duration::from_secs(185));
    world.gateway.write(world.now(), world.server.opened[0], b"x").unwrap();
    // The gateway's initiation is taken off the wire, and its response altered.
    let mut initiation = Vec::new();
    let now = world.now();
    while world.gateway.poll_transmit(now, 1, &mut initiation).is_some() {
        if initiation.len() == 148 {
            break;
        }
        initiation.clear();
    }
    assert_eq!(initiation.len(), 148);
    let client: &mut Client = &mut world.clients[0];
    client.receive(GATEWAY.parse().unwrap(), &initiation);
    let response = client.out.pop_back().unwrap();
    assert_eq!(response.len(), 92);
    let from = world.clients[0].outside;
    for at in [0, 8, 12, 44, 60, 70] {
        let mut forged = response.clone();
        forged[at] ^= 0x10;
        world.inject(from, &forged);
    }
    assert_eq!(world.ups(0), 1);
    world.inject(from, &response);
    world.settle();
    assert_eq!(world.ups(0), 2);
}

#[test]
fn time_that_goes_back_is_no_time() {
    let mut world = World::two_sites(Limits::default());
    world.run(Duration::from_secs(3_700));
    world.connect_client(0);
    let earlier = world.start;
    world.gateway.handle_timeout(earlier);
    let from = world.clients[0].outside;
    world.clients[0].send_packet(&[]);
    let message = world.clients[0].out.pop_back().unwrap();
    world.gateway.handle_datagram(earlier, crate::Path { remote: from, local: None }, &message);
    assert!(world.gateway.poll_transmit(earlier, 1, &mut Vec::new()).is_none());
    world.exchange(0, 40_000, INSIDE, 10_000);
}

/// Both ends begin a handshake at the same time, again and again: one session is left to send with, and no index is lost.
#[test]
fn handshakes_that_cross_leave_one_session() {
    let mut world = World::two_sites(patient());
    world.server.habit = Habit::Ignore;
    world.connect_client(0);
    world.clients[0].connect(40_000, INSIDE);
    assert!(world.run_until(Duration::from_secs(5), |world| !world.server.opened.is_empty()));
    let stream = world.server.opened[0];
    for _ in 0..5 {
        world.weather.lost = 1000;
        world.run(Duration::from_secs(400));
        assert_eq!(world.gateway.sessions(), 0);
        world.weather.lost = 0;
        world.gateway.write(world.now(), stream, b"x").unwrap();
        world.clients[0].handshake();
        world.run(Duration::from_secs(100));
        assert!((1..=2).contains(&world.gateway.sessions()), "{}", world.gateway.sessions());
        assert_eq!(world.gateway.unacknowledged(stream), Ok(0));
    }
}

/// Responses that are late count: to the last initiation, and to the one before it.
#[test]
fn late_responses_are_taken() {
    for delay in [1, 4] {
        let mut world = World::two_sites(patient());
        world.server.habit = Habit::Ignore;
        world.connect_client(0);
        world.clients[0].connect(40_000, INSIDE);
        assert!(world.run_until(Duration::from_secs(5), |world| !world.server.opened.is_empty()));
        world.run(Duration::from_secs(300));
        world.gateway.write(world.now(), world.server.opened[0], b"x").unwrap();
        world.weather.delay = Duration::from_secs(delay);
        assert!(world.run_until(Duration::from_secs(2 * delay + 1), |world| world.ups(0) == 2), "{delay} s each way");
    }
}

/// A device that is under load answers with a cookie. That moves nothing, and the next try shows it.
#[test]
fn a_cookie_reply_is_shown_with_the_next_try_and_moves_no_endpoint() {
    let mut world = World::two_sites(patient());
    world.server.habit = Habit::Ignore;
    world.connect_client(0);
    world.clients[0].connect(40_000, INSIDE);
    assert!(world.run_until(Duration::from_secs(5), |world| !world.server.opened.is_empty()));
    world.weather.lost = 1000;
    world.run(Duration::from_secs(300));
    world.gateway.write(world.now(), world.server.opened[0], b"x").unwrap();
    let mut initiation = Vec::new();
    world.gateway.poll_transmit(world.now(), 1, &mut initiation).unwrap();
    assert_eq!((initiation.len(), &initiation[132..]), (148, &[0; 16][..]));
    let public = boringtun::x25519::PublicKey::from(world.clients[0].key.public().0);
    let limiter = boringtun::noise::rate_limiter::RateLimiter::new(&public, 0);
    let mut reply = [0; 64];
    let gateway = GATEWAY.parse::<std::net::SocketAddr>().unwrap().ip();
    let verdict = limiter.verify_packet(Some(gateway), &initiation, &mut reply);
    assert!(matches!(verdict, Err(boringtun::noise::TunnResult::WriteToNetwork(_))));
    let home = world.clients[0].outside;
    world.inject("192.0.2.66:1".parse().unwrap(), &reply);
    let mut forged = reply;
    forged[40] ^= 1;
    world.inject(home, &forged);
    assert_eq!(world.drops(DropReason::Forged), 1);
    let key = world.clients[0].key.public();
    let peer = world.gateway.peers(world.now()).find(|peer| peer.peer.key == key).unwrap();
    assert_eq!(peer.path.unwrap().remote, home);
    world.elapsed += Duration::from_secs(6);
    world.gateway.handle_timeout(world.now());
    let mut second = Vec::new();
    world.gateway.poll_transmit(world.now(), 1, &mut second).unwrap();
    assert_eq!(second.len(), 148);
    assert!(limiter.verify_packet(Some(gateway), &second, &mut reply).is_ok(), "with the cookie");
}

/// However many handshakes there were, a single one is never taken for a flood.
#[test]
fn handshakes_do_not_add_up_to_a_load() {
    let mut world = World::two_sites(Limits::default());
    for _ in 0..300 {
        world.connect_client(0);
        world.run(Duration::from_secs(2));
    }
    assert_eq!(world.gateway.drops().total(), 0);
    assert_eq!(world.ups(0), 300);
}

#[test]
fn persistent_keepalives_fill_silence_alone() {
    let mut world = World::new(Limits::default());
    let client = Client::new(1, world.gateway.public_key(), "198.51.100.1:5", "10.1.0.2", None);
    let mut config = super::world::peer_config(&client, "aoi", &["10.1.0.2/32"], None);
    config.keepalive = Some(Duration::from_secs(25));
    world.gateway.add_peer(config).unwrap();
    world.clients.push(client);
    world.connect_client(0);
    // Something comes every ten seconds: nothing needs to be filled.
    for _ in 0..10 {
        world.clients[0].send_packet(&[]);
        world.run(Duration::from_secs(10));
    }
    assert_eq!(world.clients[0].keepalives, 0);
    world.run(Duration::from_secs(60));
    assert_eq!(world.clients[0].keepalives, 2);
}

/// An initiation that comes to one worker and belongs to another one.
#[test]
fn an_initiation_is_handed_over_to_the_worker_of_its_site() {
    let shard = |number| crate::config::Shard { number, bits: 2 };
    let key = || crate::PrivateKey::new([200; 32]);
    let mut world = World::new(Limits::default());
    world.gateway = crate::Tunnels::new(world.start, key(), Limits::default(), shard(3), [4; 32]);
    world.gateway.add_site(super::world::site_config("aoi")).unwrap();
    world.add_client(1, "aoi", "10.1.0.2", None);
    let mut first = crate::Tunnels::new(world.start, key(), Limits::default(), shard(1), [5; 32]);
    first.set_elsewhere(world.clients[0].key.public(), Some(3));
    world.clients[0].handshake();
    let initiation = world.clients[0].out.pop_back().unwrap();
    let from = crate::Path { remote: world.clients[0].outside, local: None };
    first.handle_datagram(world.start, from, &initiation);
    let Some(Event::HandOver { shard: 3, path, datagram }) = first.poll_event() else { panic!("not handed over") };
    assert_eq!((first.sessions(), first.drops().total()), (0, 0));
    world.gateway.handle_handed_over(world.now(), path, &datagram);
    world.record = true;
    world.run(Duration::from_secs(1));
    assert_eq!(world.ups(0), 1);
    let index = u32::from_le_bytes(world.heard.last().unwrap().1[4..8].try_into().unwrap());
    assert_eq!((index >> 8) & 3, 3, "what follows comes to the right worker by its index");
    world.gateway.handle_handed_over(world.now(), path, &datagram);
    world.gateway.handle_handed_over(world.now(), path, b"nonsense");
    assert_eq!(world.drops(DropReason::ReplayedInitiation), 1);
    assert_eq!(world.drops(DropReason::NotWireGuard), 1);
}
