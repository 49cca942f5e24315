//! Patients in bodies, read as they stream: bytes in, identifiers out.
//!
//! Total and bounded: any bytes are taken, in pieces of any size, and the memory held does not grow with the body. What
//! cannot be read has a reason ([`Unread`]), and what was found before it counts.

mod arena;
mod dicom_json;
mod fhir;
mod form;
mod inflate;
mod json;
mod media;
mod multipart;
mod part10;
pub(crate) mod pointers;
mod study;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::found::{Found, Sink as _};
use super::{PatientSource, Patients};
use crate::route::RouteKind;

use dicom_json::DicomJsonScan;
use fhir::FhirScan;
use form::FormScan;
use inflate::Inflate;
use json::{Handler, Text, Tokenizer};
use media::{Reading, reading};
use multipart::{Multipart, Parts};
use part10::{Outcome, Part10Scan};
use pointers::{Pointer, PointerScan};
pub use study::StudyPatient;

/// Most bytes of a body that are read where the route says nothing else.
pub const DEFAULT_BODY_BYTES: u64 = 1024 * 1024;

/// Why a body, or what a request is about, could not be told in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unread {
    /// The media type is none that is read here, or is not given.
    ContentType,
    /// The body is compressed in a way that is not read here.
    ContentEncoding,
    /// The body is longer than the route's bound.
    TooLong,
    /// The body is not what its media type says.
    Malformed,
    /// The body broke off, or the exchange was over before it was.
    Cut,
    /// It names more patients than are taken, or longer identifiers.
    TooMany,
    /// The request names a study, and nothing that passed said whose it is.
    Study,
}

impl Unread {
    /// The name in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ContentType => "content-type",
            Self::ContentEncoding => "content-encoding",
            Self::TooLong => "too-long",
            Self::Malformed => "malformed",
            Self::Cut => "cut",
            Self::TooMany => "too-many",
            Self::Study => "study",
        }
    }
}

/// What the rule of a route says about bodies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct BodyRules {
    /// Fields of forms.
    pub(crate) form: Vec<String>,
    /// Parameters of queries, which are fields where a search comes as a form.
    pub(crate) query: Vec<String>,
    pub(crate) request: Arc<[Pointer]>,
    pub(crate) answer: Arc<[Pointer]>,
}

impl BodyRules {
    /// Whether it says anything about bodies.
    pub(crate) fn reads(&self) -> bool {
        !self.form.is_empty() || !self.request.is_empty() || !self.answer.is_empty()
    }
}

/// How the bodies of an exchange are read, which does not borrow from it.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) kind: RouteKind,
    /// Whether a search is one for patients; none across types.
    pub(super) of_patients: Option<bool>,
    pub(super) rules: Option<Arc<BodyRules>>,
    pub(super) max_bytes: u64,
    /// The query is a language of its own, and its answer what was asked for.
    pub(super) graphql: bool,
    /// The study that is asked for.
    pub(super) study: Option<Box<str>>,
}

/// A body's fields, as far as they say how to read it.
#[derive(Debug, Clone, Copy, Default)]
pub struct BodyHead<'a> {
    /// `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// `Content-Encoding`.
    pub content_encoding: Option<&'a [u8]>,
}

impl Plan {
    /// The study that is asked for, by path or query.
    #[must_use]
    pub fn study(&self) -> Option<&str> {
        self.study.as_deref()
    }

    /// A reader of the request's body; nothing where none is needed.
    #[must_use]
    pub fn request(&self, head: BodyHead<'_>) -> Option<Scanner> {
        let pointers = self.rules.as_ref().map(|rules| &rules.request);
        self.scanner(head, PatientSource::Body, pointers)
    }

