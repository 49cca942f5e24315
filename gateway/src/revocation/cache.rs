//! Fetched lists on disk, so that a restart does not have to wait for them. They were proved before they were written,
//! and are proved again before they are believed.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use certs::path::Crl;

use super::files;

/// Lists that are read at a start.
const MAX_LISTS: usize = 1024;

/// Puts a list in place of the one that was there, whole or not at all.
///
/// # Errors
/// The system's.
pub(super) fn write(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let unfinished = directory.join(format!(".{name}.new"));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&unfinished, directory.join(format!("{name}.crl")))?;
    fs::File::open(directory)?.sync_all()
}

/// Every list that is there, by name. One that is damaged is left out: it is fetched again.
pub(super) fn read(directory: &Path, most: u64) -> Vec<(String, Crl)> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error, "fetched CRLs cannot be read");
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).take(MAX_LISTS) {
        let name = path.file_stem().and_then(|stem| stem.to_str());
        let Some(name) = name.filter(|_| path.extension().is_some_and(|extension| extension == "crl")) else {
            continue;
        };
        match files::read(&path, most).map(<[Crl; 1]>::try_from) {
            Ok(Ok([crl])) => found.push((name.to_owned(), crl)),
            Ok(Err(_)) => {}
            Err(why) => tracing::warn!(file = %path.display(), %why, "a fetched CRL is damaged"),
        }
    }
    found
}
