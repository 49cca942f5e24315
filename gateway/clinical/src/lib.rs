//! Clinical protocols that are not HTTP, as a proxy sees them: DICOM associations ([`dicom`]) and HL7 v2 over MLLP ([`hl7`]).
//!
//! Bytes and time come in; questions, bytes to forward and events go out. There are no sockets, no runtime, no clock. What is asked
//! is asked in the words of policies ([`policy::Action`], [`policy::patients::Patients`]), and only a [`policy::Permit`] makes the
//! backend see anything. `README.md` draws the ways.
//!
//! # What holds
//!
//! - **Nothing reaches the backend that was not judged**: no association before its permit, no operation or message before its own.
//! - **What was judged is what is forwarded.** Whatever can be read in two ways is refused: lengths that contradict each other, elements
//!   twice or out of order, bytes between frames, separators inside of characters. PDUs and frames are written anew.
//! - **Memory is bounded** by [`dicom::Limits`] and [`hl7::Limits`], whatever peers send: a data set of gigabytes passes in pieces.
//! - **A refusal is an answer** of the protocol's own: A-ASSOCIATE-RJ, a DIMSE status, a negative acknowledgement.
//!
//! # How a worker drives it
//!
//! One [`dicom::Association`] or [`hl7::Link`] for each connection, by one task:
//!
//! 1. Accept (TLS, registry) and make the machine with `now`.
//! 2. Where [`wants`](dicom::Association::wants) says so, read a side's socket and call [`handle`](dicom::Association::handle). Bytes that it
//!    did not take are given again before more is read; nothing is read where it wants nothing: that is all of the flow control.
//! 3. `poll_event` until `None`:
//!    - a **question** (`Associate`, `Operation`, `Message`) goes to the judge with the listener's service, class and route, with the
//!      device's subject, and after the caller's own checks: titles and facilities belong to the device. For an effect that changes,
//!      the intent is durable before `permit`; for one that reads, the record before it too, since an answer may follow at once. `refuse`
//!      comes after the denial's record;
//!    - `Associate` permitted: connect to the backend, then [`admit`](dicom::Association::admit). Before that the backend sees nothing;
//!    - an **`Outcome`** is made durable, then `recorded` lets the backend's last word go on;
//!    - **`Named`** is an addendum to the operation's record, and teaches [`Studies`](policy::patients::Studies) whose a study is;
//!    - `Refused` and `Unfit` are records of refusals; `Closed` is the record of the end.
//! 4. Send `output` of each side, and tell `sent`.
//! 5. Wait for a socket, for `poll_timeout` (then `handle_timeout`), or for the registry's word that the device is revoked (`cut`). The end
//!    of a side's stream is `hang_up`.
//!
//! After `Closed` what `output` has is sent, and both connections are closed.
#![forbid(unsafe_code)]

pub mod dicom;
pub mod hl7;
mod outbox;
#[cfg(test)]
mod testing;
