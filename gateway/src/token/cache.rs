//! An issuer's keys on disk, so that a restart need not wait for the issuer. Only the gateway may enter that folder: what lies
//! there is believed as what was fetched.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
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
