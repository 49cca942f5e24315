//! From a configuration file to everything that it names, loaded. Start, reload and `sekisho check` all come here.

use std::path::Path;
use std::sync::Arc;

use certs::profile::{ClientSettings, client_config};
use certs::verifier::Admit;
use certs::{Anchors, Profile, ServerIdentity, TrustDomain};
use policy::judge::{Judge, JudgeOptions};
use policy::route::RouteTable;

use crate::cli::policy::{PolicyCommandError, read_policies};
use crate::config::{Config, ConfigError, Service};
use crate::listen::{ListenerTlsError, TlsListener};
use crate::snapshot::{Door, Loaded};
use crate::upstream::Upstreams;

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
    PolicyFile(#[from] PolicyCommandError),
    /// The policies do not validate.
    #[error(transparent)]
    Policy(#[from] policy::judge::LoadError),
    /// The routes contradict each other.
    #[error(transparent)]
    Routes(#[from] policy::route::RouteError),
    /// A listener's certificates.
    #[error(transparent)]
    Listener(#[from] ListenerTlsError),
    /// A service's certificates.
    #[error("service `{service}`: {message}")]
    Service {
        /// The service.
        service: String,
        /// What is wrong.
        message: String,
    },
}

/// Loads the configuration file and everything it names. `admit` asks the registry about a device; `old` is what is
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
        .collect::<Result<_, LoadError>>()?;
    let backend_tls = config.services.iter().map(service_tls).collect::<Result<Vec<_>, _>>()?;
    // The pools themselves are made by each worker; that they can be made is found out here.
    Upstreams::new(config.services.iter().zip(backend_tls.iter().cloned()))
        .map_err(|error| LoadError::Service { service: "*".to_owned(), message: error.to_string() })?;
    Ok(Loaded { config, doors, judge, routes, backend_tls })
}

fn service_tls(service: &Service) -> Result<Option<Arc<rustls::ClientConfig>>, LoadError> {
    let Some(tls) = &service.tls else { return Ok(None) };
    let failed = |message: String| LoadError::Service { service: service.name.to_string(), message };
    let authorities = Anchors::load_file(&tls.ca_file).map_err(|error| failed(error.to_string()))?;
    let identity = match &tls.identity {
        Some((certificate, key)) => {
            Some(ServerIdentity::load_files(certificate, key).map_err(|error| failed(error.to_string()))?)
        }
        None => None,
    };
    let alpn: &[&[u8]] = if service.http2 { &[b"h2"] } else { &[b"http/1.1"] };
    client_config(ClientSettings {
        profile: Profile::CryptrecHighTls12,
        authorities: &authorities,
        identity: identity.as_ref(),
        alpn,
        clock: Arc::new(crate::clock::TlsTime),
    })
    .map(|config| Some(Arc::new(config)))
    .map_err(|error| failed(error.to_string()))
}
