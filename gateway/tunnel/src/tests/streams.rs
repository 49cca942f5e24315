//! Streams carry bytes, whatever the network does, and nothing is left of them.

use std::time::Duration;

use super::server::Habit;
use super::world::{INSIDE, INSIDE_V6, Weather, World};
use crate::config::Limits;
use crate::event::{Cause, Event};
use crate::stack::StreamError;

#[test]
fn bytes_go_both_ways() {
    let mut world = World::two_sites(Limits::default());
    world.connect_client(0);
    world.exchange(0, 40_000, INSIDE, 1_000_000);
    world.run(Duration::from_secs(60));
    assert_eq!(world.gateway.streams(), 0, "nothing is left");
    assert_eq!(world.gateway.buffer_bytes(), 0);
    assert_eq!(world.gateway.drops().total(), 0, "{:?}", world.gateway.drops().iter().collect::<Vec<_>>());
}

#[test]
fn ipv6_inside() {
    let mut world = World::new(Limits::default());
    let client = world.add_client(1, "aoi", "fd00:1::2", None);
    world.connect_client(client);
    world.exchange(client, 40_000, INSIDE_V6, 300_000);
}

#[test]
fn ipv6_outside() {
    let mut world = World::two_sites(Limits::default());
    world.clients[0].outside = "[2001:db8::7]:50000".parse().unwrap();
    world.connect_client(0);
    world.exchange(0, 40_000, INSIDE, 100_000);
    assert_eq!(world.gateway.counters().retransmissions, 0, "nothing was lost");
}

#[test]
fn bytes_arrive_through_loss_reordering_and_repetition() {
    for (lost, repeated, jitter) in [(30, 0, 0), (0, 100, 30), (20, 50, 20)] {
        let mut world = World::two_sites(Limits::default());
        world.connect_client(0);
        let jitter = Duration::from_millis(jitter);
        world.weather = Weather { delay: Duration::from_millis(10), jitter, lost, repeated };
        world.exchange(0, 40_000, INSIDE, 200_000);
        assert!(world.gateway.counters().retransmissions > 0 || lost == 0);
    }
}

#[test]
fn segments_fit_the_mtu_both_ways() {
    let mut world = World::two_sites(Limits::default());
    world.connect_client(0);
    world.record = true;
    world.exchange(0, 40_000, INSIDE, 300_000);
    // 1,360 inside, 32 for WireGuard; the client's own MTU of 1,420 does not count, since it was told a smaller MSS.
    assert_eq!(world.clients[0].lengths.iter().max(), Some(&(1360 + 32)));
    assert_eq!(world.heard.iter().map(|(_, datagram)| datagram.len()).max(), Some(1360 + 32));
    // Padded to 16 bytes (white paper, 5.4.6).
    assert!(world.clients[0].lengths.iter().all(|length| length % 16 == 0 || *length == 92));
}

#[test]
fn a_client_with_a_smaller_mtu_gets_smaller_segments() {
    let mut world = World::two_sites(Limits::default());
    world.clients[0].set_mtu(1280);
    world.connect_client(0);
    world.exchange(0, 40_000, INSIDE, 300_000);
    assert_eq!(world.clients[0].lengths.iter().max(), Some(&(1280 + 32)));
}

#[test]
fn many_streams_at_once() {
    let mut world = World::two_sites(Limits::default());
    world.connect_client(0);
    world.connect_client(1);
    let handles: Vec<_> = (0..200)
        .map(|number| (number % 2, world.clients[number % 2].connect_with(40_000 + number as u16, INSIDE, 4096)))
        .collect();
    let mut got = vec![0; handles.len()];
    let done = world.run_until(Duration::from_secs(60), |world| {
        for (at, (client, handle)) in handles.iter().enumerate() {
            let socket = world.clients[*client].socket(*handle);
            if socket.may_send() && got[at] == 0 && socket.send_queue() == 0 {
                socket.send_slice(&[at as u8; 1000]).unwrap();
                socket.close();
            }
            while socket.can_recv() {
                got[at] += socket
                    .recv(|bytes| {
                        assert!(bytes.iter().all(|byte| *byte == at as u8), "another's bytes");
                        (bytes.len(), bytes.len())
                    })
                    .unwrap();
            }
        }
        got.iter().all(|length| *length == 1000)
    });
    assert!(done, "{got:?}");
    let mut peers = std::collections::HashSet::new();
    for event in &world.events {
        if let Event::Opened { peer, .. } = event {
            peers.insert(peer.site.clone());
        }
    }
    assert_eq!(peers.len(), 2);
}

#[test]
fn a_slow_reader_stops_the_writer_and_nothing_is_lost() {
    let mut world = World::two_sites(Limits { stream_buffer_max: 16 << 10, ..Limits::default() });
    world.server.habit = Habit::Ignore;
    world.connect_client(0);
    let handle = world.clients[0].connect(40_000, INSIDE);
    let data: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    let mut sent = 0;
    let mut pump = |world: &mut World| {
        let socket = world.clients[0].socket(handle);
        if socket.can_send() && sent < data.len() {
            sent += socket.send_slice(&data[sent..]).unwrap();
        }
        false
    };
    world.run_until(Duration::from_secs(60), &mut pump);
    let stream = world.server.opened[0];
    let mut got = Vec::new();
    let mut buffer = [0; 5_000];
    let done = world.run_until(Duration::from_secs(600), |world| {
        pump(world);
        match world.gateway.read(world.now(), stream, &mut buffer) {
            Ok(length) => got.extend_from_slice(&buffer[..length]),
            Err(error) => assert_eq!(error, StreamError::Blocked),
        }
        got.len() >= data.len()
    });
    assert!(done, "{}", got.len());
    assert!(got == data);
}

