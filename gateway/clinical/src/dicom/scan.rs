//! The patient and the study of a data set, read as it passes (PS3.5 sections 7.1 and 7.5). No value is held but the few that are
//! wanted, and of those no more than a bound, so that a data set of gigabytes costs a few hundred bytes.
//!
//! Elements ascend by their tag (PS3.5 section 7.1), and the wanted ones end with the Study Instance UID. A data set is *identified*
//! behind it. What comes out of order later, or twice, would be another patient to another reader, and is malformed.

use smallvec::SmallVec;

use super::syntax::Encoding;

const CHARACTER_SET: u32 = 0x0008_0005;
const LEVEL: u32 = 0x0008_0052;
pub(super) const PATIENT_ID: u32 = 0x0010_0020;
const ISSUER: u32 = 0x0010_0021;
const OTHER_PATIENTS: u32 = 0x0010_1002;
const STUDY: u32 = 0x0020_000d;
const PIXELS: u32 = 0x7fe0_0010;
const ITEM: u32 = 0xfffe_e000;
const ITEM_END: u32 = 0xfffe_e00d;
const SEQUENCE_END: u32 = 0xfffe_e0dd;
const UNDEFINED: u32 = u32::MAX;

/// Deepest nesting.
const MAX_DEPTH: usize = 32;
/// Most bytes of a wanted value that are kept: a list of studies has many.
const MAX_VALUE: usize = 16 * 1024;
/// Most patients inside sequences.
const MAX_NESTED: usize = 64;

/// The data set cannot be read, or in more than one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A wanted value, in its own bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) bytes: Vec<u8>,
    /// There was more than is kept.
    pub(crate) cut: bool,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) character_set: Option<Value>,
    pub(crate) level: Option<Value>,
    pub(crate) patient: Option<Value>,
    pub(crate) issuer: Option<Value>,
    pub(crate) study: Option<Value>,
    /// Patients inside sequences.
    pub(crate) nested: Vec<Value>,
    pub(crate) more_nested: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sequence,
    Item,
    /// Compressed frames: items without elements.
    Frames,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    kind: Kind,
    /// Where it ends; none where a delimiter says so.
    end: Option<u64>,
    encoding: Encoding,
}

#[derive(Debug)]
enum Stage {
    Header,
    /// Bytes that nobody wants.
    Skip(u64),
    Value {
        tag: u32,
        left: u64,
        value: Value,
    },
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Scan {
    encoding: Encoding,
    stage: Stage,
    header: SmallVec<[u8; 12]>,
    at: u64,
    open: SmallVec<[Open; 4]>,
    /// The greatest tag of the data set itself.
    highest: u32,
    identified: bool,
    findings: Findings,
}

struct Head {
    tag: u32,
    vr: Option<[u8; 2]>,
    length: u32,
}

impl Scan {
    pub(crate) fn new(encoding: Encoding) -> Self {
        Self {
            encoding,
            stage: Stage::Header,
            header: SmallVec::new(),
            at: 0,
            open: SmallVec::new(),
            highest: 0,
            identified: false,
            findings: Findings::default(),
        }
    }

    /// Whether patient and study are behind it.
    pub(crate) fn is_identified(&self) -> bool {
        self.identified
    }

    /// Reads on. Stops behind the byte that identifies the data set, and says how many bytes it took.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let before = self.identified;
        let mut rest = bytes;
        while !rest.is_empty() && self.identified == before {
            rest = self.step(rest)?;
        }
        Ok(bytes.len() - rest.len())
    }

    /// The data set is over.
    pub(crate) fn finish(mut self) -> Result<Findings, Malformed> {
        self.close();
        let whole = matches!(self.stage, Stage::Header) && self.header.is_empty() && self.open.is_empty();
        if whole { Ok(self.findings) } else { Err(Malformed) }
    }

    /// What was found so far.
    pub(crate) fn findings(&self) -> &Findings {
        &self.findings
    }

