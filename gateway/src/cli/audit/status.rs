//! `sekisho audit status`: what the log holds, who can open it and until when (R30).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use gateway_audit::header::{Envelope, Pseudonym};
use gateway_audit::record::Why;
use gateway_audit::removal::{FILE, Pointer, Tombstone};
use gateway_audit::retention::Memory;
use gateway_audit::tiles::entry::{Bundle, Entry};
use gateway_audit::tiles::{CHECKPOINT, Kind, Tile, WIDTH};
use serde_json::{Value, json};

use super::writer::ConfigArgs;
use crate::audit::retention::{Keys, memory, written};
use crate::audit::{LANES, init, lane_directory};
use crate::cli::terminal;
use crate::clock::{Clock as _, KernelClock};
use crate::config::Config;

/// `sekisho audit status`.
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    /// The log's folder; the one that the configuration names unless given
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
}

/// One lane's log.
struct Lane {
    name: String,
    origin: String,
    entries: u64,
    age_s: u64,
    /// Times of its first and last record that are there.
    times: Option<(i64, i64)>,
    bytes: u64,
    removed: Option<(u64, u64)>,
}

/// The data keys of one log, site, class and period.
#[derive(Default)]
struct Group {
    kept: usize,
    expired: usize,
    destroyed: BTreeMap<&'static str, usize>,
    due_ns: i64,
    knob: String,
    reviewers: BTreeMap<String, usize>,
}

/// Says it.
///
/// # Errors
/// If configuration, keys or log cannot be read.
pub(super) fn run(arguments: &StatusArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let config = arguments.config.load()?;
    let directory = arguments.dir.as_ref().unwrap_or(&config.audit.directory);
    let lanes: Vec<Lane> = (1..=LANES).filter_map(|lane| look(directory, lane)).collect();
    let known = memory(&config.audit.key_directory)?;
    let keys = Keys::read(&config.audit.key_directory)?;
    let groups = groups(&config, &keys, known.as_ref(), &lanes)?;
    let now = KernelClock::new()?.now().unix_ns;
    let behind = known.as_ref().map(|known| (now.saturating_sub(known.time_ns()) / 1_000_000_000, known.time_ns()));
    if arguments.json {
        let odd: Vec<_> =
            keys.odd.iter().map(|(path, why)| json!({ "file": path.display().to_string(), "why": why })).collect();
        let lanes: Vec<Value> = lanes.iter().map(Lane::json).collect();
        let groups: Vec<Value> = groups.iter().map(|(place, group)| group.json(place)).collect();
        let time = known.as_ref().map(|known| written(known.time_ns()));
        writeln!(out, "{:#}", json!({ "lanes": lanes, "time": time, "keys": groups, "odd": odd }))?;
        return Ok(());
    }
    for lane in &lanes {
        writeln!(out, "{}", terminal::text(&lane.text()))?;
    }
    match behind {
        Some((behind, time)) => {
            writeln!(out, "keys are kept by the time {}, {behind} s behind this machine's clock", written(time))?;
        }
        None => writeln!(out, "no gateway has looked at these keys yet: until one has, nothing is destroyed")?,
    }
    for (place, group) in &groups {
        writeln!(out, "{}", terminal::text(&group.text(place)))?;
    }
    for (path, why) in &keys.odd {
        writeln!(out, "{}", terminal::text(&format!("`{}` is not a data key's file: {why}", path.display())))?;
    }
    Ok(())
}

/// Log, site, class and period.
type Of = (String, String, String, String);

fn groups(config: &Config, keys: &Keys, known: Option<&Memory>, lanes: &[Lane]) -> anyhow::Result<BTreeMap<Of, Group>> {
    let name = |origin: &str| {
        let lane = lanes.iter().find(|lane| lane.origin == origin);
        lane.map_or_else(|| origin.to_owned(), |lane| lane.name.clone())
    };
    let rules = &config.audit.retention.rules;
    let pepper = init::pepper(&config.audit.key_directory)?;
    let named = rules.rules.iter().filter_map(|rule| rule.site.as_deref());
    let sites: BTreeSet<&str> = keys.live.iter().filter_map(|file| file.site.as_deref()).chain(named).collect();
    let sites: BTreeMap<Pseudonym, &str> = sites.into_iter().map(|site| (pepper.pseudonym(Some(site)), site)).collect();
    let site = |pseudonym: Pseudonym| match sites.get(&pseudonym) {
        _ if pseudonym == Pseudonym::NONE => "-".to_owned(),
        Some(site) => (*site).to_owned(),
        None => format!("({pseudonym})"),
    };
    let class = |class: &Option<String>| class.clone().unwrap_or_else(|| "-".to_owned());
    let mut groups: BTreeMap<Of, Group> = BTreeMap::new();
    for file in &keys.live {
        let of = (name(&file.origin), site(file.pseudonym), class(&file.class), period(&file.period, file.days));
        let group = groups.entry(of).or_default();
        let keep = rules.of(file.site.as_deref(), file.class.as_deref());
        let day = gateway_audit::keyfile::NANOS_PER_DAY.saturating_mul(i64::from(keep.days));
        let due = known.map_or_else(|| file.until_ns().saturating_add(day), |known| known.due_ns(file, &keep));
        group.kept += 1;
        group.expired += usize::from(known.is_some_and(|known| due <= known.time_ns()));
        group.due_ns = group.due_ns.max(due);
        group.knob = keep.knob;
        for (reviewer, _) in &file.wrapped {
            *group.reviewers.entry(reviewer.clone()).or_default() += 1;
        }
    }
    for key in &keys.destroyed {
        let of = (name(&key.origin), site(key.pseudonym), class(&key.class), period(&key.period, key.days));
        let why = match key.why {
            Why::Retention => "retention",
            Why::Shred => "shred",
        };
        *groups.entry(of).or_default().destroyed.entry(why).or_default() += 1;
    }
    Ok(groups)
}

