//! Goes over all records of a log, opened with a reviewer's key and checked on the way.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use gateway_audit::header::{ClearHeader, Envelope};
use gateway_audit::note::{MAX_NOTE, VerifierKey};
use gateway_audit::tiles::entry::Joiner;
use gateway_audit::tiles::{CHECKPOINT, Files as _};
use gateway_audit::verify::{Against, verify};
use gateway_verify::{Directory, find, verifier_keys};
use serde_json::Value;

use super::read;
use super::secret::ReviewerArgs;
use crate::audit::VERIFIER_KEYS;
use crate::audit::opening::Opener;
use crate::config::Config;

/// Records are bounded by their frames.
const MAX_RECORD: usize = gateway_audit::frame::MAX_RECORD;

/// Which logs, whose key, and which time.
#[derive(Debug, clap::Args)]
pub(super) struct ScanArgs {
    /// A log's folder, a node's with its logs, or a folder of nodes; may be given for several nodes. The one that the
    /// configuration names unless given
    #[arg(long, value_name = "DIR")]
    dir: Vec<PathBuf>,
    /// The configuration that names the folder
    #[arg(long, value_name = "FILE", default_value = crate::cli::DEFAULT_CONFIG, conflicts_with = "dir")]
    config: PathBuf,
    #[command(flatten)]
    pub(super) reviewer: ReviewerArgs,
    /// The folder of wrapped data keys, of each node; the one that the configuration names unless given
    #[arg(long, value_name = "DIR")]
    keys: Vec<PathBuf>,
    /// The log's verifier key, or a file with one on each line; the log's own list unless given
    #[arg(long, value_name = "KEY")]
    log_key: Vec<String>,
    /// Records of this time or later: year-month-day, which is UTC, or with Thh:mm:ss and Z or an offset
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(super) from: Option<i64>,
    /// Records before this time
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(super) to: Option<i64>,
}

/// A lane's folder.
#[derive(Debug)]
pub(super) struct LaneAt {
    /// Where it is.
    pub(super) path: PathBuf,
    /// What it is called: its folder, or its log where several folders have one name.
    pub(super) name: String,
    /// The log that its checkpoint says it is.
    pub(super) origin: Option<String>,
}

impl ScanArgs {
    fn directories(&self) -> anyhow::Result<Vec<PathBuf>> {
        if self.dir.is_empty() { Ok(vec![Config::load(&self.config)?.audit.directory]) } else { Ok(self.dir.clone()) }
    }

    /// The key directories that were named, or that of the configuration.
    pub(super) fn key_directories(&self) -> anyhow::Result<Vec<PathBuf>> {
        match (self.keys.is_empty(), self.dir.is_empty()) {
            (false, _) => Ok(self.keys.clone()),
            (true, false) => bail!("`--dir` and `--key` need `--keys`, the folder of wrapped data keys"),
            (true, true) => Ok(vec![Config::load(&self.config)?.audit.key_directory]),
        }
    }

    /// The lanes in the folders, each once.
    pub(super) fn lanes(&self) -> anyhow::Result<Vec<LaneAt>> {
        let mut lanes: Vec<LaneAt> = Vec::new();
        for directory in self.directories()? {
            for path in find(&directory)? {
                if lanes.iter().any(|lane| lane.path == path) {
                    continue;
                }
                let note = Directory(path.clone()).read(CHECKPOINT, MAX_NOTE)?;
                let note = note.and_then(|note| String::from_utf8(note).ok());
                let origin = note.and_then(|note| note.lines().next().map(str::to_owned));
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                lanes.push(LaneAt { path, name, origin });
            }
        }
        let names: Vec<String> = lanes.iter().map(|lane| lane.name.clone()).collect();
        for lane in &mut lanes {
            if names.iter().filter(|name| **name == lane.name).count() > 1 {
                lane.name = lane.origin.clone().unwrap_or_else(|| lane.path.display().to_string());
            }
        }
        Ok(lanes)
    }

