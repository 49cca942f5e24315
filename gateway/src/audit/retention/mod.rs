//! Keeps data keys for as long as the configuration states, and no longer (R26, R30, A11).
//!
//! A *sweep* looks at every key, destroys what may go, and removes entries that nobody can open any more. Whatever it
//! destroys is recorded first, and a plan on disk ([`plan`]) has a restart complete what was recorded. One process at a
//! time sweeps a key directory. Which key may go, and by which time, is `gateway_audit::retention`'s to say.

mod entries;
mod exported;
mod keys;
mod plan;
mod rewrap;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_audit::destroyed::Destroyed;
use gateway_audit::header::{Envelope, KeyId, Kind};
use gateway_audit::keyfile::KeyFile;
use gateway_audit::reader::Verifier;
use gateway_audit::record::{Shred, Why};
use gateway_audit::retention::{Keep, Look, Memory, MemoryError, Rules};
use policy::Refusal;

pub use keys::{Keys, Locked, memory};
pub use rewrap::Added;

use super::lane::ControlLane;
use super::place::{lane_directory, segments_directory};
use super::segments::segment_first;
use crate::clock::estimate::{Estimate, Vouching};
use crate::clock::{self, Reading};
use exported::exported;
use plan::{Plan, State};

/// Keys that one plan destroys at most.
const PLAN: usize = 4_096;

/// Why keys are not destroyed, or not all that may go.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// A file or folder.
    #[error("`{path}`: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process destroys keys or adds to them.
    #[error("another process changes the keys in `{path}` at this moment; try again", path = .0.display())]
    Held(PathBuf),
    /// What was known at the last look cannot be read.
    #[error("`{path}`: {source}; nothing is destroyed until it is put right, see `audit-retention` in the runbook", path = path.display())]
    Memory {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: MemoryError,
    },
    /// What was to be destroyed cannot be read.
    #[error("`{path}` is not a plan of what is destroyed; see `audit-retention` in the runbook", path = .0.display())]
    Plan(PathBuf),
    /// Nobody knows the time well enough.
    #[error("the clock alarms, and nothing is destroyed by a clock that may be wrong: {0}")]
    Clock(String),
    /// What is to be destroyed cannot be recorded.
    #[error("it cannot be recorded: {0}")]
    Unrecorded(Refusal),
    /// The tombstone is under no checkpoint yet.
    #[error("the record of what is removed came under no checkpoint in time; nothing was removed")]
    Uncovered,
    /// No random bytes.
    #[error("no random numbers")]
    Random,
    /// A key may not go yet.
    #[error(
        "`{knob}` says that {what} is kept for {days} days, and the youngest that you name is until {until}; it may be \
         destroyed from then on"
    )]
    Kept {
        /// The configuration's key.
        knob: String,
        /// Site, class and period.
        what: String,
        /// Days.
        days: u32,
        /// The first moment at which it may go.
        until: String,
    },
    /// Required copies do not hold the records yet.
    #[error("not every copy in `audit.retention.required` holds the records of {0} yet")]
    NotExported(String),
    /// Nothing is there to destroy.
    #[error("there is no data key of the site `{0}` before that day")]
    Nothing(String),
}

/// Where keys and records lie, and what the configuration says of them.
#[derive(Debug, Clone)]
pub struct Place {
    /// `audit.directory`.
    pub audit: PathBuf,
    /// `audit.key_directory`.
    pub keys: PathBuf,
    /// The lane that this process writes.
    pub lane: u8,
    /// What is kept for how long.
    pub rules: Rules,
    /// Whether a sweep destroys keys; otherwise only a shredding does.
    pub automatic: bool,
    /// Folders of cursors that must have passed a record before it goes.
    pub required: Vec<PathBuf>,
}

/// What is known of the time, for retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Time {
    earliest_ns: i64,
    vouched: bool,
    boot: String,
    monotonic_ns: u64,
}

