//! One change of the registry: one transaction, a new version for every entry it touches, and rows in the journal.

use sqlx::{Sqlite, SqliteConnection, Transaction};

use policy::{RoleName, SiteName};

use super::error::nearest;
use super::table::{Table, number};
use super::{Change, ChangeBody, Device, Entry, EntryName, Role, Site, Status, Store, StoreError, User, Verb, change};

/// A write transaction. Dropped uncommitted, it leaves nothing.
pub(super) struct Edit<'s> {
    store: &'s Store,
    transaction: Transaction<'static, Sqlite>,
    actor: &'s str,
    time: String,
}

impl<'s> Edit<'s> {
    /// Begins, and waits until no other writer is at work.
    pub(super) async fn begin(store: &'s Store, actor: &'s str) -> Result<Self, StoreError> {
        let mut transaction = store.begin().await?;
        // The first statement takes the writer's lock: on SQLite the file's, elsewhere the row's. A transaction that
        // read first and wrote later could find its snapshot out of date, and sequences could commit out of order.
        sqlx::query("UPDATE counter SET sequence = sequence WHERE id = 1")
            .execute(&mut *transaction)
            .await
            .map_err(|e| store.sql(e))?;
        Ok(Self { store, transaction, actor, time: format!("{:.6}", jiff::Timestamp::now()) })
    }

    pub(super) async fn commit(self) -> Result<(), StoreError> {
        let store = self.store;
        self.transaction.commit().await.map_err(|e| store.sql(e))
    }

    pub(super) fn conn(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }

    /// When it began: RFC 3339, UTC.
    pub(super) fn time(&self) -> &str {
        &self.time
    }

