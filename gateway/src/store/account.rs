//! The gateway's own accounts (R8, R9): hashes of passwords, sealed secrets, hashes of recovery codes. Changes are journalled as
//! [`Account`], which says that something changed and nothing of what it is.

use policy::account::recovery::CodeHash;
use policy::login::{AccountName, Spelling};
use policy::{SiteName, UserName};
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use super::change::last;
use super::edit::Edit;
use super::table::{number, parsed, signed};
use super::{DisplayName, Entry, EntryName, Store, StoreError, User, UserId, Verb};

/// An account, as journal and people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The site.
    pub site: SiteName,
    /// The user.
    pub name: UserName,
    /// When the password was set: RFC 3339, UTC.
    pub password_set: String,
    /// It must be changed at its first use.
    pub must_change: bool,
    /// There is an authenticator.
    pub totp: bool,
    /// Recovery codes that are left.
    pub recovery_codes: u64,
    /// What changed: `password`, `totp`, `totp-removed`, `recovery-codes` or `recovery-code-used`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<String>,
    /// How the person was identified for whom somebody else changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identified_by: Option<String>,
}

impl Account {
    /// Site and user.
    #[must_use]
    pub fn id(&self) -> UserId {
        UserId { site: self.site.clone(), user: self.name.clone() }
    }
}

/// What a login is checked against.
#[derive(Clone)]
pub struct Credential {
    /// Whose it is.
    pub user: UserId,
    /// What people call the user.
    pub display_name: DisplayName,
    /// The user and the site are active.
    pub enabled: bool,
    /// The hash of the password.
    pub password: String,
    /// When it was set, seconds since 1970.
    pub changed_s: u64,
    /// Somebody else set it.
    pub must_change: bool,
    /// It is good only beside a second factor.
    pub is_short: bool,
    /// The authenticator.
    pub totp: Option<SealedTotp>,
    /// Hashes of the passwords before, latest first.
    pub history: Vec<String>,
    /// Hashes of the recovery codes that are left.
    pub recovery: Vec<CodeHash>,
    /// Number of the registry's last change when this was read.
    pub as_of: u64,
}

/// An authenticator's secret as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedTotp {
    /// The secret, sealed.
    pub sealed: String,
    /// `SHA1` or `SHA256`.
    pub algorithm: String,
    /// The last time step of which a code was accepted.
    pub last: Option<u64>,
}

/// A password to be kept.
pub struct NewHash {
    /// Its hash.
    pub password: String,
    /// The hash that it takes the place of, where that must not have changed meanwhile.
    pub instead_of: Option<String>,
    /// Somebody else set it.
    pub must_change: bool,
    /// It is good only beside a second factor.
    pub is_short: bool,
    /// When, seconds since 1970.
    pub at_s: u64,
    /// How many of those before are remembered.
    pub remember: u32,
    /// How the person was identified.
    pub identified_by: Option<String>,
}

type Row = (String, i64, i64, i64, Option<String>, Option<String>, Option<i64>);

struct Kept {
    password: String,
    changed_s: u64,
    must_change: bool,
    is_short: bool,
    totp: Option<SealedTotp>,
}

async fn kept(conn: &mut SqliteConnection, id: &UserId) -> sqlx::Result<Option<Kept>> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT password, changed_s, must_change, is_short, totp, totp_algorithm, totp_last FROM accounts \
         WHERE site = $1 AND name = $2",
    )
    .bind(id.site.as_str())
    .bind(id.user.as_str())
    .fetch_optional(conn)
    .await?;
    row.map(|(password, changed_s, must_change, is_short, totp, algorithm, last)| {
        let totp = match (totp, algorithm) {
            (Some(sealed), Some(algorithm)) => {
                Some(SealedTotp { sealed, algorithm, last: last.map(number).transpose()? })
            }
            (None, None) => None,
            _ => return Err(sqlx::Error::Decode("an authenticator is half there".into())),
        };
        Ok(Kept {
            password,
            changed_s: number(changed_s)?,
            must_change: must_change != 0,
            is_short: is_short != 0,
            totp,
        })
    })
    .transpose()
}

async fn history(conn: &mut SqliteConnection, id: &UserId) -> sqlx::Result<Vec<String>> {
    let rows: Vec<(String,)> = sqlx::query_as(
        "SELECT password FROM account_passwords WHERE site = $1 AND name = $2 ORDER BY until_s DESC, rowid DESC",
    )
    .bind(id.site.as_str())
    .bind(id.user.as_str())
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|(password,)| password).collect())
}

