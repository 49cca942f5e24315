//! Who takes part: two clinics with their people and terminals.

/// A clinic.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) name: &'static str,
    pub(super) display_name: &'static str,
    pub(super) users: &'static [User],
    pub(super) devices: &'static [Device],
}

/// A person and the roles that the person has.
#[derive(Debug)]
pub(super) struct User {
    pub(super) name: &'static str,
    pub(super) display_name: &'static str,
    pub(super) roles: &'static [&'static str],
}

/// A terminal, the person it is assigned to and the roles of its own.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) name: &'static str,
    pub(super) display_name: &'static str,
    pub(super) user: &'static str,
    pub(super) roles: &'static [&'static str],
}

/// The roles (R2): four professions, and one of devices that stand where patients can see them.
pub(super) const ROLES: &[(&str, &str)] =
    &[("doctor", "医師"), ("nurse", "看護師"), ("pharmacist", "薬剤師"), ("clerk", "医療事務"), ("kiosk", "受付端末")];

/// The trust domain of the devices' SPIFFE IDs.
pub(super) const TRUST_DOMAIN: &str = "sekisho.example";

/// Holds a certificate of the development CA, and stands in no registry.
pub(super) const UNREGISTERED: (&str, &str) = ("sakura-clinic", "unregistered");

/// Claims to be the doctor's terminal, with a certificate of a CA that nobody trusts.
pub(super) const STRANGER: (&str, &str) = ("sakura-clinic", "stranger");

/// Whom the stranger claims to be.
pub(super) const CLAIMED: (&str, &str) = ("sakura-clinic", "doctor-terminal");

pub(super) const SITES: &[Site] = &[
    Site {
        name: "sakura-clinic",
        display_name: "桜クリニック",
        users: &[
            User { name: "dr-yamamoto", display_name: "山本 桜子", roles: &["doctor"] },
            User { name: "ns-kobayashi", display_name: "小林 直美", roles: &["nurse"] },
            User { name: "cl-kato", display_name: "加藤 誠", roles: &["clerk"] },
        ],
        devices: &[
            Device { name: "doctor-terminal", display_name: "診察室", user: "dr-yamamoto", roles: &[] },
            Device { name: "nurse-terminal", display_name: "処置室", user: "ns-kobayashi", roles: &[] },
            Device { name: "clerk-terminal", display_name: "医事課", user: "cl-kato", roles: &[] },
            // The same doctor as in the consulting room: what is refused here is refused to the device.
            Device { name: "reception-kiosk", display_name: "受付", user: "dr-yamamoto", roles: &["kiosk"] },
        ],
    },
    Site {
        name: "momiji-hospital",
        display_name: "もみじ病院",
        users: &[
            User { name: "dr-hayashi", display_name: "林 大輔", roles: &["doctor"] },
            User { name: "ns-mori", display_name: "森 由紀", roles: &["nurse"] },
            User { name: "ph-yoshida", display_name: "吉田 薫", roles: &["pharmacist"] },
        ],
        devices: &[
            Device { name: "doctor-terminal", display_name: "内科外来", user: "dr-hayashi", roles: &[] },
            Device { name: "ward-terminal", display_name: "3階病棟", user: "ns-mori", roles: &[] },
            Device { name: "pharmacy-terminal", display_name: "薬剤部", user: "ph-yoshida", roles: &[] },
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_is_to_somebody_who_takes_part() {
        let is_role = |role: &&str| ROLES.iter().any(|(name, _)| name == role);
        for site in SITES {
            assert!(site.users.iter().flat_map(|user| user.roles).all(is_role));
            for device in site.devices {
                assert!(device.roles.iter().all(is_role));
                assert!(site.users.iter().any(|user| user.name == device.user), "{}", device.name);
            }
        }
        let registered = |(site, device): (&str, &str)| {
            SITES.iter().any(|s| s.name == site && s.devices.iter().any(|d| d.name == device))
        };
        assert!(registered(CLAIMED));
        assert!(!registered(UNREGISTERED) && !registered(STRANGER));
    }

    #[test]
    fn the_four_professions_have_people() {
        for role in ["doctor", "nurse", "pharmacist", "clerk"] {
            assert!(SITES.iter().flat_map(|site| site.users).any(|user| user.roles.contains(&role)), "{role}");
        }
    }
}
