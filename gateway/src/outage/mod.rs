//! Sites that fell silent (R19): which are expected, which are there, and who is told.
//!
//! Workers tell when a site's first connection comes and its last one goes ([`sightings`]); tunnels say once a second which are up.
//! Once a second one task looks at all sites ([`watch`]). What it learns of hours goes into the store, and what it finds into the
//! audit log, the diagnostics and the metrics.

pub mod history;
mod keep;
pub mod sightings;
pub mod watch;

pub use keep::keep;
pub use sightings::Sightings;
pub use watch::{Kept, Rules};
