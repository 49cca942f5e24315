//! Who stands behind a peer, and who may act for whom.

use super::*;
use crate::store::{DisplayName, Role, UserCertificate};

fn site(name: &str, status: Status) -> Site {
    let (name, display_name) = (name.parse().unwrap(), DisplayName::default());
    Site {
        name,
        display_name,
        status,
        version: 1,
        changed_at: String::new(),
        inside: Vec::new(),
        facilities: Vec::new(),
    }
}

fn role(name: &str, status: Status) -> Role {
    let (name, display_name) = (name.parse().unwrap(), DisplayName::default());
    Role { name, display_name, status, version: 2, changed_at: String::new() }
}

fn names<T: std::str::FromStr>(names: &[&str]) -> Vec<T>
where
    T::Err: std::fmt::Debug,
{
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn user(name: &str, status: Status, roles: &[&str]) -> User {
    User {
        site: "s".parse().unwrap(),
        name: name.parse().unwrap(),
        display_name: DisplayName::default(),
        status,
        roles: names(roles),
        version: 3,
        changed_at: String::new(),
    }
}

fn device(name: &str, status: Status, user: Option<&str>, roles: &[&str]) -> Device {
    Device {
        site: "s".parse().unwrap(),
        name: name.parse().unwrap(),
        display_name: DisplayName::default(),
        status,
        user: user.map(|user| user.parse().unwrap()),
        roles: names(roles),
        ae_titles: Vec::new(),
        version: 4,
        changed_at: String::new(),
    }
}

fn id(site: &str, device: &str) -> DeviceId {
    DeviceId { site: site.parse().unwrap(), device: device.parse().unwrap() }
}

/// Each row: status of site, device and user (none: not registered; the user may also be unassigned).
#[test]
fn the_first_refusal_that_holds_is_given() {
    use Status::{Active, Suspended};
    let states = [None, Some(Active), Some(Suspended)];
    for site_state in states {
        for device_state in states {
            for user_state in [None, Some(None), Some(Some(Active)), Some(Some(Suspended))] {
                let entries = Entries {
                    sequence: 9,
                    sites: site_state.map(|s| site("s", s)).into_iter().collect(),
                    devices: device_state.map(|s| device("d", s, user_state.map(|_| "u"), &[])).into_iter().collect(),
                    users: user_state.flatten().map(|s| user("u", s, &[])).into_iter().collect(),
                    roles: Vec::new(),
                    user_certificates: Vec::new(),
                    delegations: Vec::new(),
                    wireguard_keys: Vec::new(),
                };
                let expected = match (site_state, device_state, user_state) {
                    (None, _, _) => Err(Refusal::SiteUnregistered),
                    (Some(Suspended), _, _) => Err(Refusal::SiteSuspended),
                    (Some(Active), None, _) => Err(Refusal::DeviceUnregistered),
                    (Some(Active), Some(Suspended), _) => Err(Refusal::DeviceSuspended),
                    (Some(Active), Some(Active), Some(None | Some(Suspended))) => Err(Refusal::UserSuspended),
                    (Some(Active), Some(Active), Some(Some(Active))) => Ok(Some("u".parse().unwrap())),
                    (Some(Active), Some(Active), None) => Ok(None),
                };
                let found = Directory::build(&entries).lookup(&id("s", "d")).map(|s| s.user().cloned());
                assert_eq!(found, expected, "{site_state:?} {device_state:?} {user_state:?}");
            }
        }
    }
}

#[test]
fn roles_are_those_of_user_and_device_without_the_suspended() {
    let entries = Entries {
        sequence: 9,
        sites: vec![site("s", Status::Active)],
        devices: vec![device("d", Status::Active, Some("u"), &["nurse", "porter", "ward"])],
        users: vec![user("u", Status::Active, &["doctor", "nurse", "gone"])],
        roles: vec![
            role("doctor", Status::Active),
            role("nurse", Status::Active),
            role("porter", Status::Suspended),
            role("ward", Status::Active),
        ],
        user_certificates: Vec::new(),
        delegations: Vec::new(),
        wireguard_keys: Vec::new(),
    };
    let directory = Directory::build(&entries);
    let subject = directory.lookup(&id("s", "d")).unwrap();
    assert_eq!(subject.roles.to_vec(), names::<RoleName>(&["doctor", "nurse", "ward"]));
    assert_eq!(subject.versions, EntityVersions { site: 1, device: 4, user: 3 });
    assert_eq!(subject.authentication_level, AuthenticationLevel::Device);
    assert_eq!(directory.version(), 9);
    assert_eq!(directory.counts().roles, StatusCounts { active: 3, suspended: 1 });
    assert_eq!(directory.counts().devices, StatusCounts { active: 1, suspended: 0 });
}

fn binding(user: &str) -> UserCertificate {
    let issuer = Holder { issuer: [1; 32], number: String::new() }.issuer_hex();
    let (site, user) = ("s".parse().unwrap(), user.parse().unwrap());
    UserCertificate { issuer, number: "7".to_owned(), site, user, added_at: String::new() }
}

fn card(number: &str, qualifications: &[&str]) -> PeerIdentity {
    let qualifications = qualifications.iter().map(|&text| text.to_owned()).collect();
    PeerIdentity::User { holder: Holder { issuer: [1; 32], number: number.to_owned() }, qualifications }
}

#[test]
fn a_holder_is_the_user_that_the_registry_says() {
    use Status::{Active, Suspended};
    for (site_state, user_state, expected) in [
        (Active, Active, Ok(())),
        (Active, Suspended, Err(Refusal::UserSuspended)),
        (Suspended, Active, Err(Refusal::SiteSuspended)),
        (Suspended, Suspended, Err(Refusal::SiteSuspended)),
    ] {
        let entries = Entries {
            sites: vec![site("s", site_state)],
            users: vec![user("u", user_state, &[])],
            user_certificates: vec![binding("u")],
            delegations: Vec::new(),
            wireguard_keys: Vec::new(),
            ..Entries::default()
        };
        let directory = Directory::build(&entries);
        assert_eq!(directory.admit(&card("7", &[])), expected, "{site_state:?} {user_state:?}");
        assert_eq!(directory.admit(&card("8", &[])), Err(Refusal::UserUnregistered));
        let other = Holder { issuer: [2; 32], number: "7".to_owned() };
        assert_eq!(directory.user_of(&other), Err(Refusal::UserUnregistered), "the issuer counts");
    }
}

#[test]
fn roles_are_those_of_user_and_card_without_the_suspended() {
    let entries = Entries {
        sites: vec![site("s", Status::Active)],
        users: vec![user("u", Status::Active, &["head", "gone"])],
        roles: vec![
            role("head", Status::Active),
            role("gone", Status::Suspended),
            role("pharmacist", Status::Suspended),
        ],
        user_certificates: vec![binding("u")],
        delegations: Vec::new(),
        wireguard_keys: Vec::new(),
        ..Entries::default()
    };
    let (directory, table) = (Directory::build(&entries), RoleTable::default());
    let proved = Proved { roles: &table, level: AuthenticationLevel::TwoFactor };
    let peer = card("7", &["Medical Doctor", "Pharmacist", "Fortune Teller", "Medical Doctor"]);
    let subject = directory.subject(&peer, proved).unwrap();
    assert_eq!(subject.roles.to_vec(), names::<RoleName>(&["head", "medical-doctor"]));
    assert_eq!(subject.party, Party::User { site: "s".parse().unwrap(), user: "u".parse().unwrap() });
    assert_eq!(subject.authentication_level, AuthenticationLevel::TwoFactor);
    assert_eq!(subject.versions, EntityVersions { site: 1, device: 0, user: 3 });
}

#[test]
fn whoever_a_token_names_takes_the_place_of_whom_the_device_is_assigned_to() {
    use Status::{Active, Suspended};
    let entries = Entries {
        sites: vec![site("s", Active)],
        devices: vec![device("d", Active, Some("u"), &["ward", "porter"])],
        users: vec![
            user("u", Active, &["doctor"]),
            user("v", Active, &["nurse", "clerk", "porter"]),
            user("w", Suspended, &["doctor"]),
        ],
        roles: ["doctor", "nurse", "clerk", "ward", "head"]
            .iter()
            .map(|name| role(name, Active))
            .chain([role("porter", Suspended)])
            .collect(),
        user_certificates: vec![binding("v")],
        delegations: Vec::new(),
        wireguard_keys: Vec::new(),
        ..Entries::default()
    };
    let directory = Directory::build(&entries);
    let peer = directory.lookup(&id("s", "d")).unwrap();
    let with = |user: &str, roles: &Roles| {
        directory.with_user(&peer, &user.parse().unwrap(), roles, AuthenticationLevel::User)
    };
    let subject = with("v", &Roles::Registry).unwrap();
    assert_eq!(subject.party, Party::Device { device: id("s", "d"), user: Some("v".parse().unwrap()) });
    assert_eq!(subject.roles.to_vec(), names::<RoleName>(&["clerk", "nurse", "ward"]), "not the doctor's");
    assert_eq!(subject.authentication_level, AuthenticationLevel::User);
    assert_eq!(subject.versions, EntityVersions { site: 1, device: 4, user: 3 });
    for (said, roles, why) in [
        (Roles::Only(names(&["nurse", "head"])), vec!["nurse", "ward"], "never more than the registry"),
        (Roles::Only(Vec::new()), vec!["ward"], "the device keeps its own"),
        (Roles::And(names(&["head", "porter", "nurse"])), vec!["clerk", "head", "nurse", "ward"], "but what is mapped"),
    ] {
        assert_eq!(with("v", &said).unwrap().roles.to_vec(), names::<RoleName>(&roles), "{why}");
    }
    assert_eq!(with("w", &Roles::Registry), Err(Refusal::UserSuspended));
    assert_eq!(with("x", &Roles::Registry), Err(Refusal::UserUnregistered));
    let (table, level) = (RoleTable::default(), AuthenticationLevel::TwoFactor);
    let proved = directory.subject(&card("7", &["Medical Doctor"]), Proved { roles: &table, level }).unwrap();
    let by_card =
        |user: &str| directory.with_user(&proved, &user.parse().unwrap(), &Roles::Registry, AuthenticationLevel::User);
    assert_eq!(by_card("v").unwrap(), *proved, "the card says who it is, how strongly, and what");
    assert_eq!(by_card("u"), Err(Refusal::TokenInvalid), "a token makes nobody somebody else");
    let patient =
        Subject { party: Party::Patient(policy::Patient::new(&[1; 32], "1").unwrap()), ..Subject::clone(&peer) };
    let said = directory.with_user(&patient, &"u".parse().unwrap(), &Roles::Registry, AuthenticationLevel::User);
    assert_eq!(said, Err(Refusal::TokenInvalid));
}

#[test]
fn a_patient_has_neither_site_nor_role() {
    let patient = policy::Patient::new(&[1; 32], "1").unwrap();
    let table = RoleTable::default();
    let proved = Proved { roles: &table, level: AuthenticationLevel::User };
    let subject = Directory::default().subject(&PeerIdentity::Patient(patient.clone()), proved).unwrap();
    assert_eq!((subject.patient(), subject.site(), subject.roles.len()), (Some(&patient), None, 0));
}

/// Leave is good while it is granted, its time is not over, and both users are active.
#[test]
fn a_user_acts_for_whom_the_registry_says() {
    let delegation = |until_s| crate::store::Delegation {
        site: "s".parse().unwrap(),
        user: "u".parse().unwrap(),
        acts_for: "v".parse().unwrap(),
        until_s,
        added_at: String::new(),
    };
    let build = |u, v, site_status, until_s| {
        Directory::build(&Entries {
            sites: vec![site("s", site_status)],
            users: vec![user("u", u, &["clerk"]), user("v", v, &["doctor", "gone"])],
            roles: vec![role("doctor", Status::Active), role("clerk", Status::Active)],
            delegations: vec![delegation(until_s)],
            wireguard_keys: Vec::new(),
            ..Entries::default()
        })
    };
    let (s, u, v): (SiteName, UserName, UserName) = ("s".parse().unwrap(), "u".parse().unwrap(), "v".parse().unwrap());
    const NOW: i64 = 1_000_000_000_000;
    let may = |directory: &Directory, user, acts_for| directory.acting_for(&s, user, acts_for, NOW);
    let active = Status::Active;
    let good = build(active, active, active, None);
    let (acting_for, until_s) = may(&good, &u, &v).unwrap();
    assert_eq!((acting_for.user.as_str(), &acting_for.roles[..], until_s), ("v", &names(&["doctor"])[..], None));
    assert!(may(&good, &v, &u).is_err(), "not the other way round");
    assert!(may(&build(active, active, active, Some(1_001)), &u, &v).is_ok());
    for bad in [
        build(active, active, active, Some(1_000)),
        build(active, Status::Suspended, active, None),
        build(Status::Suspended, active, active, None),
        build(active, active, Status::Suspended, None),
    ] {
        assert_eq!(may(&bad, &u, &v).unwrap_err(), Refusal::ActingNotGranted);
    }
}

#[test]
fn an_empty_directory_refuses_everybody() {
    assert_eq!(Directory::default().lookup(&id("s", "d")), Err(Refusal::SiteUnregistered));
}