async fn recovery(conn: &mut SqliteConnection, id: &UserId) -> sqlx::Result<Vec<CodeHash>> {
    let rows: Vec<(String,)> = sqlx::query_as("SELECT hash FROM account_recovery WHERE site = $1 AND name = $2")
        .bind(id.site.as_str())
        .bind(id.user.as_str())
        .fetch_all(conn)
        .await?;
    let hash = |(text,): (String,)| {
        super::hash(&text).map(CodeHash).ok_or_else(|| sqlx::Error::Decode("a recovery code's hash is none".into()))
    };
    rows.into_iter().map(hash).collect()
}

async fn told(conn: &mut SqliteConnection, id: &UserId) -> sqlx::Result<Option<Account>> {
    let Some(kept) = kept(conn, id).await? else { return Ok(None) };
    let at = jiff::Timestamp::from_second(i64::try_from(kept.changed_s).unwrap_or_default()).unwrap_or_default();
    Ok(Some(Account {
        site: id.site.clone(),
        name: id.user.clone(),
        password_set: format!("{at:.0}"),
        must_change: kept.must_change,
        totp: kept.totp.is_some(),
        recovery_codes: recovery(conn, id).await?.len() as u64,
        changed: None,
        identified_by: None,
    }))
}

impl Edit<'_> {
    async fn account(&mut self, id: &UserId) -> Result<Account, StoreError> {
        let store = self.store();
        let found = told(self.conn(), id).await.map_err(|e| store.sql(e))?;
        found.ok_or_else(|| StoreError::NotFound { kind: super::Kind::Account, name: id.to_string(), nearest: None })
    }

    /// Journals what became of an account, and says it.
    async fn account_changed(
        &mut self,
        verb: Verb,
        before: Option<Account>,
        id: &UserId,
        changed: &str,
        identified_by: Option<String>,
    ) -> Result<Account, StoreError> {
        let now = self.account(id).await?;
        let after = Account { changed: Some(changed.to_owned()), identified_by, ..now };
        self.journal_entries(verb, before.map(Entry::Account), Some(Entry::Account(after.clone()))).await?;
        Ok(after)
    }

    /// Removes what a user can log in by.
    pub(super) async fn close_account(&mut self, id: &UserId) -> Result<Option<EntryName>, StoreError> {
        let store = self.store();
        let Some(before) = told(self.conn(), id).await.map_err(|e| store.sql(e))? else { return Ok(None) };
        for statement in [
            "DELETE FROM account_recovery WHERE site = $1 AND name = $2",
            "DELETE FROM account_passwords WHERE site = $1 AND name = $2",
            "DELETE FROM accounts WHERE site = $1 AND name = $2",
        ] {
            let query = sqlx::query(statement).bind(id.site.as_str()).bind(id.user.as_str());
            query.execute(self.conn()).await.map_err(|e| store.sql(e))?;
        }
        self.journal_entries(Verb::Remove, Some(Entry::Account(before)), None).await?;
        Ok(Some(EntryName::Account(id.clone())))
    }
}

/// # Accounts
impl Store {
    /// An account, as people see it; none where the user has none.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such user.
    pub async fn account_show(&self, id: &UserId) -> Result<Option<Account>, StoreError> {
        self.user_show(id).await?;
        let mut transaction = self.begin().await?;
        told(&mut transaction, id).await.map_err(|e| self.sql(e))
    }

    /// What a login of `account` at `site` is checked against; none where there is none.
    ///
    /// # Errors
    /// Those of every reading call.
    pub async fn account_find(&self, site: &SiteName, account: &AccountName) -> Result<Option<Credential>, StoreError> {
        let mut transaction = self.begin().await?;
        find(&mut transaction, site, account).await.map_err(|e| self.sql(e))
    }

