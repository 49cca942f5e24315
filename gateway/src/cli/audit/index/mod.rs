//! The reviewer's index: which records say what, on the reviewer's machine, sealed to the reviewer.
//!
//! Of each log it holds segments ([`segment`]) of terms (a patient, a user, a minute) with the sequence numbers of their
//! records, and a [`manifest`]. It is written from records that were verified against a signed checkpoint and opened, grows
//! with each query by what is new, and answers with sequence numbers alone: each record of an answer is read from the log
//! again, verified, opened and looked at. A page beside the log's format, `gateway/audit/INDEX.md`, says what that shows.

mod build;
mod keys;
mod lane;
mod manifest;
mod question;
mod runs;
mod seal;
mod segment;
pub(super) mod terms;

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use gateway_audit::note::{MAX_NOTE, VerifierKey};
use gateway_audit::reviewer::private::ReviewerKey;
use gateway_audit::tiles::{CHECKPOINT, Files};
use gateway_audit::verify::{Against, Entries, Removed, VerifyError};
use gateway_verify::Directory;
use rustix::fs::{FlockOperation, flock};

use super::read;
use super::scan::{LaneAt, Notes, Record, ScanArgs};
use keys::Keys;
use lane::{LaneIndex, Unopened};
pub(super) use question::Question;
use seal::{IndexKey, TAG, random};

/// Names the index and whose it is: its salt, and a seal that only the reviewer's key opens.
const OWNER: &str = "owner";
const LOCK: &str = "lock";
/// How often a log that its writer changes meanwhile is looked at.
const LOOKS: u32 = 5;

/// Why an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum IndexError {
    /// A file or folder.
    #[error("`{}`: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not what was written: torn by a crash, damaged, or changed.
    #[error("`{}` is damaged", .0.display())]
    Torn(PathBuf),
    /// The index is another reviewer's.
    #[error("the index `{}` is another reviewer's, or damaged; name another with --index, or build it anew with --rebuild", .0.display())]
    Owner(PathBuf),
    /// The cryptographic library refuses.
    #[error("the cryptographic library refuses")]
    Library,
}

impl IndexError {
    fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path: path.clone(), source }
    }
}

/// Where the index is.
#[derive(Debug, clap::Args)]
pub(super) struct IndexArgs {
    /// The folder of this reviewer's index, which queries build and use; beside the private file unless given
    #[arg(long, value_name = "DIR")]
    index: Option<PathBuf>,
    /// Build the index anew
    #[arg(long)]
    rebuild: bool,
    /// Use no index: go over the whole log and verify all of it
    #[arg(long, conflicts_with_all = ["index", "rebuild"])]
    pub(super) no_index: bool,
}

/// A reviewer's index.
struct Index {
    root: PathBuf,
    key: IndexKey,
    /// Held as long as the index is used.
    _lock: File,
}

impl Index {
    /// Opens a reviewer's index, or begins one. Waits for another process that uses it.
    fn open(root: &Path, reviewer: &ReviewerKey, rebuild: bool) -> Result<Self, IndexError> {
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(IndexError::io(root))?;
        let path = root.join(LOCK);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(IndexError::io(&path))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            super::super::say(&format!("note: another query uses the index `{}`; this one waits", root.display()));
            flock(&lock, FlockOperation::LockExclusive).map_err(|error| IndexError::io(&path)(error.into()))?;
        }
        if rebuild {
            clear(root)?;
        }
        let key = owner(root, reviewer)?;
        Ok(Self { root: root.to_owned(), key, _lock: lock })
    }
}

/// Removes what an index consists of, and nothing else.
fn clear(root: &Path) -> Result<(), IndexError> {
    for file in fs::read_dir(root).map_err(IndexError::io(root))?.flatten() {
        let name = file.file_name();
        let name = name.to_str().unwrap_or_default();
        let lane = name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        let removed = match name {
            OWNER => fs::remove_file(file.path()),
            _ if lane => fs::remove_dir_all(file.path()),
            _ => Ok(()),
        };
        removed.map_err(IndexError::io(&file.path()))?;
    }
    Ok(())
}

