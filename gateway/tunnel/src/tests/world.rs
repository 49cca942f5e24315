//! The simulation: a gateway, clients, and a network that delays, loses, reorders and repeats.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use policy::names::{DeviceName, SiteName};

use super::client::Client;
use super::server::Server;
use crate::config::{Limits, PeerConfig, Shard, SiteConfig};
use crate::event::Event;
use crate::keys::{PresharedKey, PrivateKey};
use crate::network::Network;
use crate::path::Path;
use crate::random::Random;
use crate::{DropReason, Tunnels};

pub(super) const GATEWAY: &str = "203.0.113.1:51820";
/// The gateway's inside addresses and port.
pub(super) const INSIDE: &str = "10.0.0.1:443";
pub(super) const INSIDE_V6: &str = "[fd00::1]:443";

/// What the network does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    pub(super) delay: Duration,
    /// Up to this much more, each datagram by itself: thus they overtake each other.
    pub(super) jitter: Duration,
    /// Of 1,000.
    pub(super) lost: u64,
    /// Of 1,000.
    pub(super) repeated: u64,
}

impl Default for Weather {
    fn default() -> Self {
        Self { delay: Duration::from_millis(5), jitter: Duration::ZERO, lost: 0, repeated: 0 }
    }
}

/// A datagram on its way: to which client, or to the gateway, and from where.
type Flight = (Option<usize>, SocketAddr, Vec<u8>);

pub(super) struct World {
    pub(super) gateway: Tunnels,
    pub(super) clients: Vec<Client>,
    pub(super) server: Server,
    pub(super) weather: Weather,
    pub(super) start: Instant,
    pub(super) elapsed: Duration,
    pub(super) events: Vec<Event>,
    /// Everything that clients sent and that arrived, for attackers.
    pub(super) heard: Vec<(SocketAddr, Vec<u8>)>,
    pub(super) record: bool,
    /// On the way: by time of arrival and number.
    flying: BTreeMap<(Duration, u64), Flight>,
    number: u64,
    random: Random,
    /// Datagrams that went to an address where no client is.
    pub(super) astray: Vec<(SocketAddr, Vec<u8>)>,
}

pub(super) fn site(name: &str) -> SiteName {
    SiteName::new(name).unwrap()
}

pub(super) fn site_config(name: &str) -> SiteConfig {
    SiteConfig {
        name: site(name),
        addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        ports: vec![443, 8443],
        names: Vec::new(),
        mtu: crate::config::DEFAULT_MTU,
    }
}

pub(super) fn range(text: &str) -> Network {
    let (address, length) = text.split_once('/').unwrap();
    Network::new(address.parse().unwrap(), length.parse().unwrap()).unwrap()
}

pub(super) fn peer_config(client: &Client, site_name: &str, ranges: &[&str], psk: Option<PresharedKey>) -> PeerConfig {
    PeerConfig {
        key: client.key.public(),
        site: site(site_name),
        device: DeviceName::new("device").unwrap(),
        addresses: ranges.iter().map(|text| range(text)).collect(),
        preshared_key: psk,
        keepalive: None,
    }
}

impl World {
    pub(super) fn new(limits: Limits) -> Self {
        let start = Instant::now();
        let mut gateway = Tunnels::new(start, PrivateKey::new([200; 32]), limits, Shard::default(), [3; 32]);
        gateway.add_site(site_config("aoi")).unwrap();
        gateway.add_site(site_config("kita")).unwrap();
        Self {
            gateway,
            clients: Vec::new(),
            server: Server::default(),
            weather: Weather::default(),
            start,
            elapsed: Duration::ZERO,
            events: Vec::new(),
            heard: Vec::new(),
            record: false,
            flying: BTreeMap::new(),
            number: 0,
            random: Random::new([9; 32]),
            astray: Vec::new(),
        }
    }

    /// With one client at `aoi` (10.1.0.2) and one at `kita` (10.2.0.2).
    pub(super) fn two_sites(limits: Limits) -> Self {
        let mut world = Self::new(limits);
        world.add_client(1, "aoi", "10.1.0.2", None);
        world.add_client(2, "kita", "10.2.0.2", None);
        world
    }

    pub(super) fn add_client(&mut self, number: u8, site: &str, inside: &str, psk: Option<PresharedKey>) -> usize {
        let outside = format!("198.51.100.{number}:50000");
        let client = Client::new(number, self.gateway.public_key(), &outside, inside, psk.clone());
        let ranges = [format!("{inside}/{}", if inside.contains(':') { 128 } else { 32 })];
        let ranges: Vec<&str> = ranges.iter().map(String::as_str).collect();
        self.gateway.add_peer(peer_config(&client, site, &ranges, psk)).unwrap();
        self.clients.push(client);
        self.clients.len() - 1
    }

    pub(super) fn now(&self) -> Instant {
        self.start + self.elapsed
    }

    pub(super) fn drops(&self, reason: DropReason) -> u64 {
        self.gateway.drops().get(reason)
    }

    /// Gives the gateway a datagram at once.
    pub(super) fn inject(&mut self, from: SocketAddr, datagram: &[u8]) {
        let path = Path { remote: from, local: None };
        self.gateway.handle_datagram(self.now(), path, datagram);
    }

