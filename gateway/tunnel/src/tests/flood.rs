//! Floods of handshakes cost little and shut nobody out (C13).

use std::net::SocketAddr;
use std::time::Duration;

use super::client::Client;
use super::world::{INSIDE, World};
use crate::DropReason;
use crate::config::Limits;
use crate::hash::{hash, mac};

/// Initiations by keys that nobody registered, with a right mac1.
fn initiations(world: &World, count: usize) -> Vec<Vec<u8>> {
    let mut stranger = Client::new(99, world.gateway.public_key(), "192.0.2.99:1", "10.9.9.9", None);
    stranger.handshake();
    let first = stranger.out.pop_back().unwrap();
    let key = hash(&[b"mac1----", &world.gateway.public_key().0]);
    // As an attacker does it: no operation on the curve for each, but the mac is right.
    (0..count)
        .map(|number| {
            let mut message = first.clone();
            message[4..8].copy_from_slice(&(number as u32).to_le_bytes());
            let sum = mac(&key, &[&message[..116]]);
            message[116..132].copy_from_slice(&sum);
            message
        })
        .collect()
}

#[test]
fn a_flood_from_one_source_costs_little_and_hinders_nobody_else() {
    let mut world = World::two_sites(Limits::default());
    world.connect_client(1);
    let messages = initiations(&world, 100_000);
    let before = world.gateway.counters().curve_operations;
    let mut sent = 0;
    // 10 s, of 10,000 a second, from many ports; meanwhile one client begins a session and another one goes on.
    for (round, messages) in messages.chunks(1000).enumerate() {
        for (number, message) in messages.iter().enumerate() {
            let port = 1024 + (number % 60_000) as u16;
            world.inject(SocketAddr::from(([192, 0, 2, 66], port)), message);
            sent += 1;
            if number % 50 == 0 {
                world.settle();
            }
        }
        match round {
            20 => world.clients[0].handshake(),
            50 => world.clients[1].handshake(),
            _ => {}
        }
        world.run(Duration::from_millis(100));
        if round == 22 {
            assert_eq!(world.ups(0), 1, "at once, without a cookie");
        }
    }
    assert_eq!(sent, 100_000);
    assert_eq!(world.ups(1), 2);
    world.exchange(0, 40_000, INSIDE, 100_000);
    let operations = world.gateway.counters().curve_operations - before;
    // 50 at once and 20 a second for 10 s, and two handshakes.
    assert!(operations < 400, "{operations} operations");
    assert!(world.gateway.sessions() <= 3);
    assert!(world.drops(DropReason::CookieSent) > 40_000);
}

/// Sources are forged, each used once, so that only the budget of all helps: clients get a cookie, and with it their session.
#[test]
fn under_load_a_cookie_opens_the_door() {
    let mut world = World::two_sites(Limits::default());
    let messages = initiations(&world, 4_000);
    let mut number = 0_u32;
    let mut flood = |world: &mut World, messages: &[Vec<u8>]| {
        for message in messages {
            number += 1;
            let [a, b, c, _] = number.wrapping_mul(2_654_435_761).to_be_bytes();
            world.inject(SocketAddr::from(([a | 1, b, c, 7], 1234)), message);
            if number.is_multiple_of(50) {
                world.settle();
            }
        }
    };
    let before = world.gateway.counters().curve_operations;
    // More than the burst, and then 4,000 a second for 11 s.
    flood(&mut world, &messages);
    world.clients[0].handshake();
    let mut tries = 1;
    for round in 0..110 {
        flood(&mut world, &messages[..400]);
        world.run(Duration::from_millis(100));
        // As WireGuard does: again after 5 s, now with the cookie.
        if round % 52 == 51 && world.ups(0) == 0 {
            world.clients[0].handshake();
            tries += 1;
        }
    }
    assert_eq!(world.ups(0), 1, "after {tries} tries");
    assert!(tries <= 2);
    let operations = world.gateway.counters().curve_operations - before;
    assert!(operations < 1_000 + 12 * 1_000 + 100, "{operations} operations");
    assert_eq!(world.gateway.sessions(), 1);
}

#[test]
fn a_cookie_is_good_at_its_own_address_and_port_alone() {
    let mut world = World::two_sites(Limits::default());
    let messages = initiations(&world, 60);
    let here: SocketAddr = world.clients[0].outside;
    for message in &messages {
        world.inject(here, message);
    }
    world.settle();
    let handshake = |world: &mut World| {
        world.clients[0].handshake();
        world.clients[0].out.pop_back().unwrap()
    };
    // The same client's address over its limit: a cookie is asked for.
    let without = handshake(&mut world);
    let before = world.drops(DropReason::CookieSent);
    world.inject(here, &without);
    assert_eq!(world.drops(DropReason::CookieSent), before + 1);
    let mut reply = Vec::new();
    while world.gateway.poll_transmit(world.now(), 1, &mut reply).is_some() {
        world.clients[0].receive(here, &reply);
        reply.clear();
    }
    let with = handshake(&mut world);
    assert_ne!(with[132..], [0; 16]);
    let elsewhere = SocketAddr::new(here.ip(), here.port() + 1);
    world.inject(elsewhere, &with);
    assert_eq!(world.drops(DropReason::CookieSent), before + 2, "not at another port");
    world.inject(here, &with);
    assert_eq!(world.drops(DropReason::CookieSent), before + 2, "at its own");
    assert_eq!(world.gateway.sessions(), 1);
    // After two minutes it is old.
    for message in &messages {
        world.inject(here, message);
    }
    world.run(Duration::from_secs(125));
    for message in &messages {
        world.inject(here, message);
    }
    let late = handshake(&mut world);
    let before = world.drops(DropReason::CookieSent);
    world.inject(here, &late);
    assert_eq!(world.drops(DropReason::CookieSent), before + 1);
}

#[test]
fn a_wrong_mac1_costs_no_operation_on_the_curve() {
    let mut world = World::two_sites(Limits::default());
    let mut message = initiations(&world, 1).remove(0);
    message[130] ^= 1;
    for port in 1..10_000 {
        world.inject(SocketAddr::from(([192, 0, 2, 66], port)), &message);
    }
    assert_eq!(world.gateway.counters().curve_operations, 0);
    assert_eq!(world.drops(DropReason::Mac1), 9_999);
    assert!(world.gateway.poll_transmit(world.now(), 1, &mut Vec::new()).is_none(), "and gets no answer");
}

/// A registered device that asks for one session after the other, each valid.
#[test]
fn one_peer_cannot_spend_what_is_for_all() {
    let mut world = World::two_sites(Limits::default());
    for number in 0..500_u16 {
        world.clients[0].handshake();
        let message = world.clients[0].out.pop_back().unwrap();
        world.inject(SocketAddr::from(([192, 0, (number % 250) as u8, 1], 1000 + number)), &message);
        world.settle();
    }
    assert_eq!(world.drops(DropReason::PeerRate), 490);
    assert_eq!(world.gateway.sessions(), 1, "and each replaces the one before");
    world.connect_client(1);
}
