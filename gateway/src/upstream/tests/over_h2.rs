//! Backends that speak HTTP/2.
