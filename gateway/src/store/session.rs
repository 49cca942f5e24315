//! Sessions, as the gateway must not forget them when it ends (R10).
//!
//! No secret is here, only hashes under a key that is kept elsewhere. Times are those of the monotonic clock; of another boot
//! they say nothing.

use policy::session::{Factors, Kind as SessionKind, Reason};
use policy::{AuthenticationLevel, SiteName, UserName};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::edit::Edit;
use super::table::{number, parsed, signed};
use super::{Entry, EntryName, Store, StoreError, Verb};
use crate::session::Hash;

/// A session as the store has it. Times are monotonic nanoseconds of its boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// What people and records call it.
    pub name: String,
    /// Who began it.
    pub kind: SessionKind,
    /// Whose accounts.
    pub realm: String,
    /// The account.
    pub account: String,
    /// The site; empty where there is none.
    pub site: String,
    /// Where it is bound to.
    pub device: String,
    /// The registry's user.
    pub user: Option<UserName>,
    /// Whom the user acts for.
    pub acting_for: Option<UserName>,
    /// What an identity provider calls it.
    pub tag: Option<String>,
    /// How strongly the user is known.
    pub level: AuthenticationLevel,
    /// By what.
    pub factors: Factors,
    /// When it began.
    pub begun_ns: u64,
    /// When its user was proved.
    pub authenticated_ns: u64,
    /// When it was last used.
    pub used_ns: u64,
    /// Its bound on idleness.
    pub idle_ns: u64,
    /// Its bound on length.
    pub absolute_ns: u64,
    /// When it began, for people: RFC 3339, UTC.
    pub since: String,
    /// Number of the last change of the registry that it was proved under.
    pub as_of: u64,
    /// Why it is over.
    pub ended: Option<Reason>,
}

/// One thing to write down about sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionChange {
    /// One begins.
    Begun(Box<SessionRow>),
    /// A secret stands for it.
    Secret {
        /// Its name.
        name: String,
        /// The secret's hash.
        hash: Hash,
    },
    /// It goes on without a secret.
    Superseded {
        /// Its name.
        name: String,
        /// The secret's hash.
        hash: Hash,
    },
    /// A secret stands for it no more.
    Forgotten {
        /// Its name.
        name: String,
        /// The secret's hash.
        hash: Hash,
    },
    /// It was used.
    Used {
        /// Its name.
        name: String,
        /// When, last.
        at_ns: u64,
    },
    /// Its user proved more.
    Raised {
        /// Its name.
        name: String,
        /// How strongly the user is known.
        level: AuthenticationLevel,
        /// By what.
        factors: Factors,
        /// When.
        authenticated_ns: u64,
    },
    /// Its user acts for somebody, or for nobody.
    Acts {
        /// Its name.
        name: String,
        /// For whom.
        acting_for: Option<UserName>,
    },
    /// It is over.
    Ended {
        /// Its name.
        name: String,
        /// Why.
        why: Reason,
        /// When.
        at_ns: u64,
    },
    /// What was over before then is forgotten.
    Purge {
        /// When.
        before_ns: u64,
    },
}

/// What a gateway finds at its start.
#[derive(Debug, Default)]
pub struct SessionMemory {
    /// Sessions, oldest first, and whether they are of this boot.
    pub sessions: Vec<(SessionRow, bool)>,
    /// Hashes of secrets, oldest first, the session's name, and whether it goes on without it.
    pub secrets: Vec<(Hash, String, bool)>,
}

/// Which sessions an operator ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "kebab-case")]
pub enum SessionTarget {
    /// One.
    Name {
        /// Its name.
        name: String,
    },
    /// Those of a user.
    User {
        /// The site.
        site: SiteName,
        /// The user.
        user: UserName,
    },
    /// Those bound to a device.
    Device {
        /// The site.
        site: SiteName,
        /// The device.
        device: policy::DeviceName,
    },
    /// Those of a site.
    Site {
        /// The site.
        site: SiteName,
    },
}

