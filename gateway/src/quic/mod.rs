//! QUIC (RFC 9000) under HTTP/3: sockets, connection ids, keys and TLS. `quinn` does the protocol; here is what it runs on.
//!
//! Each worker has, for each listener with `http3`, a socket of its own at the listener's port (`socket`) and an endpoint on
//! it (`hub`). A connection's ids carry its worker's number (`ids`), which the kernel reads where it can (`steering`), so that
//! a peer whose address changes comes back to the worker that has its connection; what comes to another is passed on. TLS is
//! the listener's: its certificates, its verifier, its tickets (`crypto`). Memory is bounded for each connection (`settings`)
//! and in all (`windows`).

mod crypto;
mod hub;
mod ids;
mod meters;
mod settings;
mod socket;
mod steering;
mod windows;

pub(crate) use crypto::{Proof, QuicTls};
pub(crate) use hub::{Hub, Line, Share};
pub use meters::Meters;
pub(crate) use settings::ALPN;
pub(crate) use windows::Windows;
