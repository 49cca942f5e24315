//! Which sessions are meant.

use policy::login::Origin;
use policy::session::Kind;
use policy::{SiteName, UserName};

use super::entry::Session;

/// Which sessions are to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Of {
    /// One, by its name.
    Name(String),
    /// Those of a user.
    User {
        /// The site.
        site: SiteName,
        /// The user.
        user: UserName,
    },
    /// Those that are bound to a device, or to a card.
    Place(Origin),
    /// Those of a site.
    Site(SiteName),
    /// Those that an OpenID provider vouches for: all that is given must fit.
    Vouched {
        /// The provider's `iss`.
        issuer: String,
        /// What it calls the user.
        subject: Option<String>,
        /// What it calls the session.
        session: Option<String>,
    },
}

/// The tag of a session that an OpenID provider vouches for. None of the three has a line's end.
#[must_use]
pub fn vouched(issuer: &str, subject: &str, session: Option<&str>) -> String {
    format!("{issuer}\n{subject}\n{}", session.unwrap_or_default())
}

fn is_vouched(tag: &str, issuer: &str, subject: Option<&str>, session: Option<&str>) -> bool {
    let mut parts = tag.split('\n');
    let (by, whose, which) = (parts.next(), parts.next(), parts.next());
    let fits = |wanted: Option<&str>, is: Option<&str>| wanted.is_none_or(|wanted| is == Some(wanted));
    // Of a session that the provider gave no name it knows whose it is alone.
    let is_unnamed = which == Some("") && subject.is_some();
    by == Some(issuer) && fits(subject, whose) && (is_unnamed || fits(session, which))
}

impl Of {
    pub(super) fn takes(&self, session: &Session) -> bool {
        match self {
            Self::Name(name) => *session.name == **name,
            Self::User { site, user } => *session.place.site == *site.as_str() && session.user.as_ref() == Some(user),
            Self::Place(place) => session.place == *place,
            Self::Site(site) => *session.place.site == *site.as_str(),
            Self::Vouched { issuer, subject, session: which } => {
                let tag = session.tag.as_deref().filter(|_| session.kind == Kind::Oidc);
                tag.is_some_and(|tag| is_vouched(tag, issuer, subject.as_deref(), which.as_deref()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_without_a_name_of_the_providers_is_known_by_its_user() {
        let (named, unnamed) = (vouched("i", "u", Some("s")), vouched("i", "u", None));
        for (subject, session, of_named, of_unnamed) in [
            (Some("u"), None, true, true),
            (Some("u"), Some("s"), true, true),
            (None, Some("s"), true, false),
            (Some("u"), Some("t"), false, true),
            (Some("v"), Some("s"), false, false),
            (Some("v"), None, false, false),
        ] {
            assert_eq!(is_vouched(&named, "i", subject, session), of_named, "{subject:?} {session:?}");
            assert_eq!(is_vouched(&unnamed, "i", subject, session), of_unnamed, "{subject:?} {session:?}");
            assert!(!is_vouched(&named, "j", subject, session));
        }
    }
}
