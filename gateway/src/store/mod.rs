//! The registry on disk: sites, devices, users and roles, and the journal of their changes (R1, R3, R27).
//!
//! A SQLite file in WAL mode, shared by the gateway and the `sekisho` command. The statements are those that
//! PostgreSQL takes as well; what differs lies in `open`.
//!
//! # Promises
//! - Every mutation is one transaction. It gives each entry it touches a new *version* and writes one row into the
//!   journal for each entry it adds, sets, suspends, resumes or removes.
//! - Versions count over the whole store and are never given twice, whatever is removed, so that a decision cached
//!   under a version is never found by another entry. Removing deletes the row; the journal keeps what it was.
//! - The journal's *sequence* has no gaps, and its order is the order in which the changes took effect.
//! - The status of a role is part of what its holders are: suspending or resuming a role gives each holder a new
//!   version, too, with one row for the role in the journal.
//! - A change is on disk (`synchronous = FULL`) when the call returns.

mod account;
mod backend;
mod binding;
mod called;
mod certificate;
mod change;
mod delegation;
mod device;
mod display_name;
mod edit;
mod entry;
mod error;
mod inside;
mod login;
mod mutate;
mod open;
mod role;
mod session;
mod sighting;
mod site;
mod table;
mod user;
mod wireguard;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use policy::{DeviceId, RoleName, SiteName};
use sqlx::{Sqlite, SqlitePool, Transaction};

pub use account::{Account, Credential, NewHash, SealedTotp};
pub use backend::BackendDrain;
pub use binding::{UserCertificate, hash};
pub use called::{NamesEdit, ae_title, facility};
pub use certificate::{Certificate, CrlDraft, CrlState, EnrolmentCode, Origin, Renewal, Right};
pub use change::{Change, ChangeBody, Verb};
pub use delegation::Delegation;
pub use display_name::{DisplayName, InvalidDisplayName, MAX_DISPLAY_NAME_CHARS};
pub use entry::{Device, Entries, Entry, EntryName, Kind, Role, Site, Status, User, UserId};
pub use error::StoreError;
pub use inside::Allotment;
pub use login::{Lift, Lockout, LockoutRow, LoginChange, LoginMemory};
pub use mutate::{Assignment, Edited, NewDevice, NewUser, RoleEdit, SetDevice, SetSite, SetUser};
pub use session::{EndedSessions, SessionChange, SessionMemory, SessionRow, SessionShown, SessionTarget};
pub use wireguard::{
    DraftKey, NewWireguardKey, OpenedKey, Preshared, WireguardKey, base64_text, read_base64, sealed_keys,
    sealing_key_of,
};

use crate::registry::directory::Directory;
use table::Table;

/// The registry's file. Cheap to clone; needs a tokio runtime.
#[derive(Debug, Clone)]
pub struct Store {
    pool: SqlitePool,
    path: Arc<Path>,
    identity: open::Identity,
    keyring: wireguard::Keyring,
}

