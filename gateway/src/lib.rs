//! Sekisho, a zero-trust gateway for medical services. `gateway/ARCHITECTURE.md` follows one request through it.
#![deny(unsafe_code)]

pub mod accounts;
pub mod acme;
pub mod admin;
pub mod answer;
pub mod audit;
pub mod authority;
pub mod body;
pub mod cli;
pub mod clock;
pub mod config;
pub mod enrolment;
pub mod exchange;
mod files;
mod http_client;
pub mod listen;
pub mod load;
pub mod login;
pub mod metrics;
pub mod oidc;
pub mod outage;
pub mod quic;
pub mod quickstart;
pub mod registry;
mod replace;
pub mod revocation;
pub mod run;
pub mod sealing;
pub mod session;
pub mod ship;
pub mod snapshot;
pub mod store;
pub mod token;
pub mod tunnels;
pub mod upstream;
pub mod websocket;
pub mod worker;
