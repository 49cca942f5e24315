//! The gateway's own accounts (R1, R8, R9): who may log in to it by a password and a second factor.
//!
//! `policy::account` says what is good and what comes next; the store keeps hashes. This hashes and compares on threads of its own
//! ([`pool`]), so that no worker waits, and remembers between the steps of a login how far it has come ([`stages`]). Whether an
//! attempt may be made at all, the login guard has said before anything here is asked.

pub mod common;
pub mod hash;
pub mod page;
pub mod pool;
pub mod sealing;
pub mod stages;
pub mod tokens;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use policy::account::{Facts, Password, Profile, Weakness, recovery};
use policy::login::{AccountName, Origin};
use policy::session::Factors;
use policy::{Refusal, SiteName};

use crate::clock::{Clock as _, KernelClock};
use crate::config;
use crate::store::{Credential, NewHash, Store, StoreError, UserId};
use hash::Hasher;
use pool::Pool;
use sealing::SealingKey;
use stages::Stages;
use tokens::Tokens;

/// The realm of the gateway's own accounts for the login guard: no route's `realm` has blanks.
pub const REALM: &str = "sekisho accounts";

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

/// What became of a change of password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// It is the password now.
    Done,
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
            key: SealingKey::load_or_make(&config.key_file)?,
            store: Mutex::new(store),
        };
        Ok(Self {
            pool: Pool::start(config.threads, config.queue)?,
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

    /// The account, if there is one, it may be used and the password is right. Whatever is not so takes as long.
    ///
    /// # Errors
    /// [`Refusal::LoginUnavailable`] if too many wait, or the store cannot be read.
    pub async fn verify(
        &self,
        site: &SiteName,
        account: &AccountName,
        password: Password,
    ) -> Result<Option<Box<Credential>>, Refusal> {
        let (site, account, work) = (site.clone(), account.clone(), Arc::clone(&self.work));
        self.on_thread(move |handle| handle.block_on(work.verify(&site, &account, &password))).await
    }

    /// The account as it is now.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub async fn find(&self, site: &SiteName, account: &AccountName) -> Result<Option<Box<Credential>>, Refusal> {
        let (site, account, work) = (site.clone(), account.clone(), Arc::clone(&self.work));
        self.on_thread(move |handle| {
            handle.block_on(async { Ok(work.store().await?.account_find(&site, &account).await?.map(Box::new)) })
        })
        .await
    }

    /// What the code is, if it is one of the account's, and was not used before; it is used now.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub async fn factor(
        &self,
        site: &SiteName,
        account: &AccountName,
        factor: Factor,
        actor: String,
    ) -> Result<Option<Factors>, Refusal> {
        let (site, account, work, now_s) = (site.clone(), account.clone(), Arc::clone(&self.work), self.now_s());
        self.on_thread(move |handle| handle.block_on(work.factor(&site, &account, &factor, now_s, &actor))).await
    }

    /// Gives the account a new password. `instead_of` is the hash that the login has proved before.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub async fn change(
        &self,
        site: &SiteName,
        account: &AccountName,
        instead_of: String,
        new: Password,
        actor: String,
    ) -> Result<Changed, Refusal> {
        let (site, account, work, now_s) = (site.clone(), account.clone(), Arc::clone(&self.work), self.now_s());
        self.on_thread(move |handle| handle.block_on(work.change(&site, &account, instead_of, &new, now_s, &actor)))
            .await
    }

    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&tokio::runtime::Handle) -> Result<T, Failed> + Send + 'static,
    ) -> Result<T, Refusal> {
        match self.pool.run(work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(failed)) => {
                tracing::error!(error = %failed, "a login could not be looked at");
                Err(Refusal::LoginUnavailable)
            }
            Err(pool::Overloaded) => Err(Refusal::LoginUnavailable),
        }
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
    ) -> Result<Option<Box<Credential>>, Failed> {
        let store = self.store().await?;
        let found = store.account_find(site, account).await?;
        let is_right = self.hasher.verify(found.as_ref().map(|found| found.password.as_str()), password);
        let Some(mut found) = found.filter(|found| is_right && found.enabled) else { return Ok(None) };
        if !self.hasher.is_current(&found.password) {
            let new = self.hasher.hash(password)?;
            store.account_rehash(&found.user, &found.password, &new).await?;
            found.password = new;
        }
        Ok(Some(Box::new(found)))
    }

    async fn factor(
        &self,
        site: &SiteName,
        account: &AccountName,
        Factor::Code(code): &Factor,
        now_s: u64,
        actor: &str,
    ) -> Result<Option<Factors>, Failed> {
        let store = self.store().await?;
        let Some(found) = store.account_find(site, account).await?.filter(|found| found.enabled) else {
            return Ok(None);
        };
        let Some(sealed) = &found.totp else { return Ok(None) };
        let secret = self.key.open(&found.user, sealed)?;
        if let Some(step) = secret.verify(code, now_s, self.totp_window, sealed.last) {
            let is_first = store.account_totp_step(&found.user, &sealed.sealed, step).await?;
            return Ok(is_first.then_some(Factors::TOTP));
        }
        let Some(hash) = recovery::hash(&found.user.to_string(), code) else { return Ok(None) };
        match recovery::find(&found.recovery, &hash) {
            Some(hash) => {
                let is_first = store.account_recovery_use(actor, &found.user, &hash).await?;
                Ok(is_first.then_some(Factors::RECOVERY))
            }
            None => Ok(None),
        }
    }

    async fn change(
        &self,
        site: &SiteName,
        account: &AccountName,
        instead_of: String,
        new: &Password,
        now_s: u64,
        actor: &str,
    ) -> Result<Changed, Failed> {
        let store = self.store().await?;
        let Some(found) = store.account_find(site, account).await?.filter(|found| found.enabled) else {
            return Ok(Changed::Elsewhere);
        };
        let display_name = found.display_name.to_string();
        let names = names_of(&found.user, &display_name);
        let was_used = |password: &Password| self.was_used(&found, password);
        if let Err(weakness) = common::check(self.profile, new, &names, found.totp.is_some(), &was_used) {
            return Ok(Changed::Weak(weakness));
        }
        let hash = NewHash {
            password: self.hasher.hash(new)?,
            instead_of: Some(instead_of),
            must_change: false,
            is_short: new.characters() < self.profile.least_characters(false),
            at_s: now_s,
            remember: self.remember,
            identified_by: None,
        };
        match store.account_password(actor, &found.user, hash).await {
            Ok(_) => Ok(Changed::Done),
            Err(StoreError::Changed(_)) => Ok(Changed::Elsewhere),
            Err(error) => Err(error.into()),
        }
    }

    fn was_used(&self, found: &Credential, password: &Password) -> bool {
        was_used(&self.hasher, &found.password, &found.history, self.remember, password)
    }
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
