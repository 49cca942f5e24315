//! What the login guard must not forget (R8, C14): attempts, and the lockouts that they led to.
//!
//! An attempt is here before a backend sees its password, as *pending*, which counts as failed. So a gateway that is killed
//! at any moment knows at its next start at least what it had let through. Times are those of the monotonic clock, which no
//! step of the wall clock moves. Of another boot they say nothing: what was remembered then counts from the start anew.

use policy::login::{AccountName, Attempt, Lock, Locked, Origin};
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use super::edit::Edit;
use super::table::{number, parsed, signed};
use super::{Entry, EntryName, Store, StoreError, Verb};

/// One thing to write down about logins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginChange {
    /// An attempt is about to be forwarded, monotonic nanoseconds.
    Reserved {
        /// Its number.
        id: u64,
        /// Whose.
        attempt: Attempt,
        /// When.
        at_ns: u64,
    },
    /// It failed.
    Failed {
        /// Its number.
        id: u64,
        /// When.
        at_ns: u64,
    },
    /// It succeeded, and takes back what failed before it of its account at its device.
    Succeeded {
        /// Its number.
        id: u64,
        /// Whose.
        attempt: Attempt,
    },
    /// Nobody was asked.
    Withdrawn {
        /// Its number.
        id: u64,
    },
    /// A lockout begins.
    Locked {
        /// The lockout.
        lock: Lock,
        /// Its whole length, nanoseconds.
        lasts_ns: u64,
    },
    /// An operator lifted it: what was written after the operator's own change goes as well.
    Lifted(Lift),
    /// What cannot matter any more is forgotten.
    Purge {
        /// Attempts before this.
        attempts_ns: u64,
        /// Lockouts that ended by this.
        now_ns: u64,
    },
}

/// What an operator lifts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "kebab-case")]
pub enum Lift {
    /// Failures and lockouts of an account.
    Account {
        /// Its realm; none: of every one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        realm: Option<String>,
        /// The account, in its one spelling.
        account: String,
        /// Only at this site.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        site: Option<String>,
    },
    /// Those of a device, at whatever accounts.
    Device {
        /// Its site.
        site: String,
        /// Its name.
        device: String,
    },
    /// Those of a site.
    Site {
        /// Its name.
        site: String,
    },
}

impl Lift {
    /// What it lifts.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Account { account, site: None, .. } => account.clone(),
            Self::Account { account, site: Some(site), .. } => format!("{account} at {site}"),
            Self::Device { site, device } => format!("{site}/{device}"),
            Self::Site { site } => site.clone(),
        }
    }

    /// Its columns: realm, account, site and device, none where any will do.
    fn columns(&self) -> [Option<&str>; 4] {
        match self {
            Self::Account { realm, account, site } => [realm.as_deref(), Some(account), site.as_deref(), None],
            Self::Device { site, device } => [None, None, Some(site), Some(device)],
            Self::Site { site } => [None, None, Some(site), None],
        }
    }
}

/// A lockout, or failures, that an operator lifted: an entry of the journal alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lockout {
    /// Of what.
    #[serde(flatten)]
    pub lifted: Lift,
    /// Lockouts that were in force.
    pub lockouts: u64,
    /// Attempts that were counted.
    pub failures: u64,
}

/// A lockout as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockoutRow {
    /// `account`, `account-at-site`, `account-at-device`, `device`, `site` or `address`.
    #[serde(rename = "of")]
    pub kind: String,
    /// The realm.
    pub realm: String,
    /// The account, in its one spelling.
    pub account: String,
    /// The site.
    pub site: String,
    /// The device.
    pub device: String,
    /// The address.
    pub address: String,
    /// When it began: RFC 3339, UTC.
    pub since: String,
    /// Seconds until it ends; none if it is of another boot, and begins anew with the gateway.
    pub remaining_s: Option<u64>,
}

/// What a gateway finds at its start.
#[derive(Debug, Default)]
pub struct LoginMemory {
    /// Failed attempts, oldest first: when, whose, and whether they count for their account.
    pub failures: Vec<(u64, Attempt, bool)>,
    /// Lockouts.
    pub locks: Vec<Lock>,
    /// A number that no attempt has.
    pub next: u64,
}

type Columns = [String; 6];

