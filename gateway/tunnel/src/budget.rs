//! Memory for the buffers of streams, bounded for all together.

/// What is taken of a total.
#[derive(Debug)]
pub(crate) struct Budget {
    total: usize,
    used: usize,
}

/// A new stream's buffer, each way, is this part of what is free: early streams get what a fast, distant site can fill, and
/// the last ones still get something.
const SHARE: usize = 512;

impl Budget {
    pub(crate) fn new(total: usize) -> Self {
        Self { total, used: 0 }
    }

    /// How long the buffers of a new stream may be, each way, in bytes: a power of two, or `None` if not even `min` is left.
    /// `peer_free` is what its peer may still use.
    pub(crate) fn offer(&self, min: usize, max: usize, peer_free: usize) -> Option<usize> {
        let free = self.total.saturating_sub(self.used);
        let size = (free / SHARE).clamp(min, max.max(min)).min((peer_free / 2).max(min));
        let size = if size.is_power_of_two() { size } else { size.next_power_of_two() / 2 }.max(min);
        (size.checked_mul(2)? <= free.min(peer_free)).then_some(size)
    }

    /// Takes; what was [offered](Self::offer), both ways together.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.used = self.used.saturating_add(bytes);
    }

    /// Gives back.
    pub(crate) fn give_back(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_streams_get_more_and_the_total_holds() {
        let mut budget = Budget::new(256 << 20);
        let mut sizes = Vec::new();
        while let Some(size) = budget.offer(16 << 10, 512 << 10, usize::MAX) {
            budget.take(2 * size);
            sizes.push(size);
            assert!(budget.used() <= 256 << 20);
        }
        assert_eq!(sizes[0], 512 << 10);
        assert_eq!(sizes[sizes.len() - 1], 16 << 10);
        assert!(sizes.is_sorted_by(|a, b| a >= b));
        assert!(sizes.len() > 1_000, "{}", sizes.len());
        budget.give_back(2 << 20);
        assert!(budget.offer(16 << 10, 512 << 10, usize::MAX).is_some());
        assert!(budget.offer(16 << 10, 512 << 10, 16 << 10).is_none(), "the peer has none left");
    }
}
