//! The registry's entries as the store holds them.

use std::fmt;

use gateway_tunnel::Network;
use policy::{DeviceId, DeviceName, RoleName, SiteName, UserName};
use serde::{Deserialize, Serialize};

use super::{
    Account, BackendDrain, Certificate, Delegation, DisplayName, EndedSessions, EnrolmentCode, Lockout, OpenedKey,
    UserCertificate, WireguardKey, inside,
};

/// The kinds of entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A clinic.
    Site,
    /// A terminal of a clinic.
    Device,
    /// A person at a clinic.
    User,
    /// A profession or duty.
    Role,
    /// A certificate that a device was given.
    Certificate,
    /// A one-time code that a device enrols with.
    EnrolmentCode,
    /// Which user the holder of a certificate is.
    UserCertificate,
    /// A lockout of the login guard, or failures that it counts.
    Lockout,
    /// What a user logs in by at the gateway itself.
    Account,
    /// A session of a user.
    Session,
    /// Leave to act for somebody.
    Delegation,
    /// The WireGuard key of a device.
    WireguardKey,
    /// A server of a service.
    Backend,
}

impl Kind {
    /// The name in messages and records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Site => "site",
            Self::Device => "device",
            Self::User => "user",
            Self::Role => "role",
            Self::Certificate => "certificate",
            Self::EnrolmentCode => "enrolment-code",
            Self::UserCertificate => "user-certificate",
            Self::Lockout => "lockout",
            Self::Account => "account",
            Self::Session => "session",
            Self::Delegation => "delegation",
            Self::WireguardKey => "wireguard-key",
            Self::Backend => "backend",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Whether an entry counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It counts.
    Active,
    /// Kept, and treated as if it were not there: nothing that needs it is let in (R27).
    Suspended,
}

impl Status {
    /// The name in the store and in messages.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// A user of a site.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId {
    /// The clinic.
    pub site: SiteName,
    /// The person within the clinic.
    pub user: UserName,
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.site, self.user)
    }
}

/// The name of an entry of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryName {
    /// A site.
    Site(SiteName),
    /// A device.
    Device(DeviceId),
    /// A user.
    User(UserId),
    /// A role.
    Role(RoleName),
    /// A certificate, by its serial number.
    Certificate(String),
    /// A one-time code, by the beginning of its hash.
    EnrolmentCode(String),
    /// A holder of certificates, by number and issuer.
    UserCertificate(String),
    /// What the login guard held something against.
    Lockout(String),
    /// A user's account.
    Account(UserId),
    /// Sessions that were ended.
    Session(String),
    /// Leave to act for somebody.
    Delegation(String),
    /// The key of a device.
    WireguardKey(DeviceId),
    /// A server of a service.
    Backend(String),
}

impl EntryName {
    /// What kind of entry it names.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Site(_) => Kind::Site,
            Self::Device(_) => Kind::Device,
            Self::User(_) => Kind::User,
            Self::Role(_) => Kind::Role,
            Self::Certificate(_) => Kind::Certificate,
            Self::EnrolmentCode(_) => Kind::EnrolmentCode,
            Self::UserCertificate(_) => Kind::UserCertificate,
            Self::Lockout(_) => Kind::Lockout,
            Self::Account(_) => Kind::Account,
            Self::Session(_) => Kind::Session,
            Self::Delegation(_) => Kind::Delegation,
            Self::WireguardKey(_) => Kind::WireguardKey,
            Self::Backend(_) => Kind::Backend,
        }
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site(name) => name.fmt(f),
            Self::Device(id) | Self::WireguardKey(id) => id.fmt(f),
            Self::User(id) | Self::Account(id) => id.fmt(f),
            Self::Role(name) => name.fmt(f),
            Self::Certificate(name)
            | Self::EnrolmentCode(name)
            | Self::UserCertificate(name)
            | Self::Lockout(name)
            | Self::Session(name)
            | Self::Delegation(name)
            | Self::Backend(name) => name.fmt(f),
        }
    }
}

/// A clinic or hospital (R1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Its name.
    pub name: SiteName,
    /// What people call it.
    pub display_name: DisplayName,
    /// A suspended site's devices are refused.
    pub status: Status,
    /// Changes with every edit; no other entry ever has the same.
    pub version: u64,
    /// Time of the last edit: RFC 3339, UTC.
    pub changed_at: String,
    /// Its ranges of addresses inside tunnels.
    #[serde(default, with = "inside::texts")]
    pub inside: Vec<Network>,
    /// What it calls itself in messages of HL7 v2 (MSH-4); sorted, each once.
    #[serde(default)]
    pub facilities: Vec<String>,
}

