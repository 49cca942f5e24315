//! The part of the file that says whom a listener is for: devices, users or patients.

use ::policy::AuthenticationLevel;
use certs::PatientField;
use certs::peers::PolicyOid;

use super::table::Table;
use super::{ListenerPeers, PatientPeers, UserPeers};

/// What a certificate with a key behind a PIN counts for.
const LEVELS: &[(&str, AuthenticationLevel)] =
    &[("user", AuthenticationLevel::User), ("two-factor", AuthenticationLevel::TwoFactor)];

/// Whom it is for.
pub(super) fn peers(table: &Table<'_>) -> ListenerPeers {
    const KINDS: &[(&str, &str)] = &[("devices", "devices"), ("users", "users"), ("patients", "patients")];
    let kind = table.choice("peers", "devices", KINDS);
    // The keys of another purpose are not asked for: they have no defaults where they mean nothing.
    let why = format!("`{}` is `{kind}`; a listener has one purpose", table.key("peers"));
    for key in ["users", "patients"].into_iter().filter(|key| *key != kind) {
        table.no_section(key, &why);
    }
    match kind {
        "users" => ListenerPeers::Users(table.section("users", user_peers)),
        "patients" => ListenerPeers::Patients(table.section("patients", patient_peers)),
        _ => ListenerPeers::Devices,
    }
}

fn user_peers(table: &Table<'_>) -> UserPeers {
    let roles_file = table.path_optional("roles_file");
    let replace_roles = table.boolean("replace_roles", false);
    if replace_roles && roles_file.is_none() {
        let (own, file) = (table.key("replace_roles"), table.key("roles_file"));
        table.problem("replace_roles", format!("`{own}` is true, and `{file}` is missing: nobody would have a role"));
    }
    UserPeers {
        test_cards: table.boolean("test_cards", false),
        roles_file,
        replace_roles,
        authentication: table.choice("authentication", AuthenticationLevel::User, LEVELS),
    }
}

fn patient_peers(table: &Table<'_>) -> PatientPeers {
    let fields = PatientField::ALL.map(|field| (field.label(), field));
    let mut policies = Vec::new();
    for text in table.texts_optional("policies") {
        if PolicyOid::parse(text.text).is_none() {
            table.refuse(&text, "it must be an object identifier such as `1.2.392.200149.8.5.1.3.30`");
        }
        policies.push(text.text.to_owned());
    }
    PatientPeers {
        id: table.choice("id", PatientField::SubjectSerialNumber, &fields),
        policies,
        authentication: table.choice("authentication", AuthenticationLevel::User, LEVELS),
    }
}
