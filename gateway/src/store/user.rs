//! The tables of users and of their roles.

use sqlx::SqliteConnection;

use super::table::{RoleRow, Table, by_holder, number, parsed, roles_of, signed, status};
use super::{Entry, EntryName, Status, User, UserId};

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

impl User {
    async fn insert_roles(&self, conn: &mut SqliteConnection) -> sqlx::Result<()> {
        for role in &self.roles {
            sqlx::query("INSERT INTO user_roles (site, name, role) VALUES ($1, $2, $3)")
                .bind(self.site.as_str())
                .bind(self.name.as_str())
                .bind(role.as_str())
                .execute(&mut *conn)
                .await?;
        }
        Ok(())
    }

    async fn delete_roles(&self, conn: &mut SqliteConnection) -> sqlx::Result<()> {
        sqlx::query("DELETE FROM user_roles WHERE site = $1 AND name = $2")
            .bind(self.site.as_str())
            .bind(self.name.as_str())
            .execute(conn)
            .await?;
        Ok(())
    }
}

impl Table for User {
    type Key = UserId;

    fn entry_name(key: &UserId) -> EntryName {
        EntryName::User(key.clone())
    }

    fn key(&self) -> UserId {
        self.id()
    }

    fn into_entry(self) -> Entry {
        Entry::User(self)
    }

    fn status_mut(&mut self) -> &mut Status {
        &mut self.status
    }

    fn stamp(&mut self, version: u64, time: &str) {
        self.version = version;
        time.clone_into(&mut self.changed_at);
    }

    fn same(&self, other: &Self) -> bool {
        self.id() == other.id()
            && self.display_name == other.display_name
            && self.status == other.status
            && self.roles == other.roles
    }

    async fn all(conn: &mut SqliteConnection) -> sqlx::Result<Vec<Self>> {
        let roles: Vec<RoleRow> =
            sqlx::query_as("SELECT site, name, role FROM user_roles").fetch_all(&mut *conn).await?;
        let mut roles = by_holder(roles)?;
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
        let roles: Vec<RoleRow> =
            sqlx::query_as("SELECT site, name, role FROM user_roles WHERE site = $1 AND name = $2")
                .bind(key.site.as_str())
                .bind(key.user.as_str())
                .fetch_all(conn)
                .await?;
        user.roles = roles_of(&mut by_holder(roles)?, key.site.as_str(), key.user.as_str());
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
        self.insert_roles(conn).await
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
        self.delete_roles(conn).await?;
        self.insert_roles(conn).await
    }

    async fn delete(&self, conn: &mut SqliteConnection) -> sqlx::Result<()> {
        self.delete_roles(conn).await?;
        sqlx::query("DELETE FROM users WHERE site = $1 AND name = $2")
            .bind(self.site.as_str())
            .bind(self.name.as_str())
            .execute(conn)
            .await?;
        Ok(())
    }
}
