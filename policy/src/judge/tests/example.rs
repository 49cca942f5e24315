//! The shipped example: its cases, and the matrix of every role, action and class.

use super::*;
use crate::cases::Cases;

fn example() -> Vec<PolicySource> {
    vec![
        PolicySource {
            file: "interfaces.cedar".into(),
            text: include_str!("../../../examples/clinic/interfaces.cedar").into(),
        },
        PolicySource {
            file: "limits.cedar".into(),
            text: include_str!("../../../examples/clinic/limits.cedar").into(),
        },
        PolicySource {
            file: "people.cedar".into(),
            text: include_str!("../../../examples/clinic/people.cedar").into(),
        },
        PolicySource { file: "roles.cedar".into(), text: include_str!("../../../examples/clinic/roles.cedar").into() },
    ]
}

#[test]
fn the_examples_cases_hold() {
    let cases = Cases::parse(include_str!("../../../examples/clinic/cases.toml")).unwrap();
    assert!(cases.len() >= 30);
    let judge = Judge::load(example(), cases.options()).unwrap();
    assert_eq!(judge.warnings(), []);
    let report = cases.run(&judge, &|_, _| Err("no routes here".to_owned()));
    assert!(report.passed(), "{report}");
}

/// One letter for each action in the order of `Action::ALL` (connect, read, search, create, update, delete, operate,
/// login) where the role may; `-` where it may not. Proved device only, no content.
const MATRIX: [(&str, &str, &str); 15] = [
    ("doctor", "clinical", "crscu-ol"),
    ("doctor", "medication", "-rscu--l"),
    ("doctor", "administrative", "-rs----l"),
    ("nurse", "clinical", "crs----l"),
    ("nurse", "medication", "-rs----l"),
    ("nurse", "administrative", "-------l"),
    ("pharmacist", "clinical", "-r-----l"),
    ("pharmacist", "medication", "-rscu--l"),
    ("pharmacist", "administrative", "-------l"),
    ("clerk", "clinical", "-------l"),
    ("clerk", "medication", "-------l"),
    ("clerk", "administrative", "crscu--l"),
    ("kiosk", "clinical", "--------"),
    ("kiosk", "medication", "--------"),
    ("kiosk", "administrative", "--------"),
];

#[test]
fn every_role_action_and_class_of_the_example() {
    let judge = Judge::load(example(), JudgeOptions::default()).unwrap();
    let mut cache = cache();
    for (role, class, row) in MATRIX {
        for (action, cell) in Action::ALL.into_iter().zip(row.chars()) {
            let asked = Asked::new(&[role], action, class);
            for round in ["fresh", "again"] {
                let permitted = decide(&judge, &mut cache, &asked).is_ok();
                assert_eq!(permitted, cell != '-', "{role} {action} {class} {round}");
            }
        }
    }
}

#[test]
fn a_login_adds_only_the_doctors_right_to_delete() {
    let judge = Judge::load(example(), JudgeOptions::default()).unwrap();
    for (role, class, row) in MATRIX {
        for (action, cell) in Action::ALL.into_iter().zip(row.chars()) {
            let mut asked = Asked::new(&[role], action, class);
            asked.subject.authentication_level = AuthenticationLevel::TwoFactor;
            let permitted = decide(&judge, &mut cache(), &asked).is_ok();
            let deletes = role == "doctor" && action == Action::Delete && class != "administrative";
            assert_eq!(permitted, cell != '-' || deletes, "{role} {action} {class}");
        }
    }
}

#[test]
fn a_kiosk_takes_everything_but_administration_from_every_role() {
    let judge = Judge::load(example(), JudgeOptions::default()).unwrap();
    for role in ["doctor", "nurse", "pharmacist", "clerk"] {
        for action in Action::ALL {
            for class in ["clinical", "medication"] {
                let denial = decide(&judge, &mut cache(), &Asked::new(&[role, "kiosk"], action, class)).unwrap_err();
                assert_eq!(denial.reason, Refusal::PolicyForbid, "{role} {action} {class}");
            }
        }
    }
}
