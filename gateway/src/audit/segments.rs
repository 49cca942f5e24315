//! The files of a log: the segment being written, the one prepared after it, and the reserve.
//!
//! Files are filled with zeros and synced before they are used. Writing over allocated, written blocks changes no
//! metadata, so that a commit's `fdatasync` needs no journal commit; and a prepared file cannot run out of space.
//! The first segment of a run is small, so that a start is quick; each next one is twice as long up to the
//! configured size.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use gateway_audit::frame::{Chain, SEGMENT_HEADER, SegmentHeader};

use super::storage::{LogFile, Storage, write_all};

const SPARE: &str = "spare.log";
const RESERVE: &str = "reserve.log";
const SEGMENT_PREFIX: &str = "segment-";
const SEGMENT_SUFFIX: &str = ".log";
const TORN_PREFIX: &str = "torn-";
/// Length of a run's first segment.
const FIRST_BYTES: u64 = 4 << 20;
/// The shortest file worth preparing where space is scarce.
const LEAST_BYTES: u64 = 64 << 10;
/// Bytes of the reserve that only `full` and `stop` may use.
const RESERVE_MARGIN: u64 = 16 << 10;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Who fills the next segment with zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preparation {
    /// A thread beside the writer.
    Background,
    /// The writer itself, when it needs the segment.
    Inline,
}

/// An error with the call that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} of `{file}`: {error}")]
pub struct Failure {
    /// The call.
    pub operation: &'static str,
    /// The file.
    pub file: String,
    /// What the system said.
    pub error: io::Error,
}

impl Failure {
    pub(super) fn of(operation: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { operation, file: file.to_owned(), error }
    }

    pub(super) fn is_full(&self) -> bool {
        matches!(
            self.error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
    }
}

/// The file name of the segment that begins with a sequence number.
#[must_use]
pub fn segment_name(first: u64) -> String {
    format!("{SEGMENT_PREFIX}{first:020}{SEGMENT_SUFFIX}")
}

/// The sequence number a segment's name says it begins with.
#[must_use]
pub fn segment_first(name: &str) -> Option<u64> {
    name.strip_prefix(SEGMENT_PREFIX)?.strip_suffix(SEGMENT_SUFFIX)?.parse().ok()
}

/// A free name for bytes that stand in the way of record `sequence`.
pub(super) fn torn_name(names: &[String], sequence: u64) -> String {
    let mut number = 1_u32;
    loop {
        let name = format!("{TORN_PREFIX}{sequence:020}-{number}.bin");
        if !names.contains(&name) {
            return name;
        }
        number += 1;
    }
}

/// Evidence kept aside that stood in the way of record `sequence`.
pub(super) fn is_torn_at(name: &str, sequence: u64) -> bool {
    name.starts_with(&format!("{TORN_PREFIX}{sequence:020}-"))
}

/// A file of zeros.
struct Prepared {
    file: Box<dyn LogFile>,
    name: &'static str,
    capacity: u64,
}

/// The segment being written.
struct Current {
    file: Box<dyn LogFile>,
    name: String,
    /// End of the last acknowledged frame.
    end: u64,
    /// Bytes that are prepared.
    capacity: u64,
    /// Whether the file was the reserve.
    reserve: bool,
}

/// Settings of [`Segments`].
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) log: [u8; 16],
    pub(super) node: String,
    pub(super) segment_bytes: u64,
    pub(super) reserve_bytes: u64,
    pub(super) preparation: Preparation,
}

/// The files of a log that is being written.
pub(super) struct Segments {
    storage: Arc<dyn Storage>,
    layout: Layout,
    current: Option<Current>,
    spare: Option<Prepared>,
    preparing: Option<Receiver<io::Result<Prepared>>>,
    reserve: Option<Prepared>,
    next_capacity: u64,
}

impl Segments {
    pub(super) fn new(storage: Arc<dyn Storage>, layout: Layout) -> Self {
        let next_capacity = FIRST_BYTES.min(layout.segment_bytes);
        Self { storage, layout, current: None, spare: None, preparing: None, reserve: None, next_capacity }
    }

