//! Keys of WireGuard. Private and preshared keys are wiped when dropped and never printed.

use std::fmt;

use boringtun::x25519;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The Curve25519 public key of a peer or of the gateway: what WireGuard knows a device by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Whether a device can have it: it is written in the one way that devices write it (below 2^255 - 19, RFC 7748 5), and gives a
    /// secret with others' keys (6.1).
    #[must_use]
    pub fn is_usable(&self) -> bool {
        // 2^255 - 19, least byte first.
        let is_reduced = match self.0 {
            [low, middle @ .., 0x7f] if middle == [0xff; 30] => low < 0xed,
            [.., high] => high < 0x80,
        };
        is_reduced && PrivateKey::new([7; 32]).shared(&self.0).is_some()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The gateway's own Curve25519 private key.
#[derive(Clone)]
pub struct PrivateKey(x25519::StaticSecret);

impl PrivateKey {
    /// Takes 32 random bytes as a key. They are clamped where they are used (RFC 7748 5).
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self(x25519::StaticSecret::from(*bytes))
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519::PublicKey::from(&self.0).to_bytes())
    }

    pub(crate) fn secret(&self) -> x25519::StaticSecret {
        self.0.clone()
    }

    /// What both ends share (RFC 7748 6.1). `None` where the other's key has a small order, so that the result says
    /// nothing about either.
    pub(crate) fn shared(&self, other: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let shared = self.0.diffie_hellman(&x25519::PublicKey::from(*other));
        shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// A key that gateway and peer share beforehand, so that a session holds even where Curve25519 does not
/// (WireGuard white paper, 5.2).
#[derive(Clone)]
pub struct PresharedKey(Zeroizing<[u8; 32]>);

impl PresharedKey {
    /// Takes 32 random bytes as a key.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn bytes(&self) -> [u8; 32] {
        *self.0
    }
}

/// In constant time.
impl PartialEq for PresharedKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&*other.0).into()
    }
}

impl Eq for PresharedKey {}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_printed() {
        assert_eq!(format!("{:?}", PrivateKey::new([7; 32])), "PrivateKey(..)");
        assert_eq!(format!("{:?}", PresharedKey::new([7; 32])), "PresharedKey(..)");
    }

    #[test]
    fn a_key_of_small_order_shares_nothing() {
        assert!(PrivateKey::new([7; 32]).shared(&[0; 32]).is_none());
        assert!(PrivateKey::new([7; 32]).shared(&PrivateKey::new([8; 32]).public().0).is_some());
    }

    /// The points of small order are those of the list at <https://cr.yp.to/ecdh.html#validate>.
    #[test]
    fn a_key_that_no_device_has_is_not_usable() {
        let key = |low: u8, middle: u8, high: u8| {
            let mut key = [middle; 32];
            (key[0], key[31]) = (low, high);
            PublicKey(key)
        };
        let eight = [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
            0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
        ];
        let small = [key(0, 0, 0), key(1, 0, 0), key(0xec, 0xff, 0x7f), PublicKey(eight)];
        let unreduced = [key(0xed, 0xff, 0x7f), key(0xff, 0xff, 0x7f), key(9, 0, 0x80), key(0xff, 0xff, 0xff)];
        for bad in small.iter().chain(&unreduced) {
            assert!(!bad.is_usable(), "{bad:?}");
        }
        for good in [key(9, 0, 0), key(0xeb, 0xff, 0x7f), PrivateKey::new([8; 32]).public()] {
            assert!(good.is_usable(), "{good:?}");
        }
    }
}