    /// A reader of the answer's body; nothing where none is needed.
    #[must_use]
    pub fn answer(&self, head: BodyHead<'_>) -> Option<Scanner> {
        let pointers = self.rules.as_ref().map(|rules| &rules.answer);
        if self.kind == RouteKind::Generic && pointers.is_none_or(|pointers| pointers.is_empty()) {
            return None;
        }
        self.scanner(head, PatientSource::Answer, pointers)
    }

    fn scanner(&self, head: BodyHead<'_>, source: PatientSource, pointers: Option<&Arc<[Pointer]>>) -> Option<Scanner> {
        let coding = head.content_encoding.map(<[u8]>::trim_ascii).unwrap_or_default();
        let plain = coding.is_empty() || coding.eq_ignore_ascii_case(b"identity");
        let inflate = Inflate::of(coding, self.max_bytes);
        let pointers = pointers.filter(|pointers| !pointers.is_empty()).cloned();
        let mut unread = None;
        let reading = match reading(self, head.content_type, source) {
            Ok(Reading::Nothing) => return None,
            _ if !plain && inflate.is_none() => Err(Unread::ContentEncoding),
            _ if self.graphql => Err(Unread::ContentType),
            read => read,
        };
        let body = match reading {
            Ok(Reading::Json) => Body::Json(Box::new(Json::new(self.kind, pointers, source))),
            Ok(Reading::Form) => Body::Form(FormScan::new(self)),
            Ok(Reading::Part10) => Body::Part10(Box::new(Part10Scan::new(source))),
            Ok(Reading::Multipart(boundary)) => match Multipart::new(&boundary) {
                Ok(multipart) => Body::Multipart(Box::new((multipart, Images::new(source)))),
                Err(multipart::NoParts) => {
                    unread = Some(Unread::Malformed);
                    Body::Over
                }
            },
            Ok(Reading::Nothing) => Body::Over,
            Err(reason) => {
                unread = Some(reason);
                Body::Over
            }
        };
        Some(Scanner {
            body,
            inflate,
            found: Found::default(),
            studies: Vec::new(),
            unread,
            left: self.max_bytes,
            one_study: self.study.is_some(),
            any: false,
        })
    }
}

/// Reads one body. Feed it, then [`finish`](Self::finish) it, wherever the body ended.
#[derive(Debug)]
pub struct Scanner {
    body: Body,
    /// What it comes out of, where it is compressed.
    inflate: Option<Box<Inflate>>,
    found: Found,
    studies: Vec<StudyPatient>,
    unread: Option<Unread>,
    /// Bytes that may yet be read.
    left: u64,
    one_study: bool,
    any: bool,
}

/// What a body says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scanned {
    /// The patients it names.
    pub patients: Patients,
    /// Why they may not be all.
    pub unread: Option<Unread>,
    /// Whose studies are, where it says so.
    pub studies: Vec<StudyPatient>,
}

#[derive(Debug)]
enum Body {
    Json(Box<Json>),
    Form(FormScan),
    Part10(Box<Part10Scan>),
    Multipart(Box<(Multipart, Images)>),
    /// Nothing more is read.
    Over,
}

impl Scanner {
    /// Reads the next piece.
    pub fn feed(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.any = true;
        match self.inflate.take() {
            Some(mut inflate) => {
                if let Err(reason) = inflate.feed(bytes, |plain| self.read(plain)) {
                    self.stop(reason);
                }
                self.inflate = Some(inflate);
            }
            None => self.read(bytes),
        }
    }

