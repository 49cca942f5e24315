//! Patients in forms (`application/x-www-form-urlencoded`): FHIR's `POST …/_search`, and fields that a rule names.

use std::sync::Arc;

use super::super::found::{Found, Sink as _};
use super::super::{PatientSource, dicomweb, fhir};
use super::{BodyRules, Plan, Unread};
use crate::route::RouteKind;
use crate::target::form_pairs;

/// Most bytes of a form, which is held: its fields explain each other.
const MAX_FORM: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct FormScan {
    bytes: Vec<u8>,
    kind: RouteKind,
    of_patients: Option<bool>,
    rules: Option<Arc<BodyRules>>,
}

impl FormScan {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { bytes: Vec::new(), kind: plan.kind, of_patients: plan.of_patients, rules: plan.rules.clone() }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Unread> {
        let room = MAX_FORM.saturating_sub(self.bytes.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.bytes.extend_from_slice(taken);
        if taken.len() < bytes.len() { Err(Unread::TooLong) } else { Ok(()) }
    }

    pub(super) fn finish(self, found: &mut Found) {
        let pairs = || form_pairs(&self.bytes);
        match self.kind {
            RouteKind::Fhir => {
                let of_patients = self.of_patients.unwrap_or_else(|| fhir::is_typed_patient(pairs()));
                fhir::from_pairs(of_patients, pairs, PatientSource::Body, found);
            }
            RouteKind::Dicomweb => dicomweb::from_pairs(pairs, PatientSource::Body, found),
            RouteKind::Generic => {}
        }
        if let Some(rules) = &self.rules {
            for (name, value) in pairs() {
                if rules.form.iter().chain(&rules.query).any(|wanted| **wanted == *name) {
                    found.add(&value, None, PatientSource::Body);
                }
            }
        }
    }
}
