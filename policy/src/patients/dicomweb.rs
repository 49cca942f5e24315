//! Patients in DICOMweb's search parameters (DICOM PS3.18 section 8.3.4): the attribute Patient ID (0010,0020), by
//! keyword or tag, alone or as the last step of a path through sequences, and its issuer (0010,0021).
//!
//! A retrieve by study names no patient; which one a study belongs to is not the request's to say.

use super::{Pair, PatientSource, Patients};

pub(super) fn from_pairs<'a, I: Iterator<Item = Pair<'a>>>(
    pairs: impl Fn() -> I,
    source: PatientSource,
    patients: &mut Patients,
) {
    let issuer = pairs().find(|(name, _)| is_attribute(name, "IssuerOfPatientID", "00100021")).map(|(_, value)| value);
    for (name, value) in pairs() {
        if is_attribute(&name, "PatientID", "00100020") {
            // The value of a Patient ID (LO) may hold a comma, but `\` parts the values of a list.
            for item in value.split('\\').filter(|item| item.chars().any(|c| c != '*')) {
                patients.add(item, issuer.as_deref().filter(|issuer| !issuer.is_empty()), source);
            }
        }
    }
}

fn is_attribute(name: &str, keyword: &str, tag: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last == keyword || last == tag
}
