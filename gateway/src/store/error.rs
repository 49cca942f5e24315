//! Why the store could not do what it was asked.

use std::path::{Path, PathBuf};

use policy::{DeviceId, SiteName};

use super::{EntryName, Kind, UserId};
use crate::sealing::SealingError;

/// An operation on the store failed; nothing of it was stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The registry has no such entry.
    #[error("no {kind} `{name}`{}", suggestion(nearest.as_deref()))]
    NotFound {
        /// What kind of entry was asked for.
        kind: Kind,
        /// The name that was asked for.
        name: String,
        /// The registered name most like it.
        nearest: Option<String>,
    },
    /// A role was to be assigned that the registry does not have.
    #[error("no role `{name}`{}; {}", suggestion(nearest.as_deref()), known_roles(known))]
    UnknownRole {
        /// The name that was given.
        name: String,
        /// The registered name most like it.
        nearest: Option<String>,
        /// Every registered role.
        known: Vec<String>,
    },
    /// The registry has an entry of this name.
    #[error("{kind} `{}` exists already", .0, kind = .0.kind())]
    AlreadyExists(EntryName),
    /// The holder of a certificate is another user.
    #[error("the holder `{name}` is user `{user}`; take the certificate from that user first")]
    Bound {
        /// Number and issuer.
        name: String,
        /// The user.
        user: UserId,
    },
    /// Another user's account has the same one spelling: the login guard could not tell them apart.
    #[error("user `{user}` cannot have an account: `{other}` of the same site has one, and both are one spelling")]
    Spelling {
        /// Whose account it was to be.
        user: UserId,
        /// Who has it.
        other: String,
    },
    /// The user's name spells nobody.
    #[error("user `{0}` cannot have an account: nothing is left of the name in its one spelling")]
    NoAccountName(UserId),
    /// Nobody acts for themselves.
    #[error("user `{0}` cannot act for themselves")]
    ForOneself(UserId),
    /// Somebody else changed it meanwhile.
    #[error("{kind} `{}` was changed meanwhile", .0, kind = .0.kind())]
    Changed(EntryName),
    /// The device or its site is suspended.
    #[error("{kind} `{}` or its site is suspended", .0, kind = .0.kind())]
    NotActive(EntryName),
    /// No such code for this device, or it was used or has expired. Which of these, nobody is told.
    #[error("the enrolment code is not valid")]
    Code,
    /// The certificate that is to be renewed is not the device's, has ended or is revoked.
    #[error("the certificate cannot be renewed")]
    Renewal,
    /// The certificate was renewed before, for another key, or what it was renewed to is revoked.
    #[error("the certificate was renewed before")]
    Renewed,
    /// Another device has the key.
    #[error("the WireGuard key of device `{owner}` cannot be that of device `{device}` as well")]
    KeyInUse {
        /// The device that was to get it.
        device: DeviceId,
        /// The device that has it.
        owner: DeviceId,
    },
    /// No device has such a key: it has a small order, or is not written as devices write it (RFC 7748).
    #[error("the public key for device `{0}` is none that a device can have")]
    UnusableKey(DeviceId),
    /// Addresses are somebody else's.
    #[error("the range `{range}` overlaps `{other}` of {owner}")]
    Overlap {
        /// The range that was given.
        range: String,
        /// The range that is there.
        other: String,
        /// Whose that is.
        owner: String,
    },
    /// Addresses of a device are not its site's.
    #[error("the range `{range}` is not within those of site `{site}`: {}", if ranges.is_empty() { "it has none" } else { ranges })]
    Outside {
        /// The range.
        range: String,
        /// The site.
        site: SiteName,
        /// The site's ranges.
        ranges: String,
    },
    /// No address of the site's ranges is left for a device.
    #[error("no address is left for device `{device}` in `{ranges}`; `sekisho site set` gives the site more")]
    NoAddress {
        /// The device.
        device: DeviceId,
        /// The site's ranges.
        ranges: String,
    },
    /// No range is left for a site.
    #[error("no range is left for site `{site}` in `{ranges}`, out of which the listener gives them")]
    NoRange {
        /// The site.
        site: SiteName,
        /// Out of what they are given.
        ranges: String,
    },
    /// A secret cannot be sealed.
    #[error(transparent)]
    Sealing(SealingError),
    /// The file of the key that preshared keys are sealed under is gone, and another must not take its place.
    #[error(
        "`{}` is gone, and the preshared keys of {sealed} devices are sealed under it: put it back; if it is lost, take those keys away \
         first (`sekisho device key remove`), see `tunnel-keys-unreadable` in the runbook", path.display()
    )]
    SealingKeyGone {
        /// The file.
        path: PathBuf,
        /// How many are sealed under it.
        sealed: usize,
    },
    /// Other entries depend on the one to be removed.
    #[error("{kind} `{entry}` has {by}; remove them first or pass --cascade", kind = entry.kind())]
    InUse {
        /// The entry to be removed.
        entry: EntryName,
        /// What depends on it, counted.
        by: String,
    },
    /// Another process held the store for too long.
    #[error("`{}`: locked by another process", path.display())]
    Busy {
        /// The store's file.
        path: PathBuf,
    },
    /// The file, its directory or its lock could not be read or written.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system or the database said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no store at the path, and the operation does not make one.
    #[error("`{}`: no store here; `sekisho site add` or `sekisho role add` makes one", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// Users outside the file's owner and group may open the file.
    #[error("`{}`: mode {mode:03o} lets others in; run `chmod o= {}`", path.display(), path.display())]
    Permissions {
        /// The store's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file that was opened no longer lies at its path.
    #[error("`{}`: the file was removed or replaced while it was in use", path.display())]
    Replaced {
        /// The store's file.
        path: PathBuf,
    },
    /// The store's history is not the one that was read before: somebody put an older or another copy in place.
    #[error("`{}`: change {sequence} is gone or another; an older or foreign copy was put in place", path.display())]
    RolledBack {
        /// The store's file.
        path: PathBuf,
        /// The last change that was known.
        sequence: u64,
    },
    /// The store's schema could not be brought up to date, or is newer than this program.
    #[error("`{}`: cannot bring the schema up to date: {source}", path.display())]
    Migration {
        /// The store's file.
        path: PathBuf,
        /// What the migrator said.
        source: Box<sqlx::migrate::MigrateError>,
    },
    /// A row holds what this program would not have written.
    #[error("`{}`: unreadable entry: {source}", path.display())]
    Corrupt {
        /// The store's file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    pub(super) fn io(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Io { path: path.to_owned(), source: source.into() }
    }

    pub(super) fn sql(path: &Path, error: sqlx::Error) -> Self {
        let path = path.to_owned();
        if is_busy(&error) {
            return Self::Busy { path };
        }
        if let sqlx::Error::Decode(source) | sqlx::Error::ColumnDecode { source, .. } = error {
            Self::Corrupt { path, source }
        } else {
            Self::Io { path, source: Box::new(error) }
        }
    }
}

/// The name most like `wanted`, where one is alike enough to be a slip of the pen.
pub(super) fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(wanted, name), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_owned())
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

fn known_roles(known: &[String]) -> String {
    if known.is_empty() {
        "no role is registered: `sekisho role add` adds one".to_owned()
    } else {
        format!("known roles: {}", known.iter().map(|r| format!("`{r}`")).collect::<Vec<_>>().join(", "))
    }
}

/// SQLITE_BUSY and SQLITE_LOCKED, in the low byte of the extended code; a pool without a free connection counts too.
fn is_busy(error: &sqlx::Error) -> bool {
    if matches!(error, sqlx::Error::PoolTimedOut) {
        return true;
    }
    let code = error.as_database_error().and_then(|e| e.code()).and_then(|code| code.parse::<i32>().ok());
    matches!(code.map(|code| code & 0xff), Some(5 | 6))
}
