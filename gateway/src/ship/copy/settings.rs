//! `kind = "copy"` in `ship.toml`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// `kind = "copy"`: either `directory` or `s3`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopySettings {
    /// The destination's name.
    pub name: String,
    /// The folder to copy to, best on another machine's disk.
    pub directory: Option<PathBuf>,
    /// The bucket to copy to.
    pub s3: Option<S3Settings>,
    /// What the names in the copy begin with, such as the node's name; several nodes share a copy that way.
    pub prefix: Option<String>,
    /// The folder of the reviewers' statements, to copy them too.
    pub reviewers: Option<PathBuf>,
    /// A destination of kind `witness`, to copy its cosigned checkpoints too.
    pub cosigned_by: Option<String>,
}

/// A bucket of an S3-compatible store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Settings {
    /// The store's URL, without the bucket.
    pub endpoint: String,
    /// The bucket, which exists.
    pub bucket: String,
    /// The region that requests are signed for.
    #[serde(default = "region")]
    pub region: String,
    /// The authorities that the store's certificate must come from, PEM. Plain text goes to a loopback address alone.
    pub ca_file: Option<PathBuf>,
    /// Access key id, secret access key and, if there is one, session token, one a line. Without, they are taken from the
    /// environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`.
    pub credentials_file: Option<PathBuf>,
}

fn region() -> String {
    "us-east-1".to_owned()
}

/// Where a copy lies.
pub(super) enum Place<'a> {
    Directory(&'a Path),
    S3(&'a S3Settings),
}

impl CopySettings {
    pub(in crate::ship) fn absolute(&mut self, folder: &Path) {
        let within = |path: &mut PathBuf| *path = folder.join(&*path);
        self.directory.iter_mut().for_each(within);
        self.reviewers.iter_mut().for_each(within);
        if let Some(s3) = &mut self.s3 {
            s3.ca_file.iter_mut().for_each(within);
            s3.credentials_file.iter_mut().for_each(within);
        }
    }

    pub(super) fn place(&self) -> Result<Place<'_>, String> {
        match (&self.directory, &self.s3) {
            (Some(directory), None) => Ok(Place::Directory(directory)),
            (None, Some(s3)) => Ok(Place::S3(s3)),
            (Some(_), Some(_)) => Err("`directory` and `s3` are both given".to_owned()),
            (None, None) => Err("neither `directory` nor `s3` is given".to_owned()),
        }
    }

    pub(in crate::ship) fn check(&self) -> Result<(), String> {
        self.place()?;
        let plain = |part: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain)
        };
        match &self.prefix {
            Some(prefix) if !prefix.split('/').all(plain) => Err(format!(
                "`prefix` is `{}`, and not names of letters, digits, `-`, `_` and `.`",
                prefix.escape_debug()
            )),
            Some(_) | None => Ok(()),
        }
    }
}
