//! The doors. Whatever protocol a peer speaks, what leaves here is a [`Connection`] with a proved peer and
//! requests that one pipeline takes.

mod accept;
mod allowance;
mod arrival;
mod budget;
mod control;
mod deadline;
mod gate;
mod h1;
mod h2;
mod h3;
mod identities;
mod peer;
mod proxied;
mod purpose;
mod strangers;
mod tls;

pub use accept::bind;
pub(crate) use accept::{Carrier, accept_loop, serve};
pub use allowance::{Allowance, Allowances, Rate, Summary};
pub(crate) use arrival::Bearing;
pub use arrival::{Arrival, Connection};
pub use control::Control;
pub(crate) use deadline::Deadline;
pub(crate) use gate::{Gate, network_of};
pub(crate) use h1::Stream as ByteStream;
pub use h1::{ChunkedDecoder, Framing, H1Body, HeadLimits, HeadScan, Piece, take_head};
pub(crate) use h1::{put_chunk_size, put_fields, put_last_chunk};
pub use h2::H2Body;
pub use h3::H3Body;
pub(crate) use h3::accept_loop as accept_quic;
pub use identities::{Change, Identities, Shown};
pub use peer::{Peer, Shown as ShownCertificate};
pub use proxied::{Said, parse as parse_proxy_header};
pub use purpose::{PeerRules, RolesFileError, check_roles};
pub use strangers::Strangers;
pub(crate) use tls::anchors;
pub use tls::{ListenerTlsError, Parameters, Protocol, TlsListener};
