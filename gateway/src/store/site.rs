//! The table of sites.

use policy::SiteName;
use sqlx::SqliteConnection;

use super::inside::{ranges, text};
use super::table::{Table, entry_of, number, parsed, signed, status};
use super::{Entry, EntryName, Site, Status, called};

type Row = (String, String, String, i64, String, String, String);

impl Site {
    fn from_row((name, display_name, state, version, changed_at, inside, facilities): Row) -> sqlx::Result<Self> {
        Ok(Self {
            name: parsed(&name)?,
            display_name: parsed(&display_name)?,
            status: status(&state)?,
            version: number(version)?,
            changed_at,
            inside: ranges(&inside)?,
            facilities: called::names(&facilities),
        })
    }

    async fn write(&self, statement: &'static str, conn: &mut SqliteConnection) -> sqlx::Result<()> {
        sqlx::query(statement)
            .bind(self.display_name.as_str())
            .bind(self.status.label())
            .bind(signed(self.version)?)
            .bind(&self.changed_at)
            .bind(text(&self.inside))
            .bind(called::text(&self.facilities))
            .bind(self.name.as_str())
            .execute(conn)
            .await?;
        Ok(())
    }
}

impl Table for Site {
    entry_of!(Site, SiteName);

    fn key(&self) -> SiteName {
        self.name.clone()
    }

    fn same(&self, other: &Self) -> bool {
        self.name == other.name
            && self.display_name == other.display_name
            && self.status == other.status
            && self.inside == other.inside
            && self.facilities == other.facilities
    }

    async fn all(conn: &mut SqliteConnection) -> sqlx::Result<Vec<Self>> {
        let query = "SELECT name, display_name, status, version, changed_at, inside, facilities FROM sites";
        let rows: Vec<Row> = sqlx::query_as(query).fetch_all(conn).await?;
        let mut all = rows.into_iter().map(Self::from_row).collect::<sqlx::Result<Vec<_>>>()?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    async fn one(conn: &mut SqliteConnection, key: &SiteName) -> sqlx::Result<Option<Self>> {
        let query =
            "SELECT name, display_name, status, version, changed_at, inside, facilities FROM sites WHERE name = $1";
        let row: Option<Row> = sqlx::query_as(query).bind(key.as_str()).fetch_optional(conn).await?;
        row.map(Self::from_row).transpose()
    }

    async fn insert(&self, conn: &mut SqliteConnection) -> sqlx::Result<()> {
        let columns = "INSERT INTO sites (display_name, status, version, changed_at, inside, facilities, name) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)";
        self.write(columns, conn).await
    }

    async fn update(&self, conn: &mut SqliteConnection) -> sqlx::Result<()> {
        let columns = "UPDATE sites SET display_name = $1, status = $2, version = $3, changed_at = $4, inside = $5, \
             facilities = $6 WHERE name = $7";
        self.write(columns, conn).await
    }

    async fn delete(&self, conn: &mut SqliteConnection) -> sqlx::Result<()> {
        let query = "DELETE FROM sites WHERE name = $1";
        sqlx::query(query).bind(self.name.as_str()).execute(conn).await?;
        Ok(())
    }
}