impl Time {
    /// The time by a reading and the estimate behind it.
    ///
    /// # Errors
    /// [`RetentionError::Clock`] if the clock alarms.
    pub fn of(reading: &Reading, estimate: &Estimate, max_error: Duration, boot: &str) -> Result<Self, RetentionError> {
        if reading.alarms(max_error) {
            let error = reading.error_ns.map_or_else(
                || "nobody vouches for it".to_owned(),
                |ns| format!("it may be {} ms off", ns / 1_000_000),
            );
            return Err(RetentionError::Clock(error));
        }
        let interval = estimate.interval.ok_or_else(|| RetentionError::Clock("nobody vouches for it".to_owned()))?;
        let error = i64::try_from(reading.error_ns.unwrap_or(0)).unwrap_or(i64::MAX);
        let earliest = interval.earliest_ns.min(error.saturating_neg());
        let vouched =
            matches!(estimate.vouching, Vouching::Servers | Vouching::KernelAndServers | Vouching::ChronyAndServers);
        Ok(Self {
            earliest_ns: reading.unix_ns.saturating_add(earliest),
            vouched,
            boot: boot.to_owned(),
            monotonic_ns: reading.monotonic_ns,
        })
    }

    /// Every source asked once, for a command.
    ///
    /// # Errors
    /// [`RetentionError::Clock`] if it alarms or cannot be asked.
    pub async fn ask(config: &crate::config::Clock) -> Result<Self, RetentionError> {
        let told = |error: &dyn std::fmt::Display| RetentionError::Clock(error.to_string());
        let asking = clock::Asking::load(config).map_err(|error| told(&error))?;
        let asked = clock::once(&asking).await.map_err(|error| told(&error))?;
        let kernel = clock::KernelClock::new().map_err(|error| told(&error))?;
        let boot = clock::boot_id().map_err(|error| told(&error))?;
        let error_ns = asked.estimate.error_ns();
        let reading = Reading { error_ns, synchronised: error_ns.is_some(), ..clock::Clock::now(&kernel) };
        Self::of(&reading, &asked.estimate, config.max_error, &boot)
    }

    fn look(&self) -> Look<'_> {
        let Self { earliest_ns, vouched, boot, monotonic_ns } = self;
        Look { earliest_ns: *earliest_ns, vouched: *vouched, boot, monotonic_ns: *monotonic_ns }
    }
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Data keys destroyed.
    pub keys: usize,
    /// Bundles of entries removed.
    pub bundles: u64,
}

/// A key directory, looked at by a time that counts.
struct Looked {
    locked: Locked,
    keys: Keys,
    memory: Memory,
}

/// Keys that may be destroyed now. Nobody else changes the directory until it is dropped.
pub struct Chosen {
    looked: Looked,
    files: Vec<KeyFile>,
}

impl std::fmt::Debug for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chosen").field("keys", &self.files.len()).finish()
    }
}

impl Place {
    /// What a configuration says, for the process that writes a lane.
    #[must_use]
    pub fn of(config: &crate::config::Audit, lane: u8) -> Self {
        let retention = &config.retention;
        Self {
            audit: config.directory.clone(),
            keys: config.key_directory.clone(),
            lane,
            rules: retention.rules.clone(),
            automatic: retention.automatic,
            required: retention.required.clone(),
        }
    }

    /// Locks the keys, completes what was recorded, and looks at the rest.
    fn look(&self, time: Result<Time, RetentionError>, done: &mut usize) -> Result<Looked, RetentionError> {
        let locked = Locked::take(&self.keys)?;
        // What was recorded is completed whatever the clock says by now: it was due by a good one.
        *done += self.complete(&locked)?;
        let time = time?;
        let keys = Keys::read(&self.keys)?;
        for (path, why) in &keys.odd {
            tracing::warn!(path = %path.display(), why, "this is not a data key's file; it is left as it is");
        }
        let memory = match memory(&self.keys)? {
            Some(mut memory) => {
                memory.look(&time.look(), &keys.live);
                memory
            }
            None => Memory::begin(&time.look(), &keys.live),
        };
        locked.remember(&memory)?;
        Ok(Looked { locked, keys, memory })
    }