    /// The logs' verifier keys: those given, or those that lie beside the lanes.
    pub(super) fn verifier(&self, lanes: &[LaneAt]) -> anyhow::Result<Vec<VerifierKey>> {
        let mut keys = Vec::new();
        for key in &self.log_key {
            keys.extend(verifier_keys(key)?);
        }
        if !self.log_key.is_empty() {
            return Ok(keys);
        }
        let folders: BTreeSet<_> =
            lanes.iter().flat_map(|lane| [lane.path.parent(), Some(lane.path.as_path())]).collect();
        for file in folders.into_iter().flatten().map(|folder| folder.join(VERIFIER_KEYS)).filter(|file| file.exists())
        {
            keys.extend(verifier_keys(&file.display().to_string())?);
        }
        if keys.is_empty() {
            bail!("there is no `{VERIFIER_KEYS}` beside the log: give its key with `--log-key`");
        }
        Ok(keys)
    }
}

/// A record that the key does not open.
#[derive(Debug)]
pub(super) struct Sealed<'a> {
    /// The name of its log.
    pub(super) origin: &'a str,
    /// Its place there.
    pub(super) sequence: u64,
    /// What anyone may read of it; none if it is no envelope.
    pub(super) header: Option<ClearHeader<'a>>,
    /// Why it is not opened.
    pub(super) why: &'a str,
}

/// One record.
#[derive(Debug)]
pub(super) struct Record {
    /// Nanoseconds since the Unix epoch.
    pub(super) unix_ns: i64,
    /// The lane's folder.
    pub(super) lane: String,
    /// The name of its log.
    pub(super) origin: String,
    /// Its place there.
    pub(super) sequence: u64,
    /// What it says.
    pub(super) value: Value,
}

impl Record {
    /// The value at a path such as `connection.site`, as text; empty if there is none.
    pub(super) fn text(&self, path: &str) -> &str {
        path.split('.').try_fold(&self.value, |value, key| value.get(key)).and_then(Value::as_str).unwrap_or_default()
    }

    /// The first of these that is there.
    pub(super) fn first(&self, paths: &[&str]) -> &str {
        paths.iter().map(|path| self.text(path)).find(|text| !text.is_empty()).unwrap_or_default()
    }

    /// The texts in a list.
    pub(super) fn list(&self, key: &str) -> impl Iterator<Item = &str> {
        self.value.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }
}

/// Whether everything was good, and in words what was not.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Something bad is in the log.
    pub(super) bad: bool,
    /// Lines for standard error.
    pub(super) text: String,
}

impl Notes {
    /// Says what is bad in a lane.
    pub(super) fn bad(&mut self, lane: &str, error: &str) {
        self.bad = true;
        let _ = writeln!(self.text, "BAD: {lane}: {error}; what is shown of it is before that");
    }
}

/// What is gathered on the way.
struct Gathered<'a> {
    opener: Opener,
    from: i64,
    to: i64,
    lane: String,
    origin: String,
    visit: &'a mut dyn FnMut(Record),
    sealed: &'a mut dyn FnMut(&Sealed<'_>),
    unopened: u64,
    why: Option<String>,
}

impl Gathered<'_> {
    fn take(&mut self, sequence: u64, envelope: &[u8]) {
        let header = Envelope::decode(envelope).map(|envelope| envelope.header);
        let time = header.map(|header| header.unix_ns);
        if time.is_ok_and(|time| time < self.from || time >= self.to) {
            return;
        }
        // A lane without a checkpoint does not say which log it is.
        let log = Some(self.origin.as_str()).filter(|log| !log.is_empty());
        let opened = self.opener.open(log, sequence, envelope).map_err(|error| error.to_string());
        let value = opened.and_then(|record| serde_json::from_slice(&record).map_err(|error| error.to_string()));
        match (value, time) {
            (Ok(value), Ok(unix_ns)) => {
                let (lane, origin) = (self.lane.clone(), self.origin.clone());
                (self.visit)(Record { unix_ns, lane, origin, sequence, value });
            }
            (Ok(_), Err(_)) => {}
            (Err(error), _) => {
                self.unopened += 1;
                (self.sealed)(&Sealed { origin: &self.origin, sequence, header: header.ok(), why: &error });
                self.why = Some(error);
            }
        }
    }
}

