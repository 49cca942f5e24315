//! Which user the holder of a certificate is (R1): an HPKI card proves a national qualification, not a place of work.

use certs::peers::Holder;
use policy::{SiteName, UserName};
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use super::edit::Edit;
use super::table::parsed;
use super::{Entry, EntryName, Store, StoreError, User, UserId, Verb};

/// A holder of certificates, and the user that they are. One holder is one user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserCertificate {
    /// SHA-256 of the issuer's name (DER), hexadecimal.
    pub issuer: String,
    /// The serialNumber in the certificates' subject.
    pub number: String,
    /// The site.
    pub site: SiteName,
    /// The user of the site.
    pub user: UserName,
    /// Since when: RFC 3339, UTC.
    pub added_at: String,
}

impl UserCertificate {
    /// The holder.
    #[must_use]
    pub fn holder(&self) -> Holder {
        // INVARIANT: 64 hexadecimal digits; a row of the store that has others is not read.
        Holder { issuer: hash(&self.issuer).unwrap_or_default(), number: self.number.clone() }
    }

    /// The user.
    #[must_use]
    pub fn user_id(&self) -> UserId {
        UserId { site: self.site.clone(), user: self.user.clone() }
    }

    /// Its name: the number, and the issuer that it counts at.
    #[must_use]
    pub fn name(&self) -> String {
        name(&self.issuer, &self.number)
    }
}

fn name(issuer: &str, number: &str) -> String {
    format!("{}@{issuer}", number.escape_debug())
}

type Row = (String, String, String, String, String);

/// Reads 64 hexadecimal digits, lower case.
#[must_use]
pub fn hash(text: &str) -> Option<[u8; 32]> {
    let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    certs::unhex(text).filter(|_| is_lower)?.try_into().ok()
}

fn from_row((issuer, number, site, user, added_at): Row) -> sqlx::Result<UserCertificate> {
    if hash(&issuer).is_none() || !certs::hpki::is_number(&number) {
        return Err(sqlx::Error::Decode("a user's certificate is not written as this program does".into()));
    }
    Ok(UserCertificate { issuer, number, site: parsed(&site)?, user: parsed(&user)?, added_at })
}

/// Every row, by issuer and number.
pub(super) async fn all(conn: &mut SqliteConnection) -> sqlx::Result<Vec<UserCertificate>> {
    let rows: Vec<Row> =
        sqlx::query_as("SELECT issuer, number, site, name, added_at FROM user_certificates").fetch_all(conn).await?;
    let mut all = rows.into_iter().map(from_row).collect::<sqlx::Result<Vec<_>>>()?;
    all.sort_by(|a, b| (&a.issuer, &a.number).cmp(&(&b.issuer, &b.number)));
    Ok(all)
}

/// # Users' certificates
impl Store {
    /// Says that the holder is this user. Where that was said before, nothing happens.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such user; [`StoreError::Bound`] if the holder is another one.
    pub async fn user_certificate_add(
        &self,
        actor: &str,
        id: &UserId,
        holder: &Holder,
    ) -> Result<UserCertificate, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        edit.find::<User>(id).await?;
        let known = all(edit.conn()).await.map_err(|e| self.sql(e))?;
        let issuer = holder.issuer_hex();
        if let Some(known) = known.into_iter().find(|known| known.issuer == issuer && known.number == holder.number) {
            let is_same = known.user_id() == *id;
            return if is_same {
                Ok(known)
            } else {
                Err(StoreError::Bound { name: known.name(), user: known.user_id() })
            };
        }
        let added = UserCertificate {
            issuer,
            number: holder.number.clone(),
            site: id.site.clone(),
            user: id.user.clone(),
            added_at: edit.time().to_owned(),
        };
        sqlx::query("INSERT INTO user_certificates (issuer, number, site, name, added_at) VALUES ($1, $2, $3, $4, $5)")
            .bind(&added.issuer)
            .bind(&added.number)
            .bind(added.site.as_str())
            .bind(added.user.as_str())
            .bind(&added.added_at)
            .execute(edit.conn())
            .await
            .map_err(|e| self.sql(e))?;
        edit.journal_entries(Verb::Add, None, Some(Entry::UserCertificate(added.clone()))).await?;
        edit.commit().await?;
        Ok(added)
    }

    /// Every holder that is known, or those of one user.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such user.
    pub async fn user_certificate_list(&self, id: Option<&UserId>) -> Result<Vec<UserCertificate>, StoreError> {
        if let Some(id) = id {
            self.user_show(id).await?;
        }
        let mut transaction = self.begin().await?;
        let mut all = all(&mut transaction).await.map_err(|e| self.sql(e))?;
        all.retain(|known| id.is_none_or(|id| known.user_id() == *id));
        Ok(all)
    }

    /// The holder is this user no longer: refused, live connections included (R27).
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the holder is not this user.
    pub async fn user_certificate_remove(
        &self,
        actor: &str,
        id: &UserId,
        holder: &Holder,
    ) -> Result<EntryName, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        edit.find::<User>(id).await?;
        let issuer = holder.issuer_hex();
        let removed = edit.unbind(id, |known| known.issuer == issuer && known.number == holder.number).await?;
        let Some(removed) = removed.into_iter().next() else {
            let wanted = EntryName::UserCertificate(name(&issuer, &holder.number));
            return Err(StoreError::NotFound { kind: wanted.kind(), name: wanted.to_string(), nearest: None });
        };
        edit.commit().await?;
        Ok(removed)
    }
}

