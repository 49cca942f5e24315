//! An issuer's keys on disk, so that a restart need not wait for the issuer. Only the gateway may enter that folder: what lies
//! there is believed as what was fetched.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use policy::token::{KeySet, MAX_SET_BYTES};
use serde::{Deserialize, Serialize};

use crate::load::read_bounded;
use crate::replace::replace;

/// Quoting a set in JSON at most doubles it.
const MAX_FILE: usize = 2 * MAX_SET_BYTES + 4096;

#[derive(Serialize, Deserialize)]
struct Kept {
    /// Where the keys are from: others are not taken for them when the configuration changes.
    url: String,
    /// Seconds since 1970.
    fetched_at: i64,
    /// As the server sent them.
    jwks: String,
}

/// Whether nobody but the gateway and root can put keys where it keeps them; also where there is no such folder yet.
///
/// # Errors
/// In words, that somebody can.
pub(super) fn check(path: &Path) -> Result<(), String> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let metadata = match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|error| format!("`{}`: {error}", folder.display()))?,
    };
    let owner = metadata.uid();
    let is_ours = owner == 0 || owner == rustix::process::geteuid().as_raw();
    if !metadata.is_dir() || !is_ours || metadata.mode() & 0o077 != 0 {
        let why =
            "what lies there is believed as what was fetched: it must be a folder of the gateway's user with mode 700";
        return Err(format!("`{}`: {why}", folder.display()));
    }
    Ok(())
}

/// The keys that were fetched from there last, and when; none where there are none, or they cannot be read.
pub(super) fn read(path: &Path, url: &str) -> Option<(KeySet, i64)> {
    if !path.exists() {
        return None;
    }
    let parse = |text: String| -> Option<(KeySet, i64)> {
        let kept: Kept = serde_json::from_str(&text).ok().filter(|kept: &Kept| kept.url == url)?;
        Some((KeySet::parse(kept.jwks.as_bytes()).ok()?, kept.fetched_at))
    };
    let found = read_bounded(path, MAX_FILE).ok().and_then(parse);
    if found.is_none() {
        tracing::warn!(file = %path.display(), "fetched keys are damaged, or of another place; they are fetched again");
    }
    found
}

/// Keeps keys for the next start.
///
/// # Errors
/// The system's; what was there before is there still.
pub(super) fn write(path: &Path, url: &str, jwks: &[u8], fetched_at: i64) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    check(path).map_err(io::Error::other)?;
    let jwks = String::from_utf8_lossy(jwks).into_owned();
    let text = serde_json::to_vec(&Kept { url: url.to_owned(), fetched_at, jwks })?;
    replace(path, &text, 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWKS: &str =
        r#"{"keys":[{"kty":"OKP","kid":"a","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    #[test]
    fn a_folder_that_others_may_enter_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token-keys/idp.json");
        assert_eq!(check(&path), Ok(()));
        write(&path, "https://a", JWKS.as_bytes(), 7).unwrap();
        assert_eq!(check(&path), Ok(()));
        for mode in [0o701, 0o720, 0o750] {
            fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(mode)).unwrap();
            assert!(check(&path).is_err_and(|why| why.contains("token-keys")), "{mode:o}");
            assert!(write(&path, "https://a", JWKS.as_bytes(), 8).is_err());
        }
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(folder.path(), path.parent().unwrap()).unwrap();
        assert!(check(&path).is_err(), "a link");
    }

    #[test]
    fn keys_are_kept_with_their_place_and_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/idp.json");
        assert_eq!(read(&path, "https://a"), None);
        write(&path, "https://a", JWKS.as_bytes(), 7).unwrap();
        let (set, at_s) = read(&path, "https://a").unwrap();
        assert_eq!((set.len(), at_s), (1, 7));
        assert_eq!(read(&path, "https://b"), None, "of another place");
        fs::write(&path, "{").unwrap();
        assert_eq!(read(&path, "https://a"), None);
    }
}