fn lock_columns(of: &Locked) -> Columns {
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
    let none = String::new;
    match of {
        Locked::Account { realm, account, site, device } => {
            let kind = match (site, device) {
                (None, _) => "account",
                (Some(_), None) => "account-at-site",
                (Some(_), Some(_)) => "account-at-device",
            };
            [kind.to_owned(), realm.to_string(), account.to_string(), text(site), text(device), none()]
        }
        Locked::Device(Origin { site, device }) => {
            ["device".to_owned(), none(), none(), site.to_string(), device.to_string(), none()]
        }
        Locked::Site(site) => ["site".to_owned(), none(), none(), site.to_string(), none(), none()],
        Locked::Address(address) => ["address".to_owned(), none(), none(), none(), none(), address.to_string()],
    }
}

fn locked([kind, realm, account, site, device, address]: Columns) -> sqlx::Result<Locked> {
    let of_account = |site, device| {
        let account = AccountName::restored(&account).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Locked::Account { realm: realm.as_str().into(), account, site, device })
    };
    match kind.as_str() {
        "account" => of_account(None, None),
        "account-at-site" => of_account(Some(site.into()), None),
        "account-at-device" => of_account(Some(site.into()), Some(device.into())),
        "device" => Ok(Locked::Device(Origin { site: site.into(), device: device.into() })),
        "site" => Ok(Locked::Site(site.into())),
        "address" => Ok(Locked::Address(parsed(&address)?)),
        other => Err(sqlx::Error::Decode(format!("`{}` is no kind of lockout", other.escape_debug()).into())),
    }
}

async fn write(conn: &mut SqliteConnection, boot: &str, change: &LoginChange) -> sqlx::Result<()> {
    match change {
        LoginChange::Reserved { id, attempt, at_ns } => {
            sqlx::query(
                "INSERT INTO login_attempts (id, realm, account, site, device, address, boot, at_ns, state) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'pending')",
            )
            .bind(signed(*id)?)
            .bind(&*attempt.realm)
            .bind(attempt.account.as_str())
            .bind(&*attempt.origin.site)
            .bind(&*attempt.origin.device)
            .bind(attempt.address.to_string())
            .bind(boot)
            .bind(signed(*at_ns)?)
            .execute(conn)
            .await?;
        }
        LoginChange::Failed { id, at_ns } => {
            sqlx::query("UPDATE login_attempts SET state = 'failed', at_ns = $1 WHERE id = $2")
                .bind(signed(*at_ns)?)
                .bind(signed(*id)?)
                .execute(conn)
                .await?;
        }
        LoginChange::Succeeded { id, attempt } => {
            forget(conn, *id).await?;
            sqlx::query(
                "UPDATE login_attempts SET state = 'cleared' \
                 WHERE account = $1 AND realm = $2 AND site = $3 AND device = $4 AND state = 'failed'",
            )
            .bind(attempt.account.as_str())
            .bind(&*attempt.realm)
            .bind(&*attempt.origin.site)
            .bind(&*attempt.origin.device)
            .execute(conn)
            .await?;
        }
        LoginChange::Withdrawn { id } => forget(conn, *id).await?,
        LoginChange::Locked { lock, lasts_ns } => {
            let [kind, realm, account, site, device, address] = lock_columns(&lock.of);
            sqlx::query(
                "INSERT INTO lockouts (kind, realm, account, site, device, address, boot, until_ns, lasts_ns, since) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
                 ON CONFLICT (kind, realm, account, site, device, address) DO UPDATE \
                 SET boot = excluded.boot, until_ns = excluded.until_ns, lasts_ns = excluded.lasts_ns, \
                 since = excluded.since",
            )
            .bind(kind)
            .bind(realm)
            .bind(account)
            .bind(site)
            .bind(device)
            .bind(address)
            .bind(boot)
            .bind(signed(lock.until_ns)?)
            .bind(signed(*lasts_ns)?)
            .bind(format!("{:.0}", jiff::Timestamp::now()))
            .execute(conn)
            .await?;
        }
        LoginChange::Lifted(lift) => {
            lift_rows(conn, lift).await?;
        }
        LoginChange::Purge { attempts_ns, now_ns } => {
            sqlx::query("DELETE FROM login_attempts WHERE boot = $1 AND at_ns < $2 AND state <> 'pending'")
                .bind(boot)
                .bind(signed(*attempts_ns)?)
                .execute(&mut *conn)
                .await?;
            sqlx::query("DELETE FROM lockouts WHERE boot = $1 AND until_ns <= $2")
                .bind(boot)
                .bind(signed(*now_ns)?)
                .execute(conn)
                .await?;
        }
    }
    Ok(())
}

