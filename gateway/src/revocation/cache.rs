//! What was fetched, on disk, so that a restart does not have to wait for it. It was proved before it was written, and is
//! proved again before it is believed.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use certs::path::Crl;

use super::files;
use crate::replace::replace;

/// Lists that are read at a start.
const MAX_LISTS: usize = 1024;

/// The extension of a list's file.
pub(super) const LIST: &str = "crl";
/// The extension of an OCSP answer's file.
pub(super) const ANSWER: &str = "ocsp";

/// Puts a file in place of the one that was there, whole or not at all.
///
/// # Errors
/// The system's.
pub(super) fn write(directory: &Path, name: &str, extension: &str, bytes: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    replace(&directory.join(format!("{name}.{extension}")), bytes, 0o600)
}

/// Takes a file away, if it is there.
pub(super) fn remove(directory: &Path, name: &str, extension: &str) {
    let path = directory.join(format!("{name}.{extension}"));
    if let Err(error) = fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = %path.display(), %error, "what is not needed any more cannot be removed");
    }
}

/// The files of that extension, by name, at most so many.
fn each(directory: &Path, extension: &str, most: usize) -> Vec<(String, std::path::PathBuf)> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error, "what was fetched cannot be read");
            return Vec::new();
        }
    };
    let named = |path: std::path::PathBuf| {
        let stem = path.file_stem()?.to_str()?.to_owned();
        path.extension().is_some_and(|found| found == extension).then_some((stem, path))
    };
    entries.filter_map(|entry| named(entry.ok()?.path())).take(most).collect()
}

/// Every list that is there, by name. One that is damaged is left out: it is fetched again.
pub(super) fn read(directory: &Path, most: u64) -> Vec<(String, Crl)> {
    let mut found = Vec::new();
    for (name, path) in each(directory, LIST, MAX_LISTS) {
        match files::read(&path, most).map(<[Crl; 1]>::try_from) {
            Ok(Ok([crl])) => found.push((name, crl)),
            Ok(Err(_)) => {}
            Err(why) => tracing::warn!(file = %path.display(), %why, "a fetched CRL is damaged"),
        }
    }
    found
}

/// The content of every answer's file, at most so many of at most so many bytes.
pub(super) fn answers(directory: &Path, most: usize, bytes: u64) -> impl Iterator<Item = Vec<u8>> {
    let read = move |path: &Path| -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        fs::File::open(path)?.take(bytes).read_to_end(&mut content)?;
        Ok(content)
    };
    each(directory, ANSWER, most).into_iter().filter_map(move |(_, path)| read(&path).ok())
}
