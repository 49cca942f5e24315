//! The registry as the hot path reads it: from a proved peer to a subject or a refusal, in two look-ups.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use certs::PeerIdentity;
use certs::hpki::RoleTable;
use certs::peers::Holder;
use policy::login::Origin;
use policy::token::Roles;
use policy::{
    ActingFor, AuthenticationLevel, DeviceId, DeviceName, EntityVersions, Party, Refusal, RoleName, SiteName, Subject,
    UserName,
};

use crate::store::{Device, Entries, Site, Status, User};

/// What a door says of the people whose certificates it proved.
#[derive(Debug, Clone, Copy)]
pub struct Proved<'a> {
    /// What qualifications stand for.
    pub roles: &'a RoleTable,
    /// How strongly a person is known.
    pub level: AuthenticationLevel,
}

/// Every registered device at one moment. Immutable; a change of the registry makes a new one.
///
/// Closed by default: a new directory knows nobody and refuses everybody.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    version: u64,
    sites: HashMap<SiteName, SiteEntry>,
    /// Who the holders of users' certificates are.
    holders: HashMap<Holder, Result<Arc<Subject>, Refusal>>,
    /// What nobody has, whatever a certificate says.
    suspended_roles: HashSet<RoleName>,
    counts: Counts,
}

/// Entries by status, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Sites.
    pub sites: StatusCounts,
    /// Devices, by their own status, whatever their site's and user's is.
    pub devices: StatusCounts,
    /// Users.
    pub users: StatusCounts,
    /// Roles.
    pub roles: StatusCounts,
}

/// How many entries of one kind have each status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatusCounts {
    /// Active entries.
    pub active: u64,
    /// Suspended entries.
    pub suspended: u64,
}

#[derive(Debug, Clone)]
struct SiteEntry {
    status: Status,
    devices: HashMap<DeviceName, Result<Arc<Subject>, Refusal>>,
    /// The roles of those devices that have some of their own.
    device_roles: HashMap<DeviceName, Box<[RoleName]>>,
    users: HashMap<UserName, Result<Person, Refusal>>,
    /// For whom users may act.
    delegations: HashMap<UserName, Vec<Grant>>,
}

/// For whom a user may act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// For whom.
    pub acts_for: UserName,
    /// When it ends, seconds since 1970; none: when it is removed.
    pub until_s: Option<i64>,
}

impl Grant {
    /// Whether it is over by then, nanoseconds since 1970.
    #[must_use]
    pub fn is_over(&self, unix_ns: i64) -> bool {
        self.until_s.is_some_and(|until_s| unix_ns >= until_s.saturating_mul(1_000_000_000))
    }
}

/// A user, whatever device they are at.
#[derive(Debug, Clone)]
struct Person {
    version: u64,
    roles: Box<[RoleName]>,
}

impl SiteEntry {
    fn new(status: Status) -> Self {
        Self {
            status,
            devices: HashMap::new(),
            device_roles: HashMap::new(),
            users: HashMap::new(),
            delegations: HashMap::new(),
        }
    }
}