async fn forget(conn: &mut SqliteConnection, id: u64) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM login_attempts WHERE id = $1").bind(signed(id)?).execute(conn).await?;
    Ok(())
}

/// Takes back what an operator lifts; what is pending stays. Says how many lockouts and attempts that were. Attempts go on
/// counting for what is not lifted: those at an account for its device, those of a device for their accounts.
async fn lift_rows(conn: &mut SqliteConnection, lift: &Lift) -> sqlx::Result<(u64, u64)> {
    let [realm, account, site, device] = lift.columns();
    let lockouts = match lift {
        Lift::Account { .. } => {
            "DELETE FROM lockouts WHERE kind LIKE 'account%' AND account = $2 AND ($1 IS NULL OR realm = $1) \
             AND ($3 IS NULL OR site = $3) AND $4 IS NULL"
        }
        Lift::Device { .. } => {
            "DELETE FROM lockouts WHERE kind = 'device' AND site = $3 AND device = $4 AND $1 IS NULL AND $2 IS NULL"
        }
        Lift::Site { .. } => {
            "DELETE FROM lockouts WHERE kind = 'site' AND site = $3 AND $1 IS NULL AND $2 IS NULL AND $4 IS NULL"
        }
    };
    let done = sqlx::query(lockouts).bind(realm).bind(account).bind(site).bind(device).execute(&mut *conn).await?;
    let removed = done.rows_affected();
    if !matches!(lift, Lift::Account { .. }) {
        return Ok((removed, 0));
    }
    let failures = sqlx::query(
        "UPDATE login_attempts SET state = 'cleared' WHERE state = 'failed' AND account = $2 \
         AND ($1 IS NULL OR realm = $1) AND ($3 IS NULL OR site = $3)",
    );
    let done = failures.bind(realm).bind(account).bind(site).execute(conn).await?;
    Ok((removed, done.rows_affected()))
}

/// # Logins
impl Store {
    /// Writes all of it down, or nothing.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Busy`].
    pub async fn login_write(&self, boot: &str, changes: &[LoginChange]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        for change in changes {
            write(&mut transaction, boot, change).await.map_err(|e| self.sql(e))?;
        }
        transaction.commit().await.map_err(|e| self.sql(e))
    }

    /// What the guard remembers from before, for a gateway that starts at `now_ns` of this boot. Attempts that were pending
    /// failed; those of another boot, and its lockouts, count from now.
    ///
    /// # Errors
    /// Those of every reading call, and [`StoreError::Io`].
    pub async fn login_load(&self, boot: &str, now_ns: u64) -> Result<LoginMemory, StoreError> {
        let mut transaction = self.begin().await?;
        let memory = load(&mut transaction, boot, now_ns).await.map_err(|e| self.sql(e))?;
        transaction.commit().await.map_err(|e| self.sql(e))?;
        Ok(memory)
    }

    /// Every lockout that is in force at `now_ns` of this boot.
    ///
    /// # Errors
    /// Those of every reading call.
    pub async fn lockout_list(&self, boot: &str, now_ns: u64) -> Result<Vec<LockoutRow>, StoreError> {
        let mut transaction = self.begin().await?;
        let rows = lock_rows(&mut transaction).await.map_err(|e| self.sql(e))?;
        let shown = rows.into_iter().map(|(columns, of_boot, until_ns, _, since)| {
            let remaining_s = (of_boot == boot).then(|| until_ns.saturating_sub(now_ns).div_ceil(1_000_000_000));
            let [kind, realm, account, site, device, address] = columns;
            LockoutRow { kind, realm, account, site, device, address, since, remaining_s }
        });
        Ok(shown.filter(|row| row.remaining_s != Some(0)).collect())
    }

    /// Forgets failures and lockouts for an operator; what is in flight stays. A gateway that runs does the same within a
    /// second.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is nothing to lift.
    pub async fn lockout_lift(&self, actor: &str, lift: Lift) -> Result<Lockout, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let (lockouts, failures) = lift_rows(edit.conn(), &lift).await.map_err(|e| self.sql(e))?;
        let lifted = Lockout { lifted: lift, lockouts, failures };
        if lockouts == 0 && failures == 0 {
            let name = EntryName::Lockout(lifted.lifted.name());
            return Err(StoreError::NotFound { kind: name.kind(), name: name.to_string(), nearest: None });
        }
        edit.journal_entries(Verb::Remove, Some(Entry::Lockout(lifted.clone())), None).await?;
        edit.commit().await?;
        Ok(lifted)
    }
}

