//! Reads a log that may be growing, from its end.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use gateway_audit::frame::SegmentHeader;
use gateway_audit::reader::{Bad, Tail, Verifier};
use gateway_audit::tiles::CHECKPOINT;

use crate::audit::{LANES, segment_first, segments_directory};

/// Looks taken at a log whose writer begins a new segment in the middle of one.
const LOOKS: u32 = 5;
const BETWEEN_LOOKS: std::time::Duration = std::time::Duration::from_millis(50);

/// The end of a log.
#[derive(Debug, Default)]
pub(super) struct End {
    /// The last records as they lie on disk, oldest first, with their numbers.
    pub(super) records: Vec<(u64, Vec<u8>)>,
    /// What a crash, or a writer at work, left behind the last record: segment and bytes.
    pub(super) torn: Option<(String, u64)>,
    /// The first bad record among those that were read, if there is one.
    pub(super) bad: Option<Bad>,
}

/// Why a log cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// A file or the folder.
    #[error("`{}`: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// No file in the folder is a segment of a log.
    #[error("`{}` holds no audit log", .0.display())]
    NoLog(PathBuf),
}

/// The last `count` records of the lanes of a log, or of one lane's folder of segments.
pub(super) fn last(directory: &Path, count: usize) -> Result<Vec<(String, End)>, ReadError> {
    let mut lanes = Vec::new();
    for lane in 1..=LANES {
        let segments = segments_directory(directory, lane);
        if segments.is_dir() {
            match last_of(&segments, count) {
                // A lane that was never begun holds no segment.
                Err(ReadError::NoLog(_)) => {}
                end => lanes.push((format!("lane-{lane}"), end?)),
            }
        }
    }
    if lanes.is_empty() {
        lanes.push((String::new(), last_of(directory, count)?));
    }
    Ok(lanes)
}

/// The records behind `covered` in one lane's folder of segments; none where there is no such folder or segment.
pub(super) fn after(segments: &Path, covered: u64) -> Result<End, ReadError> {
    if !segments.is_dir() {
        return Ok(End::default());
    }
    let enough = |end: &End| end.records.first().is_some_and(|(first, _)| *first <= covered.saturating_add(1));
    match last_that(segments, &enough) {
        Err(ReadError::NoLog(_)) => Ok(End::default()),
        end => end.map(|mut end| {
            end.records.retain(|(sequence, _)| *sequence > covered);
            end
        }),
    }
}

/// The name of a lane's log, by its checkpoint; none where it has none, and for a folder of segments alone.
pub(super) fn origin(directory: &Path, lane: &str) -> Option<String> {
    let checkpoint = std::fs::read_to_string(directory.join(lane).join(CHECKPOINT)).ok()?;
    checkpoint.lines().next().map(str::to_owned)
}

/// The last `count` records of one lane. Reads whole segments, the last first, as many as hold so many records; each is
/// checked from its first record on, and whether it goes on from the one before it as far as that was read.
fn last_of(directory: &Path, count: usize) -> Result<End, ReadError> {
    last_that(directory, &|end: &End| end.records.len() >= count).map(|end| keep(end, count))
}

/// The last segments' records, as many segments as are enough.
fn last_that(directory: &Path, enough: &dyn Fn(&End) -> bool) -> Result<End, ReadError> {
    let mut look = 1;
    loop {
        let end = look_once(directory, enough)?;
        // A segment that begins meanwhile looks like a break; in a log that nobody writes it stays one.
        if end.bad.is_none() || look == LOOKS {
            return Ok(end);
        }
        look += 1;
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// Zeros behind the last other byte that are kept: a record with more of them at its end does not come about.
const KEPT_ZEROS: usize = 4_096;

struct Segment {
    name: String,
    bytes: Vec<u8>,
    header: Option<SegmentHeader>,
}

fn look_once(directory: &Path, enough: &dyn Fn(&End) -> bool) -> Result<End, ReadError> {
    let mut names = names(directory)?;
    let mut segments: Vec<Segment> = Vec::new();
    while let Some(name) = names.pop() {
        let bytes = read(&directory.join(&name))?;
        let header = SegmentHeader::decode(&bytes).ok();
        // The newest file may be a segment that is just being made.
        if header.is_none() && segments.is_empty() && bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        segments.insert(0, Segment { name, bytes, header });
        let end = check(&segments);
        if end.bad.is_some() || enough(&end) || names.is_empty() {
            return Ok(end);
        }
    }
    Err(ReadError::NoLog(directory.to_owned()))
}

fn keep(mut end: End, count: usize) -> End {
    let surplus = end.records.len().saturating_sub(count);
    end.records.drain(..surplus);
    end
}

fn check(segments: &[Segment]) -> End {
    let mut end = End::default();
    let mut verifier = Verifier::new();
    for (place, segment) in segments.iter().enumerate() {
        let next = segments.get(place + 1).and_then(|next| next.header.as_ref());
        let checked = verifier.segment(&segment.name, &segment.bytes, next, |_, frame| {
            end.records.push((frame.sequence, frame.record.to_vec()));
        });
        match checked {
            Ok(checked) => {
                if let Tail::Torn { bytes, .. } = checked.tail {
                    end.torn = Some((segment.name.clone(), bytes));
                }
            }
            Err(bad) => {
                end.bad = Some(bad);
                return end;
            }
        }
    }
    end
}

fn names(directory: &Path) -> Result<Vec<String>, ReadError> {
    let fail = |source| ReadError::Io { path: directory.to_owned(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(fail)? {
        if let Ok(name) = entry.map_err(fail)?.file_name().into_string()
            && segment_first(&name).is_some()
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A segment's bytes without the zeros that it is filled with ahead of use.
fn read(path: &Path) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
    let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
    // A sealed record may end with zeros: some are kept, which is as good as all.
    let length = (bytes.len() - zeros + KEPT_ZEROS).max(gateway_audit::frame::SEGMENT_HEADER).min(bytes.len());
    bytes.truncate(length);
    Ok(bytes)
}
