//! The gateway's own accounts (R1, R8, R9): who may log in to it by a password and a second factor.
//!
//! `policy::account` says what is good and what comes next; the store keeps hashes. This hashes and compares on threads of its own
//! ([`pool`]), so that no worker waits, and remembers between the steps of a login how far it has come ([`stages`]). Whether an
//! attempt may be made at all, the login guard has said before anything here is asked.

pub mod common;
mod costs;
pub mod hash;
pub mod page;
pub mod pool;
pub mod sealing;
pub mod shares;
pub mod stages;
#[cfg(test)]
mod tests;
pub mod tokens;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use policy::account::{Facts, Password, Profile, Weakness, recovery};
use policy::login::{AccountName, Origin};
use policy::session::Factors;
use policy::{Refusal, SiteName};
use tokio::runtime::Handle;

use crate::clock::{Clock as _, KernelClock};
use crate::config;
use crate::login::Start;
use crate::store::{Credential, NewHash, Store, StoreError, UserId};
use costs::Costs;
use hash::Hasher;
use pool::Pool;
use sealing::SealingKey;
use shares::{OF_DEVICE, Shares};
use stages::{Stage, Stages};
use tokens::Tokens;

/// The realm of the gateway's own accounts for the login guard: no route's `realm` has blanks.
pub const REALM: &str = "sekisho accounts";

/// The cookie of a session: of this host alone (RFC 6265bis section 4.1.3.2).
pub const SESSION_COOKIE: &str = "__Host-sekisho";
/// The cookie of a login that is half done.
pub const STAGE_COOKIE: &str = "__Host-sekisho-login";
/// The cookie of a browser that logs in elsewhere.
pub const BROWSER_COOKIE: &str = "__Host-sekisho-oidc";
/// All of them: they go to no backend, and no backend sets them.
pub const OWN_COOKIES: [&str; 3] = [SESSION_COOKIE, STAGE_COOKIE, BROWSER_COOKIE];

/// Why accounts cannot be served or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// argon2.
    #[error("passwords cannot be hashed: {0}")]
    Hashing(String),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// The key file.
    #[error("`{}`: {why}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// An authenticator's secret.
    #[error("an authenticator's secret cannot be sealed or opened: the key is another, or the store was changed")]
    Sealing,
    /// A thread.
    #[error("cannot start a thread that hashes passwords: {0}")]
    Thread(std::io::Error),
}

/// Random bytes.
///
/// # Errors
/// [`AccountError::Random`].
pub fn random<const N: usize>() -> Result<[u8; N], AccountError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| AccountError::Random)?;
    Ok(bytes)
}

/// What is known of an account, for the judge of its standing.
#[must_use]
pub fn facts(of: &Credential) -> Facts {
    Facts {
        enabled: of.enabled,
        must_change: of.must_change,
        changed_s: of.changed_s,
        is_short: of.is_short,
        totp: of.totp.is_some(),
    }
}

/// Names that a user's password must not hold, and the gateway's own.
#[must_use]
pub fn names_of<'a>(id: &'a UserId, display_name: &'a str) -> Vec<&'a str> {
    // Each word of what people call the user: a family name is a name.
    let words = display_name.split_whitespace();
    [id.user.as_str(), id.site.as_str(), "sekisho", display_name].into_iter().chain(words).collect()
}

/// What a second factor is proved by.
#[derive(Clone)]
pub enum Factor {
    /// A code of the authenticator, or a recovery code: whichever it looks like.
    Code(zeroize::Zeroizing<String>),
}

/// What a second factor proves.
pub enum Factored {
    /// It was right, for the account as it is, and what it was.
    Right(Box<Credential>, Factors),
    /// It was not.
    Wrong,
    /// Password or authenticator are others than those that the login began with. Nothing was used up.
    Over,
}

/// What became of a change of password.
pub enum Changed {
    /// It is the password now, and this the account.
    Done(Box<Credential>),
    /// The new one is not good.
    Weak(Weakness),
    /// Somebody else changed it meanwhile.
    Elsewhere,
}

/// The accounts of a running gateway; one for all workers.
pub struct Accounts {
    config: config::Account,
    work: Arc<Work>,
    pool: Pool,
    shares: Arc<Shares>,
    /// Logins that are half done.
    pub stages: Mutex<Stages>,
    /// What forms carry, so that nobody else's do.
    pub tokens: Tokens,
    clock: Arc<KernelClock>,
}

/// What the threads need.
struct Work {
    profile: Profile,
    remember: u32,
    totp_window: u64,
    hasher: Hasher,
    costs: Costs,
    key: SealingKey,
    store: Mutex<Store>,
}

