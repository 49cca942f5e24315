//! Who may act for whom (代行, R23): an administrator's grant, for users of one site.

use policy::{SiteName, UserName};
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use super::edit::Edit;
use super::table::parsed;
use super::{Edited, Entry, EntryName, Store, StoreError, User, UserId, Verb};

/// Leave for one user to act for another of the same site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// The site.
    pub site: SiteName,
    /// Who may act.
    pub user: UserName,
    /// For whom.
    pub acts_for: UserName,
    /// When it ends, seconds since 1970; none: when it is removed.
    pub until_s: Option<i64>,
    /// Since when: RFC 3339, UTC.
    pub added_at: String,
}

impl Delegation {
    /// Who may act.
    #[must_use]
    pub fn user_id(&self) -> UserId {
        UserId { site: self.site.clone(), user: self.user.clone() }
    }

    /// Its name: who may act, and for whom.
    #[must_use]
    pub fn name(&self) -> String {
        name(&self.site, &self.user, &self.acts_for)
    }
}

fn name(site: &SiteName, user: &UserName, acts_for: &UserName) -> String {
    format!("{site}/{user} for {acts_for}")
}

type Row = (String, String, String, Option<i64>, String);

fn from_row((site, user, acts_for, until_s, added_at): Row) -> sqlx::Result<Delegation> {
    Ok(Delegation { site: parsed(&site)?, user: parsed(&user)?, acts_for: parsed(&acts_for)?, until_s, added_at })
}

/// Every row, by site, who may act and for whom.
pub(super) async fn all(conn: &mut SqliteConnection) -> sqlx::Result<Vec<Delegation>> {
    let rows: Vec<Row> =
        sqlx::query_as("SELECT site, name, acts_for, until_s, added_at FROM delegations").fetch_all(conn).await?;
    let mut all = rows.into_iter().map(from_row).collect::<sqlx::Result<Vec<_>>>()?;
    all.sort_by(|a, b| (&a.site, &a.user, &a.acts_for).cmp(&(&b.site, &b.user, &b.acts_for)));
    Ok(all)
}

/// # Delegations
impl Store {
    /// Lets a user act for another of the same site, until a time where one is given; what was granted before is replaced.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such user; [`StoreError::ForOneself`].
    pub async fn delegation_add(
        &self,
        actor: &str,
        id: &UserId,
        acts_for: &UserName,
        until_s: Option<i64>,
    ) -> Result<Edited<Delegation>, StoreError> {
        if id.user == *acts_for {
            return Err(StoreError::ForOneself(id.clone()));
        }
        let mut edit = Edit::begin(self, actor).await?;
        edit.find::<User>(id).await?;
        edit.find::<User>(&UserId { site: id.site.clone(), user: acts_for.clone() }).await?;
        let known = all(edit.conn()).await.map_err(|e| self.sql(e))?;
        let before = known.into_iter().find(|known| known.user_id() == *id && known.acts_for == *acts_for);
        if let Some(before) = before.as_ref().filter(|before| before.until_s == until_s) {
            return Ok(Edited { entry: before.clone(), changed: false });
        }
        let after = Delegation {
            site: id.site.clone(),
            user: id.user.clone(),
            acts_for: acts_for.clone(),
            until_s,
            added_at: edit.time().to_owned(),
        };
        sqlx::query(
            "INSERT INTO delegations (site, name, acts_for, until_s, added_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (site, name, acts_for) DO UPDATE SET until_s = excluded.until_s, added_at = excluded.added_at",
        )
        .bind(after.site.as_str())
        .bind(after.user.as_str())
        .bind(after.acts_for.as_str())
        .bind(after.until_s)
        .bind(&after.added_at)
        .execute(edit.conn())
        .await
        .map_err(|e| self.sql(e))?;
        let verb = if before.is_some() { Verb::Set } else { Verb::Add };
        let before = before.map(Entry::Delegation);
        edit.journal_entries(verb, before, Some(Entry::Delegation(after.clone()))).await?;
        edit.commit().await?;
        Ok(Edited { entry: after, changed: true })
    }

    /// Every grant, or those of and for one user.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such user.
    pub async fn delegation_list(&self, id: Option<&UserId>) -> Result<Vec<Delegation>, StoreError> {
        if let Some(id) = id {
            self.user_show(id).await?;
        }
        let mut transaction = self.begin().await?;
        let mut all = all(&mut transaction).await.map_err(|e| self.sql(e))?;
        let is_of = |known: &Delegation, id: &UserId| {
            known.site == id.site && (known.user == id.user || known.acts_for == id.user)
        };
        all.retain(|known| id.is_none_or(|id| is_of(known, id)));
        Ok(all)
    }

