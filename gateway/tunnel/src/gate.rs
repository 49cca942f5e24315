//! Who may have a handshake: what is decided before any operation on the curve, and in bounded memory.
//!
//! A message whose mac1 is wrong costs a hash and is dropped. Others cost curve operations, so there are budgets: for each
//! source, so that one that floods takes nothing from the others, and for all. Who exceeds one is asked for a cookie,
//! and thereby for a proof that it is where it says; with the proof other budgets count, which nobody can spend
//! in another's name: for the address with its port, for the address, and for all that have proved theirs. Sources
//! that completed a handshake lately have a budget of their own on top, so that a botnet that proves all its
//! addresses does not shut out the clinics that are at work.
//!
//! The limits of sources stand in tables of a fixed size at places that a secret hash tells. Sources that meet at one place
//! share it, and nobody can choose whom to meet.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::bucket::{Bucket, Rate};
use crate::cookie::Cookies;
use crate::hash::mac;
use crate::keys::PublicKey;
use crate::message::COOKIE;
use crate::random::Random;

/// Budgets of handshakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandshakeLimits {
    /// For one source address (IPv6: its /64) that proved nothing.
    pub source: Rate,
    /// For all that proved nothing.
    pub all: Rate,
    /// For one source address and port that proved itself by a cookie.
    pub proven_port: Rate,
    /// For one source address that proved itself by a cookie.
    pub proven_source: Rate,
    /// For all that proved themselves by a cookie.
    pub proven_all: Rate,
    /// For those whose source completed a handshake within the last ten minutes, on top.
    pub known_all: Rate,
    /// Cookie replies.
    pub cookies: Rate,
    /// For one peer whose key is proved.
    pub peer: Rate,
}

impl Default for HandshakeLimits {
    fn default() -> Self {
        Self {
            source: Rate { per_second: 20, burst: 50 },
            all: Rate { per_second: 1_000, burst: 1_000 },
            proven_port: Rate { per_second: 2, burst: 5 },
            proven_source: Rate { per_second: 50, burst: 100 },
            proven_all: Rate { per_second: 1_000, burst: 1_000 },
            known_all: Rate { per_second: 500, burst: 500 },
            cookies: Rate { per_second: 5_000, burst: 5_000 },
            peer: Rate { per_second: 1, burst: 10 },
        }
    }
}

/// What becomes of a handshake message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may cost operations on the curve.
    Yes,
    /// mac1 is wrong: whoever sent it does not know the gateway's key.
    Stranger,
    /// It has to come again, with the cookie of this reply.
    Cookie([u8; COOKIE]),
    /// It is one too many.
    Refused,
}

const PLACES: usize = 4096;
const KNOWN_FOR: Duration = Duration::from_secs(600);

pub(crate) struct Gate {
    limits: HandshakeLimits,
    cookies: Cookies,
    places_key: [u8; 32],
    sources: Vec<Bucket>,
    proven_ports: Vec<Bucket>,
    proven_sources: Vec<Bucket>,
    known_until: Vec<Duration>,
    all: Bucket,
    proven_all: Bucket,
    known_all: Bucket,
    replies: Bucket,
}

impl Gate {
    pub(crate) fn new(public: &PublicKey, limits: HandshakeLimits, random: &mut Random) -> Self {
        Self {
            limits,
            cookies: Cookies::new(public, random),
            places_key: random.bytes(),
            sources: vec![Bucket::default(); PLACES],
            proven_ports: vec![Bucket::default(); PLACES],
            proven_sources: vec![Bucket::default(); PLACES],
            known_until: vec![Duration::ZERO; PLACES],
            all: Bucket::default(),
            proven_all: Bucket::default(),
            known_all: Bucket::default(),
            replies: Bucket::default(),
        }
    }

    /// Decides about an initiation or a response. `sender` is the index in it, which a cookie reply goes to.
    pub(crate) fn admit(
        &mut self,
        now: Duration,
        from: SocketAddr,
        message: &[u8],
        sender: u32,
        random: &mut Random,
    ) -> Admission {
        if !self.cookies.mac1_holds(message) {
            return Admission::Stranger;
        }
        let place = self.place(from.ip(), None);
        if self.cookies.mac2_holds(now, from, message, random) {
            return self.admit_proven(now, from, place);
        }
        let source = self.sources.get_mut(place).is_some_and(|bucket| bucket.take(self.limits.source, now));
        if source && self.all.take(self.limits.all, now) {
            return Admission::Yes;
        }
        if !self.replies.take(self.limits.cookies, now) {
            return Admission::Refused;
        }
        self.cookies.reply(now, from, message, sender, random).map_or(Admission::Refused, Admission::Cookie)
    }

    fn admit_proven(&mut self, now: Duration, from: SocketAddr, place: usize) -> Admission {
        let port_place = self.place(from.ip(), Some(from.port()));
        let limits = self.limits;
        let port = self.proven_ports.get_mut(port_place).is_some_and(|bucket| bucket.take(limits.proven_port, now));
        let admitted = port
            && self.proven_sources.get_mut(place).is_some_and(|bucket| bucket.take(limits.proven_source, now))
            && (self.proven_all.take(limits.proven_all, now)
                || (self.known_until.get(place).is_some_and(|until| *until > now)
                    && self.known_all.take(limits.known_all, now)));
        if admitted { Admission::Yes } else { Admission::Refused }
    }

    /// A handshake with somebody at this address was completed.
    pub(crate) fn completed(&mut self, now: Duration, from: IpAddr) {
        let place = self.place(from, None);
        if let Some(until) = self.known_until.get_mut(place) {
            *until = now.saturating_add(KNOWN_FOR);
        }
    }

    fn place(&self, address: IpAddr, port: Option<u16>) -> usize {
        let (network, port_bytes) = match address {
            IpAddr::V4(address) => (u64::from(address.to_bits()), port),
            IpAddr::V6(address) => match address.to_ipv4_mapped() {
                Some(address) => (u64::from(address.to_bits()), port),
                // The /64, which one machine has for itself, shifted so that it cannot equal an IPv4 address.
                None => ((address.to_bits() >> 64) as u64 | 1 << 63, port),
            },
        };
        let port = port_bytes.map_or([0; 3], |port| {
            let [high, low] = port.to_be_bytes();
            [1, high, low]
        });
        let [a, b, ..] = mac(&self.places_key, &[&network.to_be_bytes(), &port]);
        usize::from(u16::from_be_bytes([a, b])) % PLACES
    }
}
