//! WireGuard sites, ended in user space.
//!
//! Datagrams and time come in, datagrams to send, byte streams and events go out:
#![forbid(unsafe_code)]

mod bucket;
mod budget;
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
pub use crate::network::{InvalidNetwork, Network};
pub use crate::path::{Path, Transmit};
pub use crate::stack::StreamError;
pub use crate::tunnels::{MAX_DATAGRAM, PeerStatus, Tunnels};
