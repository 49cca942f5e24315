//! The tables of devices and of their roles.

use policy::DeviceId;
use sqlx::SqliteConnection;

use super::table::{Roles, Table, entry_of, number, parsed, roles_in, roles_of, signed, status};
use super::{Device, Entry, EntryName, Status, called};

const ROLES: Roles = roles_in!("device_roles");

type Row = (String, String, String, String, Option<String>, i64, String, String);

fn from_row((site, name, display_name, state, user, version, changed_at, ae_titles): Row) -> sqlx::Result<Device> {
    Ok(Device {
        site: parsed(&site)?,
        name: parsed(&name)?,
        display_name: parsed(&display_name)?,
        status: status(&state)?,
        user: user.as_deref().map(parsed).transpose()?,
        roles: Vec::new(),
        ae_titles: called::names(&ae_titles),
        version: number(version)?,
        changed_at,
    })
}

impl Table for Device {
    entry_of!(Device, DeviceId);

    fn key(&self) -> DeviceId {
        self.id()
    }

    fn same(&self, other: &Self) -> bool {
        self.id() == other.id()
            && self.display_name == other.display_name
            && self.status == other.status
            && self.user == other.user
            && self.roles == other.roles
            && self.ae_titles == other.ae_titles
    }

    async fn all(conn: &mut SqliteConnection) -> sqlx::Result<Vec<Self>> {
        let mut roles = ROLES.all(conn).await?;
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT site, name, display_name, status, assigned_user, version, changed_at, ae_titles FROM devices",
        )
        .fetch_all(conn)
        .await?;
        let mut all = rows.into_iter().map(from_row).collect::<sqlx::Result<Vec<_>>>()?;
        for device in &mut all {
            device.roles = roles_of(&mut roles, device.site.as_str(), device.name.as_str());
        }
        all.sort_by_cached_key(Device::id);
        Ok(all)
    }

    async fn one(conn: &mut SqliteConnection, key: &DeviceId) -> sqlx::Result<Option<Self>> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT site, name, display_name, status, assigned_user, version, changed_at, ae_titles FROM devices \
             WHERE site = $1 AND name = $2",
        )
        .bind(key.site.as_str())
        .bind(key.device.as_str())
        .fetch_optional(&mut *conn)
        .await?;
        let Some(mut device) = row.map(from_row).transpose()? else { return Ok(None) };
        device.roles = ROLES.of(conn, key.site.as_str(), key.device.as_str()).await?;
        Ok(Some(device))
    }

    async fn insert(&self, conn: &mut SqliteConnection) -> sqlx::Result<()> {
        sqlx::query(
            "INSERT INTO devices (display_name, status, assigned_user, version, changed_at, ae_titles, site, name) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(self.display_name.as_str())
        .bind(self.status.label())
        .bind(self.user.as_ref().map(|user| user.as_str().to_owned()))
        .bind(signed(self.version)?)
        .bind(&self.changed_at)
        .bind(called::text(&self.ae_titles))
        .bind(self.site.as_str())
        .bind(self.name.as_str())
        .execute(&mut *conn)
        .await?;
        ROLES.insert(conn, (self.site.as_str(), self.name.as_str()), &self.roles).await
    }

    async fn update(&self, conn: &mut SqliteConnection) -> sqlx::Result<()> {
        sqlx::query(
            "UPDATE devices SET display_name = $1, status = $2, assigned_user = $3, version = $4, changed_at = $5, \
             ae_titles = $6 WHERE site = $7 AND name = $8",
        )
        .bind(self.display_name.as_str())
        .bind(self.status.label())
        .bind(self.user.as_ref().map(|user| user.as_str().to_owned()))
        .bind(signed(self.version)?)
        .bind(&self.changed_at)
        .bind(called::text(&self.ae_titles))
        .bind(self.site.as_str())
        .bind(self.name.as_str())
        .execute(&mut *conn)
        .await?;
        let holder = (self.site.as_str(), self.name.as_str());
        ROLES.delete(conn, holder).await?;
        ROLES.insert(conn, holder, &self.roles).await
    }

    async fn delete(&self, conn: &mut SqliteConnection) -> sqlx::Result<()> {
        ROLES.delete(conn, (self.site.as_str(), self.name.as_str())).await?;
        sqlx::query("DELETE FROM devices WHERE site = $1 AND name = $2")
            .bind(self.site.as_str())
            .bind(self.name.as_str())
            .execute(conn)
            .await?;
        Ok(())
    }
}
