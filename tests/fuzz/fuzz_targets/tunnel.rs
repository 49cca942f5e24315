//! A tunnel's gateway on arbitrary datagrams, from a stranger and from a device that has its keys (C13).
//!
//! What must hold: nothing panics; a stranger opens nothing; memory stays within its bounds; and a timer is never due for ever.
//! The input is a list of steps, each a kind, a length and that many bytes.
#![no_main]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use gateway_tunnel::config::{Limits, PeerConfig, Shard, SiteConfig};
use gateway_tunnel::{Event, Network, Path, PrivateKey, PublicKey, Tunnels};
use libfuzzer_sys::fuzz_target;

const DEVICE: [u8; 4] = [10, 1, 0, 2];
const INSIDE: [u8; 4] = [10, 0, 0, 1];

struct World {
    gateway: Tunnels,
    device: Tunn,
    now: Instant,
    streams: Vec<gateway_tunnel::StreamId>,
}

fuzz_target!(|data: &[u8]| {
    let mut world = World::new();
    world.handshake();
    let mut rest = data;
    while let [kind, length, bytes @ ..] = rest {
        let (bytes, next) = bytes.split_at(usize::from(*length).min(bytes.len()));
        rest = next;
        world.step(*kind, bytes);
        world.settle();
        assert!(world.gateway.buffer_bytes() <= 1 << 20);
        assert!(world.gateway.streams() <= 8);
    }
    world.now += Duration::from_secs(1000);
    for _ in 0..10_000 {
        world.settle();
        match world.gateway.poll_timeout() {
            Some(due) => world.now = world.now.max(due),
            None => break,
        }
        world.gateway.handle_timeout(world.now);
    }
    assert_eq!(world.gateway.sessions(), 0, "sessions end");
});

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let limits = Limits {
            streams_per_peer: 8,
            half_open_per_peer: 4,
            buffer_bytes: 1 << 20,
            stream_buffer_min: 1 << 12,
            stream_buffer_max: 1 << 14,
            ..Limits::default()
        };
        let key = PrivateKey::new([2; 32]);
        let public = key.public();
        let mut gateway = Tunnels::new(now, key, limits, Shard::default(), [1; 32]);
        let site: policy::names::SiteName = "aoi".parse().expect("a name");
        let config = SiteConfig {
            name: site.clone(),
            addresses: vec![INSIDE.into()],
            ports: vec![443],
            names: vec!["gw".to_owned()],
            mtu: 1360,
        };
        gateway.add_site(config).expect("a site");
        let secret = x25519::StaticSecret::from([3; 32]);
        let peer = PeerConfig {
            key: PublicKey(x25519::PublicKey::from(&secret).to_bytes()),
            site,
            device: "device".parse().expect("a name"),
            addresses: vec![Network::host(DEVICE.into())],
            preshared_key: None,
            keepalive: None,
        };
        gateway.add_peer(peer).expect("a peer");
        let device = Tunn::new(secret, x25519::PublicKey::from(public.0), None, None, 1, None);
        Self { gateway, device, now, streams: Vec::new() }
    }

    fn handshake(&mut self) {
        let mut buffer = [0; 2048];
        if let TunnResult::WriteToNetwork(message) = self.device.format_handshake_initiation(&mut buffer, true) {
            self.gateway.handle_datagram(self.now, device(), message);
        }
        self.settle();
    }

    fn step(&mut self, kind: u8, bytes: &[u8]) {
        match kind {
            0 => self.gateway.handle_datagram(self.now, stranger(), bytes),
            1 => {
                let before = self.gateway.sessions();
                let mut datagram = bytes.to_vec();
                for (byte, value) in datagram.iter_mut().zip([4, 0, 0, 0]) {
                    *byte = value;
                }
                self.gateway.handle_datagram(self.now, stranger(), &datagram);
                assert_eq!(self.gateway.sessions(), before);
            }
            2 => self.send(bytes),
            // A TCP segment with right lengths and checksums.
            3 | 4 => {
                let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0];
                packet.extend_from_slice(&DEVICE);
                packet.extend_from_slice(&INSIDE);
                packet.extend_from_slice(&[0x99, kind, 1, 187]);
                packet.extend_from_slice(bytes);
                fix(&mut packet);
                self.send(&packet);
            }
            // At most half a day: time that a clock can show.
            5 => {
                let millis = bytes.iter().fold(0, |sum, byte| ((sum << 4) + u64::from(*byte)) & 0x1ff_ffff);
                self.now += Duration::from_millis(millis);
            }
            6 => self.handshake(),
            _ => {
                for stream in std::mem::take(&mut self.streams) {
                    match kind & 3 {
                        0 => self.gateway.release(self.now, stream),
                        1 => self.gateway.reset(self.now, stream),
                        2 => drop(self.gateway.finish(self.now, stream)),
                        _ => drop(self.gateway.write(self.now, stream, bytes)),
                    }
                    if kind & 2 != 0 {
                        let _ = self.gateway.read(self.now, stream, &mut [0; 100]);
                        self.streams.push(stream);
                    }
                }
            }
        }
    }

    fn send(&mut self, packet: &[u8]) {
        let mut buffer = [0; 2048];
        if let TunnResult::WriteToNetwork(message) = self.device.encapsulate(packet, &mut buffer) {
            self.gateway.handle_datagram(self.now, device(), message);
        }
    }

    fn settle(&mut self) {
        self.gateway.handle_timeout(self.now);
        while let Some(event) = self.gateway.poll_event() {
            if let Event::Opened { stream, .. } = event {
                self.streams.push(stream);
            }
        }
        let mut datagrams = Vec::new();
        while let Some(transmit) = self.gateway.poll_transmit(self.now, 8, &mut datagrams) {
            if transmit.path != device() {
                datagrams.clear();
                continue;
            }
            for datagram in datagrams.chunks(transmit.segment_size.unwrap_or(transmit.size)) {
                let mut buffer = [0; 2048];
                if let TunnResult::WriteToNetwork(answer) = self.device.decapsulate(None, datagram, &mut buffer) {
                    self.gateway.handle_datagram(self.now, device(), answer);
                }
            }
            datagrams.clear();
        }
    }
}

fn device() -> Path {
    Path { remote: SocketAddr::from(([198, 51, 100, 1], 5)), local: None }
}

fn stranger() -> Path {
    Path { remote: SocketAddr::from(([192, 0, 2, 66], 7)), local: None }
}

fn fix(packet: &mut [u8]) {
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum);
    if packet.len() >= 40 {
        packet[36..38].copy_from_slice(&[0, 0]);
        let mut pseudo = packet[12..20].to_vec();
        pseudo.extend_from_slice(&[0, 6]);
        pseudo.extend_from_slice(&(length - 20).to_be_bytes());
        pseudo.extend_from_slice(&packet[20..]);
        let sum = checksum(&pseudo);
        packet[36..38].copy_from_slice(&sum);
    }
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
