//! What sealing needs before the first record, and how it lies on disk: the pepper of pseudonyms in the key directory,
//! and the statements that say who the reviewers are.
//!
//! ```text
//! <key directory>/pseudonym.key      32 random bytes (0600)
//! <reviewers>/@default/<number>      statements of `*`, each file a signed note, from 1
//! <reviewers>/<site>/<number>        those of a site; `@` begins no site's name
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use gateway_audit::note::MAX_NOTE;
use gateway_audit::reviewer::private::{PrivateError, ReviewerKey};
use gateway_audit::reviewer::set::Reviewers;
use gateway_audit::reviewer::statement::{Statement, StatementError};
use gateway_audit::reviewer::{Reviewer, is_name};
use gateway_audit::seal::Pepper;

/// The pepper's file in the key directory.
pub const PEPPER: &str = "pseudonym.key";
/// The folder of the default's statements.
pub const DEFAULT_FOLDER: &str = "@default";

/// Why what sealing needs is not made or read.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Nothing was made yet.
    #[error("`{path}` is missing: the log is sealed to reviewers, and there are none yet; make the first with `sekisho audit init`", path = .0.display())]
    Missing(PathBuf),
    /// It was made before, and is in use.
    #[error("`{path}` is there already, and is left as it is", path = .0.display())]
    Exists(PathBuf),
    /// A file or folder cannot be read or written.
    #[error("`{path}`: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner can read it.
    #[error("`{path}` is secret and can be read by others (mode {mode:03o}); `chmod 600` it", path = path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The pepper's file has another length.
    #[error("`{path}` has {length} bytes instead of 32: put the right one back, or sites get other pseudonyms", path = path.display())]
    Pepper {
        /// The file.
        path: PathBuf,
        /// Its length; at least that many, if too many.
        length: usize,
    },
    /// A file or folder that is not one of statements.
    #[error("`{path}` does not belong among statements of reviewers: {why}", path = path.display())]
    Stray {
        /// Which.
        path: PathBuf,
        /// What does.
        why: &'static str,
    },
    /// A statement is refused.
    #[error("`{path}`: {source}", path = path.display())]
    Statement {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: Box<StatementError>,
    },
    /// A key cannot be made.
    #[error(transparent)]
    Key(#[from] PrivateError),
    /// The system gives no random bytes.
    #[error("no random numbers")]
    Random,
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> InitError {
    let path = path.to_owned();
    move |source| InitError::Io { path, source }
}

/// Random bytes.
///
/// # Errors
/// [`InitError::Random`] if the system gives none.
pub fn random<const N: usize>() -> Result<[u8; N], InitError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| InitError::Random)?;
    Ok(bytes)
}

/// A new reviewer with random keys.
///
/// # Errors
/// [`InitError`] if the name is not a reviewer's, or there is no randomness.
pub fn new_reviewer(name: &str) -> Result<ReviewerKey, InitError> {
    Ok(ReviewerKey::new(name, random()?, random()?)?)
}

/// The first statement, signed: `reviewers`, who include `signer`, are the reviewers of all sites.
///
/// # Errors
/// [`StatementError`] if such a statement would not be taken.
pub fn first_statement(domain: &str, reviewers: &[Reviewer], signer: &ReviewerKey) -> Result<Vec<u8>, StatementError> {
    let statement =
        Statement { domain: domain.to_owned(), site: None, number: 1, previous: None, reviewers: reviewers.to_vec() };
    let note = statement.sign(signer.signing())?;
    Reviewers::new(domain, note.as_bytes())?;
    Ok(note.into_bytes())
}

/// Makes the key directory with its pepper, and puts the first statement in its place. Everything is on disk when it
/// returns.
///
/// # Errors
/// [`InitError::Exists`] if there is a first statement already; a pepper that is there stays, since the log's
/// pseudonyms are made with it. [`InitError::Statement`] if the statement is not a first one of this domain.
pub fn make(
    key_directory: &Path,
    reviewers_directory: &Path,
    domain: &str,
    statement: &[u8],
) -> Result<Reviewers, InitError> {
    let path = statement_path(reviewers_directory, None, 1);
    let set = Reviewers::new(domain, statement)
        .map_err(|source| InitError::Statement { path: path.clone(), source: Box::new(source) })?;
    if path.exists() {
        return Err(InitError::Exists(path));
    }
    folder(key_directory, 0o700)?;
    match write_new(&key_directory.join(PEPPER), &random::<32>()?, 0o600) {
        Ok(()) | Err(InitError::Exists(_)) => {}
        Err(error) => return Err(error),
    }
    folder(reviewers_directory, 0o755)?;
    folder(&reviewers_directory.join(DEFAULT_FOLDER), 0o755)?;
    write_new(&path, statement, 0o644)?;
    Ok(set)
}

