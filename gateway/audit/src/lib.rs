//! The audit log's format.
//!
//! A record is canonical JSON ([`record`]), one type for each kind of event. Records stand in segments as frames
//! ([`frame`]) with a length, a checksum, a sequence number and a link of the log's hash chain. The [`reader`]
//! checks all of it, accepts everything before the first bad record and names that record.
//!
//! What a third party checks is derived from that: the records as entries of a Merkle tree ([`merkle`]) in tiles
//! ([`tiles`]), whose root stands in a signed checkpoint ([`note`], [`checkpoint`]). [`verify`] checks such a log and
//! [`proof`] one entry of it. `FORMAT.md` tells how to do the same without this crate.
//!
//! The crate is pure: no runtime, no clock, no files. Bytes and time come in as arguments.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod frame;
pub mod header;
pub mod json;
pub mod merkle;
pub mod note;
pub mod proof;
pub mod reader;
pub mod record;
pub mod tiles;
pub mod time;
pub mod verify;

pub use record::{Header, Record, Reference, Scope, Splice, Stamp};