/// The index's key, by the salt in it; a new one if there is none.
fn owner(root: &Path, reviewer: &ReviewerKey) -> Result<IndexKey, IndexError> {
    let path = root.join(OWNER);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let salt: [u8; 32] = random()?;
            let key = IndexKey::derive(reviewer, &salt)?;
            let mut block = Vec::new();
            key.file(OWNER, &[0; 32], &salt)?.seal(0, &mut block)?;
            crate::replace::replace(&path, &[&salt[..], &block].concat(), 0o600).map_err(IndexError::io(&path))?;
            return Ok(key);
        }
        bytes => bytes.map_err(IndexError::io(&path))?,
    };
    let other = || IndexError::Owner(root.to_owned());
    let (salt, block) = bytes.split_first_chunk::<32>().filter(|(_, block)| block.len() == TAG).ok_or_else(other)?;
    let key = IndexKey::derive(reviewer, salt)?;
    key.file(OWNER, &[0; 32], salt)?.open(0, block.to_vec()).ok_or_else(other)?;
    Ok(key)
}

/// A log's files under one checkpoint, whatever its writer puts in that one's place meanwhile.
struct Pinned<'a> {
    files: &'a mut Directory,
    note: &'a [u8],
}

impl Files for Pinned<'_> {
    type Error = io::Error;

    fn read(&mut self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, io::Error> {
        if path == CHECKPOINT { Ok(Some(self.note.to_vec())) } else { self.files.read(path, limit) }
    }

    fn read_into(&mut self, path: &str, limit: usize, buffer: &mut Vec<u8>) -> Result<bool, io::Error> {
        if path != CHECKPOINT {
            return self.files.read_into(path, limit, buffer);
        }
        buffer.clear();
        buffer.extend_from_slice(self.note);
        Ok(true)
    }
}

/// What a lane answered.
#[derive(Default)]
struct Answer {
    records: Vec<Record>,
    unopened: Unopened,
    bad: Option<String>,
    /// Records up to this one were answered for.
    covered: u64,
    removed: Option<Removed>,
}

/// Answers a question from the index, after it was brought up to date. `visit` gets the records, lane by lane, in order.
///
/// # Errors
/// If logs, keys or the index cannot be read, or the index not be written.
pub(super) fn ask(
    scan: &ScanArgs,
    arguments: &IndexArgs,
    question: &Question,
    visit: &mut dyn FnMut(Record),
) -> anyhow::Result<Notes> {
    let lanes = scan.lanes()?;
    let log_keys = scan.verifier(&lanes)?;
    let directories = scan.key_directories()?;
    let reviewer = scan.reviewer.open()?;
    let root = arguments.index.clone().unwrap_or_else(|| beside(&scan.reviewer.key));
    let index = Index::open(&root, &reviewer, arguments.rebuild).context("the index (--no-index does without)")?;
    let mut keys = Keys::new(directories, reviewer)
        .map_err(|(path, error)| anyhow::anyhow!("key directory `{}`: {error}", path.display()))?;
    let mut notes = Notes::default();
    let mut unopened = Unopened::default();
    for lane in &lanes {
        let answer = index.lane(lane, &lanes, &log_keys, &mut keys, question, &mut notes)?;
        answer.records.into_iter().for_each(&mut *visit);
        unopened.add(answer.unopened);
        if let Some(Removed { next, record, .. }) = answer.removed {
            let (lane, text) = (&lane.name, &mut notes.text);
            let _ = writeln!(
                text,
                "note: {lane}: the records before {next} were removed by retention under record {record}"
            );
        }
        if let Some(bad) = answer.bad {
            notes.bad(&lane.name, &bad);
            continue;
        }
        let tail = read::after(&lane.path.join("wal"), answer.covered)?;
        let mut of_tail = Unopened::default();
        for (sequence, envelope) in &tail.records {
            let mut named = |record| visit(Record { lane: lane.name.clone(), ..record });
            let why = question.take(lane.origin.as_deref(), *sequence, envelope, &mut keys, &mut named);
            of_tail.add(Unopened { records: u64::from(why.is_some()), why });
        }
        unopened.add(of_tail);
        if let Some(bad) = tail.bad {
            notes.bad(&lane.name, &bad.to_string());
        }
    }
    if let Some(why) = unopened.why {
        let _ = writeln!(notes.text, "note: {} records do not open with this key: {why}", unopened.records);
    }
    Ok(notes)
}

