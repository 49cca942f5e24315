//! What of a peer's stream reaches the library: frames that belong there, whole where they are held, and no others.
//!
//! The library gathers every frame but DATA until it is whole, unknown ones included, however long it says it is; it takes
//! frames where none belong, and does not count. So each stream's bytes go through here first (RFC 9114 4.1, 6.2.1 and 7).

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use policy::Refusal;

use super::fault::{Fault, code};
use super::fields::{Section, check};

const DATA: u64 = 0x0;
const HEADERS: u64 = 0x1;
const CANCEL_PUSH: u64 = 0x3;
const SETTINGS: u64 = 0x4;
const PUSH_PROMISE: u64 = 0x5;
const GOAWAY: u64 = 0x7;
const MAX_PUSH_ID: u64 = 0xd;
/// Of HTTP/2, and reserved since (RFC 9114 7.2.8); and what the library takes for a stream of WebTransport, which has no end.
const FORBIDDEN: [u64; 5] = [0x2, 0x6, 0x8, 0x9, 0x41];
/// Bytes of a frame of the control stream: more settings than anybody has.
const MOST_CONTROL: u64 = 4096;
/// Settings that come once and no more are counted by their bits; those beyond are nobody's that matters.
const MOST_SETTINGS: usize = 64;
/// A type and a length, in the longest form of both (RFC 9000 16).
const LONGEST_HEADER: usize = 16;

const UNEXPECTED: Fault = Fault::connection(code::FRAME_UNEXPECTED, "a frame stands where none of its kind may");
const CUT: Fault = Fault::connection(code::FRAME_ERROR, "a stream ended inside a frame");
const MISSIZED: Fault = Fault::connection(code::FRAME_ERROR, "a frame is longer or shorter than what is in it");
const NO_HEAD: Fault = Fault::stream(code::REQUEST_INCOMPLETE, "a stream ended before its request");
const NO_SETTINGS: Fault = Fault::connection(code::MISSING_SETTINGS, "the control stream does not begin with settings");
const SETTING_TWICE: Fault = Fault::connection(code::SETTINGS_ERROR, "a setting is there twice, or is one of HTTP/2");
const NO_PUSH: Fault = Fault::connection(code::ID_ERROR, "a push that nobody has promised");
const LONG_HEAD: Fault = Fault::load(Refusal::HeaderTooLarge, "a field section is too long to be held");
const LONG_CONTROL: Fault = Fault::load(Refusal::ProtocolAbuse, "a frame of the control stream is too long to be held");

/// A variable-length integer (RFC 9000 16), and how many bytes it took.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let rest = bytes.get(1..length)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, length))
}

/// Where a request stream stands (RFC 9114 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Body,
    /// After the trailers nothing comes any more that means something.
    Over,
}

/// Which stream it is.
#[derive(Debug)]
enum Kind {
    Request { stage: Stage, most: u64 },
    Control { has_settings: bool, max_push_id: Option<u64> },
}

#[derive(Debug)]
enum State {
    /// In a frame's type and length.
    Header,
    /// In what goes through as it comes.
    Through(u64),
    /// In what goes through once it is whole.
    Held { kind: u64, left: u64 },
    /// In what goes nowhere.
    Skipped(u64),
}

/// What came of some bytes beside what goes through.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// Requests that began.
    pub(super) heads: u32,
    /// Frames without progress.
    pub(super) idle_frames: u32,
    /// Bytes that went nowhere.
    pub(super) skipped: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sieve {
    kind: Kind,
    state: State,
    header: [u8; LONGEST_HEADER],
    filled: usize,
    held: BytesMut,
}

impl Sieve {
    /// Of a request's stream; no field section may have more than `most` bytes, as it comes.
    pub(super) fn request(most: usize) -> Self {
        Self::of(Kind::Request { stage: Stage::Head, most: u64::try_from(most).unwrap_or(u64::MAX) })
    }

    /// Of the peer's control stream, after its type.
    pub(super) fn control() -> Self {
        Self::of(Kind::Control { has_settings: false, max_push_id: None })
    }