#[test]
fn what_was_read_late_is_not_lost_when_both_have_finished() {
    let mut world = World::two_sites(Limits::default());
    world.server.habit = Habit::Ignore;
    world.connect_client(0);
    let handle = world.clients[0].connect(40_000, INSIDE);
    assert!(world.run_until(Duration::from_secs(5), |world| !world.server.opened.is_empty()));
    let stream = world.server.opened[0];
    let now = world.now();
    world.gateway.finish(now, stream).unwrap();
    world.run(Duration::from_secs(1));
    world.clients[0].socket(handle).send_slice(&[7; 3000]).unwrap();
    world.clients[0].socket(handle).close();
    world.run(Duration::from_secs(30));
    let mut buffer = [0; 10_000];
    assert_eq!(world.gateway.read(world.now(), stream, &mut buffer), Ok(3000));
    assert_eq!(world.gateway.read(world.now(), stream, &mut buffer), Ok(0));
    world.gateway.release(world.now(), stream);
    world.run(Duration::from_secs(1));
    assert_eq!(world.gateway.streams(), 0);
}

#[test]
fn a_reset_is_told_once_to_either_end() {
    let mut world = World::two_sites(Limits::default());
    world.server.habit = Habit::Ignore;
    world.connect_client(0);
    let by_client = world.clients[0].connect(40_000, INSIDE);
    let by_gateway = world.clients[0].connect(40_001, INSIDE);
    assert!(world.run_until(Duration::from_secs(5), |world| world.server.opened.len() == 2));
    world.clients[0].socket(by_client).abort();
    let (first, second) = (world.server.opened[0], world.server.opened[1]);
    world.gateway.reset(world.now(), second);
    world.run(Duration::from_secs(5));
    let closed: Vec<_> = world.events.iter().filter(|event| matches!(event, Event::Closed { .. })).collect();
    assert_eq!(closed, [&Event::Closed { stream: first, cause: Cause::Reset }]);
    assert!(!world.clients[0].socket(by_gateway).is_open(), "the client was told");
    assert_eq!(world.gateway.streams(), 0);
    assert_eq!(world.gateway.read(world.now(), first, &mut [0; 9]), Err(StreamError::Unknown));
}

#[test]
fn the_same_ports_can_be_used_again_at_once() {
    let mut world = World::two_sites(Limits::default());
    world.connect_client(0);
    for _ in 0..3 {
        world.exchange(0, 40_000, INSIDE, 1_000);
        world.clients[0].sockets = smoltcp::iface::SocketSet::new(Vec::new());
    }
    assert_eq!(world.server.opened.len(), 3);
}

#[test]
fn a_client_that_is_gone_is_noticed() {
    let mut world = World::two_sites(Limits::default());
    world.server.habit = Habit::Ignore;
    world.connect_client(0);
    world.clients[0].connect(40_000, INSIDE);
    assert!(world.run_until(Duration::from_secs(5), |world| !world.server.opened.is_empty()));
    world.weather.lost = 1000;
    assert!(world.run_until(Duration::from_secs(400), |world| !world.server.cut.is_empty()), "keepalives find it out");
    assert_eq!(world.gateway.streams(), 0);
}

/// A client that never finishes cannot keep a stream that the gateway is through with; one that takes its time to read can.
#[test]
fn what_was_given_up_does_not_linger_for_ever() {
    let mut world = World::two_sites(Limits::default());
    world.server.habit = Habit::Ignore;
    world.connect_client(0);
    let idle = world.clients[0].connect(40_000, INSIDE);
    assert!(world.run_until(Duration::from_secs(5), |world| !world.server.opened.is_empty()));
    let slow = world.clients[0].connect_with(40_001, INSIDE, 100);
    assert!(world.run_until(Duration::from_secs(5), |world| world.server.opened.len() == 2));
    for stream in world.server.opened.clone() {
        let now = world.now();
        assert_eq!(world.gateway.write(now, stream, &[6; 1000]), Ok(1000));
        world.gateway.finish(now, stream).unwrap();
        world.gateway.release(now, stream);
    }
    world.run(Duration::from_secs(50));
    assert_eq!(world.gateway.streams(), 2);
    world.run(Duration::from_secs(20));
    assert_eq!(world.gateway.streams(), 1, "the idle one is gone");
    assert_eq!(world.clients[0].socket(idle).recv_queue(), 1000);
    let mut got = 0;
    for _ in 0..30 {
        world.run(Duration::from_secs(10));
        let socket = world.clients[0].socket(slow);
        if socket.can_recv() {
            got += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap();
        }
    }
    assert_eq!(got, 1000);
    world.run(Duration::from_secs(130));
    assert_eq!((world.gateway.streams(), world.gateway.buffer_bytes()), (0, 0));
}
