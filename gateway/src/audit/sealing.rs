//! Seals records: data keys for each site, class and period, made on first use.
//!
//! A key seals a sequence number once, ever: each start has keys of its own, and within a run a key takes only numbers
//! beyond the highest that it has sealed. Where a failed write makes the writer give numbers again, other keys take
//! their place, so that no two ciphertexts under one key and number can come to any disk.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use gateway_audit::header::{ClearHeader, KeyId, Pseudonym};
use gateway_audit::keyfile::{KeyFile, KeyFileError, period};
use gateway_audit::record::finish;
use gateway_audit::reviewer::set::Reviewers;
use gateway_audit::seal::{DataKey, Pepper, SealError, Secret};

use super::init::{self, InitError};
use super::lane::Written;
use super::segments::Failure;

const NANOS_PER_DAY: i64 = 86_400_000_000_000;

/// Where files of wrapped data keys go.
pub trait KeyStorage: Send + Sync + 'static {
    /// Makes a file that is not there yet. It is durable when this returns, and so are the names of its folders.
    ///
    /// # Errors
    /// Those of the system calls. The file may be there or not.
    fn put(&self, path: &str, bytes: &[u8]) -> io::Result<()>;
}

/// The key directory (`audit.key_directory`).
#[derive(Debug)]
pub struct KeyDirectory(PathBuf);

impl KeyDirectory {
    /// The directory, which exists.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

impl KeyStorage for KeyDirectory {
    fn put(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut folder = self.0.clone();
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            let parent = folder.clone();
            folder.push(part);
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => File::open(&parent)?.sync_all()?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        let path = folder.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let written = file.write_all(bytes).and_then(|()| rustix::fs::fsync(&file).map_err(Into::into));
        if let Err(error) = written {
            // Nothing was sealed under the key; the error is the one to tell.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        File::open(&folder)?.sync_all()
    }
}

/// What a log is sealed with.
#[derive(Clone)]
pub struct Sealing {
    /// Where data keys go, wrapped.
    pub keys: Arc<dyn KeyStorage>,
    /// To whom.
    pub reviewers: Arc<ArcSwap<Reviewers>>,
    /// What pseudonyms of sites are made with.
    pub pepper: Pepper,
    /// Days that one data key is used for (`audit.key_period`).
    pub days: NonZeroU32,
}

impl std::fmt::Debug for Sealing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealing").field("days", &self.days).finish_non_exhaustive()
    }
}

impl Sealing {
    /// What `sekisho audit init` has made.
    ///
    /// # Errors
    /// [`InitError`] if there is none, or it is not whole; the message names the command.
    pub fn open(
        key_directory: &Path,
        reviewers_directory: &Path,
        domain: &str,
        days: NonZeroU32,
    ) -> Result<Self, InitError> {
        Ok(Self {
            keys: Arc::new(KeyDirectory::new(key_directory)),
            reviewers: Arc::new(ArcSwap::from_pointee(init::reviewers(reviewers_directory, domain)?)),
            pepper: init::pepper(key_directory)?,
            days,
        })
    }

    /// Sixteen hexadecimal digits that only whoever has the pepper can tell from random ones, the same for the same text.
    #[must_use]
    pub fn fingerprint(&self, text: &str) -> String {
        // Names of sites have no line feed, so that no fingerprint is a site's pseudonym.
        self.pepper.pseudonym(Some(&format!("fingerprint\n{text}"))).to_string()
    }
}

/// Why a record is not sealed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsealed {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Length(#[from] gateway_audit::frame::RecordLength),
    #[error("there is no data key for it")]
    NoKey,
}

/// A data key in use.
struct Held {
    class: Option<Box<str>>,
    /// Number of the period.
    period: i64,
    id: KeyId,
    key: DataKey,
    /// The highest sequence number that it has sealed.
    highest: u64,
}

/// A site, or none.
struct Site {
    pseudonym: Pseudonym,
    keys: Vec<Held>,
}

/// Seals the records of one run.
pub(super) struct Sealer {
    origin: String,
    sealing: Sealing,
    /// To whom the keys in use are wrapped.
    in_force: Arc<Reviewers>,
    /// By name; empty for none.
    sites: BTreeMap<Box<str>, Site>,
    /// A key of no site and class, made ahead: the record that says that no space is left needs none for a key.
    spare: Option<Held>,
    plain: Vec<u8>,
}

impl Sealer {
    pub(super) fn new(origin: String, sealing: Sealing) -> Self {
        let in_force = sealing.reviewers.load_full();
        Self { origin, sealing, in_force, sites: BTreeMap::new(), spare: None, plain: Vec::new() }
    }

    /// Takes up another set of reviewers: whoever is new opens what comes from here on, and who is gone does not.
    pub(super) fn follow_reviewers(&mut self) {
        let now = self.sealing.reviewers.load();
        if !Arc::ptr_eq(&now, &self.in_force) {
            self.in_force = Arc::clone(&now);
            self.sites.clear();
            self.spare = None;
        }
    }

