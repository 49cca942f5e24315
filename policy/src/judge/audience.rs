//! Whom a policy is for: devices, unless its annotations say more.
//!
//! Closed by default: a `permit` reaches a subject without a device only by `@device("none")`, and a patient only by
//! `@principal("patient")`. So no policy that was written for a clinic's terminals opens anything to somebody who comes
//! without one. A `forbid` is for everybody, and no annotation makes it less.

use cedar_policy::{Effect, Policy};

use crate::{Party, Subject};

const DEVICE: &str = "device";
const PRINCIPAL: &str = "principal";

/// Whom a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    /// Whoever asks: every `forbid`.
    Everybody,
    /// Devices, with and without a user: a `permit` without annotation.
    Devices,
    /// Devices and users without one: `@device("none")`.
    Users,
    /// Patients and nobody else: `@principal("patient")`.
    Patients,
}

impl Audience {
    pub(super) const ALL: [Self; 4] = [Self::Everybody, Self::Devices, Self::Users, Self::Patients];

    /// What the annotations say, or what is wrong with them.
    pub(super) fn of(policy: &Policy) -> Result<Self, String> {
        let (device, principal) = (policy.annotation(DEVICE), policy.annotation(PRINCIPAL));
        let unknown = |key: &str, value: &str, wanted: &str| {
            Err(format!("`@{key}(\"{}\")` means nothing; it must be `@{key}(\"{wanted}\")`", value.escape_debug()))
        };
        if policy.effect() == Effect::Forbid {
            let key = device.map(|_| DEVICE).or(principal.map(|_| PRINCIPAL));
            return key.map_or(Ok(Self::Everybody), |key| {
                Err(format!("a `forbid` is for everybody; take `@{key}` away, and say in the policy whom it is for"))
            });
        }
        match (device, principal) {
            (Some(other), _) if other != "none" => unknown(DEVICE, other, "none"),
            (_, Some(other)) if other != "patient" => unknown(PRINCIPAL, other, "patient"),
            (_, Some(_)) => Ok(Self::Patients),
            (Some(_), None) => Ok(Self::Users),
            (None, None) => Ok(Self::Devices),
        }
    }

    pub(super) const fn takes(self, subject: &Subject) -> bool {
        match (self, &subject.party) {
            (Self::Everybody, _)
            | (Self::Devices | Self::Users, Party::Device { .. })
            | (Self::Users, Party::User { .. })
            | (Self::Patients, Party::Patient(_)) => true,
            (Self::Devices | Self::Users, Party::Patient(_))
            | (Self::Devices, Party::User { .. })
            | (Self::Patients, Party::Device { .. } | Party::User { .. }) => false,
        }
    }

    /// What a policy that does not take the subject would have to be.
    pub(super) const fn lacks(subject: &Subject) -> &'static str {
        match &subject.party {
            Party::Device { .. } => "a device or a user: the policy is for patients",
            Party::User { .. } => "a device, or the annotation @device(\"none\")",
            Party::Patient(_) => "a device, or the annotation @principal(\"patient\")",
        }
    }
}
