//! The table of sites.

use policy::SiteName;
use sqlx::SqliteConnection;

use super::table::{Table, number, parsed, signed, status};
use super::{Entry, EntryName, Site, Status};

type Row = (String, String, String, i64, String);

fn from_row((name, display_name, state, version, changed_at): Row) -> sqlx::Result<Site> {
    Ok(Site {
        name: parsed(&name)?,
        display_name: parsed(&display_name)?,
        status: status(&state)?,
        version: number(version)?,
        changed_at,
    })
}

impl Table for Site {
    type Key = SiteName;

    fn entry_name(key: &SiteName) -> EntryName {
        EntryName::Site(key.clone())
    }

    fn key(&self) -> SiteName {
        self.name.clone()
    }

    fn into_entry(self) -> Entry {
        Entry::Site(self)
    }

    fn status_mut(&mut self) -> &mut Status {
        &mut self.status
    }

    fn stamp(&mut self, version: u64, time: &str) {
        self.version = version;
        time.clone_into(&mut self.changed_at);
    }

    fn same(&self, other: &Self) -> bool {
        self.name == other.name && self.display_name == other.display_name && self.status == other.status
    }

    async fn all(conn: &mut SqliteConnection) -> sqlx::Result<Vec<Self>> {
        let rows: Vec<Row> =
            sqlx::query_as("SELECT name, display_name, status, version, changed_at FROM sites").fetch_all(conn).await?;
        let mut all = rows.into_iter().map(from_row).collect::<sqlx::Result<Vec<_>>>()?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    async fn one(conn: &mut SqliteConnection, key: &SiteName) -> sqlx::Result<Option<Self>> {
        let row: Option<Row> =
            sqlx::query_as("SELECT name, display_name, status, version, changed_at FROM sites WHERE name = $1")
                .bind(key.as_str())
                .fetch_optional(conn)
                .await?;
        row.map(from_row).transpose()
    }

    async fn insert(&self, conn: &mut SqliteConnection) -> sqlx::Result<()> {
        sqlx::query("INSERT INTO sites (display_name, status, version, changed_at, name) VALUES ($1, $2, $3, $4, $5)")
            .bind(self.display_name.as_str())
            .bind(self.status.label())
            .bind(signed(self.version)?)
            .bind(&self.changed_at)
            .bind(self.name.as_str())
            .execute(conn)
            .await?;
        Ok(())
    }

    async fn update(&self, conn: &mut SqliteConnection) -> sqlx::Result<()> {
        sqlx::query("UPDATE sites SET display_name = $1, status = $2, version = $3, changed_at = $4 WHERE name = $5")
            .bind(self.display_name.as_str())
            .bind(self.status.label())
            .bind(signed(self.version)?)
            .bind(&self.changed_at)
            .bind(self.name.as_str())
            .execute(conn)
            .await?;
        Ok(())
    }

    async fn delete(&self, conn: &mut SqliteConnection) -> sqlx::Result<()> {
        sqlx::query("DELETE FROM sites WHERE name = $1").bind(self.name.as_str()).execute(conn).await?;
        Ok(())
    }
}