    /// A user may act for another no longer; whoever does so at that moment stops.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if it was not granted.
    pub async fn delegation_remove(
        &self,
        actor: &str,
        id: &UserId,
        acts_for: &UserName,
    ) -> Result<EntryName, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        edit.find::<User>(id).await?;
        let removed = edit.undelegate(|known| known.user_id() == *id && known.acts_for == *acts_for).await?;
        let Some(removed) = removed.into_iter().next() else {
            let wanted = EntryName::Delegation(name(&id.site, &id.user, acts_for));
            return Err(StoreError::NotFound { kind: wanted.kind(), name: wanted.to_string(), nearest: None });
        };
        edit.commit().await?;
        Ok(removed)
    }
}

impl Edit<'_> {
    /// Removes the grants that are `wanted`.
    pub(super) async fn undelegate(
        &mut self,
        wanted: impl Fn(&Delegation) -> bool,
    ) -> Result<Vec<EntryName>, StoreError> {
        let store = self.store();
        let known = all(self.conn()).await.map_err(|e| store.sql(e))?;
        let mut removed = Vec::new();
        for one in known.into_iter().filter(|known| wanted(known)) {
            sqlx::query("DELETE FROM delegations WHERE site = $1 AND name = $2 AND acts_for = $3")
                .bind(one.site.as_str())
                .bind(one.user.as_str())
                .bind(one.acts_for.as_str())
                .execute(self.conn())
                .await
                .map_err(|e| store.sql(e))?;
            removed.push(EntryName::Delegation(one.name()));
            self.journal_entries(Verb::Remove, Some(Entry::Delegation(one)), None).await?;
        }
        Ok(removed)
    }

    /// Removes the grants of a user and those for that user.
    pub(super) async fn undelegate_user(&mut self, id: &UserId) -> Result<Vec<EntryName>, StoreError> {
        let is_of = |known: &Delegation| known.site == id.site && (known.user == id.user || known.acts_for == id.user);
        self.undelegate(is_of).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DisplayName, NewUser};

    fn id(user: &str) -> UserId {
        UserId { site: "s".parse().unwrap(), user: user.parse().unwrap() }
    }

    #[tokio::test]
    async fn a_grant_is_journalled_and_goes_with_either_user() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("sekisho.db")).await.unwrap();
        store.site_add("t", "s".parse().unwrap(), DisplayName::default()).await.unwrap();
        for user in ["a", "b", "c"] {
            let new = NewUser { id: id(user), display_name: DisplayName::default(), roles: Vec::new() };
            store.user_add("t", new).await.unwrap();
        }
        let before = store.sequence().await.unwrap();
        let (b, c): (UserName, UserName) = ("b".parse().unwrap(), "c".parse().unwrap());
        assert!(store.delegation_add("t", &id("a"), &b, None).await.unwrap().changed);
        assert!(!store.delegation_add("t", &id("a"), &b, None).await.unwrap().changed);
        assert!(store.delegation_add("t", &id("a"), &b, Some(7)).await.unwrap().changed);
        assert!(matches!(store.delegation_add("t", &id("b"), &b, None).await, Err(StoreError::ForOneself(_))));
        assert!(store.delegation_add("t", &id("b"), &"d".parse().unwrap(), None).await.is_err());
        assert!(store.delegation_remove("t", &id("b"), &c).await.is_err());
        store.delegation_add("t", &id("c"), &b, None).await.unwrap();
        assert_eq!(store.delegation_list(Some(&id("c"))).await.unwrap().len(), 1);
        assert_eq!(store.entries().await.unwrap().delegations.len(), 2);
        store.delegation_remove("t", &id("c"), &b).await.unwrap();
        let verbs: Vec<_> =
            store.changes_after(before, 10).await.unwrap().iter().map(|change| change.body.verb).collect();
        assert_eq!(verbs, [Verb::Add, Verb::Set, Verb::Add, Verb::Remove]);
        store.user_remove("t", &id("b"), false).await.unwrap();
        assert_eq!(store.delegation_list(None).await.unwrap(), []);
        store.delegation_add("t", &id("a"), &c, None).await.unwrap();
        store.site_remove("t", &"s".parse().unwrap(), true).await.unwrap();
    }
}