    fn of(kind: Kind) -> Self {
        Self { kind, state: State::Header, header: [0; LONGEST_HEADER], filled: 0, held: BytesMut::new() }
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Takes the next bytes; what goes through is added to `out`.
    ///
    /// # Errors
    /// The fault. The stream is not to be read any more.
    pub(super) fn push(&mut self, mut bytes: Bytes, out: &mut VecDeque<Bytes>) -> Result<Counts, Fault> {
        let mut counts = Counts::default();
        while !bytes.is_empty() {
            match &mut self.state {
                State::Header => self.header(&mut bytes, out, &mut counts)?,
                State::Through(left) => {
                    let piece = piece(&mut bytes, left);
                    self.state = if *left == 0 { State::Header } else { State::Through(*left) };
                    out.push_back(piece);
                }
                State::Skipped(left) => {
                    counts.skipped += piece(&mut bytes, left).len() as u64;
                    self.state = if *left == 0 { State::Header } else { State::Skipped(*left) };
                }
                State::Held { kind, left } => {
                    let piece = piece(&mut bytes, left);
                    let (kind, left) = (*kind, *left);
                    self.held.extend_from_slice(&piece);
                    if left == 0 {
                        self.whole(kind, out, &mut counts)?;
                    }
                }
            }
        }
        Ok(counts)
    }

    /// The stream has ended, and was not reset.
    ///
    /// # Errors
    /// The fault, if it must not end here.
    pub(super) fn end(&self) -> Result<(), Fault> {
        match (&self.state, &self.kind) {
            (State::Header, _) if self.filled > 0 => Err(CUT),
            (State::Through(_) | State::Held { .. } | State::Skipped(_), _) => Err(CUT),
            (State::Header, Kind::Request { stage: Stage::Head, .. }) => Err(NO_HEAD),
            (State::Header, _) => Ok(()),
        }
    }

    /// Reads a frame's type and length, byte by byte: both may be cut anywhere.
    fn header(&mut self, bytes: &mut Bytes, out: &mut VecDeque<Bytes>, counts: &mut Counts) -> Result<(), Fault> {
        let Some(place) = self.header.get_mut(self.filled) else { return Err(CUT) };
        *place = bytes.split_to(1).first().copied().unwrap_or_default();
        self.filled += 1;
        let header = self.header.get(..self.filled).unwrap_or_default();
        let Some((kind, length)) = varint(header)
            .and_then(|(kind, taken)| header.get(taken..).and_then(varint).map(|(length, _)| (kind, length)))
        else {
            return Ok(());
        };
        let header = Bytes::copy_from_slice(header);
        self.filled = 0;
        self.state = self.begin(kind, length, counts)?;
        match self.state {
            State::Through(_) => out.push_back(header),
            State::Held { kind, left } => {
                self.held.extend_from_slice(&header);
                if left == 0 {
                    self.whole(kind, out, counts)?;
                }
            }
            State::Skipped(0) => self.state = State::Header,
            State::Skipped(_) | State::Header => {}
        }
        Ok(())
    }

    /// A frame begins: may it, and what becomes of it?
    fn begin(&mut self, kind: u64, length: u64, counts: &mut Counts) -> Result<State, Fault> {
        if FORBIDDEN.contains(&kind) {
            return Err(UNEXPECTED);
        }
        let is_known = matches!(kind, DATA | HEADERS | CANCEL_PUSH | SETTINGS | PUSH_PROMISE | GOAWAY | MAX_PUSH_ID);
        match &mut self.kind {
            Kind::Request { stage, most } => match (kind, *stage) {
                (DATA, Stage::Body) if length > 0 => Ok(State::Through(length)),
                (DATA, Stage::Body) => {
                    counts.idle_frames += 1;
                    Ok(State::Skipped(0))
                }
                (HEADERS, Stage::Head | Stage::Body) if length > *most => Err(LONG_HEAD),
                (HEADERS, Stage::Head | Stage::Body) => Ok(State::Held { kind, left: length }),
                _ if is_known => Err(UNEXPECTED),
                _ => {
                    counts.idle_frames += 1;
                    Ok(State::Skipped(length))
                }
            },
            Kind::Control { has_settings, .. } => {
                counts.idle_frames += 1;
                match kind {
                    SETTINGS if *has_settings => Err(UNEXPECTED),
                    SETTINGS | GOAWAY | CANCEL_PUSH | MAX_PUSH_ID if length > MOST_CONTROL => Err(LONG_CONTROL),
                    SETTINGS => Ok(State::Held { kind, left: length }),
                    _ if !*has_settings => Err(NO_SETTINGS),
                    GOAWAY | CANCEL_PUSH | MAX_PUSH_ID => Ok(State::Held { kind, left: length }),
                    _ if is_known => Err(UNEXPECTED),
                    _ => Ok(State::Skipped(length)),
                }
            }
        }
    }

    /// A held frame is whole: its header and what is in it.
    fn whole(&mut self, kind: u64, out: &mut VecDeque<Bytes>, counts: &mut Counts) -> Result<(), Fault> {
        self.state = State::Header;
        let frame = std::mem::take(&mut self.held).freeze();
        let payload = payload(&frame).ok_or(MISSIZED)?;
        match (&mut self.kind, kind) {
            (Kind::Request { stage, .. }, _) => {
                let (section, next) = match stage {
                    Stage::Head => (Section::Head, Stage::Body),
                    Stage::Body | Stage::Over => (Section::Trailers, Stage::Over),
                };
                check(payload, section)?;
                *stage = next;
                counts.heads += u32::from(section == Section::Head);
            }
            (Kind::Control { has_settings, .. }, SETTINGS) => {
                check_settings(payload)?;
                *has_settings = true;
            }
            (Kind::Control { max_push_id, .. }, MAX_PUSH_ID) => {
                // Nothing is pushed: what may be is nobody's business beyond this (RFC 9114 7.2.7).
                let id = alone(payload)?;
                if max_push_id.is_some_and(|before| id < before) {
                    return Err(NO_PUSH);
                }
                *max_push_id = Some(id);
                return Ok(());
            }
            (Kind::Control { .. }, CANCEL_PUSH) => {
                alone(payload)?;
                return Err(NO_PUSH);
            }
            (Kind::Control { .. }, _) => {
                alone(payload)?;
            }
        }
        out.push_back(frame);
        Ok(())
    }
}

/// So many bytes as are there and left.
fn piece(bytes: &mut Bytes, left: &mut u64) -> Bytes {
    let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= taken as u64;
    bytes.split_to(taken)
}

/// What is in a frame.
fn payload(frame: &[u8]) -> Option<&[u8]> {
    let (_, kind) = varint(frame)?;
    let (_, length) = varint(frame.get(kind..)?)?;
    frame.get(kind + length..)
}

/// The one integer that is a frame's payload.
fn alone(payload: &[u8]) -> Result<u64, Fault> {
    match varint(payload) {
        Some((value, length)) if length == payload.len() => Ok(value),
        Some(_) | None => Err(MISSIZED),
    }
}

/// Settings are pairs, each once, and none is one of HTTP/2 (RFC 9114 7.2.4 and 7.2.4.1).
fn check_settings(mut payload: &[u8]) -> Result<(), Fault> {
    let mut seen: Vec<u64> = Vec::new();
    while !payload.is_empty() {
        let (id, id_length) = varint(payload).ok_or(MISSIZED)?;
        let rest = payload.get(id_length..).unwrap_or_default();
        let (_, length) = varint(rest).ok_or(MISSIZED)?;
        payload = rest.get(length..).unwrap_or_default();
        if matches!(id, 0x0 | 0x2..=0x5) || seen.contains(&id) {
            return Err(SETTING_TWICE);
        }
        if seen.len() >= MOST_SETTINGS {
            return Err(LONG_CONTROL);
        }
        seen.push(id);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A head of nothing but a method.
    const HEAD: &[u8] = &[1, 3, 0, 0, 0xd1];

    fn through(mut sieve: Sieve, bytes: &[u8], at_once: usize) -> Result<(Vec<u8>, Counts), Fault> {
        let (mut out, mut all) = (VecDeque::new(), Counts::default());
        for piece in bytes.chunks(at_once) {
            let counts = sieve.push(Bytes::copy_from_slice(piece), &mut out)?;
            all.heads += counts.heads;
            all.idle_frames += counts.idle_frames;
            all.skipped += counts.skipped;
        }
        sieve.end()?;
        Ok((out.into_iter().flatten().collect(), all))
    }

    fn request(frames: &[&[u8]]) -> Result<Vec<u8>, Fault> {
        through(Sieve::request(1000), &frames.concat(), 3).map(|(out, _)| out)
    }

    fn control(frames: &[&[u8]]) -> Result<Vec<u8>, Fault> {
        through(Sieve::control(), &frames.concat(), 3).map(|(out, _)| out)
    }

    #[test]
    fn a_request_goes_through_and_what_means_nothing_does_not() {
        let (data, trailers): (&[u8], &[u8]) = (&[0, 2, b'h', b'i'], &[1, 3, 0, 0, 0xc0 | 29]);
        assert_eq!(request(&[HEAD, data, data, trailers]), Ok([HEAD, data, data, trailers].concat()));
        let (unknown, empty): (&[u8], &[u8]) = (&[0x21, 4, 1, 2, 3, 4], &[0, 0]);
        assert_eq!(
            request(&[unknown, HEAD, unknown, data, empty, trailers, unknown]),
            Ok([HEAD, data, trailers].concat())
        );
        let counted = through(Sieve::request(9), &[unknown, HEAD, empty].concat(), 1).unwrap().1;
        assert_eq!(counted, Counts { heads: 1, idle_frames: 2, skipped: 4 });
    }

    #[test]
    fn a_frame_that_does_not_belong_to_a_request_ends_the_connection() {
        for kind in [0, 2, 3, 4, 5, 6, 7, 8, 9, 0xd] {
            assert_eq!(request(&[&[kind, 1, 0]]), Err(UNEXPECTED), "{kind:x} before the head");
            if kind != 0 {
                assert_eq!(request(&[HEAD, &[kind, 1, 0]]), Err(UNEXPECTED), "{kind:x}");
            }
        }
        assert_eq!(request(&[HEAD, &[0x40, 0x41, 1, 0]]), Err(UNEXPECTED), "a stream of WebTransport");
        let trailers: &[u8] = &[1, 3, 0, 0, 0xc0 | 29];
        assert_eq!(request(&[HEAD, trailers, &[0, 1, 0]]), Err(UNEXPECTED));
        assert_eq!(request(&[HEAD, trailers, trailers]), Err(UNEXPECTED));
        assert_eq!(request(&[]), Err(NO_HEAD));
        assert_eq!(request(&[HEAD, &[0, 9, 1]]), Err(CUT));
        assert_eq!(request(&[HEAD, &[0x40]]), Err(CUT));
        assert_eq!(request(&[&[1, 0x47, 0xd0]]), Err(LONG_HEAD));
        assert_eq!(request(&[&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]]), Err(LONG_HEAD));
    }

    #[test]
    fn the_control_stream_begins_with_settings_and_pushes_nothing() {
        let settings: &[u8] = &[4, 5, 6, 0x44, 0, 0x33, 1];
        let goaway: &[u8] = &[7, 1, 0];
        assert_eq!(control(&[settings, &[0xd, 1, 3], &[0xd, 1, 3], goaway]), Ok([settings, goaway].concat()));
        assert_eq!(control(&[settings, &[0x21, 2, 0, 0]]), Ok(settings.to_vec()));
        assert_eq!(control(&[goaway]), Err(NO_SETTINGS));
        assert_eq!(control(&[&[0x21, 0]]), Err(NO_SETTINGS));
        assert_eq!(control(&[settings, settings]), Err(UNEXPECTED));
        assert_eq!(control(&[settings, &[0, 1, 0]]), Err(UNEXPECTED));
        assert_eq!(control(&[settings, HEAD]), Err(UNEXPECTED));
        assert_eq!(control(&[settings, &[0xd, 1, 3], &[0xd, 1, 2]]), Err(NO_PUSH));
        assert_eq!(control(&[settings, &[3, 1, 0]]), Err(NO_PUSH));
        assert_eq!(control(&[settings, &[7, 2, 0, 0]]), Err(MISSIZED));
        assert_eq!(control(&[&[4, 1, 6]]), Err(MISSIZED));
        for twice in [&[4, 4, 6, 1, 6, 1][..], &[4, 2, 2, 0], &[4, 2, 4, 0], &[4, 2, 0, 0]] {
            assert_eq!(control(&[twice]), Err(SETTING_TWICE));
        }
        assert_eq!(control(&[&[4, 0x60, 0]]), Err(LONG_CONTROL), "8192 bytes");
    }

    proptest! {
        /// Nothing panics, nothing is held beyond its bound, and how the bytes are cut makes no difference.
        #[test]
        fn any_bytes_however_cut(bytes in proptest::collection::vec(prop_oneof![0_u8..16, any::<u8>()], 0..300), cut in 1_usize..20) {
            for make in [|| Sieve::request(64), Sieve::control] {
                prop_assert_eq!(through(make(), &bytes, cut), through(make(), &bytes, 300));
                let mut sieve = make();
                let _ = sieve.push(Bytes::from(bytes.clone()), &mut VecDeque::new());
                prop_assert!(sieve.held() <= 4096 + LONGEST_HEADER);
            }
        }
    }
}
