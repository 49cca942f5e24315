//! Patients in FHIR resources as JSON (FHIR R4 `json.html`), whatever they are wrapped in.
//!
//! A patient is named by a resource of type Patient (its id, its business identifiers), by a reference to one in any
//! element, literal (`reference`: relative, absolute, conditional, or a URN where the element or the type says patient)
//! or logical (`identifier`), by `fullUrl`, by the request of a bundle's entry and by the location of its response. The
//! members of an object come in any order, so that its texts are kept until it is over.

use super::arena::{Arena, Span};
use super::json::Text;
use crate::patients::PatientSource;
use crate::patients::fhir::{self, referred};
use crate::patients::found::{Found, Sink as _};
use crate::target::form_pairs;

/// Most texts that wait for the end of their object.
const MAX_PENDING: usize = 4_096;

/// A member whose value or whose children matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    ResourceType,
    Id,
    Identifier,
    System,
    Value,
    Reference,
    Type,
    Url,
    FullUrl,
    Location,
    IfNoneExist,
    Contained,
    Request,
    Response,
    /// An element that refers to a patient, its type said or understood.
    Patient,
    Other,
}

impl Key {
    fn of(name: &[u8]) -> Self {
        match name {
            b"resourceType" => Self::ResourceType,
            b"id" => Self::Id,
            b"identifier" => Self::Identifier,
            b"system" => Self::System,
            // JSON Patch (RFC 6902) and Parameters carry references as values.
            b"value" | b"valueUri" | b"valueUrl" | b"valueCanonical" | b"valueString" => Self::Value,
            b"reference" => Self::Reference,
            b"type" => Self::Type,
            b"url" => Self::Url,
            b"fullUrl" => Self::FullUrl,
            b"location" => Self::Location,
            b"ifNoneExist" => Self::IfNoneExist,
            b"contained" => Self::Contained,
            b"request" => Self::Request,
            b"response" => Self::Response,
            b"patient" | b"subject" | b"beneficiary" => Self::Patient,
            _ => Self::Other,
        }
    }
}

/// A text that may turn out to name a patient, once its object is over.
#[derive(Debug, Clone, Copy)]
struct Pending {
    kind: PendingKind,
    value: Span,
    system: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PendingKind {
    Id,
    Identifier,
    Urn,
    Condition,
}

/// An array or an object that is open.
#[derive(Debug, Clone, Copy)]
struct Frame {
    array: bool,
    /// The member it is the value of; an array hands it on to its elements.
    key: Key,
    /// The member that is being read.
    member: Key,
    /// `resourceType`, `type` or the type of a request's `url` says Patient.
    of_patient: bool,
    /// `type` or `reference` says something else.
    of_another: bool,
    pending_from: usize,
    text_from: u32,
    system: Span,
    value: Span,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct FhirScan {
    frames: Vec<Frame>,
    pending: Vec<Pending>,
    texts: Arena,
    source: PatientSource,
}

impl FhirScan {
    pub(super) fn new(source: PatientSource) -> Self {
        Self { frames: Vec::with_capacity(16), pending: Vec::new(), texts: Arena::default(), source }
    }

    pub(super) fn begin(&mut self, array: bool) {
        let key = match self.frames.last() {
            Some(parent) if parent.array => parent.key,
            Some(parent) => parent.member,
            None => Key::Other,
        };
        self.frames.push(Frame {
            array,
            key,
            member: Key::Other,
            of_patient: false,
            of_another: false,
            pending_from: self.pending.len(),
            text_from: self.texts.mark(),
            system: Span::default(),
            value: Span::default(),
        });
    }

    pub(super) fn key(&mut self, name: &[u8]) {
        if let Some(frame) = self.frames.last_mut() {
            frame.member = Key::of(name);
        }
    }

    pub(super) fn wants(&self) -> bool {
        let Some(frame) = self.frames.last() else { return false };
        if frame.array {
            return false;
        }
        match frame.member {
            Key::System => frame.key == Key::Identifier,
            Key::Url | Key::IfNoneExist => frame.key == Key::Request,
            Key::Location => frame.key == Key::Response,
            Key::ResourceType | Key::Id | Key::Value | Key::Reference | Key::Type | Key::FullUrl => true,
            Key::Identifier | Key::Contained | Key::Request | Key::Response | Key::Patient | Key::Other => false,
        }
    }

