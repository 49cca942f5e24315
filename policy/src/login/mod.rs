//! The login guard (R8): what every login goes through, a backend's or the gateway's own.
//!
//! [`Guard`] is a state machine: attempts and times in, verdicts out. What counts as one account says [`AccountName`], how
//! often it may fail [`Limits`]. Where a request names its account, and what its answer says about the password, are
//! [`LoginDefinition`]'s to say and [`read`]'s and [`answer`]'s to find.

mod account;
pub mod answer;
pub(crate) mod definition;
mod guard;
mod limits;
pub mod read;

#[cfg(test)]
mod tests;

pub use account::{AccountName, InvalidAccount, MAX_ACCOUNT_LENGTH, Spelling};
pub use definition::{AccountPlace, Login, LoginDefinition, LoginProblem};
pub use guard::{Attempt, Ended, Guard, Lock, Locked, Origin, Reason, Refused, Ticket};
pub use limits::{Bound, Global, Limits, LockScope, Pause};
