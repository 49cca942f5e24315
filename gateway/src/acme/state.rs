//! What is kept between starts: the account, and for each listener a folder for every certificate with a link to the one
//! in use.
//!
//! Chain and key change together, by the rename of one link: whoever reads at any moment, or starts after a crash, finds
//! a pair that belongs together.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use instant_acme::AccountCredentials;
use serde::{Deserialize, Serialize};

use crate::authority::{CaError, random, read_private};
use crate::config::{ACME_CHAIN, ACME_CURRENT, ACME_KEY};
use crate::replace::replace;

const ACCOUNT: &str = "account.json";

/// What is wrong with the state.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    /// A file or folder.
    #[error("`{path}`: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file that only its owner may read, or random bytes.
    #[error(transparent)]
    Private(#[from] CaError),
    /// The account's file.
    #[error("`{path}` holds no account: {reason}", path = path.display())]
    Account {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::File { path, source }
}

/// An account, and where it is one.
#[derive(Serialize, Deserialize)]
struct Kept {
    directory_url: String,
    credentials: AccountCredentials,
}

/// The account at that server, if there is one.
pub(super) fn account(folder: &Path, directory_url: &str) -> Result<Option<AccountCredentials>, StateError> {
    let path = folder.join(ACCOUNT);
    if !path.exists() {
        return Ok(None);
    }
    let kept: Kept = serde_json::from_str(&read_private(&path)?)
        .map_err(|error| StateError::Account { path, reason: error.to_string() })?;
    Ok((kept.directory_url == directory_url).then_some(kept.credentials))
}

/// Keeps an account in the place of an older one.
pub(super) fn keep_account(
    folder: &Path,
    directory_url: &str,
    credentials: AccountCredentials,
) -> Result<(), StateError> {
    make(folder)?;
    let path = folder.join(ACCOUNT);
    let kept = Kept { directory_url: directory_url.to_owned(), credentials };
    let text = serde_json::to_vec(&kept)
        .map_err(|error| StateError::Account { path: path.clone(), reason: error.to_string() })?;
    replace(&path, &text, 0o600).map_err(at(&path))
}

/// Puts a pair into use.
pub(super) fn put(folder: &Path, chain: &str, key: &str) -> Result<(), StateError> {
    make(folder)?;
    let name = certs::hex(&random::<8>()?);
    let new = folder.join(&name);
    make(&new)?;
    write(&new.join(ACME_CHAIN), chain.as_bytes())?;
    write(&new.join(ACME_KEY), key.as_bytes())?;
    sync(&new)?;
    let (link, current) = (folder.join(format!(".{name}")), folder.join(ACME_CURRENT));
    symlink(&name, &link).map_err(at(&link))?;
    fs::rename(&link, &current).map_err(at(&current))?;
    sync(folder)?;
    // Keys that are out of use, and what a crash left behind.
    let entries = fs::read_dir(folder).map_err(at(folder))?;
    for entry in entries.filter_map(Result::ok) {
        let kept = [ACME_CURRENT, name.as_str()].iter().any(|kept| entry.file_name() == *kept);
        if !kept && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = fs::remove_dir_all(entry.path());
        } else if !kept {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn make(folder: &Path) -> Result<(), StateError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(at(path))
}

fn sync(folder: &Path) -> Result<(), StateError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_pair_changes_as_one_and_the_old_key_is_gone() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("acme/clinics");
        let read = |name: &str| fs::read_to_string(folder.join(ACME_CURRENT).join(name)).unwrap();
        for number in ["1", "2", "3"] {
            put(&folder, &format!("chain {number}"), &format!("key {number}")).unwrap();
            assert_eq!((read(ACME_CHAIN), read(ACME_KEY)), (format!("chain {number}"), format!("key {number}")));
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "one folder, and the link to it");
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let current = folder.join(ACME_CURRENT);
        assert_eq!((mode(&folder), mode(&current), mode(&current.join(ACME_KEY))), (0o700, 0o700, 0o600));
    }

    #[test]
    fn an_account_is_of_one_server_and_private() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("acme");
        assert!(account(&folder, "https://a/dir").unwrap().is_none());
        let text = r#"{"id":"https://a/1","key_pkcs8":"MAA","directory":"https://a/dir"}"#;
        let credentials: AccountCredentials = serde_json::from_str(text).unwrap();
        keep_account(&folder, "https://a/dir", credentials).unwrap();
        assert!(account(&folder, "https://a/dir").unwrap().is_some());
        assert!(account(&folder, "https://b/dir").unwrap().is_none());
        let path = folder.join(ACCOUNT);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(account(&folder, "https://a/dir").is_err());
    }
}
