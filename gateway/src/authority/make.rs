//! Making the authority: once, whole, or not at all.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use certs::TrustDomain;
use certs::issue::{
    Authority, CaKey, IssueError, KeyKind, NewAuthority, ROUNDS, RemoteKey, RemoteSigner, Salts, write_private_file,
};
use rustls::pki_types::UnixTime;

use super::{
    CRL_FOLDER, Ca, CaError, DAY, ISSUING_CERTIFICATE, ISSUING_CRL, ISSUING_KEY, ROOT_CERTIFICATE, ROOT_CRL, ROOT_KEY,
    SETTINGS, Settings, TokenKey, file, pkcs8_of, random, read_private, serial,
};

/// An authority to be made.
#[derive(Debug)]
pub struct NewCa<'a> {
    /// The settings.
    pub settings: Settings,
    /// What the two certificates are called.
    pub name: &'a str,
    /// The kind of those keys that are made.
    pub key: KeyKind,
    /// The root's key, where a token keeps it.
    pub root_token: Option<NewTokenKey>,
    /// The issuing CA's key, where a token keeps it.
    pub issuing_token: Option<NewTokenKey>,
    /// How long the root lasts.
    pub root_lifetime: Duration,
    /// How long the issuing CA lasts.
    pub issuing_lifetime: Duration,
    /// The passphrase of the root's key.
    pub root_passphrase: Option<&'a str>,
    /// The passphrase of the issuing CA's key; none leaves it to the file's mode, as the gateway's other keys.
    pub issuing_passphrase: Option<&'a str>,
}

/// A key on a token.
#[derive(Debug, Clone)]
pub struct NewTokenKey {
    /// Which key.
    pub key: Arc<TokenKey>,
    /// It is there already; otherwise it is made.
    pub exists: bool,
}

/// Keys that were made on tokens. Dropped before all is done, it takes them back.
#[derive(Default)]
struct Tokens(Vec<Arc<TokenKey>>);

impl Tokens {
    fn take(&mut self, token: Option<&NewTokenKey>, kind: KeyKind) -> Result<Option<RemoteKey>, CaError> {
        let Some(NewTokenKey { key, exists }) = token else { return Ok(None) };
        if *exists {
            return Ok(Some(key.existing()?));
        }
        let made = key.generate(kind)?;
        self.0.push(Arc::clone(key));
        Ok(Some(made))
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        for key in &self.0 {
            if let Err(error) = key.destroy() {
                tracing::error!(%error, "a key that was made for nothing stays on its token");
            }
        }
    }
}

/// How long a list of the root lasts: the key is offline, and seldom has anything to say.
const ROOT_CRL_LASTS: Duration = Duration::from_secs(366 * 86_400);

/// Makes the authority in a folder that is not there, or empty. Returns the root, for whoever needs more of it.
///
/// # Errors
/// [`CaError`]; then nothing is there.
pub fn make(folder: &Path, new: &NewCa<'_>, now: UnixTime) -> Result<Authority, CaError> {
    let settings_path = folder.join(SETTINGS);
    new.settings.check().map_err(|reason| CaError::Settings { path: settings_path.clone(), reason })?;
    let domain = new.settings.domain(&settings_path)?;
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(CaError::Exists(folder.to_owned()));
    }
    let mut tokens = Tokens::default();
    let (root, issuing) = certify(new, &domain, &mut tokens, now)?;
    let making = Making::begin(folder)?;
    let at = |name: &str| making.0.join(name);
    private(&at(ROOT_KEY), &root, new.root_passphrase)?;
    private(&at(ISSUING_KEY), &issuing, new.issuing_passphrase)?;
    let public = |name: &str, bytes: &[u8]| file::replace(&at(name), bytes).map_err(CaError::file(&folder.join(name)));
    public(ROOT_CERTIFICATE, root.certificate_pem().as_bytes())?;
    public(ISSUING_CERTIFICATE, issuing.certificate_pem().as_bytes())?;
    let text = toml::to_string(&new.settings)
        .map_err(|error| CaError::Settings { path: settings_path, reason: error.to_string() })?;
    public(SETTINGS, text.as_bytes())?;
    let crls = at(CRL_FOLDER);
    DirBuilder::new().mode(0o755).create(&crls).map_err(CaError::file(&crls))?;
    let lasts = root_crl_lasts(&root, now);
    public(&format!("{CRL_FOLDER}/{ROOT_CRL}"), &root.crl(&[], now.as_secs(), lasts, now)?)?;
    let lasts = DAY * new.settings.crl_days;
    public(&format!("{CRL_FOLDER}/{ISSUING_CRL}"), &issuing.crl(&[], now.as_secs(), lasts, now)?)?;
    making.commit(folder)?;
    tokens.0.clear();
    Ok(root)
}

fn certify(
    new: &NewCa<'_>,
    domain: &TrustDomain,
    tokens: &mut Tokens,
    now: UnixTime,
) -> Result<(Authority, Authority), CaError> {
    let root_key = tokens.take(new.root_token.as_ref(), new.key)?;
    let issuing_key = tokens.take(new.issuing_token.as_ref(), new.key)?;
    let made = CaKey::New(new.key);
    let (root_key, issuing_key) = [&root_key, &issuing_key].map(|key| key.as_ref().map_or(made, CaKey::Remote)).into();
    // No two authorities have one name: lists are found by their issuer's.
    let mark = certs::hex(&random::<3>()?);
    let root = Authority::new_root(&format!("{} root {mark}", new.name), root_key, new.root_lifetime, serial()?, now)?;
    let url = new.settings.crl_url_of(ROOT_CRL);
    let below = NewAuthority {
        name: &format!("{} devices {mark}", new.name),
        domain,
        key: issuing_key,
        lifetime: new.issuing_lifetime,
        crl_url: url.as_deref(),
    };
    let issuing = root.issue_authority(below, serial()?, now)?;
    Ok((root, issuing))
}