    pub(super) const fn store(&self) -> &'s Store {
        self.store
    }

    /// Every entry of a kind.
    pub(super) async fn all<T: Table>(&mut self) -> Result<Vec<T>, StoreError> {
        let store = self.store;
        T::all(self.conn()).await.map_err(|e| store.sql(e))
    }

    /// The entry of that name.
    pub(super) async fn find<T: Table>(&mut self, key: &T::Key) -> Result<T, StoreError> {
        let store = self.store;
        find(store, self.conn(), key).await
    }

    /// Adds an entry that is not there yet.
    pub(super) async fn add<T: Table>(&mut self, mut entry: T) -> Result<T, StoreError> {
        let (store, key) = (self.store, entry.key());
        if T::one(self.conn(), &key).await.map_err(|e| store.sql(e))?.is_some() {
            return Err(StoreError::AlreadyExists(T::entry_name(&key)));
        }
        let version = self.next_version().await?;
        entry.stamp(version, &self.time);
        entry.insert(self.conn()).await.map_err(|e| store.sql(e))?;
        self.journal(Verb::Add, None, Some(entry.clone())).await?;
        Ok(entry)
    }

    /// Puts `after` in the place of `before`. Where they say the same, nothing happens.
    pub(super) async fn replace<T: Table>(&mut self, verb: Verb, before: T, mut after: T) -> Result<T, StoreError> {
        if before.same(&after) {
            return Ok(before);
        }
        let store = self.store;
        let version = self.next_version().await?;
        after.stamp(version, &self.time);
        after.update(self.conn()).await.map_err(|e| store.sql(e))?;
        self.journal(verb, Some(before), Some(after.clone())).await?;
        Ok(after)
    }

    /// Suspends or resumes.
    pub(super) async fn set_status<T: Table>(&mut self, key: &T::Key, status: Status) -> Result<T, StoreError> {
        let before = self.find::<T>(key).await?;
        let mut after = before.clone();
        *after.status_mut() = status;
        let verb = match status {
            Status::Active => Verb::Resume,
            Status::Suspended => Verb::Suspend,
        };
        self.replace(verb, before, after).await
    }

    /// Removes an entry that nothing depends on.
    pub(super) async fn remove<T: Table>(&mut self, before: T) -> Result<EntryName, StoreError> {
        let (store, name) = (self.store, T::entry_name(&before.key()));
        before.delete(self.conn()).await.map_err(|e| store.sql(e))?;
        self.journal(Verb::Remove, Some(before), None).await?;
        Ok(name)
    }

    /// Gives an entry a new version because what it stands for changed elsewhere: the status of one of its roles.
    /// Each entry gets a version of its own, since decisions are cached under it.
    pub(super) async fn touch<T: Table>(&mut self, mut entry: T) -> Result<(), StoreError> {
        let store = self.store;
        let version = self.next_version().await?;
        entry.stamp(version, &self.time);
        entry.update(self.conn()).await.map_err(|e| store.sql(e))
    }

    /// Refuses roles that the registry does not have.
    pub(super) async fn check_roles(&mut self, wanted: &[RoleName]) -> Result<(), StoreError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let known = self.all::<Role>().await?;
        match wanted.iter().find(|wanted| !known.iter().any(|role| role.name == **wanted)) {
            None => Ok(()),
            Some(unknown) => Err(StoreError::UnknownRole {
                name: unknown.to_string(),
                nearest: nearest(unknown.as_str(), known.iter().map(|role| role.name.as_str())),
                known: known.iter().map(|role| role.name.to_string()).collect(),
            }),
        }
    }

    /// The devices and users of a site.
    pub(super) async fn of_site(&mut self, site: &SiteName) -> Result<(Vec<Device>, Vec<User>), StoreError> {
        self.find::<Site>(site).await?;
        let mut devices = self.all::<Device>().await?;
        devices.retain(|device| device.site == *site);
        let mut users = self.all::<User>().await?;
        users.retain(|user| user.site == *site);
        Ok((devices, users))
    }

    /// The devices and users that have a role.
    pub(super) async fn with_role(&mut self, role: &RoleName) -> Result<(Vec<Device>, Vec<User>), StoreError> {
        let mut devices = self.all::<Device>().await?;
        devices.retain(|device| device.roles.contains(role));
        let mut users = self.all::<User>().await?;
        users.retain(|user| user.roles.contains(role));
        Ok((devices, users))
    }

    async fn next_version(&mut self) -> Result<u64, StoreError> {
        let store = self.store;
        let next = sqlx::query_as("UPDATE counter SET version = version + 1 WHERE id = 1 RETURNING version");
        let (version,): (i64,) = next.fetch_one(self.conn()).await.map_err(|e| store.sql(e))?;
        number(version).map_err(|e| store.sql(e))
    }

    async fn journal<T: Table>(&mut self, verb: Verb, before: Option<T>, after: Option<T>) -> Result<(), StoreError> {
        self.journal_entries(verb, before.map(T::into_entry), after.map(T::into_entry)).await
    }

    /// Writes a row of the journal.
    pub(super) async fn journal_entries(
        &mut self,
        verb: Verb,
        before: Option<Entry>,
        after: Option<Entry>,
    ) -> Result<(), StoreError> {
        let store = self.store;
        let next = sqlx::query_as("UPDATE counter SET sequence = sequence + 1 WHERE id = 1 RETURNING sequence");
        let (sequence,): (i64,) = next.fetch_one(self.conn()).await.map_err(|e| store.sql(e))?;
        let body = ChangeBody { verb, before, after };
        let change = Change {
            sequence: number(sequence).map_err(|e| store.sql(e))?,
            time: self.time.clone(),
            actor: self.actor.to_owned(),
            body,
        };
        change::insert(self.conn(), &change).await.map_err(|e| store.sql(e))
    }
}

/// The entry of that name, or an error that proposes the name most like it.
pub(super) async fn find<T: Table>(store: &Store, conn: &mut SqliteConnection, key: &T::Key) -> Result<T, StoreError> {
    if let Some(entry) = T::one(conn, key).await.map_err(|e| store.sql(e))? {
        return Ok(entry);
    }
    let name = T::entry_name(key);
    let all = T::all(conn).await.map_err(|e| store.sql(e))?;
    let names: Vec<String> = all.iter().map(|entry| T::entry_name(&entry.key()).to_string()).collect();
    let wanted = name.to_string();
    Err(StoreError::NotFound {
        kind: name.kind(),
        nearest: nearest(&wanted, names.iter().map(String::as_str)),
        name: wanted,
    })
}
