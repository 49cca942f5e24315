//! Patients that a request touches (R5): named in its path, its query, its body and the answer's.
//!
//! Policies see those of path and query ([`target_patients`]), which are known when they decide. Those of bodies are
//! for the record alone: a [`Scanner`] reads them as they stream.
//!
//! What is found is what is asked about or told, in its own words: nothing is looked up, so that an identifier may
//! exist nowhere. Rather one too many than one too few, but an exclusion (`:not`) is no mention. Only DICOMweb's paths
//! need a memory: they name studies, and [`Studies`] knows whose those are from what passed before.
//!
//! Left out, because they name a patient by properties rather than by identifier: parameters such as `subject.name`.

mod dicomweb;
mod fhir;
pub(crate) mod found;
pub(crate) mod scan;
mod studies;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use smallvec::SmallVec;

pub use found::MAX_BODY_PATIENTS;
pub use scan::{BodyHead, DEFAULT_BODY_BYTES, Plan, Scanned, Scanner, StudyPatient, Unread};
pub use studies::{MAX_STUDIES, STUDY_LIFE_NS, Studies, StudySource};

use crate::route::{Resolved, RouteKind};
use crate::target::CanonicalTarget;

/// Most patients taken from one request's path and query. A body's are at most [`MAX_BODY_PATIENTS`].
pub const MAX_PATIENTS: usize = 64;

/// Most bytes taken of an identifier, and of its system.
pub const MAX_VALUE_BYTES: usize = 256;

/// Where a patient was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PatientSource {
    /// A segment of the path.
    Path,
    /// A parameter of the query.
    Query,
    /// The request's body.
    Body,
    /// The answer's body.
    Answer,
    /// The study that the request names, whose patient is known from what passed before.
    Study,
}

impl PatientSource {
    /// The name in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Body => "body",
            Self::Answer => "answer",
            Self::Study => "study",
        }
    }
}

/// A patient, as a request names one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PatientId {
    /// The identifier, decoded: a FHIR logical id or business identifier, a DICOM Patient ID. Not empty, at most
    /// [`MAX_VALUE_BYTES`] bytes.
    pub value: String,
    /// The identifier's system (FHIR) or issuer (DICOM), where the request names one. At most [`MAX_VALUE_BYTES`]
    /// bytes.
    pub system: Option<String>,
    /// Where it was found first.
    pub source: PatientSource,
}

/// The patients of a request, each once, in the order they were found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Patients {
    /// At most [`MAX_PATIENTS`], or [`MAX_BODY_PATIENTS`] of a body.
    pub ids: SmallVec<[PatientId; 2]>,
    /// Whether a bound was met: there were more patients, or longer identifiers, than these.
    pub truncated: bool,
}

impl Patients {
    /// Adds one, unless it is known or empty; beyond the bounds it is cut or left out, and `truncated` says so.
    pub fn add(&mut self, value: &str, system: Option<&str>, source: PatientSource) {
        if value.is_empty() {
            return;
        }
        let (value, system) = (self.cut(value), system.map(|system| self.cut(system)));
        if self.ids.iter().any(|known| known.value == value && known.system.as_deref() == system) {
            return;
        }
        if self.ids.len() == MAX_PATIENTS {
            self.truncated = true;
            return;
        }
        self.ids.push(PatientId { value: value.to_owned(), system: system.map(str::to_owned), source });
    }

    fn cut<'t>(&mut self, text: &'t str) -> &'t str {
        let end = text.floor_char_boundary(MAX_VALUE_BYTES);
        self.truncated |= end < text.len();
        text.get(..end).unwrap_or_default()
    }
}

/// The patients that the path and the query name, by the rules of the route and of its kind.
#[must_use]
pub fn target_patients(resolved: &Resolved<'_>, target: &CanonicalTarget<'_>) -> Patients {
    let mut patients = Patients::default();
    for value in &resolved.path_patients {
        patients.add(value, None, PatientSource::Path);
    }
    if target.query().is_some_and(|query| !query.is_empty()) {
        from_pairs(resolved, || target.query_pairs(), PatientSource::Query, &mut patients);
    }
    patients
}

/// How the bodies of this exchange are read; nothing where they are not, which costs nothing then.
#[must_use]
pub fn plan(resolved: &Resolved<'_>, target: &CanonicalTarget<'_>) -> Option<Plan> {
    let kind = resolved.route.kind();
    if kind == RouteKind::Generic && !resolved.body_rules.is_some_and(|rules| rules.reads()) {
        return None;
    }
    let study = match (kind, &resolved.study) {
        (RouteKind::Dicomweb, Some(study)) => Some(Box::from(&**study)),
        (RouteKind::Dicomweb, None) => dicomweb::study(target.query_pairs()),
        (RouteKind::Fhir | RouteKind::Generic, _) => None,
    };
    Some(Plan {
        kind,
        of_patients: resolved.resource_type.as_deref().map(|kind| kind == "Patient"),
        rules: resolved.body_rules.cloned(),
        max_bytes: resolved.route.max_body_bytes(),
        graphql: kind == RouteKind::Fhir && resolved.operation.as_deref() == Some("$graphql"),
        study,
    })
}

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

fn from_pairs<'a, I: Iterator<Item = Pair<'a>>>(
    resolved: &Resolved<'_>,
    pairs: impl Fn() -> I,
    source: PatientSource,
    patients: &mut Patients,
) {
    match resolved.route.kind() {
        RouteKind::Fhir => {
            let of_patients = match resolved.resource_type.as_deref() {
                Some(kind) => kind == "Patient",
                None => fhir::is_typed_patient(pairs()),
            };
            fhir::from_pairs(of_patients, &pairs, source, patients);
        }
        RouteKind::Dicomweb => dicomweb::from_pairs(&pairs, source, patients),
        RouteKind::Generic => {}
    }
    if !resolved.patient_query.is_empty() {
        for (name, value) in pairs() {
            if resolved.patient_query.iter().any(|wanted| **wanted == *name) {
                patients.add(&value, None, source);
            }
        }
    }
}
