//! Names for connections and requests.

use std::cell::Cell;

use http::HeaderValue;

/// Makes names: a random half per worker and start, and a count.
#[derive(Debug)]
pub(super) struct Ids {
    start: u64,
    next: Cell<u64>,
}

impl Ids {
    pub(super) fn new(index: usize) -> Self {
        let mut random = [0u8; 8];
        // Without random bytes the names are still unique within the log: the boot id and the sequence tell starts apart.
        let _ = aws_lc_rs::rand::fill(&mut random);
        Self { start: u64::from_be_bytes(random) ^ index as u64, next: Cell::new(0) }
    }

    pub(super) fn next(&self) -> HeaderValue {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let count = self.next.get();
        self.next.set(count.wrapping_add(1));
        let value = u128::from(self.start) << 64 | u128::from(count);
        let mut id = [b'0'; 32];
        for (place, byte) in id.chunks_exact_mut(2).zip(value.to_be_bytes()) {
            for (digit, nibble) in place.iter_mut().zip([byte >> 4, byte & 0xf]) {
                *digit = HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
            }
        }
        // INVARIANT: hexadecimal digits are a header's value.
        let mut id = HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("0"));
        // It never comes twice: in HPACK's table it would only push out what does (RFC 7541 7.1.3).
        id.set_sensitive(true);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_have_32_digits() {
        let ids = Ids::new(1);
        let (a, b) = (ids.next(), ids.next());
        assert_ne!(a, b);
        assert_eq!(a.len(), 32);
        assert!(a.as_bytes().iter().all(u8::is_ascii_hexdigit));
        assert_eq!(a.as_bytes().first_chunk::<16>(), b.as_bytes().first_chunk::<16>());
    }
}