    /// Gives an account its password; makes the account where the user has none.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such user; [`StoreError::Spelling`] if another user's account has the same one
    /// spelling; [`StoreError::Changed`] if the password is another than `instead_of` by now.
    pub async fn account_password(&self, actor: &str, id: &UserId, new: NewHash) -> Result<Account, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        edit.find::<User>(id).await?;
        let before = told(edit.conn(), id).await.map_err(|e| self.sql(e))?;
        let old = kept(edit.conn(), id).await.map_err(|e| self.sql(e))?.map(|kept| kept.password);
        if new.instead_of.is_some() && new.instead_of != old {
            return Err(StoreError::Changed(EntryName::Account(id.clone())));
        }
        let account = spelling(id)?;
        let taken: Option<(String,)> =
            sqlx::query_as("SELECT name FROM accounts WHERE site = $1 AND account = $2 AND name <> $3")
                .bind(id.site.as_str())
                .bind(account.as_str())
                .bind(id.user.as_str())
                .fetch_optional(edit.conn())
                .await
                .map_err(|e| self.sql(e))?;
        if let Some((other,)) = taken {
            return Err(StoreError::Spelling { user: id.clone(), other });
        }
        write(edit.conn(), id, &account, &new, old).await.map_err(|e| self.sql(e))?;
        let verb = if before.is_some() { Verb::Set } else { Verb::Add };
        let after = edit.account_changed(verb, before, id, "password", new.identified_by).await?;
        edit.commit().await?;
        Ok(after)
    }

    /// Writes the same password's hash anew, by other parameters. Nothing is journalled: nothing has changed.
    ///
    /// # Errors
    /// Those of every mutating call.
    pub async fn account_rehash(&self, id: &UserId, old: &str, new: &str) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query("UPDATE accounts SET password = $1 WHERE site = $2 AND name = $3 AND password = $4")
            .bind(new)
            .bind(id.site.as_str())
            .bind(id.user.as_str())
            .bind(old)
            .execute(&mut *transaction)
            .await
            .map_err(|e| self.sql(e))?;
        transaction.commit().await.map_err(|e| self.sql(e))
    }

    /// Gives an account an authenticator, or takes it away together with its recovery codes.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such account.
    pub async fn account_totp(
        &self,
        actor: &str,
        id: &UserId,
        totp: Option<SealedTotp>,
        identified_by: Option<String>,
    ) -> Result<Account, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let before = edit.account(id).await?;
        let changed = if totp.is_some() { "totp" } else { "totp-removed" };
        if totp.is_none() {
            drop_codes(edit.conn(), id).await.map_err(|e| self.sql(e))?;
        }
        let (sealed, algorithm, last) =
            totp.map_or((None, None, None), |t| (Some(t.sealed), Some(t.algorithm), t.last));
        sqlx::query("UPDATE accounts SET totp = $1, totp_algorithm = $2, totp_last = $3 WHERE site = $4 AND name = $5")
            .bind(sealed)
            .bind(algorithm)
            .bind(last.map(signed).transpose().map_err(|e| self.sql(e))?)
            .bind(id.site.as_str())
            .bind(id.user.as_str())
            .execute(edit.conn())
            .await
            .map_err(|e| self.sql(e))?;
        let after = edit.account_changed(Verb::Set, Some(before), id, changed, identified_by).await?;
        edit.commit().await?;
        Ok(after)
    }

    /// Takes the code of a time step, if none of it or of a later one has been taken: whoever comes second with the same code, by
    /// whatever process, is told no.
    ///
    /// # Errors
    /// Those of every mutating call.
    pub async fn account_totp_step(&self, id: &UserId, sealed: &str, step: u64) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query(
            "UPDATE accounts SET totp_last = $1 WHERE site = $2 AND name = $3 AND totp = $4 \
             AND (totp_last IS NULL OR totp_last < $1)",
        )
        .bind(signed(step).map_err(|e| self.sql(e))?)
        .bind(id.site.as_str())
        .bind(id.user.as_str())
        .bind(sealed)
        .execute(&mut *transaction)
        .await
        .map_err(|e| self.sql(e))?;
        transaction.commit().await.map_err(|e| self.sql(e))?;
        Ok(done.rows_affected() == 1)
    }

    /// Gives an account these recovery codes, in place of those before.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such account.
    pub async fn account_recovery(
        &self,
        actor: &str,
        id: &UserId,
        codes: &[CodeHash],
        identified_by: Option<String>,
    ) -> Result<Account, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let before = edit.account(id).await?;
        drop_codes(edit.conn(), id).await.map_err(|e| self.sql(e))?;
        for code in codes {
            sqlx::query("INSERT INTO account_recovery (site, name, hash) VALUES ($1, $2, $3)")
                .bind(id.site.as_str())
                .bind(id.user.as_str())
                .bind(certs::hex(&code.0))
                .execute(edit.conn())
                .await
                .map_err(|e| self.sql(e))?;
        }
        let after = edit.account_changed(Verb::Set, Some(before), id, "recovery-codes", identified_by).await?;
        edit.commit().await?;
        Ok(after)
    }

    /// Uses a recovery code up. False if it is there no more.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such account.
    pub async fn account_recovery_use(&self, actor: &str, id: &UserId, code: &CodeHash) -> Result<bool, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let before = edit.account(id).await?;
        let done = sqlx::query("DELETE FROM account_recovery WHERE site = $1 AND name = $2 AND hash = $3")
            .bind(id.site.as_str())
            .bind(id.user.as_str())
            .bind(certs::hex(&code.0))
            .execute(edit.conn())
            .await
            .map_err(|e| self.sql(e))?;
        if done.rows_affected() != 1 {
            return Ok(false);
        }
        edit.account_changed(Verb::Use, Some(before), id, "recovery-code-used", None).await?;
        edit.commit().await?;
        Ok(true)
    }
}

