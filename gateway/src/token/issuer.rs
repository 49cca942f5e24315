//! One identity provider, and the keys of it that are in force.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use policy::oidc::{MAX_METADATA_BYTES, Metadata};
use policy::token::{InvalidKeys, KeySet, MAX_ANSWER_BYTES, MAX_SET_BYTES};
use tokio::sync::watch;

use super::cache;
use crate::config::{Introspection, TokenIssuer, TokenSource};
use crate::files::Watched;
use crate::http_client::Client;
use crate::load::read_bounded;
use crate::revocation::unix_seconds;

/// The shortest time between two fetches that requests ask for by naming keys that nobody knows.
const LEAST_REFETCH: Duration = Duration::from_secs(10);
/// How far ahead of the clock the time of kept keys may lie, seconds.
const FUTURE_S: i64 = 300;
/// How long a request waits for such a fetch.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest secret, in bytes.
const MAX_SECRET: usize = 4096;

/// Why an issuer cannot be used. The message names the file.
#[derive(Debug, thiserror::Error)]
#[error("token issuer `{issuer}`: {message}")]
pub struct TokenError {
    issuer: String,
    message: String,
}

/// Keys that are in force.
#[derive(Debug)]
pub(crate) struct Keys {
    /// The keys.
    pub set: KeySet,
    /// Different for every set that was ever in force in this process.
    pub number: u64,
    /// When they were fetched, seconds since 1970: for people.
    pub at_s: i64,
    /// The same in milliseconds since the issuer was loaded, which no step of the clock moves.
    at_ms: i64,
}

/// What an issuer's own document says, and who speaks to the places that it names.
#[derive(Debug)]
pub(crate) struct Discovered {
    /// The document.
    pub metadata: Metadata,
    /// Fetches its keys.
    pub(super) keys: Client,
    /// Exchanges codes.
    pub tokens: Client,
}

/// An identity provider. Shared by all workers and [`keep`](super::keep).
pub struct Issuer {
    /// What was configured.
    pub config: TokenIssuer,
    keys: ArcSwapOption<Keys>,
    discovered: ArcSwapOption<Discovered>,
    /// A request names a key that nobody knows.
    pub(super) wanted: AtomicBool,
    /// How many fetches have ended.
    fetched: watch::Sender<u64>,
    started: Instant,
    /// When the last fetch began, milliseconds since `started`; negative before the first.
    begun_ms: AtomicI64,
    /// Whether one is under way.
    pub(super) under_way: AtomicBool,
    /// When the next fetch is due, milliseconds since `started`.
    next_ms: AtomicI64,
    /// Fetches that failed since the last that did not.
    pub(super) failures: AtomicU32,
    /// The file of keys, where there is one.
    watched: Mutex<Watched>,
    pub(super) client: Option<Client>,
    /// `Authorization` of the gateway as a client that asks about tokens.
    pub(super) credentials: Option<HeaderValue>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("name", &self.config.rules.name).finish_non_exhaustive()
    }
}

