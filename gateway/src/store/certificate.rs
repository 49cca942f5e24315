//! Certificates that our own authority issued, and the one-time codes that devices enrol with.

mod renewal;

use policy::{DeviceId, DeviceName, SiteName};
use serde::{Deserialize, Serialize};
use sqlx::SqliteConnection;

use super::edit::Edit;
use super::table::{number, parsed, signed};
use super::{Device, Entry, EntryName, Site, Status, Store, StoreError, Verb};

pub use renewal::Renewal;

/// How long after its end a revoked certificate stays on the list, in seconds: it has to appear on one list that comes
/// after its end (RFC 5280 3.3), and clocks differ.
const LISTED_AFTER_END: u64 = 7 * 86_400;

/// How a certificate came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// An operator brought a certification request.
    Request,
    /// An operator had a key made.
    Key,
    /// The device came with a one-time code.
    Code,
    /// The device came with the certificate before.
    Renewal,
}

impl Origin {
    const fn label(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Key => "key",
            Self::Code => "code",
            Self::Renewal => "renewal",
        }
    }
}

/// An issued certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// The key identifier of its issuer, hexadecimal.
    pub issuer: String,
    /// Its device's site.
    pub site: SiteName,
    /// Its device.
    pub device: DeviceName,
    /// SHA-256 of its DER, hexadecimal.
    pub fingerprint: String,
    /// The beginning of its validity, seconds since 1970.
    pub not_before: u64,
    /// The end of its validity, seconds since 1970.
    pub not_after: u64,
    /// How it came about.
    pub origin: Origin,
    /// Since when it is revoked, seconds since 1970.
    pub revoked_at: Option<u64>,
    /// Why, as RFC 5280 5.3.1 names it.
    pub reason: Option<String>,
}

impl Certificate {
    /// Its device.
    #[must_use]
    pub fn device_id(&self) -> DeviceId {
        DeviceId { site: self.site.clone(), device: self.device.clone() }
    }
}

/// A one-time code, as the journal tells of it: never the code itself, nor what it could be found by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolmentCode {
    /// The beginning of its hash: which code, without saying what it is.
    pub id: String,
    /// Its device's site.
    pub site: SiteName,
    /// The device that it is for.
    pub device: DeviceName,
    /// When it ends, seconds since 1970.
    pub expires_at: u64,
}

/// The digits of a code's hash that name it in journal and messages.
const ID_DIGITS: usize = 12;

/// By what right a certificate is issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right<'a> {
    /// An operator's.
    Operator,
    /// A one-time code's, by its hash; it is used up.
    Code(&'a str),
}

/// What a new list is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlDraft {
    /// Its number.
    pub number: u64,
    /// What it lists.
    pub revoked: Vec<Certificate>,
}

/// A list as it was last published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrlState {
    /// Its number.
    pub number: u64,
    /// When the next one is due, seconds since 1970.
    pub next_update: u64,
    /// Something was revoked since.
    pub stale: bool,
}

type Row = (String, String, String, String, String, i64, i64, String, Option<i64>, Option<String>);

fn from_row(row: Row) -> sqlx::Result<Certificate> {
    let (serial, issuer, site, device, fingerprint, not_before, not_after, origin, revoked_at, reason) = row;
    let origin = match origin.as_str() {
        "request" => Origin::Request,
        "key" => Origin::Key,
        "code" => Origin::Code,
        "renewal" => Origin::Renewal,
        other => return Err(sqlx::Error::Decode(format!("`{}` is not an origin", other.escape_debug()).into())),
    };
    Ok(Certificate {
        serial,
        issuer,
        site: parsed(&site)?,
        device: parsed(&device)?,
        fingerprint,
        not_before: number(not_before)?,
        not_after: number(not_after)?,
        origin,
        revoked_at: revoked_at.map(number).transpose()?,
        reason,
    })
}

const COLUMNS: &str = "SELECT serial, issuer, site, device, fingerprint, not_before, not_after, origin, revoked_at, reason FROM certificates";

async fn of_device(conn: &mut SqliteConnection, id: &DeviceId) -> sqlx::Result<Vec<Certificate>> {
    let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "{COLUMNS} WHERE site = $1 AND device = $2 ORDER BY not_after, serial"
    )))
    .bind(id.site.as_str())
    .bind(id.device.as_str())
    .fetch_all(conn)
    .await?;
    rows.into_iter().map(from_row).collect()
}

