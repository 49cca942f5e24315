//! What the four kinds of entry have in common: one table each, and how a row becomes an entry.

use std::collections::HashMap;
use std::future::Future;
use std::str::FromStr;

use policy::RoleName;
use sqlx::SqliteConnection;

use super::{Entry, EntryName, Status};

/// An entry kept in a table of its own. Each function runs within the caller's transaction.
pub(super) trait Table: Clone + PartialEq + Send + Sync {
    /// What names a row.
    type Key: Clone + Send + Sync;

    fn entry_name(key: &Self::Key) -> EntryName;
    fn key(&self) -> Self::Key;
    fn into_entry(self) -> Entry;
    fn status_mut(&mut self) -> &mut Status;
    /// Sets the version and the time of the edit.
    fn stamp(&mut self, version: u64, time: &str);
    /// Whether both say the same, versions and times aside.
    fn same(&self, other: &Self) -> bool;

    /// Every row, sorted by key.
    fn all(conn: &mut SqliteConnection) -> impl Future<Output = sqlx::Result<Vec<Self>>> + Send;
    fn one(conn: &mut SqliteConnection, key: &Self::Key) -> impl Future<Output = sqlx::Result<Option<Self>>> + Send;
    fn insert(&self, conn: &mut SqliteConnection) -> impl Future<Output = sqlx::Result<()>> + Send;
    fn update(&self, conn: &mut SqliteConnection) -> impl Future<Output = sqlx::Result<()>> + Send;
    fn delete(&self, conn: &mut SqliteConnection) -> impl Future<Output = sqlx::Result<()>> + Send;
}

/// What is the same for every kind of entry but for its name.
macro_rules! entry_of {
    ($kind:ident, $key:ty) => {
        type Key = $key;

        fn entry_name(key: &$key) -> EntryName {
            EntryName::$kind(key.clone())
        }

        fn into_entry(self) -> Entry {
            Entry::$kind(self)
        }

        fn status_mut(&mut self) -> &mut Status {
            &mut self.status
        }

        fn stamp(&mut self, version: u64, time: &str) {
            self.version = version;
            time.clone_into(&mut self.changed_at);
        }
    };
}
pub(super) use entry_of;

/// Versions and sequences are stored as signed 64-bit integers: the widest that every database has.
pub(super) fn number(stored: i64) -> sqlx::Result<u64> {
    u64::try_from(stored).map_err(|e| sqlx::Error::Decode(Box::new(e)))
}

pub(super) fn signed(number: u64) -> sqlx::Result<i64> {
    i64::try_from(number).map_err(|e| sqlx::Error::Encode(Box::new(e)))
}

/// Parses a stored text, which this program wrote from the same type.
pub(super) fn parsed<T>(stored: &str) -> sqlx::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    stored.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))
}

pub(super) fn status(stored: &str) -> sqlx::Result<Status> {
    match stored {
        "active" => Ok(Status::Active),
        "suspended" => Ok(Status::Suspended),
        other => Err(sqlx::Error::Decode(format!("`{}` is not a status", other.escape_debug()).into())),
    }
}

/// A holder's site and name, and one of its roles.
type RoleRow = (String, String, String);

/// Roles by the site and the name of who has them.
pub(super) type Holders = HashMap<(String, String), Vec<RoleName>>;

/// A table of the roles that the rows of another have: its statements.
pub(super) struct Roles {
    pub(super) all: &'static str,
    pub(super) of: &'static str,
    pub(super) insert: &'static str,
    pub(super) delete: &'static str,
}

macro_rules! roles_in {
    ($table:literal) => {
        Roles {
            all: concat!("SELECT site, name, role FROM ", $table),
            of: concat!("SELECT site, name, role FROM ", $table, " WHERE site = $1 AND name = $2"),
            insert: concat!("INSERT INTO ", $table, " (site, name, role) VALUES ($1, $2, $3)"),
            delete: concat!("DELETE FROM ", $table, " WHERE site = $1 AND name = $2"),
        }
    };
}
pub(super) use roles_in;

impl Roles {
    pub(super) async fn all(&self, conn: &mut SqliteConnection) -> sqlx::Result<Holders> {
        by_holder(sqlx::query_as(self.all).fetch_all(conn).await?)
    }

    pub(super) async fn of(&self, conn: &mut SqliteConnection, site: &str, name: &str) -> sqlx::Result<Vec<RoleName>> {
        let rows = sqlx::query_as(self.of).bind(site).bind(name).fetch_all(conn).await?;
        Ok(roles_of(&mut by_holder(rows)?, site, name))
    }

    pub(super) async fn insert(
        &self,
        conn: &mut SqliteConnection,
        (site, name): (&str, &str),
        roles: &[RoleName],
    ) -> sqlx::Result<()> {
        for role in roles {
            sqlx::query(self.insert).bind(site).bind(name).bind(role.as_str()).execute(&mut *conn).await?;
        }
        Ok(())
    }

    pub(super) async fn delete(&self, conn: &mut SqliteConnection, (site, name): (&str, &str)) -> sqlx::Result<()> {
        sqlx::query(self.delete).bind(site).bind(name).execute(conn).await?;
        Ok(())
    }
}

/// One holder's roles, sorted.
pub(super) fn roles_of(holders: &mut Holders, site: &str, name: &str) -> Vec<RoleName> {
    let mut roles = holders.remove(&(site.to_owned(), name.to_owned())).unwrap_or_default();
    roles.sort();
    roles
}

fn by_holder(rows: Vec<RoleRow>) -> sqlx::Result<Holders> {
    let mut holders = Holders::new();
    for (site, name, role) in rows {
        holders.entry((site, name)).or_default().push(parsed(&role)?);
    }
    Ok(holders)
}