impl Issuer {
    /// Reads what the configuration names. Keys that were fetched before lie on disk; without them, and while nothing could
    /// be fetched, the issuer's tokens are refused.
    ///
    /// # Errors
    /// [`TokenError`] if a file is missing or cannot be used (C7).
    pub fn load(config: &TokenIssuer) -> Result<Self, TokenError> {
        let failed = |message| TokenError { issuer: config.rules.name.to_string(), message };
        let (mut keys, mut client, mut credentials) = (None, None, None);
        let mut watched = Watched::new(Vec::new());
        match &config.source {
            TokenSource::File(path) => {
                watched = Watched::new(vec![path.clone()]);
                let set = read_keys(path).map_err(failed)?;
                keys = Some(Keys { set, number: next_number(), at_s: unix_seconds(), at_ms: 0 });
            }
            TokenSource::Fetched { url, ca_file, timeout, cache, .. } => {
                let uri = url.parse().map_err(|_| failed(format!("`{}` is no URL", url.escape_debug())))?;
                let made = Client::new(&uri, ca_file.as_deref(), *timeout, MAX_SET_BYTES);
                client = Some(made.map_err(failed)?);
                cache::check(cache).map_err(failed)?;
                keys = kept(cache, url);
            }
            TokenSource::Discovered { ca_file, timeout, cache, .. } => {
                let url = &config.rules.issuer;
                let uri = url.parse().map_err(|_| failed(format!("`{}` is no URL", url.escape_debug())))?;
                let made = Client::new(&uri, ca_file.as_deref(), *timeout, MAX_METADATA_BYTES);
                client = Some(made.map_err(failed)?);
                cache::check(cache).map_err(failed)?;
                keys = kept(cache, url);
            }
            TokenSource::Introspection(asked) => {
                client = Some(introspector(asked).map_err(failed)?);
                credentials = asked.basic.as_ref().map(|(id, file)| basic(id, file)).transpose().map_err(failed)?;
            }
        }
        Ok(Self {
            config: config.clone(),
            keys: ArcSwapOption::from_pointee(keys),
            discovered: ArcSwapOption::empty(),
            wanted: AtomicBool::new(false),
            fetched: watch::Sender::new(0),
            started: Instant::now(),
            begun_ms: AtomicI64::new(-1),
            under_way: AtomicBool::new(false),
            next_ms: AtomicI64::new(i64::MIN),
            failures: AtomicU32::new(0),
            watched: Mutex::new(watched),
            client,
            credentials,
        })
    }

    /// Whether files say who it is, which may have become others: authorities, keys, secrets.
    #[must_use]
    pub fn has_files(&self) -> bool {
        match &self.config.source {
            TokenSource::File(_) | TokenSource::Introspection(_) => true,
            TokenSource::Fetched { ca_file, .. } | TokenSource::Discovered { ca_file, .. } => ca_file.is_some(),
        }
    }

    /// The keys in force; none where there are none, or they are too old to be believed.
    pub(crate) fn keys(&self) -> Option<Arc<Keys>> {
        let keys = self.keys.load_full()?;
        match &self.config.source {
            TokenSource::Fetched { refresh, grace, .. } | TokenSource::Discovered { refresh, grace, .. } => {
                let most = i64::try_from((*refresh + *grace).as_millis()).unwrap_or(i64::MAX);
                (self.elapsed_ms().saturating_sub(keys.at_ms) <= most).then_some(keys)
            }
            TokenSource::File(_) | TokenSource::Introspection(_) => Some(keys),
        }
    }

    /// When the keys were fetched, seconds since 1970, and whether they are believed; for metrics. Nothing where tokens are
    /// not judged by keys.
    #[must_use]
    pub fn status(&self) -> Option<(i64, bool)> {
        if matches!(self.config.source, TokenSource::Introspection(_)) {
            return None;
        }
        Some((self.keys.load().as_ref().map_or(0, |keys| keys.at_s), self.keys().is_some()))
    }

    /// What its own document says, once that was fetched.
    pub(crate) fn discovered(&self) -> Option<Arc<Discovered>> {
        self.discovered.load_full()
    }

    /// Puts what its document says in force.
    ///
    /// # Errors
    /// In words, if a place that it names cannot be asked.
    pub(super) fn discovers(&self, metadata: Metadata) -> Result<Arc<Discovered>, String> {
        if let Some(known) = self.discovered().filter(|known| known.metadata == metadata) {
            return Ok(known);
        }
        let TokenSource::Discovered { ca_file, timeout, .. } = &self.config.source else {
            return Err("nothing is discovered".to_owned());
        };
        let client = |url: &str, longest| {
            let uri = url.parse().map_err(|_| format!("`{}` is no URL", url.escape_debug()))?;
            Client::new(&uri, ca_file.as_deref(), *timeout, longest)
        };
        let keys = client(&metadata.jwks_uri, MAX_SET_BYTES)?;
        let tokens = client(&metadata.token_endpoint, policy::oidc::MAX_ANSWER_BYTES)?;
        let discovered = Arc::new(Discovered { metadata, keys, tokens });
        self.discovered.store(Some(Arc::clone(&discovered)));
        Ok(discovered)
    }

