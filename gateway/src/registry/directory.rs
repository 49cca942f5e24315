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

mod called;
mod tunnels;

pub use tunnels::TunnelKey;

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
    tunnel_keys: Arc<[TunnelKey]>,
    unreadable_tunnel_keys: u64,
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
    /// What it calls itself in HL7 v2.
    facilities: Box<[String]>,
    /// What those devices call themselves in DICOM that do.
    ae_titles: HashMap<DeviceName, Box<[String]>>,
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
    fn new(site: &Site) -> Self {
        Self {
            status: site.status,
            devices: HashMap::new(),
            device_roles: HashMap::new(),
            users: HashMap::new(),
            delegations: HashMap::new(),
            facilities: site.facilities.clone().into(),
            ae_titles: HashMap::new(),
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
            entries.sites.iter().map(|site| (site.name.clone(), (site, SiteEntry::new(site)))).collect();
        for device in &entries.devices {
            // A device of a site that is not there is refused as of an unregistered site; the store has none.
            if let Some((site, entry)) = sites.get_mut(&device.site) {
                if !device.ae_titles.is_empty() {
                    entry.ae_titles.insert(device.name.clone(), device.ae_titles.clone().into());
                }
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
        let mut directory = Self {
            version: entries.sequence,
            holders,
            suspended_roles: suspended.map(|role| role.name.clone()).collect(),
            sites: sites.into_iter().map(|(name, (_, entry))| (name, entry)).collect(),
            tunnel_keys: Arc::default(),
            unreadable_tunnel_keys: 0,
            counts: Counts {
                sites: count(entries.sites.iter().map(|site| site.status)),
                devices: count(entries.devices.iter().map(|device| device.status)),
                users: count(entries.users.iter().map(|user| user.status)),
                roles: count(entries.roles.iter().map(|role| role.status)),
            },
        };
        (directory.tunnel_keys, directory.unreadable_tunnel_keys) = tunnels::keys(&directory, entries);
        directory
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

    /// Every site, and whether it is active.
    pub fn sites(&self) -> impl Iterator<Item = (&SiteName, bool)> {
        self.sites.iter().map(|(name, site)| (name, site.status == Status::Active))
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
mod tests;
