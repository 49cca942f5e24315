//! MLLP's frames (HL7 Transport Specification, MLLP release 1): `0B` payload `1C 0D`.
//!
//! A frame is taken where every reader takes it: nothing stands between frames, and neither `0B`, `1C` nor `00` inside. What is
//! forwarded is written anew.

pub(crate) const START: u8 = 0x0b;
pub(crate) const END: u8 = 0x1c;
pub(crate) const CR: u8 = 0x0d;

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum FrameFault {
    /// Something stands where a frame has to begin.
    #[error("bytes between frames")]
    Outside,
    /// A byte inside that begins a frame, or half ends one, or is NUL.
    #[error("control byte inside a frame")]
    Inside,
    /// The frame is longer than the bound.
    #[error("frame too long")]
    TooLong,
}

impl FrameFault {
    /// The name in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Outside => "between-frames",
            Self::Inside => "inside-frame",
            Self::TooLong => "frame-too-long",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Outside,
    Inside,
    Ending,
}

/// Reads one side's frames.
#[derive(Debug)]
pub(crate) struct Frames {
    stage: Stage,
    held: Vec<u8>,
    most: usize,
}

impl Frames {
    pub(crate) fn new(most: usize) -> Self {
        Self { stage: Stage::Outside, held: Vec::new(), most }
    }

    /// Whether a frame is under way.
    pub(crate) fn is_amid(&self) -> bool {
        self.stage != Stage::Outside
    }

    /// The next payload; none when more bytes are needed.
    pub(crate) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, FrameFault> {
        loop {
            match self.stage {
                Stage::Outside => {
                    let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
                    if *first != START {
                        return Err(FrameFault::Outside);
                    }
                    *bytes = rest;
                    self.stage = Stage::Inside;
                }
                Stage::Inside => {
                    let end = bytes.iter().position(|byte| matches!(*byte, START | END | 0));
                    let (taken, rest) = bytes.split_at_checked(end.unwrap_or(bytes.len())).unwrap_or((*bytes, &[]));
                    if self.held.len().saturating_add(taken.len()) > self.most {
                        return Err(FrameFault::TooLong);
                    }
                    self.held.extend_from_slice(taken);
                    *bytes = rest;
                    let Some((byte, rest)) = rest.split_first() else { return Ok(None) };
                    if *byte != END {
                        return Err(FrameFault::Inside);
                    }
                    *bytes = rest;
                    self.stage = Stage::Ending;
                }
                Stage::Ending => {
                    let Some((byte, rest)) = bytes.split_first() else { return Ok(None) };
                    if *byte != CR {
                        return Err(FrameFault::Inside);
                    }
                    *bytes = rest;
                    self.stage = Stage::Outside;
                    return Ok(Some(std::mem::take(&mut self.held)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(most: usize, chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Option<FrameFault>) {
        let mut frames = Frames::new(most);
        let mut seen = Vec::new();
        for chunk in chunks {
            let mut rest = *chunk;
            loop {
                match frames.next(&mut rest) {
                    Ok(Some(payload)) => seen.push(payload),
                    Ok(None) => break,
                    Err(fault) => return (seen, Some(fault)),
                }
            }
        }
        (seen, None)
    }

    #[test]
    fn what_is_not_exactly_a_frame_is_refused() {
        let cases: [(&[u8], usize, Option<FrameFault>); 11] = [
            (b"\x0bA\x1c\r\x0bB\x1c\r", 2, None),
            (b"\x0bA\x1c\r\r\x0bB\x1c\r", 1, Some(FrameFault::Outside)),
            (b"\x0bA\x1c\rMSH|\x1c\r", 1, Some(FrameFault::Outside)),
            (b"MSH|", 0, Some(FrameFault::Outside)),
            (b"\x0bA\x0bB\x1c\r", 0, Some(FrameFault::Inside)),
            (b"\x0bA\x1c\x1c\r", 0, Some(FrameFault::Inside)),
            (b"\x0bA\x1cB\x1c\r", 0, Some(FrameFault::Inside)),
            (b"\x0bA\x1c\n", 0, Some(FrameFault::Inside)),
            (b"\x0bA\0\x1c\r", 0, Some(FrameFault::Inside)),
            (b"\x0b123456789\x1c\r", 0, Some(FrameFault::TooLong)),
            (b"\x0bA\x1c", 0, None),
        ];
        for (bytes, count, fault) in cases {
            let (seen, found) = read(8, &[bytes]);
            assert_eq!((seen.len(), found), (count, fault), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(bytes in proptest::collection::vec(prop_oneof![Just(0x0b_u8), Just(0x1c), Just(13), Just(65), Just(0)], 0..40), cut in 0_usize..40) {
            let cut = cut.min(bytes.len());
            prop_assert_eq!(read(8, &[&bytes[..cut], &bytes[cut..]]), read(8, &[&bytes]));
        }
    }
}
