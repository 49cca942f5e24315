//! Patients that a request names (R5): for the record, never for the decision.
//!
//! What is found is what the request asks about, in the request's own words: nothing is looked up, so that an
//! identifier may exist nowhere. Rather one too many than one too few, but an exclusion (`:not`) is no mention.
//!
//! Left out, because they name a patient by properties rather than by identifier: `_has`, and chained parameters
//! other than `.identifier` and `._id`. Batch and transaction bundles name theirs in a JSON or XML body.

mod dicomweb;
mod fhir;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::route::{Resolved, RouteKind};
use crate::target::{CanonicalTarget, form_pairs};

/// Most patients taken from one request.
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
    /// A parameter of a form body.
    Body,
}

impl PatientSource {
    /// The name in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Body => "body",
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
    /// At most [`MAX_PATIENTS`].
    pub ids: SmallVec<[PatientId; 2]>,
    /// Whether a bound was met: there were more patients, or longer identifiers, than these.
    pub truncated: bool,
}

impl Patients {
    fn add(&mut self, value: &str, system: Option<&str>, source: PatientSource) {
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

/// The patients that a form body (`application/x-www-form-urlencoded`) names; for requests whose
/// [`Resolved::body_patients`] is set. Total: any bytes are taken. Adds to what [`target_patients`] found, within the
/// same bounds.
pub fn form_patients(resolved: &Resolved<'_>, body: &[u8], patients: &mut Patients) {
    from_pairs(resolved, || form_pairs(body), PatientSource::Body, patients);
}

type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

fn from_pairs<'a, I: Iterator<Item = Pair<'a>>>(
    resolved: &Resolved<'_>,
    pairs: impl Fn() -> I,
    source: PatientSource,
    patients: &mut Patients,
) {
    match resolved.route.kind() {
        RouteKind::Fhir => fhir::from_pairs(resolved.resource_type.as_deref(), &pairs, source, patients),
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