/// Goes over the records of all lanes; `visit` gets those in the time that was asked for, in order in each lane. What a
/// checkpoint covers is checked against it; what is behind it is checked by its links.
///
/// # Errors
/// If the log or a key cannot be read.
pub(super) fn scan(arguments: &ScanArgs, visit: &mut dyn FnMut(Record)) -> anyhow::Result<Notes> {
    scan_all(arguments, visit, &mut |_| {})
}

/// As [`scan`]; `sealed` gets the records that do not open.
///
/// # Errors
/// As [`scan`].
pub(super) fn scan_all(
    arguments: &ScanArgs,
    visit: &mut dyn FnMut(Record),
    sealed: &mut dyn FnMut(&Sealed<'_>),
) -> anyhow::Result<Notes> {
    let lanes = arguments.lanes()?;
    let keys = arguments.verifier(&lanes)?;
    let directories = arguments.key_directories()?;
    let (first, others) = directories.split_first().context("no key directory is given")?;
    let opener = Opener::new(first, arguments.reviewer.open()?);
    let opener = others.iter().fold(opener, |opener, directory| opener.also(directory));
    let (from, to) = (arguments.from.unwrap_or(i64::MIN), arguments.to.unwrap_or(i64::MAX));
    let (lane, origin) = (String::new(), String::new());
    let mut gathered = Gathered { opener, from, to, lane, origin, visit, sealed, unopened: 0, why: None };
    let mut notes = Notes::default();
    for lane in lanes {
        (gathered.lane, gathered.origin) = (lane.name, lane.origin.unwrap_or_default());
        scan_lane(lane.path, &keys, &mut gathered, &mut notes)?;
    }
    if let Some(why) = gathered.why {
        let _ = writeln!(notes.text, "note: {} records do not open with this key: {why}", gathered.unopened);
    }
    Ok(notes)
}

fn scan_lane(
    lane: PathBuf,
    keys: &[VerifierKey],
    gathered: &mut Gathered<'_>,
    notes: &mut Notes,
) -> anyhow::Result<()> {
    let segments = lane.join("wal");
    let mut files = Directory(lane);
    let mut covered = 0;
    gathered.origin.clear();
    // A lane that has only just been begun has no checkpoint yet.
    if let Some(checkpoint) = files.read(CHECKPOINT, MAX_NOTE)? {
        let checkpoint = String::from_utf8(checkpoint).context("`checkpoint` is not text")?;
        let origin = checkpoint.lines().next().unwrap_or_default();
        let Some(key) = keys.iter().find(|key| key.name() == origin) else {
            bail!("no key is for the log `{}`", origin.escape_debug())
        };
        origin.clone_into(&mut gathered.origin);
        let mut joiner = Joiner::new(1, MAX_RECORD);
        let mut next = 0;
        let verified = verify(&mut files, key, Against::default(), |index, entry| {
            // What was removed by retention is passed over as a whole: a record begins behind it.
            if index != next {
                joiner = Joiner::new(entry.sequence, MAX_RECORD);
            }
            next = index + 1;
            // The order was checked before.
            let _ = joiner.push(entry, |sequence, envelope| {
                if let Some(envelope) = envelope {
                    gathered.take(sequence, envelope);
                }
            });
        });
        match verified {
            Ok(verified) => {
                covered = verified.records;
                if let Some(removed) = verified.removed {
                    let (lane, before, record) = (&gathered.lane, removed.next, removed.record);
                    let _ = writeln!(
                        notes.text,
                        "note: {lane}: the records before {before} were removed by retention under record {record}"
                    );
                }
            }
            Err(error) => {
                notes.bad(&gathered.lane, &error.to_string());
                return Ok(());
            }
        }
    }
    let tail = read::after(&segments, covered)?;
    for (sequence, envelope) in &tail.records {
        gathered.take(*sequence, envelope);
    }
    if let Some(bad) = tail.bad {
        notes.bad(&gathered.lane, &bad.to_string());
    }
    Ok(())
}

/// A time as people write it.
pub(super) fn instant(text: &str) -> Result<i64, String> {
    let wrong = "it is not year-month-day, or that and Thh:mm:ss with Z or an offset such as +09:00";
    gateway_audit::time::read(text).ok_or_else(|| wrong.to_owned())
}
