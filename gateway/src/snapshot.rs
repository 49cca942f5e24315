//! One snapshot per request: configuration, policies, trust and registry, read together and replaced together.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use policy::judge::Judge;
use policy::route::RouteTable;
use tokio::sync::watch;

use crate::config::{Config, Listener};
use crate::listen::TlsListener;
use crate::oidc::Provider;
use crate::registry::Directory;
use crate::token::Issuer;

/// Everything that decides about a request. Immutable.
pub struct Snapshot {
    /// Counts up with every change; in every record.
    pub version: u64,
    /// What was configured, and all that is made of it.
    pub loaded: Arc<Loaded>,
    /// Who is registered.
    pub directory: Arc<Directory>,
    /// Counts up with every change of the CRLs, which the listeners' verifiers hold.
    pub revocation: u64,
}

/// What a configuration file and the files it names amount to. Made once at start and at each reload.
pub struct Loaded {
    /// The file.
    pub config: Config,
    /// Its listeners, ready to open.
    pub doors: Vec<Door>,
    /// Its policies.
    pub judge: Judge,
    /// Its routes.
    pub routes: RouteTable,
    /// TLS towards the backends of each service, where they use it; in the order of `config.services`.
    pub backend_tls: Vec<Option<Arc<rustls::ClientConfig>>>,
    /// Whose tokens are taken.
    pub token_issuers: Vec<Arc<Issuer>>,
    /// Where users log in elsewhere.
    pub oidc: Vec<Arc<Provider>>,
    /// Whom the clock is asked of.
    pub time_sources: crate::clock::Asking,
    /// When the certificates of services and the authorities of listeners end, for the metrics.
    pub certificates: Vec<CertificateEnd>,
}

/// When a certificate ends that the gateway shows or trusts; of several authorities, the first to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateEnd {
    /// What it is for.
    pub purpose: Purpose,
    /// The listener or the service.
    pub name: String,
    /// Seconds since 1970.
    pub not_after: u64,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A listener's own.
    Server,
    /// The authorities of a listener's devices.
    DeviceAuthorities,
    /// The authorities of a listener's users.
    UserAuthorities,
    /// The authorities of a listener's patients.
    PatientAuthorities,
    /// The admin listener's own.
    AdminServer,
    /// The authorities of operators.
    OperatorAuthorities,
    /// The authorities that may vouch for a service's backends.
    BackendAuthorities,
    /// What the gateway shows to a service's backends.
    BackendIdentity,
    /// The listener's own that devices enrol at.
    EnrolmentServer,
    /// The clinic's own CA that certifies devices.
    IssuingAuthority,
}

impl Purpose {
    /// The label `kind` of the metric.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::DeviceAuthorities => "device-ca",
            Self::UserAuthorities => "user-ca",
            Self::PatientAuthorities => "patient-ca",
            Self::AdminServer => "admin",
            Self::OperatorAuthorities => "operator-ca",
            Self::BackendAuthorities => "backend-ca",
            Self::BackendIdentity => "backend-identity",
            Self::EnrolmentServer => "enrolment",
            Self::IssuingAuthority => "issuing-ca",
        }
    }
}

/// A listener with its certificates loaded.
pub struct Door {
    /// What was configured.
    pub listener: Arc<Listener>,
    /// How it proves itself and whom it trusts.
    pub tls: TlsListener,
}

impl std::ops::Deref for Snapshot {
    type Target = Loaded;

    fn deref(&self) -> &Loaded {
        &self.loaded
    }
}

impl Snapshot {
    /// Were chains judged by other anchors or CRLs when `other` was in force?
    #[must_use]
    pub fn has_other_trust(&self, other: &Self) -> bool {
        !Arc::ptr_eq(&self.loaded, &other.loaded) || self.revocation != other.revocation
    }

    /// The issuer of tokens of that name.
    #[must_use]
    pub fn token_issuer(&self, name: &str) -> Option<&Arc<Issuer>> {
        self.loaded.token_issuers.iter().find(|issuer| &*issuer.config.rules.name == name)
    }

    /// The provider of that name at which users log in.
    #[must_use]
    pub fn provider(&self, name: &str) -> Option<&Arc<Provider>> {
        self.loaded.oidc.iter().find(|provider| **provider.config.name() == *name)
    }

    /// The listener of that name, if the configuration in force has it.
    #[must_use]
    pub fn door(&self, name: &str) -> Option<&Door> {
        self.loaded.doors.iter().find(|door| door.listener.name == name)
    }
}

/// The snapshot in force, and who is told when it changes. Shared by every thread.
pub struct Snapshots {
    current: Arc<ArcSwap<Snapshot>>,
    directory: Arc<ArcSwap<Directory>>,
    changed: watch::Sender<u64>,
    publishing: Mutex<()>,
}

impl Snapshots {
    /// Starts with this configuration. `directory` is what the verifiers of `loaded` ask; every directory that is
    /// published goes there as well.
    #[must_use]
    pub fn new(loaded: Arc<Loaded>, directory: Arc<ArcSwap<Directory>>) -> Self {
        let first = Snapshot { version: 1, loaded, directory: directory.load_full(), revocation: 0 };
        Self {
            current: Arc::new(ArcSwap::from_pointee(first)),
            directory,
            changed: watch::Sender::new(1),
            publishing: Mutex::new(()),
        }
    }

    /// The snapshot in force.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The place to read from without touching what other threads touch.
    #[must_use]
    pub fn cell(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.current)
    }

    /// Tells of every change by its version.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Puts another registry in force. Returns the new version.
    pub fn publish_directory(&self, directory: Arc<Directory>) -> u64 {
        self.publish(|old| Snapshot {
            version: old.version + 1,
            loaded: Arc::clone(&old.loaded),
            directory,
            revocation: old.revocation,
        })
    }

    /// Puts another configuration in force. Returns the new version.
    pub fn publish_loaded(&self, loaded: Arc<Loaded>) -> u64 {
        self.publish(|old| Snapshot {
            version: old.version + 1,
            loaded,
            directory: Arc::clone(&old.directory),
            revocation: old.revocation,
        })
    }

    /// Tells that verifiers have other CRLs, or that those they have ran out. Returns the new version.
    pub fn publish_revocation(&self) -> u64 {
        self.publish(|old| Snapshot {
            version: old.version + 1,
            loaded: Arc::clone(&old.loaded),
            directory: Arc::clone(&old.directory),
            revocation: old.revocation + 1,
        })
    }

    fn publish(&self, next: impl FnOnce(&Snapshot) -> Snapshot) -> u64 {
        let _one_at_a_time = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let next = next(&self.current.load());
        let version = next.version;
        self.directory.store(Arc::clone(&next.directory));
        self.current.store(Arc::new(next));
        self.changed.send_replace(version);
        version
    }
}