impl Store {
    /// Opens the store at `path` and brings its schema up to date. Where there is none it is made: the file for its
    /// owner only (0600), a missing directory likewise (0700).
    ///
    /// # Errors
    /// [`StoreError::Io`] naming the file or directory; [`StoreError::Permissions`] if the file lets others in;
    /// [`StoreError::Busy`] if another process holds it; [`StoreError::Migration`] if its schema is newer than this
    /// program.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_at(path.as_ref(), true).await
    }

    /// Opens the store at `path` as [`open`](Self::open) does, but never makes one.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is none; otherwise those of [`open`](Self::open).
    pub async fn open_existing(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_at(path.as_ref(), false).await
    }

    async fn open_at(path: &Path, create: bool) -> Result<Self, StoreError> {
        let (pool, identity) = open::open(path, create).await?;
        Ok(Self { pool, path: Arc::from(path), identity, keyring: wireguard::Keyring::default() })
    }

    /// Where the store's file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file that lies at the store's path as [`open_existing`](Self::open_existing) does, and knows the key of preshared keys
    /// that this handle knows.
    ///
    /// # Errors
    /// Those of [`open_existing`](Self::open_existing).
    pub async fn reopen(&self) -> Result<Self, StoreError> {
        let store = Self::open_existing(&self.path).await?;
        Ok(Self { keyring: self.keyring.clone(), ..store })
    }

    /// Whether both are handles of one file.
    #[must_use]
    pub fn is_same_file(&self, other: &Self) -> bool {
        self.identity == other.identity
    }

    /// Closes every connection. Calls after it fail.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Whether the file that was opened still lies at its path.
    ///
    /// # Errors
    /// [`StoreError::Replaced`] if it was removed or another was put in its place; what others change there is
    /// invisible to this handle.
    pub fn check_in_place(&self) -> Result<(), StoreError> {
        match open::identity(&self.path) {
            Ok(identity) if identity == self.identity => Ok(()),
            _ => Err(StoreError::Replaced { path: self.path.to_path_buf() }),
        }
    }

    /// Every site, by name.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Busy`] or [`StoreError::Corrupt`], as for every reading call.
    pub async fn site_list(&self) -> Result<Vec<Site>, StoreError> {
        self.list().await
    }

    /// Every device, or those of one site, by site and name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such site.
    pub async fn device_list(&self, site: Option<&SiteName>) -> Result<Vec<Device>, StoreError> {
        let mut devices: Vec<Device> = self.list().await?;
        if let Some(site) = site {
            self.site_show(site).await?;
            devices.retain(|device| device.site == *site);
        }
        Ok(devices)
    }

    /// Every user, or those of one site, by site and name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such site.
    pub async fn user_list(&self, site: Option<&SiteName>) -> Result<Vec<User>, StoreError> {
        let mut users: Vec<User> = self.list().await?;
        if let Some(site) = site {
            self.site_show(site).await?;
            users.retain(|user| user.site == *site);
        }
        Ok(users)
    }

    /// Every role, by name.
    ///
    /// # Errors
    /// Those of every reading call.
    pub async fn role_list(&self) -> Result<Vec<Role>, StoreError> {
        self.list().await
    }

    /// One site.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn site_show(&self, name: &SiteName) -> Result<Site, StoreError> {
        self.show(name).await
    }

    /// One device.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn device_show(&self, id: &DeviceId) -> Result<Device, StoreError> {
        self.show(id).await
    }

    /// One user.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn user_show(&self, id: &UserId) -> Result<User, StoreError> {
        self.show(id).await
    }

    /// One role.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn role_show(&self, name: &RoleName) -> Result<Role, StoreError> {
        self.show(name).await
    }

    /// Number of the last change; 0 before the first.
    ///
    /// # Errors
    /// Those of every reading call.
    pub async fn sequence(&self) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        change::last(&mut transaction).await.map_err(|e| self.sql(e))
    }

    /// The change of that number.
    ///
    /// # Errors
    /// Those of every reading call.
    pub async fn change(&self, sequence: u64) -> Result<Option<Change>, StoreError> {
        let mut transaction = self.begin().await?;
        change::one(&mut transaction, sequence).await.map_err(|e| self.sql(e))
    }

    /// At most `limit` changes later than `sequence`, oldest first.
    ///
    /// # Errors
    /// Those of every reading call.
    pub async fn changes_after(&self, sequence: u64, limit: u32) -> Result<Vec<Change>, StoreError> {
        let mut transaction = self.begin().await?;
        change::after(&mut transaction, sequence, limit).await.map_err(|e| self.sql(e))
    }

    /// Number of the last change that `node` has put into its audit log; 0 if none.
    ///
    /// # Errors
    /// Those of every reading call.
    pub async fn recorded_up_to(&self, node: &str) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        change::cursor(&mut transaction, node).await.map_err(|e| self.sql(e))
    }

    /// Notes that every change up to `sequence` is durable in the audit log of `node`. The mark never moves back.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Busy`].
    pub async fn mark_recorded(&self, node: &str, sequence: u64) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        change::advance(&mut transaction, node, sequence).await.map_err(|e| self.sql(e))?;
        transaction.commit().await.map_err(|e| self.sql(e))
    }

    /// Every entry at one moment.
    ///
    /// # Errors
    /// Those of every reading call.
    pub async fn entries(&self) -> Result<Entries, StoreError> {
        let mut transaction = self.begin().await?;
        self.entries_in(&mut transaction).await
    }

    /// What the hot path needs of the registry, at one moment.
    ///
    /// # Errors
    /// Those of every reading call.
    pub async fn directory(&self) -> Result<Directory, StoreError> {
        Ok(Directory::build(&self.entries().await?))
    }

    /// Every entry at one moment, and the changes later than `sequence` that led there. `known` is the change of that
    /// number, as read before.
    ///
    /// # Errors
    /// [`StoreError::RolledBack`] if the store no longer has that change; otherwise those of every reading call.
    pub async fn entries_since(
        &self,
        sequence: u64,
        known: Option<&Change>,
    ) -> Result<(Entries, Vec<Change>), StoreError> {
        let mut transaction = self.begin().await?;
        if let Some(known) = known {
            let found = change::one(&mut transaction, known.sequence).await.map_err(|e| self.sql(e))?;
            if found.as_ref() != Some(known) {
                return Err(StoreError::RolledBack { path: self.path.to_path_buf(), sequence: known.sequence });
            }
        }
        let entries = self.entries_in(&mut transaction).await?;
        let changes = change::after(&mut transaction, sequence, u32::MAX).await.map_err(|e| self.sql(e))?;
        Ok((entries, changes))
    }

    async fn entries_in(&self, transaction: &mut Transaction<'static, Sqlite>) -> Result<Entries, StoreError> {
        let conn = &mut **transaction;
        let read = async {
            Ok(Entries {
                sequence: change::last(conn).await?,
                sites: Site::all(conn).await?,
                devices: Device::all(conn).await?,
                users: User::all(conn).await?,
                roles: Role::all(conn).await?,
                user_certificates: binding::all(conn).await?,
                delegations: delegation::all(conn).await?,
                wireguard_keys: self.opened(conn).await?,
            })
        };
        read.await.map_err(|e| self.sql(e))
    }

    async fn list<T: Table>(&self) -> Result<Vec<T>, StoreError> {
        let mut transaction = self.begin().await?;
        T::all(&mut transaction).await.map_err(|e| self.sql(e))
    }

    async fn show<T: Table>(&self, key: &T::Key) -> Result<T, StoreError> {
        let mut transaction = self.begin().await?;
        edit::find(self, &mut transaction, key).await
    }

    /// A connection for what the program itself never writes.
    #[cfg(test)]
    pub(crate) async fn writer(&self) -> sqlx::pool::PoolConnection<Sqlite> {
        let mut conn = self.pool.acquire().await.unwrap();
        sqlx::query("PRAGMA foreign_keys = OFF").execute(&mut *conn).await.unwrap();
        conn
    }

    /// Moves what the write-ahead log holds into the file itself, so that the file alone can be copied.
    #[cfg(test)]
    pub(crate) async fn checkpoint(&self) {
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.pool).await.unwrap();
    }

    /// Begins a transaction that sees one moment of the store.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.pool.begin().await.map_err(|e| self.sql(e))
    }

    fn sql(&self, error: sqlx::Error) -> StoreError {
        StoreError::sql(&self.path, error)
    }
}
