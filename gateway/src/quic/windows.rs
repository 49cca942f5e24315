//! How much peers may have in the gateway's memory: a little for each connection, and more while there is room for all.
//!
//! A connection begins with [`BASE`] bytes each way: what it may send ahead, and what may wait to be acknowledged by it. With
//! a request under way it may [grow](Windows::lease) to [`FULL`] each way, out of what the listener has for all of this
//! worker's (`h3_window_bytes`). So the most that is held is `connections * 2 * BASE + h3_window_bytes`.

use std::cell::Cell;
use std::rc::Rc;

/// Bytes each way that every connection has.
pub(super) const BASE: u32 = 64 * 1024;
/// Bytes each way of one that has grown.
pub(super) const FULL: u32 = BASE + 1024 * 1024;
/// What growing takes.
const GROWTH: u64 = 2 * (FULL - BASE) as u64;

/// What is left for all connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    taken: Rc<Cell<u64>>,
}

/// A connection that has grown; it shrinks when this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    taken: Rc<Cell<u64>>,
    connection: quinn::Connection,
}

impl Windows {
    /// Lets a connection grow, while there is room below `most` bytes.
    pub(crate) fn lease(&self, connection: &quinn::Connection, most: u64) -> Option<Lease> {
        self.take(most)?;
        connection.set_receive_window(FULL.into());
        connection.set_send_window(u64::from(FULL));
        Some(Lease { taken: Rc::clone(&self.taken), connection: connection.clone() })
    }

    fn take(&self, most: u64) -> Option<()> {
        let taken = self.taken.get().checked_add(GROWTH).filter(|taken| *taken <= most)?;
        self.taken.set(taken);
        Some(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.taken.set(self.taken.get().saturating_sub(GROWTH));
        self.connection.set_receive_window(BASE.into());
        self.connection.set_send_window(u64::from(BASE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_bounded_in_all() {
        let windows = Windows::default();
        assert!(windows.take(GROWTH - 1).is_none());
        assert!(windows.take(2 * GROWTH).is_some());
        assert!(windows.take(2 * GROWTH).is_some());
        assert!(windows.take(2 * GROWTH).is_none());
        assert_eq!(windows.taken.get(), 2 * GROWTH);
    }
}
