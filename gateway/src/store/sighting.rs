//! In which hours sites were seen (R19). What a gateway learns by itself: no change of the registry, and not journalled.

use super::table::parsed;
use super::{Store, StoreError};
use crate::outage::Kept;
use crate::outage::history::History;

type Row = (String, String, Option<i64>, Option<i64>);

/// # Hours of sites
impl Store {
    /// What is known. What cannot be read is left out: it is learnt anew.
    ///
    /// # Errors
    /// Those of every reading call.
    pub async fn sightings(&self) -> Result<Vec<Kept>, StoreError> {
        let mut transaction = self.begin().await?;
        let rows: Vec<Row> = sqlx::query_as("SELECT site, hours, last_seen_s, silent_since_s FROM sightings")
            .fetch_all(&mut *transaction)
            .await
            .map_err(|e| self.sql(e))?;
        let kept = |(site, hours, last_seen, silent_since): Row| {
            Some(Kept { site: parsed(&site).ok()?, history: History::read(&hours)?, last_seen, silent_since })
        };
        Ok(rows.into_iter().filter_map(kept).collect())
    }

    /// Keeps what has changed, and forgets sites that are registered no longer.
    ///
    /// # Errors
    /// Those of every mutating call.
    pub async fn sightings_keep(&self, changed: &[Kept]) -> Result<(), StoreError> {
        if changed.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin().await?;
        for kept in changed {
            sqlx::query(
                "INSERT INTO sightings (site, hours, last_seen_s, silent_since_s) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (site) DO UPDATE SET hours = excluded.hours, last_seen_s = excluded.last_seen_s, \
                 silent_since_s = excluded.silent_since_s",
            )
            .bind(kept.site.as_str())
            .bind(kept.history.text())
            .bind(kept.last_seen)
            .bind(kept.silent_since)
            .execute(&mut *transaction)
            .await
            .map_err(|e| self.sql(e))?;
        }
        sqlx::query("DELETE FROM sightings WHERE site NOT IN (SELECT name FROM sites)")
            .execute(&mut *transaction)
            .await
            .map_err(|e| self.sql(e))?;
        transaction.commit().await.map_err(|e| self.sql(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DisplayName;

    #[tokio::test]
    async fn hours_outlive_a_restart_and_go_with_their_site() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("sekisho.db")).await.unwrap();
        for site in ["s", "t"] {
            store.site_add("t", site.parse().unwrap(), DisplayName::default()).await.unwrap();
        }
        let before = store.sequence().await.unwrap();
        let kept = |site: &str, hour| {
            let mut history = History::default();
            history.mark(hour);
            Kept { site: site.parse().unwrap(), history, last_seen: Some(7), silent_since: None }
        };
        store.sightings_keep(&[kept("s", 1), kept("t", 2)]).await.unwrap();
        let later = Kept { silent_since: Some(9), ..kept("s", 3) };
        store.sightings_keep(std::slice::from_ref(&later)).await.unwrap();
        assert_eq!(store.sightings().await.unwrap(), [later.clone(), kept("t", 2)]);
        assert_eq!(store.sequence().await.unwrap(), before);
        store.site_remove("t", &"s".parse().unwrap(), false).await.unwrap();
        sqlx::query("UPDATE sightings SET hours = 'x' WHERE site = 't'").execute(&store.pool).await.unwrap();
        assert_eq!(store.sightings().await.unwrap(), [later]);
        store.sightings_keep(&[kept("t", 2)]).await.unwrap();
        assert_eq!(store.sightings().await.unwrap(), [kept("t", 2)]);
    }
}