/// The one spelling of a user's account.
fn spelling(id: &UserId) -> Result<AccountName, StoreError> {
    AccountName::new(id.user.as_str(), Spelling::default()).map_err(|_| StoreError::NoAccountName(id.clone()))
}

async fn drop_codes(conn: &mut SqliteConnection, id: &UserId) -> sqlx::Result<()> {
    let query = sqlx::query("DELETE FROM account_recovery WHERE site = $1 AND name = $2");
    query.bind(id.site.as_str()).bind(id.user.as_str()).execute(conn).await.map(drop)
}

async fn write(
    conn: &mut SqliteConnection,
    id: &UserId,
    account: &AccountName,
    new: &NewHash,
    old: Option<String>,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO accounts (site, name, account, password, changed_s, must_change, is_short) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (site, name) DO UPDATE SET account = excluded.account, \
         password = excluded.password, changed_s = excluded.changed_s, must_change = excluded.must_change, \
         is_short = excluded.is_short",
    )
    .bind(id.site.as_str())
    .bind(id.user.as_str())
    .bind(account.as_str())
    .bind(&new.password)
    .bind(signed(new.at_s)?)
    .bind(i64::from(new.must_change))
    .bind(i64::from(new.is_short))
    .execute(&mut *conn)
    .await?;
    if let Some(old) = old {
        sqlx::query(
            "INSERT INTO account_passwords (site, name, password, until_s) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (site, name, password) DO NOTHING",
        )
        .bind(id.site.as_str())
        .bind(id.user.as_str())
        .bind(old)
        .bind(signed(new.at_s)?)
        .execute(&mut *conn)
        .await?;
    }
    let remember = usize::try_from(new.remember).unwrap_or(usize::MAX);
    for forgotten in history(conn, id).await?.into_iter().skip(remember) {
        sqlx::query("DELETE FROM account_passwords WHERE site = $1 AND name = $2 AND password = $3")
            .bind(id.site.as_str())
            .bind(id.user.as_str())
            .bind(forgotten)
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

async fn find(conn: &mut SqliteConnection, site: &SiteName, account: &AccountName) -> sqlx::Result<Option<Credential>> {
    let row: Option<(String, String, String, String)> = sqlx::query_as(
        "SELECT a.name, u.display_name, u.status, s.status FROM accounts a \
         JOIN users u ON u.site = a.site AND u.name = a.name JOIN sites s ON s.name = a.site \
         WHERE a.site = $1 AND a.account = $2",
    )
    .bind(site.as_str())
    .bind(account.as_str())
    .fetch_optional(&mut *conn)
    .await?;
    // An account that is not there takes the same way through the file as one that is.
    let name = row.as_ref().map_or("-", |(name, ..)| name);
    let user = UserId { site: site.clone(), user: parsed(name)? };
    let (kept, history, recovery) =
        (kept(conn, &user).await?, history(conn, &user).await?, recovery(conn, &user).await?);
    let as_of = last(conn).await?;
    let (Some((_, display_name, of_user, of_site)), Some(kept)) = (row, kept) else { return Ok(None) };
    Ok(Some(Credential {
        user,
        display_name: parsed(&display_name)?,
        enabled: of_user == "active" && of_site == "active",
        password: kept.password,
        changed_s: kept.changed_s,
        must_change: kept.must_change,
        is_short: kept.is_short,
        totp: kept.totp,
        history,
        recovery,
        as_of,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{NewUser, hash};

    async fn store() -> (tempfile::TempDir, Store, UserId) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("s.db")).await.unwrap();
        store.site_add("a", "s".parse().unwrap(), DisplayName::default()).await.unwrap();
        let id = UserId { site: "s".parse().unwrap(), user: "Tanaka".parse().unwrap() };
        let new = NewUser { id: id.clone(), display_name: DisplayName::default(), roles: Vec::new() };
        store.user_add("a", new).await.unwrap();
        (folder, store, id)
    }

    fn new(password: &str, instead_of: Option<&str>) -> NewHash {
        NewHash {
            password: password.to_owned(),
            instead_of: instead_of.map(str::to_owned),
            must_change: false,
            is_short: false,
            at_s: 7,
            remember: 2,
            identified_by: Some("in person".to_owned()),
        }
    }

    fn name(text: &str) -> AccountName {
        AccountName::new(text, Spelling::default()).unwrap()
    }

    #[tokio::test]
    async fn a_password_is_found_under_every_spelling_and_remembered_for_a_while() {
        let (_folder, store, id) = store().await;
        assert!(store.account_find(&id.site, &name("tanaka")).await.unwrap().is_none());
        for (password, before) in [("1", None), ("2", Some("1")), ("3", Some("2")), ("4", Some("3"))] {
            store.account_password("a", &id, new(password, before)).await.unwrap();
        }
        let stale = store.account_password("a", &id, new("5", Some("3"))).await;
        assert!(matches!(stale, Err(StoreError::Changed(_))));
        let found = store.account_find(&id.site, &name("ＴＡＮＡＫＡ")).await.unwrap().unwrap();
        assert_eq!((found.user.clone(), &*found.password, found.changed_s), (id.clone(), "4", 7));
        assert_eq!(found.history, ["3", "2"]);
        store.account_rehash(&id, "4", "4b").await.unwrap();
        store.account_rehash(&id, "4", "5").await.unwrap();
        assert_eq!(store.account_find(&id.site, &name("tanaka")).await.unwrap().unwrap().password, "4b");
        // Another user whose name is the same but for its case has no account.
        let other = UserId { user: "TANAKA".parse().unwrap(), ..id.clone() };
        let added = NewUser { id: other.clone(), display_name: DisplayName::default(), roles: Vec::new() };
        store.user_add("a", added).await.unwrap();
        let taken = store.account_password("a", &other, new("1", None)).await;
        assert!(matches!(taken, Err(StoreError::Spelling { .. })));
        store.user_suspend("a", &id).await.unwrap();
        assert!(!store.account_find(&id.site, &name("tanaka")).await.unwrap().unwrap().enabled);
        let removed = store.user_remove("a", &id, false).await.unwrap();
        assert!(removed.contains(&EntryName::Account(id.clone())));
        assert!(store.account_find(&id.site, &name("tanaka")).await.unwrap().is_none());
        let journal = serde_json::to_string(&store.changes_after(0, 100).await.unwrap()).unwrap();
        assert!(journal.contains("in person") && !journal.contains("4b"), "{journal}");
    }

    #[tokio::test]
    async fn a_code_is_taken_once() {
        let (_folder, store, id) = store().await;
        let sealed = SealedTotp { sealed: "x".to_owned(), algorithm: "SHA1".to_owned(), last: Some(5) };
        assert!(store.account_totp("a", &id, Some(sealed.clone()), None).await.is_err(), "there is no account");
        store.account_password("a", &id, new("1", None)).await.unwrap();
        store.account_totp("a", &id, Some(sealed), None).await.unwrap();
        let mut taken = Vec::new();
        for step in [5, 6, 6, 4, 7] {
            taken.push(store.account_totp_step(&id, "x", step).await.unwrap());
        }
        assert_eq!(taken, [false, true, false, false, true]);
        assert!(!store.account_totp_step(&id, "y", 9).await.unwrap(), "of another authenticator");
        let codes = [CodeHash([1; 32]), CodeHash([2; 32])];
        assert_eq!(store.account_recovery("a", &id, &codes, None).await.unwrap().recovery_codes, 2);
        assert!(store.account_recovery_use("a", &id, &codes[0]).await.unwrap());
        assert!(!store.account_recovery_use("a", &id, &codes[0]).await.unwrap());
        assert_eq!(store.account_show(&id).await.unwrap().unwrap().recovery_codes, 1);
        store.account_totp("a", &id, None, None).await.unwrap();
        let account = store.account_show(&id).await.unwrap().unwrap();
        assert_eq!((account.totp, account.recovery_codes), (false, 0));
        assert!(hash(&certs::hex(&[0; 32])).is_some());
    }
}