async fn by_serial(conn: &mut SqliteConnection, serial: &str) -> sqlx::Result<Option<Certificate>> {
    let query = sqlx::AssertSqlSafe(format!("{COLUMNS} WHERE serial = $1"));
    let row: Option<Row> = sqlx::query_as(query).bind(serial).fetch_optional(conn).await?;
    row.map(from_row).transpose()
}

/// Whether a code is there, for this device, and has not expired.
async fn code(conn: &mut SqliteConnection, id: &DeviceId, hash: &str, now: u64) -> sqlx::Result<Option<EnrolmentCode>> {
    let row: Option<(i64,)> = sqlx::query_as(
        "SELECT expires_at FROM enrolment_codes WHERE hash = $1 AND site = $2 AND device = $3 AND expires_at > $4",
    )
    .bind(hash)
    .bind(id.site.as_str())
    .bind(id.device.as_str())
    .bind(signed(now)?)
    .fetch_optional(conn)
    .await?;
    row.map(|(expires_at,)| Ok(describe(id, hash, number(expires_at)?))).transpose()
}

fn describe(id: &DeviceId, hash: &str, expires_at: u64) -> EnrolmentCode {
    let start = hash.chars().take(ID_DIGITS).collect();
    EnrolmentCode { id: start, site: id.site.clone(), device: id.device.clone(), expires_at }
}

/// # Certificates and codes
impl Store {
    /// Keeps an issued certificate. The device has to be registered; where it asks for itself, by a code or by renewal,
    /// device and site have to be active as well.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::NotActive`]; [`StoreError::Code`] if the code is not there, not this
    /// device's, expired or used. Then nothing is kept, and the certificate must not leave the caller's hands.
    pub async fn certificate_add(
        &self,
        actor: &str,
        certificate: &Certificate,
        right: Right<'_>,
        now: u64,
    ) -> Result<(), StoreError> {
        let id = certificate.device_id();
        let mut edit = Edit::begin(self, actor).await?;
        match right {
            Right::Operator => edit.find::<Device>(&id).await.map(drop)?,
            Right::Code(hash) => {
                edit.check_active(&id).await?;
                edit.use_code(&id, hash, now).await?;
            }
        }
        self.insert(edit.conn(), certificate).await.map_err(|e| self.sql(e))?;
        edit.journal_entries(Verb::Issue, None, Some(Entry::Certificate(certificate.clone()))).await?;
        edit.commit().await
    }

    async fn insert(&self, conn: &mut SqliteConnection, certificate: &Certificate) -> sqlx::Result<()> {
        sqlx::query(
            "INSERT INTO certificates (serial, issuer, site, device, fingerprint, not_before, not_after, origin) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&certificate.serial)
        .bind(&certificate.issuer)
        .bind(certificate.site.as_str())
        .bind(certificate.device.as_str())
        .bind(&certificate.fingerprint)
        .bind(signed(certificate.not_before)?)
        .bind(signed(certificate.not_after)?)
        .bind(certificate.origin.label())
        .execute(conn)
        .await?;
        Ok(())
    }

    /// Every certificate that a device was given, the one that ends first first.
    ///
    /// # Errors
    /// Those of every reading call.
    pub async fn certificates_of(&self, id: &DeviceId) -> Result<Vec<Certificate>, StoreError> {
        let mut transaction = self.begin().await?;
        of_device(&mut transaction, id).await.map_err(|e| self.sql(e))
    }

    /// The certificate of that fingerprint (SHA-256 of its DER, hexadecimal) that a device was given.
    ///
    /// # Errors
    /// Those of every reading call.
    pub async fn certificate_of(&self, id: &DeviceId, fingerprint: &str) -> Result<Option<Certificate>, StoreError> {
        let mut transaction = self.begin().await?;
        let found = format!("{COLUMNS} WHERE site = $1 AND device = $2 AND fingerprint = $3");
        let row: sqlx::Result<Option<Row>> = sqlx::query_as(sqlx::AssertSqlSafe(found))
            .bind(id.site.as_str())
            .bind(id.device.as_str())
            .bind(fingerprint)
            .fetch_optional(&mut *transaction)
            .await;
        row.and_then(|row| row.map(from_row).transpose()).map_err(|e| self.sql(e))
    }

    /// Revokes a device's certificates, or the one of that serial number, for a reason that RFC 5280 names. With all its
    /// certificates a device loses the codes that it could get another by. What has ended or is revoked already stays as it is. Returns what was revoked.
    ///
    /// The device need not be registered any more.
    ///
    /// # Errors
    /// [`StoreError::Busy`] or [`StoreError::Io`].
    pub async fn certificates_revoke(
        &self,
        actor: &str,
        id: &DeviceId,
        serial: Option<&str>,
        reason: &str,
        now: u64,
    ) -> Result<Vec<Certificate>, StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        let revoked = edit.revoke(id, serial, reason, now).await?;
        if serial.is_none() {
            edit.forget_codes(id).await?;
        }
        edit.commit().await?;
        Ok(revoked)
    }