impl SessionTarget {
    /// What it is.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Name { name } => name.clone(),
            Self::User { site, user } => format!("user {site}/{user}"),
            Self::Device { site, device } => format!("device {site}/{device}"),
            Self::Site { site } => format!("site {site}"),
        }
    }

    /// Name, site, device and user; none where any will do.
    fn columns(&self) -> [Option<&str>; 4] {
        match self {
            Self::Name { name } => [Some(name), None, None, None],
            Self::User { site, user } => [None, Some(site.as_str()), None, Some(user.as_str())],
            Self::Device { site, device } => [None, Some(site.as_str()), Some(device.as_str()), None],
            Self::Site { site } => [None, Some(site.as_str()), None, None],
        }
    }
}

/// Sessions that an operator ended: an entry of the journal alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedSessions {
    /// Which.
    #[serde(flatten)]
    pub target: SessionTarget,
    /// How many there were.
    pub sessions: u64,
}

/// A session as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionShown {
    /// Its name.
    pub name: String,
    /// Who began it.
    pub kind: String,
    /// Whose accounts.
    pub realm: String,
    /// The account.
    pub account: String,
    /// The site.
    pub site: String,
    /// Where it is bound to.
    pub device: String,
    /// The registry's user.
    pub user: Option<String>,
    /// Whom the user acts for.
    pub acting_for: Option<String>,
    /// How strongly the user is known.
    pub level: String,
    /// When it began: RFC 3339, UTC.
    pub since: String,
    /// Seconds since it was last used, as the store knows; none if it is of another boot.
    pub idle_s: Option<u64>,
}

const LEVELS: [AuthenticationLevel; 3] =
    [AuthenticationLevel::Device, AuthenticationLevel::User, AuthenticationLevel::TwoFactor];

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

fn level_of(label: &str) -> sqlx::Result<AuthenticationLevel> {
    let found = LEVELS.into_iter().find(|level| level.label() == label);
    found.ok_or_else(|| sqlx::Error::Decode(format!("`{}` is no level", label.escape_debug()).into()))
}