type LockRow = (Columns, String, u64, u64, String);

async fn lock_rows(conn: &mut SqliteConnection) -> sqlx::Result<Vec<LockRow>> {
    type Row = (String, String, String, String, String, String, String, i64, i64, String);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT kind, realm, account, site, device, address, boot, until_ns, lasts_ns, since FROM lockouts \
         ORDER BY kind, realm, account, site, device, address",
    )
    .fetch_all(conn)
    .await?;
    let read = |(kind, realm, account, site, device, address, boot, until_ns, lasts_ns, since): Row| {
        Ok(([kind, realm, account, site, device, address], boot, number(until_ns)?, number(lasts_ns)?, since))
    };
    rows.into_iter().map(read).collect()
}

async fn load(conn: &mut SqliteConnection, boot: &str, now_ns: u64) -> sqlx::Result<LoginMemory> {
    let now = signed(now_ns)?;
    // Nobody knows when the backend saw what was in flight, nor how long another boot is ago.
    sqlx::query("UPDATE login_attempts SET at_ns = $1, boot = $2 WHERE boot <> $2 OR state = 'pending' OR at_ns > $1")
        .bind(now)
        .bind(boot)
        .execute(&mut *conn)
        .await?;
    sqlx::query("UPDATE login_attempts SET state = 'failed' WHERE state = 'pending'").execute(&mut *conn).await?;
    sqlx::query("UPDATE lockouts SET until_ns = $1 + lasts_ns, boot = $2 WHERE boot <> $2 OR until_ns > $1 + lasts_ns")
        .bind(now)
        .bind(boot)
        .execute(&mut *conn)
        .await?;
    type Row = (i64, String, String, String, String, String, i64, String);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, realm, account, site, device, address, at_ns, state FROM login_attempts ORDER BY at_ns, id",
    )
    .fetch_all(&mut *conn)
    .await?;
    let mut memory = LoginMemory { next: 1, ..LoginMemory::default() };
    for (id, realm, account, site, device, address, at_ns, state) in rows {
        let account = AccountName::restored(&account).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        let origin = Origin { site: site.into(), device: device.into() };
        let attempt = Attempt { realm: realm.into(), account, origin, address: parsed(&address)? };
        memory.next = memory.next.max(number(id)?.saturating_add(1));
        memory.failures.push((number(at_ns)?, attempt, state != "cleared"));
    }
    for (columns, _, until_ns, _, _) in lock_rows(conn).await? {
        memory.locks.push(Lock { of: locked(columns)?, until_ns });
    }
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use policy::login::Spelling;

    use super::*;

    fn attempt(account: &str, site: &str) -> Attempt {
        Attempt {
            realm: "ehr".into(),
            account: AccountName::new(account, Spelling::default()).unwrap(),
            origin: Origin { site: site.into(), device: "d".into() },
            address: IpAddr::from([10, 0, 0, 1]),
        }
    }

    fn reserved(id: u64, account: &str, at_ns: u64) -> LoginChange {
        LoginChange::Reserved { id, attempt: attempt(account, "s"), at_ns }
    }

    async fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("sekisho.db")).await.unwrap();
        (folder, store)
    }

    #[tokio::test]
    async fn what_nobody_settled_failed() {
        let (_folder, store) = store().await;
        let changes = [
            reserved(7, "a", 10),
            reserved(8, "b", 20),
            LoginChange::Failed { id: 8, at_ns: 25 },
            reserved(9, "c", 30),
            LoginChange::Withdrawn { id: 9 },
        ];
        store.login_write("boot", &changes).await.unwrap();
        let memory = store.login_load("boot", 100).await.unwrap();
        let found: Vec<_> =
            memory.failures.iter().map(|(at, of, counts)| (*at, of.account.as_str(), *counts)).collect();
        assert_eq!(found, [(25, "b", true), (100, "a", true)]);
        assert_eq!(memory.next, 9);
        let again = store.login_load("boot", 200).await.unwrap();
        assert_eq!(again.failures.len(), 2, "and is not younger at every start: {again:?}");
        assert_eq!(again.failures[1].0, 100);
        let other = store.login_load("other", 5).await.unwrap();
        assert!(other.failures.iter().all(|(at, _, _)| *at == 5), "another boot: {other:?}");
    }

    #[tokio::test]
    async fn a_success_takes_back_what_failed_before_it() {
        let (_folder, store) = store().await;
        let mut elsewhere = attempt("a", "t");
        elsewhere.origin.device = "d".into();
        let changes = [
            reserved(1, "a", 1),
            LoginChange::Failed { id: 1, at_ns: 2 },
            LoginChange::Reserved { id: 2, attempt: elsewhere, at_ns: 3 },
            LoginChange::Failed { id: 2, at_ns: 3 },
            reserved(3, "a", 4),
            LoginChange::Succeeded { id: 3, attempt: attempt("a", "s") },
        ];
        store.login_write("boot", &changes).await.unwrap();
        let memory = store.login_load("boot", 9).await.unwrap();
        let found: Vec<_> = memory.failures.iter().map(|(at, of, counts)| (*at, &*of.origin.site, *counts)).collect();
        assert_eq!(found, [(2, "s", false), (3, "t", true)]);
        store.login_write("boot", &[LoginChange::Purge { attempts_ns: 3, now_ns: 3 }]).await.unwrap();
        assert_eq!(store.login_load("boot", 9).await.unwrap().failures.len(), 1);
    }

    #[tokio::test]
    async fn lockouts_are_kept_listed_and_lifted() {
        let (_folder, store) = store().await;
        let account = attempt("a", "s").account;
        let all = [
            Locked::Account { realm: "ehr".into(), account: account.clone(), site: None, device: None },
            Locked::Account { realm: "ehr".into(), account: account.clone(), site: Some("s".into()), device: None },
            Locked::Account { realm: "ehr".into(), account, site: Some("s".into()), device: Some("d".into()) },
            Locked::Device(Origin { site: "s".into(), device: "d".into() }),
            Locked::Site("s".into()),
            Locked::Address(IpAddr::from([10, 0, 0, 1])),
        ];
        let lock = |of: &Locked| LoginChange::Locked {
            lock: Lock { of: of.clone(), until_ns: 5_000_000_000 },
            lasts_ns: 4_000_000_000,
        };
        let changes: Vec<_> = all.iter().map(lock).collect();
        store.login_write("boot", &changes).await.unwrap();
        store.login_write("boot", &changes).await.unwrap();
        let memory = store.login_load("boot", 2_000_000_000).await.unwrap();
        let mut found: Vec<_> = memory.locks.into_iter().map(|lock| lock.of).collect();
        let mut wanted = all.to_vec();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted);
        let listed = store.lockout_list("boot", 2_000_000_000).await.unwrap();
        assert_eq!((listed.len(), listed[0].remaining_s), (6, Some(3)));
        assert_eq!(store.lockout_list("boot", 5_000_000_000).await.unwrap(), []);
        assert_eq!(store.lockout_list("other", 0).await.unwrap()[0].remaining_s, None);

        let lift =
            |site: Option<&str>| Lift::Account { realm: None, account: "a".to_owned(), site: site.map(str::to_owned) };
        assert!(store.lockout_lift("t", lift(Some("elsewhere"))).await.is_err());
        assert_eq!(store.lockout_lift("t", lift(Some("s"))).await.unwrap().lockouts, 2);
        assert_eq!(store.lockout_lift("t", lift(None)).await.unwrap().lockouts, 1);
        let device = Lift::Device { site: "s".to_owned(), device: "d".to_owned() };
        assert_eq!(store.lockout_lift("t", device).await.unwrap().lockouts, 1);
        assert_eq!(store.lockout_lift("t", Lift::Site { site: "s".to_owned() }).await.unwrap().lockouts, 1);
        assert_eq!(store.lockout_list("boot", 0).await.unwrap().len(), 1);
        let change = store.change(store.sequence().await.unwrap()).await.unwrap().unwrap();
        assert_eq!(change.entry().unwrap().to_string(), "s");

        // Of another boot, a lockout begins anew: nobody knows how long ago that is.
        let memory = store.login_load("other", 7).await.unwrap();
        assert_eq!(memory.locks[0].until_ns, 4_000_000_007);
        assert_eq!(store.login_load("other", 9).await.unwrap().locks[0].until_ns, 4_000_000_007);
    }
}
