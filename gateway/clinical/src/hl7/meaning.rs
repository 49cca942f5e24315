//! What a message does (HL7 v2.5.1 chapters 3 to 12, table 0003).

use policy::{Action, Effect};

/// The action and effect of a message type and trigger; none for what is not known, which is refused. What answers something
/// (`ACK`, `RSP`, …) is no request.
///
/// Orders and results append to the record: `create`. Corrections, merges and anything that moves what is there: `update`.
#[must_use]
pub fn meaning(kind: &str, trigger: &str) -> Option<(Action, Effect)> {
    let action = match (kind, trigger) {
        ("QRY" | "QBP" | "QSB" | "VXQ" | "SPQ" | "VQQ" | "OSQ" | "SQM" | "RQQ", _) => {
            return Some((Action::Search, Effect::ReadOnly));
        }
        ("ADT", "A01" | "A04" | "A05" | "A14" | "A28") => Action::Create,
        ("ADT", "A23" | "A29") => Action::Delete,
        ("ADT", trigger) if numbered(trigger, b'A') => Action::Update,
        ("MDM", "T01" | "T02" | "T05" | "T06") => Action::Create,
        ("MDM", "T03" | "T04" | "T07" | "T08" | "T09" | "T10") => Action::Update,
        ("MDM", "T11") => Action::Delete,
        ("SIU" | "SRM", "S01" | "S12") => Action::Create,
        ("SIU" | "SRM", "S04" | "S05" | "S06" | "S15" | "S16" | "S17") => Action::Delete,
        ("SIU" | "SRM", trigger) if numbered(trigger, b'S') => Action::Update,
        ("BAR", "P01") => Action::Create,
        ("BAR", "P02" | "P05" | "P06" | "P10" | "P12") => Action::Update,
        ("DFT", "P03" | "P11") => Action::Create,
        ("ORM" | "OMG" | "OML" | "OMI" | "OMP" | "OMD" | "OMS" | "OMN" | "RDE" | "RDS" | "RGV" | "RAS", trigger)
            if numbered(trigger, b'O') =>
        {
            Action::Create
        }
        ("ORU" | "OUL" | "PEX" | "REF", _) => Action::Create,
        ("VXU", "V04") => Action::Create,
        ("PPR" | "PGL" | "PTR", trigger) if numbered(trigger, b'P') => Action::Update,
        ("MFN", trigger) if numbered(trigger, b'M') => Action::Update,
        _ => return None,
    };
    Some((action, Effect::Changing))
}

/// A letter and two digits, or one of later versions with another letter at its end.
fn numbered(trigger: &str, letter: u8) -> bool {
    matches!(trigger.as_bytes(), [first, a, b] if *first == letter && a.is_ascii_digit() && b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_a_meaning_and_answers_have_none() {
        let action = |kind, trigger| meaning(kind, trigger).map(|(action, _)| action);
        assert_eq!(action("ADT", "A04"), Some(Action::Create));
        assert_eq!(action("ADT", "A08"), Some(Action::Update));
        assert_eq!(action("ADT", "A40"), Some(Action::Update));
        assert_eq!(action("ADT", "A29"), Some(Action::Delete));
        assert_eq!(action("ORU", "R01"), Some(Action::Create));
        assert_eq!(meaning("QBP", "Q22"), Some((Action::Search, Effect::ReadOnly)));
        for (kind, trigger) in
            [("ACK", "A08"), ("RSP", "K22"), ("ADT", "X"), ("ADT", ""), ("ZZZ", "Z01"), ("adt", "A08")]
        {
            assert_eq!(action(kind, trigger), None);
        }
    }
}