    /// Reads the next piece of what the body is.
    fn read(&mut self, bytes: &[u8]) {
        if let Body::Multipart(parts) = &mut self.body {
            let (multipart, images) = &mut **parts;
            // What is passed over in search of the next part is not read.
            images.left = self.left;
            let fed = multipart.feed(bytes, images);
            self.left = images.left;
            if fed.is_err() {
                self.stop(Unread::Malformed);
            }
            return;
        }
        let fits = usize::try_from(self.left).unwrap_or(usize::MAX);
        let taken = bytes.get(..fits).unwrap_or(bytes);
        self.left = self.left.saturating_sub(taken.len() as u64);
        let read = match &mut self.body {
            Body::Json(json) => json.feed(taken, &mut self.found),
            Body::Form(form) => form.feed(taken),
            Body::Part10(file) => match file.feed(taken) {
                Outcome::Reading => Ok(()),
                Outcome::Done => return,
                Outcome::Malformed => Err(Unread::Malformed),
            },
            Body::Multipart(_) | Body::Over => return,
        };
        match read {
            Err(reason) => self.stop(reason),
            Ok(()) if taken.len() < bytes.len() => self.stop(Unread::TooLong),
            Ok(()) => {}
        }
    }

    /// Nothing more is read, for this reason; what was found counts.
    fn stop(&mut self, reason: Unread) {
        self.unread.get_or_insert(reason);
        self.settle();
    }

    /// Takes what is known of what has not ended.
    fn settle(&mut self) {
        match std::mem::replace(&mut self.body, Body::Over) {
            Body::Json(mut json) => {
                json.close(&mut self.found);
                self.studies.append(&mut json.studies());
            }
            Body::Form(form) => form.finish(&mut self.found),
            Body::Part10(mut file) => {
                if file.finish(&mut self.found, &mut self.studies) != Outcome::Done {
                    self.unread.get_or_insert(Unread::Malformed);
                }
            }
            Body::Multipart(parts) => {
                let (mut multipart, mut images) = *parts;
                if multipart.finish(&mut images).is_err() {
                    images.unread.get_or_insert(Unread::Malformed);
                }
                images.settle(&mut self.found, &mut self.studies);
                self.unread = self.unread.or(images.unread);
            }
            Body::Over => {}
        }
    }

    /// Tells what was found. `whole` says that the body came to its end.
    #[must_use]
    pub fn finish(mut self, whole: bool) -> Scanned {
        if let Some(mut inflate) = self.inflate.take()
            && self.any
            && let Err(reason) = inflate.finish(whole, |plain| self.read(plain))
        {
            self.unread.get_or_insert(reason);
        }
        let ended = match &mut self.body {
            Body::Json(json) if whole => json.finish(&mut self.found),
            Body::Json(_) | Body::Form(_) | Body::Part10(_) | Body::Multipart(_) | Body::Over => Ok(()),
        };
        if !whole {
            self.unread.get_or_insert(Unread::Cut);
        }
        self.settle();
        if let Err(reason) = ended {
            self.unread.get_or_insert(reason);
        }
        if !self.any {
            self.unread = None;
        }
        // All objects of a study are of one patient (PS3.3 section A.1.2): where one was asked for, one is enough.
        if self.one_study && self.found.len() > 0 && self.unread == Some(Unread::TooLong) {
            self.unread = None;
        }
        let patients = self.found.into_patients();
        if patients.truncated {
            self.unread.get_or_insert(Unread::TooMany);
        }
        Scanned { patients, unread: self.unread, studies: self.studies }
    }
}

/// A JSON document, and all that is looked for in it.
#[derive(Debug)]
struct Json {
    tokenizer: Tokenizer,
    fhir: Option<FhirScan>,
    dicom: Option<DicomJsonScan>,
    pointers: Option<PointerScan>,
}

impl Json {
    fn new(kind: RouteKind, pointers: Option<Arc<[Pointer]>>, source: PatientSource) -> Self {
        Self {
            tokenizer: Tokenizer::default(),
            fhir: (kind == RouteKind::Fhir).then(|| FhirScan::new(source)),
            dicom: (kind == RouteKind::Dicomweb).then(|| DicomJsonScan::new(source)),
            pointers: pointers.map(|pointers| PointerScan::new(pointers, source)),
        }
    }