    fn fly(&mut self, to_client: Option<usize>, from: SocketAddr, datagram: Vec<u8>) {
        if self.random.number() % 1000 < self.weather.lost {
            return;
        }
        let copies = 1 + usize::from(self.random.number() % 1000 < self.weather.repeated);
        for _ in 0..copies {
            let jitter = self.random.number() % (self.weather.jitter.as_micros() as u64 + 1);
            let due = self.elapsed + self.weather.delay + Duration::from_micros(jitter);
            self.number += 1;
            self.flying.insert((due, self.number), (to_client, from, datagram.clone()));
        }
    }

    /// Lets everybody do what can be done now.
    pub(super) fn settle(&mut self) {
        loop {
            let mut busy = false;
            while let Some(event) = self.gateway.poll_event() {
                busy = true;
                self.server.handle(self.start + self.elapsed, &mut self.gateway, &event);
                self.events.push(event);
            }
            let mut buffer = Vec::new();
            let now = self.now();
            while let Some(transmit) = self.gateway.poll_transmit(now, 10, &mut buffer) {
                busy = true;
                let from = GATEWAY.parse().unwrap();
                let to = self.clients.iter().position(|client| client.outside == transmit.path.remote);
                for datagram in buffer.chunks(transmit.segment_size.unwrap_or(transmit.size)) {
                    match to {
                        Some(_) => self.fly(to, from, datagram.to_vec()),
                        None => self.astray.push((transmit.path.remote, datagram.to_vec())),
                    }
                }
                buffer.clear();
            }
            for number in 0..self.clients.len() {
                self.clients[number].poll(self.elapsed);
                let from = self.clients[number].outside;
                while let Some(datagram) = self.clients[number].out.pop_front() {
                    busy = true;
                    self.fly(None, from, datagram);
                }
            }
            if !busy {
                self.gateway.check();
                return;
            }
        }
    }

    /// Goes on to the next thing that happens, but not past `limit`. `false` if that was reached.
    pub(super) fn step(&mut self, limit: Duration) -> bool {
        self.settle();
        let flying = self.flying.first_key_value().map(|((due, _), _)| *due);
        let gateway = self.gateway.poll_timeout().map(|due| due.saturating_duration_since(self.start));
        let elapsed = self.elapsed;
        let stacks = self.clients.iter_mut().filter_map(|client| client.poll_at(elapsed)).min();
        let next = [flying, gateway, stacks].into_iter().flatten().min().unwrap_or(limit);
        // Whatever is said to be due already gets a little time, lest a mistake hangs the test.
        let next =
            if flying.is_some_and(|due| due <= next) { next } else { next.max(elapsed + Duration::from_micros(100)) };
        if next >= limit {
            self.elapsed = limit;
            self.gateway.handle_timeout(self.now());
            return false;
        }
        self.elapsed = self.elapsed.max(next);
        while self.flying.first_key_value().is_some_and(|((due, _), _)| *due <= self.elapsed) {
            let (_, (client, from, datagram)) = self.flying.pop_first().unwrap();
            match client {
                Some(client) => self.clients[client].receive(from, &datagram),
                None => {
                    if self.record {
                        self.heard.push((from, datagram.clone()));
                    }
                    self.inject(from, &datagram);
                }
            }
        }
        self.gateway.handle_timeout(self.now());
        true
    }

    /// Goes on for a time.
    pub(super) fn run(&mut self, time: Duration) {
        let limit = self.elapsed + time;
        while self.step(limit) {}
        self.settle();
    }

    /// Goes on until something holds, and tells whether it did within a time.
    pub(super) fn run_until(&mut self, time: Duration, mut holds: impl FnMut(&mut Self) -> bool) -> bool {
        let limit = self.elapsed + time;
        loop {
            if holds(self) {
                return true;
            }
            if !self.step(limit) {
                self.settle();
                return holds(self);
            }
        }
    }

    /// Makes a session for a client, and asserts that it came about.
    pub(super) fn connect_client(&mut self, client: usize) {
        self.clients[client].handshake();
        let before = self.ups(client);
        assert!(self.run_until(Duration::from_secs(5), |world| world.ups(client) > before), "no session");
    }

    /// How many sessions of a client were confirmed.
    pub(super) fn ups(&self, client: usize) -> usize {
        let key = self.clients[client].key.public();
        self.events.iter().filter(|event| matches!(event, Event::SessionUp { peer, .. } if peer.key == key)).count()
    }

    /// Moves bytes both ways over one connection, and asserts that they arrive.
    pub(super) fn exchange(&mut self, client: usize, port: u16, to: &str, length: usize) {
        let handle = self.clients[client].connect(port, to);
        let data: Vec<u8> = (0..length).map(|at| (at * 31 % 251) as u8).collect();
        let (mut sent, mut got, mut closed) = (0, Vec::new(), false);
        let done = self.run_until(Duration::from_secs(600), |world| {
            let socket = world.clients[client].socket(handle);
            if socket.can_send() && sent < data.len() {
                sent += socket.send_slice(&data[sent..]).unwrap();
            }
            if sent == data.len() && !closed && socket.may_send() {
                socket.close();
                closed = true;
            }
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), got.extend_from_slice(bytes))).unwrap();
            }
            closed && !socket.may_recv()
        });
        assert!(done, "{} of {length} sent, {} came back", sent, got.len());
        assert!(got == data, "{} of {length} came back", got.len());
    }
}
