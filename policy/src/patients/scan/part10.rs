//! The patient of a DICOM file (DICOM PS3.10 section 7), from the head of its data set.
//!
//! Read are explicit and implicit VR, little endian, and explicit VR big endian (PS3.5 annex A); every compressed
//! transfer syntax of images has the first of them. Values that are not wanted are skipped without being held. Elements
//! ascend by their tag, so that reading ends behind the Study Instance UID. Both the Patient ID, which may be empty, and
//! the UID are there in every image (PS3.3 sections C.7.1.1 and C.7.2.1): a file in which they do not come in this order,
//! once each, is malformed, since another reader might find in it what this one passes over.

use super::study::{StudyPatient, remember};
use crate::patients::PatientSource;
use crate::patients::found::{Found, Sink as _};

const PREAMBLE: u64 = 128;
const TRANSFER_SYNTAX: u32 = 0x0002_0010;
const PATIENT_ID: u32 = 0x0010_0020;
const ISSUER: u32 = 0x0010_0021;
const STUDY: u32 = 0x0020_000d;
const ITEM: u32 = 0xfffe_e000;
const ITEM_END: u32 = 0xfffe_e00d;
const SEQUENCE_END: u32 = 0xfffe_e0dd;
const UNDEFINED: u32 = u32::MAX;

/// Most elements that are read of one file.
const MAX_ELEMENTS: u32 = 16 * 1_024;

/// Deepest nesting of sequences and items without a length.
const MAX_DEPTH: usize = 32;

/// Most bytes of a wanted value; the attributes' own bound is 64 (PS3.5 section 6.2).
const MAX_VALUE: u32 = 1_024;

/// How far the reading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// More is needed.
    Reading,
    /// All that is wanted was found.
    Done,
    /// It is no such file, one without what is wanted, or one in a transfer syntax that is not read.
    Malformed,
}

/// How the elements' heads are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Syntax {
    Explicit,
    Implicit,
    BigEndian,
    /// Deflated, or not known.
    Unread,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Part10Scan {
    outcome: Outcome,
    magic_seen: bool,
    /// Of the data set, as its meta information says.
    announced: Syntax,
    syntax: Syntax,
    in_meta: bool,
    /// Bytes to pass over.
    skip: u64,
    /// An element's head, or a wanted value.
    held: Vec<u8>,
    /// The wanted value that is being read: its tag and length.
    value: Option<(u32, usize)>,
    /// What each sequence or item without a length is written in outside of it.
    open: Vec<Syntax>,
    elements: u32,
    patient: Option<String>,
    issuer: String,
    study: String,
    source: PatientSource,
}

/// An element's head.
struct Head {
    tag: u32,
    length: u32,
    /// Bytes of the head.
    size: usize,
    /// It holds items, each in its own syntax if that is another.
    nested: Option<Syntax>,
}

impl Part10Scan {
    pub(super) fn new(source: PatientSource) -> Self {
        Self {
            outcome: Outcome::Reading,
            magic_seen: false,
            announced: Syntax::Unread,
            syntax: Syntax::Explicit,
            in_meta: true,
            skip: PREAMBLE,
            held: Vec::with_capacity(64),
            value: None,
            open: Vec::new(),
            elements: 0,
            patient: None,
            issuer: String::new(),
            study: String::new(),
            source,
        }
    }

