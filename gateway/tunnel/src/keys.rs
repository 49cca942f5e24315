//! Keys of WireGuard. Private and preshared keys are wiped when dropped and never printed.

use std::fmt;

use boringtun::x25519;
use zeroize::Zeroizing;

/// The Curve25519 public key of a peer or of the gateway: what WireGuard knows a device by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; 32]);

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
}
