//! Datagrams that wait to be sent.

use std::collections::VecDeque;

use crate::path::{Path, Transmit};

/// How many datagrams wait at most. The stacks produce no more while it is full; handshake messages beyond are dropped,
/// as the network would.
pub(crate) const CAPACITY: usize = 256;
/// How many datagrams one [`Transmit`] has at most (the kernel's UDP_MAX_SEGMENTS is 64 or 128).
const SEGMENTS: usize = 64;
/// How many bytes one [`Transmit`] has at most: what fits into one UDP payload.
const BYTES: usize = 65_000;
/// Spare buffers that are kept.
const SPARE: usize = 64;

#[derive(Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<(Path, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
}

impl Outbox {
    /// An empty buffer to make a datagram in.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Gives a buffer back unused.
    pub(crate) fn give_back(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Puts a datagram at the end. `false` if there was no room.
    pub(crate) fn push(&mut self, path: Path, datagram: Vec<u8>) -> bool {
        if self.waiting.len() >= CAPACITY {
            self.give_back(datagram);
            return false;
        }
        self.waiting.push_back((path, datagram));
        true
    }

    /// How many more fit.
    pub(crate) fn room(&self) -> usize {
        CAPACITY.saturating_sub(self.waiting.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Moves the first datagram to the end of `buffer`, and with it those behind it that have the same path and length, up
    /// to `max_segments`; the last may be shorter.
    pub(crate) fn pop(&mut self, max_segments: usize, buffer: &mut Vec<u8>) -> Option<Transmit> {
        let (path, first) = self.waiting.pop_front()?;
        let segment = first.len();
        let mut size = segment;
        let mut count = 1;
        buffer.extend_from_slice(&first);
        self.give_back(first);
        while count < max_segments.min(SEGMENTS) {
            let fits = |(next, datagram): &(Path, Vec<u8>)| {
                *next == path && datagram.len() <= segment && size.saturating_add(datagram.len()) <= BYTES
            };
            if !self.waiting.front().is_some_and(fits) {
                break;
            }
            let Some((_, datagram)) = self.waiting.pop_front() else { break };
            buffer.extend_from_slice(&datagram);
            let length = datagram.len();
            self.give_back(datagram);
            size = size.saturating_add(length);
            count = count.saturating_add(1);
            if length < segment {
                break;
            }
        }
        Some(Transmit { path, size, segment_size: (count > 1).then_some(segment) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> Path {
        Path { remote: ([192, 0, 2, 1], port).into(), local: None }
    }

    #[test]
    fn equal_datagrams_to_one_place_go_together() {
        let mut outbox = Outbox::default();
        for (port, length) in [(1, 10), (1, 10), (1, 4), (1, 10), (2, 10), (2, 11)] {
            assert!(outbox.push(path(port), vec![0; length]));
        }
        let mut sizes = Vec::new();
        let mut buffer = Vec::new();
        while let Some(transmit) = outbox.pop(64, &mut buffer) {
            sizes.push((transmit.path.remote.port(), transmit.size, transmit.segment_size));
            assert_eq!(buffer.len(), transmit.size);
            buffer.clear();
        }
        assert_eq!(sizes, [(1, 24, Some(10)), (1, 10, None), (2, 10, None), (2, 11, None)]);
    }

    #[test]
    fn it_is_bounded() {
        let mut outbox = Outbox::default();
        for _ in 0..CAPACITY {
            assert!(outbox.push(path(1), vec![0; 1]));
        }
        assert!(!outbox.push(path(1), vec![0; 1]));
        assert_eq!(outbox.room(), 0);
    }
}
