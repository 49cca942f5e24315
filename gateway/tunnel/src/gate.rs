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
//! share it, and nobody can choose whom to meet. Who completed a handshake lately, all workers know ([`crate::known`]).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::bucket::{Bucket, Rate};
use crate::cookie::Cookies;
use crate::keys::PublicKey;
use crate::known::{KnownSources, PLACES, place_of};
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
    /// Cookie replies. They are shorter than what they answer and cost hashes alone; were they scarce, a flood would keep everybody
    /// else from theirs.
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
            cookies: Rate { per_second: 200_000, burst: 200_000 },
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

pub(crate) struct Gate {
    limits: HandshakeLimits,
    cookies: Cookies,
    places_key: [u8; 32],
    sources: Vec<Bucket>,
    proven_ports: Vec<Bucket>,
    proven_sources: Vec<Bucket>,
    known: KnownSources,
    all: Bucket,
    proven_all: Bucket,
    known_all: Bucket,
    replies: Bucket,
    /// What times are counted from.
    start: Instant,
}

impl Gate {
    pub(crate) fn new(public: &PublicKey, limits: HandshakeLimits, random: &mut Random, start: Instant) -> Self {
        Self {
            limits,
            cookies: Cookies::new(public, random),
            places_key: random.bytes(),
            sources: vec![Bucket::default(); PLACES],
            proven_ports: vec![Bucket::default(); PLACES],
            proven_sources: vec![Bucket::default(); PLACES],
            known: KnownSources::new(start, random.bytes()),
            start,
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
        let place = place_of(&self.places_key, from.ip(), None);
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
        let port_place = place_of(&self.places_key, from.ip(), Some(from.port()));
        let limits = self.limits;
        let port = self.proven_ports.get_mut(port_place).is_some_and(|bucket| bucket.take(limits.proven_port, now));
        let admitted = port
            && self.proven_sources.get_mut(place).is_some_and(|bucket| bucket.take(limits.proven_source, now))
            && (self.proven_all.take(limits.proven_all, now)
                || (self.known.has(self.instant(now), from.ip()) && self.known_all.take(limits.known_all, now)));
        if admitted { Admission::Yes } else { Admission::Refused }
    }

    /// A handshake with somebody at this address was completed.
    pub(crate) fn completed(&mut self, now: Duration, from: IpAddr) {
        self.known.completed(self.instant(now), from);
    }

    /// Goes by a table that others go by as well.
    pub(crate) fn share(&mut self, known: KnownSources) {
        self.known = known;
    }

    fn instant(&self, now: Duration) -> Instant {
        self.start.checked_add(now).unwrap_or(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::hash;
    use crate::keys::PrivateKey;

    fn public() -> PublicKey {
        PrivateKey::new([5; 32]).public()
    }

    fn gate(seed: u8) -> Gate {
        Gate::new(&public(), HandshakeLimits::default(), &mut Random::new([seed; 32]), Instant::now())
    }

    /// An initiation with a right mac1.
    fn initiation() -> Vec<u8> {
        let mut message = vec![9; crate::message::INITIATION];
        let key = hash(&[b"mac1----", &public().0]);
        let sum = crate::hash::mac(&key, &[&message[..116]]);
        message[116..132].copy_from_slice(&sum);
        message[132..].fill(0);
        message
    }

    fn forged(number: u32) -> SocketAddr {
        let [a, b, c, d] = number.wrapping_mul(2_654_435_761).to_be_bytes();
        SocketAddr::from(([a, b, c, d], 1234))
    }

    /// 50,000 forged initiations a second, each from another place: whoever asks in between gets a cookie at the first try, whenever.
    #[test]
    fn a_flood_leaves_a_cookie_for_everybody() {
        let (mut gate, mut random) = (gate(1), Random::new([2; 32]));
        let message = initiation();
        let mut replies = 0;
        for number in 0..60_000_u32 {
            let now = Duration::from_micros(20) * number;
            let admission = gate.admit(now, forged(number), &message, number, &mut random);
            replies += u32::from(matches!(admission, Admission::Cookie(_)));
            if number > 20_000 && number % 997 == 0 {
                let honest = SocketAddr::from(([198, 51, 100, 7], 50_000));
                let admission = gate.admit(now, honest, &message, 1, &mut random);
                assert!(matches!(admission, Admission::Cookie(_) | Admission::Yes), "{number}: {admission:?}");
            }
        }
        assert!(replies > 50_000, "the flood was one: {replies}");
    }

    /// All that is for proved sources is spent at one worker; whom another worker knows is let in nevertheless, and nobody else.
    #[test]
    fn whom_another_worker_knows_is_let_in_under_load() {
        let (mut here, mut there) = (gate(1), gate(2));
        let known = KnownSources::new(Instant::now(), [3; 32]);
        here.share(known.clone());
        there.share(known);
        let now = Duration::from_secs(1);
        let limits = HandshakeLimits::default();
        while here.proven_all.take(limits.proven_all, now) {}
        let (friend, stranger) = (SocketAddr::from(([198, 51, 100, 7], 1)), SocketAddr::from(([198, 51, 100, 8], 1)));
        there.completed(now, friend.ip());
        let place = |gate: &Gate, from: SocketAddr| place_of(&gate.places_key, from.ip(), None);
        let (at, other) = (place(&here, friend), place(&here, stranger));
        assert_eq!(here.admit_proven(now, stranger, other), Admission::Refused);
        assert_eq!(here.admit_proven(now, friend, at), Admission::Yes);
    }
}