impl Directory {
    /// Makes the directory of these entries. Pure.
    #[must_use]
    pub fn build(entries: &Entries) -> Self {
        let active: HashSet<&RoleName> =
            entries.roles.iter().filter(|role| role.status == Status::Active).map(|role| &role.name).collect();
        let users: HashMap<(&SiteName, &UserName), &User> =
            entries.users.iter().map(|user| ((&user.site, &user.name), user)).collect();
        let mut sites: HashMap<SiteName, (&Site, SiteEntry)> =
            entries.sites.iter().map(|site| (site.name.clone(), (site, SiteEntry::new(site.status)))).collect();
        for device in &entries.devices {
            // A device of a site that is not there is refused as of an unregistered site; the store has none.
            if let Some((site, entry)) = sites.get_mut(&device.site) {
                let user = device.user.as_ref().map(|user| users.get(&(&device.site, user)).copied());
                entry.devices.insert(device.name.clone(), judge(site, device, user, &active));
                let own: Box<[_]> = device.roles.iter().filter(|role| active.contains(role)).cloned().collect();
                if !own.is_empty() {
                    entry.device_roles.insert(device.name.clone(), own);
                }
            }
        }
        for user in &entries.users {
            if let Some((_, entry)) = sites.get_mut(&user.site) {
                let roles = user.roles.iter().filter(|role| active.contains(role)).cloned().collect();
                let person = Person { version: user.version, roles };
                let is_active = user.status == Status::Active;
                entry.users.insert(user.name.clone(), is_active.then_some(person).ok_or(Refusal::UserSuspended));
            }
        }
        for delegation in &entries.delegations {
            if let Some((_, entry)) = sites.get_mut(&delegation.site) {
                let grant = Grant { acts_for: delegation.acts_for.clone(), until_s: delegation.until_s };
                entry.delegations.entry(delegation.user.clone()).or_default().push(grant);
            }
        }
        let mut holders = HashMap::new();
        for binding in &entries.user_certificates {
            let site = sites.get(&binding.site).map(|(site, _)| *site);
            let user = users.get(&(&binding.site, &binding.user)).copied();
            holders.insert(binding.holder(), judge_user(site, user, &active));
        }
        let suspended = entries.roles.iter().filter(|role| role.status == Status::Suspended);
        Self {
            version: entries.sequence,
            holders,
            suspended_roles: suspended.map(|role| role.name.clone()).collect(),
            sites: sites.into_iter().map(|(name, (_, entry))| (name, entry)).collect(),
            counts: Counts {
                sites: count(entries.sites.iter().map(|site| site.status)),
                devices: count(entries.devices.iter().map(|device| device.status)),
                users: count(entries.users.iter().map(|user| user.status)),
                roles: count(entries.roles.iter().map(|role| role.status)),
            },
        }
    }

    /// Who stands behind a proved device.
    ///
    /// # Errors
    /// [`Refusal::SiteUnregistered`], [`Refusal::SiteSuspended`], [`Refusal::DeviceUnregistered`],
    /// [`Refusal::DeviceSuspended`], or [`Refusal::UserSuspended`] if the user it is assigned to is suspended or gone:
    /// the first that holds, in this order.
    pub fn lookup(&self, id: &DeviceId) -> Result<Arc<Subject>, Refusal> {
        let site = self.sites.get(&id.site).ok_or(Refusal::SiteUnregistered)?;
        match site.status {
            Status::Suspended => Err(Refusal::SiteSuspended),
            Status::Active => site.devices.get(&id.device).cloned().unwrap_or(Err(Refusal::DeviceUnregistered)),
        }
    }

    /// Who the holder of a user's certificate is, with the roles that the registry gives.
    ///
    /// # Errors
    /// [`Refusal::UserUnregistered`] if nobody said who the holder is; [`Refusal::SiteSuspended`] or
    /// [`Refusal::UserSuspended`].
    pub fn user_of(&self, holder: &Holder) -> Result<Arc<Subject>, Refusal> {
        self.holders.get(holder).cloned().unwrap_or(Err(Refusal::UserUnregistered))
    }

    fn person(&self, site: &str, user: &UserName) -> Result<&Person, Refusal> {
        let site = self.sites.get(site).ok_or(Refusal::SiteUnregistered)?;
        match site.status {
            Status::Suspended => Err(Refusal::SiteSuspended),
            Status::Active => site.users.get(user).map_or(Err(Refusal::UserUnregistered), |person| match person {
                Ok(person) => Ok(person),
                Err(refusal) => Err(*refusal),
            }),
        }
    }

