//! Which study is whose, as a body says.

/// Most studies learnt from one body.
const MAX_STUDIES: usize = 256;

/// A study and its patient, as a body has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StudyPatient {
    /// The Study Instance UID (0020,000D); empty where the body does not say it, so that it is the one asked for.
    pub study: String,
    /// The Patient ID (0010,0020), at most [`MAX_VALUE_BYTES`](crate::patients::MAX_VALUE_BYTES) bytes.
    pub patient: String,
    /// Its issuer (0010,0021).
    pub issuer: Option<String>,
}

/// Adds one, unless it is known or there are too many: what is not remembered is asked for again.
pub(super) fn remember(studies: &mut Vec<StudyPatient>, study: &str, patient: &str, issuer: &str) {
    let fits = |text: &str| text.len() <= crate::patients::MAX_VALUE_BYTES;
    let known = studies.iter().rev().take(4).any(|known| known.study == study && known.patient == patient);
    if known || studies.len() == MAX_STUDIES || study.len() > 64 || !fits(patient) || !fits(issuer) {
        return;
    }
    let issuer = (!issuer.is_empty()).then(|| issuer.to_owned());
    studies.push(StudyPatient { study: study.to_owned(), patient: patient.to_owned(), issuer });
}
