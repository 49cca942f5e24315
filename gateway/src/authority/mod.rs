//! The clinic's own certificate authority: a folder that `sekisho ca init` makes, and what is issued from it (R3, R22).
//!
//! | file | what |
//! |---|---|
//! | `root.crt`, `root.key` | the trust anchor; the key is under a passphrase and belongs offline |
//! | `issuing.crt`, `issuing.key` | the CA that certifies devices; the key may be in a [`token`] |
//! | `crl/root.crl`, `crl/issuing.crl` | who was revoked, DER |
//! | `ca.toml` | the trust domain and how long things last |

pub mod code;
mod file;
mod make;
mod passphrase;
mod settings;
pub mod token;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certs::TrustDomain;
use certs::issue::{
    Authority, Certified, DeviceTerms, IssueError, NewKey, Pkcs12Salts, RemoteSigner, RequestedKey, Revoked, Salts,
    SecretError, Serial,
};
use certs::path::RevocationReason;
use policy::DeviceId;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};

use crate::store::{self, CrlDraft, Origin, Store, StoreError};

pub use file::{Staged, read_private};
pub use make::{NewCa, NewTokenKey, RootKey, make, renew_issuing, renew_root_crl};
pub use passphrase::{ISSUING_VARIABLE, ROOT_VARIABLE, Source};
pub use settings::Settings;
pub use token::{KeyUri, Pin, TokenError, TokenKey};

pub(crate) const ROOT_CERTIFICATE: &str = "root.crt";
pub(crate) const ROOT_KEY: &str = "root.key";
pub(crate) const ISSUING_CERTIFICATE: &str = "issuing.crt";
pub(crate) const ISSUING_KEY: &str = "issuing.key";
pub(crate) const CRL_FOLDER: &str = "crl";
pub(crate) const ROOT_CRL: &str = "root.crl";
pub(crate) const ISSUING_CRL: &str = "issuing.crl";
pub(crate) const SETTINGS: &str = "ca.toml";

/// A day.
pub const DAY: Duration = Duration::from_secs(86_400);

/// Why the authority did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file of the authority.
    #[error("`{path}`: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file that is to be made is there.
    #[error("`{path}` exists; nothing is overwritten", path = .0.display())]
    Exists(PathBuf),
    /// Others than its owner can read a secret.
    #[error("`{path}` has mode {mode:04o}: others than its owner can read it; `chmod 600` it", path = path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The settings.
    #[error("`{path}`: {reason}", path = path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A key under a passphrase.
    #[error("`{path}`: {source}", path = path.display())]
    Secret {
        /// The key.
        path: PathBuf,
        /// What is wrong.
        source: SecretError,
    },
    /// There is no passphrase.
    #[error("no passphrase: {0}")]
    Passphrase(String),
    /// A certificate or a list cannot be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// A token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system has no random bytes.
    #[error("the system has no random bytes")]
    Random,
}

impl CaError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

/// The authority, ready to issue.
#[derive(Debug)]
pub struct Ca {
    folder: PathBuf,
    settings: Settings,
    domain: TrustDomain,
    issuing: Authority,
    token: Option<Arc<TokenKey>>,
    issuing_der: Vec<u8>,
    root_der: Vec<u8>,
}

/// A device's new certificate, recorded nowhere yet.
#[derive(Debug)]
pub struct Issued {
    /// The certificate.
    pub certified: Certified,
    /// What the store is to keep.
    pub entry: store::Certificate,
}

impl Ca {
    /// Reads the authority of a folder. A token that keeps the issuing key is not asked: [`Ca::prove_by`] does, so that a
    /// gateway serves without its token.
    ///
    /// # Errors
    /// [`CaError`] names the file and what is wrong with it.
    pub fn load(folder: &Path) -> Result<Self, CaError> {
        Self::load_by(folder, |uri| Ok(Pin::of(uri)))
    }

    /// As [`Ca::load`], for a command: a PIN that nothing else says is asked for at the terminal.
    ///
    /// # Errors
    /// As for [`Ca::load`].
    pub fn load_or_ask(folder: &Path) -> Result<Self, CaError> {
        Self::load_by(folder, Pin::of_or_ask)
    }

