//! Reads records back from the segments: what the tree was not handed, and which segments it does not need any more.

use gateway_audit::frame::{Chain, Frame, SEGMENT_HEADER, SegmentHeader};

use crate::audit::segments::{Failure, segment_first};
use crate::audit::storage::Storage;

/// Why records are not to be had from the segments.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadBackError {
    /// A call failed.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// A record that was durable is not there, or is not the one that was written.
    #[error("record {0} cannot be read back from its segment")]
    Record(u64),
}

/// The segments' names with their first sequence numbers, in order.
pub(super) fn segments(storage: &dyn Storage) -> Result<Vec<(u64, String)>, Failure> {
    let names = storage.list().map_err(Failure::of("list", "."))?;
    let mut segments: Vec<_> = names.into_iter().filter_map(|name| Some((segment_first(&name)?, name))).collect();
    segments.sort_unstable();
    Ok(segments)
}

/// Visits the records `from` to `to`, all of them durable before this is called: what an abandoned segment holds beyond
/// the next one's first record is void, and so never among them.
///
/// # Errors
/// [`ReadBackError`], or what `visit` says; the records before were visited.
pub(super) fn read_back<E: From<ReadBackError>>(
    storage: &dyn Storage,
    from: u64,
    to: u64,
    mut visit: impl FnMut(&Frame<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let segments = segments(storage).map_err(ReadBackError::Failure)?;
    let mut next = from;
    for (place, (first, name)) in segments.iter().enumerate() {
        let end = segments.get(place + 1).map_or(u64::MAX, |(first, _)| *first);
        if end <= next {
            continue;
        }
        if next > to {
            break;
        }
        if *first > next {
            return Err(ReadBackError::Record(next).into());
        }
        let bytes = storage.read(name).map_err(Failure::of("read", name)).map_err(ReadBackError::Failure)?;
        let header = SegmentHeader::decode(&bytes).map_err(|_| ReadBackError::Record(*first))?;
        let mut chain = Chain { link: header.previous, next: header.first_sequence };
        let mut rest = bytes.get(SEGMENT_HEADER..).unwrap_or_default();
        while chain.next < end && chain.next <= to {
            let lost = ReadBackError::Record(chain.next);
            let Ok(frame) = Frame::decode(rest) else { return Err(lost.into()) };
            if frame.sequence != chain.next || frame.link != frame.expected_link(&chain.link) {
                return Err(lost.into());
            }
            if frame.sequence >= next {
                visit(&frame)?;
                next = frame.sequence + 1;
            }
            chain = Chain { link: frame.link, next: frame.sequence + 1 };
            rest = rest.get(frame.size()..).unwrap_or_default();
        }
    }
    if next > to { Ok(()) } else { Err(ReadBackError::Record(next).into()) }
}

/// The segments of which every record is among the first `covered`, but for the last `keep` segments.
pub(super) fn removable(segments: &[(u64, String)], covered: u64, keep: usize) -> &[(u64, String)] {
    let most = segments.len().saturating_sub(keep);
    let whole = segments.iter().skip(1).take_while(|(first, _)| *first <= covered + 1).count();
    segments.get(..whole.min(most)).unwrap_or_default()
}
