//! From the values of a data set to patients and studies.

use policy::patients::{PatientSource, Patients, StudyPatient};

use super::scan::{Findings, Value};

/// What a data set names.
#[derive(Debug, Default)]
pub(crate) struct Identified {
    pub(crate) patients: Patients,
    pub(crate) level: Option<String>,
    pub(crate) studies: Vec<String>,
    /// Whose the study is, where there is one of each.
    pub(crate) study: Option<StudyPatient>,
}

/// Most studies taken of a list.
const MAX_STUDIES: usize = 256;

pub(crate) fn identify(findings: &Findings, source: PatientSource) -> Identified {
    let issuer = findings.issuer.as_ref().map(|value| text(&value.bytes)).filter(|issuer| !issuer.is_empty());
    let mut patients = Patients::default();
    if let Some(patient) = &findings.patient {
        let splits = !has_backslashes(findings, patient);
        for part in patient.bytes.split(|byte| splits && *byte == b'\\') {
            add(&mut patients, part, issuer.as_deref(), source);
        }
        patients.truncated |= patient.cut;
    }
    for nested in &findings.nested {
        add(&mut patients, &nested.bytes, None, source);
        patients.truncated |= nested.cut;
    }
    patients.truncated |= findings.more_nested;
    let studies: Vec<String> = findings.study.as_ref().map(studies).unwrap_or_default();
    patients.truncated |= findings.study.as_ref().is_some_and(|study| study.cut);
    let study = match (studies.as_slice(), patients.ids.as_slice()) {
        ([study], [patient, ..]) if findings.patient.as_ref().is_some_and(|value| !value.bytes.is_empty()) => {
            Some(StudyPatient { study: study.clone(), patient: patient.value.clone(), issuer: patient.system.clone() })
        }
        _ => None,
    };
    let level = findings.level.as_ref().map(|value| text(&value.bytes)).filter(|level| level.len() <= 16);
    Identified { patients, level, studies, study }
}

/// Whether a `\` may be the half of a character (PS3.5 section 6.1.2.3 and annexes H to K).
fn has_backslashes(findings: &Findings, value: &Value) -> bool {
    let set = findings.character_set.as_ref().map(|set| set.bytes.as_slice()).unwrap_or_default();
    value.bytes.contains(&0x1b) || set.windows(2).any(|part| part == b"GB")
}

fn add(patients: &mut Patients, value: &[u8], issuer: Option<&str>, source: PatientSource) {
    let value = text(value);
    // All of a wildcard names nobody.
    if value.chars().any(|c| c != '*') {
        patients.add(&value, issuer, source);
    }
}

fn studies(value: &Value) -> Vec<String> {
    let parts = value.bytes.split(|byte| *byte == b'\\').map(text).filter(|uid| uid.chars().any(|c| c != '*'));
    parts.take(MAX_STUDIES).collect()
}

/// Without padding. What is not UTF-8, or controls something, is escaped byte by byte, so that nothing is lost and nothing obeyed.
fn text(bytes: &[u8]) -> String {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(char::is_control) => text.trim_matches(' ').to_owned(),
        _ => bytes.escape_ascii().to_string().trim_matches(' ').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(bytes: &[u8]) -> Option<Value> {
        Some(Value { bytes: bytes.to_vec(), cut: false })
    }

    fn ids(findings: &Findings) -> Vec<String> {
        identify(findings, PatientSource::Query).patients.ids.iter().map(|id| id.value.clone()).collect()
    }

    #[test]
    fn lists_wildcards_and_scripts() {
        let of = |patient: &[u8]| ids(&Findings { patient: value(patient), ..Findings::default() });
        assert_eq!(of(b" 4711 "), ["4711"]);
        assert_eq!(of(b"1\\2*\\*"), ["1", "2*"]);
        assert_eq!(of(b"*"), [""; 0]);
        assert_eq!(of("さくら".as_bytes()), ["さくら"]);
        // JIS X 0208 with a byte 5C: one value.
        assert_eq!(of(b"\x1b$B!\\\x1b(B"), ["\\x1b$B!\\\\\\x1b(B"]);
    }

    #[test]
    fn a_study_has_a_patient_where_there_is_one_of_each() {
        let of = |patient: &[u8], study: &[u8]| {
            identify(
                &Findings { patient: value(patient), study: value(study), ..Findings::default() },
                PatientSource::Body,
            )
            .study
        };
        let study = of(b"4711", b"1.2\0").unwrap();
        assert_eq!((study.study.as_str(), study.patient.as_str()), ("1.2", "4711"));
        assert!(of(b"4711", b"1.2\\1.3").is_none());
        assert!(of(b"", b"1.2").is_none());
    }
}
