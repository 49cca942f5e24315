//! Bytes that wait to be sent.

/// Bytes before the first that waits are let go once there are so many.
const SLACK: usize = 16 * 1024;

/// What waits to be sent to one side, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    start: usize,
}

impl Outbox {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What waits.
    pub(crate) fn pending(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.start)
    }

    /// The first `count` bytes were sent.
    pub(crate) fn sent(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.bytes.len());
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(2 * SLACK);
            self.start = 0;
        } else if self.start >= SLACK {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_gone_and_the_rest_is_in_order() {
        let mut outbox = Outbox::default();
        let all: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
        outbox.push(&all);
        let mut seen = Vec::new();
        while outbox.len() > 0 {
            let some = outbox.pending().len().min(777);
            seen.extend_from_slice(&outbox.pending()[..some]);
            outbox.sent(some);
        }
        assert_eq!(seen, all);
        outbox.push(b"x");
        outbox.sent(5);
        assert_eq!(outbox.pending(), b"");
    }
}