    pub(super) fn scalar(&mut self, text: Text<'_>, found: &mut Found) {
        let Some(frame) = self.frames.last_mut() else { return };
        if frame.array || !text.quoted || text.bytes.is_empty() {
            return;
        }
        if text.cut {
            found.truncate();
        }
        let bytes = text.bytes;
        match (frame.member, frame.key) {
            (Key::ResourceType, _) => frame.of_patient |= bytes == b"Patient",
            (Key::Type, _) => {
                frame.of_patient |= bytes == b"Patient";
                frame.of_another |= bytes != b"Patient";
            }
            (Key::Id, _) => self.wait(PendingKind::Id, bytes),
            (Key::System, Key::Identifier) => frame.system = self.texts.keep(bytes),
            (Key::Value, Key::Identifier) => {
                if !frame.value.is_empty() {
                    // Said twice: another reader may take the first.
                    found.truncate();
                }
                frame.value = self.texts.keep(bytes);
            }
            (Key::IfNoneExist, Key::Request) => self.wait(PendingKind::Condition, bytes),
            (Key::Url, Key::Request) => {
                frame.of_patient |= bytes == b"Patient" || bytes.starts_with(b"Patient?");
                self.address(bytes, found);
            }
            (Key::Reference, key) => self.reference(bytes, key == Key::Patient, found),
            (Key::Location, Key::Response) | (Key::FullUrl | Key::Value, _) => self.mention(bytes, found),
            _ => {}
        }
    }

    pub(super) fn end(&mut self, found: &mut Found) {
        let Some(frame) = self.frames.pop() else { return };
        if frame.array {
            return;
        }
        let logical = frame.key == Key::Patient && !frame.of_another;
        for pending in self.pending.get(frame.pending_from..).unwrap_or_default() {
            let value = String::from_utf8_lossy(self.texts.get(pending.value));
            match pending.kind {
                // The id of a contained resource means nothing outside.
                PendingKind::Id if frame.of_patient && frame.key != Key::Contained => {
                    found.add(&value, None, self.source);
                }
                PendingKind::Identifier if frame.of_patient || logical => {
                    let system = String::from_utf8_lossy(self.texts.get(pending.system));
                    found.add(&value, Some(&system), self.source);
                }
                PendingKind::Urn if frame.of_patient => found.add(&value, None, self.source),
                PendingKind::Condition => {
                    fhir::from_pairs(frame.of_patient, || form_pairs(value.as_bytes()), self.source, found);
                }
                PendingKind::Id | PendingKind::Identifier | PendingKind::Urn => {}
            }
        }
        self.pending.truncate(frame.pending_from);
        if frame.key == Key::Identifier && !frame.value.is_empty() {
            // It belongs to the object around it, and so do its texts.
            self.push(Pending { kind: PendingKind::Identifier, value: frame.value, system: frame.system });
        } else {
            self.texts.release(frame.text_from);
        }
        if self.texts.overflowed {
            found.truncate();
        }
    }

    fn wait(&mut self, kind: PendingKind, text: &[u8]) {
        let value = self.texts.keep(text);
        self.push(Pending { kind, value, system: Span::default() });
    }

    fn push(&mut self, pending: Pending) {
        if self.pending.len() == MAX_PENDING {
            self.texts.overflowed = true;
            return;
        }
        self.pending.push(pending);
    }

    /// `reference` of a Reference, in an element that refers to a patient or in another.
    fn reference(&mut self, bytes: &[u8], understood: bool, found: &mut Found) {
        if bytes.starts_with(b"#") {
            return;
        }
        if bytes.starts_with(b"urn:") && !understood {
            // Its `type` may say so.
            self.wait(PendingKind::Urn, bytes);
            return;
        }
        let text = String::from_utf8_lossy(bytes);
        if let Some((path, query)) = text.split_once('?') {
            if path.rsplit('/').next() == Some("Patient") {
                fhir::from_pairs(true, || form_pairs(query.as_bytes()), self.source, found);
            }
        } else if let Some(id) = referred(&text, understood) {
            found.add(id, None, self.source);
            return;
        }
        if let Some(frame) = self.frames.last_mut() {
            frame.of_another |= !text.starts_with("Patient?");
        }
    }

    /// A text that is a patient's URL or is about something else.
    fn mention(&self, bytes: &[u8], found: &mut Found) {
        if memchr::memmem::find(bytes, b"Patient/").is_some()
            && let Some(id) = referred(&String::from_utf8_lossy(bytes), false)
        {
            found.add(id, None, self.source);
        }
    }

    /// The `url` of a bundle entry's request, which is a request of its own.
    fn address(&self, bytes: &[u8], found: &mut Found) {
        let text = String::from_utf8_lossy(bytes);
        let (path, query) = text.split_once('?').map_or((&*text, None), |(path, query)| (path, Some(query)));
        let mut kind = "";
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        while let Some(segment) = segments.next() {
            if segment == "Patient"
                && let Some(id) = segments.next().filter(|id| !id.starts_with(['_', '$']))
            {
                let id = crate::target::decode_segment(id);
                found.add(&id, None, self.source);
            }
            if segment.starts_with(|first: char| first.is_ascii_uppercase()) {
                kind = segment;
            }
        }
        if let Some(query) = query {
            fhir::from_pairs(kind == "Patient", || form_pairs(query.as_bytes()), self.source, found);
        }
    }
}
