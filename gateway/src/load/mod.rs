//! From a configuration file to everything that it names, loaded. Start, reload and `sekisho check` all come here.

use std::path::Path;
use std::sync::Arc;

use certs::TrustDomain;
use certs::verifier::Admit;
use policy::judge::{Judge, JudgeOptions};
use policy::route::RouteTable;

use crate::clock::{Asking, KeyFileError};
use crate::config::{Config, ConfigError, ListenerPeers};
use crate::listen::{ListenerTlsError, TlsListener};
use crate::oidc::{Provider, ProviderError};
use crate::snapshot::{CertificateEnd, Door, Loaded, Purpose};
use crate::token::{Issuer, TokenError};
use crate::upstream::{InvalidService, Upstreams};

mod apart;
mod backend_tls;
mod policies;

pub use apart::NotApart;
pub(crate) use backend_tls::backend_tls;
pub use policies::{PolicyFileError, read_bounded, read_policies};

/// Why a configuration cannot be put in force. Each message names the file or the key.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The trust domain's name.
    #[error(transparent)]
    TrustDomain(#[from] certs::spiffe::InvalidTrustDomain),
    /// A folder or file of policies cannot be read.
    #[error(transparent)]
    PolicyFile(#[from] PolicyFileError),
    /// The policies do not validate.
    #[error(transparent)]
    Policy(#[from] policy::judge::LoadError),
    /// The routes contradict each other.
    #[error(transparent)]
    Routes(#[from] policy::route::RouteError),
    /// A listener's certificates.
    #[error(transparent)]
    Listener(#[from] ListenerTlsError),
    /// Listeners for patients and others share something.
    #[error(transparent)]
    Apart(#[from] NotApart),
    /// A service's certificates.
    #[error("service `{service}`: {message}")]
    Service {
        /// The service.
        service: String,
        /// What is wrong.
        message: String,
    },
    /// A service's backends.
    #[error(transparent)]
    Backends(#[from] InvalidService),
    /// An issuer of tokens.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A provider's secret or key.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// A time server's key.
    #[error(transparent)]
    TimeServer(#[from] KeyFileError),
}

/// Loads the configuration file and everything it names. `admit` asks the registry about a peer; `old` is what is
/// in force, at a reload.
///
/// # Errors
/// [`LoadError`]; then nothing has changed.
pub fn load(path: &Path, admit: &Admit, old: Option<&Loaded>) -> Result<Loaded, LoadError> {
    load_config(Config::load(path)?, admit, old)
}

/// Loads everything that a configuration names.
///
/// # Errors
/// [`LoadError`].
pub fn load_config(config: Config, admit: &Admit, old: Option<&Loaded>) -> Result<Loaded, LoadError> {
    let domain = TrustDomain::new(&config.trust_domain)?;
    let judge = Judge::load(read_policies(&config.policy.directory)?, JudgeOptions::default())?;
    let routes = RouteTable::new(config.routes.clone())?;
    let doors = config
        .listeners
        .iter()
        .map(|listener| {
            let old = old.and_then(|old| old.doors.iter().find(|door| door.listener.name == listener.name));
            let tls = TlsListener::load(listener, &domain, Arc::clone(admit), old.map(|door| &door.tls))?;
            Ok(Door { listener: Arc::new(listener.clone()), tls })
        })
        .collect::<Result<Vec<_>, LoadError>>()?;
    apart::judge(&config, &routes)?;
    let mut certificates: Vec<_> = doors.iter().filter_map(door_end).collect();
    let mut tls = Vec::new();
    for service in &config.services {
        tls.push(backend_tls(service, &mut certificates)?);
    }
    // The pools themselves are made by each worker; that they can be made is found out here.
    Upstreams::new(config.services.iter().zip(tls.iter().cloned()), Arc::default())?;
    let token_issuers = config
        .token_issuers
        .iter()
        .map(|issuer| {
            // Keys that were fetched, and what was verified by them, stay.
            let old =
                old.and_then(|old| old.token_issuers.iter().find(|old| old.config == *issuer && !old.has_files()));
            old.map_or_else(|| Issuer::load(issuer).map(Arc::new), |old| Ok(Arc::clone(old)))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let old_providers = old.map(|old| &old.oidc[..]).unwrap_or_default();
    let oidc = config.oidc.iter().map(|provider| Provider::load(provider, old_providers).map(Arc::new));
    let oidc = oidc.collect::<Result<Vec<_>, _>>()?;
    let time_sources = Asking::load(&config.clock)?;
    Ok(Loaded { config, doors, judge, routes, backend_tls: tls, token_issuers, oidc, time_sources, certificates })
}

/// Of the authorities alone: a listener's own certificates change without a reload, and say themselves when they end.
fn door_end(door: &Door) -> Option<CertificateEnd> {
    Some(CertificateEnd {
        purpose: match door.listener.tls.peers {
            ListenerPeers::Devices => Purpose::DeviceAuthorities,
            ListenerPeers::Users(_) => Purpose::UserAuthorities,
            ListenerPeers::Patients(_) => Purpose::PatientAuthorities,
        },
        name: door.listener.name.clone(),
        not_after: door.tls.authorities_not_after?,
    })
}