    /// A user who has logged in at a device: with the roles of both, and without whoever the device is assigned to.
    ///
    /// # Errors
    /// As [`Directory::lookup`], and [`Refusal::UserUnregistered`] or [`Refusal::UserSuspended`] of the one who has logged in.
    pub fn user_at(
        &self,
        device: &DeviceId,
        user: &UserName,
        level: AuthenticationLevel,
    ) -> Result<Arc<Subject>, Refusal> {
        let bare = self.lookup(device)?;
        let person = self.person(device.site.as_str(), user)?;
        let own = self.sites.get(&device.site).and_then(|site| site.device_roles.get(&device.device));
        let mut roles: Vec<RoleName> = own.into_iter().flatten().chain(&person.roles).cloned().collect();
        roles.sort();
        roles.dedup();
        Ok(Arc::new(Subject {
            party: Party::Device { device: device.clone(), user: Some(user.clone()) },
            roles: roles.into(),
            authentication_level: level,
            versions: EntityVersions { user: person.version, ..bare.versions },
            acting_for: None,
        }))
    }

    /// For whom a user may act at this moment, nanoseconds since 1970: users who are active themselves. Nobody who may do nothing
    /// may act for anybody.
    pub fn grants<'a>(
        &'a self,
        site: &'a str,
        user: &UserName,
        unix_ns: i64,
    ) -> impl Iterator<Item = &'a Grant> + use<'a> {
        let known = self.person(site, user).ok().and_then(|_| self.sites.get(site)?.delegations.get(user));
        let is_good = move |grant: &&Grant| !grant.is_over(unix_ns) && self.person(site, &grant.acts_for).is_ok();
        known.into_iter().flatten().filter(is_good)
    }

    /// Whom a user acts for, and until when, seconds since 1970, where that ends by itself.
    ///
    /// # Errors
    /// [`Refusal::ActingNotGranted`] if that is not granted, or not any more.
    pub fn acting_for(
        &self,
        site: &SiteName,
        user: &UserName,
        acts_for: &UserName,
        unix_ns: i64,
    ) -> Result<(Arc<ActingFor>, Option<i64>), Refusal> {
        let mut grants = self.grants(site.as_str(), user, unix_ns);
        let grant = grants.find(|grant| grant.acts_for == *acts_for).ok_or(Refusal::ActingNotGranted)?;
        let person = self.person(site.as_str(), acts_for).map_err(|_| Refusal::ActingNotGranted)?;
        let mut roles = person.roles.to_vec();
        roles.sort();
        let acting_for = ActingFor { user: acts_for.clone(), roles: roles.into(), version: person.version };
        Ok((Arc::new(acting_for), grant.until_s))
    }

    /// The roles of whoever has a session there: those of its user, without those of the device. `place` is a device, or a card
    /// or a patient as [`origin_of`](crate::login::origin_of) has them.
    ///
    /// # Errors
    /// As [`Directory::user_at`], if the registry takes site, device or user no more.
    pub fn roles_at(&self, place: &Origin, user: Option<&UserName>) -> Result<Vec<RoleName>, Refusal> {
        if place.site.is_empty() {
            return Ok(Vec::new());
        }
        let site = SiteName::new(&place.site).map_err(|_| Refusal::SiteUnregistered)?;
        if place.device.contains('/') {
            let site = self.sites.get(&site).ok_or(Refusal::SiteUnregistered)?;
            if site.status == Status::Suspended {
                return Err(Refusal::SiteSuspended);
            }
            if let Some(holder) = place.device.strip_prefix("user/").and_then(|name| UserName::new(name).ok()) {
                self.person(&place.site, &holder)?;
            }
        } else {
            let device = DeviceName::new(&place.device).map_err(|_| Refusal::DeviceUnregistered)?;
            self.lookup(&DeviceId { site, device })?;
        }
        user.map_or(Ok(Vec::new()), |user| Ok(self.person(&place.site, user)?.roles.to_vec()))
    }

    /// May the peer connect?
    ///
    /// # Errors
    /// As [`Directory::lookup`] and [`Directory::user_of`]; nobody registers patients.
    pub fn admit(&self, peer: &PeerIdentity) -> Result<(), Refusal> {
        match peer {
            PeerIdentity::Device(device) => self.lookup(device).map(drop),
            PeerIdentity::User { holder, .. } => self.user_of(holder).map(drop),
            PeerIdentity::Patient(_) => Ok(()),
        }
    }

    /// Who asks, once the peer was proved at a door. The roles of a user are those of the registry and those that the
    /// certificate's qualifications stand for, without the suspended.
    ///
    /// # Errors
    /// As [`Directory::admit`].
    pub fn subject(&self, peer: &PeerIdentity, proved: Proved<'_>) -> Result<Arc<Subject>, Refusal> {
        match peer {
            PeerIdentity::Device(device) => self.lookup(device),
            PeerIdentity::User { holder, qualifications } => {
                let mut subject = Subject::clone(&*self.user_of(holder)?);
                let by_card = qualifications.iter().filter_map(|text| proved.roles.role(text)?.role.parse().ok());
                subject.roles.extend(by_card.filter(|role: &RoleName| !self.suspended_roles.contains(role)));
                subject.roles.sort();
                subject.roles.dedup();
                subject.authentication_level = proved.level;
                Ok(Arc::new(subject))
            }
            PeerIdentity::Patient(patient) => Ok(Arc::new(Subject {
                party: Party::Patient(patient.clone()),
                roles: [].into_iter().collect(),
                authentication_level: proved.level,
                versions: EntityVersions::default(),
                acting_for: None,
            })),
        }
    }

    /// Whether a user of a site may do anything at all.
    ///
    /// # Errors
    /// [`Refusal::SiteUnregistered`], [`Refusal::SiteSuspended`], [`Refusal::UserUnregistered`] or
    /// [`Refusal::UserSuspended`]: the first that holds.
    pub fn admit_user(&self, site: &SiteName, user: &UserName) -> Result<(), Refusal> {
        self.person(site.as_str(), user).map(drop)
    }

    /// Who asks, once somebody who is trusted to know said that it is this user of the peer's site. Whom a device is
    /// assigned to is only what is supposed until then: the user takes that one's place, roles included. A user who proved
    /// a certificate stays who that says. The roles are the user's and the device's own, as `roles` says; the suspended
    /// are never among them.
    ///
    /// # Errors
    /// As [`admit_user`](Self::admit_user); [`Refusal::TokenInvalid`] if the peer is another user, or nobody's user can be.
    pub fn with_user(
        &self,
        peer: &Subject,
        user: &UserName,
        roles: &Roles,
        level: AuthenticationLevel,
    ) -> Result<Subject, Refusal> {
        let site = peer.site().ok_or(Refusal::TokenInvalid)?;
        let person = self.person(site.as_str(), user)?;
        let (party, own) = match &peer.party {
            Party::Device { device, .. } => {
                let entry = self.sites.get(&device.site).and_then(|entry| entry.device_roles.get(&device.device));
                let party = Party::Device { device: device.clone(), user: Some(user.clone()) };
                (party, entry.map_or(&[][..], |roles| roles))
            }
            Party::User { user: proved, .. } if proved == user => (peer.party.clone(), &[][..]),
            Party::User { .. } | Party::Patient(_) => return Err(Refusal::TokenInvalid),
        };
        // A certificate's own qualifications are among the roles of whoever proved it.
        let known = match &peer.party {
            Party::User { .. } => &peer.roles[..],
            Party::Device { .. } | Party::Patient(_) => &person.roles[..],
        };
        let mut held: Vec<RoleName> = match roles {
            Roles::Registry => known.to_vec(),
            Roles::Only(these) => known.iter().filter(|role| these.contains(role)).cloned().collect(),
            Roles::And(these) => {
                let mapped = these.iter().filter(|role| !self.suspended_roles.contains(*role));
                known.iter().chain(mapped).cloned().collect()
            }
        };
        held.extend_from_slice(own);
        held.sort();
        held.dedup();
        Ok(Subject {
            party,
            roles: held.into(),
            authentication_level: level.max(peer.authentication_level),
            versions: EntityVersions { user: person.version, ..peer.versions },
            acting_for: None,
        })
    }

    /// Number of the last change of the registry that this directory contains; 0 before the first.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// How many entries there are, by status.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }
}

