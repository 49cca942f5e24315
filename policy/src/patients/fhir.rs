//! Patients in FHIR search parameters (FHIR R4 section 3.1.1, `search.html`).

use std::borrow::Cow;

use super::found::Sink;
use super::{Pair, PatientSource};

/// Parameters that are a reference to a patient, with or without its type: `subject` is one nearly always, and
/// `beneficiary` is Coverage's (JP Core).
const REFERENCES: [&str; 3] = ["patient", "subject", "beneficiary"];

/// Modifiers under which a value is excluded, or is no identifier.
const NO_MENTION: [&str; 12] = [
    "missing",
    "not",
    "not-in",
    "in",
    "text",
    "text-advanced",
    "code-text",
    "contains",
    "exact",
    "above",
    "below",
    "iterate",
];

/// Whether a search across types is one for patients: it says which types they are.
pub(super) fn is_typed_patient<'a>(mut pairs: impl Iterator<Item = Pair<'a>>) -> bool {
    pairs.any(|(name, value)| name == "_type" && value.split(',').any(|kind| kind == "Patient"))
}

pub(super) fn from_pairs<'a, I: Iterator<Item = Pair<'a>>>(
    of_patients: bool,
    pairs: impl Fn() -> I,
    source: PatientSource,
    patients: &mut impl Sink,
) {
    for (name, value) in pairs() {
        if let Some(kind) = parameter_kind(&name, of_patients, MAX_CHAIN)
            && (kind != Kind::Anything || value.contains("Patient/"))
        {
            for item in Alternatives(Some(&value)) {
                add(kind, item, source, patients);
            }
        }
    }
}

/// How a parameter's values name patients.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A reference to a patient, its type said or understood.
    Patient,
    /// A reference to anything: a patient only if it says so.
    Anything,
    /// A token: `system|value`, `|value` or `value`.
    Identifier,
    /// A token with its type before: `type-system|type|value`.
    TypedIdentifier,
    /// Logical ids.
    Id,
}

/// Longest chain of parameters that is followed.
const MAX_CHAIN: u8 = 8;

/// What a parameter of a search names, where that is one for patients or for anything else.
fn parameter_kind(name: &str, of_patients: bool, steps: u8) -> Option<Kind> {
    if let Some(reverse) = name.strip_prefix("_has:") {
        // `_has:Type:reference:parameter`: the parameter is the other type's.
        let mut parts = reverse.splitn(3, ':');
        let (kind, _reference, parameter) = (parts.next()?, parts.next()?, parts.next()?);
        return parameter_kind(parameter, kind == "Patient", steps.checked_sub(1)?);
    }
    let (parameter, chain) = name.split_once('.').map_or((name, None), |(head, chain)| (head, Some(chain)));
    let (parameter, modifier) = parameter.split_once(':').map_or((parameter, None), |(head, m)| (head, Some(m)));
    if modifier.is_some_and(|modifier| NO_MENTION.contains(&modifier)) {
        return None;
    }
    let to_patient = modifier == Some("Patient") || modifier.is_none() && REFERENCES.contains(&parameter);
    if let Some(chain) = chain {
        return parameter_kind(chain, to_patient, steps.checked_sub(1)?);
    }
    match modifier {
        Some("identifier") => REFERENCES.contains(&parameter).then_some(Kind::Identifier),
        Some("of-type") => (of_patients && parameter == "identifier").then_some(Kind::TypedIdentifier),
        _ if to_patient => Some(Kind::Patient),
        None if of_patients && parameter == "identifier" => Some(Kind::Identifier),
        None if of_patients && parameter == "_id" => Some(Kind::Id),
        // `actor`, `recipient`, `performer` and many others may refer to a patient.
        None => Some(Kind::Anything),
        Some(_) => None,
    }
}

fn add(kind: Kind, item: &str, source: PatientSource, patients: &mut impl Sink) {
    match kind {
        Kind::Patient => patients.add(referred(item, true).unwrap_or_default(), None, source),
        Kind::Anything => patients.add(referred(item, false).unwrap_or_default(), None, source),
        Kind::Id => patients.add(item, None, source),
        Kind::Identifier => {
            let (system, value) = split_unescaped(item, '|');
            match value {
                Some(value) => {
                    let system = unescape(system);
                    patients.add(&unescape(value), (!system.is_empty()).then_some(&system), source);
                }
                None => patients.add(&unescape(item), None, source),
            }
        }
        Kind::TypedIdentifier => {
            if let (_, Some(rest)) = split_unescaped(item, '|')
                && let (_, Some(value)) = split_unescaped(rest, '|')
            {
                patients.add(&unescape(value), None, source);
            }
        }
    }
}

/// The id of the patient that a reference leads to: `123`, `Patient/123`, `…/Patient/123/_history/4`, or a URN whole.
pub(super) fn referred(reference: &str, type_understood: bool) -> Option<&str> {
    if reference.starts_with("urn:") {
        return type_understood.then_some(reference);
    }
    let versionless = reference.split_once("/_history").map_or(reference, |(before, _)| before);
    let mut from_the_end = versionless.trim_end_matches('/').rsplit('/');
    let (id, parent) = (from_the_end.next()?, from_the_end.next());
    match parent {
        Some("Patient") => Some(id),
        // The reference says another type.
        Some(parent) if parent.starts_with(|first: char| first.is_ascii_uppercase()) => None,
        _ => type_understood.then_some(id),
    }
}

/// The alternatives of a value, parted by commas that no `\` precedes; still escaped.
struct Alternatives<'v>(Option<&'v str>);

impl<'v> Iterator for Alternatives<'v> {
    type Item = &'v str;

    fn next(&mut self) -> Option<&'v str> {
        let (item, rest) = split_unescaped(self.0?, ',');
        self.0 = rest;
        Some(item)
    }
}

fn split_unescaped(text: &str, separator: char) -> (&str, Option<&str>) {
    let mut escaped = false;
    let at = text.find(|c| {
        let found = !escaped && c == separator;
        escaped = !escaped && c == '\\';
        found
    });
    match at.and_then(|at| text.split_at_checked(at)) {
        Some((before, after)) => (before, after.strip_prefix(separator)),
        None => (text, None),
    }
}

/// Undoes the escapes of search values: `\,`, `\|`, `\$` and `\\`.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.push(characters.next().unwrap_or('\\')),
            other => plain.push(other),
        }
    }
    Cow::Owned(plain)
}