    fn load_by(folder: &Path, pin: impl FnOnce(&KeyUri) -> Result<Pin, CaError>) -> Result<Self, CaError> {
        let settings = Settings::load(&folder.join(SETTINGS))?;
        let domain = settings.domain(&folder.join(SETTINGS))?;
        let text = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(CaError::file(&path))
        };
        let (certificate, root) = (text(ISSUING_CERTIFICATE)?, text(ROOT_CERTIFICATE)?);
        let token = match &settings.issuing_key {
            None => None,
            Some(uri) => {
                let uri = KeyUri::parse(uri)?;
                let pin = pin(&uri)?;
                Some(TokenKey::new(uri, pin)?)
            }
        };
        let issuing = match &token {
            Some(key) => Authority::from_remote(&certificate, Arc::clone(key) as Arc<dyn RemoteSigner>)?,
            None => Authority::from_pem(&certificate, &issuing_key(folder, &settings)?)?,
        };
        let der = |text: &str, name: &str| {
            let fault = |error: rustls::pki_types::pem::Error| CaError::Settings {
                path: folder.join(name),
                reason: error.to_string(),
            };
            CertificateDer::from_pem_slice(text.as_bytes()).map(|der| der.to_vec()).map_err(fault)
        };
        Ok(Self {
            issuing_der: der(&certificate, ISSUING_CERTIFICATE)?,
            root_der: der(&root, ROOT_CERTIFICATE)?,
            issuing,
            token,
            folder: folder.to_owned(),
            settings,
            domain,
        })
    }

    /// Shows that a token has the issuing key of a folder, by a signature.
    ///
    /// # Errors
    /// [`CaError::File`]; [`CaError::Issue`] says why the token does not sign.
    pub fn prove_by(folder: &Path, token: Arc<TokenKey>) -> Result<(), CaError> {
        let path = folder.join(ISSUING_CERTIFICATE);
        let certificate = fs::read_to_string(&path).map_err(CaError::file(&path))?;
        Ok(Authority::from_remote(&certificate, token)?.prove()?)
    }

    /// The token that keeps the issuing key.
    #[must_use]
    pub const fn token(&self) -> Option<&Arc<TokenKey>> {
        self.token.as_ref()
    }

    /// How long things last.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The trust domain whose devices it certifies.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The issuing CA's certificate and the root's, DER.
    #[must_use]
    pub fn chain(&self) -> [&[u8]; 2] {
        [&self.issuing_der, &self.root_der]
    }

    /// The end of the issuing CA's own validity.
    #[must_use]
    pub const fn not_after(&self) -> UnixTime {
        self.issuing.not_after()
    }

    /// The root's and the issuing CA's certificates, PEM.
    ///
    /// # Errors
    /// [`CaError::Issue`].
    pub fn anchors_pem(&self) -> Result<String, CaError> {
        Ok(format!("{}{}", certs::issue::certificate_pem(&self.root_der)?, self.issuing.certificate_pem()))
    }

    /// The issuing CA's key identifier, hexadecimal: its name in the store.
    #[must_use]
    pub fn id(&self) -> String {
        certs::hex(self.issuing.key_id())
    }

    /// A file of the folder `crl`.
    #[must_use]
    pub fn crl_file(&self, name: &str) -> PathBuf {
        self.folder.join(CRL_FOLDER).join(name)
    }

    /// Certifies the key of a request.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn certify(
        &self,
        key: &RequestedKey,
        device: &DeviceId,
        origin: Origin,
        lifetime: Option<Duration>,
        now: UnixTime,
    ) -> Result<Issued, CaError> {
        let terms_url = self.settings.crl_url_of(ISSUING_CRL);
        let certified =
            self.issuing.certify_device(key, self.terms(device, lifetime, terms_url.as_deref()), serial()?, now)?;
        Ok(self.issued(certified, device, origin))
    }

    /// Makes a key and certifies it.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn certify_new(
        &self,
        device: &DeviceId,
        lifetime: Option<Duration>,
        now: UnixTime,
    ) -> Result<(NewKey, Issued), CaError> {
        let key = NewKey::generate()?;
        let url = self.settings.crl_url_of(ISSUING_CRL);
        let terms = self.terms(device, lifetime, url.as_deref());
        let certified = self.issuing.certify_device(key.public(), terms, serial()?, now)?;
        let issued = self.issued(certified, device, Origin::Key);
        Ok((key, issued))
    }

    fn terms<'a>(
        &'a self,
        device: &'a DeviceId,
        lifetime: Option<Duration>,
        crl_url: Option<&'a str>,
    ) -> DeviceTerms<'a> {
        let lifetime = lifetime.unwrap_or(DAY * self.settings.device_days);
        DeviceTerms { domain: &self.domain, device, lifetime, crl_url }
    }

    fn issued(&self, certified: Certified, device: &DeviceId, origin: Origin) -> Issued {
        let entry = store::Certificate {
            serial: certs::hex(certified.serial.as_bytes()),
            issuer: self.id(),
            site: device.site.clone(),
            device: device.device.clone(),
            fingerprint: certs::hex(&certs::fingerprint(&certified.der)),
            not_before: certified.not_before.as_secs(),
            not_after: certified.not_after.as_secs(),
            origin,
            revoked_at: None,
            reason: None,
        };
        Issued { certified, entry }
    }

    /// The certificate and the issuing CA's, PEM, leaf first: what a client presents.
    ///
    /// # Errors
    /// [`CaError::Issue`].
    pub fn chain_pem(&self, certified: &Certified) -> Result<String, CaError> {
        Ok(format!("{}{}", certified.pem()?, self.issuing.certificate_pem()))
    }

    /// A PKCS#12 file of a key, its certificate and the issuing CA's.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn pkcs12(&self, key: &NewKey, issued: &Issued, password: &str) -> Result<Vec<u8>, CaError> {
        let salts = || Ok::<_, CaError>(Salts { salt: random()?, iv: random()? });
        let salts = Pkcs12Salts { key: salts()?, certificates: salts()?, mac: random()? };
        let chain = [issued.certified.der.as_slice(), &self.issuing_der];
        let name = issued.entry.device_id().to_string();
        certs::issue::pkcs12(&key.pkcs8(), &chain, &name, password, salts)
            .map_err(|error| CaError::Passphrase(error.to_string()))
    }

    /// Publishes the issuing CA's next CRL: signs what the store says and replaces the file, as one act.
    ///
    /// # Errors
    /// [`CaError`]; then the old list stays.
    pub async fn publish(&self, store: &Store, now: UnixTime) -> Result<CrlDraft, CaError> {
        let lasts = DAY * self.settings.crl_days;
        let path = self.crl_file(ISSUING_CRL);
        let next = now.as_secs().saturating_add(lasts.as_secs());
        store
            .crl_publish(&self.id(), next, now.as_secs(), |draft| {
                let revoked: Vec<Revoked> = draft.revoked.iter().filter_map(revoked).collect();
                let list = self.issuing.crl(&revoked, draft.number, lasts, now)?;
                file::replace(&path, &list).map_err(CaError::file(&path))
            })
            .await
    }

    /// Publishes a list if something was revoked since the last, or half of its time is over.
    ///
    /// # Errors
    /// As for [`Ca::publish`].
    pub async fn publish_if_due(&self, store: &Store, now: UnixTime) -> Result<Option<CrlDraft>, CaError> {
        let state = store.crl_state(&self.id()).await?;
        let half = (DAY * self.settings.crl_days).as_secs() / 2;
        let due = state.is_none_or(|state| state.stale || state.next_update < now.as_secs().saturating_add(half));
        if due || !self.crl_file(ISSUING_CRL).exists() { self.publish(store, now).await.map(Some) } else { Ok(None) }
    }
}

