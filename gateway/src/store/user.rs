//! The tables of users and of their roles.

use sqlx::SqliteConnection;

use super::table::{Roles, Table, entry_of, number, parsed, roles_in, roles_of, signed, status};
use super::{Entry, EntryName, Status, User, UserId};

const ROLES: Roles = roles_in!("user_roles");

type Row = (String, String, String, String, i64, String);

fn from_row((site, name, display_name, state, version, changed_at): Row) -> sqlx::Result<User> {
    Ok(User {
        site: parsed(&site)?,
        name: parsed(&name)?,
        display_name: parsed(&display_name)?,
        status: status(&state)?,
        roles: Vec::new(),
        version: number(version)?,
        changed_at,
    })
}

impl Table for User {
    entry_of!(User, UserId);

    fn key(&self) -> UserId {
        self.id()
    }

    fn same(&self, other: &Self) -> bool {
        self.id() == other.id()
            && self.display_name == other.display_name
            && self.status == other.status
            && self.roles == other.roles
    }

    async fn all(conn: &mut SqliteConnection) -> sqlx::Result<Vec<Self>> {
        let mut roles = ROLES.all(conn).await?;
        let rows: Vec<Row> = sqlx::query_as("SELECT site, name, display_name, status, version, changed_at FROM users")
            .fetch_all(conn)
            .await?;
        let mut all = rows.into_iter().map(from_row).collect::<sqlx::Result<Vec<_>>>()?;
        for user in &mut all {
            user.roles = roles_of(&mut roles, user.site.as_str(), user.name.as_str());
        }
        all.sort_by_cached_key(User::id);
        Ok(all)
    }

    async fn one(conn: &mut SqliteConnection, key: &UserId) -> sqlx::Result<Option<Self>> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT site, name, display_name, status, version, changed_at FROM users WHERE site = $1 AND name = $2",
        )
        .bind(key.site.as_str())
        .bind(key.user.as_str())
        .fetch_optional(&mut *conn)
        .await?;
        let Some(mut user) = row.map(from_row).transpose()? else { return Ok(None) };
        user.roles = ROLES.of(conn, key.site.as_str(), key.user.as_str()).await?;
        Ok(Some(user))
    }

    async fn insert(&self, conn: &mut SqliteConnection) -> sqlx::Result<()> {
        sqlx::query(
            "INSERT INTO users (display_name, status, version, changed_at, site, name) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(self.display_name.as_str())
        .bind(self.status.label())
        .bind(signed(self.version)?)
        .bind(&self.changed_at)
        .bind(self.site.as_str())
        .bind(self.name.as_str())
        .execute(&mut *conn)
        .await?;
        ROLES.insert(conn, (self.site.as_str(), self.name.as_str()), &self.roles).await
    }

    async fn update(&self, conn: &mut SqliteConnection) -> sqlx::Result<()> {
        sqlx::query(
            "UPDATE users SET display_name = $1, status = $2, version = $3, changed_at = $4 \
             WHERE site = $5 AND name = $6",
        )
        .bind(self.display_name.as_str())
        .bind(self.status.label())
        .bind(signed(self.version)?)
        .bind(&self.changed_at)
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
        sqlx::query("DELETE FROM users WHERE site = $1 AND name = $2")
            .bind(self.site.as_str())
            .bind(self.name.as_str())
            .execute(conn)
            .await?;
        Ok(())
    }
}
