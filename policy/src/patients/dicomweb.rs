//! Patients in DICOMweb's search parameters (DICOM PS3.18 section 8.3.4): the attribute Patient ID (0010,0020), by
//! keyword or tag, alone or as the last step of a path through sequences, and its issuer (0010,0021).
//!
//! A retrieve by study names no patient: whose a study is, is known from what passed before ([`Studies`]).
//!
//! [`Studies`]: super::Studies

use super::found::Sink;
use super::{Pair, PatientSource};

pub(super) fn from_pairs<'a, I: Iterator<Item = Pair<'a>>>(
    pairs: impl Fn() -> I,
    source: PatientSource,
    patients: &mut impl Sink,
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

/// The study that a search asks for, by the Study Instance UID (0020,000D); one alone.
pub(super) fn study<'a>(pairs: impl Iterator<Item = Pair<'a>>) -> Option<Box<str>> {
    let mut values = pairs.filter(|(name, _)| is_attribute(name, "StudyInstanceUID", "0020000D"));
    let (_, value) = values.next()?;
    let one = values.next().is_none() && !value.is_empty() && !value.contains([',', '\\', '*', '?']);
    one.then(|| Box::from(&*value))
}
