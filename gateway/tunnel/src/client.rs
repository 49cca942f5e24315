//! The other end: a device in one process, without an interface, root or a kernel's routes.
//!
//! For checks of a gateway that must not change the machine they run on, and for tests. It is boringtun's `Tunn` as any WireGuard
//! client has it, over which smoltcp is the device's TCP. As in the rest of the crate datagrams and time come in and datagrams go
//! out; but boringtun's timers go by its own clock, which tests of time do not move.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{ConnectError, Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use crate::keys::{PresharedKey, PrivateKey, PublicKey};
use crate::stack::StreamError;

/// A connection's buffer for one direction, in bytes.
const BUFFER: usize = 256 << 10;
/// The longest datagram that is looked at or made.
const DATAGRAM: usize = 2048;
/// boringtun's timers want to be looked at so often.
const TICK: Duration = Duration::from_millis(250);
/// Ports of the device's own side (RFC 6335 6).
const FIRST_PORT: u16 = 49_152;

/// What a client's configuration says.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The device's own key.
    pub key: PrivateKey,
    /// The gateway's.
    pub gateway: PublicKey,
    /// What both share beside.
    pub preshared_key: Option<PresharedKey>,
    /// The device's addresses inside, at most one of each version of IP.
    pub addresses: Vec<IpAddr>,
    /// The MTU inside, in bytes.
    pub mtu: u16,
}

/// A connection of a [`Client`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionId(SocketHandle);

/// A device with its tunnel.
pub struct Client {
    tunn: Tunn,
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
    out: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
    start: Instant,
    ticked: Instant,
    next_port: u16,
}

