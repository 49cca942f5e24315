//! Patients in the DICOM JSON model (DICOM PS3.18 annex F): answers of QIDO-RS, metadata of WADO-RS and STOW-RS.

use super::arena::{Arena, Span};
use super::json::Text;
use super::study::{StudyPatient, remember};
use crate::patients::PatientSource;
use crate::patients::found::{Found, Sink as _};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    PatientId,
    Issuer,
    Study,
    Other,
}

#[derive(Debug, Clone, Copy)]
enum Frame {
    /// The array around the data sets.
    Root,
    /// A data set: the attribute that is being read, and what is known of it.
    Dataset {
        tag: Tag,
        text_from: u32,
        patient: Span,
        issuer: Span,
        study: Span,
    },
    /// An attribute; whether its `Value` is being read.
    Attribute {
        tag: Tag,
        value: bool,
    },
    /// The array of an attribute's values.
    Values(Tag),
    Other,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct DicomJsonScan {
    frames: Vec<Frame>,
    texts: Arena,
    source: PatientSource,
    pub(super) studies: Vec<StudyPatient>,
}

impl DicomJsonScan {
    pub(super) fn new(source: PatientSource) -> Self {
        Self { frames: Vec::with_capacity(8), texts: Arena::default(), source, studies: Vec::new() }
    }

    pub(super) fn begin(&mut self, array: bool) {
        let dataset = || {
            let none = Span::default();
            Frame::Dataset { tag: Tag::Other, text_from: self.texts.mark(), patient: none, issuer: none, study: none }
        };
        let frame = match (self.frames.last(), array) {
            (None, true) => Frame::Root,
            (None | Some(Frame::Root | Frame::Values(_)), false) => dataset(),
            (Some(Frame::Dataset { tag, .. }), false) => Frame::Attribute { tag: *tag, value: false },
            (Some(Frame::Attribute { tag, value: true }), true) => Frame::Values(*tag),
            _ => Frame::Other,
        };
        self.frames.push(frame);
    }

    pub(super) fn key(&mut self, name: &[u8]) {
        match self.frames.last_mut() {
            Some(Frame::Dataset { tag, .. }) => {
                *tag = match name {
                    b"00100020" => Tag::PatientId,
                    b"00100021" => Tag::Issuer,
                    name if name.eq_ignore_ascii_case(b"0020000D") => Tag::Study,
                    _ => Tag::Other,
                }
            }
            Some(Frame::Attribute { value, .. }) => *value = name == b"Value",
            _ => {}
        }
    }

    pub(super) fn wants(&self) -> bool {
        matches!(self.frames.last(), Some(Frame::Values(Tag::PatientId | Tag::Issuer | Tag::Study)))
    }

    pub(super) fn scalar(&mut self, text: Text<'_>, found: &mut Found) {
        let [.., Frame::Dataset { patient, issuer, study, .. }, _, Frame::Values(tag)] = self.frames.as_mut_slice()
        else {
            return;
        };
        let place = match tag {
            Tag::PatientId => patient,
            Tag::Issuer => issuer,
            Tag::Study => study,
            Tag::Other => return,
        };
        if text.bytes == b"null" && !text.quoted {
            return;
        }
        if text.cut {
            found.truncate();
        }
        if *tag == Tag::PatientId && !place.is_empty() {
            // Said twice: another reader may take the first.
            found.add(&String::from_utf8_lossy(self.texts.get(*place)), None, self.source);
        }
        *place = self.texts.keep(text.bytes.trim_ascii());
    }

    pub(super) fn end(&mut self, found: &mut Found) {
        let Some(Frame::Dataset { text_from, patient, issuer, study, .. }) = self.frames.pop() else { return };
        if !patient.is_empty() {
            let value = String::from_utf8_lossy(self.texts.get(patient));
            let issuer = String::from_utf8_lossy(self.texts.get(issuer));
            found.add(&value, Some(&issuer), self.source);
            // The patients of nested data sets are of other studies than the one that is named there.
            if matches!(self.frames.last(), None | Some(Frame::Root)) {
                let study = String::from_utf8_lossy(self.texts.get(study));
                remember(&mut self.studies, &study, &value, &issuer);
            }
        }
        self.texts.release(text_from);
        if self.texts.overflowed {
            found.truncate();
        }
    }
}
