//! Random numbers from a seed that the caller gives: session indices, cookie secrets, sequence numbers, jitter.

use zeroize::Zeroizing;

use crate::hash::hash;

/// BLAKE2s in counter mode over a seed. The seed is replaced with each block, so that what was drawn stays unknown to
/// whoever reads the state later.
pub(crate) struct Random {
    seed: Zeroizing<[u8; 32]>,
}

impl Random {
    /// From 32 bytes of the system's random numbers.
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed: Zeroizing::new(hash(&[b"sekisho tunnel random", &seed])) }
    }

    /// 32 fresh bytes.
    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        let out = hash(&[&*self.seed, &[0]]);
        let next = hash(&[&*self.seed, &[1]]);
        *self.seed = next;
        out
    }

    /// A number below 2^64.
    pub(crate) fn number(&mut self) -> u64 {
        self.bytes().iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_no_number_twice() {
        let (mut a, mut b) = (Random::new([1; 32]), Random::new([1; 32]));
        let first: Vec<u64> = (0..100).map(|_| a.number()).collect();
        assert_eq!(first, (0..100).map(|_| b.number()).collect::<Vec<_>>());
        let distinct: std::collections::HashSet<_> = first.iter().collect();
        assert_eq!(distinct.len(), 100);
        assert_ne!(Random::new([2; 32]).number(), first[0]);
    }
}
