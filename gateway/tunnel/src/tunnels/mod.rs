//! All tunnels of a worker.

mod receive;
mod registry;
mod send;
mod status;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use policy::names::SiteName;
use slab::Slab;

use crate::budget::Budget;
use crate::config::{Limits, Shard, SiteConfig};
use crate::core::Core;
use crate::drops::{DropCounts, DropReason, Reporter};
use crate::event::{Event, StreamId};
use crate::keys::{PrivateKey, PublicKey};
use crate::known::KnownSources;
use crate::owners::Owners;
use crate::peer::Peer;
use crate::random::Random;
use crate::session::Identity;
use crate::stack::{Packets, Stack, StreamError, Surroundings};

pub use status::PeerStatus;

/// The longest datagram that is looked at, in bytes. Packets inside are at most [`MAX_MTU`](crate::config::MAX_MTU) long by
/// what TCP was told; an echo request may be somewhat longer.
pub const MAX_DATAGRAM: usize = 2048;

/// WireGuard peers and their sites' stacks: see the [crate].
pub struct Tunnels {
    core: Core,
    peers: Slab<Peer>,
    by_key: HashMap<PublicKey, usize>,
    /// Keys of peers whose tunnels other workers have, and those workers' numbers.
    elsewhere: HashMap<PublicKey, u16>,
    owners: Owners<usize>,
    sites: Slab<Site>,
    by_site: HashMap<SiteName, usize>,
    /// Sites whose stacks may have packets to make.
    busy: VecDeque<usize>,
    budget: Budget,
    packets: Packets,
    timers: BTreeSet<(Instant, Timer)>,
    strangers: Reporter,
    strangers_timer: Option<Instant>,
    next_stream: u64,
    scratch: Vec<u8>,
    /// The latest time that was told. Earlier ones count as this.
    now: Instant,
}

struct Site {
    config: SiteConfig,
    stack: Option<Box<Stack>>,
    reporter: Reporter,
    busy: bool,
    /// Peers of this site.
    peers: usize,
    timer: Option<Instant>,
    report_timer: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Peer(usize),
    Stack(usize),
    Report(usize),
    Strangers,
}

impl Tunnels {
    /// Tunnels that end at the key. `seed` must be 32 bytes of the system's random numbers, never used before.
    #[must_use]
    pub fn new(now: Instant, key: PrivateKey, limits: Limits, shard: Shard, seed: [u8; 32]) -> Self {
        let shard = Shard { number: shard.number, bits: shard.bits.min(Shard::MAX_BITS) };
        Self {
            budget: Budget::new(limits.buffer_bytes),
            core: Core::new(Identity::new(key), limits, shard, Random::new(seed), now),
            peers: Slab::new(),
            by_key: HashMap::new(),
            elsewhere: HashMap::new(),
            owners: Owners::default(),
            sites: Slab::new(),
            by_site: HashMap::new(),
            busy: VecDeque::new(),
            packets: Packets::default(),
            timers: BTreeSet::new(),
            strangers: Reporter::default(),
            strangers_timer: None,
            next_stream: 0,
            scratch: vec![0; MAX_DATAGRAM],
            now,
        }
    }

    /// Goes by the sources that other workers of the listener know as well, and tells them of its own. Before the first datagram.
    pub fn share_known_sources(&mut self, known: KnownSources) {
        self.core.gate.share(known);
    }

    /// What was dropped and is still to be [reported](Event::Dropped), of each site and of nobody known: for whoever is about to end.
    pub fn take_reports(&mut self) -> Vec<(Option<SiteName>, DropCounts)> {
        self.report();
        let of_sites = self.sites.iter_mut().map(|(_, site)| (Some(site.config.name.clone()), site.reporter.rest()));
        let all = of_sites.chain([(None, self.strangers.rest())]);
        all.filter_map(|(site, counts)| Some((site, counts?))).collect()
    }