impl Client {
    /// A device that has not said a word yet. `seed` must be random: it numbers TCP's segments and the tunnel's session.
    #[must_use]
    pub fn new(now: Instant, config: &ClientConfig, seed: u64) -> Self {
        let shared = config.preshared_key.as_ref().map(PresharedKey::bytes);
        let gateway = x25519::PublicKey::from(config.gateway.0);
        // The index has 24 bits here; the rest is the number of the session.
        let index = u32::try_from(seed >> 40).unwrap_or(0);
        let tunn = Tunn::new(config.key.secret(), gateway, shared, None, index, None);
        let mut wire = Wire { mtu: usize::from(config.mtu), ..Wire::default() };
        let mut settings = Config::new(HardwareAddress::Ip);
        settings.random_seed = seed;
        let mut interface = Interface::new(settings, &mut wire, at(now, now));
        interface.update_ip_addrs(|list| {
            for address in &config.addresses {
                // A prefix of 0: every address is behind the tunnel.
                let _ = list.push(IpCidr::new(IpAddress::from(*address), 0));
            }
        });
        let sockets = SocketSet::new(Vec::new());
        let span = u64::from(u16::MAX - FIRST_PORT);
        let next_port = FIRST_PORT.saturating_add(u16::try_from(seed % span).unwrap_or(0));
        let (out, buffer) = (VecDeque::new(), vec![0; DATAGRAM]);
        Self { tunn, interface, sockets, wire, out, buffer, start: now, ticked: now, next_port }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// [`ConnectError`] if the device has no address of that version of IP, or the address cannot be connected to.
    pub fn connect(&mut self, now: Instant, to: SocketAddr) -> Result<ConnectionId, ConnectError> {
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        let port = self.next_port;
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        socket.connect(self.interface.context(), (IpAddress::from(to.ip()), to.port()), port)?;
        let id = ConnectionId(self.sockets.add(socket));
        self.work(now);
        Ok(id)
    }

    /// Takes a datagram of the gateway's.
    pub fn handle_datagram(&mut self, now: Instant, from: IpAddr, datagram: &[u8]) {
        let mut input = datagram;
        loop {
            match self.tunn.decapsulate(Some(from), input, &mut self.buffer) {
                TunnResult::WriteToNetwork(message) => self.out.push_back(message.to_vec()),
                TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                    self.wire.arriving.push_back(packet.to_vec());
                    break;
                }
                // What is not the gateway's is nobody's.
                TunnResult::Done | TunnResult::Err(_) => break,
            }
            // Again without a datagram, until nothing waits any more.
            input = &[];
        }
        self.work(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now.saturating_duration_since(self.ticked) >= TICK {
            self.ticked = now;
            if let TunnResult::WriteToNetwork(message) = self.tunn.update_timers(&mut self.buffer) {
                self.out.push_back(message.to_vec());
            }
        }
        self.work(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) must be called at the latest.
    pub fn poll_timeout(&mut self, now: Instant) -> Instant {
        let tick = self.ticked.checked_add(TICK).unwrap_or(now);
        let wait = self.interface.poll_delay(at(self.start, now), &self.sockets);
        let tcp = wait.and_then(|wait| now.checked_add(Duration::from_micros(wait.total_micros())));
        tcp.map_or(tick, |tcp| tcp.min(tick))
    }

    /// The next datagram for the gateway.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// Whether a connection is open, in either direction.
    ///
    /// # Errors
    /// [`StreamError::Blocked`] as long as nobody has answered, [`StreamError::Closed`] once it is over.
    pub fn is_open(&self, connection: ConnectionId) -> Result<(), StreamError> {
        match self.sockets.get::<Socket<'static>>(connection.0).state() {
            State::SynSent | State::SynReceived | State::Listen => Err(StreamError::Blocked),
            State::Closed | State::TimeWait => Err(StreamError::Closed),
            State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck => Ok(()),
        }
    }

    /// Reads. 0 bytes are the end.
    ///
    /// # Errors
    /// [`StreamError::Blocked`] if there is nothing yet, [`StreamError::Closed`] if it was reset.
    pub fn read(&mut self, now: Instant, connection: ConnectionId, buffer: &mut [u8]) -> Result<usize, StreamError> {
        let socket = self.sockets.get_mut::<Socket<'static>>(connection.0);
        if socket.can_recv() {
            let length = socket.recv_slice(buffer).map_err(|_| StreamError::Closed)?;
            self.work(now);
            return Ok(length);
        }
        match socket.state() {
            State::CloseWait | State::LastAck | State::Closing | State::TimeWait => Ok(0),
            State::Closed => Err(StreamError::Closed),
            State::Listen
            | State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2 => Err(StreamError::Blocked),
        }
    }

    /// Writes as much as there is room for, and tells how much that was.
    ///
    /// # Errors
    /// [`StreamError::Blocked`] if there is no room, or nobody has answered yet; [`StreamError::Closed`] if it is over.
    pub fn write(&mut self, now: Instant, connection: ConnectionId, data: &[u8]) -> Result<usize, StreamError> {
        let socket = self.sockets.get_mut::<Socket<'static>>(connection.0);
        if matches!(socket.state(), State::SynSent | State::SynReceived) {
            return Err(StreamError::Blocked);
        }
        match socket.send_slice(data) {
            Ok(0) if !data.is_empty() => Err(StreamError::Blocked),
            Ok(length) => {
                self.work(now);
                Ok(length)
            }
            Err(_) => Err(StreamError::Closed),
        }
    }

    /// Ends the writing side.
    pub fn finish(&mut self, now: Instant, connection: ConnectionId) {
        self.sockets.get_mut::<Socket<'static>>(connection.0).close();
        self.work(now);
    }

    /// Ends it, and tells the gateway that it broke where it was not over.
    pub fn close(&mut self, now: Instant, connection: ConnectionId) {
        self.sockets.get_mut::<Socket<'static>>(connection.0).abort();
        self.work(now);
        self.sockets.remove(connection.0);
    }

    /// Lets TCP work, and puts what it makes into the tunnel. Without a session the tunnel keeps it and asks for one.
    fn work(&mut self, now: Instant) {
        self.interface.poll(at(self.start, now), &mut self.wire, &mut self.sockets);
        while let Some(packet) = self.wire.leaving.pop_front() {
            if let TunnResult::WriteToNetwork(message) = self.tunn.encapsulate(&packet, &mut self.buffer) {
                self.out.push_back(message.to_vec());
            }
        }
    }
}

/// Time as smoltcp has it. It may not be 0.
fn at(start: Instant, now: Instant) -> smoltcp::time::Instant {
    let elapsed = now.saturating_duration_since(start).as_micros();
    smoltcp::time::Instant::from_micros(i64::try_from(elapsed).unwrap_or(i64::MAX).saturating_add(1_000_000))
}

#[derive(Default)]
struct Wire {
    arriving: VecDeque<Vec<u8>>,
    leaving: VecDeque<Vec<u8>>,
    mtu: usize,
}

impl Device for Wire {
    type RxToken<'t> = Arriving;
    type TxToken<'t> = Leaving<'t>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Arriving, Leaving<'_>)> {
        Some((Arriving(self.arriving.pop_front()?), Leaving(&mut self.leaving)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Leaving<'_>> {
        Some(Leaving(&mut self.leaving))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

struct Arriving(Vec<u8>);

impl RxToken for Arriving {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Leaving<'w>(&'w mut VecDeque<Vec<u8>>);

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut packet = vec![0; length];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

#[cfg(test)]
mod tests {
    use policy::names::SiteName;

    use super::*;
    use crate::config::{Limits, PeerConfig, Shard, SiteConfig};
    use crate::{Event, Network, Path, Tunnels};

    /// A client and a gateway that exchange a question and its answer, and end in order.
    #[test]
    fn it_speaks_with_the_gateway() {
        let now = Instant::now();
        let (own, key) = (PrivateKey::new([1; 32]), PrivateKey::new([2; 32]));
        let gateway = key.public();
        let mut tunnels = Tunnels::new(now, key, Limits::default(), Shard::default(), [3; 32]);
        let site: SiteName = "sakura".parse().unwrap();
        let inside: IpAddr = [10, 64, 0, 1].into();
        let config = SiteConfig {
            name: site.clone(),
            addresses: vec![inside],
            ports: vec![443],
            names: Vec::new(),
            mtu: crate::config::DEFAULT_MTU,
        };
        tunnels.add_site(config).unwrap();
        let address: IpAddr = [10, 64, 1, 2].into();
        let shared = PresharedKey::new([9; 32]);
        let peer = PeerConfig {
            key: own.public(),
            site,
            device: "ward-1".parse().unwrap(),
            addresses: vec![Network::host(address)],
            preshared_key: Some(shared.clone()),
            keepalive: None,
        };
        tunnels.add_peer(peer).unwrap();
        let config =
            ClientConfig { key: own, gateway, preshared_key: Some(shared), addresses: vec![address], mtu: 1360 };
        let mut client = Client::new(now, &config, 0x1234_5678_9abc_def0);
        let connection = client.connect(now, (inside, 443).into()).unwrap();
        assert_eq!(client.is_open(connection), Err(StreamError::Blocked));
        assert_eq!(client.write(now, connection, b"early"), Err(StreamError::Blocked));

        let path = Path { remote: "192.0.2.7:40000".parse().unwrap(), local: None };
        let (mut asked, mut answer, mut stream, mut over) = (Vec::new(), Vec::new(), None, false);
        let mut wrote = false;
        for _ in 0..200 {
            while let Some(datagram) = client.poll_transmit() {
                tunnels.handle_datagram(now, path, &datagram);
            }
            while let Some(event) = tunnels.poll_event() {
                if let Event::Opened { stream: opened, .. } = event {
                    stream = Some(opened);
                }
            }
            let mut buffer = [0; 100];
            if let Some(stream) = stream
                && let Ok(length @ 1..) = tunnels.read(now, stream, &mut buffer)
            {
                asked.extend_from_slice(&buffer[..length]);
                tunnels.write(now, stream, b"answer").unwrap();
                tunnels.finish(now, stream).unwrap();
            }
            let mut made = Vec::new();
            while let Some(transmit) = tunnels.poll_transmit(now, 1, &mut made) {
                client.handle_datagram(now, path.remote.ip(), &made[..transmit.size]);
                made.clear();
            }
            client.handle_timeout(now);
            if client.is_open(connection).is_ok() && !wrote {
                wrote = client.write(now, connection, b"question") == Ok(8);
            }
            match client.read(now, connection, &mut buffer) {
                Ok(0) => over = true,
                Ok(length) => answer.extend_from_slice(&buffer[..length]),
                Err(error) => assert_eq!(error, StreamError::Blocked),
            }
        }
        assert_eq!((&asked[..], &answer[..], over), (&b"question"[..], &b"answer"[..], true));
        assert!(client.poll_timeout(now) <= now + TICK);
        client.close(now, connection);
    }
}
