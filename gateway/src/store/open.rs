//! Opening the store's file: who may read it, how it is written, and which schema it has.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sqlx::ConnectOptions;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::StoreError;

/// The schema's history, part of the program.
static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();

/// How long a statement waits for another process to commit.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long opening waits for another process that is making or migrating the store.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Which file a path led to: device and inode.
pub(super) type Identity = (u64, u64);

/// Opens the store at `path`, brings its schema up to date, and makes file and directory first if `create` says so.
pub(super) async fn open(path: &Path, create: bool) -> Result<(SqlitePool, Identity), StoreError> {
    if create {
        make_directory(path)?;
    } else if !path.exists() {
        return Err(StoreError::Missing { path: path.to_owned() });
    }
    let lock = lock(path).await?;
    if create {
        make_file(path)?;
    }
    check_permissions(path)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging();
    let pool = SqlitePoolOptions::new()
        .max_connections(4)
        .acquire_timeout(LOCK_TIMEOUT)
        .test_before_acquire(false)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_with(options)
        .await
        .map_err(|e| StoreError::sql(path, e))?;
    let migrated = MIGRATOR.run(&pool).await;
    drop(lock);
    migrated.map_err(|e| StoreError::Migration { path: path.to_owned(), source: Box::new(e) })?;
    let identity = identity(path).map_err(|e| StoreError::io(path, e))?;
    Ok((pool, identity))
}

/// Which file lies at `path`.
pub(super) fn identity(path: &Path) -> std::io::Result<Identity> {
    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

fn make_directory(path: &Path) -> Result<(), StoreError> {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() && !directory.exists() => {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
            made.map_err(|e| StoreError::io(directory, e))
        }
        _ => Ok(()),
    }
}

/// Makes an empty file that only its owner may open; SQLite gives its `-wal` and `-shm` the same permissions.
///
/// Only a new file is ever opened here, and only under the lock: SQLite's own locks belong to the process, and
/// closing any handle of a file that SQLite has open would drop them.
fn make_file(path: &Path) -> Result<(), StoreError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => give_to_owner_of_directory(&file, path).map_err(|e| StoreError::io(path, e)),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(StoreError::io(path, e)),
    }
}

/// The owner's group may have operators in it; everybody else is kept out.
fn check_permissions(path: &Path) -> Result<(), StoreError> {
    let mode = fs::metadata(path).map_err(|e| StoreError::io(path, e))?.mode() & 0o777;
    if mode & 0o007 == 0 { Ok(()) } else { Err(StoreError::Permissions { path: path.to_owned(), mode }) }
}

/// Keeps others from opening the same store: two that make its schema at once would meet half-made tables.
/// Released when dropped.
async fn lock(path: &Path) -> Result<File, StoreError> {
    let lock_path = lock_path(path);
    let file = open_lock(&lock_path).map_err(|e| StoreError::io(&lock_path, e))?;
    let deadline = tokio::time::Instant::now() + LOCK_TIMEOUT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
            Err(e) => return Err(StoreError::io(&lock_path, std::io::Error::from(e))),
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(StoreError::Busy { path: path.to_owned() });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Makes the lock's file, or opens it. The folder belongs to the gateway's user, so root must neither follow a link there
/// nor give away what it did not make.
fn open_lock(path: &Path) -> std::io::Result<File> {
    match OpenOptions::new().write(true).create_new(true).mode(0o660).open(path) {
        Ok(file) => {
            give_to_owner_of_directory(&file, path)?;
            return Ok(file);
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file = OpenOptions::new().write(true).custom_flags(no_follow).open(path)?;
    let found = file.metadata()?;
    if found.is_file() && found.nlink() == 1 {
        Ok(file)
    } else {
        Err(std::io::Error::other("it is not a plain file of its own"))
    }
}

/// What root makes belongs to whom the directory belongs to: an operator who registers the first site as root must not
/// lock the gateway out of its own store. SQLite does the same for `-wal` and `-shm`.
fn give_to_owner_of_directory(file: &File, path: &Path) -> std::io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let owner = fs::metadata(directory)?;
    std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid()))
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
