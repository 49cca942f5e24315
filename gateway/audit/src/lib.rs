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
//! A record in the tree is an envelope: a clear [`header`], and the JSON sealed under a data key ([`seal`]) that
//! stands, wrapped to each of a site's [`reviewer`]s ([`wrap`]), in a [`keyfile`]. How long it stands there
//! is the matter of [`retention`]; in place of a key that was destroyed stands a [`destroyed`] file, and in place of entries
//! that were removed a [`removal`]. These modules but the header are there
//! with the feature `seal`, which a verifier does without.
//!
//! The crate is pure: no runtime, no clock, no files. Bytes and time come in as arguments, and so does randomness, but
//! for the ephemeral key of each wrapping, which the cryptographic library draws itself.
#![forbid(unsafe_code)]

pub mod checkpoint;
#[cfg(feature = "seal")]
pub mod destroyed;
pub mod frame;
pub mod header;
pub mod json;
#[cfg(feature = "seal")]
pub mod keyfile;
pub mod merkle;
pub mod note;
pub mod proof;
pub mod reader;
pub mod record;
pub mod removal;
#[cfg(feature = "seal")]
pub mod retention;
#[cfg(feature = "seal")]
pub mod reviewer;
#[cfg(feature = "seal")]
pub mod rewrap;
#[cfg(feature = "seal")]
pub mod seal;
pub mod tiles;
pub mod time;
pub mod verify;
pub mod witness;
#[cfg(feature = "seal")]
pub mod wrap;

pub use record::{Header, Record, Reference, Scope, Splice, Stamp};