    /// Whether the records go to the reserve.
    pub(super) fn in_reserve(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.reserve)
    }

    /// Whether so much of the segment is used that the next one should be prepared.
    pub(super) fn is_half_full(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.end > current.capacity / 2)
    }

    /// Whether the reserve is ready.
    pub(super) fn has_reserve(&self) -> bool {
        self.reserve.is_some()
    }

    /// Bytes that ordinary records may still take in the reserve; without bound elsewhere.
    pub(super) fn room(&self) -> u64 {
        match &self.current {
            Some(current) if current.reserve => {
                current.capacity.saturating_sub(current.end).saturating_sub(RESERVE_MARGIN)
            }
            _ => u64::MAX,
        }
    }

    /// Writes frames behind the last acknowledged one and makes them durable. After an error the segment is
    /// finished: [`abandon`](Self::abandon) it.
    pub(super) fn commit(&mut self, frames: &[u8]) -> Result<(), Failure> {
        let Some(current) = &mut self.current else {
            return Err(Failure::of("open", SEGMENT_PREFIX)(io::ErrorKind::NotFound.into()));
        };
        write_all(&mut *current.file, frames, current.end).map_err(Failure::of("write", &current.name))?;
        current.file.sync().map_err(Failure::of("fdatasync", &current.name))?;
        current.end += length(frames);
        Ok(())
    }

    /// Gives the current segment up. What it holds behind the last acknowledged frame is void; the next segment's
    /// header says so.
    pub(super) fn abandon(&mut self) {
        self.current = None;
    }

    /// Whether the next `bytes` belong into a new segment.
    pub(super) fn wants_next(&self, bytes: usize) -> bool {
        self.current.as_ref().is_some_and(|current| {
            !current.reserve && current.end + u64::try_from(bytes).unwrap_or(u64::MAX) > current.capacity
        })
    }

    /// Starts preparing the next segment, or takes the one that is ready. Errors leave everything as it was.
    pub(super) fn prepare(&mut self) -> Result<(), Failure> {
        if self.spare.is_some() {
            return Ok(());
        }
        let prepared = match (self.layout.preparation, self.preparing.take()) {
            (Preparation::Inline, _) => prepare(&*self.storage, SPARE, self.next_capacity),
            (Preparation::Background, None) => {
                let (sender, receiver) = sync_channel(1);
                let (storage, capacity) = (self.storage.clone(), self.next_capacity);
                let work = move || {
                    // Nobody listens any more where the log was stopped meanwhile.
                    let _ = sender.send(prepare(&*storage, SPARE, capacity));
                };
                match std::thread::Builder::new().name("audit-prepare".into()).spawn(work) {
                    Ok(_) => {
                        self.preparing = Some(receiver);
                        return Ok(());
                    }
                    Err(error) => Err(error),
                }
            }
            (Preparation::Background, Some(receiver)) => match receiver.try_recv() {
                Ok(prepared) => prepared,
                Err(TryRecvError::Empty) => {
                    self.preparing = Some(receiver);
                    return Ok(());
                }
                Err(TryRecvError::Disconnected) => Err(io::ErrorKind::BrokenPipe.into()),
            },
        };
        self.spare = Some(prepared.map_err(Failure::of("prepare", SPARE))?);
        Ok(())
    }

    /// Whether a prepared segment waits.
    pub(super) fn has_spare(&self) -> bool {
        self.spare.is_some()
    }

    /// Prepares the reserve, unless it is there.
    pub(super) fn prepare_reserve(&mut self) -> Result<(), Failure> {
        if self.reserve.is_none() {
            let prepared = prepare(&*self.storage, RESERVE, self.layout.reserve_bytes);
            self.reserve = Some(prepared.map_err(Failure::of("prepare", RESERVE))?);
        }
        Ok(())
    }

    /// Begins a new segment behind the chain's end, waiting for a file if none is prepared.
    pub(super) fn begin(&mut self, chain: &Chain) -> Result<(), Failure> {
        if let Some(receiver) = self.preparing.take() {
            self.spare = receiver.recv().ok().and_then(Result::ok);
        }
        let prepared = match self.spare.take() {
            Some(spare) => spare,
            None => prepare(&*self.storage, SPARE, self.next_capacity).map_err(Failure::of("prepare", SPARE))?,
        };
        self.enter(prepared, chain, false)?;
        self.next_capacity = self.next_capacity.saturating_mul(2).min(self.layout.segment_bytes);
        Ok(())
    }

    /// Begins a segment in the reserve.
    pub(super) fn begin_reserve(&mut self, chain: &Chain) -> Result<(), Failure> {
        let reserve = self.reserve.take();
        let reserve = reserve.ok_or(io::ErrorKind::StorageFull.into()).map_err(Failure::of("open", RESERVE))?;
        self.enter(reserve, chain, true)
    }

    fn enter(&mut self, mut prepared: Prepared, chain: &Chain, reserve: bool) -> Result<(), Failure> {
        let header = SegmentHeader {
            log: self.layout.log,
            node: self.layout.node.clone(),
            first_sequence: chain.next,
            previous: chain.link,
        };
        let name = segment_name(chain.next);
        write_all(&mut *prepared.file, &header.encode(), 0).map_err(Failure::of("write", prepared.name))?;
        prepared.file.sync().map_err(Failure::of("fdatasync", prepared.name))?;
        let names = self.storage.list().map_err(Failure::of("list", &name))?;
        // INVARIANT: once the new name may be on disk, no record may be added to the old segment, for the new one's
        // header says where the old one ends.
        let last = self.current.take();
        if names.contains(&name) {
            // A segment that failed before its first record was acknowledged: evidence, like a torn tail.
            self.storage.rename(&name, &torn_name(&names, chain.next)).map_err(Failure::of("rename", &name))?;
        }
        self.storage.rename(prepared.name, &name).map_err(Failure::of("rename", &name))?;
        self.storage.sync_directory().map_err(Failure::of("fsync", &name))?;
        let end = length(&[0; SEGMENT_HEADER]);
        self.current = Some(Current { file: prepared.file, name, end, capacity: prepared.capacity, reserve });
        if let Some(mut last) = last {
            // Only the zeros behind the last record go; if they stay, they mean the same.
            if let Err(error) = last.file.set_len(last.end) {
                tracing::debug!(segment = last.name, %error, "unused space of a finished segment is not freed");
            }
        }
        Ok(())
    }

    /// Ends the log's files at a stop: frees what was prepared in vain.
    pub(super) fn close(mut self) {
        if let Some(receiver) = self.preparing.take() {
            let _ = receiver.recv();
        }
        let mut freed = self.storage.remove(SPARE);
        if let Some(mut last) = self.current.take() {
            freed = freed.and(last.file.set_len(last.end));
        }
        if let Err(error) = freed
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, "unused space of the audit log is not freed");
        }
    }
}

/// Makes a file of `capacity` zeros, durable. Where space runs out, half of what could be had is taken, so that
/// others who share the disk are not starved.
fn prepare(storage: &dyn Storage, name: &'static str, capacity: u64) -> io::Result<Prepared> {
    let mut file = storage.create(name)?;
    let mut written = 0;
    let mut capacity = capacity;
    while written < capacity {
        let chunk = usize::try_from(capacity - written).unwrap_or(usize::MAX).min(ZEROS.len());
        let zeros = ZEROS.get(..chunk).unwrap_or_default();
        match write_all(&mut *file, zeros, written) {
            Ok(()) => written += length(zeros),
            Err(error)
                if Failure::of("", "")(io::Error::from(error.kind())).is_full()
                    && name == SPARE
                    && written / 2 >= LEAST_BYTES =>
            {
                capacity = written / 2;
                file.set_len(capacity)?;
            }
            Err(error) => {
                // The blocks that were had go back; the error is the one to tell.
                let _ = file.set_len(0);
                return Err(error);
            }
        }
    }
    file.sync()?;
    Ok(Prepared { file, name, capacity })
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