fn period(first: &str, days: NonZeroU32) -> String {
    if days == NonZeroU32::MIN { first.to_owned() } else { format!("{first}+{days}d") }
}

impl Group {
    fn text(&self, (lane, site, class, period): &Of) -> String {
        let mut text = format!("{lane} site {site} class {class} period {period}:");
        if self.kept > 0 {
            let until = written(self.due_ns);
            let state = match self.expired {
                0 => format!("kept until {until}"),
                all if all == self.kept => format!("expired since {until}"),
                some => format!("{some} expired, the rest kept until {until}"),
            };
            let some = |(name, count): (&String, &usize)| {
                if *count == self.kept { name.clone() } else { format!("{name} ({count} of {})", self.kept) }
            };
            let reviewers: Vec<_> = self.reviewers.iter().map(some).collect();
            text.push_str(&format!(
                " {} keys, {state} ({}), opened by {};",
                self.kept,
                self.knob,
                reviewers.join(", ")
            ));
        }
        for (why, count) in &self.destroyed {
            text.push_str(&format!(" {count} destroyed by {why};"));
        }
        text.trim_end_matches(';').to_owned()
    }

    fn json(&self, (lane, site, class, period): &Of) -> Value {
        json!({
            "lane": lane, "site": site, "class": class, "period": period, "keys": self.kept, "expired": self.expired,
            "destroyed": self.destroyed, "reviewers": self.reviewers,
            "until": (self.kept > 0).then(|| written(self.due_ns)), "by": self.knob,
        })
    }
}

impl Lane {
    fn text(&self) -> String {
        let Self { name, origin, entries, age_s, bytes, .. } = self;
        let mut text =
            format!("{name} ({origin}): {entries} entries under a checkpoint of {age_s} s ago, {bytes} bytes");
        if let Some((first, last)) = self.times {
            text.push_str(&format!(", records of {} to {}", written(first), written(last)));
        }
        if let Some((gone, record)) = self.removed {
            text.push_str(&format!("; the first {gone} entries were removed by retention under record {record}"));
        }
        text
    }

    fn json(&self) -> Value {
        json!({
            "lane": self.name, "origin": self.origin, "entries": self.entries, "checkpoint_age_s": self.age_s,
            "bytes": self.bytes, "first": self.times.map(|(first, _)| written(first)),
            "last": self.times.map(|(_, last)| written(last)),
            "removed": self.removed.map(|(entries, record)| json!({ "entries": entries, "record": record })),
        })
    }
}

fn look(directory: &Path, lane: u8) -> Option<Lane> {
    let folder = lane_directory(directory, lane);
    let checkpoint = folder.join(CHECKPOINT);
    let text = fs::read_to_string(&checkpoint).ok()?;
    let mut lines = text.lines();
    let (origin, entries) = (lines.next()?.to_owned(), lines.next()?.parse().ok()?);
    let signed = fs::metadata(&checkpoint).and_then(|metadata| metadata.modified()).ok()?;
    let age_s = SystemTime::now().duration_since(signed).map_or(0, |age| age.as_secs());
    let removed = removed(&folder, entries);
    let first = removed.map_or(0, |(entries, _)| entries);
    let times = time_of(&folder, first, entries).zip(time_of(&folder, entries.saturating_sub(1), entries));
    Some(Lane { name: format!("lane-{lane}"), origin, entries, age_s, times, bytes: size_of(&folder), removed })
}

fn bundle(folder: &Path, index: u64, size: u64) -> Option<Vec<u8>> {
    let tile = Tile::in_tree(Kind::Entries, index, size)?;
    let read = |tile: Tile| fs::read(folder.join(tile.path()));
    read(tile).or_else(|_| read(tile.full())).ok()
}

/// What the newest tombstone says. It is shown, not proved: that is `sekisho audit verify`'s to do.
fn removed(folder: &Path, size: u64) -> Option<(u64, u64)> {
    let pointer = Pointer::parse(&fs::read(folder.join(FILE)).ok()?)?;
    let bundle = bundle(folder, pointer.entry / WIDTH, size)?;
    let entry = Bundle::new(&bundle).nth(usize::try_from(pointer.entry % WIDTH).ok()?)?;
    Some((Tombstone::of(&Entry::decode(entry).ok()?)?.entries, pointer.record))
}

/// Time of the record at an entry, or of the nearest one in its bundle.
fn time_of(folder: &Path, entry: u64, size: u64) -> Option<i64> {
    let bundle = bundle(folder, entry / WIDTH, size)?;
    let place = usize::try_from(entry % WIDTH).ok()?;
    let times: Vec<_> = (0..)
        .zip(Bundle::new(&bundle))
        .filter_map(|(at, entry)| {
            let entry = Entry::decode(entry).ok().filter(|entry| entry.part == 0)?;
            Some((usize::abs_diff(at, place), Envelope::decode(entry.bytes).ok()?.header.unix_ns))
        })
        .collect();
    times.into_iter().min().map(|(_, time)| time)
}

fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        metadata => metadata.map_or(0, |metadata| metadata.len()),
    });
    sizes.sum()
}
