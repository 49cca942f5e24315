//! Revocation of devices' certificates: where CRLs and OCSP answers come from, and how they get to the verifiers (R3,
//! R12, R27).
//!
//! Each listener has its [`Lists`]: files and folders, read at a start and a reload, where a bad one refuses the whole
//! (C7), and looked at several times a second by [`keep`], where a bad one changes nothing; lists fetched from the
//! distribution points that certificates of trusted authorities name; and what their responders said of each
//! certificate. A handshake only ever asks what is in memory. A set that changed goes to the listener's verifier, and
//! where it refuses somebody else than before, a new version of the snapshot has every live connection judged again.
//!
//! A start and a reload read the files on the thread that also serves the admin listener: at most `max_crl_bytes` for
//! each list, about a second for the longest, and a signature for each answer that was kept. Requests are served by other
//! threads meanwhile.

mod answers;
mod asking;
mod cache;
mod fetch;
mod files;
mod keeper;
mod lists;
mod points;
mod record;

pub use answers::AnswersReport;
pub(crate) use fetch::{Place, Wanted, fetch};
pub use files::{RevocationError, Why};
pub use keeper::keep;
pub(crate) use lists::notice;
pub use lists::{Lists, Report};
pub(crate) use points::pause_after;

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