    /// Completes a plan that a crash left: destroys what the log says is destroyed. Says how many keys.
    fn complete(&self, locked: &Locked) -> Result<usize, RetentionError> {
        let Some(mut plan) = Plan::read(&self.keys)? else { return Ok(0) };
        if plan.state == State::Planned {
            if !is_recorded(&segments_directory(&self.audit, plan.lane), &plan.operation)? {
                Plan::remove(&self.keys)?;
                return Ok(0);
            }
            plan.state = State::Recorded;
            plan.write(&self.keys)?;
        }
        let operation = &plan.operation;
        tracing::warn!(keys = plan.keys.len(), operation, "completing what was recorded as destroyed");
        destroy(locked, &plan)?;
        Ok(plan.keys.len())
    }

    /// Records that these keys are destroyed, and destroys them.
    async fn destroy(
        &self,
        looked: &mut Looked,
        chosen: &[KeyFile],
        why: Why,
        by: &str,
        log: &ControlLane,
    ) -> Result<(), RetentionError> {
        for chunk in chosen.chunks(PLAN) {
            let mut random = [0; 8];
            aws_lc_rs::rand::fill(&mut random).map_err(|_| RetentionError::Random)?;
            let operation = format!("{:016x}", u64::from_be_bytes(random));
            let keys = chunk.iter().map(|file| Destroyed::of(file, why, &operation)).collect();
            let mut plan = Plan { operation, lane: self.lane, state: State::Planned, keys };
            plan.write(&self.keys)?;
            let mut groups: BTreeMap<_, Vec<KeyId>> = BTreeMap::new();
            for file in chunk {
                groups.entry((&file.site, &file.class, &file.period)).or_default().push(file.key);
            }
            // All of them are durable when the last is.
            let mut last = None;
            for ((site, class, period), keys) in &groups {
                let (site, class, operation) = (site.as_deref(), class.as_deref(), plan.operation.as_str());
                let record = Shred { operation, site, class, period, keys, why, by };
                last = Some(append(log, &record).await?);
            }
            if let Some(last) = last {
                log.durable(last).await.map_err(RetentionError::Unrecorded)?;
            }
            plan.state = State::Recorded;
            plan.write(&self.keys)?;
            destroy(&looked.locked, &plan)?;
            plan.keys.iter().for_each(|key| looked.memory.forget(key.key));
            looked.keys.destroyed.extend(plan.keys);
        }
        looked.locked.remember(&looked.memory)
    }

    /// Destroys every key that may go by now, and removes the entries of this process's lane that nobody opens any more.
    ///
    /// # Errors
    /// [`RetentionError`]; what was done before it stands.
    pub async fn sweep(&self, time: Result<Time, RetentionError>, log: &ControlLane) -> Result<Swept, RetentionError> {
        let mut swept = Swept::default();
        let mut looked = self.look(time, &mut swept.keys)?;
        let copies = exported(&self.audit, &self.required);
        let due = |file: &&KeyFile| self.automatic && self.may_go(file, &looked.memory, copies.as_deref()).1;
        let chosen: Vec<KeyFile> = looked.keys.live.iter().filter(due).cloned().collect();
        if !chosen.is_empty() {
            self.destroy(&mut looked, &chosen, Why::Retention, "gateway", log).await?;
            swept.keys += chosen.len();
        }
        let destroyed: HashSet<KeyId> = looked.keys.destroyed.iter().map(|key| key.key).collect();
        if !destroyed.is_empty() {
            let lane = lane_directory(&self.audit, self.lane);
            let own = std::fs::read_to_string(lane.join(gateway_audit::tiles::CHECKPOINT)).unwrap_or_default();
            let own = own.lines().next().unwrap_or_default();
            let most = copies.map_or(u64::MAX, |copies| {
                copies.iter().find(|copy| copy.origin == own).map_or(0, |copy| copy.entries)
            });
            swept.bundles = entries::remove(&lane, log, most, &destroyed).await?;
        }
        Ok(swept)
    }

