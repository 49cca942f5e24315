//! Closed by default: who has no device, and who is a patient, is let in by name only.

use super::*;

fn asked_by(party: Party, roles: &[&str]) -> Asked {
    let mut asked = Asked::new(roles, Action::Read, "clinical");
    asked.subject.party = party;
    asked
}

fn parties() -> [Asked; 4] {
    [
        asked_by(at_device("s", "d", None), &["doctor"]),
        asked_by(at_device("s", "d", Some("u")), &["doctor"]),
        asked_by(alone("s", "u"), &["doctor"]),
        asked_by(patient(1, "u"), &[]),
    ]
}

#[test]
fn a_permit_is_for_devices_unless_it_says_more() {
    for (annotation, expected) in [
        ("", [true, true, false, false]),
        ("@device(\"none\")", [true, true, true, false]),
        ("@principal(\"patient\")", [false, false, false, true]),
        ("@device(\"none\") @principal(\"patient\")", [false, false, false, true]),
    ] {
        let judge = load(&format!("{annotation} permit(principal, action, resource);"));
        let may = parties().map(|asked| decide(&judge, &mut cache(), &asked).is_ok());
        assert_eq!(may, expected, "{annotation}");
        let explained = parties().map(|asked| judge.explain(&asked.subject, &asked.request()).refusal.is_none());
        assert_eq!(explained, expected, "{annotation}");
    }
}

#[test]
fn a_forbid_is_for_everybody() {
    let judge = load(
        "permit(principal, action, resource); @device(\"none\") permit(principal, action, resource);\n\
         @principal(\"patient\") permit(principal, action, resource); @id(\"f\") forbid(principal, action, resource);",
    );
    for asked in parties() {
        let denial = decide(&judge, &mut cache(), &asked).unwrap_err();
        assert_eq!((denial.reason, names(&denial.policies)), (Refusal::PolicyForbid, vec!["f"]), "{asked:?}");
    }
}

/// A patient is in no role and at no site, whatever the subject's fields say.
#[test]
fn a_patient_has_neither_role_nor_site() {
    for scope in ["principal in Sekisho::Role::\"doctor\"", "principal in Sekisho::Site::\"s\""] {
        let judge = load(&format!("@principal(\"patient\") permit({scope}, action, resource);"));
        let asked = asked_by(patient(1, "u"), &["doctor"]);
        assert!(decide(&judge, &mut cache(), &asked).is_err(), "{scope}");
    }
    let text = |id: &str| {
        format!("@principal(\"patient\") permit(principal == Sekisho::Patient::\"{id}\", action, resource);")
    };
    let own = load(&text(&format!("{}/u", "01".repeat(16))));
    assert!(decide(&own, &mut cache(), &asked_by(patient(1, "u"), &[])).is_ok());
    assert!(decide(&own, &mut cache(), &asked_by(patient(2, "u"), &[])).is_err());
    assert!(decide(&own, &mut cache(), &asked_by(patient(1, "v"), &[])).is_err());
}

#[test]
fn an_explanation_names_the_annotation() {
    let judge = load("@id(\"a\") permit(principal in Sekisho::Role::\"doctor\", action, resource);");
    for (asked, lack) in [
        (asked_by(alone("s", "u"), &["doctor"]), "needs a device, or the annotation @device(\"none\")"),
        (asked_by(patient(1, "u"), &[]), "needs a device, or the annotation @principal(\"patient\")"),
    ] {
        let shown = judge.explain(&asked.subject, &asked.request()).to_string();
        assert!(shown.contains(lack) && shown.starts_with("deny (policy-no-permit)"), "{shown}");
    }
}
