//! The TCP/IP stack of one site. It knows the gateway's inside addresses and nothing else: there is no route to another site's
//! stack, nor to anything outside (R14).
//!
//! smoltcp has no listening sockets that beget others, so a socket is made for each SYN that [`crate::packet`] let through, and
//! it listens for just the time that it takes to read that SYN. That a socket listens at no other time means that no segment
//! ever reaches one by accident.

mod admit;
mod link;
mod retransmission;
mod stream;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, Ipv4Address, Ipv6Address};

use crate::budget::Budget;
use crate::drops::DropReason;
use crate::event::{Event, StreamId};
use crate::packet::{Packet, Payload};
use crate::peer::Peer;

use link::Link;
pub(crate) use link::Packets;
use stream::Stream;
pub use stream::StreamError;

/// Zero has a meaning of its own to smoltcp.
const ORIGIN: Duration = Duration::from_secs(10);

/// Both ends of a TCP connection: the device's, and the gateway's.
type Flow = (SocketAddr, SocketAddr);

pub(crate) struct Stack {
    site: usize,
    interface: Interface,
    sockets: SocketSet<'static>,
    flows: HashMap<Flow, u64>,
    streams: HashMap<u64, Stream>,
    half_open: usize,
    /// Streams that were given up and are removed once smoltcp is through with them.
    lingering: BTreeSet<u64>,
    /// A timer of some socket has expired, and smoltcp will act on it when it makes packets.
    timed: bool,
    mtu: usize,
    start: Instant,
}

/// What a stack changes outside of itself.
pub(crate) struct Surroundings<'a> {
    pub(crate) now: Instant,
    pub(crate) limits: &'a crate::config::Limits,
    pub(crate) packets: &'a mut Packets,
    pub(crate) budget: &'a mut Budget,
    pub(crate) peers: &'a mut slab::Slab<Peer>,
    pub(crate) events: &'a mut std::collections::VecDeque<Event>,
    /// Drops that the stack itself decided on.
    pub(crate) drops: &'a mut Vec<DropReason>,
    pub(crate) next_stream: &'a mut u64,
    /// Segments that were sent again.
    pub(crate) retransmissions: &'a mut u64,
}

impl Stack {
    pub(crate) fn new(
        site: usize,
        addresses: &[IpAddr],
        mtu: u16,
        seed: u64,
        now: Instant,
        packets: &mut Packets,
    ) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mtu = usize::from(mtu);
        let at = StackInstant::from_micros(i64::try_from(ORIGIN.as_micros()).unwrap_or(0));
        let mut interface = Interface::new(config, &mut Link { arriving: None, packets, mtu }, at);
        interface.update_ip_addrs(|list| {
            for address in addresses {
                let length = if address.is_ipv4() { 32 } else { 128 };
                // There are at most as many as fit: the site's configuration was checked.
                let _ = list.push(IpCidr::new(IpAddress::from(*address), length));
            }
        });
        // Everything goes to the link, which looks for the owner of the address.
        let routes = interface.routes_mut();
        let _ = routes.add_default_ipv4_route(Ipv4Address::new(169, 254, 0, 1));
        let _ = routes.add_default_ipv6_route(Ipv6Address::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
        Self {
            site,
            interface,
            sockets: SocketSet::new(Vec::new()),
            flows: HashMap::new(),
            streams: HashMap::new(),
            half_open: 0,
            lingering: BTreeSet::new(),
            timed: false,
            mtu,
            start: now,
        }
    }

    fn at(&self, now: Instant) -> StackInstant {
        let elapsed = now.saturating_duration_since(self.start).saturating_add(ORIGIN);
        StackInstant::from_micros(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
    }

    fn id(&self, number: u64) -> StreamId {
        StreamId { site: self.site, number }
    }

    /// Whether there is nothing to keep it for.
    pub(crate) fn is_idle(&self) -> bool {
        self.streams.is_empty()
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Takes a packet that belongs here.
    ///
    /// # Errors
    /// Why it was dropped.
    pub(crate) fn take(
        &mut self,
        around: &mut Surroundings<'_>,
        peer: usize,
        packet: &Packet,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        let (Payload::Tcp { opens, resets, .. }, Some(flow)) = (packet.payload, packet.flow()) else {
            self.ingress(around, bytes);
            return Ok(());
        };
        if opens {
            self.clear_closed(around, flow);
        }
        let number = match self.flows.get(&flow) {
            Some(number) => *number,
            None if opens => self.admit(around, peer, flow)?,
            None => {
                // The other end is told that nothing is here; smoltcp never answers a reset.
                if !resets {
                    self.ingress(around, bytes);
                }
                return Err(DropReason::NoConnection);
            }
        };
        self.ingress(around, bytes);
        self.look(around, number);
        Ok(())
    }

    fn ingress(&mut self, around: &mut Surroundings<'_>, bytes: &[u8]) {
        let at = self.at(around.now);
        let mut link = Link { arriving: Some(bytes), packets: around.packets, mtu: self.mtu };
        let _ = self.interface.poll_ingress_single(at, &mut link, &mut self.sockets);
    }

    /// Makes packets, as many as are to be sent and there is room for. `true` if there may be more.
    pub(crate) fn make(&mut self, around: &mut Surroundings<'_>) -> bool {
        let at = self.at(around.now);
        let mut changed = false;
        let before = around.packets.len();
        loop {
            let mut link = Link { arriving: None, packets: around.packets, mtu: self.mtu };
            match self.interface.poll_egress(at, &mut link, &mut self.sockets) {
                smoltcp::iface::PollResult::SocketStateChanged => changed = true,
                smoltcp::iface::PollResult::None => break,
            }
            if around.packets.is_full() {
                break;
            }
        }
        let again = self.retransmissions(around.packets.made_since(before));
        *around.retransmissions = around.retransmissions.saturating_add(again);
        if std::mem::take(&mut self.timed) {
            self.look_at_all(around);
        } else if changed && !self.lingering.is_empty() {
            let numbers: Vec<u64> = self.lingering.iter().copied().collect();
            for number in numbers {
                self.look(around, number);
            }
        }
        around.packets.is_full()
    }

    /// Time has come for something: now, or when the next packets are made.
    pub(crate) fn handle_timeout(&mut self, around: &mut Surroundings<'_>) {
        self.timed = true;
        self.look_at_all(around);
    }

    fn look_at_all(&mut self, around: &mut Surroundings<'_>) {
        let numbers: Vec<u64> = self.streams.keys().copied().collect();
        for number in numbers {
            self.look(around, number);
        }
    }

    /// When something has to be made or looked at.
    pub(crate) fn deadline(&mut self, now: Instant) -> Option<Instant> {
        let at = self.at(now);
        let stack = self.interface.poll_at(at, &self.sockets).map(|due| {
            let wait = due.total_micros().saturating_sub(at.total_micros());
            now.checked_add(Duration::from_micros(u64::try_from(wait).unwrap_or(0))).unwrap_or(now)
        });
        let half_open = if self.half_open == 0 {
            None
        } else {
            let dues = self.streams.values().filter(|stream| stream.is_half_open()).map(Stream::half_open_until);
            dues.flatten().min()
        };
        let lingering = self.lingering.iter().filter_map(|number| self.streams.get(number)?.linger_until());
        stack.into_iter().chain(half_open).chain(lingering).min()
    }

    fn socket(&mut self, number: u64) -> Option<&mut tcp::Socket<'static>> {
        let handle = self.streams.get(&number)?.handle;
        // A stream has its socket as long as it is in the table.
        Some(self.sockets.get_mut::<tcp::Socket<'static>>(handle))
    }
}
