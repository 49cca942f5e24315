//! Renewals: each certificate has one, and whoever lost the answer to it may ask again.

use sqlx::SqliteConnection;

use super::{Certificate, by_serial};
use crate::store::edit::Edit;
use crate::store::table::signed;
use crate::store::{Entry, Store, StoreError, Verb};

/// What a renewal is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal<'a> {
    /// Serial number of the certificate before, hexadecimal.
    pub old: &'a str,
    /// SHA-256 of the new SubjectPublicKeyInfo, hexadecimal.
    pub key: &'a str,
}

/// The key that a certificate was renewed for, and the certificate that it got, unless that one is revoked.
async fn renewed(conn: &mut SqliteConnection, old: &str) -> sqlx::Result<Option<(String, Option<Vec<u8>>)>> {
    let row: Option<(String, String, Option<i64>)> = sqlx::query_as(
        "SELECT renewals.key_hash, renewals.certificate, certificates.revoked_at FROM renewals \
         JOIN certificates ON certificates.serial = renewals.serial WHERE renewals.old_serial = $1",
    )
    .bind(old)
    .fetch_optional(conn)
    .await?;
    let Some((key, der, revoked_at)) = row else { return Ok(None) };
    let der = certs::unhex(&der).ok_or_else(|| sqlx::Error::Decode("a kept certificate is not hexadecimal".into()))?;
    Ok(Some((key, revoked_at.is_none().then_some(der))))
}

/// The answer to a renewal that was made before: the same request gets the same certificate.
fn again(found: Option<(String, Option<Vec<u8>>)>, renewal: Renewal<'_>) -> Result<Option<Vec<u8>>, StoreError> {
    match found {
        None => Ok(None),
        Some((key, Some(der))) if key == renewal.key => Ok(Some(der)),
        Some(_) => Err(StoreError::Renewed),
    }
}

impl Store {
    /// Keeps the certificate that takes the place of another, once for each: DER `der`. Answers with the certificate that
    /// was issued before where the same key asks again, for its answer may have been lost; the new one is then not kept
    /// and must not leave the caller's hands.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::NotActive`]; [`StoreError::Renewal`] if the certificate before is not
    /// this device's, has ended or is revoked; [`StoreError::Renewed`] if it was renewed for another key, or what it
    /// was renewed to is revoked. Then nothing is kept.
    pub async fn certificate_renew(
        &self,
        actor: &str,
        certificate: &Certificate,
        der: &[u8],
        renewal: Renewal<'_>,
        now: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let id = certificate.device_id();
        let mut edit = Edit::begin(self, actor).await?;
        edit.check_active(&id).await?;
        // Looked at within the transaction: a revocation, or another renewal, that came meanwhile counts.
        let old = by_serial(edit.conn(), renewal.old).await.map_err(|e| self.sql(e))?;
        let old = old.filter(|old| old.device_id() == id && old.revoked_at.is_none() && old.not_after > now);
        let old = old.ok_or(StoreError::Renewal)?;
        let before = renewed(edit.conn(), renewal.old).await.map_err(|e| self.sql(e))?;
        if let Some(before) = again(before, renewal)? {
            return Ok(Some(before));
        }
        self.insert(edit.conn(), certificate).await.map_err(|e| self.sql(e))?;
        let remember = async {
            sqlx::query("DELETE FROM renewals WHERE ends_at <= $1").bind(signed(now)?).execute(edit.conn()).await?;
            sqlx::query(
                "INSERT INTO renewals (old_serial, serial, key_hash, certificate, ends_at) VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(renewal.old)
            .bind(&certificate.serial)
            .bind(renewal.key)
            .bind(certs::hex(der))
            .bind(signed(old.not_after)?)
            .execute(edit.conn())
            .await
        };
        remember.await.map_err(|e| self.sql(e))?;
        edit.journal_entries(Verb::Issue, None, Some(Entry::Certificate(certificate.clone()))).await?;
        edit.commit().await?;
        Ok(None)
    }

    /// What [`Store::certificate_renew`] would answer to a request that was made before; none for a first one. A look
    /// that spares a signature.
    ///
    /// # Errors
    /// [`StoreError::Renewed`]; those of every reading call.
    pub async fn renewal_before(&self, renewal: Renewal<'_>) -> Result<Option<Vec<u8>>, StoreError> {
        let mut transaction = self.begin().await?;
        again(renewed(&mut transaction, renewal.old).await.map_err(|e| self.sql(e))?, renewal)
    }
}
