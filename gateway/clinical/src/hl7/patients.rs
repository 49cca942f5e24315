//! Whom a message is about: PID-2 to PID-4, MRG-1 and MRG-4, QPD-3, QRD-8.

use policy::patients::{PatientSource, Patients};

use super::message::{Message, Text};

/// Most identifiers that are looked at: looking costs more than sending.
const MAX_LOOKED_AT: usize = 1_000;

/// The patients that a message names, each once.
pub(crate) fn patients(message: &Message<'_>, source: PatientSource) -> Patients {
    let mut patients = Patients::default();
    let mut looked_at = 0;
    for segment in message.segments() {
        let fields: &[usize] = match &segment.name {
            b"PID" => &[2, 3, 4],
            b"MRG" => &[1, 4],
            b"QRD" => &[8],
            b"QPD" => &[3],
            _ => continue,
        };
        for field in fields.iter().filter_map(|number| segment.field(*number)) {
            for repetition in field.split(message.separators.repetition) {
                looked_at += 1;
                if looked_at > MAX_LOOKED_AT {
                    patients.truncated = true;
                    return patients;
                }
                if &segment.name == b"QPD" {
                    query(message, repetition, source, &mut patients);
                } else {
                    identifier(message, repetition, source, &mut patients);
                }
            }
        }
    }
    patients
}

/// A CX: the identifier, and the namespace of who assigned it.
fn identifier(message: &Message<'_>, value: Text<'_>, source: PatientSource, patients: &mut Patients) {
    let mut components = value.split(message.separators.component);
    // An XCN of QRD-8 begins with the identifier as well.
    let id = components.next().unwrap_or_default();
    let authority = components.nth(2).unwrap_or_default();
    add(message, first(message, id), Some(first(message, authority)), source, patients);
}

/// Of QPD-3: a CX (IHE PIX), or a field and its value, `@PID.3.1^4711` (IHE PDQ).
fn query(message: &Message<'_>, value: Text<'_>, source: PatientSource, patients: &mut Patients) {
    let mut components = value.split(message.separators.component);
    let name = components.next().unwrap_or_default();
    if name.bytes.first() != Some(&b'@') {
        identifier(message, value, source, patients);
    } else if names_a_patient(name.bytes) {
        add(message, components.next().unwrap_or_default(), None, source, patients);
    }
}

/// `@PID.2`, `@PID.3`, `@PID.4`, alone or with their first component.
fn names_a_patient(name: &[u8]) -> bool {
    let rest = name.strip_prefix(b"@PID.").unwrap_or_default();
    matches!(rest, [b'2'..=b'4'] | [b'2'..=b'4', b'.', b'1', ..])
}

fn first<'t>(message: &Message<'_>, text: Text<'t>) -> Text<'t> {
    text.split(message.separators.subcomponent).next().unwrap_or_default()
}

fn add(message: &Message<'_>, id: Text<'_>, system: Option<Text<'_>>, source: PatientSource, patients: &mut Patients) {
    let (id, system) = (message.text(id), system.map(|system| message.text(system)));
    // "" deletes a value (chapter 2.5.3.3), and a wildcard names nobody.
    if id != "\"\"" && id.chars().any(|c| c != '*') {
        patients.add(&id, system.as_deref().filter(|system| !system.is_empty()), source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(segments: &str) -> Vec<(String, Option<String>)> {
        let payload = format!("MSH|^~\\&|A|B|C|D|1||ADT^A08|1|P|2.5\r{segments}");
        let message = Message::read(payload.as_bytes(), false).unwrap();
        patients(&message, PatientSource::Body).ids.into_iter().map(|id| (id.value, id.system)).collect()
    }

    fn pairs(expected: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
        expected.iter().map(|(id, system)| ((*id).to_owned(), system.map(str::to_owned))).collect()
    }

    #[test]
    fn every_repetition_of_every_patient_is_named() {
        assert_eq!(
            named("PID|1|OLD|4711^^^SAKURA&1.2.3&ISO^PI~99^^^MOMIJI^MR||YAMADA^TARO\rMRG|1234^^^SAKURA"),
            pairs(&[("OLD", None), ("4711", Some("SAKURA")), ("99", Some("MOMIJI")), ("1234", Some("SAKURA"))])
        );
        assert_eq!(named("QPD|IHE PIX Query|1|4711^^^SAKURA|^^^MOMIJI"), pairs(&[("4711", Some("SAKURA"))]));
        assert_eq!(
            named("QPD|IHE PDQ Query|1|@PID.3.1^4711~@PID.5.1.1^YAMADA~@PID.33^x~@PID.4^77"),
            pairs(&[("4711", None), ("77", None)])
        );
        assert_eq!(named("QRD|1|R|I|1|||1^RD|4711|DEM"), pairs(&[("4711", None)]));
        assert_eq!(named("PID|||\"\"~*~\rPID|||A\\T\\B"), pairs(&[("A&B", None)]));
        assert_eq!(named("PV1|1|O\rNTE|1||PID\\F\\\\F\\4711"), []);
    }
}