fn issuing_key(folder: &Path, settings: &Settings) -> Result<String, CaError> {
    let path = folder.join(ISSUING_KEY);
    let key = read_private(&path)?;
    if !certs::issue::is_protected(&key) {
        return Ok(key);
    }
    let source = match &settings.issuing_passphrase_file {
        Some(file) => Source::File(folder.join(file)),
        None => Source::Variable(ISSUING_VARIABLE),
    };
    let der = certs::issue::open(&key, &source.read()?).map_err(|source| CaError::Secret { path, source })?;
    Ok(make::plain_pem(&der)?)
}

fn revoked(entry: &store::Certificate) -> Option<Revoked> {
    let at = UnixTime::since_unix_epoch(Duration::from_secs(entry.revoked_at?));
    // What this program did not write still revokes.
    let reason = entry.reason.as_deref().and_then(reason_named).unwrap_or(RevocationReason::Unspecified);
    Some(Revoked { serial: certs::unhex(&entry.serial)?, at, reason })
}

/// The reasons that a device's certificate can be revoked for (RFC 5280 5.3.1). A hold is what `device suspend` does;
/// the others are about authorities.
pub const REASONS: &[RevocationReason] = &[
    RevocationReason::Unspecified,
    RevocationReason::KeyCompromise,
    RevocationReason::AffiliationChanged,
    RevocationReason::Superseded,
    RevocationReason::CessationOfOperation,
    RevocationReason::PrivilegeWithdrawn,
];

/// The reason of that name.
#[must_use]
pub fn reason_named(name: &str) -> Option<RevocationReason> {
    REASONS.iter().copied().find(|reason| reason.name() == name)
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], CaError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| CaError::Random)?;
    Ok(bytes)
}

fn serial() -> Result<Serial, CaError> {
    random().map(Serial::from_random)
}

fn pkcs8_of(pem: &str) -> Result<Vec<u8>, IssueError> {
    PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
        .map(|der| der.secret_pkcs8_der().to_vec())
        .map_err(|_| IssueError::Encoding)
}

#[cfg(test)]
mod tests;
