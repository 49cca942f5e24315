//! WireGuard sites, ended in user space: no root, no TUN device, no routes.
//!
//! Datagrams and time come in; datagrams to send, byte streams and events go out, as in `quinn-proto`. There are no sockets, no
//! runtime and no files. `README.md` draws the path of a packet.
//!
//! - [`Tunnels::handle_datagram`] takes what came, [`Tunnels::handle_timeout`] what time has brought about;
//! - [`Tunnels::poll_transmit`] gives what is to be sent, in batches that UDP GSO takes as they are;
//! - [`Tunnels::poll_timeout`] says when to call again at the latest;
//! - [`Tunnels::poll_event`] tells of sessions, streams and drops; a stream is
//!   [read](Tunnels::read), [written](Tunnels::write), [finished](Tunnels::finish), [released](Tunnels::release) and
//!   [reset](Tunnels::reset). A call that finds nothing to do says [`StreamError::Blocked`], and one [`Event`] follows.
//!
//! # What holds
//!
//! - **Nothing passes between sites** (R14). A site has a stack of its own, which knows the gateway's inside addresses and no
//!   other. A packet reaches it only from an address whose longest range is its sender's, and only for the gateway's own
//!   address and a configured port. A packet out of it goes to a peer of the same site or nowhere.
//! - **Strangers cost a hash.** A handshake message is checked for mac1, and for the budgets of its source and of all, before any
//!   operation on the curve; a key that is not registered leaves nothing behind. Who exceeds a budget shows a cookie, which
//!   is bound to address and port.
//! - **Memory is bounded** ([`config::Limits`]): by peers, streams, half-open connections, bytes of buffers; what waits to be sent
//!   is a fixed number of datagrams. A peer without a session is an entry of a few hundred bytes.
//! - **Time is the caller's.** boringtun measures by its own clock, so a `Tunn` here makes one session and none of its timers is used;
//!   the white paper's timers (6) are this crate's. Two things are not the caller's: boringtun draws the ephemeral keys
//!   of handshakes from the system, and stamps the gateway's own initiations with the system's time.
//!
//! # How a worker drives it
//!
//! One `Tunnels` for each worker and listener, owned by one task, in a loop:
//!
//! 1. Wait for the UDP socket (`SO_REUSEPORT`), the time of `poll_timeout`, or a word from a stream's task.
//! 2. Receive a batch (`recvmmsg`, GRO), split it by segment, and call `handle_datagram` for each datagram, all with one `now`.
//! 3. If the time has come, `handle_timeout`.
//! 4. `poll_event` until `None`. `Opened` makes a stream object, `AsyncRead + AsyncWrite`, that holds the `StreamId`, an `Rc` of the
//!    `RefCell` around `Tunnels`, and two wakers; it becomes an arrival with the peer's site and device, and goes the way of all others:
//!    TLS inside where the listener requires it, the registry, the exchange. Its `poll_read` and `poll_write` call
//!    `read` and `write` at once and keep the waker on `Blocked`; `Readable`, `Writable` and `Closed` wake it. Its `Drop` calls
//!    `release`. A write tells the loop (a `Notify` of the same thread) that there is something to send.
//! 5. `poll_transmit` until `None`, each batch one `sendmsg` with `UDP_SEGMENT`. A socket that is full ends this step; the batch in
//!    hand is sent when it is writable again, and until then `poll_transmit` is not called, so that no more is made.
//!
//! A site is one worker's. Its sessions' indices carry the worker's number ([`config::Shard`]), so that a reuseport filter sends each
//! transport message there: the little-endian word at offset 4 (data, cookie replies) or 8 (responses), shifted right by 8,
//! `Shard::bits` bits of it. An initiation says nothing that a filter could read: it goes to any worker, and if its key is
//! [another's](Tunnels::set_elsewhere), over to that one by [`Event::HandOver`], once in two minutes for each peer.
//!
//! Peers come from the registry: `add_peer` when a device is registered or released, and `remove_peer` the moment it is suspended or
//! revoked, which cuts its streams in the same call. `SessionUp` and `SessionDown` are what an outage note is made of (R19).
#![forbid(unsafe_code)]

mod bucket;
mod budget;
pub mod client;
pub mod config;
mod cookie;
mod core;
mod dns;
mod drops;
mod event;
mod gate;
mod hash;
mod initiation;
mod keys;
mod known;
mod message;
mod network;
mod outbox;
mod owners;
mod packet;
mod path;
mod peer;
mod random;
mod session;
mod stack;
#[cfg(test)]
mod tests;
mod tunnels;

pub use crate::bucket::Rate;
pub use crate::core::Counters;
pub use crate::drops::{DropCounts, DropReason};
pub use crate::event::{Cause, Event, PeerName, StreamId};
pub use crate::gate::HandshakeLimits;
pub use crate::keys::{PresharedKey, PrivateKey, PublicKey};
pub use crate::known::KnownSources;
pub use crate::network::{InvalidNetwork, Network, ParseNetworkError};
pub use crate::path::{Path, Transmit};
pub use crate::stack::StreamError;
pub use crate::tunnels::{MAX_DATAGRAM, PeerStatus, Tunnels};
