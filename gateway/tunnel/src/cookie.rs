//! mac1, mac2 and cookies (white paper, 5.3, 5.4.4, 5.4.7).
//!
//! boringtun makes cookies of its own, which are bound to the address without the port and are asked of everybody once
//! all peers together exceed one rate. These are bound to address *and* port, and [`crate::gate`] decides who needs one.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use chacha20poly1305::aead::AeadInPlace as _;
use chacha20poly1305::{Key, KeyInit as _, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::hash::{equal, hash, mac};
use crate::keys::PublicKey;
use crate::message::COOKIE;
use crate::random::Random;

/// How long a cookie is good (white paper, 6.1).
const LIFETIME: Duration = Duration::from_secs(120);

/// The gateway's side of cookies.
pub(crate) struct Cookies {
    mac1_key: [u8; 32],
    cookie_key: [u8; 32],
    secret: Zeroizing<[u8; 32]>,
    until: Duration,
}

impl Cookies {
    pub(crate) fn new(public: &PublicKey, random: &mut Random) -> Self {
        Self {
            mac1_key: hash(&[b"mac1----", &public.0]),
            cookie_key: hash(&[b"cookie--", &public.0]),
            secret: Zeroizing::new(random.bytes()),
            until: LIFETIME,
        }
    }

    /// Whether a handshake message was made by somebody who knows the gateway's public key.
    pub(crate) fn mac1_holds(&self, message: &[u8]) -> bool {
        let Some((body, mac1, _)) = split(message) else { return false };
        equal(&mac(&self.mac1_key, &[body]), mac1)
    }

    /// Whether a handshake message was made by somebody who got a cookie at this very address and port.
    pub(crate) fn mac2_holds(&mut self, now: Duration, from: SocketAddr, message: &[u8], random: &mut Random) -> bool {
        let Some((body, mac1, mac2)) = split(message) else { return false };
        if mac2.iter().all(|byte| *byte == 0) {
            return false;
        }
        equal(&mac(&self.cookie(now, from, random), &[body, mac1]), mac2)
    }

    /// The answer that gives the sender of a handshake message its cookie. `sender` is the index in the message.
    pub(crate) fn reply(
        &mut self,
        now: Duration,
        from: SocketAddr,
        message: &[u8],
        sender: u32,
        random: &mut Random,
    ) -> Option<[u8; COOKIE]> {
        let (_, mac1, _) = split(message)?;
        let mut cookie = self.cookie(now, from, random);
        let fresh = random.bytes();
        let nonce = fresh.get(..24)?;
        let tag = XChaCha20Poly1305::new(Key::from_slice(&self.cookie_key))
            .encrypt_in_place_detached(XNonce::from_slice(nonce), mac1, &mut cookie)
            .ok()?;
        let mut reply = [0; COOKIE];
        let parts = [&3_u32.to_le_bytes(), &sender.to_le_bytes()[..], nonce, &cookie, &tag];
        for (to, from) in reply.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        Some(reply)
    }

    fn cookie(&mut self, now: Duration, from: SocketAddr, random: &mut Random) -> [u8; 16] {
        if now >= self.until {
            *self.secret = random.bytes();
            self.until = now.saturating_add(LIFETIME);
        }
        let port = from.port().to_be_bytes();
        match from.ip() {
            IpAddr::V4(address) => mac(&*self.secret, &[&address.octets(), &port]),
            IpAddr::V6(address) => mac(&*self.secret, &[&address.octets(), &port]),
        }
    }
}

/// A handshake message as what mac1 covers, mac1, and mac2.
fn split(message: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (body, macs) = message.split_at_checked(message.len().checked_sub(32)?)?;
    let (mac1, mac2) = macs.split_at_checked(16)?;
    Some((body, mac1, mac2))
}
