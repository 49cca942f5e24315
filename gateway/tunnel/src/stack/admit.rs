//! Connections that begin, within bounds, and connections that end.

use std::time::Instant;

use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::Duration as StackDuration;
use smoltcp::wire::{IpAddress, IpListenEndpoint};

use super::stream::Stream;
use super::{Flow, Stack, Surroundings};
use crate::drops::DropReason;
use crate::event::{Cause, Event};

impl Stack {
    /// Makes a socket for a SYN that comes next.
    pub(super) fn admit(&mut self, around: &mut Surroundings<'_>, peer: usize, flow: Flow) -> Result<u64, DropReason> {
        let limits = around.limits;
        let usage = around.peers.get(peer).map(|peer| peer.usage).unwrap_or_default();
        if usage.half_open >= limits.half_open_per_peer {
            self.remove_oldest(around, |stream| stream.peer == peer && stream.is_half_open());
            around.drops.push(DropReason::HalfOpen);
        }
        if usage.streams >= limits.streams_per_peer
            && !self.remove_oldest(around, |stream| stream.peer == peer && stream.lingers())
        {
            return Err(DropReason::TooManyStreams);
        }
        if self.streams.len() >= limits.streams_per_site && !self.remove_oldest(around, Stream::lingers) {
            return Err(DropReason::TooManyStreams);
        }
        let size = self.offer(around, peer).or_else(|| {
            self.remove_oldest(around, Stream::lingers);
            self.offer(around, peer)
        });
        let size = size.ok_or(DropReason::Memory)?;
        let socket = listening(flow, size, limits)?;
        let handle = self.sockets.add(socket);
        let reserved = size.saturating_mul(2);
        around.budget.take(reserved);
        if let Some(peer) = around.peers.get_mut(peer) {
            peer.usage.streams = peer.usage.streams.saturating_add(1);
            peer.usage.half_open = peer.usage.half_open.saturating_add(1);
            peer.usage.bytes = peer.usage.bytes.saturating_add(reserved);
        }
        let number = *around.next_stream;
        *around.next_stream = number.saturating_add(1);
        self.flows.insert(flow, number);
        self.streams.insert(number, Stream::new(handle, flow, peer, reserved, around.now));
        self.half_open = self.half_open.saturating_add(1);
        Ok(number)
    }

    fn offer(&self, around: &Surroundings<'_>, peer: usize) -> Option<usize> {
        let used = around.peers.get(peer).map_or(0, |peer| peer.usage.bytes);
        let limits = around.limits;
        let peer_free = limits.peer_buffer_bytes.saturating_sub(used);
        around.budget.offer(limits.stream_buffer_min, limits.stream_buffer_max, peer_free)
    }

    /// Makes room for a new connection at the same ports, where the old one only waits for the network to forget it
    /// (RFC 9293 3.6.1: a SYN may open a connection out of TIME-WAIT).
    pub(super) fn clear_closed(&mut self, around: &mut Surroundings<'_>, flow: Flow) {
        let Some(number) = self.flows.get(&flow).copied() else { return };
        let closed =
            self.socket(number).is_some_and(|socket| matches!(socket.state(), State::TimeWait | State::Closed));
        if closed && self.streams.get(&number).is_some_and(Stream::lingers) {
            self.remove(around, number);
        }
    }

    fn remove_oldest(&mut self, around: &mut Surroundings<'_>, which: impl Fn(&Stream) -> bool) -> bool {
        let candidates = self.streams.iter().filter(|(_, stream)| which(stream));
        let oldest = candidates.min_by_key(|(number, _)| **number).map(|(number, _)| *number);
        if let Some(number) = oldest {
            self.remove(around, number);
        }
        oldest.is_some()
    }

    /// Removes a stream and all it holds. The other end is told nothing.
    pub(super) fn remove(&mut self, around: &mut Surroundings<'_>, number: u64) {
        let Some(stream) = self.streams.remove(&number) else { return };
        drop(self.sockets.remove(stream.handle));
        self.lingering.remove(&number);
        if self.flows.get(&stream.flow) == Some(&number) {
            self.flows.remove(&stream.flow);
        }
        around.budget.give_back(stream.reserved);
        let half_open = usize::from(stream.is_half_open());
        self.half_open = self.half_open.saturating_sub(half_open);
        if let Some(peer) = around.peers.get_mut(stream.peer) {
            peer.usage.streams = peer.usage.streams.saturating_sub(1);
            peer.usage.half_open = peer.usage.half_open.saturating_sub(half_open);
            peer.usage.bytes = peer.usage.bytes.saturating_sub(stream.reserved);
        }
    }

    /// Cuts all streams of a peer, at once and without a word.
    pub(crate) fn cut(&mut self, around: &mut Surroundings<'_>, peer: usize) {
        let of_peer = self.streams.iter().filter(|(_, stream)| stream.peer == peer);
        let numbers: Vec<u64> = of_peer.map(|(number, _)| *number).collect();
        for number in numbers {
            let told = self.streams.get(&number).is_some_and(Stream::is_the_callers);
            self.remove(around, number);
            if told {
                around.events.push_back(Event::Closed { stream: self.id(number), cause: Cause::PeerRemoved });
            }
        }
    }

    /// A half-open connection is open now.
    pub(super) fn opened(&mut self, around: &mut Surroundings<'_>, number: u64) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.open();
        self.half_open = self.half_open.saturating_sub(1);
        let (remote, local) = stream.flow;
        let Some(peer) = around.peers.get_mut(stream.peer) else { return };
        peer.usage.half_open = peer.usage.half_open.saturating_sub(1);
        let peer = peer.name.clone();
        around.events.push_back(Event::Opened { stream: self.id(number), peer, local, remote });
    }

    /// A half-open connection was not completed.
    pub(super) fn give_up(&mut self, around: &mut Surroundings<'_>, number: u64, now: Instant) -> bool {
        let late = self.streams.get(&number).and_then(Stream::half_open_until).is_some_and(|until| until <= now);
        if late {
            self.remove(around, number);
            around.drops.push(DropReason::HalfOpen);
        }
        late
    }
}

fn listening(flow: Flow, size: usize, limits: &crate::config::Limits) -> Result<Socket<'static>, DropReason> {
    // Zeroed by the kernel where they are large: what is never used is never there.
    let mut socket = Socket::new(SocketBuffer::new(vec![0; size]), SocketBuffer::new(vec![0; size]));
    socket.set_congestion_control(CongestionControl::Cubic);
    // Answers of HTTP are written in one piece: to hold back their ends gains nothing.
    socket.set_nagle_enabled(false);
    socket.set_timeout(Some(stack_duration(limits.stream_timeout)));
    socket.set_keep_alive(Some(stack_duration(limits.stream_keepalive)));
    let local = IpListenEndpoint { addr: Some(IpAddress::from(flow.1.ip())), port: flow.1.port() };
    socket.listen(local).map_err(|_| DropReason::Port)?;
    Ok(socket)
}

fn stack_duration(duration: std::time::Duration) -> StackDuration {
    StackDuration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}
