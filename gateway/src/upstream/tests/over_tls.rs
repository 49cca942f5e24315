//! Backends behind TLS.
