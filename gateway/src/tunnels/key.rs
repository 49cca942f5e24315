//! The private key that a listener's tunnels end at.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_tunnel::PrivateKey;
use zeroize::Zeroizing;

use crate::secret_file::write_new;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum TunnelKeyError {
    /// The file cannot be read or made.
    #[error("key of tunnels `{}`: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Someone besides the owner can read or write the file.
    #[error("key of tunnels `{}` can be used by others: its mode is {mode:03o} and must be 600", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds no key.
    #[error("key of tunnels `{}` is not 32 bytes in Base64, as `wg genkey` writes them", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The system has no random bytes.
    #[error("no random bytes for a key of tunnels")]
    Random,
}

/// Reads the key of `path`.
///
/// # Errors
/// [`TunnelKeyError`] if there is none, it can be used by others, or is something else.
pub fn load_key(path: &Path) -> Result<PrivateKey, TunnelKeyError> {
    let failed = |source| TunnelKeyError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // Of the open file, not of the path: nobody can exchange it in between.
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TunnelKeyError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(256).read_to_string(&mut text).map_err(failed)?;
    let malformed = || TunnelKeyError::Malformed { path: path.to_owned() };
    let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| malformed())?);
    let key = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| malformed())?;
    Ok(PrivateKey::new(key))
}

/// Reads the key of `path`; if there is no such file, makes a key and writes it with mode 600.
///
/// # Errors
/// [`TunnelKeyError`] if the file can be neither read nor made, can be used by others, or holds something else.
pub fn load_or_create_key(path: &Path) -> Result<PrivateKey, TunnelKeyError> {
    match load_key(path) {
        Err(TunnelKeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let mut bytes = Zeroizing::new([0; 32]);
            aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| TunnelKeyError::Random)?;
            let text = Zeroizing::new(STANDARD.encode(*bytes) + "\n");
            match write_new(path, &text) {
                Ok(()) => Ok(PrivateKey::new(*bytes)),
                // Another process was first: the key is that one.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => load_key(path),
                Err(source) => Err(TunnelKeyError::File { path: path.to_owned(), source }),
            }
        }
        loaded => loaded,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tunnels.key");
        let made = load_or_create_key(&path).unwrap().public();
        assert_eq!(made, load_or_create_key(&path).unwrap().public());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load_or_create_key(&path), Err(TunnelKeyError::Exposed { mode: 0o640, .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for bad in ["", "short", "AAAA\n", "-----BEGIN PRIVATE KEY-----"] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(load_or_create_key(&path), Err(TunnelKeyError::Malformed { .. })), "{bad}");
        }
    }

    /// The gateway's first start and `sekisho device add`, say: all have one key, and nobody sees a part of it.
    #[test]
    fn many_that_make_a_key_at_once_have_the_same() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("tunnels.key");
            let start = std::sync::Barrier::new(8);
            let keys: Vec<_> = std::thread::scope(|scope| {
                let make = || {
                    start.wait();
                    load_or_create_key(&path).map(|key| key.public())
                };
                let making: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
                making.into_iter().map(|made| made.join().unwrap().unwrap()).collect()
            });
            let kept = load_key(&path).unwrap().public();
            assert!(keys.iter().all(|key| *key == kept));
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        }
    }

    /// `wg pubkey` says the same of this key.
    #[test]
    fn it_is_read_as_wg_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tunnels.key");
        write_new(&path, "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n").unwrap();
        let public = load_key(&path).unwrap().public();
        assert_eq!(STANDARD.encode(public.0), "pOCSkrZRwni5dyxWn1+puxPZBrRqtoyd+dwrRAn4ogk=");
    }
}
