//! Tokens of an identity provider: `Authorization: Bearer` with a signed JWT (RFC 7515, 7519, 9068, by the best practices
//! of RFC 8725), or with an opaque token that its issuer is asked about (RFC 7662). Rows R1, R5, R9, C14.
//!
//! [`Unverified::read`] takes a token apart, [`Unverified::verify`] checks the signature by the issuer's own keys,
//! [`Rules::judge`] reads the claims, and [`Said::holds`] is asked again at every use: by the time, by the certificate
//! that the request came with, and for the site that it came from. Who the user is, and whether at all, the registry says.

mod algorithm;
mod bearer;
mod introspection;
pub(crate) mod json;
mod jws;
mod keys;
mod rules;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use algorithm::{Algorithm, InvalidAlgorithm};
pub use bearer::{bearer, is_in_query};
pub use introspection::{MAX_ANSWER_BYTES, Pronounced, form, pronounced};
pub use jws::{MAX_TOKEN_BYTES, Unverified, is_compact};
pub use keys::{InvalidKeys, KeySet, MAX_SET_BYTES};
pub(crate) use rules::numeric_date;
pub use rules::{Binding, Roles, Rules, Sites, TokenType, is_claim};

use crate::{AuthenticationLevel, Refusal, SiteName, UserName};

/// Why a token is not taken. Never holds a part of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is none of the issuer's for us, and why.
    #[error("{0}")]
    Malformed(&'static str),
    /// It names a key that the issuer is not known to have.
    #[error("its issuer is not known to have the key it names")]
    UnknownKey,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// Its time has not come.
    #[error("it is not valid yet")]
    NotYet,
    /// It is not bound to the certificate of whoever shows it.
    #[error("it is not bound to the client's certificate")]
    NotBound,
    /// It is of another site's user.
    #[error("its issuer does not vouch for users of this site")]
    OtherSite,
}

impl Fault {
    /// What the client is told.
    #[must_use]
    pub const fn refusal(self) -> Refusal {
        match self {
            Self::Malformed(_) | Self::UnknownKey | Self::NotYet | Self::OtherSite => Refusal::TokenInvalid,
            Self::Expired => Refusal::TokenExpired,
            Self::NotBound => Refusal::TokenNotBound,
        }
    }
}

/// What time it is, nanoseconds since 1970, and how far that may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The wall clock.
    pub unix_ns: i64,
    /// The bound of its error.
    pub error_ns: i64,
}

/// What a token says, by an issuer that is trusted to say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// What the gateway calls the issuer.
    pub issuer: Arc<str>,
    /// The user's name, at one of the sites.
    pub user: UserName,
    /// Who acts for that user (`act`, RFC 8693 section 4.1), where somebody does: of the same sites.
    pub actor: Option<UserName>,
    /// The sites whose user that can be; none is any.
    pub sites: Option<Vec<SiteName>>,
    /// The user's roles.
    pub roles: Roles,
    /// How the user logged in.
    pub level: AuthenticationLevel,
    /// When that was, where it says so (`auth_time`, OpenID Connect Core 2), nanoseconds since 1970.
    pub authenticated_ns: Option<i64>,
    /// SHA-256 of the certificate that it is bound to.
    pub thumbprint: Option<[u8; 32]>,
    /// When it ends, nanoseconds since 1970.
    pub expires_ns: i64,
    /// When it begins.
    pub begins_ns: i64,
}

impl Said {
    /// Whether it is good at this moment, for whoever proved that certificate, or none, at that site.
    ///
    /// # Errors
    /// [`Fault::NotBound`], [`Fault::Expired`], [`Fault::NotYet`] or [`Fault::OtherSite`]: the first that holds.
    pub fn holds(&self, now: Now, certificate: Option<&[u8; 32]>, site: &SiteName) -> Result<(), Fault> {
        if self.thumbprint.is_some_and(|bound| Some(&bound) != certificate) {
            return Err(Fault::NotBound);
        }
        let latest = now.unix_ns.saturating_add(now.error_ns);
        if latest >= self.expires_ns {
            return Err(Fault::Expired);
        }
        if latest < self.begins_ns {
            return Err(Fault::NotYet);
        }
        match &self.sites {
            Some(sites) if !sites.contains(site) => Err(Fault::OtherSite),
            Some(_) | None => Ok(()),
        }
    }
}
