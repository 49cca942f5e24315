//! How an account stands, and what a login still needs.
//!
//! ```text
//!             passwd                right password, factor, new password
//!   none ──────────────► must change ────────────────────────────────► active ──┐
//!                           ▲                                            │       │ its time is over
//!                           └───────── reset, or the profile asks ───────┤◄──────┤
//!                                                                        │       ▼
//!   suspended: disabled, from any of them and back                       └──── expired
//! ```

use super::Profile;
use crate::AuthenticationLevel;
use crate::session::Factors;

/// What is known of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The user and the site are active.
    pub enabled: bool,
    /// Somebody else set the password, so that it must be changed at its first use.
    pub must_change: bool,
    /// When the password was set, seconds since 1970.
    pub changed_s: u64,
    /// Characters of the password are fewer than the profile asks for without a second factor.
    pub is_short: bool,
    /// There is an authenticator.
    pub totp: bool,
}

/// How an account stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nobody gets in.
    Disabled,
    /// Its password was set by somebody else, or is good no longer by the profile.
    MustChange,
    /// Its password is older than the profile allows.
    Expired,
    /// Its password counts.
    Active,
}

/// What a login has proved so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Proved {
    /// The password.
    pub password: bool,
    /// The second factor, and by what: an authenticator or a recovery code.
    pub second: Option<Factors>,
}

/// What comes next in a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The login fails, in the same words as for a wrong password.
    Refuse,
    /// The second factor.
    SecondFactor,
    /// A new password, and why.
    NewPassword(Standing),
    /// The session may begin, at this level.
    Begin(AuthenticationLevel),
}

impl Facts {
    /// How the account stands at `now_s`. A clock that was set back ages no password.
    #[must_use]
    pub fn standing(&self, profile: Profile, now_s: u64) -> Standing {
        if !self.enabled {
            return Standing::Disabled;
        }
        if self.must_change || (self.is_short && !self.totp) {
            return Standing::MustChange;
        }
        match profile.lasts_s() {
            Some(lasts_s) if now_s.saturating_sub(self.changed_s) >= lasts_s => Standing::Expired,
            Some(_) | None => Standing::Active,
        }
    }

    /// What a login needs that has proved so much. The second factor comes before a new password: whoever has guessed the
    /// password must not be able to change it.
    #[must_use]
    pub fn next(&self, profile: Profile, now_s: u64, proved: Proved) -> Next {
        let standing = self.standing(profile, now_s);
        if standing == Standing::Disabled || !proved.password {
            return Next::Refuse;
        }
        if self.totp && proved.second.is_none() {
            return Next::SecondFactor;
        }
        match standing {
            Standing::Disabled => Next::Refuse,
            Standing::MustChange | Standing::Expired => Next::NewPassword(standing),
            Standing::Active if self.totp => Next::Begin(AuthenticationLevel::TwoFactor),
            Standing::Active => Next::Begin(AuthenticationLevel::User),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ACTIVE: Facts = Facts { enabled: true, must_change: false, changed_s: 0, is_short: false, totp: false };

    #[test]
    fn a_password_ages_only_where_the_profile_says_so() {
        let day = 86_400;
        assert_eq!(ACTIVE.standing(Profile::Mic2009, 58 * day), Standing::Active);
        assert_eq!(ACTIVE.standing(Profile::Mic2009, 59 * day), Standing::Expired);
        assert_eq!(ACTIVE.standing(Profile::Mhlw7, 5_000 * day), Standing::Active);
        assert_eq!(Facts { changed_s: 9, ..ACTIVE }.standing(Profile::Mic2009, 0), Standing::Active);
        assert_eq!(Facts { is_short: true, ..ACTIVE }.standing(Profile::Mhlw7, 0), Standing::MustChange);
        assert_eq!(Facts { is_short: true, totp: true, ..ACTIVE }.standing(Profile::Mhlw7, 0), Standing::Active);
    }

    proptest! {
        #[test]
        fn no_session_begins_without_all_that_is_asked(
            enabled in any::<bool>(), must_change in any::<bool>(), is_short in any::<bool>(), totp in any::<bool>(),
            changed_s in 0_u64..10_000_000, now_s in 0_u64..20_000_000,
            password in any::<bool>(), second in any::<bool>(), mic in any::<bool>(),
        ) {
            let facts = Facts { enabled, must_change, changed_s, is_short, totp };
            let profile = if mic { Profile::Mic2009 } else { Profile::Mhlw7 };
            let by = second.then_some(Factors::TOTP);
            let next = facts.next(profile, now_s, Proved { password, second: by });
            if let Next::Begin(level) = next {
                prop_assert!(enabled && password && !must_change && (totp == second || !totp));
                prop_assert_eq!(level == AuthenticationLevel::TwoFactor, totp && second);
            }
            if matches!(next, Next::NewPassword(_)) {
                prop_assert!(enabled && password && (!totp || second));
            }
            if !enabled || !password {
                prop_assert_eq!(next, Next::Refuse);
            }
        }
    }
}
