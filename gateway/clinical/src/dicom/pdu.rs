//! PDUs of the upper layer (PS3.8 section 9.3), read as they come: those that open and close are held whole within a bound,
//! those that carry data are taken apart into fragments whose bytes are passed on and not kept.

use super::fault::Fault;
use crate::outbox::Outbox;

pub(crate) const ASSOCIATE_RQ: u8 = 1;
pub(crate) const ASSOCIATE_AC: u8 = 2;
pub(crate) const ASSOCIATE_RJ: u8 = 3;
const P_DATA: u8 = 4;
pub(crate) const RELEASE_RQ: u8 = 5;
pub(crate) const RELEASE_RP: u8 = 6;
pub(crate) const ABORT: u8 = 7;

/// What a fragment says of itself (PS3.8 section 9.3.5.1 and annex E.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) context: u8,
    /// Of a command set, else of a data set.
    pub(crate) command: bool,
    /// The last of its set.
    pub(crate) last: bool,
    /// Bytes of the set in it.
    pub(crate) length: u32,
}

/// The next thing in a stream of PDUs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Token<'b> {
    /// A PDU other than P-DATA-TF: its type and what follows its length.
    Whole(u8, Vec<u8>),
    /// A fragment begins.
    Begin(Fragment),
    /// Bytes of the fragment. What is not taken of them is given back by [`Reader::give_back`].
    Bytes(&'b [u8]),
    /// The fragment is over.
    End,
}

#[derive(Debug)]
enum Stage {
    Header,
    Whole { kind: u8, left: usize },
    FragmentHeader { pdu: u32 },
    Payload { pdu: u32, left: u32 },
}

/// Reads one side's PDUs.
#[derive(Debug)]
pub(crate) struct Reader {
    stage: Stage,
    /// A header in part, or a PDU in part.
    held: Vec<u8>,
    /// Most bytes of a PDU that is held whole.
    most: usize,
}

impl Reader {
    pub(crate) fn new(most: usize) -> Self {
        Self { stage: Stage::Header, held: Vec::new(), most }
    }

