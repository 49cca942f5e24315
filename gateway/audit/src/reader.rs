//! Reading a log back: every record is accepted until the first bad one, which is named exactly (A4, A14).
//!
//! The reader works on slices and keeps nothing but the chain's end, so its memory is bounded by what it is given.

use crate::frame::{Chain, FRAME_HEADER, Frame, FrameError, HeaderError, SEGMENT_HEADER, SegmentHeader, genesis};
use crate::header::TAG;

/// What is wrong with the first bad record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The segment's header cannot be read.
    #[error("{0}")]
    Header(#[from] HeaderError),
    /// There is no whole frame.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// The segment ends, and the next one begins with a later record.
    #[error("the record is missing")]
    Missing,
    /// A frame is whole but has another place in the log.
    #[error("a record with sequence {0} stands in its place")]
    Sequence(u64),
    /// The record, or one before it, is not the one that was written.
    #[error("the record's link does not continue the chain")]
    Link,
    /// A segment, this or the next, does not continue the chain, or belongs to another log.
    #[error("the segment does not continue the log")]
    Segment,
    /// A frame claims that itself or a later record was durable before it was written.
    #[error("the frame's durable mark is impossible")]
    Durable,
    /// The next segment replaces records that a later frame calls durable.
    #[error("the next segment replaces an acknowledged record")]
    Superseded,
}

/// The first bad record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{segment}`: record {sequence} at byte {offset}: {fault}")]
pub struct Bad {
    /// The segment's name.
    pub segment: String,
    /// Sequence number that the record should have.
    pub sequence: u64,
    /// Where it should stand.
    pub offset: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

/// How a segment ends behind its last good record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// With zeros or nothing.
    Clean,
    /// In the log's last segment: bytes that no later frame calls durable, as a crash leaves them (A3).
    Torn {
        /// Where they begin.
        offset: u64,
        /// Their number, without the zeros behind them.
        bytes: u64,
    },
    /// Before the log's end: bytes of records that the next segment holds, left by a failed write (A5).
    Abandoned {
        /// Where they begin.
        offset: u64,
        /// Their number, without the zeros behind them.
        bytes: u64,
    },
}

/// One segment that holds nothing bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Its header.
    pub header: SegmentHeader,
    /// Number of its records.
    pub records: u64,
    /// The chain's end after it.
    pub chain: Chain,
    /// First byte behind its last record.
    pub end: u64,
    /// What stands there.
    pub tail: Tail,
}

/// Checks a log segment by segment, in order.
#[derive(Debug, Clone, Default)]
pub struct Verifier {
    log: Option<([u8; 16], String)>,
    chain: Option<Chain>,
    records: u64,
}

impl Verifier {
    /// A verifier that begins with whatever segment comes first. A first segment that starts with record 1 must
    /// stand on the log's genesis; a later one (earlier ones are archived) is taken at its word.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The chain's end after the records accepted so far.
    #[must_use]
    pub const fn chain(&self) -> Option<Chain> {
        self.chain
    }