impl Edit<'_> {
    /// Removes those of a user's certificates that are `wanted`.
    pub(super) async fn unbind(
        &mut self,
        id: &UserId,
        wanted: impl Fn(&UserCertificate) -> bool,
    ) -> Result<Vec<EntryName>, StoreError> {
        let store = self.store();
        let known = all(self.conn()).await.map_err(|e| store.sql(e))?;
        let mut removed = Vec::new();
        for one in known.into_iter().filter(|known| known.user_id() == *id && wanted(known)) {
            sqlx::query("DELETE FROM user_certificates WHERE issuer = $1 AND number = $2")
                .bind(&one.issuer)
                .bind(&one.number)
                .execute(self.conn())
                .await
                .map_err(|e| store.sql(e))?;
            removed.push(EntryName::UserCertificate(one.name()));
            self.journal_entries(Verb::Remove, Some(Entry::UserCertificate(one)), None).await?;
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DisplayName, NewUser};

    fn id(user: &str) -> UserId {
        UserId { site: "s".parse().unwrap(), user: user.parse().unwrap() }
    }

    async fn clinic() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("sekisho.db")).await.unwrap();
        store.site_add("t", "s".parse().unwrap(), DisplayName::default()).await.unwrap();
        for user in ["a", "b"] {
            let new = NewUser { id: id(user), display_name: DisplayName::default(), roles: Vec::new() };
            store.user_add("t", new).await.unwrap();
        }
        (folder, store)
    }

    fn holder(issuer: u8, number: &str) -> Holder {
        Holder { issuer: [issuer; 32], number: number.to_owned() }
    }

    #[tokio::test]
    async fn a_holder_is_one_user_and_every_change_is_journalled() {
        let (_folder, store) = clinic().await;
        let before = store.sequence().await.unwrap();
        let added = store.user_certificate_add("t", &id("a"), &holder(1, "7")).await.unwrap();
        assert_eq!(store.user_certificate_add("t", &id("a"), &holder(1, "7")).await.unwrap(), added);
        let other = store.user_certificate_add("t", &id("b"), &holder(1, "7")).await.unwrap_err();
        assert!(matches!(other, StoreError::Bound { .. }), "{other}");
        store.user_certificate_add("t", &id("b"), &holder(2, "7")).await.unwrap();
        assert!(store.user_certificate_add("t", &id("c"), &holder(3, "7")).await.is_err());
        assert_eq!(store.user_certificate_list(Some(&id("a"))).await.unwrap(), [added]);
        assert_eq!(store.user_certificate_list(None).await.unwrap().len(), 2);
        assert!(store.user_certificate_remove("t", &id("a"), &holder(2, "7")).await.is_err());
        store.user_certificate_remove("t", &id("b"), &holder(2, "7")).await.unwrap();
        let changes = store.changes_after(before, 10).await.unwrap();
        let verbs: Vec<_> = changes.iter().map(|change| change.body.verb).collect();
        assert_eq!(verbs, [Verb::Add, Verb::Add, Verb::Remove]);
    }

    #[tokio::test]
    async fn with_a_user_go_the_certificates() {
        let (_folder, store) = clinic().await;
        for user in ["a", "b"] {
            store.user_certificate_add("t", &id(user), &holder(1, user)).await.unwrap();
        }
        store.user_remove("t", &id("a"), false).await.unwrap();
        assert_eq!(store.user_certificate_list(None).await.unwrap().len(), 1);
        store.site_remove("t", &"s".parse().unwrap(), true).await.unwrap();
        assert_eq!(store.entries().await.unwrap().user_certificates, []);
    }
}