    fn period(&self, unix_ns: i64) -> i64 {
        unix_ns.div_euclid(NANOS_PER_DAY).div_euclid(i64::from(self.sealing.days.get()))
    }

    /// Has a key for a record at a place, and its file on stable storage.
    pub(super) fn ready(&mut self, written: &Written<'_>, sequence: u64) -> Result<(), Failure> {
        let period = self.period(written.unix_ns);
        let name = written.scope.site.unwrap_or_default();
        let fits = |held: &Held| held.fits(written.scope.class, period, sequence);
        if self.sites.get(name).is_some_and(|site| site.keys.iter().any(fits)) {
            return Ok(());
        }
        let plain = written.scope.site.is_none() && written.scope.class.is_none();
        let spare = self.spare.take_if(|spare| plain && spare.fits(None, period, sequence));
        let held = match spare {
            Some(spare) => spare,
            None => self.make(written.scope.site, written.scope.class, written.unix_ns, sequence)?,
        };
        let pseudonym = self.sealing.pepper.pseudonym(written.scope.site);
        let site = self.sites.entry(name.into()).or_insert_with(|| Site { pseudonym, keys: Vec::new() });
        // Records come from several threads: around the end of a period those of both are written.
        site.keys.retain(|old| old.period >= period - 1 && !(old.period == period && old.class == held.class));
        site.keys.push(held);
        Ok(())
    }

    /// Makes the spare key, unless it is there.
    pub(super) fn prepare(&mut self, unix_ns: i64, next: u64) -> Result<(), Failure> {
        let period = self.period(unix_ns);
        if self.spare.as_ref().is_none_or(|spare| spare.period != period) {
            self.spare = Some(self.make(None, None, unix_ns, next)?);
        }
        Ok(())
    }

    /// Makes a key, and its file for the site's reviewers.
    fn make(&self, site: Option<&str>, class: Option<&str>, unix_ns: i64, first: u64) -> Result<Held, Failure> {
        let failed = |operation, file: &str, error: io::Error| Failure::of(operation, file)(error);
        let random = |_| failed("getrandom", "data key", io::Error::other("no random numbers"));
        let secret = Secret::new(init::random().map_err(random)?);
        let id = KeyId(init::random().map_err(random)?);
        let mut file = KeyFile {
            origin: self.origin.clone(),
            site: site.map(str::to_owned),
            pseudonym: self.sealing.pepper.pseudonym(site),
            class: class.map(str::to_owned),
            period: period(unix_ns, self.sealing.days),
            days: self.sealing.days,
            key: id,
            first,
            wrapped: Vec::new(),
        };
        let path = file.path();
        let refused = |error: KeyFileError| failed("wrap", &path, io::Error::other(error.to_string()));
        for reviewer in self.in_force.of(site) {
            file.wrap_to(&secret, reviewer).map_err(refused)?;
        }
        let text = file.encode().map_err(refused)?;
        let key = DataKey::new(&secret).map_err(|error| failed("use", &path, io::Error::other(error.to_string())))?;
        self.sealing.keys.put(&path, text.as_bytes()).map_err(|error| failed("write", &path, error))?;
        Ok(Held { class: class.map(Into::into), period: self.period(unix_ns), id, key, highest: 0 })
    }

    /// Appends a record's envelope to `out`. [`ready`](Self::ready) was called for it.
    pub(super) fn seal(&mut self, written: &Written<'_>, sequence: u64, out: &mut Vec<u8>) -> Result<(), Unsealed> {
        let period = self.period(written.unix_ns);
        let site = self.sites.get_mut(written.scope.site.unwrap_or_default()).ok_or(Unsealed::NoKey)?;
        let fits = |held: &&mut Held| held.fits(written.scope.class, period, sequence);
        let held = site.keys.iter_mut().find(fits).ok_or(Unsealed::NoKey)?;
        self.plain.clear();
        finish(written.json, written.splice, sequence, &mut self.plain);
        let header = ClearHeader {
            kind: written.kind,
            unix_ns: written.unix_ns,
            site: site.pseudonym,
            key: held.id,
            reference: written.reference,
        };
        // Before, not after: whatever comes of it, the number counts as used.
        held.highest = sequence;
        match held.key.seal_into(&self.origin, sequence, &header, &self.plain, out) {
            // A reference that cannot stand in the clear is in the record all the same. Nothing was sealed yet.
            Err(SealError::Header(_)) => {
                let header = ClearHeader { reference: "", ..header };
                Ok(held.key.seal_into(&self.origin, sequence, &header, &self.plain, out)?)
            }
            sealed => Ok(sealed?),
        }
    }
}

impl Held {
    fn fits(&self, class: Option<&str>, period: i64, sequence: u64) -> bool {
        self.period == period && self.highest < sequence && self.class.as_deref() == class
    }
}
