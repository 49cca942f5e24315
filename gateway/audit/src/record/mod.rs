//! Records: one type for each kind of event, each written as one canonical JSON object (see [`crate::json`]).
//!
//! Every record carries these keys; what a kind adds stands at its type. A key without a value is left out.
//!
//! | key | meaning |
//! |---|---|
//! | `clock` | `boot` (the kernel's boot id), `error_ns` (bound of the wall clock's error, absent if nobody knows), `monotonic_us`, `source`, `synchronised` (R7, A8) |
//! | `kind` | the type of record |
//! | `node` | the gateway's name |
//! | `sequence` | place in the log: without gap or repeat, and the only order |
//! | `time` | UTC, RFC 3339, nanoseconds |
//! | `version` | version of these keys, 1 |
//!
//! Workers write records before anyone knows their place in the log, so a written record leaves out the digits of
//! `sequence`; the [`Splice`] says where they go.

mod addendum;
mod clock;
mod connection;
mod exchange;
mod keys;
mod lifecycle;
mod login;
mod outage;
mod refused;
mod session;
mod tunnel;

pub use addendum::{Addendum, Origin};
pub use clock::{ClockChange, ClockEvent};
pub use connection::{Certificate, Connection, ConnectionEvent, ConnectionFields, ConnectionTraffic, Tls};
pub use exchange::{
    Completion, Decision, Durations, End, Exchange, Intent, MAX_TARGET, Outcome, Request, Stream, StreamEvent,
};
pub use keys::{Opening, Removal, Rewrap, Shred, Why};
pub use lifecycle::{
    AuditFailure, Full, Gap, Recovery, RegistryChange, RegistryRollback, Reload, ReviewersChange, RevocationChange,
    RevocationSource, Start, Stop, TornTail,
};
pub use login::{Login, LoginOutcome};
pub use outage::{Outage, OutageEvent};
pub use refused::{Refused, RefusedSummary, Stage};
pub use session::{SessionEvent, SessionNote};
pub use tunnel::TunnelDrops;

use crate::header::Kind;
use crate::json::{Object, key};
use crate::time;

/// Version of the records' keys.
pub const VERSION: u64 = 1;

/// Offset, from the record's first byte, at which the digits of its sequence number belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Splice(pub u32);

/// When, by which clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp<'a> {
    /// Wall time, nanoseconds since the Unix epoch.
    pub unix_ns: i64,
    /// Monotonic time since some instant of this boot, nanoseconds; written in whole microseconds.
    pub monotonic_ns: u64,
    /// Bound of the wall clock's error, nanoseconds, where someone vouches for one.
    pub error_ns: Option<u64>,
    /// Who says so: `kernel` and the like.
    pub source: &'a str,
    /// Whether the clock's keeper says that it is synchronised.
    pub synchronised: bool,
}

/// What every record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The gateway's name.
    pub node: &'a str,
    /// The kernel's boot id: monotonic times of one id can be compared.
    pub boot: &'a str,
    /// Time of the record.
    pub stamp: Stamp<'a>,
}

/// Which of the log's readers a record is for: those of a site, for a class of information (R4). Both come from what was
/// proved and configured, never from what a stranger claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scope<'a> {
    /// The site; none in records of the provider's own.
    pub site: Option<&'a str>,
    /// The class of information, where the record is about some.
    pub class: Option<&'a str>,
}

impl Scope<'_> {
    /// The provider's own.
    pub const NONE: Self = Self { site: None, class: None };
}

/// What a record is about, in terms that tell nothing of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reference<'a> {
    /// Nothing that others refer to.
    #[default]
    None,
    /// An exchange, by its request id.
    Request(&'a str),
    /// A change of the registry. Written as both, with `-` between.
    Change {
        /// Its number there.
        number: u64,
        /// What tells it from another of that number.
        fingerprint: &'a str,
    },
    /// What a program that cannot open records must find, in visible ASCII.
    Text(&'a str),
}

/// One event that can be written to the log.
pub trait Record {
    /// Whether the event belongs to something already recorded or begun, so that it may use the part of a queue
    /// that new work may not.
    const FOLLOWS: bool;

    /// What kind of record it is.
    fn kind(&self) -> Kind;

    /// Whose record it is, and of which class of information.
    fn scope(&self) -> Scope<'_> {
        Scope::NONE
    }

    /// What it is about.
    fn reference(&self) -> Reference<'_> {
        Reference::None
    }

    /// Appends the record's bytes to `out`, all but the digits of its sequence number, and says where those belong.
    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice;
}

/// Writes `clock`.
fn write_clock(object: &mut Object<'_>, header: &Header<'_>) {
    let mut clock = Object::new(object.key(key!("clock")));
    clock.text(key!("boot"), header.boot);
    clock.optional_number(key!("error_ns"), header.stamp.error_ns);
    clock.number(key!("monotonic_us"), header.stamp.monotonic_ns / 1_000);
    clock.text(key!("source"), header.stamp.source);
    clock.boolean(key!("synchronised"), header.stamp.synchronised);
    clock.end();
}

/// Writes `sequence` without its digits. `start` is the record's first byte.
fn write_sequence(object: &mut Object<'_>, start: usize) -> Splice {
    let at = object.key(key!("sequence")).len();
    Splice(u32::try_from(at - start).unwrap_or(u32::MAX))
}

/// Writes `time`.
fn write_time(object: &mut Object<'_>, header: &Header<'_>) {
    let out = object.key(key!("time"));
    out.push(b'"');
    time::write(out, header.stamp.unix_ns);
    out.push(b'"');
}

/// The record as it will stand in the log: the written bytes with the digits put in.
pub fn finish(written: &[u8], splice: Splice, sequence: u64, out: &mut Vec<u8>) {
    let at = usize::try_from(splice.0).unwrap_or(usize::MAX).min(written.len());
    let (head, tail) = written.split_at(at);
    out.extend_from_slice(head);
    crate::json::number(out, sequence);
    out.extend_from_slice(tail);
}

#[cfg(test)]
pub(crate) mod tests;
