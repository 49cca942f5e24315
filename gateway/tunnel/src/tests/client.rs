//! A device: boringtun as any WireGuard client has it, and smoltcp as its operating system.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use crate::keys::{PresharedKey, PrivateKey, PublicKey};

pub(super) struct Client {
    pub(super) key: PrivateKey,
    gateway: PublicKey,
    pub(super) tunn: Tunn,
    /// Its outer address.
    pub(super) outside: SocketAddr,
    pub(super) inside: IpAddr,
    pub(super) interface: Interface,
    pub(super) sockets: SocketSet<'static>,
    pub(super) wire: Wire,
    /// Datagrams to the gateway.
    pub(super) out: VecDeque<Vec<u8>>,
    /// Keepalives that came.
    pub(super) keepalives: usize,
    /// Packets that came and were not for the stack: ICMP.
    pub(super) echoes: usize,
    /// Lengths of datagrams that came.
    pub(super) lengths: Vec<usize>,
}

#[derive(Default)]
pub(super) struct Wire {
    pub(super) arriving: VecDeque<Vec<u8>>,
    pub(super) leaving: VecDeque<Vec<u8>>,
    pub(super) mtu: usize,
}

impl Client {
    pub(super) fn new(number: u8, gateway: PublicKey, outside: &str, inside: &str, psk: Option<PresharedKey>) -> Self {
        let key = PrivateKey::new([number; 32]);
        let inside: IpAddr = inside.parse().unwrap();
        let mut wire = Wire { mtu: 1420, ..Wire::default() };
        let interface = interface(number, inside, &mut wire);
        let tunn = tunn(&key, gateway, psk.as_ref(), u32::from(number));
        Self {
            key,
            gateway,
            tunn,
            outside: outside.parse().unwrap(),
            inside,
            interface,
            sockets: SocketSet::new(Vec::new()),
            wire,
            out: VecDeque::new(),
            keepalives: 0,
            echoes: 0,
            lengths: Vec::new(),
        }
    }

    /// Gives its tunnel another MTU.
    pub(super) fn set_mtu(&mut self, mtu: usize) {
        self.wire.mtu = mtu;
        self.interface = interface(77, self.inside, &mut self.wire);
    }

    /// Begins anew, with another preshared key.
    pub(super) fn restart(&mut self, psk: Option<&PresharedKey>) {
        self.tunn = tunn(&self.key, self.gateway, psk, 99);
    }

    /// Asks for a session, as a client does at first and after two minutes.
    pub(super) fn handshake(&mut self) {
        let mut buffer = vec![0; 2048];
        if let TunnResult::WriteToNetwork(message) = self.tunn.format_handshake_initiation(&mut buffer, true) {
            self.out.push_back(message.to_vec());
        }
    }

    /// Sends a packet as it is.
    pub(super) fn send_packet(&mut self, packet: &[u8]) {
        let mut buffer = vec![0; 4096];
        if let TunnResult::WriteToNetwork(message) = self.tunn.encapsulate(packet, &mut buffer) {
            self.out.push_back(message.to_vec());
        }
    }

    /// Takes a datagram.
    pub(super) fn receive(&mut self, from: SocketAddr, datagram: &[u8]) {
        self.lengths.push(datagram.len());
        let mut buffer = vec![0; 4096];
        let mut input = datagram;
        loop {
            match self.tunn.decapsulate(Some(from.ip()), input, &mut buffer) {
                TunnResult::WriteToNetwork(message) => self.out.push_back(message.to_vec()),
                TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                    self.wire.arriving.push_back(packet.to_vec());
                    break;
                }
                TunnResult::Done => {
                    self.keepalives += usize::from(datagram.len() == 32);
                    break;
                }
                TunnResult::Err(_) => break,
            }
            input = &[];
        }
    }

    /// Lets its stack work.
    pub(super) fn poll(&mut self, elapsed: Duration) {
        let at = at(elapsed);
        self.echoes += self
            .wire
            .arriving
            .iter()
            .filter(|packet| matches!((packet[0] >> 4, packet[9], packet[6]), (4, 1, _) | (6, _, 58)))
            .count();
        self.interface.poll(at, &mut self.wire, &mut self.sockets);
        while let Some(packet) = self.wire.leaving.pop_front() {
            self.send_packet(&packet);
        }
    }

    pub(super) fn poll_at(&mut self, elapsed: Duration) -> Option<Duration> {
        let due = self.interface.poll_at(at(elapsed), &self.sockets)?;
        Some(Duration::from_micros(due.total_micros() as u64).saturating_sub(ORIGIN))
    }

    /// Opens a connection.
    pub(super) fn connect(&mut self, port: u16, to: &str) -> SocketHandle {
        self.connect_with(port, to, 1 << 18)
    }

    pub(super) fn connect_with(&mut self, port: u16, to: &str, buffer: usize) -> SocketHandle {
        let to: SocketAddr = to.parse().unwrap();
        let mut socket =
            tcp::Socket::new(tcp::SocketBuffer::new(vec![0; buffer]), tcp::SocketBuffer::new(vec![0; buffer]));
        let remote = (IpAddress::from(to.ip()), to.port());
        let local = (IpAddress::from(self.inside), port);
        socket.connect(self.interface.context(), remote, local).unwrap();
        self.sockets.add(socket)
    }

    pub(super) fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }
}

fn interface(seed: u8, inside: IpAddr, wire: &mut Wire) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = u64::from(seed);
    let mut interface = Interface::new(config, wire, Instant::from_secs(1));
    interface.update_ip_addrs(|list| list.push(IpCidr::new(IpAddress::from(inside), 0)).unwrap());
    interface
}

const ORIGIN: Duration = Duration::from_secs(2);

fn at(elapsed: Duration) -> Instant {
    Instant::from_micros((elapsed + ORIGIN).as_micros() as i64)
}

fn tunn(key: &PrivateKey, gateway: PublicKey, psk: Option<&PresharedKey>, index: u32) -> Tunn {
    let psk = psk.map(PresharedKey::bytes);
    // Its own limiter counts by the real clock.
    let limiter = Arc::new(RateLimiter::new(&x25519::PublicKey::from(key.public().0), u64::MAX));
    Tunn::new(key.secret(), x25519::PublicKey::from(gateway.0), psk, None, index, Some(limiter))
}

impl Device for Wire {
    type RxToken<'t> = Packet;
    type TxToken<'t> = Leaving<'t>;

    fn receive(&mut self, _: Instant) -> Option<(Packet, Leaving<'_>)> {
        Some((Packet(self.arriving.pop_front()?), Leaving(&mut self.leaving)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving<'_>> {
        Some(Leaving(&mut self.leaving))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

pub(super) struct Packet(Vec<u8>);

impl RxToken for Packet {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(super) struct Leaving<'t>(&'t mut VecDeque<Vec<u8>>);

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut buffer = vec![0; length];
        let result = f(&mut buffer);
        self.0.push_back(buffer);
        result
    }
}