    fn step<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Malformed> {
        let taken = match &mut self.stage {
            Stage::Header => {
                self.close();
                let need = self.need() - self.header.len();
                let (taken, rest) = bytes.split_at_checked(need).unwrap_or((bytes, &[]));
                self.header.extend_from_slice(taken);
                self.at = self.at.saturating_add(taken.len() as u64);
                // The need grows by four where the head turns out to be a long one.
                if self.header.len() == self.need() {
                    let head = self.head()?;
                    self.header.clear();
                    self.element(&head)?;
                }
                return Ok(rest);
            }
            Stage::Skip(left) => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                if *left == 0 {
                    self.stage = Stage::Header;
                }
                taken
            }
            Stage::Value { tag, left, value } => {
                let taken = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let keep = taken.min(MAX_VALUE.saturating_sub(value.bytes.len()));
                value.bytes.extend_from_slice(bytes.get(..keep).unwrap_or_default());
                value.cut |= keep < taken;
                *left -= taken as u64;
                if *left == 0 {
                    let (tag, value) = (*tag, std::mem::take(value));
                    self.stage = Stage::Header;
                    self.found(tag, value);
                }
                taken
            }
        };
        self.at = self.at.saturating_add(taken as u64);
        Ok(bytes.get(taken..).unwrap_or_default())
    }

    /// Closes what ends by its length here.
    fn close(&mut self) {
        if self.header.is_empty() {
            while self.open.last().is_some_and(|open| open.end == Some(self.at)) {
                self.open.pop();
            }
        }
    }

    fn encoding_here(&self) -> Encoding {
        self.open.last().map_or(self.encoding, |open| open.encoding)
    }

    fn need(&self) -> usize {
        match self.header.as_slice() {
            [0xfe, 0xff, ..] => 8,
            [_, _, _, _, a, b, ..] if self.encoding_here() == Encoding::Explicit && is_long([*a, *b]) => 12,
            _ => 8,
        }
    }

    fn head(&self) -> Result<Head, Malformed> {
        let [g0, g1, e0, e1, a, b, c, d, long @ ..] = self.header.as_slice() else { return Err(Malformed) };
        let tag = u32::from(u16::from_le_bytes([*g0, *g1])) << 16 | u32::from(u16::from_le_bytes([*e0, *e1]));
        if tag >> 16 == 0xfffe || self.encoding_here() == Encoding::Implicit {
            return Ok(Head { tag, vr: None, length: u32::from_le_bytes([*a, *b, *c, *d]) });
        }
        let vr = [*a, *b];
        let length = match long {
            [] if is_short(vr) => u32::from(u16::from_le_bytes([*c, *d])),
            [w, x, y, z] => u32::from_le_bytes([*w, *x, *y, *z]),
            _ => return Err(Malformed),
        };
        Ok(Head { tag, vr: Some(vr), length })
    }

    fn element(&mut self, head: &Head) -> Result<(), Malformed> {
        let top = self.open.last().copied();
        let kind = top.map(|open| open.kind);
        let end = |length: u32| self.at.saturating_add(u64::from(length));
        let fits = |length: u32| top.and_then(|open| open.end).is_none_or(|bound| end(length) <= bound);
        match (head.tag, kind) {
            (ITEM, Some(Kind::Frames)) if head.length != UNDEFINED => self.skip(head.length),
            (ITEM, Some(Kind::Sequence)) if head.length == UNDEFINED || fits(head.length) => {
                self.push(Kind::Item, head.length, self.encoding_here())?;
            }
            (ITEM_END, Some(Kind::Item)) if head.length == 0 && top.is_some_and(|open| open.end.is_none()) => {
                self.open.pop();
            }
            (SEQUENCE_END, Some(Kind::Sequence | Kind::Frames))
                if head.length == 0 && top.is_some_and(|open| open.end.is_none()) =>
            {
                self.open.pop();
            }
            (tag, None | Some(Kind::Item)) if tag >> 16 != 0xfffe => {
                if head.length != UNDEFINED && !fits(head.length) {
                    return Err(Malformed);
                }
                if kind.is_none() {
                    self.at_top(tag)?;
                }
                self.value(head, kind.is_none())?;
            }
            _ => return Err(Malformed),
        }
        Ok(())
    }

    /// An element of the data set itself begins.
    fn at_top(&mut self, tag: u32) -> Result<(), Malformed> {
        // Groups 0000 and 0002 are those of commands and of files' heads.
        if tag >> 16 <= 2 || (is_wanted(tag) && tag <= self.highest) {
            return Err(Malformed);
        }
        self.highest = self.highest.max(tag);
        self.identified |= tag > STUDY;
        Ok(())
    }

    fn value(&mut self, head: &Head, top: bool) -> Result<(), Malformed> {
        let wanted = is_wanted(head.tag) && (top || head.tag == PATIENT_ID);
        match (head.vr, head.length) {
            // An attribute that is read is no sequence, or other readers would not find it.
            (Some(vr), _) if wanted && (is_long(vr) || head.length == UNDEFINED) => return Err(Malformed),
            (None, UNDEFINED) if wanted => return Err(Malformed),
            (Some([b'S', b'Q']), length) => self.push(Kind::Sequence, length, Encoding::Explicit)?,
            // CP-246: an unknown sequence is written as in implicit VR.
            (Some([b'U', b'N']), UNDEFINED) => self.push(Kind::Sequence, UNDEFINED, Encoding::Implicit)?,
            (Some([b'O', b'B' | b'W']), UNDEFINED) if head.tag == PIXELS && top => {
                self.push(Kind::Frames, UNDEFINED, Encoding::Explicit)?;
            }
            (Some(_), UNDEFINED) => return Err(Malformed),
            (None, UNDEFINED) if head.tag == PIXELS => return Err(Malformed),
            (None, length) if length == UNDEFINED || head.tag == OTHER_PATIENTS => {
                self.push(Kind::Sequence, length, Encoding::Implicit)?;
            }
            (_, length) if wanted => {
                self.stage = Stage::Value { tag: head.tag, left: length.into(), value: Value::default() };
                if length == 0 {
                    self.stage = Stage::Header;
                    self.found(head.tag, Value::default());
                }
            }
            (_, length) => self.skip(length),
        }
        Ok(())
    }

    fn push(&mut self, kind: Kind, length: u32, encoding: Encoding) -> Result<(), Malformed> {
        if self.open.len() == MAX_DEPTH {
            return Err(Malformed);
        }
        let end = (length != UNDEFINED).then(|| self.at.saturating_add(length.into()));
        self.open.push(Open { kind, end, encoding });
        Ok(())
    }

    fn skip(&mut self, length: u32) {
        if length > 0 {
            self.stage = Stage::Skip(length.into());
        }
    }

    fn found(&mut self, tag: u32, value: Value) {
        if !self.open.is_empty() {
            if self.findings.nested.len() == MAX_NESTED {
                self.findings.more_nested = true;
            } else {
                self.findings.nested.push(Value { bytes: value.bytes.into_iter().take(256).collect(), ..value });
            }
            return;
        }
        match tag {
            CHARACTER_SET => self.findings.character_set = Some(value),
            LEVEL => self.findings.level = Some(value),
            PATIENT_ID => self.findings.patient = Some(value),
            ISSUER => self.findings.issuer = Some(value),
            _ => {
                self.findings.study = Some(value);
                self.identified = true;
            }
        }
    }
}

fn is_wanted(tag: u32) -> bool {
    matches!(tag, CHARACTER_SET | LEVEL | PATIENT_ID | ISSUER | STUDY)
}

/// Value representations with a length of 32 bits (PS3.5 section 7.1.2).
fn is_long(vr: [u8; 2]) -> bool {
    matches!(&vr, b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"SV" | b"UC" | b"UN" | b"UR" | b"UT" | b"UV")
}

/// Those of 16 bits. What is neither has a length that nobody knows.
fn is_short(vr: [u8; 2]) -> bool {
    matches!(
        &vr,
        b"AE"
            | b"AS"
            | b"AT"
            | b"CS"
            | b"DA"
            | b"DS"
            | b"DT"
            | b"FD"
            | b"FL"
            | b"IS"
            | b"LO"
            | b"LT"
            | b"PN"
            | b"SH"
            | b"SL"
            | b"SS"
            | b"ST"
            | b"TM"
            | b"UI"
            | b"UL"
            | b"US"
    )
}

#[cfg(test)]
#[path = "scan_tests.rs"]
pub(in crate::dicom) mod tests;
