//! WireGuard tunnels: the sockets, and what becomes of what comes out of them.
//!
//! `gateway_tunnel` does all that is neither a socket nor a clock. Here each worker has, for each listener of kind `wireguard`, a
//! socket of its own at the same port (`socket`), a loop that carries datagrams and time (`drive`), and streams (`stream`) that
//! become arrivals like any other. A site is one worker's (`follow`); the kernel takes a session's datagrams there (`steering`),
//! and what comes to another is passed on (`hub`). What operators see is published once a second (`publish`, `board`).

mod board;
mod device;
mod dial;
mod drive;
mod endpoint;
mod follow;
mod hub;
mod key;
mod meters;
mod publish;
mod socket;
mod steering;
mod stream;

pub use board::Board;
pub use device::{NoAddress, TunnelListener};
pub use dial::dial;
pub(crate) use drive::drive;
pub(crate) use endpoint::Endpoint;
pub(crate) use hub::{Hub, Line, Share};
pub use key::{TunnelKeyError, load_key, load_or_create_key};
pub use meters::Meters;
pub(crate) use socket::bind;
pub(crate) use steering::{BY_HASH, RETURN_A, Spread, attach, op};
