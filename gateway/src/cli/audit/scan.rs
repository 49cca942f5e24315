//! Goes over all records of a log, opened with a reviewer's key and checked on the way.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use gateway_audit::header::{ClearHeader, Envelope};
use gateway_audit::keyfile::is_period;
use gateway_audit::note::{MAX_NOTE, VerifierKey};
use gateway_audit::tiles::entry::Joiner;
use gateway_audit::tiles::{CHECKPOINT, Files as _};
use gateway_audit::verify::{Against, verify};
use gateway_verify::{Directory, find, verifier_keys};
use serde_json::Value;

use super::secret::ReviewerArgs;
use super::{LogArgs, read};
use crate::audit::VERIFIER_KEYS;
use crate::audit::opening::Opener;

/// Records are bounded by their frames.
const MAX_RECORD: usize = gateway_audit::frame::MAX_RECORD;

/// Which log, whose key, and which time.
#[derive(Debug, clap::Args)]
pub(super) struct ScanArgs {
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    reviewer: ReviewerArgs,
    /// The folder of wrapped data keys; the one that the configuration names unless given
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// The log's verifier key, or a file with one on each line; the log's own list unless given
    #[arg(long, value_name = "KEY")]
    log_key: Vec<String>,
    /// Records of this time or later: year-month-day, or with Thh:mm:ssZ (UTC)
    #[arg(long, value_name = "TIME", value_parser = instant)]
    from: Option<i64>,
    /// Records before this time
    #[arg(long, value_name = "TIME", value_parser = instant)]
    to: Option<i64>,
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
    let directory = arguments.log.directory()?;
    let keys = verifier(arguments, &directory)?;
    let opener = Opener::new(&arguments.log.keys(arguments.keys.as_ref())?, arguments.reviewer.open()?);
    let (from, to) = (arguments.from.unwrap_or(i64::MIN), arguments.to.unwrap_or(i64::MAX));
    let (lane, origin) = (String::new(), String::new());
    let mut gathered = Gathered { opener, from, to, lane, origin, visit, sealed, unopened: 0, why: None };
    let mut notes = Notes::default();
    for lane in find(&directory)? {
        gathered.lane = lane.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Of a lane without a checkpoint; logs are named after their lanes.
        let of_lane = |key: &&VerifierKey| key.name().rsplit('/').next() == Some(gathered.lane.as_str());
        gathered.origin = keys.iter().find(of_lane).map_or_else(|| gathered.lane.clone(), |key| key.name().to_owned());
        scan_lane(lane, &keys, &mut gathered, &mut notes)?;
    }
    if let Some(why) = gathered.why {
        let _ = writeln!(notes.text, "note: {} records do not open with this key: {why}", gathered.unopened);
    }
    Ok(notes)
}

fn verifier(arguments: &ScanArgs, directory: &Path) -> anyhow::Result<Vec<VerifierKey>> {
    let own = directory.join(VERIFIER_KEYS).display().to_string();
    let given = if arguments.log_key.is_empty() { std::slice::from_ref(&own) } else { &arguments.log_key };
    let mut keys = Vec::new();
    for key in given {
        keys.extend(verifier_keys(key)?);
    }
    Ok(keys)
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
        let verified = verify(&mut files, key, Against::default(), |_, entry| {
            // The order was checked before.
            let _ = joiner.push(entry, |sequence, envelope| {
                if let Some(envelope) = envelope {
                    gathered.take(sequence, envelope);
                }
            });
        });
        match verified {
            Ok(verified) => covered = verified.records,
            Err(error) => {
                notes.bad = true;
                let _ = writeln!(notes.text, "BAD: {}: {error}; what is shown of it is before that", gathered.lane);
                return Ok(());
            }
        }
    }
    if !segments.is_dir() {
        return Ok(());
    }
    let ends = match read::last(&segments, usize::MAX) {
        Err(read::ReadError::NoLog(_)) => Vec::new(),
        ends => ends?,
    };
    for (_, end) in ends {
        for (sequence, envelope) in end.records.iter().filter(|(sequence, _)| *sequence > covered) {
            gathered.take(*sequence, envelope);
        }
        if let Some(bad) = end.bad {
            notes.bad = true;
            let _ = writeln!(notes.text, "BAD: {}: {bad}; what is shown of it is before that", gathered.lane);
        }
    }
    Ok(())
}

/// A day, or a day and a time to the second, in UTC.
fn instant(text: &str) -> Result<i64, String> {
    let whole = match text.split_once('T') {
        None if is_period(text) => format!("{text}T00:00:00.000000000Z"),
        Some((day, time)) => format!("{day}T{}.000000000Z", time.trim_end_matches('Z')),
        None => String::new(),
    };
    gateway_audit::time::parse(&whole).ok_or_else(|| "it is not year-month-day, or year-month-dayThh:mm:ssZ".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_days_or_seconds_in_utc() {
        assert_eq!(instant("1970-01-02"), Ok(86_400_000_000_000));
        assert_eq!(instant("1970-01-01T00:00:01Z"), Ok(1_000_000_000));
        for bad in ["", "1970", "1970-13-01", "1970-01-01T25:00:00Z", "1970-01-01 00:00:00", "yesterday"] {
            assert!(instant(bad).is_err(), "{bad}");
        }
    }
}
