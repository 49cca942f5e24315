//! What comes from the network.

use std::time::Instant;

use super::{MAX_DATAGRAM, Timer, Tunnels};
use crate::config::SiteConfig;
use crate::dns;
use crate::drops::DropReason;
use crate::event::Event;
use crate::gate::Admission;
use crate::initiation;
use crate::message::Message;
use crate::packet::{self, Packet, Payload};
use crate::path::Path;
use crate::stack::Stack;

impl Tunnels {
    /// Takes a datagram that came at `now` by `path`. Whatever is in it, this neither fails nor panics.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        self.advance(now);
        let counters = &mut self.core.counters;
        counters.received_datagrams = counters.received_datagrams.saturating_add(1);
        counters.received_bytes = counters.received_bytes.saturating_add(datagram.len() as u64);
        let taken = self.take(path, datagram);
        self.dropped(taken);
    }

    /// Takes an initiation that another worker let pass and [handed over](Event::HandOver).
    pub fn handle_handed_over(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        self.advance(now);
        let taken = match Message::parse(datagram) {
            Some(Message::Initiation { .. }) => self.take_initiation(path, datagram, false),
            Some(Message::Response { .. } | Message::Cookie { .. } | Message::Data { .. }) | None => {
                Err((None, DropReason::NotWireGuard))
            }
        };
        self.dropped(taken);
    }

    fn dropped(&mut self, taken: Result<(), (Option<usize>, DropReason)>) {
        if let Err((site, reason)) = taken {
            self.drop_one(site, reason);
        }
        if !self.core.unreported.is_empty() {
            self.report();
        }
    }

    fn take(&mut self, path: Path, datagram: &[u8]) -> Result<(), (Option<usize>, DropReason)> {
        if datagram.len() > MAX_DATAGRAM {
            return Err((None, DropReason::Oversized));
        }
        let stranger = |reason| (None, reason);
        match Message::parse(datagram).ok_or((None, DropReason::NotWireGuard))? {
            Message::Initiation { sender } => {
                self.pass(path, datagram, sender).map_err(stranger)?;
                self.take_initiation(path, datagram, true)
            }
            Message::Response { receiver } => {
                let peer = self.core.peer_of(receiver >> 8).ok_or((None, DropReason::UnknownSession))?;
                // The index that a cookie reply would go to is the sender's, which stands where initiations have it.
                let sender = datagram.get(4..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
                self.pass(path, datagram, sender).map_err(stranger)?;
                self.take_answer(path, datagram, peer, false)
            }
            Message::Cookie { receiver } => {
                let peer = self.core.peer_of(receiver >> 8).ok_or((None, DropReason::UnknownSession))?;
                self.take_answer(path, datagram, peer, true)
            }
            Message::Data { receiver, counter } => self.take_data(path, datagram, receiver >> 8, counter),
        }
    }

    /// Lets a handshake message pass, before it costs anything.
    fn pass(&mut self, path: Path, datagram: &[u8], sender: u32) -> Result<(), DropReason> {
        let elapsed = self.core.elapsed(self.now);
        let core = &mut self.core;
        match core.gate.admit(elapsed, path.remote, datagram, sender, &mut core.random) {
            Admission::Yes => Ok(()),
            Admission::Stranger => Err(DropReason::Mac1),
            Admission::Refused => Err(DropReason::HandshakeRate),
            Admission::Cookie(reply) => {
                core.send(path, reply.to_vec());
                Err(DropReason::CookieSent)
            }
        }
    }

    fn take_initiation(
        &mut self,
        path: Path,
        datagram: &[u8],
        may_hand_over: bool,
    ) -> Result<(), (Option<usize>, DropReason)> {
        let counters = &mut self.core.counters;
        counters.curve_operations = counters.curve_operations.saturating_add(1);
        let identity = &self.core.identity;
        let opened =
            initiation::open(&identity.private, &identity.public, datagram).ok_or((None, DropReason::Forged))?;
        if let Some(shard) = self.elsewhere.get(&opened.key).filter(|_| may_hand_over) {
            self.core.tell(Event::HandOver { shard: *shard, path, datagram: datagram.to_vec() });
            return Ok(());
        }
        let id = *self.by_key.get(&opened.key).ok_or((None, DropReason::UnknownKey))?;
        let peer = self.peers.get_mut(id).ok_or((None, DropReason::UnknownKey))?;
        // Until the timestamp has proved the key, it is nobody's.
        let site = peer.site;
        peer.take_initiation(self.now, &mut self.core, path, datagram, &opened).map_err(|reason| {
            let known = (reason != DropReason::Forged).then_some(site);
            (known, reason)
        })?;
        let due = peer.deadline();
        self.set_timer(Timer::Peer(id), due);
        Ok(())
    }

    fn take_answer(
        &mut self,
        path: Path,
        datagram: &[u8],
        id: usize,
        is_cookie: bool,
    ) -> Result<(), (Option<usize>, DropReason)> {
        let peer = self.peers.get_mut(id).ok_or((None, DropReason::UnknownSession))?;
        let taken = peer.take_answer(self.now, &mut self.core, path, datagram, is_cookie);
        let due = peer.deadline();
        self.set_timer(Timer::Peer(id), due);
        taken.map_err(|reason| (None, reason))
    }

    fn take_data(
        &mut self,
        path: Path,
        datagram: &[u8],
        index: u32,
        counter: u64,
    ) -> Result<(), (Option<usize>, DropReason)> {
        let id = self.core.peer_of(index).ok_or((None, DropReason::UnknownSession))?;
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = self.take_data_into(path, datagram, id, (index, counter), &mut scratch);
        self.scratch = scratch;
        result
    }

    fn take_data_into(
        &mut self,
        path: Path,
        datagram: &[u8],
        id: usize,
        place: (u32, u64),
        scratch: &mut [u8],
    ) -> Result<(), (Option<usize>, DropReason)> {
        let peer = self.peers.get_mut(id).ok_or((None, DropReason::UnknownSession))?;
        let site = peer.site;
        let message = peer.take_message(self.now, &mut self.core, path, place, datagram, scratch);
        let due = peer.deadline();
        self.set_timer(Timer::Peer(id), due);
        // Only what was authenticated is the site's.
        let inner = match message {
            Ok(inner) => inner,
            Err(DropReason::Malformed) => return Err((Some(site), DropReason::Malformed)),
            Err(reason) => return Err((None, reason)),
        };
        let Some(inner) = inner else { return Ok(()) };
        self.take_packet(id, site, inner).map_err(|reason| (Some(site), reason))
    }

    fn take_packet(&mut self, peer: usize, site: usize, inner: &[u8]) -> Result<(), DropReason> {
        let packet = self.judge(peer, site, inner)?;
        let entry = self.sites.get_mut(site).ok_or(DropReason::OtherAddress)?;
        if let Payload::Dns { at } = packet.payload {
            let ends = (packet.source, packet.destination);
            let SiteConfig { names, addresses, mtu, .. } = &entry.config;
            let answer = inner.get(at..).and_then(|datagram| dns::answer(ends, datagram, names, addresses));
            let mtu = *mtu;
            return self.send_packet(peer, mtu, &mut answer.ok_or(DropReason::Malformed)?);
        }
        if entry.stack.is_none() {
            let seed = self.core.random.number();
            let config = &entry.config;
            let stack = Stack::new(site, &config.addresses, config.mtu, seed, self.now, &mut self.packets);
            entry.stack = Some(Box::new(stack));
        }
        let taken = self.with_stack(site, |stack, around| stack.take(around, peer, &packet, inner));
        // Answers to this packet alone.
        self.send_made(site);
        self.wake(site);
        taken.unwrap_or(Ok(()))
    }

    /// Whether a packet may reach its site's stack (R14): it comes from an address that is its peer's own, and goes to the
    /// gateway's own address and a port that listens there.
    fn judge(&self, peer: usize, site: usize, inner: &[u8]) -> Result<Packet, DropReason> {
        let (source, destination) = packet::addresses(inner).ok_or(DropReason::Malformed)?;
        let config = &self.sites.get(site).ok_or(DropReason::OtherAddress)?.config;
        if !packet::is_one_host(source) || self.owners.of(source) != Some(peer) || config.addresses.contains(&source) {
            return Err(DropReason::SpoofedSource);
        }
        if !config.addresses.contains(&destination) {
            let is_broadcast = matches!(destination, std::net::IpAddr::V4(address) if address.is_broadcast());
            return Err(if destination.is_multicast() || is_broadcast {
                DropReason::Multicast
            } else {
                match self.owners.of(destination).and_then(|owner| self.peers.get(owner)) {
                    Some(owner) if owner.site == site => DropReason::OtherDevice,
                    Some(_) => DropReason::OtherSite,
                    None => DropReason::OtherAddress,
                }
            });
        }
        let packet = packet::parse(inner)?;
        match packet.payload {
            Payload::Tcp { to, .. } if !config.ports.contains(&to) => Err(DropReason::Port),
            Payload::Dns { .. } if config.names.is_empty() => Err(DropReason::Protocol),
            Payload::Tcp { .. } | Payload::Echo | Payload::Dns { .. } => Ok(packet),
        }
    }

    fn send_packet(&mut self, id: usize, mtu: u16, packet: &mut Vec<u8>) -> Result<(), DropReason> {
        let peer = self.peers.get_mut(id).ok_or(DropReason::Unsent)?;
        peer.send(self.now, &mut self.core, mtu, packet);
        let due = peer.deadline();
        self.set_timer(Timer::Peer(id), due);
        Ok(())
    }
}
