//! Tunnels and simulated clients against each other: no sockets, no clock but the simulation's.

mod abuse;
mod client;
mod flood;
mod handshakes;
mod inside;
mod registry;
mod robustness;
mod server;
mod streams;
mod world;
