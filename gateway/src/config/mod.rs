//! The configuration: TOML files parsed once into types that cannot be wrong.

mod listener;
mod service;

pub use listener::{Limits, Listener, ListenerTls};
pub use service::{Backend, BackendTls, Service};