    /// Puts other keys in force. Where they are the same, tokens that were verified by them stay so.
    pub(super) fn take(&self, set: KeySet, at_s: i64) {
        let old = self.keys.load_full();
        let number = match &old {
            Some(old) if old.set == set => old.number,
            Some(_) | None => next_number(),
        };
        if old.as_ref().is_none_or(|old| old.number != number) {
            tracing::info!(issuer = %self.config.rules.name, keys = set.len(), "an issuer's keys are in force");
        }
        self.keys.store(Some(Arc::new(Keys { set, number, at_s, at_ms: self.elapsed_ms() })));
    }

    /// Whether the file of keys has become another and stays so.
    pub(super) fn file_settled(&self) -> bool {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).settled()
    }

    pub(super) fn is_in_force(&self, number: u64) -> bool {
        self.keys().is_some_and(|keys| keys.number == number)
    }

    pub(super) fn begins_fetch(&self) {
        self.begun_ms.store(self.elapsed_ms(), Ordering::Relaxed);
        self.wanted.store(false, Ordering::Relaxed);
        self.under_way.store(true, Ordering::Relaxed);
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Whether a fetch is due by the schedule.
    pub(super) fn is_due(&self) -> bool {
        self.next_ms.load(Ordering::Relaxed) <= self.elapsed_ms()
    }

    /// A fetch has ended; the next is due in so many seconds.
    pub(super) fn ends_fetch(&self, pause_s: i64) {
        let next_ms = self.elapsed_ms().saturating_add(pause_s.saturating_mul(1000));
        self.next_ms.store(next_ms, Ordering::Relaxed);
        self.under_way.store(false, Ordering::Relaxed);
        self.fetched.send_modify(|count| *count += 1);
    }

    /// Whether another fetch may begin because a request names a key that nobody knows.
    pub(super) fn may_refetch(&self) -> bool {
        let begun = self.begun_ms.load(Ordering::Relaxed);
        let least = i64::try_from(LEAST_REFETCH.as_millis()).unwrap_or(i64::MAX);
        begun < 0 || self.elapsed_ms().saturating_sub(begun) >= least
    }

    /// Asks for the keys to be fetched again and waits for it, if that is not too soon. False: they are as they were.
    pub(crate) async fn refetched(&self) -> bool {
        if !matches!(self.config.source, TokenSource::Fetched { .. } | TokenSource::Discovered { .. }) {
            return false;
        }
        let mut fetched = self.fetched.subscribe();
        if self.may_refetch() {
            self.wanted.store(true, Ordering::Relaxed);
        } else if !self.under_way.load(Ordering::Relaxed) {
            return false;
        }
        tokio::time::timeout(PATIENCE, fetched.changed()).await.is_ok_and(|changed| changed.is_ok())
    }
}

/// The keys that lie on disk.
fn kept(cache: &Path, url: &str) -> Option<Keys> {
    let (set, at_s) = cache::read(cache, url)?;
    let age_s = unix_seconds().saturating_sub(at_s);
    // Nobody knows how old keys of the future are.
    (age_s >= -FUTURE_S).then(|| {
        let at_ms = age_s.max(0).saturating_mul(-1000);
        Keys { set, number: next_number(), at_s, at_ms }
    })
}

fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Reads a file of keys.
pub(super) fn read_keys(path: &Path) -> Result<KeySet, String> {
    let read = read_bounded(path, MAX_SET_BYTES).map_err(|error| error.to_string())?;
    KeySet::parse(read.as_bytes()).map_err(|error: InvalidKeys| format!("`{}`: {error}", path.display()))
}