/// Adds a statement to those on disk, if it continues them. It is on disk when it returns.
///
/// # Errors
/// [`InitError`] if the statements on disk are not whole, or the new one does not continue them.
pub fn add_statement(
    reviewers_directory: &Path,
    set: &mut Reviewers,
    site: Option<&str>,
    note: &[u8],
) -> Result<PathBuf, InitError> {
    let mut next = set.clone();
    if let Err(source) = next.add(site, note) {
        let path = reviewers_directory.join(site.unwrap_or(DEFAULT_FOLDER));
        return Err(InitError::Statement { path, source: Box::new(source) });
    }
    let path = statement_path(reviewers_directory, site, next.head(site).number);
    if let Some(parent) = path.parent() {
        folder(parent, 0o755)?;
    }
    write_new(&path, note, 0o644)?;
    *set = next;
    Ok(path)
}

/// The file of a statement.
#[must_use]
pub fn statement_path(reviewers_directory: &Path, site: Option<&str>, number: u64) -> PathBuf {
    reviewers_directory.join(site.unwrap_or(DEFAULT_FOLDER)).join(number.to_string())
}

/// The pepper.
///
/// # Errors
/// [`InitError`] if it is missing, not 32 bytes, or others can read it.
pub fn pepper(key_directory: &Path) -> Result<Pepper, InitError> {
    let path = key_directory.join(PEPPER);
    let bytes = read(&path, 32)?;
    let mode = fs::metadata(&path).map_err(io_error(&path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(InitError::Mode { path, mode });
    }
    let bytes = <[u8; 32]>::try_from(bytes).map_err(|bytes| InitError::Pepper { path, length: bytes.len() })?;
    Ok(Pepper::new(bytes))
}

/// The reviewers in force, by all statements on disk.
///
/// # Errors
/// [`InitError`] names the first statement that is missing or refused, or what else lies there. Names that begin with
/// `.` are passed over.
pub fn reviewers(reviewers_directory: &Path, domain: &str) -> Result<Reviewers, InitError> {
    let mut set: Option<Reviewers> = None;
    let mut sites = names(reviewers_directory)?;
    sites.sort_unstable_by_key(|name| (name != DEFAULT_FOLDER, name.clone()));
    if sites.first().is_none_or(|name| name != DEFAULT_FOLDER) {
        return Err(InitError::Missing(statement_path(reviewers_directory, None, 1)));
    }
    for name in sites {
        let site = (name != DEFAULT_FOLDER).then_some(name.as_str());
        let path = reviewers_directory.join(&name);
        if site.is_some_and(|site| !is_name(site)) {
            return Err(InitError::Stray { path, why: "folders have the names of sites" });
        }
        let mut numbers = Vec::new();
        for file in names(&path)? {
            let number = file.parse::<u64>().ok().filter(|number| *number > 0 && number.to_string() == file);
            let stray = || InitError::Stray { path: path.join(&file), why: "files have the numbers of statements" };
            numbers.push(number.ok_or_else(stray)?);
        }
        numbers.sort_unstable();
        for number in numbers {
            let path = statement_path(reviewers_directory, site, number);
            let note = read(&path, MAX_NOTE)?;
            let added = match &mut set {
                Some(set) => set.add(site, &note),
                None => Reviewers::new(domain, &note).map(|first| set = Some(first)),
            };
            added.map_err(|source| InitError::Statement { path, source: Box::new(source) })?;
        }
    }
    set.ok_or_else(|| InitError::Missing(statement_path(reviewers_directory, None, 1)))
}

/// The names in a folder, but for those that begin with `.`; none in one that is not there.
fn names(folder: &Path) -> Result<Vec<String>, InitError> {
    let mut names = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        entries => entries.map_err(io_error(folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(io_error(folder))?;
        let name = entry.file_name().into_string();
        let name = name.map_err(|_| InitError::Stray { path: entry.path(), why: "its name is not UTF-8" })?;
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    Ok(names)
}

/// A file's bytes, at most one more than `limit`.
fn read(path: &Path, limit: usize) -> Result<Vec<u8>, InitError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(InitError::Missing(path.to_owned())),
        file => file.map_err(io_error(path))?,
    };
    let limit = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(io_error(path))?;
    Ok(bytes)
}

/// Makes a folder with its parents; one that is there keeps its mode.
///
/// # Errors
/// [`InitError::Io`] if it cannot be made.
pub fn folder(path: &Path, mode: u32) -> Result<(), InitError> {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(io_error(path))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(io_error(parent))
}

/// Writes a new file as a whole, durable, or not at all.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), InitError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = folder.join(format!(".{name}.{}", std::process::id()));
    let mut options = OpenOptions::new();
    let written = options.write(true).create(true).truncate(true).mode(mode).open(&unfinished).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        // A link fails where a name is taken; a rename would put the new file in its place.
        fs::hard_link(&unfinished, path)?;
        File::open(folder)?.sync_all()
    });
    let removed = fs::remove_file(&unfinished);
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(InitError::Exists(path.to_owned())),
        written => written.and(removed).map_err(io_error(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "sekisho.example";

    struct Laid {
        folder: tempfile::TempDir,
        first: ReviewerKey,
    }

    impl Laid {
        fn new() -> Self {
            let laid = Self { folder: tempfile::tempdir().unwrap(), first: new_reviewer("auditor").unwrap() };
            make(&laid.keys(), &laid.reviewers(), DOMAIN, &laid.statement()).unwrap();
            laid
        }

        fn statement(&self) -> Vec<u8> {
            first_statement(DOMAIN, &[self.first.public().clone()], &self.first).unwrap()
        }

        fn keys(&self) -> PathBuf {
            self.folder.path().join("audit-keys")
        }

        fn reviewers(&self) -> PathBuf {
            self.folder.path().join("audit-reviewers")
        }

        fn next(&self, set: &Reviewers, site: Option<&str>, reviewers: &[&ReviewerKey]) -> Vec<u8> {
            let head = set.head(site);
            let statement = Statement {
                domain: DOMAIN.into(),
                site: site.map(str::to_owned),
                number: if head.site == site { head.number + 1 } else { 1 },
                previous: Some(*head.digest),
                reviewers: reviewers.iter().map(|reviewer| reviewer.public().clone()).collect(),
            };
            statement.sign(self.first.signing()).unwrap().into_bytes()
        }
    }

    #[test]
    fn what_is_made_is_read_again() {
        let laid = Laid::new();
        let set = reviewers(&laid.reviewers(), DOMAIN).unwrap();
        assert_eq!(set.of(None), [laid.first.public().clone()]);
        let site = Some("sakura-clinic");
        assert_ne!(pepper(&laid.keys()).unwrap().pseudonym(site), gateway_audit::header::Pseudonym::NONE);
        for (path, mode) in [(laid.keys(), 0o700), (laid.keys().join(PEPPER), 0o600)] {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
        }
        // Nothing unfinished is left.
        assert_eq!(fs::read_dir(laid.reviewers().join(DEFAULT_FOLDER)).unwrap().count(), 1);
        let before = pepper(&laid.keys()).unwrap().pseudonym(site);
        let again = make(&laid.keys(), &laid.reviewers(), DOMAIN, &laid.statement()).unwrap_err();
        assert!(matches!(&again, InitError::Exists(path) if path.ends_with("@default/1")), "{again}");
        assert_eq!(pepper(&laid.keys()).unwrap().pseudonym(site), before);
    }

    #[test]
    fn statements_are_added_where_they_continue() {
        let laid = Laid::new();
        let mut set = reviewers(&laid.reviewers(), DOMAIN).unwrap();
        let clinic = new_reviewer("clinic").unwrap();
        let site = Some("sakura-clinic");
        let note = laid.next(&set, site, &[&laid.first, &clinic]);
        let path = add_statement(&laid.reviewers(), &mut set, site, &note).unwrap();
        assert!(path.ends_with("sakura-clinic/1"));
        let note = laid.next(&set, None, &[&laid.first, &clinic]);
        add_statement(&laid.reviewers(), &mut set, None, &note).unwrap();
        let read = reviewers(&laid.reviewers(), DOMAIN).unwrap();
        assert_eq!(read, set);
        assert_eq!((read.of(site).len(), read.of(None).len()), (2, 2));
        let error = add_statement(&laid.reviewers(), &mut set, None, &note).unwrap_err();
        assert!(matches!(error, InitError::Statement { .. }), "{error}");
        assert_eq!(read, set);
    }

    #[test]
    fn each_way_to_be_wrong_has_its_error() {
        let bare = tempfile::tempdir().unwrap();
        let error = reviewers(bare.path(), DOMAIN).unwrap_err().to_string();
        assert!(error.contains("sekisho audit init"), "{error}");
        let error = pepper(&bare.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("sekisho audit init") && error.contains(PEPPER), "{error}");

        let laid = Laid::new();
        let path = laid.keys().join(PEPPER);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(pepper(&laid.keys()).unwrap_err().to_string().contains("mode 640"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for length in [0, 31, 33] {
            fs::write(&path, vec![7; length]).unwrap();
            assert!(
                matches!(pepper(&laid.keys()).unwrap_err(), InitError::Pepper { length: found, .. } if found == length)
            );
        }
        let read = || reviewers(&laid.reviewers(), DOMAIN).unwrap_err();
        let stray = laid.reviewers().join("@default/note.txt");
        fs::write(&stray, "").unwrap();
        assert!(matches!(read(), InitError::Stray { path, .. } if path == stray));
        fs::rename(&stray, laid.reviewers().join("@default/.note.txt")).unwrap();
        reviewers(&laid.reviewers(), DOMAIN).unwrap();
        fs::copy(laid.reviewers().join("@default/1"), laid.reviewers().join("@default/3")).unwrap();
        assert!(matches!(read(), InitError::Statement { path, .. } if path.ends_with("@default/3")));
        fs::remove_file(laid.reviewers().join("@default/3")).unwrap();
        fs::create_dir(laid.reviewers().join("a b")).unwrap();
        assert!(matches!(read(), InitError::Stray { path, .. } if path.ends_with("a b")));
        fs::remove_dir(laid.reviewers().join("a b")).unwrap();
        let error = reviewers(&laid.reviewers(), "other.example").unwrap_err().to_string();
        assert!(error.contains("other.example"), "{error}");
        fs::remove_file(laid.reviewers().join("@default/1")).unwrap();
        assert!(matches!(read(), InitError::Missing(_)));
    }
}
