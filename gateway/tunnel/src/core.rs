//! What all peers share: the gateway's identity, randomness, the table of sessions, what waits to be sent and told.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::config::{Limits, Shard};
use crate::drops::{DropCounts, DropReason};
use crate::event::Event;
use crate::gate::Gate;
use crate::outbox::Outbox;
use crate::path::Path;
use crate::random::Random;
use crate::session::{Identity, Session};

/// Numbers for metrics, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Handshakes that were completed.
    pub handshakes: u64,
    /// Operations on the curve, of handshakes: the costly part of what strangers can cause.
    pub curve_operations: u64,
    /// Datagrams that came.
    pub received_datagrams: u64,
    /// Bytes of datagrams that came.
    pub received_bytes: u64,
    /// Datagrams that were made.
    pub sent_datagrams: u64,
    /// Bytes of datagrams that were made.
    pub sent_bytes: u64,
    /// TCP segments of the gateway's that were sent again.
    pub retransmissions: u64,
    /// Datagrams that found no room.
    pub outbox_full: u64,
}

pub(crate) struct Core {
    pub(crate) identity: Identity,
    pub(crate) limits: Limits,
    shard: Shard,
    pub(crate) random: Random,
    pub(crate) gate: Gate,
    pub(crate) outbox: Outbox,
    /// The peers of sessions, by the upper 24 bits of a session's index.
    indices: HashMap<u32, usize>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) drops: DropCounts,
    /// Drops that are to be entered in a site's report: sites are elsewhere.
    pub(crate) unreported: Vec<(Option<usize>, DropReason)>,
    pub(crate) counters: Counters,
    start: Instant,
}

impl Core {
    pub(crate) fn new(identity: Identity, limits: Limits, shard: Shard, mut random: Random, start: Instant) -> Self {
        Self {
            gate: Gate::new(&identity.public, limits.handshakes, &mut random, start),
            identity,
            limits,
            shard,
            random,
            outbox: Outbox::default(),
            indices: HashMap::new(),
            events: VecDeque::new(),
            drops: DropCounts::default(),
            unreported: Vec::new(),
            counters: Counters::default(),
            start,
        }
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    /// A session's index that is not in use, chosen at random: whoever sees indices learns neither how many peers there are nor
    /// which belong together.
    pub(crate) fn free_index(&mut self, peer: usize) -> u32 {
        let mask = 1_u32.checked_shl(u32::from(self.shard.bits)).map_or(0, |size| size.saturating_sub(1));
        loop {
            let drawn = (self.random.number() as u32) & 0x00ff_ffff;
            let index = (drawn & !mask) | (u32::from(self.shard.number) & mask);
            if let std::collections::hash_map::Entry::Vacant(free) = self.indices.entry(index) {
                free.insert(peer);
                return index;
            }
        }
    }

    /// The peer of a session.
    pub(crate) fn peer_of(&self, index: u32) -> Option<usize> {
        self.indices.get(&index).copied()
    }

    /// Ends a session.
    pub(crate) fn forget(&mut self, session: Session) {
        self.indices.remove(&session.index);
    }

    pub(crate) fn sessions(&self) -> usize {
        self.indices.len()
    }

    pub(crate) fn send(&mut self, path: Path, datagram: Vec<u8>) {
        let length = datagram.len() as u64;
        if self.outbox.push(path, datagram) {
            self.counters.sent_datagrams = self.counters.sent_datagrams.saturating_add(1);
            self.counters.sent_bytes = self.counters.sent_bytes.saturating_add(length);
        } else {
            self.counters.outbox_full = self.counters.outbox_full.saturating_add(1);
        }
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(crate) fn drop_one(&mut self, site: Option<usize>, reason: DropReason) {
        self.drops.add(reason);
        self.unreported.push((site, reason));
    }
}
