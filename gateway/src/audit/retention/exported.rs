//! How far the copies that the configuration requires have come.

use std::fs;
use std::path::{Path, PathBuf};

use gateway_audit::header::Envelope;
use gateway_audit::tiles::entry::{Bundle, Entry};
use gateway_audit::tiles::{Kind, Tile, WIDTH};

use crate::audit::place::{LANES, lane_directory};

/// So far the copies of one lane have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exported {
    /// The log.
    pub(super) origin: String,
    /// Entries that every copy holds.
    pub(super) entries: u64,
    /// Time of the last of them; the end of time where that is all there is.
    pub(super) time_ns: i64,
}

/// Asks the cursors of all required copies; none where no copy is required. What has no cursor holds nothing.
pub(super) fn exported(audit: &Path, required: &[PathBuf]) -> Option<Vec<Exported>> {
    if required.is_empty() {
        return None;
    }
    let lanes = (1..=LANES).filter_map(|lane| {
        let folder = lane_directory(audit, lane);
        let checkpoint = fs::read_to_string(folder.join("checkpoint")).ok()?;
        let origin = checkpoint.lines().next()?.to_owned();
        let size: u64 = checkpoint.lines().nth(1)?.parse().ok()?;
        let cursors = required.iter().map(|copy| cursor(&copy.join(format!("lane-{lane}.cursor")), &origin));
        let entries = cursors.min().flatten().unwrap_or(0);
        let time_ns = match entries {
            0 => i64::MIN,
            all if all >= size => i64::MAX,
            some => time_of(&folder, some - 1, size).unwrap_or(i64::MIN),
        };
        Some(Exported { origin, entries, time_ns })
    });
    Some(lanes.collect())
}

/// A cursor of `sekisho audit ship`: so many entries of that log were shipped.
fn cursor(path: &Path, origin: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let mut lines = text.lines();
    let fits = lines.next()? == "sekisho ship cursor v1" && lines.next()?.strip_prefix("origin ")? == origin;
    lines.next()?.strip_prefix("entries ")?.parse().ok().filter(|_| fits)
}

/// Time of the record that an entry belongs to, or of one before it.
fn time_of(lane: &Path, entry: u64, size: u64) -> Option<i64> {
    let tile = Tile::in_tree(Kind::Entries, entry / WIDTH, size)?;
    let read = |tile: Tile| fs::read(lane.join(tile.path()));
    let bundle = read(tile).or_else(|_| read(tile.full())).ok()?;
    let upto = usize::try_from(entry % WIDTH).ok()?.saturating_add(1);
    let times = Bundle::new(&bundle).take(upto).filter_map(|entry| {
        let entry = Entry::decode(entry).ok().filter(|entry| entry.part == 0)?;
        Some(Envelope::decode(entry.bytes).ok()?.header.unix_ns)
    });
    times.last()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_copy_holds_is_not_exported() {
        let folder = tempfile::tempdir().unwrap();
        let (audit, copy) = (folder.path().join("audit"), folder.path().join("siem"));
        fs::create_dir_all(audit.join("lane-1")).unwrap();
        fs::create_dir(&copy).unwrap();
        fs::write(audit.join("lane-1/checkpoint"), "log/1\n10\nroot\n").unwrap();
        assert_eq!(exported(&audit, &[]), None);
        let of = |entries, time_ns| Some(vec![Exported { origin: "log/1".into(), entries, time_ns }]);
        let required = [copy.clone()];
        assert_eq!(exported(&audit, &required), of(0, i64::MIN));
        for bad in
            ["sekisho ship cursor v1\norigin log/2\nentries 10\n", "sekisho ship cursor v2\norigin log/1\nentries 10\n"]
        {
            fs::write(copy.join("lane-1.cursor"), bad).unwrap();
            assert_eq!(exported(&audit, &required), of(0, i64::MIN));
        }
        fs::write(copy.join("lane-1.cursor"), "sekisho ship cursor v1\norigin log/1\nentries 10\n").unwrap();
        assert_eq!(exported(&audit, &required), of(10, i64::MAX));
        // The slowest copy counts.
        assert_eq!(exported(&audit, &[copy, folder.path().join("absent")]), of(0, i64::MIN));
    }
}
