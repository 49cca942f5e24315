//! Opened audit records in the forms that others read (R5, R28).
//!
//! A [`Record`] is read from its canonical JSON; an [`Event`] says in the terms of the field what happened, who took part
//! and what it was about; [`atna`], [`fhir`], [`ecs`] and [`csv`] write it. Every kind of record has its event, in one
//! match without a default. Nothing of a record is left out: what no form has a place for stands among the details.
//!
//! Text of strangers goes out as [`text`] writes it: what a terminal, an XML parser or a reader's eye would obey is
//! escaped and can be had back (row C15 of the threat list).
//!
//! A record that cannot be opened is an event as well ([`Event::sealed`]), so that no receiver sees a gap.
//!
//! The crate is pure: no runtime, no clock, no files.
#![forbid(unsafe_code)]

pub mod atna;
mod code;
pub mod csv;
pub mod ecs;
mod event;
pub mod fhir;
mod record;
mod shape;
pub mod text;

pub use code::{Action, Code, Outcome};
pub use event::{Client, Event, Place, Target, User};
pub use record::{Record, RecordError};

#[cfg(test)]
pub(crate) mod tests;