    /// Reads the next piece.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Outcome {
        let mut rest = bytes;
        while self.outcome == Outcome::Reading && !rest.is_empty() {
            rest = self.step(rest);
        }
        self.outcome
    }

    /// Tells what was found. The file may be over or not.
    pub(super) fn finish(&mut self, found: &mut Found, studies: &mut Vec<StudyPatient>) -> Outcome {
        let Some(patient) = self.patient.take() else { return Outcome::Malformed };
        if !patient.is_empty() {
            found.add(&patient, Some(&self.issuer), self.source);
            if !self.study.is_empty() {
                remember(studies, &self.study, &patient, &self.issuer);
            }
        }
        // It may end behind the patient.
        if self.outcome == Outcome::Malformed { Outcome::Malformed } else { Outcome::Done }
    }

    fn step<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        if self.skip > 0 {
            let length = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip -= length as u64;
            return bytes.get(length..).unwrap_or_default();
        }
        let wanted = match self.value {
            Some((_, length)) => length,
            None if !self.magic_seen => 4,
            None => self.head_size(),
        };
        let missing = wanted.saturating_sub(self.held.len());
        let (taken, rest) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        self.held.extend_from_slice(taken);
        if self.held.len() < wanted {
            return rest;
        }
        if let Some((tag, _)) = self.value.take() {
            self.take_value(tag);
            self.held.clear();
        } else if !self.magic_seen {
            self.magic_seen = true;
            if self.held != b"DICM" {
                self.outcome = Outcome::Malformed;
            }
            self.held.clear();
        } else if let Some(head) = self.head() {
            self.held.drain(..head.size.min(self.held.len()));
            self.enter(&head);
        }
        rest
    }

    /// Bytes of the next element's head, as far as can be told: 8, and 12 once the VR is known to need it.
    fn head_size(&mut self) -> usize {
        if self.held.len() < 8 {
            return 8;
        }
        if self.in_meta && self.group() != 2 {
            self.in_meta = false;
            self.syntax = self.announced;
        }
        let explicit = matches!(self.syntax, Syntax::Explicit | Syntax::BigEndian) && self.group() != 0xfffe;
        if explicit && self.held.get(4..6).is_some_and(has_long_length) { 12 } else { 8 }
    }

    fn group(&self) -> u16 {
        let bytes = self.held.first_chunk().copied().unwrap_or_default();
        if self.syntax == Syntax::BigEndian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    /// The head that is held, unless it needs more bytes.
    fn head(&mut self) -> Option<Head> {
        if self.head_size() > self.held.len() {
            return None;
        }
        if self.syntax == Syntax::Unread {
            self.outcome = Outcome::Malformed;
            return None;
        }
        let (first, rest) = self.held.split_first_chunk::<4>()?;
        let big = self.syntax == Syntax::BigEndian;
        let short = |bytes: [u8; 2]| if big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
        let long = |bytes: [u8; 4]| if big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        let [a, b, c, d] = *first;
        let tag = u32::from(short([a, b])) << 16 | u32::from(short([c, d]));
        if self.syntax == Syntax::Implicit || tag >> 16 == 0xfffe {
            let length = long(*rest.first_chunk()?);
            // Only a sequence has no length.
            let nested = (length == UNDEFINED && tag >> 16 != 0xfffe).then_some(self.syntax);
            return Some(Head { tag, length, size: 8, nested });
        }
        let (vr, rest) = rest.split_first_chunk::<2>()?;
        if !has_long_length(vr) {
            return Some(Head { tag, length: u32::from(short(*rest.first_chunk()?)), size: 8, nested: None });
        }
        let length = long(*rest.get(2..)?.first_chunk()?);
        // What has no length and is of no known VR is written implicitly (PS3.5 section 6.2.2, note 4).
        let nested = match vr {
            _ if length != UNDEFINED => None,
            b"UN" => Some(Syntax::Implicit),
            _ => Some(self.syntax),
        };
        Some(Head { tag, length, size: 12, nested })
    }

    /// Behind an element's head.
    fn enter(&mut self, head: &Head) {
        self.elements += 1;
        if self.elements > MAX_ELEMENTS {
            self.outcome = Outcome::Malformed;
            return;
        }
        match (head.tag, head.nested) {
            (ITEM, _) if self.open.is_empty() => self.outcome = Outcome::Malformed,
            (ITEM, _) if head.length == UNDEFINED => self.descend(self.syntax),
            (ITEM_END | SEQUENCE_END, _) => match self.open.pop() {
                Some(outside) => self.syntax = outside,
                None => self.outcome = Outcome::Malformed,
            },
            (_, Some(inside)) => self.descend(inside),
            (tag, None) if self.open.is_empty() && tag > STUDY && !self.in_meta => self.outcome = Outcome::Malformed,
            (PATIENT_ID, None) if self.open.is_empty() && self.patient.is_some() => self.outcome = Outcome::Malformed,
            (PATIENT_ID, None) if self.open.is_empty() && head.length == 0 => self.patient = Some(String::new()),
            (tag @ (TRANSFER_SYNTAX | PATIENT_ID | ISSUER | STUDY), None) if self.open.is_empty() => {
                if head.length > MAX_VALUE {
                    self.outcome = Outcome::Malformed;
                } else if head.length > 0 {
                    self.value = Some((tag, usize::try_from(head.length).unwrap_or_default()));
                }
            }
            (_, None) => self.skip = u64::from(head.length),
        }
    }

    fn descend(&mut self, inside: Syntax) {
        if self.open.len() == MAX_DEPTH {
            self.outcome = Outcome::Malformed;
            return;
        }
        self.open.push(self.syntax);
        self.syntax = inside;
    }

    fn take_value(&mut self, tag: u32) {
        // Padded to an even length: text by spaces, UIDs by a NUL (PS3.5 section 6.2).
        let text = String::from_utf8_lossy(&self.held);
        let text = text.trim_matches([' ', '\0']);
        match tag {
            TRANSFER_SYNTAX => {
                self.announced = match text {
                    "1.2.840.10008.1.2" => Syntax::Implicit,
                    "1.2.840.10008.1.2.2" => Syntax::BigEndian,
                    // Deflated, of images and of JPIP references.
                    "1.2.840.10008.1.2.1.99" | "1.2.840.10008.1.2.4.95" | "1.2.840.10008.1.2.4.205" => Syntax::Unread,
                    _ => Syntax::Explicit,
                }
            }
            PATIENT_ID => self.patient = Some(text.to_owned()),
            ISSUER => self.issuer = text.to_owned(),
            STUDY => {
                self.study = text.to_owned();
                self.outcome = if self.patient.is_some() { Outcome::Done } else { Outcome::Malformed };
            }
            _ => {}
        }
    }
}

/// Value representations with a length of four bytes behind two reserved ones (PS3.5 section 7.1.2).
fn has_long_length(vr: impl AsRef<[u8]>) -> bool {
    matches!(
        vr.as_ref(),
        b"OB" | b"OD" | b"OF" | b"OL" | b"OV" | b"OW" | b"SQ" | b"SV" | b"UC" | b"UN" | b"UR" | b"UT" | b"UV"
    )
}