    fn feed(&mut self, bytes: &[u8], found: &mut Found) -> Result<(), Unread> {
        let Self { tokenizer, fhir, dicom, pointers } = self;
        let fed = match (fhir, dicom, pointers) {
            // By far the most bodies, so that they have a tokenizer of their own.
            (Some(fhir), None, None) => tokenizer.feed(bytes, &mut FhirOnly { fhir, found }),
            (fhir, dicom, pointers) => tokenizer.feed(
                bytes,
                &mut Looking { fhir: fhir.as_mut(), dicom: dicom.as_mut(), pointers: pointers.as_mut(), found },
            ),
        };
        fed.map_err(|json::Malformed| Unread::Malformed)
    }

    fn finish(&mut self, found: &mut Found) -> Result<(), Unread> {
        let Self { tokenizer, fhir, dicom, pointers } = self;
        let (fhir, dicom, pointers) = (fhir.as_mut(), dicom.as_mut(), pointers.as_mut());
        let finished = tokenizer.finish(&mut Looking { fhir, dicom, pointers, found });
        finished.map_err(|json::Malformed| Unread::Malformed)
    }

    /// Ends what is open.
    fn close(&mut self, found: &mut Found) {
        for _ in 0..self.tokenizer.depth() {
            if let Some(fhir) = &mut self.fhir {
                fhir.end(found);
            }
            if let Some(dicom) = &mut self.dicom {
                dicom.end(found);
            }
        }
    }

    fn studies(&mut self) -> Vec<StudyPatient> {
        self.dicom.as_mut().map(|dicom| std::mem::take(&mut dicom.studies)).unwrap_or_default()
    }
}

struct FhirOnly<'s> {
    fhir: &'s mut FhirScan,
    found: &'s mut Found,
}

impl Handler for FhirOnly<'_> {
    fn begin(&mut self, array: bool) {
        self.fhir.begin(array);
    }

    fn end(&mut self) {
        self.fhir.end(self.found);
    }

    fn key(&mut self, name: &[u8]) {
        self.fhir.key(name);
    }

    fn wants(&self) -> bool {
        self.fhir.wants()
    }

    fn scalar(&mut self, text: Option<Text<'_>>) {
        if let Some(text) = text {
            self.fhir.scalar(text, self.found);
        }
    }
}

struct Looking<'s> {
    fhir: Option<&'s mut FhirScan>,
    dicom: Option<&'s mut DicomJsonScan>,
    pointers: Option<&'s mut PointerScan>,
    found: &'s mut Found,
}

impl Handler for Looking<'_> {
    fn begin(&mut self, array: bool) {
        if let Some(fhir) = &mut self.fhir {
            fhir.begin(array);
        }
        if let Some(dicom) = &mut self.dicom {
            dicom.begin(array);
        }
        if let Some(pointers) = &mut self.pointers {
            pointers.begin(array);
        }
    }

    fn end(&mut self) {
        if let Some(fhir) = &mut self.fhir {
            fhir.end(self.found);
        }
        if let Some(dicom) = &mut self.dicom {
            dicom.end(self.found);
        }
        if let Some(pointers) = &mut self.pointers {
            pointers.end();
        }
    }

    fn key(&mut self, name: &[u8]) {
        if let Some(fhir) = &mut self.fhir {
            fhir.key(name);
        }
        if let Some(dicom) = &mut self.dicom {
            dicom.key(name);
        }
        if let Some(pointers) = &mut self.pointers {
            pointers.key(name);
        }
    }

    fn wants(&self) -> bool {
        self.fhir.as_ref().is_some_and(|fhir| fhir.wants())
            || self.dicom.as_ref().is_some_and(|dicom| dicom.wants())
            || self.pointers.as_ref().is_some_and(|pointers| pointers.wants())
    }

    fn scalar(&mut self, text: Option<Text<'_>>) {
        if let Some(text) = text {
            if let Some(fhir) = self.fhir.as_mut().filter(|fhir| fhir.wants()) {
                fhir.scalar(text, self.found);
            }
            if let Some(dicom) = self.dicom.as_mut().filter(|dicom| dicom.wants()) {
                dicom.scalar(text, self.found);
            }
        }
        if let Some(pointers) = &mut self.pointers {
            pointers.scalar(text, self.found);
        }
    }
}

