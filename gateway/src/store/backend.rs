//! Servers of services that an operator drained (R20). A gateway that runs follows within a second, and one that starts
//! begins with them.

use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use super::edit::Edit;
use super::{Edited, Entry, EntryName, Kind, Store, StoreError, Verb};

/// A server that takes no new requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendDrain {
    /// The service.
    pub service: String,
    /// Host and port, as the configuration has them.
    pub server: String,
    /// Since when: RFC 3339, UTC.
    pub since: String,
    /// Who did it.
    pub actor: String,
    /// Why, in the operator's words.
    pub reason: Option<String>,
}

impl BackendDrain {
    /// Service and server.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.service, self.server)
    }
}

type Row = (String, String, String, String, Option<String>);

async fn rows(conn: &mut SqliteConnection) -> sqlx::Result<Vec<BackendDrain>> {
    let query = "SELECT service, server, since, actor, reason FROM backend_drains ORDER BY service, server";
    let rows: Vec<Row> = sqlx::query_as(query).fetch_all(conn).await?;
    let drain = |(service, server, since, actor, reason)| BackendDrain { service, server, since, actor, reason };
    Ok(rows.into_iter().map(drain).collect())
}

impl Store {
    /// Every server that is drained, by service and server.
    ///
    /// # Errors
    /// Those of every reading call.
    pub async fn backend_drains(&self) -> Result<Vec<BackendDrain>, StoreError> {
        let mut transaction = self.begin().await?;
        rows(&mut transaction).await.map_err(|e| self.sql(e))
    }

    /// Drains a server. Where it is drained already, nothing changes.
    ///
    /// # Errors
    /// Those of every changing call.
    pub async fn backend_drain(
        &self,
        actor: &str,
        service: &str,
        server: &str,
        reason: Option<String>,
    ) -> Result<Edited<BackendDrain>, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        if let Some(entry) = find(&mut edit, service, server).await? {
            return Ok(Edited { entry, changed: false });
        }
        let (service, server, since) = (service.to_owned(), server.to_owned(), edit.time().to_owned());
        let entry = BackendDrain { service, server, since, actor: actor.to_owned(), reason };
        sqlx::query("INSERT INTO backend_drains (service, server, since, actor, reason) VALUES ($1, $2, $3, $4, $5)")
            .bind(&entry.service)
            .bind(&entry.server)
            .bind(&entry.since)
            .bind(&entry.actor)
            .bind(&entry.reason)
            .execute(edit.conn())
            .await
            .map_err(|e| self.sql(e))?;
        edit.journal_entries(Verb::Add, None, Some(Entry::Backend(entry.clone()))).await?;
        edit.commit().await?;
        Ok(Edited { entry, changed: true })
    }

    /// Lets a server take requests again.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if it is not drained.
    pub async fn backend_resume(&self, actor: &str, service: &str, server: &str) -> Result<BackendDrain, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let Some(entry) = find(&mut edit, service, server).await? else {
            let name = EntryName::Backend(format!("{service} {server}"));
            return Err(StoreError::NotFound { kind: Kind::Backend, name: name.to_string(), nearest: None });
        };
        sqlx::query("DELETE FROM backend_drains WHERE service = $1 AND server = $2")
            .bind(service)
            .bind(server)
            .execute(edit.conn())
            .await
            .map_err(|e| self.sql(e))?;
        edit.journal_entries(Verb::Remove, Some(Entry::Backend(entry.clone())), None).await?;
        edit.commit().await?;
        Ok(entry)
    }
}

async fn find(edit: &mut Edit<'_>, service: &str, server: &str) -> Result<Option<BackendDrain>, StoreError> {
    let store = edit.store();
    let all = rows(edit.conn()).await.map_err(|e| store.sql(e))?;
    Ok(all.into_iter().find(|drain| drain.service == service && drain.server == server))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drains_are_kept_once_journalled_and_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("s.db")).await.unwrap();
        let before = store.sequence().await.unwrap();
        let reason = Some("new disk".to_owned());
        assert!(store.backend_drain("ops", "fhir", "10.0.0.1:80", reason.clone()).await.unwrap().changed);
        let again = store.backend_drain("other", "fhir", "10.0.0.1:80", None).await.unwrap();
        assert_eq!((again.changed, again.entry.actor.as_str()), (false, "ops"));
        let drains = store.backend_drains().await.unwrap();
        assert_eq!((drains.len(), &drains[0].reason), (1, &reason));
        assert!(matches!(store.backend_resume("ops", "fhir", "other:1").await, Err(StoreError::NotFound { .. })));
        assert_eq!(store.backend_resume("ops", "fhir", "10.0.0.1:80").await.unwrap(), drains[0]);
        assert!(store.backend_drains().await.unwrap().is_empty());
        assert_eq!(store.sequence().await.unwrap(), before + 2);
        let change = store.change(before + 1).await.unwrap().unwrap();
        assert_eq!(change.body.after, Some(Entry::Backend(drains[0].clone())));
        store.close().await;
    }
}
