//! Sessions (R10, R13): one kind of thing, whoever began it. Pure: times and names come in, verdicts go out.
//!
//! A session ties a secret to a user, to the device that it was given to, and to the moment of the login. [`Rules`] say how
//! long one lasts, [`over`] whether it is over, [`surplus`] which of a user's are too many. Where a request carries its secret
//! is [`Observed`]'s to say and [`cookie`]'s to find; what an answer does to it, [`set_cookie`]'s.

pub mod cookie;
mod definition;
mod rules;
pub mod set_cookie;

pub(crate) use definition::methods;
pub use definition::{LoginSessionDefinition, Observed, RouteSessionDefinition, SessionProblem, Tie, Unknown};
pub use rules::{Limits, Rule, Rules, over, surplus};

use std::fmt;

/// Who began a session. A secret of one kind is never found as one of another (C14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A backend; the gateway learnt it from the answer to a login.
    Learnt,
    /// The gateway's own login page.
    Local,
    /// The gateway, after an OpenID provider's word.
    Oidc,
}

impl Kind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::Learnt, Self::Local, Self::Oidc];

    /// The name in the store and in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Learnt => "learnt",
            Self::Local => "local",
            Self::Oidc => "oidc",
        }
    }
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Its user logged out.
    LoggedOut,
    /// Nobody used it for too long (R10).
    Idle,
    /// It lasted as long as it may (R10).
    Expired,
    /// An operator ended it.
    Operator,
    /// Another device presented its secret.
    Stolen,
    /// Its user has newer ones, and as many as allowed.
    Surplus,
    /// Its device logged in anew.
    Replaced,
    /// Its user, device or site is suspended or gone (R27).
    Revoked,
    /// The machine was started anew: nobody knows how long it was idle.
    Restarted,
    /// Whoever vouched for its user ended it.
    Provider,
}

impl Reason {
    /// Every reason.
    pub const ALL: &'static [Self] = &[
        Self::LoggedOut,
        Self::Idle,
        Self::Expired,
        Self::Operator,
        Self::Stolen,
        Self::Surplus,
        Self::Replaced,
        Self::Revoked,
        Self::Restarted,
        Self::Provider,
    ];

    /// The name in the store, in records and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::LoggedOut => "logged-out",
            Self::Idle => "idle",
            Self::Expired => "expired",
            Self::Operator => "operator",
            Self::Stolen => "stolen",
            Self::Surplus => "surplus",
            Self::Replaced => "replaced",
            Self::Revoked => "revoked",
            Self::Restarted => "restarted",
            Self::Provider => "provider",
        }
    }

    /// Whether what its requests are in the middle of ends as well. Not where the session's own device ended it by a request:
    /// that one must get its answer. Nor where it is idle: a long transfer was asked for when its user was there.
    #[must_use]
    pub const fn cuts(self) -> bool {
        !matches!(self, Self::LoggedOut | Self::Replaced | Self::Idle)
    }
}

macro_rules! labelled {
    ($type:ident, $name:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.label())
            }
        }

        impl std::str::FromStr for $type {
            type Err = UnknownLabel;

            fn from_str(text: &str) -> Result<Self, UnknownLabel> {
                let found = Self::ALL.iter().find(|known| known.label() == text);
                found.copied().ok_or_else(|| UnknownLabel { of: $name, text: text.escape_debug().to_string() })
            }
        }
    };
}

labelled!(Kind, "kind of session");
labelled!(Reason, "reason why a session is over");

/// Why a text is no label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {of}")]
pub struct UnknownLabel {
    of: &'static str,
    text: String,
}

/// What proved the user (R9). A set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Factors(u8);

impl Factors {
    /// A password.
    pub const PASSWORD: Self = Self(1);
    /// A code of RFC 6238.
    pub const TOTP: Self = Self(2);
    /// A WebAuthn authenticator.
    pub const WEBAUTHN: Self = Self(4);
    /// A recovery code.
    pub const RECOVERY: Self = Self(8);
    /// An OpenID provider's word.
    pub const PROVIDER: Self = Self(16);
    /// The device's certificate or key.
    pub const DEVICE: Self = Self(32);

    const NAMES: &'static [(Self, &'static str)] = &[
        (Self::DEVICE, "device"),
        (Self::PASSWORD, "password"),
        (Self::PROVIDER, "provider"),
        (Self::RECOVERY, "recovery-code"),
        (Self::TOTP, "totp"),
        (Self::WEBAUTHN, "webauthn"),
    ];

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of those are among these.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Their names, sorted.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().filter(move |(factor, _)| self.has(*factor)).map(|(_, name)| *name)
    }

    /// The set of that number, as [`bits`](Self::bits) gave it; what it does not know is left out.
    #[must_use]
    pub const fn of_bits(bits: u8) -> Self {
        Self(bits & 63)
    }

    /// The set as a number, for the store.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_they_are_written() {
        for kind in Kind::ALL {
            assert_eq!(kind.label().parse(), Ok(*kind));
        }
        for reason in Reason::ALL {
            assert_eq!(reason.to_string().parse(), Ok(*reason));
        }
        assert!("x".parse::<Kind>().is_err());
    }

    #[test]
    fn factors_are_a_set() {
        let both = Factors::PASSWORD.with(Factors::DEVICE);
        assert!(both.has(Factors::PASSWORD) && !both.has(Factors::TOTP) && both.has(Factors::default()));
        assert_eq!(both.names().collect::<Vec<_>>(), ["device", "password"]);
        assert_eq!(Factors::of_bits(both.bits()), both);
        assert_eq!(Factors::of_bits(255).names().count(), 6);
    }
}