    /// Takes the next token's bytes off the front; none when more bytes are needed.
    pub(crate) fn next<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<Option<Token<'b>>, Fault> {
        loop {
            match self.stage {
                Stage::Header => {
                    let Some([kind, _, length @ ..]) = self.gather::<6>(bytes) else { return Ok(None) };
                    self.begin(kind, u32::from_be_bytes(length))?;
                }
                Stage::Whole { kind, left } => {
                    let (taken, rest) = bytes.split_at_checked(left).unwrap_or((*bytes, &[]));
                    self.held.extend_from_slice(taken);
                    *bytes = rest;
                    let left = left - taken.len();
                    self.stage = Stage::Whole { kind, left };
                    if left > 0 {
                        return Ok(None);
                    }
                    self.stage = Stage::Header;
                    return Ok(Some(Token::Whole(kind, std::mem::take(&mut self.held))));
                }
                Stage::FragmentHeader { pdu: 0 } => self.stage = Stage::Header,
                Stage::FragmentHeader { pdu } => {
                    let Some([a, b, c, d, context, control]) = self.gather::<6>(bytes) else { return Ok(None) };
                    let item = u32::from_be_bytes([a, b, c, d]);
                    let length = item.checked_sub(2).ok_or(Fault::MalformedPdu)?;
                    let pdu = pdu.checked_sub(4).and_then(|pdu| pdu.checked_sub(item)).ok_or(Fault::MalformedPdu)?;
                    // Bits 2 to 7 of the control header are zero (annex E.2).
                    if control > 3 {
                        return Err(Fault::MalformedPdu);
                    }
                    self.stage = Stage::Payload { pdu, left: length };
                    let (command, last) = (control & 1 != 0, control & 2 != 0);
                    return Ok(Some(Token::Begin(Fragment { context, command, last, length })));
                }
                Stage::Payload { pdu, left: 0 } => {
                    self.stage = Stage::FragmentHeader { pdu };
                    return Ok(Some(Token::End));
                }
                Stage::Payload { pdu, left } => {
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    let most = usize::try_from(left).unwrap_or(usize::MAX);
                    let (taken, rest) = bytes.split_at_checked(most).unwrap_or((*bytes, &[]));
                    *bytes = rest;
                    // What was taken is at most `left`.
                    let left = left.saturating_sub(u32::try_from(taken.len()).unwrap_or(u32::MAX));
                    self.stage = Stage::Payload { pdu, left };
                    return Ok(Some(Token::Bytes(taken)));
                }
            }
        }
    }

    /// The last [`Token::Bytes`] was not taken whole: so many bytes at its end will come again.
    pub(crate) fn give_back(&mut self, count: usize) {
        if let Stage::Payload { left, .. } = &mut self.stage {
            *left = left.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    /// Bytes of the fragment under way that have not come yet.
    pub(crate) fn left(&self) -> u32 {
        match self.stage {
            Stage::Payload { left, .. } => left,
            Stage::Header | Stage::Whole { .. } | Stage::FragmentHeader { .. } => 0,
        }
    }

    fn begin(&mut self, kind: u8, length: u32) -> Result<(), Fault> {
        let whole = usize::try_from(length).unwrap_or(usize::MAX);
        self.stage = match kind {
            ASSOCIATE_RQ | ASSOCIATE_AC if whole > self.most => return Err(Fault::PduTooLong),
            ASSOCIATE_RQ | ASSOCIATE_AC => Stage::Whole { kind, left: whole },
            ASSOCIATE_RJ | RELEASE_RQ | RELEASE_RP | ABORT if length == 4 => Stage::Whole { kind, left: 4 },
            // A P-DATA-TF has one fragment or more.
            P_DATA if length >= 6 => Stage::FragmentHeader { pdu: length },
            ASSOCIATE_RJ | RELEASE_RQ | RELEASE_RP | ABORT | P_DATA => return Err(Fault::MalformedPdu),
            _ => return Err(Fault::UnknownPdu),
        };
        Ok(())
    }

    fn gather<const N: usize>(&mut self, bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (taken, rest) = bytes.split_at_checked(N - self.held.len().min(N)).unwrap_or((*bytes, &[]));
        self.held.extend_from_slice(taken);
        *bytes = rest;
        let whole = self.held.as_slice().try_into().ok()?;
        self.held.clear();
        Some(whole)
    }
}

/// Appends to what is held; none where that would be too much.
pub(crate) fn hold(held: &mut Vec<u8>, piece: &[u8], most: usize) -> Option<()> {
    if held.len().saturating_add(piece.len()) > most {
        return None;
    }
    held.extend_from_slice(piece);
    Some(())
}

/// Writes the head of a P-DATA-TF with one fragment.
pub(crate) fn put_fragment(out: &mut Outbox, fragment: Fragment) {
    let item = fragment.length.saturating_add(2);
    out.push(&[P_DATA, 0]);
    out.push(&item.saturating_add(4).to_be_bytes());
    out.push(&item.to_be_bytes());
    out.push(&[fragment.context, u8::from(fragment.command) | u8::from(fragment.last) << 1]);
}

/// Most bytes of a PDU behind its length, where the receiver names no bound.
const UNBOUNDED: u32 = 64 * 1024;

/// Writes a set, or the beginning of one, in as many fragments as the receiver's bound wants (`most`; 0 is none).
pub(crate) fn put_set(out: &mut Outbox, context: u8, command: bool, last: bool, set: &[u8], most: u32) {
    let most = if most == 0 { UNBOUNDED } else { most.min(UNBOUNDED) };
    let size = usize::try_from(most.saturating_sub(6)).unwrap_or(usize::MAX).max(1);
    let mut pieces = set.chunks(size).peekable();
    if set.is_empty() && last {
        put_fragment(out, Fragment { context, command, last, length: 0 });
    }
    while let Some(piece) = pieces.next() {
        let last = last && pieces.peek().is_none();
        let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        put_fragment(out, Fragment { context, command, last, length });
        out.push(piece);
    }
}

/// Writes a PDU of four bytes.
pub(crate) fn put_short(out: &mut Outbox, kind: u8, body: [u8; 4]) {
    out.push(&[kind, 0, 0, 0, 0, 4]);
    out.push(&body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All tokens, with the bytes of a fragment joined.
    fn tokens(reader: &mut Reader, chunks: &[&[u8]]) -> Result<Vec<(u8, Vec<u8>)>, Fault> {
        let mut seen: Vec<(u8, Vec<u8>)> = Vec::new();
        for chunk in chunks {
            let mut rest = *chunk;
            while let Some(token) = reader.next(&mut rest)? {
                match token {
                    Token::Whole(kind, body) => seen.push((kind, body)),
                    Token::Begin(f) => seen.push((100, vec![f.context, f.command.into(), f.last.into()])),
                    Token::Bytes(bytes) => match seen.last_mut() {
                        Some((101, known)) => known.extend_from_slice(bytes),
                        _ => seen.push((101, bytes.to_vec())),
                    },
                    Token::End => seen.push((102, Vec::new())),
                }
            }
        }
        Ok(seen)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_is_split(
            set in proptest::collection::vec(any::<u8>(), 0..500), most in 0_u32..200, cuts in proptest::collection::vec(0_usize..900, 0..8),
        ) {
            let mut out = Outbox::default();
            put_set(&mut out, 3, true, true, &set, most);
            put_short(&mut out, RELEASE_RQ, [0; 4]);
            let bytes = out.pending();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            let mut reader = Reader::new(100);
            let seen = tokens(&mut reader, &chunks).unwrap();
            let joined: Vec<u8> = seen.iter().filter(|(kind, _)| *kind == 101).flat_map(|(_, b)| b.clone()).collect();
            prop_assert_eq!(joined, set);
            prop_assert_eq!(seen.last(), Some(&(RELEASE_RQ, vec![0; 4])));
            let lasts: Vec<u8> = seen.iter().filter(|(kind, _)| *kind == 100).map(|(_, b)| b[2]).collect();
            prop_assert_eq!(lasts.iter().filter(|last| **last == 1).count(), 1);
        }

        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = tokens(&mut Reader::new(64), &[&bytes]);
        }
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for (bytes, fault) in [
            (&[9, 0, 0, 0, 0, 4][..], Fault::UnknownPdu),
            (&[5, 0, 0, 0, 0, 5], Fault::MalformedPdu),
            (&[1, 0, 0, 0, 1, 0], Fault::PduTooLong),
            (&[4, 0, 0, 0, 0, 0], Fault::MalformedPdu),
            (&[4, 0, 0, 0, 0, 6, 0, 0, 0, 1, 1, 3], Fault::MalformedPdu),
            (&[4, 0, 0, 0, 0, 6, 0, 0, 0, 3, 1, 3], Fault::MalformedPdu),
            (&[4, 0, 0, 0, 0, 6, 0, 0, 0, 2, 1, 4], Fault::MalformedPdu),
            (&[4, 0, 0, 0, 0, 6, 0xff, 0xff, 0xff, 0xff, 1, 3], Fault::MalformedPdu),
        ] {
            assert_eq!(tokens(&mut Reader::new(64), &[bytes]), Err(fault), "{bytes:?}");
        }
    }
}
