//! The reviewer of both clinics, to whom the log is sealed. A real one keeps the key elsewhere, and the passphrase to
//! himself.

use std::num::NonZeroU32;
use std::path::Path;

use gateway_audit::reviewer::private::ReviewerKey;

use super::cast::TRUST_DOMAIN;
use super::error::QuickstartError;
use super::layout::write;
use crate::audit::init::{self, InitError};
use crate::audit::opening::Opener;

/// The private key's file in the folder.
pub(super) const KEY: &str = "reviewer.key";
/// What protects it, from nobody.
pub(super) const PASSPHRASE: &str = "quickstart only";
const NAME: &str = "quickstart-reviewer";
/// A passphrase that everybody knows needs no work.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);

/// Makes the reviewer, and what sealing needs.
pub(super) fn make(dir: &Path) -> Result<(), QuickstartError> {
    let file = dir.join(KEY);
    let failed = |why: String| QuickstartError::Reviewer { file: file.clone(), why };
    let made = |error: InitError| failed(error.to_string());
    let key = init::new_reviewer(NAME).map_err(made)?;
    let protected = key.protect(PASSPHRASE, ROUNDS, init::random().map_err(made)?);
    write(&file, &protected.map_err(|error| failed(error.to_string()))?, 0o600)?;
    let (keys, reviewers) = (dir.join("state/audit-keys"), dir.join("state/audit-reviewers"));
    let first = init::first_statement(TRUST_DOMAIN, &[key.public().clone()], &key);
    let first = first.map_err(|error| failed(error.to_string()))?;
    init::make(&keys, &reviewers, TRUST_DOMAIN, &first).map_err(made)?;
    Ok(())
}

/// Opens the log's records.
pub(super) fn opener(dir: &Path) -> Result<Opener, String> {
    let file = dir.join(KEY);
    let key = std::fs::read(&file).map_err(|error| format!("`{}`: {error}", file.display()))?;
    let key = ReviewerKey::open(&key, PASSPHRASE).map_err(|error| format!("`{}`: {error}", file.display()))?;
    Ok(Opener::new(&dir.join("state/audit-keys"), key))
}