/// The parts of a body of images and their metadata.
#[derive(Debug)]
struct Images {
    part: Body,
    found: Found,
    studies: Vec<StudyPatient>,
    unread: Option<Unread>,
    /// There was a part, and there was one that says whose the images are.
    begun: bool,
    described: bool,
    left: u64,
    source: PatientSource,
}

impl Images {
    fn new(source: PatientSource) -> Self {
        Self {
            part: Body::Over,
            found: Found::default(),
            studies: Vec::new(),
            unread: None,
            begun: false,
            described: false,
            left: 0,
            source,
        }
    }

    fn settle(&mut self, found: &mut Found, studies: &mut Vec<StudyPatient>) {
        if self.source == PatientSource::Body && self.begun && !self.described {
            // Nothing that is stored is nobody's (PS3.18 section 10.5.1); an answer's images are the study's.
            self.unread.get_or_insert(Unread::ContentType);
        }
        let taken = std::mem::take(&mut self.found).into_patients();
        for patient in &taken.ids {
            found.add(&patient.value, patient.system.as_deref(), patient.source);
        }
        if taken.truncated {
            found.truncate();
        }
        studies.append(&mut self.studies);
    }
}

impl Parts for Images {
    fn begin(&mut self, head: &[u8]) {
        self.begun = true;
        let reading = media::part(head);
        self.described |= matches!(reading, Ok(Reading::Json | Reading::Part10));
        self.part = match reading {
            Ok(Reading::Json) => Body::Json(Box::new(Json::new(RouteKind::Dicomweb, None, self.source))),
            Ok(Reading::Part10) => Body::Part10(Box::new(Part10Scan::new(self.source))),
            Ok(_) => Body::Over,
            Err(reason) => {
                self.unread.get_or_insert(reason);
                Body::Over
            }
        };
    }

    fn data(&mut self, bytes: &[u8]) {
        if matches!(self.part, Body::Over) {
            return;
        }
        let fits = usize::try_from(self.left).unwrap_or(usize::MAX);
        let taken = bytes.get(..fits).unwrap_or(bytes);
        self.left = self.left.saturating_sub(taken.len() as u64);
        let read = match &mut self.part {
            Body::Json(json) => json.feed(taken, &mut self.found),
            Body::Part10(file) => match file.feed(taken) {
                Outcome::Reading => Ok(()),
                Outcome::Malformed => Err(Unread::Malformed),
                // The rest of the file is passed over, and costs nothing.
                Outcome::Done => {
                    self.end();
                    return;
                }
            },
            Body::Form(_) | Body::Multipart(_) | Body::Over => return,
        };
        let cut = taken.len() < bytes.len();
        if let Err(reason) = read.and(if cut { Err(Unread::TooLong) } else { Ok(()) }) {
            self.unread.get_or_insert(reason);
            self.close(false);
        }
    }

    fn end(&mut self) {
        self.close(true);
    }
}

impl Images {
    fn close(&mut self, whole: bool) {
        let outcome = match std::mem::replace(&mut self.part, Body::Over) {
            Body::Json(mut json) => {
                let finished = if whole { json.finish(&mut self.found) } else { Ok(()) };
                json.close(&mut self.found);
                self.studies.append(&mut json.studies());
                finished
            }
            Body::Part10(mut file) => match file.finish(&mut self.found, &mut self.studies) {
                Outcome::Done => Ok(()),
                Outcome::Reading | Outcome::Malformed => Err(Unread::Malformed),
            },
            Body::Form(_) | Body::Multipart(_) | Body::Over => Ok(()),
        };
        if let Err(reason) = outcome {
            self.unread.get_or_insert(reason);
        }
    }
}
