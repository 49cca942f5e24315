//! What can go wrong while a quickstart is made and run.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Why a quickstart could not be made or run.
#[derive(Debug, thiserror::Error)]
pub enum QuickstartError {
    /// The folder holds something else; nothing in it was touched.
    #[error("`{dir}` holds `{entry}`, which no quickstart made: name an empty folder with `--dir`")]
    Foreign {
        /// The folder.
        dir: PathBuf,
        /// The first entry that is not known, by name.
        entry: String,
    },
    /// Another process runs on the folder.
    #[error("`{0}` is in use by another quickstart: stop it, or name another folder with `--dir`")]
    InUse(PathBuf),
    /// An address is taken.
    #[error("`{address}` is in use: name another with `{knob}`")]
    Busy {
        /// The address.
        address: SocketAddr,
        /// The flag, or the key and file, that sets it.
        knob: String,
    },
    /// A flag asks for another address than the folder was made with.
    #[error("`{file}` says `{made}`, not `{asked}`: change it there, or leave out `{flag}`")]
    OtherAddress {
        /// The configuration file.
        file: PathBuf,
        /// The address in the file.
        made: SocketAddr,
        /// The address of the flag.
        asked: SocketAddr,
        /// The flag.
        flag: &'static str,
    },
    /// The configuration file no longer tells what the quickstart must know.
    #[error("`{file}` does not tell `{key}`: {why}")]
    Configuration {
        /// The configuration file.
        file: PathBuf,
        /// The key, dotted.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A file or folder cannot be read or written.
    #[error("`{path}`: {error}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Certificates could not be issued.
    #[error("cannot issue the certificate of `{name}`: {why}")]
    Issue {
        /// Whose certificate.
        name: String,
        /// What the issuer says.
        why: String,
    },
    /// The registry could not be filled.
    #[error("cannot fill the registry `{file}`: {why}")]
    Registry {
        /// The database.
        file: PathBuf,
        /// What the store says.
        why: String,
    },
    /// The log's reviewer cannot be made.
    #[error("`{}`: the log's reviewer: {why}", file.display())]
    Reviewer {
        /// The private key's file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The gateway did not start, was not ready in time, or did not stop cleanly.
    #[error("the gateway: {0}")]
    Gateway(String),
    /// The demonstration backend, the runtime or a signal handler could not be set up.
    #[error("{what}: {error}")]
    System {
        /// What was set up.
        what: &'static str,
        /// What the system says.
        error: io::Error,
    },
}

impl QuickstartError {
    /// For `map_err` of file operations on one path.
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { path, error }
    }
}
