//! Who asks: site, device, user and roles, kept apart (R13).

use std::fmt;
use std::sync::Arc;

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

/// The longest text that names a patient at an issuer, in bytes.
pub const MAX_PATIENT_ID_LENGTH: usize = 256;

/// A patient who proved a certificate of their own (R18). Patients are not in the registry: whoever issued the
/// certificate vouches for the name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Patient {
    issuer: Arc<str>,
    id: Arc<str>,
}

/// Why a text names no patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a patient is named by 32 hexadecimal digits, `/` and 1 to {MAX_PATIENT_ID_LENGTH} bytes without control characters"
)]
pub struct InvalidPatient;

impl Patient {
    /// The patient that the issuer names so. `issuer` is the SHA-256 of the issuer's name (DER), of which the first
    /// half is kept: it tells the issuers of one listener apart.
    ///
    /// # Errors
    /// [`InvalidPatient`] if the text is empty, longer than [`MAX_PATIENT_ID_LENGTH`] or has control characters.
    pub fn new(issuer: &[u8; 32], id: &str) -> Result<Self, InvalidPatient> {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(32);
        for byte in issuer.iter().take(16) {
            // INVARIANT: writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self::of(&text, id)
    }

    fn of(issuer: &str, id: &str) -> Result<Self, InvalidPatient> {
        let is_hash = issuer.len() == 32 && issuer.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_text = (1..=MAX_PATIENT_ID_LENGTH).contains(&id.len()) && !id.contains(char::is_control);
        if is_hash && is_text { Ok(Self { issuer: issuer.into(), id: id.into() }) } else { Err(InvalidPatient) }
    }

    /// Who vouches: 32 hexadecimal digits.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What the issuer calls the patient.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for Patient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.issuer, self.id)
    }
}

impl std::str::FromStr for Patient {
    type Err = InvalidPatient;

    fn from_str(text: &str) -> Result<Self, InvalidPatient> {
        let (issuer, id) = text.split_once('/').ok_or(InvalidPatient)?;
        Self::of(issuer, id)
    }
}

/// Who asks, by what was proved.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Party {
    /// A device of a site: alone, with the user it is assigned to, or with a user who proved a certificate over it (an
    /// HPKI card inside a tunnel whose key is the device).
    Device {
        /// The proved device and its site.
        device: DeviceId,
        /// The user, where one is known.
        user: Option<UserName>,
    },
    /// A user of a site, proved by a certificate of their own; from which device, nobody knows.
    User {
        /// The clinic that the user works at.
        site: SiteName,
        /// The user.
        user: UserName,
    },
    /// A patient, at no site.
    Patient(Patient),
}

/// Versions of the registry's entries that a subject was made from. An entry's version changes with every edit of
/// it and never comes back, so that a decision cached for an old version is never found again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EntityVersions {
    /// Version of the site's entry; 0 where there is no site.
    pub site: u64,
    /// Version of the device's entry; 0 where there is no device.
    pub device: u64,
    /// Version of the user's entry, roles included; 0 where there is no user.
    pub user: u64,
}

/// Whom a user acts for (代行, R23): a user of the same site, who lets the registry say so. The acting user's own roles do not
/// grow by it; policies see both, and permit what they permit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ActingFor {
    /// Who lets another act.
    pub user: UserName,
    /// That user's own roles; sorted, each once.
    pub roles: SmallVec<[RoleName; 4]>,
    /// Version of that user's entry.
    pub version: u64,
}

/// Who asks. Made by the gateway's registry from what was proved, never from anything a client wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Who.
    pub party: Party,
    /// The user's roles, those that the user's certificate proves and those assigned to the device; sorted, each once.
    pub roles: SmallVec<[RoleName; 4]>,
    /// How strongly the user is known.
    pub authentication_level: AuthenticationLevel,
    /// Versions of the entries this subject was made from.
    pub versions: EntityVersions,
    /// Whom the user acts for, where it is somebody.
    pub acting_for: Option<Arc<ActingFor>>,
}

impl Subject {
    /// The clinic; none for a patient.
    #[must_use]
    pub const fn site(&self) -> Option<&SiteName> {
        self.party.site()
    }

    /// The device, where one is proved.
    #[must_use]
    pub const fn device(&self) -> Option<&DeviceId> {
        self.party.device()
    }

    /// The user, where one is known.
    #[must_use]
    pub const fn user(&self) -> Option<&UserName> {
        self.party.user()
    }

    /// The patient, where it is one.
    #[must_use]
    pub const fn patient(&self) -> Option<&Patient> {
        self.party.patient()
    }
}

impl Party {
    /// The clinic; none for a patient.
    #[must_use]
    pub const fn site(&self) -> Option<&SiteName> {
        match self {
            Self::Device { device, .. } => Some(&device.site),
            Self::User { site, .. } => Some(site),
            Self::Patient(_) => None,
        }
    }

    /// The device, where one is proved.
    #[must_use]
    pub const fn device(&self) -> Option<&DeviceId> {
        match self {
            Self::Device { device, .. } => Some(device),
            Self::User { .. } | Self::Patient(_) => None,
        }
    }

    /// The user, where one is known.
    #[must_use]
    pub const fn user(&self) -> Option<&UserName> {
        match self {
            Self::Device { user, .. } => user.as_ref(),
            Self::User { user, .. } => Some(user),
            Self::Patient(_) => None,
        }
    }

    /// The patient, where it is one.
    #[must_use]
    pub const fn patient(&self) -> Option<&Patient> {
        match self {
            Self::Patient(patient) => Some(patient),
            Self::Device { .. } | Self::User { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patient_has_one_spelling() {
        let patient = Patient::new(&[0xab; 32], "taro@example.jp").unwrap();
        assert_eq!(patient.to_string(), format!("{}/taro@example.jp", "ab".repeat(16)));
        assert_eq!(patient.to_string().parse(), Ok(patient));
        let slash = Patient::new(&[0; 32], "urn:a/b").unwrap();
        assert_eq!(slash.to_string().parse(), Ok(slash));
        assert!(Patient::new(&[0; 32], "").is_err() && Patient::new(&[0; 32], "a\u{1b}").is_err());
        assert!(Patient::new(&[0; 32], &"x".repeat(257)).is_err());
        for bad in ["", "1", "/1", &format!("{}/1", "AB".repeat(16)), &format!("{}/", "ab".repeat(16))] {
            assert!(bad.parse::<Patient>().is_err(), "{bad}");
        }
    }
}