    /// Keeps the hash of a new code, and forgets codes that have expired.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the device is not registered.
    pub async fn code_add(
        &self,
        actor: &str,
        id: &DeviceId,
        hash: &str,
        expires_at: u64,
        now: u64,
    ) -> Result<(), StoreError> {
        let mut edit = Edit::begin(self, actor).await?;
        edit.find::<Device>(id).await?;
        let insert = async {
            // What has expired is of no use to anybody.
            sqlx::query("DELETE FROM enrolment_codes WHERE expires_at <= $1")
                .bind(signed(now)?)
                .execute(edit.conn())
                .await?;
            sqlx::query("INSERT INTO enrolment_codes (hash, site, device, expires_at) VALUES ($1, $2, $3, $4)")
                .bind(hash)
                .bind(id.site.as_str())
                .bind(id.device.as_str())
                .bind(signed(expires_at)?)
                .execute(edit.conn())
                .await
        };
        insert.await.map_err(|e| self.sql(e))?;
        let entry = Entry::EnrolmentCode(describe(id, hash, expires_at));
        edit.journal_entries(Verb::Add, None, Some(entry)).await?;
        edit.commit().await
    }

    /// Whether a code would be taken: a look without taking it.
    ///
    /// # Errors
    /// [`StoreError::Code`] if not; those of every reading call.
    pub async fn code_check(&self, id: &DeviceId, hash: &str, now: u64) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let found = code(&mut transaction, id, hash, now).await.map_err(|e| self.sql(e))?;
        found.map(drop).ok_or(StoreError::Code)
    }

    /// The list of an issuer as it was last published.
    ///
    /// # Errors
    /// Those of every reading call.
    pub async fn crl_state(&self, issuer: &str) -> Result<Option<CrlState>, StoreError> {
        let mut transaction = self.begin().await?;
        let row: sqlx::Result<Option<(i64, i64, i64)>> =
            sqlx::query_as("SELECT number, next_update, stale FROM crls WHERE issuer = $1")
                .bind(issuer)
                .fetch_optional(&mut *transaction)
                .await;
        let state = row.and_then(|row| {
            row.map(|(last, next_update, stale)| {
                Ok(CrlState { number: number(last)?, next_update: number(next_update)?, stale: stale != 0 })
            })
            .transpose()
        });
        state.map_err(|e| self.sql(e))
    }

    /// Publishes an issuer's next list: `publish` signs and writes it while nobody else can, so that a list never takes
    /// the place of a later one. If it fails, the number is not used.
    ///
    /// A number is the time, or one more than the last: numbers grow even if the store was lost and begun anew.
    ///
    /// # Errors
    /// What `publish` says; otherwise those of every mutating call.
    pub async fn crl_publish<E: From<StoreError>>(
        &self,
        issuer: &str,
        next_update: u64,
        now: u64,
        publish: impl FnOnce(&CrlDraft) -> Result<(), E>,
    ) -> Result<CrlDraft, E> {
        let mut edit = Edit::begin(self, "").await?;
        let draft = async {
            let (last,): (i64,) = sqlx::query_as(
                "INSERT INTO crls (issuer, number, next_update, stale) VALUES ($1, $3, $2, 0) \
                 ON CONFLICT (issuer) DO UPDATE SET next_update = $2, stale = 0, \
                 number = CASE WHEN crls.number < $3 THEN $3 ELSE crls.number + 1 END RETURNING number",
            )
            .bind(issuer)
            .bind(signed(next_update)?)
            .bind(signed(now)?)
            .fetch_one(edit.conn())
            .await?;
            let listed =
                format!("{COLUMNS} WHERE issuer = $1 AND revoked_at IS NOT NULL AND not_after > $2 ORDER BY serial");
            let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(listed))
                .bind(issuer)
                .bind(signed(now.saturating_sub(LISTED_AFTER_END))?)
                .fetch_all(edit.conn())
                .await?;
            let revoked = rows.into_iter().map(from_row).collect::<sqlx::Result<_>>()?;
            Ok(CrlDraft { number: number(last)?, revoked })
        };
        let draft: CrlDraft = draft.await.map_err(|e| self.sql(e))?;
        publish(&draft)?;
        edit.commit().await?;
        Ok(draft)
    }
}

