//! What requests to a store are signed with: from a file that nobody else reads, or the environment. Never from the
//! settings, and never from a cloud's own address, which would ask the network for a secret.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::settings::S3Settings;

/// Access key id, secret access key, session token.
pub(super) struct Credentials {
    pub(super) key_id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    pub(super) fn load(settings: &S3Settings) -> Result<Self, String> {
        let Some(file) = &settings.credentials_file else {
            let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
            let of = |name: &str| {
                variable(name).ok_or_else(|| {
                    format!("bucket `{}`: neither `credentials_file` nor `{name}` is given", settings.bucket)
                })
            };
            let (key_id, secret) = (of("AWS_ACCESS_KEY_ID")?, of("AWS_SECRET_ACCESS_KEY")?);
            return Ok(Self { key_id, secret, token: variable("AWS_SESSION_TOKEN") });
        };
        let failed = |why: &dyn std::fmt::Display| format!("`{}`: {why}", file.display());
        let mode = fs::metadata(file).map_err(|error| failed(&error))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(failed(&format!("it holds a secret and can be read by others (mode {mode:03o})")));
        }
        let text = fs::read_to_string(file).map_err(|error| failed(&error))?;
        Self::parse(&text)
            .ok_or_else(|| failed(&"it is not an access key id, a secret and perhaps a token, one a line"))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.trim_end().lines().map(str::trim);
        let (key_id, secret, token) = (lines.next()?, lines.next()?, lines.next());
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let good = plain(key_id) && plain(secret) && token.is_none_or(plain) && lines.next().is_none();
        good.then(|| Self { key_id: key_id.to_owned(), secret: secret.to_owned(), token: token.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_two_or_three_lines_and_is_private() {
        let read = |text: &str| Credentials::parse(text).map(|read| (read.key_id, read.secret, read.token));
        assert_eq!(read("id\nsecret\n"), Some(("id".into(), "secret".into(), None)));
        assert_eq!(read("id\nsecret\ntoken"), Some(("id".into(), "secret".into(), Some("token".into()))));
        for bad in ["", "id", "id\n\n", "id\nse cret", "id\nsecret\ntoken\nmore"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("s3.key");
        fs::write(&file, "id\nsecret\n").unwrap();
        let settings = S3Settings {
            endpoint: "https://s3.example".into(),
            bucket: "audit".into(),
            region: "r".into(),
            ca_file: None,
            credentials_file: Some(file.clone()),
        };
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Credentials::load(&settings).unwrap_err().contains("mode 640"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let read = Credentials::load(&settings).unwrap();
        assert_eq!(read.key_id, "id");
        assert!(!format!("{read:?}").contains("secret"));
        fs::write(&file, "id\n").unwrap();
        assert!(Credentials::load(&settings).unwrap_err().contains("one a line"));
    }
}
