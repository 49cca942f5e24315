//! Connection ids that say whose connection it is.

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};

use crate::tunnels::Spread;

/// Bytes of an id: enough that nobody guesses one, and one more than the eight that a client begins with at least.
pub(super) const LENGTH: usize = 9;

/// Makes ids whose first byte carries its worker's number in the lowest bits; everything else is random.
///
/// Of two ids of one connection an observer so knows that one worker has both, and no more (RFC 9000 5.1 asks for nothing
/// that links them; what a load balancer must read is the exception that RFC 9000 5.1 and 5.2.3 leave to deployments).
#[derive(Debug, Clone, Copy)]
pub(super) struct Ids {
    pub(super) number: usize,
    pub(super) spread: Spread,
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; LENGTH];
        // Without random bytes ids collide, and a peer gets no connection rather than another's.
        let _ = aws_lc_rs::rand::fill(&mut id);
        if let Some(first) = id.first_mut() {
            let mask = self.spread.mask();
            *first = (*first & !mask) | (u8::try_from(self.number).unwrap_or(0) & mask);
        }
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let first = id.first().copied().unwrap_or_default();
        if usize::from(first & self.spread.mask()) == self.number { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_worker_and_is_random_otherwise() {
        let spread = Spread::over(3);
        for number in 0..3 {
            let mut ids = Ids { number, spread };
            let (a, b) = (ids.generate_cid(), ids.generate_cid());
            assert_ne!(a, b);
            assert_eq!(a.len(), LENGTH);
            assert_eq!((usize::from(a[0] & 3), usize::from(b[0] & 3)), (number, number));
            assert!(ids.validate(&a).is_ok());
            assert!(Ids { number: (number + 1) % 3, spread }.validate(&a).is_err());
        }
    }
}
