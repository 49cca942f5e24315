//! `sekisho audit ship`: what the log holds goes to receivers elsewhere (R28, R30, R31). A process of its own, with a
//! reviewer's key of its own and a Unix user of its own, so that the gateway never has to read back what it wrote.
//!
//! What is shipped is what was signed: entries that a checkpoint covers, read from tiles. Such entries are on stable
//! storage, so that no crash of the gateway can take back what a receiver was told; and they are at most a second old.
//!
//! Each destination has a thread, a runtime and a position ([`cursor`]) in each lane of its own: a receiver that is down
//! holds up nobody else. The position is a number of entries and moves when the receiver has what is before it.

mod atna;
mod backoff;
pub mod config;
pub mod copy;
pub mod cursor;
pub mod fault;
mod fhir;
mod growing;
pub mod lane;
mod process;
mod records;
mod runner;
mod status;
mod tls;
pub mod witness;

use std::future::Future;

pub use config::{DestinationSettings, ShipConfig, ShipConfigError};
pub use fault::Fault;
pub use lane::Lane;
pub use process::{ShipError, Shipping};

/// One receiver.
pub trait Destination {
    /// Gives the receiver something of what `lane` holds behind its first `from` entries, of which there is at least one
    /// under [`Lane::checkpoint`]. Says how many entries of the lane the receiver has then, which is a promise: they are
    /// never given again. `from` says that it is not the time yet. May be dropped at any await; what was given before is
    /// given again then.
    ///
    /// # Errors
    /// [`Fault`]; the same is tried again after a pause.
    fn take(&mut self, lane: &Lane, from: u64) -> impl Future<Output = Result<u64, Fault>>;

    /// Looks after a lane of which the receiver has everything, or which has no entry.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    fn keep(&mut self, _lane: &Lane) -> impl Future<Output = Result<(), Fault>> {
        async { Ok(()) }
    }
}