    /// The keys of a site whose periods end by a day, if all of them may go. Nothing is recorded yet.
    ///
    /// # Errors
    /// [`RetentionError::Kept`] names the configuration's key and the day from which they may.
    pub fn choose(
        &self,
        site: &str,
        before_ns: i64,
        time: Result<Time, RetentionError>,
    ) -> Result<Chosen, RetentionError> {
        let looked = self.look(time, &mut 0)?;
        let named = |file: &&KeyFile| file.site.as_deref() == Some(site) && file.until_ns() <= before_ns;
        let files: Vec<KeyFile> = looked.keys.live.iter().filter(named).cloned().collect();
        let copies = exported(&self.audit, &self.required);
        let mut kept: Option<(i64, &KeyFile, Keep)> = None;
        for file in &files {
            let (keep, may_go) = self.may_go(file, &looked.memory, copies.as_deref());
            let due = looked.memory.due_ns(file, &keep);
            if !may_go && due <= looked.memory.time_ns() {
                return Err(RetentionError::NotExported(what(file)));
            }
            if !may_go && kept.as_ref().is_none_or(|(last, ..)| *last < due) {
                kept = Some((due, file, keep));
            }
        }
        if let Some((due, file, keep)) = kept {
            let (knob, days, what) = (keep.knob, keep.days, what(file));
            return Err(RetentionError::Kept { knob, what, days, until: written(due) });
        }
        if files.is_empty() {
            return Err(RetentionError::Nothing(site.to_owned()));
        }
        Ok(Chosen { looked, files })
    }

    /// Destroys what was chosen; says how many keys.
    ///
    /// # Errors
    /// [`RetentionError`]; a later look completes what was recorded.
    pub async fn shred(&self, chosen: Chosen, by: &str, log: &ControlLane) -> Result<usize, RetentionError> {
        let Chosen { mut looked, files } = chosen;
        self.destroy(&mut looked, &files, Why::Shred, by, log).await?;
        Ok(files.len())
    }

    /// How long a key is kept, and whether it may go.
    fn may_go(&self, file: &KeyFile, memory: &Memory, copies: Option<&[exported::Exported]>) -> (Keep, bool) {
        let keep = self.rules.of(file.site.as_deref(), file.class.as_deref());
        let copied = copies
            .map(|copies| copies.iter().find(|copy| copy.origin == file.origin).map_or(i64::MIN, |copy| copy.time_ns));
        let may_go = memory.may_go(file, &keep, copied);
        (keep, may_go)
    }
}

/// Queues a record, as soon as there is room for it.
async fn append(log: &ControlLane, record: &Shred<'_>) -> Result<super::Ticket, RetentionError> {
    loop {
        match log.append(record) {
            Err(Refusal::AuditBusy) => tokio::time::sleep(Duration::from_millis(10)).await,
            outcome => return outcome.map_err(RetentionError::Unrecorded),
        }
    }
}

fn what(file: &KeyFile) -> String {
    let class = file.class.as_ref().map(|class| format!(", class `{class}`")).unwrap_or_default();
    format!("site `{}`{class}, period {}", file.site.as_deref().unwrap_or_default(), file.period)
}

/// A time as people read it.
#[must_use]
pub fn written(unix_ns: i64) -> String {
    let mut text = Vec::new();
    gateway_audit::time::write(&mut text, unix_ns);
    text.truncate(19);
    format!("{}Z", String::from_utf8_lossy(&text))
}

fn destroy(locked: &Locked, plan: &Plan) -> Result<(), RetentionError> {
    for key in &plan.keys {
        locked.destroy(key)?;
    }
    Plan::remove(locked.directory())
}

/// Whether the segments of a lane hold the record of an operation. It was to be written just before a crash: it is among
/// the last ones, or nowhere.
fn is_recorded(segments: &Path, operation: &str) -> Result<bool, RetentionError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RetentionError::Io { path, source }
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(segments).map_err(failed(segments))? {
        let name = entry.map_err(failed(segments))?.file_name().to_string_lossy().into_owned();
        if segment_first(&name).is_some() {
            names.push(name);
        }
    }
    names.sort_unstable();
    for name in names.iter().rev() {
        let path = segments.join(name);
        let bytes = std::fs::read(&path).map_err(failed(&path))?;
        let mut found = false;
        // What is wrong with a segment is not for here to say: what is read is good.
        let _ = Verifier::new().segment(name, &bytes, None, |_, frame| {
            let header = Envelope::decode(frame.record).map(|envelope| envelope.header);
            found |= header.is_ok_and(|header| header.kind == Kind::Shred && header.reference == operation);
        });
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}
