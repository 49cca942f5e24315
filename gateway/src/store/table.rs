//! What the four kinds of entry have in common: one table each, and how a row becomes an entry.

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
pub(super) type RoleRow = (String, String, String);

/// The roles of one holder out of rows sorted by nothing in particular.
pub(super) fn roles_of(
    rows: &mut std::collections::HashMap<(String, String), Vec<RoleName>>,
    site: &str,
    name: &str,
) -> Vec<RoleName> {
    let mut roles = rows.remove(&(site.to_owned(), name.to_owned())).unwrap_or_default();
    roles.sort();
    roles
}

pub(super) fn by_holder(
    rows: Vec<RoleRow>,
) -> sqlx::Result<std::collections::HashMap<(String, String), Vec<RoleName>>> {
    let mut holders = std::collections::HashMap::<_, Vec<RoleName>>::new();
    for (site, name, role) in rows {
        holders.entry((site, name)).or_default().push(parsed(&role)?);
    }
    Ok(holders)
}
