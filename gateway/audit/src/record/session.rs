//! Sessions: when a user logged in, for how long that counted, and who else tried to use it (R5, R10, R23).

use super::{Header, Record, Reference, Scope, Splice, VERSION, write_clock, write_sequence, write_time};
use crate::header::Kind;
use crate::json::{self, Object, key};

/// What happened to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEvent {
    /// It began: its user logged in.
    Begun,
    /// It is over.
    Ended,
    /// Another device presented its secret.
    Stolen,
    /// Its user proved more, or the same anew: a step-up (R9).
    Raised,
    /// Its user acts for somebody from here on (R23).
    ActsFor,
    /// Its user acts for that one no longer.
    ActsNoMore,
}

impl SessionEvent {
    /// The name in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Ended => "ended",
            Self::Stolen => "stolen",
            Self::Raised => "raised",
            Self::ActsFor => "acts-for",
            Self::ActsNoMore => "acts-no-more",
        }
    }
}

/// Kind `session`: a session begins, is raised, or its user begins or ceases to act for another, which is durable before whoever
/// did that hears of it; is over; or its secret came from another device. Keys: `account` (in its one spelling), `acting_for`, `authentication`, `device` (where the session is bound
/// to), `event`, `factors`, `origin` (who began it: `learnt`, `local`, `oidc`), `realm`, `reason` (why it is over), `request`
/// (the one that began it, or that presented it elsewhere), `session` (its name), `since` (when it began), `site`, `user`.
#[derive(Debug)]
pub struct SessionNote<'a> {
    /// What happened.
    pub event: SessionEvent,
    /// Why it is over.
    pub reason: Option<&'a str>,
    /// The id of the request that did it.
    pub request: Option<&'a str>,
    /// Its name.
    pub session: &'a str,
    /// Who began it.
    pub origin: &'a str,
    /// Whose accounts.
    pub realm: &'a str,
    /// The account.
    pub account: &'a str,
    /// The site.
    pub site: Option<&'a str>,
    /// Where it is bound to.
    pub device: &'a str,
    /// The registry's user.
    pub user: Option<&'a str>,
    /// Whom the user acts for.
    pub acting_for: Option<&'a str>,
    /// How strongly the user is known.
    pub authentication: &'a str,
    /// By what.
    pub factors: Vec<&'static str>,
    /// When it began: RFC 3339, UTC.
    pub since: &'a str,
}

impl Record for SessionNote<'_> {
    const FOLLOWS: bool = true;

    fn kind(&self) -> Kind {
        Kind::Session
    }

    fn scope(&self) -> Scope<'_> {
        Scope { site: self.site, class: None }
    }

    fn reference(&self) -> Reference<'_> {
        self.request.map_or(Reference::None, Reference::Request)
    }

    fn write(&self, header: &Header<'_>, out: &mut Vec<u8>) -> Splice {
        let start = out.len();
        let mut object = Object::new(out);
        object.text(key!("account"), self.account);
        object.optional_text(key!("acting_for"), self.acting_for);
        object.text(key!("authentication"), self.authentication);
        write_clock(&mut object, header);
        object.text(key!("device"), self.device);
        object.label(key!("event"), self.event.label());
        object.array(key!("factors"), &self.factors, |out, factor| json::string(out, factor));
        object.label(key!("kind"), Kind::Session.label());
        object.text(key!("node"), header.node);
        object.text(key!("origin"), self.origin);
        object.text(key!("realm"), self.realm);
        object.optional_text(key!("reason"), self.reason);
        object.optional_text(key!("request"), self.request);
        let splice = write_sequence(&mut object, start);
        object.text(key!("session"), self.session);
        object.text(key!("since"), self.since);
        object.optional_text(key!("site"), self.site);
        write_time(&mut object, header);
        object.optional_text(key!("user"), self.user);
        object.number(key!("version"), VERSION);
        object.end();
        splice
    }
}
