//! Packets to and from a peer.

use std::time::Instant;

use crate::core::Core;
use crate::drops::DropReason;
use crate::path::Path;
use crate::peer::{Peer, QUEUE};
use crate::session::Content;

impl Peer {
    /// Opens a transport message into `buffer` and gives the packet in it, or `None` where there is none to deliver.
    ///
    /// # Errors
    /// Why it was dropped.
    pub(crate) fn take_message<'b>(
        &mut self,
        now: Instant,
        core: &mut Core,
        path: Path,
        (index, counter): (u32, u64),
        message: &[u8],
        buffer: &'b mut [u8],
    ) -> Result<Option<&'b [u8]>, DropReason> {
        let live = self.live.as_mut().ok_or(DropReason::UnknownSession)?;
        let of_index = |session: &&mut crate::session::Session| session.index == index && session.is_fresh(now);
        let is_next = live.next.as_ref().is_some_and(|session| session.index == index);
        let sessions = [&mut live.current, &mut live.previous, &mut live.next];
        let session = sessions.into_iter().flatten().find(of_index).ok_or(DropReason::UnknownSession)?;
        let content = session.open(path.remote.ip(), counter, message, buffer)?;
        self.received = self.received.saturating_add(message.len() as u64);
        self.path = Some(path);
        if is_next {
            self.confirm(now, core, path);
        }
        let packet = match content {
            Content::Nothing => None,
            Content::Packet(packet) => Some(packet),
            Content::Garbage => {
                self.heard(now, core, false);
                return Err(DropReason::Malformed);
            }
        };
        self.heard(now, core, packet.is_some());
        Ok(packet)
    }

    /// The peer used the session that it asked for: from here on it is sent with.
    fn confirm(&mut self, now: Instant, core: &mut Core, path: Path) {
        let Some(live) = self.live.as_mut() else { return };
        let replaced = std::mem::replace(&mut live.current, live.next.take());
        if let Some(gone) = std::mem::replace(&mut live.previous, replaced) {
            core.forget(gone);
        }
        self.established(now, core, path);
        self.flush(now, core);
    }

    /// Sends a packet, or keeps it until there is a session to send it with. It is padded to a multiple of 16 bytes, within
    /// the MTU (white paper, 5.4.6).
    pub(crate) fn send(&mut self, now: Instant, core: &mut Core, mtu: u16, packet: &mut Vec<u8>) {
        let padded = packet.len().next_multiple_of(16).min(usize::from(mtu).max(packet.len()));
        packet.resize(padded, 0);
        if !self.is_up(now) {
            let live = self.live.get_or_insert_default();
            if self.path.is_none() || live.queue.len() >= QUEUE {
                core.drop_one(Some(self.site), DropReason::Unsent);
            }
            if live.queue.len() >= QUEUE {
                live.queue.pop_front();
            }
            if self.path.is_some() {
                live.queue.push_back(std::mem::take(packet));
            }
            self.initiate(now, core);
            return;
        }
        self.seal(now, core, packet);
    }

    /// Sends an empty message.
    pub(super) fn send_keepalive(&mut self, now: Instant, core: &mut Core) {
        if self.is_up(now) {
            self.seal(now, core, &[]);
        } else {
            self.initiate(now, core);
        }
    }

    pub(super) fn flush(&mut self, now: Instant, core: &mut Core) {
        let Some(live) = self.live.as_mut() else { return };
        for packet in std::mem::take(&mut live.queue) {
            self.seal(now, core, &packet);
        }
    }

    fn seal(&mut self, now: Instant, core: &mut Core, packet: &[u8]) {
        let (Some(path), Some(live)) = (self.path, self.live.as_mut()) else { return };
        let Some(session) = live.current.as_mut() else { return };
        let mut datagram = core.outbox.buffer();
        if !session.seal(packet, &mut datagram) {
            core.outbox.give_back(datagram);
            core.drop_one(Some(self.site), DropReason::Unsent);
            return;
        }
        let successor = session.wants_successor(now);
        self.sent = self.sent.saturating_add(datagram.len() as u64);
        core.send(path, datagram);
        self.spoke(now, core, !packet.is_empty());
        if successor {
            self.initiate(now, core);
        }
    }
}