fn root_crl_lasts(root: &Authority, now: UnixTime) -> Duration {
    ROOT_CRL_LASTS.min(Duration::from_secs(root.not_after().as_secs().saturating_sub(now.as_secs())))
}

fn private(path: &Path, authority: &Authority, passphrase: Option<&str>) -> Result<(), CaError> {
    // A token keeps its own.
    let Some(pem) = authority.key_pem() else { return Ok(()) };
    let pem = pem.expose();
    let protected = match passphrase {
        None => None,
        Some(passphrase) => {
            let salts = Salts { salt: random()?, iv: random()? };
            let sealed = certs::issue::protect(&pkcs8_of(pem)?, passphrase, ROUNDS, salts);
            let name = PathBuf::from(path.file_name().unwrap_or_default());
            Some(sealed.map_err(|source| CaError::Secret { path: name, source })?)
        }
    };
    let text = protected.as_deref().unwrap_or(pem);
    write_private_file(path, text.as_bytes()).map_err(|error| CaError::File { path: error.path, source: error.source })
}

/// Where the root's key is.
#[derive(Debug, Clone)]
pub enum RootKey {
    /// A file, and the passphrase that it may be under.
    File {
        /// The file, which may lie on another medium; none is `root.key` in the authority's folder.
        path: Option<PathBuf>,
        /// The passphrase.
        passphrase: String,
    },
    /// A token.
    Token(Arc<TokenKey>),
}

/// Publishes the root's next CRL, which says that the issuing CA still stands.
///
/// # Errors
/// [`CaError`].
pub fn renew_root_crl(folder: &Path, key: &RootKey, now: UnixTime) -> Result<(), CaError> {
    let root = root(folder, key)?;
    let list = root.crl(&[], now.as_secs(), root_crl_lasts(&root, now), now)?;
    let crl = folder.join(CRL_FOLDER).join(ROOT_CRL);
    file::replace(&crl, &list).map_err(CaError::file(&crl))
}

/// Lets the root certify the issuing CA's key for another while. Name, key and key identifier stay, so that devices'
/// certificates and lists stand as they did. Returns the end of its validity.
///
/// # Errors
/// [`CaError`]; then the old certificate stays.
pub fn renew_issuing(folder: &Path, key: &RootKey, lifetime: Duration, now: UnixTime) -> Result<UnixTime, CaError> {
    let ca = Ca::load(folder)?;
    let root = root(folder, key)?;
    let url = ca.settings.crl_url_of(ROOT_CRL);
    let new = NewAuthority {
        name: "",
        domain: &ca.domain,
        key: CaKey::New(KeyKind::default()),
        lifetime,
        crl_url: url.as_deref(),
    };
    let pem = root.renew_authority(&ca.issuing, new, serial()?, now)?;
    let path = folder.join(ISSUING_CERTIFICATE);
    file::replace(&path, pem.as_bytes()).map_err(CaError::file(&path))?;
    Ok(Ca::load(folder)?.not_after())
}

fn root(folder: &Path, key: &RootKey) -> Result<Authority, CaError> {
    let certificate_path = folder.join(ROOT_CERTIFICATE);
    let certificate = fs::read_to_string(&certificate_path).map_err(CaError::file(&certificate_path))?;
    let (path, passphrase) = match key {
        RootKey::Token(key) => {
            return Ok(Authority::from_remote(&certificate, Arc::clone(key) as Arc<dyn RemoteSigner>)?);
        }
        RootKey::File { path, passphrase } => (path.clone().unwrap_or_else(|| folder.join(ROOT_KEY)), passphrase),
    };
    let secret = read_private(&path)?;
    let pem = if certs::issue::is_protected(&secret) {
        let der = certs::issue::open(&secret, passphrase).map_err(|source| CaError::Secret { path, source })?;
        plain_pem(&der)?
    } else {
        secret
    };
    Ok(Authority::from_pem(&certificate, &pem)?)
}

/// A PKCS#8 key as PEM.
pub(super) fn plain_pem(der: &[u8]) -> Result<String, IssueError> {
    certs::issue::pkcs8_pem(der)
}

/// The folder under another name while it is made; removed if it is not finished.
struct Making(PathBuf);

impl Making {
    fn begin(folder: &Path) -> Result<Self, CaError> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let making = folder.with_file_name(format!(".{name}.{}", certs::hex(&random::<8>()?)));
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&making).map_err(CaError::file(folder))?;
        Ok(Self(making))
    }

    fn commit(self, folder: &Path) -> Result<(), CaError> {
        give_to_owner_of(&self.0, folder).map_err(CaError::file(folder))?;
        // Takes the place of an empty folder, never of one that holds anything.
        fs::rename(&self.0, folder).map_err(CaError::file(folder))?;
        let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(above).and_then(|above| above.sync_all()).map_err(CaError::file(folder))
    }
}

/// What root makes belongs to whom the folder around it belongs to, so that the gateway can read and publish.
fn give_to_owner_of(making: &Path, folder: &Path) -> std::io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let owner = fs::metadata(above)?;
    let give = |path: &Path| std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid()));
    for within in [making.to_owned(), making.join(CRL_FOLDER)] {
        for entry in fs::read_dir(&within)? {
            give(&entry?.path())?;
        }
    }
    give(making)
}

impl Drop for Making {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