/// `user` is none where the device has no user, and holds none where its user is gone.
fn judge(
    site: &Site,
    device: &Device,
    user: Option<Option<&User>>,
    active: &HashSet<&RoleName>,
) -> Result<Arc<Subject>, Refusal> {
    match device.status {
        Status::Suspended => return Err(Refusal::DeviceSuspended),
        Status::Active => {}
    }
    let user = match user {
        None => None,
        Some(Some(user)) if user.status == Status::Active => Some(user),
        Some(_) => return Err(Refusal::UserSuspended),
    };
    let held = device.roles.iter().chain(user.iter().flat_map(|user| &user.roles));
    let mut roles: Vec<RoleName> = held.filter(|role| active.contains(role)).cloned().collect();
    roles.sort();
    roles.dedup();
    Ok(Arc::new(Subject {
        party: Party::Device { device: device.id(), user: user.map(|user| user.name.clone()) },
        roles: roles.into(),
        authentication_level: AuthenticationLevel::Device,
        versions: EntityVersions {
            site: site.version,
            device: device.version,
            user: user.map_or(0, |user| user.version),
        },
        acting_for: None,
    }))
}

/// Who comes without a device. The store has no holder whose user or site is not there.
fn judge_user(site: Option<&Site>, user: Option<&User>, active: &HashSet<&RoleName>) -> Result<Arc<Subject>, Refusal> {
    let (Some(site), Some(user)) = (site, user) else { return Err(Refusal::UserUnregistered) };
    match (site.status, user.status) {
        (Status::Suspended, _) => return Err(Refusal::SiteSuspended),
        (Status::Active, Status::Suspended) => return Err(Refusal::UserSuspended),
        (Status::Active, Status::Active) => {}
    }
    let mut roles: Vec<RoleName> = user.roles.iter().filter(|role| active.contains(role)).cloned().collect();
    roles.sort();
    Ok(Arc::new(Subject {
        party: Party::User { site: user.site.clone(), user: user.name.clone() },
        roles: roles.into(),
        authentication_level: AuthenticationLevel::User,
        versions: EntityVersions { site: site.version, device: 0, user: user.version },
        acting_for: None,
    }))
}

