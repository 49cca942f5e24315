//! What goes to the network, and what time brings about.

use std::time::Instant;

use super::{Timer, Tunnels};
use crate::event::Event;
use crate::packet;
use crate::path::Transmit;

/// Room that a timer may need in the outbox.
const TIMER_ROOM: usize = 32;

impl Tunnels {
    /// Datagrams to send, appended to `buffer`: up to `max_segments`, all to one place. To be called until `None`, after each
    /// batch of other calls; what is not fetched is not lost, but no more is made.
    pub fn poll_transmit(&mut self, now: Instant, max_segments: usize, buffer: &mut Vec<u8>) -> Option<Transmit> {
        self.advance(now);
        while self.core.outbox.is_empty() {
            let site = self.busy.pop_front()?;
            self.make(site);
        }
        self.core.outbox.pop(max_segments, buffer)
    }

    /// When [`handle_timeout`](Self::handle_timeout) must be called at the latest. May change with every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        while self.core.outbox.room() >= TIMER_ROOM
            && let Some((due, timer)) = self.timers.first().copied()
            && due <= self.now
        {
            self.timers.pop_first();
            self.fire(timer);
        }
        self.report();
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Peer(id) => {
                let Some(peer) = self.peers.get_mut(id) else { return };
                peer.timer = None;
                if peer.deadline().is_some_and(|due| due <= self.now) {
                    peer.handle_timeout(self.now, &mut self.core);
                }
                let due = peer.deadline();
                self.set_timer(timer, due);
            }
            Timer::Stack(site) => {
                let Some(entry) = self.sites.get_mut(site) else { return };
                entry.timer = None;
                self.with_stack(site, |stack, around| stack.handle_timeout(around));
                self.wake(site);
                self.drop_idle_stack(site);
            }
            Timer::Report(site) => {
                let interval = self.core.limits.report_interval;
                let Some(entry) = self.sites.get_mut(site) else { return };
                entry.report_timer = None;
                let counts = entry.reporter.take(self.now, interval);
                let due = entry.reporter.due();
                if let Some(counts) = counts {
                    self.core.tell(Event::Dropped { site: Some(entry.config.name.clone()), counts });
                }
                self.set_timer(timer, due);
            }
            Timer::Strangers => {
                self.strangers_timer = None;
                if let Some(counts) = self.strangers.take(self.now, self.core.limits.report_interval) {
                    self.core.tell(Event::Dropped { site: None, counts });
                }
                let due = self.strangers.due();
                self.set_timer(timer, due);
            }
        }
    }

    /// Lets a stack make packets, and sends them.
    fn make(&mut self, site: usize) {
        let Some(entry) = self.sites.get_mut(site) else { return };
        entry.busy = false;
        let more = self.with_stack(site, |stack, around| stack.make(around)).unwrap_or(false);
        self.send_made(site);
        if more {
            self.wake(site);
            return;
        }
        self.drop_idle_stack(site);
        let now = self.now;
        let due = self.sites.get_mut(site).and_then(|entry| entry.stack.as_mut()?.deadline(now));
        // What is due already has been done. Were it not, the worker would not spin.
        let least = now.checked_add(std::time::Duration::from_millis(1)).unwrap_or(now);
        self.set_timer(Timer::Stack(site), due.map(|due| due.max(least)));
        if !self.core.unreported.is_empty() {
            self.report();
        }
    }

    fn drop_idle_stack(&mut self, site: usize) {
        if let Some(entry) = self.sites.get_mut(site) {
            entry.stack.take_if(|stack| stack.is_idle());
        }
    }

    /// Sends what a site's stack made to the owners of the addresses, which are peers of the same site.
    pub(super) fn send_made(&mut self, site: usize) {
        let mtu = self.sites.get(site).map_or(0, |entry| entry.config.mtu);
        while let Some(mut made) = self.packets.pop() {
            let owner = packet::addresses(&made).and_then(|(_, destination)| self.owners.of(destination));
            if let Some(id) = owner
                && let Some(peer) = self.peers.get_mut(id).filter(|peer| peer.site == site)
            {
                peer.send(self.now, &mut self.core, mtu, &mut made);
                let due = peer.deadline();
                self.set_timer(Timer::Peer(id), due);
            }
            self.packets.give_back(made);
        }
    }
}
