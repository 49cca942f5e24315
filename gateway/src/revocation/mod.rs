//! Revocation of devices' certificates: where CRLs come from, and how they get to the verifiers (R3, R12, R27).
//!
//! Each listener has its [`Lists`]: files and folders, read at a start and a reload, where a bad one refuses the whole
//! (C7), and looked at several times a second by [`keep`], where a bad one changes nothing; and lists fetched from the
//! distribution points that certificates of trusted authorities name. A handshake only ever asks what is in memory. A
//! set that changed goes to the listener's verifier, and then a new version of the snapshot has every live connection
//! judged again.

mod cache;
mod fetch;
mod files;
mod keeper;
mod lists;
mod points;

pub use files::{RevocationError, Why};
pub use keeper::keep;
pub(crate) use lists::notice;
pub use lists::{Lists, Report};

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
