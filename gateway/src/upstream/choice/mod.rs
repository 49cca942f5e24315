//! Which server of a service gets a request: decisions alone, without input or output.
//!
//! Time comes in as milliseconds since an epoch of the caller's, randomness as bits. [`Pool`] says who takes part,
//! [`pick`] chooses among them, [`Budget`] says whether a request may be sent once more.

mod budget;
mod pick;
mod pool;

pub(super) use budget::{Budget, backoff_ms};
pub use pick::affinity_of;
pub(super) use pick::mix;
pub(super) use pick::{Set, by_hash, least_of_two, weight};
pub use pool::State;
pub(super) use pool::{Bounds, Checked, NEVER, Pool};

/// Most servers of a service: one bit each.
pub const MAX_SERVERS: usize = 64;
