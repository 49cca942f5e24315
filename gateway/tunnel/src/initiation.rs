//! A handshake initiation, opened as far as it takes to know who sent it and that it is new: one operation on the curve
//! (white paper, 5.4.2). boringtun would open it as well, but only once a `Tunn` for its sender is there, and it forgets
//! with the `Tunn` which initiation was the last. So this much is ours, and an idle peer costs no `Tunn`.

use chacha20poly1305::aead::AeadInPlace as _;
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit as _, Nonce, Tag};

use crate::hash::{hash, hmac};
use crate::keys::{PrivateKey, PublicKey};
use crate::message::INITIATION;

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

/// An initiation whose sender's key could be read. Anybody can claim a key; the [`timestamp`](Self::timestamp) proves it.
pub(crate) struct Opened {
    /// The key that the sender claims.
    pub(crate) key: PublicKey,
    chain: [u8; 32],
    hash: [u8; 32],
    sealed: [u8; 28],
}

/// Opens the sender's key. `None` where it was sealed for somebody else, or altered.
pub(crate) fn open(private: &PrivateKey, public: &PublicKey, message: &[u8]) -> Option<Opened> {
    if message.len() != INITIATION {
        return None;
    }
    let ephemeral: &[u8; 32] = message.get(8..40)?.try_into().ok()?;
    let sealed_key: &[u8; 48] = message.get(40..88)?.try_into().ok()?;
    let sealed: [u8; 28] = message.get(88..116)?.try_into().ok()?;
    let start = hash(&[CONSTRUCTION]);
    let transcript = hash(&[&hash(&[&hash(&[&start, IDENTIFIER]), &public.0]), ephemeral]);
    let chain = hmac(&hmac(&start, &[ephemeral]), &[&[1]]);
    let shared = private.shared(ephemeral)?;
    let (chain, key) = keys(&chain, &shared);
    let claimed: [u8; 32] = unseal(&key, sealed_key, &transcript)?;
    Some(Opened { key: PublicKey(claimed), chain, hash: hash(&[&transcript, sealed_key]), sealed })
}

impl Opened {
    /// The timestamp, by which the sender proves its key, and by whose order a replay is told (white paper, 5.1).
    /// `shared` is what the gateway's key and the claimed one share. `None` where the sender has not the claimed key.
    pub(crate) fn timestamp(&self, shared: &[u8; 32]) -> Option<[u8; 12]> {
        let (_, key) = keys(&self.chain, shared);
        unseal(&key, &self.sealed, &self.hash)
    }
}

/// KDF2 (white paper, 5.4): the next chaining key, and a key to seal with.
fn keys(chain: &[u8; 32], input: &[u8; 32]) -> ([u8; 32], [u8; 32]) {
    let secret = hmac(chain, &[input]);
    let first = hmac(&secret, &[&[1]]);
    let second = hmac(&secret, &[&first, &[2]]);
    (first, second)
}

fn unseal<const LENGTH: usize>(key: &[u8; 32], sealed: &[u8], context: &[u8; 32]) -> Option<[u8; LENGTH]> {
    let (text, tag) = sealed.split_at_checked(LENGTH)?;
    let mut text: [u8; LENGTH] = text.try_into().ok()?;
    let tag: [u8; 16] = tag.try_into().ok()?;
    ChaCha20Poly1305::new(Key::from_slice(key))
        .decrypt_in_place_detached(&Nonce::default(), context, &mut text, Tag::from_slice(&tag))
        .ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use boringtun::noise::{Tunn, TunnResult};
    use boringtun::x25519;

    use super::*;

    fn initiation(client: &PrivateKey, gateway: &PublicKey) -> Vec<u8> {
        let mut tunn = Tunn::new(client.secret(), x25519::PublicKey::from(gateway.0), None, None, 1, None);
        let mut buffer = [0_u8; 256];
        match tunn.format_handshake_initiation(&mut buffer, false) {
            TunnResult::WriteToNetwork(message) => message.to_vec(),
            TunnResult::Done | TunnResult::Err(_) => panic!("no initiation"),
            TunnResult::WriteToTunnelV4(..) | TunnResult::WriteToTunnelV6(..) => panic!("a packet"),
        }
    }

    #[test]
    fn what_boringtun_seals_is_opened() {
        let (client, gateway) = (PrivateKey::new([1; 32]), PrivateKey::new([2; 32]));
        let message = initiation(&client, &gateway.public());
        let opened = open(&gateway, &gateway.public(), &message).unwrap();
        assert_eq!(opened.key, client.public());
        let shared = gateway.shared(&client.public().0).unwrap();
        let first = opened.timestamp(&shared).unwrap();
        let again = initiation(&client, &gateway.public());
        let second = open(&gateway, &gateway.public(), &again).unwrap().timestamp(&shared).unwrap();
        assert!(second > first, "{second:?} is later than {first:?}");
    }

    #[test]
    fn every_altered_byte_is_noticed() {
        let (client, gateway) = (PrivateKey::new([1; 32]), PrivateKey::new([2; 32]));
        let shared = gateway.shared(&client.public().0).unwrap();
        let message = initiation(&client, &gateway.public());
        for at in 8..116 {
            let mut altered = message.clone();
            altered[at] ^= 1;
            let opened = open(&gateway, &gateway.public(), &altered);
            assert!(opened.and_then(|opened| opened.timestamp(&shared)).is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_claimed_key_without_its_private_half_is_noticed() {
        let (client, gateway) = (PrivateKey::new([1; 32]), PrivateKey::new([2; 32]));
        let opened = open(&gateway, &gateway.public(), &initiation(&client, &gateway.public())).unwrap();
        let other = gateway.shared(&PrivateKey::new([3; 32]).public().0).unwrap();
        assert!(opened.timestamp(&other).is_none());
    }
}