    /// Number of records accepted so far, those before the bad one included.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// Checks one segment. `next` is the header of the segment that follows, none for the last. `visit` gets every
    /// accepted record, with its offset.
    ///
    /// # Errors
    /// [`Bad`] names the first bad record; those before it were visited and count as accepted. The verifier must
    /// not be used further.
    pub fn segment(
        &mut self,
        name: &str,
        bytes: &[u8],
        next: Option<&SegmentHeader>,
        mut visit: impl FnMut(u64, &Frame<'_>),
    ) -> Result<Checked, Bad> {
        let bad = |sequence: u64, offset: usize, fault: Fault| Bad {
            segment: name.to_owned(),
            sequence,
            offset: u64::try_from(offset).unwrap_or(u64::MAX),
            fault,
        };
        let expected = self.chain.map_or(1, |chain| chain.next);
        let header = SegmentHeader::decode(bytes).map_err(|error| bad(expected, 0, error.into()))?;
        let mut chain = self.enter(&header).ok_or_else(|| bad(expected, 0, Fault::Segment))?;
        self.chain = Some(chain);
        self.log = Some((header.log, header.node.clone()));
        let end_sequence = next.map(|next| next.first_sequence);
        let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
        let mut offset = SEGMENT_HEADER;
        let mut records = 0;
        let tail = loop {
            let rest = bytes.get(offset..).unwrap_or_default();
            let content = rest.len().saturating_sub(zeros);
            if end_sequence == Some(chain.next) {
                // A sealed record may end with zeros, of which its tag is random.
                let end = (content + TAG).min(rest.len());
                if acknowledges(rest.get(..end).unwrap_or_default(), chain.next) {
                    return Err(bad(chain.next, offset, Fault::Superseded));
                }
                break (content > 0, content);
            }
            if content == 0 {
                match end_sequence {
                    None => break (false, 0),
                    Some(end) if end > chain.next => return Err(bad(chain.next, offset, Fault::Missing)),
                    Some(_) => return Err(bad(chain.next, offset, Fault::Segment)),
                }
            }
            match follow(rest, &chain) {
                Ok(frame) => {
                    visit(u64::try_from(offset).unwrap_or(u64::MAX), &frame);
                    chain = Chain { link: frame.link, next: frame.sequence + 1 };
                    offset += frame.size();
                    records += 1;
                    self.chain = Some(chain);
                    self.records += 1;
                }
                Err(fault) => {
                    if end_sequence.is_some() || acknowledges(rest, chain.next) {
                        return Err(bad(chain.next, offset, fault));
                    }
                    break (true, content);
                }
            }
        };
        let end = u64::try_from(offset).unwrap_or(u64::MAX);
        let bytes = u64::try_from(tail.1).unwrap_or(u64::MAX);
        let tail = match (tail.0, next) {
            (false, _) => Tail::Clean,
            (true, None) => Tail::Torn { offset: end, bytes },
            (true, Some(_)) => Tail::Abandoned { offset: end, bytes },
        };
        Ok(Checked { header, records, chain, end, tail })
    }

    /// The chain's state at the header's first record, if the header continues the log.
    fn enter(&self, header: &SegmentHeader) -> Option<Chain> {
        let at = Chain { link: header.previous, next: header.first_sequence };
        match (&self.chain, &self.log) {
            (Some(chain), Some((log, node))) => {
                (*chain == at && *log == header.log && *node == header.node).then_some(at)
            }
            _ => {
                let genuine = header.first_sequence > 1 || header.previous == genesis(&header.log, &header.node);
                (genuine && header.first_sequence > 0).then_some(at)
            }
        }
    }
}

/// Checks a whole log that lies in memory: segments by name, in order.
///
/// # Errors
/// [`Bad`] names the first bad record.
pub fn verify(segments: &[(&str, &[u8])]) -> Result<Option<Checked>, Bad> {
    let mut verifier = Verifier::new();
    let mut last = None;
    for (place, (name, bytes)) in segments.iter().enumerate() {
        let next = match segments.get(place + 1) {
            None => None,
            Some((next_name, next)) => match SegmentHeader::decode(next) {
                Ok(header) => Some(header),
                Err(error) => {
                    // Without the next header nobody knows where this segment ends: all its records count, and the
                    // next segment is bad at its first byte.
                    verifier.segment(name, bytes, None, |_, _| {})?;
                    let sequence = verifier.chain().map_or(1, |chain| chain.next);
                    return Err(Bad { segment: (*next_name).to_owned(), sequence, offset: 0, fault: error.into() });
                }
            },
        };
        last = Some(verifier.segment(name, bytes, next.as_ref(), |_, _| {})?);
    }
    Ok(last)
}

/// The frame at the first byte, if it is the chain's next one.
fn follow<'a>(bytes: &'a [u8], chain: &Chain) -> Result<Frame<'a>, Fault> {
    let frame = Frame::decode(bytes)?;
    if frame.sequence != chain.next {
        return Err(Fault::Sequence(frame.sequence));
    }
    if frame.link != frame.expected_link(&chain.link, &frame.leaves()) {
        return Err(Fault::Link);
    }
    if frame.durable >= frame.sequence {
        return Err(Fault::Durable);
    }
    Ok(frame)
}

/// Whether some whole frame in `bytes` says that record `sequence` was durable. Looks at every offset, since the
/// bytes may begin in the middle of anything. The work is bounded: where hostile bytes look like too many frames,
/// the answer is yes, which is the careful one.
fn acknowledges(bytes: &[u8], sequence: u64) -> bool {
    let mut budget = 64 * (bytes.len() + FRAME_HEADER);
    for offset in 0..bytes.len().saturating_sub(FRAME_HEADER) {
        let candidate = bytes.get(offset..).unwrap_or_default();
        let Some((_, durable)) = plausible(candidate) else { continue };
        if durable < sequence {
            continue;
        }
        let Some(left) = budget.checked_sub(candidate.len().min(crate::frame::MAX_RECORD + FRAME_HEADER)) else {
            return true;
        };
        budget = left;
        if Frame::decode(candidate).is_ok() {
            return true;
        }
    }
    false
}

/// Sequence and durable mark of what might be a frame, without reading its record.
fn plausible(bytes: &[u8]) -> Option<(u64, u64)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (_, rest) = rest.split_first_chunk::<4>()?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let (durable, _) = rest.split_first_chunk::<8>()?;
    let (sequence, durable) = (u64::from_le_bytes(*sequence), u64::from_le_bytes(*durable));
    let fits = (1..=crate::frame::MAX_RECORD).contains(&length) && FRAME_HEADER + length <= bytes.len();
    (fits && durable < sequence).then_some((sequence, durable))
}

#[cfg(test)]
mod tests;
