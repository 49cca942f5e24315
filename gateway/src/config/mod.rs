//! The configuration: TOML files parsed once into types that cannot be wrong.
//!
//! `document` holds the text and its places, `table` reads it key by key, `file*` say which keys there are, `knob` holds
//! every number with its bounds; what comes out is [`Config`]. Every key, with its default and the requirement it
//! serves, stands in `deploy/sekisho.toml`, and a test holds the two together.

mod apart;
mod document;
mod edge;
mod expand;
mod file;
mod file_account;
mod file_edge;
mod file_listener;
mod file_login;
mod file_oidc;
mod file_outage;
mod file_peers;
mod file_quota;
mod file_resilience;
mod file_route;
mod file_service;
mod file_session;
mod file_stream;
mod file_token;
mod file_wireguard;
mod knob;
mod listener;
mod oidc;
mod problem;
mod restart;
mod section;
mod service;
mod stream;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod token;
mod wireguard;

use std::path::Path;

use ::policy::route::Place;
pub use ::policy::route::RouteDefinition;
pub(crate) use apart::is_for_patients;
pub use edge::{ForwardedField, ForwardedFrom, ProxyProtocol, is_among};
pub use listener::{
    IdentityFiles, Limits, Listener, ListenerPeers, ListenerTls, OnRevocation, PatientPeers, Revocation, UserPeers,
};
pub use oidc::{BackChannel, ClientProof, Oidc};
pub use problem::{ConfigError, Position, Problem};
pub use section::{
    ACME_CHAIN, ACME_CURRENT, ACME_KEY, Account, Acme, Admin, Audit, Clock, ClockServer, Durability, Enrolment,
    EnrolmentListener, Hashing, Identity, Log, LogFormat, Login, OnAuditFailure, OnClockAlarm, Policy, Retention,
    Session, Shutdown, Store, Workers,
};
pub use service::{Backend, BackendTls, Balance, HealthCheck, HealthKind, Resilience, Service};
pub use stream::{Stream, StreamProtocol};
pub use token::{Introspection, TokenIssuer, TokenSource};
#[cfg(test)]
pub(crate) use wireguard::example as example_of_tunnels;
pub use wireguard::{Asking, InsideTls, WireGuard};

use document::Context;
use problem::{Places, folder_of};
use table::Table;

/// A node's whole configuration. At least one listener, service and route; names unique; every path absolute if the
/// file's folder is.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The node's name, in every record.
    pub node: String,
    /// The SPIFFE trust domain of device certificates (SPIFFE-ID section 2.1).
    pub trust_domain: String,
    /// Listeners for patients share nothing with others (R18).
    pub patients_apart: bool,
    /// Where sites, devices and users are kept.
    pub store: Store,
    /// The audit log.
    pub audit: Audit,
    /// The clock.
    pub clock: Clock,
    /// Where the policies are.
    pub policy: Policy,
    /// How backends know the gateway's word.
    pub identity: Identity,
    /// Metrics and health.
    pub admin: Admin,
    /// The clinic's own certificate authority; none unless there is one.
    pub enrolment: Option<Enrolment>,
    /// Where listeners' own certificates come from; none unless some come by ACME.
    pub acme: Option<Acme>,
    /// The login guard.
    pub login: Login,
    /// The gateway's own accounts.
    pub account: Account,
    /// Sessions.
    pub session: Session,
    /// What sites and devices may have.
    pub quota: crate::quota::Quotas,
    /// When sites count as silent.
    pub outage: crate::outage::Rules,
    /// Diagnostics.
    pub log: Log,
    /// The threads that serve.
    pub workers: Workers,
    /// How the gateway ends.
    pub shutdown: Shutdown,
    /// The doors.
    pub listeners: Vec<Listener>,
    /// Where requests go.
    pub services: Vec<Service>,
    /// Whose tokens are taken.
    pub token_issuers: Vec<TokenIssuer>,
    /// Where users log in elsewhere.
    pub oidc: Vec<Oidc>,
    /// Where providers say that sessions are over; none unless there is one.
    pub back_channel: Option<BackChannel>,
    /// How a request becomes an action, in the order of the file.
    pub routes: Vec<RouteDefinition>,
    pub(crate) places: Places,
}

impl Config {
    /// Reads and parses a file, with the variables of the process's environment. Relative paths in it are relative to
    /// its folder.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] if the file cannot be read as UTF-8; [`ConfigError::Invalid`] with everything that is
    /// wrong in it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { file: path.to_path_buf(), source };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let base = std::path::absolute(folder_of(path)).map_err(unreadable)?;
        Self::parse_as(&text, path, &base, &|name| std::env::var(name).ok())
    }

    /// Parses a text. Relative paths in it are relative to `base_dir`; `env` gives the value of `${NAME}`.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with everything that is wrong in it, or with all its syntax errors.
    pub fn parse(text: &str, base_dir: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        Self::parse_as(text, Path::new(""), base_dir, env)
    }

    fn parse_as(
        text: &str,
        file: &Path,
        base_dir: &Path,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let (context, document) = Context::parse(text, base_dir, env);
        let config = document.and_then(|document| Table::read_root(&context, &document.root, file::config));
        match (context.finish(file), config) {
            (Ok(places), Some(config)) => Ok(Self { places, ..config }),
            (Err(problems), _) => Err(ConfigError::Invalid(problems)),
            // INVARIANT: what is not read has a problem. Should it fail, the file is refused all the same.
            (Ok(places), None) => {
                Err(ConfigError::Invalid(vec![places.problem("", "is not a configuration".to_owned())]))
            }
        }
    }

    /// A listener as routes see it: where patients are kept apart, only those that name it are at a listener for patients (R18).
    #[must_use]
    pub fn place_of<'a>(&self, listener: &'a Listener) -> Place<'a> {
        let named_only = self.patients_apart && is_for_patients(listener);
        Place { listener: Some(&listener.name), host: None, named_only }
    }

    /// Something that is wrong with a value, blamed on its key's place in the file.
    ///
    /// `key` is the full key, such as `policy.directory` or `listener[0].tls.key_file`; where the file does not hold it,
    /// the innermost table around it is blamed. `message` is lower case, without a full stop, and names the value.
    #[must_use]
    pub fn problem(&self, key: &str, message: String) -> Problem {
        self.places.problem(key, message)
    }
}