/// The folder beside a private file.
fn beside(key: &Path) -> PathBuf {
    let mut path = key.as_os_str().to_owned();
    path.push(".index");
    path.into()
}

impl Unopened {
    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.why = other.why.or(self.why.take());
    }
}

impl Index {
    /// What one lane's tree answers.
    fn lane(
        &self,
        at: &LaneAt,
        all: &[LaneAt],
        log_keys: &[VerifierKey],
        keys: &mut Keys,
        question: &Question,
        notes: &mut Notes,
    ) -> anyhow::Result<Answer> {
        let mut files = Directory(at.path.clone());
        let mut look = 1;
        loop {
            let Some(note) = files.read(CHECKPOINT, MAX_NOTE)? else {
                let bad = self.taken_away(at, all, log_keys)?;
                return Ok(Answer { bad, ..Answer::default() });
            };
            let origin =
                std::str::from_utf8(&note).context("`checkpoint` is not text")?.lines().next().unwrap_or_default();
            let Some(log) = log_keys.iter().find(|key| key.name() == origin) else {
                anyhow::bail!("no key is for the log `{}`", origin.escape_debug())
            };
            let mut pinned = Pinned { files: &mut files, note: &note };
            let mut answer = match self.once(&mut pinned, log, &note, keys, question) {
                Err(IndexError::Torn(path)) => {
                    let _ =
                        writeln!(notes.text, "note: `{}` of the index is damaged; it is built anew", path.display());
                    LaneIndex::remove(&self.root, &self.key, log.name())?;
                    self.once(&mut pinned, log, &note, keys, question)?
                }
                answer => answer?,
            };
            // Files that were replaced meanwhile look as if they were missing; a checkpoint that stands was looked at.
            if answer.bad.is_none() || look == LOOKS || files.read(CHECKPOINT, MAX_NOTE)? == Some(note) {
                answer.records.iter_mut().for_each(|record| record.lane.clone_from(&at.name));
                return Ok(answer);
            }
            look += 1;
        }
    }

    /// Says so if a lane has no checkpoint any more.
    fn taken_away(&self, at: &LaneAt, all: &[LaneAt], keys: &[VerifierKey]) -> Result<Option<String>, IndexError> {
        let folder = at.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for name in keys.iter().map(VerifierKey::name).filter(|name| name.rsplit('/').next() == Some(&folder)) {
            let elsewhere = all.iter().any(|lane| lane.origin.as_deref() == Some(name));
            if !elsewhere && LaneIndex::knows(&self.root, &self.key, name)? {
                return Ok(Some(format!("`{CHECKPOINT}` is missing, and the index has seen one of `{name}`")));
            }
        }
        Ok(None)
    }

    fn once(
        &self,
        files: &mut Pinned<'_>,
        log: &VerifierKey,
        note: &[u8],
        keys: &mut Keys,
        question: &Question,
    ) -> Result<Answer, IndexError> {
        let mut lane = LaneIndex::open(&self.root, &self.key, log.name())?;
        let mut answer = Answer::default();
        let updated = lane.update(files, log, note, keys)?;
        answer.covered = lane.covered();
        answer.bad = updated.err().map(|error| error.to_string());
        let against = Against { older: lane.note(), cosigners: &[] };
        let older = against.older.map(<[u8]>::to_vec);
        let against = Against { older: older.as_deref(), ..against };
        let mut entries = match Entries::open(files, log, against) {
            Ok((entries, signed)) if signed.checkpoint.size >= lane.entries() => entries,
            Ok(_) => return Err(IndexError::Torn(self.root.clone())),
            Err(error) => {
                answer.bad = Some(error.to_string());
                return Ok(answer);
            }
        };
        match entries.removed() {
            Ok(removed) => {
                lane.begin_at(removed.map_or(1, |removed| removed.next));
                answer.removed = removed;
            }
            Err(error) => {
                answer.bad = Some(error.to_string());
                return Ok(answer);
            }
        }
        let refreshed = lane.refresh(&mut entries, keys)?;
        let mut found = |record| answer.records.push(record);
        let (unopened, answered) = lane.answer(&mut entries, keys, question, &mut found)?;
        answer.unopened = unopened;
        for error in [refreshed, answered].into_iter().filter_map(Result::err) {
            answer.bad.get_or_insert_with(|| VerifyError::to_string(&error));
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests;
