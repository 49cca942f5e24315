//! One session with one peer: one `Tunn`, used for its handshake, its keys and its replay window, and for nothing else.
//!
//! boringtun numbers the sessions of a `Tunn` one after the other, keeps eight of them, and measures time by its own clock. A
//! `Tunn` for each session makes indices that tell nothing, lets a new preshared key count from the next handshake on
//! without ending the session that is under way, and leaves time to the caller.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519;

use crate::drops::DropReason;
use crate::keys::{PresharedKey, PrivateKey, PublicKey};
use crate::message::{INITIATION, OVERHEAD, REJECT_AFTER_MESSAGES};

/// No session is used longer (white paper, 6.1).
pub(crate) const REJECT_AFTER: Duration = Duration::from_secs(180);
/// The session's initiator asks for a new one after this time (white paper, 6.2).
pub(crate) const REKEY_AFTER: Duration = Duration::from_secs(120);
/// And after this many messages.
const REKEY_AFTER_MESSAGES: u64 = 1 << 60;

/// What a session needs of the gateway.
pub(crate) struct Identity {
    pub(crate) private: PrivateKey,
    pub(crate) public: PublicKey,
    /// Never limits: [`crate::gate`] does that. It is there because a `Tunn` without one makes its own, which would.
    limiter: Arc<RateLimiter>,
}

impl Identity {
    pub(crate) fn new(private: PrivateKey) -> Self {
        let public = private.public();
        let limiter = Arc::new(RateLimiter::new(&x25519::PublicKey::from(public.0), u64::MAX));
        Self { private, public, limiter }
    }
}

pub(crate) struct Session {
    tunn: Box<Tunn>,
    /// The upper 24 bits of its index.
    pub(crate) index: u32,
    /// When its keys were made.
    pub(crate) born: Instant,
    /// Whether the gateway asked for it.
    pub(crate) initiator: bool,
    sent: u64,
}

/// What was in a transport message.
pub(crate) enum Content<'a> {
    /// Nothing: a keepalive.
    Nothing,
    /// An IP packet, cut to the length it says.
    Packet(&'a [u8]),
    /// Something that is not an IP packet, by somebody who has the keys.
    Garbage,
}

impl Session {
    /// A session whose handshake is still to be made. `index` has 24 bits.
    pub(crate) fn new(
        identity: &Identity,
        peer: &PublicKey,
        preshared: Option<&PresharedKey>,
        index: u32,
        now: Instant,
    ) -> Self {
        let tunn = Tunn::new(
            identity.private.secret(),
            x25519::PublicKey::from(peer.0),
            preshared.map(PresharedKey::bytes),
            None,
            index,
            Some(identity.limiter.clone()),
        );
        Self { tunn: Box::new(tunn), index, born: now, initiator: false, sent: 0 }
    }

    /// Makes an initiation, or makes it anew, in `buffer`.
    pub(crate) fn initiate(&mut self, buffer: &mut Vec<u8>) -> bool {
        self.initiator = true;
        buffer.resize(INITIATION, 0);
        written(self.tunn.format_handshake_initiation(buffer, true)).is_some_and(|length| cut(buffer, length))
    }

    /// Takes a handshake message and makes the answer to it in `buffer`: to an initiation a response, to a response a
    /// keepalive, to a cookie reply nothing. `false` if the message proves nothing.
    pub(crate) fn handshake(&mut self, now: Instant, from: IpAddr, message: &[u8], buffer: &mut Vec<u8>) -> bool {
        buffer.resize(INITIATION, 0);
        match self.tunn.decapsulate(Some(from), message, buffer) {
            TunnResult::WriteToNetwork(answer) => {
                let length = answer.len();
                self.born = now;
                cut(buffer, length)
            }
            TunnResult::Done => cut(buffer, 0),
            TunnResult::Err(_) | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => false,
        }
    }

    /// Whether its keys may still be used.
    pub(crate) fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.born) < REJECT_AFTER && self.sent < REJECT_AFTER_MESSAGES
    }

    /// Whether it is for the gateway to ask for the next one, because it sends.
    pub(crate) fn wants_successor(&self, now: Instant) -> bool {
        self.sent >= REKEY_AFTER_MESSAGES || (self.initiator && now.saturating_duration_since(self.born) >= REKEY_AFTER)
    }

    /// Seals a packet into `buffer`. The handshake must have been completed, and for a session that the peer asked for a
    /// message must have come.
    pub(crate) fn seal(&mut self, packet: &[u8], buffer: &mut Vec<u8>) -> bool {
        buffer.resize(packet.len().saturating_add(OVERHEAD).max(INITIATION), 0);
        self.sent = self.sent.saturating_add(1);
        written(self.tunn.encapsulate(packet, buffer)).is_some_and(|length| cut(buffer, length))
    }

    /// Opens a transport message. `buffer` must be at least as long as it.
    ///
    /// # Errors
    /// Why it was dropped.
    pub(crate) fn open<'b>(
        &mut self,
        from: IpAddr,
        counter: u64,
        message: &[u8],
        buffer: &'b mut [u8],
    ) -> Result<Content<'b>, DropReason> {
        // Past this bound boringtun's arithmetic overflows.
        if counter >= REJECT_AFTER_MESSAGES {
            return Err(DropReason::Counter);
        }
        if buffer.len() < message.len() {
            return Err(DropReason::Oversized);
        }
        match self.tunn.decapsulate(Some(from), message, buffer) {
            TunnResult::Done => Ok(Content::Nothing),
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                Ok(Content::Packet(packet))
            }
            TunnResult::Err(WireGuardError::InvalidPacket) => Ok(Content::Garbage),
            TunnResult::Err(WireGuardError::DuplicateCounter | WireGuardError::InvalidCounter) => {
                Err(DropReason::Replayed)
            }
            TunnResult::Err(WireGuardError::InvalidAeadTag) => Err(DropReason::Unauthentic),
            TunnResult::Err(_) | TunnResult::WriteToNetwork(_) => Err(DropReason::UnknownSession),
        }
    }
}

fn written(result: TunnResult<'_>) -> Option<usize> {
    match result {
        TunnResult::WriteToNetwork(message) => Some(message.len()),
        TunnResult::Done | TunnResult::Err(_) | TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => {
            None
        }
    }
}

fn cut(buffer: &mut Vec<u8>, length: usize) -> bool {
    buffer.truncate(length);
    true
}
