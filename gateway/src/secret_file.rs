//! Files that hold a secret of the gateway's own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Writes a file that nobody else can read at any moment, and that is on disk when this returns.
///
/// # Errors
/// `AlreadyExists` if there is one; the system's.
pub(crate) fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut suffix = [0; 8];
    aws_lc_rs::rand::fill(&mut suffix).map_err(|_| io::Error::other("no random bytes"))?;
    // Whoever reads it sees no key or the whole: it gets its name when it is whole.
    let next = path.with_extension(format!("{}.new", certs::hex(&suffix)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut write = || {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // What root makes for a client's configuration, the gateway must be able to read.
        if rustix::process::geteuid().is_root() {
            let owner = fs::metadata(folder)?;
            std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        fs::hard_link(&next, path)
    };
    let written = write();
    fs::remove_file(&next)?;
    written?;
    File::open(folder)?.sync_all()
}
