//! The closed list of what path validation says no with.

use super::Malformed;

/// Why a certificate was revoked (RFC 5280 5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RevocationReason {
    /// No reason is given.
    Unspecified,
    /// The key is in other hands.
    KeyCompromise,
    /// The issuer's key is in other hands.
    CaCompromise,
    /// The holder belongs elsewhere.
    AffiliationChanged,
    /// There is a new certificate.
    Superseded,
    /// It is not needed any more.
    CessationOfOperation,
    /// It is suspended.
    CertificateHold,
    /// Its holder lost a right that it states.
    PrivilegeWithdrawn,
    /// The attribute authority's key is in other hands.
    AaCompromise,
}

impl RevocationReason {
    /// The content of a CRLReason that is one; `removeFromCRL` (8) is none.
    pub(super) const fn from_code(content: &[u8]) -> Option<Self> {
        Some(match content {
            [0] => Self::Unspecified,
            [1] => Self::KeyCompromise,
            [2] => Self::CaCompromise,
            [3] => Self::AffiliationChanged,
            [4] => Self::Superseded,
            [5] => Self::CessationOfOperation,
            [6] => Self::CertificateHold,
            [9] => Self::PrivilegeWithdrawn,
            [10] => Self::AaCompromise,
            _ => return None,
        })
    }

    /// The name in RFC 5280.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "cACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
            Self::AaCompromise => "aACompromise",
        }
    }
}

/// Why there is no path. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRefusal {
    /// The bytes are not a certificate as RFC 5280 and DER have it.
    Malformed(Malformed),
    /// A certificate is longer than the limit.
    TooLarge,
    /// More certificates are presented than the limit.
    TooMany,
    /// The path is longer than the limit.
    TooDeep,
    /// The search costs more than anything honest would.
    TooMuchWork,
    /// No path leads to an anchor, or a signature on it is not its issuer's.
    UnknownIssuer,
    /// A certificate's time is over.
    Expired {
        /// The last moment.
        not_after: i64,
    },
    /// A certificate's time has not begun.
    NotYetValid {
        /// The first moment.
        not_before: i64,
    },
    /// A certificate may not be used for this.
    WrongPurpose(&'static str),
    /// An issuer that may not issue.
    NotAuthority(&'static str),
    /// A CA has more CAs below it than it may.
    PathLength,
    /// A name is outside what a CA above may certify.
    NameNotPermitted(String),
    /// The certificate does not name the peer that was looked for.
    WrongName,
    /// No accepted policy holds along the path.
    PolicyNotAccepted(&'static str),
    /// A critical extension that nobody here knows, by its OID.
    UnknownCriticalExtension(String),
    /// A key that is too weak, or of a kind that is not believed in.
    WeakKey(&'static str),
    /// A signature algorithm that the profile does not have.
    Algorithm,
    /// The issuer revoked it.
    Revoked {
        /// Since when.
        when: i64,
        /// Why.
        reason: RevocationReason,
    },
    /// Nobody can say whether it was revoked, and somebody must.
    RevocationUnknown(&'static str),
}

impl PathRefusal {
    /// The stable name.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TooLarge => "too-large",
            Self::TooMany => "too-many",
            Self::TooDeep => "too-deep",
            Self::TooMuchWork => "too-much-work",
            Self::UnknownIssuer => "unknown-issuer",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not-yet-valid",
            Self::WrongPurpose(_) => "wrong-purpose",
            Self::NotAuthority(_) => "not-authority",
            Self::PathLength => "path-length",
            Self::NameNotPermitted(_) => "name-not-permitted",
            Self::WrongName => "wrong-name",
            Self::PolicyNotAccepted(_) => "policy-not-accepted",
            Self::UnknownCriticalExtension(_) => "unknown-critical-extension",
            Self::WeakKey(_) => "weak-key",
            Self::Algorithm => "algorithm",
            Self::Revoked { .. } => "revoked",
            Self::RevocationUnknown(_) => "revocation-unknown",
        }
    }

    /// How near to a whole path the search came. The nearest refusal is the one to tell.
    pub(super) const fn rank(&self) -> u8 {
        match self {
            Self::UnknownIssuer => 0,
            Self::Algorithm | Self::TooDeep => 1,
            Self::Malformed(_) | Self::TooLarge | Self::NotAuthority(_) | Self::WeakKey(_) => 2,
            Self::TooMany
            | Self::TooMuchWork
            | Self::Expired { .. }
            | Self::NotYetValid { .. }
            | Self::WrongPurpose(_)
            | Self::PathLength
            | Self::NameNotPermitted(_)
            | Self::WrongName
            | Self::PolicyNotAccepted(_)
            | Self::UnknownCriticalExtension(_) => 3,
            Self::Revoked { .. } | Self::RevocationUnknown(_) => 4,
        }
    }
}

impl std::fmt::Display for PathRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(malformed) => write!(f, "it cannot be read: {malformed}"),
            Self::TooLarge => f.write_str("it is larger than the limit"),
            Self::TooMany => f.write_str("more certificates are presented than the limit"),
            Self::TooDeep => f.write_str("the path is longer than the limit"),
            Self::TooMuchWork => f.write_str("finding a path costs more work than the limit"),
            Self::UnknownIssuer => f.write_str("no path of valid signatures leads to a trust anchor"),
            Self::Expired { not_after } => write!(f, "it expired after {}", rfc3339(*not_after)),
            Self::NotYetValid { not_before } => write!(f, "it is not valid before {}", rfc3339(*not_before)),
            Self::WrongPurpose(what) => write!(f, "it may not be used for this: {what}"),
            Self::NotAuthority(what) => write!(f, "its issuer may not issue: {what}"),
            Self::PathLength => f.write_str("a CA has more CAs below it than its path length allows"),
            Self::NameNotPermitted(name) => write!(f, "the name constraints above do not permit `{name}`"),
            Self::WrongName => f.write_str("it does not name the peer"),
            Self::PolicyNotAccepted(what) => write!(f, "its policies are not accepted: {what}"),
            Self::UnknownCriticalExtension(oid) => write!(f, "extension `{oid}` is critical and unknown"),
            Self::WeakKey(what) => write!(f, "its key is not accepted: {what}"),
            Self::Algorithm => f.write_str("it is signed by an algorithm that is not accepted"),
            Self::Revoked { when, reason } => write!(f, "it was revoked on {}: {}", rfc3339(*when), reason.name()),
            Self::RevocationUnknown(what) => write!(f, "whether it was revoked is not known: {what}"),
        }
    }
}

fn rfc3339(seconds: i64) -> String {
    u64::try_from(seconds).map_or_else(
        |_| format!("{seconds} s from 1970"),
        |seconds| {
            crate::rfc3339(rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
        },
    )
}

/// A refusal, and which certificate it is about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("certificate `{subject}`: {refusal}")]
pub struct PathRefused {
    /// Why.
    pub refusal: PathRefusal,
    /// The certificate's subject, escaped for a terminal; empty if it could not be read.
    pub subject: String,
}