/// A managed terminal (R3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its site.
    pub site: SiteName,
    /// Its name within the site.
    pub name: DeviceName,
    /// What people call it.
    pub display_name: DisplayName,
    /// A suspended device is refused.
    pub status: Status,
    /// The user it is assigned to, of the same site.
    pub user: Option<UserName>,
    /// Roles of whoever uses it; sorted, each once.
    pub roles: Vec<RoleName>,
    /// What it calls itself in associations of DICOM; sorted, each once.
    #[serde(default)]
    pub ae_titles: Vec<String>,
    /// Changes with every edit, and when the status of one of its roles changes; no other entry ever has the same.
    pub version: u64,
    /// Time of the last edit: RFC 3339, UTC.
    pub changed_at: String,
}

impl Device {
    /// Site and name.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        DeviceId { site: self.site.clone(), device: self.name.clone() }
    }

    /// The assigned user, with the site.
    #[must_use]
    pub fn user_id(&self) -> Option<UserId> {
        self.user.clone().map(|user| UserId { site: self.site.clone(), user })
    }
}

/// A person, or an account that acts for one (R1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The site.
    pub site: SiteName,
    /// The name within the site.
    pub name: UserName,
    /// What people call the user.
    pub display_name: DisplayName,
    /// Devices assigned to a suspended user are refused.
    pub status: Status,
    /// The user's roles; sorted, each once.
    pub roles: Vec<RoleName>,
    /// Changes with every edit, and when the status of one of the roles changes; no other entry ever has the same.
    pub version: u64,
    /// Time of the last edit: RFC 3339, UTC.
    pub changed_at: String,
}

impl User {
    /// Site and name.
    #[must_use]
    pub fn id(&self) -> UserId {
        UserId { site: self.site.clone(), user: self.name.clone() }
    }
}

/// A profession or duty (R2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its name.
    pub name: RoleName,
    /// What people call it.
    pub display_name: DisplayName,
    /// Nobody has a suspended role, whoever it is assigned to.
    pub status: Status,
    /// Changes with every edit; no other entry ever has the same.
    pub version: u64,
    /// Time of the last edit: RFC 3339, UTC.
    pub changed_at: String,
}

/// An entry of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Entry {
    /// A site.
    Site(Site),
    /// A device.
    Device(Device),
    /// A user.
    User(User),
    /// A role.
    Role(Role),
    /// A certificate.
    Certificate(Certificate),
    /// A one-time code.
    EnrolmentCode(EnrolmentCode),
    /// Which user the holder of a certificate is.
    UserCertificate(UserCertificate),
    /// A lockout, or failures, that an operator lifted.
    Lockout(Lockout),
    /// A change of what a user logs in by.
    Account(Account),
    /// Sessions that an operator ended.
    Session(EndedSessions),
    /// Leave to act for somebody.
    Delegation(Delegation),
    /// The WireGuard key of a device.
    WireguardKey(WireguardKey),
    /// A server that takes no new requests.
    Backend(BackendDrain),
}

impl Entry {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> EntryName {
        match self {
            Self::Site(site) => EntryName::Site(site.name.clone()),
            Self::Device(device) => EntryName::Device(device.id()),
            Self::User(user) => EntryName::User(user.id()),
            Self::Role(role) => EntryName::Role(role.name.clone()),
            Self::Certificate(certificate) => EntryName::Certificate(certificate.serial.clone()),
            Self::EnrolmentCode(code) => EntryName::EnrolmentCode(code.id.clone()),
            Self::UserCertificate(binding) => EntryName::UserCertificate(binding.name()),
            Self::Lockout(lockout) => EntryName::Lockout(lockout.lifted.name()),
            Self::Account(account) => EntryName::Account(account.id()),
            Self::Session(ended) => EntryName::Session(ended.target.name()),
            Self::Delegation(delegation) => EntryName::Delegation(delegation.name()),
            Self::WireguardKey(key) => EntryName::WireguardKey(key.id()),
            Self::Backend(drain) => EntryName::Backend(drain.name()),
        }
    }
}

/// Every entry at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entries {
    /// Number of the last change they contain.
    pub sequence: u64,
    /// Sorted by name.
    pub sites: Vec<Site>,
    /// Sorted by site and name.
    pub devices: Vec<Device>,
    /// Sorted by site and name.
    pub users: Vec<User>,
    /// Sorted by name.
    pub roles: Vec<Role>,
    /// Sorted by issuer and number.
    pub user_certificates: Vec<UserCertificate>,
    /// Sorted by site, who may act and for whom.
    pub delegations: Vec<Delegation>,
    /// Sorted by site and device.
    pub wireguard_keys: Vec<OpenedKey>,
}
