//! Who asks: site, device, user and roles, kept apart (R13).

use std::fmt;

use smallvec::SmallVec;

use crate::{DeviceName, RoleName, SiteName, UserName};

/// A device of a site: what a client certificate or a WireGuard key proves.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId {
    /// The clinic.
    pub site: SiteName,
    /// The terminal within the clinic.
    pub device: DeviceName,
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.site, self.device)
    }
}

/// How strongly the user behind a request is known. Ordered: a policy may demand at least a level (R9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AuthenticationLevel {
    /// Only the device is proved; the user, if any, is the one it is assigned to.
    Device,
    /// The user has logged in.
    User,
    /// The user has logged in with two independent factors.
    TwoFactor,
}

impl AuthenticationLevel {
    /// The number that policies compare: 1, 2 or 3.
    #[must_use]
    pub const fn level(self) -> i64 {
        match self {
            Self::Device => 1,
            Self::User => 2,
            Self::TwoFactor => 3,
        }
    }

    /// The name in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::User => "user",
            Self::TwoFactor => "two-factor",
        }
    }
}

/// Versions of the registry's entries that a subject was made from. An entry's version changes with every edit of
/// it and never comes back, so that a decision cached for an old version is never found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EntityVersions {
    /// Version of the site's entry.
    pub site: u64,
    /// Version of the device's entry.
    pub device: u64,
    /// Version of the user's entry, roles included; 0 where there is no user.
    pub user: u64,
}

/// Who asks. Made by the gateway's registry from a proved device, never from anything a client wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The proved device and its site.
    pub device: DeviceId,
    /// The user, where one is known.
    pub user: Option<UserName>,
    /// The user's roles and those assigned to the device; sorted, each once.
    pub roles: SmallVec<[RoleName; 4]>,
    /// How strongly the user is known.
    pub authentication_level: AuthenticationLevel,
    /// Versions of the entries this subject was made from.
    pub versions: EntityVersions,
}