    /// The next thing to know, or `None`. To be called until then after each other call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.core.events.pop_front()
    }

    /// Reads from a stream. 0 bytes are the end: the other end has finished and all was read.
    ///
    /// # Errors
    /// [`StreamError::Blocked`] if there is nothing yet; [`Event::Readable`] follows. [`StreamError::Closed`] if it was cut, and
    /// [`StreamError::Unknown`] if it is no more.
    pub fn read(&mut self, now: Instant, stream: StreamId, buffer: &mut [u8]) -> Result<usize, StreamError> {
        self.read_with(now, stream, |bytes| {
            let length = bytes.len().min(buffer.len());
            buffer.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            length
        })
    }

    /// As [`read`](Self::read), without a copy: `take` sees the bytes that lie together at the front of what has come, which may not
    /// be all, and says how many of them it takes.
    ///
    /// # Errors
    /// As [`read`](Self::read); then `take` was not called.
    pub fn read_with(
        &mut self,
        now: Instant,
        stream: StreamId,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Result<usize, StreamError> {
        self.advance(now);
        let read = self.stack(stream)?.read_with(stream.number, take);
        if read.is_ok_and(|length| length > 0) {
            // There is more room now, which the other end may want to know.
            self.wake(stream.site);
        }
        read
    }

    /// Writes to a stream, as much as there is room for, and tells how many bytes that were.
    ///
    /// # Errors
    /// [`StreamError::Blocked`] if there is no room; [`Event::Writable`] follows. [`StreamError::Closed`] if it was cut or finished,
    /// and [`StreamError::Unknown`] if it is no more.
    pub fn write(&mut self, now: Instant, stream: StreamId, data: &[u8]) -> Result<usize, StreamError> {
        self.advance(now);
        let written = self.stack(stream)?.write(stream.number, data);
        self.wake(stream.site);
        written
    }

    /// How many bytes were written to a stream and not acknowledged by the other end.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] if the stream is no more.
    pub fn unacknowledged(&mut self, stream: StreamId) -> Result<usize, StreamError> {
        self.stack(stream)?.unsent(stream.number)
    }

    /// Ends the writing side of a stream, once all that was written is sent.
    ///
    /// # Errors
    /// [`StreamError::Unknown`] if the stream is no more.
    pub fn finish(&mut self, now: Instant, stream: StreamId) -> Result<(), StreamError> {
        self.advance(now);
        let finished = self.stack(stream)?.finish(stream.number);
        self.wake(stream.site);
        finished
    }

    /// Gives a stream up. If it was finished and read to the end, what was written is still sent; otherwise it is reset.
    pub fn release(&mut self, now: Instant, stream: StreamId) {
        self.give_up(now, stream, false);
    }

    /// Gives a stream up, and tells the other end that it broke.
    pub fn reset(&mut self, now: Instant, stream: StreamId) {
        self.give_up(now, stream, true);
    }

    fn give_up(&mut self, now: Instant, stream: StreamId, reset: bool) {
        self.advance(now);
        self.with_stack(stream.site, |stack, around| stack.release(around, stream.number, reset));
        self.wake(stream.site);
    }

    fn stack(&mut self, stream: StreamId) -> Result<&mut Stack, StreamError> {
        self.sites.get_mut(stream.site).and_then(|site| site.stack.as_deref_mut()).ok_or(StreamError::Unknown)
    }

    /// Calls a site's stack, if there is one.
    fn with_stack<R>(&mut self, site: usize, f: impl FnOnce(&mut Stack, &mut Surroundings<'_>) -> R) -> Option<R> {
        let stack = self.sites.get_mut(site)?.stack.as_deref_mut()?;
        let mut drops = Vec::new();
        let mut around = Surroundings {
            now: self.now,
            limits: &self.core.limits,
            packets: &mut self.packets,
            budget: &mut self.budget,
            peers: &mut self.peers,
            events: &mut self.core.events,
            drops: &mut drops,
            next_stream: &mut self.next_stream,
            retransmissions: &mut self.core.counters.retransmissions,
        };
        let result = f(stack, &mut around);
        for reason in drops {
            self.core.drop_one(Some(site), reason);
        }
        Some(result)
    }

    /// A site's stack may have something to send.
    fn wake(&mut self, site: usize) {
        if let Some(entry) = self.sites.get_mut(site)
            && !std::mem::replace(&mut entry.busy, true)
        {
            self.busy.push_back(site);
        }
        self.report();
    }

    /// Time never goes back.
    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// Sets a timer, where it is earlier than it was. One that is later is left: it finds nothing to do and is set again.
    fn set_timer(&mut self, timer: Timer, due: Option<Instant>) {
        let Some(due) = due else { return };
        let slot = match timer {
            Timer::Peer(peer) => self.peers.get_mut(peer).map(|peer| &mut peer.timer),
            Timer::Stack(site) => self.sites.get_mut(site).map(|site| &mut site.timer),
            Timer::Report(site) => self.sites.get_mut(site).map(|site| &mut site.report_timer),
            Timer::Strangers => Some(&mut self.strangers_timer),
        };
        let Some(slot) = slot else { return };
        if slot.is_some_and(|set| set <= due) {
            return;
        }
        if let Some(old) = slot.replace(due) {
            self.timers.remove(&(old, timer));
        }
        self.timers.insert((due, timer));
    }

    /// Enters drops in their reports.
    fn report(&mut self) {
        let interval = self.core.limits.report_interval;
        for (site, reason) in std::mem::take(&mut self.core.unreported) {
            let (reporter, name) = match site.and_then(|site| self.sites.get_mut(site)) {
                Some(entry) => (&mut entry.reporter, Some(entry.config.name.clone())),
                None => (&mut self.strangers, None),
            };
            let counts = reporter.add(self.now, interval, reason);
            let due = reporter.due();
            let timer = if name.is_some() { site.map_or(Timer::Strangers, Timer::Report) } else { Timer::Strangers };
            if let Some(counts) = counts {
                self.core.tell(Event::Dropped { site: name, counts });
            }
            self.set_timer(timer, due);
        }
    }

    fn drop_one(&mut self, site: Option<usize>, reason: DropReason) {
        self.core.drop_one(site, reason);
    }
}