impl Edit<'_> {
    /// Takes from a device that is to be removed what would outlive it: another device of the same name must not come
    /// in by its codes or certificates.
    pub(super) async fn forget(&mut self, id: &DeviceId) -> Result<(), StoreError> {
        self.forget_codes(id).await?;
        let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
        self.revoke(id, None, certs::path::RevocationReason::CessationOfOperation.name(), now).await.map(drop)
    }

    /// A device that asks for itself has to be active, and its site.
    async fn check_active(&mut self, id: &DeviceId) -> Result<(), StoreError> {
        let device = self.find::<Device>(id).await?;
        let site = self.find::<Site>(&id.site).await?;
        if device.status == Status::Active && site.status == Status::Active {
            Ok(())
        } else {
            Err(StoreError::NotActive(EntryName::Device(id.clone())))
        }
    }

    async fn use_code(&mut self, id: &DeviceId, hash: &str, now: u64) -> Result<(), StoreError> {
        let store = self.store();
        let found = code(self.conn(), id, hash, now).await.map_err(|e| store.sql(e))?;
        let used = found.ok_or(StoreError::Code)?;
        let deleted = sqlx::query("DELETE FROM enrolment_codes WHERE hash = $1").bind(hash).execute(self.conn()).await;
        deleted.map_err(|e| store.sql(e))?;
        self.journal_entries(Verb::Use, Some(Entry::EnrolmentCode(used)), None).await
    }

    async fn forget_codes(&mut self, id: &DeviceId) -> Result<(), StoreError> {
        let store = self.store();
        let deleted = sqlx::query("DELETE FROM enrolment_codes WHERE site = $1 AND device = $2")
            .bind(id.site.as_str())
            .bind(id.device.as_str())
            .execute(self.conn())
            .await;
        deleted.map(drop).map_err(|e| store.sql(e))
    }

    async fn revoke(
        &mut self,
        id: &DeviceId,
        serial: Option<&str>,
        reason: &str,
        now: u64,
    ) -> Result<Vec<Certificate>, StoreError> {
        let store = self.store();
        let all = of_device(self.conn(), id).await.map_err(|e| store.sql(e))?;
        let mut revoked = Vec::new();
        for before in all {
            let wanted = serial.is_none_or(|serial| serial == before.serial);
            if !wanted || before.revoked_at.is_some() || before.not_after <= now {
                continue;
            }
            let after = Certificate { revoked_at: Some(now), reason: Some(reason.to_owned()), ..before.clone() };
            let updated = async {
                sqlx::query("UPDATE certificates SET revoked_at = $1, reason = $2 WHERE serial = $3")
                    .bind(signed(now)?)
                    .bind(reason)
                    .bind(&after.serial)
                    .execute(self.conn())
                    .await?;
                sqlx::query("UPDATE crls SET stale = 1 WHERE issuer = $1")
                    .bind(&after.issuer)
                    .execute(self.conn())
                    .await
            };
            updated.await.map_err(|e| store.sql(e))?;
            self.journal_entries(
                Verb::Revoke,
                Some(Entry::Certificate(before)),
                Some(Entry::Certificate(after.clone())),
            )
            .await?;
            revoked.push(after);
        }
        Ok(revoked)
    }
}

#[cfg(test)]
mod tests;