impl Accounts {
    /// Starts the threads.
    ///
    /// # Errors
    /// [`AccountError`].
    pub fn start(config: &config::Account, store: Store, clock: Arc<KernelClock>) -> Result<Self, AccountError> {
        let work = Work {
            profile: config.profile,
            remember: config.remember,
            totp_window: config.totp_window,
            hasher: Hasher::new(config.hashing)?,
            costs: Costs::default(),
            key: SealingKey::load_or_make(&config.key_file)?,
            store: Mutex::new(store),
        };
        Ok(Self {
            pool: Pool::start(config.threads, config.queue)?,
            shares: Shares::new(config.threads.saturating_add(config.queue)),
            work: Arc::new(work),
            stages: Mutex::new(Stages::new(config.stage)),
            tokens: Tokens::new()?,
            config: config.clone(),
            clock,
        })
    }

    /// What was configured.
    #[must_use]
    pub const fn config(&self) -> &config::Account {
        &self.config
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn now_s(&self) -> u64 {
        u64::try_from(self.clock.now().unix_ns / 1_000_000_000).unwrap_or(0)
    }

    /// The account, if there is one, it may be used and the password is right. Whatever is not so takes as long. `start` is asked
    /// when its turn has come.
    ///
    /// # Errors
    /// [`Refusal::LoginUnavailable`] if too many wait, of this device or in all, or the store cannot be read.
    pub async fn verify(
        &self,
        site: &SiteName,
        account: &AccountName,
        password: Password,
        by: (&Origin, Start),
    ) -> Result<Option<Credential>, Refusal> {
        let (site, account, work) = (site.clone(), account.clone(), Arc::clone(&self.work));
        let now_ns = self.clock.monotonic_ns();
        let verify = move |handle: &Handle| handle.block_on(work.verify(&site, &account, &password, now_ns));
        self.on_thread(by.0, 1, by.1, verify).await
    }

    /// The account as it is now, if the login that is half done still goes on with it. It waits for no thread.
    ///
    /// # Errors
    /// [`Refusal::LoginUnavailable`] if the store cannot be read.
    pub async fn still(&self, stage: &Stage) -> Result<Option<Credential>, Refusal> {
        Ok(self.find(&stage.site, &stage.account).await?.and_then(|found| stage.still(found)))
    }

    /// The account as it is now. It waits for no thread.
    ///
    /// # Errors
    /// [`Refusal::LoginUnavailable`] if the store cannot be read.
    pub async fn find(&self, site: &SiteName, account: &AccountName) -> Result<Option<Credential>, Refusal> {
        let (site, account, work) = (site.clone(), account.clone(), Arc::clone(&self.work));
        let find = async move { Ok(work.store().await?.account_find(&site, &account).await?) };
        answered(self.pool.wait(find).await)
    }

    /// What the code is, if it is one of the account's, and was not used before; it is used now.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub async fn factor(&self, stage: &Stage, factor: Factor, by: (&Origin, Start)) -> Result<Factored, Refusal> {
        let (stage, work, now_s) = (stage.clone(), Arc::clone(&self.work), self.now_s());
        let actor = actor(&stage.user, by.0);
        let prove = move |handle: &Handle| handle.block_on(work.factor(&stage, &factor, now_s, &actor));
        self.on_thread(by.0, 1, by.1, prove).await
    }

    /// Gives the account a new password in place of the one that the login has proved.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub async fn change(&self, stage: &Stage, new: Password, by: &Origin) -> Result<Changed, Refusal> {
        let (stage, work, now_s) = (stage.clone(), Arc::clone(&self.work), self.now_s());
        let actor = actor(&stage.user, by);
        let change = move |handle: &Handle| handle.block_on(work.change(&stage, &new, now_s, &actor));
        self.on_thread(by, OF_DEVICE, Start::default(), change).await
    }

    async fn on_thread<T: Send + 'static>(
        &self,
        origin: &Origin,
        share: usize,
        start: Start,
        work: impl FnOnce(&Handle) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, Refusal> {
        let share = self.shares.take(origin, share).ok_or(Refusal::LoginUnavailable)?;
        answered(self.pool.run(share, move || start.begins(), work).await)
    }
}

fn answered<T>(done: Result<Result<T, Failed>, pool::Overloaded>) -> Result<T, Refusal> {
    match done {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(failed)) => {
            tracing::error!(error = %failed, "a login could not be looked at");
            Err(Refusal::LoginUnavailable)
        }
        Err(pool::Overloaded) => Err(Refusal::LoginUnavailable),
    }
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Account(#[from] AccountError),
}

impl Work {
    /// The store; opened anew where another file was put in its place.
    async fn store(&self) -> Result<Store, StoreError> {
        let known = || self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let store = known().clone();
        if store.check_in_place().is_ok() {
            return Ok(store);
        }
        let store = Store::open_existing(store.path()).await?;
        *known() = store.clone();
        Ok(store)
    }