fn count(statuses: impl Iterator<Item = Status>) -> StatusCounts {
    let mut counts = StatusCounts::default();
    for status in statuses {
        match status {
            Status::Active => counts.active = counts.active.saturating_add(1),
            Status::Suspended => counts.suspended = counts.suspended.saturating_add(1),
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DisplayName, Role, UserCertificate};

    fn site(name: &str, status: Status) -> Site {
        let (name, display_name) = (name.parse().unwrap(), DisplayName::default());
        Site { name, display_name, status, version: 1, changed_at: String::new() }
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
                        devices: device_state
                            .map(|s| device("d", s, user_state.map(|_| "u"), &[]))
                            .into_iter()
                            .collect(),
                        users: user_state.flatten().map(|s| user("u", s, &[])).into_iter().collect(),
                        roles: Vec::new(),
                        user_certificates: Vec::new(),
                        delegations: Vec::new(),
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
            (
                Roles::And(names(&["head", "porter", "nurse"])),
                vec!["clerk", "head", "nurse", "ward"],
                "but what is mapped",
            ),
        ] {
            assert_eq!(with("v", &said).unwrap().roles.to_vec(), names::<RoleName>(&roles), "{why}");
        }
        assert_eq!(with("w", &Roles::Registry), Err(Refusal::UserSuspended));
        assert_eq!(with("x", &Roles::Registry), Err(Refusal::UserUnregistered));
        let (table, level) = (RoleTable::default(), AuthenticationLevel::TwoFactor);
        let proved = directory.subject(&card("7", &["Medical Doctor"]), Proved { roles: &table, level }).unwrap();
        let by_card = |user: &str| {
            directory.with_user(&proved, &user.parse().unwrap(), &Roles::Registry, AuthenticationLevel::User)
        };
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
                ..Entries::default()
            })
        };
        let (s, u, v): (SiteName, UserName, UserName) =
            ("s".parse().unwrap(), "u".parse().unwrap(), "v".parse().unwrap());
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
}
