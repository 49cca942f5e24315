//! Policies from a folder.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use policy::judge::{MAX_FILE_BYTES, MAX_FILES, PolicySource};

/// Why policies cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// A file or folder cannot be read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder has more policy files than a policy set may have.
    #[error("`{0}` has more than {MAX_FILES} files of policies")]
    TooManyFiles(PathBuf),
}

/// Reads the `*.cedar` files of a folder in order of their names. Folders in it and hidden files are not read. An
/// empty folder is legal: it denies everything.
///
/// # Errors
/// [`PolicyFileError::Read`] if the folder or a file cannot be read, is longer than a policy file may be, or is not
/// UTF-8; [`PolicyFileError::TooManyFiles`] if there are too many.
pub fn read_policies(directory: &Path) -> Result<Vec<PolicySource>, PolicyFileError> {
    let fail = |source| PolicyFileError::Read { path: directory.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension() == Some(OsStr::new("cedar")) && !hidden && !path.is_dir() {
            paths.push(path);
        }
    }
    if paths.len() > MAX_FILES {
        return Err(PolicyFileError::TooManyFiles(directory.to_owned()));
    }
    paths.sort();
    let sources = paths.into_iter().map(|path| {
        let text = read_bounded(&path, MAX_FILE_BYTES)?;
        let file = path.file_name().unwrap_or_default().to_string_lossy().escape_debug().to_string();
        Ok(PolicySource { file, text })
    });
    sources.collect()
}

/// Reads a regular file of text that has at most `most` bytes.
///
/// # Errors
/// [`PolicyFileError::Read`].
pub fn read_bounded(path: &Path, most: usize) -> Result<String, PolicyFileError> {
    let fail = |source| PolicyFileError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(fail)?;
    // A device or a pipe has no end, and no policies.
    if !file.metadata().map_err(fail)?.is_file() {
        return Err(fail(io::Error::other("not a file")));
    }
    let mut text = String::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_string(&mut text).map_err(fail)?;
    if text.len() > most {
        return Err(fail(io::Error::other(format!("more than {most} bytes"))));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_policy_files_are_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("b.cedar", "permit(principal, action, resource);");
        write("a.cedar", "");
        write(".hidden.cedar", "nonsense");
        write("notes.txt", "nonsense");
        fs::create_dir(folder.path().join("folder.cedar")).unwrap();
        let files: Vec<_> = read_policies(folder.path()).unwrap().into_iter().map(|source| source.file).collect();
        assert_eq!(files, ["a.cedar", "b.cedar"]);
        write("c.cedar", &"x".repeat(MAX_FILE_BYTES + 1));
        let error = read_policies(folder.path()).unwrap_err().to_string();
        assert!(error.contains("c.cedar") && error.contains("more than"), "{error}");
        assert!(read_policies(&folder.path().join("absent")).unwrap_err().to_string().contains("absent"));
    }
}