fn introspector(asked: &Introspection) -> Result<Client, String> {
    let uri = asked.url.parse().map_err(|_| format!("`{}` is no URL", asked.url.escape_debug()))?;
    let identity = asked.identity.as_ref().map(|(certificate, key): &(PathBuf, PathBuf)| (&**certificate, &**key));
    Client::with_identity(&uri, asked.ca_file.as_deref(), identity, asked.timeout, MAX_ANSWER_BYTES)
}

/// RFC 6749 2.3.1: both parts are form-encoded first.
pub(crate) fn basic(id: &str, file: &Path) -> Result<HeaderValue, String> {
    let failed = |why: &str| format!("`{}`: {why}", file.display());
    let metadata = std::fs::metadata(file).map_err(|error| failed(&error.to_string()))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(failed("it can be used by others: its mode must be 600"));
    }
    let secret = read_bounded(file, MAX_SECRET).map_err(|error| error.to_string())?;
    let secret = secret.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(failed("it is empty"));
    }
    let credentials = STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret)));
    let mut value = HeaderValue::from_str(&format!("Basic {credentials}")).map_err(|_| failed("it is not text"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'-' | b'.' | b'_' | b'*' => out.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            // INVARIANT: writing to a string does not fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use policy::token::{Algorithm, Binding, Rules, Sites, TokenType};

    use super::*;

    const URL: &str = "http://127.0.0.1:1/jwks";
    const JWKS: &str =
        r#"{"keys":[{"kty":"OKP","kid":"a","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    /// One whose keys are believed for so many seconds.
    pub(in crate::token) fn fetched(folder: &tempfile::TempDir, believed_s: u64) -> Result<Issuer, TokenError> {
        let rules = Rules {
            name: "idp".into(),
            issuer: "https://idp.example".to_owned(),
            audiences: vec!["sekisho".to_owned()],
            algorithms: vec![Algorithm::EdDsa],
            kind: TokenType::AccessToken,
            binding: Binding::Required,
            user: "/sub".to_owned(),
            sites: Sites::Of(vec!["sakura".parse().unwrap()]),
            roles: Vec::new(),
            role_map: std::collections::BTreeMap::new(),
            two_factor_acr: Vec::new(),
            two_factor_amr: Vec::new(),
            leeway_s: 5,
            max_lifetime_s: 86_400,
        };
        let source = TokenSource::Fetched {
            url: URL.to_owned(),
            ca_file: None,
            refresh: Duration::from_secs(believed_s),
            grace: Duration::ZERO,
            timeout: Duration::from_secs(1),
            cache: folder.path().join("token-keys/idp.json"),
        };
        Issuer::load(&TokenIssuer { rules: rules.into(), source })
    }

    /// The time of day says how old kept keys are at the start, and nothing after it.
    #[test]
    fn keys_are_as_old_as_the_monotonic_clock_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token-keys/idp.json");
        let kept = |ago_s: i64| cache::write(&path, URL, JWKS.as_bytes(), unix_seconds() - ago_s).unwrap();
        kept(7_200);
        let issuer = fetched(&folder, 3_600).unwrap();
        assert_eq!(issuer.status().map(|(_, is_believed)| is_believed), Some(false), "too old");
        let set = || KeySet::parse(JWKS.as_bytes()).unwrap();
        // The clock was set to 1970, or to a far day, when they were fetched.
        for at_s in [0, i64::MAX] {
            issuer.take(set(), at_s);
            assert_eq!(issuer.status(), Some((at_s, true)));
        }
        kept(1_800);
        assert!(fetched(&folder, 3_600).unwrap().keys().is_some());
        kept(-200);
        assert!(fetched(&folder, 3_600).unwrap().keys().is_some());
        kept(-1_000);
        assert!(fetched(&folder, 3_600).unwrap().keys().is_none(), "nobody knows how old they are");
        std::fs::set_permissions(path.parent().unwrap(), std::os::unix::fs::PermissionsExt::from_mode(0o750)).unwrap();
        assert!(fetched(&folder, 3_600).unwrap_err().to_string().contains("token-keys"));
    }
}
