//! The folder: what lies where, and how it is made once and never half.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::QuickstartError;
use super::{configuration, pki, policies, registry, reviewer};
use crate::audit::opening::Opener;

/// Which addresses a quickstart was asked to use. Port 0 takes a free one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    /// The clinics' listener; 127.0.0.1:8443 unless said.
    pub listen: Option<SocketAddr>,
    /// The admin listener; 127.0.0.1:9443 unless said.
    pub admin: Option<SocketAddr>,
}

/// The addresses of a quickstart, as its configuration says them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The clinics' listener.
    pub listen: SocketAddr,
    /// Metrics and health.
    pub admin: SocketAddr,
    /// The demonstration server.
    pub backend: SocketAddr,
    /// Where tunnels end, UDP; none in a folder that an earlier version made.
    pub tunnels: Option<SocketAddr>,
}

/// A complete quickstart folder, locked against a second process until this is dropped.
#[derive(Debug)]
pub struct Layout {
    dir: PathBuf,
    addresses: Addresses,
    made: bool,
    backend: TcpListener,
    _lock: File,
}

/// A client's certificate and key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key, readable by its owner only.
    pub key: PathBuf,
}

/// Says that the folder is a quickstart's and whether it is complete; carries the lock.
const MARKER: &str = ".sekisho-quickstart";
const MADE: &str = "made\n";
const MAKING: &str = "making\n";

/// Everything a quickstart puts beside the marker.
const ENTRIES: &[&str] =
    &["audit", "ca", "ca.crt", "clients", "policy", "reviewer.key", "sekisho.toml", "state", "tls"];

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LISTEN: SocketAddr = SocketAddr::new(LOOPBACK, 8443);
const ADMIN: SocketAddr = SocketAddr::new(LOOPBACK, 9443);
/// Tried first; where it is taken, any free port serves.
const TUNNELS: u16 = 51_820;
/// The same.
const BACKEND: SocketAddr = SocketAddr::new(LOOPBACK, 8480);

/// Makes a quickstart in an empty folder, or goes on with the one that is there, of which nothing is overwritten.
/// What an interrupted start left half-made is made anew.
///
/// # Errors
/// [`QuickstartError`]: the folder holds something else or is in use, an address is taken or not the folder's, or a
/// file, certificate or registry entry cannot be made.
pub fn prepare(dir: &Path, asked: Asked) -> Result<Layout, QuickstartError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir).map_err(QuickstartError::file(dir))?;
    refuse_foreign(dir)?;
    let mut lock = lock(dir)?;
    let marker = dir.join(MARKER);

    let mut state = String::new();
    lock.read_to_string(&mut state).map_err(QuickstartError::file(&marker))?;
    if state == MADE {
        let addresses = configuration::addresses(dir)?;
        agrees(dir, asked.listen, addresses.listen, "--listen")?;
        agrees(dir, asked.admin, addresses.admin, "--admin")?;
        let file = configuration::file(dir);
        let knob = |key: &str| format!("{key}` in `{}", file.display());
        free(addresses.listen, &knob("listener.address"))?;
        free(addresses.admin, &knob("admin.listen"))?;
        if let Some(tunnels) = addresses.tunnels {
            free_datagrams(tunnels).map_err(busy(tunnels, &knob("listener.address")))?;
        }
        let backend = bind(addresses.backend, &knob("service.backends"))?;
        return Ok(Layout { dir: dir.to_owned(), addresses, made: false, backend, _lock: lock });
    }

    let listen = free(asked.listen.unwrap_or(LISTEN), "--listen")?;
    let admin = free(asked.admin.unwrap_or(ADMIN), "--admin")?;
    let any = SocketAddr::new(LOOPBACK, 0);
    let backend = bind(BACKEND, "").or_else(|_| bind(any, "a free port"))?;
    let address = backend.local_addr().map_err(|error| QuickstartError::System { what: "backend", error })?;
    let tunnels =
        SocketAddr::new(LOOPBACK, if asked.listen.is_some_and(|asked| asked.port() == 0) { 0 } else { TUNNELS });
    let tunnels = free_datagrams(tunnels).or_else(|_| free_datagrams(any)).map_err(busy(any, "a free port"))?;
    let addresses = Addresses { listen, admin, backend: address, tunnels: Some(tunnels) };

    write_marker(&mut lock, MAKING).map_err(QuickstartError::file(&marker))?;
    sweep(dir)?;
    let certificates = pki::make(dir)?;
    policies::make(dir)?;
    configuration::make(dir, &addresses)?;
    registry::make(dir, &certificates)?;
    reviewer::make(dir)?;
    write_marker(&mut lock, MADE).map_err(QuickstartError::file(&marker))?;
    Ok(Layout { dir: dir.to_owned(), addresses, made: true, backend, _lock: lock })
}

