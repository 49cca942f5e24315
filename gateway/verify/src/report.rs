//! Says what was found, a line for each lane.

use std::io::{self, Write};

use gateway_audit::time;
use gateway_audit::verify::Removed;

use crate::lane::{Good, GoodPart, Outcome};
use crate::witness::Witnessed;
use crate::{Report, Verdict};

/// Writes a report as text.
///
/// # Errors
/// Those of `out`.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for lane in &report.lanes {
        let name = lane.origin.clone().unwrap_or_else(|| lane.path.display().to_string());
        let name = safe(&name);
        match &lane.outcome {
            Outcome::Good(good) => write_good(&name, good, out)?,
            Outcome::GoodPart(part) => write_part(&name, part, out)?,
            Outcome::Bad(why) => {
                writeln!(out, "{name}: BAD: {} (in `{}`)", safe(why), safe(&lane.path.display().to_string()))?
            }
            Outcome::Unreadable(why) => writeln!(out, "{name}: cannot be read: {}", safe(why))?,
        }
    }
    for (name, known) in &report.absent {
        let name = safe(name);
        if *known {
            writeln!(out, "{name}: BAD: the whole log is removed; the older checkpoint shows that there was one")?;
        } else {
            writeln!(out, "{name}: not here: never begun, or removed; only a checkpoint kept elsewhere could tell")?;
        }
    }
    let good = report.lanes.iter().filter(|lane| lane.outcome.is_good()).count();
    match report.verdict() {
        Verdict::Good if report.lanes.len() > 1 => writeln!(out, "all {good} logs are good"),
        Verdict::Good => Ok(()),
        Verdict::Bad | Verdict::Unreadable => writeln!(out, "{good} of {} logs are good", report.lanes.len()),
    }
}

fn write_good(name: &str, good: &Good, out: &mut dyn Write) -> io::Result<()> {
    let verified = &good.verified;
    let entries = verified.signed.checkpoint.size;
    write!(out, "{name}: good: {} records in {entries} entries", verified.records)?;
    if let Some((first, last)) = good.times {
        write!(out, ", {} to {}", written(first), written(last))?;
    }
    if verified.unfinished {
        write!(out, ", and parts of one more")?;
    }
    write_removed(verified.removed.as_ref(), out)?;
    if let Some(size) = verified.continues {
        write!(out, "; continues the older checkpoint of {size} entries")?;
    }
    write_witnessed(good.witnessed.as_ref(), out)?;
    match &good.tail {
        Some(tail) => {
            write!(out, "; {} records in the write-ahead log are not covered yet", tail.uncovered)?;
            if let Some((segment, bytes)) = &tail.torn {
                write!(out, "; {bytes} unfinished bytes at the end of `{segment}`")?;
            }
            if let Some(last) = tail.behind {
                write!(out, "; the write-ahead log ends with record {last}, so this is a copy of a log that grew")?;
            }
        }
        None => write!(out, "; no write-ahead log is here")?,
    }
    writeln!(out)
}

fn write_witnessed(witnessed: Option<&Witnessed>, out: &mut dyn Write) -> io::Result<()> {
    let Some(witnessed) = witnessed else { return Ok(()) };
    let names: Vec<_> = witnessed.witnesses.iter().map(|(name, _)| safe(name)).collect();
    let time = i64::try_from(witnessed.time).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
    write!(out, "; cosigned: {} entries at {} by {}", witnessed.size, written(time), names.join(", "))
}

fn write_removed(removed: Option<&Removed>, out: &mut dyn Write) -> io::Result<()> {
    let Some(removed) = removed else { return Ok(()) };
    let (entries, record, next) = (removed.entries, removed.record, removed.next);
    write!(
        out,
        "; the first {entries} entries were removed by retention under record {record}, so the records before {next} are gone"
    )
}

fn write_part(name: &str, part: &GoodPart, out: &mut dyn Write) -> io::Result<()> {
    let (verified, entries) = (&part.verified, &part.verified.entries);
    match &verified.records {
        None => write!(out, "{name}: good: no record is in that part")?,
        Some(records) => {
            let (first, last) = (records.start(), records.end());
            write!(
                out,
                "{name}: good: records {first} to {last} in the entries {} to {}",
                entries.start,
                entries.end - 1
            )?;
        }
    }
    if let Some((first, last)) = part.times {
        write!(out, "; asked for: {} to {}", written(first), written(last))?;
    }
    if let Some(size) = verified.continues {
        write!(out, "; continues the older checkpoint of {size} entries")?;
    }
    write_removed(verified.removed.as_ref(), out)?;
    write_witnessed(part.witnessed.as_ref(), out)?;
    writeln!(out, "; the rest of its {} entries was not looked at", verified.signed.checkpoint.size)
}

fn written(unix_ns: i64) -> String {
    let mut text = Vec::new();
    time::write(&mut text, unix_ns);
    String::from_utf8_lossy(&text).into_owned()
}

/// Text that steers no terminal: what is not plain is escaped.
fn safe(text: &str) -> String {
    let plain = |c: char| !c.is_control() && (c.is_ascii() || c.is_alphanumeric());
    text.chars().flat_map(|c| if plain(c) { vec![c] } else { c.escape_default().collect() }).collect()
}
