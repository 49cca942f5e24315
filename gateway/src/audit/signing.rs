//! The node's key for checkpoints, and the public list of what they are verified with.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use gateway_audit::note::{KeyKind, Signer, SignerError};

use super::place::LANES;

/// The private key, in the log's directory.
pub const SIGNING_KEY: &str = "signing.key";
/// The public keys, one verifier key line for each lane.
pub const VERIFIER_KEYS: &str = "verifier-keys";
const FIRST_LINE: &str = "sekisho audit signing key v1";

/// Why checkpoints cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// A file cannot be read or written.
    #[error("`{}`: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Others than its owner can read the key.
    #[error("`{}` holds a private key and can be read by others (mode {mode:03o}); `chmod 600` it, or make a new one", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file is not what the program writes.
    #[error("`{}` is not a signing key of an audit log", .0.display())]
    Form(PathBuf),
    /// The public list speaks of another key.
    #[error(
        "`{}` does not list `{key}`: the log was begun with another signing key, or under another name of node or trust \
         domain; put the right one back, or keep the directory as evidence and start on another", path.display()
    )]
    Other {
        /// The public list.
        path: PathBuf,
        /// The key that is not there.
        key: String,
    },
    /// The log's name cannot be that of a key.
    #[error(transparent)]
    Signer(#[from] SignerError),
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> SigningError {
    let path = path.to_owned();
    move |error| SigningError::Io { path, error }
}

/// The node's signing key, made if there is none, for the lane with this name. `origins` are the names of all lanes.
///
/// # Errors
/// [`SigningError`].
pub fn signer(audit: &Path, origins: [String; LANES as usize], lane: u8) -> Result<Signer, SigningError> {
    let path = audit.join(SIGNING_KEY);
    let seed = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(audit, &path).map_err(io_error(&path))?;
            fs::read_to_string(&path)
        }
        read => read,
    };
    let seed = read_seed(&path, &seed.map_err(io_error(&path))?)?;
    let keys = origins.map(|origin| Signer::new(&origin, KeyKind::Log, &seed));
    let list = audit.join(VERIFIER_KEYS);
    let mut lines = String::new();
    let mut own = None;
    for (number, key) in (1..).zip(keys) {
        let key = key?;
        lines.push_str(&format!("{}\n", key.verifier()));
        if number == lane {
            own = Some(key);
        }
    }
    match fs::read_to_string(&list) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write_new(&list, lines.as_bytes(), 0o644).map_err(io_error(&list))?;
        }
        listed => {
            let listed = listed.map_err(io_error(&list))?;
            if let Some(key) = lines.lines().find(|key| !listed.lines().any(|line| line == *key)) {
                return Err(SigningError::Other { path: list, key: key.to_owned() });
            }
        }
    }
    own.ok_or(SigningError::Form(path))
}

fn read_seed(path: &Path, text: &str) -> Result<[u8; 32], SigningError> {
    let mode = fs::metadata(path).map_err(io_error(path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SigningError::Mode { path: path.to_owned(), mode });
    }
    let form = || SigningError::Form(path.to_owned());
    let (first, seed) = text.trim_end().split_once('\n').ok_or_else(form)?;
    let seed = BASE64.decode(seed).ok().filter(|_| first == FIRST_LINE).ok_or_else(form)?;
    seed.try_into().map_err(|_| form())
}

fn make(audit: &Path, path: &Path) -> io::Result<()> {
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| io::Error::other("no random numbers"))?;
    write_new(path, format!("{FIRST_LINE}\n{}\n", BASE64.encode(seed)).as_bytes(), 0o600)?;
    File::open(audit)?.sync_all()
}

/// Makes a file as a whole, durable; one that another process has made meanwhile stays.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let unfinished = path.with_extension(format!("{}.next", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&unfinished)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&unfinished, path));
    let removed = fs::remove_file(&unfinished);
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => removed,
        written => written.and(removed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(node: &str) -> [String; 2] {
        [format!("log.example/{node}/lane-1"), format!("log.example/{node}/lane-2")]
    }

    #[test]
    fn the_key_is_made_once_and_listed_for_each_lane() {
        let folder = tempfile::tempdir().unwrap();
        let first = signer(folder.path(), origins("gw1"), 1).unwrap();
        let second = signer(folder.path(), origins("gw1"), 2).unwrap();
        let listed = fs::read_to_string(folder.path().join(VERIFIER_KEYS)).unwrap();
        assert_eq!(listed, format!("{}\n{}\n", first.verifier(), second.verifier()));
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(fs::metadata(folder.path().join(SIGNING_KEY)).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_others_read_or_that_is_another_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        signer(folder.path(), origins("gw1"), 1).unwrap();
        let error = signer(folder.path(), origins("gw2"), 1).unwrap_err().to_string();
        assert!(error.contains("gw2/lane-1") && error.contains(VERIFIER_KEYS), "{error}");
        let key = folder.path().join(SIGNING_KEY);
        let good = fs::read(&key).unwrap();
        fs::remove_file(&key).unwrap();
        assert!(matches!(signer(folder.path(), origins("gw1"), 1), Err(SigningError::Other { .. })));
        fs::write(&key, &good).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        let error = signer(folder.path(), origins("gw1"), 1).unwrap_err().to_string();
        assert!(error.contains("mode 640") && error.contains(SIGNING_KEY), "{error}");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        signer(folder.path(), origins("gw1"), 1).unwrap();
        fs::write(&key, "no key").unwrap();
        assert!(matches!(signer(folder.path(), origins("gw1"), 1), Err(SigningError::Form(_))));
    }
}
