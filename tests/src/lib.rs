//! The vocabulary of the promises: a clinic with its certificates, its registry, its policies and its backend, and
//! the real `sekisho` in front of it, spoken to over real sockets.
//!
//! ```text
//! let clinic = gateway_tests::Clinic::builder().start();
//! let mut wire = clinic.wire("sakura-clinic/exam-1");
//! assert_eq!(wire.get("/fhir/Patient/1").status, 200);
//! assert_eq!(clinic.asked_by(&wire).len(), 1);
//! ```
//!
//! Everything waits with a deadline, ends when it is dropped, and lives in a folder of its own: promises run side by
//! side. A broken expectation panics and says what was there instead.

pub mod audit;
pub mod backend;
pub mod chrony;
mod clinic;
mod config;
pub mod copies;
mod door;
pub mod h2;
mod http1;
pub mod http3;
pub mod idp;
mod metrics;
pub mod nginx;
pub mod ocsp;
pub mod oidc;
pub mod openssl;
mod pki;
mod process;
pub mod relay;
pub mod revocation;
pub mod rsyslog;
mod script;
pub mod ship;
pub mod tcp;
mod wait;
pub mod wireguard;

pub use backend::{Backend, Reply, Seen};
pub use clinic::{Builder, Clinic, DOCTOR, Prepared, places, repository};
pub use config::Config;
pub use door::{Door, Handshake, Refusal, connect_from};
pub use http1::{Answer, Ended, Wire};
pub use metrics::Metrics;
pub use pki::{Identity, Oddity, Pki};
pub use process::{Failure, Gateway, Output, binary, own_address, sekisho, sekisho_asking};
pub use script::Script;
pub use wait::{PATIENCE, until, within};
