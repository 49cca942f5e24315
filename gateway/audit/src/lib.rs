//! The audit log's format.
//!
//! A record is canonical JSON ([`record`]), one type for each kind of event. Records stand in segments as frames
//! ([`frame`]) with a length, a checksum, a sequence number and a link of the log's hash chain. The [`reader`]
//! checks all of it, accepts everything before the first bad record and names that record.
//!
//! The crate is pure: no runtime, no clock, no files. Bytes and time come in as arguments.
#![forbid(unsafe_code)]

pub mod frame;
pub mod json;
pub mod reader;
pub mod record;
pub mod time;

pub use record::{Header, Record, Splice, Stamp};
