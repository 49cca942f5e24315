//! Reads records back from the segments: what the tree was not handed, and which segments it does not need any more.

use gateway_audit::frame::{Chain, Frame, SEGMENT_HEADER, SegmentHeader};
use gateway_audit::merkle::Hash;

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
/// the next one's first record is void, and so never among them. With each come the hashes of its entries. What lies before
/// them in their segment is passed by without a look at its links.
///
/// # Errors
/// [`ReadBackError`], or what `visit` says; the records before were visited.
pub(super) fn read_back<E: From<ReadBackError>>(
    storage: &dyn Storage,
    from: u64,
    to: u64,
    mut visit: impl FnMut(&Frame<'_>, &[Hash]) -> Result<(), E>,
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
            if frame.sequence != chain.next {
                return Err(lost.into());
            }
            if frame.sequence >= next {
                let leaves = frame.leaves();
                if frame.link != frame.expected_link(&chain.link, &leaves) {
                    return Err(lost.into());
                }
                visit(&frame, &leaves)?;
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

#[cfg(test)]
mod tests {
    use std::fs;

    use gateway_audit::frame::RecordLength;

    use super::*;
    use crate::audit::segments::segment_name;
    use crate::audit::storage::Directory;

    /// Two segments of three records each; the second says that it goes on from `previous`, or else from the first.
    fn log(folder: &std::path::Path, previous: Option<[u8; 32]>) -> Vec<Vec<Hash>> {
        let mut chain = Chain { link: [7; 32], next: 1 };
        let mut all = Vec::new();
        for first in [1, 4] {
            let link = previous.filter(|_| first == 4).unwrap_or(chain.link);
            let header = SegmentHeader { log: [1; 16], node: "n".to_owned(), first_sequence: first, previous: link };
            let mut bytes = header.encode().to_vec();
            for _ in 0..3 {
                let mut leaves = Vec::new();
                let write = |number: u64, out: &mut Vec<u8>| {
                    out.extend_from_slice(format!("record {number}").as_bytes());
                    Ok::<_, RecordLength>(())
                };
                chain.append(0, &mut bytes, &mut leaves, write).unwrap();
                all.push(leaves);
            }
            fs::write(folder.join(segment_name(first)), bytes).unwrap();
        }
        all
    }

    fn back(folder: &std::path::Path, from: u64, to: u64) -> Result<Vec<(u64, Vec<Hash>)>, ReadBackError> {
        let mut read = Vec::new();
        let storage = Directory::open(folder).unwrap();
        read_back(&storage, from, to, |frame, leaves| {
            read.push((frame.sequence, leaves.to_vec()));
            Ok::<_, ReadBackError>(())
        })?;
        Ok(read)
    }

    #[test]
    fn records_come_back_from_any_to_any_with_their_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let all = log(folder.path(), None);
        for (from, to) in (1..=6).flat_map(|from| (from..=6).map(move |to| (from, to))) {
            let expected: Vec<_> = (from..=to).zip(all.iter().skip(from as usize - 1).cloned()).collect();
            assert_eq!(back(folder.path(), from, to).unwrap(), expected);
        }
        assert!(matches!(back(folder.path(), 5, 7), Err(ReadBackError::Record(7))));
    }

    #[test]
    fn one_that_is_not_linked_does_not_come_back_and_only_it_matters() {
        let folder = tempfile::tempdir().unwrap();
        log(folder.path(), Some([9; 32]));
        assert!(matches!(back(folder.path(), 2, 6), Err(ReadBackError::Record(4))));
        assert_eq!(back(folder.path(), 5, 6).unwrap().len(), 2);
    }
}