impl Layout {
    /// The folder as it was named.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether this start made it.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.made
    }

    /// Where gateway and backend listen.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The gateway's configuration.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        configuration::file(&self.dir)
    }

    /// The root's certificate, which clients trust.
    #[must_use]
    pub fn ca_certificate(&self) -> PathBuf {
        self.dir.join(pki::CA_CERTIFICATE)
    }

    /// The audit log's folder.
    #[must_use]
    pub fn audit(&self) -> PathBuf {
        self.dir.join("audit")
    }

    /// Opens the audit log's records, as the reviewer of both clinics.
    pub(super) fn opener(&self) -> Result<Opener, String> {
        reviewer::opener(&self.dir)
    }

    /// What a device presents.
    #[must_use]
    pub fn client(&self, site: &str, device: &str) -> ClientFiles {
        client(&self.dir, site, device)
    }

    /// A handle of the socket that the demonstration server is to answer on, bound when the folder was prepared.
    ///
    /// # Errors
    /// What the system says.
    pub fn backend_listener(&self) -> io::Result<TcpListener> {
        self.backend.try_clone()
    }
}

/// Where a device's files lie.
pub(super) fn client(dir: &Path, site: &str, device: &str) -> ClientFiles {
    let folder = dir.join("clients").join(site);
    ClientFiles { certificate: folder.join(format!("{device}.crt")), key: folder.join(format!("{device}.key")) }
}

/// Writes a file that must not be there yet, and the folders above it.
pub(super) fn write(path: &Path, content: &str, mode: u32) -> Result<(), QuickstartError> {
    let write = || {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(content.as_bytes())
    };
    write().map_err(QuickstartError::file(path))
}

/// A folder with a marker may hold what a quickstart makes and, once it is complete, whatever its owner added.
fn refuse_foreign(dir: &Path) -> Result<(), QuickstartError> {
    let marker = dir.join(MARKER);
    let state = match fs::read_to_string(&marker) {
        Ok(state) => Some(state),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(QuickstartError::File { path: marker, error }),
    };
    if state.as_deref() == Some(MADE) {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(QuickstartError::file(dir))? {
        let name = entry.map_err(QuickstartError::file(dir))?.file_name().to_string_lossy().into_owned();
        let known = state.is_some() && (name == MARKER || ENTRIES.contains(&name.as_str()));
        if !known {
            return Err(QuickstartError::Foreign { dir: dir.to_owned(), entry: name.escape_debug().to_string() });
        }
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<File, QuickstartError> {
    let path = dir.join(MARKER);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(QuickstartError::file(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(QuickstartError::InUse(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(QuickstartError::File { path, error }),
    }
}

fn write_marker(lock: &mut File, state: &str) -> io::Result<()> {
    lock.rewind()?;
    lock.set_len(0)?;
    lock.write_all(state.as_bytes())?;
    lock.sync_all()
}

/// Removes what an interrupted start left. Nothing of it was ever used: the gateway starts on complete folders only.
fn sweep(dir: &Path) -> Result<(), QuickstartError> {
    for entry in ENTRIES {
        let path = dir.join(entry);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(QuickstartError::File { path, error });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn agrees(dir: &Path, asked: Option<SocketAddr>, made: SocketAddr, flag: &'static str) -> Result<(), QuickstartError> {
    match asked {
        Some(asked) if asked != made && asked.port() != 0 => {
            Err(QuickstartError::OtherAddress { file: configuration::file(dir), made, asked, flag })
        }
        Some(_) | None => Ok(()),
    }
}

/// The address, with a port chosen where it has none, if nobody listens on it. The gateway's own sockets share their
/// port (`SO_REUSEPORT`), so that a second gateway would take requests from the first without an error.
fn free(address: SocketAddr, knob: &str) -> Result<SocketAddr, QuickstartError> {
    let listener = bind(address, knob)?;
    listener.local_addr().map_err(|error| QuickstartError::System { what: "listener", error })
}

/// The same of UDP.
fn free_datagrams(address: SocketAddr) -> io::Result<SocketAddr> {
    UdpSocket::bind(address)?.local_addr()
}

fn bind(address: SocketAddr, knob: &str) -> Result<TcpListener, QuickstartError> {
    TcpListener::bind(address).map_err(busy(address, knob))
}

fn busy(address: SocketAddr, knob: &str) -> impl FnOnce(io::Error) -> QuickstartError {
    let knob = knob.to_owned();
    move |error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            QuickstartError::Busy { address, knob }
        } else {
            QuickstartError::File { path: PathBuf::from(address.to_string()), error }
        }
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
