//! The time servers that the gateway asks by itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::ntp::{Key, KeyError};
use crate::config;

/// The longest key file, in bytes.
const MAX_KEY_FILE: u64 = 4_096;

/// A server with its key.
#[derive(Debug, Clone)]
pub struct Server {
    /// Host and port.
    pub address: String,
    /// Proves that it was the server who answered.
    pub(super) key: Option<Key>,
    /// SHA-256 of the key's line.
    key_sha256: Option<[u8; 32]>,
}

impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        (&self.address, self.key_sha256) == (&other.address, other.key_sha256)
    }
}

/// Whom to ask, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Asking {
    /// chronyd's monitoring address.
    pub chrony: Option<std::net::SocketAddr>,
    /// The servers.
    pub servers: Arc<[Server]>,
    /// From one question to a server to the next.
    pub interval: Duration,
}

/// Why a server's key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("the key of time server `{server}`: cannot read `{}`: {source}", path.display())]
    Read {
        /// The server.
        server: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It holds no key.
    #[error("the key of time server `{server}`: `{}`: {source}", path.display())]
    Key {
        /// The server.
        server: String,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
}

impl Asking {
    /// Reads the keys that a configuration names.
    ///
    /// # Errors
    /// [`KeyFileError`] names the server and the file.
    pub fn load(settings: &config::Clock) -> Result<Self, KeyFileError> {
        let servers = settings.servers.iter().map(load).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { chrony: settings.chrony, servers: servers.into(), interval: settings.probe_interval })
    }

    /// How long a server's word counts: eight questions without an answer.
    pub(super) fn stale_ns(&self) -> u64 {
        u64::try_from(self.interval.as_nanos().saturating_mul(8)).unwrap_or(u64::MAX)
    }
}

fn load(server: &config::ClockServer) -> Result<Server, KeyFileError> {
    let address = server.address.clone();
    let Some(path) = &server.key_file else { return Ok(Server { address, key: None, key_sha256: None }) };
    let read = |path: &PathBuf| -> std::io::Result<String> {
        use std::io::Read as _;
        let mut text = String::new();
        std::fs::File::open(path)?.take(MAX_KEY_FILE).read_to_string(&mut text)?;
        Ok(text)
    };
    let name = || (server.address.clone(), path.clone());
    let text = read(path).map_err(|source| {
        let (server, path) = name();
        KeyFileError::Read { server, path, source }
    })?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let key = match (lines.next(), lines.next()) {
        (Some(line), None) => Key::parse(line).map(|key| (key, certs::fingerprint(line.as_bytes()))),
        _ => Err(KeyError::Form),
    };
    let (key, digest) = key.map_err(|source| {
        let (server, path) = name();
        KeyFileError::Key { server, path, source }
    })?;
    Ok(Server { address, key: Some(key), key_sha256: Some(digest) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_holds_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ntp.key");
        let server = config::ClockServer { address: "ntp.example:123".into(), key_file: Some(path.clone()) };
        assert!(matches!(load(&server), Err(KeyFileError::Read { .. })));
        let line = "1 AES128 HEX:000102030405060708090a0b0c0d0e0f\n";
        std::fs::write(&path, format!("# the pool's\n\n{line}")).unwrap();
        assert!(load(&server).unwrap().key.is_some());
        std::fs::write(&path, format!("{line}{line}")).unwrap();
        let error = load(&server).unwrap_err().to_string();
        assert!(error.contains("ntp.example:123") && error.contains("ntp.key") && !error.contains("0001"), "{error}");
    }
}
