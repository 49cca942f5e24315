//! The gateway's own accounts (R8, R9): which passwords are good, second factors, and what a login still needs.
//!
//! Pure: hashing of passwords is whoever calls' affair, times are seconds since 1970, random bytes are arguments.

pub mod form;
mod password;
mod profile;
pub mod recovery;
mod standing;
pub mod totp;

pub use password::{MAX_PASSWORD_BYTES, Password, Unfit, Weakness};
pub use profile::{Context, Profile};
pub use standing::{Facts, Next, Proved, Standing};