    async fn verify(
        &self,
        site: &SiteName,
        account: &AccountName,
        password: &Password,
        now_ns: u64,
    ) -> Result<Option<Credential>, Failed> {
        let store = self.store().await?;
        let found = store.account_find(site, account).await?;
        // Made for those that are there as well.
        let mark = self.key.mark(site, account);
        let stand_in = self.costs.stand_in::<Failed>(&store, &self.hasher, now_ns, mark).await?;
        let kept = found.as_ref().map_or(&stand_in, |found| &found.password);
        let is_right = self.hasher.verify(Some(kept), password);
        let Some(found) = found.filter(|found| is_right && found.enabled) else { return Ok(None) };
        if self.hasher.is_current(&found.password) {
            return Ok(Some(found));
        }
        self.rehash(&store, account, found, password).await
    }

    /// Writes the hash of a password that was right anew, at the costs in force. Where that cannot be, it was right all the same.
    async fn rehash(
        &self,
        store: &Store,
        account: &AccountName,
        found: Credential,
        password: &Password,
    ) -> Result<Option<Credential>, Failed> {
        let new = match self.hasher.hash(password) {
            Ok(new) => new,
            Err(error) => return Ok(Some(not_rehashed(found, &error))),
        };
        match store.account_rehash(&found.user, &found.password, &new).await {
            Ok(true) => Ok(Some(Credential { password: new, ..found })),
            Ok(false) => {
                // Another login was first, or somebody has changed the password meanwhile.
                let again = store.account_find(&found.user.site, account).await?;
                let is_right = |again: &Credential| self.hasher.verify(Some(&again.password), password);
                Ok(again.filter(|again| again.user == found.user && again.enabled && is_right(again)))
            }
            Err(error) => Ok(Some(not_rehashed(found, &error))),
        }
    }

    async fn factor(
        &self,
        stage: &Stage,
        Factor::Code(code): &Factor,
        now_s: u64,
        actor: &str,
    ) -> Result<Factored, Failed> {
        let store = self.store().await?;
        let found = store.account_find(&stage.site, &stage.account).await?;
        let Some(found) = found.and_then(|found| stage.still(found)) else { return Ok(Factored::Over) };
        let Some(sealed) = &found.totp else { return Ok(Factored::Wrong) };
        let secret = self.key.open(&found.user, sealed)?;
        let (is_right, by) = if let Some(step) = secret.verify(code, now_s, self.totp_window, sealed.last) {
            (store.account_totp_step(&found.user, &sealed.sealed, step).await?, Factors::TOTP)
        } else {
            let hash = recovery::hash(&found.user.to_string(), code);
            let is_right = match hash.and_then(|hash| recovery::find(&found.recovery, &hash)) {
                Some(hash) => store.account_recovery_use(actor, &found.user, &hash).await?,
                None => false,
            };
            (is_right, Factors::RECOVERY)
        };
        Ok(if is_right { Factored::Right(Box::new(found), by) } else { Factored::Wrong })
    }

    async fn change(&self, stage: &Stage, new: &Password, now_s: u64, actor: &str) -> Result<Changed, Failed> {
        let store = self.store().await?;
        let found = store.account_find(&stage.site, &stage.account).await?;
        let Some(found) = found.and_then(|found| stage.still(found)) else { return Ok(Changed::Elsewhere) };
        let display_name = found.display_name.to_string();
        let names = names_of(&found.user, &display_name);
        let was_used = |password: &Password| self.was_used(&found, password);
        if let Err(weakness) = common::check(self.profile, new, &names, found.totp.is_some(), &was_used) {
            return Ok(Changed::Weak(weakness));
        }
        let (password, is_short) = (self.hasher.hash(new)?, new.characters() < self.profile.least_characters(false));
        let hash = NewHash {
            password: password.clone(),
            instead_of: Some(found.password.clone()),
            must_change: false,
            is_short,
            at_s: now_s,
            remember: self.remember,
            identified_by: None,
        };
        match store.account_password(actor, &found.user, hash).await {
            Ok(_) => {
                // Not what is there by now: that may be somebody else's, whom nobody has proved to be.
                let found = Credential { password, is_short, must_change: false, changed_s: now_s, ..found };
                Ok(Changed::Done(Box::new(found)))
            }
            Err(StoreError::Changed(_)) => Ok(Changed::Elsewhere),
            Err(error) => Err(error.into()),
        }
    }

    fn was_used(&self, found: &Credential, password: &Password) -> bool {
        was_used(&self.hasher, &found.password, &found.history, self.remember, password)
    }
}

fn not_rehashed(found: Credential, why: &dyn std::fmt::Display) -> Credential {
    tracing::warn!(error = %why, "a right password could not be hashed anew, and keeps its old costs until the next login");
    found
}

/// Whether a password is the present one or one of the last ones.
#[must_use]
pub fn was_used(hasher: &Hasher, present: &str, history: &[String], remember: u32, password: &Password) -> bool {
    let last = history.iter().map(String::as_str).take(usize::try_from(remember).unwrap_or(usize::MAX));
    std::iter::once(present).chain(last).any(|kept| hasher.verify(Some(kept), password))
}

/// Who changes an account that changes itself: the name in the journal.
#[must_use]
pub fn actor(id: &UserId, at: &Origin) -> String {
    format!("user {id} at {}/{}", at.site, at.device)
}