async fn write(conn: &mut SqliteConnection, boot: &str, change: &SessionChange) -> sqlx::Result<()> {
    let query = match change {
        SessionChange::Begun(row) => sqlx::query(
            "INSERT INTO sessions (name, kind, realm, account, site, device, user_name, acting_for, tag, level, factors, \
             boot, begun_ns, authenticated_ns, used_ns, idle_ns, absolute_ns, since, as_of) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) \
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(&row.name)
        .bind(row.kind.label())
        .bind(&row.realm)
        .bind(&row.account)
        .bind(&row.site)
        .bind(&row.device)
        .bind(row.user.as_ref().map(UserName::as_str))
        .bind(row.acting_for.as_ref().map(UserName::as_str))
        .bind(&row.tag)
        .bind(row.level.label())
        .bind(i64::from(row.factors.bits()))
        .bind(boot)
        .bind(signed(row.begun_ns)?)
        .bind(signed(row.authenticated_ns)?)
        .bind(signed(row.used_ns)?)
        .bind(signed(row.idle_ns)?)
        .bind(signed(row.absolute_ns)?)
        .bind(&row.since)
        .bind(signed(row.as_of)?),
        SessionChange::Secret { name, hash } => sqlx::query(
            "INSERT INTO session_secrets (hash, name, at_ns) \
             SELECT $1, name, (SELECT COALESCE(MAX(at_ns), 0) + 1 FROM session_secrets WHERE name = $2) \
             FROM sessions WHERE name = $2 \
             ON CONFLICT (hash) DO UPDATE SET name = excluded.name, at_ns = excluded.at_ns, superseded = 0",
        )
        .bind(hash.hex())
        .bind(name),
        SessionChange::Superseded { name, hash } => {
            sqlx::query("UPDATE session_secrets SET superseded = 1 WHERE hash = $1 AND name = $2")
                .bind(hash.hex())
                .bind(name)
        }
        SessionChange::Forgotten { name, hash } => {
            sqlx::query("DELETE FROM session_secrets WHERE hash = $1 AND name = $2").bind(hash.hex()).bind(name)
        }
        SessionChange::Used { name, at_ns } => {
            sqlx::query("UPDATE sessions SET used_ns = $2 WHERE name = $1").bind(name).bind(signed(*at_ns)?)
        }
        SessionChange::Raised { name, level, factors, authenticated_ns } => {
            sqlx::query("UPDATE sessions SET level = $2, factors = $3, authenticated_ns = $4 WHERE name = $1")
                .bind(name)
                .bind(level.label())
                .bind(i64::from(factors.bits()))
                .bind(signed(*authenticated_ns)?)
        }
        SessionChange::Acts { name, acting_for } => sqlx::query("UPDATE sessions SET acting_for = $2 WHERE name = $1")
            .bind(name)
            .bind(acting_for.as_ref().map(UserName::as_str)),
        SessionChange::Ended { name, why, at_ns } => {
            sqlx::query("UPDATE sessions SET ended = $2, ended_ns = $3, boot = $4 WHERE name = $1 AND ended IS NULL")
                .bind(name)
                .bind(why.label())
                .bind(signed(*at_ns)?)
                .bind(boot)
        }
        SessionChange::Purge { before_ns } => {
            sqlx::query("DELETE FROM sessions WHERE ended IS NOT NULL AND boot = $1 AND ended_ns < $2")
                .bind(boot)
                .bind(signed(*before_ns)?)
        }
    };
    query.execute(conn).await.map(drop)
}

fn row_of(row: &SqliteRow) -> sqlx::Result<SessionRow> {
    let text = |column: &str| row.try_get::<String, _>(column);
    let name = |column: &str| row.try_get::<Option<String>, _>(column)?.map(|name| parsed(&name)).transpose();
    let time = |column: &str| number(row.try_get::<i64, _>(column)?);
    Ok(SessionRow {
        name: text("name")?,
        kind: text("kind")?.parse().map_err(decode)?,
        realm: text("realm")?,
        account: text("account")?,
        site: text("site")?,
        device: text("device")?,
        user: name("user_name")?,
        acting_for: name("acting_for")?,
        tag: row.try_get("tag")?,
        level: level_of(&text("level")?)?,
        factors: Factors::of_bits(u8::try_from(row.try_get::<i64, _>("factors")?).map_err(decode)?),
        begun_ns: time("begun_ns")?,
        authenticated_ns: time("authenticated_ns")?,
        used_ns: time("used_ns")?,
        idle_ns: time("idle_ns")?,
        absolute_ns: time("absolute_ns")?,
        since: text("since")?,
        as_of: time("as_of")?,
        ended: row.try_get::<Option<String>, _>("ended")?.map(|why| why.parse().map_err(decode)).transpose()?,
    })
}

async fn load(conn: &mut SqliteConnection, boot: &str, now_ns: u64) -> sqlx::Result<SessionMemory> {
    // What was over in another boot is over since now at the latest.
    sqlx::query(
        "UPDATE sessions SET boot = $1, ended_ns = $2 WHERE ended IS NOT NULL AND (boot <> $1 OR ended_ns > $2)",
    )
    .bind(boot)
    .bind(signed(now_ns)?)
    .execute(&mut *conn)
    .await?;
    let rows =
        sqlx::query("SELECT * FROM sessions ORDER BY COALESCE(ended_ns, begun_ns), name").fetch_all(&mut *conn).await?;
    let mut memory = SessionMemory::default();
    for row in &rows {
        memory.sessions.push((row_of(row)?, row.try_get::<String, _>("boot")? == boot));
    }
    let rows: Vec<(String, String, i64)> =
        sqlx::query_as("SELECT hash, name, superseded FROM session_secrets ORDER BY name, at_ns")
            .fetch_all(conn)
            .await?;
    for (hash, name, superseded) in rows {
        let hash = Hash::of_hex(&hash).ok_or_else(|| sqlx::Error::Decode("a hash has 64 digits".into()))?;
        memory.secrets.push((hash, name, superseded != 0));
    }
    Ok(memory)
}

const FITS: &str = "ended IS NULL AND ($1 IS NULL OR name = $1) AND ($2 IS NULL OR site = $2) \
                    AND ($3 IS NULL OR device = $3) AND ($4 IS NULL OR user_name = $4)";

/// # Sessions
impl Store {
    /// Writes all of it down, or nothing. The same once more changes nothing; a secret of a session that is not there is left.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Busy`].
    pub async fn session_write(&self, boot: &str, changes: &[SessionChange]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        for change in changes {
            write(&mut transaction, boot, change).await.map_err(|e| self.sql(e))?;
        }
        transaction.commit().await.map_err(|e| self.sql(e))
    }

    /// What a gateway that starts at `now_ns` of this boot knows of sessions.
    ///
    /// # Errors
    /// Those of every reading call, and [`StoreError::Io`].
    pub async fn session_load(&self, boot: &str, now_ns: u64) -> Result<SessionMemory, StoreError> {
        let mut transaction = self.begin().await?;
        let memory = load(&mut transaction, boot, now_ns).await.map_err(|e| self.sql(e))?;
        transaction.commit().await.map_err(|e| self.sql(e))?;
        Ok(memory)
    }

    /// Sessions that are not over, as the store knows at `now_ns` of this boot; those of `target`, or all.
    ///
    /// # Errors
    /// Those of every reading call.
    pub async fn session_list(
        &self,
        target: Option<&SessionTarget>,
        boot: &str,
        now_ns: u64,
    ) -> Result<Vec<SessionShown>, StoreError> {
        let mut transaction = self.begin().await?;
        let [name, site, device, user] = target.map_or([None; 4], SessionTarget::columns);
        let text = format!("SELECT * FROM sessions WHERE {FITS} ORDER BY site, device, since, name");
        let query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(name).bind(site).bind(device).bind(user);
        let rows = query.fetch_all(&mut *transaction).await.map_err(|e| self.sql(e))?;
        let shown = rows.iter().map(|row| {
            let session = row_of(row)?;
            let is_of_boot = row.try_get::<String, _>("boot")? == boot;
            Ok(SessionShown {
                name: session.name,
                kind: session.kind.label().to_owned(),
                realm: session.realm,
                account: session.account,
                site: session.site,
                device: session.device,
                user: session.user.map(|user| user.to_string()),
                acting_for: session.acting_for.map(|user| user.to_string()),
                level: session.level.label().to_owned(),
                since: session.since,
                idle_s: is_of_boot.then(|| now_ns.saturating_sub(session.used_ns) / 1_000_000_000),
            })
        });
        shown.collect::<sqlx::Result<_>>().map_err(|e| self.sql(e))
    }

    /// Ends sessions for an operator. A gateway that runs does the same within a second, with those that the store has not
    /// heard of yet as well: so whoever is named by user, device or site is written down even where none is found.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if one is named that is not there.
    pub async fn session_end(&self, actor: &str, target: SessionTarget) -> Result<EndedSessions, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let [name, site, device, user] = target.columns();
        let text = format!("UPDATE sessions SET ended = 'operator', ended_ns = used_ns WHERE {FITS}");
        let query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(name).bind(site).bind(device).bind(user);
        let sessions = query.execute(edit.conn()).await.map_err(|e| self.sql(e))?.rows_affected();
        let ended = EndedSessions { target, sessions };
        if sessions == 0 && matches!(ended.target, SessionTarget::Name { .. }) {
            let name = EntryName::Session(ended.target.name());
            return Err(StoreError::NotFound { kind: name.kind(), name: name.to_string(), nearest: None });
        }
        edit.journal_entries(Verb::Remove, Some(Entry::Session(ended.clone())), None).await?;
        edit.commit().await?;
        Ok(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("s.db")).await.unwrap();
        (folder, store)
    }

    fn session(name: &str, user: &str) -> SessionRow {
        SessionRow {
            name: name.to_owned(),
            kind: SessionKind::Learnt,
            realm: "ehr".to_owned(),
            account: user.to_owned(),
            site: "s".to_owned(),
            device: "d".to_owned(),
            user: Some(user.parse().unwrap()),
            acting_for: None,
            tag: Some("t".to_owned()),
            level: AuthenticationLevel::User,
            factors: Factors::PASSWORD,
            begun_ns: 1,
            authenticated_ns: 1,
            used_ns: 1,
            idle_ns: 10,
            absolute_ns: 20,
            since: "2026-01-01T00:00:00Z".to_owned(),
            as_of: 3,
            ended: None,
        }
    }

    #[tokio::test]
    async fn what_is_written_is_loaded() {
        let (_folder, store) = store().await;
        let (one, two) = (Hash([1; 32]), Hash([2; 32]));
        let secret = |name: &str, hash| SessionChange::Secret { name: name.to_owned(), hash };
        let changes = [
            SessionChange::Begun(Box::new(session("a", "tanaka"))),
            secret("a", one),
            secret("a", two),
            SessionChange::Superseded { name: "a".to_owned(), hash: one },
            SessionChange::Used { name: "a".to_owned(), at_ns: 5 },
            SessionChange::Begun(Box::new(session("b", "suzuki"))),
            SessionChange::Ended { name: "b".to_owned(), why: Reason::LoggedOut, at_ns: 6 },
        ];
        store.session_write("boot", &changes).await.unwrap();
        let memory = store.session_load("boot", 9).await.unwrap();
        let used = SessionRow { used_ns: 5, ..session("a", "tanaka") };
        let ended = SessionRow { ended: Some(Reason::LoggedOut), ..session("b", "suzuki") };
        assert_eq!(memory.sessions, [(used, true), (ended, true)]);
        assert_eq!(memory.secrets, [(one, "a".to_owned(), true), (two, "a".to_owned(), false)]);
        let memory = store.session_load("other", 3).await.unwrap();
        assert_eq!(memory.sessions.iter().map(|(_, of_boot)| *of_boot).collect::<Vec<_>>(), [false, true]);
        store.session_write("other", &[SessionChange::Purge { before_ns: 4 }]).await.unwrap();
        assert_eq!(store.session_load("other", 9).await.unwrap().sessions.len(), 1);
    }

    #[tokio::test]
    async fn what_is_written_twice_or_for_nobody_keeps_nothing_else_back() {
        let (_folder, store) = store().await;
        let changes = [
            SessionChange::Secret { name: "gone".to_owned(), hash: Hash([1; 32]) },
            SessionChange::Begun(Box::new(session("a", "tanaka"))),
            SessionChange::Secret { name: "a".to_owned(), hash: Hash([2; 32]) },
            SessionChange::Ended { name: "a".to_owned(), why: Reason::LoggedOut, at_ns: 6 },
        ];
        for _ in 0..2 {
            store.session_write("boot", &changes).await.unwrap();
        }
        let memory = store.session_load("boot", 9).await.unwrap();
        assert_eq!(memory.sessions.first().unwrap().0.ended, Some(Reason::LoggedOut));
        assert_eq!(memory.secrets, [(Hash([2; 32]), "a".to_owned(), false)]);
    }

    #[tokio::test]
    async fn an_operator_lists_and_ends() {
        let (_folder, store) = store().await;
        let begun = |name: &str, user: &str| SessionChange::Begun(Box::new(session(name, user)));
        store.session_write("boot", &[begun("a", "tanaka"), begun("b", "suzuki")]).await.unwrap();
        let all = store.session_list(None, "boot", 2_000_000_001).await.unwrap();
        assert_eq!((all.len(), all[0].idle_s), (2, Some(2)));
        let site: SiteName = "s".parse().unwrap();
        let target = SessionTarget::User { site: site.clone(), user: "tanaka".parse().unwrap() };
        assert_eq!(store.session_list(Some(&target), "other", 0).await.unwrap()[0].idle_s, None);
        assert_eq!(store.session_end("t", target.clone()).await.unwrap().sessions, 1);
        // A gateway may hold one that the store has not heard of.
        let sequence = store.sequence().await.unwrap();
        assert_eq!(store.session_end("t", target.clone()).await.unwrap().sessions, 0);
        assert_eq!(store.sequence().await.unwrap(), sequence + 1);
        let name = SessionTarget::Name { name: "a".to_owned() };
        assert!(matches!(store.session_end("t", name).await, Err(StoreError::NotFound { .. })));
        assert_eq!(store.session_list(None, "boot", 0).await.unwrap().len(), 1);
        store.session_end("t", SessionTarget::Site { site }).await.unwrap();
        let change = store.change(store.sequence().await.unwrap()).await.unwrap().unwrap();
        assert_eq!(change.entry().unwrap().to_string(), "site s");
    }
}
