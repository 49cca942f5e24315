//! The journal: one row for every change of an entry.

use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use super::table::{number, signed};
use super::{Entry, EntryName};

/// What was done to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// It was added.
    Add,
    /// Its fields were set.
    Set,
    /// It was suspended.
    Suspend,
    /// It was made active again.
    Resume,
    /// It was removed.
    Remove,
    /// A certificate was issued.
    Issue,
    /// A certificate was revoked.
    Revoke,
    /// A one-time code was used up.
    Use,
}

impl Verb {
    /// The name in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Set => "set",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Remove => "remove",
            Self::Issue => "issue",
            Self::Revoke => "revoke",
            Self::Use => "use",
        }
    }
}

/// One change of one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// 1 and upwards, without gaps, in the order in which the changes took effect.
    pub sequence: u64,
    /// When: RFC 3339, UTC, by the clock of the machine that made it.
    pub time: String,
    /// Who made it: a user of the operating system.
    pub actor: String,
    /// What was done.
    #[serde(flatten)]
    pub body: ChangeBody,
}

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeBody {
    /// What was done.
    pub verb: Verb,
    /// The entry before; none where it was added.
    pub before: Option<Entry>,
    /// The entry after; none where it was removed.
    pub after: Option<Entry>,
}

impl Change {
    /// The entry that changed; none only if the journal was edited by hand.
    #[must_use]
    pub fn entry(&self) -> Option<EntryName> {
        self.body.after.as_ref().or(self.body.before.as_ref()).map(Entry::name)
    }
}

type Row = (i64, String, String, String);

fn from_row((sequence, time, actor, body): Row) -> sqlx::Result<Change> {
    let body = serde_json::from_str(&body).map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
    Ok(Change { sequence: number(sequence)?, time, actor, body })
}

pub(super) async fn insert(conn: &mut SqliteConnection, change: &Change) -> sqlx::Result<()> {
    let body = serde_json::to_string(&change.body).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
    sqlx::query("INSERT INTO changes (sequence, time, actor, change) VALUES ($1, $2, $3, $4)")
        .bind(signed(change.sequence)?)
        .bind(&change.time)
        .bind(&change.actor)
        .bind(body)
        .execute(conn)
        .await?;
    Ok(())
}

/// At most `limit` changes later than `sequence`, oldest first.
pub(super) async fn after(conn: &mut SqliteConnection, sequence: u64, limit: u32) -> sqlx::Result<Vec<Change>> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT sequence, time, actor, change FROM changes WHERE sequence > $1 ORDER BY sequence LIMIT $2",
    )
    .bind(signed(sequence)?)
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(from_row).collect()
}

pub(super) async fn one(conn: &mut SqliteConnection, sequence: u64) -> sqlx::Result<Option<Change>> {
    let row: Option<Row> = sqlx::query_as("SELECT sequence, time, actor, change FROM changes WHERE sequence = $1")
        .bind(signed(sequence)?)
        .fetch_optional(conn)
        .await?;
    row.map(from_row).transpose()
}

/// Number of the last change.
pub(super) async fn last(conn: &mut SqliteConnection) -> sqlx::Result<u64> {
    let (sequence,): (i64,) = sqlx::query_as("SELECT sequence FROM counter WHERE id = 1").fetch_one(conn).await?;
    number(sequence)
}

/// How far `node` has recorded the changes; 0 where it never did.
pub(super) async fn cursor(conn: &mut SqliteConnection, node: &str) -> sqlx::Result<u64> {
    let row: Option<(i64,)> =
        sqlx::query_as("SELECT sequence FROM change_cursor WHERE node = $1").bind(node).fetch_optional(conn).await?;
    row.map_or(Ok(0), |(sequence,)| number(sequence))
}

/// Moves the cursor of `node` forward; never back.
pub(super) async fn advance(conn: &mut SqliteConnection, node: &str, sequence: u64) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO change_cursor (node, sequence) VALUES ($1, $2) \
         ON CONFLICT (node) DO UPDATE SET sequence = excluded.sequence \
         WHERE change_cursor.sequence < excluded.sequence",
    )
    .bind(node)
    .bind(signed(sequence)?)
    .execute(conn)
    .await?;
    Ok(())
}
